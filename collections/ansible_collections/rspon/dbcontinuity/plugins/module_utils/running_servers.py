# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the database servers running on this host use: data directories, sockets, tablespaces; read from /proc."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = frozenset({"mariadbd", "mysqld", "postgres", "postmaster"})
_OPTION = re.compile(r"--(?:datadir|data-directory|data_directory|pgdata|socket)=(.+)")
_SOCKET = re.compile(r"/(?:\.s\.PGSQL\.\d+|[^/]*(?:mysql|mariadb)[^/]*\.sock)$")


@dataclass(frozen=True)
class Place:
    """A folder that a running server uses.

    :param kind: what for, in words.
    :param open_to_all: such as /tmp: what lies in it is not the server's for that.
    """

    path: Path
    kind: str
    server: str
    pid: int
    open_to_all: bool = False


def places() -> list[Place]:
    """Return the folders of all running database servers that this user can see."""
    found: dict[tuple[Path, int], Place] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        process = Path("/proc") / entry
        try:
            name = (process / "comm").read_text(errors="replace").strip()
        except OSError:
            continue
        if name in PROGRAMS:
            for named, kind in _used_by(process):
                path = Path(os.path.realpath(named))  # a socket's name may lead through /var/run
                shared = _open_to_all(path)
                found.setdefault((path, int(entry)), Place(path, kind, name, int(entry), shared))
    return list(found.values())


def users_of(folder: Path) -> list[int]:
    """Return the processes that work in *folder*."""
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                where = Path(os.readlink(f"/proc/{entry}/cwd"))
                if where == folder or folder in where.parents:
                    pids.append(int(entry))
    return pids


def _open_to_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_ISVTX)
    except OSError:
        return False


def _used_by(process: Path) -> Iterator[tuple[Path, str]]:
    words: list[str] = []
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    for number, word in enumerate(words):
        match = _OPTION.fullmatch(word)
        if match:
            path = Path(match.group(1))
            is_socket = word.startswith("--socket")
            yield (path.parent, "socket directory") if is_socket else (path, "data directory")
        elif word == "-D" and number + 1 < len(words):
            yield from _data(Path(words[number + 1]))
        elif word.startswith("-D") and len(word) > 2:
            yield from _data(Path(word[2:]))
    with contextlib.suppress(OSError):
        where = Path(os.readlink(process / "cwd"))
        if where != Path("/"):
            yield from _data(where)
    own: set[str] = set()
    readable = False
    with contextlib.suppress(OSError):
        for each in os.listdir(process / "fd"):
            readable = True
            with contextlib.suppress(OSError):
                target = os.readlink(process / "fd" / each)
                if target.startswith("socket:["):
                    own.add(target[len("socket:[") : -1])
                elif target.startswith("/") and not target.startswith(("/dev/", "/proc/", "/sys/")):
                    path = Path(target.replace(" (deleted)", ""))
                    # A server keeps its own folder open, too; what lies beside that is nobody's.
                    yield path if path.is_dir() else path.parent, "folder of files"
    with contextlib.suppress(OSError):
        # It lists the sockets of all processes; those of another user's server are known by their names alone.
        for line in (process / "net" / "unix").read_text(errors="surrogateescape").splitlines():
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and (fields[6] in own if readable else _SOCKET.search(line)):
                yield Path(fields[7]).parent, "socket directory"


def _data(path: Path) -> Iterator[tuple[Path, str]]:
    if not path.is_absolute():
        return
    yield path, "data directory"
    with contextlib.suppress(OSError):
        for link in (path / "pg_tblspc").iterdir():
            if link.is_symlink():
                yield Path(os.path.realpath(link)), "tablespace"
