# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is loaded onto production out of the copy: definitions, rows and programs, as mariadb-dump prints them.

mariadb-dump writes six digits of a FLOAT. Rows of a table that has one are printed from a second copy in which it is a
DOUBLE: every FLOAT has one that reads back to it exactly. (Of a system-versioned table no second copy has the history; the
digest afterwards tells if six digits were not enough.)
"""

from __future__ import annotations

from ...process import Stage
from .sides import WORK, Sides
from .tables import Table, quoted

_ALWAYS = ("--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--no-tablespaces", "--skip-add-locks")
_ROWS = (
    *("--no-create-info", "--skip-triggers", "--single-transaction", "--quick", "--hex-blob", "--skip-disable-keys"),
    *("--complete-insert", "--skip-lock-tables", "--skip-dump-date"),
)


def bare_definition(sides: Sides, table: Table) -> str:
    """Return the statement that makes a table without triggers, foreign keys and defaults taken from sequences."""
    probe = f"{WORK}.{quoted(table.name)}"
    drops = "".join(
        f"ALTER TABLE {probe} ALTER COLUMN {quoted(column)} DROP DEFAULT;" for column, _sequence in table.sequences
    )
    sides.ask_copy(
        f"CREATE DATABASE IF NOT EXISTS {WORK}; DROP TABLE IF EXISTS {probe}; CREATE TABLE {probe} LIKE {table.sql}; {drops}"
    )
    shown = sides.ask_copy(f"SHOW CREATE TABLE {probe};")[0][1] or ""
    sides.ask_copy(f"DROP TABLE {probe};")
    return shown


def rows(sides: Sides, table: Table, *, database: str = "", name: str = "") -> Stage:
    """Return the stage that prints a table's rows as INSERT statements.

    :param database: with *name*, where the copy's table stands by now.
    """
    source, name = database or table.database, name or table.name
    floats = [column for column in table.columns if column.kind == "float"]
    if floats and not table.versioned:
        wider = ", ".join(f"MODIFY {quoted(column.name)} DOUBLE" for column in floats)
        second = f"{WORK}.{quoted(name)}"
        sides.ask_copy(
            f"CREATE DATABASE IF NOT EXISTS {WORK}; DROP TABLE IF EXISTS {second};"  # noqa: S608 - quoted
            f"CREATE TABLE {second} LIKE {quoted(source)}.{quoted(name)}; ALTER TABLE {second} {wider};"
            f"INSERT INTO {second} ({table.names}) SELECT {table.names} FROM {quoted(source)}.{quoted(name)};"
        )
        source = WORK
    history = ("--dump-history",) if table.versioned else ()
    return sides.program("mariadb-dump", *_ALWAYS, *_ROWS, *history, "--", source, name)


def triggers(sides: Sides, database: str, name: str) -> Stage:
    """Return the stage that prints one table's triggers."""
    words = ("--no-data", "--no-create-info", "--triggers", "--skip-dump-date", "--skip-lock-tables")
    return sides.program("mariadb-dump", *_ALWAYS, *words, "--", database, name)


def definitions(sides: Sides, database: str, views: list[str]) -> Stage:
    """Return the stage that prints a database's tables and sequences, without rows, triggers and views."""
    words = ("--no-data", "--skip-triggers", "--skip-dump-date", "--skip-lock-tables", "--skip-add-drop-table")
    ignored = [f"--ignore-table={database}.{view}" for view in views]
    return sides.program("mariadb-dump", *_ALWAYS, *words, *ignored, "--", database)


def programs(sides: Sides, database: str) -> Stage:
    """Return the stage that prints a database's routines, triggers and events."""
    words = (
        "--no-data",
        "--no-create-info",
        "--routines",
        "--triggers",
        "--events",
        "--skip-dump-date",
        "--skip-lock-tables",
    )
    return sides.program("mariadb-dump", *_ALWAYS, *words, "--", database)


def views_of(sides: Sides, database: str, views: list[str]) -> Stage:
    """Return the stage that prints views."""
    words = ("--no-data", "--skip-triggers", "--skip-dump-date", "--skip-lock-tables")
    return sides.program("mariadb-dump", *_ALWAYS, *words, "--", database, *views)
