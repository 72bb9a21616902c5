# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers on a host without systemd: whoever was ended, by a reboot or by hand, is started again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import receiver_program
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.supervisor import start_stopped

PROGRAM = Path(receiver_program.__file__)


def configure(folder: Path, name: str, **values: Any) -> Path:
    """Write the configuration of a receiver whose stream is a process that waits; return its staging."""
    staging = folder / "staging" / name
    staging.mkdir(parents=True)
    config = {
        "receiver_version": receiver_program.RECEIVER_VERSION,
        "instance": name,
        "engine": "mariadb",
        "staging": str(staging),
        "folder": "stream",
        "argv": ["sleep", "1000"],
        "environment": {},
        "start": None,
        "probe": None,
        "minimum_free_bytes": 0,
        "poll_seconds": 0.1,
        "backoff_seconds": [1, 2],
        **values,
    }
    (folder / f"{name}.json").write_text(json.dumps(config))
    return staging


def running(staging: Path) -> bool:
    return receiver_program.lock_is_held(staging / receiver_program.SUPERVISOR_LOCK)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Path]:
    found = configure(tmp_path, "simrs")
    yield found
    assert receiver_program.end_supervisor(found)


def test_a_receiver_that_does_not_run_is_started_and_one_that_runs_is_left_alone(tmp_path: Path, staging: Path) -> None:
    nowhere = tmp_path / "no-systemd"
    assert list(start_stopped(tmp_path, PROGRAM, nowhere)) == ["The receiver of simrs did not run, and was started."]
    assert running(staging)
    first = (staging / receiver_program.SUPERVISOR_LOCK).read_text()
    assert list(start_stopped(tmp_path, PROGRAM, nowhere)) == []
    assert (staging / receiver_program.SUPERVISOR_LOCK).read_text() == first


def test_one_that_cannot_be_started_keeps_no_other_from_it(tmp_path: Path, staging: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    configure(tmp_path, "lis").rmdir()
    broken, lis, simrs = start_stopped(tmp_path, PROGRAM, tmp_path / "no-systemd")
    assert broken.startswith("The receiver of broken could not be started: the configuration")
    assert lis.startswith("The receiver of lis could not be started: ")
    assert simrs == "The receiver of simrs did not run, and was started."
    assert running(staging)


def test_where_systemd_is_there_it_sees_to_them(tmp_path: Path, staging: Path) -> None:
    assert list(start_stopped(tmp_path, PROGRAM, tmp_path)) == []
    assert not running(staging)
