-- SPDX-License-Identifier: GPL-3.0-or-later
-- Views, triggers, routines and events; loaded after the data, so that the triggers do not slow that down.
SET NAMES utf8mb4;
SET sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION';
USE simrs;

CREATE DEFINER=`petugas_lama`@`localhost` SQL SECURITY DEFINER VIEW v_kunjungan AS
  SELECT k.no_rawat, k.no_rm, p.nm_pasien, k.waktu_daftar, k.status, o.nm_poli
  FROM kunjungan k JOIN pasien p ON p.no_rm = k.no_rm JOIN poliklinik o ON o.kd_poli = k.kd_poli;
CREATE VIEW v_rekap_poli AS
  SELECT nm_poli, COUNT(*) AS jumlah, SUM(status = 'Selesai') AS selesai FROM v_kunjungan GROUP BY nm_poli;
CREATE SQL SECURITY INVOKER VIEW `v pasien "lansia"` AS
  SELECT no_rm, nm_pasien, umur_daftar FROM pasien WHERE umur_daftar >= 60 WITH CASCADED CHECK OPTION;
CREATE ALGORITHM=TEMPTABLE VIEW bridging_bpjs.v_sep_pasien AS
  SELECT s.no_sep, p.nm_pasien FROM bridging_bpjs.sep s JOIN simrs.pasien p ON p.no_rm = RIGHT(s.no_kartu, 8);

DELIMITER //
CREATE FUNCTION umur(lahir DATE, pada DATE) RETURNS INT DETERMINISTIC NO SQL COMMENT 'Umur dalam tahun'
RETURN IF(lahir IS NULL OR YEAR(lahir) = 0, NULL, TIMESTAMPDIFF(YEAR, lahir, pada))//
CREATE DEFINER=`petugas_lama`@`localhost` FUNCTION nama_pasien(rm CHAR(8)) RETURNS VARCHAR(80) CHARSET utf8mb4 READS SQL DATA
BEGIN
  DECLARE hasil VARCHAR(80);
  SELECT nm_pasien INTO hasil FROM pasien WHERE no_rm = rm;
  RETURN COALESCE(hasil, 'tidak ditemukan; "é"');
END//
CREATE PROCEDURE tutup_kunjungan(IN p_no_rawat VARCHAR(20), OUT p_jumlah INT) MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
  -- komentar di dalam prosedur; titik koma
  UPDATE kunjungan SET status = 'Selesai' WHERE no_rawat = p_no_rawat;
  SET p_jumlah = ROW_COUNT();
END//
CREATE PROCEDURE `hitung ulang 'stok'`()
BEGIN
  UPDATE obat SET stok = stok WHERE stok < 0;
END//
CREATE TRIGGER pasien_audit AFTER UPDATE ON pasien FOR EACH ROW
BEGIN
  IF NOT (OLD.nm_pasien <=> NEW.nm_pasien AND OLD.no_telp <=> NEW.no_telp) THEN
    INSERT INTO log_perubahan (tabel, kunci, semula, menjadi) VALUES ('pasien', NEW.no_rm,
      JSON_OBJECT('nama', OLD.nm_pasien, 'telp', OLD.no_telp), JSON_OBJECT('nama', NEW.nm_pasien, 'telp', NEW.no_telp));
  END IF;
END//
CREATE TRIGGER pasien_audit_kedua AFTER UPDATE ON pasien FOR EACH ROW FOLLOWS pasien_audit
  SET @pasien_terakhir = NEW.no_rm//
CREATE TRIGGER kunjungan_awal BEFORE INSERT ON kunjungan FOR EACH ROW
  SET NEW.cara_bayar = IF(NEW.cara_bayar = '', 'Umum', NEW.cara_bayar)//
CREATE TRIGGER kunjungan_hapus AFTER DELETE ON kunjungan FOR EACH ROW
  INSERT INTO log_perubahan (tabel, kunci, semula) VALUES ('kunjungan', OLD.no_rawat, JSON_OBJECT('biaya', OLD.biaya))//
SET sql_mode = 'ANSI_QUOTES'//
CREATE TRIGGER bridging_bpjs."sep 'cek'" BEFORE INSERT ON bridging_bpjs.sep FOR EACH ROW
  SET NEW."diagnosa" = TRIM(NEW."diagnosa")//
SET sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'//
CREATE EVENT bersihkan_antrian ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 01:00:00' ON COMPLETION PRESERVE
  COMMENT 'tiap malam' DO DELETE FROM antrian WHERE dipanggil = 1 AND no_rawat IS NULL//
CREATE EVENT arsip_tahunan ON SCHEDULE AT '2037-12-31 23:00:00' ON COMPLETION PRESERVE DISABLE DO
BEGIN
  INSERT INTO `arsip lama é`.`rekam medis 2009` (`no rm`, `nama pasien`) SELECT no_rm, nm_pasien FROM pasien LIMIT 0;
END//
DELIMITER ;

SELECT NEXTVAL(seq_antrian), NEXTVAL(seq_antrian);
SELECT SETVAL(seq_tagihan, @LAST@);
UPDATE pasien SET no_telp = '+628000000' WHERE no_rm = '00000001';
