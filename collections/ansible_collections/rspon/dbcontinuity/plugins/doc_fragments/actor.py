# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation shared by modules."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  actor:
    description: Who asked for this, as the caller knows it. It stands in the ledger beside what is seen here.
    type: str
  run:
    description: The run's id, to find its records in ledger and journal; one is made where none is given.
    type: str
"""
