# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are there whole or not at all, also after a power cut.

A temporary file stands in the destination's folder, is fsynced and renamed; then the folder is fsynced. Everything
unfinished carries the prefix :data:`UNFINISHED` and is swept by the next run that holds the lock.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DamagedError, RepositoryError, RepositoryFullError

UNFINISHED = ".unfinished-"


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing at *path* into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(path)
            raise RepositoryFullError(
                f"The file system of {path} is full ({free} bytes free): nothing was published, older sets are untouched.",
                "Free space or enlarge the file system, then run again.",
                {"path": str(path), "free_bytes": free},
            ) from error
        raise RepositoryError(
            f"Cannot write {error.filename or path}: {error.strerror}.",
            "Check that the file system is mounted, writable, and that this run's user owns the folder.",
            {"path": str(path), "errno": error.errno},
        ) from error


def existing_parent(path: Path) -> Path:
    """Return *path* or its nearest parent that exists."""
    while not path.exists():
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Return the bytes an unprivileged writer can still write on the file system of *path*."""
    usage = os.statvfs(existing_parent(path))
    return usage.f_bavail * usage.f_frsize


def fsync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int = 0o750) -> bool:
    """Create a folder and its parents durably; return whether anything was created."""
    if path.is_dir():
        return False
    with writing_to(path):
        make_directory(path.parent, mode)
        try:
            path.mkdir(mode=mode)
        except FileExistsError:
            return False
        fsync_directory(path.parent)
    return True


def write_file(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Write a whole small file durably, replacing what stood there in one step."""
    temporary = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    with writing_to(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def dump_json(value: object) -> bytes:
    """Return JSON as this project writes it: UTF-8, sorted keys, two spaces, a final newline."""
    # A file name that is no UTF-8 holds lone surrogates: they are written as JSON's own escapes.
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2) + "\n").encode("utf-8", "backslashreplace")


def write_json(path: Path, value: object, mode: int = 0o640) -> None:
    """Write a JSON file durably."""
    write_file(path, dump_json(value), mode)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object a JSON file holds.

    :raises DamagedError: if it is missing, cut short or no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing.", "Restore it from a copy of the repository.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read: {error}.", "Restore it from a copy of the repository.") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{path} holds no JSON object.", "Restore it from a copy of the repository.")
    return value


def publish_directory(unfinished: Path, final: Path) -> None:
    """Rename a finished folder into its place; its files must have been fsynced one by one."""
    with writing_to(final):
        fsync_directory(unfinished)
        if final.exists():
            raise RepositoryError(f"{final} exists already.", "Nothing was overwritten; look at what stands there.")
        os.rename(unfinished, final)
        fsync_directory(final.parent)


def sweep_unfinished(folder: Path) -> list[str]:
    """Remove what an interrupted run left in *folder*; return its names. Call only with the folder's lock held."""
    swept = []
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(UNFINISHED):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
                swept.append(entry.name)
    return swept
