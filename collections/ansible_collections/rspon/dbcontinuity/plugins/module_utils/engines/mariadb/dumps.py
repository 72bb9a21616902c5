# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is loaded onto production out of the copy: definitions, rows and programs, as mariadb-dump prints them.

mariadb-dump writes six digits of a FLOAT. Before its rows are printed, such a column of the copy, a throwaway, is made a
DOUBLE: every FLOAT has one that reads back to it exactly.
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
    where = f"{quoted(database or table.database)}.{quoted(name or table.name)}"
    floats = [column for column in table.columns if column.kind == "float"]
    if floats:
        wider = ", ".join(f"MODIFY {quoted(column.name)} DOUBLE" for column in floats)
        sides.ask_copy(f"SET SESSION foreign_key_checks = 0; ALTER TABLE {where} {wider};")
    history = ("--dump-history",) if table.versioned else ()
    return sides.program(
        "mariadb-dump", *_ALWAYS, *_ROWS, *history, "--", database or table.database, name or table.name
    )


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
