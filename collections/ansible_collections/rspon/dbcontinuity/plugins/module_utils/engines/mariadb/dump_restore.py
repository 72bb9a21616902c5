# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore of MariaDB out of a dump: production gets the files of a new server that the dump was loaded into.

They must be laid out as production's settings say, or its server does not start on them: as the running server says it;
where it does not answer, as its option files do, and for the rest as the server did that was dumped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import PipelineError
from ..base import Problem
from ..scratch import ScratchServer
from .dump_scratch import MariaDBDumpScratch
from .logical import LAYOUT, PLAIN
from .restore import MariaDBFullRestore

_FOLDERS = ("innodb_data_home_dir", "innodb_undo_directory", "innodb_log_group_home_dir")
_SHOWN = 10


class MariaDBDumpRestore(MariaDBFullRestore):
    """The data directory is exchanged with a new server's."""

    @property
    def _known(self) -> Mapping[str, str]:
        """Return what is known of production's variables."""
        answered = {name: str(value) for name, value in self.look.get("variables", {}).items()}
        recorded = self.manifest.get("engine_details", {}).get("layout", {})
        return {**recorded, **self.look.get("configured", {}), **answered}

    def layout(self) -> Mapping[str, str]:
        known = self._known
        return {name: known[name] for name in LAYOUT if known.get(name) and PLAIN.fullmatch(known[name])}

    def problems(self) -> Sequence[Problem]:
        found = list(super().problems())
        configured = {} if self.look.get("variables") else self.look.get("configured", {})
        data = os.path.realpath(self.part_path("data"))
        for name in _FOLDERS:
            place = str(configured.get(name) or ".")
            if place not in (".", "./") and os.path.realpath(place) != data:
                found.append(
                    Problem(
                        f"Production keeps InnoDB's files outside its data directory: {name} is {place}.",
                        "Load the dump by hand as docs/restore-by-hand.md shows.",
                    )
                )
        odd = [name for name in LAYOUT if self._known.get(name) and not PLAIN.fullmatch(self._known[name])]
        if odd:
            found.append(
                Problem(
                    f"How production lays its files out cannot be read: {', '.join(odd)}.",
                    "Load the dump by hand as docs/restore-by-hand.md shows.",
                )
            )
        return found

    def remarks(self) -> Sequence[str]:
        said = [
            *super().remarks(),
            "The binary log starts over, with GTIDs from 1 on: replicas of production have to be set up anew.",
        ]
        details = self.manifest.get("engine_details", {})
        if "left_out" not in details:
            said.append(
                "Plugins that were installed with INSTALL, loadable functions, servers of CREATE SERVER and time zone tables"
                " are in no dump: make them again afterwards where there were any."
            )
        for what, names in details.get("left_out", {}).items():
            if names:
                shown = ", ".join(str(each) for each in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
                said.append(f"The dump does not hold {what}: {shown}. Make them again afterwards.")
        return said

    def spec(self, server: ScratchServer) -> dict[str, Any]:
        if not isinstance(server, MariaDBDumpScratch):
            raise AssertionError("a copy of another engine")
        wrong = [
            f"{name} is {there} instead of {wanted}"
            for name, wanted in self.layout().items()
            for there in [server.client.value(f"SELECT @@GLOBAL.{name};")]
            if there.lower() != wanted.lower() and _bytes(there) != _bytes(wanted)
        ]
        if wrong:
            raise PipelineError(
                f"The new server is not laid out as production's: {'; '.join(wrong)}.",
                "Report this with both versions.",
            )
        return {}

    def resume(self, *, shipping: bool) -> Sequence[str]:
        said = super().resume(shipping=False)
        return [*said, *(f"Make again what the dump did not hold: {each}" for each in self._lacking())]

    def _lacking(self) -> Sequence[str]:
        left = self.manifest.get("engine_details", {}).get("left_out", {})
        return [f"{what} ({len(names)})." for what, names in left.items() if names]


def _bytes(text: str) -> int:
    """Return a number with MariaDB's suffixes, -1 for other text."""
    match = re.fullmatch(r"(\d+)([kmg]?)", text.strip().lower())
    return int(match.group(1)) << {"": 0, "k": 10, "m": 20, "g": 30}[match.group(2)] if match else -1
