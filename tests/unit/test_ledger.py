# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: whatever is changed in it is found, and the first bad line is named."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import LedgerError, RepositoryError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger import GENESIS, Head, Ledger, new_run_id
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger_lines import (
    LINE_LIMIT_BYTES,
    canonical,
    record_hash,
)

BEGIN = datetime(2026, 9, 30, 23, 0, tzinfo=timezone.utc)
slow_to_draw = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_timedatectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "clock_synchronised", lambda: True)


def filled(folder: Path, count: int = 6) -> Ledger:
    """A ledger over two months' files."""
    ledger = Ledger(folder)
    for number in range(count):
        ledger.append(
            "event", "test", "run", data={"n": number, "é": "ü"}, moment=BEGIN + timedelta(minutes=20 * number)
        )
    return ledger


def lines_of(ledger: Ledger) -> list[tuple[Path, int, bytes]]:
    return [
        (path, number, line)
        for path in sorted(ledger.folder.glob("*.jsonl"))
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1)
    ]


def test_records_are_chained_over_files_and_verify(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    assert [path.name for path in sorted(ledger.folder.glob("*.jsonl"))] == ["2026-09.jsonl", "2026-10.jsonl"]
    records = list(ledger.records())
    assert [each["sequence"] for each in records] == [1, 2, 3, 4, 5, 6]
    assert records[0]["previous"] == GENESIS
    found = ledger.verify(ledger.head())
    assert (found.problem, found.records, found.head) == (None, 6, ledger.head())
    assert [each["data"]["n"] for each in ledger.records(since=datetime(2026, 10, 1, tzinfo=timezone.utc))] == [3, 4, 5]
    # The same moment written in the site's zone is still October's in Jakarta, but September's in the files.
    local = datetime(2026, 10, 1, 3, 0, tzinfo=timezone(timedelta(hours=7)))
    assert len(list(ledger.records(since=local))) == 6


def test_an_empty_ledger_has_a_head_and_holds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none")
    assert ledger.head() == Head(0, GENESIS)
    assert ledger.verify(Head(0, GENESIS)).problem is None
    assert ledger.verify(Head(3, GENESIS)).problem is not None
    assert list(ledger.records()) == []
    assert not (tmp_path / "none").exists()


@slow_to_draw
@given(data=st.data())
def test_any_changed_byte_is_found_and_its_line_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ledger = filled(tmp_path_factory.mktemp("flip") / "ledger")
    head = ledger.head()
    every = lines_of(ledger)
    path, number, line = data.draw(st.sampled_from(every))
    at = data.draw(st.integers(0, len(line) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda value: value != line[at]))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line[:at] + bytes([new]) + line[at + 1 :]
    path.write_bytes(b"".join(lines))
    found = ledger.verify(head)
    assert found.problem is not None
    assert found.problem.startswith(f"{path.name} line {number}: ")


@slow_to_draw
@given(data=st.data())
def test_removed_swapped_repeated_lines_are_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ledger = filled(tmp_path_factory.mktemp("move") / "ledger", 8)
    head = ledger.head()
    path = data.draw(st.sampled_from(sorted(ledger.folder.glob("*.jsonl"))))
    lines = path.read_bytes().splitlines(keepends=True)
    before = list(lines)
    how = data.draw(st.sampled_from(["remove", "swap", "repeat", "truncate", "blank"]))
    at = data.draw(st.integers(0, len(lines) - 1))
    if how == "remove":
        del lines[at]
    elif how == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda value: value != at))
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "repeat":
        lines.insert(at, lines[at])
    elif how == "truncate":
        lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at]) - 1))]
    else:
        lines.insert(at, b"\n")
    path.write_bytes(b"".join(lines))
    found = ledger.verify(head)
    assert found.problem is not None
    # What stands before the first change is still counted as read.
    first = next((i for i, (a, b) in enumerate(zip(before, lines)) if a != b), min(len(before), len(lines)))
    assert found.records >= first


def test_a_cut_off_end_shows_only_against_a_head_written_down(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    head = ledger.head()
    path = max(ledger.folder.glob("*.jsonl"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert ledger.verify().problem is None
    found = ledger.verify(head)
    assert found.problem is not None
    assert "cut off" in found.problem
    ledger.append("event", "test", "other")
    found = ledger.verify(head)  # somebody wrote on after the cut
    assert found.problem is not None
    assert "not " + head.sha256 in found.problem


def test_a_whole_file_that_is_gone_is_found(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    min(ledger.folder.glob("*.jsonl")).unlink()
    assert "2026-10.jsonl line 1: record 4 follows record 0" in str(ledger.verify().problem)


@pytest.mark.parametrize("text", ["", "1", "x:y", "1:" + "g" * 64, "1:" + "a" * 63, "-1:" + "a" * 64, "1:" + "a" * 65])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="no ledger head"):
        Head.parse(text)


def test_a_head_survives_being_printed(tmp_path: Path) -> None:
    head = filled(tmp_path / "ledger").head()
    assert Head.parse(f"  {head}\n") == head


def test_append_reads_the_same_with_ten_records_and_twenty_thousand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = filled(tmp_path / "ledger", 10)
    path = max(ledger.folder.glob("*.jsonl"))
    record = json.loads(path.read_bytes().splitlines()[-1])
    with path.open("ab") as stream:
        for _ in range(20_000):
            record = {**record, "sequence": record["sequence"] + 1, "previous": record["sha256"]}
            record["sha256"] = record_hash(record)
            stream.write(canonical(record) + b"\n")
    assert path.stat().st_size > 5_000_000
    read = 0
    real_open = Path.open

    def add(count: int) -> None:
        nonlocal read
        read += count

    monkeypatch.setattr(Path, "open", lambda self, *a, **k: _Counted(real_open(self, *a, **k), add))
    head = ledger.append("event", "test", "run")
    assert head.sequence == record["sequence"] + 1
    assert 0 < read <= 2 * 64 * 1024
    monkeypatch.undo()
    assert ledger.verify(head).problem is None


class _Counted:
    def __init__(self, stream: Any, add: Callable[[int], None]) -> None:
        self._stream, self._add = stream, add

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def seek(self, *args: int) -> Any:
        return self._stream.seek(*args)

    def read(self, *sizes: int) -> bytes:
        block: bytes = self._stream.read(*sizes)
        self._add(len(block))
        return block


def test_a_line_longer_than_the_tail_that_is_read_first_is_found_whole(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger", 1)
    head = ledger.append("event", "test", "run", data={"x": "y" * 300_000}, moment=BEGIN)
    assert ledger.head() == head
    after = ledger.append("event", "test", "run", moment=BEGIN)
    assert ledger.verify(after).problem is None
    with pytest.raises(LedgerError, match="too long"):
        ledger.append("event", "test", "run", data={"x": "y" * 9_000_000}, moment=BEGIN)
    assert ledger.verify(after).records == 3


@pytest.mark.parametrize("torn", [b'{"sequence": 7, "sha', b"\0" * 40, b"x", b'{"a":1}'])
def test_a_line_torn_by_a_crash_is_set_aside_and_said(tmp_path: Path, torn: bytes) -> None:
    ledger = filled(tmp_path / "ledger")
    head = ledger.head()
    path = max(ledger.folder.glob("*.jsonl"))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert ledger.head() == head  # a half record is none
    assert [each["sequence"] for each in ledger.records()][-1] == 6
    assert "the line is cut off" in str(ledger.verify().problem)
    after = ledger.append("event", "test", "next", moment=BEGIN)
    assert after.sequence == 7
    record = list(ledger.records())[-1]
    assert (ledger.folder / record["torn_line_set_aside"]).read_bytes() == torn
    assert path.read_bytes().startswith(whole)
    assert ledger.verify(after).problem is None


def test_a_file_that_holds_nothing_but_a_torn_line(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger", 2)
    (ledger.folder / "2026-11.jsonl").write_bytes(b'{"sequ')
    after = ledger.append("event", "test", "next", moment=BEGIN)
    assert after.sequence == 3
    assert ledger.verify(after).problem is None


def test_a_clock_set_back_leaves_the_order(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    head = ledger.append("event", "test", "run", moment=BEGIN - timedelta(days=400))
    assert ledger.verify(head).problem is None
    assert not (ledger.folder / "2025-08.jsonl").exists()
    assert list(ledger.records())[-1]["at"].startswith("2025-08")


DAMAGED = [b"[1]", b"nonsense", b'{"sha256": 1}', b"5", b"null", b"[" * 100_000, b'"text"', b"{}", b"", b"\0" * 99]


def damage_last(ledger: Ledger, content: bytes) -> tuple[Path, int]:
    """Put *content* into the place of the last line; return where it stands."""
    path = max(ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + content + b"\n")
    return path, len(lines)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_last_line_ends_nothing_and_is_named_for_ever(tmp_path: Path, content: bytes) -> None:
    ledger = filled(tmp_path / "ledger")
    path, number = damage_last(ledger, content)
    before = path.read_bytes()
    assert ledger.head() == Head(6, hashlib.sha256(content).hexdigest())
    assert "1 damaged line(s)" in ledger.warning()
    after = ledger.append("event", "test", "next", moment=BEGIN)
    assert path.read_bytes().startswith(before)  # kept as it was found
    newest = list(ledger.records())[-1]
    assert (newest["sequence"], newest["previous"]) == (7, hashlib.sha256(content).hexdigest())
    assert newest["previous_damaged"] is True
    for more in range(3):
        found = ledger.verify(after)
        assert found.problem is not None
        assert found.problem.startswith(f"{path.name} line {number}: ")
        assert (len(found.problems), found.records) == (1, 7 + more)
        assert f"{path} at byte {len(b''.join(before.splitlines(keepends=True)[:-1]))}" in ledger.warning()
        ledger.append("event", "test", "later", moment=BEGIN)
    named: list[str] = []
    assert [each["sequence"] for each in ledger.records(damaged=named)] == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert len(named) == 1
    assert named[0].startswith(f"{path.name} line {number}: ")
    assert sum("previous_damaged" in each for each in ledger.records()) == 1


def test_the_link_to_a_damaged_line_is_what_sha256sum_says(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    path, number = damage_last(ledger, b"half a rec\xff")
    ledger.append("event", "test", "next", moment=BEGIN)
    command = f"sed -n {number}p {path} | tr -d '\\n' | sha256sum | cut -c1-64"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert list(ledger.records())[-1]["previous"] == shown


def test_a_changed_last_record_is_no_record_any_more(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    written_down = ledger.head()
    path = max(ledger.folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"n":5', b'"n":6'))
    assert [each["data"]["n"] for each in ledger.records()] == [0, 1, 2, 3, 4]
    ledger.append("event", "test", "run", data={"n": 7}, moment=BEGIN)
    assert [each["data"]["n"] for each in ledger.records()] == [0, 1, 2, 3, 4, 7]
    found = ledger.verify(written_down)
    assert "record 6 was changed after it was written" in str(found.problem)
    assert any("as written down" in each for each in found.problems)


def test_a_damaged_line_cannot_be_mended_altered_or_removed_unseen(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    path = max(ledger.folder.glob("*.jsonl"))
    good = path.read_bytes().splitlines(keepends=True)
    damage_last(ledger, b"damaged")
    ledger.append("event", "test", "next", moment=BEGIN)
    lines = path.read_bytes().splitlines(keepends=True)
    for other in (good[-1:], [b"otherwise damaged\n"], [b"damaged\n", b"damaged\n"], []):
        path.write_bytes(b"".join([*lines[:-2], *other, lines[-1]]))
        found = ledger.verify()
        assert f"{path.name} line {len(lines) - 2 + len(other) + 1}: " in " ".join(found.problems), other
        path.write_bytes(b"".join(lines))
    assert len(ledger.verify().problems) == 1


def test_a_damaged_line_in_the_middle_ends_verification_and_reading(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    path = max(ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"nonsense\n", lines[2]]))
    found = ledger.verify()
    assert (found.records, len(found.problems)) == (4, 1)
    assert "2026-10.jsonl line 2" in str(found.problem)
    with pytest.raises(LedgerError, match=r"2026-10.jsonl line 2 is no ledger record"):
        list(ledger.records())
    assert ledger.warning() == ""  # appending looks at the end alone
    ledger.append("event", "test", "next", moment=BEGIN)
    assert "2026-10.jsonl line 2" in str(ledger.verify().problem)


@slow_to_draw
@given(data=st.data())
def test_work_goes_on_after_any_damage_to_the_end(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Damage, append, damage again …: the chain holds but for the lines that were damaged, and each stays named."""
    ledger = filled(tmp_path_factory.mktemp("end") / "ledger", data.draw(st.integers(0, 5)))
    bad: set[str] = set()
    for _ in range(data.draw(st.integers(1, 4))):
        path = max(ledger.folder.glob("*.jsonl"), default=ledger.folder / "2026-09.jsonl")
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        many = data.draw(st.integers(1, 3))
        content = st.one_of(st.binary(max_size=40), st.sampled_from(DAMAGED)).map(
            lambda each: each.translate(None, b"\r\n")
        )
        kept = lines[: max(0, len(lines) - data.draw(st.integers(0, 2)))] if not bad else lines
        ledger.folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(kept) + b"".join(data.draw(content) + b"\n" for _ in range(many)))
        bad |= {f"{path.name} line {len(kept) + each + 1}" for each in range(many)}
        if data.draw(st.booleans()):
            path.write_bytes(path.read_bytes() + b'{"half a')
        head = ledger.append("event", "test", "first", moment=BEGIN)
        for number in range(data.draw(st.integers(0, 3))):
            head = ledger.append("event", "test", "run", data={"n": number}, moment=BEGIN)
        found = ledger.verify(head)
        assert found.head == head == ledger.head()
        assert {problem.split(":")[0] for problem in found.problems} == bad
        named: list[str] = []
        assert list(ledger.records(damaged=named))[-1]["sequence"] == head.sequence
        assert {each.split(":")[0] for each in named} == bad
        assert f"{len(bad)} damaged line(s)" in ledger.warning()


def test_damage_over_two_files_is_linked_as_one(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger")
    (ledger.folder / "2026-10.jsonl").write_bytes(b"a\n\nc\n")
    damaged_before = (ledger.folder / "2026-09.jsonl").read_bytes() + b"x\n"
    (ledger.folder / "2026-09.jsonl").write_bytes(damaged_before)
    head = ledger.append("event", "test", "run", moment=BEGIN)
    assert head.sequence == 8
    assert list(ledger.records())[-1]["previous"] == hashlib.sha256(b"x\na\n\nc").hexdigest()
    assert len(ledger.verify(head).problems) == 4


def test_a_line_longer_than_any_record_gets_its_end_and_counts_as_damaged(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger", 2)
    path = max(ledger.folder.glob("*.jsonl"))
    whole = path.read_bytes()
    path.write_bytes(whole + b"z" * (LINE_LIMIT_BYTES + 5))
    after = ledger.append("event", "test", "next", moment=BEGIN)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    assert lines[2] == b"z" * (LINE_LIMIT_BYTES + 5) + b"\n"
    found = ledger.verify(after)
    assert [each.split(":")[0] for each in found.problems] == [f"{path.name} line 3"]


def test_a_torn_line_that_cannot_be_cut_off_is_never_glued_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = filled(tmp_path / "ledger", 2)
    path = max(ledger.folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b'{"half a rec')

    def refuses(*_: int) -> None:  # as after chattr +a
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "ftruncate", refuses)
    after = ledger.append("event", "test", "next", moment=BEGIN)
    monkeypatch.undo()
    assert path.read_bytes().splitlines()[2] == b'{"half a rec'
    assert list(ledger.folder.glob("torn-*")) == []
    assert [each.split(":")[0] for each in ledger.verify(after).problems] == [f"{path.name} line 3"]


def test_what_is_no_plain_json_is_kept_so_that_it_verifies(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    odd = os.fsdecode(b"latin-\xe9")
    head = ledger.append("event", "t", "r", data={"name": odd, "keys": {10: "a", 2: "b", 1: ("x", None)}, "f": 1e300})
    assert ledger.verify(head).problem is None
    assert next(iter(ledger.records()))["data"]["name"] == odd
    assert next(iter(ledger.records()))["data"]["keys"] == {"1": ["x", None], "10": "a", "2": "b"}


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="'done' is not known"):
        Ledger(tmp_path / "ledger").append("done", "t", "r")
    assert not (tmp_path / "ledger").exists()


def test_a_write_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled(tmp_path / "ledger")
    before = [line for _, _, line in lines_of(ledger)]
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if data.startswith(b'{"activity"'):
            return real(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(RepositoryError, match="full"):
        ledger.append("event", "test", "run", moment=BEGIN)
    monkeypatch.undo()
    assert [line for _, _, line in lines_of(ledger)] == before


def _append_many(folder: str, count: int) -> None:
    setattr(module, "clock_synchronised", lambda: None)  # noqa: B010 - a name that the module imported
    ledger = Ledger(Path(folder))
    for number in range(count):
        ledger.append("event", "many", new_run_id(), data={"n": number, "fill": "x" * 3000})


def test_several_processes_append_and_readers_never_see_half_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    Ledger(folder).append("event", "first", "run")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(str(folder), 40)) for _ in range(4)]
    problems: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = Ledger(folder).verify()
            if found.problem:
                problems.append(found.problem)
            Ledger(folder).head()

    reader = threading.Thread(target=read)
    for each in writers:
        each.start()
    reader.start()
    for each in writers:
        each.join(300)
    stop.set()
    reader.join(300)
    assert [each.exitcode for each in writers] == [0, 0, 0, 0]
    assert problems == []
    assert Ledger(folder).verify().records == 161


def test_run_ids_differ() -> None:
    assert len({new_run_id() for _ in range(100)}) == 100
