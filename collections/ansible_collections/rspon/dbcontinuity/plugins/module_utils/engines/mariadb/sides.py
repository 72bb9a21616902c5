# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""The two sides of a partial restore of MariaDB: the copy, and production, and how their rows are compared.

Production gives digests and keys alone; they are laid into the copy's server, a throwaway, and joined there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ...channel import Channel
from ...errors import PipelineError, PrerequisiteError
from ...instance import Instance
from ...process import Stage, find_tool
from ..partial import Difference, Order
from ..production import Session, fetch
from .client import MariaDBClient
from .inspect import series
from .scratch import _tool
from .tables import SETTINGS, SYSTEM, Table, literal, quoted, tables, totals

NAME_LETTERS = 64
WORK = "dbc_work"
_DAY = 24 * 3600.0
# On the copy nothing is logged but what is meant to be.
QUIET = "SET SESSION sql_log_bin = 0;\n"


@dataclass
class Sides:
    """Both servers, asked with the same settings."""

    server: Any
    channel: Channel
    instance: Instance
    order: Order
    workdir: Path
    _numbers: dict[str, int] = field(default_factory=dict)
    _moved: dict[str, str] = field(default_factory=dict)

    # -- asking --

    @property
    def client(self) -> MariaDBClient:
        """Return the copy's client."""
        client: MariaDBClient = self.server.client
        return client

    def ask_copy(self, sql: str) -> list[list[Optional[str]]]:
        """Return the rows of a query to the copy; nothing of it is logged."""
        return self.client.query(SETTINGS + QUIET + sql, timeout=_DAY)

    def ask(self, sql: str) -> list[list[Optional[str]]]:
        """Return the rows of a query to production."""
        return self.channel.sql(self.instance, SETTINGS + sql, timeout=_DAY)

    def session(self) -> Session:
        """Return a session on production."""
        return Session(self.channel, self.instance)

    def program(self, name: str, *words: str) -> Stage:
        """Return the stage of one of MariaDB's programs on the copy."""
        wanted = series(str(self.server.source.manifest["server"]["version"]))
        return Stage((_tool(name, "mariadb-client", wanted), *self.client.arguments(), *words), label=name)

    def load_stage(self, sql: str) -> Stage:
        """Return the stage that loads its standard input into the copy's server by LOAD DATA."""
        return Stage(
            (
                *(find_tool("mariadb", "mariadb-client"), *self.client.arguments(), "--local-infile=1", "--batch"),
                *("--max-allowed-packet=1G", f"--execute={SETTINGS.replace(chr(10), ' ')}{QUIET.strip()}{sql}"),
            ),
            label="LOAD DATA",
        )

    # -- what is there --

    def databases(self, *, of_copy: bool) -> list[str]:
        """Return the databases of one side that are not the server's own."""
        sql = f"SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM} ORDER BY 1;"
        return [row[0] or "" for row in (self.ask_copy if of_copy else self.ask)(sql)]

    def relations(self, database: str) -> dict[str, str]:
        """Return what a database of the copy holds, with what each is."""
        sql = (
            "SELECT TABLE_NAME, CASE TABLE_TYPE WHEN 'VIEW' THEN 'a view' WHEN 'SEQUENCE' THEN 'a sequence' ELSE 'a table' END"
            f" FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)} ORDER BY 1;"
        )
        return {row[0] or "": row[1] or "" for row in self.ask_copy(sql)}

    def production_table(self, table: Table) -> Optional[Table]:
        """Return production's table of the same name, None where there is none."""
        found = tables(self.ask, table.database, table.name)
        return found[0] if found else None

    def refuse_present(self, database: str) -> None:
        """Refuse where a place is taken.

        :raises PrerequisiteError: saying which.
        """
        if database in self.databases(of_copy=False):
            raise PrerequisiteError(
                f"Production has a database {database} already.",
                "Look what is in it; drop it if it is not needed, then run again.",
            )

    # -- the copy's rows --

    def number(self, table: Table) -> int:
        """Return the number under which a table's helpers stand in the copy's server."""
        return self._numbers.setdefault(table.sql, len(self._numbers) + 1)

    def rows_of(self, table: Table) -> str:
        """Return where the copy's rows of a table are now."""
        return self._moved.get(table.sql, table.sql)

    def move(self, table: Table) -> None:
        """Free a table's name in the copy's server; within its database it keeps its triggers and keys."""
        if table.sql not in self._moved:
            target = f"{quoted(table.database)}.dbc_copy_{self.number(table)}"
            self.ask_copy(f"SET SESSION foreign_key_checks = 0; RENAME TABLE {table.sql} TO {target};")
            self._moved[table.sql] = target

    def move_back(self) -> None:
        """Undo every :meth:`move`: the copy is as it was."""
        for name, target in self._moved.items():
            self.ask_copy(
                f"SET SESSION foreign_key_checks = 0; DROP TABLE IF EXISTS {name}; RENAME TABLE {target} TO {name};"
            )
        self._moved.clear()

    def copy_totals(self, table: Table) -> str:
        """Return the digest of the copy's table."""
        return self.ask_copy(f"SELECT {table.totals} FROM {self.rows_of(table)};")[0][0] or ""

    def digests(self, given: Sequence[Table], *, of_copy: bool) -> dict[Table, str]:
        """Return the digests of many tables of one side, asked for at once."""
        where = self.rows_of if of_copy else (lambda table: table.sql)
        sql = "".join(f"SELECT {table.totals} FROM {where(table)};\n" for table in given)
        rows = (self.ask_copy if of_copy else self.ask)(sql) if given else []
        return {table: row[0] or "" for table, row in zip(given, rows)}

    # -- comparing --

    def lay(self, table: Table) -> tuple[str, str]:
        """Bring digests and keys of production's rows into the copy's server, and those of the copy beside them.

        :returns: the names of both, production's first.
        :raises PipelineError: if they do not arrive whole.
        """
        number = self.number(table)
        now, copy = f"{WORK}.now_{number}", f"{WORK}.then_{number}"
        form = (
            "(h CHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, kd CHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT"
            " NULL, k LONGTEXT CHARACTER SET utf8mb4) ENGINE=InnoDB"
        )
        self.ask_copy(
            f"CREATE DATABASE IF NOT EXISTS {WORK}; DROP TABLE IF EXISTS {now}, {copy};"
            f"CREATE TABLE {now} {form}; CREATE TABLE {copy} {form};"
            f"INSERT INTO {copy} SELECT {table.digest}, {table.key_digest}, {table.key_text()} FROM {self.rows_of(table)};"
            f"ALTER TABLE {copy} ADD KEY (h), ADD KEY (kd);"
        )
        question = self.workdir / "lay.sql"
        question.write_text(
            f"{SETTINGS}SELECT {table.digest}, {table.key_digest}, HEX({table.key_text()}) FROM {table.sql};\n",
            encoding="utf-8",
        )
        load = (
            f"LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE {now} CHARACTER SET utf8mb4 (h, kd, @k)"
            " SET k = CONVERT(UNHEX(@k) USING utf8mb4);"
        )
        fetch(self.channel, self.instance, question, self.load_stage(load))
        self.ask_copy(f"ALTER TABLE {now} ADD KEY (h), ADD KEY (kd);")
        return now, copy

    def laid_totals(self, now: str) -> str:
        """Return the digest of what was laid, as :attr:`Table.totals` gives it."""
        return self.ask_copy(f"SELECT {totals('h')} FROM {now};")[0][0] or ""

    def difference(
        self, table: Table, there: Table, notes: list[str], digests: Optional[tuple[str, str]] = None
    ) -> Difference:
        """Compare a table's rows; where the columns differ, those that both have.

        :param digests: of both sides, where they are known: equal ones need no closer look.
        :param notes: gets a sentence where the definitions differ.
        """
        common = table
        if there.definition != table.definition:
            names = {column.name for column in there.columns}
            columns = tuple(column for column in table.columns if column.name in names)
            common = replace(table, columns=columns, key=table.key if set(table.key) <= names else ())
            notes.append(f"{told_apart(table, there)} Compared are the columns that both have.")
            if not columns:
                return Difference("no column in common")
        elif digests is not None and digests[0] == digests[1]:
            return Difference("primary key" if table.key else "whole rows")
        now, copy = self.lay(common)
        return self.compare(common, now, copy)

    def compare(self, table: Table, now: str, copy: str) -> Difference:
        """Compare the copy's rows with those laid."""
        if not table.key:
            both = (
                f"SELECT h, SUM(n) AS n, SUM(c) AS c FROM (SELECT h, COUNT(*) AS n, 0 AS c FROM {now} GROUP BY h UNION ALL"
                f" SELECT h, 0, COUNT(*) FROM {copy} GROUP BY h) AS u GROUP BY h"
            )
            row = self.ask_copy(
                f"SELECT IFNULL(SUM(GREATEST(n - c, 0)), 0), IFNULL(SUM(GREATEST(c - n, 0)), 0) FROM ({both}) AS b;"
            )[0]
            return Difference("whole rows", int(row[0] or 0), int(row[1] or 0))
        parts = {
            "only_in_production": f"FROM {now} AS n LEFT JOIN {copy} AS c ON c.kd = n.kd WHERE c.kd IS NULL",
            "only_in_copy": f"FROM {copy} AS n LEFT JOIN {now} AS c ON c.kd = n.kd WHERE c.kd IS NULL",
            "changed": f"FROM {now} AS n JOIN {copy} AS c ON c.kd = n.kd WHERE c.h <> n.h",
        }
        found = Difference("primary key")
        counts = [int(self.ask_copy(f"SELECT COUNT(*) {part};")[0][0] or 0) for part in parts.values()]
        found.only_production, found.only_copy, found.changed = counts
        for (kind, part), count in zip(parts.items(), counts):
            if count:
                shown = self.ask_copy(
                    f"SELECT JSON_OBJECT('k', n.k) {part} ORDER BY n.k LIMIT {int(self.order.examples)};"
                )
                found.keys[kind] = [str(json.loads(row[0] or "null")["k"]) for row in shown]
        return found


def rows_in(digest: str) -> int:
    """Return how many rows a table's digest counts."""
    return int(digest.partition(":")[0] or 0)


def told_apart(table: Table, there: Table) -> str:
    """Return in words how the copy's definition differs from production's."""
    ours, theirs = _lines(table), _lines(there)
    only_there = ", ".join(line for line in theirs if line not in ours) or "nothing"
    only_copy = ", ".join(line for line in ours if line not in theirs) or "nothing"
    return f"The definitions differ: only in production {only_there}; only in the copy {only_copy}."


def _lines(table: Table) -> list[str]:
    return [line.strip().rstrip(",") for line in table.definition.split("\n")[1:]]


def words_of(error: PipelineError, mark: str) -> bool:
    """Return whether a script of ours ended itself with this word."""
    return re.search(rf"dbc-{mark}\b", error.message) is not None


def block(*statements: str) -> str:
    """Return statements as one compound one, for the client."""
    body = "\n".join(statements)
    return f"DELIMITER //dbc//\nBEGIN NOT ATOMIC\n{body}\nEND//dbc//\nDELIMITER ;\n"


def stop_unless(table: Table, wanted: str, word: str, *, where: str = "", locking: bool = False) -> str:
    """Return what ends the script, and so its transaction, unless a table has this digest."""
    return block(
        "DECLARE found VARCHAR(200) CHARACTER SET utf8mb4;",
        f"SELECT {table.totals} INTO found FROM {where or table.sql}{' FOR UPDATE' if locking else ''};",
        f"IF NOT (found <=> {literal(wanted)}) THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'dbc-{word}'; END IF;",
    )


def order_of(given: Sequence[Table]) -> list[Table]:
    """Return tables in the order in which they are locked: the same in each run."""
    return sorted(given, key=lambda table: table.sql)
