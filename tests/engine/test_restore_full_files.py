# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full restore of folders (D1, R2): exchanged by rename, the old ones kept."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError, PipelineError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import ranges, restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations
from tests.restore_full_support import channel, order, siblings
from tests.restore_support import cycle, full
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Return a folder with what archives get wrong."""
    root = tmp_path / "scan"
    (root / "rekam medis").mkdir(parents=True, mode=0o750)
    (root / "rekam medis" / "hasil lab.txt").write_text("Hb 12,1")
    (root / "kosong").mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9")).write_text("4")
    (root / "link").symlink_to("rekam medis/hasil lab.txt")
    with (root / "sparse").open("wb") as stream:
        stream.truncate(8 * 1024 * 1024)
    if os.geteuid() == 0:
        os.chown(root / "rekam medis" / "hasil lab.txt", 12345, 12345)
    root.chmod(0o751)
    return root


@pytest.fixture
def single(tmp_path: Path) -> Path:
    path = tmp_path / "aplikasi.conf"
    path.write_text("versi=1")
    return path


@pytest.fixture
def instance(place: Place, scan: Path, single: Path) -> Instance:
    one = place.files("scan", scan, single)
    path = place.root / "agent" / "scan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "restore": {"state_dir": str(place.root / "state")}}))
    return one


def inventory(root: Path) -> list[tuple[Any, ...]]:
    """Return everything below a folder: names, kinds, rights, owners, times, content."""
    found = []
    for path in sorted([root, *root.rglob("*")]):
        state = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = os.readlink(path) if path.is_symlink() else ""
        times = 0 if path.is_symlink() else state.st_mtime_ns
        found.append((os.fsencode(path), state.st_mode, state.st_uid, state.st_gid, times, data, target))
    return found


def spoil(scan: Path, single: Path) -> None:
    (scan / "rekam medis" / "hasil lab.txt").write_text("salah")
    (scan / "kosong").rmdir()
    (scan / "baru").write_text("baru")
    single.write_text("versi=2")


def test_folders_come_back_as_they_were_and_the_old_ones_stay(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path
) -> None:
    full(place, instance)
    (scan / "kedua").write_text("2")
    cycle(place, instance)
    before = inventory(scan)
    moment = iso(utc_now())
    spoil(scan, single)
    answer = restore(order(place, instance, tmp_path / "scratch", Target("time", moment)), Progress())
    assert answer["result"] == "succeeded"
    assert inventory(scan) == before
    assert single.read_text() == "versi=1"
    assert len(siblings(scan)) == len(siblings(single)) == 1
    assert (scan.parent / siblings(scan)[0] / "baru").read_text() == "baru"
    # What was there before the restore is in the old history, which ends with it.
    said = log_cycle(LogCycleRequest([instance], place.repository, place.protection))["instances"]["scan"]
    assert [each["code"] for each in said["findings"]] == ["restored"]
    full(place, instance)
    (scan / "ketiga").write_text("3")
    cycle(place, instance)
    known = ranges(order(place, instance, tmp_path / "scratch", record=""))["ranges"]
    target = Target("time", known[1]["to"])
    restore(order(place, instance, tmp_path / "scratch", target, lineage=known[1]["lineage"]), Progress())
    assert (scan / "rekam medis" / "hasil lab.txt").read_text() == "salah"
    assert not (scan / "ketiga").exists()
    assert single.read_text() == "versi=2"
    assert Repository.open(place.repository).ledger.verify().problem is None


def test_what_is_sent_arrives_like_what_is_renamed(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(place, instance)
    before = inventory(scan)
    spoil(scan, single)
    monkeypatch.setattr(Channel, "adopt", lambda *_: False)
    answer = restore(order(place, instance, tmp_path / "scratch", Target("set")), Progress())
    assert answer["bytes"]["sent"] > 0
    assert inventory(scan) == before
    assert single.read_text() == "versi=1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_folder_that_is_a_mount_point_has_its_content_moved(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    scan.rename(disk)
    scan.mkdir()
    subprocess.run(["mount", "--bind", str(disk), str(scan)], check=True)
    try:
        full(place, instance)
        before = [entry for entry in inventory(scan) if entry[0] != os.fsencode(scan)]
        spoil(scan, single)
        answer = restore(order(place, instance, tmp_path / "scratch", Target("set")), Progress())
        aside = scan / f".dbcontinuity-{answer['run']}"
        assert (aside / "old" / "baru").read_text() == "baru"
        now = [entry for entry in inventory(scan) if not entry[0].startswith(os.fsencode(aside))]
        assert [entry for entry in now if entry[0] != os.fsencode(scan)] == before
        assert any("is a mount point" in note for note in answer["notes"])
    finally:
        subprocess.run(["umount", str(scan)], check=True)


def test_refusals_touch_nothing(place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path) -> None:
    full(place, instance)
    spoil(scan, single)
    before = inventory(scan)
    with pytest.raises(InputError, match="It can be brought back to"):
        restore(order(place, instance, tmp_path / "scratch", Target("time", "2019-09-11T00:00:00Z")), Progress())
    with pytest.raises(InputError, match="was not confirmed"):
        restore(order(place, instance, tmp_path / "scratch", confirm=""), Progress())
    with pytest.raises(InputError, match="knows no gtid"):
        restore(order(place, instance, tmp_path / "scratch", Target("gtid", "0-1-2")), Progress())
    way = channel(place)
    with pytest.raises(PipelineError, match="lies outside the folders of scan"):
        way.begin(instance, "20260919T050000Z-1", {"parts": ["0"], "folders": {"0": "/etc"}})
    gone = replace(way, program=str(tmp_path / "nirgends"))
    with pytest.raises(Exception, match="is not there or cannot be run"):
        restore(order(place, instance, tmp_path / "scratch", channel=gone), Progress())
    assert inventory(scan) == before
    assert siblings(scan) == []


def test_what_was_interrupted_before_the_exchange_is_cleared_away_by_the_same_restore(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(place, instance)
    before = inventory(scan)
    spoil(scan, single)
    spoilt = inventory(scan)

    def die(*_of: object) -> None:
        raise KeyboardInterrupt

    request = order(place, instance, tmp_path / "scratch", Target("set"))
    monkeypatch.setattr(Channel, "swap", die)
    with pytest.raises(KeyboardInterrupt):
        restore(request, Progress())
    monkeypatch.undo()
    assert inventory(scan) == spoilt
    assert siblings(scan)[0].endswith(".new")
    answer = restore(request, Progress())
    assert answer["result"] == "succeeded"
    assert any("it was closed first" in note for note in answer["notes"])
    assert inventory(scan) == before
    assert [name.rpartition(".")[2] for name in siblings(scan)] == ["old"]


# -- the link breaks while production exchanges --


def broken(monkeypatch: pytest.MonkeyPatch, *, done: bool, times: int = 1, deaf: bool = False) -> None:
    """Let the answer to the exchange be lost, so many times: after it was made, or before it was heard.

    :param deaf: nor does production answer afterwards.
    """
    swap, look = Channel.swap, Channel.look
    left = [times]

    def swapping(self: Channel, instance: Instance, run: str) -> dict[str, Any]:
        if not left[0]:
            return swap(self, instance, run)
        left[0] -= 1
        if done:
            swap(self, instance, run)
        if deaf:
            monkeypatch.setattr(Channel, "look", silent)
        raise PipelineError("the link broke", "")

    def silent(*_of: object) -> dict[str, Any]:
        monkeypatch.setattr(Channel, "look", look)
        raise PipelineError("no route to host", "")

    monkeypatch.setattr(Channel, "swap", swapping)


@pytest.mark.parametrize("done", [True, False])
def test_an_answer_that_was_lost_is_asked_for_again(
    place: Place,
    instance: Instance,
    scan: Path,
    single: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: bool,
) -> None:
    full(place, instance)
    before = inventory(scan)
    spoil(scan, single)
    broken(monkeypatch, done=done)
    assert restore(order(place, instance, tmp_path / "scratch", Target("set")), Progress())["result"] == "succeeded"
    assert inventory(scan) == before


def test_an_exchange_that_cannot_be_asked_for_goes_back(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(place, instance)
    spoil(scan, single)
    before = inventory(scan)
    broken(monkeypatch, done=True, times=2)
    with pytest.raises(PipelineError, match="the link broke") as caught:
        restore(order(place, instance, tmp_path / "scratch", Target("set")), Progress())
    assert inventory(scan) == before
    assert siblings(scan) == []
    assert caught.value.details["result"] == "failed"
    assert "LAPORAN" in str(caught.value.details["report_text"])


def test_a_production_that_falls_silent_is_found_out_by_the_same_restore(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(place, instance)
    before = inventory(scan)
    spoil(scan, single)
    request = order(place, instance, tmp_path / "scratch", Target("set"))
    broken(monkeypatch, done=True, deaf=True)
    with pytest.raises(PipelineError, match="Production cannot be asked how it ended: no route to host") as caught:
        restore(request, Progress())
    assert caught.value.details["result"] == "failed, target changed"
    assert "run the same restore again" in caught.value.remedy
    answer = restore(request, Progress())
    assert answer["result"] == "succeeded"
    assert answer["recorded_late"]
    assert inventory(scan) == before


def test_what_the_site_asks_of_the_copy_is_asked_before_production_is_touched(
    place: Place, instance: Instance, scan: Path, single: Path, tmp_path: Path
) -> None:
    full(place, instance)
    spoil(scan, single)
    before = inventory(scan)
    asked = Expectations.from_json("scan", {"checks": [{"name": "apa pun", "sql": "SELECT 1", "expect": "1"}]})
    with pytest.raises(InputError, match="nothing there answers SQL"):
        restore(order(place, instance, tmp_path / "scratch", expectations=asked), Progress())
    assert restore(order(place, instance, tmp_path / "scratch", Target("set"), deep=True), Progress())["checks"][1:]
    assert inventory(scan) != before
