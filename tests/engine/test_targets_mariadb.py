# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A MariaDB copy at a moment in the logs: what was committed before is there, what came after is not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ContinuityError, InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from demo.clients import MariaDBClient
from demo.servers import MariaDBServer, workspace
from tests.restore_support import codes, cycle, flip, full, newest_log, said, spoilt, tried
from tests.support import make_place
from tests.targets_support import IN_ONE_SECOND, History, Step, Town, written

pytestmark = pytest.mark.engine

# What tells one state of the tables from another.
STATE = (
    "SELECT CONCAT((SELECT COUNT(*) FROM rs.catat), '/', (SELECT IFNULL(MAX(id), 0) FROM rs.catat), '/',"
    " (SELECT IFNULL(SUM(CRC32(CONCAT(id, isi))), 0) FROM rs.catat), '/', (SELECT COUNT(*) FROM rs.lama), '/',"
    " (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'rs'))"
)


class Maker:
    """Makes the history, a step a transaction."""

    def __init__(self, server: MariaDBServer) -> None:
        self.server = server
        self.history = History()

    def step(self, name: str, sql: str) -> None:
        """Commit a transaction and note it."""
        gtid, seconds = self.server.query(f"{IN_ONE_SECOND}; {sql}; SELECT @@last_gtid, UNIX_TIMESTAMP()")[-1]
        self._note(name, str(gtid), int(seconds or 0))

    def together(self, steps: dict[str, str]) -> None:
        """Commit transactions in one second, each noted."""
        each = [f"{sql}; SELECT @@last_gtid, UNIX_TIMESTAMP(), ({STATE})" for sql in steps.values()]
        rows = self.server.query("; ".join([IN_ONE_SECOND, *each]))
        for name, (gtid, seconds, holds) in zip(steps, rows):
            at = datetime.fromtimestamp(int(seconds or 0), timezone.utc)
            self.history.add(Step(name, str(gtid), at, str(holds)))

    def prepare(self, name: str, sql: str) -> None:
        """Prepare a transaction, whose session then takes no question, and note it."""
        seconds = int(self.server.value("SELECT UNIX_TIMESTAMP()") or 0)
        self.server.query(f"SET TIMESTAMP={seconds}; {sql}")
        position = str(self.server.value("SELECT @@gtid_binlog_pos"))
        self._note(name, position.split(",", maxsplit=1)[0], seconds)

    def _note(self, name: str, gtid: str, seconds: int) -> None:
        at = datetime.fromtimestamp(seconds, timezone.utc)
        self.history.add(Step(name, gtid, at, str(self.server.value(STATE))))


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with workspace("tgm") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        server.query(
            "CREATE DATABASE rs; CREATE TABLE rs.catat (id INT PRIMARY KEY, isi VARCHAR(4000)) ENGINE=InnoDB;"
            " CREATE TABLE rs.lama (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO rs.catat VALUES (1, 'a')"
        )
        place = make_place(folder / "backup")
        instance = place.mariadb("simrs", server)
        maker = Maker(server)
        full(place, instance)
        time.sleep(1.1)  # a moment is named in whole seconds: the first step's lies behind the backup's end
        _first_log(maker)
        cycle(place, instance)
        _long_log(maker)
        cycle(place, instance)
        maker.step("third log", "INSERT INTO rs.catat VALUES (800, 'x', 0)")
        cycle(place, instance)
        time.sleep(1.1)
        full(place, instance)
        time.sleep(1.1)
        maker.step("after the second set", "INSERT INTO rs.catat VALUES (900, 'x', 0)")
        maker.step("the last one", "INSERT INTO rs.catat VALUES (901, 'x', 0)")
        cycle(place, instance)
        yield Town(place, instance, folder / "scratch", maker.history)


def _first_log(maker: Maker) -> None:
    maker.step("begin", "INSERT INTO rs.catat VALUES (10, 'x')")
    time.sleep(2.1)
    maker.step("two seconds later", "INSERT INTO rs.catat VALUES (11, 'x')")
    time.sleep(1.1)
    maker.together({f"same second {n}": f"INSERT INTO rs.catat VALUES ({n}, 'x')" for n in (20, 21, 22)})  # noqa: S608
    time.sleep(1.1)
    maker.step("before the DDL", "INSERT INTO rs.catat VALUES (30, 'x')")
    maker.step("the DDL", "ALTER TABLE rs.catat ADD COLUMN tambahan INT DEFAULT 7")
    maker.step("after the DDL", "INSERT INTO rs.catat VALUES (31, 'x', 8)")
    time.sleep(1.1)
    maker.step("a second later", "INSERT INTO rs.catat VALUES (32, 'x', 8)")
    # A statement that ran for long, or a clock set back, leaves such a time.
    maker.step("older time", "SET TIMESTAMP=UNIX_TIMESTAMP() - 100; INSERT INTO rs.catat VALUES (33, 'x', 8)")


def _long_log(maker: Maker) -> None:
    server = maker.server
    time.sleep(1.1)  # the last step of the first log has a second of its own
    maker.step("MyISAM", "INSERT INTO rs.lama VALUES (1)")
    server.query("START TRANSACTION; INSERT INTO rs.catat VALUES (500, 'no', 0); ROLLBACK")
    maker.step("after the rollback", "INSERT INTO rs.lama VALUES (2), (3)")
    maker.step("big", "INSERT INTO rs.catat SELECT 10000 + seq, REPEAT('w', 2000), seq FROM mysql.seq_1_to_6000")
    maker.step("after the big one", "DELETE FROM rs.catat WHERE id > 10000")
    maker.step("other domain", "SET SESSION gtid_domain_id=7; INSERT INTO rs.catat VALUES (600, 'x', 0)")
    maker.step("first domain again", "INSERT INTO rs.catat VALUES (601, 'x', 0)")
    maker.prepare(
        "XA prepared",
        "XA START 'klinik'; INSERT INTO rs.catat VALUES (700, 'x', 0); XA END 'klinik'; XA PREPARE 'klinik'",
    )
    maker.step("beside the prepared one", "INSERT INTO rs.catat VALUES (701, 'x', 0)")
    maker.step("XA committed", "XA COMMIT 'klinik'")
    for number in range(200):
        server.query(f"UPDATE rs.catat SET isi = 'u{number}' WHERE id = 10")  # noqa: S608
        if number == 100:
            maker.step("middle of a long log", "INSERT INTO rs.catat VALUES (750, 'x', 0)")
    maker.step("end of the long log", "INSERT INTO rs.catat VALUES (751, 'x', 0)")


def state(server: ScratchServer) -> str:
    assert isinstance(server, engine.MariaDBScratch)
    return str(MariaDBClient(server.socket, option_file=server._option_file).value(STATE))


def at_gtid(town: Town, name: str) -> dict[str, object]:
    """Bring a copy to a step by its GTID; it holds what production held then, to the row."""
    step = town.history[name]
    seen, evidence = town.bring(Target("gtid", step.position), state)
    assert seen == step.holds, name
    resolved = evidence["resolved"]
    assert resolved["position"] == resolved["before"]["position"] == step.position
    return evidence


# -- where a moment lies --


def test_a_time_lies_between_its_neighbours(town: Town) -> None:
    first, second = town.history["begin"], town.history["two seconds later"]
    found = town.find("time", written(first.at)).resolved
    assert (found.before.position, found.after and found.after.position) == (first.position, second.position)
    assert (found.before.moment, found.after and found.after.moment) == (first.at, second.at)
    between = town.find("time", written(second.at - timedelta(milliseconds=1))).resolved
    assert between.before.position == first.position
    exactly = town.find("time", written(second.at)).resolved
    assert exactly.before.position == second.position


def test_all_of_a_second_is_in_and_a_note_says_how_to_stop_inside(town: Town) -> None:
    first, last = town.history["same second 20"], town.history["same second 22"]
    assert first.at == last.at
    found = town.find("time", written(first.at)).resolved
    assert found.before.position == last.position
    assert found.after is not None
    assert found.after.position == town.history["before the DDL"].position
    assert "3 transactions were logged in that very second" in found.notes[0]


def test_transactions_with_an_older_time_behind_the_place_are_told_of(town: Town) -> None:
    found = town.find("time", written(town.history["after the DDL"].at)).resolved
    assert found.before.position == town.history["after the DDL"].position
    assert "whose time is at or before the moment" in found.notes[-1]
    assert town.find("time", written(town.history["begin"].at)).resolved.notes == [found.notes[-1]]
    later = town.find("time", written(town.history["a second later"].at)).resolved
    assert (later.before.position, later.notes) == (town.history["older time"].position, [])


def test_every_step_is_found_by_its_gtid_with_the_next_one_behind_it(town: Town) -> None:
    names = list(town.history.steps)
    for name in names[:-1]:
        if name == "middle of a long log":
            continue  # updates follow it that are no steps
        step, following = town.history[name], town.history.after(name)
        found = town.find("gtid", step.position).resolved
        assert found.before.position == step.position, name
        assert found.before.moment == step.at, name
        if following.name not in ("after the rollback", "middle of a long log", "end of the long log"):
            assert found.after is not None
            assert found.after.position == following.position, name
    assert town.find("gtid", town.history["the last one"].position).resolved.after is None


def test_the_newest_set_that_leads_there_is_taken(town: Town) -> None:
    sets = (
        town.find("time", written(town.history["begin"].at)).resolved,
        town.find("time", written(town.history["the last one"].at)).resolved,
    )
    assert sets[0].set_name < sets[1].set_name
    assert town.find("gtid", town.history["third log"].position).resolved.set_name == sets[1].set_name
    assert town.find("gtid", town.history["end of the long log"].position).resolved.set_name == sets[0].set_name
    older = town.find("gtid", town.history["the last one"].position, set_name=sets[0].set_name)
    assert older.resolved.set_name == sets[0].set_name
    assert len(older.source.logs) == 4
    with pytest.raises(InputError, match="holds transactions behind that moment"):
        town.find("gtid", town.history["begin"].position, set_name=sets[1].set_name)


def test_a_moment_outside_is_refused_and_the_range_is_printed(town: Town) -> None:
    for moment in (town.history["begin"].at - timedelta(hours=1), town.history["the last one"].at + timedelta(hours=1)):
        with pytest.raises(InputError) as refused:
            town.find("time", written(moment))
        assert "It can be brought back to: " in refused.value.message
        assert "+07:00 to " in refused.value.message
        assert refused.value.details["code"] == "out-of-range"
    unknown = "0-99-1234567"
    with pytest.raises(InputError, match=r"It can be brought back to: .* gtid .* to "):
        town.find("gtid", unknown)
    with pytest.raises(InputError, match="engine mariadb, which knows no lsn"):
        town.find("lsn", "0/5000148")


def test_backup_info_lists_the_same_ranges(town: Town) -> None:
    (one,) = backup_info(town.place.repository)["instances"]["simrs"]["ranges"]
    assert town.history["the last one"].position in one["to_position"].split(",")
    assert one["kind"] == "gtid"
    assert len(one["sets"]) == 2
    assert one["whole"] is True
    town.find("time", one["from"])
    town.find("time", one["to"])


def test_a_damaged_log_is_named_while_the_moment_is_looked_for(town: Town) -> None:
    log = newest_log(town.place, back=2)
    with spoilt(log, flip), pytest.raises(ContinuityError, match=r"mariadb-bin\.\d+") as refused:
        town.find("gtid", town.history["end of the long log"].position)
    assert "cannot be read" in refused.value.message or "not the one that was archived" in refused.value.message
    # Moments that need another log are not concerned.
    assert town.find("gtid", town.history["the last one"].position).resolved.logs


def test_a_wrong_key_or_a_damaged_log_is_named_before_anything_is_unpacked(town: Town, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    subprocess.run(["age-keygen", "-o", str(other)], capture_output=True, check=True)
    target = Target("gtid", town.history["the last one"].position)
    answer = tried(town.place, town.scratch, town.instance, target=target, protection=Protection((), other))
    assert codes(answer) == ["decryption-failed"]
    with spoilt(newest_log(town.place), flip):
        answer = tried(town.place, town.scratch, town.instance, target=target)
    assert codes(answer) == ["damaged-log"]
    assert "destruction" not in answer["instances"]["simrs"]


def test_what_a_missing_record_leaves_before_it_can_still_be_brought_back(town: Town) -> None:
    log = newest_log(town.place, back=1)
    record = next(path for path in log.parent.glob(f"{log.name.split('-')[0]}-*.json"))
    with spoilt(record, lambda _data: None):
        assert town.find("gtid", town.history["begin"].position).resolved.before.position
        with pytest.raises(ContinuityError, match="has 0 records of number"):
            town.find("gtid", town.history["the last one"].position)
        with pytest.raises(ContinuityError, match="has 0 records of number"):
            town.find("time", written(town.history["the last one"].at))


# -- brought there --


def test_two_transactions_two_seconds_apart_are_parted_by_time(town: Town) -> None:
    for name in ("begin", "two seconds later"):
        step = town.history[name]
        seen, evidence = town.bring(Target("time", written(step.at)), state)
        assert seen == step.holds
        assert evidence["replay"]["end"]["gtid"] == step.position
        assert evidence["resolved"]["after"]["position"] == town.history.after(name).position


def test_transactions_of_one_second_are_parted_by_gtid(town: Town) -> None:
    at_gtid(town, "same second 20")
    at_gtid(town, "same second 21")


def test_a_ddl_is_in_or_out(town: Town) -> None:
    at_gtid(town, "before the DDL")
    at_gtid(town, "the DDL")


@pytest.mark.parametrize("name", ["MyISAM", "after the rollback", "big", "other domain", "first domain again"])
def test_each_kind_of_transaction_can_be_the_last(town: Town, name: str) -> None:
    at_gtid(town, name)


def test_a_prepared_transaction_is_told(town: Town) -> None:
    evidence = at_gtid(town, "beside the prepared one")
    assert evidence["replay"]["prepared"] == ["klinik"]  # type: ignore[index]
    assert any("klinik" in note for note in evidence["notes"])  # type: ignore[attr-defined]
    evidence = at_gtid(town, "XA committed")
    assert evidence["replay"]["prepared"] == []  # type: ignore[index]


def test_the_middle_of_a_long_log_and_the_last_log(town: Town) -> None:
    evidence = at_gtid(town, "middle of a long log")
    assert evidence["source"]["logs"] == 2  # type: ignore[index]
    at_gtid(town, "after the second set")
    at_gtid(town, "the last one")


def test_an_older_moment_is_not_measured_against_newer_tests(town: Town) -> None:
    assert tried(town.place, town.scratch, town.instance)["failed"] == []
    evidence = at_gtid(town, "begin")
    assert evidence["content"]["rows_in_all_before"] is None  # type: ignore[index]


def test_a_moment_outside_fails_the_test_and_no_copy_is_made(town: Town) -> None:
    far = Target("time", written(town.history["the last one"].at + timedelta(hours=1)))
    answer = tried(town.place, town.scratch, town.instance, target=far)
    assert codes(answer) == ["out-of-range"]
    assert "It can be brought back to: " in said(answer)
    assert "destruction" not in answer["instances"]["simrs"]


def test_a_copy_that_settles_is_a_server_of_its_own(town: Town) -> None:
    step = town.history["same second 21"]

    def settled(server: ScratchServer) -> list[str | None]:
        assert isinstance(server, engine.MariaDBScratch)
        data = server.settle()
        assert server._daemon is not None
        assert server._daemon.status == 0
        own = MariaDBServer(data.parent.parent.parent / "own", datadir=data, user=server.sandbox.owner.name, fast=True)
        server.sandbox.owner.give(data)
        with own:
            users = own.value("SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'dbcontinuity%'")
            return [own.value(STATE), users]

    seen: list[list[str | None]] = []

    def look(_name: str, server: ScratchServer) -> None:
        seen.append(settled(server))

    tried(town.place, town.scratch, town.instance, target=Target("gtid", step.position), before_destroy=look)
    assert seen == [[step.holds, "0"]]
