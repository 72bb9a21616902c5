# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook asks of the calendar, and what is wrong with it before any host is touched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Optional
from zoneinfo import ZoneInfo

from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.calendar import Activity, Calendar
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError

# How far ahead a due time is looked for that a clock change leaves out.
_AHEAD = timedelta(days=2 * 366)


def due_slot(activity: Mapping[str, Any], zone: str, now: Optional[str] = None) -> str:
    """Return when the newest full backup that is due was due, ISO 8601 in its zone.

    :param activity: ``dbc_schedule.full_backup``.
    :param now: ISO 8601 with an offset; the present moment where none is given.
    """
    entry, due = _newest(activity, zone, now)
    return due.astimezone(ZoneInfo(entry.zone)).isoformat()


def due_window(activity: Mapping[str, Any], zone: str, now: Optional[str] = None) -> dict[str, str]:
    """Return the window of that full backup as the module takes it: zone, start and end; empty where it has none."""
    entry, due = _newest(activity, zone, now)
    window = entry.window(due)
    if window is None:
        return {}
    opens, closes = (f"{each.astimezone(ZoneInfo(entry.zone)):%H:%M}" for each in window)
    return {"zone": entry.zone, "start": opens, "end": closes}


def schedule_problems(schedule: object, zone: str, scheduler: str = "systemd", now: Optional[str] = None) -> list[str]:
    """Return what is wrong with ``dbc_schedule``, a sentence each.

    :param scheduler: ``dbc_scheduler``.
    :param now: ISO 8601 with an offset; the present moment where none is given.
    """
    problems = []
    entries: Mapping[Any, Any] = schedule if isinstance(schedule, Mapping) else {}
    try:
        Calendar.from_mapping({"zone": zone, "schedule": {} if entries else schedule, "scheduler": scheduler})
    except InputError as error:
        problems.append(str(error))
    since = parse_moment(now) if now else utc_now()
    for name, values in entries.items():
        try:
            entry = Activity.from_mapping(str(name), zone, values)
        except InputError as error:
            if str(error) not in problems:  # a zone that is not known is one problem, not one of each entry
                problems.append(str(error))
            continue
        for day in entry.left_out(since, since + _AHEAD)[:1]:
            problems.append(
                f"dbc_schedule.{name}: {entry.start} does not come on {day} in {zone}, where the clock is put forward:"
                " it would not run that day. Choose a time that every such day has."
            )
    return problems


def _newest(activity: Mapping[str, Any], zone: str, now: Optional[str]) -> tuple[Activity, datetime]:
    try:
        entry = Activity.from_mapping("full_backup", zone, activity)
        return entry, entry.last(parse_moment(now) if now else utc_now())
    except InputError as error:
        raise AnsibleFilterError(str(error)) from None
