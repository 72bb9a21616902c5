# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""Tables in place: the rows that differ are exchanged in one transaction, and every foreign key is looked at before it ends.

The session takes the role ``replica``: no trigger fires, no rule applies, nothing cascades. The table keeps its identity,
so views, keys and rights stay. It must still hold the rows the difference was taken from, and afterwards hold exactly the
copy's; otherwise, or where rows would refer to none, the transaction rolls back.

A table that is gone is made anew in the same transaction, with the keys, views and publications that went with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from ...errors import ContinuityError, PipelineError, PrerequisiteError
from ...process import Stage
from ..partial import NOTHING, RECREATE, Item, Unsettled
from ..production import Cut, Session
from .recreate import Recreation
from .sides import Sides, order_of, stop_unless, words_of
from .tables import SETTINGS, ForeignKey, Table, connect, foreign_keys, literal, mark, quoted

_MINE = "(pg_current_xact_id()::text::numeric % 4294967296)::text"
_TRY_AGAIN = ("deadlock detected", "lock timeout", "could not serialize")
_UNTOUCHED = "Production was not changed."


class Exchange:
    """Tables of one database, exchanged together."""

    def __init__(self, sides: Sides, pairs: Sequence[tuple[Item, Table]]) -> None:
        self._sides = sides
        self._pairs = [pair for pair in pairs if pair[0].action != NOTHING]
        self._all = list(pairs)
        self._items = {table.sql: item for item, table in pairs}

    def carry_out(self, on_progress: Callable[[int], None]) -> list[Item]:
        """Exchange; tried anew where somebody changed a row meanwhile.

        :raises PrerequisiteError: if rows would refer to none and that is not accepted.
        :raises PipelineError: for anything else; in each case production was not changed.
        """
        if not self._pairs:
            return [item for item, _table in self._all]
        database = self._pairs[0][1].database
        gone = [table for item, table in self._pairs if item.action == RECREATE]
        present = [table for item, table in self._pairs if item.action != RECREATE]
        recreation = Recreation(self._sides, database, gone) if gone else None
        for attempt in range(self._sides.order.attempts):
            if attempt:
                for table in present:
                    self._renew(table)
            try:
                self._once(database, present, recreation, on_progress)
                return [item for item, _table in self._all]
            except Unsettled:
                raise
            except PipelineError as error:
                again = words_of(error, "changed") or any(words in error.message for words in _TRY_AGAIN)
                if not again or attempt + 1 == self._sides.order.attempts:
                    raise self._explained(error) from None
        raise AssertionError("an attempt returns or raises")

    def _renew(self, table: Table) -> None:
        item = self._items[table.sql]
        item.difference = self._sides.compare(table, self._sides.lay(table))

    def _explained(self, error: PipelineError) -> PipelineError:
        if words_of(error, "changed") or any(words in error.message for words in _TRY_AGAIN):
            return PipelineError(
                f"Others changed the table meanwhile, or hold locks on it: {error.message} {_UNTOUCHED}",
                "Try again; if it happens again, stop the application that writes to it for the time of the restore.",
                error.details,
            )
        return PipelineError(f"{error.message} {_UNTOUCHED}", error.remedy, error.details)

    def _once(
        self,
        database: str,
        present: Sequence[Table],
        recreation: Recreation | None,
        on_progress: Callable[[int], None],
    ) -> None:
        sides = self._sides
        laid = {table: sides.lay(table) for table in present}
        gone = recreation.tables if recreation else ()
        keys = self._keys(database, [*present, *gone], recreation)
        before = {table: sides.laid_totals(table, number) for table, number in laid.items()}
        after = {table: sides.totals(table, of_copy=True) for table in (*present, *gone)}
        committing = False
        with sides.session() as session:
            try:
                session.say(f"{connect(database)}BEGIN;\nSET LOCAL lock_timeout = '{sides.order.lock_seconds}s';\n")
                if present:
                    session.say("SET LOCAL session_replication_role = replica;\n")
                    session.say(
                        f"LOCK TABLE {order_of([table.source for table in present])} IN SHARE ROW EXCLUSIVE MODE;\n"
                    )
                if recreation is not None:
                    session.say("SET LOCAL session_replication_role = origin;\n")
                    session.pour([recreation.dump()], on_progress)
                    session.say(SETTINGS)
                    if present:
                        session.say("SET LOCAL session_replication_role = replica;\n")
                for table in present:
                    self._rows(session, table, laid[table], before[table], on_progress)
                for table, wanted in after.items():
                    session.say(stop_unless(f"({table.totals}) = {literal(wanted)}", "differs"))
                self._validate(session, keys, {table.ident for table in (*present, *gone)})
                if recreation is not None:
                    session.say("SET LOCAL session_replication_role = origin;\n")
                    session.say(recreation.afterwards())
                for table in present:
                    session.say(_sequences(table))
                last = f"COMMIT;\nSELECT {mark('done', 'true')};\n"
                committing = True
                session.say(last)
                if ("done", True) not in session.finish():
                    raise PipelineError("Production did not confirm the exchange.", "")
            except Cut:
                self._ended(session, session.ended(), after if committing else {})
            except PipelineError as error:
                self._ended(session, error, after if committing else {})
        self._note_orphans(session)

    def _ended(self, session: Session, error: PipelineError, after: Mapping[Table, str]) -> None:
        """Return if the exchange was made in spite of a failure.

        :param after: what the tables hold then; empty where COMMIT was not sent.
        :raises Unsettled: if nobody can tell.
        :raises ContinuityError: the failure itself; production was not changed.
        """
        self._note_orphans(session)
        stopped = any(words_of(error, word) for word in ("changed", "differs", "orphans"))
        if ("done", True) not in session.marks() and (not after or stopped or not self._made(error, after)):
            raise self._judged(error)

    def _made(self, error: PipelineError, after: Mapping[Table, str]) -> bool:
        """Return whether production holds what it should after the exchange, waiting for a transaction that still ends."""
        sides = self._sides
        try:
            for table, wanted in after.items():
                if sides.production_table(table) is None:
                    return False
                wait = f"BEGIN; LOCK TABLE {table.source} IN SHARE MODE; {table.totals}; COMMIT;"
                if [wanted] not in sides.ask(wait, table.database):
                    return False
        except ContinuityError as second:
            raise Unsettled(error.message, second.message) from None
        return True

    def _keys(self, database: str, touched: Sequence[Table], recreation: Recreation | None) -> list[ForeignKey]:
        names = {table.ident for table in touched}
        found = [
            key
            for key in foreign_keys(self._sides.ask, database)
            if key.validated and (key.child in names or key.parent in names)
        ]
        return [*found, *(recreation.keys if recreation is not None else ())]

    def _rows(
        self, session: Session, table: Table, number: str, before: str, on_progress: Callable[[int], None]
    ) -> None:
        """Exchange one table's rows."""
        session.say(stop_unless(f"({table.totals}) = {literal(before)}", "changed"))
        session.say("CREATE TEMPORARY TABLE dbc_gone (h text, n bigint) ON COMMIT DROP;\nCOPY dbc_gone FROM STDIN;\n")
        session.pour([self._gone(table, number)], on_progress)
        session.say(
            "\\.\n"
            f"DELETE FROM {table.source} AS t USING (SELECT tableoid AS o, ctid AS c, h, row_number() OVER (PARTITION BY h)"
            f" AS n FROM (SELECT tableoid, ctid, {table.digest} AS h FROM {table.source}) AS r"
            " WHERE h IN (SELECT g.h FROM pg_temp.dbc_gone AS g)) AS r"
            " JOIN pg_temp.dbc_gone AS g ON g.h = r.h AND r.n <= g.n WHERE t.tableoid = r.o AND t.ctid = r.c;\n"
            f"DROP TABLE pg_temp.dbc_gone;\nCOPY {table.sql} ({table.names}) FROM STDIN;\n"
        )
        session.pour([self._come(table, number)], on_progress)
        session.say("\\.\n")

    def _gone(self, table: Table, number: str) -> Stage:
        query = (
            "SELECT n.h, n.c - coalesce(c.c, 0)"
            f" FROM (SELECT h, count(*) AS c FROM {number} GROUP BY h) n"
            f" LEFT JOIN (SELECT {table.digest} AS h, count(*) AS c FROM {table.source} GROUP BY 1) c ON c.h = n.h"
            " WHERE n.c > coalesce(c.c, 0)"
        )
        return self._sides.print_of(query, table.database, "gone")

    def _come(self, table: Table, number: str) -> Stage:
        columns = ", ".join(f"c.{quoted(column['name'])}" for column in table.columns)
        query = (
            f"SELECT {columns} FROM (SELECT t.*, h AS dbc_h, row_number() OVER (PARTITION BY h) AS dbc_n"
            f" FROM (SELECT *, {table.digest} AS h FROM {table.source}) AS t) AS c"
            f" LEFT JOIN (SELECT h, count(*) AS n FROM {number} GROUP BY h) AS p ON p.h = c.dbc_h"
            " WHERE c.dbc_n > coalesce(p.n, 0)"
        )
        return self._sides.print_of(query, table.database, "come")

    # -- constraints --

    def _validate(self, session: Session, keys: Sequence[ForeignKey], exchanged: set[str]) -> None:
        """Let the transaction end unless every row refers to one, or that is accepted."""
        examples = int(self._sides.order.examples)
        session.say("CREATE TEMPORARY TABLE dbc_orphans (j jsonb, n bigint) ON COMMIT DROP;\n")
        for key in keys:
            if key.child in exchanged and key.child != key.parent:
                # Whoever deletes a row of the parent now does not see the rows this transaction brings.
                session.say(f"DO {literal(_hold(key))};\n")
            session.say(
                "INSERT INTO pg_temp.dbc_orphans SELECT jsonb_build_object('constraint', "
                f"{literal(key.label)}, 'rows', count(*), 'keys', (SELECT jsonb_agg(e) FROM (SELECT {key.example} AS e"
                f" {key.orphans} ORDER BY 1 LIMIT {examples}) x)), count(*) {key.orphans};\n"
            )
        session.say(f"SELECT {mark('orphans', 'j')} FROM pg_temp.dbc_orphans WHERE n > 0;\n")
        if not self._sides.order.accept_orphans:
            session.say(stop_unless("(SELECT coalesce(sum(n), 0) FROM pg_temp.dbc_orphans) = 0", "orphans"))

    def _note_orphans(self, session: Session) -> None:
        found = [value for word, value in session.marks() if word == "orphans"]
        for item, _table in self._pairs:
            item.orphans = []
        if found and self._pairs:
            self._pairs[0][0].orphans = found

    def _judged(self, error: PipelineError) -> Exception:
        if not words_of(error, "orphans"):
            return error
        found = self._pairs[0][0].orphans
        said = "; ".join(f"{each['rows']} in {each['constraint']} ({', '.join(each['keys'] or [])})" for each in found)
        return PrerequisiteError(
            f"After the exchange rows would refer to rows that are not there: {said}. {_UNTOUCHED}",
            "Restore the tables they refer to in the same restore, or have the instruction accept them (accept_orphans).",
            {"orphans": json.loads(json.dumps(found))},
        )


def _hold(key: ForeignKey) -> str:
    """Return the block that keeps the rows which new rows refer to from being deleted until the end."""
    return (
        f"BEGIN PERFORM 1 FROM {key.parent_source} AS p WHERE EXISTS (SELECT FROM {key.child_source} AS c"
        f" WHERE c.xmin::text = {_MINE} AND {key.joined}) FOR KEY SHARE OF p; END"
    )


def _sequences(table: Table) -> str:
    """Return statements that move the sequences that feed a table forward, never back."""
    return "".join(
        f"SELECT setval({literal(each['sequence'])}, m) FROM (SELECT max({quoted(each['column'])})::bigint AS m FROM"
        f" {table.source}) t, {each['sequence']} s WHERE m > s.last_value OR (m = s.last_value AND NOT s.is_called);\n"
        for each in table.sequences
    )
