# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The non-active folder (T2): where a copy is brought up to be looked at, and destroyed afterwards.

    <folder>/dbcontinuity-scratch.json   the marker: only a folder that is new, empty or has it is used
    <folder>/.lock                       the kernel's lock of whoever uses it
    <folder>/work-<instance>/            one copy at a time, 0700, owned by the user the throwaway server runs as

The folder itself belongs to whoever runs this; others may pass through it, as the throwaway server has to, and read
nothing. It is refused, and nothing touched, wherever a live database could be meant.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .clock import iso, utc_now
from .durable import UNFINISHED, existing_parent, free_bytes, make_directory, read_json, write_json, writing_to
from .errors import DamagedError, InputError, LockHeldError, PrerequisiteError
from .locks import exclusive, refuse_held
from .running_servers import places, users_of
from .throwaway import Owner

MARKER = "dbcontinuity-scratch.json"
LOCK = ".lock"
WORK = "work-"
# A socket's path ends up in 107 bytes; below the folder stand work-<instance>/s/.s.PGSQL.5432.lock
LONGEST_SOCKET = 107
SOCKET_FOLDER = "s"
_MARKING = re.compile(rf"{re.escape(UNFINISHED)}\d+-{re.escape(MARKER)}", re.ASCII)
_SOCKET_ROOM = len("/s/.s.PGSQL.5432.lock")
_ELSEWHERE = "Name another folder, one that no database server uses and that is no part of the repository."


def check_folder(path: Path, repository: Path) -> None:
    """Refuse a folder that cannot be a non-active one; nothing is touched.

    :raises InputError: if the path cannot be meant.
    :raises PrerequisiteError: if a server uses it, or something else lies in it.
    :raises LockHeldError: if that server is another run's, which is at work.
    """
    _refuse_path(path, repository)
    _refuse_active(path, held=False)
    if path.exists():
        _refuse_foreign(path)


def _refuse_path(path: Path, repository: Path) -> None:
    if not path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"The scratch folder {str(path)!r} is not an absolute path.",
            "Write the whole path, beginning with a slash.",
        )
    if not re.fullmatch(r"[A-Za-z0-9._/+@-]+", str(path)):
        raise InputError(
            f"The scratch folder {str(path)!r} has characters that not every tool can be handed.",
            "Use letters, digits, dot, dash, underscore.",
        )
    for part in (path, *path.parents):
        if part.is_symlink():
            raise InputError(
                f"The scratch folder {path} is, or lies behind, a symbolic link: {part} leads to {os.path.realpath(part)}.",
                f"Name the folder itself, such as {Path(os.path.realpath(path))}, if that is the one you mean.",
            )
    if path.exists() and not path.is_dir():
        raise InputError(f"The scratch folder {path} is no folder.", _ELSEWHERE)
    kept = Path(os.path.realpath(repository))
    if related(path, kept):
        how = "is" if path == kept else "lies in" if kept in path.parents else "contains"
        raise InputError(f"The scratch folder {path} {how} the repository {kept}.", _ELSEWHERE)


def related(one: Path, other: Path) -> bool:
    """Return whether two folders are the same, or one lies in the other."""
    return one == other or other in one.parents or one in other.parents


def _refuse_active(path: Path, *, held: bool) -> None:
    """Refuse a folder that a server uses.

    :param held: whether this run has the folder's lock, so that a copy's server can only be one that was left behind.
    """
    for place in places():
        if place.path == path or path in place.path.parents:
            how = "is" if place.path == path else "contains"
        elif place.path in path.parents and not place.open_to_all and place.path != Path("/"):
            how = "lies in"
        else:
            continue
        if how == "contains" and _is_left_behind(path, place.path):
            if not held:
                refuse_held(path / LOCK, "a copy")
            raise PrerequisiteError(
                f"The scratch folder {path} is still used by the process {place.pid} ({place.server}) of an aborted run.",
                f"End it: kill {place.pid}. Then run again; what it left is removed.",
                {"pid": place.pid},
            )
        raise PrerequisiteError(
            f"The scratch folder {path} {how} {place.path}, a {place.kind} of the running {place.server} (process"
            f" {place.pid}).",
            _ELSEWHERE,
            {"pid": place.pid, "path": str(place.path)},
        )


def _is_left_behind(path: Path, place: Path) -> bool:
    return (path / MARKER).is_file() and place.relative_to(path).parts[0].startswith(WORK)


def _refuse_foreign(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise PrerequisiteError(
            f"The scratch folder {path} belongs to another user (uid {found.st_uid}).",
            "Name a folder that is not there yet, or one of the user that runs this.",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PrerequisiteError(
            f"Others can write into the scratch folder {path}.", f"Run: chmod go-w {path} after looking who did."
        )
    # Another run that marks it in this moment, or was ended while it did, has put nothing into it yet.
    names = [name for name in sorted(os.listdir(path)) if not _MARKING.fullmatch(name)]
    if not names:
        return
    if not _has_marker(path):
        raise PrerequisiteError(
            f"The scratch folder {path} is not empty, and nothing marks it as one: it holds {_some(names)}.",
            f"Nothing was touched. {_ELSEWHERE}",
        )
    foreign = [name for name in names if name not in (MARKER, LOCK) and not _is_work(path / name)]
    if foreign:
        raise PrerequisiteError(
            f"The scratch folder {path} holds what is not its own: {_some(foreign)}.",
            "Nothing was touched. Move it away if it is needed, then run again.",
        )


def _has_marker(path: Path) -> bool:
    marker = path / MARKER
    if marker.is_symlink() or not marker.is_file():
        return False
    try:
        return read_json(marker) == _marker()
    except DamagedError:
        return False


def _marker() -> dict[str, Any]:
    return {"scratch_version": 1, "made_by": "rspon.dbcontinuity", "content": "copies under test; destroyed after use"}


def _is_work(path: Path) -> bool:
    return path.name.startswith(WORK) and path.is_dir() and not path.is_symlink()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def check_reach(path: Path, owner: Owner, *, sockets: bool = True) -> None:
    """Refuse a folder that the throwaway server's user cannot get to, or whose sockets' names would be too long.

    :param sockets: whether there will be any.
    :raises PrerequisiteError: naming what stands in the way.
    """
    longest = LONGEST_SOCKET - _SOCKET_ROOM - len(WORK) - 1
    for folder in reversed(path.parents):
        if owner.is_me or not folder.exists():
            continue
        found = folder.stat()
        bit = stat.S_IXUSR if found.st_uid == owner.uid else stat.S_IXOTH
        if found.st_uid != owner.uid and found.st_gid == owner.gid:
            bit = stat.S_IXGRP
        if not found.st_mode & bit:
            raise PrerequisiteError(
                f"The user {owner.name}, as whom the throwaway server runs, cannot get to {path}: {folder} is closed to it.",
                f"Name another folder, or run: chmod o+x {folder}",
            )
    if sockets and len(os.fsencode(path)) > longest - 8:
        raise PrerequisiteError(
            f"The path of the scratch folder {path} is too long for a socket in it.",
            f"Name a folder of at most {longest - 8} bytes.",
        )


def check_room(path: Path, needed: int) -> None:
    """Refuse a file system without room.

    :raises PrerequisiteError: with both numbers.
    """
    free = free_bytes(path)
    if free < needed:
        raise PrerequisiteError(
            f"The file system of the scratch folder {path} has {free} bytes free; the copy needs about {needed}.",
            f"Free space on {existing_parent(path)}, or name a folder on another file system; nothing was written.",
            {"free_bytes": free, "needed_bytes": needed},
        )


@dataclass
class Claim:
    """A scratch folder in use.

    :ivar cleaned: what an aborted run had left and was destroyed now.
    """

    path: Path
    cleaned: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def work(self, name: str, owner: Owner) -> Iterator[Path]:
        """Give the folder of one copy; whatever happens, it is gone afterwards (see :meth:`destroy`)."""
        folder = self.path / _work_name(name, self.path)
        with writing_to(folder):
            folder.mkdir(mode=0o700)
            owner.give(folder)
        try:
            yield folder
        finally:
            self.destroy(folder)

    def destroy(self, folder: Path) -> dict[str, Any]:
        """Remove a copy and return the record of it; empty where it is gone already."""
        if not folder.is_dir():
            return {}
        if folder.parent != self.path or not _is_work(folder):
            raise InputError(f"{folder} is no copy in the scratch folder {self.path}.", "Nothing was removed.")
        end = time.monotonic() + 10
        while users_of(folder) and time.monotonic() < end:
            time.sleep(0.05)
        using = users_of(folder)
        if using:
            raise PrerequisiteError(
                f"{folder} cannot be destroyed: processes {using} still work in it.",
                "End them, then run again: the copy holds personal data.",
            )
        files = size = 0
        for base, _folders, names in os.walk(folder):
            for name in names:
                files += 1
                size += os.lstat(os.path.join(base, name)).st_size
        with writing_to(folder):
            shutil.rmtree(folder)
        return {"path": str(folder), "files": files, "bytes": size, "destroyed_at": iso(utc_now())}


def _work_name(name: str, folder: Path) -> str:
    room = LONGEST_SOCKET - _SOCKET_ROOM - len(os.fsencode(folder)) - 1 - len(WORK)
    return WORK + name[: max(1, room)]


@contextmanager
def claimed(path: Path, repository: Path, activity: str, wait_seconds: float = 0.0) -> Iterator[Claim]:
    """Take the folder for one run: checked, marked, locked, and cleared of what an aborted run left.

    :param wait_seconds: how long to wait for another run to end.
    :raises InputError: see :func:`check_folder`.
    :raises LockHeldError: if another run still uses it then.
    """
    try:
        check_folder(path, repository)
    except LockHeldError:
        if not wait_seconds:
            raise
    make_directory(path.parent, 0o755)
    if not _has_marker(path):
        with writing_to(path):
            path.mkdir(mode=0o700, exist_ok=True)
        write_json(path / MARKER, _marker(), mode=0o600)
    with exclusive(path / LOCK, activity, wait_seconds):
        # Once more: what was seen above may have been the other run's.
        _refuse_active(path, held=True)
        _refuse_foreign(path)
        with writing_to(path):
            # Servers of another user pass through; names cannot be listed, and each copy is 0700 in itself.
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        claim = Claim(path)
        for entry in sorted(path.iterdir()):
            if _is_work(entry):
                claim.cleaned.append(claim.destroy(entry))
        yield claim
