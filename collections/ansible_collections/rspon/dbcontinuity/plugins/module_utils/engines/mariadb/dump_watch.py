# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at what mariadb-dump writes as it flows by: whether it came to its end, and how many objects stand in it.

Also a program of its own (only the standard library, nothing of this project), so that it can stand in a pipeline:
standard input is copied to standard output, and what was seen is left in a file. A dump that does not end with the
line ``-- Dump completed`` makes it fail: mariadb-dump's own exit status says nothing of what came through the pipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

BUFFER_BYTES = 1024 * 1024
# Of a line only its beginning is looked at; a row with a scanned document in it is one line of many megabytes.
_LINE_HEAD = 4096
_TAIL = 512
_F_SETPIPE_SZ = 1031
# In data and comments line ends are escaped, so that only mariadb-dump itself, or a program's body, begins a line so.
_LINES = re.compile(
    rb"\n(?:CREATE |DELIMITER |/\*!50001 VIEW |/\*!50003 CREATE\*/ |/\*!50106 CREATE\*/ |-- insufficient priv)"
)
_PROGRAM = re.compile(rb"CREATE (?:DEFINER=.{1,400}? )?(?:AGGREGATE )?(?:PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE) ")
_PLAIN = (
    (b"CREATE TABLE ", "tables"),
    (b"CREATE SEQUENCE ", "sequences"),
    (b"CREATE DATABASE ", "databases"),
    (b"CREATE USER ", "accounts"),
    (b"/*!50001 VIEW ", "views"),
)
_ENDS = re.compile(rb"\n-- Dump completed(?: on [-0-9: ]+)?\n\Z")


class Watcher:
    """Reads a dump in blocks of any length.

    :ivar counts: objects by kind.
    :ivar refused: lines in which mariadb-dump says that it left something out.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.refused: list[str] = []
        self._line = b"\n"  # the beginning of a line whose end has not come yet
        self._tail = b""
        self._in_program = False
        self._counted = False

    def feed(self, view: memoryview) -> None:
        """Take the next bytes."""
        block = bytes(view)
        self._tail = (self._tail + block[-_TAIL:])[-_TAIL:]
        first = block.find(b"\n")
        room = max(0, _LINE_HEAD - len(self._line))
        if first < 0:
            self._line += block[:room]
            return
        self._look(self._line + block[: min(first, room)], 0)
        last = block.rfind(b"\n")
        for found in _LINES.finditer(block, first, last):
            self._look(block, found.start())
        self._line = block[last : last + _LINE_HEAD]

    def _look(self, text: bytes, start: int) -> None:
        """Look at a line; *start* is the line end before it."""
        if not _LINES.match(text, start):
            return
        end = text.find(b"\n", start + 1)
        line = text[start + 1 : min(end, start + _LINE_HEAD) if end >= 0 else start + _LINE_HEAD]
        if line.startswith(b"-- "):
            self.refused.append(line.decode("utf-8", "replace")[:400])
        elif line.startswith(b"DELIMITER "):
            self._in_program = line.rstrip() != b"DELIMITER ;"
            self._counted = False
        elif self._in_program:
            self._program(line)
        else:
            for beginning, kind in _PLAIN:
                if line.startswith(beginning):
                    self._count(kind)

    def _program(self, line: bytes) -> None:
        """Count what stands between two DELIMITER lines, once: the rest is its body."""
        if self._counted:
            return
        for beginning, kind in ((b"/*!50003 CREATE*/", "triggers"), (b"/*!50106 CREATE*/", "events")):
            if line.startswith(beginning):
                self._counted = True
                self._count(kind)
                return
        if _PROGRAM.match(line):
            self._counted = True
            self._count("routines")

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    @property
    def complete(self) -> bool:
        """Return whether the last line says that the dump is whole."""
        return _ENDS.search(self._tail) is not None

    def seen(self) -> dict[str, Any]:
        """Return what was seen, as plain values."""
        return {"complete": self.complete, "counts": self.counts, "refused": self.refused[:100]}


def watch_file(path: Path) -> dict[str, Any]:
    """Return what stands in a dump, reading it once."""
    watcher = Watcher()
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while True:
            count = stream.readinto(buffer)
            if not count:
                return watcher.seen()
            watcher.feed(view[:count])


def main(arguments: list[str]) -> int:
    """Copy and watch; 0 if the dump is whole."""
    watcher = Watcher()
    for descriptor in (0, 1):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, BUFFER_BYTES)
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    while True:
        count = os.readv(0, [buffer])
        if count == 0:
            break
        watcher.feed(view[:count])
        rest = view[:count]
        while rest:
            rest = rest[os.write(1, rest) :]
    Path(arguments[0]).write_text(json.dumps(watcher.seen()), encoding="utf-8")
    if not watcher.complete:
        sys.stderr.write("the dump is cut short: it does not end with the line '-- Dump completed'\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
