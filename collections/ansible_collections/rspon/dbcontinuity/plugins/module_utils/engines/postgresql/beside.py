# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""Loading tables of a copy beside the originals: a schema of their own in the same database, in one transaction.

What is loaded are the rows and the primary key. Foreign keys, triggers and defaults would reach into production: they
stay away, and so the original's owner can go on as if nothing were there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import PipelineError
from ..partial import Item
from ..production import Cut
from .sides import Sides, stop_unless
from .tables import Table, connect, literal, mark, quoted


def load_beside(sides: Sides, pairs: Sequence[tuple[Item, Table]], on_progress: Callable[[int], None]) -> list[Item]:
    """Load tables as their items say.

    :raises PipelineError: nothing of that database's tables was loaded then.
    """
    for database in dict.fromkeys(table.database for _item, table in pairs):
        _load(sides, database, [pair for pair in pairs if pair[1].database == database], on_progress)
    return [item for item, _table in pairs]


def _load(sides: Sides, database: str, pairs: Sequence[tuple[Item, Table]], on_progress: Callable[[int], None]) -> None:
    places = {table.schema: _place(item, table) for item, table in pairs}
    with sides.session() as session:
        try:
            session.say(f"{connect(database)}BEGIN;\n")
            for schema, place in places.items():
                session.say(f"CREATE SCHEMA {quoted(place)};\n")
                text = f"{schema} as restored by the run {sides.order.run}; drop it when it is not needed any more"
                session.say(f"COMMENT ON SCHEMA {quoted(place)} IS {literal(text)};\n")
            for _item, table in pairs:
                where = f"{quoted(places[table.schema])}.{quoted(table.name)}"
                session.say(f"CREATE TABLE {where} ({_columns(table)});\nCOPY {where} ({table.names}) FROM STDIN;\n")
                rows = f"SELECT {table.names} FROM {table.source}"
                session.pour([sides.print_of(rows, database)], on_progress)
                session.say("\\.\n")
                if table.key:
                    session.say(f"ALTER TABLE {where} ADD PRIMARY KEY ({', '.join(map(quoted, table.key))});\n")
                there = table.totals.replace(table.source, where)
                session.say(stop_unless(f"({there}) = {literal(sides.totals(table, of_copy=True))}", "differs"))
            session.say(f"COMMIT;\nSELECT {mark('done', 'true')};\n")
            answer = session.finish()
        except Cut:
            raise session.ended() from None
    if ("done", True) not in answer:
        raise PipelineError(
            "Production did not confirm that the tables were loaded.", "Look for the schema, run again."
        )


def _place(item: Item, table: Table) -> str:
    return item.place[len(table.database) + 1 : -len(table.name) - 1]


def _columns(table: Table) -> str:
    made = []
    for column in table.columns:
        collation = f" COLLATE {column['collation']}" if column["collation"] else ""
        made.append(f"{quoted(column['name'])} {column['type']}{collation}")
    return ", ".join(made)
