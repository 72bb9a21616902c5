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
from ..scratch import PASSED, Check, Source
from .client import find_postgresql, tool_versions
from .logical import GLOBALS, archive_name
from .scratch import PostgreSQLScratch

_DAY = 24 * 3600.0
_START_SECONDS = 600.0
_COMPLETE = b"PostgreSQL database cluster dump complete"
_SPACE = re.compile(rb"^(CREATE TABLESPACE (?:\"(?:[^\"]|\"\")*\") .*LOCATION )(E?'(?:[^']|'')*');$", re.M)
_NAME = re.compile(r'^CREATE TABLESPACE "((?:[^"]|"")*)"')
_MEBIBYTE = 1024 * 1024
_MADE = re.compile(r"^CREATE DATABASE .*? WITH (TEMPLATE = template0 .*);$", re.M)
_CLAUSE = re.compile(r"(\w+) = ('(?:[^']|'')*'|\w+)")
# What initdb calls the clauses of CREATE DATABASE.
_OPTIONS = {
    "ENCODING": ("encoding",),
    "LOCALE_PROVIDER": ("locale-provider",),
    "LOCALE": ("lc-collate", "lc-ctype"),
    "LC_COLLATE": ("lc-collate",),
    "LC_CTYPE": ("lc-ctype",),
    "ICU_LOCALE": ("icu-locale",),
    "BUILTIN_LOCALE": ("builtin-locale",),
}
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
    # Whether production's first role is not postgres, as that of a new server is.
    odd_superuser = False

    @staticmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        return tool_versions(manifest, ("postgres", "initdb", "pg_restore", "pg_controldata", "vacuumdb"))

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
        # Its own pg_hba.conf stays where production has none: it lets nobody in without a password, but by the socket.
        words = ("--username=postgres", "--auth-local=peer", "--auth-host=scram-sha-256", "--no-sync", *self._layout)
        run(self._stage("initdb", f"--pgdata={self.data}", *words, *self._locale()), timeout=_START_SECONDS)
        super().start()
        if self._daemon is None:
            raise AssertionError("the throwaway was not started")
        self._daemon.wait_for(self._open, _START_SECONDS, "The throwaway PostgreSQL server")
        self._load_globals(self._artefact(GLOBALS))
        for oid, name in self.source.manifest["engine_details"]["databases"].items():
            self._load(self._artefact(archive_name(str(oid))), str(name))

    @property
    def _layout(self) -> list[str]:
        """Return how files are laid out: as the server did that was dumped."""
        known = self.layout or self.source.manifest["engine_details"].get("layout", {})
        words = ["--data-checksums"] if known.get("data_checksums") == "on" else []
        if not words and self._major >= 18:
            words = ["--no-data-checksums"]
        size = str(known.get("wal_segment_size") or "")
        return [*words, f"--wal-segsize={int(size) // _MEBIBYTE}"] if size.isdigit() else words

    def _locale(self) -> list[str]:
        """Return encoding and locale of the new server: those of the database that new databases are made like."""
        text = ""
        databases = self.source.manifest["engine_details"]["databases"]
        oid = next((oid for oid, name in databases.items() if name == "template1"), None)
        if oid is not None:
            artefact = self._artefact(archive_name(str(oid)))
            show = self.sandbox.stage(
                find_postgresql("pg_restore", self._major), "--create", "--schema-only", "--file=-", label="pg_restore"
            )
            with Pipeline([*self.source.artefact_stages(artefact), show]) as pipeline:
                text = pipeline.output.read().decode("utf-8", "replace")
                finished = pipeline.wait(timeout=_DAY)
            if not all(stage.ok for stage in finished):
                raise _explained(failure(finished), artefact)
        made = _MADE.search(text)
        if made is None:
            return ["--encoding=UTF8", "--locale=C.UTF-8"]
        words = ["--locale=C.UTF-8"]
        for name, value in _CLAUSE.findall(made.group(1)):
            bare = value[1:-1].replace("''", "'") if value.startswith("'") else value
            words += [f"--{option}={bare}" for option in _OPTIONS.get(name, ())]
        return words

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
        text = read_globals(self.source, artefact)
        self.odd_superuser = re.search(rb'^CREATE ROLE "?postgres"?;$', text, flags=re.M) is None
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
            raise _unreadable()
        return changed

    def _load(self, artefact: Artefact, name: str) -> None:
        """Load one database.

        :raises PipelineError: if anything of it is refused, or the archive does not come to its end.
        """
        # The two that are there already are made anew, too: else their locale, settings and rights would be the new server's.
        anew = ("--clean", "--if-exists") if name in _ALWAYS_THERE else ()
        how = (*anew, "--create", f"--dbname={'template1' if name == 'postgres' else 'postgres'}")
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

    def analyze(self) -> None:
        """Let the server gather its statistics.

        :raises PipelineError: if it does not get through.
        """
        finished = run(
            self._program("vacuumdb", "--all", "--analyze-only", "--quiet", "--jobs=2"), timeout=_DAY, check=False
        )
        if not finished.ok:
            raise failure([finished])

    def replay(self, on_progress: Callable[[int], None], timeout: float) -> Mapping[str, Any]:
        return {"logs": 0, "end": {}}


def read_globals(source: Source, artefact: Artefact) -> bytes:
    """Return the script of roles and tablespaces.

    :raises DamagedError: if it is cut short.
    :raises PipelineError: if it cannot be decoded.
    """
    with Pipeline(source.artefact_stages(artefact)) as pipeline:
        text = pipeline.output.read()
        finished = pipeline.wait()
    if not all(stage.ok for stage in finished):
        raise failure(finished)
    if _COMPLETE not in text[-400:]:
        raise DamagedError(f"{artefact.name} is cut short.", "Make a new full backup now.", {"file": artefact.name})
    return text


def tablespaces_of(text: bytes) -> dict[str, str]:
    """Return the places of a script's tablespaces by their names.

    :raises DamagedError: if one cannot be read.
    """
    found = {}
    for match in _SPACE.finditer(text):
        name = _NAME.search(match.group(1).decode("utf-8", "surrogateescape"))
        place = match.group(2).decode("utf-8", "surrogateescape")
        if name is None:
            continue
        bare = place.lstrip("E")[1:-1].replace("''", "'")
        found[name.group(1).replace('""', '"')] = bare.replace("\\\\", "\\") if place.startswith("E") else bare
    if len(found) != len(re.findall(rb"^CREATE TABLESPACE ", text, flags=re.M)):
        raise _unreadable()
    return found


def _unreadable() -> DamagedError:
    return DamagedError(
        "A tablespace of the dump has a name or place that cannot be read; it was not loaded.",
        "Load the dump by hand as docs/restore-by-hand.md shows.",
    )


def _explained(error: PipelineError, artefact: Artefact) -> PipelineError:
    """Return the error with what can be done about it, where that can be told."""
    remedy = next((text for words, text in _REMEDIES.items() if re.search(words, error.message)), error.remedy)
    return PipelineError(f"{artefact.name} could not be loaded: {error.message}", remedy, error.details)
