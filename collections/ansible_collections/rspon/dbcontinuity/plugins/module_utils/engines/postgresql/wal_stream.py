# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the commits out of write-ahead log that flows by; ``pg_waldump`` would want the segments as files.

Only records' lengths, kinds, and the commits among them are looked at: their checksums were proven when the segment
came (proof.py), and its SHA-256 says that it is the same. A page of memory is held, whatever a record's size.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta, timezone
from typing import BinaryIO, NamedTuple, Optional

from .wal import format_lsn

_PAGE = struct.Struct("<HHIQI4x")
_LONG = struct.Struct("<QII")
_LENGTH = struct.Struct("<I")
_TIME = struct.Struct("<q")
_CONTINUES, _LONG_HEADER, _OVERWRITES = 0x0001, 0x0002, 0x0008
_RECORD_HEADER = 24
_TRANSACTIONS = 1  # the resource manager of commits
_KIND, _COMMIT, _COMMIT_PREPARED = 0x70, 0x00, 0x30
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
# A commit's time stands at most so far into its record: header, origin, top transaction, length.
_HEAD = _RECORD_HEADER + 3 + 5 + 5 + _TIME.size


class WalError(Exception):
    """The log does not have the form of one; where, and what is wrong."""


class Commit(NamedTuple):
    """One transaction's commit record (of a prepared transaction: the record that commits it).

    :param start: address of its first byte; *end*: of the byte after it, where the next record may begin.
    """

    start: int
    end: int
    moment: datetime

    @property
    def position(self) -> str:
        """Return the address where it ends, as PostgreSQL writes it."""
        return format_lsn(self.end)


class WalReader:
    """Reads segments one after the other; a record may run on from one into the next.

    :ivar sha256: of the segment read last, in hex.
    """

    def __init__(self) -> None:
        self.sha256 = ""
        self._start: Optional[int] = None  # of the record under way; None in one whose beginning was not read
        self._remaining = 0  # bytes of it still to come
        self._head = b""

    @property
    def inside_a_record(self) -> bool:
        """Return whether the segment read last ends before its last record does."""
        return self._remaining > 0

    def commits(self, stream: BinaryIO, address: int) -> Iterator[Commit]:
        """Give the commits that end in a segment, in order.

        :param address: of the segment's first byte.
        :raises WalError: if it is no log, or does not follow the segment read before.
        """
        digest = hashlib.sha256()
        first = stream.read(8192)
        if len(first) < 8192:
            raise WalError("it is cut short in its first page")
        size = _LONG.unpack_from(first, _PAGE.size)[2]
        if not _PAGE.unpack_from(first)[1] & _LONG_HEADER or size not in (4096, 8192, 16384, 32768, 65536):
            raise WalError("it does not begin like a log segment")
        page = first[:size] if size <= 8192 else first + stream.read(size - 8192)
        held = first[size:]
        filled = True
        while page:
            digest.update(page)
            if len(page) < size:
                raise WalError(f"it is cut short at {format_lsn(address)}")
            if filled:
                filled = yield from self._page(page, address)
            address += size
            page = held + stream.read(size - len(held)) if held else stream.read(size)
            held = b""
        self.sha256 = digest.hexdigest()

    def _page(self, page: bytes, address: int) -> Generator[Commit, None, bool]:
        """Read one page; return whether log goes on after it: after a switch the segment's rest is empty."""
        magic, info, _timeline, said, rest = _PAGE.unpack_from(page)
        if magic == 0 and said == 0:
            self._forget()
            return False
        if said != address:
            raise WalError(f"it holds the page {format_lsn(said)} at {format_lsn(address)}")
        place = _PAGE.size + (_LONG.size if info & _LONG_HEADER else 0)
        size = len(page)
        if info & _CONTINUES and not info & _OVERWRITES:
            if self._start is not None and rest != self._remaining:
                raise WalError(f"the record at {format_lsn(self._start)} does not go on at {format_lsn(address)}")
            if rest > size - place:
                self._collect(page, place, size)
                self._remaining = rest - (size - place)
                return True
            self._collect(page, place, place + rest)
            place = _aligned(place + rest)
            if self._start is not None:
                yield from _commit(self._head, self._start, address + place)
        self._forget()
        while place < size:
            length = _LENGTH.unpack_from(page, place)[0]
            if length == 0:
                return False
            if length < _RECORD_HEADER:
                raise WalError(f"the record at {format_lsn(address + place)} claims {length} bytes")
            if place + length > size:
                self._start, self._head = address + place, b""
                self._collect(page, place, size)
                self._remaining = length - (size - place)
                return True
            end = _aligned(place + length)
            if page[place + 17] == _TRANSACTIONS:
                yield from _commit(page[place : place + _HEAD], address + place, address + end)
            place = end
        return True

    def _collect(self, page: bytes, begin: int, end: int) -> None:
        """Keep the beginning of the record under way."""
        if self._start is not None and len(self._head) < _HEAD:
            self._head += page[begin : min(end, begin + _HEAD - len(self._head))]

    def _forget(self) -> None:
        self._start, self._remaining, self._head = None, 0, b""


def _commit(head: bytes, start: int, end: int) -> Iterator[Commit]:
    """Give the commit whose record begins with *head*, if it is one."""
    if len(head) < _RECORD_HEADER or head[17] != _TRANSACTIONS or head[16] & _KIND not in (_COMMIT, _COMMIT_PREPARED):
        return
    place = _RECORD_HEADER
    while True:
        kind = head[place]
        if kind == 253:  # the origin of a replicated transaction
            place += 3
        elif kind == 252:  # the top transaction
            place += 5
        elif kind in (254, 255):  # the length of what follows, long or short
            place += 5 if kind == 254 else 2
            break
        else:
            raise WalError(f"the commit record at {format_lsn(start)} has the unknown part {kind}")
    yield Commit(start, end, _EPOCH + timedelta(microseconds=_TIME.unpack_from(head, place)[0]))


def _aligned(count: int) -> int:
    return (count + 7) & ~7
