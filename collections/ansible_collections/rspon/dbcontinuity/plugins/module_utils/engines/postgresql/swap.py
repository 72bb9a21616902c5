# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole schemas and databases: restored beside under another name, then exchanged by name; the old one is kept.

A schema is loaded and renamed in one transaction. A database is loaded, held against the copy table by table, and then
both names move in one transaction; that needs its connections ended, which the plan says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import ContinuityError, PipelineError, PrerequisiteError
from ...process import Stage
from ...scope import DATABASE, SCHEMA, TABLE, Scope, some, unknown
from ..partial import LOAD, SWAP, Difference, Item, Journal, kept_name, unfinished_name
from ..production import Cut
from .sides import NAME_BYTES, WORK, Sides, rows_in, stop_unless
from .tables import SETTINGS, Table, connect, literal, mark, quoted, tables

_OUTSIDE = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) || ' on ' || pg_describe_object(d.refclassid, d.refobjid, 0)
FROM pg_depend d CROSS JOIN LATERAL pg_identify_object_as_address(d.refclassid, d.refobjid, 0) r
 CROSS JOIN LATERAL pg_identify_object_as_address(d.classid, d.objid, 0) a
 CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) ri CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
WHERE d.refobjid >= 16384 AND d.objid >= 16384 AND d.deptype IN ('n', 'a') AND d.refclassid <> 'pg_namespace'::regclass
 AND coalesce(ri.schema, CASE WHEN cardinality(r.object_names) > 1 THEN r.object_names[1] END) = {schema}
 AND coalesce(i.schema, CASE WHEN cardinality(a.object_names) > 1 THEN a.object_names[1] END) IS DISTINCT FROM {schema}
UNION ALL SELECT 'publication ' || pubname || ' on table ' || c.relname FROM pg_publication_rel r
 JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {schema}
UNION ALL SELECT 'extension ' || extname || ' in schema ' || n.nspname FROM pg_extension e
 JOIN pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname = {schema} ORDER BY 1;
"""
_EXCHANGE = """
DECLARE tries int := 0;
BEGIN
  LOOP
    tries := tries + 1;
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({now}, {new}) AND pid <> pg_backend_pid();
    BEGIN
      EXECUTE {first};
      EXECUTE {second};
      RETURN;
    EXCEPTION WHEN object_in_use THEN
      IF tries >= 10 THEN RAISE; END IF;
    END;
  END LOOP;
END
"""


class Swap:
    """One schema or database to be exchanged, or a database to be loaded beside."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides

    # -- what would be done --

    def plan(self, scope: Scope, place: str) -> list[Item]:
        """Return what would be done, a line for the whole and one for each table.

        :param place: the database's name where it is loaded beside; empty for a swap.
        :raises PrerequisiteError: if something outside depends on the schema.
        """
        sides = self._sides
        database = scope.names[0]
        whole = Item(str(scope), LOAD if place else SWAP, place=place)
        present = database in sides.production_databases()
        if scope.kind == SCHEMA:
            schemas = sides.copy_schemas(database)
            if scope.names[1] not in schemas:
                raise unknown("schema", scope.names[1], schemas, scope)
            if not present:
                raise PrerequisiteError(
                    f"Production has no database {database!r}.", f"Restore database:{database} as a whole."
                )
            present = scope.names[1] in sides.production_schemas(database)
            for side in (sides.ask_copy, sides.ask) if present else (sides.ask_copy,):
                self._refuse_outside(scope, side(_OUTSIDE.format(schema=literal(scope.names[1])), database))
        elif place:
            whole.notes.append(f"The database is loaded as {place}.")
            self._refuse_taken(place)
        whole.in_production = present
        if present and not place:
            whole.kept = kept_name(scope.names[-1], sides.order, NAME_BYTES, in_bytes=True)
            if scope.kind == DATABASE:
                whole.notes.append(
                    f"All connections to the database {database} are ended for the moment of the exchange."
                )
                self._refuse_taken(whole.kept)
        items = [whole]
        schema = scope.names[1] if scope.kind == SCHEMA else ""
        ours = tables(sides.ask_copy, database, schema)
        there = database in sides.production_databases()
        theirs = {(each.schema, each.name): each for each in tables(sides.ask, database, schema)} if there else {}
        digests = sides.digests(ours, of_copy=True)
        same = [table for table in ours if _definition(theirs.get((table.schema, table.name))) == table.definition]
        those = sides.digests(same, of_copy=False)
        for table in ours:
            pair = (digests[table], those.get(table, ""))
            items.append(self._table(table, theirs.pop((table.schema, table.name), None), whole, pair))
        for table in theirs.values():
            item = Item(_name(table), whole.action, notes=["The table is only in production; the copy has none."])
            item.bytes = table.bytes
            items.append(item)
        return items

    def _table(self, table: Table, there: Table | None, whole: Item, digests: tuple[str, str]) -> Item:
        item = Item(_name(table), whole.action, rows=rows_in(digests[0]), bytes=table.bytes)
        item.in_production = there is not None
        if there is not None:
            item.difference = self._sides.difference(table, there, item.notes, digests)
        whole.rows += item.rows
        whole.bytes += item.bytes
        if whole.difference is None:
            whole.difference = Difference("tables")
        if item.difference is not None:
            whole.difference.only_production += item.difference.only_production
            whole.difference.only_copy += item.difference.only_copy
            whole.difference.changed += item.difference.changed
        else:
            whole.difference.only_copy += item.rows
        return item

    def _refuse_taken(self, name: str) -> None:
        if name in self._sides.production_databases():
            raise PrerequisiteError(
                f"Production has a database {name} already.", "Look what is in it; drop it if it is not needed."
            )

    @staticmethod
    def _refuse_outside(scope: Scope, found: Sequence[Sequence[Any]]) -> None:
        if found:
            names = [str(row[0]) for row in found]
            raise PrerequisiteError(
                f"{scope} cannot be swapped: outside of it depends {some(names)}. They would go on with the old schema.",
                "Restore its tables one by one (table:…), or its whole database.",
                {"dependents": names[:100]},
            )

    # -- doing it --

    def carry_out(
        self, scope: Scope, items: Sequence[Item], journal: Journal, on_progress: Callable[[int], None]
    ) -> list[Item]:
        """Do what :meth:`plan` said.

        :raises ContinuityError: production's own is in its place then, and what was loaded is removed.
        """
        if scope.kind == SCHEMA:
            self._schema(scope, items[0], on_progress)
        else:
            self._database(scope, items[0], journal, on_progress)
        return list(items)

    def _schema(self, scope: Scope, whole: Item, on_progress: Callable[[int], None]) -> None:
        sides = self._sides
        database, schema = scope.names
        under = unfinished_name(sides.order)
        found = tables(sides.ask_copy, database, schema)
        totals = sides.digests(found, of_copy=True)
        sides.ask_copy(f"ALTER SCHEMA {quoted(schema)} RENAME TO {quoted(under)};", database)
        dump = sides.program("pg_dump", "--no-password", f"--schema={quoted(under)}", database=database)
        with sides.session() as session:
            try:
                session.say(f"{connect(database)}BEGIN;\n")
                session.pour([dump], on_progress)
                session.say(f"{SETTINGS}SET LOCAL lock_timeout = '{sides.order.lock_seconds}s';\n")
                if whole.in_production:
                    session.say(f"ALTER SCHEMA {quoted(schema)} RENAME TO {quoted(whole.kept)};\n")
                session.say(f"ALTER SCHEMA {quoted(under)} RENAME TO {quoted(schema)};\n")
                for table, wanted in totals.items():
                    if not table.unlogged:
                        session.say(stop_unless(f"({table.totals}) = {literal(wanted)}", "differs"))
                session.say(f"COMMIT;\nSELECT {mark('done', 'true')};\n")
                answer = session.finish()
            except Cut:
                raise session.ended() from None
        if ("done", True) not in answer:
            raise PipelineError("Production did not confirm the exchange.", "Look which schemas are there.")

    def _database(self, scope: Scope, whole: Item, journal: Journal, on_progress: Callable[[int], None]) -> None:
        sides = self._sides
        database = scope.names[0]
        under = unfinished_name(sides.order)
        found = tables(sides.ask_copy, database)
        totals = sides.digests(found, of_copy=True)
        journal.note(engine="postgresql", step="loading", database=database, unfinished=under, kept=whole.kept)
        # What was laid into the copy to compare it is no part of it.
        sides.ask_copy(f"DROP SCHEMA IF EXISTS {WORK} CASCADE;", database)
        sides.ask_copy(f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(under)};", "postgres")
        try:
            with sides.session() as session:
                try:
                    session.pour([self._dump(under)], on_progress)
                    session.say(connect(under))
                    for table, wanted in totals.items():
                        if not table.unlogged:
                            session.say(stop_unless(f"({table.totals}) = {literal(wanted)}", "differs"))
                    session.say(f"SELECT {mark('done', 'true')};\n")
                    if ("done", True) not in session.finish():
                        raise PipelineError("Production did not confirm that the database was loaded.", "Run again.")
                except Cut:
                    raise session.ended() from None
            journal.note(step="exchanging")
            self._rename(database, under, whole)
        except BaseException:
            with contextlib.suppress(ContinuityError):
                self.undo(journal)
            raise
        finally:
            sides.ask_copy(f"ALTER DATABASE {quoted(under)} RENAME TO {quoted(database)};", "postgres")
        journal.done()

    def _dump(self, database: str) -> Stage:
        return self._sides.program("pg_dump", "--create", "--no-password", database=database)

    def _rename(self, database: str, under: str, whole: Item) -> None:
        target = whole.place or database
        second = f"ALTER DATABASE {quoted(under)} RENAME TO {quoted(target)}"
        if whole.place or not whole.in_production:
            self._sides.ask(f"{second};", "postgres")
            return
        first = f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(whole.kept)}"
        block = _EXCHANGE.format(
            now=literal(database), new=literal(under), first=literal(first), second=literal(second)
        )
        self._sides.ask(f"DO {literal(block)};", "postgres")

    def undo(self, journal: Journal) -> Mapping[str, Any]:
        """Remove what an interrupted run had loaded; the exchange itself was made whole or not at all."""
        values = journal.values
        if not values:
            return {}
        unfinished = str(values["unfinished"])
        there = self._sides.production_databases()
        removed = unfinished in there
        if removed:
            self._sides.ask(f"DROP DATABASE {quoted(unfinished)} WITH (FORCE);", "postgres")
        swapped = bool(values.get("kept")) and values["kept"] in there
        journal.done()
        return {"removed": [unfinished] if removed else [], "exchanged": swapped, "kept": values.get("kept", "")}


def _definition(table: Table | None) -> tuple[str, ...]:
    return table.definition if table is not None else ()


def _name(table: Table) -> str:
    return str(Scope(TABLE, (table.database, table.schema, table.name)))
