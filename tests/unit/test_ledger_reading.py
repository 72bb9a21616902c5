# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading parts of the ledger: from either end, over block borders, past damage, and records as runs."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as ledger_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger_lines
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger import Ledger
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger_lines import (
    begins,
    lines_of,
    lines_of_backwards,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger_reading import (
    heading,
    newest_first,
    read_since,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger_runs import runs_of

BEGIN = datetime(2026, 9, 30, 23, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "clock_synchronised", lambda: True)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def filled(folder: Path, count: int = 12) -> Ledger:
    """A ledger over two months, of three activities, whose texts try to look like records."""
    ledger = Ledger(folder)
    for number in range(count):
        ledger.append(
            "event",
            ("full_backup", "log_cycle", "calendar")[number % 3],
            f"run-{number}",
            actor={"given": 'Siti "}\\ ,"at":"1999-01-01T00:00:00Z', "user": "root"},
            data={"activity": "calendar", "text": '\n{"activity":"calendar",', "n": number},
            moment=BEGIN + timedelta(minutes=20 * number),
        )
    return ledger


@settings(max_examples=80, deadline=None)
@given(
    lines=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=12),
    torn=st.booleans(),
    block=st.integers(1, 60),
)
def test_lines_are_found_over_any_block_border(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, int]], torn: bool, block: int
) -> None:
    whole = [begins(name) + b"x" * length + b'{"activity":"a",\n' for name, length in lines]
    path = tmp_path_factory.mktemp("lines") / "2026-09.jsonl"
    data = b"".join(whole)
    path.write_bytes(data + (begins("a") + b"torn" if torn else b""))
    wanted = [line for (name, _length), line in zip(lines, whole) if name in "ab"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_lines, "BLOCK_BYTES", block)
        found = list(lines_of(path, path.stat().st_size, [begins("a"), begins("b")]))
        back = list(lines_of_backwards(path, path.stat().st_size, [begins("a"), begins("b")]))
        shorter = list(lines_of(path, len(data), [begins("b")]))
    assert found == wanted
    assert back == wanted[::-1]
    assert shorter == [line for (name, _length), line in zip(lines, whole) if name == "b"]


def test_a_line_says_what_it_is_about(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger", 1)
    (line,) = next(ledger.folder.glob("*.jsonl")).read_bytes().splitlines()
    assert heading(line) == ("full_backup", "2026-09-30T23:00:00")
    assert heading(b'{"activity":"x"}') is None


def test_the_newest_first_and_no_further_than_wanted(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    asked: list[datetime] = []

    def wanted(moment: datetime, _line: bytes) -> Any:
        asked.append(moment)
        return None if len(asked) > 3 else len(asked) != 2

    found = [each["data"]["n"] for each in newest_first(ledger, ("calendar", "full_backup"), wanted)]
    assert found == [11, 8]  # the second one was not wanted, the fourth ended it
    assert asked == sorted(asked, reverse=True)
    assert [each["data"]["n"] for each in newest_first(ledger, ("log_cycle",), lambda *_said: True)] == [10, 7, 4, 1]


def test_damaged_lines_are_named_and_passed_over(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    path = max(ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"n":4', b'"n":5')
    lines[3] = b"nothing of a record\n"
    path.write_bytes(b"".join(lines) + b'{"activity":"calendar"')
    found = read_since(ledger, BEGIN)
    assert [each["data"]["n"] for each in found.records] == [0, 1, 2, 3, 5, 7, 8, 9, 10, 11]
    assert [each.partition(": ")[0] for each in found.damaged] == [f"{path.name}:{number}" for number in (2, 4, 10)]
    # From October on: the slack of an hour reaches back over midnight, whole months before do not open.
    since = datetime(2026, 10, 1, 1, 5, tzinfo=timezone.utc)
    assert read_since(ledger, since).records[0]["data"]["n"] == 5
    assert [each["data"]["n"] for each in newest_first(ledger, ("log_cycle",), lambda *_said: True)] == [10, 7, 1]


def record(kind: str, minute: int, activity: str, run: str, data: dict[str, Any], instance: str = "") -> dict[str, Any]:
    at = (BEGIN + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")
    values = {"kind": kind, "at": at, "activity": activity, "run": run, "data": data, "instance": instance}
    return {**values, "clock_synchronised": True, "actor": {}}


def test_records_become_runs() -> None:
    both = {"instances": ["a", "b"]}
    records = [
        record("started", 0, "log_cycle", "r1", both),
        record("finished", 1, "log_cycle", "r1", {"instances": {"a": {"result": "idle"}}}),  # b is not told of
        record("started", 10, "log_cycle", "r2", both),
        record("finished", 11, "log_cycle", "r2", {"result": "failed", "reason": "interrupted: SystemExit"}),
        record("started", 20, "full_backup", "r3", {"plan": {}}, "a"),
        record("started", 21, "full_backup", "r3", {"plan": {}}, "a"),  # begun again under the same name
        record("finished", 25, "full_backup", "r3", {"result": "succeeded"}, "a"),
        record(
            "finished", 40, "restore_test", "r4", {"result": "failed", "duration_seconds": 300, "findings": [{}]}, "a"
        ),
        record("event", 41, "restore_test", "r4", {"result": "sealed"}, "a"),
    ]
    runs = runs_of(records)
    assert [each.result for each in runs["log_cycle", "a"]] == ["succeeded", "failed"]
    assert [each.result for each in runs["log_cycle", "b"]] == ["unfinished", "failed"]
    assert runs["log_cycle", "b"][1].reason == "interrupted: SystemExit"
    assert [each.result for each in runs["full_backup", "a"]] == ["unfinished", "succeeded"]
    (test,) = runs["restore_test", "a"]
    assert (test.started, test.finished) == (BEGIN + timedelta(minutes=35), BEGIN + timedelta(minutes=40))


def test_a_clock_that_was_not_synchronised_at_either_end() -> None:
    begun = record("started", 0, "full_backup", "r", {}, "a")
    ended = record("finished", 5, "full_backup", "r", {"result": "succeeded"}, "a")
    for first, last, expected in ((True, True, True), (False, True, False), (True, None, None), (None, False, False)):
        (run,) = runs_of([{**begun, "clock_synchronised": first}, {**ended, "clock_synchronised": last}])[
            "full_backup", "a"
        ]
        assert run.synchronised is expected
    # A clock set back in between makes no run end before it began.
    (run,) = runs_of([record("started", 9, "full_backup", "r", {}, "a"), ended])["full_backup", "a"]
    assert run.finished == run.started
