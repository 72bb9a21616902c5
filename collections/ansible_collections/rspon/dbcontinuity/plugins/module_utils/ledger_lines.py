# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of the ledger's files, from both ends, and what links a record to lines that are damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Optional

from .errors import LedgerError

TAIL_BYTES = 64 * 1024
BLOCK_BYTES = 1024 * 1024
LINE_LIMIT_BYTES = 8 * 1024 * 1024
FIELDS = {"sha256", "previous", "sequence", "at", "kind", "activity", "run", "instance", "data"}


@dataclass(frozen=True)
class Span:
    """Where a line stands: its first byte and the one after its last, the line's end not counted."""

    path: Path
    start: int
    stop: int


def spans_backwards(stream: IO[bytes], path: Path, size: int) -> Iterator[Span]:
    """Give the lines that have their end, the last one first, reading no more than is asked for."""
    stop: Optional[int] = None
    position = size
    while position > 0:
        start = max(0, position - TAIL_BYTES)
        stream.seek(start)
        block = stream.read(position - start)
        at = len(block)
        while True:
            at = block.rfind(b"\n", 0, at)
            if at < 0:
                break
            if stop is not None:
                yield Span(path, start + at + 1, stop)
            stop = start + at
        position = start
    if stop is not None:
        yield Span(path, 0, stop)


def read_span(stream: IO[bytes], span: Span) -> Optional[bytes]:
    """Return a line without its end; None if it is longer than any record."""
    if span.stop - span.start > LINE_LIMIT_BYTES:
        return None
    stream.seek(span.start)
    return stream.read(span.stop - span.start)


def lines_forward(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Give the numbered lines of a file's first *size* bytes."""
    done = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if done >= size:
                return
            done += len(line)
            yield number, line[: len(line) - max(0, done - size)]


class Damage:
    """Damaged lines in succession, across files; their link is the SHA-256 of what they hold, joined by line ends.

    For one line that is ``sha256sum`` of the line as it stands, without its end.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._digest = hashlib.sha256()

    def take(self, line: bytes) -> None:
        """Add a line, without its end."""
        self._next()
        self._digest.update(line)

    def take_span(self, span: Span) -> None:
        """Add a line where it stands, however long it is."""
        self._next()
        left = span.stop - span.start
        with span.path.open("rb") as stream:
            stream.seek(span.start)
            while left > 0:
                block = stream.read(min(left, TAIL_BYTES))
                if not block:
                    return
                self._digest.update(block)
                left -= len(block)

    def _next(self) -> None:
        if self.lines:
            self._digest.update(b"\n")
        self.lines += 1

    @property
    def link(self) -> str:
        """Return what the record after these lines gives as the hash of the one before."""
        return self._digest.hexdigest()

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Damage:
        """Return the damage of lines in succession, the first one first."""
        damage = cls()
        for span in spans:
            damage.take_span(span)
        return damage


def canonical(record: Mapping[str, Any]) -> bytes:
    """Return a record as it stands in its line."""
    # A file name that is no UTF-8 holds lone surrogates: they are written as JSON's own escapes.
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def record_hash(record: Mapping[str, Any]) -> str:
    """Return a record's own hash."""
    return hashlib.sha256(canonical({key: value for key, value in record.items() if key != "sha256"})).hexdigest()


def shaped(line: bytes) -> Optional[dict[str, Any]]:
    """Return a line that has the form of a record, whether or not it holds."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not set(record) >= FIELDS or not isinstance(record["data"], dict):
        return None
    return record


def released(
    held: Sequence[tuple[Path, int, bytes, Optional[dict[str, Any]]]], known: bool, damaged: Optional[list[str]]
) -> Iterator[dict[str, Any]]:
    """Give the records among lines in succession; what is damaged is passed over where that is *known*."""
    for path, number, line, record in held:
        if known and line_problem(line):
            if damaged is not None:
                damaged.append(f"{path.name} line {number}: {line_problem(line)}")
        elif record is None:
            raise LedgerError(
                f"{path} line {number} is no ledger record.",
                "Keep the file, compare it with the anchored copies; ledger_info with verify tells more.",
                {"path": str(path), "line": number},
            )
        else:
            yield record


def line_problem(line: bytes) -> str:
    """Return why a line, with its end, is no record that holds by itself."""
    if not line.endswith(b"\n"):
        return "the line is cut off"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return "the line is no JSON"
    if not isinstance(record, dict) or not set(record) >= FIELDS:
        return "the line is no ledger record"
    if not isinstance(record["sequence"], int) or isinstance(record["sequence"], bool):
        return "the line is no ledger record"
    if record["sha256"] != record_hash(record) or line[:-1] != canonical(record):
        return f"record {record['sequence']} was changed after it was written"
    return ""


def begins(activity: str) -> bytes:
    """Return what a record of that activity begins with: records are written with sorted keys."""
    return f'{{"activity":"{activity}",'.encode()


def lines_of(path: Path, size: int, begin_with: Sequence[bytes]) -> Iterator[bytes]:
    """Give the whole lines of a file's first *size* bytes that begin so; all others are passed over in large steps."""
    with path.open("rb") as stream:
        rest, left = b"", size
        while left > 0:
            read = stream.read(min(BLOCK_BYTES, left))
            if not read:
                return
            left -= len(read)
            block = rest + read
            end = block.rfind(b"\n") + 1
            for start, stop in _places(block[:end], begin_with):
                yield block[start:stop]
            rest = block[end:]


def lines_of_backwards(path: Path, size: int, begin_with: Sequence[bytes]) -> Iterator[bytes]:
    """Give the same, the last one first."""
    with path.open("rb") as stream:
        rest, position = b"", size
        while position > 0:
            start = max(0, position - BLOCK_BYTES)
            stream.seek(start)
            block = stream.read(position - start) + rest
            first = 0 if start == 0 else block.find(b"\n") + 1
            if start == 0 or first:
                end = block.rfind(b"\n") + 1
                whole = block[first:end]
                for begin, stop in reversed(_places(whole, begin_with)):
                    yield whole[begin:stop]
            rest = block[: first or len(block)] if start else b""
            position = start


def _places(block: bytes, begin_with: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return where in a block of whole lines those stand that begin so, with their ends."""
    found = []
    for begin in begin_with:
        starts = [0] if block.startswith(begin) else []
        needle = b"\n" + begin
        at = block.find(needle)
        while at >= 0:
            starts.append(at + 1)
            at = block.find(needle, at + 1)
        found += [(start, block.index(b"\n", start) + 1) for start in starts]
    return sorted(found)


def whole_records(path: Path, size: int, activity: str) -> Iterator[dict[str, Any]]:
    """Give one activity's records in a file's first *size* bytes that hold by themselves; every other line is passed over."""
    for line in lines_of(path, size, [begins(activity)]):
        record = None if line_problem(line) else shaped(line)
        if record is not None:
            yield record
