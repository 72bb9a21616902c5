# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at on a MariaDB server before anything is written."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, Union

from ...agent_answer import ask
from ...errors import PipelineError
from ...instance import Instance
from ...process import Stage, find_tool, run
from ..base import Inspection, Problem
from .client import MariaDBClient

SYSTEM_DATABASES = "('information_schema','performance_schema','mysql','sys')"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# What the account on the backup host needs; without TRIGGER, SHOW VIEW or EVENT the server hides such objects
# instead of refusing, and a dump or a count silently lacks them.
SEES_EVERYTHING = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "PROCESS")
SHIPS_LOGS = ("RELOAD", "BINLOG MONITOR", "REPLICATION SLAVE")
_GRANT = re.compile(r"^GRANT (.+?) ON \*\.\* TO ")
_OBJECTS = f"""
SELECT 'tables', COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN {SYSTEM_DATABASES}
UNION ALL SELECT 'views', COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE='VIEW' AND TABLE_SCHEMA NOT IN {SYSTEM_DATABASES}
UNION ALL SELECT 'sequences', COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE='SEQUENCE' AND TABLE_SCHEMA NOT IN {SYSTEM_DATABASES}
UNION ALL SELECT 'triggers', COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN {SYSTEM_DATABASES}
UNION ALL SELECT 'routines', COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN {SYSTEM_DATABASES}
UNION ALL SELECT 'events', COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA NOT IN {SYSTEM_DATABASES}
UNION ALL SELECT 'databases', COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM_DATABASES};
"""  # noqa: S608 - a constant of this file, nothing from outside
_SIZES = """
SELECT COALESCE(SUM(FILE_SIZE),0) FROM information_schema.INNODB_SYS_TABLESPACES;
SELECT COALESCE(SUM(DATA_LENGTH+INDEX_LENGTH),0) FROM information_schema.TABLES WHERE ENGINE IS NOT NULL AND ENGINE<>'InnoDB';
"""
_NON_TRANSACTIONAL = f"""
SELECT CONCAT(TABLE_SCHEMA,'.',TABLE_NAME) FROM information_schema.TABLES
 WHERE TABLE_TYPE='BASE TABLE' AND ENGINE IN ('MyISAM','Aria','CSV','ARCHIVE','MRG_MyISAM') AND TABLE_SCHEMA NOT IN {SYSTEM_DATABASES}
 ORDER BY 1;
"""  # noqa: S608
_VARIABLES = (
    "version",
    "server_uid",
    "server_id",
    "log_bin",
    "binlog_format",
    "sync_binlog",
    "binlog_checksum",
    "datadir",
    "gtid_domain_id",
    "innodb_flush_log_at_trx_commit",
)


Rows = list[list[Optional[str]]]
_SHOW_VARIABLES = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({});".format(
    ",".join(f"'{name}'" for name in _VARIABLES)
)


def server_variables(client: MariaDBClient) -> dict[str, str]:
    """Return the global variables this project looks at; one that the server does not know is missing."""
    return _named(client.query(_SHOW_VARIABLES))


def missing_privileges(client: MariaDBClient, wanted: tuple[str, ...]) -> list[str]:
    """Return which of the privileges on everything the account lacks."""
    return _not_granted(client.query("SHOW GRANTS;"), wanted)


def _named(rows: Rows) -> dict[str, str]:
    return {str(row[0]): row[1] or "" for row in rows}


def _not_granted(grants: Rows, wanted: tuple[str, ...]) -> list[str]:
    held: set[str] = set()
    for row in grants:
        match = _GRANT.match(row[0] or "")
        if match:
            held.update(part.strip() for part in match.group(1).split(","))
    return [] if "ALL PRIVILEGES" in held else [each for each in wanted if each not in held]


def series(version: str) -> str:
    """Return the release series of a version, such as 10.11: backup and prepare need the same one."""
    match = _VERSION.search(version)
    return f"{match.group(1)}.{match.group(2)}" if match else ""


def tool_version(shown: str) -> str:
    """Return the version a MariaDB program shows of itself.

    Client programs show ``Ver 15.2 Distrib 10.11.19-MariaDB`` or ``from 11.8.6-MariaDB``; mariadb-backup shows
    ``based on MariaDB server 10.11.19-MariaDB``.
    """
    marked = re.search(r"(\d+\.\d+\.\d+)-?MariaDB", shown) or re.search(r"(\d+\.\d+\.\d+)", shown)
    return marked.group(1) if marked else ""


def count_objects(client: MariaDBClient) -> dict[str, int]:
    """Return how many objects of each kind the account sees, without the server's own."""
    return _counted(client.query(_OBJECTS))


def _counted(rows: Rows) -> dict[str, int]:
    return {str(row[0]): int(row[1] or 0) for row in rows}


def inspect_server(instance: Instance, client: MariaDBClient, method: str) -> Inspection:
    """Return what was found; see :class:`~..base.Inspection`."""
    with ThreadPoolExecutor(1) as beside:
        # The agent's start takes as long as all queries together.
        probed = beside.submit(_probe, instance) if method == "physical" else None
        tools = {"mariadb": _program_version("mariadb")}
        if method == "logical":
            tools["mariadb-dump"] = _program_version("mariadb-dump")
        shown, accounts, grants, counts, sizes, untransacted = client.answers(
            _SHOW_VARIABLES, "SELECT CURRENT_USER();", "SHOW GRANTS;", _OBJECTS, _SIZES, _NON_TRANSACTIONAL
        )
    variables = _named(shown)
    version = variables["version"]
    problems: list[Problem] = []
    warnings: list[str] = []
    account = accounts[0][0] or ""
    for privilege in _not_granted(grants, SEES_EVERYTHING):
        problems.append(
            Problem(
                f"The account {account} of {instance.name} lacks the privilege {privilege}: the server would hide objects instead of refusing.",
                f"As an administrator run: GRANT {privilege} ON *.* TO {_quoted(account)};",
            )
        )
    non_transactional = [row[0] or "" for row in untransacted]
    if probed is not None:
        problems += _agent_problems(instance, probed.result(), version, tools)
        if non_transactional:
            warnings.append(
                f"{len(non_transactional)} tables are not transactional; writes to them wait while the backup copies them: "
                + ", ".join(non_transactional[:20])
            )
    if method == "physical" and variables.get("log_bin") != "ON":
        warnings.append(
            "The binary log is off: no recovery to a point in time (B3). Set log_bin and restart the server at a time of your choice."
        )
    return Inspection(
        version=version,
        identity={key: variables.get(key, "") for key in ("server_uid", "server_id", "gtid_domain_id")},
        expected_bytes=int(sizes[0][0] or 0) + int(sizes[1][0] or 0),
        objects=_counted(counts),
        tools=tools,
        non_transactional=non_transactional,
        warnings=warnings,
        problems=problems,
    )


def _program_version(name: str) -> str:
    return tool_version(run(Stage((find_tool(name, "mariadb-client"), "--version"))).stdout.decode())


def _probe(instance: Instance) -> Union[dict[str, Any], Problem]:
    """Return what the agent finds on production, or why it does not answer."""
    try:
        answer: dict[str, Any] = json.loads(ask(instance.agent, "probe", instance.name))
    except PipelineError as error:
        return Problem(error.message, error.remedy or "Run the playbook site for this host.")
    return answer


def _agent_problems(
    instance: Instance, answer: Union[dict[str, Any], Problem], version: str, tools: dict[str, str]
) -> list[Problem]:
    if isinstance(answer, Problem):
        return [answer]
    problems = [
        Problem(f"On the production host of {instance.name}: {each}.", "") for each in answer.get("problems", [])
    ]
    found = tool_version(str(answer["tools"].get("mariadb-backup", "")))
    tools["mariadb-backup"] = found
    if found and series(found) != series(version):
        problems.append(
            Problem(
                f"mariadb-backup on the production host of {instance.name} is {found}, its server is {version}: the series differ.",
                f"Install the mariadb-backup of the server's series {series(version)} there.",
            )
        )
    return problems


def _quoted(account: str) -> str:
    user, _at, host = account.rpartition("@")
    return f"'{user}'@'{host}'"
