# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a tar archive of pg_basebackup as it flows by, and proves it against the server's own manifest.

Also a program of its own (only the standard library, nothing of this project), so that it can stand in a pipeline:
a descriptor, standard input unless told otherwise, is copied to standard output; each file's size and SHA-256, and the
few files that tell of the backup, are left in a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Optional

BLOCK = 512
BUFFER_BYTES = 1024 * 1024
KEPT = ("backup_label", "tablespace_map", "backup_manifest")
SEEN = "seen"
_SEGMENT = re.compile(r"^pg_wal/[0-9A-F]{24}$")
_F_SETPIPE_SZ = 1031


class BrokenArchive(Exception):
    """The archive is not what a tar archive of pg_basebackup is; the message says where."""


class Watcher:
    """Reads an archive in blocks of any length.

    :param folder: where the list of files (:data:`SEEN`), the kept files and the log segments (``wal``) go.
    :param prefix: what stands before each name in the manifest, such as ``pg_tblspc/16385/``.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self._folder = folder
        self._prefix = prefix
        self._header = bytearray()
        self._left = 0
        self._padding = 0
        self._zero_blocks = 0
        self._name = ""
        self._size = 0
        self._digest: Optional[Any] = None
        self._copy: Optional[BinaryIO] = None
        self._seen = (folder / SEEN).open("a", encoding="utf-8", errors="surrogateescape")

    def feed(self, view: memoryview) -> None:
        """Take the next bytes."""
        while view:
            if self._left:
                part = view[: self._left]
                self._content(part)
                self._left -= len(part)
                view = view[len(part) :]
                if not self._left:
                    self._end_of_file()
            elif self._padding:
                count = min(self._padding, len(view))
                self._padding -= count
                view = view[count:]
            else:
                count = min(BLOCK - len(self._header), len(view))
                self._header += view[:count]
                view = view[count:]
                if len(self._header) == BLOCK:
                    self._member(bytes(self._header))
                    self._header.clear()

    def _content(self, part: memoryview) -> None:
        if self._digest is not None:
            self._digest.update(part)
        if self._copy is not None:
            self._copy.write(part)

    def _member(self, header: bytes) -> None:
        if not any(header):
            self._zero_blocks += 1
            return
        if self._zero_blocks:
            raise BrokenArchive("there are data after the archive's end")
        said = int(header[148:156].split(b"\0")[0].strip() or b"0", 8)
        if said != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise BrokenArchive(f"the header after {self._name or 'the beginning'} is damaged")
        self._name = os.fsdecode(header[:100].split(b"\0")[0])
        self._size = self._left = _number(header[124:136])
        self._padding = -self._left % BLOCK
        kind = header[156:157]
        if kind not in (b"0", b"\0"):
            if kind not in (b"5", b"2") or self._left:
                raise BrokenArchive(f"{self._name} is of the unknown kind {kind!r}")
            return
        name = os.path.normpath(self._name)
        self._digest = hashlib.sha256()
        if not self._prefix and name in KEPT:
            self._copy = (self._folder / name).open("wb")
        elif not self._prefix and _SEGMENT.match(name):
            (self._folder / "wal").mkdir(exist_ok=True)
            self._copy = (self._folder / "wal" / name[7:]).open("wb")
        if not self._left:
            self._end_of_file()

    def _end_of_file(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        if self._digest is not None:
            path = self._prefix + os.path.normpath(self._name)
            self._seen.write(json.dumps([path, self._size, self._digest.hexdigest()]) + "\n")
            self._digest = None

    def close(self) -> None:
        """Say that no more comes.

        :raises BrokenArchive: if the archive is cut short.
        """
        self._seen.close()
        if self._left or self._header or self._padding or self._zero_blocks < 2:
            raise BrokenArchive(f"it is cut short after {self._name or 'nothing'}")


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def compare(manifest: Path, seen: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return what an archive's files differ in from ``backup_manifest``, and the manifest's ranges of the log.

    Files that the manifest does not name are a difference too, but for the log, which it names as ranges. The manifest
    is read line by line: the server writes one file a line.
    """
    found: dict[str, tuple[int, str]] = {}
    with seen.open(encoding="utf-8", errors="surrogateescape") as listing:
        for entry in listing:
            path, size, digest = json.loads(entry)
            found[path] = (size, digest)
    problems: list[str] = []
    ranges: list[dict[str, Any]] = []
    try:
        proven = _read_manifest(manifest, found, problems, ranges)
    except (ValueError, KeyError, TypeError):
        proven = False
    if not proven:
        problems.append("backup_manifest itself is damaged or cut short")
    problems += [
        f"{path} is not in the manifest"
        for path in found
        if path != "backup_manifest" and not path.startswith("pg_wal/")
    ]
    return problems, ranges


def _read_manifest(
    manifest: Path, found: dict[str, tuple[int, str]], problems: list[str], ranges: list[dict[str, Any]]
) -> bool:
    """Hold each line against what was found; return whether the manifest's own checksum holds."""
    whole = hashlib.sha256()
    section = ""
    with manifest.open("rb") as raw:
        for line in raw:
            if line.startswith(b'"Manifest-Checksum"'):
                return bool(json.loads(b"{" + line)["Manifest-Checksum"] == whole.hexdigest())
            whole.update(line)
            if line.startswith(b'"'):
                section = line.split(b'"')[1].decode()
            elif line.startswith(b"{") and section in ("Files", "WAL-Ranges"):
                values = json.loads(line.strip().rstrip(b","))
                if section == "WAL-Ranges":
                    ranges.append(values)
                else:
                    problems += _differs(values, found)
    return False


def _differs(entry: dict[str, Any], found: dict[str, tuple[int, str]]) -> list[str]:
    path = entry["Path"] if "Path" in entry else os.fsdecode(bytes.fromhex(entry["Encoded-Path"]))
    if path not in found:
        return [f"{path} is missing"]
    size, digest = found.pop(path)
    if size != entry["Size"]:
        return [f"{path} has {size} bytes instead of {entry['Size']}"]
    if entry.get("Checksum-Algorithm") != "SHA256":
        return [f"{path} has no SHA256 in the manifest"]
    if digest != entry["Checksum"]:
        return [f"{path} has other content than the manifest says"]
    return []


def pump(source: int, watcher: Watcher, decompress: str = "") -> None:
    """Copy all of *source* to standard output and show it to the watcher.

    :param decompress: the program zstd, if *source* is compressed: it is copied as it is, and watched unpacked.
    :raises BrokenArchive: if it is not whole.
    """
    for descriptor in (source, 1):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, BUFFER_BYTES)
    if not decompress:
        _copy(source, watcher.feed)
        return
    unpacker = Unpacker(decompress, watcher)
    try:
        _copy(source, unpacker.feed)
    finally:
        unpacker.close()


def _copy(source: int, look: Callable[[memoryview], None]) -> None:
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    while True:
        count = os.readv(source, [buffer])
        if count == 0:
            return
        look(view[:count])
        write_all(1, view[:count])


def write_all(descriptor: int, rest: memoryview) -> None:
    """Write all bytes."""
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Unpacker:
    """Gives what zstd makes of a stream to the watcher, in a thread of its own."""

    def __init__(self, program: str, watcher: Watcher) -> None:
        self._process = subprocess.Popen([program, "-q", "-d", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("Popen was asked for pipes")
        self._input, self._output = self._process.stdin, self._process.stdout
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):
                fcntl.fcntl(stream.fileno(), _F_SETPIPE_SZ, BUFFER_BYTES)
        self._watcher = watcher
        self._broken = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        buffer = bytearray(BUFFER_BYTES)
        view = memoryview(buffer)
        while True:
            count = os.readv(self._output.fileno(), [buffer])
            if count == 0:
                return
            if not self._broken:
                try:
                    self._watcher.feed(view[:count])
                except (BrokenArchive, OSError, ValueError) as error:
                    self._broken = str(error) or type(error).__name__

    def feed(self, view: memoryview) -> None:
        """Take compressed bytes."""
        try:
            write_all(self._input.fileno(), view)
        except BrokenPipeError:
            raise BrokenArchive("it cannot be decompressed") from None

    def close(self) -> None:
        """Say that no more comes.

        :raises BrokenArchive: if it could not be unpacked whole.
        """
        self._input.close()
        self._thread.join()
        if self._process.wait() or self._broken:
            raise BrokenArchive(self._broken or "it cannot be decompressed")


def main() -> int:
    """Watch an archive; 0 if it is whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--source", type=int, default=0, help="the descriptor to read from")
    parser.add_argument("--zstd", default="", help="the program that decompresses, if the archive is compressed")
    given = parser.parse_args()
    watcher = Watcher(given.folder, given.prefix)
    try:
        pump(given.source, watcher, given.zstd)
        watcher.close()
    except BrokenArchive as error:
        sys.stderr.write(f"the archive is not whole: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
