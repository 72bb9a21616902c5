# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain against a server made of bytes: whatever is done to its logs, nothing passes but the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.base import ChainBreak, DeliveredLog
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import binlog_server, chain, proof
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.binlog_server import (
    BinlogServer,
    Fetched,
    ServerLook,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.chain import BinlogChain
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.gtid import GtidState
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    AccessError,
    PipelineError,
    RepositoryFullError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import Finding, LogRecord
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Finished
from tests.unit.test_mariadb_binlog import WHEN, Maker, read

NOW = datetime(2026, 9, 19, 5, tzinfo=timezone.utc)
GOOD = {
    "server_uid": "here",
    "server_id": "7",
    "log_bin": "ON",
    "binlog_format": "ROW",
    "sync_binlog": "1",
    "binlog_checksum": "CRC32",
    "binlog_expire_logs_seconds": "1209600",
    "innodb_flush_log_at_trx_commit": "1",
}


def log(number: int, transactions: int = 3, close: str = "rotate") -> bytes:
    """The log *number* of a server that makes three transactions in each."""
    before = (number - 1) * 3
    made = Maker().gtid_list(*([(0, 7, before)] if before else []))
    for each in range(transactions):
        made.transaction(before + each + 1)
    return (made.rotate(name(number + 1).encode()) if close else made).data


def name(number: int) -> str:
    return f"bin.{number:06d}"


class FakeServer:
    """What :class:`BinlogServer` shows, from a dictionary."""

    def __init__(self, count: int = 4) -> None:
        self.files = {name(each): log(each) for each in range(1, count)}
        self.files[name(count)] = log(count, 0, close="")
        self.variables = dict(GOOD)
        self.state = GtidState.parse(f"0-7-{(count - 1) * 3}")
        self.rotated = 0
        self.fetch_how: Callable[[bytes], bytes] = lambda data: data
        self.refused = ""
        self.fetches: list[str] = []

    def look(self) -> ServerLook:
        sizes = {each: len(data) for each, data in self.files.items()} if self.variables["log_bin"] == "ON" else {}
        return ServerLook(self.variables, NOW, self.state, sizes)

    def rotate(self) -> None:
        self.rotated += 1

    def gtid_list(self, wanted: str) -> Optional[GtidState]:
        return read(self.files[wanted]).start if wanted in self.files else None

    def fetch(self, wanted: str, size: int, folder: Path) -> Fetched:
        self.fetches.append(wanted)
        (folder / wanted).write_bytes(self.fetch_how(self.files[wanted]))
        return Fetched(folder / wanted, self.refused)

    def fetch_end(self, wanted: str, offset: int) -> tuple[int, bytes]:
        data = self.files[wanted]
        return int.from_bytes(data[4:8], "little"), data[offset:]


class World:
    """A chain on such a server, from its first log's beginning."""

    def __init__(self, count: int = 4) -> None:
        self.server = FakeServer(count)
        self.opening: dict[str, Any] = {
            "identity": {"server_uid": "here", "server_id": "7"},
            "start": {"file": name(1), "offset": len(Maker().gtid_list().data), "gtid": ""},
            "opened_by": "20260918T050000Z-0001",
        }
        self.chain = BinlogChain(Instance("simrs", "mariadb"))
        vars(self.chain)["_server"] = self.server

    def deliver(self, head: Optional[LogRecord] = None) -> list[LogRecord]:
        """Records of what is delivered."""
        with tempfile.TemporaryDirectory() as folder:
            return [_record(each) for each in self.chain.deliver(self.opening, head, Path(folder))]

    def attempt(self) -> tuple[list[LogRecord], list[Finding]]:
        """Records of what is delivered, or why nothing more is."""
        try:
            return self.deliver(), []
        except ChainBreak as broken:
            return [], list(broken.findings)

    def codes(self, head: Optional[LogRecord] = None) -> list[tuple[str, str]]:
        return [(each.code, each.file) for each in self.chain.check_server(self.opening, head)]

    def broken(self, head: Optional[LogRecord] = None) -> list[tuple[str, str]]:
        with pytest.raises(ChainBreak) as raised:
            self.deliver(head)
        return [(each.code, each.file) for each in raised.value.findings]


def _record(each: DeliveredLog) -> LogRecord:
    return LogRecord(
        {
            "name": each.name,
            "start": dict(each.start),
            "end": dict(each.end),
            "plain_size": each.size,
            "plain_sha256": each.sha256,
            "last_event_at": None,
        }
    )


@pytest.fixture(autouse=True)
def no_second_reader() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "second_opinion", lambda path, folder: "")
        yield


def test_whole_chain() -> None:
    world = World()
    records = world.deliver()
    assert [each.name for each in records] == [name(1), name(2), name(3)]
    assert records[-1].end["gtid_state"] == "0-7-9"
    assert world.codes(records[-1]) == []
    assert world.deliver(records[-1]) == []


# Each does one thing to the logs of a server; what it returns is the log's number that must be named.
@st.composite
def _harm(draw: st.DrawFn) -> tuple[str, int, int, int]:
    kind = draw(st.sampled_from(["flip", "cut", "drop", "swap", "insert", "remove", "foreign"]))
    return kind, draw(st.integers(1, 5)), draw(st.integers(0, 10_000)), draw(st.integers(1, 200))


def _do(files: dict[str, bytes], harm: tuple[str, int, int, int]) -> None:
    kind, number, at, length = harm
    data = files[name(number)]
    at %= len(data)
    if kind == "flip":
        files[name(number)] = data[:at] + bytes([data[at] ^ (1 << length % 8)]) + data[at + 1 :]
    elif kind == "cut":
        files[name(number)] = data[:at]
    elif kind == "drop":
        del files[name(number)]
    elif kind == "swap":
        other = name(number % 5 + 1)
        files[name(number)], files[other] = files[other], data
    elif kind == "insert":
        files[name(number)] = data[:at] + bytes(length) + data[at:]
    elif kind == "remove":
        files[name(number)] = data[:at] + data[at + length :]
    else:
        files[name(number)] = Maker(server=8).gtid_list((0, 8, 3)).transaction(4).rotate(name(number + 1).encode()).data


@settings(max_examples=250, deadline=None)
@given(_harm())
def test_nothing_but_the_whole_passes(harm: tuple[str, int, int, int]) -> None:
    world = World(6)
    whole = dict(world.server.files)
    _do(world.server.files, harm)
    records, findings = world.attempt()
    assert all(each.code in proof.REMEDIES and each.remedy and each.file in whole for each in findings)
    if findings:
        return
    # What passed holds every transaction: at most the event that closed a file is gone.
    assert [each.name for each in records] == [name(each) for each in range(1, 6)]
    for each in records:
        original = read(whole[each.name])
        assert each.end["gtid_state"] == str(original.end)
        assert world.server.files[each.name][: original.whole_end] == whole[each.name][: original.whole_end]


@settings(max_examples=150, deadline=None)
@given(_harm())
def test_nothing_but_the_archived_verifies(harm: tuple[str, int, int, int]) -> None:
    world = World(6)
    records = world.deliver()
    files = dict(world.server.files)
    _do(files, harm)
    with tempfile.TemporaryDirectory() as folder:
        found = []
        before = None
        for record in records:
            plain = Path(folder) / record.name
            if record.name in files:
                plain.write_bytes(files[record.name])
            found = list(world.chain.verify_plain(world.opening, before, record, plain))
            if found:
                break
            before = record
    same = all(files.get(each.name) == world.server.files[each.name] for each in records)
    assert bool(found) != same
    assert all(each.code in proof.REMEDIES and each.remedy for each in found)


def test_damage_under_way_is_fetched_once_more() -> None:
    world = World()
    flips = iter([True])
    world.server.fetch_how = lambda data: data[:-9] + b"\0" + data[-8:] if next(flips, False) else data
    assert len(world.deliver()) == 3
    assert world.server.fetches == [name(1), name(1), name(2), name(3)]


@pytest.mark.parametrize(
    ("change", "code", "file"),
    [
        (lambda server: server.variables.update(server_uid="elsewhere"), "other-server", ""),
        (lambda server: server.variables.update(log_bin="OFF"), "log-bin-off", ""),
        (lambda server: server.variables.update(binlog_checksum="NONE"), "checksum-off", name(6)),
        (lambda server: server.files.pop(name(4)), "missing-log", name(4)),
        (lambda server: server.files.update({name(5): b""}), "missing-log", name(5)),
        (lambda server: [server.files.pop(name(each)) for each in (1, 2, 3, 4)], "purged-too-early", name(4)),
        (lambda server: server.files.update({"other.000001": b"x"}), "numbering-reset", name(3)),
        (lambda server: [server.files.pop(name(each)) for each in (4, 5, 6)], "rolled-back", name(3)),
        (lambda server: setattr(server, "state", GtidState.parse("0-7-8")), "rolled-back", name(3)),
        (lambda server: server.files.update({name(3): server.files[name(3)] + b"x"}), "rolled-back", name(3)),
        (lambda server: server.files.update({name(3): _later(server.files[name(3)])}), "other-content", name(3)),
        (lambda server: server.files.update({name(3): server.files[name(3)][:-9] + bytes(9)}), "rolled-back", name(3)),
        (
            lambda server: (
                [server.files.pop(name(each)) for each in (1, 2, 3)] + [server.files.update({name(4): log(5)})]
            ),
            "other-content",
            name(4),
        ),
    ],
)
def test_server_is_no_longer_the_chains(change: Callable[[FakeServer], object], code: str, file: str) -> None:
    world = World(6)
    head = world.deliver()[2]
    assert world.codes(head) == []
    change(world.server)
    assert world.codes(head) == [(code, file)]


def _later(data: bytes) -> bytes:
    return data[:4] + (WHEN + 5).to_bytes(4, "little") + data[8:] + b"x"


def test_logs_that_began_anew() -> None:
    world = World(6)
    head = world.deliver()[4]
    world.server.files = {name(1): _later(log(1)), name(2): log(2)}
    assert world.codes(head) == [("numbering-reset", name(5))]


@pytest.mark.parametrize(
    "change",
    [
        lambda server: setattr(server, "state", GtidState.parse("0-7-2")),
        lambda server: server.files.update({name(1): b"short"}),
    ],
)
def test_start_of_the_chain_is_no_longer_there(change: Callable[[FakeServer], object]) -> None:
    world = World()
    world.opening["start"] = {"file": name(1), "offset": len(log(1, 3, "")), "gtid": "0-7-3"}
    assert world.codes() == []
    change(world.server)
    assert [code for code, _file in world.codes()] in (["rolled-back"], ["numbering-reset"])


def test_start_was_purged() -> None:
    world = World()
    del world.server.files[name(1)]
    assert world.codes() == [("purged-too-early", name(1))]
    assert world.broken() == [("purged-too-early", name(1))]


def test_log_that_vanishes_while_a_cycle_runs() -> None:
    world = World()
    del world.server.files[name(2)]
    assert world.broken() == [("missing-log", name(2))]
    world = World()
    world.server.fetch = lambda *args: Fetched(Path("x"), "gone", missing=True)  # type: ignore[method-assign]
    assert world.broken() == [("purged-too-early", name(1))]


def test_log_the_server_cannot_read() -> None:
    world = World()
    world.server.refused = "log event entry exceeded max_allowed_packet"
    world.server.fetch_how = lambda data: data[: len(log(1, 2, ""))]
    assert world.broken() == [("unreadable-log", name(1))]


def test_second_reader_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "second_opinion", lambda path, folder: "ERROR: no")
    assert World().broken() == [("second-reader", name(1))]


def test_rotate_that_names_another_log() -> None:
    world = World()
    made = Maker().gtid_list((0, 7, 3))
    for each in (4, 5, 6):
        made.transaction(each)
    world.server.files[name(2)] = made.rotate(b"bin.000009").data
    assert world.broken() == [("other-history", name(2))]


def test_incident_and_missing_parts() -> None:
    for made, code in (
        (Maker().gtid_list().add(26, b"\1\0\0").rotate(), "lost-events"),
        (Maker(checksums=False).gtid_list().rotate(), "checksum-off"),
        (Maker().rotate(), "malformed-log"),
    ):
        summary = read(made.data)
        assert [each.code for each in proof.judge_alone("x", summary, expected_size=None)] == [code]
    assert [each.code for each in proof.judge_alone("x", proof.examine(Path("/nowhere/x")), expected_size=None)] == [
        "unreadable-log"
    ]


def test_rotation_only_if_something_happened() -> None:
    world = World()
    head = world.deliver()[-1]
    assert not world.chain.rotate(world.opening, head)
    assert not world.chain.rotate(world.opening, None)  # transactions, but all of them in closed logs
    world.server.state = GtidState.parse("0-7-10")
    assert world.chain.rotate(world.opening, head)
    assert world.server.rotated == 1


def test_lag(tmp_path: Path) -> None:
    world = World()
    head = world.deliver()[-1]
    idle = world.chain.lag(world.opening, head, tmp_path)
    assert (idle.recoverable_to, idle.lag_bytes, idle.lag_seconds, list(idle.warnings)) == (NOW, 0, 0.0, [])
    world.server.state = GtidState.parse("0-7-10")
    behind = world.chain.lag(world.opening, head, tmp_path)
    closed = datetime.fromtimestamp(WHEN, timezone.utc)
    assert (behind.recoverable_to, behind.lag_bytes) == (closed, len(world.server.files[name(4)]))
    first = world.chain.lag(world.opening, None, tmp_path)
    assert first.recoverable_to == NOW - timedelta(days=1)
    assert first.lag_seconds == 86400
    world.chain.rotate(world.opening, head)
    world.server.files[name(4)] = log(4)
    world.server.files[name(5)] = log(5, 0, close="")
    newest = world.deliver(head)[-1]
    assert world.chain.lag(world.opening, newest, tmp_path).recoverable_to == NOW


def test_warnings(tmp_path: Path) -> None:
    world = World()
    head = world.deliver()[-1]
    crashed = LogRecord({**head.values, "end": {**head.end, "closed_by": "crash"}})
    world.server.variables.update(
        binlog_format="MIXED",
        sync_binlog="0",
        binlog_expire_logs_seconds="0",
        innodb_flush_log_at_trx_commit="2",
        server_id="8",
    )
    told = " ".join(world.chain.lag(world.opening, crashed, tmp_path).warnings)
    for word in ("binlog_format", "sync_binlog", "crashed", "never expire", "at_trx_commit", "server_id"):
        assert word in told
    world.server.variables["binlog_expire_logs_seconds"] = "3600"
    assert "expire after 1:00:00" in " ".join(world.chain.lag(world.opening, head, tmp_path).warnings)


def test_stream_that_cannot_be_pruned_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(chain, "prune", refuse)
    world = World()
    head = world.deliver()[-1]
    world.chain.published(head, tmp_path)
    assert "could not be removed" in world.chain.lag(world.opening, head, tmp_path).warnings[0]


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("ERROR: Got error reading packet from server: Lost connection", AccessError),
        ("ERROR: Failed on connect: Access denied for user", AccessError),
        ("ERROR: Could not write: No space left on device", RepositoryFullError),
        ("ERROR: something nobody knows", PipelineError),
        ("ERROR: Got error reading packet from server: Could not find first log file name in index", "missing"),
        ("ERROR: Got error reading packet from server: event corruption", "refused"),
    ],
)
def test_link_at_fault_or_log_at_fault(
    stderr: str, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binlog_server, "run", lambda *args, **more: Finished("mariadb-binlog", 1, b"", stderr))
    option_file = tmp_path / "client.cnf"
    option_file.touch(mode=0o600)
    server = BinlogServer(Instance("simrs", "mariadb", credentials=option_file))
    if isinstance(expected, str):
        fetched = server.fetch("bin.000001", 10, tmp_path)
        assert (fetched.missing, bool(fetched.refused)) == (expected == "missing", True)
        assert server.fetch_end("bin.000001", 10) == (0, b"")
    else:
        with pytest.raises(expected):
            server.fetch("bin.000001", 10, tmp_path)
    with pytest.raises(RepositoryFullError, match="nothing was fetched"):
        server.fetch("bin.000001", 1 << 60, tmp_path)
