# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks make of the calendar, run by a real ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.calendar import eras
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from tests.support import COLLECTION, Place, make_place

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parent.parent.parent
Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


@pytest.fixture
def play(place: Place, tmp_path: Path) -> Play:
    """Return a call that runs a playbook on a backup host that is this machine, with a calendar."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a").write_text("1")
    place.files("scan", tmp_path / "scan")
    variables: dict[str, Any] = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "dbc_zone": "Asia/Jakarta",
        "dbc_repository": str(place.repository),
        "dbc_recipients": list(place.protection.recipients),
        "dbc_identity_file": str(place.root / "operations.key"),
        "dbc_scratch_folder": str(tmp_path / "scratch"),
        "dbc_instances": {
            "scan": {
                "host": "this_machine",
                "engine": "files",
                "paths": [str(tmp_path / "scan")],
                "agent": {"program": place.agent.program, "config_dir": place.agent.config_dir},
            }
        },
    }

    def run(playbook: Path, schedule: object, *more: str) -> subprocess.CompletedProcess[str]:
        groups: dict[str, Any] = {
            "backup": {"hosts": {"this_machine": {}}},
            "production": {"hosts": {"this_machine": {}}},
        }
        given = {**variables, "dbc_schedule": schedule} if schedule is not None else variables
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(json.dumps({"all": {"vars": given, "children": groups}}))
        return subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), str(playbook), *more],
            cwd=ROOT,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )

    return run


def manifests(place: Place) -> list[dict[str, Any]]:
    """Return the manifests of all sets, oldest first."""
    folder = Repository.open(place.repository).instance("scan")
    return [dict(folder.read_set(name).manifest.values) for name in folder.set_names()]


def far_from_midnight(minutes: float = 5) -> None:
    """Wait until the UTC day has that much left, so that what follows falls into one day."""
    now = utc_now()
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight - now < timedelta(minutes=minutes):
        time.sleep((midnight - now).total_seconds() + 1)


FULL_BACKUP = ROOT / "playbooks" / "full_backup.yml"
RESTORE_TEST = ROOT / "playbooks" / "restore_test.yml"


def test_a_calendar_in_minutes_gives_slot_and_window(place: Place, play: Play) -> None:
    calendar = {"full_backup": {"every_minutes": 1440, "within_minutes": 30}}
    far_from_midnight()  # the slots change there
    for _time in range(2):
        done = play(FULL_BACKUP, calendar)
        assert done.returncode == 0, done.stdout
    (values,) = manifests(place)  # the second run found the slot's set
    assert values["slot"].endswith("T00:00:00Z")
    assert values["window"]["zone"] == "Asia/Jakarta"
    assert (values["window"]["opens"], values["window"]["closes"][-10:]) == (values["slot"], "T00:30:00Z")


def test_without_an_end_there_is_no_window_to_keep(place: Place, play: Play) -> None:
    done = play(FULL_BACKUP, {"full_backup": {"day": "daily", "start": "12:00"}})
    assert done.returncode == 0, done.stdout
    (values,) = manifests(place)
    assert values["slot"].endswith("T05:00:00Z")
    assert values["window"] is None


def test_a_backup_that_no_calendar_asks_for_is_made_each_time(place: Place, play: Play) -> None:
    for schedule in (None, {"log_cycle": {"every_minutes": 10}}):
        done = play(FULL_BACKUP, schedule)
        assert done.returncode == 0, done.stdout
    assert [each["slot"] for each in manifests(place)] == [None, None]


def test_new_backups_are_tested_once(place: Place, play: Play) -> None:
    calendar = {"full_backup": {"day": "Saturday", "start": "12:00", "end": "12:30"}}
    assert play(FULL_BACKUP, calendar).returncode == 0
    done = play(RESTORE_TEST, calendar, "-e", "dbc_untested=true")
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout
    ledger = Repository.open(place.repository).ledger
    head = ledger.head()
    done = play(RESTORE_TEST, calendar, "-e", "dbc_untested=true")
    assert done.returncode == 0, done.stdout
    assert "There is no new full backup to test." in done.stdout
    assert "changed=0" in done.stdout
    assert ledger.head() == head
    done = play(RESTORE_TEST, calendar)
    assert "There is no new full backup to test." not in done.stdout
    assert ledger.head() != head


def test_what_the_calendar_lacks_is_said_before_any_host_is_touched(play: Play, tmp_path: Path) -> None:
    """The task that begins site, alone."""
    playbook = tmp_path / "check.yml"
    tasks = [{"ansible.builtin.include_tasks": str(COLLECTION / "playbooks/tasks/check_inventory.yml")}]
    playbook.write_text(
        json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}])
    )
    calendar = {"full_backup": {"day": "Saturday", "start": 750}, "coffee": {"every_minutes": 10}}
    done = play(playbook, calendar, "-e", "dbc_zone=Asia/Jakarta", "-e", "dbc_scheduler=cron")
    assert done.returncode != 0
    for said in ("dbc_schedule.full_backup.start is 750", "'coffee', which is not known", "dbc_scheduler is 'cron'"):
        assert said in done.stdout, done.stdout
    done = play(playbook, {"log_cycle": {"every_minutes": 10}})
    assert "dbc_schedule" not in done.stdout
    assert done.returncode == 0, done.stdout


def test_the_roles_record_is_what_the_check_list_reads(place: Place, play: Play, tmp_path: Path) -> None:
    """The task of the role backup, alone: twice the same calendar, then another."""
    tasks = yaml.safe_load((COLLECTION / "roles/backup/tasks/main.yml").read_text())
    (task,) = (each for each in tasks if each["name"] == "Record from when on it is in force")
    (tmp_path / "task.yml").write_text(json.dumps([task]))
    variables = {
        "backup_repository": "{{ dbc_repository }}",
        "backup_zone": "{{ dbc_zone }}",
        "backup_scheduler": "systemd",
        "backup_schedule": "{{ dbc_schedule }}",
        "backup_all_names": ["simrs", "lis"],
        "backup_marks": {"results": [{"stat": {"exists": True}}]},
    }
    include = {"ansible.builtin.include_tasks": str(tmp_path / "task.yml")}
    other = {**include, "vars": {"backup_schedule": {"full_backup": {"day": "daily", "start": "12:00"}}}}
    playbook = tmp_path / "record.yml"
    playbook.write_text(
        json.dumps(
            [{"hosts": "backup", "gather_facts": False, "vars": variables, "tasks": [include, include, other, other]}]
        )
    )
    calendar = yaml.safe_load((ROOT / "inventories/rspon/group_vars/all/schedule.yml").read_text())["dbc_schedule"]
    done = play(playbook, calendar)
    assert done.returncode == 0, done.stdout
    assert "changed=2" in done.stdout
    now = utc_now()
    ledger = Repository.open(place.repository).ledger
    found = eras(ledger, now - timedelta(days=1), now + timedelta(days=1))
    assert [(each.problem, each.instances, list(each.calendar.activities)) for each in found] == [
        ("", ("lis", "simrs"), list(calendar)),
        ("", ("lis", "simrs"), ["full_backup"]),
    ]
