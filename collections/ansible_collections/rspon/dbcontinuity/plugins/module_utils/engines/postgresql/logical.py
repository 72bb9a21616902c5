# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical full backup of PostgreSQL: pg_dump of each database and pg_dumpall of roles and tablespaces.

Both fail, and say why, where the role may not read something; row level security cannot hide rows, since pg_dump
switches it off and is refused where the role may not do that. Each database is consistent in itself, not with the
others, and there is no recovery to a point in time (B3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DamagedError
from ...process import Stage, Written, run
from ..base import ArtefactStream, BackupFacts, FullBackup, Inspection
from ..program import program_stage
from . import list_watch
from .client import PostgreSQLClient, find_postgresql

GLOBALS = "globals.sql"
ARCHIVE = "pg-dump"
NO_RECOVERY = "The method is logical: it can be restored to the moment of the backup alone, to none after it (B3)."
# How a server lays out its files; no dump says it. The segment's size is in bytes.
LAYOUT = ("data_checksums", "wal_segment_size")
# A lock that somebody holds for an hour would make the backup wait for it; pg_dump says which table it is.
_LOCK_WAIT = "--lock-wait-timeout=10min"
# What pg_restore --list calls an object, and what the manifest does.
_KINDS = {
    "TABLE": "tables",
    "TABLE DATA": "tables_with_data",
    "VIEW": "views",
    "MATERIALIZED VIEW": "materialized_views",
    "SEQUENCE": "sequences",
    "FOREIGN TABLE": "foreign_tables",
    "TRIGGER": "triggers",
    "FUNCTION": "routines",
    "PROCEDURE": "routines",
    "AGGREGATE": "routines",
    "EVENT TRIGGER": "event_triggers",
    "EXTENSION": "extensions",
    "POLICY": "policies",
    "BLOB": "large_objects",
    "BLOB METADATA": "large_objects",
}
_ENTRIES = sorted({*_KINDS, "TABLE ATTACH", "SEQUENCE SET", "SEQUENCE OWNED BY"}, key=len, reverse=True)


class LogicalBackup(FullBackup):
    """One dump of all databases under way."""

    def __init__(self, client: PostgreSQLClient, major: int, workdir: Path) -> None:
        self._client = client
        self._major = major
        self._workdir = workdir
        self._databases = _databases(client)
        self._superuser = client.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user;") == "t"
        self._layout = {
            name: client.value(f"SELECT setting FROM pg_settings WHERE name = '{name}';")  # noqa: S608 - a constant
            for name in LAYOUT
        }
        self._said: list[str] = []
        self._counts: dict[str, int] = {}

    def artefacts(self) -> Iterator[ArtefactStream]:
        yield ArtefactStream(
            name=GLOBALS,
            content="sql",
            stages=(
                self._client.stage(
                    find_postgresql("pg_dumpall", self._major),
                    f"--dbname={self._client.connection()}",
                    *("--no-password", "--globals-only", "--quote-all-identifiers"),
                    # Passwords stand in a table that only a superuser may read.
                    *(() if self._superuser else ("--no-role-passwords",)),
                    label="pg_dumpall",
                ),
            ),
            # Roles that are there already, such as postgres, are no error.
            read_by_hand="psql --no-psqlrc --dbname=postgres",
        )
        for oid, name in self._databases.items():
            yield ArtefactStream(
                name=archive_name(oid),
                content=ARCHIVE,
                stages=(
                    self._client.stage(
                        find_postgresql("pg_dump", self._major),
                        f"--dbname={self._client.connection(name)}",
                        *("--no-password", "--format=custom", "--compress=0", _LOCK_WAIT),
                        label=f"pg_dump of {name}",
                    ),
                    self._watch(oid),
                ),
                read_by_hand=_by_hand(name),
            )

    def _watch(self, oid: str) -> Stage:
        return program_stage(
            list_watch.__name__,
            self._workdir,
            find_postgresql("pg_restore", self._major),
            str(self._listing(archive_name(oid))),
            label="pg_restore --list",
        )

    def _listing(self, name: str) -> Path:
        return self._workdir / f"{name}.list"

    def written(self, stream: ArtefactStream, written: Written) -> None:
        lines = [line for line in written.stages[0].stderr.splitlines() if line.strip()]
        self._said += [f"{written.stages[0].name} said: {line}" for line in lines[:20]]
        if stream.content == ARCHIVE:
            _add(self._counts, entries(self._listing(stream.name).read_text(encoding="utf-8", errors="replace")))

    def finish(self) -> BackupFacts:
        warnings = [NO_RECOVERY]
        if len(self._databases) > 1:
            warnings.append(
                f"Each of the {len(self._databases)} databases is consistent in itself; they were dumped one after the other."
            )
        return BackupFacts(
            start={},
            end={},
            point_in_time_recovery=False,
            warnings=[*warnings, *self._said],
            details={
                "databases": dict(self._databases),
                "dumped": self._counts,
                "role_passwords": self._superuser,
                "layout": self._layout,
            },
        )


def archive_name(oid: str) -> str:
    """Return the stored name of a database's archive: a database can have any name, a file cannot."""
    return f"database-{oid}.dump"


def _by_hand(name: str) -> str:
    if name in ("postgres", "template1"):  # these two are there in any cluster
        return f"pg_restore --exit-on-error --clean --if-exists --dbname={name}"
    return f"pg_restore --exit-on-error --create --dbname=postgres # {json.dumps(name, ensure_ascii=False)}"


def _databases(client: PostgreSQLClient) -> dict[str, str]:
    rows = client.query(
        "SELECT oid, datname FROM pg_database WHERE datallowconn AND datname <> 'template0' ORDER BY 1;"
    )
    return {row[0] or "": row[1] or "" for row in rows}


def look_closer(inspection: Inspection) -> list[str]:
    """Return what will not come back from a dump as it was."""
    spaces = inspection.objects.get("tablespaces")
    if not spaces:
        return []
    return [
        f"The server has {spaces} tablespaces: make their folders before the restore, or give pg_restore --no-tablespaces."
    ]


def verify_dumps(folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have pg_restore list each archive and read it to its end, and hold the lists against the manifest.

    :raises DamagedError: if one is missing, cut short, or holds less than was counted.
    """
    major = int(str(manifest["server"]["version"]).split(".", maxsplit=1)[0])
    restore = find_postgresql("pg_restore", major)
    counts: dict[str, int] = {}
    tail = (folder / GLOBALS).read_bytes()[-200:] if (folder / GLOBALS).is_file() else b""
    if b"PostgreSQL database cluster dump complete" not in tail:
        raise _damaged(manifest, f"{GLOBALS} is missing or cut short")
    for oid, name in manifest["engine_details"]["databases"].items():
        path = folder / archive_name(oid)
        if not path.is_file():
            raise _damaged(manifest, f"{path.name} (the database {name}) is missing")
        listed = run(Stage((restore, "--list", str(path)), label="pg_restore --list"), timeout=600, check=False)
        read = run(Stage((restore, "--file=/dev/null", str(path)), label="pg_restore"), timeout=24 * 3600, check=False)
        for finished in (listed, read):
            if not finished.ok:
                raise _damaged(manifest, f"{path.name} (the database {name}): {finished.stderr.strip()[-1000:]}")
        _add(counts, entries(listed.stdout.decode("utf-8", "replace")))
    dumped = manifest["engine_details"]["dumped"]
    if counts != dumped:
        raise _damaged(manifest, f"its archives hold {counts} instead of {dumped}")
    return {"pg_restore": True, "objects": counts}


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for kind, count in more.items():
        counts[kind] = counts.get(kind, 0) + count


def entries(listing: str) -> dict[str, int]:
    """Return how many objects of each kind a listing of ``pg_restore --list`` names; extensions' own are none of them."""
    counts: dict[str, int] = {}
    for line in listing.splitlines():
        if line.startswith(";") or ";" not in line:
            continue
        words = line.split(";", 1)[1].split(" ", 3)[-1]
        kind = next((each for each in _ENTRIES if words.startswith(f"{each} ")), "")
        if kind in _KINDS:
            counts[_KINDS[kind]] = counts.get(_KINDS[kind], 0) + 1
    return counts


def _damaged(manifest: Mapping[str, Any], what: str) -> DamagedError:
    return DamagedError(
        f"The set {manifest['set']} of {manifest['instance']} does not hold: {what}.",
        "Make a new full backup now, and keep this set for the inquiry.",
    )
