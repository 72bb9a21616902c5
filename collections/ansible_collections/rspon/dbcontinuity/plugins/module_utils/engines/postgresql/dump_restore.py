# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore of PostgreSQL out of dumps: production gets the files of a new server that they were loaded into.

The new server has an identity of its own, and numbers its tablespaces anew. Settings are in no dump: those that lie in
production's data directory are taken over there, by the agent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import DamagedError, PipelineError
from ...stored import check_file
from ..base import Problem
from ..restore import Part
from ..scratch import ScratchServer
from .dump_scratch import PostgreSQLDumpScratch, read_globals, tablespaces_of
from .logical import GLOBALS
from .restore import PostgreSQLFullRestore, where_it_is

_SPACES = "SELECT oid, spcname FROM pg_tablespace WHERE oid >= 16384;"


class PostgreSQLDumpRestore(PostgreSQLFullRestore):
    """Data directory and tablespaces are exchanged with a new server's."""

    # By part, the number that the new data know a tablespace by.
    _links: Mapping[str, str] = {}

    @cached_property
    def _places(self) -> Mapping[str, tuple[str, str]]:
        """Return by tablespace the part and the place that it gets: that of the dump.

        A part is called as production numbers the tablespace that is there now; else it gets a number that none has.
        """
        artefact = next(each for each in self.source.artefacts if each.name.startswith(GLOBALS))
        path = self.source.folder / artefact.name
        problem = check_file(path, artefact.size, artefact.sha256)
        if problem:
            raise DamagedError(
                f"{path} {problem}.",
                "Take it from a copy of the repository, or choose another set.",
                {"file": artefact.name},
            )
        spaces = tablespaces_of(read_globals(self.source, artefact))
        there = {os.path.realpath(place): str(oid) for oid, place in self.look.get("tablespaces", {}).items()}
        return {
            name: (there.get(os.path.realpath(place), str(number)), place)
            for number, (name, place) in enumerate(sorted(spaces.items()), 1)
        }

    def _tablespaces(self) -> list[tuple[str, str]]:
        return sorted(self._places.values())

    def problems(self) -> Sequence[Problem]:
        odd = [name for name, (_part, place) in self._places.items() if not os.path.isabs(place)]
        found = [
            Problem(
                f"The tablespace {name} of the dump has no place that can be used.",
                "Load the dump by hand as docs/restore-by-hand.md shows.",
            )
            for name in odd
        ]
        return [*super().problems(), *found]

    def remarks(self) -> Sequence[str]:
        said = [
            *super().remarks(),
            (
                "The restored server is a new one by its identity (system identifier): standbys, replication slots and an"
                " archive of the log have to be set up anew. Transactions that were prepared and never ended are gone."
            ),
        ]
        if not self.manifest["engine_details"].get("role_passwords", True):
            said.append(
                "The dump holds no passwords, since its account was no superuser: nobody can log in with one until it is set"
                " again (ALTER ROLE … PASSWORD)."
            )
        known = self.look.get("parts", {})
        if not known["data"]["exists"]:
            said.append(
                "Production's data directory is gone, and with it the settings made with ALTER SYSTEM: no dump holds them. Make them"
                " again afterwards."
            )
        unseen = [part.path for part in self.parts() if part.name not in known]
        if unseen:
            said.append(
                f"Production has no link to the tablespaces' places {', '.join(unseen)} now: whether there is room was not"
                " looked at, and they have to be empty or missing."
            )
        return said

    def parts(self) -> Sequence[Part]:
        return [
            Part("data", self.part_path("data")),
            *(Part(part, os.path.realpath(place)) for part, place in self._tablespaces()),
        ]

    def spec(self, server: ScratchServer) -> dict[str, Any]:
        if not isinstance(server, PostgreSQLDumpScratch):
            raise AssertionError("a copy of another engine")
        if server.odd_superuser:
            raise PipelineError(
                "The first role of the server that was dumped is not called postgres: a new server has a superuser of that name"
                " more.",
                "Load the dump by hand as docs/restore-by-hand.md shows, with initdb --username.",
            )
        numbers = {name or "": oid or "" for oid, name in server.client.query(_SPACES)}
        # No dump holds what the planner knows; the first queries would wait for the autovacuum's turn otherwise.
        server.analyze()
        self._links = {part: numbers[name] for name, (part, _place) in self._places.items()}
        timeline, identifier = where_it_is(server)
        return {
            "timeline": timeline,
            "system_identifier": identifier,
            "tablespaces": dict(self._tablespaces()),
            "links": dict(self._links),
            "keep_configuration": True,
        }

    def folders(self, settled: Path) -> Mapping[str, Path]:
        links = {part: settled / "pg_tblspc" / number for part, number in self._links.items()}
        return {"data": settled, **{part: Path(os.path.realpath(link)) for part, link in links.items()}}

    def resume(self, *, shipping: bool) -> Sequence[str]:
        said = list(super().resume(shipping=False))
        if not self.manifest["engine_details"].get("role_passwords", True):
            said.append("Set the roles' passwords again: the dump held none.")
        return said
