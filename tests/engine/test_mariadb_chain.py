# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of binary logs against a real server: first the trap, then that a cycle and a verification name the file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.binlog import BinlogReader
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.chain import BinlogChain
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from demo.servers import MariaDBServer, workspace
from tests.engine.mariadb_site import NAME, Site

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("chain") as folder, MariaDBServer(folder / "server", fast=True) as running:
        yield running


@pytest.fixture
def site(server: MariaDBServer, tmp_path: Path) -> Site:
    return Site.make(server, tmp_path)


def flip(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :]


# -- good ways --


def test_cycle_archives_what_happened_and_then_nothing(site: Site) -> None:
    site.write(5)
    first = site.cycle()
    assert (first["result"], first["rotated"], len(first["archived"])) == ("good", True, 1)
    assert first["archived"][0]["transactions"] >= 5
    assert (first["lag_bytes"], first["lag_seconds"]) == (0, 0)
    log = site.current()  # not its size: the server itself notes checkpoints in it
    idle = site.cycle()
    assert (idle["result"], idle["rotated"], idle["archived"]) == ("idle", False, [])
    assert idle["recoverable_to"] > first["recoverable_to"]
    assert site.current() == log
    assert site.verify() == []


def test_archived_file_is_the_servers_own_byte_by_byte(site: Site) -> None:
    name = site.rotate()
    site.cycle()
    (record,) = site.lineage.records()
    assert record.name == name
    assert site.plain(record).read_bytes() == site.server_file(name).read_bytes()
    assert record.values["plain_sha256"] == hashlib.sha256(site.server_file(name).read_bytes()).hexdigest()
    assert record.values["start"]["offset"] == site.lineage.start["offset"]


def test_idle_server_from_the_start_is_left_alone(site: Site) -> None:
    log = site.current()  # not its size: the server itself notes checkpoints in it
    answer = site.cycle()
    assert (answer["result"], answer["rotated"], answer["lag_bytes"]) == ("idle", False, 0)
    assert site.current() == log


def test_logs_without_a_transaction_are_known_again(site: Site) -> None:
    site.rotate()
    site.cycle()
    for _ in range(3):  # as an administrator, a restart or another tool does
        site.server.query("FLUSH BINARY LOGS")
    answer = site.cycle()
    assert (answer["result"], len(answer["archived"])) == ("good", 3)
    assert (site.cycle()["result"], site.codes()) == ("idle", [])


def test_check_mode_changes_nothing(site: Site) -> None:
    site.write()
    log = site.current()  # not its size: the server itself notes checkpoints in it
    answer = site.cycle(check_only=True)
    assert answer["result"] == "good"
    assert answer["lag_bytes"] > 0
    assert site.current() == log
    assert site.lineage.head() is None


def test_server_restart_and_crash_leave_the_chain_whole(site: Site) -> None:
    site.write()
    site.server.restart()
    assert site.cycle()["result"] == "good"
    site.write()
    site.server.kill9()
    site.server.start()
    site.write()
    answer = site.cycle()
    assert (answer["result"], answer["findings"]) == ("good", [])
    closed = [record.end["closed_by"] for record in site.lineage.records()]
    assert {"stop", "crash", "rotate"} <= set(closed)
    assert any("crashed" in warning for warning in answer["warnings"]) or closed[-1] != "crash"
    assert site.verify() == []


def test_every_kind_of_transaction_is_counted_as_the_server_counts(site: Site) -> None:
    site.server.query(
        "CREATE TABLE klinik.m (a INT) ENGINE=MyISAM; CREATE SEQUENCE klinik.nomor; SELECT NEXTVAL(klinik.nomor);"
        "CREATE TABLE klinik.c SELECT 1 AS x; CREATE TEMPORARY TABLE klinik.s (a INT); INSERT INTO klinik.m VALUES (1);"
        "DROP TEMPORARY TABLE klinik.s;"
        "XA START 'q'; INSERT INTO klinik.pasien VALUES (900,'a'); XA END 'q'; XA PREPARE 'q'; XA COMMIT 'q';"
        "XA START 'r'; INSERT INTO klinik.pasien VALUES (901,'a'); XA END 'r'; XA PREPARE 'r'; XA ROLLBACK 'r';"
        "SET binlog_format=STATEMENT; START TRANSACTION; INSERT INTO klinik.pasien VALUES (902,'a'); SAVEPOINT x;"
        "INSERT INTO klinik.m VALUES (2); ROLLBACK TO x; COMMIT;"
        "START TRANSACTION; INSERT INTO klinik.m VALUES (3); ROLLBACK;"
        "SET gtid_domain_id=7; INSERT INTO klinik.pasien VALUES (903,'a'); SET server_id=99;"
        "INSERT INTO klinik.pasien VALUES (904, REPEAT('x', 150)); DROP TABLE klinik.c;"
    )
    site.server.query("SET SESSION binlog_alter_two_phase=1; ALTER TABLE klinik.m ADD COLUMN z INT")
    assert site.cycle()["result"] == "good"
    head = site.lineage.head()
    assert head is not None
    assert head.end["gtid_state"] == site.server.value("SELECT @@gtid_binlog_state")
    site.server.query("DROP TABLE klinik.m; DROP SEQUENCE klinik.nomor")


def test_large_rows_are_read_in_blocks(site: Site) -> None:
    site.server.query("CREATE OR REPLACE TABLE klinik.citra (a INT PRIMARY KEY, b LONGBLOB)")
    site.server.query("INSERT INTO klinik.citra VALUES (1, REPEAT('x', 9000000)); DROP TABLE klinik.citra")
    assert site.cycle()["result"] == "good"
    assert site.verify() == []


def test_server_that_encrypts_its_logs(tmp_path: Path) -> None:
    with workspace("chain-encrypted") as folder:
        keys = folder / "keys"
        keys.write_text("1;" + "a7addd9adea9978fda19f21e6be98788" * 2 + "\n")
        keys.chmod(0o644)
        options = {
            "plugin_load_add": "file_key_management",
            "file_key_management_filename": str(keys),
            "encrypt_binlog": "ON",
        }
        with MariaDBServer(folder / "server", fast=True, options=options) as server:
            site = Site.make(server, tmp_path)
            name = site.rotate()
            site.rotate()
            assert b"Siti" not in site.server_file(name).read_bytes()
            assert site.cycle()["result"] == "good"
            assert site.verify() == []
            (first, *_others) = site.lineage.records()
            assert b"Siti" in site.plain(first).read_bytes()


# -- the trap: with a middle log missing the native tools replay, exit 0, and end with the right GTID --


def test_trap_missing_middle_log(site: Site, tmp_path: Path) -> None:
    start = site.lineage.start
    names = [site.rotate(), site.rotate(), site.rotate()]
    expected = site.server.value("SELECT @@gtid_binlog_pos")
    with workspace("chain-target") as folder, MariaDBServer(folder / "server", fast=True, tls=False) as target:
        target.query(
            "CREATE DATABASE klinik; CREATE TABLE klinik.pasien (id INT PRIMARY KEY, nama VARCHAR(200)); RESET MASTER;"
            f" SET GLOBAL gtid_binlog_state='{start['gtid']}'"
        )
        done = site.replay([names[0], names[2]], start["offset"], target)
        assert done.returncode == 0, done.stderr
        assert target.value("SELECT @@gtid_binlog_pos") == expected
        assert target.value("SELECT COUNT(*) FROM klinik.pasien") == "6"  # of 9: nobody was told
    shutil.move(site.server_file(names[1]), tmp_path / "away")
    answer = site.cycle()
    assert answer["result"] == "broken"
    assert [(each["code"], each["file"]) for each in answer["findings"]] == [("missing-log", names[1])]
    assert "full backup" in answer["findings"][0]["remedy"]
    again = site.cycle()
    assert (again["result"], again["archived"]) == ("broken", [])
    shutil.move(tmp_path / "away", site.server_file(names[1]))


def test_verification_names_a_log_missing_from_the_archive(site: Site) -> None:
    names = [site.rotate(), site.rotate(), site.rotate()]
    assert site.cycle()["result"] == "good"
    assert site.verify() == []
    assert [(each.code, each.file) for each in site.verify(skip=names[1])] == [("missing-log", names[1])]
    assert [(each.code, each.file) for each in site.verify(skip=names[0])] == [("missing-log", names[0])]


# -- damage --


def test_flipped_bit(site: Site) -> None:
    good, bad = site.rotate(), site.rotate()
    offset = next(offset for offset, kind in site.events(bad) if kind == "Write_rows_v1") + 30
    site.change(bad, lambda data: flip(data, offset))
    native = subprocess.run(
        ["mariadb-binlog", "--no-defaults", "--result-file=/dev/null", str(site.server_file(bad))], capture_output=True
    )
    assert (native.returncode, native.stderr) == (0, b"")  # the trap
    answer = site.cycle()
    assert [(each["code"], each["file"]) for each in answer["findings"]] == [("checksum-mismatch", bad)]
    assert "at byte" in answer["findings"][0]["message"]
    assert [log["name"] for log in answer["archived"]] == [good]
    assert site.lineage.broken


def test_flipped_bit_in_the_archive(site: Site) -> None:
    site.rotate()
    name = site.rotate()
    offset = next(offset for offset, kind in site.events(name) if kind == "Write_rows_v1") + 30
    site.cycle()

    def edit(sequence: int, plain: Path) -> None:
        if sequence == 2:
            plain.write_bytes(flip(plain.read_bytes(), offset))

    assert [(each.code, each.file) for each in site.verify(edit)] == [("checksum-mismatch", name)]


def test_cut_at_an_event_boundary(site: Site) -> None:
    site.rotate()
    name = site.rotate()
    offset = [offset for offset, kind in site.events(name) if kind == "Gtid"][-1]
    site.change(name, lambda data: data[:offset])
    native = subprocess.run(
        [
            "mariadb-binlog",
            "--no-defaults",
            "--verify-binlog-checksum",
            "--result-file=/dev/null",
            str(site.server_file(name)),
        ],
        capture_output=True,
    )
    assert (native.returncode, native.stderr) == (0, b"")  # the trap
    assert site.codes() == [("cut-at-event-boundary", name)]


def test_cut_inside_a_transaction_and_inside_an_event(site: Site) -> None:
    name = site.rotate()
    offset = [offset for offset, kind in site.events(name) if kind == "Table_map"][-1]
    whole = site.server_file(name).read_bytes()
    site.change(name, lambda data: data[:offset])
    assert site.codes() == [("cut-at-event-boundary", name)]
    site.open()
    site.change(name, lambda data: whole)
    name = site.rotate()
    # Not so many bytes from the end: what stands there may be a checkpoint, which the server writes when it comes to it.
    commit = [offset for offset, kind in site.events(name) if kind == "Xid"][-1]
    site.change(name, lambda data: data[: commit + 7])
    assert site.codes() == [("cut-inside-event", name)]


def test_cuts_in_the_archive(site: Site) -> None:
    site.rotate()
    name = site.rotate()
    rotate_event = site.events(name)[-1][0]
    last = [offset for offset, kind in site.events(name) if kind == "Gtid"][-1]
    site.cycle()
    for cut, code in (
        (last, "cut-at-event-boundary"),
        (rotate_event, "cut-at-event-boundary"),
        (last + 7, "cut-inside-event"),
    ):

        def edit(sequence: int, plain: Path, size: int = cut) -> None:
            if sequence == 2:
                os.truncate(plain, size)

        assert [(each.code, each.file) for each in site.verify(edit)] == [(code, name)], cut


def test_lost_rotate_event_alone_loses_nothing(site: Site) -> None:
    name = site.rotate()
    offset = site.events(name)[-1][0]
    site.change(name, lambda data: data[:offset])
    assert site.codes() == []
    assert next(record.end["closed_by"] for record in site.lineage.records()) == "crash"


def test_crash_that_tore_an_event_is_told_from_a_cut(site: Site) -> None:
    site.write()
    newest = site.server_file(site.current())
    # Not so many bytes from the end: what stands there may be a checkpoint, which the server writes when it comes to it.
    commit = [offset for offset, kind in site.events(newest.name) if kind == "Xid"][-1]
    site.server.kill9()
    whole = newest.stat().st_size
    with newest.open("ab") as stream:  # the beginning of an event that the crash tore
        stream.write(newest.read_bytes()[commit : commit + 22])
    site.server.start()
    answer = site.cycle()
    assert (answer["result"], answer["findings"]) == ("good", [])
    assert next(iter(site.lineage.records())).values["plain_size"] == whole
    assert site.verify() == []


# -- other histories --


def test_file_of_another_lineage(site: Site) -> None:
    with workspace("chain-other") as folder, MariaDBServer(folder / "server", fast=True, tls=False) as other:
        other.query(
            "CREATE DATABASE lain; CREATE TABLE lain.t (a INT); FLUSH BINARY LOGS; INSERT INTO lain.t VALUES (1)"
        )
        other.query("FLUSH BINARY LOGS")
        foreign = (other.datadir / "mariadb-bin.000002").read_bytes()
    site.rotate()
    name = site.rotate()
    site.rotate()
    whole = site.server_file(name).read_bytes()
    site.change(name, lambda data: foreign)
    answer = site.cycle()
    assert answer["result"] == "broken"
    # The first log already proves that what follows it is not its own continuation.
    assert [(each["code"], each["file"]) for each in answer["findings"]] == [("other-history", name)]
    site.change(name, lambda data: whole)
    site.open()
    site.rotate()
    name = site.rotate()
    site.cycle()

    def edit(sequence: int, plain: Path) -> None:
        if sequence == 2:
            plain.write_bytes(foreign)

    assert ("other-history", name) in [(each.code, each.file) for each in site.verify(edit)]


def test_reset_master(site: Site) -> None:
    site.rotate()
    site.rotate()
    site.cycle()
    time.sleep(1.1)  # binary logs know seconds
    site.server.query("RESET MASTER")
    site.write()
    head = site.lineage.head()
    assert head is not None
    answer = site.cycle()
    assert [(each["code"], each["file"]) for each in answer["findings"]] == [("numbering-reset", head.name)]
    assert answer["recoverable_to"] is not None
    assert site.lineage.findings()[0]["code"] == "numbering-reset"


def test_same_name_other_content(site: Site) -> None:
    site.server.query("RESET MASTER")
    site.open()
    site.rotate(2)
    site.rotate(2)
    site.cycle()
    head = site.lineage.head()
    assert head is not None
    time.sleep(1.1)
    site.server.query("RESET MASTER")
    while site.current() <= head.name:
        site.rotate(4)
    assert site.codes() == [("other-content", head.name)]


def test_purged_too_early(site: Site) -> None:
    site.rotate()
    site.cycle()
    lost = site.rotate()
    site.rotate()
    site.purge()
    assert site.codes() == [("purged-too-early", lost)]


def test_archived_logs_may_go_from_the_server(site: Site) -> None:
    site.rotate()
    assert site.cycle()["result"] == "good"
    site.purge()
    assert site.cycle()["result"] == "idle"
    site.write()
    assert site.cycle()["result"] == "good"


def test_server_rolled_back_from_a_snapshot(site: Site, tmp_path: Path) -> None:
    site.rotate()
    site.cycle()
    site.write(1)
    server = site.server
    server.stop()
    snapshot = tmp_path / "snapshot"
    shutil.copytree(server.datadir, snapshot)
    server.start()
    site.rotate(2)
    site.cycle()
    head = site.lineage.head()
    assert head is not None

    def set_back() -> None:
        server.stop()
        shutil.rmtree(server.datadir)
        shutil.copytree(snapshot, server.datadir)
        subprocess.run(["chown", "-R", f"{server.owner.uid}:{server.owner.gid}", str(server.datadir)], check=True)
        server.start()

    set_back()
    answer = site.cycle()
    assert [(each["code"], each["file"]) for each in answer["findings"]] == [("rolled-back", head.name)]
    # The same, but the server went on until its numbers and GTIDs are past the archived ones.
    (site.lineage.path / "broken.json").unlink()
    while site.current() <= head.name:
        site.rotate(4)
    assert next(code for code, file in site.codes() if file == head.name) in ("rolled-back", "other-content")
    assert site.lineage.head() == head


def test_other_server(site: Site) -> None:
    site.rotate()
    site.cycle()
    opening = {**site.lineage.opening, "identity": {"server_uid": "somebody else's"}}
    found = BinlogChain(site.instance).check_server(opening, site.lineage.head())
    assert [each.code for each in found] == ["other-server"]


def test_full_backup_position_of_another_history(site: Site) -> None:
    name = site.rotate()
    start = dict(site.lineage.start)
    for wrong in ({"offset": start["offset"] + 1}, {"gtid": "0-1-1"}, {"gtid": ""}):
        chain = BinlogChain(site.instance)
        workdir = site.base / "work"
        workdir.mkdir(exist_ok=True)
        with pytest.raises(Exception, match="full backup ends at") as raised:
            next(iter(chain.deliver({**site.lineage.opening, "start": {**start, **wrong}}, None, workdir)))
        assert raised.value.findings[0].code == "start-not-found"  # type: ignore[attr-defined]
        assert raised.value.findings[0].file == name  # type: ignore[attr-defined]


def test_checksums_switched_off(site: Site) -> None:
    good = site.rotate()
    site.server.query("SET GLOBAL binlog_checksum=NONE")
    try:
        bad = site.rotate()
        answer = site.cycle()
    finally:
        site.server.query("SET GLOBAL binlog_checksum=CRC32")
    codes = [(each["code"], each["file"], each["breaks_chain"]) for each in answer["findings"]]
    assert next(log["name"] for log in answer["archived"]) == good
    assert codes[0][0] == "checksum-off"
    assert not codes[0][2]
    assert codes[1:] == [("checksum-off", bad, True)]


# -- beside each other, and cut short --


def test_two_cycles_at_once(site: Site) -> None:
    with site.folder.log_lock():
        answer = site.cycle()
    assert (answer["result"], answer["kind"]) == ("failed", "locked")
    assert "since" in answer["message"]
    assert site.cycle()["result"] == "idle"


def test_unreachable_server_is_no_finding(site: Site) -> None:
    site.write()
    site.server.stop()
    answer = site.cycle()
    site.server.start()
    assert (answer["result"], answer["kind"], answer["findings"]) == ("failed", "access", [])
    assert not site.lineage.broken
    assert site.cycle()["result"] == "good"


def test_one_instances_surprise_leaves_the_others_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write()
    real = BinlogChain.check_server

    def surprise(self: BinlogChain, opening: Any, head: Any) -> Any:
        if self.instance.name == "lain":
            raise ValueError("nobody thought of this")
        return real(self, opening, head)

    monkeypatch.setattr(BinlogChain, "check_server", surprise)
    other = dataclasses.replace(site.instance, name="lain")
    shutil.copytree(site.folder.path, site.repository.root / "lain")
    result = log_cycle(LogCycleRequest([other, site.instance], site.repository.root, Protection()))
    assert result["failed"] == ["lain"]
    assert "nobody thought of this" in result["instances"]["lain"]["message"]
    assert result["instances"][NAME]["result"] == "good"


_CYCLE = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "collections")!r}]
from pathlib import Path
from ansible_collections.rspon.dbcontinuity.plugins.module_utils import lineage, process
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import log_cycle
import os, signal
where, credentials, repository = sys.argv[1:]
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "after-compressing":
    real = log_cycle.write_through
    def write_through(stages, target, **more):
        real(stages, target, **more)
        die()
    log_cycle.write_through = write_through
elif where == "before-record":
    lineage.write_file = die
elif where == "before-head":
    lineage.write_json = die
elif where == "after-fetching":
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import chain
    chain.second_opinion = die
instance = Instance({NAME!r}, "mariadb", credentials=Path(credentials))
log_cycle.log_cycle(log_cycle.LogCycleRequest([instance], Path(repository), Protection()))
"""


@pytest.mark.parametrize("where", ["after-fetching", "after-compressing", "before-record", "before-head"])
def test_killed_cycle_leaves_nothing_half_written(site: Site, where: str) -> None:
    site.rotate()
    assert site.cycle()["result"] == "good"
    head = site.lineage.head()
    site.rotate()
    done = subprocess.run(
        [sys.executable, "-c", _CYCLE, where, str(site.instance.credentials), str(site.repository.root)],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert site.lineage.head() == head
    assert len(list(site.lineage.records())) == 1
    answer = site.cycle()
    assert (answer["result"], len(answer["archived"])) == ("good", 1)
    assert answer["cleaned"]
    assert site.verify() == []
    assert not [path for path in site.lineage.path.iterdir() if path.name.startswith(".")]


def test_fetched_file_tells_transactions_and_times(site: Site) -> None:
    name = site.rotate(3)
    with site.server_file(name).open("rb") as stream:
        reader = BinlogReader(stream)
        groups = list(reader.groups())
    assert [group.end for group in groups[-2:]] == [groups[-1].offset, reader.summary.whole_end]
    assert str(groups[-1].gtid) == site.server.value("SELECT @@gtid_binlog_pos")
    assert abs(groups[-1].timestamp - time.time()) < 60
