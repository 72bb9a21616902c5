-- SPDX-License-Identifier: GPL-3.0-or-later
-- A schema as hospital information systems have them: every kind of table and column that backups trip over.
-- @EXTERNAL@ stands for a folder of the server's outside its data directory.
SET NAMES utf8mb4;
SET sql_mode = '';  -- as SIMRS products set it: zero dates are accepted

CREATE DATABASE simrs CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;
CREATE DATABASE bridging_bpjs CHARACTER SET latin1 COLLATE latin1_swedish_ci;
CREATE DATABASE `arsip lama é` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

CREATE USER `petugas_lama`@`localhost` ACCOUNT LOCK;
CREATE ROLE petugas_it;
GRANT SELECT, EXECUTE ON simrs.* TO `petugas_lama`@`localhost`;
GRANT SELECT ON simrs.* TO petugas_it;

USE simrs;

CREATE SEQUENCE seq_tagihan START WITH 1000 INCREMENT BY 1 CACHE 20;
CREATE SEQUENCE seq_antrian START WITH 1 INCREMENT BY 1 MAXVALUE 999 NOCACHE CYCLE;

CREATE TABLE poliklinik (
  kd_poli CHAR(5) NOT NULL PRIMARY KEY,
  nm_poli VARCHAR(60) NOT NULL,
  aktif BIT(1) NOT NULL DEFAULT b'1',
  hari_buka SET('Senin','Selasa','Rabu','Kamis','Jumat','Sabtu') NOT NULL DEFAULT 'Senin,Selasa,Rabu,Kamis,Jumat'
) ENGINE=InnoDB COMMENT='Poliklinik; "unit" pada aplikasi';

CREATE TABLE dokter (
  kd_dokter CHAR(6) NOT NULL PRIMARY KEY,
  nm_dokter VARCHAR(80) NOT NULL,
  spesialis VARCHAR(60) CHARACTER SET latin1 DEFAULT NULL,
  no_sip VARCHAR(40) DEFAULT NULL COMMENT 'Surat Izin Praktik; baris kedua:\n"masa berlaku" di tabel lain',
  UNIQUE KEY uk_sip (no_sip)
) ENGINE=InnoDB;

CREATE TABLE obat (
  kode_brng VARCHAR(12) NOT NULL PRIMARY KEY,
  nama_brng VARCHAR(80) NOT NULL,
  golongan ENUM('Bebas','Bebas Terbatas','Keras','Narkotika','Psikotropika') NOT NULL DEFAULT 'Keras',
  harga DECIMAL(12,2) NOT NULL DEFAULT 0.00,
  stok INT NOT NULL DEFAULT 0,
  CONSTRAINT harga_wajar CHECK (harga >= 0)
) ENGINE=InnoDB;

CREATE TABLE pasien (
  no_rm CHAR(8) NOT NULL PRIMARY KEY,
  nm_pasien VARCHAR(80) NOT NULL,
  jk ENUM('L','P') NOT NULL,
  tgl_lahir DATE NOT NULL DEFAULT '0000-00-00',
  no_ktp CHAR(16) DEFAULT NULL,
  alamat VARCHAR(160) DEFAULT NULL,
  gol_darah ENUM('A','B','AB','O','-') DEFAULT '-',
  no_telp VARCHAR(20) DEFAULT NULL,
  tgl_daftar DATE NOT NULL,
  catatan TEXT CHARACTER SET latin1 DEFAULT NULL,
  umur_daftar INT GENERATED ALWAYS AS (TIMESTAMPDIFF(YEAR, tgl_lahir, tgl_daftar)) VIRTUAL,
  nama_cari VARCHAR(80) GENERATED ALWAYS AS (UPPER(nm_pasien)) STORED,
  sandi_lama VARCHAR(20) INVISIBLE DEFAULT 'kosong',
  KEY idx_nama (nama_cari),
  KEY idx_umur (umur_daftar),
  KEY idx_lahir (tgl_lahir, jk)
) ENGINE=InnoDB;

CREATE TABLE kunjungan (
  no_rawat VARCHAR(20) NOT NULL PRIMARY KEY,
  urut BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  no_rm CHAR(8) NOT NULL,
  kd_poli CHAR(5) NOT NULL,
  kd_dokter CHAR(6) NOT NULL,
  waktu_daftar DATETIME(6) NOT NULL,
  waktu_ubah TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  status ENUM('Menunggu','Diperiksa','Selesai','Batal') NOT NULL DEFAULT 'Menunggu',
  cara_bayar VARCHAR(20) NOT NULL DEFAULT 'BPJS',
  biaya DECIMAL(14,2) NOT NULL DEFAULT 0.00,
  no_tagihan BIGINT NOT NULL DEFAULT (NEXT VALUE FOR simrs.seq_tagihan),
  keluhan TEXT DEFAULT NULL,
  UNIQUE KEY uk_urut (urut),
  KEY idx_pasien (no_rm, waktu_daftar),
  CONSTRAINT fk_kunjungan_pasien FOREIGN KEY (no_rm) REFERENCES pasien (no_rm) ON UPDATE CASCADE,
  CONSTRAINT fk_kunjungan_poli FOREIGN KEY (kd_poli) REFERENCES poliklinik (kd_poli) ON UPDATE CASCADE,
  CONSTRAINT fk_kunjungan_dokter FOREIGN KEY (kd_dokter) REFERENCES dokter (kd_dokter)
) ENGINE=InnoDB;

CREATE TABLE resep (
  no_resep VARCHAR(20) NOT NULL PRIMARY KEY,
  no_rawat VARCHAR(20) NOT NULL,
  waktu DATETIME NOT NULL,
  CONSTRAINT fk_resep_kunjungan FOREIGN KEY (no_rawat) REFERENCES kunjungan (no_rawat)
    ON DELETE CASCADE ON UPDATE CASCADE
) ENGINE=InnoDB;

CREATE TABLE resep_detail (
  no_resep VARCHAR(20) NOT NULL,
  kode_brng VARCHAR(12) NOT NULL,
  jumlah DOUBLE NOT NULL,
  aturan_pakai VARCHAR(40) DEFAULT NULL,
  PRIMARY KEY (no_resep, kode_brng),
  CONSTRAINT fk_detail_resep FOREIGN KEY (no_resep) REFERENCES resep (no_resep) ON DELETE CASCADE,
  CONSTRAINT fk_detail_obat FOREIGN KEY (kode_brng) REFERENCES obat (kode_brng),
  CONSTRAINT jumlah_positif CHECK (jumlah > 0)
) ENGINE=InnoDB;

CREATE TABLE hasil_laboratorium (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  tgl_periksa DATE NOT NULL,
  no_rawat VARCHAR(20) NOT NULL,
  pemeriksaan VARCHAR(40) NOT NULL,
  nilai FLOAT DEFAULT NULL,
  nilai_teliti DOUBLE DEFAULT NULL,
  rujukan JSON DEFAULT NULL,
  keterangan VARCHAR(200) DEFAULT NULL,
  PRIMARY KEY (id, tgl_periksa),
  KEY idx_rawat (no_rawat)
) ENGINE=InnoDB
  PARTITION BY RANGE (YEAR(tgl_periksa)) (
    PARTITION p2022 VALUES LESS THAN (2023),
    PARTITION p2023 VALUES LESS THAN (2024),
    PARTITION p2024 VALUES LESS THAN (2025),
    PARTITION masa_depan VALUES LESS THAN MAXVALUE
  );

CREATE TABLE antrian (  -- no primary key
  kd_poli CHAR(5) NOT NULL,
  nomor SMALLINT NOT NULL,
  no_rawat VARCHAR(20) DEFAULT NULL,
  dipanggil TINYINT(1) DEFAULT 0,
  KEY idx_poli (kd_poli)
) ENGINE=InnoDB;

CREATE TABLE catatan_perawatan (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  no_rawat VARCHAR(20) NOT NULL,
  isi MEDIUMTEXT COLLATE utf8mb4_unicode_ci NOT NULL,
  KEY idx_rawat (no_rawat),
  FULLTEXT KEY ft_isi (isi)
) ENGINE=InnoDB;

CREATE TABLE berkas_pasien (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  no_rm CHAR(8) NOT NULL,
  jenis VARCHAR(30) NOT NULL,
  isi LONGBLOB NOT NULL,
  sidik BINARY(32) NOT NULL,
  bendera BIT(12) NOT NULL DEFAULT b'101',
  kode UUID DEFAULT NULL,
  alamat_ip INET6 DEFAULT NULL,
  UNIQUE KEY uk_sidik (sidik),
  KEY idx_awal (isi(16))
) ENGINE=InnoDB;

CREATE TABLE lokasi_ambulans (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  titik POINT NOT NULL,
  SPATIAL KEY sp_titik (titik)
) ENGINE=InnoDB;

CREATE TABLE log_akses (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  pengguna VARCHAR(30) NOT NULL,
  aksi VARCHAR(200) NOT NULL,
  waktu DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  FULLTEXT KEY ft_aksi (aksi)
) ENGINE=MyISAM;

CREATE TABLE log_perubahan (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  tabel VARCHAR(64) NOT NULL,
  kunci VARCHAR(64) NOT NULL,
  semula JSON DEFAULT NULL,
  menjadi JSON DEFAULT NULL
) ENGINE=InnoDB;

CREATE TABLE cetak_label (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  isi VARCHAR(100) NOT NULL
) ENGINE=Aria TRANSACTIONAL=1;

CREATE TABLE cache_tarif (kode VARCHAR(20) NOT NULL, nilai DECIMAL(14,2)) ENGINE=Aria TRANSACTIONAL=0;

CREATE TABLE `tarif khusus` (
  `kode tarif` VARCHAR(20) NOT NULL PRIMARY KEY,
  `nilai (Rp)` DECIMAL(14,2) NOT NULL,
  `dari'kutip"` VARCHAR(10) DEFAULT 'it''s "x"'
) ENGINE=InnoDB;
CREATE TABLE `o'brien "kutip"` (id INT PRIMARY KEY, isi VARCHAR(40)) ENGINE=InnoDB;
CREATE TABLE `tabel``aneh` (`kolom``a` INT PRIMARY KEY, `b.c` VARCHAR(40)) ENGINE=InnoDB;  -- as MyISAM it makes mariadb-backup 10.11 fail
CREATE TABLE `pemeriksaan_é_日本` (`naïve` INT PRIMARY KEY, isi VARCHAR(40) COLLATE utf8mb4_bin) ENGINE=InnoDB;

CREATE TABLE arsip_radiologi (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  no_rm CHAR(8) NOT NULL,
  uraian VARCHAR(200) NOT NULL
) ENGINE=InnoDB DATA DIRECTORY='@EXTERNAL@';
CREATE TABLE arsip_myisam (
  id INT NOT NULL PRIMARY KEY,
  uraian VARCHAR(200) NOT NULL
) ENGINE=MyISAM DATA DIRECTORY='@EXTERNAL@' INDEX DIRECTORY='@EXTERNAL@';

CREATE TABLE bridging_bpjs.sep (
  no_sep VARCHAR(19) NOT NULL PRIMARY KEY,
  no_kartu VARCHAR(13) NOT NULL,
  tgl_sep DATE NOT NULL DEFAULT '0000-00-00',
  diagnosa VARCHAR(100) CHARACTER SET latin1 COLLATE latin1_general_cs NOT NULL,
  tanggapan LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE bridging_bpjs.token (
  waktu DATETIME(3) NOT NULL DEFAULT '0000-00-00 00:00:00.000',
  isi VARBINARY(200) NOT NULL
) ENGINE=MyISAM DEFAULT CHARSET=latin1;

CREATE TABLE `arsip lama é`.`rekam medis 2009` (
  `no rm` VARCHAR(8) NOT NULL,
  `nama pasien` VARCHAR(80) NOT NULL,
  isi TEXT
) ENGINE=MyISAM;
