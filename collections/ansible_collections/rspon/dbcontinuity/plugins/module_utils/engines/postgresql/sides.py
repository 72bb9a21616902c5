# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""The two sides of a partial restore of PostgreSQL: the copy, and production, and how their rows are compared.

Production gives digests and keys alone; they are laid into the copy's server, a throwaway, and joined there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ...channel import Channel
from ...errors import PipelineError, PrerequisiteError
from ...instance import Instance
from ...process import Stage
from ..partial import Difference, Order
from ..production import Session, fetch
from .client import PostgreSQLClient, find_postgresql
from .tables import SETTINGS, USER_SCHEMAS, Table, connect, literal, tables

NAME_BYTES = 63
WORK = "dbc_work"
_DAY = 24 * 3600.0
_KINDS = (
    "CASE WHEN c.relispartition THEN 'a partition' WHEN c.relkind IN ('r', 'p') THEN 'a table' WHEN c.relkind = 'v' THEN 'a view'"
    " WHEN c.relkind = 'm' THEN 'a materialized view' WHEN c.relkind = 'S' THEN 'a sequence' ELSE 'a foreign table' END"
)


@dataclass
class Sides:
    """Both servers, asked with the same settings."""

    server: Any
    channel: Channel
    instance: Instance
    order: Order
    workdir: Path
    _laid: dict[tuple[str, str, str], str] = field(default_factory=dict)

    # -- asking --

    @property
    def client(self) -> PostgreSQLClient:
        """Return the copy's client."""
        client: PostgreSQLClient = self.server.client
        return client

    def ask_copy(self, sql: str, database: str) -> list[list[Optional[str]]]:
        """Return the rows of a query to the copy."""
        return self.client.query(SETTINGS + sql, database, timeout=_DAY)

    def ask(self, sql: str, database: str) -> list[list[Optional[str]]]:
        """Return the rows of a query to production."""
        return self.channel.sql(self.instance, SETTINGS + sql, database, timeout=_DAY)

    def session(self) -> Session:
        """Return a session on production, in the database postgres."""
        return Session(self.channel, self.instance)

    def program(self, name: str, *words: str, database: str) -> Stage:
        """Return the stage of one of PostgreSQL's programs on the copy."""
        return self.client.stage(
            find_postgresql(name, self.major), *words, f"--dbname={self.client.connection(database)}", label=name
        )

    @property
    def major(self) -> int:
        """Return the copy's major version."""
        return int(str(self.server.source.manifest["server"]["version"]).split(".", maxsplit=1)[0])

    def print_of(self, query: str, database: str, name: str = "answer") -> Stage:
        """Return the stage that prints a query's rows of the copy in COPY's form."""
        path = self.workdir / f"{name}.sql"
        path.write_text(f"{SETTINGS}COPY ({query}) TO STDOUT;\n", encoding="utf-8", errors="surrogateescape")
        return self._psql(path, database)

    def _psql(self, path: Path, database: str) -> Stage:
        return self.program(
            "psql", "-X", "-q", "--no-password", "-v", "ON_ERROR_STOP=1", f"--file={path}", database=database
        )

    # -- what is there --

    def copy_databases(self) -> list[str]:
        """Return the copy's databases that connections may go to."""
        sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1;"
        return [row[0] or "" for row in self.ask_copy(sql, "postgres")]

    def production_databases(self) -> list[str]:
        """Return production's databases."""
        return [row[0] or "" for row in self.ask("SELECT datname FROM pg_database ORDER BY 1;", "")]

    def copy_schemas(self, database: str) -> list[str]:
        """Return the copy's schemas that are not the server's own."""
        return [row[0] or "" for row in self.ask_copy(_SCHEMAS, database)]

    def production_schemas(self, database: str) -> list[str]:
        """Return production's schemas that are not the server's own."""
        return [row[0] or "" for row in self.ask(_SCHEMAS, database)]

    def copy_relations(self, database: str, schema: str) -> dict[str, str]:
        """Return what a schema of the copy holds, with what each is."""
        sql = (
            f"SELECT c.relname, {_KINDS} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE n.nspname = {literal(schema)} AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') ORDER BY 1;"
        )
        return {row[0] or "": row[1] or "" for row in self.ask_copy(sql, database)}

    def production_table(self, table: Table) -> Optional[Table]:
        """Return production's table of the same name, None where there is none."""
        if table.database not in self.production_databases():
            return None
        found = tables(self.ask, table.database, table.schema, table.name)
        return found[0] if found else None

    def refuse_present(self, database: str, schema: str) -> None:
        """Refuse where production has no such database, or the place is taken.

        :raises PrerequisiteError: saying which.
        """
        if database not in self.production_databases():
            raise PrerequisiteError(
                f"Production has no database {database!r} to load into.",
                f"Restore database:{database} as a whole, or create it.",
            )
        if schema in self.production_schemas(database):
            raise PrerequisiteError(
                f"Production's database {database!r} has a schema {schema} already.",
                "Look what is in it; drop it if it is not needed, then run again.",
            )

    # -- comparing --

    def digests(self, given: Sequence[Table], *, of_copy: bool) -> dict[Table, str]:
        """Return the digests of many tables of one database on one side, asked for at once."""
        if not given:
            return {}
        sql = "".join(f"{table.totals};\n" for table in given)
        rows = (self.ask_copy if of_copy else self.ask)(sql, given[0].database)
        return {table: row[0] or "" for table, row in zip(given, rows)}

    def totals(self, table: Table, *, of_copy: bool) -> str:
        """Return the digest of a whole table on one side."""
        rows = (self.ask_copy if of_copy else self.ask)(f"{table.totals};", table.database)
        return rows[0][0] or ""

    def lay(self, table: Table) -> str:
        """Bring digests and keys of production's rows into the copy's server; return the name of the table they lie in.

        :raises PipelineError: if they do not arrive whole.
        """
        identity = (table.database, table.schema, table.name)
        number = self._laid.setdefault(identity, f"{WORK}.now_{len(self._laid) + 1}")
        prepare = (
            f"CREATE SCHEMA IF NOT EXISTS {WORK}; DROP TABLE IF EXISTS {number};"
            f"CREATE UNLOGGED TABLE {number} (h text NOT NULL, k text NOT NULL);"
        )
        self.ask_copy(prepare, table.database)
        into = self.workdir / "lay.sql"
        # COPY … FROM STDIN within a file would read the file.
        into.write_text(f"{SETTINGS}\\copy {number} FROM pstdin\n", encoding="utf-8")
        question = self.workdir / "question.sql"
        question.write_text(
            f"{connect(table.database)}COPY (SELECT {table.digest}, {table.key_text} FROM {table.source}) TO STDOUT;\n",
            encoding="utf-8",
        )
        fetch(self.channel, self.instance, question, self._psql(into, table.database))
        self.ask_copy(f"ANALYZE {number};", table.database)
        return number

    def laid_totals(self, table: Table, number: str) -> str:
        """Return the digest of what was laid, as :attr:`Table.totals` gives it."""
        half = "sum(('x' || substr(h, {0}, 15))::bit(60)::bigint)"
        sql = (
            f"SELECT count(*) || ':' || coalesce({half.format(1)}, 0) || ':' || coalesce({half.format(17)}, 0)"
            f" FROM {number};"
        )
        return self.ask_copy(sql, table.database)[0][0] or ""

    def difference(
        self, table: Table, there: Table, notes: list[str], digests: Optional[tuple[str, str]] = None
    ) -> Difference:
        """Compare a table's rows; where the columns differ, those that both have.

        :param digests: of both sides, where they are known: equal ones need no closer look.
        :param notes: gets a sentence where the definitions differ.
        """
        common = table
        if there.definition != table.definition:
            names = {column["name"] for column in there.columns}
            columns = tuple(column for column in table.columns if column["name"] in names)
            key = table.key if set(table.key) <= names else ()
            common = replace(table, columns=columns, key=key)
            ours, theirs = set(table.definition), set(there.definition)
            notes.append(
                f"The definitions differ: only in production {sorted(theirs - ours)}, only in the copy"
                f" {sorted(ours - theirs)}; compared are the columns that both have."
            )
            if not columns:
                return Difference("no column in common")
        elif digests is not None and digests[0] == digests[1]:
            return Difference("primary key" if table.key else "whole rows")
        number = self.lay(common)
        return self.compare(common, number)

    def compare(self, table: Table, number: str) -> Difference:
        """Compare the copy's rows with those laid."""
        if not table.key:
            sql = (
                "SELECT coalesce(sum(greatest(coalesce(n.c, 0) - coalesce(c.c, 0), 0)), 0),"
                " coalesce(sum(greatest(coalesce(c.c, 0) - coalesce(n.c, 0), 0)), 0)"
                f" FROM (SELECT h, count(*) AS c FROM {number} GROUP BY h) n FULL JOIN"
                f" (SELECT {table.digest} AS h, count(*) AS c FROM {table.source} GROUP BY 1) c ON c.h = n.h;"
            )
            row = self.ask_copy(sql, table.database)[0]
            return Difference("whole rows", int(row[0] or 0), int(row[1] or 0))
        joined = (
            f"FROM (SELECT {table.digest} AS h, {table.key_text} AS k FROM {table.source}) c"
            f" FULL JOIN {number} n ON n.k = c.k"
        )
        conditions = {
            "only_in_production": "c.k IS NULL",
            "only_in_copy": "n.k IS NULL",
            "changed": "c.h <> n.h",
        }
        counts = ", ".join(f"count(*) FILTER (WHERE {each})" for each in conditions.values())
        keys = ", ".join(
            f"(SELECT jsonb_agg(k) FROM (SELECT coalesce(c.k, n.k) AS k {joined} WHERE {each} ORDER BY 1"
            f" LIMIT {int(self.order.examples)}) x)"
            for each in conditions.values()
        )
        row = self.ask_copy(f"SELECT {counts} {joined};", table.database)[0]
        found = Difference("primary key")
        found.only_production, found.only_copy, found.changed = (int(value or 0) for value in row)
        if not found.none:
            shown = self.ask_copy(f"SELECT jsonb_build_array({keys})::text;", table.database)[0][0]
            for kind, some in zip(conditions, json.loads(shown or "[]")):
                if some:
                    found.keys[kind] = list(some)
        return found


_SCHEMAS = f"SELECT n.nspname FROM pg_namespace n WHERE {USER_SCHEMAS} ORDER BY 1;"


def rows_in(digest: str) -> int:
    """Return how many rows a table's digest counts."""
    return int(digest.partition(":")[0] or 0)


def words_of(error: PipelineError, mark: str) -> bool:
    """Return whether a script of ours ended itself with this word."""
    return f"dbc-{mark}" in error.message


def stop_unless(condition: str, word: str) -> str:
    """Return a statement that ends the script, and so its transaction, unless a condition holds."""
    body = f"BEGIN IF ({condition}) IS NOT TRUE THEN RAISE EXCEPTION 'dbc-{word}'; END IF; END"
    return f"DO {literal(body)};\n"


def order_of(names: Sequence[str]) -> str:
    """Return names in the order in which they are locked: the same in each run."""
    return ", ".join(sorted(names))
