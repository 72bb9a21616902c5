-- SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
-- SPDX-License-Identifier: GPL-3.0-or-later
-- What partial restores are of: a foreign-key parent and child, a table with triggers, a dependent view, a database to swap.
CREATE DATABASE klinik;
CREATE DATABASE arsip;
\connect klinik
CREATE TABLE dokter (id int PRIMARY KEY, nama text NOT NULL);
CREATE TABLE kunjungan (
  id int PRIMARY KEY, dokter_id int NOT NULL REFERENCES dokter (id) ON DELETE CASCADE, catatan text
);
CREATE TABLE obat (id int PRIMARY KEY, nama text, stok int NOT NULL);
CREATE TABLE riwayat (id serial PRIMARY KEY, obat_id int, lama int, baru int);
CREATE FUNCTION catat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO riwayat (obat_id, lama, baru) VALUES (OLD.id, OLD.stok, NEW.stok);
  RETURN NULL;
END $$;
CREATE TRIGGER obat_berubah AFTER UPDATE OR DELETE ON obat FOR EACH ROW EXECUTE FUNCTION catat();
CREATE VIEW v_kunjungan AS SELECT k.id, d.nama FROM kunjungan k JOIN dokter d ON d.id = k.dokter_id;
CREATE VIEW v_obat AS SELECT id, nama FROM obat WHERE stok > 0;
CREATE TABLE beban (id bigserial PRIMARY KEY, waktu timestamptz NOT NULL);
INSERT INTO dokter SELECT n, 'dokter ' || n FROM generate_series(1, 20) AS n;
INSERT INTO kunjungan SELECT n, 1 + n % 20, 'catatan ' || n FROM generate_series(1, 500) AS n;
INSERT INTO obat SELECT n, 'obat ' || n, n FROM generate_series(1, 100) AS n;
\connect arsip
CREATE TABLE surat (id int PRIMARY KEY, isi text);
CREATE VIEW v_surat AS SELECT count(*) FROM surat;
INSERT INTO surat SELECT n, 'surat ' || n FROM generate_series(1, 50) AS n;
