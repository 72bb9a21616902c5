# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders at a moment: the newest state that was finished by then."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from tests.restore_support import cycle, full
from tests.support import make_place
from tests.targets_support import History, Town, written

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class State:
    """What the folder held when a set or an archive was finished."""

    name: str
    finished: datetime
    copy: Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "scan"
    root.mkdir()
    (root / "a").write_text("1")
    (root / "gone").write_text("soon")
    return root


@pytest.fixture
def town(tmp_path: Path, folder: Path) -> Town:
    place = make_place(tmp_path / "backup")
    return Town(place, place.files("scan", folder), tmp_path / "scratch", History())


@pytest.fixture
def states(town: Town, folder: Path, tmp_path: Path) -> list[State]:
    """Return the states: set, archive, archive, set, archive."""
    found: list[State] = []

    def keep() -> None:
        copy = tmp_path / f"kept-{len(found)}"
        shutil.copytree(folder, copy)
        info = Repository.open(town.place.repository).instance("scan")
        newest_set = max(info.set_names())
        lineage = info.current_lineage()
        head = lineage.head() if lineage else None
        moments = {newest_set: parse_moment(info.read_set(newest_set).manifest.values["finished_at"])}
        if head:
            moments[head.name] = parse_moment(head.values["archived_at"])
        name = max(moments, key=lambda each: moments[each])
        found.append(State(name, moments[name], copy))

    full(town.place, town.instance)
    keep()
    for number in (2, 3):
        (folder / "a").write_text(str(number))
        (folder / f"new {number}").write_text("x")
        (folder / "gone").unlink(missing_ok=True)
        cycle(town.place, town.instance)
        keep()
    (folder / "a").write_text("4")
    full(town.place, town.instance)
    keep()
    (folder / "a").write_text("5")
    cycle(town.place, town.instance)
    keep()
    return found


def same(left: Path, right: Path) -> bool:
    done = subprocess.run(["diff", "-r", str(left), str(right)], capture_output=True, check=False)
    return done.returncode == 0


def test_the_newest_state_finished_by_then_is_brought_back(town: Town, folder: Path, states: list[State]) -> None:
    assert len({state.name for state in states}) == 5
    for number, state in enumerate(states):

        def look(server: ScratchServer, copy: Path = state.copy) -> bool:
            assert isinstance(server, engine.FilesScratch)
            return same(copy, Path(f"{server.root}{folder}"))

        equal, evidence = town.bring(Target("time", written(state.finished)), look)
        assert equal, state.name
        resolved = evidence["resolved"]
        assert resolved["position"] == resolved["before"]["position"] == state.name
        if number in (0, 1):
            assert resolved["after"]["position"] == states[number + 1].name
    just_before = town.find("time", written(states[2].finished - timedelta(microseconds=1))).resolved
    assert just_before.position == states[1].name


def test_a_moment_outside_is_refused_and_the_range_is_printed(town: Town, states: list[State]) -> None:
    for moment in (states[0].finished - timedelta(seconds=1), states[-1].finished + timedelta(hours=1)):
        with pytest.raises(InputError, match=r"It can be brought back to: .*\+07:00 to .*\(lineage "):
            town.find("time", written(moment))
    with pytest.raises(InputError, match="scan is of the engine files, which knows no gtid"):
        town.find("gtid", "0-1-1")


def test_backup_info_lists_the_same_range(town: Town, states: list[State]) -> None:
    (one,) = backup_info(town.place.repository)["instances"]["scan"]["ranges"]
    assert parse_moment(one["from"]) == states[0].finished
    assert parse_moment(one["to"]) >= states[-1].finished
    assert one["kind"] == "archive"
    assert town.find("time", one["to"]).resolved.position == states[-1].name
