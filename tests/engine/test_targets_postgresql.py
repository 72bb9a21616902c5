# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL copy at a moment in the log: what was committed before is there, what came after is not."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection, decode_stages
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.chain import WalChain
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.wal import format_lsn, parse_lsn
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.wal_stream import WalReader
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ContinuityError, InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import Lineage
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import write_through
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.clients import PostgreSQLClient
from demo.process import wait_until
from demo.servers import PostgreSQLServer, workspace
from tests.postgresql_support import Receiver
from tests.postgresql_support import instance as make_instance
from tests.restore_support import codes, cycle, flip, full, newest_log, said, spoilt, tried
from tests.support import make_place
from tests.targets_support import History, Step, Town, written

pytestmark = pytest.mark.engine

STATE = (
    "SELECT count(*) || '/' || coalesce(max(id), 0) || '/' || coalesce(sum(hashtext(id || isi)), 0) || '/' ||"
    " (SELECT count(*) FROM information_schema.columns WHERE table_name = 'catat') FROM catat"
)


class Maker:
    """Makes the history, a step a transaction."""

    def __init__(self, server: PostgreSQLServer) -> None:
        self.server = server
        self.history = History()

    def step(self, name: str, sql: str) -> None:
        """Commit a transaction and note it; its time is that of the server's own record."""
        self.server.query(sql)
        lsn = str(self.server.value("SELECT pg_current_wal_insert_lsn()"))
        at = str(self.server.value("SELECT timestamp AT TIME ZONE 'UTC' FROM pg_last_committed_xact()"))
        self.history.add(Step(name, lsn, parse_moment(f"{at}+00:00"), str(self.server.value(STATE))))


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    options = {"max_prepared_transactions": "5", "track_commit_timestamp": "on", "autovacuum": "off"}
    with workspace("tgp") as folder, PostgreSQLServer(folder / "simrs", fast=True, options=options) as server:
        server.query("CREATE TABLE catat (id int PRIMARY KEY, isi text); INSERT INTO catat VALUES (1, 'a')")
        place = make_place(folder / "backup")
        instance = make_instance(place, "simrs", server)
        maker = Maker(server)
        with Receiver(place, instance):
            full(place, instance)
            _first_logs(maker)
            cycle(place, instance)
            _long_logs(maker)
            cycle(place, instance)
            maker.step("third", "INSERT INTO catat VALUES (800, 'x', 0)")
            cycle(place, instance)
            full(place, instance)
            maker.step("after the second set", "INSERT INTO catat VALUES (900, 'x', 0)")
            maker.step("the last one", "INSERT INTO catat VALUES (901, 'x', 0)")
            cycle(place, instance)
            time.sleep(1.1)  # idle: the moment goes on, the log does not
            cycle(place, instance)
            yield Town(place, instance, folder / "scratch", maker.history)


def _first_logs(maker: Maker) -> None:
    maker.step("begin", "INSERT INTO catat VALUES (10, 'x')")
    time.sleep(2.1)
    maker.step("two seconds later", "INSERT INTO catat VALUES (11, 'x')")
    for number in (20, 21, 22):
        maker.step(f"at once {number}", f"INSERT INTO catat VALUES ({number}, 'x')")  # noqa: S608
    maker.server.query("BEGIN; INSERT INTO catat VALUES (500, 'no'); ROLLBACK")
    maker.step("after the rollback", "INSERT INTO catat VALUES (25, 'x')")
    maker.step("the DDL", "ALTER TABLE catat ADD COLUMN tambahan int DEFAULT 7")
    maker.step("after the DDL", "INSERT INTO catat VALUES (31, 'x', 8)")


def _long_logs(maker: Maker) -> None:
    server = maker.server
    # Larger than a segment: it begins in one and ends in another.
    maker.step(
        "big", "INSERT INTO catat SELECT 10000 + n, repeat(md5(n::text), 60), n FROM generate_series(1, 12000) n"
    )
    maker.step("after the big one", "DELETE FROM catat WHERE id > 10000")
    inserts = "".join(f"SAVEPOINT s{n}; INSERT INTO catat VALUES ({600 + n}, 'x', 0); " for n in range(80))  # noqa: S608
    maker.step("with savepoints", f"BEGIN; {inserts} ROLLBACK TO s79; COMMIT")
    server.query("BEGIN; INSERT INTO catat VALUES (700, 'x', 0); PREPARE TRANSACTION 'klinik'")
    maker.step("beside the prepared one", "INSERT INTO catat VALUES (701, 'x', 0)")
    server.query(
        "BEGIN; INSERT INTO catat VALUES (702, 'no', 0); PREPARE TRANSACTION 'batal'; ROLLBACK PREPARED 'batal'"
    )
    maker.step("prepared committed", "COMMIT PREPARED 'klinik'")
    for number in range(60):
        server.query(f"UPDATE catat SET isi = 'u{number}' WHERE id = 10")  # noqa: S608
        if number == 30:
            maker.step("middle", "INSERT INTO catat VALUES (750, 'x', 0); SELECT pg_switch_wal()")
    maker.step("end of the long log", "INSERT INTO catat VALUES (751, 'x', 0)")


def state(server: ScratchServer) -> str:
    assert isinstance(server, engine.PostgreSQLScratch)
    return str(PostgreSQLClient(server.sockets, 5432).value(STATE))


def at_lsn(town: Town, name: str) -> dict[str, object]:
    """Bring a copy to a step by the log's end after it; it holds what production held then, to the row."""
    step = town.history[name]
    seen, evidence = town.bring(Target("lsn", step.position), state)
    assert seen == step.holds, name
    resolved = evidence["resolved"]
    assert parse_lsn(resolved["position"]) <= parse_lsn(step.position)
    assert resolved["before"]["moment"] == step.at.isoformat().replace("+00:00", "Z")
    return evidence


# -- where a moment lies --


def test_commits_are_read_as_pg_waldump_reads_them(town: Town, tmp_path: Path) -> None:
    folder = Repository.open(town.place.repository).instance("simrs")
    lineage = folder.current_lineage()
    assert isinstance(lineage, Lineage)
    records = list(lineage.records())
    reader = WalReader()
    ours = []
    for record in records:
        stages = decode_stages(record.values["layers"], town.place.protection, lineage.path / record.artefact)
        write_through(stages, tmp_path / record.name)
        with (tmp_path / record.name).open("rb") as stream:
            ours += [
                (format_lsn(each.start), each.moment)
                for each in reader.commits(stream, parse_lsn(record.values["start"]["lsn"]))
            ]
        assert reader.sha256 == record.values["plain_sha256"]
    begin = lineage.start["lsn"]
    done = subprocess.run(
        [
            *("/usr/lib/postgresql/15/bin/pg_waldump", "--rmgr=Transaction", f"--path={tmp_path}"),
            *(f"--start={begin}", f"--end={records[-1].end['last_record']}"),
        ],
        env={"TZ": "UTC"},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = [
        (match.group(1), parse_moment(match.group(2) + "+00:00"))
        for match in re.finditer(
            r"lsn: (\S+), .* desc: COMMIT(?:_PREPARED \d+:)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC", done.stdout
        )
    ]
    theirs = [(format_lsn(parse_lsn(one)), moment) for one, moment in theirs]
    assert len(theirs) > 60
    assert [each for each in ours if parse_lsn(each[0]) >= parse_lsn(begin)] == theirs


def test_a_time_lies_between_its_neighbours(town: Town) -> None:
    first, second = town.history["begin"], town.history["two seconds later"]
    for moment, before, after in (
        (first.at, first, second),
        (second.at - timedelta(microseconds=1), first, second),
        (second.at, second, town.history["at once 20"]),
    ):
        found = town.find("time", written(moment)).resolved
        assert (found.before.moment, found.after and found.after.moment) == (before.at, after.at)


def test_every_step_is_found_by_the_logs_end_after_it(town: Town) -> None:
    names = list(town.history.steps)
    for name in names:
        step = town.history[name]
        by_time = town.find("time", written(step.at)).resolved
        found = town.find("lsn", step.position).resolved
        assert found.before == by_time.before == town.find("lsn", found.position).resolved.before, name
        assert found.before.moment == step.at, name
        assert parse_lsn(found.before.position) <= parse_lsn(step.position), name
        if name == "the last one":
            assert found.after is None
        elif name not in ("middle", "prepared committed"):
            assert found.after is not None
            assert found.after.moment == town.history.after(name).at, name


def test_the_newest_set_that_leads_there_is_taken(town: Town) -> None:
    first = town.find("time", written(town.history["begin"].at)).resolved
    last = town.find("time", written(town.history["the last one"].at)).resolved
    assert first.set_name < last.set_name
    assert town.find("lsn", town.history["end of the long log"].position).resolved.set_name == first.set_name
    older = town.find("lsn", town.history["the last one"].position, set_name=first.set_name)
    assert older.resolved.set_name == first.set_name
    with pytest.raises(InputError, match="cannot be brought to"):
        town.find("lsn", town.history["begin"].position, set_name=last.set_name)


def test_a_moment_outside_is_refused_and_the_range_is_printed(town: Town) -> None:
    for moment in (town.history["begin"].at - timedelta(hours=1), town.history["the last one"].at + timedelta(hours=1)):
        with pytest.raises(InputError) as refused:
            town.find("time", written(moment))
        assert "It can be brought back to: " in refused.value.message
        assert "+07:00 to " in refused.value.message
    for lsn in ("0/1", "F/0"):
        with pytest.raises(InputError, match=r"It can be brought back to: .* lsn .* to "):
            town.find("lsn", lsn)
    with pytest.raises(InputError, match="engine postgresql, which knows no gtid"):
        town.find("gtid", "0-1-1")


def test_backup_info_lists_the_same_ranges(town: Town) -> None:
    (one,) = backup_info(town.place.repository)["instances"]["simrs"]["ranges"]
    assert one["kind"] == "lsn"
    assert len(one["sets"]) == 2
    for key in ("from", "to"):
        town.find("time", one[key])
        town.find("lsn", one[f"{key}_position"])


def test_a_damaged_log_is_named_while_the_moment_is_looked_for(town: Town) -> None:
    log = newest_log(town.place)
    with spoilt(log, flip), pytest.raises(ContinuityError, match=log.name.split("-")[1].split(".")[0]):
        town.find("lsn", town.history["the last one"].position)


# -- brought there --


def test_two_transactions_two_seconds_apart_are_parted_by_time(town: Town) -> None:
    for name in ("begin", "two seconds later"):
        step = town.history[name]
        seen, evidence = town.bring(Target("time", written(step.at)), state)
        assert seen == step.holds
        assert evidence["resolved"]["before"]["position"] == evidence["replay"]["end"]["lsn"]


@pytest.mark.parametrize("name", ["at once 20", "at once 21", "at once 22", "after the DDL", "big", "with savepoints"])
def test_each_kind_of_transaction_can_be_the_last(town: Town, name: str) -> None:
    at_lsn(town, name)


def test_a_ddl_is_in_or_out(town: Town) -> None:
    at_lsn(town, "after the rollback")
    at_lsn(town, "the DDL")


def test_a_prepared_transaction_is_told(town: Town) -> None:
    evidence = at_lsn(town, "beside the prepared one")
    assert evidence["replay"]["prepared"] == ["klinik"]  # type: ignore[index]
    assert any("klinik" in note for note in evidence["notes"])  # type: ignore[attr-defined]
    evidence = at_lsn(town, "prepared committed")
    assert evidence["replay"]["prepared"] == []  # type: ignore[index]


def test_the_middle_of_a_long_log_and_the_last_one(town: Town) -> None:
    at_lsn(town, "middle")
    at_lsn(town, "after the second set")


def test_a_time_behind_the_last_commit_is_no_fault(town: Town) -> None:
    """recovery_target_time would end in FATAL here, with nothing missing."""
    last = town.history["the last one"]
    to = backup_info(town.place.repository)["instances"]["simrs"]["ranges"][0]["to"]
    assert parse_moment(to) > last.at + timedelta(seconds=1)
    seen, evidence = town.bring(Target("time", to), state)
    assert seen == last.holds
    assert evidence["resolved"]["after"] is None


def test_the_moment_of_a_set_needs_no_log(town: Town) -> None:
    made = backup_info(town.place.repository)["instances"]["simrs"]["sets"][0]["finished_at"]
    seen, evidence = town.bring(Target("time", made), state)
    assert seen == town.history["third"].holds
    assert evidence["source"]["logs"] == 0


def test_a_moment_outside_fails_the_test_and_no_copy_is_made(town: Town) -> None:
    far = Target("time", written(town.history["the last one"].at + timedelta(hours=1)))
    answer = tried(town.place, town.scratch, town.instance, target=far)
    assert codes(answer) == ["out-of-range"]
    assert "It can be brought back to: " in said(answer)
    assert "destruction" not in answer["instances"]["simrs"]


def test_a_copy_that_settles_is_a_server_of_its_own(town: Town) -> None:
    step = town.history["at once 21"]
    seen: list[tuple[str | None, str | None]] = []

    def look(_name: str, server: ScratchServer) -> None:
        assert isinstance(server, engine.PostgreSQLScratch)
        data = server.settle()
        assert server._daemon is not None
        assert server._daemon.status == 0
        assert not (data / "recovery.signal").exists()
        assert not (data / "postgresql.conf").exists()  # production's lies in /etc, and the set has none
        own = PostgreSQLServer(data.parents[3] / "own", datadir=data, user=server.sandbox.owner.name, fast=True)
        with own:
            seen.append((own.value(STATE), own.value("SELECT pg_is_in_recovery()::text")))

    tried(town.place, town.scratch, town.instance, target=Target("lsn", step.position), before_destroy=look)
    assert seen == [(step.holds, "false")]


def test_the_copys_timeline_is_none_that_a_history_has_used(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine.PostgreSQLScratch,
        "_taken_timelines",
        property(lambda _self: ["pg_wal/00000002.history", "pg_wal/00000003.history"]),
    )

    def timeline(server: ScratchServer) -> str:
        assert isinstance(server, engine.PostgreSQLScratch)
        return str(
            PostgreSQLClient(server.sockets, 5432).value("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
        )

    seen, _evidence = town.bring(Target("lsn", town.history["begin"].position), timeline)
    assert seen == "00000004"


def test_the_newest_log_of_a_busy_server_ends_inside_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that was filled, not switched, ends with a record that goes on in one that is not there yet."""
    with workspace("tgpb") as folder, PostgreSQLServer(folder / "simrs", fast=True) as server:
        server.query("CREATE TABLE catat (id int PRIMARY KEY, isi text)")
        place = make_place(folder / "backup")
        instance = make_instance(place, "simrs", server)
        with Receiver(place, instance) as receiver:
            full(place, instance)
            monkeypatch.setattr(WalChain, "rotate", lambda *_: False)

            def received() -> bool:
                # In the log's newest segment, or at its end: all before it are closed.
                name = str(server.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())"))
                return any((receiver.folder / f"{name}{end}").exists() for end in ("", ".partial"))

            for number in range(24):
                server.query(
                    f"INSERT INTO catat SELECT {number} * 1000 + n, repeat(md5(n::text), 60) FROM generate_series(1, 1000) n"  # noqa: S608
                )
            assert wait_until(received, 60)
            cycle(place, instance)
            lineage = Repository.open(place.repository).instance("simrs").current_lineage()
            head = lineage.head() if lineage else None
            assert head is not None
            assert not head.end.get("activity")
            rows: list[str | None] = []

            def look(_name: str, copy: ScratchServer) -> None:
                assert isinstance(copy, engine.PostgreSQLScratch)
                rows.append(PostgreSQLClient(copy.sockets, 5432).value("SELECT count(*) FROM catat"))

            answer = tried(place, folder / "scratch", instance, before_destroy=look)
            assert answer["failed"] == [], said(answer)
            assert 0 < int(rows[0] or 0) < 24_000
            assert int(rows[0] or 0) % 1000 == 0
            # Nothing ends in these segments, as in an idle server's; but none of them was switched.
            with server.session() as session:
                session.run(
                    "BEGIN; INSERT INTO catat SELECT 100000 + n, repeat(md5(n::text), 60) FROM generate_series(1, 20000) n"
                )
                assert wait_until(received, 60)
                cycle(place, instance)
                answer = tried(place, folder / "scratch", instance, before_destroy=look)
            assert answer["failed"] == [], said(answer)
            assert rows[1] == "24000"


def test_a_wrong_key_or_a_damaged_log_is_named_before_anything_is_unpacked(town: Town, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    subprocess.run(["age-keygen", "-o", str(other)], capture_output=True, check=True)
    target = Target("lsn", town.history["the last one"].position)
    answer = tried(town.place, town.scratch, town.instance, target=target, protection=Protection((), other))
    assert codes(answer) == ["decryption-failed"]
    with spoilt(newest_log(town.place), flip):
        answer = tried(town.place, town.scratch, town.instance, target=target)
    assert codes(answer) == ["damaged-log"]
    assert "destruction" not in answer["instances"]["simrs"]
