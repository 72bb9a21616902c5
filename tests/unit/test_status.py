# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status: green where all is well, and each reason that it is not, with its remedy; the text, the JSON, the exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as ledger_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger_reading
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.durable import read_json, write_json
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import RepositoryError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger_lines import shaped
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import Finding
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import status as operation
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.status import leave_status, status
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_run import ScheduledRun
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.status_text import status_failures, status_report
from tests.calendar_support import SCHEDULE, Past, finding, local
from tests.documents import PROJECT, validator
from tests.scheduled_support import make_site

ZONE = "Asia/Jakarta"
# Tuesday at noon, after a good week.
NOW = local(24, "12:05")
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


class Site(Past):
    """An instance with a chain of logs, under the SPO's calendar."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "repository")
        self.schedule = root / "schedule.json"
        self.chain = self.lineage("simrs", local(14, "11:00"), {"lag_seconds": 4.0})

    def install(self, schedule: Mapping[str, Any] = SCHEDULE) -> None:
        """Install the calendar, as the playbook site does."""
        write_json(self.schedule, self.calendar(local(14, "08:00"), ["simrs"], schedule))

    def good_week(self, *, without: tuple[str, ...] = ()) -> None:
        """Record a week in which all was done, but for what is left out."""
        self.install()
        self.held(local(14, "12:00:02"))
        if "restore_test" not in without:
            self.attest(self.test(local(20, "13:30:02"), "simrs", "20261114T050002Z-0001"))
        made = "20261121T050002Z-0001"
        if "full_backup" not in without:
            made = self.held(local(21, "12:00:02"))
        if "test_new_backups" not in without:
            self.attest(self.test(local(21, "18:00:02"), "simrs", made, untested=True))
        if "backup_verify" not in without:
            self.verify(local(22, "03:00:02"), ["simrs"])
        if "checklist" not in without:
            self.checklist(local(23, "07:00:02"))
        if "log_cycle" not in without:
            self.cycles(local(24, "10:00"), NOW, ["simrs"])
            self.state(NOW)

    def held(self, at: Any) -> str:
        """Record a full backup of simrs whose logs follow; return its set."""
        name = self.full(at, "simrs", slot=at.replace(second=0), stored=False)
        self.store("simrs", at, at + timedelta(minutes=10), 5_000_000, self.chain)
        return name

    def attest(self, run: str) -> None:
        """Record a staff member's attestation."""
        self.record(local(21, "20:00"), "event", "attestation", "a", {"of_run": run})

    def state(self, at: Any) -> None:
        """Say what the last cycle saw."""
        folder = self.repository.instance("simrs").logs / self.chain
        write_json(folder / "state.json", {"recoverable_to": iso(at - timedelta(seconds=9)), "lag_seconds": 4.0})

    def status(self, **more: Any) -> dict[str, Any]:
        """Return the status at noon; it holds against the published schema, and can be printed."""
        values = status(self.repository.root, more.pop("names", ()), self.schedule, more.pop("now", NOW), **more)
        validator("status").validate(json.loads(json.dumps(values)))
        assert status_report({"status": values}, ZONE)
        return values


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def codes(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the reasons' colours by their codes, of instance and site."""
    everything = [*values["reasons"], *(each for one in values["instances"].values() for each in one["reasons"])]
    return {each["code"]: each["colour"] for each in everything}


# -- green --


def test_green_after_a_good_week(site: Site) -> None:
    site.good_week()
    values = site.status()
    assert (values["colour"], codes(values)) == ("green", {})
    one = values["instances"]["simrs"]
    assert one["recoverable_from"] == iso(local(14, "12:10:02"))
    assert one["recoverable_to"] == iso(NOW - timedelta(seconds=9))
    assert one["back_in"] == {"seconds": 450.0, "measured": True, "run": "run-00005", "at": iso(local(21, "18:00:02"))}
    assert one["source"]["set"] == "20261121T050002Z-0001"
    assert {activity: each["state"] for activity, each in one["due"].items()} == {
        "full_backup": "done",
        "log_cycle": "done",
        "restore_test": "done",
        "test_new_backups": "done",
        "backup_verify": "done",
    }
    assert values["calendar"]["activities"]["full_backup"] == {
        "last_due": iso(SATURDAY),
        "next_due": iso(local(28, "12:00")),
        "state": None,
    }
    assert values["calendar"]["activities"]["checklist"]["state"] == "done"
    text = status_report({"status": values, "notes": ["n"]}, ZONE)
    assert text.startswith("GREEN: 1 instance green, 0 instances amber, 0 instances red\n")
    assert re.search(r"^simrs +GREEN +2026-11-14 12:10 +2026-11-24 12:04:51 WIB +4 s +8 min$", text, re.M)
    assert re.search(r"^full backup +2026-11-21 12:00 +1 of 1 +2026-11-28 12:00$", text, re.M)
    assert "note: n" in text
    assert "20261121T050002Z-0001 and 0 logs" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_while_a_full_backup_runs_the_one_before_is_judged(site: Site) -> None:
    site.good_week()
    site.full(local(28, "12:00:02"), "simrs", ends=False, slot=local(28, "12:00"))
    values = site.status(now=local(28, "12:10"))
    assert values["instances"]["simrs"]["due"]["full_backup"]["state"] == "done"
    assert not {"full-backup-failed", "full-backup-overdue"} & set(codes(values))


# -- red and amber, reason by reason --


@pytest.mark.parametrize(
    ("missing", "code", "colour"),
    [
        ("full_backup", "full-backup-overdue", "red"),
        ("log_cycle", "log-cycle-overdue", "red"),
        ("backup_verify", "backup-verify-overdue", "amber"),
        ("checklist", "checklist-overdue", "amber"),
        ("test_new_backups", "test-new-backups-overdue", "amber"),
        # What was tested on Saturday succeeded: something is proven.
        ("restore_test", "restore-test-overdue", "amber"),
    ],
)
def test_what_did_not_run_is_overdue(site: Site, missing: str, code: str, colour: str) -> None:
    site.good_week(without=(missing,))
    values = site.status()
    assert codes(values)[code] == colour
    text = status_report({"status": values}, ZONE)
    assert f"{colour.upper():<5}  " in text
    assert "Run the playbook" in text


def test_a_test_restore_that_nobody_has_made_for_weeks_is_red(site: Site) -> None:
    site.good_week(without=("restore_test", "test_new_backups"))
    assert codes(site.status())["restore-test-overdue"] == "red"


@pytest.mark.parametrize(
    ("activity", "code"),
    [
        ("full_backup", "full-backup-failed"),
        ("restore_test", "restore-test-failed"),
        ("test_new_backups", "test-new-backups-failed"),
        ("backup_verify", "backup-verify-failed"),
        ("checklist", "checklist-failed"),
    ],
)
def test_what_failed_is_red(site: Site, activity: str, code: str) -> None:
    site.good_week(without=(activity,))
    if activity == "full_backup":
        site.full(local(21, "12:00:02"), "simrs", 1, result="The server does not answer.", slot=SATURDAY)
    elif activity == "restore_test":
        site.test(local(20, "13:30:02"), "simrs", "20261114T050002Z-0001", result="The checksum does not hold.")
    elif activity == "test_new_backups":
        site.test(local(21, "18:00:02"), "simrs", "20261121T050002Z-0001", result="No.", untested=True)
    elif activity == "backup_verify":
        site.verify(local(22, "03:00:02"), ["simrs"], {"simrs": [finding("damaged-artefact", "x")]})
    else:
        site.record(local(23, "07:00:02"), "started", "checklist", "c", {})
        site.record(
            local(23, "07:00:03"), "finished", "checklist", "c", {"result": "failed", "reason": "The disk is full."}
        )
    values = site.status()
    assert (values["colour"], codes(values)[code]) == ("red", "red")


def test_late_and_died(site: Site) -> None:
    site.good_week(without=("full_backup", "backup_verify"))
    site.full(local(21, "12:10"), "simrs", slot=SATURDAY)
    run = site.run_id()
    site.record(local(22, "03:00:01"), "started", "backup_verify", run, {"instances": ["simrs"]})
    found = codes(site.status())
    assert (found["full-backup-late"], found["backup-verify-failed"]) == ("amber", "red")


@pytest.mark.parametrize(("bad", "colour"), [(1, "amber"), (2, "amber"), (3, "red")])
def test_three_log_cycles_in_succession_are_red(site: Site, bad: int, colour: str) -> None:
    site.good_week(without=("log_cycle",))
    site.cycles(local(24, "10:00"), NOW - timedelta(minutes=10 * bad), ["simrs"])
    for number in reversed(range(bad)):
        at = local(24, "12:00:01") - timedelta(minutes=10 * number)
        site.cycle(at, {"simrs": {"result": "failed", "message": "The server does not answer.", "findings": []}})
    site.state(NOW)
    values = site.status()
    assert codes(values) == {"log-cycle-failed": colour}
    (reason,) = values["instances"]["simrs"]["reasons"]
    assert "The server does not answer." in reason["message"]
    assert "-e dbc_only=simrs" in reason["remedy"]


def test_a_cycle_that_has_not_come_yet_is_not_missed(site: Site) -> None:
    site.good_week(without=("log_cycle",))
    site.cycles(local(24, "10:00"), local(24, "12:00"), ["simrs"])
    site.state(NOW)
    assert codes(site.status(now=local(24, "12:00:30"))) == {}
    assert codes(site.status(now=local(24, "12:02"))) == {"log-cycle-overdue": "amber"}


def test_what_is_held_is_judged_as_before(site: Site) -> None:
    site.good_week()
    folder = site.repository.instance("simrs").logs / site.chain
    (folder / "broken.json").write_text(
        json.dumps({"at": iso(NOW), "findings": [Finding("missing-log", "bin.4", "It is gone.", "Look.").to_json()]})
    )
    next(site.repository.instance("simrs").full.glob("*/manifest.json")).write_text("{")
    values = site.status()
    assert codes(values) == {"broken-chain": "red", "damaged": "red"}
    text = status_report({"status": values}, ZONE)
    assert (
        "RED    simrs: bin.4: It is gone. Look. Run the playbook full_backup with -e dbc_only=simrs -e dbc_force=true."
        in text
    )


@pytest.mark.parametrize("key", ["engine", "method", "finished_at", "started_at", "lineage", "duration_seconds"])
def test_a_mangled_manifest_does_not_end_it(site: Site, key: str) -> None:
    site.good_week()
    path = max(site.repository.instance("simrs").full.glob("*/manifest.json"))
    mangled: Any = {"duration_seconds": 1e300}.get(key, "")
    write_json(path, {**read_json(path), key: mangled})
    assert status_report({"status": status(site.repository.root, (), site.schedule, NOW)}, ZONE)


def test_an_instance_of_the_calendar_that_nothing_is_held_of(site: Site) -> None:
    site.good_week()
    site.calendar(local(24, "08:00"), ["simrs", "lab"])
    values = site.status()
    lab = values["instances"]["lab"]
    assert lab["reasons"][0]["code"] == "no-full-backup"
    assert (lab["recoverable_to"], lab["back_in"], lab["source"]) == (None, None, None)
    assert re.search(r"^lab +RED +nothing +nothing +- +-$", status_report({"status": values}, ZONE), re.M)
    # Whoever asks for names gets these, known or not.
    assert list(status(site.repository.root, ["scan"], site.schedule, NOW)["instances"]) == ["scan"]


def test_what_the_ledger_was_not_read_for_is_known_by_set_and_chain(site: Site) -> None:
    at = local(1, "12:00")
    site.store("simrs", at, at + timedelta(minutes=1), 10, site.chain)
    folder = site.repository.instance("simrs").logs / site.chain
    write_json(folder / "state.json", {"checked_at": iso(local(2, "12:00")), "recoverable_to": iso(local(2, "12:00"))})
    last = site.status(names=["simrs"])["instances"]["simrs"]["last"]
    assert last["full_backup"]["started_at"] == iso(at)
    assert (last["log_cycle"]["started_at"], last["log_cycle"]["result"]) == (iso(local(2, "12:00")), "succeeded")
    assert last["restore_test"] is None
    (folder / "broken.json").write_text("{}")
    assert site.status(names=["simrs"])["instances"]["simrs"]["last"]["log_cycle"]["result"] == "failed"


def test_no_log_yet_and_logical_backups(site: Site) -> None:
    site.install()
    at = local(24, "11:00")
    site.store("simrs", at, at + timedelta(minutes=1), 10, site.chain)
    site.store("lab", at, at + timedelta(minutes=1), 10)
    found = {
        name: [each["code"] for each in one["reasons"]]
        for name, one in site.status(names=["simrs", "lab"])["instances"].items()
    }
    assert "no-log-yet" in found["simrs"]
    assert found["lab"] == ["no-point-in-time"]


def test_how_fast_is_estimated_where_it_was_not_measured(site: Site) -> None:
    site.good_week()
    at = local(23, "11:00")
    site.store("lab", at, at + timedelta(minutes=1), 6_000_000_000)
    site.record(at, "started", "restore_test", "t", {}, "scan")
    measured = {"result": "succeeded", "source": {"set": "s", "size_bytes": 10**9}, "phases": {"unpacking": 10.0}}
    site.record(at, "finished", "restore_test", "t", measured, "scan")
    values = site.status(names=["simrs", "lab"])
    assert values["instances"]["lab"]["back_in"] == {"seconds": 80.0, "measured": False, "run": "t", "at": None}
    assert "~80 s" in status_report({"status": values}, ZONE)


# -- what is about no instance --


@pytest.mark.parametrize(
    ("days", "code", "colour"), [(2.0, "little-room", "red"), (10.0, "little-room", "amber"), (20.0, "", "")]
)
def test_days_left_at_the_present_rate(
    site: Site, monkeypatch: pytest.MonkeyPatch, days: float, code: str, colour: str
) -> None:
    site.good_week()
    # Ten days ago 10^9 bytes were free (tests/calendar_support.py); it is the oldest full backup of the ledger.
    age = (NOW - local(14, "12:00:02")).total_seconds() / 86400
    free = round(10**9 * days / (days + age))
    monkeypatch.setattr(operation, "backup_info", _with_free(free))
    values = site.status()
    assert values["days_left"] == pytest.approx(days, abs=0.06)
    assert codes(values) == ({code: colour} if code else {})
    assert f"{days:.0f} days at the present rate" in status_report({"status": values}, ZONE)


def test_no_room_for_the_next_full_backup_and_a_rate_nobody_knows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.good_week()
    monkeypatch.setattr(operation, "backup_info", _with_free(5_000_001))
    assert codes(site.status())["no-room"] == "red"
    monkeypatch.setattr(operation, "backup_info", _with_free(2 * 10**9))
    values = site.status()
    assert (values["days_left"], values["bytes_per_day"] < 0) == (None, True)
    assert "it does not shrink" in status_report({"status": values}, ZONE)


def _with_free(free: int) -> Any:
    return lambda *arguments: {**backup_info(*arguments), "free_bytes": free}


def test_people_channels_ledger_and_clock(site: Site, clock: type[Clock], monkeypatch: pytest.MonkeyPatch) -> None:
    site.good_week()
    site.test(local(15, "13:30"), "simrs", "20261114T050002Z-0001")  # nobody attests it
    channel = {
        "channel": "mail a",
        "kind": "mail",
        "state": "dead",
        "problem": "refused",
        "since": iso(local(23, "01:00")),
    }
    site.record(local(23, "01:00"), "event", "notify", "n", channel)
    path = max(site.ledger.folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b"damaged\n")
    clock.synchronised = False
    site.cycle(local(24, "12:04"), ["simrs"])
    waiting = {"id": "R1", "red": True, "state": "waiting for countersignature", "reason": "It waits."}
    monkeypatch.setattr(operation, "approval_info", lambda *_paths, **_more: {"records": [waiting]})
    found = codes(site.status())
    assert found == {
        "not-attested": "amber",
        "dead-channel": "amber",
        "damaged-ledger": "amber",
        "clock-not-synchronised": "amber",
        "instruction": "amber",
    }
    waiting["state"] = "overdue"
    assert codes(site.status())["instruction"] == "red"

    def unreadable(*_paths: Any, **_more: Any) -> Any:
        raise RepositoryError("It cannot be read.")

    monkeypatch.setattr(operation, "approval_info", unreadable)
    assert codes(site.status())["instructions-unreadable"] == "amber"


def test_without_a_calendar_it_tells_what_is_held_and_says_so(site: Site) -> None:
    site.good_week()
    site.schedule.unlink()
    values = site.status()
    assert (values["colour"], values["calendar"]["installed"]) == ("green", False)
    assert values["instances"]["simrs"]["due"] == {}
    assert "No calendar is installed on this host" in status_report({"status": values}, ZONE)
    site.schedule.write_text("{")
    assert codes(site.status()) == {"calendar-unreadable": "amber"}


def test_a_calendar_that_the_ledger_does_not_know_promises_nothing(site: Site) -> None:
    write_json(site.schedule, {"zone": ZONE, "schedule": SCHEDULE, "scheduler": "systemd"})
    site.held(local(14, "12:00:02"))
    site.state(NOW)
    values = site.status()
    assert (codes(values), values["calendar"]["recorded"]) == ({}, False)
    assert "This calendar is not in the ledger yet" in status_report({"status": values}, ZONE)


def test_the_ledger_is_read_no_further_back_than_needed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 52,560 log cycles behind it, the status must not parse them."""
    site.cycles(local(23, "00:00"), local(23, "20:00"), ["simrs"])
    site.good_week()
    parsed: list[str] = []

    def counted(line: bytes) -> Any:
        parsed.append(line[:24].decode())
        return shaped(line)

    monkeypatch.setattr(ledger_reading, "shaped", counted)
    assert site.status()["colour"] == "green"
    assert 10 < sum("log_cycle" in each for each in parsed) < 40


# -- what leaves the program --


def test_the_status_is_left_for_monitoring(site: Site, tmp_path: Path) -> None:
    assert leave_status(site.repository.root, tmp_path / "status.json", site.schedule) == "red"  # simrs has no set
    values = read_json(tmp_path / "status.json")
    validator("status").validate(values)
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o644


def test_a_scheduled_run_leaves_it_however_it_ends(tmp_path: Path) -> None:
    host = make_site(tmp_path)
    (host.host.release / "venv/bin/ansible-runner").unlink()
    for program, ended in (("", 0), ("sys.exit(2)", 2)):
        host.fake(program)
        assert ScheduledRun(host.host, "log_cycle", host.say).perform() == ended
        validator("status").validate(read_json(host.host.state / "status.json"))
    # What cannot be told changes nothing of how the run ends; what was told before is no longer known to be so.
    (host.root / "repository/dbcontinuity-repository.json").unlink()
    host.fake("")
    assert ScheduledRun(host.host, "log_cycle", host.say).perform() == 0
    assert any("The status could not be left: PrerequisiteError" in line for line in host.said)
    assert not (host.host.state / "status.json").exists()


def test_what_is_red_ends_the_playbook() -> None:
    red = {"code": "no-room", "colour": "red", "message": "There is no room.", "remedy": ""}
    amber = {**red, "colour": "amber"}
    told = {"reasons": [red, amber], "instances": {"simrs": {"reasons": [amber, red]}}}
    hostvars = {
        "good": {"s": {"status": {"reasons": [amber], "instances": {}}}},
        "bad": {"s": {"status": told}},
        "off": {},
    }
    assert status_failures(hostvars, ["good"], "s") == []
    assert status_failures(hostvars, ["good", "bad", "off"], "s") == [
        "bad: There is no room.",
        "bad, simrs: There is no room.",
        "off: the play did not get that far",
    ]
    assert status_failures(hostvars, [], "s") == ["No host is in the group backup: give the inventory with -i."]


def play(site: Site, tmp_path: Path, playbook: str, *more: str) -> tuple[int, str]:
    variables = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "dbc_zone": ZONE,
        "dbc_repository": str(site.repository.root),
        "dbc_schedule_file": str(site.schedule),
        "dbc_instances": {"simrs": {"host": "this_machine", "engine": "files"}},
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        json.dumps({"all": {"vars": variables, "children": {"backup": {"hosts": {"this_machine": {}}}}}})
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(inventory),
            f"playbooks/{playbook}.yml",
            *more,
        ],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def beside_the_hour() -> datetime:
    """Return the present time, when no full hour has just come or comes soon: what is due then nobody here would do."""
    while not 5 < time.time() % 3600 < 3600 - 90:
        time.sleep(1)
    return utc_now()


def test_the_real_playbooks(site: Site, tmp_path: Path) -> None:
    now = beside_the_hour()
    at = now - timedelta(hours=4)
    # Of the SPO's calendar only what comes at any time of the week: this test runs by the real clock.
    write_json(site.schedule, site.calendar(at, ["simrs"], {"log_cycle": {"every_minutes": 60}}))
    site.store("simrs", at, at + timedelta(minutes=1), 10, site.chain)
    site.cycles(at.replace(minute=at.minute // 10 * 10, second=0, microsecond=0), now, ["simrs"])
    site.state(now)
    target = tmp_path / "status.json"
    code, said = play(site, tmp_path, "status", "-e", f"dbc_status_file={target}")
    assert code == 0, said
    assert "GREEN: 1 instance green" in said
    assert "recoverable to" in said
    validator("status").validate(read_json(target))
    code, said = play(site, tmp_path, "checklist", "-e", "dbc_language=en", "--check")
    assert code == 0, said
    assert "CHECK-LIST OF THE BACKUP RESULTS" in said
    assert not (site.repository.root / "reports").exists()
    code, said = play(site, tmp_path, "checklist")
    assert code == 0, said
    assert "CHECK-LIST HASIL BACKUP" in said
    assert len(list((site.repository.root / "reports").glob("checklist-*"))) == 2
    next(site.repository.instance("simrs").full.glob("*/manifest.json")).unlink()
    code, said = play(site, tmp_path, "status", "-e", f"dbc_status_file={target}")
    assert code != 0
    assert "there is no full backup" in said
    assert read_json(target)["colour"] == "red"
    (site.repository.root / "dbcontinuity-repository.json").unlink()
    code, said = play(site, tmp_path, "status")
    assert code != 0
    assert "holds no repository" in said
