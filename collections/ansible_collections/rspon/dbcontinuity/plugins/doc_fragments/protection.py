# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation shared by modules."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  recipients:
    description:
      - Public age keys to which artefacts are encrypted; an operations key and an escrow key.
      - Without any, artefacts are stored in the clear.
    type: list
    elements: str
    default: []
  identity_file:
    description: The operations key's private half on this host. It is only read by age.
    type: path
"""
