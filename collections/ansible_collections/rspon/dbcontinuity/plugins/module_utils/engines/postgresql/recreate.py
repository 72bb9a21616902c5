# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that production has no longer: made anew out of a dump of the copy, with what went with them.

``DROP TABLE … CASCADE`` takes foreign keys of other tables, views and memberships in publications along. Foreign keys are
taken out of the copy before it is dumped and made at the end, so that rows which refer to none are counted and named
before, as in an exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...process import Stage
from .sides import Sides
from .tables import ForeignKey, Table, foreign_keys, literal, quoted

# Views that rest on these tables, directly or through others, outermost last.
_VIEWS = """
WITH RECURSIVE on_them(oid) AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = ANY ({0})
  UNION SELECT r.ev_class FROM on_them o JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = o.oid
    AND d.classid = 'pg_rewrite'::regclass JOIN pg_rewrite r ON r.oid = d.objid WHERE r.ev_class <> o.oid)
SELECT n.nspname, c.relname FROM on_them o JOIN pg_class c ON c.oid = o.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') ORDER BY c.oid;
"""
_RELATIONS = """SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm', 'r', 'p');"""
_PUBLISHED = """SELECT p.pubname, format('%I.%I', n.nspname, c.relname) FROM pg_publication_rel r
JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE format('%I.%I', n.nspname, c.relname) = ANY ({0});"""
# pg_dump of single tables leaves extended statistics out.
_STATISTICS = """SELECT pg_get_statisticsobjdef(s.oid), format('ALTER STATISTICS %I.%I OWNER TO %I', m.nspname, s.stxname,
 pg_get_userbyid(s.stxowner)) FROM pg_statistic_ext s JOIN pg_namespace m ON m.oid = s.stxnamespace
 JOIN pg_class c ON c.oid = s.stxrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE format('%I.%I', n.nspname, c.relname) = ANY ({0}) ORDER BY 1;"""
_PUBLICATIONS = "SELECT pubname FROM pg_publication;"


class Recreation:
    """Tables of one database to be made anew.

    :ivar keys: the foreign keys from and to them that production can have.
    :ivar views: views that went with them.
    """

    def __init__(self, sides: Sides, database: str, tables: Sequence[Table]) -> None:
        self._sides = sides
        self._database = database
        self.tables = tuple(tables)
        names = [table.ident for table in self.tables]
        array = "ARRAY[" + ", ".join(map(literal, names)) + "]::text[]"
        relations = sides.ask(_RELATIONS, database)
        there = {(row[0], row[1]) for row in relations}
        self.views = [
            (row[0] or "", row[1] or "")
            for row in sides.ask_copy(_VIEWS.replace("{0}", array), database)
            if (row[0], row[1]) not in there
        ]
        self.keys = self._take_keys(names, {row[2] or "" for row in relations})
        published = {row[0] for row in sides.ask(_PUBLICATIONS, database)}
        self._published = [
            (row[0] or "", row[1] or "")
            for row in sides.ask_copy(_PUBLISHED.replace("{0}", array), database)
            if row[0] in published
        ]
        self._statistics = [
            f"{row[0]};\n{row[1]};\n" for row in sides.ask_copy(_STATISTICS.replace("{0}", array), database)
        ]

    def _take_keys(self, names: Sequence[str], known: set[str]) -> list[ForeignKey]:
        """Take the foreign keys out of the copy; return those to be made at the end."""
        sides = self._sides
        there = {(key.child, key.name) for key in foreign_keys(sides.ask, self._database)}
        taken = []
        for key in foreign_keys(sides.ask_copy, self._database):
            if key.child not in names and key.parent not in names:
                continue
            sides.ask_copy(f"ALTER TABLE {key.child} DROP CONSTRAINT {quoted(key.name)};", self._database)
            both = all(each in names or each in known for each in (key.child, key.parent))
            if both and (key.child, key.name) not in there:
                taken.append(key)
        return taken

    def dump(self) -> Stage:
        """Return the stage that prints the tables and views as statements."""
        wanted = [(table.schema, table.name) for table in self.tables] + self.views
        patterns = [f"--table={quoted(schema)}.{quoted(name)}" for schema, name in wanted]
        patterns += [f"--table={name}" for table in self.tables for name in table.partitions]
        return self._sides.program("pg_dump", "--no-password", *patterns, database=self._database)

    def afterwards(self) -> str:
        """Return the statements that follow once rows were looked at."""
        made = []
        for key in self.keys:
            add = f"ALTER TABLE {key.child} ADD CONSTRAINT {quoted(key.name)} {key.definition}"
            if self._sides.order.accept_orphans:
                # Where rows that refer to none are accepted, the key holds for what comes later.
                block = f"BEGIN {add}; EXCEPTION WHEN foreign_key_violation THEN {add} NOT VALID; END"
                made.append(f"DO {literal(block)};\n")
            else:
                made.append(f"{add};\n")
        made += [f"ALTER PUBLICATION {quoted(name)} ADD TABLE ONLY {table};\n" for name, table in self._published]
        return "".join([*made, *self._statistics])
