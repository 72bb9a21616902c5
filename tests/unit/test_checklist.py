# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check-list: every state that a row can be in, in both languages, also where half of the facts are missing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as ledger_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    InputError,
    RepositoryError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import checklist as operation
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.checklist import ChecklistRequest, checklist
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import InstanceFolder, Repository
from tests.calendar_support import MONDAY, NEXT_MONDAY, SCHEDULE, Past, finding, idle, local
from tests.documents import validator
from tests.support import make_place

NAMES = ("simrs", "lab")
# Log cycles every two hours, counted from midnight UTC: a week of them is 84, the first on Monday at 07:00.
SLOW = {**SCHEDULE, "log_cycle": {"every_minutes": 120, "within_minutes": 30}}
SATURDAY = local(21, "12:00")


class Clock:
    """What the host says of its clock."""

    synchronised = True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(ledger_module, "clock_synchronised", lambda: Clock.synchronised)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    Clock.synchronised = True
    return Clock


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "repository")


def written(past: Past, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """Write the check-list of the week and return its facts; they hold against the published schema."""
    schedule = tmp_path / "schedule.json"
    if not schedule.exists():
        schedule.write_text(json.dumps({"zone": "Asia/Jakarta", "schedule": SLOW, "scheduler": "systemd"}))
    now = more.pop("now", NEXT_MONDAY + timedelta(seconds=5))
    answer = checklist(ChecklistRequest(past.repository.root, schedule, now=now, **more))
    facts: dict[str, Any] = json.loads(Path(answer["report_json"]).read_text())
    validator("checklist").validate(facts)
    assert Path(answer["report"]).read_text() == answer["report_text"]
    # Paths stay whole.
    lines = [line for line in answer["report_text"].splitlines() if str(tmp_path) not in line]
    assert [line for line in lines if len(line) > 100] == []
    return {**facts, "answer": answer, "text": answer["report_text"]}


def row(facts: dict[str, Any], activity: str, instance: str = "simrs") -> dict[str, Any]:
    (found,) = [each for each in facts["rows"] if (each["activity"], each["instance"]) == (activity, instance)]
    return dict(found)


# -- the states of a row --


def test_a_week_in_which_everything_was_done(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY - timedelta(days=9), NAMES, SLOW)
    for name in NAMES:
        past.full(local(14, "12:00:01"), name, size=4_000_000)
    past.checklist(MONDAY + timedelta(seconds=4))
    for number in range(84):
        past.cycle(MONDAY + timedelta(hours=2 * number, seconds=1), NAMES)
    for name in NAMES:
        past.test(local(20, "13:30:02"), name, "20261114T050001Z-0001")
        made = past.full(local(21, "12:00:01"), name, slot=SATURDAY)
        past.test(local(21, "18:00:02"), name, made, untested=True)
    past.verify(local(22, "03:00:02"), NAMES)
    facts = written(past, tmp_path)
    assert facts["period"] == {"since": iso(MONDAY), "until": iso(NEXT_MONDAY)}
    assert {each["state"] for each in facts["rows"]} == {"done"}
    assert len(facts["rows"]) == 5 * len(NAMES) + 1
    assert facts["summary"]["done"] == 11
    assert facts["indicators"] == {
        "full_backup": {"done": 2, "expected": 2},
        "restore_test": {"done": 2, "expected": 2},
    }
    cycles = row(facts, "log_cycle")
    assert (cycles["done"], cycles["expected"], cycles["slots"]) == (84, 84, [])
    assert cycles["cycles"]["longest_gap_seconds"] == 7200
    assert facts["not_known"] == []
    assert {each["size_before_bytes"] for each in facts["sets"]} == {4_000_000}
    assert "+25.0 %" in facts["text"]
    assert "2 dari 2 (100 %)" in facts["text"]


@pytest.mark.parametrize(
    ("began", "minutes", "state"),
    [
        ("12:00:02", 10, "done"),
        ("12:04:59", 10, "done"),
        ("12:05:01", 10, "late"),  # more than the five minutes that are tolerated
        ("12:00:02", 31, "out of window"),
        ("12:12:00", 40, "late"),  # and out of its window: said beside it
    ],
)
def test_a_full_backup_late_or_out_of_its_window(
    past: Past, tmp_path: Path, began: str, minutes: float, state: str
) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    past.full(local(21, began), "simrs", minutes, slot=SATURDAY)
    (slot,) = row(facts := written(past, tmp_path), "full_backup")["slots"]
    assert slot["state"] == row(facts, "full_backup")["state"] == state
    assert (slot["overran_seconds"] > 0) is (minutes > 30)
    assert slot["window"] == {"opens": iso(SATURDAY), "closes": iso(SATURDAY + timedelta(minutes=30))}
    assert ("TERLAMBAT" in facts["text"]) is (state == "late")
    assert ("melewati akhir jendela" in facts["text"]) is (minutes > 30)


@pytest.mark.parametrize(("began", "state"), [("12:00:02", "done"), ("12:06:00", "late")])
def test_a_run_is_on_time_for_every_instance_however_long_the_ones_before_it_take(
    past: Past, tmp_path: Path, began: str, state: str
) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    first, run = local(21, began), past.run_id()
    past.full(first, "simrs", 18, slot=SATURDAY, run=run)
    past.full(first + timedelta(minutes=18), "lab", 2, slot=SATURDAY, run=run)
    facts = written(past, tmp_path)
    slots = {name: row(facts, "full_backup", name)["slots"][0] for name in NAMES}
    assert {name: slot["state"] for name, slot in slots.items()} == dict.fromkeys(NAMES, state)
    # When the instance's own turn came is told all the same.
    assert slots["lab"]["started_at"] == iso(first + timedelta(minutes=18))
    assert slots["lab"]["late_seconds"] == slots["simrs"]["late_seconds"]


def test_what_was_missed_and_caught_up_is_late_and_counts_for_its_own_slot(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    # The host was off from Friday noon on; its timers caught up on Monday at half past six, after the period's last due.
    past.test(local(23, "06:30"), "simrs", "s")
    past.full(local(23, "06:40"), "simrs", slot=SATURDAY)
    facts = written(past, tmp_path)
    assert row(facts, "restore_test")["state"] == "late"
    assert row(facts, "full_backup")["state"] == "late"
    # After the period's end, too.
    past.verify(local(23, "08:00"), ["simrs"])
    assert row(facts, "backup_verify")["state"] == "not run"
    again = written(past, tmp_path, now=local(23, "09:00"))
    assert row(again, "backup_verify")["state"] == "late"


def test_not_run_is_said_of_each_instance(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    past.full(local(21, "12:00:02"), "lab", slot=SATURDAY)
    facts = written(past, tmp_path)
    assert row(facts, "full_backup")["state"] == "not run"
    assert row(facts, "full_backup", "lab")["state"] == "done"
    cycles = row(facts, "log_cycle")
    assert (cycles["state"], cycles["done"], cycles["expected"]) == ("not run", 0, 84)
    assert cycles["cycles"]["longest_gap_seconds"] == 7 * 86400
    assert row(facts, "checklist", "")["state"] == "not run"  # last Monday's
    assert facts["text"].count("TIDAK DIJALANKAN") > 5
    # Nobody tested what was made: its day is over.
    assert row(facts, "test_new_backups", "lab")["state"] == "not run"
    assert row(facts, "test_new_backups")["state"] == "not due"


def test_failed_and_one_success_is_enough(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    for name in NAMES:
        past.full(local(21, "12:00:02"), name, 1, result="The server does not answer.", slot=SATURDAY)
    past.full(local(21, "12:04"), "lab", slot=SATURDAY)
    past.verify(local(22, "03:00:02"), NAMES, {"simrs": [finding("damaged-artefact", "x.zst")]})
    facts = written(past, tmp_path, language="en")
    (slot,) = row(facts, "full_backup")["slots"]
    assert (slot["state"], slot["reason"], slot["failures"]) == ("failed", "The server does not answer.", 0)
    (slot,) = row(facts, "full_backup", "lab")["slots"]
    assert (slot["state"], slot["failures"]) == ("done", 1)
    assert "cause: The server does not answer." in facts["text"]
    assert "1 more failed" in facts["text"]
    assert row(facts, "backup_verify")["state"] == "failed"
    assert row(facts, "backup_verify", "lab")["state"] == "done"


def test_a_full_backup_that_could_not_begin_is_on_record(tmp_path: Path) -> None:
    """A server that does not answer is the commonest failure; "not run" would send people to look at the timer."""
    place = make_place(tmp_path / "backup")
    instance = place.files("scan", tmp_path / "not there")
    wanted = FullBackupRequest(instance, place.repository, place.protection, slot=SATURDAY, run="r1")
    ledger = Repository.open(place.repository).ledger
    with pytest.raises(ContinuityError) as refused:
        full_backup(wanted, Progress())
    started, finished = ledger.records()
    assert (started["kind"], started["data"]["plan"]["slot"], started["run"]) == ("started", iso(SATURDAY), "r1")
    assert finished["data"] == {"result": "failed", "reason": refused.value.message}
    # What nobody was promised leaves no trace, nor does a look.
    for other in (replace(wanted, slot=None), replace(wanted, check_only=True)):
        with pytest.raises(ContinuityError):
            full_backup(other, Progress())
    assert len(list(ledger.records())) == 2


def test_died_in_the_middle_and_still_running(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    past.cycle(local(18, "09:00:01"), NAMES, ends=False)
    past.full(local(21, "12:00:02"), "simrs", ends=False, slot=SATURDAY)
    past.full(local(23, "04:00:02"), "lab", ends=False, slot=SATURDAY)
    facts = written(past, tmp_path)
    (slot,) = row(facts, "full_backup")["slots"]
    assert (slot["state"], slot["result"], slot["finished_at"]) == ("failed", "unfinished", None)
    assert row(facts, "full_backup", "lab")["state"] == "running"
    assert row(facts, "log_cycle")["states"]["failed"] == 1
    assert "akhirnya tidak tercatat" in facts["text"]
    assert "sedang berjalan" in facts["text"]
    later = written(past, tmp_path, now=local(23, "17:00"))
    assert row(later, "full_backup", "lab")["state"] == "failed"


def test_not_due_because_its_time_has_just_come(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    now = SATURDAY + timedelta(minutes=4)
    assert row(written(past, tmp_path, now=now, until=now), "full_backup")["state"] == "not due"
    now = SATURDAY + timedelta(minutes=6)
    assert row(written(past, tmp_path, now=now, until=now), "full_backup")["state"] == "not run"


def test_logical_backups_have_no_log_and_nothing_is_due(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    for number in range(84):
        at = MONDAY + timedelta(hours=2 * number, seconds=1)
        past.cycle(at, {"simrs": idle(at), "lab": {"result": "no log", "message": "Its full backups are logical."}})
    facts = written(past, tmp_path)
    assert row(facts, "log_cycle")["state"] == "done"
    assert (row(facts, "log_cycle", "lab")["state"], row(facts, "log_cycle", "lab")["expected"]) == ("not due", 0)


def test_log_cycles_are_counted_with_gap_lag_and_findings(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    for number in range(84):
        at = MONDAY + timedelta(hours=2 * number, seconds=1)
        if number in (10, 11):
            continue  # the host was off
        told = {name: idle(at) for name in NAMES}
        if number == 20:
            told["simrs"]["lag_seconds"] = 951.0
        if number in (30, 31):
            told["simrs"] = {"result": "broken", "findings": [finding("missing-log", "bin.000042")]}
        if number == 40:
            told["lab"] = {"result": "failed", "message": "The server does not answer.", "findings": []}
        late = timedelta(minutes=3) if number == 50 else timedelta()
        past.cycle(at + late, told, seconds=2400 if number == 60 else 3)
    facts = written(past, tmp_path, language="en")
    cycles = row(facts, "log_cycle")
    assert cycles["states"] == {"done": 78, "late": 1, "out of window": 1, "failed": 2, "not run": 2}
    assert (cycles["state"], cycles["done"], cycles["expected"]) == ("failed", 80, 84)
    found = cycles["cycles"]
    assert found["longest_gap_seconds"] == 3 * 7200
    assert found["worst_lag_seconds"] == 951.0
    assert [(each["code"], each["file"], each["times"]) for each in found["findings"]] == [
        ("missing-log", "bin.000042", 2)
    ]
    assert row(facts, "log_cycle", "lab")["cycles"]["failures"] == [
        {"reason": "The server does not answer.", "times": 1}
    ]
    assert "missing-log (2x): bin.000042: It is gone." in facts["text"]
    assert "80/84" in facts["text"]
    assert "15.8 min" in facts["text"]
    assert "6.0 h" in facts["text"]
    assert len(cycles["slots"]) == 6


# -- the calendar changes --


def test_before_the_first_calendar_nothing_was_promised(past: Past, tmp_path: Path) -> None:
    past.full(local(18, "12:00"), "simrs", stored=False)
    facts = written(past, tmp_path)
    assert facts["rows"] == facts["calendars"] == []
    assert "Belum ada kalender" in facts["text"]
    past.calendar(local(19, "08:00"), ["simrs"], SLOW)
    facts = written(past, tmp_path)
    assert row(facts, "log_cycle")["expected"] == 47
    assert row(facts, "checklist", "")["state"] == "not due"  # Monday's: there was no calendar yet


def test_an_instance_added_in_the_middle_of_the_week(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    past.calendar(local(21, "11:00:30"), NAMES, SLOW)
    facts = written(past, tmp_path)
    assert row(facts, "log_cycle")["expected"] == 84
    assert row(facts, "log_cycle", "lab")["expected"] == 21
    assert row(facts, "restore_test", "lab")["state"] == "not due"  # Friday was before
    assert row(facts, "full_backup", "lab")["state"] == "not run"
    assert [each["instances"] for each in facts["calendars"]] == [["simrs"], list(NAMES)]


def test_a_calendar_changed_in_the_middle_of_the_week(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    changed = {**SLOW, "restore_test": {"day": "Thursday", "start": "10:00"}, "log_cycle": {"every_minutes": 60}}
    changed.pop("backup_verify")
    past.calendar(local(18, "12:00"), ["simrs"], changed)
    past.test(local(19, "10:00:02"), "simrs", "s")
    facts = written(past, tmp_path)
    (slot,) = row(facts, "restore_test")["slots"]
    assert (slot["due"], slot["state"]) == (iso(local(19, "10:00")), "done")
    assert row(facts, "backup_verify")["state"] == "not due"  # Sunday came after the change
    # 2 days and 5 hours of every two hours, then 4 days and 19 hours of every hour.
    assert row(facts, "log_cycle")["expected"] == 27 + 115
    assert "sejak 18-11-2026 12:00:00 WIB: Kamis 10:00 Asia/Jakarta" in facts["text"]
    assert "sejak 18-11-2026 12:00:00 WIB: tidak ada" in facts["text"]


def test_a_calendar_that_cannot_be_read_is_named(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    past.calendar(local(22, "12:00"), ["simrs"], {"nap": {"every_minutes": 10}})
    facts = written(past, tmp_path)
    assert "nap" in facts["calendars"][1]["problem"]
    assert "nap" in facts["text"]
    assert row(facts, "full_backup")["state"] == "not run"


# -- the test of what is new --


def test_each_new_full_backup_is_to_be_tested_within_a_day(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY - timedelta(days=20), ["simrs", "lab", "scan", "arsip"], SLOW)
    # Made on the last Sunday before the period: its day ends in the period.
    early = past.full(local(15, "20:00"), "simrs")
    past.test(local(16, "20:30"), "simrs", early, untested=True)
    made = past.full(local(21, "12:00:02"), "lab", slot=SATURDAY)
    past.test(local(21, "18:00:02"), "lab", made, result="The checksum does not hold.", untested=True)
    past.test(local(21, "19:00:02"), "lab", made)
    made = past.full(local(21, "12:00:02"), "scan", slot=SATURDAY)
    past.test(local(21, "18:00:02"), "scan", made, result="The checksum does not hold.", untested=True)
    past.full(local(22, "12:00:02"), "arsip", slot=SATURDAY)
    facts = written(past, tmp_path)
    assert row(facts, "test_new_backups")["state"] == "late"
    assert row(facts, "test_new_backups", "lab")["state"] == "done"
    assert row(facts, "test_new_backups", "lab")["slots"][0]["failures"] == 1
    assert row(facts, "test_new_backups", "scan")["state"] == "failed"
    assert row(facts, "test_new_backups", "arsip")["state"] == "not due"  # its day ends in the next period
    # None of those is the Friday's test.
    assert {row(facts, "restore_test", name)["state"] for name in ("simrs", "scan")} == {"not run"}
    assert {each["instance"]: each["tested_by"] is not None for each in facts["sets"]} == {
        "lab": True,
        "scan": False,
        "arsip": False,
    }


# -- what waits for people, and evidence --


def test_attestations_are_waited_for(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY - timedelta(days=20), NAMES, SLOW)
    old = past.test(local(6, "13:30:02"), "simrs", "s")
    new = past.test(local(20, "13:30:02"), "simrs", "s")
    done = past.test(local(20, "13:40:02"), "lab", "s")
    past.record(local(20, "15:00"), "event", "attestation", "a", {"of_run": done, "text": "disaksikan"})
    facts = written(past, tmp_path)
    assert {each["run"]: each["attested"] for each in facts["tests"]} == {new: False, done: True}
    assert [each["run"] for each in facts["unattested"]] == [old, new]
    assert facts["text"].count("MENUNGGU petugas IT") == 1
    assert old in facts["text"]
    past.record(local(23, "06:00"), "event", "attestation", "b", {"of_run": old}, "simrs")
    past.record(local(23, "06:00"), "event", "attestation", "b", {"of_run": new}, "lab")  # of another instance
    assert [each["run"] for each in written(past, tmp_path)["unattested"]] == [new]


def test_dead_channels_restores_and_an_unsure_clock(past: Past, tmp_path: Path, clock: type[Clock]) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    dead = {"kind": "mail", "state": "dead", "problem": "connection refused"}
    past.record(
        local(17, "01:00"), "event", "notify", "n", {**dead, "channel": "mail a", "since": iso(local(17, "00:50"))}
    )
    past.record(
        local(17, "02:00"), "event", "notify", "n", {**dead, "channel": "hook b", "since": iso(local(17, "01:50"))}
    )
    past.record(
        local(17, "03:00"), "event", "notify", "n", {"channel": "hook b", "kind": "webhook", "state": "works again"}
    )
    past.record(local(18, "03:00"), "started", "restore", "r9", {}, "simrs")
    past.record(local(18, "03:20"), "finished", "restore", "r9", {"result": "succeeded"}, "simrs")
    clock.synchronised = False
    past.full(local(21, "12:00:02"), "simrs", slot=SATURDAY)
    clock.synchronised = True
    facts = written(past, tmp_path, language="en")
    assert [(each["channel"], each["dead"]) for each in facts["channels"]] == [("mail a", True), ("hook b", False)]
    assert "mail a: since 17-11-2026 00:50:00 WIB, still dead: connection refused" in facts["text"]
    assert "hook b: since 17-11-2026 01:50:00 WIB, works again" in facts["text"]
    assert "simrs: succeeded, 18-11-2026 03:00:00 WIB, r9" in facts["text"]
    assert facts["clock_not_synchronised"] == 2
    assert row(facts, "full_backup")["slots"][0]["clock_synchronised"] is False
    assert "the host's clock was not synchronised" in facts["text"]


def test_damaged_lines_are_named_and_the_rest_counts(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, NAMES, SLOW)
    for name in NAMES:
        past.full(local(21, "12:00:02"), name, slot=SATURDAY)
    path = next(past.ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    (finish,) = [number for number, line in enumerate(lines) if b'"finished"' in line and b'"lab"' in line]
    (begin,) = [number for number, line in enumerate(lines) if b'"started"' in line and b'"simrs"' in line]
    lines[finish] = lines[finish].replace(b'"succeeded"', b'"succeedeD"')
    lines[begin] = b"\x00\x01\n"
    path.write_bytes(b"".join(lines))
    facts = written(past, tmp_path)
    assert [each.partition(": ")[0] for each in facts["damaged_lines"]] == [
        f"{path.name}:{begin + 1}",
        f"{path.name}:{finish + 1}",
    ]
    assert f"{path.name}:{finish + 1}: record" in facts["text"]
    # Without its beginning the run is still a run; without its end nobody knows that it succeeded.
    assert row(facts, "full_backup")["state"] == "done"
    assert row(facts, "full_backup", "lab")["state"] == "failed"


def test_a_run_recorded_late_ended_when_its_work_did(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    run = past.run_id()
    past.record(local(21, "12:00:02"), "started", "full_backup", run, {"plan": {"slot": iso(SATURDAY)}}, "simrs")
    data = {"result": "succeeded", "set": "s", "duration_seconds": 600.0, "recorded_late": "the run was ended"}
    past.record(local(22, "09:00"), "finished", "full_backup", run, data, "simrs")
    (slot,) = row(written(past, tmp_path), "full_backup")["slots"]
    assert (slot["state"], slot["finished_at"]) == ("done", iso(local(21, "12:10:02")))


# -- it is written all the same, and refuses what cannot be --


def test_it_is_written_when_half_of_the_facts_are_missing(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    past.full(local(21, "12:00:02"), "simrs", slot=SATURDAY)
    (tmp_path / "schedule.json").write_text("{")

    def unreadable(*_arguments: Any, **_more: Any) -> Any:
        raise RepositoryError("The disk fails.", "Replace it.")

    monkeypatch.setattr(operation, "approval_info", unreadable)
    monkeypatch.setattr(InstanceFolder, "readable_sets", unreadable)
    facts = written(past, tmp_path)
    assert {each["what"] for each in facts["not_known"]} == {"schedule", "instructions", "sets"}
    assert facts["text"].count("TIDAK DAPAT DIBACA") == 3
    # The calendar that the ledger has stands in for the one that cannot be read.
    assert facts["period"]["until"] == iso(NEXT_MONDAY)
    assert row(facts, "full_backup")["state"] == "done"


def test_without_any_calendar_it_is_the_last_week(past: Past, tmp_path: Path) -> None:
    now = local(18, "10:00")
    answer = checklist(ChecklistRequest(past.repository.root, tmp_path / "none.json", zone="Asia/Jakarta", now=now))
    assert answer["period"] == {"since": iso(now - timedelta(days=7)), "until": iso(now)}
    assert [each["what"] for each in answer["not_known"]] == ["schedule"]
    assert "WIB" in answer["report_text"]


def test_values_that_nobody_wrote_so_end_nothing(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    past.record(local(18, "09:00"), "started", "log_cycle", "x", {"instances": "simrs"})
    past.record(
        local(18, "09:01"), "finished", "log_cycle", "x", {"instances": {"simrs": {"result": 7, "archived": 3}}}
    )
    past.record(local(18, "09:02"), "event", "notify", "n", {"state": "dead", "since": 4})
    past.record(local(18, "09:03"), "finished", "restore_test", "t", {"source": [], "findings": "none"}, "simrs")
    schedule = tmp_path / "schedule.json"
    schedule.write_text(json.dumps({"zone": "Asia/Jakarta", "schedule": SLOW}))
    answer = checklist(ChecklistRequest(past.repository.root, schedule, now=NEXT_MONDAY))
    assert answer["report_text"]


def test_evidence_and_files(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    facts = written(past, tmp_path, run="r77", actor="Siti")
    assert Path(facts["answer"]["report"]).name == "checklist-20261123T000000Z.txt"
    started, finished = list(past.ledger.records())[-2:]
    assert (started["kind"], finished["kind"], finished["activity"], finished["run"]) == (
        "started",
        "finished",
        "checklist",
        "r77",
    )
    for name, digest in finished["data"]["files"].items():
        assert hashlib.sha256((past.repository.root / "reports" / name).read_bytes()).hexdigest() == digest
    assert finished["data"]["period"] == facts["period"]
    assert f"{facts['ledger_head'].partition(':')[0]}" == str(started["sequence"])
    # The next check-list sees that this one was written.
    again = written(past, tmp_path, now=NEXT_MONDAY + timedelta(days=7, seconds=5))
    assert row(again, "checklist", "")["slots"][0]["due"] == iso(NEXT_MONDAY)


def test_check_mode_writes_nothing(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    before = past.ledger.head()
    answer = checklist(ChecklistRequest(past.repository.root, tmp_path / "none.json", check_only=True, now=NEXT_MONDAY))
    assert "TIDAK DIJALANKAN" in answer["report_text"]
    assert (past.ledger.head(), (past.repository.root / "reports").exists()) == (before, False)


def test_a_failure_to_write_it_is_recorded(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any) -> None:
        raise RepositoryError("The disk is full.")

    monkeypatch.setattr(operation, "write_file", full)
    with pytest.raises(RepositoryError):
        checklist(ChecklistRequest(past.repository.root, tmp_path / "none.json", now=NEXT_MONDAY))
    last = list(past.ledger.records())[-1]
    assert (last["kind"], last["data"]["result"], last["data"]["reason"]) == ("finished", "failed", "The disk is full.")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"language": "jv"}, "language"),
        ({"zone": "Asia/Nowhere"}, "Asia/Nowhere"),
        ({"until": NEXT_MONDAY + timedelta(days=1)}, "has not come yet"),
        ({"period_days": 401}, "401"),
        ({"period_days": -1}, "-1"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_written(
    past: Past, tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        checklist(ChecklistRequest(past.repository.root, tmp_path / "none.json", now=NEXT_MONDAY, **wrong))
    assert list(past.ledger.records()) == []


@pytest.mark.parametrize("days", [30, 1])
def test_other_periods(past: Past, tmp_path: Path, days: int) -> None:
    past.calendar(local(1, "08:00", 10), ["simrs"], SLOW)
    until = local(17, "12:00")
    facts = written(past, tmp_path, until=until, period_days=days)
    assert facts["period"] == {"since": iso(until - timedelta(days=days)), "until": iso(until)}
    assert row(facts, "full_backup")["expected"] == (4 if days == 30 else 0)
    if days == 30:
        assert len(row(facts, "full_backup")["slots"]) == 4
        assert "0 dari 4" in facts["text"]


def test_a_month_that_ends_with_a_week_leaves_the_weeks_check_list_as_it_was(past: Past, tmp_path: Path) -> None:
    past.calendar(local(1, "08:00", 10), ["simrs"], SLOW)
    week = Path(written(past, tmp_path)["answer"]["report_json"])
    before = week.read_bytes()
    month = Path(written(past, tmp_path, period_days=30)["answer"]["report_json"])
    assert (week.name, month.name) == ("checklist-20261123T000000Z.json", "checklist-20261123T000000Z-30d.json")
    assert week.read_bytes() == before


def test_a_period_over_the_turn_of_the_year_names_the_years(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, ["simrs"], SLOW)
    until = datetime.fromisoformat("2027-01-04T07:00:00+07:00")
    facts = written(past, tmp_path, now=until, until=until)
    assert "02-01-27 12:00" in facts["text"]


def test_both_languages_say_the_same(past: Past, tmp_path: Path) -> None:
    past.calendar(MONDAY, [*NAMES, "instansi-dengan-nama-yang-panjang-sekali"], SLOW)
    past.full(local(21, "12:10"), "simrs", 40, slot=SATURDAY)
    past.checklist(MONDAY)
    indonesian, english = (written(past, tmp_path, language=each, now=NEXT_MONDAY) for each in ("id", "en"))
    parts = [re.findall(r"^[A-Z]\. |^ *\d+ \w|^[^ :][^:]* : ", each["text"], re.M) for each in (indonesian, english)]
    assert len(parts[0]) == len(parts[1]) > 40
    for word in ("TIDAK", "dilaksanakan", "Jadwal", "tidak ada"):
        assert word in indonesian["text"]
        assert word not in english["text"]
