# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times that a calendar of minutes expects, held against what really ran on a backup host; standard library only.

    times_on_host.py wait WHAT         waits until whatever began in the span has ended
    times_on_host.py compare WHAT      prints a line for each due time, then what is wrong

WHAT is JSON: ``repository``, ``checklist`` (the check-list of the span), ``schedule``, ``instances``, ``begin`` and ``end`` of the
span, ``off`` (pairs: the host was off from, until), ``disabled`` (by activity: its timer was off from, until; 0: not since),
``beside`` (whether cycles are to become due while full backups and test restores run), and ``expected`` (activity, due time, what has
to have become of it for one instance at least). Moments are seconds since 1970.

What the journal and the ledger say is judged here afresh, so that the core's own judgement is no witness for itself; what the
check-list calls each due time has to be the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

BEGINS = re.compile(r"\[(\S+)\] (\w+) begins")
ENDED = re.compile(r"\[(\S+)\] (\w+) ended with status (\d+)")
REFUSED = re.compile(r"\[(\S+)\] (\w+) is under way already")
# systemd's own word is a second; a host of two cores starts six runs at once.
TIMER_SECONDS = 10.0
# From switching on until what was missed begins: booting, the network.
BOOT_SECONDS = 60.0
LATE_SECONDS = 60.0
PATIENCE_SECONDS = 300.0
GOOD_CYCLES = ("good", "idle")
ALL_AT_ONCE = ("log_cycle", "backup_verify")
DONE, LATE, OUT, FAILED, NOT_RUN, NOT_DUE = "done", "late", "out of window", "failed", "not run", "not due"


@dataclass
class Part:
    """What the ledger has of one run for one instance; moments in seconds since 1970, 0 where it has none."""

    started: float = 0.0
    finished: float = 0.0
    result: str = ""


@dataclass
class Run:
    """One run: what the journal says of it, and what the ledger has of each instance."""

    activity: str
    run: str
    begun: float
    ended: float = 0.0
    status: int = -1
    timer: str = ""
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def started(self) -> float:
        """Return when its work began by the ledger; where that has nothing, when it was started."""
        return min((each.started for each in self.parts.values() if each.started), default=self.begun)


def moment(text: str) -> float:
    """Return a moment of the ledger."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def clock(seconds: float) -> str:
    """Return a moment for people; a dash where there is none."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%H:%M:%S}" if seconds else "-"


def unit_of(activity: str) -> str:
    """Return the name that an activity's timer and service share."""
    return f"dbcontinuity-{activity.replace('_', '-')}"


def journal(since: float, activities: Iterable[str]) -> Iterator[tuple[float, str]]:
    """Give what scheduled runs have said."""
    units = [f"--unit={unit_of(activity)}.service" for activity in activities]
    words = ["journalctl", "--quiet", "--output=json", f"--since=@{since:.0f}", *units, "_TRANSPORT=stdout"]
    said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    for line in said.splitlines():
        entry = json.loads(line)
        if isinstance(entry.get("MESSAGE"), str):
            yield int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry["MESSAGE"]


def result_of(activity: str, data: Mapping[str, Any]) -> str:
    """Return whether the end of a part says that it succeeded."""
    said = data.get("result")
    if activity == "log_cycle":
        return DONE if said in GOOD_CYCLES else NOT_DUE if said == "no log" else FAILED
    if activity == "backup_verify":
        return FAILED if data.get("findings") else DONE
    return DONE if said == "succeeded" else FAILED


class Compared:
    """Everything about one span."""

    def __init__(self, what: Mapping[str, Any]) -> None:
        self.what = what
        self.begin, self.end = float(what["begin"]), float(what["end"])
        self.off: list[tuple[float, float]] = [(float(a), float(b)) for a, b in what.get("off", [])]
        self.disabled = {name: (float(a), float(b)) for name, (a, b) in what.get("disabled", {}).items()}
        self.problems: list[str] = []

    def step(self, activity: str) -> float:
        """Return the interval of an activity in seconds; it divides an hour, so any full hour is one of its due times."""
        return float(self.what["schedule"][activity]["every_minutes"]) * 60

    def due_times(self, activity: str) -> list[float]:
        """Return the due times of the span."""
        step = self.step(activity)
        first = -int(-self.begin // step)
        return [number * step for number in range(first, int(self.end // step) + 1) if number * step < self.end]

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        """Return all records; a last line that is being written is none yet."""
        found = []
        for path in sorted((Path(self.what["repository"]) / "ledger").glob("*.jsonl")):
            found += [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        return found

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Return all runs of the timers by their ids: the journal's, with what the ledger has of them."""
        found: dict[str, Run] = {}
        for at, line in journal(self.begin - 1, self.what["schedule"]):
            if match := BEGINS.match(line):
                found[match[1]] = Run(match[2], match[1], at)
            elif (match := ENDED.match(line)) and match[1] in found:
                found[match[1]].ended, found[match[1]].status = at, int(match[3])
            elif match := REFUSED.match(line):
                self.problems.append(f"{clock(at)} {match[2]}: was to overlap itself, and was refused")
        for record in self.ledger:
            if record["run"] in found and record["kind"] in ("started", "finished"):
                self._note(found[record["run"]], record)
        return found

    @staticmethod
    def _note(run: Run, record: Mapping[str, Any]) -> None:
        """Add a record of the ledger to its run."""
        if record["activity"] not in (run.activity, "restore_test"):
            return
        run.timer = record["actor"].get("timer", "")
        data, at = record["data"], moment(record["at"])
        together = data.get("instances") if run.activity in ALL_AT_ONCE else None
        for name in together or [record["instance"]]:
            part = run.parts.setdefault(name, Part())
            if record["kind"] == "started":
                part.started = at
            else:
                values = together[name] if isinstance(together, dict) else data
                part.finished, part.result = at, result_of(run.activity, values)

    def runs_of(self, activity: str) -> list[Run]:
        """Return the runs of an activity, in their order."""
        return sorted((each for each in self.runs.values() if each.activity == activity), key=lambda each: each.begun)

    def runs_due(self, activity: str, due: float) -> list[Run]:
        """Return the runs whose newest due time this is, when their work begins."""
        end = due + self.step(activity)
        if activity == "test_new_backups":  # by the timer alone; see line()
            return [each for each in self.runs_of(activity) if due <= each.begun < end]
        return [each for each in self.runs_of(activity) if due <= each.started < end]

    def before(self, run: Run) -> float:
        """Return when the run before this one of the same activity was over; the timer waits for it."""
        return max((self.over(each) for each in self.runs_of(run.activity) if each.begun < run.begun), default=0.0)

    def over(self, run: Run) -> float:
        """Return when a run was over; one that was cut, when the host was up again."""
        cut = [on + BOOT_SECONDS - TIMER_SECONDS for off, on in self.off if self.cut(run) and run.begun < off]
        return run.ended or min(cut, default=0.0)

    def cut(self, run: Run) -> bool:
        """Return whether the host was switched off under a run."""
        return any(run.begun < off and not 0 < run.ended < off for off, _on in self.off if off < run.begun + 600)

    def away(self, activity: str) -> list[tuple[float, float]]:
        """Return the times in which nothing could start the activity."""
        own = self.disabled.get(activity)
        return [*self.off, (own[0], own[1] or self.end)] if own else self.off

    def disabled_at(self, activity: str, at: float) -> bool:
        """Return whether the activity's timer was off at a moment."""
        own = self.disabled.get(activity)
        return own is not None and own[0] <= at < (own[1] or self.end)

    def word(self, activity: str, due: float, runs: list[Run], instance: str) -> str:
        """Return what became of a due time for one instance, by the ledger alone."""
        there = [each for each in runs if instance in each.parts]
        if not there:
            return NOT_RUN
        run = next((each for each in there if each.parts[instance].result == DONE), there[-1])
        part = run.parts[instance]
        if part.result != DONE:
            return part.result or FAILED
        if run.started - due > min(LATE_SECONDS, self.step(activity) / 4):
            return LATE
        within = float(self.what["schedule"][activity].get("within_minutes", 0)) * 60
        return OUT if within and part.finished > due + within else DONE

    def line(self, activity: str, due: float) -> str:
        """Return the line of a due time, and note what is wrong with it."""
        runs = self.runs_due(activity, due)
        names = [""] if activity == "checklist" else self.what["instances"]
        if activity == "test_new_backups":
            # Where nothing is new it leaves no record; the check-list has other times for it.
            states = [DONE if runs and runs[0].status == 0 else FAILED if runs else NOT_RUN]
            called = states
        else:
            states = [self.word(activity, due, runs, name) for name in names]
            called = [self.called(activity, due, name) for name in names]
        wrong = list(self.wrong(activity, due, runs, states))
        sought = [
            state for name, when, state in self.what.get("expected", []) if name == activity and float(when) == due
        ]
        wrong += [f"nothing is {state}" for state in sought if state not in states]
        if called != states:
            wrong.append(f"the check-list calls it {called}")
        shown = states[0] if len(set(states)) == 1 else ", ".join(map(" ".join, zip(names, states)))
        first = runs[0] if runs else Run(activity, "", 0)
        after = f"{first.begun - due:5.1f} s" if runs else "      -"
        took = f"{first.ended - first.begun:5.1f} s" if first.ended else "      -"
        self.problems += [f"{clock(due)} {activity}: {each}" for each in wrong]
        return (
            f"{clock(due)}  {activity:<16}  {clock(first.begun):<8}  {after}  {took}  {shown}{'  <--' if wrong else ''}"
        )

    def wrong(self, activity: str, due: float, runs: list[Run], states: list[str]) -> Iterator[str]:
        """Give what is wrong with a due time."""
        away = [each for each in self.away(activity) if each[0] - 1 <= due <= each[1]]
        cut = any(self.cut(each) for each in runs)
        if len([each for each in runs if each.begun >= due]) > 1:
            yield f"run {len(runs)} times"
        if NOT_RUN in states and not away and not cut:
            yield "not run"
        if FAILED in states and not cut:
            yield "failed"
        for run in runs:
            if run.parts and run.timer != f"{unit_of(activity)}.timer":
                yield f"the ledger names {run.timer or 'no timer'}"
            if run.status and not cut:
                yield f"ended with status {run.status}"
            if away:
                if not any(on <= run.begun <= on + BOOT_SECONDS for _off, on in away):
                    yield "not caught up at once"
            elif run.begun > max(due, self.before(run)) + TIMER_SECONDS:
                yield "the timer came late"
        for _off, on in away:
            caught_up = any(on <= each.begun <= on + BOOT_SECONDS for each in self.runs_of(activity))
            if (
                not caught_up
                and not self.disabled_at(activity, on)
                and on < due + self.step(activity)
                and on < self.end - BOOT_SECONDS
            ):
                yield "not caught up"

    @cached_property
    def checklist(self) -> dict[tuple[str, str], dict[float, str]]:
        """Return what the check-list calls each due time."""
        rows = json.loads(Path(self.what["checklist"]).read_text(encoding="utf-8"))["rows"]
        return {
            (row["activity"], row["instance"]): {moment(slot["due"]): slot["state"] for slot in row["slots"]}
            for row in rows
        }

    def called(self, activity: str, due: float, instance: str) -> str:
        """Return what the check-list calls a due time; of cycles it names those only that were not as they should be."""
        slots = self.checklist.get((activity, instance))
        if slots is None:
            return "nothing"
        return slots.get(due, DONE if activity == "log_cycle" else "nothing")

    def overlaps(self) -> None:
        """Note runs of one activity that ran at the same time."""
        for activity in self.what["schedule"]:
            runs = self.runs_of(activity)
            for one, other in zip(runs, runs[1:]):
                if (one.ended or one.begun) > other.begun:
                    self.problems.append(f"{clock(other.begun)} {activity}: it overlaps the run {one.run}")

    def beside(self, activities: tuple[str, ...]) -> str:
        """Return how cycles went that became due while one of the activities ran."""
        starts = [each.begun for each in self.runs_of("log_cycle")]
        count, longest = 0, 0.0
        for run in (each for name in activities for each in self.runs_of(name) if each.ended and each.begun < self.end):
            inside = [due for due in self.due_times("log_cycle") if run.begun + 5 < due < run.ended]
            count += len(inside)
            near = [each for each in starts if run.begun - 90 < each < run.ended + 90]
            longest = max([longest, *(after - before for before, after in zip(near, near[1:]) if inside)])
        if not count and self.what.get("beside"):
            self.problems.append(f"no cycle was due while {' or '.join(activities)} ran")
        return f"beside {' and '.join(activities)}: {count} cycles due, longest interval {longest:.1f} s"

    def untested(self) -> None:
        """Note newest full backups that a test of new ones did not see to; one that ended meanwhile may stand for it."""
        made: list[tuple[float, str, str]] = []
        tested: dict[tuple[str, str], float] = {}
        for record in self.ledger:
            data = record["data"]
            if record["kind"] == "finished" and data.get("result") == "succeeded":
                if record["activity"] == "full_backup":
                    made.append((moment(record["at"]), record["instance"], data["set"]))
                elif record["activity"] == "restore_test":
                    tested.setdefault((record["instance"], data["source"]["set"]), moment(record["at"]))
        for run in self.runs_of("test_new_backups"):
            for name in self.what["instances"]:
                there = [each for at, instance, each in made if instance == name and at < run.begun]
                seen = [each for (instance, each), at in tested.items() if instance == name and at < run.ended]
                if run.status == 0 and there and not any(each >= there[-1] for each in seen):
                    self.problems.append(
                        f"{clock(run.begun)} test_new_backups: {there[-1]} of {name} was not brought back"
                    )

    def lines(self) -> list[str]:
        """Return the table of the span, by due time."""
        due = sorted(
            (when, number, name) for number, name in enumerate(self.what["schedule"]) for when in self.due_times(name)
        )
        head = f"{'due':<8}  {'activity':<16}  {'began':<8}  {'after':>7}  {'took':>7}  became"
        table = [head, *(self.line(name, when) for when, _number, name in due)]
        known = {(name, when) for when, _number, name in due}
        self.problems += [
            f"{clock(float(when))} {name}: it was not due"
            for name, when, _state in self.what.get("expected", [])
            if (name, float(when)) not in known
        ]
        self.overlaps()
        self.untested()
        return [*table, self.beside(("full_backup",)), self.beside(("restore_test", "test_new_backups"))]


def wait(what: Mapping[str, Any]) -> int:
    """Wait until no run that began in the span goes on; 1 where it takes too long."""
    limit = time.time() + PATIENCE_SECONDS
    while time.time() < limit:
        found = Compared(what)
        runs = found.runs.values()
        if not any(each.begun < found.end and not each.ended and not found.cut(each) for each in runs):
            return 0
        time.sleep(2)
    return 1


def main(mode: str, what: Mapping[str, Any]) -> int:
    """Do what is asked; the exit status is 1 where something is wrong."""
    if mode == "wait":
        return wait(what)
    found = Compared(what)
    print("\n".join(found.lines()))
    print("\n".join(f"WRONG: {each}" for each in found.problems))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
