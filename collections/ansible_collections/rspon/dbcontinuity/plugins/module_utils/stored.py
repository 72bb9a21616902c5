# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what is stored: checking a file against its hash, unpacking an artefact."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from .codec import Protection, decode_stages
from .durable import free_bytes
from .errors import PrerequisiteError
from .manifest import Artefact
from .process import Pipeline, Stage, failure, find_tool, write_through

_BLOCK_BYTES = 1024 * 1024


def check_file(path: Path, size: int, sha256: str, on_progress: Optional[Callable[[int], None]] = None) -> str:
    """Return what is wrong with a stored file, empty if it holds; reads it once.

    :param on_progress: called with the bytes read so far.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            actual = os.fstat(stream.fileno()).st_size
            if actual != size:
                return f"has {actual} bytes; {size} were written"
            digest = hashlib.sha256()
            buffer = bytearray(_BLOCK_BYTES)
            view = memoryview(buffer)
            read = 0
            while True:
                count = stream.readinto(buffer)
                if not count:
                    break
                digest.update(view[:count])
                read += count
                if on_progress is not None:
                    on_progress(read)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return (
        ""
        if digest.hexdigest() == sha256
        else f"has changed since it was written: its SHA-256 is {digest.hexdigest()}, not {sha256}"
    )


def unpack(artefact: Artefact, source: Path, protection: Protection, folder: Path) -> Path:
    """Decode one artefact: a database's archive into a folder of its name, anything else into a file of its name.

    :raises PipelineError: if it cannot be decoded whole.
    """
    return unpack_stages(artefact, decode_stages(artefact.layers, protection, source / artefact.name), folder)


def unpack_stages(artefact: Artefact, stages: Sequence[Stage], folder: Path) -> Path:
    """Unpack what *stages* give of an artefact; see :func:`unpack`."""
    plain = artefact.name
    for ending in (".age", ".zst"):
        plain = plain[: -len(ending)] if plain.endswith(ending) else plain
    target = folder / plain
    if artefact.content == "mbstream":
        extract = Stage((find_tool("mbstream", "mariadb-backup"), "--extract", f"--directory={target}"))
    elif artefact.content == "pg-tar":
        extract = Stage((find_tool("tar"), "--extract", "--same-permissions", f"--directory={target}"))
    else:
        write_through(stages, target)
        return target
    target.mkdir()
    if free_bytes(folder) < artefact.size:
        raise PrerequisiteError(f"{folder} has no room to unpack {artefact.name}.", "Free space, then verify again.")
    with Pipeline([*stages, extract]) as pipeline:
        pipeline.output.read()
        finished = pipeline.wait(timeout=24 * 3600)
    if not all(stage.ok for stage in finished):
        raise failure(finished)
    return target
