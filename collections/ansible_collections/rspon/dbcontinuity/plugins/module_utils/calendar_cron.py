# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Crontab fields for a host without systemd. Cron knows no zone but the host's own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from .calendar_entry import DAYS
from .errors import InputError

YEAR_DAYS = 366


def fields_of_times(name: str, zone: str, host_zone: str, due: Iterable[datetime]) -> str:
    """Return the five fields for weekly times, all of them within one year.

    :param due: the due times, aware.
    :raises InputError: where the host's clock shows different times for them over the year.
    """
    local = [each.astimezone(ZoneInfo(host_zone)) for each in due]
    times = {(each.hour, each.minute) for each in local}
    if len(times) != 1:
        shown = " and ".join(f"{hour:02d}:{minute:02d}" for hour, minute in sorted(times))
        raise InputError(
            f"dbc_schedule.{name} comes at {shown} of this host's clock ({host_zone}) within a year: no crontab says that.",
            f"Set the host's time zone to the calendar's: timedatectl set-timezone {zone}.",
        )
    ((hour, minute),) = times
    days = sorted({each.isoweekday() % 7 for each in local})
    return f"{minute} {hour} * * {'*' if len(days) == len(DAYS) else ','.join(map(str, days))}"


def fields_of_minutes(name: str, every: int, host_zone: str, moment: datetime) -> str:
    """Return the five fields for what comes every so many minutes, counted from midnight UTC.

    :raises InputError: where the host's clock is changed within a year of *moment*, so that the minutes would shift.
    """
    days = (moment + timedelta(days=day) for day in range(YEAR_DAYS))
    offsets = {each.astimezone(ZoneInfo(host_zone)).utcoffset() or timedelta(0) for each in days}
    phases = {int(offset.total_seconds() // 60) % every for offset in offsets}
    if len(phases) != 1:
        raise InputError(
            f"dbc_schedule.{name} comes every {every} minutes, and this host's clock ({host_zone}) is changed within a"
            " year: no crontab says that.",
            "Set the host's time zone to one without such changes: timedatectl set-timezone Etc/UTC.",
        )
    due = range(phases.pop(), 24 * 60, every)
    minutes = sorted({each % 60 for each in due})
    hours = sorted({each // 60 for each in due})
    return f"{_list(minutes, 60)} {_list(hours, 24)} * * *"


def _list(values: list[int], of: int) -> str:
    """Return a field; the shortest form that says the same."""
    step = of // len(values)
    if values != list(range(0, of, step)):
        return ",".join(map(str, values))
    if len(values) == 1:
        return "0"
    return "*" if step == 1 else f"*/{step}"
