# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full restore of a real PostgreSQL server (R2): tablespaces, timelines, the slot; and what production is after each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import restore_run
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PipelineError, PrerequisiteError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import plan, ranges, restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.compare import compare, fingerprint
from demo.process import wait_until
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from demo.workload import Workload
from tests.postgresql_support import instance as make_instance
from tests.restore_full_support import allow_restore, order, shipped, siblings
from tests.restore_support import cycle, full, tried
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@dataclass
class Site:
    """A production server with the sample and a tablespace, its receiver, its repository, a scratch folder."""

    server: PostgreSQLServer
    place: Place
    instance: Instance
    scratch: Path
    streaming: Callable[[], bool]

    def restored(self, target: Target | None = None, **changes: Any) -> dict[str, Any]:
        """Restore; nothing but the old data is left anywhere."""
        answer = restore(order(self.place, self.instance, self.scratch, target, **changes), Progress())
        assert answer["result"] == "succeeded"
        assert Repository.open(self.place.repository).ledger.verify().problem is None
        assert [name for name in os.listdir(self.scratch) if name.startswith("work-")] == []
        return answer

    def commit(self, text: str) -> str:
        """Commit one row; the address behind its commit record."""
        self.server.query(f"INSERT INTO catatan VALUES ('{text}')", "simrs")  # noqa: S608
        return self.server.value("SELECT pg_current_wal_insert_lsn()") or ""

    def notes(self) -> list[str]:
        return [str(row[0]) for row in self.server.query("SELECT isi FROM catatan ORDER BY isi", "simrs")]

    @property
    def timeline(self) -> str:
        return (self.server.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())") or "")[:8]

    @property
    def tablespace(self) -> Path:
        """The place of the sample's tablespace."""
        return Path(self.server.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16000") or "")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rfp") as folder, PostgreSQLServer(folder / "simrs", fast=True, checksums=True) as server:
        load(server, patients=60)
        place = make_place(folder / "backup")
        instance = make_instance(place, "simrs", server)
        allow_restore(place, "simrs", server)
        server.query("CREATE TABLE catatan (isi text PRIMARY KEY)", "simrs")
        server.query("ALTER SYSTEM SET work_mem = '7MB'")
        server.query("ALTER SYSTEM SET recovery_target_timeline = 'current'")
        with shipped(place, instance) as streaming:
            assert wait_until(streaming, 120)
            with Workload(server, folder / "journal", rate=60) as work:
                work.wait_for(20)
                full(place, instance)
                work.wait_for_more(40)
            cycle(place, instance)
            yield Site(server, place, instance, folder / "scratch", streaming)


def test_a_production_that_is_gone_comes_back_as_it_was(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    space = site.tablespace
    inode = space.stat().st_ino
    site.server.kill9()
    (site.server.datadir / "global" / "pg_control").unlink()
    answer = site.restored()
    print(answer["phases"], answer["rto"], answer["follow_ups"])
    after = compare(before, fingerprint(site.server, accounts=True))
    assert after.ok, str(after)
    assert site.timeline == "00000002"
    assert site.tablespace == space
    assert space.stat().st_ino != inode
    assert len(siblings(space)) == 1
    assert len(siblings(site.server.datadir)) == 1
    assert {each["what"] for each in answer["kept"]} == {"old data of data", f"old data of {space_oid(site)}"}
    # Production's own settings, but for what would have it recover again.
    assert site.server.value("SHOW work_mem") == "7MB"
    kept = (site.server.datadir / "postgresql.auto.conf").read_text()
    assert "recovery_target" not in kept
    for name in ("recovery.signal", "standby.signal", "backup_label.old", "backup_manifest", "tablespace_map"):
        assert not (site.server.datadir / name).exists()
    assert not (site.server.datadir / "postgresql.conf").exists()
    assert site.server.value("SELECT pg_is_in_recovery()") == "f"


def space_oid(site: Site) -> str:
    return site.server.value("SELECT oid FROM pg_tablespace WHERE oid > 16000") or ""


def test_then_the_log_flows_again_and_a_full_backup_begins_a_new_history(site: Site) -> None:
    assert site.server.value("SELECT slot_name FROM pg_replication_slots") == "dbcontinuity_simrs"
    answer = log_cycle(LogCycleRequest([site.instance], site.place.repository, site.place.protection))
    said = answer["instances"]["simrs"]
    assert said["result"] == "broken"
    assert [each["code"] for each in said["findings"]] == ["restored"]
    assert wait_until(lambda: site.server.value("SELECT active FROM pg_replication_slots") == "t", 120)
    full(site.place, site.instance)
    site.commit("baru")
    cycle(site.place, site.instance)
    assert len(ranges(order(site.place, site.instance, site.scratch, record=""))["ranges"]) == 2
    assert tried(site.place, site.scratch, site.instance)["failed"] == []


def test_to_one_transaction_of_several_in_the_same_second(site: Site) -> None:
    site.commit("transaksi 1")
    wanted = site.commit("transaksi 2")
    site.commit("transaksi 3")
    answer = site.restored(Target("lsn", wanted))
    assert site.notes() == ["baru", "transaksi 1", "transaksi 2"]
    assert answer["resolved"]["after"]
    assert site.timeline == "00000003"
    assert wait_until(lambda: site.server.value("SELECT active FROM pg_replication_slots") == "t", 120)
    full(site.place, site.instance)


def test_a_moment_on_either_side_of_a_restore_stays_recoverable(site: Site) -> None:
    newest = site.commit("zaman baru")
    cycle(site.place, site.instance)
    known = ranges(order(site.place, site.instance, site.scratch, record=""))["ranges"]
    site.restored(Target("time", known[1]["to"]), lineage=known[1]["lineage"])
    assert "transaksi 3" in site.notes()
    assert "zaman baru" not in site.notes()
    assert site.timeline == "00000004"
    # No backup was made of that one: the next still takes a timeline of its own.
    site.restored(Target("lsn", newest), lineage=known[0]["lineage"])
    assert "transaksi 3" not in site.notes()
    assert "zaman baru" in site.notes()
    assert site.timeline == "00000005"
    assert wait_until(lambda: site.server.value("SELECT active FROM pg_replication_slots") == "t", 120)
    full(site.place, site.instance)
    site.commit("terakhir")
    cycle(site.place, site.instance)


def test_refusals_touch_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (site.server.pid, siblings(site.server.datadir), site.notes())
    look = Channel.look
    monkeypatch.setattr(Channel, "look", lambda *of: {**look(*of), "version": "17.2"})
    with pytest.raises(PrerequisiteError, match=r"Production runs PostgreSQL 17\.2; the set"):
        restore(order(site.place, site.instance, site.scratch), Progress())
    made = plan(order(site.place, site.instance, site.scratch, record=""))["plan"]
    assert "major versions differ" in made["problems"][0]
    assert (site.server.pid, siblings(site.server.datadir), site.notes()) == before


def test_new_data_that_fail_leave_production_and_its_tablespace_on_the_old(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.commit("tetap ada")
    places = (site.server.datadir, site.tablespace)
    inodes = [place.stat().st_ino for place in places]
    bring = restore_run.FullRun._bring

    def spoilt(self: restore_run.FullRun, settled: Path, spec: dict[str, Any]) -> None:
        (settled / "global" / "pg_control").write_bytes(b"")
        bring(self, settled, spec)

    monkeypatch.setattr(restore_run.FullRun, "_bring", spoilt)
    kept = [siblings(place) for place in places]
    with pytest.raises(PipelineError, match="the old data were put back, and production runs on them"):
        restore(order(site.place, site.instance, site.scratch), Progress())
    assert "tetap ada" in site.notes()
    assert [place.stat().st_ino for place in places] == inodes
    assert [siblings(place) for place in places] == kept


def test_the_stream_brings_back_what_no_cycle_has_fetched_from_a_production_that_is_gone(site: Site) -> None:
    assert wait_until(lambda: site.server.value("SELECT active FROM pg_replication_slots") == "t", 120)
    full(site.place, site.instance)
    cycle(site.place, site.instance)
    site.commit("hanya di aliran 1")
    wanted = site.commit("hanya di aliran 2")
    received = "SELECT bool_and(flush_lsn >= '{}') FROM pg_stat_replication WHERE application_name LIKE 'dbcontinuity%'"
    assert wait_until(lambda: site.server.value(received.format(wanted)) == "t", 120)
    site.server.kill9()
    (site.server.datadir / "global" / "pg_control").unlink()
    answer = site.restored()
    assert answer["source"]["unproven"].startswith(f"{answer['resolved']['position']} of ")
    assert {"hanya di aliran 1", "hanya di aliran 2"} <= set(site.notes())
    assert wait_until(lambda: site.server.value("SELECT active FROM pg_replication_slots") == "t", 120)
    full(site.place, site.instance)


def test_a_log_that_lay_elsewhere_comes_back_inside_and_the_plan_says_so(site: Site) -> None:
    site.server.stop()
    wal = site.server.datadir / "pg_wal"
    elsewhere = site.server.base / "wal"
    wal.rename(elsewhere)
    wal.symlink_to(elsewhere)
    site.server.start()
    assert wait_until(lambda: site.server.value("SELECT active FROM pg_replication_slots") == "t", 120)
    made = plan(order(site.place, site.instance, site.scratch, record=""))["plan"]
    assert any(f"pg_wal is a link to {elsewhere}" in each for each in made["remarks"])
    site.restored()
    assert wal.is_dir()
    assert not wal.is_symlink()
    assert (elsewhere / "archive_status").is_dir()  # belongs to the old data
