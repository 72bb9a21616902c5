# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd has of the calendar on a backup host, held against the calendar itself; standard library only.

    timers_on_host.py SCHEDULE ZONE      the schedule as JSON; prints what is wrong, a line each

The due times are counted here afresh, so that the core's own reading of the calendar is no witness for itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

UNITS = Path("/etc/systemd/system")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WANTED = {"ActiveState": "active", "UnitFileState": "enabled", "Persistent": "yes", "AccuracyUSec": "1s"}
TWO_YEARS = timedelta(days=730)
MOST = 800  # iterations: daily for two years; of what comes every few minutes, that many
_MOMENT = re.compile(r"(?:Next elapse|#\d+): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
_EXPRESSION = re.compile(r"OnCalendar=(.*?) ;")


def asked(*words: str) -> str:
    """Return what systemd says, in UTC."""
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    return subprocess.run(
        words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


def due_times(entry: Mapping[str, Any], zone: str, since: datetime) -> Iterator[datetime]:
    """Give the due times after a moment, in a zone without clock changes."""
    if "every_minutes" in entry:
        step = int(entry["every_minutes"]) * 60
        due = datetime.fromtimestamp(since.timestamp() // step * step + step, timezone.utc)
        while True:
            yield due
            due += timedelta(seconds=step)
    wanted = DAYS if entry["day"] == "daily" else [entry["day"]] if isinstance(entry["day"], str) else entry["day"]
    hour, minute = (int(part) for part in entry["start"].split(":"))
    day = since.astimezone(ZoneInfo(zone)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    while True:
        if DAYS[day.weekday()] in wanted and day > since:
            yield day.astimezone(timezone.utc)
        day += timedelta(days=1)


def problems_of(name: str, entry: Mapping[str, Any], zone: str) -> Iterator[str]:
    """Give what is wrong with the timer of one activity."""
    unit = f"dbcontinuity-{name.replace('_', '-')}.timer"
    names = [*WANTED, "TimersCalendar", "NextElapseUSecRealtime"]
    lines = asked("systemctl", "show", f"--property={','.join(names)}", unit).splitlines()
    shown = dict(line.partition("=")[::2] for line in lines)
    yield from (f"{unit}: {key} is {shown.get(key)}" for key, value in WANTED.items() if shown.get(key) != value)
    expressions = _EXPRESSION.findall(shown.get("TimersCalendar", ""))
    if len(expressions) != 1:
        yield f"{unit}: {len(expressions)} expressions: {shown.get('TimersCalendar')}"
        return
    now = datetime.now(timezone.utc)
    next_due = f"{next(due_times(entry, zone, now)):%Y-%m-%d %H:%M:%S}"
    if next_due not in shown["NextElapseUSecRealtime"]:
        yield f"{unit}: next is {shown['NextElapseUSecRealtime']}, not {next_due} UTC"
    base = f"--base-time={now:%Y-%m-%d %H:%M:%S} UTC"
    said = asked("systemd-analyze", "calendar", f"--iterations={MOST}", base, expressions[0])
    counted = due_times(entry, zone, now.replace(microsecond=0))
    end = f"{now + TWO_YEARS:%Y-%m-%d %H:%M:%S}"
    for number, moment in enumerate(_MOMENT.findall(said)):
        expected = f"{next(counted):%Y-%m-%d %H:%M:%S}"
        if moment != expected:
            yield f"{unit}: due time {number + 1} is {moment}, not {expected} UTC"
            return
        if moment > end:
            return
    if len(_MOMENT.findall(said)) != MOST:
        yield f"{unit}: systemd-analyze names {len(_MOMENT.findall(said))} due times of {MOST}"


def main(schedule: Mapping[str, Mapping[str, Any]], zone: str) -> int:
    """Print what is wrong; the exit status is 1 where anything is."""
    expected = {f"dbcontinuity-{name.replace('_', '-')}" for name in schedule}
    timers = {path.stem for path in UNITS.glob("dbcontinuity-*.timer")}
    services = {path.stem for path in UNITS.glob("dbcontinuity-*.service") if "@" not in path.name}
    loaded = set(re.findall(r"(dbcontinuity-\S+)\.timer", asked("systemctl", "list-timers", "--all", "dbcontinuity-*")))
    problems = [
        f"{what}: {', '.join(sorted(there ^ expected))} too many or missing"
        for what, there in (("timers", timers), ("services", services), ("loaded timers", loaded))
        if there != expected
    ]
    for name, entry in schedule.items():
        problems += problems_of(name, entry, zone)
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2]))
