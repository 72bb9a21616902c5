# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving a recovering server its log: segments are decoded a few ahead of it, and removed a few behind.

<folder>/restore      what the server's restore_command runs
<folder>/index/names  the segments there are, or will be; what is not named is not there
<folder>/index/failed only where decoding failed: the recovery ends then
<folder>/asked/name   what the server asked for last
<folder>/index/<seg>  a decoded segment
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Optional

from ...durable import UNFINISHED
from ...errors import ContinuityError
from ...process import find_tool, write_through
from ..scratch import Source

AHEAD = 6
# A server that starts reads its checkpoint, then the older segment where recovery begins.
BEHIND = 3
_POLL_SECONDS = 0.02
# 130: with a status above 125 the server gives up instead of taking it for the log's end.
_PROGRAM = """#!{shell}
here='{folder}'
known() {{ grep -qxF -- "$1" "$here/index/names"; }}
known "$1" || exit 1
echo "$1" > "$here/asked/name.new" && mv "$here/asked/name.new" "$here/asked/name" || exit 130
while [ ! -e "$here/index/$1" ]; do
  [ ! -e "$here/index/failed" ] || exit 130
  known "$1" || exit 1
  sleep 0.02
done
exec cp -- "$here/index/$1" "$2"
"""


class SegmentFeeder:
    """Decodes the logs of a source for one recovering server, in a thread of its own."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._index = folder / "index"
        self._numbers = {record.name: number for number, record in enumerate(source.logs)}
        self._stopping = threading.Event()
        self._failure: Optional[ContinuityError] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.asked_bytes = 0
        for path in (self._index, folder / "asked"):
            path.mkdir(mode=0o700)
        program = folder / "restore"
        program.write_text(_PROGRAM.format(shell=find_tool("sh", "dash"), folder=folder), encoding="utf-8")
        program.chmod(0o500)
        self._write_names(0)

    @property
    def command(self) -> str:
        """Return the server's ``restore_command``."""
        return f"{self._folder}/restore %f %p"

    def start(self) -> None:
        """Begin."""
        if os.geteuid() == 0:
            # The server reads here, and writes only what it asked for.
            self._index.chmod(0o755)
            os.chown(self._index, 0, 0)
            for path in self._index.iterdir():
                os.chown(path, 0, 0)
                path.chmod(0o644)
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is decoded afterwards."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def raise_failure(self) -> None:
        """Raise what kept a segment from being decoded.

        :raises ContinuityError: that.
        """
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for number, record in enumerate(self._source.logs):
                while number > self._asked() + AHEAD:
                    if self._stopping.wait(_POLL_SECONDS):
                        return
                if self._stopping.is_set():
                    return
                self._forget(self._asked() - BEHIND)
                unfinished = self._index / f"{UNFINISHED}{record.name}"
                write_through(self._source.log_stages(record), unfinished, mode=0o644)
                unfinished.chmod(0o644)
                unfinished.rename(self._index / record.name)
            while not self._stopping.wait(0.1):
                self._asked()
        except ContinuityError as error:
            self._failure = error
            (self._index / "failed").touch()

    def _asked(self) -> int:
        try:
            name = (self._folder / "asked" / "name").read_text(encoding="ascii").strip()
        except OSError:
            return 0
        number = self._numbers.get(name, 0)
        size = int(self._source.logs[0].values.get("plain_size") or 0)
        self.asked_bytes = max(self.asked_bytes, number * size)
        return number

    def _forget(self, below: int) -> None:
        gone = [record.name for record in self._source.logs[: max(0, below)] if (self._index / record.name).exists()]
        if gone:
            self._write_names(below)
            for name in gone:
                (self._index / name).unlink()

    def _write_names(self, first: int) -> None:
        text = "".join(f"{record.name}\n" for record in self._source.logs[first:])
        fresh = self._index / "names.new"
        fresh.write_text(text, encoding="ascii")
        fresh.chmod(0o644)
        fresh.rename(self._index / "names")
