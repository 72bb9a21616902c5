-- SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
-- SPDX-License-Identifier: GPL-3.0-or-later
-- What partial restores are of: a foreign-key parent and child, a table with triggers, a dependent view, a database to swap.
CREATE DATABASE klinik;
USE klinik;
CREATE TABLE dokter (id INT PRIMARY KEY, nama VARCHAR(60) NOT NULL);
CREATE TABLE kunjungan (
  id INT PRIMARY KEY, dokter_id INT NOT NULL, catatan VARCHAR(200),
  FOREIGN KEY (dokter_id) REFERENCES dokter (id) ON DELETE CASCADE
);
CREATE TABLE obat (id INT PRIMARY KEY, nama VARCHAR(60), stok INT NOT NULL);
CREATE TABLE riwayat (id INT AUTO_INCREMENT PRIMARY KEY, obat_id INT, lama INT, baru INT);
CREATE TRIGGER `obat_ubah` AFTER UPDATE ON `obat` FOR EACH ROW
  INSERT INTO riwayat (obat_id, lama, baru) VALUES (OLD.id, OLD.stok, NEW.stok);
CREATE TRIGGER `obat_hapus` AFTER DELETE ON `obat` FOR EACH ROW
  INSERT INTO riwayat (obat_id, lama, baru) VALUES (OLD.id, OLD.stok, NULL);
CREATE VIEW v_kunjungan AS SELECT k.id, d.nama FROM kunjungan k JOIN dokter d ON d.id = k.dokter_id;
CREATE VIEW v_obat AS SELECT id, nama FROM obat WHERE stok > 0;
CREATE TABLE beban (id INT AUTO_INCREMENT PRIMARY KEY, waktu DATETIME(6) NOT NULL);
INSERT INTO dokter SELECT seq, CONCAT('dokter ', seq) FROM mysql.seq_1_to_20;
INSERT INTO kunjungan SELECT seq, 1 + seq MOD 20, CONCAT('catatan ', seq) FROM mysql.seq_1_to_500;
INSERT INTO obat SELECT seq, CONCAT('obat ', seq), seq FROM mysql.seq_1_to_100;
CREATE DATABASE arsip;
USE arsip;
CREATE TABLE surat (id INT PRIMARY KEY, isi VARCHAR(200));
CREATE TABLE lampiran (id INT PRIMARY KEY, surat_id INT, FOREIGN KEY (surat_id) REFERENCES surat (id));
CREATE TRIGGER `surat_baru` BEFORE INSERT ON `surat` FOR EACH ROW SET NEW.isi = CONCAT(NEW.isi, '.');
CREATE VIEW v_surat AS SELECT s.id, COUNT(l.id) AS lampiran FROM surat s LEFT JOIN lampiran l ON l.surat_id = s.id GROUP BY s.id;
CREATE FUNCTION jumlah_surat() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM surat);
INSERT INTO surat SELECT seq, CONCAT('surat ', seq) FROM mysql.seq_1_to_50;
INSERT INTO lampiran SELECT seq, seq FROM mysql.seq_1_to_50;
