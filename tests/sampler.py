# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks into the command line and the environment of every process, again and again.

Tests use the thread; on a host, with nothing but Python's standard library:

    sampler.py record FILE            until it is ended; each line that is new goes to FILE
    sampler.py search FILE REGEX      what of it matches: "cmdline WORD" or "environ WORD", each once
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PAUSE_SECONDS = 0.01


def processes() -> Iterator[tuple[str, str, bytes]]:
    """Give the part, the program's name and the content, for each process but this one."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        for part in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it ended, or is another user's
                content = Path("/proc", name, part).read_bytes()
                if content:
                    yield part, Path("/proc", name, "comm").read_text(errors="replace").strip(), content


class Sampler(threading.Thread):
    """Looks for words that must not be there, until it is stopped."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.words = words
        self.found: set[str] = set()
        self.rounds = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            for part, program, content in processes():
                if any(word.encode() in content for word in self.words):
                    self.found.add(f"{part} of {program}")
            self.rounds += 1

    def stop(self) -> None:
        """End it; what it found stays."""
        self._ended.set()
        self.join(10)


@contextlib.contextmanager
def sampling(words: Sequence[str]) -> Iterator[Sampler]:
    """Sample while the block runs."""
    sampler = Sampler(words)
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.stop()


def record(path: Path) -> None:
    """Write what each process shows, once, until this program is ended; the last line tells how often it looked."""
    seen: set[tuple[str, bytes]] = set()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    rounds = 0
    with os.fdopen(descriptor, "w", buffering=1) as out:
        while True:
            for part, program, content in processes():
                if (part, content) not in seen:
                    seen.add((part, content))
                    text = content.decode("utf-8", "backslashreplace")
                    out.write(json.dumps({"round": rounds, "part": part, "program": program, "text": text}) + "\n")
            rounds += 1
            if rounds % 100 == 0:
                out.write(json.dumps({"round": rounds}) + "\n")
            time.sleep(PAUSE_SECONDS)


def search(path: Path, pattern: str) -> tuple[list[str], int]:
    """Return what of a record matches, and how often was looked at the least."""
    wanted = re.compile(pattern)
    found: set[str] = set()
    rounds = 0
    with path.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # it was ended while it wrote
            value = json.loads(line)
            rounds = max(rounds, value["round"])
            found |= {f"{value['part']} {word}" for word in wanted.findall(value.get("text", ""))}
    return sorted(found), rounds


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; 2 if they say nothing known."""
    if len(arguments) == 2 and arguments[0] == "record":
        record(Path(arguments[1]))
    if len(arguments) == 3 and arguments[0] == "search":
        found, rounds = search(Path(arguments[1]), arguments[2])
        print("\n".join([f"looked {rounds}", *found]))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
