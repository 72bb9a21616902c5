# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and places in the write-ahead log, and what can be read from a segment file without PostgreSQL's help.

A segment is a file of ``wal_segment_size`` bytes, in pages of 8 KiB, each with a header that says its timeline and
its address, the first one also the server's system identifier. Records run on over pages and segments; each names the
address of the one before it. Checksums of records are ``pg_waldump``'s business, not this file's.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional

SEGMENT_NAME = re.compile(r"^[0-9A-F]{24}$")
_PAGE = struct.Struct("<HHIQI4x")
_LONG = struct.Struct("<QII")
_LENGTH = struct.Struct("<I")
_PREVIOUS = struct.Struct("<Q")
_CONTINUES = 0x0001
_LONG_HEADER = 0x0002
_OVERWRITES = 0x0008


def parse_lsn(text: str) -> int:
    """Return a log sequence number, such as ``0/15034E0``, as bytes since the beginning of the log."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(value: int) -> str:
    """Return a log sequence number as PostgreSQL writes it."""
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def segment_name(timeline: int, lsn: int, size: int) -> str:
    """Return the name of the segment that holds the byte at *lsn*."""
    number, each = lsn // size, 0x100000000 // size
    return f"{timeline:08X}{number // each:08X}{number % each:08X}"


def segment_start(name: str, size: int) -> int:
    """Return the address of a segment's first byte."""
    each = 0x100000000 // size
    return (int(name[8:16], 16) * each + int(name[16:24], 16)) * size


def segment_timeline(name: str) -> int:
    """Return the timeline a segment's name says."""
    return int(name[:8], 16)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a segment file: one of the chain's finding codes, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Edge:
    """A segment's first whole record (*first*, and the address *previous* it names) and the last one that begins in it.

    Addresses in bytes. None where a single record fills the segment.

    :param continues: whether the segment begins with the rest of a record.
    :param overwrites: whether the server overwrote a record that it had begun before a crash.
    """

    first: Optional[int]
    previous: Optional[int]
    last: Optional[int]
    continues: bool
    overwrites: bool


class Segment:
    """One closed segment file."""

    def __init__(self, path: Path, name: str, size: int) -> None:
        self.path = path
        self.name = name
        self.size = size
        self.start = segment_start(name, size)
        self.timeline = segment_timeline(name)
        self._page_size = 8192

    @property
    def end(self) -> int:
        """Return the address of the first byte after it."""
        return self.start + self.size

    def check(self, system_identifier: str) -> Optional[Fault]:
        """Return the first thing wrong with the file's size or one of its page headers."""
        actual = self.path.stat().st_size
        if actual != self.size:
            return Fault("truncated", f"{self.name} has {actual} bytes instead of {self.size}.")
        with self.path.open("rb") as stream:
            magic, info, timeline, address, _rest = _PAGE.unpack(stream.read(_PAGE.size))
            identifier, segment_size, page_size = _LONG.unpack(stream.read(_LONG.size))
            if not magic or not info & _LONG_HEADER or page_size not in (4096, 8192, 16384, 32768, 65536):
                return Fault("bit-flip", f"{self.name} does not begin like a log segment.")
            if str(identifier) != system_identifier:
                return Fault(
                    "other-server",
                    f"{self.name} was written by the server with the system identifier {identifier},"
                    f" not by {system_identifier}.",
                )
            if segment_size != self.size:
                return Fault("bit-flip", f"{self.name} says that its segments have {segment_size} bytes.")
            self._page_size = page_size
            filled = True
            for offset in range(0, self.size, page_size):
                stream.seek(offset)
                magic, info, timeline, address, _rest = _PAGE.unpack(stream.read(_PAGE.size))
                if magic == 0 and address == 0:
                    filled = False  # after a switch the rest of the segment is empty
                    continue
                if not filled:
                    return Fault("bit-flip", f"{self.name} has an empty page before byte {offset}.")
                if timeline != self.timeline:
                    return Fault(
                        "new-timeline",
                        f"{self.name} holds a page of timeline {timeline} at byte {offset}, not of {self.timeline}.",
                    )
                if address != self.start + offset:
                    return Fault(
                        "bit-flip",
                        f"{self.name} holds at byte {offset} a page of address {format_lsn(address)},"
                        f" not of {format_lsn(self.start + offset)}.",
                    )
        return None

    def edges(self) -> Edge:
        """Return where its records begin and end; the file's headers must have been checked."""
        with self.path.open("rb") as stream:
            reader = _Reader(stream, self.size, self._page_size)
            first = reader.first_in_page(0)
            info = reader.page(0)[1]
            previous: Optional[int] = None
            if first is not None and reader.length(first):
                previous = _PREVIOUS.unpack(reader.read(first + 8, 8))[0]
            else:
                first = None
            last = reader.last()
        return Edge(
            None if first is None else self.start + first,
            previous,
            None if last is None else self.start + last,
            bool(info & _CONTINUES),
            bool(info & _OVERWRITES),
        )


class _Reader:
    """Walks the records of one segment by their lengths; offsets count from the file's beginning."""

    def __init__(self, stream: BinaryIO, size: int, page_size: int) -> None:
        self._stream = stream
        self._size = size
        self._page_size = page_size

    def page(self, number: int) -> tuple[int, int, int, int, int]:
        """Return a page's header: magic, info, timeline, address, bytes of a record begun earlier."""
        self._stream.seek(number * self._page_size)
        values = _PAGE.unpack(self._stream.read(_PAGE.size))
        return (values[0], values[1], values[2], values[3], values[4])

    def _header(self, number: int) -> int:
        return _PAGE.size + (_LONG.size if number == 0 else 0)

    def advance(self, offset: int, count: int) -> int:
        """Return the offset *count* bytes of records later, page headers left out."""
        while True:
            room = self._page_size - offset % self._page_size
            if count < room:
                return offset + count
            count -= room
            offset += room
            if offset >= self._size:
                return offset
            offset += self._header(offset // self._page_size)

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes of a record, which may run on over the next page."""
        found = b""
        offset = self.advance(offset - 8, 8)  # the end of a page is the beginning of the next one's content
        while len(found) < count and offset < self._size:
            room = min(count - len(found), self._page_size - offset % self._page_size)
            self._stream.seek(offset)
            found += self._stream.read(room)
            offset = self.advance(offset, room)
        return found.ljust(count, b"\0")

    def length(self, offset: int) -> int:
        """Return the length of the record that begins there, 0 if none does."""
        self._stream.seek(offset)
        return int(_LENGTH.unpack(self._stream.read(4))[0])

    def first_in_page(self, number: int) -> Optional[int]:
        """Return where the first record that begins in or after a page begins; None if none before the end."""
        _magic, info, _timeline, _address, rest = self.page(number)
        offset = number * self._page_size + self._header(number)
        if info & _CONTINUES and not info & _OVERWRITES:
            offset = self.advance(offset, _aligned(rest))
        return offset if offset < self._size else None

    def last(self) -> Optional[int]:
        """Return where the last record that begins in the segment begins."""
        for number in range(self._size // self._page_size - 1, -1, -1):
            if self.page(number)[0] == 0:
                continue
            offset = self.first_in_page(number)
            found: Optional[int] = None
            while offset is not None and offset < self._size:
                length = self.length(offset)
                if length == 0:
                    break
                found = offset
                offset = self.advance(offset, _aligned(length))
            if found is not None:
                return found
        return None


def _aligned(count: int) -> int:
    return (count + 7) & ~7
