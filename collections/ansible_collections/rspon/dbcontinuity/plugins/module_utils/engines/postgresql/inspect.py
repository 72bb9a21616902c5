# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at on a PostgreSQL server before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from ...errors import AccessError, PipelineError, PrerequisiteError
from ...instance import Instance
from ..base import Inspection, Problem
from .client import PostgreSQLClient, find_postgresql, tool_version
from .state import ServerState, server_state, slot_name

OLDEST = 15
PHYSICAL_TOOLS = ("pg_basebackup", "pg_receivewal", "pg_waldump", "pg_verifybackup")
LOGICAL_TOOLS = ("pg_dump", "pg_dumpall", "pg_restore")
_SYSTEM = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"

_SERVER = """
SELECT 'role', current_user::text
UNION ALL SELECT 'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)::text
UNION ALL SELECT 'replication', (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)::text
UNION ALL SELECT 'bypassrls', (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user)::text
UNION ALL SELECT 'settings', pg_has_role('pg_read_all_settings', 'USAGE')::text
UNION ALL SELECT 'stats', pg_has_role('pg_read_all_stats', 'USAGE')::text
UNION ALL SELECT 'data', pg_has_role('pg_read_all_data', 'USAGE')::text
UNION ALL SELECT 'switch', has_function_privilege('pg_switch_wal()', 'EXECUTE')::text
UNION ALL SELECT 'restore point', has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')::text
UNION ALL SELECT 'read file', (has_function_privilege('pg_read_file(text)', 'EXECUTE')
  AND pg_has_role('pg_read_server_files', 'USAGE'))::text
UNION ALL SELECT 'slots used', (SELECT count(*) FROM pg_replication_slots)::text
UNION ALL SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'wal_level', 'max_wal_senders',
  'max_replication_slots', 'data_checksums', 'full_page_writes', 'fsync', 'wal_log_hints', 'data_directory',
  'config_file', 'hba_file', 'ident_file');
"""
# Only an account that may read statistics sees sizes of databases it may not connect to, and other walsenders.
_SIZES = """
SELECT 'bytes', (SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database)::text
UNION ALL SELECT 'senders used', (SELECT count(*) FROM pg_stat_replication)::text;
"""
_DATABASES = """
SELECT datname, datallowconn, has_database_privilege(datname, 'CONNECT') FROM pg_database
 WHERE datname <> 'template0' ORDER BY 1;
"""
TABLESPACES = """
SELECT oid, spcname, pg_tablespace_location(oid) FROM pg_tablespace
 WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid;
"""
_OBJECTS = f"""
SELECT CASE c.relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned_tables' WHEN 'v' THEN 'views'
  WHEN 'm' THEN 'materialized_views' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'foreign_tables' ELSE 'indexes' END, count(*)
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'i', 'I') AND {_SYSTEM} GROUP BY 1
UNION ALL SELECT 'triggers', count(*) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'routines', count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_SYSTEM}
UNION ALL SELECT 'event_triggers', count(*) FROM pg_event_trigger
UNION ALL SELECT 'extensions', count(*) FROM pg_extension
UNION ALL SELECT 'policies', count(*) FROM pg_policy
UNION ALL SELECT 'large_objects', count(*) FROM pg_largeobject_metadata
UNION ALL SELECT 'schemas', count(*) FROM pg_namespace n WHERE {_SYSTEM};
SELECT 'unlogged', n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'm') ORDER BY 2;
"""  # noqa: S608 - constants of this file, nothing from outside


def inspect_server(instance: Instance, client: PostgreSQLClient, method: str) -> Inspection:
    """Return what was found; see :class:`~..base.Inspection`."""
    state = server_state(client, instance.name)
    known = {str(row[0]): row[1] or "" for row in client.query(_SERVER)}
    physical = method == "physical"
    problems = _version_problems(instance, known["server_version"], state)
    problems += _privilege_problems(instance, known, physical)
    problems += _setting_problems(instance, known, state, physical)
    tools, missing = _tools(state.major, PHYSICAL_TOOLS if physical else LOGICAL_TOOLS)
    problems += missing
    warnings = _transport_warnings(client) + _setting_warnings(instance, known, state, physical)
    expected = 0
    if known["stats"] == "true":
        sizes = {str(row[0]): int(row[1] or 0) for row in client.query(_SIZES)}
        expected = sizes["bytes"]
        used, most = sizes["senders used"], int(known["max_wal_senders"] or 0)
        if physical and used >= most:
            problems.append(
                Problem(
                    f"All {most} of max_wal_senders of {instance.name} are in use; a base backup needs one.",
                    "Raise max_wal_senders and restart the server at a time of your choice, or end a sender.",
                )
            )
    objects, unlogged, closed = count_objects(instance, client, problems)
    if unlogged and physical:
        warnings.append(
            f"{len(unlogged)} tables are unlogged; a physical backup holds them empty: " + ", ".join(unlogged[:20])
        )
    if closed:
        warnings.append("These databases allow no connection; what is in them was not counted: " + ", ".join(closed))
    spaces = client.query(TABLESPACES)
    if spaces:
        objects["tablespaces"] = len(spaces)
    return Inspection(
        version=known["server_version"].split()[0],
        identity={"system_identifier": state.system_identifier, "timeline": state.timeline},
        expected_bytes=expected,
        objects=objects,
        tools=tools,
        warnings=warnings,
        problems=problems,
    )


def _version_problems(instance: Instance, version: str, state: ServerState) -> list[Problem]:
    problems = []
    if state.major < OLDEST:
        problems.append(
            Problem(
                f"The server of {instance.name} is PostgreSQL {version}; this project knows {OLDEST} and later.",
                "Upgrade the server.",
            )
        )
    if state.standby:
        problems.append(
            Problem(
                f"The server of {instance.name} is a standby: it follows another server.",
                "Name the primary in the service file.",
            )
        )
    return problems


def _privilege_problems(instance: Instance, known: Mapping[str, str], physical: bool) -> list[Problem]:
    """Return what the role lacks, each with the statement that gives it."""
    role = '"' + known["role"].replace('"', '""') + '"'
    wanted: list[tuple[str, str, str, str]] = [
        (
            "settings",
            "the role pg_read_all_settings",
            "settings would be hidden",
            "GRANT pg_read_all_settings TO {role};",
        ),
        (
            "stats",
            "the role pg_read_all_stats",
            "sizes and senders would be hidden",
            "GRANT pg_read_all_stats TO {role};",
        ),
    ]
    if physical:
        wanted += [
            (
                "replication",
                "REPLICATION",
                "it can neither stream a backup nor the log",
                "ALTER ROLE {role} REPLICATION;",
            ),
            (
                "switch",
                "EXECUTE on pg_switch_wal()",
                "an idle server would never close a log segment",
                "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {role};",
            ),
        ]
    else:
        wanted += [
            ("data", "the role pg_read_all_data", "a dump would be refused", "GRANT pg_read_all_data TO {role};"),
            (
                "bypassrls",
                "BYPASSRLS",
                "row level security would keep rows from a dump",
                "ALTER ROLE {role} BYPASSRLS;",
            ),
        ]
    problems = []
    for key, what, otherwise, statement in wanted:
        if known[key] != "true":
            problems.append(
                Problem(
                    f"The role {known['role']} of {instance.name} lacks {what}: {otherwise}.",
                    f"Run on the server, in the database {'of the service file' if key == 'switch' else 'postgres'}: "
                    + statement.format(role=role),
                )
            )
    return problems


def _setting_problems(
    instance: Instance, known: Mapping[str, str], state: ServerState, physical: bool
) -> list[Problem]:
    if not physical:
        return []
    problems = []
    if known.get("wal_level") == "minimal":
        problems.append(
            Problem(
                f"wal_level of {instance.name} is minimal: no base backup and no log can be had.",
                "Set wal_level = replica and restart the server at a time of your choice.",
            )
        )
    used, most = int(known["slots used"]), int(known.get("max_replication_slots", "0"))
    needed = 1 + (state.slot is None)
    if most - used < needed:
        problems.append(
            Problem(
                f"max_replication_slots of {instance.name} is {most} and {used} are in use; {needed} more are needed:"
                " one while a backup runs, one for the receiver.",
                "Raise max_replication_slots and restart the server at a time of your choice, or drop an unused slot.",
            )
        )
    if known.get("full_page_writes") == "off":
        problems.append(
            Problem(
                f"full_page_writes of {instance.name} is off: pages that are written while they are copied could not be mended.",
                "Set full_page_writes = on and reload the server.",
            )
        )
    return problems


def _setting_warnings(instance: Instance, known: Mapping[str, str], state: ServerState, physical: bool) -> list[str]:
    warnings = []
    if not physical and known["superuser"] != "true":
        warnings.append(
            f"The role {known['role']} is no superuser: the roles' passwords are not in a logical backup and must be set again."
        )
    if physical and state.slot is None:
        warnings.append(
            f"No receiver is set up: the slot {slot_name(instance.name)} is missing, so the log after this backup may be"
            " lost before it is shipped. Run the playbook site (log_shipping), then make a new full backup if a cycle asks for it."
        )
    if physical and state.keep_bytes is None:
        warnings.append(
            "max_slot_wal_keep_size is unlimited: a receiver that stays away would fill production's disk. "
            "Set it, such as max_slot_wal_keep_size = '10GB', and reload the server."
        )
    if known.get("data_checksums") == "off":
        warnings.append(
            "Data checksums are off: a page damaged on production's disk is copied as it is, and only deep verification may find it."
        )
    if known.get("fsync") == "off":
        warnings.append("fsync is off on production: a power cut can destroy its databases.")
    return warnings


def _transport_warnings(client: PostgreSQLClient) -> list[str]:
    service = client.service
    host = service.get("host", "")
    if host.startswith("/") or not host:
        return []
    if service.get("sslmode") not in ("verify-full", "verify-ca"):
        mode = service.get("sslmode", "not set")
        return [
            f"The link to {host} is not verified: sslmode is {mode}. Set sslmode=verify-full and sslrootcert in {client.service_file}."
        ]
    return []


def _tools(major: int, names: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    tools: dict[str, str] = {}
    problems = []
    for name in names:
        try:
            tools[name] = tool_version(find_postgresql(name, major))
        except PrerequisiteError as error:
            problems.append(Problem(error.message, error.remedy))
    return tools, problems


def connectable(client: PostgreSQLClient) -> tuple[list[str], list[str], list[str]]:
    """Return the databases the account may connect to, those it may not, and those that let nobody in."""
    rows = client.query(_DATABASES)
    return (
        [row[0] or "" for row in rows if row[1] == "t" and row[2] == "t"],
        [row[0] or "" for row in rows if row[1] == "t" and row[2] != "t"],
        [row[0] or "" for row in rows if row[1] != "t"],
    )


def count_objects(
    instance: Instance, client: PostgreSQLClient, problems: list[Problem]
) -> tuple[dict[str, int], list[str], list[str]]:
    """Count objects by kind over all databases; return also the unlogged tables and the databases nobody gets into."""
    mine, refused, closed = connectable(client)
    for name in refused:
        problems.append(
            Problem(
                f"The account of {instance.name} may not connect to the database {name}: its objects would not be counted.",
                f'Run on the server: GRANT CONNECT ON DATABASE "{name}" TO the account\'s role;',
            )
        )
    objects: dict[str, int] = {"databases": len(mine) + len(refused) + len(closed)}
    unlogged = []
    for name in mine:
        rows = _count(client, name, problems, instance)
        for kind, value in rows or ():
            if kind == "unlogged":
                unlogged.append(f"{name}.{value}")
            else:
                objects[str(kind)] = objects.get(str(kind), 0) + int(value or 0)
    return objects, unlogged, closed


def _count(
    client: PostgreSQLClient, database: str, problems: list[Problem], instance: Instance
) -> Optional[list[list[Optional[str]]]]:
    try:
        return client.query(_OBJECTS, database)
    except (AccessError, PipelineError) as error:
        problems.append(
            Problem(f"The database {database} of {instance.name} cannot be looked at: {error.message}", error.remedy)
        )
        return None
