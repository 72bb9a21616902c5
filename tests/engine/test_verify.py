# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification: whatever is altered, removed or added in a repository is a finding that names it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import repository as repository_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.base import Inspection, Problem
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files.chain import FilesChain
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files.engine import FilesEngine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.registry import engines_for, method_of
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    InputError,
    LedgerError,
    LockHeldError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import Finding
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.locks import exclusive
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import backup_verify as verify_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import full_backup as full_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.ledger import ledger_entry, ledger_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.schedule import Window
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.stored import check_file, unpack
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


class Site:
    """A folder that was backed up twice, with three archives of changes between."""

    def __init__(self, root: Path) -> None:
        self.place: Place = make_place(root / "backup")
        self.documents = root / "scan"
        self.documents.mkdir()
        self.instance: Instance = self.place.files("scan", self.documents)
        self.repository = Repository.open(self.place.repository)
        self.folder = self.repository.instance("scan")

    def backup(self) -> dict[str, Any]:
        return full_backup(FullBackupRequest(self.instance, self.place.repository, self.place.protection), Progress())

    def cycle(self, name: str) -> dict[str, Any]:
        (self.documents / name).write_text(name)
        return log_cycle(LogCycleRequest([self.instance], self.place.repository, self.place.protection))

    def verify(self, **more: Any) -> dict[str, Any]:
        values: dict[str, Any] = {"protection": self.place.protection, **more}
        return backup_verify(VerifyRequest([self.instance], self.place.repository, **values), Progress())

    def codes(self, **more: Any) -> list[str]:
        found = self.verify(**more)["instances"]["scan"]["findings"]
        assert all(each["file"] and each["message"] and each["remedy"] for each in found)
        return [each["code"] for each in found]

    @property
    def lineage(self) -> Path:
        return self.folder.lineages()[-1].path


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("verify"))
    (made.documents / "a").write_text("a")
    made.backup()
    for name in ("b", "c", "d"):
        assert made.cycle(name)["failed"] == []
    made.backup()
    shutil.copytree(made.place.repository, made.place.root / "pristine")
    return made


@pytest.fixture
def site(pristine: Site) -> Site:
    """The repository as it was, whatever the test before did to it."""
    shutil.rmtree(pristine.place.repository)
    shutil.copytree(pristine.place.root / "pristine", pristine.place.repository)
    return pristine


def test_what_is_whole_holds(site: Site) -> None:
    for level in ("checksum", "deep"):
        answer = site.verify(level=level)
        assert answer["failed"] == []
        assert answer["instances"]["scan"]["logs"] == 3
        assert [each["holds"] for each in answer["instances"]["scan"]["sets"]] == [True, True]
        assert answer["ledger"]["problem"] is None
    assert os.listdir(site.folder.verify) == []
    kinds = [(each["kind"], each["activity"], each["data"].get("result")) for each in site.repository.ledger.records()]
    assert kinds[-2:] == [("started", "backup_verify", None), ("finished", "backup_verify", "succeeded")]
    before = site.repository.ledger.head()
    assert site.verify(check_only=True)["failed"] == []
    assert site.repository.ledger.head() == before


def newest_set(site: Site) -> Path:
    return site.folder.full / site.folder.set_names()[-1]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def flip_artefact(site: Site) -> None:
    flip(newest_set(site) / "files.tar.zst.age")


def cut_artefact(site: Site) -> None:
    path = newest_set(site) / "files.tar.zst.age"
    path.write_bytes(path.read_bytes()[:-1])


def remove_artefact(site: Site) -> None:
    (newest_set(site) / "files.tar.zst.age").unlink()


def unreadable_artefact(site: Site) -> None:
    remove_artefact(site)
    (newest_set(site) / "files.tar.zst.age").mkdir()


def alter_manifest(site: Site) -> None:
    path = newest_set(site) / "manifest.json"
    path.write_text(path.read_text().replace('"compression_level": 1', '"compression_level": 2'))


def mangle_manifest(site: Site) -> None:
    (newest_set(site) / "manifest.json").write_text("{}")


def remove_set(site: Site) -> None:
    shutil.rmtree(newest_set(site))


def plant_set(site: Site) -> None:
    name = "20260101T000000Z-0001"
    shutil.copytree(newest_set(site), site.folder.full / name)
    path = site.folder.full / name / "manifest.json"
    path.write_text(path.read_text().replace(newest_set(site).name, name))


def flip_log(site: Site) -> None:
    flip(next(site.lineage.glob("00000002-*.age")))


def remove_log(site: Site) -> None:
    next(site.lineage.glob("00000002-*.age")).unlink()


def alter_record(site: Site) -> None:
    path = next(site.lineage.glob("00000002-*.json"))
    path.write_text(path.read_text().replace('"transactions": null', '"transactions": 1'))


def remove_record(site: Site) -> None:
    next(site.lineage.glob("00000001-*.json")).unlink()


def cut_chain(site: Site) -> None:
    """Take the newest log away with its record, and set the head back: by itself that is a whole chain."""
    before = next(site.lineage.glob("00000002-*.json"))
    values = json.loads((site.lineage / "head.json").read_text())
    digest = json.loads(next(site.lineage.glob("00000003-*.json")).read_text())["previous"]
    (site.lineage / "head.json").write_text(
        json.dumps({**values, "sequence": 2, "record": before.name, "record_sha256": digest})
    )
    for path in site.lineage.glob("00000003-*"):
        path.unlink()


def remove_head(site: Site) -> None:
    (site.lineage / "head.json").unlink()


def mangle_opening(site: Site) -> None:
    (site.lineage / "lineage.json").write_text("[]")


DAMAGE: list[tuple[Callable[[Site], None], str]] = [
    (flip_artefact, "damaged-artefact"),
    (cut_artefact, "damaged-artefact"),
    (remove_artefact, "damaged-artefact"),
    (unreadable_artefact, "damaged-artefact"),
    (alter_manifest, "altered-manifest"),
    (mangle_manifest, "damaged-manifest"),
    (remove_set, "missing-set"),
    (plant_set, "unrecorded-set"),
    (flip_log, "damaged-log"),
    (remove_log, "missing-log"),
    (alter_record, "damaged-chain"),
    (remove_record, "damaged-chain"),
    (cut_chain, "cut-off-chain"),
    (remove_head, "cut-off-chain"),
    (mangle_opening, "damaged-chain"),
]


@pytest.mark.parametrize(("act", "code"), DAMAGE, ids=[each[0].__name__ for each in DAMAGE])
@pytest.mark.parametrize("level", ["checksum", "deep"])
def test_each_damage_is_a_finding_of_its_own(site: Site, act: Callable[[Site], None], code: str, level: str) -> None:
    act(site)
    assert site.codes(level=level) == [code]
    assert list(site.repository.ledger.records())[-1]["data"]["result"] == "failed"
    # Whoever only looks is not stopped by it either.
    info = backup_info(site.place.repository)["instances"]["scan"]
    assert len(info["sets"]) >= 1


def test_a_chain_whose_head_is_damaged_is_not_called_whole(site: Site) -> None:
    (site.lineage / "head.json").write_text("{}")
    info = backup_info(site.place.repository)["instances"]["scan"]
    assert [each["whole"] for each in info["lineages"]] == [False]
    assert info["lineages"][0]["findings"][0]["code"] == "damaged-chain"
    assert site.cycle("e")["failed"] == ["scan"]
    # The remedy that is named helps: a full backup opens a chain of its own.
    made = site.backup()
    assert made["lineage"] != info["lineages"][0]["lineage"]
    assert site.cycle("f")["failed"] == []
    mangle = site.folder.logs / made["lineage"] / "lineage.json"
    mangle.write_text("")
    assert len(backup_info(site.place.repository)["instances"]["scan"]["damaged_lineages"]) == 1
    assert site.backup()["lineage"] not in (made["lineage"], info["lineages"][0]["lineage"])


def test_without_a_full_backup_verification_does_not_succeed(tmp_path: Path) -> None:
    assert Site(tmp_path).codes() == ["no-full-backup"]


def test_a_set_that_was_removed_on_purpose_is_not_missed(site: Site) -> None:
    name = newest_set(site).name
    remove_set(site)
    site.repository.ledger.append("finished", "backup_prune", "run", instance="scan", data={"removed": [name]})
    assert site.codes() == []


@pytest.mark.parametrize("line", ["middle", "last"])
def test_a_damaged_ledger_is_said_and_the_sets_are_verified_all_the_same(site: Site, line: str) -> None:
    path = max(site.repository.ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    number = len(lines) if line == "last" else len(lines) // 2
    lines[number - 1] = b"{}\n"
    path.write_bytes(b"".join(lines))
    flip_artefact(site)
    answer = site.verify()
    assert f"line {number}" in answer["ledger"]["problem"]
    assert [each["code"] for each in answer["instances"]["scan"]["findings"]] == ["damaged-artefact"]
    info = ledger_info(site.place.repository, verify=True)
    assert info["holds"] is False
    assert f"line {number}" in info["problem"]
    if line == "middle":
        assert len(info["records"]) == number - 1
        with pytest.raises(LedgerError, match=f"line {number}"):
            ledger_info(site.place.repository)
    else:
        assert [each["sequence"] for each in info["records"]][-2:] == [number + 1, number + 2]
        assert f"line {number}" in ledger_info(site.place.repository)["damaged_lines"][0]


def test_a_damaged_last_line_of_the_ledger_stops_no_backup(site: Site) -> None:
    path = max(site.repository.ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b'"result"', b'"resulT"'))
    request = FullBackupRequest(site.instance, site.place.repository, site.place.protection, force=True)
    assert full_backup(request, Progress())["changed"] is True
    assert site.cycle("new")["instances"]["scan"]["result"] == "good"
    found = site.verify()
    assert f"{path.name} line {len(lines)}: " in found["ledger"]["problem"]
    assert found["failed"] == []
    assert "1 damaged line(s)" in site.repository.ledger.warning()


def test_a_head_written_down_is_checked(site: Site) -> None:
    head = str(site.repository.ledger.head())
    assert site.verify(head=head)["ledger"]["problem"] is None
    wrong = head[:-1] + ("0" if head[-1] != "0" else "1")
    answer = site.verify(head=wrong)
    assert "as written down" in answer["ledger"]["problem"]
    assert list(site.repository.ledger.records())[-1]["data"]["result"] == "failed"


def test_log_cycles_do_not_disturb_a_deep_verification(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    original = unpack
    cycles: list[dict[str, Any]] = []

    def unpack_and_cycle(*given: Any) -> Path:
        target = original(*given)
        cycles.append(site.cycle(f"while-{len(cycles)}"))
        return target

    monkeypatch.setattr(verify_module, "unpack", unpack_and_cycle)
    assert site.verify(level="deep")["failed"] == []
    assert [each["failed"] for each in cycles] == [[]] * len(cycles)
    assert cycles != []


def test_two_deep_verifications_do_not_share_a_folder(site: Site) -> None:
    with site.folder.verify_lock(), pytest.raises(LockHeldError, match="verification of scan"):
        site.verify(level="deep")
    left = site.folder.verify
    left.mkdir(exist_ok=True)
    (left / ".unfinished-old").mkdir()
    assert site.verify(level="deep")["failed"] == []
    assert os.listdir(left) == []


def test_a_verification_that_cannot_go_on_is_recorded_as_failed(site: Site) -> None:
    with pytest.raises(PrerequisiteError, match="is not on this host"):
        site.verify(level="deep", protection=Protection(site.place.protection.recipients, None))
    last = list(site.repository.ledger.records())[-1]
    assert (last["kind"], last["data"]["result"]) == ("finished", "failed")
    assert "is not on this host" in last["data"]["reason"]


def test_deep_verification_of_a_log_that_does_not_decode(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: Any, **_more: Any) -> None:
        raise PipelineError("zstd: bad data")

    monkeypatch.setattr(verify_module, "write_through", fails)
    codes = site.codes(level="deep")
    assert codes.count("damaged-log") == 3


def test_only_the_sets_that_are_named_are_unpacked(site: Site) -> None:
    oldest = site.folder.set_names()[0]
    answer = site.verify(level="deep", sets=[oldest])["instances"]["scan"]["sets"]
    assert [bool(each["deep"]) for each in answer] == [False, True]
    with pytest.raises(InputError, match="no full backup set nothing of scan"):
        site.verify(level="deep", sets=["nothing"])


def test_a_stored_file_is_read_once_and_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 3_000_000)
    seen: list[int] = []
    import hashlib

    assert check_file(path, 3_000_000, hashlib.sha256(b"a" * 3_000_000).hexdigest(), seen.append) == ""
    assert seen[-1] == 3_000_000
    assert "has 3000000 bytes; 5 were written" in check_file(path, 5, "")
    assert "is missing" in check_file(tmp_path / "none", 5, "")


def test_a_finding_that_does_not_break_the_chain_leaves_its_lineage(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.folder.lineages()[-1].id
    soft = Finding("checksum-off", "x", "It is off.", "Switch it on.", breaks=False)
    monkeypatch.setattr(FilesChain, "check_server", lambda *_: [soft])
    assert site.backup()["lineage"] == before
    hard = Finding("other-server", "x", "It is another.", "Make a new one.")
    monkeypatch.setattr(FilesChain, "check_server", lambda *_: [soft, hard])
    assert site.backup()["lineage"] != before
    monkeypatch.undo()
    assert [each.broken for each in site.folder.lineages()] == [True, False]


def test_a_full_backup_waits_for_a_cycle_that_is_under_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    waiting = threading.Event()
    original = exclusive

    def noting(path: Path, activity: str, wait_seconds: float = 0.0) -> Any:
        if activity == "full backup of scan" and path.name == ".lock-logs":
            waiting.set()
        return original(path, activity, wait_seconds)

    monkeypatch.setattr(repository_module, "exclusive", noting)
    made: list[dict[str, Any]] = []

    def back_up() -> None:
        made.append(site.backup())
        done.set()

    thread = threading.Thread(target=back_up)
    with site.folder.log_lock():
        thread.start()
        assert waiting.wait(120)
        assert not done.wait(0.5)
        assert site.folder.set_names()[2:] == []
    thread.join(120)
    assert made[0]["changed"]


def test_a_cycle_that_is_interrupted_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(FilesChain, "deliver", interrupted)
    with pytest.raises(SystemExit):
        site.cycle("e")
    last = list(site.repository.ledger.records())[-1]
    assert (last["kind"], last["activity"], last["data"]["result"]) == ("finished", "log_cycle", "failed")
    monkeypatch.undo()
    assert site.cycle("f")["failed"] == []


def test_an_unexpected_error_in_one_instance_is_a_result(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(FilesChain, "check_server", breaks)
    answer = site.cycle("e")
    assert answer["failed"] == ["scan"]
    assert "unexpected KeyError" in answer["instances"]["scan"]["message"]


def test_a_cycle_without_or_with_a_broken_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    request = LogCycleRequest([site.instance], site.place.repository, site.place.protection)
    for check in (False, True):
        given = LogCycleRequest([site.instance], site.place.repository, site.place.protection, check_only=check)
        assert log_cycle(given)["instances"]["scan"]["result"] == "no full backup"
    site.backup()
    look = LogCycleRequest([site.instance], site.place.repository, site.place.protection, check_only=True)
    assert log_cycle(look)["instances"]["scan"]["result"] == "good"
    hard = Finding("rolled-back", "x", "It went back.", "Make a new one.")
    monkeypatch.setattr(FilesChain, "check_server", lambda *_: [hard])
    assert log_cycle(look)["instances"]["scan"]["result"] == "broken"
    assert log_cycle(request)["instances"]["scan"]["findings"][0]["code"] == "rolled-back"
    monkeypatch.undo()
    for given in (request, look):
        answer = log_cycle(given)["instances"]["scan"]
        assert answer["result"] == "broken"
        assert answer["findings"][0]["code"] == "rolled-back"
        assert "full_backup" in answer["message"]
    site.backup()
    assert log_cycle(request)["instances"]["scan"]["result"] in ("good", "idle")


def test_problems_found_by_an_inspection_are_one_refusal(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = (Problem("One is wrong.", "Do this."), Problem("Two is wrong.", "Do that."))
    found = Inspection("1", {}, 1, {}, {}, problems=problems)
    monkeypatch.setattr(FilesEngine, "inspect", lambda _self: found)
    names = site.folder.set_names()
    head = site.repository.ledger.head()
    with pytest.raises(PrerequisiteError, match=r"One is wrong\. Two is wrong\. Do this\. Do that\."):
        site.backup()
    assert site.folder.set_names() == names
    assert site.repository.ledger.head() == head


def test_a_window_that_will_not_do_is_told_beforehand_and_in_the_manifest(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FilesEngine.inspect
    monkeypatch.setattr(FilesEngine, "inspect", lambda self: replace(original(self), expected_bytes=1_000_000))
    site.backup()

    def backup(window: Window, **more: Any) -> dict[str, Any]:
        request = FullBackupRequest(site.instance, site.place.repository, site.place.protection, window=window, **more)
        return full_backup(request, Progress())

    # Due a year ago: whenever it ends, it ends after its window.
    late = datetime(2025, 9, 19, 5, 0, tzinfo=timezone.utc)
    window = Window("Asia/Jakarta", "12:00", "12:30")
    plan = backup(window, slot=late, check_only=True)["plan"]
    assert plan["forecast"]["fits"] is False
    made = backup(window, slot=late)
    assert made["window"]["kept"] is False
    assert any("after its window" in each for each in made["warnings"])
    wide = Window("UTC", "00:00", "23:59")
    assert backup(wide)["window"]["opens"].endswith("T00:00:00Z")


def test_of_two_runs_for_one_slot_the_second_finds_the_set(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = datetime(2026, 9, 19, 5, 0, tzinfo=timezone.utc)
    request = FullBackupRequest(site.instance, site.place.repository, site.place.protection, slot=slot)
    first = full_backup(request, Progress())
    original = full_module._set_for_slot
    answers = iter([None])  # as it was before the other run published its set
    monkeypatch.setattr(full_module, "_set_for_slot", lambda *given: next(answers, original(*given)))
    again = full_backup(request, Progress())
    assert (again["changed"], again["set"]) == (False, first["set"])


def test_the_dead_runs_set_is_recorded_by_the_next(site: Site) -> None:
    slot = datetime(2026, 9, 19, 5, 0, tzinfo=timezone.utc)
    request = FullBackupRequest(site.instance, site.place.repository, site.place.protection, slot=slot)
    made = full_backup(request, Progress())
    path = max(site.repository.ledger.folder.glob("*.jsonl"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert site.codes(check_only=True) == []  # sealed before it was published
    assert full_backup(request, Progress())["changed"] is False
    last = list(site.repository.ledger.records())[-1]
    assert (last["run"], last["data"]["set"]) == (made["run"], made["set"])
    assert "recorded_late" in last["data"]


def test_engines_by_name(site: Site) -> None:
    assert set(engines_for([site.instance])) == {"scan"}
    assert method_of(site.instance) == "archive"
    with pytest.raises(InputError, match="named twice"):
        engines_for([site.instance, site.instance])
    with pytest.raises(InputError, match="method 'x' of the instance a is not known"):
        engines_for([Instance("a", "files", method="x")])


def test_the_ledger_is_read_and_added_to(site: Site) -> None:
    root = site.place.repository
    before = str(site.repository.ledger.head())
    assert ledger_entry(root, "attestation", {"by": "Siti"}, check_only=True) == {"changed": True, "head": before}
    assert str(site.repository.ledger.head()) == before
    added = ledger_entry(root, "attestation", {"by": "Siti"}, instance="scan", actor="Siti")
    assert added["head"] == str(site.repository.ledger.head())
    found = ledger_info(root, activity="attestation")["records"]
    assert [(each["data"], each["actor"]["given"]) for each in found] == [({"by": "Siti"}, "Siti")]
    assert {each["activity"] for each in ledger_info(root, instance="scan")["records"]} == {
        "full_backup",
        "log_cycle",
        "attestation",
    }
    assert ledger_info(root, instance="other")["records"] == []
    assert len(ledger_info(root, limit=2)["records"]) == 2
    assert ledger_info(root, limit=0)["records"] == []
    last = list(site.repository.ledger.records())[-1]
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment

    assert [each["sequence"] for each in ledger_info(root, since=parse_moment(last["at"]))["records"]] == [
        last["sequence"]
    ]
    assert ledger_info(root, head=added["head"])["holds"] is True


def test_a_full_backup_that_ends_meanwhile_is_vouched_for(tmp_path: Path) -> None:
    """The ledger was read before it: the set is no foreign one for that."""
    place = make_place(tmp_path / "backup")
    instances = []
    for name in ("scan", "surat"):
        (tmp_path / name).mkdir()
        instances.append(place.files(name, tmp_path / name))
        full_backup(FullBackupRequest(instances[-1], place.repository, place.protection), Progress())

    class Meanwhile(Progress):
        made = ""

        def phase(self, name: str, expected_bytes: int = 0) -> None:
            if not self.made:
                request = FullBackupRequest(instances[1], place.repository, place.protection)
                self.made = str(full_backup(request, Progress())["set"])

    progress = Meanwhile()
    answer = backup_verify(VerifyRequest(instances, place.repository, place.protection), progress)
    assert answer["failed"] == []
    assert progress.made in [each["set"] for each in answer["instances"]["surat"]["sets"]]
