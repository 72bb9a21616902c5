# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of long work, as a small file that is replaced as a whole; whoever watches reads it at will."""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic
from typing import Optional

_EVERY_SECONDS = 0.2  # whoever reads every block of a file says so each time


class Progress:
    """Says how far one activity is.

    :param path: the file to replace; None keeps silent.
    """

    def __init__(self, path: Optional[Path] = None) -> None:
        self._path = path
        self._phase = ""
        self._began = monotonic()
        self._expected = 0
        self._next = 0.0

    def phase(self, name: str, expected_bytes: int = 0) -> None:
        """Begin a phase; *expected_bytes* 0 means nobody knows."""
        self._phase, self._expected, self._began = name, expected_bytes, monotonic()
        self.advance(0)

    def advance(self, done_bytes: int) -> None:
        """Say how many bytes of the phase are done."""
        now = monotonic()
        if self._path is None or (done_bytes and now < self._next):
            return
        self._next = now + _EVERY_SECONDS
        seconds = now - self._began
        rate = done_bytes / seconds if seconds > 0 else 0.0
        state = {
            "pid": os.getpid(),
            "phase": self._phase,
            "done_bytes": done_bytes,
            "expected_bytes": self._expected,
            "bytes_per_second": round(rate),
            "seconds": round(seconds, 1),
        }
        if self._expected and rate:
            state["percent"] = min(100, round(100 * done_bytes / self._expected))
            state["seconds_left"] = round(max(0.0, (self._expected - done_bytes) / rate))
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_text(json.dumps(state))
            os.replace(temporary, self._path)
        except OSError:
            self._path = None  # progress only informs: a full or vanished folder must not fail the work
