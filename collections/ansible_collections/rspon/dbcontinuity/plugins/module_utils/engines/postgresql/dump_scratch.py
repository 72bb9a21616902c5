# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway PostgreSQL server that is new and gets a set's dumps: how sets of the method logical are brought up.

The archives flow from the repository into ``pg_restore``; none lands on disk. Every program runs shut off as the server
does, and not as root: a line of a script can be a command to the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ...errors import DamagedError, PipelineError
from ...manifest import Artefact
from ...process import Pipeline, Stage, failure, run
from ..scratch import PASSED, Check
from .client import find_postgresql, tool_versions
from .logical import GLOBALS, archive_name
from .scratch import PostgreSQLScratch

_DAY = 24 * 3600.0
_START_SECONDS = 600.0
_COMPLETE = b"PostgreSQL database cluster dump complete"
_SPACE = re.compile(rb"^(CREATE TABLESPACE (?:\"(?:[^\"]|\"\")*\") .*LOCATION )(?:E?'(?:[^']|'')*');$", re.M)
# There in any cluster: emptied and filled, where the others are created.
_ALWAYS_THERE = ("postgres", "template1")
_REMEDIES = {
    r"locale|collation|LC_": "Make the locale on this host (dpkg-reconfigure locales), then run again.",
    r"extension .* is not available|could not open extension control file|could not access file": (
        "Install on this host the packages of the extensions that production has, then run again."
    ),
}


class PostgreSQLDumpScratch(PostgreSQLScratch):
    """One throwaway PostgreSQL server that dumps are loaded into."""

    _signals: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        return tool_versions(manifest, ("postgres", "initdb", "pg_restore", "pg_controldata"))

    @property
    def _taken_timelines(self) -> list[str]:
        return []

    def _settings(self) -> dict[str, str]:
        # Loading writes about as much log as data: as little of it as can be is kept.
        return {**super()._settings(), "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "256MB"}

    def unpack(self) -> None:
        self._base.mkdir(mode=0o700)
        self.data.mkdir(mode=0o700)
        self.sandbox.owner.give(self._base)
        words = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        run(self._stage("initdb", f"--pgdata={self.data}", *words), timeout=_START_SECONDS)
        super().start()
        if self._daemon is None:
            raise AssertionError("the throwaway was not started")
        self._daemon.wait_for(self._open, _START_SECONDS, "The throwaway PostgreSQL server")
        self._load_globals(self._artefact(GLOBALS))
        for oid, name in self.source.manifest["engine_details"]["databases"].items():
            self._load(self._artefact(archive_name(str(oid))), str(name))

    def _artefact(self, name: str) -> Artefact:
        for each in self.source.artefacts:
            if each.name.startswith(name):
                return each
        raise DamagedError(
            f"The set {self.source.manifest['set']} has no {name}.", "Make a new full backup now.", {"file": name}
        )

    def _program(self, name: str, *words: str) -> Stage:
        where = (f"--host={self.sockets}", "--port=5432", "--username=postgres", "--no-password")
        return self.sandbox.stage(find_postgresql(name, self._major), *where, *words, label=name)

    def _load_globals(self, artefact: Artefact) -> None:
        """Make roles and tablespaces.

        :raises PipelineError: if a statement is refused.
        """
        with Pipeline(self.source.artefact_stages(artefact)) as pipeline:
            text = pipeline.output.read()
            finished = pipeline.wait()
        if not all(stage.ok for stage in finished):
            raise failure(finished)
        if _COMPLETE not in text[-400:]:
            raise DamagedError(f"{artefact.name} is cut short.", "Make a new full backup now.", {"file": artefact.name})
        # The cluster's own first role is there already; with any other name, who granted what would be refused.
        text = re.sub(rb'^CREATE ROLE "?postgres"?;\n', b"", text, flags=re.M)
        stage = self._program("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres")
        loaded = run(stage, stdin=self._with_own_spaces(text), timeout=_DAY, check=False)
        if not loaded.ok:
            raise _explained(failure([loaded]), artefact)

    def _with_own_spaces(self, text: bytes) -> bytes:
        """Return the script with tablespaces inside the folder: it names production's own places.

        :raises DamagedError: if one could not be changed.
        """
        made = 0

        def own(match: re.Match[bytes]) -> bytes:
            nonlocal made
            made += 1
            place = self._base / f"space-{made}"
            place.mkdir(mode=0o700)
            self.sandbox.owner.give(place)
            return match.group(1) + f"'{place}';".encode()

        changed = _SPACE.sub(own, text)
        if made != len(re.findall(rb"^CREATE TABLESPACE ", text, flags=re.M)):
            raise DamagedError(
                "A tablespace of the dump has a name or place that cannot be read; it was not loaded.",
                "Load the dump by hand as docs/restore-by-hand.md shows.",
            )
        return changed

    def _load(self, artefact: Artefact, name: str) -> None:
        """Load one database.

        :raises PipelineError: if anything of it is refused, or the archive does not come to its end.
        """
        there = name in _ALWAYS_THERE
        how = ("--clean", "--if-exists", f"--dbname={name}") if there else ("--create", "--dbname=postgres")
        restore = self._program("pg_restore", "--exit-on-error", *how)
        with Pipeline([*self.source.artefact_stages(artefact), restore]) as pipeline:
            pipeline.output.read()
            finished = pipeline.wait(timeout=_DAY)
        if not all(stage.ok for stage in finished):
            raise _explained(failure(finished), artefact)

    def verify_base(self) -> Sequence[Check]:
        return [Check("psql, pg_restore: loaded whole, without a refusal", PASSED)]

    def start(self) -> None:
        """Do nothing: a dump is unpacked by loading it, so that the server runs already."""

    def replay(self, on_progress: Callable[[int], None], timeout: float) -> Mapping[str, Any]:
        return {"logs": 0, "end": {}}


def _explained(error: PipelineError, artefact: Artefact) -> PipelineError:
    """Return the error with what can be done about it, where that can be told."""
    remedy = next((text for words, text in _REMEDIES.items() if re.search(words, error.message)), error.remedy)
    return PipelineError(f"{artefact.name} could not be loaded: {error.message}", remedy, error.details)
