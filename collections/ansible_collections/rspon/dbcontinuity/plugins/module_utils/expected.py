# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the calendar asked for, held against what was run: "not run" is a finding, as "failed" is.

Each due time is judged by itself. A run belongs to the newest due time at or before its start, so that one caught up
later counts, and is called late; a full backup belongs to the slot that it was made for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Optional

from .calendar import WORK, Activity, Era
from .clock import parse_moment
from .errors import InputError
from .ledger_runs import FAILED as RUN_FAILED
from .ledger_runs import NOT_APPLICABLE, SUCCEEDED, UNFINISHED, Run, Runs

DONE, LATE, OUT_OF_WINDOW, FAILED, NOT_RUN, NOT_DUE, RUNNING = (
    "done",
    "late",
    "out of window",
    "failed",
    "not run",
    "not due",
    "running",
)
# The worst first: what a row is called that has several due times.
STATES = (FAILED, NOT_RUN, OUT_OF_WINDOW, LATE, RUNNING, DONE, NOT_DUE)
FULL_BACKUP, LOG_CYCLE, RESTORE_TEST, TEST_NEW, CHECKLIST = (
    "full_backup",
    "log_cycle",
    "restore_test",
    "test_new_backups",
    "checklist",
)
# A new full backup is to have been brought back once within this.
TEST_WITHIN = timedelta(days=1)
# A run without an end that began longer ago than this has died: its end was never recorded.
_ALIVE = timedelta(hours=12)
_ALIVE_CYCLE = timedelta(hours=1)


@dataclass(frozen=True)
class Slot:
    """One due time and what came of it.

    :ivar due: aware, in UTC; for the test of a new full backup the moment until which it is to be tested.
    :ivar window: when it was to be begun and ended; None without a window.
    :ivar run: the run that counts: the first that succeeded, else the newest; None where there was none.
    :ivar late_seconds: how long after the due time it started, where that is more than tolerated.
    :ivar overran_seconds: how long after its window's end it ended.
    :ivar failures: runs for this due time that failed, the one that counts not included.
    :ivar subject: the set that is tested, where that is what is due.
    """

    due: datetime
    state: str
    window: Optional[tuple[datetime, datetime]] = None
    run: Optional[Run] = None
    late_seconds: float = 0.0
    overran_seconds: float = 0.0
    failures: int = 0
    subject: str = ""

    @property
    def good(self) -> bool:
        """Return whether it was done, in time or not."""
        return self.state in (DONE, LATE, OUT_OF_WINDOW)


@dataclass(frozen=True)
class Row:
    """One activity of one instance in a span of time; *instance* is empty for an activity that is about none."""

    activity: str
    instance: str
    slots: Sequence[Slot] = field(default_factory=tuple)

    @property
    def state(self) -> str:
        """Return the worst of its slots' states; not due where there is none."""
        states = {slot.state for slot in self.slots}
        return next((state for state in STATES if state in states), NOT_DUE)

    def count(self, *states: str) -> int:
        """Return how many of its due times are in one of these states."""
        return sum(1 for slot in self.slots if slot.state in states)

    @property
    def expected(self) -> int:
        """Return how many due times there were whose time has come."""
        return len(self.slots) - self.count(NOT_DUE)

    @property
    def done(self) -> int:
        """Return how many of them were done, in time or not."""
        return sum(1 for slot in self.slots if slot.good)


@dataclass(frozen=True)
class Span:
    """The time that is looked at, and the moment from which.

    :ivar until: its end, not included.
    :ivar now: when it is looked at; what has happened since *until* counts for what was due before.
    """

    since: datetime
    until: datetime
    now: datetime


def rows_of(eras: Sequence[Era], runs: Runs, span: Span, only: Sequence[str] = tuple(WORK)) -> list[Row]:
    """Return a row for each activity and instance that a calendar of the span names, in the calendar's order.

    :param eras: from a day before the span on, so that a full backup made before its beginning is looked at, too.
    :param runs: likewise.
    :param only: these activities.
    """
    present = [era for era, _begin, _end in in_span(eras, span)]
    names = [name for name in WORK if name in only and any(name in era.calendar.activities for era in present)]
    instances = list(dict.fromkeys(each for era in present for each in era.instances))
    found = []
    for name in names:
        for instance in [""] if name == CHECKLIST else instances:
            mine = [era for era in present if name in era.calendar.activities]
            if instance and not any(instance in era.instances for era in mine):
                continue
            if name == TEST_NEW:
                slots = _new_sets(eras, instance, runs, span)
            else:
                due = _due(eras, name, instance, span)
                slots = judge(due, _candidates(name, runs.get((WORK[name].evidence, instance), ())), span.now)
            found.append(Row(name, instance, tuple(slots)))
    return found


def in_span(eras: Sequence[Era], span: Span) -> list[tuple[Era, datetime, datetime]]:
    """Return each calendar with the part of the span in which it was in force."""
    ends = [era.since for era in eras[1:]] + [span.until]
    return [
        (era, max(era.since, span.since), min(end, span.until))
        for era, end in zip(eras, ends)
        if era.since < span.until and end > span.since
    ]


def _due(eras: Sequence[Era], name: str, instance: str, span: Span) -> list[tuple[datetime, Activity]]:
    """Return when an activity was due for an instance, with the entry of the calendar that was in force."""
    found = []
    for era, begin, end in in_span(eras, span):
        activity = era.calendar.activities.get(name)
        if activity is not None and (not instance or instance in era.instances):
            found += [(due, activity) for due in activity.occurrences(begin, end)]
    return found


def _candidates(name: str, runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs that can be meant: a test of what is new is none of the weekly ones."""
    if name != RESTORE_TEST:
        return runs
    return [run for run in runs if not of_new_backups(run)]


def of_new_backups(run: Run) -> bool:
    """Return whether a test restore was one of whatever is untested."""
    return bool(run.plan.get("untested") or run.data.get("untested"))


def judge(due: Sequence[tuple[datetime, Activity]], runs: Sequence[Run], now: datetime) -> list[Slot]:
    """Return what came of each due time.

    :param due: rising, with the entry of the calendar that was in force.
    :param runs: rising by their start.
    """
    if not due:
        return []
    moments = [moment for moment, _activity in due]
    last, activity = due[-1]
    try:
        after = activity.next(last)
    except InputError:
        after = now
    groups: list[list[Run]] = [[] for _due in due]
    for run in runs:
        at = _belongs(run)
        place = bisect_right(moments, at) - 1
        if place >= 0 and at < max(after, last + timedelta(seconds=1)):
            groups[place].append(run)
    alive = _ALIVE_CYCLE if activity.every_minutes else _ALIVE
    newest = runs[-1] if runs else None
    return [_slot(moment, entry, group, now, newest, alive) for (moment, entry), group in zip(due, groups)]


def _belongs(run: Run) -> datetime:
    """Return the moment that decides for which due time a run was."""
    plan = run.plan.get("plan")
    slot = plan.get("slot") if isinstance(plan, Mapping) else None
    try:
        return parse_moment(str(slot)) if slot else run.started
    except InputError:
        return run.started


def _slot(
    due: datetime, activity: Activity, runs: Sequence[Run], now: datetime, newest: Optional[Run], alive: timedelta
) -> Slot:
    window = activity.window(due)
    counts = next((run for run in runs if run.result == SUCCEEDED), runs[-1] if runs else None)
    if counts is None:
        open_yet = now < due + timedelta(seconds=activity.tolerance_seconds())
        return Slot(due, NOT_DUE if open_yet else NOT_RUN, window)
    failures = sum(1 for run in runs if run is not counts and run.result in (RUN_FAILED, UNFINISHED))
    # A run on time is on time for each of its instances, however long the ones before it take.
    late = ((counts.begun or counts.started) - due).total_seconds()
    late = late if late > activity.tolerance_seconds() else 0.0
    ended = counts.finished or (now if now - counts.started < alive else None)
    over = max(0.0, (ended - window[1]).total_seconds()) if window and ended else 0.0
    if counts.result == NOT_APPLICABLE:
        state = NOT_DUE
    elif counts.result == UNFINISHED:
        state = RUNNING if counts is newest and now - counts.started < alive else FAILED
    elif counts.result != SUCCEEDED:
        state = FAILED
    else:
        state = LATE if late else OUT_OF_WINDOW if over or (window and counts.started < window[0]) else DONE
    return Slot(due, state, window, counts, late, over, failures)


def _new_sets(eras: Sequence[Era], instance: str, runs: Runs, span: Span) -> list[Slot]:
    """Return for each full backup whose day to be tested ends in the span what came of that."""
    tests = runs.get((RESTORE_TEST, instance), ())
    found = []
    for run in runs.get((FULL_BACKUP, instance), ()):
        if run.result != SUCCEEDED or run.finished is None:
            continue
        due = run.finished + TEST_WITHIN
        era = in_force(eras, run.finished)
        promised = era is not None and TEST_NEW in era.calendar.activities and instance in era.instances
        if promised and span.since <= due < span.until:
            found.append(_tested(str(run.data.get("set")), due, tests, span.now))
    return found


def _tested(name: str, due: datetime, tests: Sequence[Run], now: datetime) -> Slot:
    mine = [each for each in tests if set_of(each) == name]
    good = next((each for each in mine if each.result == SUCCEEDED), None)
    if good is not None:
        late = max(0.0, ((good.finished or good.started) - due).total_seconds())
        return Slot(due, LATE if late else DONE, None, good, late, 0.0, len(mine) - 1, name)
    if mine:
        return Slot(due, FAILED, None, mine[-1], 0.0, 0.0, len(mine) - 1, name)
    return Slot(due, NOT_DUE if now < due else NOT_RUN, subject=name)


def set_of(test: Run) -> str:
    """Return the set that a test restore brought back; empty where it did not get that far."""
    source = test.data.get("source")
    return str(source.get("set") or "") if isinstance(source, Mapping) else ""


def in_force(eras: Sequence[Era], moment: datetime) -> Optional[Era]:
    """Return the calendar in force at a moment; None before the first."""
    place = bisect_right([era.since for era in eras], moment)
    return eras[place - 1] if place else None
