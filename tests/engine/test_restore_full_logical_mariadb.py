# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full restore of a real MariaDB server out of a dump (R2), onto files that production's settings fit; and each refusal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import restore_run
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.dump_restore import MariaDBDumpRestore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.dump_scratch import MariaDBDumpScratch
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Source, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    DamagedError,
    InputError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import plan, ranges, restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_plan import FullPlan
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.throwaway import Sandbox, present_user
from demo.compare import compare, fingerprint
from demo.process import find_program, my_name, run
from demo.sample import load
from demo.servers import MariaDBServer, workspace
from tests.restore_full_support import allow_restore, instruct, order, siblings
from tests.restore_support import flip, full, newest_artefact, spoilt, tried
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
# A server on whose files no server with the defaults starts, nor the other way round.
LAYOUT = {
    "innodb_page_size": "8k",
    "innodb_data_file_path": "ibdata1:10M;ibdata2:12M:autoextend",
    "innodb_undo_tablespaces": "3",
}


class OddServer(MariaDBServer):
    """A server whose files are laid out in its own way."""

    def _initialise(self) -> None:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in LAYOUT.items()]
        run(
            [
                find_program("mariadb-install-db", "mysql_install_db"),
                *("--no-defaults", f"--datadir={self.datadir}", "--auth-root-authentication-method=socket"),
                *(f"--auth-root-socket-user={my_name()}", "--skip-test-db", "--skip-name-resolve", *words),
            ],
            self.owner,
            cwd=self.base,
        )


@dataclass
class Site:
    """A production server with the sample, its repository of dumps, a scratch folder."""

    server: MariaDBServer
    place: Place
    instance: Instance
    scratch: Path

    def restored(self, target: Target | None = None, **changes: Any) -> dict[str, Any]:
        """Restore; nothing but the old data is left anywhere."""
        answer = restore(order(self.place, self.instance, self.scratch, target, **changes), Progress())
        assert answer["result"] == "succeeded"
        assert Repository.open(self.place.repository).ledger.verify().problem is None
        assert [name for name in os.listdir(self.scratch) if name.startswith("work-")] == []
        return answer

    def commit(self, text: str) -> None:
        """Commit one row."""
        self.server.query(f"INSERT INTO simrs.catatan VALUES ('{text}')")  # noqa: S608

    def notes(self) -> list[str]:
        return [str(row[0]) for row in self.server.query("SELECT isi FROM simrs.catatan ORDER BY isi")]

    @property
    def untouched(self) -> tuple[Any, ...]:
        """What a refusal must leave as it is."""
        return (self.server.pid, siblings(self.server.datadir), self.server.datadir.stat().st_ino, self.notes())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rdm") as folder, OddServer(folder / "simrs", fast=True, options=LAYOUT) as server:
        load(server, patients=60)
        socket = f"unix_socket AS '{my_name()}'"
        server.query(
            "CREATE TABLE simrs.tarif_sejarah (id INT PRIMARY KEY, harga INT) WITH SYSTEM VERSIONING;"  # noqa: S608
            "INSERT INTO simrs.tarif_sejarah VALUES (1, 100); UPDATE simrs.tarif_sejarah SET harga = 200;"
            "CREATE TABLE simrs.catatan (isi VARCHAR(40) PRIMARY KEY);"
            "CREATE USER kasir@localhost IDENTIFIED BY 'x'; GRANT SELECT (no_rm) ON simrs.pasien TO kasir@localhost;"
            # The administrator has a password besides: a new server's own has none.
            f"ALTER USER root@localhost IDENTIFIED VIA {socket} OR mysql_native_password USING PASSWORD('kata sandi');"
            "CREATE SERVER bpjs FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'bpjs.example.org', DATABASE 'd')"
        )
        place = make_place(folder / "backup")
        instance = replace(place.mariadb("simrs", server), method="logical")
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(server, place, instance, folder / "scratch")


def originators(server: MariaDBServer) -> list[list[str | None]]:
    return server.query("SELECT db, name, originator, status FROM mysql.event ORDER BY 1, 2")


def test_a_production_that_is_gone_comes_back_as_it_was_when_it_was_dumped(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    events = originators(site.server)
    site.commit("sesudah dump")
    site.server.kill9()
    (site.server.datadir / "ibdata1").unlink()
    (site.server.datadir / "ibdata2").unlink()
    planned = plan(order(site.place, site.instance, site.scratch))["plan"]
    assert planned["problems"] == []
    assert any("GTIDs from 1 on" in each for each in planned["remarks"])
    assert any("does not hold servers: bpjs" in each for each in planned["remarks"])
    assert "no log follows it" in planned["lost"]["detail"]
    answer = site.restored()
    print(answer["phases"], answer["rto"])
    after = compare(before, fingerprint(site.server, accounts=True), ignore=("table",))
    assert after.ok, str(after)
    assert originators(site.server) == events
    assert site.notes() == []
    assert siblings(site.server.datadir) == [Path(answer["kept"][0]["path"]).name]
    for name, value in (("innodb_page_size", "8192"), ("innodb_data_file_path", LAYOUT["innodb_data_file_path"])):
        assert site.server.value(f"SELECT @@{name}") == value
    assert sorted(path.name for path in site.server.datadir.glob("undo*")) == ["undo001", "undo002", "undo003"]
    assert site.server.value("SELECT COUNT(*) FROM mysql.global_priv WHERE User='dbcontinuity_scratch'") == "0"
    # What is lost counts from when the dump began, and the report says so.
    held = Repository.open(site.place.repository).instance("simrs").sets()
    assert answer["lost"]["since"] == next(held).manifest.values["started_at"]
    assert any("servers (1)" in each for each in answer["follow_ups"])
    assert "dump" in answer["lost"]["detail"]


def test_then_a_full_backup_is_made_and_can_be_brought_back(site: Site) -> None:
    site.commit("baru")
    full(site.place, site.instance)
    known = ranges(order(site.place, site.instance, site.scratch, record=""))["ranges"]
    assert [each["lineage"] for each in known] == ["", ""]
    assert all(each["from"] == each["to"] for each in known)
    assert tried(site.place, site.scratch, site.instance)["failed"] == []


def test_an_older_dump_comes_back_where_it_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Repository.open(site.place.repository).instance("simrs").set_names()
    monkeypatch.setattr(FullPlan, "renamed", lambda *_of: False)  # as from another host
    answer = site.restored(Target("set", held[0]))
    assert site.notes() == []
    assert answer["source"]["set"] == held[0]
    assert site.restored(Target("set", held[-1]))["source"]["set"] == held[-1]
    assert site.notes() == ["baru"]


def test_a_production_without_any_data_directory_gets_one(site: Site) -> None:
    mode = site.server.datadir.stat().st_mode
    site.server.kill9()
    shutil.rmtree(site.server.datadir)
    answer = site.restored(deep=True)
    assert site.notes() == ["baru"]
    assert answer["kept"] == []
    found = site.server.datadir.stat()
    assert (found.st_uid, found.st_mode) == (site.server.owner.uid, mode)
    assert any(each["name"].startswith("CHECK TABLE") for each in answer["checks"])
    # Every event and trigger works: the schema is not merely there.
    assert site.server.value("SELECT COUNT(*) FROM information_schema.TRIGGERS") != "0"


def test_a_production_whose_settings_changed_since_gets_files_that_fit(site: Site) -> None:
    """The page size is another one now: as the option files say it, since the server is gone."""
    site.server.kill9()
    shutil.rmtree(site.server.datadir)
    options = site.server.option_file
    before = options.read_text()
    options.write_text(before.replace("innodb_page_size=8k", "innodb-page-size=32768"))
    try:
        site.restored()
        assert site.server.value("SELECT @@innodb_page_size") == "32768"
        assert site.notes() == ["baru"]
    finally:
        site.server.stop()
        options.write_text(before)
        shutil.rmtree(site.server.datadir)
        site.restored()


def test_no_place_outside_comes_into_the_new_server(tmp_path: Path) -> None:
    recorded = {"innodb_data_file_path": "/srv/ibdata1:10M:autoextend", "innodb_page_size": "8192"}
    source = Source(tmp_path, {"engine_details": {"layout": recorded}}, Protection())
    server = MariaDBDumpScratch(Instance("simrs", "mariadb"), source, tmp_path, Sandbox(tmp_path, present_user()))
    assert server._layout == ["--innodb-page-size=8192"]


# -- refusals --


def refused(site: Site, kind: type[ContinuityError], match: str, request: Any) -> ContinuityError:
    before = site.untouched
    with pytest.raises(kind, match=match) as caught:
        restore(request, Progress())
    assert site.untouched == before
    assert not any(name.startswith("work-") for name in os.listdir(site.scratch))
    return caught.value


def test_a_moment_that_no_dump_has_is_refused_with_the_reason(site: Site) -> None:
    now = parse_moment("2026-01-01T00:00:00Z").isoformat()
    for target in (Target("time", now), Target("gtid", "0-1-10")):
        error = refused(
            site,
            InputError,
            "No log follows sets of the method logical",
            order(site.place, site.instance, site.scratch, target),
        )
        assert error.details["code"] == "out-of-range"
        assert "target set" in error.remedy
        assert "ship_logs" not in error.remedy


def test_refusals_touch_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(site, InputError, "was not confirmed", order(site.place, site.instance, site.scratch, confirm="simr"))
    look = Channel.look
    monkeypatch.setattr(Channel, "look", lambda *of: {**look(*of), "version": "11.8.6-MariaDB"})
    refused(
        site, PrerequisiteError, r"Production runs MariaDB 11\.8\.6", order(site.place, site.instance, site.scratch)
    )

    def elsewhere(*of: Any) -> dict[str, Any]:
        seen = look(*of)
        return {**seen, "variables": {}, "configured": {"innodb_undo_directory": "/srv/undo"}}

    monkeypatch.setattr(Channel, "look", elsewhere)
    refused(
        site,
        PrerequisiteError,
        "innodb_undo_directory is /srv/undo",
        order(site.place, site.instance, site.scratch),
    )
    outside = {"variables": {}, "configured": {"innodb_data_file_path": "/srv/ibdata1:10M:autoextend"}}
    monkeypatch.setattr(Channel, "look", lambda *of: {**look(*of), **outside})
    refused(
        site,
        PrerequisiteError,
        "cannot be read: innodb_data_file_path",
        order(site.place, site.instance, site.scratch),
    )


def test_a_damaged_dump_is_named_and_production_goes_on(site: Site) -> None:
    artefact = newest_artefact(site.place)
    request = order(site.place, site.instance, site.scratch)
    with spoilt(artefact, flip):
        error = refused(site, DamagedError, artefact.name, request)
    assert error.details["file"] == artefact.name


def test_files_that_would_not_fit_never_leave_the_backup_host(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = MariaDBDumpRestore.layout
    asked: list[int] = []

    def another(self: MariaDBDumpRestore) -> dict[str, str]:
        asked.append(1)
        return {**real(self), "innodb_page_size": "16384" if len(asked) == 1 else "8192"}

    monkeypatch.setattr(MariaDBDumpRestore, "layout", another)
    refused(
        site,
        PipelineError,
        "not laid out as production's: innodb_page_size is 16384 instead of 8192",
        order(site.place, site.instance, site.scratch),
    )


def test_new_data_that_fail_leave_production_on_the_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.commit("tetap ada")
    bring = restore_run.FullRun._bring

    def spoilt_files(self: restore_run.FullRun, settled: Path, spec: dict[str, Any]) -> None:
        (settled / "ibdata1").write_bytes(b"")
        bring(self, settled, spec)

    monkeypatch.setattr(restore_run.FullRun, "_bring", spoilt_files)
    request = order(site.place, site.instance, site.scratch)
    kept = siblings(site.server.datadir)
    with pytest.raises(PipelineError, match="the old data were put back, and production runs on them"):
        restore(request, Progress())
    monkeypatch.undo()
    assert "tetap ada" in site.notes()
    assert siblings(site.server.datadir) == kept
    last = list(Repository.open(site.place.repository).ledger.records())[-1]
    assert last["data"]["result"] == "failed"
    assert restore(request, Progress())["result"] == "succeeded"  # one instruction covers the second try
    assert "tetap ada" not in site.notes()


def test_the_next_full_restore_may_come_from_a_physical_set_again(site: Site) -> None:
    physical = replace(site.instance, method="physical")
    site.commit("fisik")
    full(site.place, physical)
    site.commit("sesudah fisik")
    record = instruct(site.place, physical, Target("set"))
    answer = restore(order(site.place, physical, site.scratch, Target("set"), record=record), Progress())
    assert answer["result"] == "succeeded"
    assert "fisik" in site.notes()
    assert "sesudah fisik" not in site.notes()
