# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial restore of PostgreSQL: what is asked for, what it would do, and which of the ways does it.

Tables beside: ``beside.py``. Tables in place: ``exchange.py``. Whole schemas and databases: ``swap.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from ...errors import InputError, PrerequisiteError
from ...scope import DATABASE, SCHEMA, TABLE, Scope, some, unknown
from ..partial import (
    BESIDE,
    BESIDE_INSTEAD,
    EXCHANGE,
    LOAD,
    NOTHING,
    RECREATE,
    Item,
    Journal,
    PartialRestore,
    beside_name,
)
from .beside import load_beside
from .exchange import Exchange
from .sides import Sides, rows_in
from .swap import Swap
from .tables import Table, tables


class PostgreSQLPartial(PartialRestore):
    """One partial restore of a PostgreSQL server."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sides = Sides(self.server, self.channel, self.instance, self.order, self.workdir)
        self._tables: dict[str, Table] = {}
        self._swapped: Optional[Scope] = None

    def plan(self) -> list[Item]:
        self._tables = {}
        self._swapped = None
        databases = self.sides.copy_databases()
        for scope in self.order.scopes:
            if scope.names[0] not in databases:
                raise unknown("database", scope.names[0], databases, scope)
        if self.order.mode == BESIDE:
            return self._plan_beside()
        return self._plan_replace()

    def _plan_beside(self) -> list[Item]:
        whole = [scope for scope in self.order.scopes if scope.kind == DATABASE]
        if whole and len(self.order.scopes) > 1:
            raise InputError(
                f"{whole[0]} is loaded as a database of its own and stands alone.", "Restore the rest in another run."
            )
        if whole:
            self._swapped = whole[0]
            return [*Swap(self.sides).plan(whole[0], beside_name(self.order))]
        items = []
        places: dict[tuple[str, str], str] = {}
        for scope in self.order.scopes:
            for table in self._of(scope):
                number = sum(1 for database, _schema in places if database == table.database)
                place = places.setdefault((table.database, table.schema), beside_name(self.order, number))
                item = self._compared(table)
                item.action, item.place = LOAD, f"{table.database}.{place}.{table.name}"
                items.append(item)
        for database, place in {(database, place) for (database, _schema), place in places.items()}:
            self.sides.refuse_present(database, place)
        return items

    def _of(self, scope: Scope) -> list[Table]:
        """Return the copy's tables of a scope, none twice."""
        database = scope.names[0]
        schemas = self.sides.copy_schemas(database)
        if scope.names[1] not in schemas:
            raise unknown("schema", scope.names[1], schemas, scope)
        if scope.kind == SCHEMA:
            found = tables(self.sides.ask_copy, database, scope.names[1])
            if not found:
                raise InputError(f"{scope} holds no table at this moment.", "Name another schema, or another moment.")
        else:
            found = tables(self.sides.ask_copy, database, scope.names[1], scope.names[2])
            if not found:
                raise self._no_table(scope)
        for table in found:
            self._tables[str(Scope(TABLE, (database, table.schema, table.name)))] = table
        return found

    def _no_table(self, scope: Scope) -> InputError:
        database, schema, name = scope.names
        kinds = self.sides.copy_relations(database, schema)
        kind = kinds.get(name)
        if kind is not None:
            return InputError(
                f"{scope} is {kind}, not a table of its own.",
                "Name the partitioned table it belongs to."
                if kind == "a partition"
                else "Name a table; what only derives from tables comes back with its schema or database.",
            )
        return unknown("table", name, [each for each, what in kinds.items() if what == "a table"], scope)

    def _compared(self, table: Table) -> Item:
        name = str(Scope(TABLE, (table.database, table.schema, table.name)))
        digest = self.sides.totals(table, of_copy=True)
        item = Item(name, LOAD, rows=rows_in(digest), bytes=table.bytes)
        there = self.sides.production_table(table)
        if there is None:
            item.in_production = False
            item.notes.append("The table is not in production.")
        else:
            item.difference = self.sides.difference(table, there, item.notes)
        if table.unlogged:
            item.notes.append("The table is UNLOGGED: a physical backup holds none of its rows.")
        if table.large_objects:
            item.notes.append(
                "Columns of the type oid: large objects they may name are not brought back with the table."
            )
        return item

    def _plan_replace(self) -> list[Item]:
        kinds = {scope.kind for scope in self.order.scopes}
        if kinds != {TABLE}:
            if len(self.order.scopes) > 1:
                raise InputError(
                    "A schema or database is swapped alone, not with others in one restore.",
                    "Restore them one after the other.",
                )
            scope = self.order.scopes[0]
            self._swapped = scope
            return Swap(self.sides).plan(scope, "")
        if len({scope.names[0] for scope in self.order.scopes}) > 1:
            raise InputError(
                "Tables of several databases cannot be exchanged in one transaction.",
                "Restore them one after the other.",
            )
        items = []
        for scope in self.order.scopes:
            for table in self._of(scope):
                item = self._compared(table)
                self._refuse(table, item)
                item.action = EXCHANGE if item.in_production else RECREATE
                if item.difference is not None and item.difference.none:
                    item.action = NOTHING
                items.append(item)
        return items

    def _refuse(self, table: Table, item: Item) -> None:
        if table.unlogged:
            raise PrerequisiteError(
                f"{item.name} is UNLOGGED: no physical backup holds its rows, so there is nothing to put in their place.",
                "Fill it anew from the application.",
            )
        there = self.sides.production_table(table)
        if there is None:
            if table.schema not in self.sides.production_schemas(table.database):
                raise PrerequisiteError(
                    f"{item.name}: production has no schema {table.schema!r}.",
                    f"Restore schema:{table.database}.{table.schema} as a whole.",
                )
            return
        if there.definition != table.definition or there.kind != table.kind:
            ours, theirs = set(table.definition), set(there.definition)
            raise PrerequisiteError(
                f"{item.name} is defined differently in production: only there: {some(sorted(theirs - ours))}; only in the"
                f" copy: {some(sorted(ours - theirs))}.",
                BESIDE_INSTEAD,
            )
        if there.always:
            raise PrerequisiteError(
                f"{item.name} has what fires in any session (ENABLE ALWAYS or REPLICA): {some(there.always)}.",
                f"{BESIDE_INSTEAD} Or set it to ENABLE for the time of the restore.",
            )

    def carry_out(self, items: Sequence[Item], journal: Journal, on_progress: Callable[[int], None]) -> list[Item]:
        if self._swapped is not None:
            return Swap(self.sides).carry_out(self._swapped, items, journal, on_progress)
        pairs = [(item, self._tables[item.name]) for item in items]
        if self.order.mode == BESIDE:
            return load_beside(self.sides, pairs, on_progress)
        return Exchange(self.sides, pairs).carry_out(on_progress)

    def undo(self, journal: Journal) -> Mapping[str, Any]:
        return Swap(self.sides).undo(journal)
