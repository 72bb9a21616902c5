# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calendar: when each activity is due. The only place that knows how to read ``dbc_schedule``.

An entry names either days and a local time of the site's zone, or a number of minutes. Local times are as systemd
has them: one that a clock change leaves out is not due on that day, one that comes twice is due the first time.
What comes every so many minutes is counted from midnight UTC: in local time systemd passes over the hour that a
clock change repeats, and for that hour no log would be delivered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional
from zoneinfo import ZoneInfo

from .calendar_cron import YEAR_DAYS, fields_of_minutes, fields_of_times
from .calendar_entry import DAYS, Entry
from .clock import known_zone, parse_moment
from .errors import ContinuityError, InputError, PrerequisiteError
from .ledger import Ledger

SCHEDULE_FILE = Path("/etc/dbcontinuity/schedule.json")
SCHEDULERS = ("systemd", "awx")
LEDGER_ACTIVITY = "calendar"
# A start is called late only beyond this, counted from its due time; see Activity.tolerance_seconds.
LATE_SECONDS = 300.0
LATE_CYCLE_SECONDS = 60.0
# A due time that exists comes at the latest so many days on: weekly, and a clock change may leave weeks out.
_SEARCH_DAYS = 400


@dataclass(frozen=True)
class Work:
    """What an activity of the calendar does.

    :ivar playbook: the playbook that carries it out.
    :ivar evidence: the activity under which the ledger has it.
    :ivar variables: what the playbook is told beside the inventory.
    """

    playbook: str
    evidence: str
    variables: Mapping[str, str]


# The weekly test restore and that of new backups share a folder; both are caught up at once when the host was off.
_PATIENT = {"dbc_wait_minutes": "360"}

# Everything the calendar may name, in the order in which people read it.
WORK: Mapping[str, Work] = {
    "full_backup": Work("full_backup", "full_backup", {}),
    "log_cycle": Work("ship_logs", "log_cycle", {}),
    "restore_test": Work("restore_test", "restore_test", _PATIENT),
    "test_new_backups": Work("restore_test", "restore_test", {"dbc_untested": "true", **_PATIENT}),
    "backup_verify": Work("verify_backups", "backup_verify", {}),
    "checklist": Work("checklist", "checklist", {}),
}


@dataclass(frozen=True)
class Activity:
    """One entry of the calendar.

    :ivar name: one of :data:`WORK`.
    :ivar zone: an IANA name such as Asia/Jakarta.
    :ivar days: 0 is Monday; empty where *every_minutes* is set.
    :ivar start: HH:MM, local; empty where *every_minutes* is set.
    :ivar end: HH:MM, local, the window's end; empty without a window.
    :ivar every_minutes: 0 where *days* are set.
    :ivar within_minutes: the window's length after a due time of *every_minutes*; 0 without a window.
    """

    name: str
    zone: str
    days: tuple[int, ...]
    start: str
    end: str
    every_minutes: int
    within_minutes: int

    @classmethod
    def from_mapping(cls, name: str, zone: str, values: object) -> Activity:
        """Return one entry of ``dbc_schedule``.

        :raises InputError: naming the entry, what is wrong with it, and the remedy.
        """
        if name not in WORK:
            raise InputError(f"The calendar names {name!r}, which is not known.", f"It knows {', '.join(WORK)}.")
        known_zone(zone)
        entry = Entry.parse(f"dbc_schedule.{name}", values)
        return cls(name, zone, entry.days, entry.start, entry.end, entry.every_minutes, entry.within_minutes)

    def occurrences(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Give the due times from *since* on and before *until*, rising, aware, in UTC."""
        if self.every_minutes:
            due = _next_multiple(since, self.every_minutes)
            while due < until:
                yield due
                due += timedelta(minutes=self.every_minutes)
            return
        day = since.astimezone(ZoneInfo(self.zone)).date() - timedelta(days=1)
        last = until.astimezone(ZoneInfo(self.zone)).date()
        while day <= last:
            candidate = self._due_on(day)
            if candidate is not None and since <= candidate < until:
                yield candidate
            day += timedelta(days=1)

    def last(self, moment: datetime) -> datetime:
        """Return the newest due time at or before *moment*, aware, in UTC."""
        if self.every_minutes:
            due = _next_multiple(moment, self.every_minutes)
            return due if due == moment else due - timedelta(minutes=self.every_minutes)
        today = moment.astimezone(ZoneInfo(self.zone)).date()
        for back in range(-1, _SEARCH_DAYS):
            due_then = self._due_on(today - timedelta(days=back))
            if due_then is not None and due_then <= moment:
                return due_then
        raise self._never()

    def next(self, moment: datetime) -> datetime:
        """Return the first due time after *moment*, aware, in UTC."""
        for due in self.occurrences(moment, moment + timedelta(days=_SEARCH_DAYS)):
            if due > moment:
                return due
        raise self._never()

    def window(self, due: datetime) -> Optional[tuple[datetime, datetime]]:
        """Return when the window of a due time opens and closes, aware, in UTC; None where the entry has no window.

        An end at or before the start is one of the next day.
        """
        if self.within_minutes:
            return due, due + timedelta(minutes=self.within_minutes)
        if not self.end:
            return None
        local = due.astimezone(ZoneInfo(self.zone))
        closing = self._at(local.date(), self.end)
        if closing <= due:
            closing = self._at(local.date() + timedelta(days=1), self.end)
        return due, closing

    def tolerance_seconds(self) -> float:
        """Return how many seconds after its due time a start is called late."""
        if self.every_minutes:
            return min(LATE_CYCLE_SECONDS, self.every_minutes * 60 / 4)
        return LATE_SECONDS

    def on_calendar(self) -> list[str]:
        """Return the entry as systemd's OnCalendar expressions, each with its zone."""
        if not self.every_minutes:
            days = "" if len(self.days) == len(DAYS) else ",".join(DAYS[day][:3] for day in self.days) + " "
            return [f"{days}*-*-* {self.start}:00 {self.zone}"]
        if self.every_minutes < 60:
            return [f"*-*-* *:00/{self.every_minutes}:00 UTC"]
        hours = self.every_minutes // 60
        return [f"*-*-* {'00' if hours == 24 else '*' if hours == 1 else f'00/{hours}'}:00:00 UTC"]

    def crontab(self, host_zone: str, moment: datetime) -> list[str]:
        """Return the entry as the five fields of crontab lines, for a host whose clock shows *host_zone*.

        :param moment: the year after it is looked at.
        :raises InputError: where clock changes within that year make one crontab impossible.
        """
        known_zone(host_zone)
        if self.every_minutes:
            return [fields_of_minutes(self.name, self.every_minutes, host_zone, moment)]
        due = self.occurrences(moment, moment + timedelta(days=YEAR_DAYS))
        return [fields_of_times(self.name, self.zone, host_zone, due)]

    def left_out(self, since: datetime, until: datetime) -> list[date]:
        """Return the local days from *since* to *until* on which a clock change passes over the due time."""
        first, last = (each.astimezone(ZoneInfo(self.zone)).date() for each in (since, until))
        days = (first + timedelta(days=number) for number in range((last - first).days + 1))
        return [day for day in days if day.weekday() in self.days and self._due_on(day) is None]

    def _due_on(self, day: date) -> Optional[datetime]:
        """Return the due time of a local day; None where the entry has none there, or the clock passes over it."""
        if day.weekday() not in self.days:
            return None
        due = self._at(day, self.start)
        local = due.astimezone(ZoneInfo(self.zone))
        return due if (local.date(), local.strftime("%H:%M")) == (day, self.start) else None

    def _at(self, day: date, text: str) -> datetime:
        hour, minute = (int(part) for part in text.split(":"))
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(self.zone), fold=0)
        return local.astimezone(timezone.utc)

    def _never(self) -> InputError:
        return InputError(
            f"dbc_schedule.{self.name}: {self.start} does not come within a year in {self.zone}.",
            "Choose another time.",
        )


def _next_multiple(moment: datetime, minutes: int) -> datetime:
    """Return the first moment at or after *moment* that lies a multiple of *minutes* after midnight UTC.

    *minutes* divides a day, so that it can be counted from any midnight.
    """
    utc = moment.astimezone(timezone.utc)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    step = timedelta(minutes=minutes)
    return midnight + -((midnight - utc) // step) * step


@dataclass(frozen=True)
class Calendar:
    """All entries of a site's calendar.

    :ivar zone: the zone of its local times.
    :ivar scheduler: what starts the activities: ``systemd`` on the backup host, or ``awx``.
    :ivar activities: by name.
    """

    zone: str
    scheduler: str
    activities: Mapping[str, Activity]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Calendar:
        """Return the calendar of ``zone``, ``schedule`` and ``scheduler`` (systemd where it is not given).

        :raises InputError: naming the entry, what is wrong with it, and the remedy.
        """
        zone, schedule = values.get("zone"), values.get("schedule")
        if not isinstance(zone, str):
            raise InputError("The calendar names no time zone.", "Set dbc_zone to a name such as Asia/Jakarta.")
        known_zone(zone)
        if not isinstance(schedule, Mapping):
            raise InputError("The calendar is no mapping of activities.", "inventories/rspon shows dbc_schedule.")
        scheduler = values.get("scheduler") or SCHEDULERS[0]
        if scheduler not in SCHEDULERS:
            raise InputError(
                f"dbc_scheduler is {scheduler!r}, which is not known.", f"Use one of: {', '.join(SCHEDULERS)}."
            )
        given = {str(name): Activity.from_mapping(str(name), zone, entry) for name, entry in schedule.items()}
        return cls(zone, scheduler, {name: given[name] for name in WORK if name in given})

    @classmethod
    def read(cls, path: Path = SCHEDULE_FILE) -> Calendar:
        """Return the calendar that ``site`` has installed on this host.

        :raises PrerequisiteError: where none is installed.
        :raises InputError: where the file cannot be read as one.
        """
        remedy = "Run the playbook site: it installs the calendar of the inventory."
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PrerequisiteError(f"No calendar is installed: there is no {path}.", remedy) from None
        except (OSError, ValueError) as error:
            raise InputError(f"The calendar {path} cannot be read: {error}.", remedy) from None
        if not isinstance(values, Mapping):
            raise InputError(f"The calendar {path} is no mapping.", remedy)
        return cls.from_mapping(values)


@dataclass(frozen=True)
class Era:
    """A span of time in which one calendar was in force, until the next one's begins.

    :ivar since: when it came into force, aware, in UTC.
    :ivar instances: the instances it was for.
    :ivar problem: why the calendar that came into force then cannot be read; it then has no activities.
    """

    since: datetime
    calendar: Calendar
    instances: tuple[str, ...]
    problem: str = ""


def eras(ledger: Ledger, since: datetime, until: datetime) -> list[Era]:
    """Return the calendars in force from *since* to *until*, the one in force at *since* first.

    Empty where none was recorded before *until*: nothing was promised then. Reads the whole ledger's lines, and parses
    those of the calendar only.
    """
    return eras_from(ledger.whole_records(LEDGER_ACTIVITY), since, until)


def eras_from(records: Iterable[Mapping[str, Any]], since: datetime, until: datetime) -> list[Era]:
    """Return the same from records that have been read already; those of other activities are passed over."""
    found: list[Era] = []
    for record in records:
        if record["activity"] != LEDGER_ACTIVITY or record["kind"] != "event":
            continue
        moment = parse_moment(record["at"])
        if moment >= until:
            continue
        if moment <= since:
            found.clear()
        found.append(_era(moment, record["data"]))
    return found


def _era(moment: datetime, data: Mapping[str, Any]) -> Era:
    given = data.get("instances")
    instances = tuple(str(each) for each in given) if isinstance(given, list) else ()
    try:
        return Era(moment, Calendar.from_mapping(data), instances)
    except ContinuityError as error:
        return Era(moment, Calendar("UTC", SCHEDULERS[0], {}), instances, str(error))
