# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison finds each single change in a copy and nothing else, and refuses to compare nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.compare import Comparison, compare, fingerprint, main
from demo.fingerprint import Fingerprint
from demo.servers import MariaDBServer, PostgreSQLServer, Server
from tests.demo.conftest import Pair

pytestmark = pytest.mark.engine

MARIADB = {
    "a copy": ("", "", None, ""),
    "one altered row": (
        "UPDATE obat SET nama_brng = CONCAT(nama_brng, ' ') WHERE kode_brng = 'B00007'",
        "UPDATE obat SET nama_brng = RTRIM(nama_brng) WHERE kode_brng = 'B00007'",
        "rows",
        "simrs.obat",
    ),
    "one float's last bit": (
        "UPDATE hasil_laboratorium SET nilai = nilai + 0.000001 WHERE nilai BETWEEN 3.1 AND 3.99 LIMIT 1",
        None,
        "rows",
        "simrs.hasil_laboratorium",
    ),
    "NULL for 'NULL'": (
        """UPDATE `o'brien "kutip"` SET isi = NULL WHERE id = 3""",
        """UPDATE `o'brien "kutip"` SET isi = 'NULL' WHERE id = 3""",
        "rows",
        'simrs.o\'brien "kutip"',
    ),
    "one missing row": (
        "DELETE FROM log_akses WHERE id = 5",
        "INSERT INTO log_akses SELECT 5, 'petugas5', 'membuka rekam medis 5 modul rm', '2024-03-01 08:00:05'",
        "rows",
        "simrs.log_akses",
    ),
    "a doubled row without a key": (
        "INSERT INTO cache_tarif VALUES ('T1', 1)",
        "DELETE FROM cache_tarif WHERE kode = 'T1' LIMIT 1",
        "rows",
        "simrs.cache_tarif",
    ),
    "a dropped trigger": (
        "DROP TRIGGER kunjungan_hapus",
        None,
        "trigger",
        "simrs.kunjungan_hapus",
    ),
    "a dropped event": ("DROP EVENT arsip_tahunan", None, "event", "simrs.arsip_tahunan"),
    "a disabled event": (
        "ALTER EVENT bersihkan_antrian DISABLE",
        "ALTER EVENT bersihkan_antrian ENABLE",
        "event",
        "simrs.bersihkan_antrian",
    ),
    "a dropped procedure": ("DROP PROCEDURE tutup_kunjungan", None, "procedure", "simrs.tutup_kunjungan"),
    "a changed view": (
        (
            "ALTER VIEW v_rekap_poli AS SELECT nm_poli, COUNT(*) + 1 AS jumlah, SUM(status = 'Selesai') AS selesai"
            " FROM v_kunjungan GROUP BY nm_poli"
        ),
        None,
        "view",
        "simrs.v_rekap_poli",
    ),
    "a changed sequence value": (
        "DO SETVAL(seq_tagihan, 9000)",
        None,
        "sequence",
        "simrs.seq_tagihan",
    ),
    "a dropped index": (
        "ALTER TABLE kunjungan DROP INDEX idx_pasien, ADD INDEX idx_lain (no_rm)",
        "ALTER TABLE kunjungan ADD INDEX idx_pasien (no_rm, waktu_daftar), DROP INDEX idx_lain",
        "index",
        "simrs.kunjungan.`idx_pasien`",
    ),
    "a changed column default": (
        "ALTER TABLE obat ALTER stok SET DEFAULT 1",
        "ALTER TABLE obat ALTER stok SET DEFAULT 0",
        "column",
        "simrs.obat.`stok`",
    ),
    "a changed collation": (
        "ALTER TABLE dokter MODIFY nm_dokter VARCHAR(80) COLLATE utf8mb4_bin NOT NULL",
        "ALTER TABLE dokter MODIFY nm_dokter VARCHAR(80) NOT NULL",
        "column",
        "simrs.dokter.`nm_dokter`",
    ),
    "a dropped constraint": (
        "ALTER TABLE resep_detail DROP CONSTRAINT jumlah_positif",
        "ALTER TABLE resep_detail ADD CONSTRAINT jumlah_positif CHECK (jumlah > 0)",
        "constraint",
        "simrs.resep_detail.`jumlah_positif`",
    ),
    "a dropped partition's definition": (
        "ALTER TABLE hasil_laboratorium REORGANIZE PARTITION p2022, p2023 INTO (PARTITION p2023 VALUES LESS THAN (2024))",
        None,
        "partitioning",
        "simrs.hasil_laboratorium",
    ),
    "a view whose definer is gone": ("DROP USER petugas_lama@localhost", None, "view", "simrs.v_kunjungan"),
    "a number handed out twice": (
        (
            "SET FOREIGN_KEY_CHECKS = 0; DELETE FROM catatan_perawatan ORDER BY id DESC LIMIT 1;"
            " ALTER TABLE catatan_perawatan AUTO_INCREMENT = 1"
        ),
        None,
        "auto_increment",
        "simrs.catatan_perawatan.`id`",
    ),
}

POSTGRESQL = {
    "a copy": ("", "", None, ""),
    "one altered row": (
        "UPDATE obat SET harga = harga + 0.01 WHERE kode_brng = 'B00007'",
        "UPDATE obat SET harga = harga - 0.01 WHERE kode_brng = 'B00007'",
        "rows",
        "simrs/simrs.obat",
    ),
    "one missing row": (
        "DELETE FROM antrian WHERE ctid = (SELECT min(ctid) FROM antrian)",
        None,
        "rows",
        "simrs/simrs.antrian",
    ),
    "a doubled row without a key": (
        'INSERT INTO "Arsip Lama é"."Rekam Medis 2009" SELECT * FROM "Arsip Lama é"."Rekam Medis 2009" LIMIT 1',
        None,
        "rows",
        'simrs/"Arsip Lama é"."Rekam Medis 2009"',
    ),
    "a large object": (
        "SELECT lo_put((SELECT besar FROM pindaian WHERE id = 3), 10, 'x')",
        None,
        "large object",
        "simrs/",
    ),
    "a dropped trigger": (
        "DROP TRIGGER pasien_audit ON pasien",
        None,
        "trigger",
        "simrs/simrs.pasien.pasien_audit",
    ),
    "a disabled trigger": (
        "ALTER TABLE kunjungan DISABLE TRIGGER kunjungan_awal",
        "ALTER TABLE kunjungan ENABLE TRIGGER kunjungan_awal",
        "trigger",
        "simrs/simrs.kunjungan.kunjungan_awal",
    ),
    "a dropped event trigger": ("DROP EVENT TRIGGER awasi_ddl", None, "event trigger", "simrs/awasi_ddl"),
    "a changed view": (
        (
            "CREATE OR REPLACE VIEW v_rekap_poli AS SELECT nm_poli, count(*) + 1 AS jumlah,"
            " count(*) FILTER (WHERE status = 'Selesai') AS selesai FROM v_kunjungan GROUP BY 1"
        ),
        None,
        "view",
        "simrs/simrs.v_rekap_poli",
    ),
    "a changed sequence value": (
        "SELECT setval('seq_antrian', 3)",
        "SELECT setval('seq_antrian', 7)",
        "sequence",
        "simrs/simrs.seq_antrian",
    ),
    "a sequence far ahead": (
        "SELECT setval('seq_antrian', 700)",
        "SELECT setval('seq_antrian', 7)",
        "sequence",
        "simrs/simrs.seq_antrian",
    ),
    "a dropped index": (
        "DROP INDEX idx_pasien_lansia",
        None,
        "index",
        "simrs/simrs.idx_pasien_lansia",
    ),
    "a changed column default": (
        "ALTER TABLE obat ALTER stok SET DEFAULT 1",
        "ALTER TABLE obat ALTER stok SET DEFAULT 0",
        "column",
        "simrs/simrs.obat.stok",
    ),
    "a changed function": (
        (
            "CREATE OR REPLACE FUNCTION gabung_langkah(a text, b text) RETURNS text LANGUAGE sql IMMUTABLE AS"
            " $$ SELECT concat_ws(', ', a, b) $$"
        ),
        None,
        "routine",
        "simrs/simrs.gabung_langkah(text,text)",
    ),
    "another owner": (
        "ALTER TABLE log_akses OWNER TO petugas_it",
        None,
        "table",
        "simrs/simrs.log_akses",
    ),
    "row security off": (
        "ALTER TABLE pasien DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE pasien ENABLE ROW LEVEL SECURITY",
        "table",
        "simrs/simrs.pasien",
    ),
    "a dropped policy": ("DROP POLICY pasien_ubah ON pasien", None, "policy", "simrs/simrs.pasien.pasien_ubah"),
    "a changed comment": (
        "COMMENT ON TABLE pasien IS 'lain'",
        "COMMENT ON TABLE pasien IS 'Pasien; satu baris seorang'",
        "comment",
        "simrs/table simrs.pasien",
    ),
    "a missing extension": (
        "DROP EXTENSION pgcrypto",
        "CREATE EXTENSION pgcrypto SCHEMA public",
        "extension",
        "simrs/pgcrypto",
    ),
    "a detached partition": (
        "ALTER TABLE hasil_laboratorium DETACH PARTITION hasil_lab_2022",
        None,
        "table",
        "simrs/simrs.hasil_lab_2022",
    ),
}


# What a change takes with it.
ALONG = {
    "ALTER TABLE log_akses OWNER TO petugas_it": ("sequence",),
    "DROP EXTENSION pgcrypto": ("comment",),
    "ALTER TABLE hasil_laboratorium DETACH PARTITION hasil_lab_2022": ("column", "constraint", "trigger"),
    "SET FOREIGN_KEY_CHECKS = 0; DELETE FROM catatan_perawatan ORDER BY id DESC LIMIT 1;"
    " ALTER TABLE catatan_perawatan AUTO_INCREMENT = 1": ("rows",),
    "DROP USER petugas_lama@localhost": ("function",),
}


def _names(result: Comparison) -> set[tuple[str, str]]:
    return {(found.kind, found.name) for found in result.differences}


def _check(pair: Pair, change: str, undo: str | None, kind: str | None, name: str) -> None:
    """The change, and nothing else, is found. (What has no undo stays different, and is known to later cases.)"""
    if change:
        pair.copy.query(change, "simrs")
    found = _names(compare(pair.before, pair.copy)) - pair.left
    if undo:
        pair.copy.query(undo, "simrs")
    else:
        pair.left |= found
    if kind is None:
        assert not found
    else:
        assert {one for one, full in found if full.startswith(name)} >= {kind}
        assert {one for one, _ in found} <= {kind, *ALONG.get(change, ())}


@pytest.mark.parametrize("case", MARIADB)
def test_mariadb_difference_is_found(mariadb: Pair, case: str) -> None:
    _check(mariadb, *MARIADB[case])


@pytest.mark.parametrize("case", POSTGRESQL)
def test_postgresql_difference_is_found(postgresql: Pair, case: str) -> None:
    _check(postgresql, *POSTGRESQL[case])


def _cold_copy(server: Server, target: Path) -> Path:
    server.stop()
    subprocess.run(["cp", "-a", str(server.datadir), str(target)], check=True)
    server.start()
    return target


def test_a_cold_copy_holds_the_same(mariadb: Pair, postgresql: Pair, folder: Path) -> None:
    """Also over a restart, which loses cached numbers; with users and rights, and read back from a file."""
    for pair, kind in ((mariadb, MariaDBServer), (postgresql, PostgreSQLServer)):
        saved = folder / f"{pair.source.engine}.json"
        fingerprint(pair.source, accounts=True).save(saved)
        data = _cold_copy(pair.source, folder / f"cold-{pair.source.engine}")
        with kind(folder / f"over-{pair.source.engine}", datadir=data, fast=True) as copy:
            result = compare(Fingerprint.load(saved), copy, accounts=True)
            assert result.ok, str(result)
            assert result.counts["rows"][0] >= 20
            assert result.rows[0] == result.rows[1] > 1000
            assert main([str(saved), str(copy.base), "--accounts"]) == 0
        shutil.rmtree(data)


def test_a_copy_without_tables_fails(folder: Path) -> None:
    with MariaDBServer(folder / "empty", fast=True, tcp=False) as empty:
        result = compare(empty, empty)
        assert not result.ok
        assert main([str(empty.base), str(empty.base)]) == 1


def test_command_line(mariadb: Pair, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = folder / "saved.json"
    assert main(["--save", str(saved), str(mariadb.source.base)]) == 0
    assert main([str(saved), str(mariadb.source.base)]) == 0
    assert "all equal" in capsys.readouterr().out
    assert main([str(saved), str(folder / "nowhere")]) == 2
    altered = saved.read_text().replace("kunjungan_hapus", "kunjungan_lain")
    saved.write_text(altered)
    assert main([str(saved), str(mariadb.source.base)]) == 1
    assert "trigger simrs.kunjungan_lain: missing in the copy" in capsys.readouterr().out


def test_it_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "demo.compare", "--help"], capture_output=True, check=True)
    assert b"SOURCE" in done.stdout.upper()


def _taken(engine: str, kind: str, source: dict[str, object], copy: dict[str, object], strict: bool = False) -> bool:
    sides = []
    for attributes in (source, copy):
        side = Fingerprint(engine, "1")
        side.add("rows", "t", {"rows": 1, "content": "1"})
        side.add(kind, "x", attributes)
        sides.append(side)
    return compare(*sides, strict=strict).ok


def test_rules_for_numbers_that_may_run_ahead() -> None:
    assert _taken("mariadb", "auto_increment", {"next": 256, "used": 157}, {"next": 158, "used": 157})
    assert not _taken("mariadb", "auto_increment", {"next": 256, "used": 157}, {"next": 157, "used": 150})
    assert not _taken("mariadb", "auto_increment", {"next": 256, "used": 157}, {"next": 158, "used": 157}, strict=True)
    at = {"increment": 1, "cache": 1, "is_called": True}
    assert _taken("postgresql", "sequence", {**at, "last_value": 5}, {**at, "last_value": 37})
    assert not _taken("postgresql", "sequence", {**at, "last_value": 5}, {**at, "last_value": 39})
    assert not _taken("postgresql", "sequence", {**at, "last_value": 5}, {**at, "last_value": 4})
    full, none = {"unlogged": True, "rows": 3, "content": "9"}, {"unlogged": True, "rows": 0, "content": "0"}
    assert _taken("postgresql", "rows", full, none)
    assert not _taken("postgresql", "rows", {**full, "unlogged": False}, {**none, "unlogged": False})
    assert not _taken("postgresql", "rows", full, {**full, "rows": 2})
