# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - names are quoted by `quoted`, values by `literal`
"""Tables in place: the rows that differ are exchanged in one transaction, and every foreign key is looked at before it ends.

Statements would fire triggers, and MariaDB has no switch for that in a session. Row events do not fire them, so the
exchange is written as row events by the copy's server: there a table of the same name holds the rows that go, and one
transaction deletes them and inserts those that come. Production applies exactly these events (BINLOG) in one transaction
of its own, with the table locked: it must hold the rows that the difference was taken from, and afterwards exactly the
copy's. The events carry the flag that no foreign key is checked, so nothing cascades; orphans are counted before COMMIT.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...errors import ContinuityError, PipelineError, PrerequisiteError
from ...process import Stage, write_through
from ..partial import NOTHING, Item, Unsettled
from ..production import Cut, Session, fetch
from ..program import program_stage
from . import binlog_statements
from .orphans import Orphans
from .sides import WORK, Sides, order_of, stop_unless, words_of
from .tables import SETTINGS, Table, literal, mark, quoted

_TRY_AGAIN = ("1205", "1213", "Deadlock found", "Lock wait timeout")
_UNTOUCHED = "Production was not changed."


class Exchange:
    """Tables exchanged together."""

    def __init__(self, sides: Sides, pairs: Sequence[tuple[Item, Table]]) -> None:
        self._sides = sides
        self._all = list(pairs)
        self._pairs = [pair for pair in pairs if pair[0].action != NOTHING]

    def carry_out(self, on_progress: Callable[[int], None]) -> list[Item]:
        """Exchange; tried anew where somebody changed a row meanwhile.

        :raises PrerequisiteError: if rows would refer to none and that is not accepted, or events would fire triggers.
        :raises PipelineError: for anything else; in each case production was not changed.
        """
        if not self._pairs:
            return [item for item, _table in self._all]
        self._refuse_settings()
        try:
            return self._attempts(on_progress)
        finally:
            self._sides.move_back()

    def _attempts(self, on_progress: Callable[[int], None]) -> list[Item]:
        for attempt in range(self._sides.order.attempts):
            try:
                self._once(on_progress)
                return [item for item, _table in self._all]
            except Unsettled:
                raise
            except PipelineError as error:
                again = words_of(error, "changed") or any(words in error.message for words in _TRY_AGAIN)
                if not again:
                    raise PipelineError(f"{error.message} {_UNTOUCHED}", error.remedy, error.details) from None
                if attempt + 1 == self._sides.order.attempts:
                    raise PipelineError(
                        f"Others changed the table meanwhile, or hold locks on it: {error.message} {_UNTOUCHED}",
                        "Try again; if it happens again, stop the application that writes to it for the time of the restore.",
                        error.details,
                    ) from None
        raise AssertionError("an attempt returns or raises")

    def _refuse_settings(self) -> None:
        row = self._sides.ask(
            "SELECT @@GLOBAL.slave_run_triggers_for_rbr, @@GLOBAL.slave_exec_mode, @@GLOBAL.read_only;"
        )[0]
        if row[0] != "NO" or row[1] != "STRICT":
            raise PrerequisiteError(
                "Production has slave_run_triggers_for_rbr"
                f" = {row[0]} and slave_exec_mode = {row[1]}: with these, row events fire triggers or pass over rows.",
                "Set them to NO and STRICT for the time of the restore, or load the table beside (mode: beside).",
            )

    def _once(self, on_progress: Callable[[int], None]) -> None:
        sides = self._sides
        mine = order_of([table for _item, table in self._pairs])
        before: dict[Table, str] = {}
        events: dict[Table, tuple[Path, int]] = {}
        for table in mine:
            sides.move(table)
            now, copy = sides.lay(table)
            before[table] = sides.laid_totals(now)
            self._item(table).difference = sides.compare(table, now, copy)
            events[table] = self._write_events(table, now, copy)
        after = {table: sides.copy_totals(table) for table in mine}
        orphans = Orphans(sides, mine)
        sequences = self._sequences(mine)
        path, _position = next(iter(events.values()))
        committing = False
        with sides.session() as session:
            try:
                session.say(
                    f"{SETTINGS}SET SESSION innodb_lock_wait_timeout = {int(sides.order.lock_seconds)},"
                    f" lock_wait_timeout = {int(sides.order.lock_seconds)};\n"
                    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n"
                )
                session.pour([self._statements(path, 0)])
                session.say("START TRANSACTION;\n")
                for table in mine:
                    session.say(stop_unless(table, before[table], "changed", locking=True))
                for table in mine:
                    session.pour([self._statements(*events[table])], on_progress)
                for table in mine:
                    session.say(stop_unless(table, after[table], "differs", locking=True))
                session.say(orphans.script({table.sql for table in mine}))
                last = f"COMMIT;\nSELECT {mark('done', literal('true'))};\n{sequences}"
                committing = True
                session.say(last)
                if ("done", True) not in session.finish():
                    raise PipelineError("Production did not confirm the exchange.", "")
            except Cut:
                self._ended(session, session.ended(), orphans, after if committing else {})
            except PipelineError as error:
                self._ended(session, error, orphans, after if committing else {})
        self._note(session)

    def _ended(self, session: Session, error: PipelineError, orphans: Orphans, after: Mapping[Table, str]) -> None:
        """Return if the exchange was made in spite of a failure.

        :param after: what the tables hold then; empty where COMMIT was not sent.
        :raises Unsettled: if nobody can tell.
        :raises ContinuityError: the failure itself; production was not changed.
        """
        if ("done", True) in session.marks():
            self._pairs[0][0].notes.append(f"The rows were exchanged; moving sequences failed then: {error.message}")
            return
        stopped = any(words_of(error, word) for word in ("changed", "differs", "orphans"))
        if not after or stopped or not self._made(error, after):
            raise orphans.judged(error, self._note(session), _UNTOUCHED)

    def _made(self, error: PipelineError, after: Mapping[Table, str]) -> bool:
        """Return whether production holds what it should after the exchange, waiting for a transaction that still ends."""
        try:
            for table, wanted in after.items():
                rows = self._sides.ask(f"SELECT {table.totals} FROM {table.sql} LOCK IN SHARE MODE;")
                if rows[0][0] != wanted:
                    return False
        except ContinuityError as second:
            raise Unsettled(error.message, second.message) from None
        return True

    def _item(self, table: Table) -> Item:
        return next(item for item, each in self._pairs if each == table)

    def _note(self, session: Session) -> list[dict[str, object]]:
        found = [value for word, value in session.marks() if word == "orphans" and value.get("rows")]
        for item, _table in self._pairs:
            item.orphans = []
        self._pairs[0][0].orphans = found
        return found

    # -- the events --

    def _write_events(self, table: Table, now: str, copy: str) -> tuple[Path, int]:
        """Let the copy's server write the exchange as row events; return its log and where they begin."""
        sides = self._sides
        source = sides.rows_of(table)
        work = f"{WORK}.gone_{sides.number(table)}"
        come = f"{WORK}.come_{sides.number(table)}"
        form = "(h CHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB"
        surplus = (
            "SELECT a.h, a.n - IFNULL(b.n, 0) FROM (SELECT h, COUNT(*) AS n FROM {0} GROUP BY h) AS a"
            " LEFT JOIN (SELECT h, COUNT(*) AS n FROM {1} GROUP BY h) AS b ON b.h = a.h WHERE a.n > IFNULL(b.n, 0)"
        )
        sides.ask_copy(
            "SET SESSION foreign_key_checks = 0;"
            f"CREATE OR REPLACE TABLE {work} {form}; CREATE OR REPLACE TABLE {come} {form};"
            f"INSERT INTO {work} {surplus.format(now, copy)}; INSERT INTO {come} {surplus.format(copy, now)};"
            f"DROP TABLE IF EXISTS {table.sql}; CREATE TABLE {table.sql} LIKE {source};"
        )
        self._fetch_gone(table, work)
        position = sides.client.query("FLUSH BINARY LOGS; SHOW MASTER STATUS;")[0]
        if table.key:
            picked = f"FROM {source} AS t JOIN {come} AS w ON w.h = {table.digest}"
        else:
            # As many of equal rows as production lacks.
            picked = (
                f"FROM (SELECT {table.names}, {table.digest} AS dbc_h, ROW_NUMBER() OVER (PARTITION BY {table.digest}) AS"
                f" dbc_n FROM {source}) AS t JOIN {come} AS w ON w.h = t.dbc_h AND t.dbc_n <= w.n"
            )
        columns = ", ".join(f"t.{quoted(column.name)}" for column in table.columns)
        sides.client.query(
            f"{SETTINGS}SET SESSION binlog_format = 'ROW', binlog_row_image = 'FULL', binlog_annotate_row_events = 0,"
            " foreign_key_checks = 0;"
            f"START TRANSACTION; DELETE FROM {table.sql};"
            f"INSERT INTO {table.sql} ({table.names}) SELECT {columns} {picked}; COMMIT; FLUSH BINARY LOGS;",
            timeout=24 * 3600.0,
        )
        return sides.server.folder / "binlog" / str(position[0]), int(position[1] or 0)

    def _fetch_gone(self, table: Table, work: str) -> None:
        """Bring production's rows that are to go, whole, into the copy's table of the same name."""
        sides = self._sides
        here = f"{quoted(table.database)}.dbc_gone_{sides.order.word}"
        question = sides.workdir / "gone.sql"
        values = "CONCAT('(''', h, ''',', n, ')')"
        listed = (
            f"SELECT CONCAT('INSERT INTO ', {literal(here)}, ' VALUES ', GROUP_CONCAT({values}), ';') FROM (SELECT h, n,"
            f" (ROW_NUMBER() OVER () - 1) DIV 1000 AS b FROM {work}) AS x GROUP BY b;"
        )
        nulls = ", ".join(f"ISNULL(t.{quoted(column.name)})" for column in table.columns)
        sent = ", ".join(column.sent(f"t.{quoted(column.name)}") for column in table.columns)
        ask = sides.workdir / "list.sql"
        ask.write_text(SETTINGS + listed, encoding="utf-8")
        written = sides.workdir / "list.txt"
        command = (*sides.program("mariadb").argv, "--batch", "--raw", "--skip-column-names")
        with ask.open("rb") as commands:
            write_through([Stage(command, label="mariadb")], written, stdin=commands, mode=0o600)
        with question.open("wb") as script, written.open("rb") as lines:
            script.write(
                f"{SETTINGS}SET SESSION sql_log_bin = 0;\nCREATE TEMPORARY TABLE {here} (h CHAR(32) CHARACTER SET utf8mb4"
                " COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, n BIGINT);\n".encode()
            )
            shutil.copyfileobj(lines, script)
            script.write(
                "SET SESSION character_set_results = NULL;\n"
                f"SELECT CONCAT({nulls}), {sent} FROM {table.sql} AS t JOIN {here} AS w ON w.h = {table.digest};\n"
                f"DROP TEMPORARY TABLE {here};\n".encode()
            )
        written.unlink()
        variables = ", ".join(f"@v{number}" for number in range(len(table.columns)))
        taken = ", ".join(
            f"{quoted(column.name)} = IF(SUBSTR(@n, {number + 1}, 1) = '1', NULL, {column.taken(f'@v{number}')})"
            for number, column in enumerate(table.columns)
        )
        load = (
            "SET SESSION foreign_key_checks = 0;"
            f"LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE {table.sql} CHARACTER SET binary (@n, {variables}) SET {taken};"
        )
        fetch(sides.channel, sides.instance, question, sides.load_stage(load))
        if not table.key:
            # A row that is there several times came as often as production has it.
            surplus = (
                f"SELECT COUNT(*) - w.n FROM {table.sql} AS t JOIN {work} AS w ON w.h = {table.digest} GROUP BY w.h, w.n"
                " HAVING COUNT(*) > w.n LIMIT 1"
            )
            if sides.ask_copy(f"{surplus};"):
                self._trim(table, work)

    def _trim(self, table: Table, work: str) -> None:
        sides = self._sides
        for digest, count in sides.ask_copy(f"SELECT h, n FROM {work};"):
            total = int(
                sides.ask_copy(f"SELECT COUNT(*) FROM {table.sql} WHERE {table.digest} = '{digest}';")[0][0] or 0
            )
            if total > int(count or 0):
                sides.ask_copy(
                    f"DELETE FROM {table.sql} WHERE {table.digest} = '{digest}' LIMIT {total - int(count or 0)};"
                )

    def _statements(self, path: Path, position: int) -> Stage:
        return program_stage(
            binlog_statements.__name__, self._sides.workdir, str(path), str(position), label="the exchange's row events"
        )

    def _sequences(self, mine: Sequence[Table]) -> str:
        """Return statements that move the sequences of defaults forward; SETVAL never moves one back."""
        made = []
        for table in mine:
            for column, sequence in table.sequences:
                source = self._sides.rows_of(table)
                highest = self._sides.ask_copy(f"SELECT MAX({quoted(column)}) FROM {source};")[0][0]
                if highest is not None:
                    made.append(f"SELECT SETVAL({sequence}, {int(highest)});\n")
        return "".join(made)
