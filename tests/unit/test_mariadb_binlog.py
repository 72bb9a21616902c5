# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of binary logs, on files made here byte by byte: nothing mangled passes, nothing raises."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import binlog
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.binlog import BinlogReader, Summary
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.gtid import Gtid

WHEN = 1_800_000_000
ROWS, ANNOTATE, CHECKPOINT = 23, 160, 161


class Maker:
    """Writes a binary log as the server does."""

    def __init__(self, checksums: bool = True, in_use: bool = False, server: int = 7) -> None:
        self.server = server
        self.data = binlog.MAGIC
        body = struct.pack("<H50sIB", 4, b"10.11.19-MariaDB-log", WHEN, 19) + bytes(171) + bytes([int(checksums)])
        self.checksums = True
        self.add(binlog.FORMAT, body, flags=0)
        if in_use:  # the mark is set without touching the checksum
            self.data = self.data[: 4 + 17] + b"\x01" + self.data[4 + 18 :]
        self.checksums = checksums
        self.offsets: list[int] = [4]

    def add(self, kind: int, body: bytes = b"", flags: int = 0, position: bool = True) -> Maker:
        length = 19 + len(body) + (4 if self.checksums else 0)
        end = (len(self.data) + length) & 0xFFFFFFFF if position else 0
        event = struct.pack("<IBIIIH", WHEN, kind, self.server, length, end, flags) + body
        self.data += event + (struct.pack("<I", zlib.crc32(event)) if self.checksums else b"")
        return self

    def gtid_list(self, *gtids: tuple[int, int, int]) -> Maker:
        entries = b"".join(struct.pack("<IIQ", *each) for each in gtids)
        return self.add(binlog.GTID_LIST, struct.pack("<I", len(gtids)) + (entries or b"\0\0"))

    def gtid(self, sequence: int, domain: int = 0, flags: int = 0) -> Maker:
        return self.add(binlog.GTID, struct.pack("<QIB", sequence, domain, flags) + bytes(6), flags=8)

    def query(self, text: bytes) -> Maker:
        return self.add(binlog.QUERY, struct.pack("<IIBHH", 1, 0, 6, 0, 3) + b"abc" + b"klinik\0" + text)

    def transaction(self, sequence: int, rows: int = 40, domain: int = 0) -> Maker:
        return self.gtid(sequence, domain).add(ANNOTATE, b"x").add(ROWS, bytes(rows)).add(binlog.XID, bytes(8))

    def rotate(self, name: bytes = b"bin.000002") -> Maker:
        return self.add(binlog.ROTATE, struct.pack("<Q", 4) + name)


def read(data: bytes, **how: int) -> Summary:
    return BinlogReader(io.BytesIO(data), **how).read()  # type: ignore[arg-type]


def whole(transactions: int = 3) -> Maker:
    made = Maker().gtid_list((0, 7, 10)).add(CHECKPOINT, b"bin.000001")
    for each in range(transactions):
        made.transaction(11 + each)
    return made.rotate()


def test_a_whole_file() -> None:
    made = whole()
    summary = read(made.data)
    assert summary.damage is None
    assert (str(summary.start), str(summary.end), summary.transactions) == ("0-7-10", "0-7-13", 3)
    assert (summary.closing, summary.next_name, summary.closed_at) == ("rotate", "bin.000002", WHEN)
    assert summary.size == len(made.data)
    assert summary.server_version == "10.11.19-MariaDB-log"
    assert not summary.in_transaction
    assert summary.whole_end == len(made.data) - 19 - 8 - 10 - 4


def test_groups_follow_each_other_without_a_gap() -> None:
    reader = BinlogReader(io.BytesIO(whole(5).data))
    groups = list(reader.groups())
    assert [each.gtid for each in groups] == [Gtid(0, 7, 11 + number) for number in range(5)]
    assert [each.end for each in groups[:-1]] == [each.offset for each in groups[1:]]
    assert {each.timestamp for each in groups} == {WHEN}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_flipped_bit_is_found(data: st.DataObject) -> None:
    made = whole(2).data
    bit = data.draw(st.integers(0, len(made) * 8 - 1))
    mangled = bytearray(made)
    mangled[bit // 8] ^= 1 << bit % 8
    assert read(bytes(mangled)).damage is not None


def test_every_single_flipped_bit_of_a_small_file_is_found() -> None:
    made = Maker().gtid_list((0, 7, 10)).transaction(11, rows=3).rotate().data
    for bit in range(len(made) * 8):
        mangled = bytearray(made)
        mangled[bit // 8] ^= 1 << bit % 8
        damage = read(bytes(mangled)).damage
        assert damage is not None, bit
        assert damage.offset <= bit // 8


def test_every_cut_shows() -> None:
    made = whole().data
    for size in range(len(made)):
        summary = read(made[:size])
        assert summary.damage is not None or summary.closing == "", size
        assert summary.size == size


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 600), st.integers(0, 40))
def test_rubbish_never_raises(rubbish: bytes, at: int, removed: int) -> None:
    made = whole().data
    for data in (rubbish, binlog.MAGIC + rubbish, made[:at] + rubbish + made[at + removed :]):
        summary = read(data)
        assert summary.size == len(data)
        assert summary.damage is not None or data[:at] + data[at + len(rubbish) :] == made or data == made


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 250), st.integers(60, 400))
def test_the_size_of_blocks_changes_nothing(rows: int, block: int) -> None:
    made = Maker().gtid_list((0, 7, 10), (3, 9, 2)).transaction(11, rows).transaction(3, rows * 3, domain=3).rotate()
    expected = read(made.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binlog, "BLOCK_BYTES", block)
        assert read(made.data) == expected
        assert expected.damage is None
        mangled = bytearray(made.data)
        mangled[-80] ^= 4
        assert read(bytes(mangled)).damage is not None


def test_cut_inside_an_event_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Maker().gtid_list().transaction(1, rows=3000).data
    monkeypatch.setattr(binlog, "BLOCK_BYTES", 256)
    for size in (len(made) - 40, len(made) - 1500):
        damage = read(made[:size]).damage
        assert damage is not None
        assert damage.kind == "cut"
    assert read(made).transactions == 1


def test_ends_inside_a_transaction() -> None:
    made = Maker().gtid_list().transaction(1)
    whole_end = len(made.data)
    made.gtid(2).add(ROWS, bytes(50))
    summary = read(made.data)
    assert (summary.in_transaction, summary.transactions, summary.whole_end) == (True, 1, whole_end)
    assert (str(summary.end), summary.damage, summary.open_offset) == ("0-7-1", None, whole_end)


def test_kinds_of_transactions() -> None:
    made = Maker().gtid_list()
    made.gtid(1, flags=1 | 32).query(b"CREATE TABLE t (a INT)")
    made.gtid(2).query(b"INSERT INTO t VALUES (1)").query(b"COMMIT")
    made.gtid(3).query(b"SAVEPOINT x").query(b"ROLLBACK TO x").query(b"ROLLBACK")
    made.gtid(4, flags=64).add(ROWS, bytes(9)).add(binlog.XA_PREPARE, bytes(9))
    made.gtid(5, flags=128).query(b"XA COMMIT X'71'")
    made.gtid(6, flags=1).add(binlog.QUERY_COMPRESSED, bytes(30))
    summary = read(made.data)
    assert (summary.transactions, str(summary.end), summary.in_transaction) == (6, "0-7-6", False)


def test_state_at_a_byte() -> None:
    made = Maker().gtid_list((0, 7, 10))
    first = len(made.data)
    made.transaction(11)
    second = len(made.data)
    made.transaction(12)
    assert str(read(made.data, probe=first).at_probe) == "0-7-10"
    assert str(read(made.data, probe=second).at_probe) == "0-7-11"
    assert str(read(made.data, probe=len(made.data)).at_probe) == "0-7-12"
    assert read(made.data, probe=second + 1).at_probe is None
    assert read(made.data, probe=second + 42).at_probe is None  # an event begins there, but no transaction


def test_mark_of_a_file_in_use() -> None:
    data = Maker(in_use=True).gtid_list().data
    assert read(data).damage is not None
    assert read(data, in_use_allowed=True).damage is None


def test_without_checksums() -> None:
    made = Maker(checksums=False).gtid_list((0, 7, 1)).transaction(2).rotate()
    summary = read(made.data)
    assert (summary.checksums, summary.transactions, summary.next_name) == (False, 1, "bin.000002")


def test_positions_that_were_not_filled_in_are_taken() -> None:
    made = Maker().gtid_list()
    made.gtid(1).add(ROWS, bytes(9), position=False).add(binlog.XID, bytes(8))
    assert read(made.data).transactions == 1


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (Maker().gtid_list().rotate().add(CHECKPOINT, b"x"), "malformed"),
        (Maker().gtid_list().gtid(1).gtid(2), "malformed"),
        (Maker().gtid_list().gtid_list(), "malformed"),
        (Maker().gtid(1), "malformed"),
        (Maker().add(binlog.GTID_LIST, bytes(9)), "malformed"),
        (Maker().gtid_list().add(binlog.GTID, b"short"), "malformed"),
    ],
)
def test_what_a_server_never_writes(made: Maker, kind: str) -> None:
    damage = read(made.data).damage
    assert damage is not None
    assert damage.kind == kind


def test_an_event_taken_out_shows_by_the_next_ones_position() -> None:
    made = Maker().gtid_list().transaction(1)
    begin = len(made.data)
    made.transaction(2)
    end = len(made.data)
    made.transaction(3).rotate()
    damage = read(made.data[:begin] + made.data[end:]).damage
    assert damage is not None
    assert (damage.kind, damage.offset) == ("malformed", begin)


def test_incident_and_stop() -> None:
    made = Maker().gtid_list()
    at = len(made.data)
    made.add(binlog.INCIDENT, b"\1\0\0").add(binlog.STOP)
    summary = read(made.data)
    assert (summary.incident, summary.closing) == (at, "stop")


def test_a_mark_of_encryption_alone_is_no_damage() -> None:
    summary = read(Maker().add(binlog.START_ENCRYPTION, bytes(17)).gtid_list().transaction(1).rotate().data)
    assert (summary.encrypted, summary.damage, summary.transactions) == (True, None, 1)


def test_unreadable_source() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    damage = BinlogReader(Broken()).read().damage
    assert damage is not None
    assert (damage.kind, "Input/output" in damage.reason) == ("unreadable", True)


def test_tail_is_bounded() -> None:
    made = Maker().gtid_list().transaction(1, rows=200_000).rotate()
    summary = read(made.data)
    assert summary.size - summary.tail_offset < binlog.TAIL_BYTES
    assert summary.tail_offset > 200_000
