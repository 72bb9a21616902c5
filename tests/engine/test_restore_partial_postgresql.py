# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - its SQL is made of its own names and numbers
"""Partial restore of PostgreSQL (R2): what was asked for comes back, all else stays as it was, also where it fails."""

from __future__ import annotations

import copy
import gzip
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import exchange
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    InputError,
    PipelineError,
    PrerequisiteError,
)
from demo.compare import compare, fingerprint
from demo.fingerprint import Fingerprint
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from tests.partial_support import SAMPLES, WORD, Production, Writer, copy_of, in_a_process_that_dies, item
from tests.postgresql_support import instance as make_instance
from tests.restore_full_support import allow_restore, channel
from tests.restore_support import full
from tests.support import make_place

pytestmark = pytest.mark.engine

PATIENTS = 60
DB = "simrs"
LAB = "Laboratorium é"


@dataclass
class Site(Production):
    """A server with the sample, backed up, and how copies of that moment are brought up."""

    server: PostgreSQLServer
    scratch: Path
    backup: Fingerprint

    @contextmanager
    def copy(self) -> Iterator[ScratchServer]:
        with copy_of(self.place, self.instance, self.scratch) as server:
            yield server

    def now(self) -> Fingerprint:
        return fingerprint(self.server, accounts=True)

    def same_as(self, before: Fingerprint) -> None:
        compared = compare(before, self.now(), accounts=True)
        assert compared.ok, str(compared)

    def sql(self, sql: str, database: str = DB) -> list[list[str | None]]:
        return self.server.query(
            f"SET search_path = simrs, public; SET session_replication_role = replica; {sql}", database
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rpp") as folder, PostgreSQLServer(folder / "simrs", fast=True) as server:
        load(server, patients=PATIENTS)
        server.query(
            "CREATE TABLE public.beban (id serial PRIMARY KEY, isi int);"
            "CREATE TABLE simrs.tanpa_kunci (a int, b text, f real); INSERT INTO simrs.tanpa_kunci VALUES (1, 'x', 0.1),"
            " (1, 'x', 0.1), (1, 'x', 0.1), (2, NULL, 'NaN')",
            DB,
        )
        place = make_place(folder / "backup")
        instance = make_instance(place, "simrs", server)
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(place, instance, channel(place), server, folder / "scratch", fingerprint(server, accounts=True))


def writing(site: Site) -> Writer:
    return Writer(site.server, "INSERT INTO public.beban (isi) VALUES ({n})", DB)


def without(made: Fingerprint, *names: str) -> Fingerprint:
    """Return a fingerprint without the rows that somebody writes meanwhile."""
    made = copy.deepcopy(made)
    for kind in ("rows", "sequence"):
        objects = made.objects.get(kind, {})
        for name in [each for each in objects if any(one in each for one in names)]:
            del objects[name]
    return made


def same_but(site: Site, before: Fingerprint, *names: str) -> None:
    compared = compare(without(before, *names), without(site.now(), *names), accounts=True)
    assert compared.ok, str(compared)


def test_a_table_with_triggers_and_views_gets_its_rows_back_and_none_fires(site: Site) -> None:
    site.sql(
        "DELETE FROM pasien WHERE no_rm > '00000050';"
        "INSERT INTO pasien (no_rm, nm_pasien, jk) VALUES ('99999999', 'Baru', 'L');"
        "UPDATE pasien SET telp = NULL, alamat = NULL, data_lain = '{}' WHERE no_rm < '00000010';"
    )
    before = site.now()
    with site.copy() as server:
        planned = site.restored(server, "table:simrs.simrs.pasien", check_only=True)
        site.same_as(before)
        with writing(site):
            answer = site.restored(server, "table:simrs.simrs.pasien")
    difference = item(planned, "table:simrs.simrs.pasien")["difference"]
    assert (difference["only_in_production"], difference["only_in_copy"], difference["changed"]) == (1, 10, 9)
    assert difference["keys"]["only_in_production"] == ["99999999"]
    assert "Baru" not in str(planned) + str(answer)
    same_but(site, site.backup, "beban")
    audit = site.sql("SELECT count(*) FROM log_perubahan")[-1][0]
    site.server.query("UPDATE simrs.pasien SET nm_pasien = nm_pasien || ' x' WHERE no_rm = '00000002'", DB)
    assert site.sql("SELECT count(*) FROM log_perubahan")[-1][0] == str(int(audit or 0) + 1)
    site.sql(
        "UPDATE pasien SET nm_pasien = replace(nm_pasien, ' x', '') WHERE no_rm = '00000002';"
        " DELETE FROM log_perubahan WHERE id = (SELECT max(id) FROM log_perubahan)"
    )


def test_every_kind_of_table_comes_back_exactly(site: Site) -> None:
    names = [
        "simrs.berkas_pasien",
        "simrs.hasil_laboratorium",
        "simrs.antrian",
        "simrs.tanpa_kunci",
        "simrs.poliklinik",
        "simrs.arsip_dasar",
        "simrs.arsip_radiologi",
        "simrs.jadwal_ruang",
        'simrs.o\'brien "kutip"',
        "simrs.pemeriksaan_日本",
        "Arsip Lama é.Rekam Medis 2009",
    ]
    site.sql(
        "DELETE FROM berkas_pasien WHERE id % 2 = 0; UPDATE berkas_pasien SET bendera = NULL, xml = NULL, isi = 'x';"
        "DELETE FROM hasil_laboratorium WHERE tgl_periksa < '2023-01-01'; UPDATE hasil_laboratorium SET nilai = 0.1 WHERE id % 3 = 0;"
        "DELETE FROM antrian WHERE no_rawat IS NULL; INSERT INTO antrian VALUES ('P000', 1, NULL), ('P000', 1, NULL);"
        "DELETE FROM tanpa_kunci WHERE ctid = (SELECT min(ctid) FROM tanpa_kunci); INSERT INTO tanpa_kunci VALUES (9, '\\', 1);"
        "UPDATE poliklinik SET jam = NULL; INSERT INTO poliklinik VALUES ('P999', 'Salah', NULL);"
        "DELETE FROM ONLY arsip_dasar WHERE id < 10; DELETE FROM arsip_radiologi WHERE id < 150; DELETE FROM jadwal_ruang;"
        'UPDATE "o\'brien ""kutip""" SET "b.c" = \'z\'; DELETE FROM pemeriksaan_日本;'
        'UPDATE "Arsip Lama é"."Rekam Medis 2009" SET isi = NULL WHERE "No RM" < \'00000100\';'
    )
    with site.copy() as server, writing(site):
        answer = site.restored(server, *(f"table:simrs.{name}" for name in names))
    assert {each["action"] for each in answer["items"]} == {"exchange rows"}
    same_but(site, site.backup, "beban")


def test_sequences_go_forward_and_never_back(site: Site) -> None:
    before = site.now()
    site.sql(
        "DELETE FROM log_akses; ALTER SEQUENCE log_akses_id_seq RESTART 5; SELECT setval('berkas_pasien_id_seq', 5000);"
    )
    site.sql("DELETE FROM berkas_pasien")
    with site.copy() as server:
        site.restored(server, "table:simrs.simrs.log_akses", "table:simrs.simrs.berkas_pasien")
    assert site.sql("SELECT last_value FROM log_akses_id_seq")[-1] == [str(PATIENTS)]
    assert site.sql("SELECT last_value FROM berkas_pasien_id_seq")[-1] == ["5000"]
    site.server.query("INSERT INTO simrs.log_akses (pengguna) VALUES ('x')", DB)
    site.sql("DELETE FROM log_akses WHERE pengguna = 'x'; SELECT setval('berkas_pasien_id_seq', 7)")
    same_but(site, before, "log_akses_id_seq", "beban")


def test_orphans_are_named_and_refused_and_then_accepted(site: Site) -> None:
    site.server.query(
        "INSERT INTO simrs.dokter VALUES ('D9999', 'dr. Baru', NULL); INSERT INTO simrs.kunjungan"
        " (no_rawat, no_rm, kd_poli, kd_dokter) VALUES ('BARU/1', '00000001', 'P001', 'D9999')",
        DB,
    )
    before = site.now()
    with site.copy() as server:
        with pytest.raises(PrerequisiteError, match=r"1 in simrs\.kunjungan: .*kd_dokter.*BARU/1.*not changed"):
            site.restored(server, "table:simrs.simrs.dokter")
        site.same_as(before)
        answer = site.restored(server, "table:simrs.simrs.dokter", accept_orphans=True)
    assert [(each["rows"], each["keys"]) for each in answer["orphans"]] == [(1, ["BARU/1"])]
    assert site.sql("SELECT count(*) FROM dokter WHERE kd_dokter = 'D9999'")[-1] == ["0"]
    site.sql("DELETE FROM kunjungan WHERE no_rawat = 'BARU/1'")
    same_but(site, site.backup, "kunjungan_urut_seq", "beban", "seq_tagihan", "berkas_pasien_id_seq")


def test_parent_and_child_go_together_without_a_cascade(site: Site) -> None:
    site.sql("DELETE FROM resep WHERE no_resep LIKE '%1'; UPDATE resep SET waktu = now() WHERE no_resep LIKE '%2';")
    before = site.now()
    with site.copy() as server, writing(site):
        site.restored(server, "table:simrs.simrs.resep")
    assert before.objects["rows"]["simrs/simrs.resep_detail"] == site.now().objects["rows"]["simrs/simrs.resep_detail"]
    same_but(site, site.backup, "kunjungan_urut_seq", "beban", "seq_tagihan", "berkas_pasien_id_seq")


def test_a_table_dropped_by_mistake_comes_back_with_all_that_hung_on_it(site: Site) -> None:
    before = site.now()
    site.server.query("DROP TABLE simrs.kunjungan CASCADE; DROP TABLE simrs.hasil_laboratorium CASCADE;", DB)
    with site.copy() as server, writing(site):
        answer = site.restored(server, "table:simrs.simrs.kunjungan", "table:simrs.simrs.hasil_laboratorium")
    assert {each["action"] for each in answer["items"]} == {"recreate"}
    same_but(site, before, "beban", "kunjungan_urut_seq")
    with pytest.raises(Exception, match="violates foreign key"):
        site.server.query("INSERT INTO simrs.resep VALUES ('X', 'tidak ada', now())", DB)


def test_a_dropped_table_whose_rows_lost_their_parents_is_refused_and_leaves_nothing(site: Site) -> None:
    site.sql("DROP TABLE resep_detail; DELETE FROM obat WHERE kode_brng = 'B00007'")
    before = site.now()
    with site.copy() as server, pytest.raises(PrerequisiteError, match="kode_brng_fkey"):
        site.restored(server, "table:simrs.simrs.resep_detail")
    site.same_as(before)
    with site.copy() as server:
        site.restored(server, "table:simrs.simrs.resep_detail", "table:simrs.simrs.obat")
    same_but(site, site.backup, "kunjungan_urut_seq", "beban", "seq_tagihan", "berkas_pasien_id_seq")


def test_beside_is_the_default_and_touches_nothing_else(site: Site) -> None:
    site.sql("DELETE FROM pasien WHERE no_rm = '00000001'; DROP TABLE resep_detail;")
    before = site.now()
    with site.copy() as server:
        answer = site.restored(
            server,
            "table:simrs.simrs.pasien",
            "table:simrs.simrs.resep_detail",
            "table:simrs.simrs.hasil_laboratorium",
            "schema:Laboratorium é.lis",
            mode="beside",
        )
    place = f"dbc_restore_{WORD}"
    assert f"simrs.{place}.pasien" in answer["places"]
    assert f"{LAB}.{place}.alat" in answer["places"]
    assert item(answer, "table:simrs.simrs.pasien")["difference"]["keys"] == {"only_in_copy": ["00000001"]}
    assert site.server.value(f"SELECT count(*) FROM {place}.pasien", DB) == str(PATIENTS)
    assert site.server.value(f"SELECT count(*) FROM {place}.hasil_laboratorium", DB) == str(PATIENTS * 9)
    assert site.server.value(f"SELECT count(*) FROM {place}.hasil_mentah", LAB) == "2000"
    with site.copy() as server, pytest.raises(PrerequisiteError, match="has a schema"):
        site.restored(server, "table:simrs.simrs.pasien", mode="beside")
    for database in (DB, LAB):
        site.server.query(f"DROP SCHEMA {place} CASCADE", database)
    site.same_as(before)
    with site.copy() as server:
        site.restored(server, "table:simrs.simrs.pasien", "table:simrs.simrs.resep_detail")
    same_but(site, site.backup, "kunjungan_urut_seq", "beban", "seq_tagihan", "berkas_pasien_id_seq")


def test_what_cannot_be_exchanged_is_refused_in_words(site: Site) -> None:
    site.server.query(
        "ALTER TABLE simrs.dokter ADD COLUMN baru int; CREATE TRIGGER selalu BEFORE UPDATE ON simrs.obat FOR EACH ROW"
        " EXECUTE FUNCTION simrs.kunjungan_awal(); ALTER TABLE simrs.obat ENABLE ALWAYS TRIGGER selalu",
        DB,
    )
    before = site.now()
    with site.copy() as server:
        wanted: list[tuple[str, type[ContinuityError], str]] = [
            ("table:simrs.simrs.cache_tarif", PrerequisiteError, "UNLOGGED"),
            ("table:simrs.simrs.dokter", PrerequisiteError, "defined differently.*baru"),
            ("table:simrs.simrs.obat", PrerequisiteError, "trigger selalu"),
            ("table:simrs.simrs.pasein", InputError, "'pasien'"),
            ("table:simrs.simrs.v_kunjungan", InputError, "a view"),
            ("table:simrs.simrs.hasil_lab_2022", InputError, "a partition"),
            ("table:simrs.simr.pasien", InputError, "'simrs'"),
            ("table:simr.simrs.pasien", InputError, "'simrs'"),
            ("schema:simrs.simrs", PrerequisiteError, "outside of it depends.*kirim_lab"),
        ]
        for scope, error, why in wanted:
            with pytest.raises(error, match=why):
                site.restored(server, scope)
        with pytest.raises(InputError, match="one transaction"):
            site.restored(server, "table:simrs.simrs.obat", f"table:{LAB}.lis.alat")
        site.same_as(before)
    site.server.query("ALTER TABLE simrs.dokter DROP COLUMN baru; DROP TRIGGER selalu ON simrs.obat", DB)
    with site.copy() as server:
        answer = site.restored(server, "table:simrs.simrs.obat")
    assert answer["changed"] is False


def test_rows_changed_meanwhile_are_not_written_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("UPDATE obat SET stok = stok + 1")
    real = exchange.Exchange._keys
    calls: list[int] = []

    def meanwhile(self: exchange.Exchange, *arguments: Any) -> Any:
        calls.append(1)
        site.sql(f"UPDATE obat SET stok = 77{len(calls)} WHERE kode_brng = 'B00001'")
        return real(self, *arguments)

    monkeypatch.setattr(exchange.Exchange, "_keys", meanwhile)
    with site.copy() as server:
        with pytest.raises(PipelineError, match="Others changed the table meanwhile"):
            site.restored(server, "table:simrs.simrs.obat")
        assert site.sql("SELECT stok FROM obat WHERE kode_brng = 'B00001'")[-1] == [f"77{len(calls)}"]
        assert len(calls) == 3
        monkeypatch.undo()
        site.restored(server, "table:simrs.simrs.obat")
    same_but(site, site.backup, "kunjungan_urut_seq", "beban", "seq_tagihan", "berkas_pasien_id_seq")


def test_a_schema_is_swapped_whole_and_the_old_one_kept(site: Site) -> None:
    before = site.now()
    site.server.query(
        "DELETE FROM lis.hasil_mentah; DROP VIEW lis.v_hasil; INSERT INTO lis.alat (nama) VALUES ('baru')", LAB
    )
    damaged = site.server.value("SELECT count(*) FROM lis.alat", LAB)
    with site.copy() as server, writing(site):
        answer = site.restored(server, f"schema:{LAB}.lis")
    kept = f"lis_before_{WORD}"
    assert answer["kept"] == [kept]
    assert site.server.value(f"SELECT count(*) FROM {kept}.alat", LAB) == damaged
    site.server.query(f"DROP SCHEMA {kept} CASCADE", LAB)
    same_but(site, before, "beban")


def test_a_database_is_swapped_whole_and_the_old_one_kept(site: Site) -> None:
    before = site.now()
    site.server.query("DROP SCHEMA lis CASCADE; CREATE TABLE public.sisa (i int)", LAB)
    with site.copy() as server, writing(site), site.server.session(LAB) as idle:
        idle.run("SELECT 1")
        answer = site.restored(server, f"database:{LAB}")
    kept = f"{LAB}_before_{WORD}"
    assert answer["kept"] == [kept]
    assert site.server.value("SELECT count(*) FROM public.sisa", kept) == "0"
    site.server.query(f'DROP DATABASE "{kept}"')
    same_but(site, before, "beban")
    # Compared row by row, for it differs; then loaded beside.
    site.server.query("DELETE FROM lis.hasil_mentah WHERE alat = 1", LAB)
    # The rest of a database that an interrupted run left is removed by the next, whatever that restores.
    site.server.query(f"CREATE DATABASE dbc_unfinished_{WORD}")
    state = site.place.root / "restores" / "simrs-partial-restore.json"
    state.write_text(
        f'{{"engine": "postgresql", "step": "loading", "unfinished": "dbc_unfinished_{WORD}", "kept": ""}}'
    )
    with site.copy() as server:
        answer = site.restored(server, f"database:{LAB}", mode="beside")
    assert answer["undone"]["removed"] == [f"dbc_unfinished_{WORD}"]
    assert site.server.value("SELECT count(*) FROM lis.hasil_mentah", f"dbc_restore_{WORD}") == "2000"
    assert site.server.value("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'dbc'", f"dbc_restore_{WORD}") == "0"
    site.server.query(f"DROP DATABASE dbc_restore_{WORD}")
    with site.copy() as server:
        site.restored(server, f"table:{LAB}.lis.hasil_mentah")
    same_but(site, before, "beban")


def test_killed_in_the_middle_leaves_the_table_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("DELETE FROM kunjungan WHERE urut % 3 = 0; UPDATE kunjungan SET biaya = 1")
    before = site.now()
    with site.copy() as server:
        with monkeypatch.context() as patch:
            # The rows are exchanged, and the foreign keys are about to be looked at.
            patch.setattr(exchange, "mark", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            in_a_process_that_dies(lambda: site.restored(server, "table:simrs.simrs.kunjungan"), site.server)
        site.same_as(before)

        def crash(*_arguments: object) -> str:
            site.server.kill9()
            return "''"

        with monkeypatch.context() as patch:
            patch.setattr(exchange, "mark", crash)
            with pytest.raises(ContinuityError):
                site.restored(server, "table:simrs.simrs.kunjungan")
        site.server.start()
        same_but(site, before, "seq_", "_seq", "cache_tarif")
        site.restored(server, "table:simrs.simrs.kunjungan")
    same_but(site, site.backup, "seq_", "_seq", "cache_tarif", "beban")


def test_a_refused_statement_says_nothing_of_its_rows(site: Site) -> None:
    for wrong in (
        "INSERT INTO simrs.resep_detail VALUES ('RAHASIA', 'B00001', -1);",
        "COPY simrs.resep_detail FROM STDIN;\nR1\tB00001\tRAHASIA\tx\n\\.\n",
    ):
        with pytest.raises(PipelineError, match="ERROR") as refused:
            site.channel.sql(site.instance, wrong, DB)
        assert "x\n" not in str(refused.value)
        assert "CONTEXT" not in str(refused.value)
        assert "Failing row" not in str(refused.value)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample databases of others are not here")
def test_pagila_tables_with_generated_columns_and_triggers_come_back() -> None:
    with workspace("rpg") as folder, PostgreSQLServer(folder / "simrs", fast=True) as server:
        server.query('CREATE DATABASE "pagila"')
        server.execute_script(SAMPLES / "pagila-schema.sql", "pagila")
        server.execute_script(gzip.decompress((SAMPLES / "pagila-data.sql.gz").read_bytes()), "pagila")
        place = make_place(folder / "backup")
        instance = make_instance(place, "pagila", server)
        allow_restore(place, "pagila", server)
        full(place, instance)
        before = fingerprint(server, accounts=True)
        site = Site(place, instance, channel(place), server, folder / "scratch", before)
        server.query(
            "SET session_replication_role = replica; UPDATE film SET title = 'X', fulltext = '' WHERE film_id % 2 = 0;"
            "DELETE FROM payment WHERE amount > 5; DELETE FROM rental WHERE rental_id % 5 = 0",
            "pagila",
        )
        tables = ["table:pagila.public.film", "table:pagila.public.payment", "table:pagila.public.rental"]
        with site.copy() as server_copy:
            site.restored(server_copy, *tables)
        site.same_as(before)
        server.query("DROP TABLE film CASCADE", "pagila")
        with site.copy() as server_copy:
            site.restored(server_copy, "table:pagila.public.film")
        site.same_as(before)
