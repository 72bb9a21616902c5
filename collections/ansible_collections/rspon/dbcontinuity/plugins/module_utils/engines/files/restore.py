# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore of folders: each is exchanged by rename, the old one stays beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import PrerequisiteError
from ..base import Problem
from ..restore import FullRestore, Part
from ..scratch import ScratchServer
from .scratch import FilesScratch


class FilesFullRestore(FullRestore):
    """Each folder of the instance is a part."""

    def problems(self) -> Sequence[Problem]:
        if self.look.get("paths"):
            return []
        return [
            Problem("Production's agent names no folders of this instance.", "Set paths in dbc_instances, run site.")
        ]

    def remarks(self) -> Sequence[str]:
        if os.geteuid() == 0:
            return []
        return ["Only root can give files their owners: all will belong to the user that runs this."]

    def parts(self) -> Sequence[Part]:
        return [Part(str(number), str(path)) for number, path in enumerate(self.look.get("paths", []))]

    def spec(self, server: ScratchServer) -> dict[str, Any]:
        if not isinstance(server, FilesScratch):
            raise AssertionError("a copy of another engine")
        places = self.folders(server.root)
        return {
            "folders": {part.name: part.path for part in self.parts()},
            "single": [name for name, place in places.items() if place.is_symlink() or not place.is_dir()],
        }

    def folders(self, settled: Path) -> Mapping[str, Path]:
        found = {}
        for part in self.parts():
            place = settled / part.path.lstrip("/")
            if not os.path.lexists(place):
                raise PrerequisiteError(
                    f"The copy holds nothing of {part.path}: it was not among the folders when the set was made.",
                    "Take it out of the paths for this restore, or choose a later moment; nothing was touched.",
                )
            found[part.name] = place
        return found
