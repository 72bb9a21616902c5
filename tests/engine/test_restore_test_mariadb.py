# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test restore of a real MariaDB server (T1, T2): everything is there, and whatever is wrong is named."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PrerequisiteError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations
from demo.clients import MariaDBClient
from demo.compare import compare
from demo.sample import load
from demo.servers import MariaDBServer, workspace
from demo.workload import Workload, check, read_journal
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

    server: MariaDBServer
    place: Place
    instance: Instance
    scratch: Path
    journal: Path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rtm") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        load(server, patients=150)
        place = make_place(folder / "backup")
        instance = place.mariadb("simrs", server)
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
        assert isinstance(server, engine.MariaDBScratch)
        copy = MariaDBClient(server.socket, option_file=server._option_file)
        compared.append(compare(site.server, copy))
        assert check(copy, read_journal(site.journal)) == []

    expected = Expectations.from_json(
        "simrs",
        {
            "checks": [{"name": "pasien", "sql": "SELECT COUNT(*) FROM simrs.pasien", "expect": ">= 150"}],
            "newest_row_sql": "SELECT MAX(waktu) FROM simrs.log_akses",
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
    assert kept["source"]["logs"] == 2
    assert kept["replay"]["transactions"] > 50
    assert kept["content"]["objects"]["tables"] == kept["content"]["objects_of_the_backup"]["tables"]
    assert kept["content"]["rows"]["simrs.pasien"] == 150
    assert kept["rto"]["actual_seconds"] > 0
    assert kept["rpo"]["newest_row"]
    assert kept["server"] == {
        "run_as": site.server.owner.name,
        "isolation": "own network, mount and IPC namespaces" if os.geteuid() == 0 else "no network listener",
        "folder": str(site.scratch / "work-simrs"),
    }
    assert kept["destruction"]["files"] > 100
    report = Path(answer["report"]).read_text()
    for words in ("BERITA ACARA UJI RESTORE", "BERHASIL", "mariadb-backup --prepare", "Pemusnahan data uji"):
        assert words in report


def test_the_set_alone_is_the_moment_of_the_backup(site: Site) -> None:
    answer = tried(site.place, site.scratch, site.instance, target=Target("set"))
    assert answer["failed"] == [], said(answer)
    assert answer["instances"]["simrs"]["source"]["logs"] == 0


def test_check_mode_says_what_would_be_tested_and_touches_nothing(site: Site, tmp_path: Path) -> None:
    records = list(site.place.repository.rglob("*"))
    folder = site.scratch.parent / "untouched"
    answer = tried(site.place, folder, site.instance, check_only=True)
    plan = answer["instances"]["simrs"]
    assert plan["result"] == "would be tested"
    assert plan["logs"] >= 2
    assert plan["tools"]["mariadbd"].startswith("1")
    assert not folder.exists()
    assert list(site.place.repository.rglob("*")) == records


@pytest.mark.parametrize(
    ("where", "how", "code"),
    [
        ("base", flip, "damaged-artefact"),
        ("base", cut, "truncated-artefact"),
        ("base", gone, "missing-artefact"),
        ("log", flip, "damaged-log"),
        ("log", cut, "truncated-log"),
        ("log", gone, "missing-log"),
    ],
)
def test_what_is_damaged_is_named_and_no_copy_is_made(site: Site, where: str, how: object, code: str) -> None:
    path = newest_artefact(site.place) if where == "base" else newest_log(site.place, back=1)
    with spoilt(path, how):  # type: ignore[arg-type]
        answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == [code]
    assert path.name in said(answer)
    assert "destruction" not in answer["instances"]["simrs"]
    assert "GAGAL" in answer["report_text"]


def test_a_record_that_is_gone_is_a_hole(site: Site) -> None:
    log = newest_log(site.place, back=1)
    record = next(path for path in log.parent.glob(f"{log.name.split('-')[0]}-*.json"))
    with spoilt(record, gone):
        answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["damaged-chain"]
    assert "has 0 records of number" in said(answer)


def test_a_wrong_key_is_named(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    subprocess.run(["age-keygen", "-o", str(other)], capture_output=True, check=True)
    answer = tried(site.place, site.scratch, site.instance, protection=Protection((), other))
    assert codes(answer) == ["decryption-failed"]
    assert answer["instances"]["simrs"]["destruction"]["path"].endswith("work-simrs")


def test_another_release_is_refused_before_anything_is_unpacked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "tool_version", lambda _shown: "11.8.6")
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["version-mismatch"]
    assert "11.8.6" in said(answer)
    assert "destruction" not in answer["instances"]["simrs"]


def test_a_replay_that_is_refused_names_the_log(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # From the log's beginning on, events come again that the set holds already.
    feed = engine.MariaDBScratch._feed

    def from_the_beginning(self: engine.MariaDBScratch, record: object, position: int, *rest: object) -> bool:
        return feed(self, record, 4, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.MariaDBScratch, "_feed", from_the_beginning)
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["replay-failed"]
    assert "1950" in said(answer) or "gtid" in said(answer).lower()


def test_tables_that_shrank_and_unmet_assertions_are_findings(site: Site) -> None:
    site.server.query("CREATE TABLE simrs.antri (i INT); INSERT INTO simrs.antri SELECT seq FROM seq_1_to_10", "simrs")
    site.server.query("CREATE TABLE simrs.tarif (i INT); INSERT INTO simrs.tarif SELECT seq FROM seq_1_to_10", "simrs")
    cycle(site.place, site.instance)
    assert tried(site.place, site.scratch, site.instance)["failed"] == []
    site.server.query("DELETE FROM simrs.antri; DELETE FROM simrs.tarif WHERE i > 6")
    cycle(site.place, site.instance)
    wrong = {"checks": [{"name": "tarif", "sql": "SELECT COUNT(*) FROM simrs.tarif", "expect": "10"}]}
    expected = {"simrs": Expectations.from_json("simrs", wrong)}
    answer = tried(site.place, site.scratch, site.instance, expectations=expected)
    assert codes(answer) == ["table-emptied", "table-shrunk", "assertion-not-met"]
    assert "simrs.antri is empty; it had 10 rows" in said(answer)
    assert "gave '6'; it should give '10'" in said(answer)
    # The failed test is no new measure: only whoever accepts it makes it one.
    assert codes(tried(site.place, site.scratch, site.instance)) == ["table-emptied", "table-shrunk"]
    accepted = tried(site.place, site.scratch, site.instance, accept_shrinking=["simrs.antri", "simrs.tarif"])
    assert accepted["failed"] == []


def test_a_log_that_names_productions_folder_writes_nothing_there(site: Site) -> None:
    outside = site.server.external
    site.server.query(f"CREATE TABLE simrs.luar (i INT) ENGINE=InnoDB DATA DIRECTORY='{outside}'")
    site.server.query("INSERT INTO simrs.luar VALUES (1)")
    cycle(site.place, site.instance)
    # The server itself writes it from its memory some time: now, not while the copy is there.
    site.server.query("FLUSH TABLES simrs.luar FOR EXPORT; UNLOCK TABLES")
    before = {str(path): path.stat().st_mtime_ns for path in sorted(outside.rglob("*"))}
    inside: list[list[Path]] = []
    answer = tried(
        site.place,
        site.scratch,
        site.instance,
        before_destroy=lambda _name, server: inside.append(list(server.folder.rglob("luar.ibd"))),
    )
    assert answer["failed"] == [], said(answer)
    assert len(inside[0]) == 1
    assert {str(path): path.stat().st_mtime_ns for path in sorted(outside.rglob("*"))} == before


def test_the_folder_of_the_running_server_is_refused(site: Site) -> None:
    for path in (site.server.datadir, site.server.datadir / "x", site.server.base, site.server.run_folder):
        before = sorted(os.listdir(path)) if path.is_dir() else None
        with pytest.raises(PrerequisiteError, match="running mariadbd"):
            tried(site.place, path, site.instance)
        assert (sorted(os.listdir(path)) if path.is_dir() else None) == before
