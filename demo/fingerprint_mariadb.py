# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 (identifiers are quoted by `name`, values by `text`)
"""The fingerprint of a MariaDB server.

Content: for each table the number of rows and the sum, over all rows, of 60 bits of an MD5 over the row's columns.
A sum does not depend on the order and counts duplicates, so tables without a primary key are covered. CHECKSUM TABLE
was not taken: it differs between row formats and engines and has 32 bits. Columns are serialised so that no two rows
read alike: lengths before text, bytes instead of characters, FLOAT as the double it stands for, TIMESTAMP in UTC,
ENUM and SET with their number, long values by their own MD5. Generated columns are computed and included.

Definitions come from SHOW CREATE, cut into columns, indexes, constraints, options and partitions. Left out: DATA
DIRECTORY (a copy's must differ) and AUTO_INCREMENT (kind `auto_increment`, which has a rule of its own).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from demo.clients import MariaDBClient, QueryError, Result, Row
from demo.fingerprint import Attributes, Fingerprint
from demo.mariadb import name, text

SYSTEM = "('mysql', 'information_schema', 'performance_schema', 'sys')"
SETTINGS = "SET SESSION sql_mode = '', time_zone = '+00:00', sql_quote_show_create = 1, max_statement_time = 0;\n"
LONG = ("text", "blob", "json")
GEOMETRY = {
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geometry",
}
QUOTED = r"`(?:[^`]|``)+`"
COLUMN = re.compile(rf"^({QUOTED}) (.*)$", re.DOTALL)
INDEX = re.compile(rf"^(PRIMARY KEY|(?:UNIQUE |FULLTEXT |SPATIAL |VECTOR )?KEY ({QUOTED}))")
CONSTRAINT = re.compile(rf"^CONSTRAINT ({QUOTED}) (.*)$", re.DOTALL)
ELSEWHERE = re.compile(r" (?:DATA|INDEX) DIRECTORY *=? *'(?:[^'\\]|\\.|'')*'")
NEXT = re.compile(r" AUTO_INCREMENT=\d+")


def take(client: MariaDBClient, accounts: bool = False) -> Fingerprint:
    """Read everything. The caller sees to it that nobody writes meanwhile."""
    return _Reader(client).read(accounts)


class _Reader:
    def __init__(self, client: MariaDBClient) -> None:
        self.client = client
        self.made = Fingerprint("mariadb", self._text(client.value("SELECT VERSION()")))

    def read(self, accounts: bool) -> Fingerprint:
        self._databases()
        relations = self._query(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables"
            f" WHERE table_schema NOT IN {SYSTEM} ORDER BY 1, 2"
        )
        of_kind: dict[str, list[tuple[str, str]]] = {}
        for schema, table, kind in relations:
            wanted = {"BASE TABLE": "table", "SYSTEM VERSIONED": "table", "VIEW": "view", "SEQUENCE": "sequence"}
            of_kind.setdefault(wanted.get(self._text(kind), "other"), []).append((schema or "", table or ""))
        versioned = {(row[0], row[1]) for row in relations if row[2] == "SYSTEM VERSIONED"}
        self._tables(of_kind.get("table", []))
        self._rows(of_kind.get("table", []), versioned)
        self._auto_increment()
        self._views(of_kind.get("view", []))
        self._sequences(of_kind.get("sequence", []))
        self._programs()
        if accounts:
            self._accounts()
        return self.made

    @staticmethod
    def _text(value: str | None) -> str:
        return value or ""

    def _query(self, sql: str) -> list[Row]:
        return self.client.query(SETTINGS + sql)

    def _each(self, statements: Sequence[str]) -> list[Result | str]:
        """One result for each statement, or the error in its place: a broken object is a finding, not the end."""
        if not statements:
            return []
        try:
            results = self.client.results(SETTINGS + ";\n".join(statements))
            if len(results) == len(statements):
                return list(results)
        except QueryError:
            pass
        found: list[Result | str] = []
        for statement in statements:
            try:
                found.append(self.client.results(SETTINGS + statement)[0])
            except QueryError as error:
                found.append(re.sub(r" at line \d+", "", str(error)))
        return found

    def _databases(self) -> None:
        for schema, charset, collation, comment in self._query(
            "SELECT schema_name, default_character_set_name, default_collation_name, schema_comment"
            f" FROM information_schema.schemata WHERE schema_name NOT IN {SYSTEM}"
        ):
            self.made.add(
                "database", self._text(schema), {"charset": charset, "collation": collation, "comment": comment}
            )

    def _tables(self, tables: list[tuple[str, str]]) -> None:
        shown = self._each([f"SHOW CREATE TABLE {name(schema)}.{name(table)}" for schema, table in tables])
        for (schema, table), result in zip(tables, shown):
            full = f"{schema}.{table}"
            if isinstance(result, str):
                self.made.add("table", full, {"error": result})
                continue
            self._parts(full, self._text(result.rows[0][1]))

    def _parts(self, full: str, sql: str) -> None:
        """Cut SHOW CREATE TABLE into its parts."""
        lines = ELSEWHERE.sub("", sql).split("\n")
        end = max(number for number, line in enumerate(lines) if line.startswith(")"))
        position = 0
        for raw in lines[1:end]:
            line = raw.strip().rstrip(",")
            column, index, constraint = COLUMN.match(line), INDEX.match(line), CONSTRAINT.match(line)
            if column:
                position += 1
                self.made.add("column", f"{full}.{column[1]}", {"definition": column[2], "position": position})
            elif constraint:
                self.made.add("constraint", f"{full}.{constraint[1]}", {"definition": constraint[2]})
            elif index:
                self.made.add("index", f"{full}.{index[2] or 'PRIMARY'}", {"definition": line})
            else:
                self.made.add("table clause", f"{full}: {line}", {})
        options = NEXT.sub("", lines[end][1:]).strip()
        self.made.add("table", full, {"options": options, "columns": position})
        if lines[end + 1 :]:
            self.made.add("partitioning", full, {"definition": "\n".join(lines[end + 1 :])})

    def _rows(self, tables: list[tuple[str, str]], versioned: set[tuple[str | None, str | None]]) -> None:
        columns: dict[tuple[str | None, str | None], list[str]] = {}
        for schema, table, column, kind in self._query(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema NOT IN {SYSTEM} ORDER BY 1, 2, ordinal_position"
        ):
            columns.setdefault((schema, table), []).append(_serial(name(self._text(column)), self._text(kind)))
        statements = []
        for key in tables:
            row = f"CONCAT_WS(',', {', '.join(columns[key])})"
            history = " FOR SYSTEM_TIME ALL" if key in versioned else ""
            statements.append(
                f"SELECT COUNT(*), COALESCE(SUM(COALESCE(CAST(CONV(LEFT(MD5({row}), 15), 16, 10) AS UNSIGNED), 1)), 0)"
                f" FROM {name(key[0])}.{name(key[1])}{history}"
            )
        for (schema, table), result in zip(tables, self._each(statements)):
            content: Attributes = (
                {"error": result}
                if isinstance(result, str)
                else {"rows": int(self._text(result.rows[0][0])), "content": result.rows[0][1]}
            )
            self.made.add("rows", f"{schema}.{table}", content)

    def _auto_increment(self) -> None:
        found = self._query(
            "SELECT t.table_schema, t.table_name, c.column_name, t.auto_increment FROM information_schema.tables t"
            " JOIN information_schema.columns c USING (table_schema, table_name)"
            f" WHERE t.table_schema NOT IN {SYSTEM} AND c.extra LIKE '%auto_increment%' AND t.auto_increment > 0"
        )
        highest = self._each(
            [f"SELECT MAX({name(c or '')}) FROM {name(s or '')}.{name(t or '')}" for s, t, c, _ in found]
        )
        for (schema, table, column, following), result in zip(found, highest):
            if not isinstance(result, str):
                used = int(result.rows[0][0] or 0)
                label = f"{schema}.{table}.{name(column or '')}"
                self.made.add("auto_increment", label, {"next": int(following or 0), "used": used})

    def _views(self, views: list[tuple[str, str]]) -> None:
        where = [f"{name(schema)}.{name(view)}" for schema, view in views]
        shown = self._each([f"SHOW CREATE VIEW {full}" for full in where])
        for (schema, view), full, result in zip(views, where, shown):
            attributes: Attributes = {"opens": "yes"}
            if isinstance(result, str):
                attributes["error"] = result
            else:
                attributes.update(zip(result.names[1:], result.rows[0][1:]))
            try:  # a missing definer or table shows only when the view is used
                self.client.query(f"SELECT 1 FROM {full} LIMIT 0")
            except QueryError as error:
                attributes["opens"] = str(error)
            self.made.add("view", f"{schema}.{view}", attributes)

    def _sequences(self, sequences: list[tuple[str, str]]) -> None:
        where = [f"{name(schema)}.{name(sequence)}" for schema, sequence in sequences]
        shown = self._each([f"SHOW CREATE TABLE {full}" for full in where])
        values = self._each([f"SELECT * FROM {full}" for full in where])
        for (schema, sequence), definition, value in zip(sequences, shown, values):
            attributes: Attributes = {}
            for result in (definition, value):
                if isinstance(result, str):
                    attributes["error"] = result
                else:
                    attributes.update(zip(result.names, result.rows[0]))
            self.made.add("sequence", f"{schema}.{sequence}", attributes)

    def _programs(self) -> None:
        triggers = self._query(
            "SELECT trigger_schema, trigger_name, action_order, event_object_table FROM information_schema.triggers"
            f" WHERE trigger_schema NOT IN {SYSTEM} ORDER BY 1, 2"
        )
        self._show("trigger", "TRIGGER", triggers, ["order", "table"])
        for kind in ("PROCEDURE", "FUNCTION", "PACKAGE", "PACKAGE BODY"):
            routines = self._query(
                "SELECT routine_schema, routine_name, security_type, routine_comment FROM information_schema.routines"
                f" WHERE routine_schema NOT IN {SYSTEM} AND routine_type = {text(kind)} ORDER BY 1, 2"
            )
            self._show(kind.lower(), kind, routines, ["security", "comment"])
        events = self._query(
            "SELECT event_schema, event_name, status, time_zone FROM information_schema.events"
            f" WHERE event_schema NOT IN {SYSTEM} ORDER BY 1, 2"
        )
        self._show("event", "EVENT", events, ["status", "time zone"])

    def _show(self, kind: str, word: str, found: list[Row], labels: list[str]) -> None:
        shown = self._each([f"SHOW CREATE {word} {name(row[0] or '')}.{name(row[1] or '')}" for row in found])
        for row, result in zip(found, shown):
            attributes: Attributes = dict(zip(labels, row[2:]))
            if isinstance(result, str):
                attributes["error"] = result
            else:
                attributes.update(zip(result.names, result.rows[0]))
                attributes.pop("Created", None)
            self.made.add(kind, f"{row[0]}.{row[1]}", attributes)

    def _accounts(self) -> None:
        for user, host, role in self._query(
            "SELECT user, host, JSON_VALUE(priv, '$.is_role') FROM mysql.global_priv WHERE user <> 'mariadb.sys'"
        ):
            who = text(self._text(user)) + ("" if role else f"@{text(self._text(host))}")
            grants = sorted(self._text(row[0]) for row in self._query(f"SHOW GRANTS FOR {who}"))
            attributes: Attributes = {"grants": grants}
            if not role:
                attributes["definition"] = self._query(f"SHOW CREATE USER {who}")[0][0]
            self.made.add("role" if role else "user", who, attributes)


def _serial(column: str, kind: str) -> str:
    """An SQL expression, never NULL, that reads differently for different values."""
    kind = kind.lower()
    if kind == "float":
        plain = f"CAST({column} AS DOUBLE)"
    elif kind in ("enum", "set"):
        plain = f"CONCAT({column} + 0, ':', HEX({column}))"
    elif kind == "bit":
        plain = f"HEX({column})"
    elif kind in GEOMETRY:
        plain = f"MD5(ST_AsWKB({column}))"
    elif kind.endswith(LONG):
        plain = f"MD5({column})"
    elif kind in ("char", "varchar", "binary", "varbinary"):
        plain = f"CONCAT(LENGTH({column}), ':', CAST({column} AS BINARY))"
    else:
        plain = f"CAST({column} AS CHAR)"
    return f"IFNULL({plain}, 'N')"
