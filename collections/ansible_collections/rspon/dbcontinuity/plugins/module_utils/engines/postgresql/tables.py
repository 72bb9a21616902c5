# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""What a partial restore has to know of PostgreSQL tables, and the SQL that reads and compares their rows.

A row is compared by the text of its stored columns, under settings that make the same value read the same on both
servers. Generated columns are left out: they follow from the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The same value reads the same everywhere, nothing of the database's own settings plays in, nothing waits for ever.
SETTINGS = """SET client_encoding = 'UTF8'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres';
SET timezone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmloption = content;
SET lc_monetary = 'C'; SET search_path = ''; SET row_security = off; SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0; SET standard_conforming_strings = on; SET client_min_messages = warning;
"""
USER_SCHEMAS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'"


def quoted(name: str) -> str:
    """Return a name as PostgreSQL reads it in a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as PostgreSQL reads it in a statement, whatever the server's settings."""
    escaped = text.replace("'", "''")
    return f" E'{escaped}'".replace("\\", "\\\\") if "\\" in text else f"'{escaped}'"


def connect(database: str) -> str:
    """Return what moves psql to another database."""
    return f"\\connect {quoted(database)}\n{SETTINGS}"


def mark(word: str, expression: str) -> str:
    """Return an expression that answers JSON as a marked line (see ``engines/production.py``)."""
    return f"'DBC:{word}:' || encode(convert_to(({expression})::text, 'UTF8'), 'hex')"


@dataclass(frozen=True, eq=False)
class Table:
    """One table, as one server has it; two are the same only if they are one object.

    :param kind: ``r`` plain, ``p`` partitioned.
    :param columns: stored columns that are not generated, in order, with ``name``, ``type``, ``collation``, ``default``.
    :param key: the primary key's columns.
    :param definition: all columns as they are compared with the other side's.
    :param ident: its name as the server writes it, quoted only where it has to be.
    :param partitions: all below it, qualified and quoted, the outermost first.
    :param sequences: those that feed its columns: ``column``, ``sequence`` (quoted).
    :param always: triggers and rules that also fire in a session of the role replica.
    :param unlogged: whether its rows survive no crash (and no physical backup).
    """

    database: str
    schema: str
    name: str
    kind: str
    columns: tuple[Mapping[str, Any], ...]
    key: tuple[str, ...]
    definition: tuple[str, ...]
    ident: str = ""
    partitions: tuple[str, ...] = ()
    sequences: tuple[Mapping[str, str], ...] = ()
    always: tuple[str, ...] = ()
    unlogged: bool = False
    large_objects: bool = False
    bytes: int = 0

    @property
    def sql(self) -> str:
        """Return its name in a statement."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def source(self) -> str:
        """Return what its own rows are read from: heirs of a plain table are tables of their own."""
        return self.sql if self.kind == "p" else f"ONLY {self.sql}"

    @property
    def names(self) -> str:
        """Return its stored columns for a statement."""
        return ", ".join(quoted(column["name"]) for column in self.columns)

    @property
    def digest(self) -> str:
        """Return the expression of a row's digest."""
        return f"md5(ROW({self.names})::text)"

    @property
    def key_text(self) -> str:
        """Return the expression of a row's key as people read it; empty where there is none."""
        if len(self.key) == 1:
            return f"{quoted(self.key[0])}::text"
        return f"ROW({', '.join(map(quoted, self.key))})::text" if self.key else "''"

    @property
    def totals(self) -> str:
        """Return the query of the whole table's digest: the rows' number and the sums of two halves of their digests."""
        half = "sum(('x' || substr(h, {0}, 15))::bit(60)::bigint)"
        return (
            f"SELECT count(*) || ':' || coalesce({half.format(1)}, 0) || ':' || coalesce({half.format(17)}, 0)"
            f" FROM (SELECT {self.digest} AS h FROM {self.source}) AS t"
        )


_TABLES = """
SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname, 'ident', format('%I.%I', n.nspname, c.relname),
 'kind', c.relkind, 'unlogged', c.relpersistence = 'u',
 'bytes', pg_total_relation_size(c.oid) + coalesce((SELECT sum(pg_total_relation_size(p.relid)) FROM
   pg_partition_tree(c.oid) p WHERE c.relkind = 'p' AND p.relid <> c.oid), 0),
 'columns', (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
    'generated', a.attgenerated <> '', 'identity', a.attidentity, 'large', a.atttypid = 'oid'::regtype,
    'collation', (SELECT format('%I.%I', m.nspname, l.collname) FROM pg_collation l
      JOIN pg_namespace m ON m.oid = l.collnamespace JOIN pg_type y ON y.oid = a.atttypid
      WHERE l.oid = a.attcollation AND a.attcollation <> y.typcollation)) ORDER BY a.attnum)
   FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
 'key', (SELECT jsonb_agg(a.attname ORDER BY k.place) FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(number, place)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number WHERE i.indrelid = c.oid AND i.indisprimary),
 'partitions', (SELECT jsonb_agg(format('%I.%I', m.nspname, d.relname) ORDER BY p.level, d.relname)
    FROM pg_partition_tree(c.oid) p JOIN pg_class d ON d.oid = p.relid JOIN pg_namespace m ON m.oid = d.relnamespace
    WHERE c.relkind = 'p' AND p.relid <> c.oid),
 'sequences', (SELECT jsonb_agg(DISTINCT jsonb_build_object('column', a.attname, 'sequence', format('%I.%I', m.nspname, s.relname)))
    FROM pg_attribute a JOIN pg_class s ON s.relkind = 'S' JOIN pg_namespace m ON m.oid = s.relnamespace
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
        AND d.deptype IN ('a', 'i')) OR EXISTS (SELECT FROM pg_attrdef f JOIN pg_depend d ON d.objid = f.oid
        AND d.classid = 'pg_attrdef'::regclass WHERE f.adrelid = c.oid AND f.adnum = a.attnum AND d.refobjid = s.oid))),
 'always', (SELECT jsonb_agg(w.what) FROM (
    SELECT 'trigger ' || t.tgname FROM pg_trigger t WHERE t.tgenabled IN ('A', 'R') AND NOT t.tgisinternal
      AND (t.tgrelid = c.oid OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))
    UNION ALL SELECT 'rule ' || r.rulename FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_enabled IN ('A', 'R')) w(what))
)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND {user} AND {which}
 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY n.nspname, c.relname;
"""

Ask = Callable[[str, str], Sequence[Sequence[Any]]]


def tables(ask: Ask, database: str, schema: str = "", name: str = "") -> list[Table]:
    """Return the tables of a database, of a schema, or one of them; partitions belong to theirs.

    :param ask: runs SQL in a database and returns rows.
    """
    which = "true"
    if schema:
        # A name may hold braces: they are values of format, not read again.
        which = f"n.nspname = {literal(schema)}" + (f" AND c.relname = {literal(name)}" if name else "")
    rows = ask(_TABLES.format(user=USER_SCHEMAS, which=which), database)
    return [_table(database, json.loads(row[0])) for row in rows]


def _table(database: str, found: Mapping[str, Any]) -> Table:
    columns = found["columns"] or []
    return Table(
        database=database,
        schema=str(found["schema"]),
        name=str(found["name"]),
        kind=str(found["kind"]),
        columns=tuple(column for column in columns if not column["generated"]),
        key=tuple(found["key"] or ()),
        definition=tuple(
            f"{column['name']} {column['type']}{' generated' if column['generated'] else ''}" for column in columns
        ),
        ident=str(found["ident"]),
        partitions=tuple(found["partitions"] or ()),
        sequences=tuple(found["sequences"] or ()),
        always=tuple(found["always"] or ()),
        unlogged=bool(found["unlogged"]),
        large_objects=any(column["large"] for column in columns),
        bytes=int(found["bytes"] or 0),
    )


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key; names are quoted and qualified.

    :param child_only: how the child's own rows are read, *parent_only* the parent's.
    :param child_key: the child's primary key, or the columns that refer.
    :param definition: as ``ALTER TABLE … ADD CONSTRAINT`` takes it.
    """

    name: str
    child: str
    parent: str
    child_source: str
    parent_source: str
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    operators: tuple[str, ...]
    child_key: tuple[str, ...]
    definition: str
    validated: bool

    @property
    def label(self) -> str:
        """Return what people call it."""
        return f"{self.child}: {self.name} -> {self.parent}"

    @property
    def orphans(self) -> str:
        """Return the FROM and WHERE of the rows that refer to none."""
        filled = " AND ".join(f"c.{column} IS NOT NULL" for column in self.columns)
        return (
            f"FROM {self.child_source} AS c WHERE {filled} AND NOT EXISTS (SELECT FROM {self.parent_source} AS p"
            f" WHERE {self.joined})"
        )

    @property
    def joined(self) -> str:
        """Return the condition under which the child's row c refers to the parent's row p."""
        triples = zip(self.referred, self.operators, self.columns)
        return " AND ".join(f"p.{two} OPERATOR({operator}) c.{one}" for two, operator, one in triples)

    @property
    def example(self) -> str:
        """Return the expression of an orphan's key."""
        parts = [f"c.{column}" for column in self.child_key]
        return f"{parts[0]}::text" if len(parts) == 1 else f"ROW({', '.join(parts)})::text"


_FOREIGN = """
SELECT jsonb_build_object('name', k.conname, 'child', format('%I.%I', cn.nspname, c.relname),
 'parent', format('%I.%I', pn.nspname, p.relname), 'child_kind', c.relkind, 'parent_kind', p.relkind,
 'columns', (SELECT jsonb_agg(quote_ident(a.attname) ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number),
 'referred', (SELECT jsonb_agg(quote_ident(a.attname) ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY u(number, place)
    JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = u.number),
 'operators', (SELECT jsonb_agg(format('%I.%s', m.nspname, o.oprname) ORDER BY u.place)
    FROM unnest(k.conpfeqop) WITH ORDINALITY u(number, place) JOIN pg_operator o ON o.oid = u.number
    JOIN pg_namespace m ON m.oid = o.oprnamespace),
 'child_key', (SELECT jsonb_agg(quote_ident(a.attname) ORDER BY u.place) FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY u(number, place)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number WHERE i.indrelid = c.oid AND i.indisprimary),
 'definition', pg_get_constraintdef(k.oid), 'validated', k.convalidated)::text
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
 JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1;
"""


def foreign_keys(ask: Ask, database: str) -> list[ForeignKey]:
    """Return a database's foreign keys, with names and definitions independent of the search path."""
    found = [json.loads(row[0]) for row in ask(f"SET search_path = '';\n{_FOREIGN}", database)]
    return [
        ForeignKey(
            name=str(each["name"]),
            child=str(each["child"]),
            parent=str(each["parent"]),
            child_source=("" if each["child_kind"] == "p" else "ONLY ") + str(each["child"]),
            parent_source=("" if each["parent_kind"] == "p" else "ONLY ") + str(each["parent"]),
            columns=tuple(each["columns"]),
            referred=tuple(each["referred"]),
            operators=tuple(each["operators"]),
            child_key=tuple(each["child_key"] or each["columns"]),
            definition=str(each["definition"]),
            validated=bool(each["validated"]),
        )
        for each in found
    ]
