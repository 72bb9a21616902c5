# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test restore of a real PostgreSQL server (T1, T2): everything is there, and whatever is wrong is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.client import tool_versions
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.full import verify_unpacked
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.segments import (
    AHEAD,
    BEHIND,
    SegmentFeeder,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PrerequisiteError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_trial import Trial
from demo.clients import PostgreSQLClient
from demo.compare import compare
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from demo.workload import Workload, check, read_journal
from tests.postgresql_support import Receiver
from tests.postgresql_support import instance as make_instance
from tests.restore_support import (
    codes,
    cut,
    cycle,
    evidence,
    flip,
    full,
    gone,
    newest_artefact,
    newest_log,
    said,
    spoilt,
    tried,
)
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@dataclass
class Site:
    """A server with the sample, its repository with a full set and logs, and a scratch folder."""

    server: PostgreSQLServer
    place: Place
    instance: Instance
    scratch: Path
    journal: Path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        workspace("rtp") as folder,
        # Nothing but these tests writes into its folders while one looks at them.
        PostgreSQLServer(folder / "simrs", fast=True, checksums=True, options={"autovacuum": "off"}) as server,
    ):
        load(server, patients=150)
        place = make_place(folder / "backup")
        instance = make_instance(place, "simrs", server)
        with Receiver(place, instance):
            with Workload(server, folder / "journal", rate=60) as work:
                work.wait_for(20)
                full(place, instance)
                work.wait_for_more(40)
                cycle(place, instance)
                work.wait_for_more(30)
            cycle(place, instance)
            yield Site(server, place, instance, folder / "scratch", folder / "journal")


def test_the_copy_equals_production_and_leaves_nothing(site: Site) -> None:
    compared = []

    def look(_name: str, server: ScratchServer) -> None:
        assert isinstance(server, engine.PostgreSQLScratch)
        copy = PostgreSQLClient(server.sockets, 5432)
        compared.append(compare(site.server, copy))
        assert check(copy, read_journal(site.journal)) == []

    expected = Expectations.from_json(
        "simrs",
        {
            "checks": [
                {"name": "pasien", "sql": "SELECT count(*) FROM simrs.pasien", "expect": "150", "database": "simrs"}
            ],
            "newest_row_sql": "SELECT max(waktu) FROM simrs.log_akses",
            "newest_row_database": "simrs",
            "rto_minutes": 60,
            "rpo_minutes": 60,
        },
    )
    answer = tried(
        site.place,
        site.scratch,
        site.instance,
        before_destroy=look,
        expectations={"simrs": expected},
        zone="Asia/Jakarta",
    )
    print(answer["report_text"])
    assert answer["failed"] == [], said(answer)
    assert compared[0].ok, str(compared[0])
    kept = evidence(site.place)
    assert kept["result"] == "succeeded"
    assert kept["attested"] is False
    assert kept["source"]["logs"] >= 2
    assert [(each["name"].split()[0], each["result"]) for each in kept["checks"]] == [
        ("pg_verifybackup", "passed"),
        ("pg_amcheck", "passed"),
        ("pg_checksums", "passed"),
    ]
    assert kept["content"]["rows"]["simrs.simrs.pasien"] == 150
    assert kept["content"]["objects"]["tablespaces"] == 1
    assert kept["rpo"]["newest_row_seconds"] < 600
    assert kept["destruction"]["files"] > 1000


def test_the_set_alone_is_the_moment_of_the_backup(site: Site) -> None:
    answer = tried(site.place, site.scratch, site.instance, target=Target("set"))
    assert answer["failed"] == [], said(answer)
    assert answer["instances"]["simrs"]["source"]["logs"] == 0


@pytest.mark.parametrize(
    ("where", "how", "code"),
    [
        ("base", flip, "damaged-artefact"),
        ("base", cut, "truncated-artefact"),
        ("log", flip, "damaged-log"),
        ("log", cut, "truncated-log"),
        ("log", gone, "missing-log"),
    ],
)
def test_what_is_damaged_is_named_and_no_copy_is_made(site: Site, where: str, how: object, code: str) -> None:
    path = newest_artefact(site.place, content="pg-tar") if where == "base" else newest_log(site.place, back=1)
    with spoilt(path, how):  # type: ignore[arg-type]
        answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == [code]
    assert path.name in said(answer)
    assert "destruction" not in answer["instances"]["simrs"]


def test_a_log_that_cannot_be_decoded_ends_the_recovery(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage after the checksums were read, as by a failing disk, is no early end of the log."""
    path = newest_log(site.place)
    monkeypatch.setattr(Trial, "checksums", lambda _self, _progress: None)
    with spoilt(path, cut):
        answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer)[0] in ("replay-failed", "decryption-failed")
    assert answer["instances"]["simrs"]["destruction"]


def test_a_recovery_that_ends_before_its_target_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last segment is withheld: without a target the server would open, with rows missing."""
    whole = SegmentFeeder._write_names

    def without_the_last(self: SegmentFeeder, first: int) -> None:
        whole(self, first)
        names = self._index / "names"
        names.write_text("".join(names.read_text().splitlines(keepends=True)[:-1]))

    monkeypatch.setattr(SegmentFeeder, "_write_names", without_the_last)
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["replay-failed"]
    assert "recovery ended before configured recovery target was reached" in said(answer)


def test_a_long_chain_is_fed_a_few_segments_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.server.query("CREATE TABLE simrs.panjang (i int)", "simrs")
    for number in range(AHEAD + BEHIND + 6):
        site.server.query(f"INSERT INTO simrs.panjang VALUES ({number}); SELECT pg_switch_wal()", "simrs")  # noqa: S608
    cycle(site.place, site.instance)
    held: list[int] = []
    forget = SegmentFeeder._forget

    def counted(self: SegmentFeeder, below: int) -> None:
        forget(self, below)
        held.append(sum(1 for path in self._index.iterdir() if len(path.name) == 24))

    monkeypatch.setattr(SegmentFeeder, "_forget", counted)
    answer = tried(site.place, site.scratch, site.instance)
    assert answer["failed"] == [], said(answer)
    tested = answer["instances"]["simrs"]
    assert tested["content"]["rows"]["simrs.simrs.panjang"] == AHEAD + BEHIND + 6
    assert tested["source"]["logs"] > AHEAD + BEHIND + 6
    assert len(held) == tested["source"]["logs"]
    assert max(held) <= AHEAD + BEHIND + 1


def test_another_release_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = tool_versions
    older = {"version": "14.11"}
    monkeypatch.setattr(engine, "tool_versions", lambda values, names: looked({**values, "server": older}, names))
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["version-mismatch"]
    assert "PostgreSQL 14" in said(answer)


def test_a_link_that_leaves_the_folder_is_not_started(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a tablespace would whose map was taken as it is: straight into production's own folder."""
    verify = verify_unpacked

    def planted(folder: Path, manifest: object, *, content: bool) -> object:
        answer = verify(folder, manifest, content=content)  # type: ignore[arg-type]
        (folder / "base.tar" / "pg_tblspc" / "99999").symlink_to(site.server.external)
        return answer

    monkeypatch.setattr(engine, "verify_unpacked", planted)
    site.server.query("CHECKPOINT")
    before = {str(path): path.stat().st_mtime_ns for path in sorted(site.server.external.rglob("*"))}
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["verification-of-the-base-failed"]
    assert "leads out of the scratch folder" in said(answer)
    assert {str(path): path.stat().st_mtime_ns for path in sorted(site.server.external.rglob("*"))} == before


@pytest.mark.slow
def test_a_table_that_was_emptied_is_a_finding(site: Site) -> None:
    site.server.query("CREATE TABLE simrs.antri AS SELECT generate_series(1, 10) AS i", "simrs")
    cycle(site.place, site.instance)
    assert tried(site.place, site.scratch, site.instance)["failed"] == []
    site.server.query("TRUNCATE simrs.antri", "simrs")
    cycle(site.place, site.instance)
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["table-emptied"]
    assert "simrs.simrs.antri is empty; it had 10 rows" in said(answer)


def test_the_folders_of_the_running_server_are_refused(site: Site) -> None:
    for path in (site.server.datadir, site.server.datadir / "x", site.server.run_folder, site.server.external / "x"):
        before = sorted(os.listdir(path)) if path.is_dir() else None
        with pytest.raises(PrerequisiteError, match="running postgres"):
            tried(site.place, path, site.instance)
        assert (sorted(os.listdir(path)) if path.is_dir() else None) == before


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can shut production's folders off")
def test_a_tablespace_made_after_the_set_is_not_touched_and_calls_for_a_new_full() -> None:
    with workspace("rtpt") as folder, PostgreSQLServer(folder / "lab", fast=True) as server:
        server.query("CREATE TABLE a AS SELECT 1 AS i")
        place = make_place(folder / "backup")
        instance = make_instance(place, "simrs", server)
        space = server.external / "baru"
        with Receiver(place, instance):
            full(place, instance)
            space.mkdir()
            server.owner.give(space)
            server.query(f"CREATE TABLESPACE baru LOCATION '{space}'")
            server.query("CREATE TABLE c TABLESPACE baru AS SELECT 1 AS i")
            cycle(place, instance)
            server.query("CHECKPOINT")
            before = {str(path): path.stat().st_mtime_ns for path in space.rglob("*")}
            answer = tried(place, folder / "scratch", instance)
            assert codes(answer) == ["replay-failed"]
            assert "tablespace was made after the set" in answer["instances"]["simrs"]["findings"][0]["remedy"]
            assert {str(path): path.stat().st_mtime_ns for path in space.rglob("*")} == before
            full(place, instance, force=True)
            assert tried(place, folder / "scratch", instance)["failed"] == []
