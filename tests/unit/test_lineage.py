# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of logs: a crash between any two steps, and every way in which its files can be mangled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import DamagedError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import (
    Finding,
    Lineage,
    LogRecord,
    lineages,
    open_lineage,
)

MOMENT = datetime(2026, 9, 19, 5, 0, tzinfo=timezone.utc)
STEPS = ("open", "write", "fsync", "replace", "rename", "unlink")


class PowerCut(BaseException):
    """What no code may catch and go on after."""


def opened(tmp_path: Path) -> Lineage:
    return open_lineage(
        tmp_path / "logs", {"instance": "simrs", "start": {"file": "bin.1"}, "opened_by": "set"}, MOMENT
    )


def add(lineage: Lineage, name: str) -> LogRecord:
    path = lineage.path / f".unfinished-{name}"
    path.write_bytes(name.encode())
    return lineage.append({"name": name, "suffix": ".zst", "end": {"file": name}}, path)


def chain(tmp_path: Path, count: int = 3) -> Lineage:
    lineage = opened(tmp_path)
    for number in range(1, count + 1):
        add(lineage, f"bin.{number:06d}")
    return lineage


def names(lineage: Lineage) -> list[str]:
    return [record.name for record in lineage.records()]


def test_logs_are_listed_in_order_and_each_holds_the_hash_before(tmp_path: Path) -> None:
    lineage = chain(tmp_path)
    records = list(lineage.records())
    assert [each.sequence for each in records] == [1, 2, 3]
    assert [each.values["previous"] for each in records][1:] == [each.sha256 for each in records][:-1]
    head = lineage.head()
    assert head is not None
    assert (head.name, head.end) == ("bin.000003", {"file": "bin.000003"})
    assert [each.name for each in lineage.records(after=2)] == ["bin.000003"]
    assert list(lineage.records(after=3)) == []
    assert (lineage.path / head.artefact).read_bytes() == b"bin.000003"
    assert lineage.start == {"file": "bin.1"}
    again = lineages(tmp_path / "logs")
    assert [each.id for each in again] == [lineage.id]
    assert lineages(tmp_path / "none") == []


def test_a_crash_between_any_two_steps_lists_nothing_half_and_the_next_append_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    stop_at = -1
    originals: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in STEPS}

    def stepping(name: str) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at or (stop_at > 0 and calls > stop_at):
                raise PowerCut  # and nothing runs after it: no clean-up either
            return originals[name](*args, **kwargs)

        return step

    lineage = chain(tmp_path / "count")
    for name in STEPS:
        monkeypatch.setattr(os, name, stepping(name))
    add(lineage, "bin.000004")
    steps = calls
    monkeypatch.undo()
    assert steps > 8
    for stop in range(1, steps + 1):
        lineage = chain(tmp_path / str(stop))
        path = lineage.path / ".unfinished-bin.000004"
        path.write_bytes(b"new")
        calls, stop_at = 0, stop
        for name in STEPS:
            monkeypatch.setattr(os, name, stepping(name))
        with pytest.raises(PowerCut):
            lineage.append({"name": "bin.000004", "suffix": ".zst", "end": {}}, path)
        monkeypatch.undo()
        after = Lineage(lineage.path)
        assert names(after) in (
            [f"bin.{number:06d}" for number in (1, 2, 3)],
            [f"bin.{number:06d}" for number in (1, 2, 3, 4)],
        ), stop
        for record in after.records():
            assert (after.path / record.artefact).is_file()
        committed = len(names(after)) == 4
        swept = after.sweep()
        assert len(names(after)) == (4 if committed else 3)
        add(after, "bin.000005" if committed else "bin.000004")
        assert names(after)[:4] == [f"bin.{number:06d}" for number in (1, 2, 3, 4)]
        left = {entry for entry in os.listdir(after.path) if not entry.startswith("0")}
        assert left == {"lineage.json", "head.json"}, (stop, swept)


def test_what_a_crash_published_without_a_head_is_swept_and_named(tmp_path: Path) -> None:
    lineage = chain(tmp_path)
    (lineage.path / "00000004-bin.000004.zst").write_bytes(b"x")
    (lineage.path / "00000004-bin.000004.json").write_text("{}")
    (lineage.path / ".unfinished-77-head.json").write_text("")
    assert names(lineage) == ["bin.000001", "bin.000002", "bin.000003"]
    assert lineage.sweep() == [
        ".unfinished-77-head.json",
        "00000004-bin.000004.json",
        "00000004-bin.000004.zst",
    ]
    assert lineage.sweep() == []
    assert names(lineage) == ["bin.000001", "bin.000002", "bin.000003"]


def record_path(lineage: Lineage, number: int) -> Path:
    return lineage.path / f"{number:08d}-bin.{number:06d}.json"


def test_a_removed_record_is_damage_after_those_that_hold(tmp_path: Path) -> None:
    lineage = chain(tmp_path, 4)
    record_path(lineage, 3).unlink()
    seen: list[str] = []
    with pytest.raises(DamagedError, match="0 records of number 3"):
        seen.extend(record.name for record in lineage.records())
    assert seen == ["bin.000001", "bin.000002"]


def test_two_records_of_one_number_are_damage(tmp_path: Path) -> None:
    lineage = chain(tmp_path)
    (lineage.path / "00000002-other.json").write_text("{}")
    with pytest.raises(DamagedError, match="2 records of number 2"):
        list(lineage.records())


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("content", ["{}", "[]", "", "null", '{"sequence": "x"}', '{"previous": 5}'])
def test_a_mangled_record_is_never_given_out(tmp_path: Path, number: int, content: str) -> None:
    lineage = chain(tmp_path, 4)
    record_path(lineage, number).write_text(content)
    seen: list[int] = []
    with pytest.raises(DamagedError):
        seen.extend(record.sequence for record in lineage.records())
    assert number not in seen
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_altered_value_is_never_given_out(tmp_path: Path, number: int) -> None:
    lineage = chain(tmp_path, 4)
    path = record_path(lineage, number)
    path.write_text(path.read_text().replace(f'"file": "bin.{number:06d}"', '"file": "bin.999999"'))
    seen: list[int] = []
    with pytest.raises(DamagedError):
        seen.extend(record.sequence for record in lineage.records())
    assert number not in seen


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"record": "../../x.json", "record_sha256": ""}', '{"record": "00000009-none.json"}', "5"],
)
def test_a_mangled_head_is_damage(tmp_path: Path, content: str) -> None:
    lineage = chain(tmp_path)
    (lineage.path / "head.json").write_text(content)
    with pytest.raises(DamagedError):
        lineage.head()
    with pytest.raises(DamagedError):
        list(lineage.records())


def test_a_head_of_another_record_is_damage(tmp_path: Path) -> None:
    lineage = chain(tmp_path)
    head = json.loads((lineage.path / "head.json").read_text())
    (lineage.path / "head.json").write_text(json.dumps({**head, "record": "00000002-bin.000002.json"}))
    with pytest.raises(DamagedError, match="is not the record that was written"):
        lineage.head()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"start": 5, "opened_at": "", "opened_by": ""}'])
def test_a_mangled_opening_is_damage(tmp_path: Path, content: str) -> None:
    lineage = chain(tmp_path)
    (lineage.path / "lineage.json").write_text(content)
    with pytest.raises(DamagedError):
        lineages(tmp_path / "logs")


def test_a_broken_chain_keeps_its_findings_and_its_logs(tmp_path: Path) -> None:
    lineage = chain(tmp_path)
    assert not lineage.broken
    assert lineage.findings() == []
    lineage.mark_broken([Finding("missing-log", "bin.000004", "It is gone.", "Make a new one.")], MOMENT)
    assert Lineage(lineage.path).broken
    assert lineage.findings() == [
        {
            "code": "missing-log",
            "file": "bin.000004",
            "message": "It is gone.",
            "remedy": "Make a new one.",
            "breaks_chain": True,
        }
    ]
    assert len(names(lineage)) == 3
    (lineage.path / "broken.json").write_text("{}")
    assert lineage.findings() == []


def test_the_state_of_the_last_cycle(tmp_path: Path) -> None:
    lineage = opened(tmp_path)
    assert lineage.state() == {}
    assert lineage.head() is None
    assert list(lineage.records()) == []
    lineage.write_state({"recoverable_to": "2026-09-19T05:00:00Z"})
    assert lineage.state() == {"recoverable_to": "2026-09-19T05:00:00Z"}


def test_two_lineages_of_one_second_have_their_order(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert [each.id for each in lineages(tmp_path / "logs")] == [first.id, second.id]
    (tmp_path / "logs" / "20260919T050000Z-0003").mkdir()  # a crash before lineage.json was there
    assert [each.id for each in lineages(tmp_path / "logs")] == [first.id, second.id]
    assert opened(tmp_path).id == "20260919T050000Z-0004"
