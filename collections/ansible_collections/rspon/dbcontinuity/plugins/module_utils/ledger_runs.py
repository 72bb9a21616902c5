# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's records as runs: what one run did for one instance, from its ``started`` to its ``finished``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Optional

from .clock import parse_moment

SUCCEEDED, FAILED, UNFINISHED, NOT_APPLICABLE = "succeeded", "failed", "unfinished", "not applicable"
# A run is one of these for all of its instances, or one for each.
_TOGETHER = ("log_cycle", "backup_verify")
_GOOD_CYCLES = ("good", "idle")
NO_LOG = "no log"  # as operations/log_cycle.py says it


@dataclass(frozen=True)
class Run:
    """What one run did for one instance; *instance* is empty for an activity that is about none.

    :ivar run: the name that all its records share.
    :ivar started: aware, in UTC.
    :ivar begun: when the run began with another instance before this one; None where this one was the first.
    :ivar finished: None where no ``finished`` was recorded.
    :ivar result: ``succeeded``, ``failed``, ``unfinished``, or ``not applicable`` (there is nothing to do for it).
    :ivar plan: what its ``started`` record says.
    :ivar data: what its ``finished`` record says of this instance.
    :ivar actor: who ran it.
    :ivar synchronised: whether the clock was, by both records; None where the host could not say.
    """

    activity: str
    run: str
    instance: str
    started: datetime
    finished: Optional[datetime] = None
    result: str = UNFINISHED
    plan: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    actor: Mapping[str, str] = field(default_factory=dict)
    synchronised: Optional[bool] = None
    begun: Optional[datetime] = None

    @property
    def reason(self) -> str:
        """Return why it failed, in one line; empty where it did not."""
        if self.result != FAILED:
            return ""
        found = self.data.get("findings")
        said = [f"{each.get('code')}: {each.get('message')}" for each in found or () if isinstance(each, Mapping)]
        text = str(self.data.get("reason") or self.data.get("message") or "; ".join(said[:3]))
        return " ".join(text.split())

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """Return its findings: ``code``, ``file``, ``message``, ``remedy``."""
        found = self.data.get("findings")
        return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


Runs = Mapping[tuple[str, str], Sequence[Run]]


def runs_of(records: Iterable[Mapping[str, Any]]) -> Runs:
    """Return the runs by activity and instance, each in the order in which they started.

    A ``finished`` whose ``started`` is not among the records is a run all the same: that line may be damaged.
    """
    gathered = _Gathered()
    for record in records:
        if record["kind"] == "started":
            gathered.start(record)
        elif record["kind"] == "finished":
            gathered.finish(record)
    return gathered.runs()


class _Gathered:
    """Runs while they are put together from records."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Run]] = {}
        # Where the unfinished ones stand, by activity and run: instance to place in its list.
        self._open: dict[tuple[str, str], dict[str, int]] = {}

    def runs(self) -> Runs:
        """Return all of them."""
        begun: dict[tuple[str, str], datetime] = {}
        for runs in self._found.values():
            for run in runs:
                key = (run.activity, run.run)
                if key not in begun or run.started < begun[key]:
                    begun[key] = run.started

        def whole(run: Run) -> Run:
            first = begun[run.activity, run.run]
            return run if first == run.started else replace(run, begun=first)

        return {key: sorted(map(whole, each), key=lambda run: run.started) for key, each in self._found.items()}

    def start(self, record: Mapping[str, Any]) -> None:
        """Note the beginning of a run."""
        activity, data = str(record["activity"]), record["data"]
        names = data.get("instances") if activity in _TOGETHER else None
        for name in names if isinstance(names, list) else [record["instance"]]:
            self._add(_run(record, str(name), plan=data))

    def finish(self, record: Mapping[str, Any]) -> None:
        """Note the end of a run, for each instance that its record tells of, or that it was begun for."""
        activity, data = str(record["activity"]), record["data"]
        begun = self._open.get((activity, str(record["run"])), {})
        told = data.get("instances") if activity in _TOGETHER else None
        if isinstance(told, Mapping):
            parts = {str(name): part for name, part in told.items() if isinstance(part, Mapping)}
            # One that was begun and is not told of had no end of its own.
        elif activity in _TOGETHER:
            parts = dict.fromkeys(begun, data)
        else:
            parts = {str(record["instance"]): data}
        for name, part in parts.items():
            if name not in begun:
                self._add(_run(record, name, before=_seconds(part.get("duration_seconds"))))
            self._close(record, name, part)

    def _add(self, run: Run) -> None:
        runs = self._found.setdefault((run.activity, run.instance), [])
        runs.append(run)
        self._open.setdefault((run.activity, run.run), {})[run.instance] = len(runs) - 1

    def _close(self, record: Mapping[str, Any], name: str, data: Mapping[str, Any]) -> None:
        activity = str(record["activity"])
        place = self._open[activity, str(record["run"])].pop(name)
        run = self._found[activity, name][place]
        ended = _moment(record["at"])
        if data.get("recorded_late"):  # the run died after its work was done; another one wrote this down
            ended = run.started + timedelta(seconds=_seconds(data.get("duration_seconds")))
        clocks = {run.synchronised, record.get("clock_synchronised")}
        self._found[activity, name][place] = replace(
            run,
            finished=max(ended, run.started),
            result=_result(activity, data),
            data=data,
            synchronised=False if False in clocks else None if None in clocks else True,
        )


def _run(record: Mapping[str, Any], name: str, *, plan: Optional[Mapping[str, Any]] = None, before: float = 0.0) -> Run:
    """Return a run that has begun *before* seconds before the record."""
    return Run(
        str(record["activity"]),
        str(record["run"]),
        name,
        _moment(record["at"]) - timedelta(seconds=before),
        plan=plan or {},
        actor=record.get("actor") or {},
        synchronised=record.get("clock_synchronised"),
    )


@lru_cache(maxsize=16)
def _moment(text: str) -> datetime:
    """Return a moment; a record of fifty instances is one text."""
    return parse_moment(text)


def _result(activity: str, data: Mapping[str, Any]) -> str:
    said = data.get("result")
    if activity == "log_cycle":
        return SUCCEEDED if said in _GOOD_CYCLES else NOT_APPLICABLE if said == NO_LOG else FAILED
    if activity == "backup_verify" and said is None:
        return FAILED if data.get("findings") else SUCCEEDED
    return SUCCEEDED if said == SUCCEEDED else FAILED


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and value > 0 else 0.0
