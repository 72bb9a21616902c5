# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what was done, in records chained by hash, fsynced one by one.

One file a month, ``YYYY-MM.jsonl``, one record a line. Each record holds the hash of the one before, across files,
and its own; the newest record's number and hash are the *head*. A changed line shows itself; a cut-off end is found
against a head that was written down elsewhere. Appending reads only the newest file's end, so it costs the same
with ten records and ten million.
"""

from __future__ import annotations

import fcntl
import hashlib
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

LEDGER_VERSION = 1
GENESIS = "0" * 64
KINDS = ("started", "finished", "event")
_FILE = re.compile(r"\d{4}-\d{2}\.jsonl", re.ASCII)
_FIELDS = {"sha256", "previous", "sequence", "at", "kind", "activity", "run", "instance", "data"}
_TAIL_BYTES = 64 * 1024
_LINE_LIMIT_BYTES = 8 * 1024 * 1024


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
    """What a verification found: the number of records read, the head, and the first thing wrong (or None)."""

    records: int
    head: Head
    problem: Optional[str]


def new_run_id() -> str:
    """Return a name for one run of one activity."""
    return f"{stamp(utc_now())}-{secrets.token_hex(4)}"


def _canonical(record: Mapping[str, Any]) -> bytes:
    # A file name that is no UTF-8 holds lone surrogates: they are written as JSON's own escapes.
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({key: value for key, value in record.items() if key != "sha256"})).hexdigest()


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
        :raises LedgerError: if the newest record cannot be read or does not hold.
        """
        if kind not in KINDS:
            raise LedgerError(f"A ledger record of kind {kind!r} is not known.", f"Use one of {', '.join(KINDS)}.")
        now = (moment or utc_now()).astimezone(timezone.utc)
        synchronised = clock_synchronised()  # asks another program: not while the ledger is locked
        with self._locked():
            torn = self._set_torn_line_aside()
            last = self._last_record()
            record: dict[str, Any] = {
                "ledger_version": LEDGER_VERSION,
                "sequence": last["sequence"] + 1 if last else 1,
                "previous": last["sha256"] if last else GENESIS,
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
            # As it will be read back: keys that are no text become text, and sort differently.
            record = json.loads(_canonical(record))
            record["sha256"] = _hash(record)
            newest = self._files()[-1:]
            name = now.strftime("%Y-%m") + ".jsonl"
            # A clock set back must not put a record into a file before the newest one.
            path = max([self.folder / name, *newest])
            line = _canonical(record) + b"\n"
            if len(line) > _LINE_LIMIT_BYTES:
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

        A line that a crash left without its end is no record; the next one to append sets it aside.
        """
        last = self._last_record()
        return Head(last["sequence"], last["sha256"]) if last else Head(0, GENESIS)

    def records(self, since: Optional[datetime] = None) -> Iterator[dict[str, Any]]:
        """Give the records in order, without verifying them.

        :param since: whole months before this moment are passed over.
        :raises LedgerError: at the first line that is no record.
        """
        first = since.astimezone(timezone.utc).strftime("%Y-%m") if since else ""
        for path, size in self._snapshot():
            if path.stem < first:
                continue
            for number, line in _lines(path, size):
                if not line.endswith(b"\n"):
                    continue  # a crash left it so; verify() says so
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict) or not set(record) >= _FIELDS or not isinstance(record["data"], dict):
                    raise LedgerError(
                        f"{path} line {number} is no ledger record.",
                        "Keep the file, compare it with the anchored copies; ledger_info with verify tells more.",
                        {"path": str(path), "line": number},
                    )
                yield record

    def verify(self, expected: Optional[Head] = None) -> Verified:
        """Read every record and check hashes, numbers and the chain.

        :param expected: a head written down earlier, which must be found on the way: a cut-off end shows only so.
        """
        previous, sequence = GENESIS, 0
        met = expected is None or expected.sequence == 0
        for path, size in self._snapshot():
            for number, line in _lines(path, size):
                where = f"{path.name} line {number}"
                problem = _check_line(line, previous, sequence)
                if problem:
                    return Verified(sequence, Head(sequence, previous), f"{where}: {problem}")
                record = json.loads(line)
                previous, sequence = record["sha256"], record["sequence"]
                if expected is not None and sequence == expected.sequence:
                    if previous != expected.sha256:
                        return Verified(
                            sequence,
                            Head(sequence, previous),
                            f"{where}: record {sequence} has the hash {previous}, not {expected.sha256} as written down",
                        )
                    met = True
        head = Head(sequence, previous)
        if not met and expected is not None:
            return Verified(
                sequence,
                head,
                f"the ledger ends at record {sequence}, but record {expected.sequence} was written down: its end is cut off",
            )
        return Verified(sequence, head, None)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(entry for entry in self.folder.iterdir() if _FILE.fullmatch(entry.name))

    def _snapshot(self) -> list[tuple[Path, int]]:
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

    def _last_record(self) -> Optional[dict[str, Any]]:
        for path in reversed(self._files()):
            line = _last_line(path)
            if not line:
                continue
            try:
                record = json.loads(line)
                if record["sha256"] != _hash(record):
                    raise ValueError("its hash does not match its content")
                if not isinstance(record["sequence"], int):
                    raise ValueError("its number is none")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise LedgerError(
                    f"The last line of {path} does not hold: {error}.",
                    "Someone or something changed the ledger. Keep the file, compare it with the anchored copies, and move it aside.",
                    {"path": str(path)},
                ) from None
            return dict(record)
        return None

    def _set_torn_line_aside(self) -> str:
        """Cut a line that a crash left without its end, keeping its bytes in a file of their own; return that name."""
        files = self._files()
        if not files:
            return ""
        path = files[-1]
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(0, size - 1))
            if stream.read() in (b"", b"\n"):
                return ""
            stream.seek(max(0, size - _LINE_LIMIT_BYTES))
            tail = stream.read()
        end = tail.rfind(b"\n") + 1
        torn = tail[end:]
        aside = self.folder / f"torn-{stamp(utc_now())}-{secrets.token_hex(2)}"
        write_file(aside, torn)
        with writing_to(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, size - len(torn))
                os.fsync(descriptor)  # the next record may go into another file
            finally:
                os.close(descriptor)
        return aside.name


def _last_line(path: Path) -> bytes:
    """Return the last line that has its end, without it."""
    size = path.stat().st_size
    length = _TAIL_BYTES
    while True:
        with path.open("rb") as stream:
            stream.seek(max(0, size - length))
            lines = stream.read(length).split(b"\n")[:-1]
        # The first of several may have lost its beginning.
        if len(lines) > 1 or (lines and length >= size):
            return lines[-1]
        if length >= size:
            return b""
        length *= 8


def _lines(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Give the numbered lines of a file's first *size* bytes."""
    done = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if done >= size:
                return
            done += len(line)
            yield number, line[: len(line) - max(0, done - size)]


def _check_line(line: bytes, previous: str, sequence: int) -> str:
    if not line.endswith(b"\n"):
        return "the line is cut off"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return "the line is no JSON"
    if not isinstance(record, dict) or not set(record) >= _FIELDS:
        return "the line is no ledger record"
    if record["sha256"] != _hash(record) or line[:-1] != _canonical(record):
        return f"record {record['sequence']} was changed after it was written"
    if record["sequence"] != sequence + 1:
        return f"record {record['sequence']} follows record {sequence}: records are missing, repeated or moved"
    if record["previous"] != previous:
        return f"record {record['sequence']} does not follow the record before it"
    return ""
