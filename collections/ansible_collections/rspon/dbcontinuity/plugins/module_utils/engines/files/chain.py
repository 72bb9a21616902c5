# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of folders: archives of what changed, each with the complete listing."""

from __future__ import annotations

from ...instance import Instance
from ..base import LogChain


class FilesChain(LogChain):
    """The changes of one instance of folders."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
