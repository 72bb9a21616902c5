# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server whose history began anew: the older one can still be brought back, and none is taken for the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from demo.clients import MariaDBClient
from demo.servers import MariaDBServer, workspace
from tests.restore_support import codes, cycle, full, tried
from tests.support import make_place
from tests.targets_support import IN_ONE_SECOND, History, Step, Town, written

pytestmark = pytest.mark.engine

STATE = "SELECT GROUP_CONCAT(id ORDER BY id) FROM rs.catat"


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    history = History()
    with workspace("tgl") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        server.query("CREATE DATABASE rs; CREATE TABLE rs.catat (id INT PRIMARY KEY)")
        place = make_place(folder / "backup")
        instance = place.mariadb("simrs", server)

        def step(name: str, number: int) -> None:
            gtid, seconds = server.query(
                f"{IN_ONE_SECOND}; INSERT INTO rs.catat VALUES ({number}); SELECT @@last_gtid, UNIX_TIMESTAMP()"  # noqa: S608
            )[-1]
            at = datetime.fromtimestamp(int(seconds or 0), timezone.utc)
            history.add(Step(name, str(gtid), at, str(server.value(STATE))))

        full(place, instance)
        time.sleep(1.1)
        for number in range(1, 11):
            server.query(f"INSERT INTO rs.catat VALUES ({number})")  # noqa: S608
        time.sleep(1.1)
        step("old", 11)
        time.sleep(1.1)
        step("old, lost", 12)
        cycle(place, instance)
        # As after a restore by hand: another state, and numbers that start over.
        server.query("DELETE FROM rs.catat WHERE id > 11; RESET MASTER")
        broken = log_cycle(LogCycleRequest([instance], place.repository, place.protection))["instances"]["simrs"]
        assert broken["result"] == "broken"
        full(place, instance)
        time.sleep(1.1)
        for number in range(101, 113):
            server.query(f"INSERT INTO rs.catat VALUES ({number})")  # noqa: S608
        time.sleep(1.1)  # alone in its second
        step("new", 113)
        cycle(place, instance)
        yield Town(place, instance, folder / "scratch", history)


def state(server: ScratchServer) -> str:
    assert isinstance(server, engine.MariaDBScratch)
    return str(MariaDBClient(server.socket, option_file=server._option_file).value(STATE))


def test_a_moment_before_the_new_history_is_brought_back(town: Town) -> None:
    for name in ("old", "old, lost"):
        step = town.history[name]
        seen, evidence = town.bring(Target("time", written(step.at)), state)
        assert seen == step.holds
        assert any("chain of logs is broken" in note for note in evidence["notes"])


def test_a_moment_of_the_new_history_is_brought_back(town: Town) -> None:
    step = town.history["new"]
    seen, evidence = town.bring(Target("time", written(step.at)), state)
    assert seen == step.holds
    assert evidence["notes"] == []


def test_ranges_are_told_for_each_history_and_between_them_is_none(town: Town) -> None:
    newer, older = backup_info(town.place.repository)["instances"]["simrs"]["ranges"]
    assert (newer["whole"], older["whole"]) == (True, False)
    between = parse_moment(newer["from"]) - timedelta(milliseconds=1)
    assert between > parse_moment(older["to"])
    with pytest.raises(InputError) as refused:
        town.find("time", written(between))
    assert newer["lineage"] in refused.value.message
    assert older["lineage"] in refused.value.message


def test_a_position_that_two_histories_have_is_refused_until_one_is_named(town: Town) -> None:
    """GTIDs start over with RESET MASTER, and after a restore: the same name is another transaction."""
    newer, older = (each["lineage"] for each in backup_info(town.place.repository)["instances"]["simrs"]["ranges"])
    shared = town.history["new"].position
    with pytest.raises(InputError, match="lies in more than one history") as refused:
        town.find("gtid", shared)
    assert newer in refused.value.message
    assert older in refused.value.message
    assert "dbc_lineage" in refused.value.remedy
    answer = tried(town.place, town.scratch, town.instance, target=Target("gtid", shared))
    assert codes(answer) == ["ambiguous"]
    assert "destruction" not in answer["instances"]["simrs"]
    seen, _evidence = town.bring(Target("gtid", shared), state, lineage=newer)
    assert seen == town.history["new"].holds
    seen, evidence = town.bring(Target("gtid", shared), state, lineage=older)
    assert seen != town.history["new"].holds
    assert evidence["resolved"]["lineage"] == older
    with pytest.raises(InputError, match="has no lineage 'x' with sets"):
        town.find("gtid", shared, lineage="x")
