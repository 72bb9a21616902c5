# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding what is stored and holding it against its hash in one pass: a restore that is waited for reads nothing twice."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .codec import Protection, decode_stages
from .errors import DamagedError
from .process import Stage, find_tool
from .stored import check_file

# A file that small is in memory once it was hashed, and a program of its own would take longer than hashing it.
_SMALL_BYTES = 64 * 1024 * 1024
# Whoever reads learns only at the end whether it was all as written: the status says so, and every one is looked at.
_PROGRAM = """
import hashlib, os, sys
path, size, sha256 = sys.argv[1], int(sys.argv[2]), sys.argv[3]
digest, buffer, done = hashlib.sha256(), bytearray(1 << 20), 0
view = memoryview(buffer)
with open(path, "rb", buffering=0) as stream:
    while True:
        count = stream.readinto(buffer)
        if not count:
            break
        digest.update(view[:count])
        end = done + count
        while done < end:  # the kernel hands on the pages that were just hashed, without a copy
            done += os.sendfile(1, stream.fileno(), done, end - done)
if done != size:
    sys.exit(f"{path} has {done} bytes; {size} were written")
if digest.hexdigest() != sha256:
    sys.exit(f"{path} has changed since it was written: its SHA-256 is {digest.hexdigest()}, not {sha256}")
"""


def hashed_stages(path: Path, size: int, sha256: str, names: Sequence[str], protection: Protection) -> list[Stage]:
    """Return the stages that give a stored file's content; they fail if it is not what was written.

    :param names: its layers, from the inside out.
    :raises DamagedError: if that shows before any of it is read out.
    """
    if size <= _SMALL_BYTES or not names:
        problem = check_file(path, size, sha256)
        if problem:
            raise DamagedError(
                f"{path} {problem}.",
                "Take it from a copy of the repository, or choose another set or moment.",
                {"file": path.name},
            )
        return decode_stages(names, protection, path)
    interpreter = sys.executable or find_tool("python3")
    reader = Stage((interpreter, "-I", "-c", _PROGRAM, str(path), str(size), sha256), label=f"checksum of {path.name}")
    first, *rest = decode_stages(names, protection, path)
    if first.argv[-1] != str(path):
        raise AssertionError("the first program names its file last")
    return [reader, Stage(first.argv[:-1], label=first.label, environment=first.environment), *rest]
