# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small programs of this collection that stand in a pipeline beside the engine's own tools."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

from ..errors import PrerequisiteError
from ..process import Stage, find_tool


def program_stage(module: str, folder: Path, *words: str, label: str, pass_fds: tuple[int, ...] = ()) -> Stage:
    """Return the stage that runs a module of this collection, which needs the standard library alone.

    It is written into *folder* first: the collection's own files may lie inside a zip archive.

    :param module: its full name, as in ``__name__``.
    """
    package, _dot, name = module.rpartition(".")
    source = pkgutil.get_data(package, f"{name}.py")
    if source is None:
        raise PrerequisiteError(f"The program {name} is missing.", "Install the collection again.")
    path = folder / f"{name}.py"
    path.write_bytes(source)
    interpreter = sys.executable or find_tool("python3")
    return Stage((interpreter, "-I", str(path), *words), label=label, pass_fds=pass_fds)
