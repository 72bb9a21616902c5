# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status needs of the ledger, read from its end: no further back than something is still missing.

A year of log cycles of fifty instances is hundreds of megabytes; its last hours, and the few records of everything else,
tell how things stand now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Optional

from .calendar import LEDGER_ACTIVITY, Calendar, Era, eras_from
from .clock import parse_moment
from .errors import InputError
from .expected import (
    CHECKLIST,
    FULL_BACKUP,
    LOG_CYCLE,
    NOT_DUE,
    RESTORE_TEST,
    RUNNING,
    TEST_NEW,
    Slot,
    Span,
    rows_of,
)
from .ledger import Ledger
from .ledger_lines import begins
from .ledger_reading import newest_first
from .ledger_runs import SUCCEEDED, Run, Runs, runs_of

# How far back what is rare is looked for at all; free space and attestations are judged by a month.
_OLDEST = timedelta(days=400)
MONTH = timedelta(days=35)
_DAY_SECONDS = 86400.0
# So many of the newest log cycles are judged.
CYCLES_JUDGED = 6
_RARE = (FULL_BACKUP, RESTORE_TEST, "backup_verify", CHECKLIST, LEDGER_ACTIVITY, "notify", "attestation")


@dataclass
class Past:
    """What the ledger's end tells.

    :ivar records: the oldest first.
    :ivar eras: the calendars in force at the newest due times and since.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    runs: Runs = field(default_factory=dict)
    eras: Sequence[Era] = ()

    def newest(self, activity: str, instance: str, *, succeeded: bool = False) -> Optional[Run]:
        """Return the newest run that has ended; with *succeeded*, the newest that succeeded."""
        for run in reversed(self.runs.get((activity, instance), ())):
            if run.finished is not None and (run.result == SUCCEEDED or not succeeded):
                return run
        return None


def read_past(ledger: Ledger, calendar: Optional[Calendar], names: Sequence[str], now: datetime) -> Past:
    """Return what the ledger's end tells of these instances."""
    since = min([now - MONTH, *newest_due(calendar, now).values()])

    def recent(moment: datetime, _line: bytes) -> Optional[bool]:
        return True if moment >= since else None

    records = [*_cycles(ledger, calendar, now), *newest_first(ledger, _RARE, recent)]
    tested = {str(each["instance"]) for each in records if _is_good_test(each)}
    records += _older(ledger, calendar, set(names) - tested, since)
    records.sort(key=lambda each: int(each["sequence"]))
    return Past(records, runs_of(records), eras_from(records, since, now) if calendar else ())


def _is_good_test(record: Mapping[str, Any]) -> bool:
    return str(record["activity"]) == RESTORE_TEST and str(record["data"].get("result")) == SUCCEEDED


def _older(ledger: Ledger, calendar: Optional[Calendar], untested: set[str], since: datetime) -> list[dict[str, Any]]:
    """Return from before *since* the calendar that was in force then, and the newest good test of each instance."""
    found: list[dict[str, Any]] = []
    oldest = since - _OLDEST
    missing = {name: f'"instance":"{name}"'.encode() for name in untested}
    searching = calendar is not None

    def wanted(moment: datetime, line: bytes) -> Optional[bool]:
        if moment >= since:
            return False
        if moment < oldest or not (missing or searching):
            return None
        if line.startswith(begins(LEDGER_ACTIVITY)):
            return searching
        return any(name in line for name in missing.values())

    for record in newest_first(ledger, (LEDGER_ACTIVITY, RESTORE_TEST), wanted):
        if record["activity"] == LEDGER_ACTIVITY:
            searching = False
        elif _is_good_test(record):
            missing.pop(str(record["instance"]), None)
        found.append(record)
    return found


def _cycles(ledger: Ledger, calendar: Optional[Calendar], now: datetime) -> list[dict[str, Any]]:
    """Return the records of the newest log cycles; at least of one that has ended, however old it is."""
    entry = calendar.activities.get(LOG_CYCLE) if calendar else None
    every = timedelta(minutes=entry.every_minutes if entry and entry.every_minutes else 10)
    since = now - max(timedelta(hours=2), (CYCLES_JUDGED + 2) * every)
    found: list[dict[str, Any]] = []
    ended = False

    def wanted(moment: datetime, _line: bytes) -> Optional[bool]:
        return True if moment >= since or not ended else None

    for record in newest_first(ledger, (LOG_CYCLE,), wanted):
        ended = ended or record["kind"] == "finished"
        found.append(record)
    return found


def newest_due(calendar: Optional[Calendar], now: datetime) -> dict[str, datetime]:
    """Return each activity's newest due time; what never comes in its zone is left out."""
    found = {}
    for name, activity in (calendar.activities if calendar else {}).items():
        try:
            found[name] = activity.last(now)
        except InputError:
            continue
    return found


def due_slots(past: Past, calendar: Calendar, now: datetime) -> dict[tuple[str, str], list[Slot]]:
    """Return what came of the newest due time of each activity and instance; of log cycles, of the newest few.

    One that runs now, or whose time has just come, says nothing yet: then the one before is judged. Of new full
    backups, it is the newest whose day to be tested is over.
    """
    found: dict[tuple[str, str], list[Slot]] = {}
    for name, since in newest_due(calendar, now).items():
        if name == TEST_NEW:
            since = now - MONTH
        else:
            for _number in range(CYCLES_JUDGED if name == LOG_CYCLE else 1):
                since = calendar.activities[name].last(since - timedelta(microseconds=1))
        for row in rows_of(past.eras, past.runs, Span(since, now + timedelta(microseconds=1), now), (name,)):
            judged = [slot for slot in row.slots if slot.state not in (NOT_DUE, RUNNING)]
            found[name, row.instance] = judged if name == LOG_CYCLE else judged[-1:]
    return found


def shrinking(past: Past, free_bytes: int, now: datetime) -> Optional[float]:
    """Return by how many bytes a day the free space has shrunk, as full backups found it; None where nobody knows.

    It is what is left of all that came and went: sets, logs, what was removed. Negative where it grows.
    """
    for record in past.records:
        plan = record["data"].get("plan") if record["activity"] == FULL_BACKUP and record["kind"] == "started" else None
        before = plan.get("free_bytes") if isinstance(plan, Mapping) else None
        if isinstance(before, int):
            days = (now - parse_moment(record["at"])).total_seconds() / _DAY_SECONDS
            return (before - free_bytes) / days if days >= 1 else None
    return None
