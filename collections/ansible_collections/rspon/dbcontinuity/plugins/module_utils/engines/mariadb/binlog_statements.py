# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns row events of a binary log into BINLOG statements: table maps and rows alone, in pieces of bounded size.

A program of its own (only the standard library, nothing of this project), so that it can stand in a pipeline. Neither the
log's GTIDs nor its COMMIT go along: whoever reads the statements decides on the transaction. The log must be without
checksums, as the throwaway server writes it.
"""

from __future__ import annotations

import base64
import os
import struct
import sys

_MAGIC = b"\xfebin"
_HEADER = struct.Struct("<IBIIIH")
_FORMAT, _TABLE_MAP = 15, 19
_ROWS = frozenset({23, 24, 25, 30, 31, 32})
# Behind the header: the table's number in six bytes, then the flags.
_FLAGS_AT = _HEADER.size + 6
_STATEMENT_ENDS = 1
PIECE_BYTES = 512 * 1024
WHOLE_BYTES = 4 * 1024 * 1024


def statement(events: list[bytes]) -> bytes:
    """Return the statement that applies these events; the last one ends it.

    In base64 a row is a third longer than the largest statement by which it could come into being: it goes in two halves.
    """
    text = b"".join(base64.encodebytes(event) for event in events)
    if len(text) < WHOLE_BYTES:
        return b"BINLOG '\n" + text + b"'/*dbc*/;\n"
    middle = text.index(b"\n", len(text) // 2) + 1
    halves = (text[:middle], text[middle:])
    sets = b"".join(b"SET @dbc_half_%d = '\n%s';\n" % (number, half) for number, half in enumerate(halves))
    return sets + b"BINLOG @dbc_half_0, @dbc_half_1;\nSET @dbc_half_0 = NULL, @dbc_half_1 = NULL;\n"


def flagged(event: bytes, ends: bool) -> bytes:
    """Return a rows event with or without the flag that its statement ends with it."""
    flags = int.from_bytes(event[_FLAGS_AT : _FLAGS_AT + 2], "little")
    flags = flags | _STATEMENT_ENDS if ends else flags & ~_STATEMENT_ENDS
    return event[:_FLAGS_AT] + flags.to_bytes(2, "little") + event[_FLAGS_AT + 2 :]


def main(arguments: list[str]) -> int:
    """Read a log from a position on; with the position 0, only its format description."""
    path, position = arguments[0], int(arguments[1])
    kept: list[bytes] = []
    size = 0
    table = b""
    with open(path, "rb") as log:
        if log.read(4) != _MAGIC:
            sys.stderr.write(f"{path} is no binary log\n")
            return 1
        if position:
            log.seek(position)
        while True:
            head = log.read(_HEADER.size)
            if not head:
                break
            if len(head) < _HEADER.size:
                sys.stderr.write(f"{path} is cut short\n")
                return 1
            _when, kind, _server, length, _end, _flags = _HEADER.unpack(head)
            event = head + log.read(length - _HEADER.size)
            if len(event) < length:
                sys.stderr.write(f"{path} is cut short\n")
                return 1
            if not position:
                if kind == _FORMAT:
                    write(statement([event]))
                    return 0
                continue
            if kind in _ROWS and table:
                kept.append(flagged(event, False))
                size += length
            # A piece ends where another table begins, or it is large enough.
            if kept and (kind not in _ROWS or size >= PIECE_BYTES):
                kept[-1] = flagged(kept[-1], True)
                write(statement([table, *kept]))
                kept, size = [], 0
            if kind == _TABLE_MAP:
                table = event
    if kept:
        kept[-1] = flagged(kept[-1], True)
        write(statement([table, *kept]))
    return 0


def write(data: bytes) -> None:
    """Write all of it to standard output."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
