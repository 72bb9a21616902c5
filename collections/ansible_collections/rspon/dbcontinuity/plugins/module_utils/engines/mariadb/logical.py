# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical full backup of MariaDB: mariadb-dump over the network, from the backup host.

Two artefacts, one of all databases and one of accounts and their rights. It can be loaded into another release and
another architecture, and single objects can be cut out of it with ordinary tools; it has no recovery to a point in time
(B3). What mariadb-dump leaves out without failing is found here: the account's privileges are looked at before (see
``inspect``), and every kind of object is counted as it flows by and held against what the server itself counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DamagedError, PipelineError
from ...instance import Instance
from ...process import Stage, Written, find_tool
from ..base import ArtefactStream, BackupFacts, FullBackup, Inspection, Problem
from ..program import program_stage
from . import dump_watch
from .client import MariaDBClient
from .inspect import SYSTEM_DATABASES, count_objects

DATABASES = "databases.sql"
ACCOUNTS = "accounts.sql"
NO_RECOVERY = "The method is logical: it can be restored to the moment of the backup alone, to none after it (B3)."
_LOAD = "mariadb --default-character-set=utf8mb4 --max-allowed-packet=1G"
_SHOWN = 20
# What the files of a server must be laid out by that production is to run on: no dump says it.
LAYOUT = (
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "lower_case_table_names",
)
# A value of theirs that names no place outside the data directory.
PLAIN = re.compile(r"[A-Za-z0-9_:;.]+")
# What mariadb-dump could bring into a server only with the programs they name; its accounts come without them.
_LEFT_OUT = {
    "plugins": "SELECT CONCAT(name, ' of ', dl) FROM mysql.plugin ORDER BY 1;",
    "loadable functions": "SELECT CONCAT(name, ' of ', dl) FROM mysql.func ORDER BY 1;",
    "servers": "SELECT Server_name FROM mysql.servers ORDER BY 1;",
    "time zone tables": "SELECT 'load them with mariadb-tzinfo-to-sql' FROM mysql.time_zone_name LIMIT 1;",
}


class LogicalBackup(FullBackup):
    """One dump under way."""

    def __init__(self, instance: Instance, client: MariaDBClient, workdir: Path) -> None:
        self._client = client
        self._name = instance.name
        self._workdir = workdir
        self._before = count_objects(client)
        self._layout = _named_values(client)
        self._left_out = {what: [row[0] or "" for row in client.query(sql)] for what, sql in _LEFT_OUT.items()}
        self._accounts = _count_accounts(client)
        self._said: list[str] = []
        self._counts: dict[str, int] = {}

    def artefacts(self) -> Iterator[ArtefactStream]:
        # First of all: a view whose function's definer is missing cannot be made (error 1449). Accounts that are there
        # already, such as the administrator's own, do not end the loading.
        yield self._stream(ACCOUNTS, "--system=users", "--insert-ignore")
        yield self._stream(
            DATABASES,
            # Consistent among all transactional tables, without a lock.
            *("--single-transaction", "--quick"),
            *("--routines", "--triggers", "--events", "--hex-blob", "--dump-history"),
            # A table whose default is a sequence's next value cannot be loaded under LOCK TABLES (error 1100).
            "--skip-add-locks",
            *("--databases", "--", *_databases(self._client)),
        )

    def _stream(self, name: str, *words: str) -> ArtefactStream:
        dump = Stage(
            (
                find_tool("mariadb-dump", "mariadb-client"),
                *self._client.arguments(),
                *("--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--no-tablespaces"),
                *words,
            ),
            label="mariadb-dump",
        )
        watch = program_stage(dump_watch.__name__, self._workdir, str(self._seen(name)), label="the check of the dump")
        # Rights on single tables can be given only when these are there: accounts are read twice.
        first, again = (f"{_LOAD} --force", _LOAD) if name == ACCOUNTS else (_LOAD, "")
        return ArtefactStream(name, "sql", (dump, watch), read_by_hand=first, again_by_hand=again)

    def _seen(self, name: str) -> Path:
        return self._workdir / f"{name}.json"

    def written(self, stream: ArtefactStream, written: Written) -> None:
        said = [line for line in written.stages[0].stderr.splitlines() if line.strip()]
        self._said += [f"mariadb-dump said of {stream.name}: {line}" for line in said[:_SHOWN]]
        seen: dict[str, Any] = json.loads(self._seen(stream.name).read_text(encoding="utf-8"))
        if seen["refused"]:
            raise PipelineError(
                f"mariadb-dump left objects of {self._name} out: {'; '.join(seen['refused'][:5])}.",
                "Give the account the privilege it names, then run the backup again.",
                {"refused": seen["refused"]},
            )
        counts: dict[str, int] = seen["counts"]
        if stream.name == ACCOUNTS:
            expected = {"accounts": min(self._accounts, _count_accounts(self._client))}
        else:
            # What was made or dropped meanwhile is no fault: the smaller number must be there.
            after = count_objects(self._client)
            expected = {kind: min(count, after.get(kind, 0)) for kind, count in self._before.items()}
        missing = fewer(counts, expected)
        if missing:
            raise PipelineError(
                f"The dump {stream.name} of {self._name} lacks objects that the server counts: {missing}.",
                "Look at the account's privileges with the playbook preflight, then run the backup again.",
                {"expected": expected, "found": counts},
            )
        self._counts.update(counts)

    def finish(self) -> BackupFacts:
        return BackupFacts(
            start={},
            end={},
            point_in_time_recovery=False,
            warnings=[NO_RECOVERY, *self._said],
            details={
                "objects": {**dict.fromkeys(self._before, 0), **self._counts},
                "dump_completed": True,
                "layout": self._layout,
                "left_out": self._left_out,
            },
        )


def fewer(found: Mapping[str, int], expected: Mapping[str, int]) -> str:
    """Return in words what there is too little of, empty if nothing."""
    return ", ".join(
        f"{found.get(kind, 0)} of {count} {kind}" for kind, count in expected.items() if found.get(kind, 0) < count
    )


def _databases(client: MariaDBClient) -> list[str]:
    rows = client.query(
        f"SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM_DATABASES} ORDER BY 1;"  # noqa: S608
    )
    return [row[0] or "" for row in rows]


def _named_values(client: MariaDBClient) -> dict[str, str]:
    names = ",".join(f"'{name}'" for name in LAYOUT)
    return {
        row[0] or "": row[1] or "" for row in client.query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names});")
    }


def _count_accounts(client: MariaDBClient) -> int:
    return int(client.value("SELECT COUNT(*) FROM mysql.user WHERE is_role<>'Y';") or 0)


def look_closer(client: MariaDBClient, inspection: Inspection) -> tuple[list[Problem], list[str]]:
    """Return what forbids a dump, and what will not come back from one as it was."""
    problems = []
    warnings = []
    if not inspection.objects.get("databases"):
        problems.append(Problem("The server has no database but its own.", "Use the method physical, or no backup."))
    if inspection.non_transactional:
        warnings.append(
            f"{len(inspection.non_transactional)} tables are not transactional; the dump holds each as it is when its"
            " turn comes, not as it is at the moment of all others: " + ", ".join(inspection.non_transactional[:_SHOWN])
        )
    rounded = _names(client, "COLUMNS", "DATA_TYPE='float'", "TABLE_SCHEMA,'.',TABLE_NAME,'.',COLUMN_NAME")
    if rounded:
        warnings.append(
            f"{len(rounded)} columns are FLOAT; mariadb-dump writes six digits of them: " + ", ".join(rounded[:_SHOWN])
        )
    elsewhere = _names(
        client,
        "TABLES",
        "(CREATE_OPTIONS LIKE '%DATA DIRECTORY%' OR CREATE_OPTIONS LIKE '%INDEX DIRECTORY%')",
        "TABLE_SCHEMA,'.',TABLE_NAME",
    )
    if elsewhere:
        warnings.append(
            f"{len(elsewhere)} tables lie outside the data directory; their statements in the dump name that place, which"
            " a server that loads it must be allowed to write: " + ", ".join(elsewhere[:_SHOWN])
        )
    return problems, warnings


def _names(client: MariaDBClient, view: str, condition: str, parts: str) -> list[str]:
    rows = client.query(
        f"SELECT CONCAT({parts}) FROM information_schema.{view}"  # noqa: S608 - constants of this file
        f" WHERE TABLE_SCHEMA NOT IN {SYSTEM_DATABASES} AND {condition} ORDER BY 1;"
    )
    return [row[0] or "" for row in rows]


def verify_dump(folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read an unpacked set's dumps whole: their last lines, and their objects against the manifest.

    :raises DamagedError: if they do not hold.
    """
    counts: dict[str, int] = {}
    for name in (DATABASES, ACCOUNTS):
        path = folder / name
        seen: dict[str, Any] = dump_watch.watch_file(path) if path.is_file() else {"complete": False, "counts": {}}
        if not seen["complete"]:
            raise _damaged(manifest, f"{name} is missing or cut short: it does not end with '-- Dump completed'")
        counts.update(seen["counts"])
    require_counted(manifest, counts)
    return {"dump_completed": True, "objects": counts}


def require_counted(manifest: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Hold the objects that stand in a set's dumps against its manifest.

    :raises DamagedError: if there are others.
    """
    differing = [
        f"{counts.get(kind, 0)} {kind} instead of {count}"
        for kind, count in manifest["objects"].items()
        if counts.get(kind, 0) != count
    ]
    if differing:
        raise _damaged(manifest, f"it holds {', '.join(differing)}")


def _damaged(manifest: Mapping[str, Any], what: str) -> DamagedError:
    return DamagedError(
        f"The set {manifest['set']} of {manifest['instance']} does not hold: {what}.",
        "Make a new full backup now, and keep this set for the inquiry.",
    )
