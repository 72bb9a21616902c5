# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of the method logical, brought up: a dump of MariaDB in a throwaway server (T1, T2), and parts of it back (R2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import scratch as engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.dump_scratch import MariaDBDumpScratch
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations
from demo.clients import MariaDBClient
from demo.compare import compare, fingerprint
from demo.sample import load
from demo.servers import MariaDBServer, workspace
from tests.engine.test_restore_test_mariadb import Site
from tests.restore_full_support import allow_restore, instruct, order, tree
from tests.restore_support import codes, cut, evidence, flip, full, gone, newest_artefact, said, spoilt, tried
from tests.support import make_place

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rlm") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        # With tables that lie outside the data directory: their statements in the dump name that place.
        load(server, patients=150)
        server.query(
            "CREATE TABLE simrs.tarif_sejarah (id INT PRIMARY KEY, harga INT) WITH SYSTEM VERSIONING;"
            "INSERT INTO simrs.tarif_sejarah VALUES (1, 100); UPDATE simrs.tarif_sejarah SET harga = 200;"
            "CREATE USER kasir@localhost IDENTIFIED BY 'x'; GRANT SELECT (no_rm) ON simrs.pasien TO kasir@localhost"
        )
        place = make_place(folder / "backup")
        instance = replace(place.mariadb("simrs", server), method="logical")
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(server, place, instance, folder / "scratch", folder / "journal")


def test_the_dump_is_loaded_and_looked_at_as_a_physical_set_is(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    outside = tree(site.server.external)
    assert outside
    compared = []

    def look(_name: str, server: ScratchServer) -> None:
        assert isinstance(server, MariaDBDumpScratch)
        copy = MariaDBClient(server.socket, option_file=server._option_file)
        compared.append(compare(before, copy, accounts=True))
        assert (
            copy.value("SELECT COUNT(*) FROM information_schema.TABLES WHERE CREATE_OPTIONS LIKE '%DIRECTORY%'") == "0"
        )

    expected = Expectations.from_json(
        "simrs",
        {
            "checks": [{"name": "pasien", "sql": "SELECT COUNT(*) FROM simrs.pasien", "expect": "150"}],
            "newest_row_sql": "SELECT MAX(waktu) FROM simrs.log_akses",
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
    assert answer["failed"] == [], said(answer)
    # Nothing but the throwaway's own account.
    different = {(one.kind, one.name, one.attribute) for one in compared[0].differences}
    assert different == {("user", "'dbcontinuity_scratch'@'localhost'", "exists")}, str(compared[0])
    kept = evidence(site.place)
    assert kept["source"]["logs"] == 0
    assert kept["content"]["rows"]["simrs.pasien"] == 150
    assert kept["content"]["objects"]["tables"] == kept["content"]["objects_of_the_backup"]["tables"]
    assert kept["rpo"]["newest_row"]
    assert kept["destruction"]["files"] > 100
    names = [each["name"] for each in kept["checks"]]
    assert names[0].startswith("mariadb-dump: loaded whole")
    assert names[1].startswith("CHECK TABLE")
    # Nothing was written where the dump's DATA DIRECTORY points to.
    assert tree(site.server.external) == outside


@pytest.mark.parametrize(
    ("how", "code"), [(flip, "damaged-artefact"), (cut, "truncated-artefact"), (gone, "missing-artefact")]
)
def test_a_damaged_dump_fails_the_test_and_is_named(site: Site, how: object, code: str) -> None:
    artefact = newest_artefact(site.place)
    with spoilt(artefact, how):  # type: ignore[arg-type]
        answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == [code]
    assert artefact.name in said(answer)


def test_a_dump_that_holds_less_than_was_counted_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = MariaDBDumpScratch._load

    def fewer(self: MariaDBDumpScratch, *arguments: object) -> dict[str, int]:
        return {**real(self, *arguments), "triggers": 1}  # type: ignore[arg-type]

    monkeypatch.setattr(MariaDBDumpScratch, "_load", fewer)
    answer = tried(site.place, site.scratch, site.instance)
    assert "1 triggers instead of" in said(answer)


def test_a_table_comes_back_out_of_a_dump_and_all_else_stays(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    site.server.query("SET foreign_key_checks = 0; DELETE FROM simrs.pasien WHERE no_rm > '00000100'")
    scope = ["table:simrs.pasien"]
    record = instruct(site.place, site.instance, scope=scope, mode="replace")
    request = order(site.place, site.instance, site.scratch, scope=scope, mode="replace", record=record)
    answer = restore(request, Progress())
    assert answer["result"] == "succeeded"
    assert answer["items"][0]["difference"]["only_in_copy"] == 50
    result = compare(before, site.server, accounts=True)
    assert result.ok, str(result)


def test_programs_of_another_series_are_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "tool_version", lambda _shown: "11.8.6")
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["version-mismatch"]
