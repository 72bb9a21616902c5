# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what was done, in records chained by hash, fsynced one by one.

One file a month, ``YYYY-MM.jsonl``, one record a line. Each record holds the hash of the one before, across files,
and its own; the newest record's number and hash are the *head*. A changed line shows itself; a cut-off end is found
against a head that was written down elsewhere. Appending reads only the newest file's end, so it costs the same
with ten records and ten million.

A last line that is damaged does not end the ledger: the next record is linked to the line's bytes as they stand and
says so (``previous_damaged``). The line is named by every later verification; it can never pass for whole again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from .clock import clock_synchronised, iso, stamp, utc_now
from .durable import fsync_directory, make_directory, write_file, writing_to
from .errors import LedgerError
from .ledger_lines import (
    LINE_LIMIT_BYTES,
    Damage,
    Span,
    canonical,
    line_problem,
    lines_forward,
    read_span,
    record_hash,
    released,
    shaped,
    spans_backwards,
    whole_records,
)

LEDGER_VERSION = 1
GENESIS = "0" * 64
KINDS = ("started", "finished", "event")
_FILE = re.compile(r"\d{4}-\d{2}\.jsonl", re.ASCII)


@dataclass(frozen=True)
class Head:
    """The newest record's number and hash; what is printed and anchored elsewhere."""

    sequence: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Return a head as printed by ``str()``.

        :raises LedgerError: if the text is no head.
        """
        match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text.strip())
        if not match:
            raise LedgerError(f"{text!r} is no ledger head.", "It is printed as NUMBER:SHA256 by ledger_info.")
        return cls(int(match.group(1)), match.group(2))


@dataclass(frozen=True)
class Verified:
    """What a verification found.

    :ivar records: the number of the last record that holds.
    :ivar problem: the first thing wrong, or None.
    :ivar problems: all of it, as far as the ledger could be read; at most a hundred.
    """

    records: int
    head: Head
    problem: Optional[str]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _End:
    """The ledger's end: what the next record is linked to, and the lines after the last record that holds."""

    head: Head
    record: Optional[Mapping[str, Any]]
    damaged: tuple[Span, ...]

    def known_damage(self) -> Optional[dict[str, Any]]:
        """Return how many lines are known to be damaged, and where the newest is: each record hands it on."""
        before = self.record.get("damaged_lines") if self.record else None
        known = dict(before) if isinstance(before, dict) else {}
        if not self.damaged:
            return known or None
        newest = self.damaged[-1]
        return {
            "lines": int(known.get("lines", 0)) + len(self.damaged),
            "newest": {"file": newest.path.name, "offset": newest.start},
        }


def new_run_id() -> str:
    """Return a name for one run of one activity."""
    return f"{stamp(utc_now())}-{secrets.token_hex(4)}"


class Ledger:
    """The ledger in one folder; see the module's text for its form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(
        self,
        kind: str,
        activity: str,
        run: str,
        *,
        instance: str = "",
        actor: Optional[Mapping[str, str]] = None,
        data: Optional[Mapping[str, Any]] = None,
        moment: Optional[datetime] = None,
    ) -> Head:
        """Add one record and return the new head; it is on disk when this returns.

        :param kind: ``started``, ``finished`` or ``event``.
        :param data: plain JSON values; never a secret.
        :raises LedgerError: for a kind that is not known, or a record that is too long.
        """
        if kind not in KINDS:
            raise LedgerError(f"A ledger record of kind {kind!r} is not known.", f"Use one of {', '.join(KINDS)}.")
        now = (moment or utc_now()).astimezone(timezone.utc)
        synchronised = clock_synchronised()  # asks another program: not while the ledger is locked
        with self._locked():
            torn = self._set_torn_line_aside()
            end = self._end()
            record: dict[str, Any] = {
                "ledger_version": LEDGER_VERSION,
                "sequence": end.head.sequence + 1,
                "previous": end.head.sha256,
                "at": iso(now),
                "kind": kind,
                "activity": activity,
                "run": run,
                "instance": instance,
                "actor": dict(actor or {}),
                "clock_synchronised": synchronised,
                "data": dict(data or {}),
            }
            if torn:
                record["torn_line_set_aside"] = torn
            if end.damaged:
                record["previous_damaged"] = True
            damage = end.known_damage()
            if damage:
                record["damaged_lines"] = damage
            # As it will be read back: keys that are no text become text, and sort differently.
            record = json.loads(canonical(record))
            record["sha256"] = record_hash(record)
            newest = self._files()[-1:]
            name = now.strftime("%Y-%m") + ".jsonl"
            # A clock set back must not put a record into a file before the newest one.
            path = max([self.folder / name, *newest])
            line = canonical(record) + b"\n"
            if len(line) > LINE_LIMIT_BYTES:
                raise LedgerError(
                    f"A ledger record of {len(line)} bytes is too long.", "Put bulk into a file and its hash here."
                )
            created = not path.exists()
            with writing_to(path):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
                try:
                    size = os.fstat(descriptor).st_size
                    try:
                        written = os.write(descriptor, line)
                        while written < len(line):
                            written += os.write(descriptor, line[written:])
                        os.fsync(descriptor)
                    except OSError:
                        os.ftruncate(descriptor, size)
                        raise
                finally:
                    os.close(descriptor)
                if created:
                    fsync_directory(self.folder)
            return Head(record["sequence"], record["sha256"])

    def head(self) -> Head:
        """Return the newest record's number and hash; number 0 in an empty ledger.

        Where the last line is damaged, it is the number that line had and the hash of its bytes. A line that a crash
        left without its end is no record; the next one to append sets it aside.
        """
        return self._end().head

    def warning(self) -> str:
        """Return what to say of damaged lines in every result; nothing where none is known. Costs what head() costs."""
        damage = self._end().known_damage()
        if not damage:
            return ""
        newest = damage["newest"]
        return (
            f"The ledger has {damage['lines']} damaged line(s), the newest in {self.folder / newest['file']} at byte"
            f" {newest['offset']}: changed after it was written, or the disk fails. Work goes on and is recorded."
            " Keep the file, compare it with the anchored copies; ledger_info with verify names every such line."
        )

    def records(
        self, since: Optional[datetime] = None, damaged: Optional[list[str]] = None
    ) -> Iterator[dict[str, Any]]:
        """Give the records in order, without verifying them.

        Lines that the record after them calls damaged, and damaged lines at the end, are passed over.

        :param since: whole months before this moment are passed over.
        :param damaged: receives where the lines stand that were passed over as damaged.
        :raises LedgerError: at any other line that is no record.
        """
        first = since.astimezone(timezone.utc).strftime("%Y-%m") if since else ""
        held: list[tuple[Path, int, bytes, Optional[dict[str, Any]]]] = []
        for path, size in self.snapshot():
            if path.stem < first:
                continue
            for number, line in lines_forward(path, size):
                if not line.endswith(b"\n"):
                    continue  # a crash left it so; verify() says so
                record = shaped(line)
                if record is not None:
                    yield from released(held, bool(record.get("previous_damaged")), damaged)
                    held.clear()
                held.append((path, number, line, record))
        yield from released(held, True, damaged)

    def whole_records(self, activity: str) -> Iterator[dict[str, Any]]:
        """Give one activity's records whose own hashes hold, in order; damage elsewhere stops nobody who needs only these."""
        for path, size in self.snapshot():
            yield from whole_records(path, size, activity)

    def verify(self, expected: Optional[Head] = None) -> Verified:
        """Read every record and check hashes, numbers and the chain.

        After damaged lines it goes on where the next record is linked to them as they stand.

        :param expected: a head written down earlier, which must be found on the way: a cut-off end shows only so.
        """
        head, damage = Head(0, GENESIS), Damage()
        problems: list[str] = []
        met = expected is None or expected.sequence == 0

        def meet(where: str, reached: Head) -> None:
            nonlocal met
            if met or expected is None or expected.sequence > reached.sequence:
                return
            met = True
            if reached.sequence != expected.sequence:
                problems.append(f"{where}: record {expected.sequence} was written down, and its line is damaged")
            elif reached.sha256 != expected.sha256:
                problems.append(
                    f"{where}: record {reached.sequence} has the hash {reached.sha256}, not {expected.sha256} as written down"
                )

        def done(reached: Head) -> Verified:
            return Verified(head.sequence, reached, problems[0] if problems else None, tuple(problems[:100]))

        where = ""
        for path, size in self.snapshot():
            for number, line in lines_forward(path, size):
                where = f"{path.name} line {number}"
                problem = line_problem(line)
                if problem:
                    problems.append(f"{where}: {problem}")
                    if line.endswith(b"\n"):
                        damage.take(line[:-1])
                    continue
                record = json.loads(line)
                before = _after(head, damage)
                problem = _chain_problem(record, before, damage)
                if problem and not (damage.lines and not record.get("previous_damaged")):
                    problems.append(f"{where}: {problem}")
                if problem:
                    return done(head)
                if damage.lines:
                    meet(where, before)
                    damage = Damage()
                head = Head(record["sequence"], record["sha256"])
                meet(where, head)
        end = _after(head, damage)
        meet(where, end)
        if not met and expected is not None:
            problems.append(
                f"the ledger ends at record {end.sequence}, but record {expected.sequence} was written down: its end is cut off"
            )
        return done(end)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(entry for entry in self.folder.iterdir() if _FILE.fullmatch(entry.name))

    def snapshot(self) -> list[tuple[Path, int]]:
        """Return the files and their sizes between two appends: a record being written is not half a record."""
        try:
            descriptor = os.open(self.folder / ".lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return [(path, path.stat().st_size) for path in self._files()]  # a copy, without its lock
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            return [(path, path.stat().st_size) for path in self._files()]
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_directory(self.folder)
        with writing_to(self.folder):
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _end(self) -> _End:
        damaged: list[Span] = []
        for path in reversed(self._files()):
            with path.open("rb") as stream:
                for span in spans_backwards(stream, path, path.stat().st_size):
                    line = read_span(stream, span)
                    if line is not None and not line_problem(line + b"\n"):
                        record = json.loads(line)
                        return self._end_after(record, Head(record["sequence"], record["sha256"]), damaged)
                    damaged.insert(0, span)
        return self._end_after(None, Head(0, GENESIS), damaged)

    @staticmethod
    def _end_after(record: Optional[Mapping[str, Any]], head: Head, damaged: list[Span]) -> _End:
        return _End(_after(head, Damage.of(damaged)), record, tuple(damaged))

    def _set_torn_line_aside(self) -> str:
        """Cut a line that a crash left without its end, keeping its bytes in a file of their own; return that name.

        A line that cannot be cut off gets its end instead, and counts as damaged: nothing is ever glued to it.
        """
        files = self._files()
        if not files:
            return ""
        path = files[-1]
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(0, size - 1))
            if stream.read() in (b"", b"\n"):
                return ""
            stream.seek(max(0, size - LINE_LIMIT_BYTES))
            tail = stream.read()
        end = tail.rfind(b"\n") + 1
        torn = tail[end:]
        if len(torn) == LINE_LIMIT_BYTES:
            self._end_line(path)  # no record is so long
            return ""
        aside = self.folder / f"torn-{stamp(utc_now())}-{secrets.token_hex(2)}"
        write_file(aside, torn)
        with writing_to(path):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.ftruncate(descriptor, size - len(torn))
                    os.fsync(descriptor)  # the next record may go into another file
                finally:
                    os.close(descriptor)
            except PermissionError:  # a file that can only be appended to (chattr +a)
                aside.unlink()
                self._end_line(path)
                return ""
        return aside.name

    @staticmethod
    def _end_line(path: Path) -> None:
        with writing_to(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _after(head: Head, damage: Damage) -> Head:
    """Return what the next record is linked to."""
    return Head(head.sequence + damage.lines, damage.link) if damage.lines else head


def _chain_problem(record: Mapping[str, Any], before: Head, damage: Damage) -> str:
    """Return why a record does not follow what stands before it."""
    if record["sequence"] != before.sequence + 1:
        return f"record {record['sequence']} follows record {before.sequence}: records are missing, repeated or moved"
    if bool(record.get("previous_damaged")) != (damage.lines > 0):
        return f"record {record['sequence']} and the line before it do not agree on whether that line is damaged"
    if record["previous"] != before.sha256:
        return f"record {record['sequence']} does not follow the record before it"
    return ""
