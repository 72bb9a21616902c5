# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calendar: what it says is what systemd and cron would do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.calendar import (
    WORK,
    Activity,
    Calendar,
    eras,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError, PrerequisiteError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger import Ledger, new_run_id

SATURDAY = {"day": "Saturday", "start": "12:00", "end": "12:30"}
SCHEDULE = {
    "full_backup": SATURDAY,
    "log_cycle": {"every_minutes": 10},
    "restore_test": {"day": "Friday", "start": "13:30"},
    "test_new_backups": {"day": "daily", "start": "18:00"},
    "backup_verify": {"day": "Sunday", "start": "03:00"},
    "checklist": {"day": "Monday", "start": "07:00"},
}


def utc(text: str) -> datetime:
    """Return a moment written as ISO 8601 with an offset."""
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def activity(values: Mapping[str, Any], zone: str = "Asia/Jakarta") -> Activity:
    """Return an entry under a name that is known."""
    return Activity.from_mapping("full_backup", zone, values)


def elapses(expression: str, since: datetime, count: int) -> list[datetime]:
    """Return what systemd makes of an expression: the first times after *since*."""
    answer = subprocess.run(
        [
            "systemd-analyze",
            "calendar",
            f"--base-time={since:%Y-%m-%d %H:%M:%S} UTC",
            f"--iterations={count}",
            expression,
        ],
        check=True,
        capture_output=True,
        text=True,
        env={"TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    found = re.findall(r"(?:Next elapse|Iter\. #\d+|Iteration #\d+): \w{3} (\S+ \S+) UTC", answer.stdout)
    return [datetime.strptime(each, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc) for each in found]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this host")
@pytest.mark.parametrize("zone", ["Asia/Jakarta", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    "values",
    [
        SATURDAY,
        {"day": "Sunday", "start": "02:30"},  # a clock change leaves it out, and another repeats it
        {"day": "Sunday", "start": "00:00"},
        {"day": ["Monday", "Sunday", "Wednesday"], "start": "23:59"},
        {"day": "daily", "start": "01:45"},
        {"day": "daily", "start": "00:15"},
        {"every_minutes": 720},
        {"every_minutes": 1440},
    ],
    ids=lambda values: " ".join(str(each) for each in values.values()),
)
def test_two_years_are_as_systemd_has_them(zone: str, values: dict[str, Any]) -> None:
    entry = activity(values, zone)
    since, until = utc("2026-09-19T00:00:00+00:00"), utc("2028-09-19T00:00:00+00:00")
    due = list(entry.occurrences(since, until))
    (expression,) = entry.on_calendar()
    # systemd gives what comes after its base time, so that the base lies a second before.
    assert due == elapses(expression, since - timedelta(seconds=1), len(due))
    assert len(due) >= 104 - 2


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this host")
@pytest.mark.parametrize("every", [1, 2, 10, 30, 60, 120, 360])
@pytest.mark.parametrize("around", ["2027-03-28T00:00:00+00:00", "2027-10-31T00:00:00+00:00"])
def test_no_cycle_is_left_out_where_the_clock_is_changed(every: int, around: str) -> None:
    """With the local zone in its expression, systemd passes over the whole hour that the clock repeats."""
    entry = activity({"every_minutes": every}, "Europe/Berlin")
    since = utc(around)
    due = list(entry.occurrences(since, since + timedelta(hours=4)))
    assert due == [since + timedelta(minutes=minute) for minute in range(0, 240, every)]
    (expression,) = entry.on_calendar()
    assert due == elapses(expression, since - timedelta(seconds=1), len(due))


@pytest.mark.parametrize(
    ("values", "zone", "moment", "last", "following"),
    [
        (SATURDAY, "Asia/Jakarta", "2026-09-19T12:00:00+07:00", "2026-09-19T12:00:00+07:00", "2026-09-26T12:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-19T11:59:59+07:00", "2026-09-12T12:00:00+07:00", "2026-09-19T12:00+07:00"),
        # Saturday in Kiritimati, still Friday in UTC: the local day is ahead of the moment's own.
        (
            {"day": "Saturday", "start": "00:30"},
            "Pacific/Kiritimati",
            "2026-09-18T10:30:00+00:00",
            "2026-09-19T00:30:00+14:00",
            "2026-09-26T00:30:00+14:00",
        ),
        # 02:30 is left out on 28 March: the week before is the newest, the week after the next.
        (
            {"day": "Sunday", "start": "02:30"},
            "Europe/Berlin",
            "2027-03-30T00:00:00+00:00",
            "2027-03-21T02:30:00+01:00",
            "2027-04-04T02:30:00+02:00",
        ),
        # 02:30 comes twice on 31 October: the first counts, also when the second has come.
        (
            {"day": "Sunday", "start": "02:30"},
            "Europe/Berlin",
            "2027-10-31T02:30:00+01:00",
            "2027-10-31T02:30:00+02:00",
            "2027-11-07T02:30:00+01:00",
        ),
        (
            {"every_minutes": 10},
            "Asia/Kathmandu",
            "2026-09-19T11:59:59+00:00",
            "2026-09-19T11:50:00+00:00",
            "2026-09-19T12:00:00+00:00",
        ),
        (
            {"every_minutes": 10},
            "Asia/Jakarta",
            "2026-09-19T12:00:00+00:00",
            "2026-09-19T12:00:00+00:00",
            "2026-09-19T12:10:00+00:00",
        ),
    ],
)
def test_last_and_next(values: dict[str, Any], zone: str, moment: str, last: str, following: str) -> None:
    entry = activity(values, zone)
    assert entry.last(utc(moment)) == utc(last)
    assert entry.next(utc(moment)) == utc(following)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["Asia/Jakarta", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.one_of(
        st.builds(
            lambda days, hour, minute: {"day": days, "start": f"{hour:02d}:{minute:02d}"},
            st.lists(st.sampled_from(["Monday", "Tuesday", "Thursday", "Saturday", "Sunday"]), min_size=1, unique=True),
            st.integers(0, 23),
            st.integers(0, 59),
        ),
        st.builds(lambda every: {"every_minutes": every}, st.sampled_from([1, 6, 10, 60, 180, 1440])),
    ),
    st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(timezone.utc)),  # noqa: DTZ001 the zone is the strategy's
)
def test_last_and_next_stand_on_either_side(zone: str, values: dict[str, Any], moment: datetime) -> None:
    entry = activity(values, zone)
    last, following = entry.last(moment), entry.next(moment)
    assert last <= moment < following
    assert list(entry.occurrences(last, following)) == [last]
    assert entry.last(following) == following
    assert entry.next(last) == following


@pytest.mark.parametrize(
    ("values", "zone", "due", "opens", "closes"),
    [
        (SATURDAY, "Asia/Jakarta", "2026-09-19T12:00:00+07:00", "2026-09-19T12:00+07:00", "2026-09-19T12:30+07:00"),
        (
            {"day": "Saturday", "start": "23:30", "end": "00:30"},
            "Asia/Jakarta",
            "2026-09-19T23:30:00+07:00",
            "2026-09-19T23:30:00+07:00",
            "2026-09-20T00:30:00+07:00",
        ),
        # The night is an hour longer: the window closes when the clock says so.
        (
            {"day": "Sunday", "start": "01:00", "end": "04:00"},
            "Europe/Berlin",
            "2027-10-31T01:00:00+02:00",
            "2027-10-31T01:00:00+02:00",
            "2027-10-31T04:00:00+01:00",
        ),
        (
            {"every_minutes": 10, "within_minutes": 4},
            "Asia/Jakarta",
            "2026-09-19T05:10:00+00:00",
            "2026-09-19T05:10:00+00:00",
            "2026-09-19T05:14:00+00:00",
        ),
    ],
)
def test_window(values: dict[str, Any], zone: str, due: str, opens: str, closes: str) -> None:
    assert activity(values, zone).window(utc(due)) == (utc(opens), utc(closes))


@pytest.mark.parametrize("values", [{"day": "daily", "start": "18:00"}, {"every_minutes": 10}])
def test_no_window_without_an_end(values: dict[str, Any]) -> None:
    assert activity(values).window(utc("2026-09-19T11:00:00+00:00")) is None


@pytest.mark.parametrize(
    ("values", "seconds"),
    [(SATURDAY, 300), ({"every_minutes": 10}, 60), ({"every_minutes": 4}, 60), ({"every_minutes": 1}, 15)],
)
def test_tolerance(values: dict[str, Any], seconds: float) -> None:
    assert activity(values).tolerance_seconds() == seconds


def meets(fields: str, moment: datetime) -> bool:
    """Return whether cron starts a line of these fields at a local minute."""
    values = (moment.minute, moment.hour, moment.day, moment.month, moment.isoweekday() % 7)
    for field, value in zip(fields.split(), values):
        step = re.fullmatch(r"\*/(\d+)", field)
        if field != "*" and not (value % int(step.group(1)) == 0 if step else str(value) in field.split(",")):
            return False
    return True


@pytest.mark.parametrize(
    ("values", "zone", "host_zone", "fields"),
    [
        (SATURDAY, "Asia/Jakarta", "Asia/Jakarta", "0 12 * * 6"),
        (SATURDAY, "Asia/Jakarta", "Etc/UTC", "0 5 * * 6"),
        # Sunday 03:00 in Jakarta is Saturday evening in UTC; Monday 07:00 in Jayapura is Sunday in UTC.
        ({"day": "Sunday", "start": "03:00"}, "Asia/Jakarta", "Etc/UTC", "0 20 * * 6"),
        ({"day": "Monday", "start": "07:00"}, "Asia/Jayapura", "Etc/UTC", "0 22 * * 0"),
        ({"day": ["Saturday", "Sunday"], "start": "00:15"}, "Etc/UTC", "Asia/Kathmandu", "0 6 * * 0,6"),
        ({"day": "daily", "start": "18:05"}, "Asia/Jakarta", "Etc/UTC", "5 11 * * *"),
        ({"every_minutes": 10}, "Asia/Jakarta", "Asia/Jakarta", "*/10 * * * *"),
        ({"every_minutes": 1}, "Asia/Jakarta", "Asia/Jakarta", "* * * * *"),
        ({"every_minutes": 60}, "Asia/Jakarta", "Asia/Jakarta", "0 * * * *"),
        ({"every_minutes": 10}, "Asia/Kathmandu", "Asia/Kathmandu", "5,15,25,35,45,55 * * * *"),
        # Summer time shifts by whole hours: the minutes stay.
        ({"every_minutes": 10}, "Europe/Berlin", "Europe/Berlin", "*/10 * * * *"),
        ({"every_minutes": 120}, "Asia/Jakarta", "Asia/Jakarta", "0 1,3,5,7,9,11,13,15,17,19,21,23 * * *"),
        ({"every_minutes": 360}, "Asia/Jakarta", "Etc/UTC", "0 */6 * * *"),
        ({"every_minutes": 1440}, "Asia/Jakarta", "Asia/Jakarta", "0 7 * * *"),
    ],
)
def test_crontab(values: dict[str, Any], zone: str, host_zone: str, fields: str) -> None:
    entry = activity(values, zone)
    since = utc("2026-09-19T00:00:00+00:00")
    assert entry.crontab(host_zone, since) == [fields]
    # And a week of it, minute by minute, is what the calendar says.
    minutes = (since + timedelta(minutes=minute) for minute in range(7 * 1440))
    started = [each for each in minutes if meets(fields, each.astimezone(ZoneInfo(host_zone)))]
    assert started == list(entry.occurrences(since, since + timedelta(days=7)))


@pytest.mark.parametrize(
    ("values", "zone", "host_zone", "said"),
    [
        (SATURDAY, "Asia/Jakarta", "Europe/Berlin", "06:00 and 07:00"),
        (SATURDAY, "Europe/Berlin", "Etc/UTC", "10:00 and 11:00"),
        ({"every_minutes": 120}, "Asia/Jakarta", "Europe/Berlin", "is changed within a year"),
        ({"every_minutes": 60}, "Asia/Jakarta", "Australia/Lord_Howe", "is changed within a year"),
        (SATURDAY, "Asia/Jakarta", "Asia/Atlantis", "not known"),
    ],
)
def test_a_crontab_that_would_lie_is_refused(values: dict[str, Any], zone: str, host_zone: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        # Looked at in summer: today the two clocks agree on one time.
        activity(values, zone).crontab(host_zone, utc("2026-07-01T00:00:00+00:00"))


def test_the_days_a_clock_change_leaves_out() -> None:
    since, until = utc("2026-09-19T00:00:00+00:00"), utc("2028-09-19T00:00:00+00:00")
    entry = activity({"day": "daily", "start": "02:30"}, "Europe/Berlin")
    assert entry.left_out(since, until) == [date(2027, 3, 28), date(2028, 3, 26)]
    assert activity(SATURDAY, "Europe/Berlin").left_out(since, until) == []
    assert activity({"every_minutes": 10}, "Europe/Berlin").left_out(since, until) == []


def test_a_calendar_as_the_hospital_has_it() -> None:
    calendar = Calendar.from_mapping({"zone": "Asia/Jakarta", "schedule": dict(reversed(list(SCHEDULE.items())))})
    assert list(calendar.activities) == list(WORK)  # as people read it, whatever the order in the inventory
    assert calendar.scheduler == "systemd"
    assert {name: each.on_calendar() for name, each in calendar.activities.items()} == {
        "full_backup": ["Sat *-*-* 12:00:00 Asia/Jakarta"],
        "log_cycle": ["*-*-* *:00/10:00 UTC"],
        "restore_test": ["Fri *-*-* 13:30:00 Asia/Jakarta"],
        "test_new_backups": ["*-*-* 18:00:00 Asia/Jakarta"],
        "backup_verify": ["Sun *-*-* 03:00:00 Asia/Jakarta"],
        "checklist": ["Mon *-*-* 07:00:00 Asia/Jakarta"],
    }


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"coffee": SATURDAY}, "'coffee', which is not known. It knows full_backup, log_cycle"),
        ({"checklist": "Monday"}, "dbc_schedule.checklist is no mapping"),
        ({"checklist": {}}, "dbc_schedule.checklist has no day"),
        ({"checklist": {"day": "Monday"}}, "dbc_schedule.checklist has no start"),
        ({"checklist": {"start": "07:00"}}, "dbc_schedule.checklist has no day"),
        ({"checklist": {"day": "Senin", "start": "07:00"}}, "day is 'Senin'. Use daily, or one"),
        ({"checklist": {"day": ["Monday", "Monday"], "start": "07:00"}}, "different days"),
        ({"checklist": {"day": ["daily"], "start": "07:00"}}, "Use daily, or one"),
        # 12:30 without quotes is 750 to YAML, and 07:00 in YAML 1.1 is 420.
        ({"checklist": {"day": "Monday", "start": 420}}, "start is 420, which is not HH:MM. Quote it"),
        ({"full_backup": {"day": "Monday", "start": "12:00", "end": 750}}, "full_backup.end is 750"),
        ({"full_backup": {"day": "Monday", "start": "24:00"}}, "'24:00', which is not HH:MM"),
        ({"full_backup": {"day": "Monday", "start": "9:00"}}, "'9:00', which is not HH:MM"),
        ({"full_backup": {"day": "Monday", "start": "09:00", "end": "09:00"}}, "has no length"),
        ({"log_cycle": {"every_minutes": 10, "start": "00:00"}}, "has start, which does not belong there"),
        ({"full_backup": {"day": "Monday", "start": "09:00", "within_minutes": 5}}, "has within_minutes"),
        ({"log_cycle": {"every_minutes": 7}}, "every_minutes is 7, which is neither"),
        ({"log_cycle": {"every_minutes": 90}}, "every_minutes is 90, which is neither"),
        ({"log_cycle": {"every_minutes": 2880}}, "every_minutes is 2880, which is neither"),
        ({"log_cycle": {"every_minutes": 0}}, "every_minutes is 0, which is no number"),
        ({"log_cycle": {"every_minutes": True}}, "every_minutes is True, which is no number"),
        ({"log_cycle": {"every_minutes": 2.5}}, "every_minutes is 2.5, which is no number"),
        ({"log_cycle": {"every_minutes": 10, "within_minutes": 11}}, "Give at most 10"),
        ({"log_cycle": {"every_minutes": 1440, "within_minutes": 1440}}, "Give at most 1439"),
    ],
)
def test_an_entry_that_cannot_be_read_names_itself_and_the_remedy(schedule: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Calendar.from_mapping({"zone": "Asia/Jakarta", "schedule": schedule})
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"schedule": SCHEDULE}, "names no time zone"),
        ({"zone": "Asia/Atlantis", "schedule": {}}, "'Asia/Atlantis' is not known"),
        ({"zone": "../etc/passwd", "schedule": {}}, "is not known"),
        ({"zone": "Asia/Jakarta"}, "no mapping of activities"),
        ({"zone": "Asia/Jakarta", "schedule": SCHEDULE, "scheduler": "cron"}, "dbc_scheduler is 'cron'"),
    ],
)
def test_a_calendar_that_cannot_be_read_says_why(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        Calendar.from_mapping(values)


def test_numbers_may_come_as_text_as_templates_give_them() -> None:
    entry = activity({"every_minutes": "10", "within_minutes": "5"})
    assert (entry.every_minutes, entry.within_minutes) == (10, 5)


def test_read_from_the_hosts_own_file(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    with pytest.raises(PrerequisiteError, match="No calendar is installed"):
        Calendar.read(path)
    path.write_text(json.dumps({"zone": "Asia/Jakarta", "schedule": SCHEDULE, "scheduler": "awx"}))
    assert Calendar.read(path).scheduler == "awx"
    assert Calendar.read(path).activities["full_backup"].end == "12:30"
    for broken in ("{", "[]", '{"schedule": {}}'):
        path.write_text(broken)
        with pytest.raises(InputError):
            Calendar.read(path)


def record(ledger: Ledger, at: str, schedule: object, instances: object = ("simrs",)) -> None:
    """Add a calendar to a ledger, as the role does."""
    data = {"zone": "Asia/Jakarta", "schedule": schedule, "scheduler": "systemd", "instances": instances}
    ledger.append("event", "calendar", new_run_id(), data=data, moment=utc(at))


def test_the_calendars_in_force_over_a_span(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    since, until = utc("2026-09-14T07:00:00+07:00"), utc("2026-09-21T07:00:00+07:00")
    assert eras(ledger, since, until) == []  # nothing was promised
    record(ledger, "2026-08-01T00:00:00+07:00", {"full_backup": {"day": "Sunday", "start": "12:00"}})
    record(ledger, "2026-09-01T00:00:00+07:00", {"full_backup": SATURDAY}, ["simrs", "lis"])
    ledger.append("finished", "full_backup", new_run_id(), instance="simrs", moment=utc("2026-09-12T05:00:00+00:00"))
    record(ledger, "2026-09-16T00:00:00+07:00", {"full_backup": SATURDAY, "log_cycle": {"every_minutes": 10}})
    record(ledger, "2026-09-21T07:00:00+07:00", {})
    found = eras(ledger, since, until)
    assert [(each.since, list(each.calendar.activities), each.instances) for each in found] == [
        (utc("2026-09-01T00:00:00+07:00"), ["full_backup"], ("simrs", "lis")),
        (utc("2026-09-16T00:00:00+07:00"), ["full_backup", "log_cycle"], ("simrs",)),
    ]
    assert eras(ledger, utc("2026-07-01T00:00:00+07:00"), utc("2026-07-08T00:00:00+07:00")) == []
    (first,) = eras(ledger, utc("2026-07-30T00:00:00+07:00"), utc("2026-08-08T00:00:00+07:00"))
    assert first.since == utc("2026-08-01T00:00:00+07:00")


def test_a_calendar_of_the_ledger_that_cannot_be_read_is_told_and_hides_nothing(tmp_path: Path) -> None:
    """A check-list is still written when half of the facts are missing."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, "2026-09-01T00:00:00+07:00", {"full_backup": SATURDAY})
    record(ledger, "2026-09-16T00:00:00+07:00", {"copy_to_the_moon": SATURDAY}, None)
    first, second = eras(ledger, utc("2026-09-14T07:00:00+07:00"), utc("2026-09-21T07:00:00+07:00"))
    assert (list(first.calendar.activities), first.problem) == (["full_backup"], "")
    assert (second.calendar.activities, second.instances) == ({}, ())
    assert "copy_to_the_moon" in second.problem


def test_a_damaged_line_elsewhere_in_the_ledger_stops_no_calendar(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, "2026-09-01T00:00:00+07:00", {"full_backup": SATURDAY})
    (path,) = (tmp_path / "ledger").glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b"{no record\n")
    record(ledger, "2026-09-16T00:00:00+07:00", {})
    assert len(eras(ledger, utc("2026-09-14T07:00:00+07:00"), utc("2026-09-21T07:00:00+07:00"))) == 2
