# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading MariaDB's binary log files, without trusting them.

Every event's length and CRC32 is checked and its place compared with what it says of itself; memory stays bounded
whatever an event's size. What is wrong is returned as :class:`Damage` with the byte offset of the first bad event,
never raised. Layout: 4 bytes of magic, then events of a 19-byte header (time, type, server id, length, end position,
flags; little-endian), a body, and 4 bytes of CRC32 where the format description says so.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import BinaryIO, NamedTuple, Optional

from .gtid import Gtid, GtidState

MAGIC = b"\xfebin"
BLOCK_BYTES = 4 * 1024 * 1024
HEADER_BYTES = 19
CHECKSUM_BYTES = 4
TAIL_EVENTS = 8
TAIL_BYTES = 64 * 1024
_HEADER = struct.Struct("<IBIIIH")
_CRC = struct.Struct("<I")
_GTID_BODY = struct.Struct("<QIB")
_GTID_ENTRY = struct.Struct("<IIQ")

QUERY, STOP, ROTATE, FORMAT, XID, EXECUTE_LOAD, INCIDENT, XA_PREPARE = 2, 3, 4, 15, 16, 18, 26, 38
GTID, GTID_LIST, START_ENCRYPTION, QUERY_COMPRESSED = 162, 163, 164, 165
_INTERESTING = frozenset(
    {QUERY, STOP, ROTATE, XID, EXECUTE_LOAD, INCIDENT, XA_PREPARE, GTID, GTID_LIST, START_ENCRYPTION, QUERY_COMPRESSED}
)
_FORMAT_BODY_BYTES = 57
_IN_USE_BYTE = 17  # of the format description's header
_STANDALONE = 1
_COMPLETED_XA = 128
_ENDINGS = frozenset({b"COMMIT", b"ROLLBACK"})


class Group(NamedTuple):
    """One whole transaction (MariaDB's event group).

    :param offset: byte where it begins; *end*: byte after it, where the next one may begin.
    :param timestamp: seconds since 1970, as its Gtid event says: when its last statement began, by the server's clock.
    :param flags: the Gtid event's flags.
    """

    gtid: Gtid
    offset: int
    end: int
    timestamp: int
    flags: int


@dataclass(frozen=True)
class Damage:
    """The first thing wrong in a file.

    :param kind: ``checksum``, ``cut`` (the file ends inside an event), ``malformed`` or ``unreadable``.
    :param offset: byte where the bad event begins.
    """

    kind: str
    offset: int
    reason: str


@dataclass
class Summary:
    """What a file holds; complete once :meth:`BinlogReader.groups` was read to its end.

    :param size: bytes read; *sha256* of them, in hex.
    :param created: seconds since 1970, of the format description.
    :param checksums: whether the events carry CRC32.
    :param start: the Gtid list at the head, None where there is none; *end*: after the last whole transaction.
    :param whole_end: byte after the last whole transaction (or after the file's own head).
    :param transactions: whole ones.
    :param first_at: seconds of the first Gtid event; *last_at*: of the last whole transaction's.
    :param closing: ``rotate``, ``stop`` or empty; *next_name*: the file a Rotate names; *closed_at*: its second.
    :param in_transaction: the file ends inside a transaction, which began at *open_offset*.
    :param encrypted: the server keeps its own file encrypted; what it sends to a client is not.
    :param incident: byte offset of an incident event: the server says that events were lost.
    :param tail_offset: byte where the last few events begin: enough to know the file again by its end.
    :param at_probe: the state at the byte that was asked for, None if no transaction ends there.
    """

    size: int = 0
    sha256: str = ""
    server_version: str = ""
    server_id: int = 0
    created: int = 0
    checksums: bool = False
    start: Optional[GtidState] = None
    end: GtidState = field(default_factory=GtidState)
    whole_end: int = 0
    transactions: int = 0
    first_at: Optional[int] = None
    last_at: Optional[int] = None
    closing: str = ""
    next_name: str = ""
    closed_at: Optional[int] = None
    in_transaction: bool = False
    open_offset: int = 0
    encrypted: bool = False
    incident: Optional[int] = None
    tail_offset: int = 0
    at_probe: Optional[GtidState] = None
    damage: Optional[Damage] = None


class _Bad(Exception):
    """Ends the reading at the first damage; never leaves this module."""

    def __init__(self, kind: str, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.damage = Damage(kind, offset, reason)


class BinlogReader:
    """Reads one file, or a stream of one, from its beginning.

    :param source: a binary stream; read once, in blocks.
    :param probe: byte offset at which the state is wanted, see :attr:`Summary.at_probe`.
    :param in_use_allowed: the file is a server's own, open or left by a crash, whose head still carries the mark
        that it is in use. Files fetched from a server do not carry it.
    """

    def __init__(self, source: BinaryIO, *, probe: Optional[int] = None, in_use_allowed: bool = False) -> None:
        self.summary = Summary()
        self._source = source
        self._probe = probe
        self._in_use_allowed = in_use_allowed
        self._digest = hashlib.sha256()
        self._data = b""
        self._base = 0  # offset in the file of self._data[0]
        self._tail: deque[int] = deque(maxlen=TAIL_EVENTS)
        self._gtid: Optional[Gtid] = None  # of the open transaction
        self._flags = self._when = 0

    def groups(self) -> Iterator[Group]:
        """Give the whole transactions in order; ends at the end of the file or at the first damage."""
        summary = self.summary
        try:
            yield from self._events()
        except _Bad as bad:
            summary.damage = bad.damage
        except OSError as error:
            summary.damage = Damage("unreadable", self._base, f"it cannot be read: {error.strerror}")
        self._rest()
        summary.sha256 = self._digest.hexdigest()
        summary.in_transaction = self._gtid is not None
        summary.tail_offset = next(
            (offset for offset in self._tail if summary.size - offset <= TAIL_BYTES), summary.size
        )

    def read(self) -> Summary:
        """Read to the end and return what was found."""
        for _group in self.groups():
            pass
        return self.summary

    def _fill(self, keep_from: int) -> bool:
        """Drop what was read, get a block more; False at the end of the file."""
        block = self._source.read(BLOCK_BYTES)
        self._base += keep_from
        self._data = self._data[keep_from:] + block
        self.summary.size += len(block)
        self._digest.update(block)
        return bool(block)

    def _rest(self) -> None:
        """Hash and count what follows a damage, so that size and SHA-256 are the whole file's."""
        self._data = b""
        try:
            while self._fill(0):
                self._data = b""
        except OSError:
            return

    def _events(self) -> Iterator[Group]:
        position = self._head()
        summary, tail, crc32, probe = self.summary, self._tail, zlib.crc32, self._probe
        trailer = CHECKSUM_BYTES if summary.checksums else 0
        shortest = HEADER_BYTES + trailer
        while True:
            offset = self._base + position
            if offset == probe and self._gtid is None:
                summary.at_probe = summary.end.copy()
            available = len(self._data) - position
            if available < HEADER_BYTES:
                if self._fill(position):
                    position = 0
                    continue
                if available:
                    raise _Bad("cut", offset, "it ends inside an event's header")
                return
            when, kind, server, length, said_end, _flags = _HEADER.unpack_from(self._data, position)
            if length < shortest:
                raise _Bad("malformed", offset, f"an event claims to be {length} bytes long")
            if summary.closing:
                raise _Bad("malformed", offset, f"events follow the {summary.closing} event that should end it")
            end = offset + length
            if length > available:
                if length <= BLOCK_BYTES:
                    if not self._fill(position):
                        raise _Bad("cut", offset, f"it ends inside an event of {length} bytes")
                    position = 0
                    continue
                body = self._large(position, offset, length, trailer)
                position = 0
            else:
                stop = position + length - trailer
                if trailer and crc32(memoryview(self._data)[position:stop]) != _CRC.unpack_from(self._data, stop)[0]:
                    raise _Bad("checksum", offset, f"the checksum of the event of {length} bytes does not match")
                body = self._data[position + HEADER_BYTES : stop] if kind in _INTERESTING else b""
                position += length
            # 0 where the server computed the checksum beforehand (11.4 and later); a file's positions wrap at 4 GiB.
            if said_end not in (0, end & 0xFFFFFFFF):
                raise _Bad("malformed", offset, f"an event that ends at {end} says that it ends at {said_end}")
            tail.append(offset)
            if kind in _INTERESTING:
                group = self._event(kind, body, when, server, offset, end)
                if group is not None:
                    yield group

    def _head(self) -> int:
        """Read magic and format description; return the place in the buffer after them."""
        self._fill(0)
        while len(self._data) < 4 + HEADER_BYTES and self._fill(0):
            pass
        data, summary = self._data, self.summary
        if data[:4] != MAGIC:
            raise _Bad("malformed", 0, "it does not begin as a binary log does")
        if len(data) < 4 + HEADER_BYTES:
            raise _Bad("cut", 4, "it ends inside its format description")
        when, kind, server, length, said_end, _flags = _HEADER.unpack_from(data, 4)
        if kind != FORMAT or not HEADER_BYTES + _FORMAT_BODY_BYTES + 5 <= length <= 4096:
            raise _Bad("malformed", 4, "it does not begin with a format description")
        while len(self._data) < 4 + length and self._fill(0):
            pass
        event = bytearray(self._data[4 : 4 + length])
        if len(event) < length:
            raise _Bad("cut", 4, "it ends inside its format description")
        if self._in_use_allowed:
            event[_IN_USE_BYTE] &= 0xFE
        if zlib.crc32(event[:-CHECKSUM_BYTES]) != _CRC.unpack_from(event, length - CHECKSUM_BYTES)[0]:
            raise _Bad("checksum", 4, "the checksum of the format description does not match")
        version, name = struct.unpack_from("<H50s", event, HEADER_BYTES)
        algorithm = event[-CHECKSUM_BYTES - 1]
        if version != 4 or event[HEADER_BYTES + 56] != HEADER_BYTES or algorithm > 1 or said_end != 4 + length:
            raise _Bad("malformed", 4, f"its format (version {version}, checksum {algorithm}) is not known")
        summary.server_version = name.rstrip(b"\0").decode("ascii", "replace")
        summary.server_id, summary.created, summary.checksums = server, when, algorithm == 1
        summary.whole_end = 4 + length
        self._tail.append(4)
        return int(4 + length)

    def _large(self, position: int, offset: int, length: int, trailer: int) -> bytes:
        """Check an event that is larger than a block; return the beginning of its body."""
        remaining = length - trailer
        checksum = 0
        body = b""
        while True:
            piece = memoryview(self._data)[position : position + remaining]
            if not body:
                body = bytes(piece[HEADER_BYTES : HEADER_BYTES + 64])
            checksum = zlib.crc32(piece, checksum)
            remaining -= len(piece)
            position += len(piece)
            if not remaining:
                break
            if not self._fill(position):
                raise _Bad("cut", offset, f"it ends inside an event of {length} bytes")
            position = 0
        while len(self._data) - position < trailer:
            if not self._fill(position):
                raise _Bad("cut", offset, f"it ends inside an event of {length} bytes")
            position = 0
        if trailer and checksum != _CRC.unpack_from(self._data, position)[0]:
            raise _Bad("checksum", offset, f"the checksum of the event of {length} bytes does not match")
        self._data = self._data[position + trailer :]
        self._base += position + trailer
        return body

    def _event(self, kind: int, body: bytes, when: int, server: int, offset: int, end: int) -> Optional[Group]:
        summary = self.summary
        if kind == GTID:
            if len(body) < _GTID_BODY.size or summary.start is None:
                raise _Bad("malformed", offset, "a transaction begins where none can")
            if self._gtid is not None:
                raise _Bad("malformed", offset, f"a transaction begins inside the transaction {self._gtid}")
            sequence, domain, self._flags = _GTID_BODY.unpack_from(body)
            self._gtid, self._when = Gtid(domain, server, sequence), when
            summary.open_offset = offset
            if summary.first_at is None:
                summary.first_at = when
        elif kind == GTID_LIST:
            self._gtid_list(body, offset, end)
        elif kind in (XID, XA_PREPARE) or (
            kind in (QUERY, QUERY_COMPRESSED, EXECUTE_LOAD) and self._ends_group(kind, body)
        ):
            return self._close_group(end)
        elif kind == ROTATE:
            summary.closing, summary.closed_at = "rotate", when
            summary.next_name = body[8:].decode("utf-8", "replace")
        elif kind == STOP:
            summary.closing, summary.closed_at = "stop", when
        elif kind == INCIDENT:
            summary.incident = offset if summary.incident is None else summary.incident
        elif kind == START_ENCRYPTION:
            summary.encrypted = True
        return None

    def _ends_group(self, kind: int, body: bytes) -> bool:
        if self._gtid is None:
            return False
        if self._flags & _STANDALONE:
            return True
        if kind != QUERY or len(body) < 13:
            return False
        schema_bytes, _error, variables_bytes = struct.unpack_from("<BHH", body, 8)
        text = body[13 + variables_bytes + schema_bytes + 1 :]
        return text in _ENDINGS or (bool(self._flags & _COMPLETED_XA) and text.startswith((b"XA COMMIT", b"XA ROLL")))

    def _close_group(self, end: int) -> Optional[Group]:
        if self._gtid is None:
            return None
        summary = self.summary
        group = Group(self._gtid, summary.open_offset, end, self._when, self._flags)
        summary.end.add(self._gtid)
        summary.transactions += 1
        summary.last_at = self._when
        summary.whole_end = end
        self._gtid = None
        return group

    def _gtid_list(self, body: bytes, offset: int, end: int) -> None:
        count = (_CRC.unpack_from(body)[0] & 0x0FFFFFFF) if len(body) >= 4 else -1
        wanted = 4 + count * _GTID_ENTRY.size if count else 6  # the server pads an empty list
        if len(body) != wanted:
            raise _Bad("malformed", offset, "its Gtid list has the wrong length")
        if self.summary.start is not None:
            raise _Bad("malformed", offset, "it has a second Gtid list")
        self.summary.start = GtidState(
            Gtid(domain, server, sequence)
            for domain, server, sequence in _GTID_ENTRY.iter_unpack(body[4 : 4 + count * _GTID_ENTRY.size])
        )
        self.summary.end = self.summary.start.copy()
        self.summary.whole_end = end


def moment(seconds: int) -> datetime:
    """Return a time of a binary log as a moment in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc)
