# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel locks: they die with the process that holds them, so a crash leaves none behind."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .clock import iso, utc_now
from .durable import make_directory, writing_to
from .errors import LockHeldError


@contextmanager
def exclusive(path: Path, activity: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock *path* for *activity*, or say who holds it and since when.

    The file's content only informs; the lock itself is the kernel's.

    :param wait_seconds: how long to wait for a holder to end.
    :raises LockHeldError: if another process or thread still holds it then.
    """
    make_directory(path.parent)
    with writing_to(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        end = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise _held(os.pread(descriptor, 4096, 0), path, activity) from None
            time.sleep(min(0.2, wait_seconds))
        holder = {"activity": activity, "pid": os.getpid(), "host": socket.gethostname(), "since": iso(utc_now())}
        with writing_to(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def refuse_held(path: Path, activity: str) -> None:
    """Say who holds the lock *path*, where anybody does; nothing is written.

    :raises LockHeldError: if it is held.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held(os.pread(descriptor, 4096, 0), path, activity) from None
    finally:
        os.close(descriptor)


def _held(content: bytes, path: Path, activity: str) -> LockHeldError:
    try:
        holder = json.loads(content)
    except ValueError:
        holder = {}
    if not isinstance(holder, dict):
        holder = {}
    who = (
        f"{holder['activity']} (process {holder['pid']} on {holder['host']}) since {holder['since']}"
        if {"activity", "pid", "host", "since"} <= set(holder)
        else "another process"
    )
    return LockHeldError(
        f"{activity} cannot start: {path} is held by {who}.",
        "Wait for it to end; the lock goes with its process, so nothing need be removed by hand.",
        {"path": str(path), "holder": holder},
    )


@contextmanager
def shared_folder(path: Path) -> Iterator[None]:
    """Hold a published set against removal while it is read; any number of readers may."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
