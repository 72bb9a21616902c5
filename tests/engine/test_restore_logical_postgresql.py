# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of the method logical, brought up: dumps of PostgreSQL in a throwaway server (T1, T2), and parts of it back (R2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.dump_scratch import (
    PostgreSQLDumpScratch,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations
from demo.clients import PostgreSQLClient
from demo.compare import compare, fingerprint
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from tests.engine.test_restore_test_postgresql import Site
from tests.postgresql_support import write_service
from tests.restore_full_support import allow_restore, instruct, order, tree
from tests.restore_support import codes, cut, evidence, flip, full, gone, newest_artefact, said, spoilt, tried
from tests.support import make_place

pytestmark = pytest.mark.engine
ODD = "arsip\n rm -rf é"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    options = {"autovacuum": "off"}  # nothing but these tests writes into its folders while one looks at them
    with workspace("rlp") as folder, PostgreSQLServer(folder / "simrs", fast=True, options=options) as server:
        # With a tablespace: the dump of roles names production's own folder.
        load(server, patients=150)
        server.query(f'CREATE DATABASE "{ODD}"')
        server.query("CREATE TABLE t (i int); INSERT INTO t VALUES (1)", ODD)
        server.query("CREATE TABLE di_postgres (i int); INSERT INTO di_postgres VALUES (7)", "postgres")
        place = make_place(folder / "backup")
        account = server.account("dbc_dump", ("SUPERUSER",))
        path = write_service(place.root / "credentials" / "simrs", "simrs", server, account.user, account.password)
        instance = Instance(name="simrs", engine="postgresql", method="logical", credentials=path, agent=place.agent)
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(server, place, instance, folder / "scratch", folder / "journal")


def test_the_dumps_are_loaded_and_looked_at_as_a_physical_set_is(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    site.server.query("CHECKPOINT")
    outside = tree(site.server.external)
    assert outside
    compared = []

    def look(_name: str, server: ScratchServer) -> None:
        assert isinstance(server, PostgreSQLDumpScratch)
        compared.append(compare(before, PostgreSQLClient(server.sockets, 5432), accounts=True))
        places = server.client.query("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384")
        assert [Path(each[0] or "").parent.parent for each in places] == [server.folder]

    expected = Expectations.from_json(
        "simrs",
        {
            "checks": [
                {"name": "pasien", "sql": "SELECT count(*) FROM simrs.pasien", "expect": "150", "database": "simrs"},
                {"name": "odd", "sql": "SELECT i FROM t", "expect": "1", "database": ODD},
                {"name": "own", "sql": "SELECT i FROM di_postgres", "expect": "7", "database": "postgres"},
            ],
            "newest_row_sql": "SELECT max(waktu) FROM simrs.log_akses",
            "newest_row_database": "simrs",
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
    assert compared[0].ok, str(compared[0])
    kept = evidence(site.place)
    assert kept["source"]["logs"] == 0
    assert kept["content"]["rows"]["simrs.simrs.pasien"] == 150
    assert kept["content"]["objects"]["tablespaces"] == 1
    assert [(each["name"].split()[0], each["result"]) for each in kept["checks"]] == [
        ("psql,", "passed"),
        ("pg_amcheck", "passed"),
        ("pg_checksums", "not checkable"),
    ]
    # Nothing was written into production's own tablespace.
    assert tree(site.server.external) == outside


@pytest.mark.parametrize(
    ("content", "how", "code"),
    [
        ("pg-dump", flip, "damaged-artefact"),
        ("pg-dump", cut, "truncated-artefact"),
        ("sql", gone, "missing-artefact"),
    ],
)
def test_a_damaged_dump_fails_the_test_and_is_named(site: Site, content: str, how: object, code: str) -> None:
    artefact = newest_artefact(site.place, content=content)
    with spoilt(artefact, how):  # type: ignore[arg-type]
        answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == [code]
    assert artefact.name in said(answer)


def test_a_statement_that_is_refused_ends_the_test_with_its_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PostgreSQLDumpScratch._with_own_spaces
    extra = b"\nCREATE DATABASE x TEMPLATE template0 LOCALE 'xx_XX.nowhere';\n"
    monkeypatch.setattr(PostgreSQLDumpScratch, "_with_own_spaces", lambda self, text: real(self, text) + extra)
    answer = tried(site.place, site.scratch, site.instance)
    assert codes(answer) == ["unpacking-failed"]
    assert "xx_XX.nowhere" in said(answer)
    assert "locales" in answer["instances"]["simrs"]["findings"][0]["remedy"]


def test_a_tablespace_that_cannot_be_read_is_never_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PostgreSQLDumpScratch._with_own_spaces
    extra = b"\nCREATE TABLESPACE x LOCATION '/somewhere';\n"
    monkeypatch.setattr(PostgreSQLDumpScratch, "_with_own_spaces", lambda self, text: real(self, text + extra))
    answer = tried(site.place, site.scratch, site.instance)
    assert "cannot be read; it was not loaded" in said(answer)


def test_a_table_comes_back_out_of_a_dump_and_all_else_stays(site: Site) -> None:
    before = fingerprint(site.server, accounts=True)
    site.server.query(
        "SET session_replication_role = replica; DELETE FROM simrs.pasien WHERE no_rm > '00000100'", "simrs"
    )
    scope = ["table:simrs.simrs.pasien"]
    record = instruct(site.place, site.instance, scope=scope, mode="replace")
    answer = restore(
        order(site.place, site.instance, site.scratch, scope=scope, mode="replace", record=record), Progress()
    )
    assert answer["result"] == "succeeded"
    assert answer["items"][0]["difference"]["only_in_copy"] == 50
    result = compare(before, site.server, accounts=True)
    assert result.ok, str(result)
