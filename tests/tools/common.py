# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places and environment that the tools of the test run share."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/rspon/dbcontinuity"
OUTPUT = ROOT / "tests/output"
VENV_BIN = ROOT / ".venv/bin"


def cache_dir() -> Path:
    """Return the folder for what several clones share and `git clean` should not cost."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "dbcontinuity"
    path.mkdir(parents=True, exist_ok=True)
    return path


def tool_environment() -> dict[str, str]:
    """Return an environment with the clone's own tools and without the user's Ansible settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["PATH"] = f"{VENV_BIN}{os.pathsep}/usr/sbin{os.pathsep}/sbin{os.pathsep}{environment['PATH']}"
    environment["VIRTUAL_ENV"] = str(VENV_BIN.parent)
    environment["LC_ALL"] = "C.UTF-8"
    environment["NO_COLOR"] = "1"
    environment["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    return environment


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a kernel lock on `path`, so that two clones do not fill one cache at the same time."""
    with path.open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
