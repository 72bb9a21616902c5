# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the check-list of a period tells (B5), as plain JSON values: ``docs/checklist.schema.json`` describes them.

A fact that cannot be had is left out and named under ``not_known``: the check-list is written all the same, for it is
read most when something is wrong.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Optional, TypeVar

from .calendar import Era, eras
from .calendar_entry import DAYS
from .clock import iso, parse_moment
from .durable import free_bytes
from .errors import ContinuityError
from .expected import (
    DONE,
    FULL_BACKUP,
    LOG_CYCLE,
    NOT_DUE,
    RESTORE_TEST,
    STATES,
    TEST_WITHIN,
    Row,
    Slot,
    Span,
    in_span,
    rows_of,
    set_of,
)
from .ledger_reading import Reading, newest_first, read_since
from .ledger_runs import FAILED, SUCCEEDED, Run, Runs, runs_of
from .repository import Repository

CHECKLIST_VERSION = 1
_MOST_SLOTS = 100
_MOST_LINES = 50
# How long a test restore's attestation is asked for.
_ATTESTATION = timedelta(days=90)
_Value = TypeVar("_Value")


@dataclass
class _Facts:
    """What is known, and what is not."""

    not_known: list[dict[str, str]] = field(default_factory=list)

    def of(self, what: str, read: Callable[[], _Value], otherwise: _Value) -> _Value:
        """Return what *read* gives; where it cannot, note why and return *otherwise*."""
        try:
            return read()
        except ContinuityError as error:
            self.not_known.append({"what": what, "why": str(error)})
        except OSError as error:
            self.not_known.append({"what": what, "why": f"{error.strerror}: {error.filename}"})
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # values that nobody wrote so
            self.not_known.append({"what": what, "why": f"{type(error).__name__}: {error}"})
        return otherwise

    def listed(self, what: str, read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return the list that *read* gives; an empty one where it cannot."""
        nothing: list[dict[str, Any]] = []
        return self.of(what, read, nothing)


def checklist_facts(
    repository: Repository, span: Span, run: str, instructions: Callable[[], Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return the facts of a period.

    :param run: under which the check-list is written.
    :param instructions: gives the recorded instructions, each with ``red`` where somebody has to see to it.
    """
    facts = _Facts()
    ledger = repository.ledger
    reading = facts.of("ledger", lambda: read_since(ledger, span.since - TEST_WITHIN), Reading())
    no_runs: Runs = {}
    no_eras: list[Era] = []
    no_rows: list[Row] = []
    runs = facts.of("runs", lambda: runs_of(reading.records), no_runs)
    calendars = facts.of("calendar", lambda: eras(ledger, span.since - TEST_WITHIN, span.until), no_eras)
    rows = facts.of("rows", lambda: rows_of(calendars, runs, span), no_rows)
    free = facts.of("free space", lambda: free_bytes(repository.root), -1)
    return {
        "checklist_version": CHECKLIST_VERSION,
        "run": run,
        "written_at": iso(span.now),
        "host": socket.gethostname(),
        "repository": str(repository.root),
        "period": {"since": iso(span.since), "until": iso(span.until)},
        "calendars": [_calendar(era, begin) for era, begin, _end in in_span(calendars, span)],
        "summary": {state: sum(1 for row in rows if row.state == state) for state in STATES},
        "indicators": {"full_backup": _indicator(rows, FULL_BACKUP), "restore_test": _indicator(rows, RESTORE_TEST)},
        "rows": facts.listed("rows", lambda: [_row(row, runs, span) for row in rows]),
        "sets": facts.listed("sets", lambda: _sets(repository, runs, span)),
        "tests": facts.listed("tests", lambda: _tests(runs, reading, span)),
        "unattested": facts.listed("attestations", lambda: unattested(repository, span.now)),
        "restores": facts.listed("restores", lambda: _restores(runs, span)),
        "instructions": facts.listed("instructions", lambda: _instructions(instructions())),
        "channels": facts.listed("channels", lambda: dead_channels(reading.records, span.since)),
        "clock_not_synchronised": _unsure(reading, span),
        "damaged_lines": reading.damaged[:_MOST_LINES],
        "ledger_warning": facts.of("ledger warning", ledger.warning, ""),
        "ledger_head": facts.of("ledger head", lambda: str(ledger.head()), ""),
        "free_bytes": free if free != -1 else None,
        "not_known": facts.not_known,
    }


def _unsure(reading: Reading, span: Span) -> int:
    """Return how many records were written while the clock was known not to be synchronised."""
    since = iso(span.since)
    return len([each for each in reading.records if each.get("clock_synchronised") is False and each["at"] >= since])


def _calendar(era: Era, since: datetime) -> dict[str, Any]:
    return {
        "since": iso(since),
        "zone": era.calendar.zone,
        "scheduler": era.calendar.scheduler,
        "instances": list(era.instances),
        "problem": era.problem,
        "activities": {
            name: {
                "days": [DAYS[day] for day in each.days],
                "start": each.start,
                "end": each.end,
                "every_minutes": each.every_minutes,
                "within_minutes": each.within_minutes,
            }
            for name, each in era.calendar.activities.items()
        },
    }


def _indicator(rows: Iterable[Row], activity: str) -> dict[str, int]:
    """Return the quality indicator that hospitals report: how many of those that were due were done."""
    mine = [row for row in rows if row.activity == activity]
    return {"done": sum(row.done for row in mine), "expected": sum(row.expected for row in mine)}


def _row(row: Row, runs: Runs, span: Span) -> dict[str, Any]:
    many = row.activity == LOG_CYCLE
    shown = [slot for slot in row.slots if not many or slot.state not in (DONE, NOT_DUE)]
    values: dict[str, Any] = {
        "activity": row.activity,
        "instance": row.instance,
        "state": row.state,
        "expected": row.expected,
        "done": row.done,
        "states": {state: row.count(state) for state in STATES if row.count(state)},
        "slots": [slot_values(slot) for slot in shown[:_MOST_SLOTS]],
        "slots_left_out": len(row.slots) - min(len(shown), _MOST_SLOTS),
    }
    if many:
        values["cycles"] = cycles(row, runs.get((LOG_CYCLE, row.instance), ()), span)
    return values


def slot_values(slot: Slot) -> dict[str, Any]:
    """Return one due time in plain form."""
    run = slot.run
    values: dict[str, Any] = {"due": iso(slot.due), "state": slot.state}
    if slot.window:
        values["window"] = {"opens": iso(slot.window[0]), "closes": iso(slot.window[1])}
    if slot.subject:
        values["set"] = slot.subject
    if run is not None:
        values.update(
            {
                "run": run.run,
                "started_at": iso(run.started),
                "finished_at": iso(run.finished) if run.finished else None,
                "late_seconds": round(slot.late_seconds, 3),
                "overran_seconds": round(slot.overran_seconds, 3),
                "failures": slot.failures,
                "reason": run.reason[:1000],
                "result": run.result,
                "clock_synchronised": run.synchronised,
            }
        )
    return values


def cycles(row: Row, runs: Sequence[Run], span: Span) -> dict[str, Any]:
    """Return what the log cycles of an instance came to: the longest time without one, the worst lag, the findings."""
    inside = [run for run in runs if span.since <= run.started < span.until]
    good = [run for run in inside if run.result == SUCCEEDED and run.finished]
    gap = None
    if row.expected:
        begin = row.slots[0].due
        end = min(span.until, span.now)
        marks = [begin, *sorted(run.finished for run in good if run.finished and run.finished > begin), end]
        gap = max((after - before).total_seconds() for before, after in zip(marks, marks[1:]))
    lags = [float(run.data["lag_seconds"]) for run in inside if isinstance(run.data.get("lag_seconds"), (int, float))]
    findings: dict[tuple[str, str], dict[str, Any]] = {}
    reasons: dict[str, int] = {}
    for run in inside:
        for each in run.findings:
            key = (str(each.get("code")), str(each.get("file")))
            known = findings.setdefault(
                key, {**{name: str(each.get(name) or "") for name in ("code", "file", "message", "remedy")}, "times": 0}
            )
            known["times"] += 1
        if run.result == FAILED and not run.findings and run.reason:
            reasons[run.reason[:500]] = reasons.get(run.reason[:500], 0) + 1
    newest = good[-1] if good else None
    return {
        "longest_gap_seconds": round(gap, 3) if gap is not None else None,
        "worst_lag_seconds": max(lags) if lags else None,
        "recoverable_to": newest.data.get("recoverable_to") if newest else None,
        "logs": sum(len(logs) for run in inside if isinstance(logs := run.data.get("archived"), list)),
        "findings": list(findings.values())[:_MOST_LINES],
        "failures": [{"reason": reason, "times": times} for reason, times in reasons.items()][:_MOST_LINES],
    }


def _sets(repository: Repository, runs: Runs, span: Span) -> list[dict[str, Any]]:
    """Return each full backup made in the span, with what the SPO's check-list asks of it."""
    found = []
    for (activity, instance), mine in runs.items():
        if activity != FULL_BACKUP:
            continue
        good, _damaged = repository.instance(instance).readable_sets()
        sizes = {each.id: each.manifest.size for each in good}
        tests = runs.get((RESTORE_TEST, instance), ())
        for run in mine:
            if run.result != SUCCEEDED or not span.since <= run.started < span.until:
                continue
            name, size = str(run.data.get("set")), run.data.get("size_bytes")
            before = max((each for each in sizes if each < name), default="")
            tested = next((each for each in tests if set_of(each) == name and each.result == SUCCEEDED), None)
            found.append(
                {
                    "instance": instance,
                    "set": name,
                    "run": run.run,
                    "started_at": iso(run.started),
                    "finished_at": iso(run.finished or run.started),
                    "duration_seconds": run.data.get("duration_seconds"),
                    "size_bytes": size,
                    "size_before_bytes": sizes.get(before),
                    "manifest_sha256": run.data.get("manifest_sha256"),
                    "lineage": run.data.get("lineage"),
                    "present": name in sizes,
                    "tested_by": tested.run if tested else None,
                }
            )
    return sorted(found, key=lambda each: (each["instance"], each["started_at"]))


def _tests(runs: Runs, reading: Reading, span: Span) -> list[dict[str, Any]]:
    vouched = attested(reading.records)
    found = []
    for (activity, instance), mine in runs.items():
        for run in mine if activity == RESTORE_TEST else ():
            if span.since <= run.started < span.until:
                found.append(
                    {
                        "instance": instance,
                        "run": run.run,
                        "result": run.result,
                        "set": set_of(run),
                        "started_at": iso(run.started),
                        "finished_at": iso(run.finished) if run.finished else None,
                        "rto": run.data.get("rto"),
                        "rpo": run.data.get("rpo"),
                        "reason": run.reason[:1000],
                        "findings": [dict(each) for each in run.findings[:_MOST_LINES]],
                        "attested": (run.run, instance) in vouched or (run.run, "") in vouched,
                    }
                )
    return sorted(found, key=lambda each: (each["instance"], each["started_at"]))


def attested(records: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Return which test restores people have vouched for: run and instance; no instance means all of the run's."""
    return {
        (str(record["data"].get("of_run")), str(record["instance"]))
        for record in records
        if record["activity"] == "attestation" and record["kind"] == "event"
    }


def unattested(repository: Repository, now: datetime) -> list[dict[str, Any]]:
    """Return the test restores that succeeded and wait for a staff member's attestation (T1: *petugas IT*), the oldest first."""
    oldest = now - _ATTESTATION

    def wanted(moment: datetime, _line: bytes) -> Optional[bool]:
        return None if moment < oldest else True

    records = list(newest_first(repository.ledger, (RESTORE_TEST, "attestation"), wanted))
    vouched = attested(records)
    waiting = [
        {"instance": str(each["instance"]), "run": str(each["run"]), "finished_at": str(each["at"])}
        for each in reversed(records)
        if each["activity"] == RESTORE_TEST and each["kind"] == "finished" and each["data"].get("result") == SUCCEEDED
    ]
    return [
        each for each in waiting if (each["run"], each["instance"]) not in vouched and (each["run"], "") not in vouched
    ]


def _restores(runs: Runs, span: Span) -> list[dict[str, Any]]:
    return [
        {
            "instance": instance,
            "run": run.run,
            "result": str(run.data.get("result") or run.result),
            "started_at": iso(run.started),
            "finished_at": iso(run.finished) if run.finished else None,
        }
        for (activity, instance), mine in runs.items()
        for run in mine
        if activity == "restore" and span.since <= run.started < span.until
    ]


def _instructions(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the recorded instructions that somebody has to see to, such as one that is still unsigned."""
    return [
        {key: str(each.get(key) or "") for key in ("id", "instance", "state", "reason")}
        for each in records
        if each["red"]
    ]


def dead_channels(records: Iterable[Mapping[str, Any]], since: datetime) -> list[dict[str, Any]]:
    """Return the channels of notices that did not work since then; *dead* says whether they still do not."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["activity"] != "notify" or record["kind"] != "event" or parse_moment(record["at"]) < since:
            continue
        data, name = record["data"], str(record["data"].get("channel") or "")
        if data.get("state") == "dead":
            found[name] = {
                "channel": name,
                "kind": str(data.get("kind") or ""),
                "dead": True,
                "since": str(data.get("since") or record["at"]),
                "last_at": str(record["at"]),
                "problem": str(data.get("problem") or "")[:500],
            }
        elif name in found:
            found[name].update({"dead": False, "last_at": str(record["at"])})
    return list(found.values())
