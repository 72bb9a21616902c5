# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists an archive of pg_dump as it flows by.

A program of its own (only the standard library, nothing of this project), so that it can stand in a pipeline: standard
input is copied to standard output, and ``pg_restore --list`` is shown as much of it as it wants to see.

    list_watch.py PG_RESTORE LISTING
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys

BUFFER_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031


def write_all(descriptor: int, rest: memoryview) -> None:
    """Write all bytes."""
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def main(arguments: list[str]) -> int:
    """Copy and list; 0 if the listing could be made."""
    program, target = arguments
    for descriptor in (0, 1):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, BUFFER_BYTES)
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    with open(target, "wb") as listing:
        lister = subprocess.Popen([program, "--list"], stdin=subprocess.PIPE, stdout=listing)
        if lister.stdin is None:
            raise AssertionError("Popen was asked for a pipe")
        listening = True
        while True:
            count = os.readv(0, [buffer])
            if count == 0:
                break
            if listening:
                try:
                    write_all(lister.stdin.fileno(), view[:count])
                except BrokenPipeError:
                    listening = False  # it has seen the table of contents, which comes first
            write_all(1, view[:count])
        lister.stdin.close()
        return 1 if lister.wait() else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
