# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of a real PostgreSQL server's log: what breaks it is named, and what native tools make of the same."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.registry import engine_for
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.process import wait_until
from demo.servers import PostgreSQLServer, workspace
from tests.postgresql_support import Receiver, backup, cycle, decoded, instance, restore, scratch
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
# It looks at the tables every minute, and what it then notes are transactions: these tests count transactions.
STILL: dict[str, str | None] = {"autovacuum": "off"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with workspace("pgchain") as folder, PostgreSQLServer(folder / "simrs", fast=True, options=STILL) as running:
        running.query("CREATE TABLE kunjungan (id serial PRIMARY KEY, isi text)")
        yield running


@pytest.fixture
def own_server() -> Iterator[PostgreSQLServer]:
    """A server that a test may kill, copy and promote."""
    with workspace("pgown") as folder, PostgreSQLServer(folder / "simrs", fast=True, options=STILL) as running:
        running.query("CREATE TABLE kunjungan (id serial PRIMARY KEY, isi text)")
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


class Shipping:
    """One instance with a receiver and a full backup, ready for cycles."""

    def __init__(self, place: Place, server: PostgreSQLServer) -> None:
        self.place = place
        self.server = server
        self.one: Instance = instance(place, "simrs", server)
        self.receiver = Receiver(place, self.one).start()
        self.set = backup(place, self.one)
        self.staging = Repository.open(place.repository).instance("simrs").staging

    def insert(self, rows: int = 1) -> None:
        self.server.query(f"INSERT INTO kunjungan (isi) SELECT repeat('x', 80) FROM generate_series(1, {rows})")  # noqa: S608 - a number

    def closed(self) -> str:
        """Write a row and have the server close its segment; returns its name once staging has it."""
        self.insert()
        name = self.server.value("SELECT pg_walfile_name(pg_switch_wal())")
        assert name
        assert wait_until((self.receiver.folder / name).exists, 120), name
        return name

    def cycle(self, **changes: Any) -> dict[str, Any]:
        return cycle(self.place, self.one, **changes)

    def codes(self, **changes: Any) -> list[tuple[str, str]]:
        return [(each["code"], each["file"]) for each in self.cycle(**changes)["findings"]]

    def lineage(self) -> Any:
        return Repository.open(self.place.repository).instance("simrs").current_lineage()

    def end(self) -> None:
        self.receiver.stop(signal.SIGKILL)
        receiver = engine_for(self.one).receiver()
        assert receiver is not None
        if self.server.running:
            receiver.remove_from_server(False)


@pytest.fixture
def shipping(place: Place, server: PostgreSQLServer) -> Iterator[Shipping]:
    made = Shipping(place, server)
    yield made
    made.end()


@pytest.fixture
def own(place: Place, own_server: PostgreSQLServer) -> Iterator[Shipping]:
    made = Shipping(place, own_server)
    yield made
    made.receiver.stop(signal.SIGKILL)


def test_a_cycle_ships_what_happened_and_an_idle_server_ships_nothing(shipping: Shipping) -> None:
    first = shipping.cycle()
    assert first["result"] == "good"
    assert not first["rotated"]  # the backup itself closed the segment; nothing was committed since
    assert [each["transactions"] for each in first["archived"]] == [0]
    shipping.insert(3)
    second = shipping.cycle()
    assert second["rotated"]
    assert [each["transactions"] for each in second["archived"]] == [1]
    assert second["lag_bytes"] == 0
    idle: dict[str, Any] = {}
    for _ in range(3):  # checkpoints and what else the server writes by itself close no segment
        shipping.server.query("CHECKPOINT; SELECT count(*) FROM kunjungan")
        idle = shipping.cycle()
        assert idle["result"] == "idle"
        assert not idle["rotated"]
        assert idle["lag_seconds"] == 0
    head = shipping.lineage().head()
    assert head.values["last_event_at"] <= second["recoverable_to"] < idle["recoverable_to"]
    # Large records run over the border of segments: the next one is proven together with the head kept in staging.
    shipping.insert(250000)
    third = shipping.cycle()
    assert third["result"] == "good"
    assert len(third["archived"]) >= 3
    assert sum(each["transactions"] for each in third["archived"]) == 1
    staged = [path.name for path in shipping.receiver.folder.iterdir() if not path.name.endswith(".partial")]
    assert staged == [third["archived"][-1]["name"]]
    deep = backup_verify(
        VerifyRequest([shipping.one], shipping.place.repository, shipping.place.protection, level="deep"),
        Progress(None),
    )
    assert deep["failed"] == []
    assert deep["instances"]["simrs"]["logs"] == shipping.lineage().head().sequence


def test_a_transaction_still_open_at_the_switch_is_shipped_when_it_ends(shipping: Shipping) -> None:
    with shipping.server.session() as session:
        session.run("BEGIN; INSERT INTO kunjungan (isi) VALUES ('lama')")
        shipping.insert()
        assert shipping.cycle()["rotated"]
        session.run("COMMIT")
        last = shipping.cycle()
    assert last["rotated"]
    assert last["archived"][-1]["transactions"] == 1
    assert shipping.cycle()["result"] == "idle"


def test_native_tools_promote_across_a_hole_and_the_cycle_names_it(shipping: Shipping, tmp_path: Path) -> None:
    with workspace("pghole") as folder:
        shipping.server.query("CREATE TABLE lubang (id int)")
        segments = []
        for number in range(3):
            shipping.server.query(f"INSERT INTO lubang VALUES ({number})")  # noqa: S608 - a number
            segments.append(shipping.closed())
        archive = folder / "archive"
        shutil.copytree(shipping.receiver.folder, archive)
        (archive / segments[1]).unlink()
        archive.chmod(0o755)
        for path in archive.iterdir():
            path.chmod(0o644)
        commands = [line for line in _manifest(shipping)["read_by_hand"] if "verifybackup" not in line]
        data = restore(shipping.place, Path(shipping.set["path"]), commands, folder)
        (data / "recovery.signal").touch()
        with scratch(data, 5497, restore_command=f"cp {archive}/%f %p") as ask:
            # It promoted, and says nothing of the rows it lacks.
            assert ask("SELECT pg_is_in_recovery()") == "f"
            assert ask("SELECT string_agg(id::text, ',' ORDER BY id) FROM lubang") == "0"
    (shipping.receiver.folder / segments[1]).unlink()
    answer = shipping.cycle()
    assert [(each["code"], each["file"]) for each in answer["findings"]] == [("missing-log", segments[1])]
    assert answer["result"] == "broken"
    assert segments[1] in answer["findings"][0]["message"]
    assert [each["name"] for each in answer["archived"]][-1] == segments[0]
    assert shipping.cycle()["result"] == "broken"
    assert shipping.lineage().head().name == segments[0]
    # A new full backup opens a new chain, which is good again.
    backup(shipping.place, shipping.one, force=True)
    assert shipping.cycle()["result"] in ("good", "idle")


def test_a_flipped_bit_is_named(shipping: Shipping) -> None:
    shipping.cycle()
    name = shipping.closed()
    with (shipping.receiver.folder / name).open("r+b") as stream:
        stream.seek(300)
        byte = stream.read(1)
        stream.seek(300)
        stream.write(bytes([byte[0] ^ 4]))
    assert shipping.codes() == [("bit-flip", name)]
    assert shipping.lineage().head().name < name


def test_a_truncated_segment_is_named(shipping: Shipping) -> None:
    shipping.cycle()
    name = shipping.closed()
    with (shipping.receiver.folder / name).open("r+b") as stream:
        stream.truncate(16 * 1024 * 1024 - 8192)
    assert shipping.codes() == [("truncated", name)]


def test_a_segment_of_another_server_is_named(shipping: Shipping) -> None:
    shipping.cycle()
    name = shipping.closed()
    with workspace("pgother") as folder, PostgreSQLServer(folder / "lain", fast=True, tcp=False) as other:
        other.query("CREATE TABLE x (i int)")
        found = next(path for path in (other.datadir / "pg_wal").iterdir() if len(path.name) == 24)
        shutil.copyfile(found, shipping.receiver.folder / name)
    assert shipping.codes() == [("other-server", name)]


def test_other_content_of_an_archived_name_is_named(shipping: Shipping) -> None:
    shipping.closed()
    shipping.cycle()
    head = shipping.lineage().head().name
    with (shipping.receiver.folder / head).open("r+b") as stream:
        stream.seek(200)
        stream.write(b"\0\0\0\0")
    shipping.closed()
    assert shipping.codes() == [("other-content", head)]


def test_an_archived_log_is_proven_again(shipping: Shipping, tmp_path: Path) -> None:
    shipping.closed()
    shipping.insert(300000)
    shipping.cycle()
    lineage = shipping.lineage()
    chain = engine_for(shipping.one).log_chain()
    records = list(lineage.records())
    assert len(records) >= 4
    before = None
    for record in records:
        plain = decoded(shipping.place, lineage.path / record.artefact, tmp_path / "plain")
        assert chain.verify_plain(lineage.opening, before, record, plain) == []
        with plain.open("r+b") as stream:
            stream.seek(8192 * 2 + 100)
            stream.write(b"\xff\x01\xfe")
        assert [each.code for each in chain.verify_plain(lineage.opening, before, record, plain)] in (
            ["bit-flip"],
            ["other-content"],
        )
        before = record
    third = decoded(shipping.place, lineage.path / records[2].artefact, tmp_path / "plain")
    found = chain.verify_plain(lineage.opening, records[0], records[2], third)
    assert [(each.code, each.file) for each in found] == [("missing-log", records[1].name)]


def test_a_receiver_that_is_away_is_said_and_breaks_nothing(shipping: Shipping) -> None:
    name = shipping.closed()
    shipping.receiver.stop(signal.SIGKILL)
    shipping.insert()
    answer = shipping.cycle()
    assert [each["code"] for each in answer["findings"]] == ["receiver-down"]
    assert answer["result"] == "finding"
    assert not answer["rotated"]
    assert answer["lag_seconds"] > 0
    assert answer["archived"][-1]["name"] == name  # what had come is in the chain
    assert not shipping.lineage().broken
    shipping.receiver.start()
    again = shipping.cycle()
    assert again["result"] == "good"
    assert again["lag_seconds"] == 0


def test_a_receiver_that_began_after_the_full_backup(place: Place, server: PostgreSQLServer) -> None:
    one = instance(place, "telat", server)
    made = backup(place, one)
    assert any("No receiver is set up" in each for each in made["warnings"])
    server.query("INSERT INTO kunjungan (isi) VALUES ('a')")
    for _ in range(2):  # checkpoints let the server forget the log between
        server.query("SELECT pg_switch_wal(); INSERT INTO kunjungan (isi) VALUES ('a'); CHECKPOINT")
    with Receiver(place, one) as receiver:
        answer = cycle(place, one)
        first, *_rest = answer["archived"]
        assert first["name"] == made["position"]["start"]["wal_file"]  # the backup brought its own log
        assert [each["code"] for each in answer["findings"]] == ["missing-log"]
        assert "receiver" in answer["findings"][0]["message"]
        receiver.stop()
    engine = engine_for(one).receiver()
    assert engine is not None
    assert engine.remove_from_server(True) == ["drop the replication slot dbcontinuity_telat"]
    assert engine.remove_from_server(False) == ["drop the replication slot dbcontinuity_telat"]
    assert engine.remove_from_server(False) == []


def test_restarts_and_a_crash_leave_no_gap(own: Shipping) -> None:
    own.insert()
    assert own.cycle()["result"] == "good"
    own.server.restart()
    own.receiver.stop(signal.SIGKILL)
    own.receiver.start()
    own.insert(20000)
    assert own.cycle()["result"] == "good"
    with own.server.session() as session:
        session.run("BEGIN; INSERT INTO kunjungan (isi) SELECT repeat('y', 90) FROM generate_series(1, 100000)")
        own.server.kill9()
    own.server.start()
    own.receiver.stop(signal.SIGKILL)
    own.receiver.start()
    own.insert(10)
    answer = own.cycle()
    assert answer["result"] == "good", answer["findings"]
    assert answer["lag_seconds"] == 0


def test_a_server_rolled_back_to_a_snapshot_is_named(own: Shipping) -> None:
    own.insert()
    own.cycle()
    own.receiver.stop()
    own.server.stop()
    snapshot = own.server.base.parent / "snapshot"
    subprocess.run(["cp", "-a", str(own.server.datadir), str(snapshot)], check=True)
    own.server.start()
    own.receiver.start()
    for _ in range(2):
        own.insert(10)
        assert own.cycle()["result"] == "good"
    own.receiver.stop()
    own.server.stop()
    shutil.rmtree(own.server.datadir)
    snapshot.rename(own.server.datadir)
    own.server.start()
    assert [each["code"] for each in own.cycle(check_only=True)["findings"]] == ["rolled-back"]
    # Once it has written more than before, the numbers fit again, but the content does not.
    own.receiver.start()
    for _ in range(4):
        own.insert(20)
        own.closed()
    (code, _file), *_rest = own.codes()
    assert code in ("other-content", "not-joined")
    assert own.lineage().broken


def test_a_new_timeline_is_named_and_a_new_full_backup_opens_a_chain_on_it(own: Shipping) -> None:
    own.insert()
    own.cycle()
    own.server.stop()
    (own.server.datadir / "standby.signal").touch()
    own.server.start()
    assert own.codes()[0][0] == "standby"
    assert not own.lineage().broken
    own.server.query("SELECT pg_promote()")
    answer = own.cycle()
    assert [each["code"] for each in answer["findings"]] == ["new-timeline"]
    own.receiver.stop(signal.SIGKILL)
    own.receiver.start()
    made = backup(own.place, own.one, force=True)
    assert made["position"]["start"]["timeline"] == 2
    own.insert()
    good = own.cycle()
    assert good["result"] == "good"
    assert good["archived"][-1]["name"].startswith("00000002")


def test_a_lost_slot_is_named_and_renewed(place: Place) -> None:
    options = {**STILL, "max_slot_wal_keep_size": "16MB", "min_wal_size": "32MB"}
    with workspace("pglost") as folder, PostgreSQLServer(folder / "a", fast=True, options=options) as server:
        server.query("CREATE TABLE kunjungan (id serial PRIMARY KEY, isi text)")
        made = Shipping(place, server)
        made.insert()
        made.cycle()
        made.receiver.stop(signal.SIGKILL)
        for _ in range(5):
            made.insert(100)
            server.query("SELECT pg_switch_wal()")
        warned = made.cycle()
        assert [each["code"] for each in warned["findings"]] == ["receiver-down"]
        assert any("max_slot_wal_keep_size" in each or "about to be lost" in each for each in warned["warnings"])
        server.query("CHECKPOINT")
        server.query("CHECKPOINT")
        (code, file), *_rest = made.codes()
        assert code == "purged-too-early"
        assert file.startswith("00000001")
        receiver = engine_for(made.one).receiver()
        assert receiver is not None
        assert len(receiver.prepare_server(True)) == 2
        receiver.prepare_server(False)
        assert receiver.prepare_server(True) == []
        made.receiver.start()
        backup(place, made.one, force=True)
        made.insert()
        assert made.cycle()["result"] == "good"
        made.receiver.stop(signal.SIGKILL)


def _manifest(shipping: Shipping) -> Any:
    folder = Repository.open(shipping.place.repository).instance("simrs")
    return folder.read_set(shipping.set["set"]).manifest.values
