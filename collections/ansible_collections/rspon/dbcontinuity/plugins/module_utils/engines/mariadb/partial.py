# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial restore of MariaDB: what is asked for, what it would do, and which of the ways does it.

Tables beside: ``beside.py``. Tables in place: ``exchange.py``, ``recreate.py``. Whole databases: ``swap.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from ...errors import InputError, PrerequisiteError
from ...scope import DATABASE, TABLE, Scope, unknown
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
from .recreate import Recreation
from .sides import Sides, rows_in, told_apart
from .swap import Swap
from .tables import Table, tables


class MariaDBPartial(PartialRestore):
    """One partial restore of a MariaDB server."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sides = Sides(self.server, self.channel, self.instance, self.order, self.workdir)
        self._tables: dict[str, Table] = {}
        self._swapped: Optional[Scope] = None

    def plan(self) -> list[Item]:
        self._tables = {}
        self._swapped = None
        databases = self.sides.databases(of_copy=True)
        for scope in self.order.scopes:
            if scope.names[0] not in databases:
                raise unknown("database", scope.names[0], databases, scope)
        return self._plan_beside() if self.order.mode == BESIDE else self._plan_replace()

    def _plan_beside(self) -> list[Item]:
        items = []
        places: dict[str, str] = {}
        for scope in self.order.scopes:
            found = self._of(scope)
            digests = self.sides.digests(found, of_copy=True)
            present = {each.name: each for each in tables(self.sides.ask, *scope.names)}
            for table in found:
                place = places.setdefault(table.database, beside_name(self.order, len(places)))
                item = self._compared(table, present.get(table.name), digests[table])
                item.place = f"{place}.{table.name}"
                items.append(item)
        for place in places.values():
            self.sides.refuse_present(place)
        return items

    def _of(self, scope: Scope) -> list[Table]:
        """Return the copy's tables of a scope."""
        kinds = self.sides.relations(scope.names[0])
        if scope.kind == TABLE:
            kind = kinds.get(scope.names[1])
            if kind is None:
                known = [each for each, what in kinds.items() if what == "a table"]
                raise unknown("table", scope.names[1], known, scope)
            if kind != "a table":
                raise InputError(f"{scope} is {kind}.", "Name a table; the rest comes back with its database.")
        found = tables(self.sides.ask_copy, *scope.names)
        if not found:
            raise InputError(f"{scope} holds no table at this moment.", "Name another one, or another moment.")
        for table in found:
            self._tables[_name(table)] = table
        return found

    def _compared(self, table: Table, there: Optional[Table], digest: str) -> Item:
        item = Item(_name(table), LOAD, rows=rows_in(digest), bytes=table.bytes)
        if there is None:
            item.in_production = False
            item.notes.append("The table is not in production.")
        else:
            item.difference = self.sides.difference(table, there, item.notes)
        if table.versioned:
            item.notes.append("The table is system-versioned: compared are its present rows.")
        return item

    def _plan_replace(self) -> list[Item]:
        if any(scope.kind == DATABASE for scope in self.order.scopes):
            if len(self.order.scopes) > 1:
                raise InputError(
                    "A database is swapped alone, not with others in one restore.", "Restore them one after the other."
                )
            self._swapped = self.order.scopes[0]
            return Swap(self.sides).plan(self._swapped)
        items = []
        for scope in self.order.scopes:
            for table in self._of(scope):
                there = self._refuse(table)
                item = self._compared(table, there, self.sides.copy_totals(table))
                item.action = EXCHANGE if there is not None else RECREATE
                if item.difference is not None and item.difference.none:
                    item.action = NOTHING
                elif there is not None and not table.key:
                    item.notes.append("The table has no primary key: each row that goes is searched for in all of it.")
                items.append(item)
        actions = {item.action for item in items} - {NOTHING}
        if actions == {EXCHANGE, RECREATE}:
            gone = [item.name for item in items if item.action == RECREATE]
            raise InputError(
                f"Production has no longer {', '.join(gone)}; a table cannot be made and others exchanged in one transaction.",
                f"Restore {', '.join(gone)} first, then the others.",
            )
        return items

    def _refuse(self, table: Table) -> Optional[Table]:
        name = _name(table)
        there = self.sides.production_table(table)
        if there is None:
            if table.database not in self.sides.databases(of_copy=False):
                raise PrerequisiteError(
                    f"{name}: production has no database {table.database!r}.",
                    f"Restore {Scope(DATABASE, (table.database,))} as a whole.",
                )
            return None
        if table.versioned or there.versioned:
            raise PrerequisiteError(
                f"{name} is system-versioned: exchanging its rows would write a false history.", BESIDE_INSTEAD
            )
        if not (table.transactional and there.transactional):
            raise PrerequisiteError(
                f"{name} is kept by the engine {there.engine or table.engine}, which knows no transaction: a failure would leave"
                " it half exchanged.",
                f"{BESIDE_INSTEAD} Or convert it to InnoDB first.",
            )
        if there.definition != table.definition:
            raise PrerequisiteError(f"{name}: {told_apart(table, there)}", BESIDE_INSTEAD)
        return there

    def carry_out(self, items: Sequence[Item], journal: Journal, on_progress: Callable[[int], None]) -> list[Item]:
        if self._swapped is not None:
            return Swap(self.sides).carry_out(self._swapped, items, journal, on_progress)
        pairs = [(item, self._tables[item.name]) for item in items]
        if self.order.mode == BESIDE:
            return load_beside(self.sides, pairs, on_progress)
        if any(item.action == RECREATE for item in items):
            return Recreation(self.sides, pairs).carry_out(on_progress)
        return Exchange(self.sides, pairs).carry_out(on_progress)

    def undo(self, journal: Journal) -> Mapping[str, Any]:
        return Swap(self.sides).undo(journal)


def _name(table: Table) -> str:
    return str(Scope(TABLE, (table.database, table.name)))
