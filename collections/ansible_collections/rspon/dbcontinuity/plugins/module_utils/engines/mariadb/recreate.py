# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""Tables that production has no longer: made anew with indexes, foreign keys, triggers and their next numbers.

Each is filled under another name in its own database, complete, and held against the copy; then one RENAME gives all of
them their names. Foreign keys of other tables find it again by that name. Views and rights on the table were kept by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ...errors import ContinuityError, PipelineError
from ..partial import RECREATE, Item, unfinished_name
from ..production import Cut
from .dumps import rows, triggers
from .orphans import Orphans
from .sides import Sides, stop_unless
from .tables import SETTINGS, SYSTEM, Table, foreign_keys, literal, mark, quoted

_UNTOUCHED = "Production was not changed."


class Recreation:
    """Tables to be made anew together."""

    def __init__(self, sides: Sides, pairs: Sequence[tuple[Item, Table]]) -> None:
        self._sides = sides
        self._all = list(pairs)
        self._pairs = [pair for pair in pairs if pair[0].action == RECREATE]

    def carry_out(self, on_progress: Callable[[int], None]) -> list[Item]:
        """Make them.

        :raises PrerequisiteError: if rows would refer to none and that is not accepted.
        :raises PipelineError: for anything else; in each case nothing of them is left on production.
        """
        sides = self._sides
        sweep(sides)
        mine = [table for _item, table in self._pairs]
        totals = {table: sides.copy_totals(table) for table in mine}
        names = {table: unfinished_name(sides.order, number) for number, table in enumerate(mine)}
        known = foreign_keys(sides.ask_copy, [(table.database, table.name) for table in mine])
        known = [key for key in known if key.child in {(table.database, table.name) for table in mine}]
        for table, name in names.items():
            # A copy's table keeps its triggers and keys when it gets another name in its own database.
            sides.ask_copy(
                f"SET SESSION foreign_key_checks = 0; RENAME TABLE {table.sql} TO {quoted(table.database)}.{quoted(name)};"
            )
        standing = {
            (table.database, table.name): f"{quoted(table.database)}.{quoted(name)}" for table, name in names.items()
        }
        orphans = Orphans(sides, mine, standing, known)
        try:
            self._load(names, totals, standing, orphans, on_progress)
        except BaseException:
            with contextlib.suppress(ContinuityError):
                gone = ", ".join(standing.values())
                sides.ask(f"SET SESSION foreign_key_checks = 0; DROP TABLE IF EXISTS {gone};")
            raise
        finally:
            for table in mine:
                where = standing[table.database, table.name]
                sides.ask_copy(f"SET SESSION foreign_key_checks = 0; RENAME TABLE {where} TO {table.sql};")
        return [item for item, _table in self._all]

    def _load(
        self,
        names: dict[Table, str],
        totals: dict[Table, str],
        standing: dict[tuple[str, str], str],
        orphans: Orphans,
        on_progress: Callable[[int], None],
    ) -> None:
        sides = self._sides
        free = "SET SESSION foreign_key_checks = 0;\n"
        with sides.session() as session:
            try:
                session.say(SETTINGS)
                for table, name in names.items():
                    where = standing[table.database, table.name]
                    shown = sides.ask_copy(f"SHOW CREATE TABLE {where};")[0][1] or ""
                    session.say(f"{free}USE {quoted(table.database)};\n{shown};\n")
                    session.pour([rows(sides, table, name=name)], on_progress)
                    session.say(SETTINGS + stop_unless(table, totals[table], "differs", where=where))
                for table, name in names.items():
                    if table.triggers:
                        session.say(f"USE {quoted(table.database)};\n")
                        session.pour([triggers(sides, table.database, name)])
                session.say(SETTINGS + orphans.script(set()))
                moves = ", ".join(f"{standing[table.database, table.name]} TO {table.sql}" for table in names)
                session.say(f"{free}RENAME TABLE {moves};\nSELECT {mark('done', literal('true'))};\n")
                answer = session.finish()
            except Cut:
                error = session.ended()
                raise orphans.judged(error, self._found(session.marks()), _UNTOUCHED) from None
            except PipelineError as error:
                raise orphans.judged(error, self._found(session.marks()), _UNTOUCHED) from None
        self._found(answer)
        if ("done", True) not in answer:
            raise PipelineError("Production did not confirm that the tables were made.", "Look which tables are there.")

    def _found(self, marks: Sequence[tuple[str, object]]) -> list[dict[str, object]]:
        found = [value for word, value in marks if word == "orphans" and isinstance(value, dict) and value.get("rows")]
        self._pairs[0][0].orphans = found
        return found


def sweep(sides: Sides) -> list[str]:
    """Remove tables that an interrupted run had filled and not finished; return their names."""
    found = sides.ask(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE 'dbc\\\\_unfinished\\\\_%'"
        f" AND TABLE_SCHEMA NOT IN {SYSTEM};"
    )
    names = [f"{quoted(row[0] or '')}.{quoted(row[1] or '')}" for row in found]
    if names:
        sides.ask(f"SET SESSION foreign_key_checks = 0; DROP TABLE {', '.join(names)};")
    return names
