# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of binary logs."""

from __future__ import annotations

from ...instance import Instance
from ..base import LogChain


class BinlogChain(LogChain):
    """The binary logs of one server."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
