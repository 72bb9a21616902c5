# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test restore of folders of files (D1, T1, T2)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scratch import LOCK, MARKER
from tests.restore_support import (
    codes,
    cut,
    cycle,
    evidence,
    flip,
    full,
    gone,
    newest_artefact,
    newest_log,
    said,
    spoilt,
    tried,
)
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Return a folder with what archives get wrong: spaces, newlines, non-UTF-8 names, links, holes."""
    root = tmp_path / "scan"
    (root / "rekam medis").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "rekam medis" / "hasil lab.txt").write_text("Hb 12,1")
    (root / "turns").mkdir()
    (root / "turns" / "x").write_text("2")
    (root / "baris\nbaru").write_text("3")
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9")).write_text("4")
    (root / "link").symlink_to("turns/x")
    os.link(root / "turns" / "x", root / "hard")
    with (root / "sparse").open("wb") as stream:
        stream.truncate(8 * 1024 * 1024)
    return root


@pytest.fixture
def instance(place: Place, documents: Path) -> Instance:
    return place.files("scan", documents)


def same(left: Path, right: Path) -> bool:
    done = subprocess.run(["diff", "-r", "--no-dereference", str(left), str(right)], capture_output=True, check=False)
    return done.returncode == 0


def change(documents: Path) -> None:
    """Change, add and delete, also what turns from a folder into a link that leads out."""
    (documents / "rekam medis" / "hasil lab.txt").write_text("Hb 9,0")
    (documents / "new").write_text("5")
    (documents / "baris\nbaru").unlink()
    (documents / "turns" / "x").unlink()
    (documents / "turns").rmdir()
    outside = documents.parent / "outside"
    outside.mkdir()
    (outside / "x").write_text("must stay")
    (documents / "turns").symlink_to(outside)


def test_the_copy_equals_the_folders_and_nothing_outside_is_touched(
    place: Place, documents: Path, instance: Instance, tmp_path: Path
) -> None:
    full(place, instance)
    change(documents)
    cycle(place, instance)
    (documents / "new").write_text("6")
    cycle(place, instance)
    equal = []

    def look(_name: str, server: ScratchServer) -> None:
        assert isinstance(server, engine.FilesScratch)
        copy = Path(f"{server.root}{documents}")
        equal.append(same(documents, copy))
        equal.append((copy / "rekam medis").stat().st_mtime_ns == (documents / "rekam medis").stat().st_mtime_ns)

    answer = tried(place, tmp_path / "scratch", instance, before_destroy=look)
    print(answer["report_text"])
    assert answer["failed"] == [], said(answer, "scan")
    assert equal == [True, True]
    assert (tmp_path / "outside" / "x").read_text() == "must stay"
    assert evidence(place, "scan")["replay"]["changed"] >= 3


@pytest.mark.parametrize("first_of_all", [False, True])
def test_a_set_made_between_two_cycles_comes_to_the_later_ones_state(
    place: Place, documents: Path, instance: Instance, tmp_path: Path, first_of_all: bool
) -> None:
    full(place, instance)
    (documents / "first").write_text("1")
    if not first_of_all:  # else nothing has followed the set that opened the lineage yet
        cycle(place, instance)
    (documents / "short-lived").write_text("in the set, in no listing of a cycle")
    full(place, instance)
    (documents / "short-lived").unlink()
    (documents / "second").write_text("2")
    cycle(place, instance)
    equal = []
    answer = tried(
        place,
        tmp_path / "scratch",
        instance,
        before_destroy=lambda _name, server: equal.append(same(documents, Path(f"{server.folder}/root{documents}"))),
    )
    assert answer["failed"] == [], said(answer, "scan")
    assert answer["instances"]["scan"]["source"]["logs"] == 1
    assert equal == [True]


@pytest.mark.parametrize(
    ("content", "how", "code"),
    [("tar", flip, "damaged-artefact"), ("tar", cut, "truncated-artefact"), ("", gone, "missing-log")],
)
def test_one_instances_damage_leaves_the_others_alone(
    place: Place, instance: Instance, documents: Path, tmp_path: Path, content: str, how: object, code: str
) -> None:
    letters = tmp_path / "surat"
    letters.mkdir()
    (letters / "a").write_text("a")
    other = place.files("surat", letters)
    full(place, instance)
    full(place, other)
    (documents / "new").write_text("1")
    cycle(place, instance)
    path = newest_artefact(place, "scan", content) if content else newest_log(place, "scan")
    with spoilt(path, how):  # type: ignore[arg-type]
        answer = tried(place, tmp_path / "scratch", instance, other)
    assert answer["failed"] == ["scan"]
    assert codes(answer, "scan") == [code]
    assert answer["instances"]["surat"]["result"] == "succeeded"
    assert "1 dari (of) 2" in answer["report_text"]


def test_a_wrong_key_is_named(place: Place, instance: Instance, tmp_path: Path) -> None:
    full(place, instance)
    other = tmp_path / "other.key"
    subprocess.run(["age-keygen", "-o", str(other)], capture_output=True, check=True)
    answer = tried(place, tmp_path / "scratch", instance, protection=Protection((), other))
    assert codes(answer, "scan") == ["decryption-failed"]


def test_files_that_vanished_are_a_finding(place: Place, instance: Instance, documents: Path, tmp_path: Path) -> None:
    for number in range(10):
        (documents / f"page {number}").write_text("x")
    full(place, instance)
    assert tried(place, tmp_path / "scratch", instance)["failed"] == []
    for number in range(10):
        (documents / f"page {number}").unlink()
    cycle(place, instance)
    answer = tried(place, tmp_path / "scratch", instance)
    assert codes(answer, "scan") == ["table-shrunk"]


def test_an_altered_manifest_is_named(place: Place, instance: Instance, tmp_path: Path) -> None:
    made = full(place, instance)
    with spoilt(Path(made["path"]) / "manifest.json", lambda data: data.replace(b'"warnings": []', b'"warnings": [1]')):
        answer = tried(place, tmp_path / "scratch", instance)
    assert codes(answer, "scan") == ["altered-manifest"]


def test_an_instance_without_a_backup_and_a_set_of_no_known_kind_say_so(
    place: Place, instance: Instance, tmp_path: Path
) -> None:
    answer = tried(place, tmp_path / "scratch", instance)
    assert codes(answer, "scan") == ["no-set"]
    made = full(place, instance)
    manifest = Path(made["path"]) / "manifest.json"
    with spoilt(manifest, lambda data: data.replace(b'"method": "archive"', b'"method": "logical"')):
        answer = tried(place, tmp_path / "scratch", instance)
    assert "logical, of the engine files" in said(answer, "scan")


def test_a_question_to_folders_is_a_finding(place: Place, instance: Instance, tmp_path: Path) -> None:
    full(place, instance)
    wrong = Expectations.from_json("scan", {"checks": [{"name": "x", "sql": "SELECT 1", "expect": "1"}]})
    answer = tried(place, tmp_path / "scratch", instance, target=Target("set"), expectations={"scan": wrong})
    assert codes(answer, "scan") == ["assertion-not-met"]
    assert "nothing there answers SQL" in said(answer, "scan")


def test_an_unexpected_error_is_recorded_and_leaves_nothing(place: Place, instance: Instance, tmp_path: Path) -> None:
    letters = tmp_path / "surat"
    letters.mkdir()
    other = place.files("surat", letters)
    full(place, instance)
    full(place, other)

    def broken(name: str, _server: ScratchServer) -> None:
        if name == "scan":
            raise RuntimeError("a mistake")

    answer = tried(place, tmp_path / "scratch", instance, other, before_destroy=broken)
    assert codes(answer, "scan") == ["unexpected"]
    assert answer["instances"]["surat"]["result"] == "succeeded"
    kept = evidence(place, "scan")
    assert kept["result"] == "failed"
    assert "a mistake" in kept["reason"]
    assert kept["destruction"]

    def interrupted(_name: str, _server: ScratchServer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tried(place, tmp_path / "scratch", instance, other, before_destroy=interrupted)
    assert evidence(place, "scan")["reason"].startswith("interrupted: KeyboardInterrupt")
    assert sorted(os.listdir(tmp_path / "scratch")) == [LOCK, MARKER]


def test_a_chain_whose_end_was_cut_off_is_known_from_the_ledger(
    place: Place, instance: Instance, documents: Path, tmp_path: Path
) -> None:
    full(place, instance)
    for number in range(2):
        (documents / "new").write_text(str(number))
        cycle(place, instance)
    log = newest_log(place, "scan")
    before = next(path for path in log.parent.glob("00000001-*.json"))
    for path in log.parent.glob("00000002-*"):
        path.unlink()
    head = {"sequence": 1, "record": before.name, "record_sha256": hashlib.sha256(before.read_bytes()).hexdigest()}
    (log.parent / "head.json").write_text(json.dumps(head))
    answer = tried(place, tmp_path / "scratch", instance)
    assert codes(answer, "scan") == ["cut-off-chain"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_no_room_is_said_before_anything_is_unpacked(place: Place, instance: Instance, tmp_path: Path) -> None:
    full(place, instance)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=True)
    try:
        answer = tried(place, small / "scratch", instance)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert codes(answer, "scan") == ["prerequisite"]
    assert "bytes free; the copy needs about" in said(answer, "scan")
    assert "destruction" not in answer["instances"]["scan"]


def test_values_that_cannot_be_used_are_said_before_anything_is_touched(
    place: Place, instance: Instance, tmp_path: Path
) -> None:
    full(place, instance)
    before = sorted(place.repository.rglob("*"))
    for wrong, why in (
        ({"zone": "Asia/Jakata"}, "no time zone"),
        ({"target": Target("yesterday")}, "target 'yesterday' is not known"),
        ({"expectations": {"simrs": Expectations()}}, "simrs, which is not tested"),
    ):
        with pytest.raises(InputError, match=why):
            tried(place, tmp_path / "scratch", instance, **wrong)
    assert sorted(place.repository.rglob("*")) == before
    assert not (tmp_path / "scratch").exists()
