# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full restore of a real MariaDB server (R2): to the newest moment, to one transaction; and production after each refusal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import hashed, restore_plan, restore_run
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ApprovalError,
    ContinuityError,
    DamagedError,
    InputError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import (
    RestoreRequest,
    plan,
    ranges,
    restore,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.compare import compare, fingerprint
from demo.process import wait_until
from demo.sample import load
from demo.servers import MariaDBServer, workspace
from demo.workload import Workload
from tests.restore_full_support import allow_restore, channel, instruct, order, shipped, siblings
from tests.restore_support import cut, cycle, flip, full, gone, newest_artefact, newest_log, spoilt, tried
from tests.support import SHIP_GRANTS, Place, make_place

pytestmark = pytest.mark.engine


@dataclass
class Site:
    """A production server with the sample, its repository, a scratch folder."""

    server: MariaDBServer
    place: Place
    instance: Instance
    scratch: Path
    streaming: Callable[[], bool]

    def order(self, target: Target | None = None, **changes: Any) -> RestoreRequest:
        return order(self.place, self.instance, self.scratch, target, **changes)

    def restored(self, target: Target | None = None, **changes: Any) -> dict[str, Any]:
        """Restore; nothing but the old data is left anywhere."""
        answer = restore(self.order(target, **changes), Progress())
        assert answer["result"] == "succeeded"
        assert Repository.open(self.place.repository).ledger.verify().problem is None
        assert [name for name in os.listdir(self.scratch) if name.startswith("work-")] == []
        return answer

    def commit(self, text: str) -> str:
        """Commit one row; its GTID."""
        return self.server.query(f"INSERT INTO simrs.catatan VALUES ('{text}'); SELECT @@last_gtid")[-1][0] or ""  # noqa: S608

    def notes(self) -> list[str]:
        return [str(row[0]) for row in self.server.query("SELECT isi FROM simrs.catatan ORDER BY isi")]

    @property
    def untouched(self) -> tuple[Any, ...]:
        """What a refusal must leave as it is."""
        return (self.server.pid, siblings(self.server.datadir), self.server.datadir.stat().st_ino, self.notes())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rfm") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        load(server, patients=60)
        place = make_place(folder / "backup")
        instance = place.mariadb("simrs", server)
        allow_restore(place, "simrs", server)
        server.query(
            f"CREATE TABLE simrs.luar (i INT) ENGINE=InnoDB DATA DIRECTORY='{server.external}';"  # noqa: S608
            "INSERT INTO simrs.luar VALUES (7); CREATE TABLE simrs.catatan (isi VARCHAR(40) PRIMARY KEY)"
        )
        with shipped(place, instance) as streaming:
            with Workload(server, folder / "journal", rate=60) as work:
                work.wait_for(20)
                full(place, instance)
                work.wait_for_more(40)
            cycle(place, instance)
            assert wait_until(streaming, 120)
            yield Site(server, place, instance, folder / "scratch", streaming)


def test_a_production_that_is_gone_comes_back_as_it_was(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    site.server.kill9()
    (site.server.datadir / "ibdata1").unlink()
    answer = site.restored()
    print(answer["phases"], answer["rto"])
    after = compare(before, fingerprint(site.server, accounts=True), ignore=("table",))
    assert after.ok, str(after)
    assert siblings(site.server.datadir) == [Path(answer["kept"][0]["path"]).name]
    assert not (site.server.datadir / "xtrabackup_info").exists()
    # Tables kept elsewhere come back inside; their old files belong to the old data.
    assert site.server.value("SELECT i FROM simrs.luar") == "7"
    assert (site.server.datadir / "simrs" / "luar.ibd").exists()
    assert any("simrs.luar" in note for note in answer["notes"])
    assert site.server.value("SELECT COUNT(*) FROM mysql.global_priv WHERE User='dbcontinuity_scratch'") == "0"
    assert answer["rto"]["actual_seconds"] > 0
    assert answer["source"]["logs"] == 1


def test_then_the_old_history_has_ended_and_a_full_backup_begins_a_new_one(site: Site) -> None:
    # Which position it went on from is in the log: nobody else's transactions have these numbers.
    old = Repository.open(site.place.repository).instance("simrs").current_lineage()
    assert old is not None
    head = old.head()
    assert head is not None
    reached = str(head.end["gtid"]).rpartition("-")
    assert site.commit("sesudah") == f"{reached[0]}-{int(reached[2]) + 1}"
    answer = log_cycle(LogCycleRequest([site.instance], site.place.repository, site.place.protection))
    said = answer["instances"]["simrs"]
    assert said["result"] == "broken"
    assert [each["code"] for each in said["findings"]] == ["restored"]
    assert "new full backup" in said["findings"][0]["remedy"]
    full(site.place, site.instance)
    site.commit("baru")
    cycle(site.place, site.instance)
    known = ranges(site.order(record=""))["ranges"]
    assert len(known) == 2
    assert known[0]["lineage"] != known[1]["lineage"]
    assert tried(site.place, site.scratch, site.instance)["failed"] == []
    # The stream follows into the new history by itself.
    staging = Repository.open(site.place.repository).instance("simrs").staging
    newest = site.server.query("SHOW MASTER STATUS")[0][0]
    assert wait_until(lambda: any(staging.rglob(str(newest))), 120)
    assert wait_until(site.streaming, 120)


def test_to_one_transaction_of_several_in_the_same_second(site: Site) -> None:
    before = site.commit("transaksi 1")
    wanted = site.commit("transaksi 2")
    after = site.commit("transaksi 3")
    target = Target("gtid", wanted)
    # The cycle that fetches the last log is the restore's own: none ran since.
    answer = site.restored(target)
    assert site.notes() == ["baru", "sesudah", "transaksi 1", "transaksi 2"]
    assert answer["resolved"]["before"]["position"] == wanted
    assert answer["resolved"]["after"]["position"] == after
    assert before != wanted
    assert answer["lost"]["since"]
    full(site.place, site.instance)


def test_a_moment_on_either_side_of_a_restore_stays_recoverable(site: Site) -> None:
    site.commit("zaman baru")
    cycle(site.place, site.instance)
    newest, older = ranges(site.order(record=""))["ranges"][:2]
    # What the restore above left out is still there: in the history it ended.
    answer = site.restored(Target("gtid", older["to_position"]), lineage=older["lineage"])
    assert "transaksi 3" in site.notes()
    assert "zaman baru" not in site.notes()
    answer = site.restored(Target("gtid", newest["to_position"]), lineage=newest["lineage"])
    assert "transaksi 3" not in site.notes()
    assert "zaman baru" in site.notes()
    assert len(siblings(site.server.datadir)) == 4
    assert answer["follow_ups"]
    full(site.place, site.instance)


def test_a_production_without_any_data_directory_gets_one(site: Site) -> None:
    cycle(site.place, site.instance)
    before = site.notes()
    kept = siblings(site.server.datadir)
    mode = site.server.datadir.stat().st_mode
    site.server.kill9()
    shutil.rmtree(site.server.datadir)
    answer = site.restored()
    assert site.notes() == before
    assert answer["kept"] == []
    assert siblings(site.server.datadir) == kept
    found = site.server.datadir.stat()
    assert (found.st_uid, found.st_mode) == (site.server.owner.uid, mode)
    full(site.place, site.instance)


def test_the_stream_brings_back_what_no_cycle_has_fetched_from_a_production_that_is_gone(site: Site) -> None:
    cycle(site.place, site.instance)
    assert wait_until(site.streaming, 120)
    site.commit("hanya di aliran 1")
    newest = site.commit("hanya di aliran 2")
    staging = Repository.open(site.place.repository).instance("simrs").staging
    file, position = site.server.query("SHOW MASTER STATUS")[0][:2]

    def received() -> bool:
        """Whether the whole transaction is there: its row's event comes before the one that commits it."""
        streamed = [path.read_bytes() for path in staging.rglob(str(file))]
        return any(b"aliran 2" in data and len(data) >= int(position or 0) for data in streamed)

    assert wait_until(received, 120)
    site.server.kill9()
    (site.server.datadir / "ibdata1").unlink()
    request = site.order()
    assert plan(request)["plan"]["unproven"].startswith(f"{newest} of ")
    answer = restore(request, Progress())
    assert answer["source"]["unproven"].startswith(f"{newest} of ")
    assert any("unproven" in note for note in answer["notes"])
    assert "hanya di aliran 1" in site.notes()
    assert "hanya di aliran 2" in site.notes()
    assert answer["resolved"]["position"] == newest
    full(site.place, site.instance)


# -- refusals --


def refused(site: Site, kind: type[ContinuityError], match: str, request: RestoreRequest) -> ContinuityError:
    before = site.untouched
    with pytest.raises(kind, match=match) as caught:
        restore(request, Progress())
    assert site.untouched == before
    assert not any(name.startswith("work-") for name in os.listdir(site.scratch))
    return caught.value


def test_refusals_touch_nothing(site: Site) -> None:
    refused(site, InputError, "was not confirmed: 'simr' was typed", site.order(confirm="simr"))
    refused(site, ApprovalError, "needs the recorded instruction", site.order(record=""))
    other = instruct(site.place, site.instance, Target("set"))
    refused(site, ApprovalError, "is for the moment set", site.order(record=other))
    error = refused(
        site, InputError, "It can be brought back to: ", site.order(Target("time", "2019-09-11T12:00:00+07:00"))
    )
    assert error.details["code"] == "out-of-range"
    away = replace(channel(site.place), transport="ssh", host="127.0.0.1", port=1)
    refused(site, PipelineError, "Connection refused", site.order(channel=away))


def test_another_release_on_production_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Channel.look
    monkeypatch.setattr(Channel, "look", lambda *of: {**look(*of), "version": "11.8.6-MariaDB"})
    refused(site, PrerequisiteError, r"Production runs MariaDB 11\.8\.6-MariaDB; the set", site.order())


def test_no_room_for_two_copies_names_both_numbers_and_the_ways_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_plan, "free_bytes", lambda _path: 4711)
    error = refused(site, PrerequisiteError, r"has 4711 bytes free, and about \d+ are needed", site.order())
    assert "earlier restores left" in error.remedy
    assert "Bring back only what is missing" in error.remedy
    look = Channel.look

    def full_disk(*of: Any) -> dict[str, Any]:
        seen = look(*of)
        seen["parts"]["data"].update(free_bytes=815, device=-1)
        return seen

    monkeypatch.undo()
    monkeypatch.setattr(Channel, "look", full_disk)
    refused(site, PrerequisiteError, "on production has 815 bytes free", site.order())


@pytest.mark.parametrize("what", ["set", "log"])
@pytest.mark.parametrize("how", [flip, cut, gone])
def test_what_is_damaged_is_named_and_production_goes_on(
    site: Site, what: str, how: Callable[[bytes], bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed, "_SMALL_BYTES", 0)
    site.commit(f"{what} {how.__name__}")
    full(site.place, site.instance)
    site.commit(f"{what} {how.__name__} 2")
    cycle(site.place, site.instance)
    path = newest_artefact(site.place) if what == "set" else newest_log(site.place)
    request = site.order()
    with spoilt(path, how):
        error = refused(site, DamagedError, path.name, request)
    assert error.details["file"] == path.name


def stored(site: Site) -> list[str]:
    """Return what the repository holds; in staging the receiver goes on writing."""
    found = []
    for folder, folders, names in os.walk(site.place.repository):
        folders[:] = [name for name in folders if name != "staging"]
        found += [os.path.join(folder, name) for name in (*folders, *names)]
    return sorted(found)


def test_a_plan_says_what_would_be_done_and_touches_nothing(site: Site) -> None:
    before = site.untouched
    records = stored(site)
    made = plan(site.order(record=""))["plan"]
    assert stored(site) == records
    assert site.untouched == before
    assert made["problems"] == []
    assert made["place"] == {"data": str(site.server.datadir)}
    assert made["minutes"]["total"] >= 0.3
    assert made["minutes"]["based_on"].startswith("20")
    assert made["steps"][0].startswith("bring ")
    assert [each["host"] for each in made["room"]] == ["backup"]  # renamed, not copied: the file system is the same
    request = site.order()
    again = plan(request)
    assert again["plan"]["plan_sha256"] == made["plan_sha256"]
    assert again["instruction"]["record"] == request.record


# -- interrupted --


def test_what_was_interrupted_after_the_exchange_is_finished_not_done_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.commit("sebelum")
    request = site.order()

    def die(*_of: object, **_more: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(restore_run, "after_swap", die)
    with pytest.raises(KeyboardInterrupt):
        restore(request, Progress())
    monkeypatch.undo()
    site.commit("ditulis sesudahnya")
    inode = site.server.datadir.stat().st_ino
    full(site.place, site.instance)  # whose chain is the new one, and goes on
    answer = restore(request, Progress())
    assert answer["result"] == "succeeded"
    assert answer["recorded_late"]
    assert site.server.datadir.stat().st_ino == inode
    assert "ditulis sesudahnya" in site.notes()
    cycle(site.place, site.instance)
    refused(site, ApprovalError, "it covers no other", request)


def test_a_production_without_data_is_healed_by_the_same_restore(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    request = site.order()
    swap = Channel.swap

    def die(self: Channel, instance: Instance, run: str) -> dict[str, Any]:
        # What an agent that was killed half-way leaves: the old data moved aside, none in their place, no server.
        journal = site.place.root / "state" / "simrs.json"
        swap(self, instance, run)
        self.back(instance, run)
        site.server.stop()
        place = site.server.datadir
        old = place.with_name(f"{place.name}.dbcontinuity-{run}.old")
        new = place.with_name(f"{place.name}.dbcontinuity-{run}.new")
        place.rename(old)
        text = journal.read_text().replace('"returned"', '"moving"')
        journal.write_text(text)
        assert new.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Channel, "swap", die)
    with pytest.raises(KeyboardInterrupt):
        restore(request, Progress())
    monkeypatch.undo()
    assert not site.server.datadir.exists()
    with pytest.raises(ApprovalError, match="production may be without its data") as caught:
        restore(site.order(record=instruct(site.place, site.instance, Target("set"))), Progress())
    assert "restore_agent.py --config" in caught.value.remedy
    assert " back simrs " in caught.value.remedy
    answer = restore(request, Progress())
    assert answer["result"] == "succeeded"
    assert any("old data were put back first" in note for note in answer["notes"])
    assert "sebelum" in site.notes()
    full(site.place, site.instance)


def test_new_data_that_fail_leave_production_on_the_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.commit("tetap ada")
    bring = restore_run.FullRun._bring

    def spoilt(self: restore_run.FullRun, settled: Path, spec: dict[str, Any]) -> None:
        (settled / "ibdata1").write_bytes(b"")
        bring(self, settled, spec)

    monkeypatch.setattr(restore_run.FullRun, "_bring", spoilt)
    request = site.order()
    kept = siblings(site.server.datadir)
    with pytest.raises(PipelineError, match="the old data were put back, and production runs on them"):
        restore(request, Progress())
    monkeypatch.undo()
    assert "tetap ada" in site.notes()
    assert siblings(site.server.datadir) == kept
    last = list(Repository.open(site.place.repository).ledger.records())[-1]
    assert last["data"]["result"] == "failed"
    assert last["data"]["findings"][0]["code"] == "exchange-failed"
    cycle(site.place, site.instance)  # its history goes on
    assert restore(request, Progress())["result"] == "succeeded"  # one instruction covers the second try


def test_accounts_come_back_as_they_were_and_the_report_says_so(site: Site) -> None:
    full(site.place, site.instance)
    cycle(site.place, site.instance)
    credentials = site.place.root / "credentials" / "simrs"
    before = credentials.read_text()
    account = site.server.account("dbc_ship", SHIP_GRANTS)  # with another password than the set has
    credentials.unlink()
    account.option_file(credentials)
    try:
        answer = site.restored(Target("set"))
        assert any("run the playbook site" in each and "refused" in each for each in answer["follow_ups"])
    finally:
        credentials.write_text(before)


def test_a_file_system_mounted_inside_the_data_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Channel.look

    def mounted(*of: Any) -> dict[str, Any]:
        seen = look(*of)
        seen["parts"]["data"]["mounts"] = ["/var/lib/mysql/simrs"]
        return seen

    monkeypatch.setattr(Channel, "look", mounted)
    refused(site, PrerequisiteError, "/var/lib/mysql/simrs is a file system of its own inside the data", site.order())


# -- parts --


def test_parts_go_the_same_way_through_the_same_gate(site: Site) -> None:
    full(site.place, site.instance)
    site.commit("sebelum dihapus")
    cycle(site.place, site.instance)
    rows = site.server.value("SELECT COUNT(*) FROM simrs.catatan")
    site.server.query("DROP TABLE simrs.catatan")
    scope = ["table:simrs.catatan"]
    before = (site.server.pid, siblings(site.server.datadir))
    target = Target("latest")
    whole = instruct(site.place, site.instance, target)
    known = ranges(site.order(record=""))["ranges"][0]
    target = Target("gtid", known["to_position"])
    with pytest.raises(ApprovalError, match="is for the scope full"):
        restore(site.order(target, record=whole, scope=scope, mode="replace", lineage=known["lineage"]), Progress())
    record = instruct(site.place, site.instance, target, scope=scope, mode="replace")
    request = site.order(target, record=record, scope=scope, mode="replace", compare=True, lineage=known["lineage"])
    made = plan(request)
    assert made["plan"]["scope"] == scope
    assert [item["name"] for item in made["parts"]["items"]] == scope
    assert made["instruction"]["record"] == record
    answer = restore(request, Progress())
    assert answer["result"] == "succeeded"
    assert site.server.value("SELECT COUNT(*) FROM simrs.catatan") == rows
    assert (site.server.pid, siblings(site.server.datadir)) == before
    cycle(site.place, site.instance)  # its history goes on
