# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks ask of the calendar: the slot and window that are due, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.schedule import (
    due_slot,
    due_window,
    schedule_problems,
)

ROOT = Path(__file__).parents[2]
SATURDAY = {"day": "Saturday", "start": "12:00", "end": "12:30"}


@pytest.mark.parametrize(
    ("activity", "zone", "now", "due"),
    [
        (SATURDAY, "Asia/Jakarta", "2026-09-19T12:00:00+07:00", "2026-09-19T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-19T11:59:59+07:00", "2026-09-12T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-19T05:00:00Z", "2026-09-19T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-20T00:00:00+07:00", "2026-09-19T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-25T23:59:00+07:00", "2026-09-19T12:00:00+07:00"),
        # Already Saturday in Jakarta, still Friday in UTC.
        ({"day": "Saturday", "start": "01:00"}, "Asia/Jakarta", "2026-09-18T18:30:00Z", "2026-09-19T01:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2027-01-01T00:00:00+07:00", "2026-12-26T12:00:00+07:00"),
        ({"day": "Monday", "start": "00:00"}, "Asia/Jakarta", "2026-09-21T00:00:00+07:00", "2026-09-21T00:00:00+07:00"),
        # The slot keeps its wall time over a change of clocks, and carries the offset of its own day.
        (SATURDAY, "Europe/Berlin", "2026-03-30T08:00:00+02:00", "2026-03-28T12:00:00+01:00"),
        (
            {"day": "Sunday", "start": "02:30"},
            "Europe/Berlin",
            "2026-10-25T12:00:00+01:00",
            "2026-10-25T02:30:00+02:00",
        ),
        (
            {"day": ["Wednesday", "Saturday"], "start": "12:00"},
            "Asia/Jakarta",
            "2026-09-18T12:00:00+07:00",
            "2026-09-16T12:00:00+07:00",
        ),
        ({"day": "daily", "start": "12:00"}, "Asia/Jakarta", "2026-09-18T11:00:00+07:00", "2026-09-17T12:00:00+07:00"),
        ({"every_minutes": 4}, "Asia/Jakarta", "2026-09-18T11:07:59+07:00", "2026-09-18T11:04:00+07:00"),
    ],
)
def test_the_newest_slot_that_is_due(activity: dict[str, Any], zone: str, now: str, due: str) -> None:
    assert due_slot(activity, zone, now) == due


def test_a_slot_is_the_same_all_week() -> None:
    slots = {
        due_slot(SATURDAY, "Asia/Jakarta", f"2026-09-{day:02d}T{hour:02d}:30:00+07:00")
        for day in range(20, 26)
        for hour in range(24)
    }
    assert slots == {"2026-09-19T12:00:00+07:00"}


def test_without_a_moment_it_is_the_present_one() -> None:
    assert "T12:00:00+07:00" in due_slot(SATURDAY, "Asia/Jakarta")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{day: Saturday, start: 12:30}", "is 750, which is not HH:MM. Quote it in YAML"),
        ("{day: Saturday, start: '24:00'}", "'24:00', which is not HH:MM"),
        ("{day: Saturday, start: '12:60'}", "'12:60', which is not HH:MM"),
        ("{day: Saturday, start: '12'}", "'12', which is not HH:MM"),
        ("{day: Saturday, start: '²:00'}", "which is not HH:MM"),
        ("{day: Saturday}", "has no start"),
        ("{day: sabtu, start: '12:00'}", "'sabtu'. Use daily, or one"),
        ("{start: '12:00'}", "has no day"),
    ],
)
def test_what_yaml_made_of_a_time_is_refused(text: str, why: str) -> None:
    for ask in (due_slot, due_window):
        with pytest.raises(AnsibleFilterError) as caught:
            ask(yaml.safe_load(text), "Asia/Jakarta")
        assert why in str(caught.value)


def test_yaml_reads_a_quoted_time_as_it_is_written() -> None:
    assert yaml.safe_load("12:30") == 750
    assert yaml.safe_load("'12:30'") == "12:30"


@pytest.mark.parametrize("zone", ["Asia/Jakatra", "", "../x", "Asia"])
def test_an_unknown_zone_is_named(zone: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"time zone .* is not known"):
        due_slot(SATURDAY, zone)


@pytest.mark.parametrize(
    ("activity", "now", "start", "end"),
    [
        (SATURDAY, "2026-09-22T00:00:00Z", "12:00", "12:30"),
        ({**SATURDAY, "start": "23:30", "end": "00:30"}, "2026-09-22T00:00:00Z", "23:30", "00:30"),
        ({"every_minutes": 4, "within_minutes": 2}, "2026-09-18T04:07:00Z", "11:04", "11:06"),
        ({"every_minutes": 60, "within_minutes": 45}, "2026-09-18T16:20:00Z", "23:00", "23:45"),
    ],
)
def test_the_window_is_as_the_module_takes_it(activity: dict[str, Any], now: str, start: str, end: str) -> None:
    assert due_window(activity, "Asia/Jakarta", now) == {"zone": "Asia/Jakarta", "start": start, "end": end}


def test_without_a_window_there_is_none() -> None:
    assert due_window({"day": "Saturday", "start": "12:00"}, "Asia/Jakarta") == {}
    assert due_window({"every_minutes": 4}, "Asia/Jakarta") == {}


def test_a_good_calendar_has_no_problems() -> None:
    for path in ("inventories/rspon/group_vars/all/schedule.yml", "inventories/demo/group_vars/all.yml"):
        schedule = yaml.safe_load((ROOT / path).read_text())["dbc_schedule"]
        assert schedule_problems(schedule, "Asia/Jakarta") == []
        assert list(schedule) == [
            "full_backup",
            "log_cycle",
            "restore_test",
            "test_new_backups",
            "backup_verify",
            "checklist",
        ]
    assert schedule_problems({}, "Asia/Jakarta", "awx") == []


def test_every_problem_is_told_at_once() -> None:
    schedule = {"coffee": SATURDAY, "checklist": {"day": "Senin", "start": "07:00"}, "full_backup": SATURDAY}
    problems = schedule_problems(schedule, "Asia/Jakarta", "cron")
    assert [text in problem for text, problem in zip(("dbc_scheduler", "'coffee'", "'Senin'"), problems)] == [True] * 3
    assert len(problems) == 3


def test_an_unknown_zone_is_one_problem() -> None:
    schedule = {"checklist": {"day": "Monday", "start": "07:00"}, "full_backup": SATURDAY}
    (problem,) = schedule_problems(schedule, "Asia/Jakatra")
    assert "'Asia/Jakatra' is not known" in problem


@pytest.mark.parametrize("schedule", [None, [], "daily"])
def test_what_is_no_calendar_is_told(schedule: object) -> None:
    (problem,) = schedule_problems(schedule, "Asia/Jakarta")
    assert "no mapping of activities" in problem


def test_a_time_that_a_clock_change_leaves_out_is_told_beforehand() -> None:
    """systemd would pass over that whole week's backup, and nobody would know why."""
    schedule = {"full_backup": {"day": "Sunday", "start": "02:30"}, "checklist": {"day": "Sunday", "start": "03:00"}}
    (problem,) = schedule_problems(schedule, "Europe/Berlin", now="2026-09-19T00:00:00Z")
    assert "dbc_schedule.full_backup: 02:30 does not come on 2027-03-28 in Europe/Berlin" in problem
    assert schedule_problems(schedule, "Asia/Jakarta", now="2026-09-19T00:00:00Z") == []
