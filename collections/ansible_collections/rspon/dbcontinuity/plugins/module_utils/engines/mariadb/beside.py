# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading tables of a copy beside the originals: a database of their own, whole or not there.

What is loaded are the rows with the table's own indexes. Foreign keys, triggers and defaults from sequences would reach
into production: they stay away. DDL knows no transaction here: a place is filled under another name, held against the copy,
and gets its own name in one statement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ...errors import ContinuityError, PipelineError
from ..partial import Item, unfinished_name
from ..production import Cut
from .dumps import bare_definition, rows
from .sides import Sides, stop_unless
from .tables import SETTINGS, Table, literal, mark, quoted

_UNFINISHED = "dbc_unfinished_"


def load_beside(sides: Sides, pairs: Sequence[tuple[Item, Table]], on_progress: Callable[[int], None]) -> list[Item]:
    """Load tables as their items say.

    :raises PipelineError: nothing of that database's tables is left there then.
    """
    sweep(sides)
    for number, database in enumerate(dict.fromkeys(table.database for _item, table in pairs)):
        mine = [pair for pair in pairs if pair[1].database == database]
        place, under = mine[0][0].place.rpartition(f".{mine[0][1].name}")[0], unfinished_name(sides.order, number)
        try:
            _load(sides, place, under, mine, on_progress)
        except BaseException:
            with contextlib.suppress(ContinuityError):
                sides.ask(f"DROP DATABASE IF EXISTS {quoted(under)};")
            raise
    return [item for item, _table in pairs]


def sweep(sides: Sides) -> list[str]:
    """Remove what an interrupted run had loaded and not finished; return the databases' names."""
    found = [name for name in sides.databases(of_copy=False) if name.startswith(_UNFINISHED)]
    for name in found:
        sides.ask(f"DROP DATABASE {quoted(name)};")
    return found


def _load(
    sides: Sides, place: str, under: str, pairs: Sequence[tuple[Item, Table]], on_progress: Callable[[int], None]
) -> None:
    comment = f"{pairs[0][1].database} as restored by the run {sides.order.run}; drop it when it is not needed any more"
    totals = {table: sides.copy_totals(table) for _item, table in pairs}
    with sides.session() as session:
        try:
            session.say(f"{SETTINGS}CREATE DATABASE {quoted(under)};\nUSE {quoted(under)};\n")
            for _item, table in pairs:
                session.say(f"{bare_definition(sides, table)};\n")
                session.pour([rows(sides, table)], on_progress)
                where = f"{quoted(under)}.{quoted(table.name)}"
                session.say(SETTINGS + stop_unless(table, totals[table], "differs", where=where))
            moves = ", ".join(
                f"{quoted(under)}.{quoted(table.name)} TO {quoted(place)}.{quoted(table.name)}"
                for _item, table in pairs
            )
            session.say(
                f"CREATE DATABASE {quoted(place)} COMMENT = {literal(comment[:1024])};\nRENAME TABLE {moves};\n"
                f"DROP DATABASE {quoted(under)};\nSELECT {mark('done', literal('true'))};\n"
            )
            answer = session.finish()
        except Cut:
            raise session.ended() from None
    if ("done", True) not in answer:
        raise PipelineError(
            "Production did not confirm that the tables were loaded.", "Look for the database, run again."
        )
