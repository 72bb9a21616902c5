# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of a restore: each refusal by itself, and that nothing was touched."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as ledger_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.gate import (
    Asked,
    require_instruction,
    under_instruction,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.record import RestoreRecord
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.store import (
    BOUND,
    RECORD,
    USED,
    Approvals,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.targets import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ApprovalError,
    DamagedError,
    InputError,
    LedgerError,
    LockHeldError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.officials import officials_problems
from tests.approval_support import (
    ASKED,
    LETTER,
    NOW,
    OFFICIALS,
    PLAN,
    TELEPHONE,
    Office,
    changed,
    make_office,
)

ACTOR = {"user": "root"}


@pytest.fixture(autouse=True)
def _no_timedatectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "clock_synchronised", lambda: True)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return make_office(tmp_path / "backup")


def gate(office: Office, record: str, asked: Asked = ASKED, now: datetime = NOW) -> None:
    require_instruction(office.repository, record, asked, officials_file=office.officials, now=now)


def refused(office: Office, record: str, which: str, asked: Asked = ASKED, now: datetime = NOW) -> ApprovalError:
    """Ask for a restore, which must be refused for one reason before anything is touched."""
    before = office.state()
    with pytest.raises(ApprovalError) as look:
        gate(office, record, asked, now)
    entered = False
    with (
        pytest.raises(ApprovalError) as held,
        under_instruction(
            office.repository, record, asked, run="r", actor=ACTOR, officials_file=office.officials, now=now
        ),
    ):
        entered = True
    assert not entered
    assert (look.value.details["refusal"], held.value.details["refusal"]) == (which, which)
    assert look.value.remedy
    assert office.state() == before
    return look.value


# -- what holds --


def test_an_instruction_by_letter_covers_its_restore_from_first_try_to_success(office: Office) -> None:
    record, sha256 = office.force(LETTER), ""
    for run in ("one", "two"):
        with under_instruction(
            office.repository, record, ASKED, run=run, actor=ACTOR, officials_file=office.officials, now=NOW
        ) as held:
            assert held.record.instructed_by.id_number == "0012"
            sha256 = held.record_sha256
            if run == "two":
                held.used()
    events = [each for each in office.repository.ledger.records() if each["activity"] == "approval"]
    assert [each["data"]["event"] for each in events] == ["written", "bound", "used"]
    assert {each["data"]["record_sha256"] for each in events} == {sha256}
    assert [each["run"] for each in events] == ["test", "one", "two"]
    assert events[2]["data"]["plan_sha256"] == PLAN
    folder = office.path / "approvals" / record
    assert json.loads((folder / BOUND).read_text())["run"] == "one"
    assert json.loads((folder / USED).read_text())["run"] == "two"
    assert "the restore two succeeded" in str(refused(office, record, "used")).replace("The", "the")


def test_the_evidence_says_on_whose_word(office: Office) -> None:
    given = require_instruction(
        office.repository, office.force(TELEPHONE), ASKED, officials_file=office.officials, now=NOW
    ).to_evidence()
    assert given["instructed_by"] == {"role": "kepala_instalasi_sirs", "name": "Contoh Kepala", "id_number": "0012"}
    assert (given["heard_by"]["id_number"], given["witness"]["id_number"]) == ("1008", "1009")
    assert given["reason"] == "Tabel pasien terhapus"
    assert "letter" not in given
    json.dumps(given)


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": ("table:simrs.kunjungan", "table:`simrs`.`pasien`")},
        {"target": Target("time", "2026-11-22T18:10:00Z")},
        {"target": Target("time", "2026-11-23T01:10:00.000+07:00")},
    ],
)
def test_the_same_thing_in_other_words_is_the_same(office: Office, changes: dict[str, Any]) -> None:
    gate(office, office.force(LETTER), dataclasses.replace(ASKED, **changes))


def test_a_full_restore_replaces_whatever_the_caller_says(office: Office) -> None:
    record = office.force(changed(LETTER, scope=["full"], target={"kind": "latest"}))
    gate(office, record, dataclasses.replace(ASKED, scope=("full",), target=Target("latest"), mode="beside"))


def test_a_deputy_instructs_within_the_appointment(office: Office) -> None:
    deputy = {"role": "kepala_instalasi_sirs", "name": "contoh  pengganti", "id_number": "1006"}
    day = {
        "instructed_by": deputy,
        "instructed_at": "2026-12-20T00:05:00+07:00",  # still the 19th in UTC
        "letter": {"number": "1", "date": "2026-12-20"},
        "valid_until": "2026-12-21T00:00:00+07:00",
    }
    gate(office, office.force(changed(LETTER, **day)), now=datetime(2026, 12, 19, 17, 10, tzinfo=timezone.utc))


# -- the record itself --


def test_without_an_instruction_nothing_is_restored(office: Office) -> None:
    assert "R1" in str(refused(office, "", "missing"))
    refused(office, "  ", "missing")


def test_an_unknown_record_is_refused_and_the_known_are_named(office: Office) -> None:
    known = office.force(LETTER)
    assert known in str(refused(office, "20260101T000000Z-0001", "unknown"))


@pytest.mark.parametrize("record", ["../approvals", "a/b", ".lock", "a..b", "x" * 64, "ä"])
def test_an_id_that_leads_elsewhere_is_refused(office: Office, record: str) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        gate(office, record)


def test_a_record_changed_by_hand_is_refused(office: Office) -> None:
    record = office.force(LETTER)
    path = office.path / "approvals" / record / RECORD
    path.write_text(path.read_text().replace("2026-11-24T02", "2027-11-24T02"))
    refused(office, record, "altered")


def test_a_record_put_there_by_hand_is_refused(office: Office) -> None:
    record = office.force(LETTER)
    folder = office.path / "approvals" / record
    (folder.parent / "copied").mkdir()
    (folder.parent / "copied" / RECORD).write_bytes((folder / RECORD).read_bytes())
    refused(office, "copied", "not-in-ledger")


def test_damage_elsewhere_in_the_ledger_keeps_nobody_from_restoring(office: Office) -> None:
    office.repository.ledger.append("event", "follow_up", "r")
    office.repository.ledger.append("event", "follow_up", "r")
    record = office.force(LETTER)
    office.repository.ledger.append("event", "follow_up", "r")
    (path,) = (office.path / "ledger").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{rotten\n", *lines[2:]]))
    with pytest.raises(LedgerError):
        list(office.repository.ledger.records())
    gate(office, record)


def test_a_record_whose_line_in_the_ledger_was_changed_is_refused(office: Office) -> None:
    record = office.force(LETTER)
    file = office.path / "approvals" / record / RECORD
    (path,) = (office.path / "ledger").glob("*.jsonl")
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(file.read_text().replace("2026-11-24T02", "2027-11-24T02"))
    path.write_text(path.read_text().replace(before, hashlib.sha256(file.read_bytes()).hexdigest()))
    refused(office, record, "not-in-ledger")


def test_a_record_that_cannot_be_read_is_refused(office: Office) -> None:
    record = office.force(LETTER)
    path = office.path / "approvals" / record / RECORD
    path.unlink()
    refused(office, record, "unreadable")
    path.symlink_to("/etc/passwd")
    refused(office, record, "unreadable")


@pytest.mark.parametrize(
    "change",
    [
        {"aproved": "yes"},
        {"record_version": "2"},
        {"scope": "full"},
        {"target": {"kind": "latest", "value": "now"}},
        {"letter": None},
        {"heard_by": {"name": "x", "id_number": "1"}},
    ],
)
def test_a_record_with_anything_unknown_in_it_is_refused(
    office: Office, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    record = _written_anyhow(office, monkeypatch, changed(LETTER, **change))
    refused(office, record, "unreadable")


def test_a_record_of_another_kind_is_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    record = _written_anyhow(office, monkeypatch, changed(LETTER, kind="data_update"))
    refused(office, record, "other-kind")


def _written_anyhow(office: Office, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(RestoreRecord, "from_values", classmethod(lambda _cls, _values: None))
        return office.force(values)


def test_a_folder_that_holds_another_record_is_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = office.force(LETTER), office.force(LETTER)
    history = office.approvals.history()
    swapped = {one: history[other]}
    folder = office.path / "approvals"
    (folder / one / RECORD).write_bytes((folder / other / RECORD).read_bytes())
    with pytest.raises(DamagedError, match=f"holds the record {other}"):
        _ = office.approvals.read(one, swapped).restore


# -- for exactly this --


@pytest.mark.parametrize(
    ("which", "changes", "named"),
    [
        ("other-instance", {"instance": "lis"}, "of lis"),
        ("other-scope", {"scope": ("table:simrs.pasien",)}, "of table:simrs.pasien"),
        ("other-scope", {"scope": ("full",)}, "of full"),
        ("other-scope", {"scope": (*ASKED.scope, "table:simrs.obat")}, "table:simrs.obat"),
        ("other-target", {"target": Target("latest")}, "to latest"),
        ("other-target", {"target": Target("time", "2026-11-23T01:10:01+07:00")}, "01:10:01"),
        ("other-target", {"target": Target("gtid", "0-1-7")}, "to gtid 0-1-7"),
        ("other-mode", {"mode": "beside"}, "in the mode beside"),
        ("not-accepted", {"accepts": ("orphans",)}, "accepts orphans"),
    ],
)
def test_an_instruction_for_something_else_is_refused(
    office: Office, which: str, changes: dict[str, Any], named: str
) -> None:
    error = refused(office, office.force(LETTER), which, dataclasses.replace(ASKED, **changes))
    assert named in str(error)


def test_what_the_instruction_accepts_may_be_asked(office: Office) -> None:
    asked = dataclasses.replace(ASKED, accepts=("orphans",))
    gate(office, office.force(changed(LETTER, accepts=["orphans"])), asked)


# -- when --


@pytest.mark.parametrize(
    ("which", "changes", "now"),
    [
        ("expired", {}, datetime(2026, 11, 23, 19, 0, tzinfo=timezone.utc)),
        ("not-yet-valid", {"valid_from": "2026-11-23T03:00:00+07:00"}, NOW),
        ("dated-in-the-future", {"instructed_at": "2026-11-23T02:32:01+07:00"}, NOW),
        ("dated-in-the-future", {"letter": {"number": "1", "date": "2026-11-24"}}, NOW),
    ],
)
def test_an_instruction_for_another_time_is_refused(
    office: Office, which: str, changes: dict[str, Any], now: datetime
) -> None:
    refused(office, office.force(changed(LETTER, **changes)), which, now=now)


def test_clocks_may_differ_by_two_minutes(office: Office) -> None:
    gate(office, office.force(changed(LETTER, instructed_at="2026-11-23T02:32:00+07:00")))
    exact = changed(LETTER, instructed_at="2026-11-23T02:31:00+07:00", valid_from="2026-11-23T02:31:01+07:00")
    refused(office, office.force(exact), "not-yet-valid")


def test_an_instruction_holds_to_its_last_second(office: Office) -> None:
    record = office.force(LETTER)
    gate(office, record, now=datetime(2026, 11, 23, 18, 59, 59, tzinfo=timezone.utc))


# -- who --


@pytest.mark.parametrize(
    "person",
    [
        {"role": "petugas_it", "name": "Contoh Petugas Satu", "id_number": "1008"},
        {"role": "kepala_instalasi_sirs", "name": "Contoh Petugas Satu", "id_number": "1008"},
        {"role": "kepala_instalasi_sirs", "name": "Contoh Kepala", "id_number": "12"},
        {"role": "kepala_instalasi_sirs", "name": "Bukan Kepala", "id_number": "0012"},
        {"role": "direktur_utama", "name": "Contoh Kepala", "id_number": "0012"},
        {"role": "kepala_instalasi_sirs", "name": "Contoh Lama", "id_number": "0013"},
        {"role": "kepala_instalasi_sirs", "name": "Contoh Pengganti", "id_number": "1006"},
    ],
)
def test_only_the_head_instructs(office: Office, person: dict[str, str]) -> None:
    refused(office, office.force(changed(LETTER, instructed_by=person)), "not-the-head")


@pytest.mark.parametrize("missing", ["heard_by", "witness"])
def test_one_person_is_not_enough_for_a_telephone_call(office: Office, missing: str) -> None:
    error = refused(office, office.force(changed(TELEPHONE, **{missing: None})), "needs-two-persons")
    assert missing in str(error)


@pytest.mark.parametrize(
    "changes",
    [
        {"witness": TELEPHONE["heard_by"]},
        {"witness": {"name": "contoh petugas  SATU", "id_number": "9999"}},
        {"witness": {"name": "Nama Lain", "id_number": "1008"}},
        {"heard_by": {"name": "Contoh Kepala", "id_number": "7"}},
        {"witness": {"name": "Siapa", "id_number": "0012"}},
    ],
)
def test_one_person_does_not_stand_for_two(office: Office, changes: dict[str, Any]) -> None:
    refused(office, office.force(changed(TELEPHONE, **changes)), "one-person-twice")


def test_a_telephone_call_that_nobody_signed_in_time_is_refused(office: Office) -> None:
    record = office.force(changed(TELEPHONE, countersign_until="2026-11-23T03:00:00+07:00"))
    gate(office, record)
    later = NOW + timedelta(minutes=30)
    assert "countersigned until 2026-11-23T03:00:00+07:00" in str(
        refused(office, record, "countersignature-overdue", now=later)
    )


def test_the_list_of_officials_must_be_roots(office: Office) -> None:
    record = office.force(LETTER)
    office.officials.chmod(0o664)
    with pytest.raises(PrerequisiteError, match="changed by others"):
        gate(office, record)
    office.officials.chmod(0o644)
    gate(office, record)
    office.root.chmod(0o777)
    with pytest.raises(PrerequisiteError, match="changed by others"):
        gate(office, record)
    office.root.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(office.officials, 65534, 0)
        with pytest.raises(PrerequisiteError, match="owner 65534"):
            gate(office, record)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text("{"), "does not hold"),
        (lambda path: path.write_text("[]"), "no offices"),
        (lambda path: path.write_text('{"kepala_instalasi_sirs": {"name": "x"}}'), "no list"),
        (lambda path: path.write_text('{"kepala_instalasi_sirs": ["x"]}'), "no person"),
        (lambda path: path.write_text('{"kepala_instalasi_sirs": [{"name": "x", "id": 10}]}'), "texts"),
        (
            lambda path: path.write_text('{"kepala_instalasi_sirs": [{"name": "x", "id": "1", "from": "soon"}]}'),
            "no date",
        ),
        (
            lambda path: path.write_text(
                '{"kepala_instalasi_sirs": [{"name": "x", "id": "1", "acting": true, "from": "2026-01-01"}]}'
            ),
            "without both",
        ),
        (
            lambda path: path.write_text('{"kepala_instalasi_sirs": [{"name": "x", "id": "1", "acting": "yes"}]}'),
            "true or false",
        ),
    ],
)
def test_a_list_of_officials_that_does_not_hold_is_refused(
    office: Office, spoil: Callable[[Path], object], said: str
) -> None:
    record = office.force(LETTER)
    spoil(office.officials)
    with pytest.raises(PrerequisiteError, match=said):
        gate(office, record)


def test_the_site_is_told_what_is_wrong_with_its_officials() -> None:
    assert officials_problems({}) == []
    assert officials_problems(OFFICIALS) == []
    (problem,) = officials_problems({"petugas_it": OFFICIALS["petugas_it"]})
    assert "nobody as kepala_instalasi_sirs" in problem
    said = officials_problems({"kepala_instalasi_sirs": [{"name": "x", "id": 10}], "petugas_it": {"name": "x"}})
    assert ["quotes" in said[0], "petugas_it in dbc_officials is no list" in said[1]] == [True, True]


def test_an_entry_of_another_office_keeps_nobody_from_restoring(office: Office) -> None:
    office.name_officials({**OFFICIALS, "direktur_utama": [{"name": 5}]})
    gate(office, office.force(LETTER))


# -- one plan --


def attempt(office: Office, record: str, asked: Asked = ASKED, *, succeed: bool = False) -> None:
    with under_instruction(
        office.repository, record, asked, run="r", actor=ACTOR, officials_file=office.officials, now=NOW
    ) as held:
        if succeed:
            held.used()


def test_another_plan_after_the_first_try_is_refused(office: Office) -> None:
    record = office.force(LETTER)
    gate(office, record, dataclasses.replace(ASKED, plan_digest="b" * 64))  # looking binds nothing
    attempt(office, record)
    attempt(office, record)
    error = refused(office, record, "plan-changed", dataclasses.replace(ASKED, plan_digest="b" * 64))
    assert (error.details["bound"], error.details["plan"]) == (PLAN, "b" * 64)


def test_a_run_that_fails_uses_nothing_up(office: Office) -> None:
    record = office.force(LETTER)
    with (
        pytest.raises(RuntimeError),
        under_instruction(
            office.repository, record, ASKED, run="r", actor=ACTOR, officials_file=office.officials, now=NOW
        ),
    ):
        raise RuntimeError
    attempt(office, record, succeed=True)
    refused(office, record, "used")


def finish(office: Office, record: str, asked: Asked = ASKED, now: datetime = NOW) -> None:
    with under_instruction(
        office.repository,
        record,
        asked,
        run="f",
        actor=ACTOR,
        officials_file=office.officials,
        now=now,
        finishing=True,
    ) as held:
        held.used()


def test_an_interrupted_restore_is_finished_after_its_time(office: Office) -> None:
    record = office.force(changed(TELEPHONE, countersign_until="2026-11-23T03:00:00+07:00"))
    attempt(office, record)
    late = NOW + timedelta(days=2)
    for _ in range(2):  # also where its success was noted and the run ended before it could say so
        finish(office, record, now=late)
    events = [each["data"]["event"] for each in office.repository.ledger.records() if each["activity"] == "approval"]
    assert events == ["written", "bound", "used"]
    with pytest.raises(ApprovalError):
        attempt(office, record)


def test_what_was_not_begun_is_not_finished_and_no_other_plan_either(office: Office) -> None:
    record = office.force(LETTER)
    before = office.state()
    with pytest.raises(ApprovalError) as error:
        finish(office, record)
    assert error.value.details["refusal"] == "not-begun"
    assert office.state() == before
    attempt(office, record)
    before = office.state()
    for which, asked in (
        ("plan-changed", dataclasses.replace(ASKED, plan_digest="b" * 64)),
        ("other-instance", dataclasses.replace(ASKED, instance="lis")),
    ):
        with pytest.raises(ApprovalError) as error:
            finish(office, record, asked)
        assert error.value.details["refusal"] == which
    assert office.state() == before


def test_what_the_ledger_knows_holds_without_its_file(office: Office) -> None:
    record = office.force(LETTER)
    attempt(office, record)
    folder = office.path / "approvals" / record
    (folder / BOUND).unlink()
    refused(office, record, "plan-changed", dataclasses.replace(ASKED, plan_digest="b" * 64))
    attempt(office, record, succeed=True)
    assert json.loads((folder / BOUND).read_text())["plan_sha256"] == PLAN  # written again, as the ledger has it
    (folder / USED).unlink()
    refused(office, record, "used")


@pytest.mark.parametrize("name", [BOUND, USED])
def test_a_mark_that_the_ledger_does_not_know_is_refused(office: Office, name: str) -> None:
    record = office.force(LETTER)
    (office.path / "approvals" / record / name).write_text("{}")
    refused(office, record, "altered")


def test_two_runs_do_not_share_an_instruction(office: Office) -> None:
    record = office.force(LETTER)
    with (
        under_instruction(
            office.repository, record, ASKED, run="r", actor=ACTOR, officials_file=office.officials, now=NOW
        ),
        pytest.raises(LockHeldError, match=record),
    ):
        attempt(office, record)


def test_a_record_used_up_while_another_run_looked_is_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    record = office.force(LETTER)
    real = Approvals.held

    def late(self: Approvals, name: str) -> Any:
        monkeypatch.setattr(Approvals, "held", real)
        attempt(office, record, succeed=True)
        return real(self, name)

    monkeypatch.setattr(Approvals, "held", late)
    with pytest.raises(ApprovalError) as error:
        attempt(office, record)
    assert error.value.details["refusal"] == "used"


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "x"])
def test_a_plan_without_its_digest_binds_nothing(office: Office, digest: str) -> None:
    record = office.force(LETTER)
    with pytest.raises(InputError, match="no SHA-256"):
        gate(office, record, dataclasses.replace(ASKED, plan_digest=digest))
