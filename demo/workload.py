# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 (its SQL is made of its own numbers)
"""A small writer beside a backup, with a journal that says which transactions must be there at a given moment.

    with Workload(server, journal) as work:      # or: python -m demo.workload BASE JOURNAL --seconds 20
        work.wait_for(50)
    assert not check(copy, read_journal(journal), moment)

Each transaction inserts a visit, its prescription and two laboratory results, and now and then changes and deletes
an earlier one; then, outside the transaction, a row goes into the access log (MariaDB: MyISAM). A line is written to
the journal only after the server answered, so a line marked committed is a promise that a backup has to keep.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

from demo.clients import Client, Session
from demo.process import ServerError
from demo.server import Server
from demo.servers import attach

DELETE_EVERY = 10
UPDATE_EVERY = 3


@dataclass(frozen=True)
class Entry:
    """One transaction. Between `begun` and `ended` it became durable; `position` was read right after the commit."""

    seq: int
    visit: str
    begun: str
    ended: str
    committed: bool  # False: no answer came, so it may be there or not
    position: str  # MariaDB: its GTID; PostgreSQL: an LSN at or behind its commit record
    updated: str | None = None
    deleted: str | None = None
    error: str | None = None


def read_journal(path: Path) -> list[Entry]:
    """All entries in order; a line that was cut off by a kill is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(Entry(**json.loads(line)))
        except ValueError:
            break
    return entries


def now() -> str:
    """UTC, ISO 8601, microseconds: as text these sort by time."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


class Workload:
    """Runs in a thread; it survives the server's death and goes on when that is back."""

    def __init__(
        self, server: Server | Client, journal: Path, *, rate: float = 20, seconds: float | None = None, run: str = "WL"
    ) -> None:
        self.journal, self.rate, self.seconds, self.run = journal, rate, seconds, run
        self._client = server.client if isinstance(server, Server) else server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="workload", daemon=True)
        before = read_journal(journal) if journal.exists() else []
        self._seq = max((entry.seq for entry in before), default=0)
        gone = {entry.deleted for entry in before}
        self._alive = [entry.visit for entry in before if entry.committed and entry.visit not in gone]
        self.committed = 0
        self.failure: BaseException | None = None

    def start(self) -> Workload:
        self._thread.start()
        return self

    def stop(self) -> int:
        """End after the transaction in hand; how many were committed. Raises what made it fail, if anything did."""
        self._stop.set()
        return self.wait()

    def wait(self) -> int:
        """Until its seconds are over."""
        self._thread.join()
        if self.failure is not None:
            raise ServerError(f"the workload failed: {self.failure}") from self.failure
        return self.committed

    def wait_for(self, committed: int, seconds: float = 120) -> None:
        """Until this many transactions are committed."""
        deadline = time.monotonic() + seconds
        while self.committed < committed:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise ServerError(f"the workload made {self.committed} of {committed} transactions: {self.failure}")
            time.sleep(0.01)

    def wait_for_more(self, count: int) -> None:
        """Until this many more are committed than now: whatever was done meanwhile took its time."""
        self.wait_for(self.committed + count)

    def __enter__(self) -> Workload:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _work(self) -> None:
        try:
            with open(self.journal, "a", encoding="utf-8") as journal:
                self._loop(journal)
        except BaseException as error:  # noqa: BLE001 (handed to whoever stops or waits)
            self.failure = error

    def _loop(self, journal: TextIO) -> None:
        session: Session | None = None
        started = due = time.monotonic()
        try:
            while not self._stop.is_set():
                if self.seconds is not None and time.monotonic() - started >= self.seconds:
                    return
                if session is None:
                    session = self._client.session("simrs")
                entry = self._transaction(session)
                journal.write(json.dumps(asdict(entry)) + "\n")
                journal.flush()
                if entry.committed:
                    self.committed += 1
                else:  # the server went away, or refused: try again with a new connection
                    session.close()
                    session = None
                    self._stop.wait(0.2)
                due = max(due + 1 / self.rate, time.monotonic() - 1)
                self._stop.wait(max(0.0, due - time.monotonic()))
        finally:
            if session is not None:
                session.close()

    def _transaction(self, session: Session) -> Entry:
        self._seq += 1
        visit = f"{self.run}/{self._seq:08d}"
        updated = self._alive[-1] if self._alive and self._seq % UPDATE_EVERY == 0 else None
        deleted = self._alive[0] if len(self._alive) > 5 and self._seq % DELETE_EVERY == 0 else None
        begun = now()
        try:
            answer = session.run(transaction(self._client.engine, self._seq, visit, updated, deleted), timeout=120)
        except ServerError as error:
            return Entry(self._seq, visit, begun, now(), False, "", updated, deleted, str(error)[:200])
        ended = now()
        self._alive.append(visit)
        if deleted is not None:
            self._alive.remove(deleted)
        return Entry(self._seq, visit, begun, ended, True, answer[-1][0], updated, deleted)


def transaction(engine: str, seq: int, visit: str, updated: str | None, deleted: str | None) -> str:
    """The SQL of one transaction; its last row is the position in the server's log."""
    patient, day = f"{1 + seq % 100:08d}", f"2024-{1 + seq % 12:02d}-{1 + seq % 28:02d}"
    telephone = f"'+62{seq:09d}'" if engine == "mariadb" else f"ARRAY['+62{seq:09d}']"
    column = "no_telp" if engine == "mariadb" else "telp"
    lines = [
        "START TRANSACTION",
        (
            "INSERT INTO kunjungan (no_rawat, no_rm, kd_poli, kd_dokter, waktu_daftar, keluhan, biaya) VALUES"
            f" ('{visit}', '{patient}', 'P{seq % 20:03d}', 'D{seq % 60:04d}', '{day} 08:00:00', 'beban {seq}', {seq}.25)"
        ),
        f"INSERT INTO resep (no_resep, no_rawat, waktu) VALUES ('{visit}', '{visit}', '{day} 09:00:00')",
        (
            "INSERT INTO resep_detail (no_resep, kode_brng, jumlah, aturan_pakai) VALUES"
            f" ('{visit}', 'B{seq % 500:05d}', {1 + seq % 9}, '3 x 1')"
        ),
        (
            "INSERT INTO hasil_laboratorium (tgl_periksa, no_rawat, pemeriksaan, nilai, nilai_teliti) VALUES"
            f" ('{day}', '{visit}', 'Hemoglobin', {seq % 1000}.5, {seq} / 7.0),"
            f" ('{day}', '{visit}', 'Leukosit', NULL, {seq} / 3.0)"
        ),
    ]
    if updated is not None:
        lines.append(f"UPDATE kunjungan SET status = 'Selesai' WHERE no_rawat = '{updated}'")
        lines.append(f"UPDATE pasien SET {column} = {telephone} WHERE no_rm = '{patient}'")
    if deleted is not None:
        lines.append(f"DELETE FROM hasil_laboratorium WHERE no_rawat = '{deleted}'")
        lines.append(f"DELETE FROM kunjungan WHERE no_rawat = '{deleted}'")
    lines.append("COMMIT")
    position = "SELECT @@last_gtid" if engine == "mariadb" else "SELECT pg_current_wal_insert_lsn()"
    access = f"INSERT INTO log_akses (pengguna, aksi) VALUES ('beban', 'simpan {visit}')"
    # The position is asked for before the write outside the transaction, and shown last.
    if engine == "mariadb":
        return ";\n".join([*lines, "SET @posisi = @@last_gtid", access, "SELECT @posisi"])
    return ";\n".join([*lines, access, position])


def check(server: Server | Client, entries: list[Entry], moment: str | None = None, run: str = "WL") -> list[str]:
    """What a copy of that moment (all of the journal, without one) lacks, has too much, or has only in part."""
    rows = server.query(
        "SELECT k.no_rawat, k.status, (SELECT COUNT(*) FROM resep r JOIN resep_detail d ON d.no_resep = r.no_resep"
        " WHERE r.no_rawat = k.no_rawat), (SELECT COUNT(*) FROM hasil_laboratorium h WHERE h.no_rawat = k.no_rawat)"
        f" FROM kunjungan k WHERE k.no_rawat LIKE '{run}/%'",
        "simrs",
    )
    there = {str(row[0]): row for row in rows}
    until = moment or "9"
    done = [entry for entry in entries if entry.committed and entry.ended <= until]
    begun = [entry for entry in entries if entry.begun <= until]
    maybe_deleted = {entry.deleted for entry in begun}
    surely_deleted = {entry.deleted for entry in done}
    problems = [
        f"{entry.visit}, committed at {entry.ended}, is missing"
        for entry in done
        if entry.visit not in there and entry.visit not in maybe_deleted
    ]
    known = {entry.visit for entry in begun}
    problems += [f"{visit} is there, though it was not begun by {until}" for visit in sorted(set(there) - known)]
    problems += [f"{visit} is there, though it was deleted" for visit in sorted(set(there) & surely_deleted - {None})]
    for entry in done:
        if entry.updated in there and there[entry.updated][1] != "Selesai":
            problems.append(f"{entry.updated} lacks its update, committed at {entry.ended}")
    for visit, row in sorted(there.items()):
        if row[2:] != ["1", "2"]:
            problems.append(f"{visit} is there only in part: {row[2]} of 1 prescriptions, {row[3]} of 2 results")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo.workload", description="Write until the time is over or Ctrl-C."
    )
    parser.add_argument("base", type=Path, help="the folder of a demo server")
    parser.add_argument("journal", type=Path, help="JSON lines, one a transaction; appended to")
    parser.add_argument("--seconds", type=float, help="how long (default: until stopped)")
    parser.add_argument("--rate", type=float, default=20, help="transactions a second (default: %(default)s)")
    chosen = parser.parse_args()
    work = Workload(attach(chosen.base), chosen.journal, rate=chosen.rate, seconds=chosen.seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: work._stop.set())
    print(f"{work.start().wait()} transactions committed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
