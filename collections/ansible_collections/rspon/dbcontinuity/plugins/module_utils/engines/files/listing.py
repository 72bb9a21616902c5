# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The complete listing of an instance's folders: one JSON object a line, sorted by path.

The agent writes ``"path"`` first in each line and ``sort`` orders the lines by their bytes, so two listings, or a
listing and an archive made in its order, are compared side by side, without holding either in memory.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Optional

from ...process import Stage, find_tool

_ESCAPED = re.compile(rb"[\\:\x00-\x1f\x7f]")
_SHORT = {
    b"\\": b"\\\\",
    b":": b"\\:",
    b"\a": b"\\a",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\v": b"\\v",
}
# Whatever of these differs, the file is archived again; access times never count.
_COMPARED = ("kind", "size", "mode", "uid", "gid", "modified", "changed", "inode", "target")


@dataclass
class Changes:
    """What happened between two listings: how many paths are new or changed, how many went.

    :ivar newest: the newest change's time in nanoseconds since 1970 UTC, 0 where there is none.
    """

    changed: int = 0
    deleted: int = 0
    newest: int = 0


@dataclass(frozen=True)
class Excused:
    """What tar said of files that changed or vanished while they were read.

    :ivar lines: the first of tar's lines.
    :ivar count: how many lines there were; where there are more than are named, any file may have been one of them.
    """

    lines: tuple[str, ...] = ()
    count: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Excused:
        """Return what the agent's answer, a manifest's details or a record's end says."""
        lines = tuple(str(line) for line in values.get("changed_while_read", []))
        return cls(lines, max(len(lines), int(values.get("changed_while_read_count", 0))))

    def values(self) -> dict[str, Any]:
        """Return what a manifest or record keeps of it."""
        return {"changed_while_read": list(self.lines), "changed_while_read_count": self.count}

    @property
    def unnamed(self) -> int:
        """Return how many files changed whose names are not known."""
        return self.count - len(self.lines)

    def finder(self) -> Callable[[Mapping[str, Any]], bool]:
        """Return the function that tells whether tar named a listing's entry."""
        said = "\n".join(self.lines)
        return lambda entry: f": {_as_tar_says(entry)}: " in said

    def judge(self, found: Sequence[str]) -> list[str]:
        """Return which of the problems with unnamed files count: none while as many files are known to have changed."""
        return list(found) if len(found) > self.unnamed else []


NOTHING_EXCUSED = Excused()


def sort_stage() -> Stage:
    """Return the stage that orders a listing; it spills to disk instead of growing."""
    return Stage((find_tool("sort", "coreutils"), "--buffer-size=32M"), environment={"LC_ALL": "C"})


def read_listing(listing: Path) -> Iterator[dict[str, Any]]:
    """Give a listing's entries."""
    with listing.open("rb") as lines:
        for line in lines:
            yield json.loads(line)


def name_bytes(entry: Mapping[str, Any]) -> bytes:
    """Return an entry's path as the file system has it, whatever its encoding."""
    return str(entry["path"]).encode("utf-8", "surrogateescape")


def _as_tar_says(entry: Mapping[str, Any]) -> str:
    """Return an entry's path as tar's messages write it: relative, control characters and invalid bytes escaped."""
    name = _ESCAPED.sub(lambda found: _SHORT.get(found[0], b"\\%03o" % found[0][0]), name_bytes(entry).lstrip(b"/"))
    text = name.decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"\\{ord(found[0]) - 0xDC00:03o}", text)


def staged_name(sha256: str) -> str:
    """Return the name under which a listing is kept in staging."""
    return f"listing-{sha256}.jsonl"


def _sort_key(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry["path"]).encode()


def compare(before: Path, after: Path, names: IO[bytes], deleted: IO[bytes]) -> Changes:
    """Write what happened between two listings, NUL-separated paths: new and changed ones, and those that went."""
    changes = Changes()
    old = read_listing(before)
    waiting: Optional[dict[str, Any]] = next(old, None)
    for entry in read_listing(after):
        key = _sort_key(entry)
        while waiting is not None and _sort_key(waiting) < key:
            deleted.write(name_bytes(waiting) + b"\0")
            changes.deleted += 1
            waiting = next(old, None)
        same = False
        if waiting is not None and _sort_key(waiting) == key:
            same = all(waiting.get(each) == entry.get(each) for each in _COMPARED)
            waiting = next(old, None)
        if not same:
            names.write(name_bytes(entry) + b"\0")
            changes.changed += 1
            changes.newest = max(changes.newest, entry["changed"])
    while waiting is not None:
        deleted.write(name_bytes(waiting) + b"\0")
        changes.deleted += 1
        waiting = next(old, None)
    return changes


def count_entries(listing: Path) -> dict[str, int]:
    """Return how many entries, files and folders a listing has, and the bytes of its files."""
    totals = {"entries": 0, "files": 0, "folders": 0, "links": 0, "special": 0, "bytes": 0}
    plural = {"file": "files", "folder": "folders", "link": "links", "special": "special"}
    for entry in read_listing(listing):
        totals["entries"] += 1
        totals[plural[entry["kind"]]] += 1
        totals["bytes"] += entry["size"]
    return totals


def archive_members(archive: Path) -> Iterator[tuple[bytes, tarfile.TarFile, tarfile.TarInfo]]:
    """Give the absolute paths a tar archive holds, in its order, reading it to its end without keeping members."""
    with tarfile.open(archive, "r|", errorlevel=2, encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            yield b"/" + member.name.rstrip("/").encode("utf-8", "surrogateescape"), tar, member
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all


def verify_against_listing(archive: Path, listing: Path, excused: Excused = NOTHING_EXCUSED) -> list[str]:
    """Return what a tar archive lacks of the listing in whose order it was made."""
    named = excused.finder()
    lacking: list[str] = []
    problems: list[str] = []
    held = (name for name, _tar, _member in archive_members(archive))
    present: Optional[bytes] = next(held, None)
    for entry in read_listing(listing):
        if present == name_bytes(entry):
            present = next(held, None)
        elif not named(entry):
            lacking.append(f"{entry['path']} is missing")
    for name in held if present is None else (present, *held):
        problems.append(f"{name.decode('utf-8', 'replace')} is not in the listing")
    return excused.judge(lacking) + problems
