# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that holds expected against actual times finds each thing that can be wrong with them."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests import times_on_host

BEGIN = 1_795_000_200.0  # on a full five minutes
SCHEDULE = {"full_backup": {"every_minutes": 5, "within_minutes": 5}, "log_cycle": {"every_minutes": 1}}


def iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"


class Told:
    """What the journal, the ledger and the check-list of a span of five minutes say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.slots: dict[str, dict[float, str]] = {"full_backup": {}, "log_cycle": {}}
        self.what: dict[str, Any] = {"begin": BEGIN, "end": BEGIN + 300}

    def run(self, activity: str, begun: float, ended: float | None, state: str = "done", due: float = -1) -> None:
        """Let a run be there as the product leaves it; the check-list calls its due time so."""
        name, start = f"run-{len(self.journal):03d}", BEGIN + begun
        actor = {"timer": f"dbcontinuity-{activity.replace('_', '-')}.timer"}
        self._say(start, f"[{name}] {activity} begins, due at x")
        good = {"result": "good"} if activity == "log_cycle" else {"result": "succeeded", "set": name}
        data: dict[str, Any] = {"instances": ["simrs"]} if activity == "log_cycle" else {}
        common = {"run": name, "activity": activity, "actor": actor, "instance": "" if data else "simrs"}
        self.records.append({**common, "kind": "started", "at": iso(start + 4), "data": data})
        if ended is not None:
            self._say(BEGIN + ended, f"[{name}] {activity} ended with status 0")
            data = {"instances": {"simrs": good}} if activity == "log_cycle" else good
            self.records.append({**common, "kind": "finished", "at": iso(BEGIN + ended - 1), "data": data})
        self.slots[activity][BEGIN + (due if due >= 0 else begun // 60 * 60)] = state

    def refused(self, at: float) -> None:
        self._say(BEGIN + at, "[run-x] log_cycle is under way already: ...")

    def _say(self, at: float, line: str) -> None:
        self.journal.append(json.dumps({"__REALTIME_TIMESTAMP": str(int(at * 1e6)), "MESSAGE": line}))

    def judged(self) -> list[str]:
        """Return what is wrong."""
        (self.folder / "journal").write_text("\n".join(self.journal) + "\n")
        program = self.folder / "bin/journalctl"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nexec cat {self.folder}/journal\n")
        program.chmod(0o755)
        (self.folder / "ledger").mkdir()
        (self.folder / "ledger/1.jsonl").write_text("".join(json.dumps(each) + "\n" for each in self.records))
        rows = [
            {
                "activity": activity,
                "instance": "simrs",
                "slots": [{"due": iso(due), "state": state} for due, state in slots.items()],
            }
            for activity, slots in self.slots.items()
        ]
        (self.folder / "checklist.json").write_text(json.dumps({"rows": rows}))
        what = {"repository": str(self.folder), "checklist": str(self.folder / "checklist.json")}
        found = times_on_host.Compared({**what, "schedule": SCHEDULE, "instances": ["simrs"], **self.what})
        found.lines()
        return [each.partition(" ")[2] for each in found.problems]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Told(tmp_path)


def cycles(told: Told, *minutes: int) -> None:
    for minute in minutes:
        told.run("log_cycle", minute * 60 + 1, minute * 60 + 9)


def test_what_ran_as_it_should_is_no_problem(told: Told) -> None:
    cycles(told, 0, 1, 2, 3, 4)
    told.run("full_backup", 1, 130)
    told.what["beside"] = True
    assert [each for each in told.judged() if "restore_test" not in each] == []


@pytest.mark.parametrize(
    ("minutes", "more", "problem"),
    [
        ((0, 1, 3, 4), [], "log_cycle: not run"),
        ((0, 1, 2, 3, 4), [(150, 155)], "log_cycle: run 2 times"),
        ((0, 1, 3, 4), [(149, 155)], "log_cycle: the timer came late"),
        # Its record comes 19 seconds after the due time: the check-list has to call it late.
        ((0, 1, 3, 4), [(135, 144)], "the check-list calls it ['done']"),
        ((0, 1, 3, 4), [(121, None)], "log_cycle: failed"),
        ((0, 2, 3, 4), [(61, 125)], "it overlaps the run"),
    ],
)
def test_each_thing_that_can_be_wrong_is_found(
    told: Told, minutes: tuple[int, ...], more: list[tuple[float, float | None]], problem: str
) -> None:
    told.run("full_backup", 1, 30)
    cycles(told, *minutes)
    for begun, ended in more:
        told.run("log_cycle", begun, ended)
    told.slots["log_cycle"].setdefault(BEGIN + 120, "not run")
    assert any(problem in each for each in told.judged())


def test_a_run_that_was_refused_is_found(told: Told) -> None:
    told.run("full_backup", 1, 30)
    cycles(told, 0, 1, 2, 3, 4)
    told.refused(61)
    assert told.judged() == ["log_cycle: was to overlap itself, and was refused"]


def test_what_the_check_list_does_not_say_is_found(told: Told) -> None:
    cycles(told, 0, 1, 2, 3, 4)
    told.run("full_backup", 1, 30, "late")
    assert told.judged() == ["full_backup: the check-list calls it ['late']"]


def test_a_host_that_was_off_is_caught_up_or_that_is_a_problem(told: Told) -> None:
    cycles(told, 3, 4)
    told.run("full_backup", 95, 120, "late", due=0)
    told.run("log_cycle", 95, 108, "late", due=60)
    told.slots["log_cycle"].update({BEGIN: "not run", BEGIN + 120: "done"})
    told.run("log_cycle", 121, 130)
    told.what["off"] = [[BEGIN - 20, BEGIN + 85]]
    told.what["expected"] = [["full_backup", BEGIN, "late"], ["log_cycle", BEGIN, "not run"]]
    assert told.judged() == []


def test_what_is_not_caught_up_is_found(told: Told) -> None:
    cycles(told, 2, 3, 4)
    told.slots["full_backup"][BEGIN] = "not run"
    told.slots["log_cycle"].update({BEGIN: "not run", BEGIN + 60: "not run"})
    told.what["off"] = [[BEGIN - 20, BEGIN + 85]]
    told.what["expected"] = [["full_backup", BEGIN, "late"], ["full_backup", BEGIN + 60, "done"]]
    assert told.judged() == [
        "full_backup: not caught up",
        "full_backup: nothing is late",
        "full_backup: it was not due",
    ]
