# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - its SQL is made of its own names and numbers
"""Partial restore of MariaDB (R2): what was asked for comes back, all else stays as it was, also where it fails."""

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

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import dumps, exchange
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.scratch import MariaDBScratch
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.swap import Swap
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    InputError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore_partial import undo_partial
from demo.clients import MariaDBClient
from demo.compare import compare, fingerprint
from demo.fingerprint import Fingerprint
from demo.sample import load
from demo.servers import MariaDBServer, workspace
from tests.partial_support import SAMPLES, WORD, Production, Writer, copy_of, in_a_process_that_dies, item
from tests.restore_full_support import allow_restore, channel
from tests.restore_support import cycle, full
from tests.support import make_place

pytestmark = pytest.mark.engine

PATIENTS = 60


@dataclass
class Site(Production):
    """A server with the sample, backed up, and how copies of that moment are brought up."""

    server: MariaDBServer
    scratch: Path
    backup: Fingerprint

    @contextmanager
    def copy(self) -> Iterator[ScratchServer]:
        with copy_of(self.place, self.instance, self.scratch) as server:
            yield server

    def now(self) -> Fingerprint:
        return fingerprint(self.server, accounts=True)

    def same_as(self, before: Fingerprint) -> None:
        compared = compare(without(before, "simrs.beban"), without(self.now(), "simrs.beban"), accounts=True)
        assert compared.ok, str(compared)

    def rows(self, sql: str) -> list[list[str | None]]:
        return self.server.query(sql)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rpm") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        load(server, patients=PATIENTS)
        server.query(
            "CREATE TABLE simrs.beban (id INT AUTO_INCREMENT PRIMARY KEY, isi INT);"
            "CREATE TABLE simrs.tanpa_kunci (a INT, b VARCHAR(20), f FLOAT, t TIMESTAMP NULL);"
            "INSERT INTO simrs.tanpa_kunci VALUES (1,'x',1/3,NULL),(1,'x',1/3,NULL),(1,'x',1/3,NULL),(2,NULL,NULL,NOW());"
        )
        place = make_place(folder / "backup")
        instance = place.mariadb("simrs", server)
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(place, instance, channel(place), server, folder / "scratch", fingerprint(server, accounts=True))


@pytest.fixture(autouse=True)
def whole_again(site: Site) -> Iterator[None]:
    """Let each test find the sample as it was, whatever the one before did to it."""
    yield
    places = site.rows("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '%dbc\\_%'")
    places += site.rows("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '%\\_before\\_%'")
    for (name,) in places:
        site.server.query(f"DROP DATABASE `{name}`")
    site.server.query("DELETE FROM simrs.beban")


def writing(site: Site) -> Writer:
    return Writer(site.server, "INSERT INTO beban (isi) VALUES ({n})", "simrs")


def without(made: Fingerprint, *names: str) -> Fingerprint:
    """Return a fingerprint without tables that somebody writes to."""
    made = copy.deepcopy(made)
    # The server writes "ON `kunjungan`" into a trigger's text once its table was renamed.
    for each in made.objects["trigger"].values():
        each["SQL Original Statement"] = each["SQL Original Statement"].replace("`kunjungan`", "kunjungan")
    for kind in ("rows", "auto_increment"):
        objects = made.objects.get(kind, {})
        for name in [each for each in objects if any(each == one or each.startswith(f"{one}.") for one in names)]:
            del objects[name]
    return made


def damage(site: Site, sql: str) -> None:
    site.server.query(f"SET SESSION foreign_key_checks = 0, sql_mode = ''; {sql}", "simrs")


def test_a_table_with_triggers_gets_its_rows_back_and_none_fires(site: Site) -> None:
    audit = site.rows("SELECT COUNT(*), MAX(id) FROM simrs.log_perubahan")
    damage(
        site,
        "DELETE FROM pasien WHERE no_rm > '00000050';"
        "INSERT INTO pasien (no_rm, nm_pasien, jk, tgl_daftar) VALUES ('99999999', 'Baru', 'L', '2025-01-01');",
    )
    # Changed without its trigger, so that the audit's table stays as it was.
    site.server.query(
        "CREATE TABLE simrs.simpan AS SELECT no_rm FROM simrs.pasien LIMIT 0; DROP TABLE simrs.simpan;"
        "UPDATE simrs.pasien SET alamat = 'rusak', catatan = 'é€', no_ktp = NULL WHERE no_rm < '00000010'"
    )
    assert site.rows("SELECT COUNT(*), MAX(id) FROM simrs.log_perubahan") == audit
    before = without(site.now(), "simrs.pasien", "simrs.beban")
    with site.copy() as server:
        planned = site.restored(server, "table:simrs.pasien", check_only=True)
        site.same_as(site.now())
        with writing(site):
            answer = site.restored(server, "table:simrs.pasien")
    difference = item(planned, "table:simrs.pasien")["difference"]
    assert (difference["only_in_production"], difference["only_in_copy"], difference["changed"]) == (1, 10, 9)
    assert difference["keys"]["only_in_production"] == ["99999999"]
    assert difference["keys"]["changed"][0] == "00000001"
    assert "Baru" not in str(answer) + str(planned)
    assert item(answer, "table:simrs.pasien")["difference"] == difference
    assert site.rows("SELECT COUNT(*), MAX(id) FROM simrs.log_perubahan") == audit
    compared = compare(without(site.backup, "simrs.beban"), without(site.now(), "simrs.beban"), accounts=True)
    assert compared.ok, str(compared)
    assert before.objects["trigger"] == site.now().objects["trigger"]
    # They fire again for whoever comes next.
    site.server.query("UPDATE simrs.pasien SET nm_pasien = CONCAT(nm_pasien, ' x') WHERE no_rm = '00000002'")
    assert site.rows("SELECT COUNT(*) FROM simrs.log_perubahan")[0][0] == str(int(audit[0][0] or 0) + 1)
    site.server.query(
        "UPDATE simrs.pasien SET nm_pasien = REPLACE(nm_pasien, ' x', '') WHERE no_rm = '00000002';"
        f"DELETE FROM simrs.log_perubahan WHERE id > {audit[0][1]}"
    )


def test_every_kind_of_column_comes_back_exactly(site: Site) -> None:
    tables = [
        "berkas_pasien",
        "lokasi_ambulans",
        "hasil_laboratorium",
        "catatan_perawatan",
        "antrian",
        "tanpa_kunci",
        "tarif khusus",
        'o\'brien "kutip"',
        "tabel`aneh",
        "pemeriksaan_é_日本",
    ]
    damage(
        site,
        "DELETE FROM berkas_pasien WHERE id % 16 = 0; UPDATE berkas_pasien SET bendera = b'0', kode = NULL, isi = 'x';"
        "UPDATE lokasi_ambulans SET titik = POINT(1, 2); UPDATE hasil_laboratorium SET nilai = 1/7, rujukan = '[]' WHERE id % 3 = 0;"
        "UPDATE hasil_laboratorium SET tgl_periksa = '2030-01-01' WHERE id % 7 = 0; DELETE FROM catatan_perawatan;"
        "DELETE FROM antrian WHERE no_rawat IS NULL LIMIT 3; INSERT INTO antrian VALUES ('P000', 1, NULL, 1), ('P000', 1, NULL, 1);"
        "DELETE FROM tanpa_kunci LIMIT 1; INSERT INTO tanpa_kunci VALUES (9, 'x', 0.1, NULL), (9, 'x', 0.1, NULL);"
        "DELETE FROM `tarif khusus`; DELETE FROM `o'brien \"kutip\"` WHERE id > 2; UPDATE `tabel``aneh` SET `b.c` = 'y';"
        "UPDATE `pemeriksaan_é_日本` SET isi = 'z';",
    )
    with site.copy() as server:
        answer = site.restored(server, *(f"table:simrs.{name}" for name in tables))
    assert {each["action"] for each in answer["items"]} == {"exchange rows"}
    site.same_as(site.backup)


def test_rows_of_a_foreign_keys_parent_and_child_go_together(site: Site) -> None:
    damage(site, "DELETE FROM poliklinik WHERE kd_poli >= 'P010'; DELETE FROM resep WHERE no_resep LIKE '%1';")
    with site.copy() as server, writing(site):
        site.restored(server, "table:simrs.poliklinik", "table:simrs.resep")
    compared = compare(without(site.backup, "simrs.beban"), without(site.now(), "simrs.beban"), accounts=True)
    assert compared.ok, str(compared)


def test_orphans_are_named_and_refused_and_then_accepted(site: Site) -> None:
    site.server.query(
        "INSERT INTO simrs.dokter VALUES ('D9999', 'dr. Baru', NULL, NULL); INSERT INTO simrs.kunjungan"
        " (no_rawat, no_rm, kd_poli, kd_dokter, waktu_daftar) VALUES ('BARU/1', '00000001', 'P001', 'D9999', NOW())"
    )
    before = site.now()
    with site.copy() as server:
        with pytest.raises(PrerequisiteError, match=r"1 in simrs\.kunjungan: fk_kunjungan_dokter.*BARU/1.*not changed"):
            site.restored(server, "table:simrs.dokter")
        site.same_as(before)
        answer = site.restored(server, "table:simrs.dokter", accept_orphans=True)
    assert answer["orphans"] == [
        {
            "constraint": "simrs.kunjungan: fk_kunjungan_dokter -> simrs.dokter",
            "rows": 1,
            "keys": ["BARU/1"],
        }
    ]
    assert site.rows("SELECT COUNT(*) FROM simrs.dokter WHERE kd_dokter = 'D9999'") == [["0"]]
    damage(site, "DELETE FROM kunjungan WHERE no_rawat = 'BARU/1'; DELETE FROM log_perubahan WHERE kunci = 'BARU/1';")
    site.same_as(site.backup)


def test_a_table_dropped_by_mistake_comes_back_with_all_that_is_its_own(site: Site) -> None:
    site.server.query("GRANT SELECT ON simrs.kunjungan TO petugas_lama@localhost")
    before = site.now()
    damage(site, "DROP TABLE kunjungan;")
    with site.copy() as server, writing(site):
        answer = site.restored(server, "table:simrs.kunjungan")
    assert item(answer, "table:simrs.kunjungan")["action"] == "recreate"
    after = without(site.now(), "simrs.beban")
    compared = compare(without(before, "simrs.beban"), after, accounts=True)
    assert compared.ok, str(compared)
    # Its keys hold in both directions, and its triggers fire.
    for wrong in (
        "INSERT INTO simrs.resep VALUES ('X', 'tidak ada', NOW())",
        "INSERT INTO simrs.kunjungan (no_rawat, no_rm, kd_poli, kd_dokter, waktu_daftar) VALUES ('X', 'nihil', 'P001', 'D0001', NOW())",
        "DELETE FROM simrs.poliklinik WHERE kd_poli = 'P001'",
    ):
        with pytest.raises(Exception, match="foreign key constraint fails"):
            site.server.query(wrong)
    site.server.query("REVOKE SELECT ON simrs.kunjungan FROM petugas_lama@localhost")
    site.same_as(site.backup)


def test_a_dropped_table_whose_rows_lost_their_parents_is_refused_and_leaves_nothing(site: Site) -> None:
    damage(site, "DROP TABLE resep_detail; DELETE FROM obat WHERE kode_brng = 'B00007';")
    before = site.now()
    with site.copy() as server, pytest.raises(PrerequisiteError, match="fk_detail_obat"):
        site.restored(server, "table:simrs.resep_detail")
    site.same_as(before)
    with site.copy() as server:
        site.restored(server, "table:simrs.obat")
    with site.copy() as server:
        site.restored(server, "table:simrs.resep_detail")
    site.same_as(site.backup)


def test_beside_is_the_default_and_touches_nothing_else(site: Site) -> None:
    damage(site, "DELETE FROM pasien WHERE no_rm = '00000001'; DROP TABLE resep_detail;")
    before = site.now()
    with site.copy() as server:
        answer = site.restored(
            server,
            "table:simrs.pasien",
            "table:simrs.resep_detail",
            "table:simrs.hasil_laboratorium",
            "database:bridging_bpjs",
            mode="beside",
        )
    place = f"dbc_restore_{WORD}"
    assert answer["places"] == [
        f"{place}.hasil_laboratorium",
        f"{place}.pasien",
        f"{place}.resep_detail",
        f"{place}_2.sep",
        f"{place}_2.token",
    ]
    assert item(answer, "table:simrs.pasien")["difference"]["keys"] == {"only_in_copy": ["00000001"]}
    assert item(answer, "table:simrs.resep_detail")["in_production"] is False
    after = site.now()
    loaded = {name for kind in after.objects.values() for name in kind if name.startswith(place)}
    assert loaded
    assert after.objects["rows"][f"{place}.pasien"] == site.backup.objects["rows"]["simrs.pasien"]
    assert (
        after.objects["rows"][f"{place}.hasil_laboratorium"] == site.backup.objects["rows"]["simrs.hasil_laboratorium"]
    )
    assert not [name for name in after.objects["constraint"] if name.startswith(place) and "REFERENCES" in str(name)]
    assert not [name for name in after.objects["trigger"] if name.startswith(place)]
    for kind in after.objects.values():
        for name in [each for each in kind if each.startswith(place)]:
            del kind[name]
    compared = compare(before, after, accounts=True)
    assert compared.ok, str(compared)
    with site.copy() as server:
        site.restored(server, "table:simrs.pasien")
        with pytest.raises(PrerequisiteError, match="has a database"):
            site.restored(server, "table:simrs.pasien", mode="beside")
    with site.copy() as server:
        site.restored(server, "table:simrs.resep_detail")
    site.server.query(f"DROP DATABASE {place}; DROP DATABASE {place}_2")
    site.same_as(site.backup)


def test_what_cannot_be_exchanged_is_refused_in_words(site: Site) -> None:
    damage(site, "ALTER TABLE simrs.dokter ADD COLUMN baru INT; DELETE FROM simrs.obat WHERE kode_brng = 'B00499'")
    before = site.now()
    with site.copy() as server:
        for scope, error, why in (
            ("table:simrs.log_akses", PrerequisiteError, "MyISAM.*no transaction"),
            ("table:simrs.cetak_label", PrerequisiteError, "Aria"),
            ("table:simrs.dokter", PrerequisiteError, "definitions differ.*baru"),
            ("table:simrs.pasein", InputError, "'pasien'"),
            ("table:simrs.v_kunjungan", InputError, "a view"),
            ("table:simr.pasien", InputError, "'simrs'"),
            ("database:simr", InputError, "'simrs'"),
        ):
            with pytest.raises(error, match=why):
                site.restored(server, scope)
        site.same_as(before)
        # Beside it can be looked at all the same, and the plan says how they differ.
        answer = site.restored(server, "table:simrs.dokter", mode="beside", check_only=True)
        assert "baru" in item(answer, "table:simrs.dokter")["notes"][0]
    site.server.query("ALTER TABLE simrs.dokter DROP COLUMN baru")
    with site.copy() as server:
        answer = site.restored(server, "table:simrs.dokter", "table:simrs.obat")
    assert item(answer, "table:simrs.dokter")["action"] == "nothing to do"
    site.same_as(site.backup)


def test_rows_changed_meanwhile_are_not_written_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(site, "UPDATE obat SET stok = stok + 1;")
    real = exchange.Exchange._write_events
    calls: list[int] = []

    def meanwhile(self: exchange.Exchange, *arguments: Any) -> Any:
        made = real(self, *arguments)
        calls.append(1)
        site.server.query(f"UPDATE simrs.obat SET stok = 77{len(calls)} WHERE kode_brng = 'B00001'")
        return made

    monkeypatch.setattr(exchange.Exchange, "_write_events", meanwhile)
    with site.copy() as server:
        with pytest.raises(PipelineError, match="Others changed the table meanwhile"):
            site.restored(server, "table:simrs.obat")
        assert len(calls) == 3
        assert site.rows("SELECT stok FROM simrs.obat WHERE kode_brng = 'B00001'") == [["773"]]
        monkeypatch.undo()
        site.restored(server, "table:simrs.obat")
    site.same_as(site.backup)


def test_productions_own_log_holds_the_exchange(site: Site) -> None:
    damage(site, "DELETE FROM pasien WHERE no_rm > '00000030'; UPDATE tanpa_kunci SET f = 9, t = NULL WHERE a = 1;")
    with site.copy() as server:
        site.restored(server, "table:simrs.pasien", "table:simrs.tanpa_kunci")
    site.same_as(site.backup)
    assert cycle(site.place, site.instance)["result"] == "good"
    with copy_of(site.place, site.instance, site.scratch, "latest") as server:
        assert isinstance(server, MariaDBScratch)
        # A sequence's advance in a statement that failed is in no log.
        copied = MariaDBClient(server.socket, option_file=server._option_file)
        compared = compare(site.server, copied, ignore=("sequence",))
    assert compared.ok, str(compared)


def test_killed_in_the_middle_leaves_the_table_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(site, "DELETE FROM kunjungan WHERE urut % 3 = 0; UPDATE kunjungan SET biaya = 1; DELETE FROM log_perubahan;")
    before = site.now()
    with site.copy() as server, monkeypatch.context() as patch:
        # The events are applied, and the transaction is about to be ended.
        patch.setattr(exchange, "mark", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        in_a_process_that_dies(lambda: site.restored(server, "table:simrs.kunjungan"), site.server)
    site.same_as(before)

    def crash(*_arguments: object) -> str:
        site.server.kill9()
        return ""

    with site.copy() as server:
        with monkeypatch.context() as patch:
            patch.setattr(exchange, "mark", crash)
            with pytest.raises(PipelineError, match="Whether the exchange was made is not known"):
                site.restored(server, "table:simrs.kunjungan")
        site.server.start()
        site.same_as(before)
        site.restored(server, "table:simrs.kunjungan", "table:simrs.log_perubahan")
    site.same_as(site.backup)


def test_a_database_is_swapped_whole_and_the_old_one_kept(site: Site) -> None:
    damage(
        site,
        "DROP TABLE resep_detail; DELETE FROM pasien; DROP VIEW v_rekap_poli; DROP FUNCTION umur; DROP EVENT arsip_tahunan;"
        "CREATE TABLE sisa (i INT); CREATE TRIGGER sisa_t BEFORE INSERT ON sisa FOR EACH ROW SET NEW.i = 1;"
        "ALTER TABLE dokter ADD COLUMN baru INT; SELECT SETVAL(seq_tagihan, 99999);",
    )
    with site.copy() as server:
        planned = site.restored(server, "database:simrs", check_only=True)
        answer = site.restored(server, "database:simrs")
    kept = f"simrs_before_{WORD}"
    assert answer["kept"] == planned["kept"] == [kept]
    assert item(planned, "table:simrs.sisa")["notes"] == ["The table is only in production; the copy has none."]
    assert site.rows(f"SELECT COUNT(*) FROM {kept}.sisa") == [["0"]]
    site.server.query(f"DROP DATABASE {kept}")
    site.same_as(site.backup)


def test_a_swap_that_fails_or_is_killed_goes_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(site, "DELETE FROM resep_detail; CREATE TABLE sisa (i INT);")
    before = site.now()

    def fails(*_arguments: object) -> None:
        raise PipelineError("the dump broke")

    with site.copy() as server:
        for name in ("rows", "programs", "views_of"):
            with monkeypatch.context() as patch:
                patch.setattr(dumps, name, fails)
                with pytest.raises(PipelineError, match="the dump broke"):
                    site.restored(server, "database:simrs")
            site.same_as(before)
        with monkeypatch.context() as patch:
            patch.setattr(dumps, "views_of", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            in_a_process_that_dies(lambda: site.restored(server, "database:simrs"), site.server)
        assert undo_partial(site.request(["database:simrs"]))["database"] == "simrs"
        site.same_as(before)
        # It dies between the first and the second of a table's triggers, whose order counts.
        stops = ["DROP TRIGGER simrs.pasien_audit;\nSELECT stop_here;\n"]
        real = Swap._dropped
        with monkeypatch.context() as patch:
            patch.setattr(Swap, "_dropped", lambda _self, *its: (stops.pop() if stops else "") + real(*its))
            with pytest.raises(PipelineError, match="stop_here"):
                site.restored(server, "database:simrs")
        site.same_as(before)
        site.restored(server, "database:simrs")
    site.server.query(f"DROP DATABASE simrs_before_{WORD}")
    site.same_as(site.backup)


def test_a_row_nearly_as_large_as_the_largest_packet_goes(site: Site) -> None:
    # Production takes 64 MiB at once; in base64 this row is 67.
    damage(
        site,
        "INSERT INTO berkas_pasien (no_rm, jenis, isi, sidik) VALUES ('00000001', 'besar', REPEAT('x', 50 << 20), 'x');",
    )
    with site.copy() as server:
        answer = site.restored(server, "table:simrs.berkas_pasien")
    assert item(answer, "table:simrs.berkas_pasien")["difference"]["only_in_production"] == 1
    site.same_as(site.backup)


def test_a_refused_statement_says_nothing_of_its_rows(site: Site) -> None:
    with pytest.raises(PipelineError, match="Duplicate entry 'P001'") as refused:
        site.channel.sql(site.instance, "INSERT INTO simrs.poliklinik (kd_poli, nm_poli) VALUES ('P001', 'RAHASIA');")
    assert "RAHASIA" not in str(refused.value) + str(refused.value.details)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample databases of others are not here")
def test_sakila_tables_with_triggers_and_geometry_come_back() -> None:
    with workspace("rsk") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        server.execute_script(SAMPLES / "sakila-mariadb-schema.sql")
        server.execute_script(gzip.decompress((SAMPLES / "sakila-mariadb-data.sql.gz").read_bytes()))
        place = make_place(folder / "backup")
        instance = place.mariadb("sakila", server)
        allow_restore(place, "sakila", server)
        full(place, instance)
        before = fingerprint(server, accounts=True)
        site = Site(place, instance, channel(place), server, folder / "scratch", before)
        server.query(
            "SET SESSION foreign_key_checks = 0; DELETE FROM payment WHERE amount > 5; UPDATE staff SET picture = NULL;"
            "DELETE FROM address WHERE address_id % 3 = 0; UPDATE customer SET email = 'x'",
            "sakila",
        )
        with site.copy() as server_copy:
            site.restored(
                server_copy, *(f"table:sakila.{name}" for name in ("payment", "staff", "address", "customer"))
            )
        site.same_as(before)
        server.query("SET SESSION foreign_key_checks = 0; DROP TABLE film", "sakila")
        with site.copy() as server_copy:
            site.restored(server_copy, "table:sakila.film")
        compared = compare(before, site.now(), accounts=True, ignore=("trigger",))
        assert compared.ok, str(compared)
        assert len(before.objects["trigger"]) == site.now().count("trigger")
