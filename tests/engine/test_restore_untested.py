# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daily test of new backups: each is brought back once, one that cannot be until it can."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import LockHeldError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore_test import (
    RestoreTestRequest,
    restore_test,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scratch import claimed
from tests.restore_support import codes, flip, full, newest_artefact, spoilt, tried
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


def test_each_new_backup_is_brought_back_once(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    instances = []
    for name in ("scan", "surat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("1")
        instances.append(place.files(name, tmp_path / name))
        full(place, instances[-1])
    scan, surat = instances

    with spoilt(newest_artefact(place, "surat"), flip):
        answer = tried(place, folder, scan, surat, untested=True)
        assert answer["failed"] == ["surat"]
        assert codes(answer, "surat") == ["damaged-artefact"]
        # The one that failed is tested until it succeeds; the good one is not touched again.
        answer = tried(place, folder, scan, surat, untested=True)
        assert (list(answer["instances"]), answer["failed"]) == (["surat"], ["surat"])
        assert list(answer["left_out"]) == ["scan"]
    assert tried(place, folder, scan, surat, untested=True)["failed"] == []

    before = Repository.open(place.repository).ledger.head()
    request = RestoreTestRequest([scan, surat], place.repository, place.protection, folder, untested=True)
    answer = restore_test(request, Progress())
    assert (answer["changed"], answer["instances"], sorted(answer["left_out"])) == (False, {}, ["scan", "surat"])
    assert Repository.open(place.repository).ledger.head() == before

    made = full(place, scan)
    answer = tried(place, folder, scan, surat, untested=True)
    assert (answer["changed"], answer["failed"], list(answer["instances"])) == (True, [], ["scan"])
    assert answer["instances"]["scan"]["source"]["set"] == made["set"]


def test_two_that_are_due_at_once_wait_for_each_other_and_nothing_is_tested_twice(place: Place, tmp_path: Path) -> None:
    """As after a power failure: the weekly test restore and that of new backups are caught up together."""
    (tmp_path / "scan").mkdir()
    scan, folder = place.files("scan", tmp_path / "scan"), tmp_path / "scratch"
    full(place, scan)
    request = RestoreTestRequest(
        [scan], place.repository, place.protection, folder, untested=True, wait_seconds=300, run="new"
    )
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(restore_test(request, Progress())))
    with claimed(folder, place.repository, "restore test"):
        with pytest.raises(LockHeldError, match="restore test"):  # a person is told at once
            tried(place, folder, scan)
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
    waiting.join(300)
    assert [(each["changed"], each["failed"], list(each["instances"])) for each in answers] == [(True, [], ["scan"])]

    full(place, scan)
    other = threading.Thread(target=lambda: answers.append(restore_test(request, Progress())))
    held, going = threading.Event(), threading.Event()

    def look(_name: str, _server: object) -> None:
        held.set()
        going.wait(300)

    weekly = RestoreTestRequest([scan], place.repository, place.protection, folder, before_destroy=look, run="weekly")
    first = threading.Thread(target=lambda: answers.append(restore_test(weekly, Progress())))
    first.start()
    assert held.wait(300)
    other.start()
    other.join(1)
    assert other.is_alive()
    going.set()
    first.join(300)
    other.join(300)
    assert [(each["changed"], list(each["left_out"])) for each in answers[1:]] == [(True, []), (False, ["scan"])]


def test_a_full_backup_that_ends_meanwhile_is_tested_and_vouched_for(place: Place, tmp_path: Path) -> None:
    """The ledger was read before it: the set is no foreign one for that."""
    instances = []
    for name in ("scan", "surat"):
        (tmp_path / name).mkdir()
        instances.append(place.files(name, tmp_path / name))
        full(place, instances[-1])
    made: list[str] = []

    def meanwhile(name: str, _server: object) -> None:
        if name == "scan":
            made.append(full(place, instances[1])["set"])

    answer = tried(place, tmp_path / "scratch", *instances, before_destroy=meanwhile)
    assert answer["failed"] == []
    assert answer["instances"]["surat"]["source"]["set"] == made[0]


def test_a_damaged_newest_set_is_never_passed_over_for_an_older_one(place: Place, tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    scan = place.files("scan", tmp_path / "scan")
    for _time in range(2):
        full(place, scan)
    manifest = newest_artefact(place, "scan").parent / "manifest.json"
    with spoilt(manifest, lambda data: data.replace(b'"scan"', b'"scaN"')):
        answer = tried(place, tmp_path / "scratch", scan, untested=True)
        assert answer["failed"] == ["scan"]
    assert tried(place, tmp_path / "scratch", scan, untested=True)["failed"] == []
