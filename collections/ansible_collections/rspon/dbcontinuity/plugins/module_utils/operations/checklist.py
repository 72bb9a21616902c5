# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""B5: the check-list of what was done in a period, held against the calendar; also when half of the facts are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..calendar import SCHEDULE_FILE, Activity, Calendar, eras
from ..checklist_facts import checklist_facts
from ..checklist_report import checklist_text
from ..clock import iso, known_zone, stamp, utc_now
from ..durable import dump_json, make_directory, write_file
from ..errors import ContinuityError, InputError
from ..expected import CHECKLIST, Span
from ..instance import choice
from ..ledger import new_run_id
from ..report_layout import LANGUAGES
from ..repository import Repository
from .approval import approval_info

ACTIVITY = "checklist"
# Where no calendar says when a check-list is due: the SPO's week.
_WEEK_DAYS = 7
_LONGEST_DAYS = 400


@dataclass(frozen=True)
class ChecklistRequest:
    """What is asked for.

    :param schedule_file: the calendar that is installed on this host.
    :param language: of the text, ``id`` or ``en``.
    :param until: the period's end; the newest due time of a check-list where none is given.
    :param period_days: its length; back to the check-list's due time before where 0.
    :param zone: of the times printed where no calendar names one.
    :param now: the present; the clock's where none is given.
    """

    repository: Path
    schedule_file: Path = SCHEDULE_FILE
    language: str = LANGUAGES[0]
    until: Optional[datetime] = None
    period_days: int = 0
    zone: str = "UTC"
    check_only: bool = False
    actor: Optional[str] = None
    run: Optional[str] = None
    now: Optional[datetime] = None


def checklist(request: ChecklistRequest) -> dict[str, Any]:
    """Write the check-list of a period and return it, as text and as plain values.

    :raises InputError: for a language, zone or period that cannot be used; nothing was written then.
    """
    choice(request.language, LANGUAGES, "language")
    known_zone(request.zone)
    repository = Repository.open(request.repository)
    now = request.now or utc_now()
    calendar, problem = _calendar(repository, request.schedule_file, now)
    span = _period(request, calendar, now)
    run, actor = request.run or new_run_id(), describe_actor(request.actor)
    period = {"since": iso(span.since), "until": iso(span.until)}
    if not request.check_only:
        repository.ledger.append("started", ACTIVITY, run, actor=actor, data={"period": period})
    try:
        done = _written(request, repository, span, run, calendar.zone if calendar else request.zone, problem)
    except BaseException as error:
        if not request.check_only:
            reason = error.message if isinstance(error, ContinuityError) else f"interrupted: {type(error).__name__}"
            data = {"result": "failed", "reason": reason[:4000], "period": period}
            repository.ledger.append("finished", ACTIVITY, run, actor=actor, data=data)
        raise
    facts, answer = done
    if not request.check_only:
        evidence = {
            "result": "succeeded",
            "period": period,
            "language": request.language,
            "summary": facts["summary"],
            "not_known": facts["not_known"],
            "files": answer["sha256"],
        }
        answer["ledger_head"] = str(repository.ledger.append("finished", ACTIVITY, run, actor=actor, data=evidence))
    return {"changed": True, "run": run, "period": period, **answer}


def _written(
    request: ChecklistRequest, repository: Repository, span: Span, run: str, zone: str, problem: str
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Write both files, unless only looked at; return the facts, and what the module answers."""
    facts = checklist_facts(repository, span, run, lambda: approval_info(repository.root, now=span.now)["records"])
    if problem:
        facts["not_known"].insert(0, {"what": "schedule", "why": problem})
    text = checklist_text(facts, zone=zone, language=request.language)
    reports = repository.root / "reports"
    # One of a month that ends when a week ends is no second try of the week's.
    length = f"-{request.period_days}d" if request.period_days else ""
    stem = f"checklist-{stamp(span.until)}{length}"
    contents = {f"{stem}.json": dump_json(facts), f"{stem}.txt": text.encode("utf-8", "backslashreplace")}
    if not request.check_only:
        make_directory(reports)
        for name, content in contents.items():
            write_file(reports / name, content)
    return facts, {
        "report": str(reports / f"{stem}.txt"),
        "report_json": str(reports / f"{stem}.json"),
        "report_text": text,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "summary": facts["summary"],
        "not_known": facts["not_known"],
    }


def _calendar(repository: Repository, path: Path, now: datetime) -> tuple[Optional[Calendar], str]:
    """Return the calendar installed, else the newest that the ledger has; and why the installed one cannot be read."""
    try:
        return Calendar.read(path), ""
    except ContinuityError as error:
        problem = str(error)
    try:
        recorded = eras(repository.ledger, now, now + timedelta(seconds=1))
    except ContinuityError:
        recorded = []
    return (recorded[-1].calendar if recorded and recorded[-1].calendar.activities else None), problem


def _period(request: ChecklistRequest, calendar: Optional[Calendar], now: datetime) -> Span:
    """Return the span asked for: by default from the check-list's due time before the newest, to the newest."""
    entry = calendar.activities.get(CHECKLIST) if calendar else None
    until = request.until or (_last(entry, now) if entry else None) or now
    if until > now:
        raise InputError(f"The period's end {iso(until)} has not come yet.", "Name a moment that is over.")
    if not 0 <= request.period_days <= _LONGEST_DAYS:
        raise InputError(f"The period has {request.period_days} days.", f"Give 1 to {_LONGEST_DAYS}.")
    since = until - timedelta(days=request.period_days or _WEEK_DAYS)
    if not request.period_days and entry:
        since = _last(entry, until - timedelta(microseconds=1)) or since
    return Span(since, until, now)


def _last(entry: Activity, moment: datetime) -> Optional[datetime]:
    """Return the newest due time; None where the entry's time never comes in its zone."""
    try:
        return entry.last(moment)
    except InputError:
        return None
