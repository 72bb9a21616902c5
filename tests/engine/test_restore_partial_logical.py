# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial restores out of dumps (R2): tables, schemas and databases beside, and schemas and databases exchanged whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from demo.compare import compare, fingerprint
from demo.fingerprint import Fingerprint
from demo.sample import load
from demo.server import Server
from demo.servers import MariaDBServer, PostgreSQLServer, workspace
from tests.postgresql_support import write_service
from tests.restore_full_support import allow_restore, instruct, order
from tests.restore_support import full
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
PATIENTS = 60
LAB = "Laboratorium é"


@dataclass
class Site:
    """A production server with the sample, one dump of it, a scratch folder; and what was there when it was dumped."""

    server: Server
    place: Place
    instance: Instance
    scratch: Path
    backup: Fingerprint

    def restored(self, mode: str, *scope: str) -> dict[str, Any]:
        """Restore in part, under an instruction of its own."""
        record = instruct(self.place, self.instance, scope=list(scope), mode=mode)
        wanted = order(self.place, self.instance, self.scratch, scope=scope, mode=mode, record=record)
        answer = restore(wanted, Progress())
        assert answer["result"] == "succeeded"
        assert [name for name in os.listdir(self.scratch) if name.startswith("work-")] == []
        return answer

    def same(self, ignore: tuple[str, ...] = ()) -> None:
        """Hold production against what was dumped."""
        found = compare(self.backup, self.server, accounts=True, ignore=ignore)
        assert found.ok, str(found)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Site]:
    with workspace("plm") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        load(server, patients=PATIENTS)
        place = make_place(folder / "backup")
        instance = replace(place.mariadb("simrs", server), method="logical")
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(server, place, instance, folder / "scratch", fingerprint(server, accounts=True))


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Site]:
    with workspace("plp") as folder, PostgreSQLServer(folder / "simrs", fast=True) as server:
        load(server, patients=PATIENTS)
        place = make_place(folder / "backup")
        account = server.account("dbc_dump", ("SUPERUSER",))
        path = write_service(place.root / "credentials" / "simrs", "simrs", server, account.user, account.password)
        instance = Instance(name="simrs", engine="postgresql", method="logical", credentials=path, agent=place.agent)
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(server, place, instance, folder / "scratch", fingerprint(server, accounts=True))


def test_mariadb_beside_touches_nothing_else(mariadb: Site) -> None:
    mariadb.server.query("DELETE FROM simrs.resep_detail")
    before = fingerprint(mariadb.server, accounts=True)
    answer = mariadb.restored("beside", "table:simrs.resep_detail", "database:bridging_bpjs")
    places = sorted({each.partition(".")[0] for each in answer["place"].split(", ")})
    assert len(places) == 2
    rows = fingerprint(mariadb.server).objects["rows"]
    assert rows[f"{places[0]}.resep_detail"] == mariadb.backup.objects["rows"]["simrs.resep_detail"]
    for place in places:
        mariadb.server.query(f"DROP DATABASE {place}")
    after = compare(before, mariadb.server, accounts=True)
    assert after.ok, str(after)
    mariadb.restored("replace", "table:simrs.resep_detail")
    mariadb.same()


def test_mariadb_a_database_is_swapped_whole_and_the_old_one_kept(mariadb: Site) -> None:
    mariadb.server.query(
        "SET foreign_key_checks = 0; DROP TABLE resep_detail; DELETE FROM pasien; DROP VIEW v_rekap_poli; DROP FUNCTION umur;"
        "DROP EVENT arsip_tahunan; CREATE TABLE sisa (i INT); ALTER TABLE dokter ADD COLUMN baru INT;"
        "SELECT SETVAL(seq_tagihan, 99999)",
        "simrs",
    )
    answer = mariadb.restored("replace", "database:simrs")
    kept = answer["kept"][0]["path"]
    assert mariadb.server.value(f"SELECT COUNT(*) FROM {kept}.sisa") == "0"  # noqa: S608
    mariadb.server.query(f"DROP DATABASE {kept}")
    mariadb.same()


def test_mariadb_a_database_that_was_dropped_comes_back(mariadb: Site) -> None:
    mariadb.server.query("DROP DATABASE bridging_bpjs")
    mariadb.restored("replace", "database:bridging_bpjs")
    mariadb.same()


def test_postgresql_beside_touches_nothing_else(postgresql: Site) -> None:
    postgresql.server.query("DELETE FROM simrs.resep_detail", "simrs")
    before = fingerprint(postgresql.server, accounts=True)
    answer = postgresql.restored("beside", "table:simrs.simrs.resep_detail", f"schema:{LAB}.lis")
    place = next(each.split(".")[1] for each in answer["place"].split(", "))
    rows = fingerprint(postgresql.server).objects["rows"]
    whole = next(value for name, value in postgresql.backup.objects["rows"].items() if name.endswith("resep_detail"))
    assert whole in [value for name, value in rows.items() if place in name and name.endswith("resep_detail")]
    for database in ("simrs", LAB):
        postgresql.server.query(f"DROP SCHEMA {place} CASCADE", database)
    after = compare(before, postgresql.server, accounts=True)
    assert after.ok, str(after)
    answer = postgresql.restored("beside", f"database:{LAB}")
    database = answer["place"].split(",")[0].split(".")[0]
    assert postgresql.server.value("SELECT count(*) FROM lis.hasil_mentah", database) == "2000"
    postgresql.server.query(f'DROP DATABASE "{database}"')
    postgresql.restored("replace", "table:simrs.simrs.resep_detail")
    postgresql.same()


def test_postgresql_a_schema_is_swapped_whole_and_the_old_one_kept(postgresql: Site) -> None:
    postgresql.server.query(
        "DELETE FROM lis.hasil_mentah; DROP VIEW lis.v_hasil; INSERT INTO lis.alat (nama) VALUES ('baru')", LAB
    )
    answer = postgresql.restored("replace", f"schema:{LAB}.lis")
    kept = answer["kept"][0]["path"]
    assert postgresql.server.value(f"SELECT count(*) FROM {kept}.hasil_mentah", LAB) == "0"  # noqa: S608
    postgresql.server.query(f"DROP SCHEMA {kept} CASCADE", LAB)
    postgresql.same()


def test_postgresql_a_database_is_swapped_whole_and_the_old_one_kept(postgresql: Site) -> None:
    postgresql.server.query("DROP SCHEMA lis CASCADE; CREATE TABLE public.sisa (i int)", LAB)
    answer = postgresql.restored("replace", f"database:{LAB}")
    kept = answer["kept"][0]["path"]
    assert postgresql.server.value("SELECT count(*) FROM public.sisa", kept) == "0"
    postgresql.server.query(f'DROP DATABASE "{kept}"')
    postgresql.same()


def test_postgresql_a_database_that_was_dropped_comes_back(postgresql: Site) -> None:
    postgresql.server.query(f'DROP DATABASE "{LAB}"')
    postgresql.restored("replace", f"database:{LAB}")
    postgresql.same()
