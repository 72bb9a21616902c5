# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""Whole databases: restored beside under another name, then exchanged by name; the old one is kept.

MariaDB cannot rename a database, and a table with triggers cannot leave its database (error 1435). So: tables and rows are
loaded under another name and held against the copy; the old triggers are written down and dropped; one RENAME moves all
old tables out and all new ones in; then views, routines, triggers and events are made as in the copy. Each step stands in a
journal before it is made, with the text of what is dropped, so that an interruption can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from ...errors import ContinuityError, PipelineError, PrerequisiteError
from ...scope import TABLE, Scope, some
from ..partial import SWAP, Difference, Item, Journal, kept_name, unfinished_name
from ..production import Cut, Session
from . import dumps
from .beside import sweep
from .sides import NAME_LETTERS, Sides, rows_in, stop_unless
from .tables import SETTINGS, Table, literal, mark, quoted, tables

_KINDS = {"TRIGGER": 2, "PROCEDURE": 2, "FUNCTION": 2, "VIEW": 1, "EVENT": 3}
_LISTS = {
    "TRIGGER": "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {0} ORDER BY ACTION_ORDER",
    "PROCEDURE": "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {0} AND ROUTINE_TYPE = 'PROCEDURE'",
    "FUNCTION": "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {0} AND ROUTINE_TYPE = 'FUNCTION'",
    "VIEW": "SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {0} ORDER BY TABLE_NAME",
    "EVENT": "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {0}",
}
_OUTSIDE = """SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, ' (', CONSTRAINT_NAME, ')') FROM information_schema.KEY_COLUMN_USAGE
 WHERE REFERENCED_TABLE_SCHEMA = {0} AND TABLE_SCHEMA <> {0} GROUP BY 1 ORDER BY 1;"""
_MOVABLE = """SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {0}
 AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') ORDER BY TABLE_NAME;"""
LOADING, EXCHANGING = "loading", "exchanging"
# Held by a session as long as the server works for it, also when its client is gone: whoever goes back waits for that.
_ALONE = "DO GET_LOCK('dbcontinuity restore', 600);\n"


class Swap:
    """One database to be exchanged."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides

    def plan(self, scope: Scope) -> list[Item]:
        """Return what would be done, a line for the whole and one for each table.

        :raises PrerequisiteError: if a foreign key of another database leads into it.
        """
        sides = self._sides
        database = scope.names[0]
        whole = Item(str(scope), SWAP, in_production=database in sides.databases(of_copy=False))
        outside = [row[0] or "" for row in sides.ask(_OUTSIDE.format(literal(database)))]
        if outside:
            raise PrerequisiteError(
                f"{scope} cannot be swapped: foreign keys of other databases lead into it: {some(outside)}. They would go on"
                " with the old tables.",
                "Restore its tables one by one (table:…).",
                {"dependents": outside[:100]},
            )
        if whole.in_production:
            whole.kept = kept_name(database, sides.order, NAME_LETTERS, in_bytes=False)
            sides.refuse_present(whole.kept)
            whole.notes.append(
                "Between the drop of the old triggers and the end of the exchange, a second or so, writes would pass without"
                " triggers: stop the applications for that time."
            )
            whole.notes.append(
                "Make a full backup afterwards: the log of the exchange may not replay onto an older one where tables lie"
                " outside the data directory (DATA DIRECTORY)."
            )
        whole.difference = Difference("tables")
        theirs = {table.name: table for table in tables(sides.ask, database)} if whole.in_production else {}
        items = [whole]
        ours = tables(sides.ask_copy, database)
        digests = sides.digests(ours, of_copy=True)
        there = sides.digests(
            [table for table in ours if table.name in theirs and theirs[table.name].definition == table.definition],
            of_copy=False,
        )
        for table in ours:
            pair = (digests[table], there.get(table, ""))
            items.append(self._table(table, theirs.get(table.name), whole, pair))
        for name in sorted(set(theirs) - {table.name for table in ours}):
            items.append(
                Item(
                    str(Scope(TABLE, (database, name))),
                    SWAP,
                    notes=["The table is only in production; the copy has none."],
                )
            )
        return items

    def _table(self, table: Table, there: Optional[Table], whole: Item, digests: tuple[str, str]) -> Item:
        item = Item(str(Scope(TABLE, (table.database, table.name))), SWAP, rows=rows_in(digests[0]))
        item.bytes = table.bytes
        item.in_production = there is not None
        whole.rows += item.rows
        whole.bytes += item.bytes
        total = whole.difference or Difference("tables")
        if there is None:
            total.only_copy += item.rows
            return item
        item.difference = self._sides.difference(table, there, item.notes, digests)
        total.only_production += item.difference.only_production
        total.only_copy += item.difference.only_copy
        total.changed += item.difference.changed
        return item

    # -- doing it --

    def carry_out(
        self, scope: Scope, items: Sequence[Item], journal: Journal, on_progress: Callable[[int], None]
    ) -> list[Item]:
        """Do what :meth:`plan` said.

        :raises ContinuityError: production's own is in its place then, and what was loaded is removed; if even that
            failed, the message says what is where.
        """
        database = scope.names[0]
        sweep(self._sides)
        under = unfinished_name(self._sides.order)
        journal.note(engine="mariadb", step=LOADING, database=database, unfinished=under, kept=items[0].kept)
        try:
            self._load(database, under, on_progress)
            self._exchange(database, under, items[0], journal)
        except BaseException as error:
            try:
                self.undo(journal)
            except ContinuityError as second:
                raise PipelineError(
                    f"The exchange of {database} failed ({error}), and could not be undone: {second.message} The old tables are in"
                    f" {database} or {items[0].kept}, the new ones in {under} or {database}; the texts of the old triggers,"
                    f" views and routines are in {journal.path}.",
                    "Run the same restore again: it undoes first.",
                ) from None
            raise
        journal.done()
        return list(items)

    def _load(self, database: str, under: str, on_progress: Callable[[int], None]) -> None:
        sides = self._sides
        found = tables(sides.ask_copy, database)
        totals = sides.digests(found, of_copy=True)
        views = _names(sides.ask_copy(f"{_LISTS['VIEW'].format(literal(database))};"))
        with sides.session() as session:
            try:
                session.say(
                    f"{SETTINGS}{_ALONE}CREATE DATABASE {quoted(under)} {self._charset(database)};\nUSE {quoted(under)};\n"
                    "SET SESSION foreign_key_checks = 0;\n"
                )
                session.pour([dumps.definitions(sides, database, views)])
                for table in found:
                    session.pour([dumps.rows(sides, table)], on_progress)
                    where = f"{quoted(under)}.{quoted(table.name)}"
                    session.say(SETTINGS + stop_unless(table, totals[table], "differs", where=where))
                session.say(f"SELECT {mark('done', literal('true'))};\n")
                if ("done", True) not in session.finish():
                    raise PipelineError("Production did not confirm that the database was loaded.", "Run again.")
            except Cut:
                raise session.ended() from None

    def _charset(self, database: str) -> str:
        row = self._sides.ask_copy(
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, SCHEMA_COMMENT FROM information_schema.SCHEMATA"
            f" WHERE SCHEMA_NAME = {literal(database)};"
        )[0]
        return f"CHARACTER SET {row[0]} COLLATE {row[1]} COMMENT {literal(row[2] or '')}"

    def _exchange(self, database: str, under: str, whole: Item, journal: Journal) -> None:
        sides = self._sides
        old = self._movable(database) if whole.in_production else []
        new = self._movable(under)
        journal.note(
            step=EXCHANGING,
            old_tables=old,
            new_tables=new,
            in_production=whole.in_production,
            programs=self._programs(database) if whole.in_production else [],
        )
        views = _names(sides.ask_copy(f"{_LISTS['VIEW'].format(literal(database))};"))
        with sides.session() as session:
            try:
                session.say(f"{SETTINGS}{_ALONE}SET SESSION foreign_key_checks = 0;\n")
                if whole.in_production:
                    session.say(f"CREATE DATABASE {quoted(whole.kept)} {self._charset(database)};\n")
                    session.say(self._dropped(database, journal.values["programs"]))
                    session.say(f"ALTER DATABASE {quoted(database)} {self._charset(database)};\n")
                else:
                    session.say(f"CREATE DATABASE {quoted(database)} {self._charset(database)};\n")
                session.say(_renamed(database, whole.kept, old, under, database, new))
                session.say(f"USE {quoted(database)};\n")
                session.pour([dumps.programs(sides, database)])
                if views:
                    session.pour([dumps.views_of(sides, database, views)])
                session.say(f"DROP DATABASE {quoted(under)};\n{SETTINGS}SELECT {mark('done', literal('true'))};\n")
                answer = session.finish()
            except Cut:
                raise session.ended() from None
        if ("done", True) not in answer:
            raise PipelineError("Production did not confirm the exchange.", "Run the same restore again.")

    def _movable(self, database: str) -> list[str]:
        return _names(self._sides.ask(_MOVABLE.format(literal(database))))

    # -- programs: what has to be dropped and made --

    def _programs(self, database: str) -> list[dict[str, str]]:
        """Return the texts of a database's triggers, routines, views and events on production."""
        found = []
        for kind, text_at in _KINDS.items():
            for name in _names(self._sides.ask(f"{_LISTS[kind].format(literal(database))};")):
                shown = self._sides.ask(f"SHOW CREATE {kind} {quoted(database)}.{quoted(name)};")[0]
                mode_at = {"TRIGGER": 1, "PROCEDURE": 1, "FUNCTION": 1, "EVENT": 1}.get(kind)
                found.append(
                    {
                        "kind": kind,
                        "name": name,
                        "text": shown[text_at] or "",
                        "mode": (shown[mode_at] or "") if mode_at is not None else "",
                        "zone": (shown[2] or "") if kind == "EVENT" else "",
                        "charset": shown[-4 if kind == "TRIGGER" else -3 if kind != "VIEW" else -2] or "utf8mb4",
                    }
                )
        return found

    @staticmethod
    def _dropped(database: str, programs: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"DROP {each['kind']} {quoted(database)}.{quoted(each['name'])};\n" for each in programs)

    def _make(self, session: Session, database: str, programs: Sequence[Mapping[str, str]]) -> None:
        session.say(f"USE {quoted(database)};\n")
        order = ["PROCEDURE", "FUNCTION", "VIEW", "TRIGGER", "EVENT"]
        for each in sorted(programs, key=lambda one: order.index(one["kind"])):
            zone = f"SET SESSION time_zone = {literal(each['zone'])};\n" if each["zone"] else ""
            session.say(
                f"SET NAMES {each['charset']};\nSET SESSION sql_mode = {literal(each['mode'])};\n{zone}"
                f"DELIMITER //dbc//\n{each['text']}//dbc//\nDELIMITER ;\n{SETTINGS}"
            )

    # -- going back --

    def undo(self, journal: Journal) -> Mapping[str, Any]:
        """Bring back what an interrupted exchange left: the old tables under their name, with their programs."""
        values = journal.values
        if not values:
            return {}
        sides = self._sides
        database, under, kept = str(values["database"]), str(values["unfinished"]), str(values["kept"])
        sides.ask(_ALONE)
        there = sides.databases(of_copy=False)
        with sides.session() as session:
            try:
                session.say(f"{SETTINGS}{_ALONE}SET SESSION foreign_key_checks = 0;\n")
                if values["step"] == EXCHANGING:
                    self._back(session, values, there)
                if kept and kept in there:
                    session.say(f"DROP DATABASE IF EXISTS {quoted(kept)};\n")
                session.say(f"DROP DATABASE IF EXISTS {quoted(under)};\nSELECT {mark('done', literal('true'))};\n")
                answer = session.finish()
            except Cut:
                raise session.ended() from None
        if ("done", True) not in answer:
            raise PipelineError("Production did not confirm that the exchange was undone.", "Run again.")
        journal.done()
        return {"undone": str(values["step"]), "database": database}

    def _back(self, session: Session, values: Mapping[str, Any], there: Sequence[str]) -> None:
        database, under, kept = str(values["database"]), str(values["unfinished"]), str(values["kept"])
        moved = (
            bool(self._movable(kept)) if kept and kept in there else not values["in_production"] and database in there
        )
        if moved and values["in_production"]:
            session.say(self._dropped(database, self._programs(database)))
            if under not in there:
                session.say(f"CREATE DATABASE {quoted(under)};\n")
            session.say(_renamed(database, under, values["new_tables"], kept, database, values["old_tables"]))
            self._make(session, database, values["programs"])
        elif moved:
            session.say(f"DROP DATABASE {quoted(database)};\n")
        elif values["in_production"]:
            present = {(each["kind"], each["name"]) for each in self._programs(database)}
            missing = [each for each in values["programs"] if (each["kind"], each["name"]) not in present]
            if any(each["kind"] == "TRIGGER" for each in missing):
                # One that is made again fires after those that stayed: all are, in their order.
                triggers = [each for each in values["programs"] if each["kind"] == "TRIGGER"]
                left = [each for each in triggers if ("TRIGGER", each["name"]) in present]
                session.say(self._dropped(database, left))
                missing = [*(each for each in missing if each["kind"] != "TRIGGER"), *triggers]
            self._make(session, database, missing)


def _renamed(one: str, to: str, names: Sequence[str], two: str, back: str, others: Sequence[str]) -> str:
    moves = [f"{quoted(one)}.{quoted(name)} TO {quoted(to)}.{quoted(name)}" for name in names]
    moves += [f"{quoted(two)}.{quoted(name)} TO {quoted(back)}.{quoted(name)}" for name in others]
    return f"RENAME TABLE {', '.join(moves)};\n" if moves else ""


def _names(rows: Sequence[Sequence[Optional[str]]]) -> list[str]:
    return [row[0] or "" for row in rows]
