# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test hosts ask of the machine underneath, where it does not answer at once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hosts import fleet, rootfs, system
from tests.hosts.plan import Fleet
from tests.hosts.system import HostsError, run


def test_watches_are_allowed_where_there_are_too_few_and_never_taken_away(tmp_path: Path) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    system.allow_watches(1000, limit)
    assert limit.read_text() == "1000\n"
    system.allow_watches(500, limit)
    assert limit.read_text() == "1000\n"
    system.allow_watches(500, tmp_path / "absent")


def test_a_cgroup_that_stays_busy_for_a_while_is_removed_all_the_same(tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    (busy / "child").mkdir(parents=True)
    threading.Timer(2.5, (busy / "child").rmdir).start()
    system._rmdir_busy(busy, time.monotonic() + 60)
    assert not busy.exists()


def test_a_cgroup_that_never_ends_being_busy_is_named(tmp_path: Path) -> None:
    (tmp_path / "busy/child").mkdir(parents=True)
    with pytest.raises(HostsError, match="stays busy"):
        system._rmdir_busy(tmp_path / "busy", time.monotonic() + 0.1)


def test_a_fleet_whose_clone_is_gone_counts_as_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "RUN_FOLDER", tmp_path / "run")
    clone = tmp_path / "clone"
    clone.mkdir()
    state = fleet.State(tmp_path / "state")
    state.folder.mkdir()
    now = system.boot_id()
    state.save(Fleet(platform="debian12", slot=0, rootfs="/r", boot_id=now, hosts=(), ready=True))
    slot = tmp_path / "run/slot-0.json"
    system.write_file(slot, json.dumps({"state": str(state.folder), "owner": str(clone)}))
    assert fleet._why_dead(state, now, fleet._owner(0)) is None
    clone.rmdir()
    assert "is gone" in str(fleet._why_dead(state, now, fleet._owner(0)))
    system.write_file(slot, json.dumps({"state": str(state.folder)}))
    assert fleet._why_dead(state, now, fleet._owner(0)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="loop devices are root's")
def test_a_loop_device_that_is_gone_already_is_no_mistake(tmp_path: Path) -> None:
    image = tmp_path / "disk.dbct.img"
    image.write_bytes(bytes(1 << 20))
    device = run(["losetup", "--find", "--show", image]).strip()
    try:
        fleet._detach_loop(device, image)
        fleet._detach_loop(device, image)
    finally:
        run(["losetup", "--detach", device], check=False)
    assert (device, image) not in fleet._loops()


@pytest.mark.skipif(os.geteuid() != 0, reason="loop devices are root's")
def test_a_loop_device_that_somebody_has_open_is_waited_for(tmp_path: Path) -> None:
    image = tmp_path / "disk.dbct.img"
    image.write_bytes(bytes(1 << 20))
    device = run(["losetup", "--find", "--show", image]).strip()
    descriptor = os.open(device, os.O_RDONLY)
    closing = threading.Timer(1.5, os.close, [descriptor])
    closing.start()
    try:
        fleet._detach_loop(device, image)
        assert (device, image) not in fleet._loops()
    finally:
        closing.join()
        run(["losetup", "--detach", device], check=False)


def test_a_mirror_that_hiccups_is_asked_again_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, pool = tmp_path / "base", tmp_path / "pool"
    pool.mkdir()
    left: list[list[str]] = []

    def bootstrap(_argv: Sequence[str | Path]) -> str:
        left.append(sorted(path.name for path in (*tmp_path.iterdir(), *pool.iterdir())))
        base.mkdir()
        (pool / "half.deb").touch()
        if len(left) < 3:
            raise HostsError("Hash Sum mismatch")
        return ""

    monkeypatch.setattr(rootfs, "run", bootstrap)
    monkeypatch.setattr(rootfs, "in_cgroup", lambda _machine, argv: argv)
    monkeypatch.setattr(rootfs, "cgroup_kill", lambda _machine: None)
    monkeypatch.setattr(rootfs, "BUILD_PAUSES", (0.0, 0.0))
    rootfs._bootstrap("bookworm", base, pool, "m")
    assert left == [["pool"]] * 3

    left.clear()
    base.rmdir()
    (pool / "half.deb").unlink()
    monkeypatch.setattr(rootfs, "BUILD_PAUSES", (0.0,))
    with pytest.raises(HostsError, match="Hash Sum"):
        rootfs._bootstrap("bookworm", base, pool, "m")


def test_builds_of_two_caches_or_two_recipes_bear_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBC_TEST_CACHE", str(tmp_path / "one"))
    one = rootfs._build_machine("debian12")
    monkeypatch.setenv("DBC_TEST_CACHE", str(tmp_path / "two"))
    other = rootfs._build_machine("debian12")
    monkeypatch.setattr(rootfs, "POOL_PACKAGES", (*rootfs.POOL_PACKAGES, "jq"))
    assert len({one, other, rootfs._build_machine("debian12"), rootfs._build_machine("debian13")}) == 4
    assert len(one) <= 64
