# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing instructions down, countersigning them, and where they stand: the operations and their modules."""

from __future__ import annotations

import ast
import json
import re
import signal
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as ledger_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals import store as store_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.gate import under_instruction
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.store import COUNTERSIGNATURE, RECORD
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ApprovalError, InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.approval import (
    approval_info,
    countersign,
    record_instruction,
)
from ansible_collections.rspon.dbcontinuity.plugins.modules import approval_info as info_module
from ansible_collections.rspon.dbcontinuity.plugins.modules import approval_record as record_module
from tests.approval_support import ASKED, LETTER, NOW, OFFICIALS, TELEPHONE, Office, changed, make_office
from tests.documents import PROJECT, validator

SIGNED: dict[str, Any] = {
    "countersigned_by": {"id_number": "0012"},
    "countersigned_at": "2026-11-23T07:45:00+07:00",
    "letter": {"number": "0013/SIRS", "date": "2026-11-23"},
}
MORNING = datetime(2026, 11, 23, 1, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _no_timedatectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "clock_synchronised", lambda: True)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return make_office(tmp_path / "backup")


def events(office: Office) -> list[dict[str, Any]]:
    return [each["data"] for each in office.repository.ledger.records() if each["activity"] == "approval"]


# -- writing down --


def test_an_instruction_is_written_as_text_and_kept_to_oneself(office: Office) -> None:
    result = record_instruction(office.writing(actor="AWX job 7", run="run-1"), LETTER)
    assert (result["changed"], result["state"], result["red"], result["usable"]) == (True, "valid", False, True)
    assert result["id"] == "20261122T193000Z-0001"
    folder = office.path / "approvals" / result["id"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / RECORD).stat().st_mode) == 0o600
    stored = yaml.safe_load((folder / RECORD).read_text())
    assert stored == result["record"]
    assert stored["instructed_by"]["id_number"] == "0012"
    assert stored["written_by"]["given"] == "AWX job 7"
    validator("approval-record").validate(stored)
    (written,) = events(office)
    assert (written["event"], written["record"], written["record_sha256"]) == (
        "written",
        result["id"],
        result["record_sha256"],
    )
    assert record_instruction(office.writing(), LETTER)["id"] == "20261122T193000Z-0002"


def test_the_same_instruction_under_the_same_id_is_written_once(office: Office) -> None:
    values = changed(LETTER, id="tiket-77")
    assert record_instruction(office.writing(), values)["changed"] is True
    before = office.state()
    again = record_instruction(office.writing(now=NOW + timedelta(days=3), actor="another"), values)
    assert (again["changed"], again["state"]) == (False, "expired")
    assert office.state() == before
    with pytest.raises(InputError, match=r"reason is Tabel pasien terhapus, not Lain"):
        record_instruction(office.writing(), changed(values, reason="Lain"))
    assert office.state() == before


def test_an_id_that_once_served_is_not_used_again(office: Office) -> None:
    values = changed(LETTER, id="tiket-77")
    record_instruction(office.writing(), values)
    with under_instruction(
        office.repository, "tiket-77", ASKED, run="r", actor={}, officials_file=office.officials, now=NOW
    ) as held:
        held.used()
    folder = office.path / "approvals" / "tiket-77"
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    with pytest.raises(InputError, match="There is, or was, a record tiket-77"):
        record_instruction(office.writing(), values)


def test_what_a_crash_left_is_swept_and_is_no_record(office: Office) -> None:
    left = office.path / "approvals" / ".unfinished-20261122T193000Z-0001"
    left.mkdir(parents=True)
    (left / RECORD).write_text("half")
    assert approval_info(office.path)["records"] == []
    assert record_instruction(office.writing(), LETTER)["id"] == "20261122T193000Z-0001"
    assert not left.exists()


def test_a_crash_before_the_record_has_its_name_leaves_none(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    values = changed(LETTER, id="tiket-77")
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "publish_directory", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            record_instruction(office.writing(), values)
    assert approval_info(office.path)["records"] == []
    again = record_instruction(office.writing(now=NOW + timedelta(minutes=1)), values)
    assert (again["changed"], again["state"]) == (True, "valid")
    assert [each["record_sha256"] for each in events(office)][-1] == again["record_sha256"]


@pytest.mark.parametrize("offset", ["+07:00", "+0700"])
def test_the_day_of_an_instruction_is_the_one_written(office: Office, offset: str) -> None:
    deputy = {
        "instructed_by": {"id_number": "1006"},
        "instructed_at": f"2026-12-20T00:05:00{offset}",
        "letter": {"number": "1", "date": "2026-12-20"},
        "valid_until": f"2026-12-21T00:00:00{offset}",
    }
    now = datetime(2026, 12, 19, 17, 10, tzinfo=timezone.utc)
    record = record_instruction(office.writing(now=now), changed(LETTER, **deputy))["record"]
    assert record["instructed_at"] == "2026-12-20T00:05:00+07:00"


def test_check_mode_says_what_would_be_written(office: Office) -> None:
    before = office.state()
    result = record_instruction(office.writing(check_only=True), LETTER)
    assert (result["changed"], result["id"], result["state"]) == (True, "", "valid")
    assert result["record"]["reason"] == LETTER["reason"]
    with pytest.raises(ApprovalError):
        record_instruction(office.writing(check_only=True, now=NOW + timedelta(days=9)), LETTER)
    assert office.state() == before
    values = changed(LETTER, id="tiket-77")
    record_instruction(office.writing(), values)
    assert record_instruction(office.writing(check_only=True), values)["changed"] is False


def test_what_a_form_leaves_empty_is_not_given(office: Office) -> None:
    head = {"id_number": "0012", "name": "", "role": None}
    target = {"kind": "latest", "value": ""}
    values = changed(LETTER, id="", ticket="", accepts=[], valid_from="", target=target, instructed_by=head)
    record = record_instruction(office.writing(), values)["record"]
    assert record["target"] == {"kind": "latest"}
    assert {"ticket", "accepts"}.isdisjoint(record)
    assert record["valid_from"] == LETTER["instructed_at"]


def test_what_need_not_be_said_is_filled_in(office: Office) -> None:
    values = changed(LETTER, instructed_by={"id_number": "0012"}, mode=None)
    record = record_instruction(office.writing(), values)["record"]
    assert record["instructed_by"]["name"] == "Contoh Kepala"
    assert (record["mode"], record["valid_from"]) == ("beside", LETTER["instructed_at"])
    full = changed(values, scope=["full"], target={"kind": "latest"})
    assert record_instruction(office.writing(), full)["record"]["mode"] == "replace"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": None}, "lacks reason"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 2001}, "too long"),
        ({"reason": "a\x1b[31mb"}, "cannot be seen"),
        ({"instructed_by": {"id_number": 10, "name": "x"}}, "Put it in quotes"),
        ({"instructed_by": {"id_number": "0099"}}, "No kepala_instalasi_sirs has the number '0099'"),
        ({"instructed_by": {"id_number": "00\u200b12", "name": "x"}}, "cannot be seen"),
        ({"instructed_by": None}, "instructed_by"),
        ({"ticket": 77}, "Put it in quotes"),
        ({"letter": {"number": 12, "date": "2026-11-23"}}, "Put it in quotes"),
        ({"letter": {"number": "12", "date": "23-11-2026"}}, "no date"),
        ({"letter": {"number": "12", "date": "2026-02-30"}}, "no date"),
        ({"letter": {"number": "12"}}, "lacks date"),
        ({"letter": None}, "letter's number"),
        ({"instructed_at": "2026-11-23T02:00:00"}, "UTC offset"),
        ({"instructed_at": "yesterday"}, "ISO 8601"),
        ({"valid_until": "2026-11-23T02:00:00+07:00"}, "not after"),
        ({"valid_from": "2026-11-23T01:59:59+07:00"}, "before it was given"),
        ({"scope": []}, "lacks scope"),
        ({"scope": "full"}, "no list"),
        ({"scope": ["full", "database:simrs"]}, "alone"),
        ({"scope": ["everything"]}, "scope"),
        ({"scope": ["full"], "mode": "beside"}, "replaces"),
        ({"target": {"kind": "time"}}, "moment"),
        ({"target": {"kind": "time", "value": "2026-11-23T01:10:00"}}, "UTC offset"),
        ({"target": {"kind": "latest", "value": "x"}}, "latest"),
        ({"target": {"kind": "noon"}}, "noon"),
        ({"mode": "over"}, "over"),
        ({"kind": "data_update"}, "data_update"),
        ({"accepts": ["everything"]}, "everything"),
        ({"instance": "../x"}, "instance name"),
        ({"id": "../x"}, "record id"),
        ({"id": 12}, "in quotes"),
        ({"approved": "yes"}, "unknown approved"),
        ({"record_version": "7"}, None),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_nothing_written(
    office: Office, changes: dict[str, Any], said: str | None
) -> None:
    before = office.state()
    if said is None:
        assert record_instruction(office.writing(), changed(LETTER, **changes))["record"]["record_version"] == "1"
        return
    with pytest.raises(InputError) as error:
        record_instruction(office.writing(), changed(LETTER, **changes))
    assert said in str(error.value)
    assert error.value.remedy
    assert office.state() == before


@pytest.mark.parametrize(
    ("which", "values"),
    [
        ("expired", changed(LETTER, valid_until="2026-11-23T02:29:59+07:00")),
        ("dated-in-the-future", changed(LETTER, instructed_at="2026-11-23T02:32:01+07:00")),
        ("not-the-head", changed(LETTER, instructed_by={"id_number": "1008", "name": "Contoh Petugas Satu"})),
        ("needs-two-persons", changed(TELEPHONE, witness=None)),
        ("one-person-twice", changed(TELEPHONE, witness=TELEPHONE["heard_by"])),
    ],
)
def test_what_no_restore_could_follow_is_not_even_written(office: Office, which: str, values: dict[str, Any]) -> None:
    before = office.state()
    with pytest.raises(ApprovalError) as error:
        record_instruction(office.writing(), values)
    assert error.value.details["refusal"] == which
    assert office.state() == before


# -- by telephone --


def test_by_telephone_is_red_until_it_is_countersigned(office: Office) -> None:
    told = record_instruction(office.writing(), TELEPHONE)
    assert (told["state"], told["red"], told["usable"]) == ("waiting for countersignature", True, True)
    assert "2026-11-24T02:00:00+07:00" in told["reason"]
    before = office.state()
    assert countersign(office.writing(now=MORNING, check_only=True), told["id"], SIGNED)["changed"] is True
    assert office.state() == before
    signed = countersign(office.writing(now=MORNING), told["id"], SIGNED)
    assert (signed["changed"], signed["state"], signed["red"]) == (True, "valid", False)
    assert signed["countersignature"]["countersigned_by"]["name"] == "Contoh Kepala"
    path = office.path / "approvals" / told["id"] / COUNTERSIGNATURE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    validator("approval-record").validate(yaml.safe_load(path.read_text()))
    assert [each["event"] for each in events(office)] == ["written", "countersigned"]
    assert (office.path / "approvals" / told["id"] / RECORD).read_bytes() == before[
        str(office.path / "approvals" / told["id"] / RECORD)
    ]
    assert countersign(office.writing(now=MORNING + timedelta(hours=1)), told["id"], SIGNED)["changed"] is False
    with pytest.raises(InputError, match="never changed"):
        countersign(
            office.writing(now=MORNING), told["id"], {**SIGNED, "letter": {"number": "9", "date": "2026-11-23"}}
        )


def test_an_overdue_one_stays_red_after_its_restore(office: Office) -> None:
    told = record_instruction(office.writing(), changed(TELEPHONE, countersign_hours=2))
    with under_instruction(
        office.repository, told["id"], ASKED, run="r", actor={}, officials_file=office.officials, now=NOW
    ) as held:
        held.used()
    late = NOW + timedelta(days=30)
    info = approval_info(office.path, now=late)
    (one,) = info["records"]
    assert (one["state"], one["red"], one["usable"], info["red"]) == ("overdue", True, False, [told["id"]])
    assert "2026-11-23T04:00:00+07:00" in one["reason"]
    assert countersign(office.writing(now=MORNING), told["id"], SIGNED)["state"] == "used"
    assert approval_info(office.path, now=late)["red"] == []


def test_one_that_was_never_followed_ends_by_itself(office: Office) -> None:
    told = record_instruction(office.writing(), TELEPHONE)
    info = approval_info(office.path, told["id"], now=NOW + timedelta(days=2))
    assert (info["records"][0]["state"], info["red"]) == ("expired", [])


@pytest.mark.parametrize("hours", [-1, 73])
def test_a_countersignature_cannot_be_put_off_for_ever(office: Office, hours: int) -> None:
    with pytest.raises(InputError, match="countersign_hours"):
        record_instruction(office.writing(), changed(TELEPHONE, countersign_hours=hours))


@pytest.mark.parametrize(
    ("which", "changes"),
    [
        ("not-the-head", {"countersigned_by": {"id_number": "1008", "name": "Contoh Petugas Satu"}}),
        ("dated-in-the-future", {"countersigned_at": "2026-11-23T08:02:01+07:00"}),
        ("dated-in-the-future", {"letter": {"number": "1", "date": "2026-11-24"}}),
        ("dated-backwards", {"countersigned_at": "2026-11-23T01:59:00+07:00"}),
    ],
)
def test_a_countersignature_that_does_not_hold_is_refused(office: Office, which: str, changes: dict[str, Any]) -> None:
    told = record_instruction(office.writing(), TELEPHONE)
    before = office.state()
    with pytest.raises(ApprovalError) as error:
        countersign(office.writing(now=MORNING), told["id"], {**SIGNED, **changes})
    assert error.value.details["refusal"] == which
    assert office.state() == before


def test_who_heard_it_does_not_sign_it(office: Office) -> None:
    told = record_instruction(office.writing(), TELEPHONE)
    office.name_officials(
        {"kepala_instalasi_sirs": [*OFFICIALS["kepala_instalasi_sirs"], {"name": "Contoh Petugas Satu", "id": "1008"}]}
    )
    with pytest.raises(ApprovalError) as error:
        countersign(office.writing(now=MORNING), told["id"], {**SIGNED, "countersigned_by": {"id_number": "1008"}})
    assert error.value.details["refusal"] == "one-person-twice"


def test_a_letter_is_not_countersigned_and_an_unknown_record_neither(office: Office) -> None:
    record = record_instruction(office.writing(), LETTER)["id"]
    with pytest.raises(InputError, match="by letter"):
        countersign(office.writing(now=MORNING), record, SIGNED)
    with pytest.raises(ApprovalError, match="There is no record none"):
        countersign(office.writing(now=MORNING), "none", SIGNED)


def test_a_record_has_one_countersignature_and_its_own(office: Office) -> None:
    one, other = (record_instruction(office.writing(), TELEPHONE)["id"] for _ in range(2))
    countersign(office.writing(now=MORNING), one, SIGNED)
    signed = office.approvals.read(one)
    assert signed.countersignature is not None
    with pytest.raises(InputError, match="countersigned already"):
        office.approvals.countersign(signed, signed.countersignature, "r", {})
    office.approvals.countersign(office.approvals.read(other), signed.countersignature, "r", {})
    with pytest.raises(ApprovalError, match=f"belongs to the record {one}"):
        office.approvals.read(other)


def test_a_countersignature_changed_by_hand_or_gone_leaves_it_red(office: Office) -> None:
    told = record_instruction(office.writing(), TELEPHONE)
    countersign(office.writing(now=MORNING), told["id"], SIGNED)
    path = office.path / "approvals" / told["id"] / COUNTERSIGNATURE
    whole = path.read_text()
    path.write_text(whole.replace("0013", "0014"))
    (one,) = approval_info(office.path, now=MORNING)["records"]
    assert (one["state"], one["red"]) == ("altered", True)
    path.unlink()
    (one,) = approval_info(office.path, now=MORNING)["records"]
    assert one["state"] == "waiting for countersignature"
    assert countersign(office.writing(now=MORNING), told["id"], SIGNED)["state"] == "valid"


# -- where they stand --


def test_every_record_is_listed_with_where_it_stands(office: Office) -> None:
    valid = record_instruction(office.writing(), LETTER)["id"]
    later = record_instruction(office.writing(), changed(LETTER, valid_from="2026-11-23T05:00:00+07:00"))["id"]
    other = record_instruction(office.writing(), changed(TELEPHONE, instance="lis"))["id"]
    spoilt = record_instruction(office.writing(), LETTER)["id"]
    (office.path / "approvals" / spoilt / RECORD).write_text("gone")
    info = approval_info(office.path, now=NOW)
    assert {one["id"]: one["state"] for one in info["records"]} == {
        valid: "valid",
        later: "not yet valid",
        other: "waiting for countersignature",
        spoilt: "altered",
    }
    assert info["red"] == [other, spoilt]
    assert info["changed"] is False
    json.dumps(info)
    assert [one["id"] for one in approval_info(office.path, instance="lis", now=NOW)["records"]] == [other, spoilt]
    with pytest.raises(ApprovalError, match="There is no record none"):
        approval_info(office.path, "none")


# -- the modules --


@pytest.fixture
def _signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def called(
    module: ModuleType, capsys: pytest.CaptureFixture[str], arguments: dict[str, Any], *, check: bool = False
) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        module.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def module_arguments(office: Office) -> dict[str, Any]:
    now = datetime.now(timezone(timedelta(hours=7))).replace(microsecond=0)
    return {
        "repository": str(office.path),
        "officials_file": str(office.officials),
        "instance": "simrs",
        "scope": ["full"],
        "target": {"kind": "latest"},
        "reason": "Server rusak",
        "instructed_by": {"id_number": "0012"},
        "instructed_at": (now - timedelta(minutes=5)).isoformat(),
        "telephone": {
            "heard_by": {"name": "Contoh Petugas Satu", "id_number": "1008"},
            "witness": {"name": "Contoh Petugas Dua", "id_number": "1009"},
        },
        "valid_until": (now + timedelta(hours=8)).isoformat(),
    }


@pytest.mark.usefixtures("_signals")
def test_the_modules_write_countersign_and_tell(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.name_officials({"kepala_instalasi_sirs": [{"name": "Contoh Kepala", "id": "0012"}]})
    arguments = module_arguments(office)
    before = office.state()
    assert called(record_module, capsys, arguments, check=True)["changed"] is True
    assert office.state() == before
    written = called(record_module, capsys, arguments)
    assert (written["changed"], written["state"]) == (True, "waiting for countersignature")
    told = called(info_module, capsys, {"repository": str(office.path)})
    assert told["red"] == [written["id"]]
    now = datetime.now(timezone.utc)
    later = {
        "repository": str(office.path),
        "officials_file": str(office.officials),
        "id": written["id"],
        "countersign": {
            "by": {"id_number": "0012"},
            "at": now.isoformat(),
            "letter": {"number": "0013", "date": now.strftime("%Y-%m-%d")},
        },
    }
    assert called(record_module, capsys, later)["state"] == "valid"
    assert called(record_module, capsys, later)["changed"] is False
    assert called(info_module, capsys, {"repository": str(office.path), "id": written["id"]})["red"] == []


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"instructed_by": {"id_number": 12}}, "number in quotes"),
        ({"letter": {"number": "1", "date": "2026-11-23"}}, "mutually exclusive"),
        ({"telephone": None}, "one of the following"),
        ({"reason": None}, "missing"),
        ({"id": 12}, "in quotes"),
        ({"countersign": {"by": {"id_number": "1"}, "at": "x", "letter": {"number": "1", "date": "x"}}}, "exclusive"),
        ({"kind": "data_update"}, "kind"),
        ({"reason": False}, "no text"),
    ],
)
def test_the_module_refuses_what_it_cannot_use(
    office: Office, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    before = office.state()
    answer = called(record_module, capsys, changed(module_arguments(office), **changes))
    assert answer["failed"] is True
    assert said in answer["msg"]
    assert office.state() == before


# -- the documents --


def test_the_page_lists_every_refusal_and_no_other() -> None:
    folder = PROJECT / "collections/ansible_collections/rspon/dbcontinuity/plugins/module_utils/approvals"
    calls = (node for path in folder.glob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    found = {
        node.args[0].value
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("refusal", "_other")
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(found) > 15
    page = (PROJECT / "docs/approvals.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.M)) == found


@pytest.mark.parametrize(
    "change",
    [
        {"by": "telephone"},
        {"letter": None},
        {"witness": {"name": "x", "id_number": "1"}},
        {"approved": "yes"},
        {"record_version": "2"},
        {"scope": []},
        {"mode": "over"},
        {"instructed_by": {"name": "x", "id_number": "1"}},
        {"instructed_at": "2026-11-23T02:00:00"},
    ],
)
def test_the_schema_refuses_what_the_code_refuses(office: Office, change: dict[str, Any]) -> None:
    record = record_instruction(office.writing(), LETTER)["record"]
    holds = validator("approval-record")
    assert holds.is_valid(record)
    assert not holds.is_valid(changed(record, **change))
