# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Could the hospital recover now, to which moment, how fast, and what stands against it? Plain JSON values.

``docs/status.schema.json`` describes them. It reads manifests, chain heads and the ledger's end: seconds, also with
fifty instances and a year of log cycles.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..calendar import SCHEDULE_FILE, Calendar
from ..checklist_facts import attested, dead_channels
from ..clock import iso, utc_now
from ..durable import write_json
from ..errors import ContinuityError, InputError, PrerequisiteError
from ..expected import FULL_BACKUP, LOG_CYCLE, RESTORE_TEST, Slot, set_of
from ..ledger_runs import FAILED, SUCCEEDED, Run
from ..repository import Repository
from ..restore_plan import Rates
from ..status_facts import MONTH, Past, due_slots, newest_due, read_past, shrinking
from ..status_rules import (
    AMBER,
    RED,
    Reason,
    cycle_reasons,
    due_reasons,
    held_reasons,
    people_reasons,
    room_reasons,
    worst,
)
from .approval import approval_info
from .backup_info import backup_info

STATUS_VERSION = 1
# What starting a server and checking it takes, whatever its size.
_FIXED_SECONDS = 20.0
_NOTHING: Mapping[str, Any] = {
    "sets": [],
    "lineages": [],
    "recoverable": [],
    "damaged_sets": [],
    "damaged_lineages": [],
}


def status(
    repository_path: Path,
    names: Sequence[str] = (),
    schedule_file: Path = SCHEDULE_FILE,
    now: Optional[datetime] = None,
    info: Optional[Mapping[str, Any]] = None,
) -> dict[str, Any]:
    """Return how things stand.

    :param names: instances; without any, those of the newest calendar, or where there is none all of the repository.
    :param schedule_file: the calendar that is installed on this host; without one nothing is due, and the status says so.
    :param now: the present; the clock's where none is given.
    :param info: what ``backup_info`` gave of the same instances, where it was asked already.
    """
    now = now or utc_now()
    repository = Repository.open(repository_path)
    calendar, reasons = _calendar(schedule_file)
    info = info or backup_info(repository_path, names)
    # An instance without a set was never tested: nobody need look for that through the whole ledger.
    past = read_past(repository.ledger, calendar, [name for name, one in info["instances"].items() if one["sets"]], now)
    held: dict[str, Mapping[str, Any]] = dict(info["instances"])
    if not names and past.eras:
        held = {name: held.get(name, _NOTHING) for name in past.eras[-1].instances}
    slots = due_slots(past, calendar, now) if calendar else {}
    rates = _rates(past)
    instances = {name: _instance(name, one, past, slots, rates, now) for name, one in held.items()}
    for (activity, instance), mine in slots.items():
        if not instance:
            reasons += [each for slot in mine for each in due_reasons("", activity, slot, None)]
    free, per_day = info["free_bytes"], shrinking(past, info["free_bytes"], now)
    days_left = free / per_day if per_day and per_day > 0 else None
    largest = max((one["sets"][0]["size_bytes"] for one in held.values() if one["sets"]), default=0)
    reasons += room_reasons(free, days_left, largest)
    reasons += _people(repository, past, now)
    reasons += _ledger(repository, past)
    return {
        "status_version": STATUS_VERSION,
        "at": iso(now),
        "host": socket.gethostname(),
        "repository": str(repository_path),
        "colour": worst([*(each.colour for each in reasons), *(one["colour"] for one in instances.values())]),
        "reasons": [each.to_json() for each in _sorted(reasons)],
        "calendar": _described(calendar, past, slots, now),
        "free_bytes": free,
        "bytes_per_day": round(per_day) if per_day is not None else None,
        "days_left": round(days_left, 1) if days_left is not None else None,
        "ledger_head": info["ledger_head"],
        "instances": instances,
    }


def leave_status(repository_path: Path, path: Path, schedule_file: Path = SCHEDULE_FILE) -> str:
    """Write the status where monitoring finds it, and return its colour. The file is there whole or not at all.

    Where it cannot be told, the file of before is removed: green that is no longer known to be so is worse than nothing.
    """
    try:
        values = status(repository_path, (), schedule_file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    write_json(path, values, 0o644)
    return str(values["colour"])


def _calendar(path: Path) -> tuple[Optional[Calendar], list[Reason]]:
    try:
        return Calendar.read(path), []
    except PrerequisiteError:
        return None, []
    except InputError as error:
        return None, [Reason("calendar-unreadable", AMBER, error.message, error.remedy)]


def _described(
    calendar: Optional[Calendar], past: Past, slots: Mapping[tuple[str, str], Sequence[Slot]], now: datetime
) -> dict[str, Any]:
    """Return the calendar with each activity's newest and next due time; *state* of one that is about no instance."""
    if calendar is None:
        return {"installed": False, "zone": None, "scheduler": None, "recorded": False, "activities": {}}
    due = newest_due(calendar, now)
    return {
        "installed": True,
        "zone": calendar.zone,
        "scheduler": calendar.scheduler,
        # Before it is recorded nothing counts as promised.
        "recorded": bool(past.eras),
        "activities": {
            name: {
                "last_due": iso(due[name]),
                "next_due": iso(activity.next(now)),
                "state": next((slot.state for slot in slots.get((name, ""), ())), None),
            }
            for name, activity in calendar.activities.items()
            if name in due
        },
    }


def _instance(
    name: str,
    held: Mapping[str, Any],
    past: Past,
    slots: Mapping[tuple[str, str], Sequence[Slot]],
    rates: Rates,
    now: datetime,
) -> dict[str, Any]:
    newest = held["recoverable"][0] if held["recoverable"] else None
    oldest = held["recoverable"][-1] if held["recoverable"] else None
    lineage = held["lineages"][0] if held["lineages"] else None
    tested = past.newest(RESTORE_TEST, name, succeeded=True)
    age = (now - tested.started).total_seconds() / 86400 if tested else None
    reasons = held_reasons(name, held)
    for (activity, instance), mine in slots.items():
        if instance == name and activity == LOG_CYCLE:
            reasons += cycle_reasons(name, mine)
        elif instance == name:
            reasons += [each for slot in mine for each in due_reasons(name, activity, slot, age)]
    lag = lineage["state"].get("lag_seconds") if lineage else None
    return {
        "colour": worst(each.colour for each in reasons),
        "reasons": [each.to_json() for each in _sorted(reasons)],
        "recoverable_from": oldest["from"] if oldest else None,
        "recoverable_to": newest["to"] if newest else None,
        "lag_seconds": lag if isinstance(lag, (int, float)) else None,
        "back_in": _back_in(tested, held["sets"], rates),
        "source": _source(held["sets"], lineage) if newest else None,
        "last": {
            FULL_BACKUP: _last(past.newest(FULL_BACKUP, name)) or _known_by_set(held["sets"]),
            LOG_CYCLE: _last(past.newest(LOG_CYCLE, name)) or _known_by_chain(lineage),
            RESTORE_TEST: _last(past.newest(RESTORE_TEST, name)),
        },
        "due": {
            activity: {"due": iso(mine[-1].due), "state": mine[-1].state}
            for (activity, instance), mine in slots.items()
            if instance == name and mine
        },
    }


def _source(sets: Sequence[Mapping[str, Any]], lineage: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Return from what the newest moment would be brought back."""
    newest = sets[0]
    follows = lineage is not None and lineage["lineage"] == newest["lineage"]
    return {
        "medium": "repository",
        "set": newest["set"],
        "size_bytes": newest["size_bytes"],
        "finished_at": newest["finished_at"],
        "lineage": newest["lineage"],
        "logs": lineage["logs"] if lineage is not None and follows else 0,
    }


def _last(run: Optional[Run]) -> Optional[dict[str, Any]]:
    """Return the newest run that has ended, as far back as the ledger was read."""
    if run is None:
        return None
    ended = iso(run.finished) if run.finished else None
    return {"run": run.run, "started_at": iso(run.started), "finished_at": ended, "result": run.result}


def _known_by_set(sets: Sequence[Mapping[str, Any]]) -> Optional[dict[str, Any]]:
    """Return the full backup that the newest set is of."""
    if not sets:
        return None
    times = {key: sets[0][key] for key in ("started_at", "finished_at")}
    return {"run": None, **times, "result": SUCCEEDED}


def _known_by_chain(lineage: Optional[Mapping[str, Any]]) -> Optional[dict[str, Any]]:
    """Return the log cycle that the chain's state is of."""
    at = lineage["state"].get("checked_at") if lineage else None
    if lineage is None or not at:
        return None
    return {"run": None, "started_at": at, "finished_at": at, "result": SUCCEEDED if lineage["whole"] else FAILED}


def _rates(past: Past) -> Rates:
    """Return how fast full backups are unpacked here, by the newest test of any instance."""
    tests = [
        run for (activity, _name), runs in past.runs.items() if activity == RESTORE_TEST for run in runs if set_of(run)
    ]
    newest = max((run for run in tests if run.result == SUCCEEDED), key=lambda run: run.started, default=None)
    return Rates.from_evidence({**newest.data, "run": newest.run} if newest else {}, {})


def _back_in(tested: Optional[Run], sets: Sequence[Mapping[str, Any]], rates: Rates) -> Optional[dict[str, Any]]:
    """Return how long it takes to have the instance back: as the newest test measured, else by the rates of others."""
    rto = tested.data.get("rto") if tested else None
    seconds = rto.get("actual_seconds") if isinstance(rto, Mapping) else None
    if tested is not None and isinstance(seconds, (int, float)):
        return {"seconds": round(float(seconds), 1), "measured": True, "run": tested.run, "at": iso(tested.started)}
    if not sets:
        return None
    estimate = _FIXED_SECONDS + float(sets[0]["size_bytes"]) / rates.unpack
    return {"seconds": round(estimate, 1), "measured": False, "run": rates.based_on or None, "at": None}


def _people(repository: Repository, past: Past, now: datetime) -> list[Reason]:
    try:
        records = approval_info(repository.root, now=now)["records"]
        unreadable = []
    except ContinuityError as error:
        records, unreadable = [], [Reason("instructions-unreadable", AMBER, error.message, error.remedy)]
    done = attested(past.records)
    waiting = [
        (now - run.finished).total_seconds() / 86400
        for (activity, name), runs in past.runs.items()
        if activity == RESTORE_TEST
        for run in runs
        if run.result == SUCCEEDED and run.finished and now - run.finished < MONTH
        if not {(run.run, name), (run.run, "")} & done
    ]
    dead = [each for each in dead_channels(past.records, now - MONTH) if each["dead"]]
    return [*unreadable, *people_reasons([each for each in records if each["red"]], waiting, dead)]


def _ledger(repository: Repository, past: Past) -> list[Reason]:
    found = []
    warning = repository.ledger.warning()
    if warning:
        found.append(Reason("damaged-ledger", AMBER, warning, "Run the playbook verify_backups."))
    if past.records and past.records[-1].get("clock_synchronised") is False:
        text = f"the backup host's clock was not synchronised at {past.records[-1]['at']}."
        remedy = "See why (timedatectl): due times, windows and recoverable moments are told by it."
        found.append(Reason("clock-not-synchronised", AMBER, text, remedy))
    return found


def _sorted(reasons: Sequence[Reason]) -> list[Reason]:
    """Return the red ones first."""
    return sorted(reasons, key=lambda each: each.colour != RED)
