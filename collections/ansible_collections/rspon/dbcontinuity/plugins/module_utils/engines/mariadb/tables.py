# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a partial restore has to know of MariaDB tables, and the SQL that reads and compares their rows.

A row is compared by a digest of its stored columns, bytes rather than characters, so that no server's settings, character
set or collation plays in. Generated columns are left out: they follow from the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

# What follows reads and writes values as they are stored, whatever the server's own settings.
SETTINGS = """SET NAMES utf8mb4 COLLATE utf8mb4_general_ci;
SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', max_statement_time = 0,
 sql_quote_show_create = 1, group_concat_max_len = 16777216, foreign_key_checks = 1, unique_checks = 1;
"""
SYSTEM = "('information_schema','performance_schema','sys','mysql')"
_GEOMETRY = ("point", "linestring", "polygon", "geometry", "multi")
_NAMED = ("enum", "set")
_WORDS = ("uuid", "inet6", "inet4")
_FLAT = ("char", "varchar", "binary", "varbinary")
_NEXT = re.compile(r" AUTO_INCREMENT=\d+")
_ELSEWHERE = re.compile(r" (?:DATA|INDEX) DIRECTORY *=? *'(?:[^'\\]|\\.|'')*'")


def quoted(name: str) -> str:
    """Return a name as MariaDB reads it in a statement."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Return a text as MariaDB reads it in a statement."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def mark(word: str, expression: str) -> str:
    """Return an expression that answers JSON as a marked line (see ``engines/production.py``)."""
    return f"CONCAT('DBC:{word}:', HEX(CONVERT({expression} USING utf8mb4)))"


@dataclass(frozen=True)
class Column:
    """One stored column that is not generated."""

    name: str
    type: str

    @property
    def kind(self) -> str:
        """Return its type's first word."""
        return re.split(r"[ (]", self.type.lower(), maxsplit=1)[0]

    def text(self, name: str) -> str:
        """Return the expression whose text tells its value exactly, never more than 32 letters for a long one."""
        if self.kind == "float":
            return f"CAST({name} AS DOUBLE)"
        if self.kind in (*_NAMED, "bit"):
            return f"{name} + 0"
        if self.kind in _FLAT or self.kind.endswith(("text", "blob", "json")) or self.kind.startswith(_GEOMETRY):
            return f"MD5({name})"
        return f"CAST({name} AS CHAR)"

    def sent(self, name: str) -> str:
        """Return the expression by which a value leaves a server."""
        if self.kind == "float":
            return f"CAST({name} AS DOUBLE)"
        return f"{name} + 0" if self.kind in (*_NAMED, "bit") else name

    def taken(self, variable: str) -> str:
        """Return the expression by which it enters another."""
        if self.kind in (*_NAMED, "bit"):
            return f"CAST({variable} AS UNSIGNED)"
        return f"CONVERT({variable} USING utf8mb4)" if self.kind in _WORDS else variable

    def shown(self, name: str) -> str:
        """Return the expression of its value as people read it in a key."""
        if "binary" in self.kind or self.kind.endswith("blob"):
            return f"HEX({name})"
        return f"CONVERT({name} USING utf8mb4)"


@dataclass(frozen=True)
class Table:
    """One table, as one server has it.

    :param definition: as SHOW CREATE TABLE gives it, without what may differ between equal tables.
    :param sequences: those its defaults take values from, by column.
    """

    database: str
    name: str
    engine: str
    versioned: bool
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    definition: str
    rows: int = 0
    bytes: int = 0
    sequences: tuple[tuple[str, str], ...] = ()
    triggers: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """Return its name in a statement."""
        return f"{quoted(self.database)}.{quoted(self.name)}"

    @property
    def transactional(self) -> bool:
        """Return whether its rows can be exchanged in a transaction."""
        return self.engine.lower() == "innodb"

    @property
    def names(self) -> str:
        """Return its stored columns for a statement."""
        return ", ".join(quoted(column.name) for column in self.columns)

    @property
    def digest(self) -> str:
        """Return the expression of a row's digest."""
        return _digest(self.columns)

    @property
    def key_columns(self) -> list[Column]:
        """Return the primary key's columns."""
        by_name = {column.name: column for column in self.columns}
        return [by_name[name] for name in self.key]

    @property
    def key_digest(self) -> str:
        """Return the expression of the digest of a row's key; of the row, where there is none."""
        return _digest(self.key_columns) if self.key else self.digest

    def key_text(self, alias: str = "") -> str:
        """Return the expression of a row's key as people read it; empty where there is none."""
        shown = [column.shown(f"{alias}{quoted(column.name)}") for column in self.key_columns]
        return f"CONCAT_WS(' / ', {', '.join(shown)})" if shown else "''"

    @property
    def totals(self) -> str:
        """Return the expression, over all rows, of the table's digest: the rows' number and a sum."""
        return totals(self.digest)


def totals(digest: str) -> str:
    """Return the expression, over all rows, of their number and the sum of 60 bits of each digest."""
    return f"CONCAT(COUNT(*), ':', COALESCE(SUM(CAST(CONV(LEFT({digest}, 15), 16, 10) AS UNSIGNED)), 0))"


def _digest(columns: Sequence[Column]) -> str:
    parts = ", ".join(f"IFNULL({column.text(quoted(column.name))}, 'N')" for column in columns)
    return f"MD5(CONCAT_WS(',', {parts}))"


Ask = Callable[[str], Sequence[Sequence[Optional[str]]]]
_KINDS = "TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')"


def tables(ask: Ask, database: str, name: str = "") -> list[Table]:
    """Return the tables of a database, or one of them.

    :param ask: runs SQL and returns rows.
    """
    where = f"TABLE_SCHEMA = {literal(database)}" + (f" AND TABLE_NAME = {literal(name)}" if name else "")
    found = _objects(
        ask,
        "JSON_OBJECT('name', TABLE_NAME, 'engine', ENGINE, 'kind', TABLE_TYPE, 'rows', IFNULL(TABLE_ROWS, 0),"
        " 'bytes', IFNULL(DATA_LENGTH, 0) + IFNULL(INDEX_LENGTH, 0))"
        f" FROM information_schema.TABLES WHERE {where} AND {_KINDS} ORDER BY TABLE_NAME",
    )
    # Names are compared as the server does: on most file systems, exactly.
    found = [each for each in found if not name or each["name"] == name]
    columns = _objects(
        ask,
        "JSON_OBJECT('table', TABLE_NAME, 'name', COLUMN_NAME, 'type', COLUMN_TYPE, 'generated', IS_GENERATED,"
        " 'default', IFNULL(COLUMN_DEFAULT, ''), 'extra', EXTRA, 'key', COLUMN_KEY)"
        f" FROM information_schema.COLUMNS WHERE {where} ORDER BY TABLE_NAME, ORDINAL_POSITION",
    )
    keys = _objects(
        ask,
        "JSON_OBJECT('table', TABLE_NAME, 'column', COLUMN_NAME)"
        f" FROM information_schema.STATISTICS WHERE {where} AND INDEX_NAME = 'PRIMARY' ORDER BY TABLE_NAME, SEQ_IN_INDEX",
    )
    triggers = _objects(
        ask,
        "JSON_OBJECT('table', EVENT_OBJECT_TABLE, 'name', TRIGGER_NAME) FROM information_schema.TRIGGERS"
        f" WHERE TRIGGER_SCHEMA = {literal(database)} ORDER BY ACTION_ORDER, TRIGGER_NAME",
    )
    # One call for all: each is a program's start, over the network on production.
    shows = "".join(f"SHOW CREATE TABLE {quoted(database)}.{quoted(each['name'])};" for each in found)
    shown = [row[1] or "" for row in ask(SETTINGS + shows)] if found else []
    made = []
    for each, create in zip(found, shown):
        mine = [column for column in columns if column["table"] == each["name"]]
        made.append(
            Table(
                database=database,
                name=str(each["name"]),
                engine=str(each["engine"] or ""),
                versioned=each["kind"] == "SYSTEM VERSIONED",
                columns=tuple(
                    Column(str(column["name"]), str(column["type"]))
                    for column in mine
                    if column["generated"] == "NEVER" and "STORED GENERATED" not in column["extra"]
                ),
                key=tuple(str(key["column"]) for key in keys if key["table"] == each["name"]),
                definition=normal(create),
                rows=int(each["rows"]),
                bytes=int(each["bytes"]),
                sequences=tuple(
                    (str(column["name"]), str(column["default"])[8:-1])
                    for column in mine
                    if str(column["default"]).startswith("nextval(")
                ),
                triggers=tuple(str(trigger["name"]) for trigger in triggers if trigger["table"] == each["name"]),
            )
        )
    return made


def normal(create: str) -> str:
    """Return a table's definition without its next number and the places of its files."""
    head, newline, last = create.rpartition("\n)")
    return head + newline + _ELSEWHERE.sub("", _NEXT.sub("", last))


def _objects(ask: Ask, what: str) -> list[dict[str, Any]]:
    return [json.loads(row[0] or "null") for row in ask(f"{SETTINGS}SELECT {what};")]


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key."""

    database: str
    name: str
    child: tuple[str, str]
    parent: tuple[str, str]
    columns: tuple[str, ...]
    referred: tuple[str, ...]

    @property
    def label(self) -> str:
        """Return what people call it."""
        return f"{'.'.join(self.child)}: {self.name} -> {'.'.join(self.parent)}"

    def orphans(self, child: str, parent: str) -> str:
        """Return the FROM and WHERE of the rows that refer to none, the tables standing under these names."""
        joined = " AND ".join(f"p.{quoted(two)} = c.{quoted(one)}" for one, two in zip(self.columns, self.referred))
        filled = " AND ".join(f"c.{quoted(column)} IS NOT NULL" for column in self.columns)
        return f"FROM {child} AS c LEFT JOIN {parent} AS p ON {joined} WHERE {filled} AND p.{quoted(self.referred[0])} IS NULL"


def foreign_keys(ask: Ask, wanted: Sequence[tuple[str, str]]) -> list[ForeignKey]:
    """Return a server's foreign keys from or to some tables."""
    either = " OR ".join(
        f"(TABLE_SCHEMA = {literal(one)} AND TABLE_NAME = {literal(two)})"
        f" OR (REFERENCED_TABLE_SCHEMA = {literal(one)} AND REFERENCED_TABLE_NAME = {literal(two)})"
        for one, two in wanted
    )
    found = _objects(
        ask,
        "JSON_OBJECT('database', CONSTRAINT_SCHEMA, 'name', CONSTRAINT_NAME, 'one', TABLE_SCHEMA, 'two', TABLE_NAME,"
        " 'three', REFERENCED_TABLE_SCHEMA, 'four', REFERENCED_TABLE_NAME, 'column', COLUMN_NAME, 'referred',"
        " REFERENCED_COLUMN_NAME) FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL AND"
        f" ({either}) ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
    )
    grouped: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for each in found:
        grouped.setdefault((each["database"], each["two"], each["name"]), []).append(each)
    return [
        ForeignKey(
            database=str(parts[0]["database"]),
            name=str(parts[0]["name"]),
            child=(str(parts[0]["one"]), str(parts[0]["two"])),
            parent=(str(parts[0]["three"]), str(parts[0]["four"])),
            columns=tuple(str(part["column"]) for part in parts),
            referred=tuple(str(part["referred"]) for part in parts),
        )
        for parts in grouped.values()
    ]
