# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, programs, processes and ports: what a throwaway server needs from the operating system.

Nothing here goes through a shell, and no password ever stands in an argument list.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SERVER_PROGRAMS = frozenset({"mariadbd", "mysqld", "postgres"})
EXTRA_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")


class ServerError(RuntimeError):
    """A server, or a tool run for it, failed; the text says which, and carries the end of its log."""


@dataclass(frozen=True)
class Owner:
    """The unprivileged user that owns a server's files and processes."""

    name: str
    uid: int
    gid: int

    @property
    def is_me(self) -> bool:
        return self.uid == os.geteuid()

    def give(self, path: Path) -> None:
        """Hand a file or folder over to this user (only root needs to, and can)."""
        if not self.is_me:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def reaches(self, path: Path) -> Path | None:
        """The first ancestor this user may not pass through, or None when it can get there."""
        for folder in reversed(path.absolute().parents):
            try:
                found = folder.stat()
            except FileNotFoundError:
                return None
            if self.uid == 0:
                continue
            if found.st_uid == self.uid:
                bit = stat.S_IXUSR
            elif found.st_gid == self.gid:
                bit = stat.S_IXGRP
            else:
                bit = stat.S_IXOTH
            if not found.st_mode & bit:
                return folder
        return None


def my_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def owner(candidates: Sequence[str], user: str | None = None) -> Owner:
    """The named user; without a name the current one, or (as root) the first candidate that exists here."""
    if os.geteuid() != 0:
        found = pwd.getpwuid(os.geteuid())
        if user not in (None, found.pw_name):
            raise ServerError(f"user {user!r} was asked for, but only root can start a server as somebody else")
        return Owner(found.pw_name, found.pw_uid, found.pw_gid)
    for name in [user] if user else [*candidates, "nobody"]:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid == 0:
            raise ServerError(f"{name!r} is root, and a database server refuses to run as root: name another user")
        return Owner(found.pw_name, found.pw_uid, found.pw_gid)
    raise ServerError(f"no such user here: {user or ', '.join(candidates)}")


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def postgresql_folders() -> list[Path]:
    """Versioned program folders, newest major first (a PATH entry may be only a link or a wrapper)."""
    base = Path("/usr/lib/postgresql")
    found = [entry for entry in base.iterdir() if entry.name.isdigit()] if base.is_dir() else []
    return [entry / "bin" for entry in sorted(found, key=lambda entry: int(entry.name), reverse=True)]


def find_program(*names: str, first: Sequence[Path] = ()) -> str:
    """The first of these names found in the folders given, then on PATH, then where system programs live."""
    path = os.pathsep.join([*map(str, first), os.environ.get("PATH", ""), *EXTRA_FOLDERS])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise ServerError(f"{' or '.join(names)} is not installed (see bindep.txt)")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment, so that the caller's PGHOST, MYSQL_HOST, TZ or locale change nothing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *EXTRA_FOLDERS])
    return {"PATH": path, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **(extra or {})}


def start(
    command: Sequence[str], who: Owner, *, cwd: Path, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one if need be, as its owner, writing to a log."""
    with open(log, "ab", buffering=0) as sink:
        who.give(log)
        other = None if who.is_me else who
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=cwd,
            env=environment(env),
            start_new_session=True,
            umask=0o077,
            user=other.uid if other else None,
            group=other.gid if other else None,
            extra_groups=[] if other else None,
        )


def run(
    command: Sequence[str],
    who: Owner | None = None,
    *,
    cwd: Path | None = None,
    data: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> bytes:
    """Run a tool to its end; its stdout. A failure carries its stderr."""
    other = None if who is None or who.is_me else who
    try:
        done = subprocess.run(
            list(command),
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            check=False,
            cwd=cwd or "/",
            env=environment(env),
            timeout=timeout,
            user=other.uid if other else None,
            group=other.gid if other else None,
            extra_groups=[] if other else None,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"{Path(command[0]).name} did not end within {timeout:g} s") from error
    if done.returncode:
        raise ServerError(
            f"{Path(command[0]).name} exited with {done.returncode}: "
            f"{(done.stderr or done.stdout).decode(errors='replace')[-2000:].strip()}"
        )
    return done.stdout


def tail(path: Path, lines: int = 25) -> str:
    """The end of a log, for an error message."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 16384))
            text = stream.read().decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"


def wait_until(true: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Look again and again; the last look comes after the time is over, however long this process itself was held up."""
    deadline = time.monotonic() + seconds
    while True:
        over = time.monotonic() > deadline
        if true():
            return True
        if over:
            return False
        time.sleep(pause)


def parent(pid: int) -> int:
    """A process's parent; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def arguments(pid: int) -> list[str]:
    """A process's argument list; empty for one that is gone, a zombie, or the kernel's."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="surrogateescape") for part in raw.split(b"\0")[:-1]]


def alive(pid: int) -> bool:
    """Whether a process exists: not a zombie, nor one whose other threads are still dying with its files open."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return status.rpartition(")")[2].split()[0] not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def data_folder(command: Sequence[str]) -> str | None:
    """The data directory in a database server's argument list, or None if it is no such server."""
    if not command or os.path.basename(command[0]) not in SERVER_PROGRAMS:
        return None
    for position, word in enumerate(command):
        if word.startswith("--datadir="):
            return word.partition("=")[2]
        if word == "-D" and position + 1 < len(command):
            return command[position + 1]
    return None


def servers_under(base: Path) -> list[tuple[int, Path]]:
    """(pid, data directory) of the database servers whose data directory lies in this folder."""
    root = base.resolve()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            folder = data_folder(arguments(int(entry)))
            if folder is not None and os.path.isabs(folder):
                path = Path(folder).resolve()
                if root == path or root in path.parents:
                    found.append((int(entry), path))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """All processes started by this one, and by those."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(parent(int(entry)), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


def _left_to_reap(pid: int) -> bool:
    """Whether somebody else's zombie still holds the number."""
    return Path(f"/proc/{pid}").exists() and parent(pid) != os.getpid()


def kill9(pid: int) -> None:
    """Kill a server and its workers (PostgreSQL's are sessions of their own); wait until they are gone.

    A zombie that its parent has not reaped yet still answers signal 0, and PostgreSQL then takes the lock file of
    the dead server's socket for a living one's. Some init processes reap every two seconds only: wait for them.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it starts no worker between the look and the kill
    family = [pid, *descendants(pid)]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    if not wait_until(lambda: not any(map(alive, family)), 60):
        raise ServerError(f"process {pid} is still there 60 s after SIGKILL")
    wait_until(lambda: not any(map(_left_to_reap, family)), 15)


class Port:
    """A TCP port on 127.0.0.1, reserved for this process while it lives.

    It lies below the kernel's ephemeral range, so that no outgoing connection can take it between a stop
    and a restart. An abstract socket named after it is the reservation: a lock that dies with its holder.
    """

    def __init__(self, number: int | None = None) -> None:
        self._lock: socket.socket | None = None
        self.number = 0
        for candidate in iter([number]) if number else _candidates():
            if self._take(candidate, must_be_free=number is None):
                return
        raise ServerError(f"port {number} is reserved by another process" if number else "no free TCP port was found")

    def _take(self, number: int, must_be_free: bool) -> bool:
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0dbcontinuity-demo-port-{number}")
            if must_be_free:
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
        except OSError:
            lock.close()
            return False
        self._lock, self.number = lock, number
        return True

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _candidates() -> Iterator[int]:
    lowest = 32768
    with contextlib.suppress(OSError, ValueError):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    low, high = (20000, lowest) if lowest > 21000 else (61000, 65000)
    for _ in range(400):
        yield random.randrange(low, high)


ADDRESS_IN_USE = re.compile(r"Address already in use|Bind on TCP/IP port.*\b98\b", re.IGNORECASE)
