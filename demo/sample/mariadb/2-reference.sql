-- SPDX-License-Identifier: GPL-3.0-or-later
-- The small tables that everything else refers to.
SET NAMES utf8mb4;
SET sql_mode = '';
USE simrs;
INSERT INTO poliklinik (kd_poli, nm_poli, aktif, hari_buka)
SELECT CONCAT('P', LPAD(seq, 3, '0')), CONCAT('Poli ', ELT(1 + seq % 5, 'Saraf', 'Bedah Saraf', 'Anak', 'Memori', 'Nyeri'), ' ', seq),
  seq % 7 <> 0, 1 + seq % 63 FROM seq_0_to_19;
INSERT INTO dokter SELECT CONCAT('D', LPAD(seq, 4, '0')), CONCAT('dr. ', ELT(1 + seq % 4, 'Andi', 'Ratna', 'Zoë', 'Bambang'), ' ', seq, ', Sp.S'),
  ELT(1 + seq % 3, 'Neurologi', 'Bedah Saraf', 'Anestesi – café'), IF(seq % 10 = 0, NULL, CONCAT('SIP/', seq, '/2024')) FROM seq_0_to_59;
INSERT INTO obat SELECT CONCAT('B', LPAD(seq, 5, '0')), CONCAT(ELT(1 + seq % 4, 'Parasetamol ', 'Fenitoin ', 'Citicoline ', 'Manitol '), seq, ' mg'),
  1 + seq % 5, 100 + seq * 17.25, seq * 3 FROM seq_0_to_499;
INSERT INTO `tarif khusus` (`kode tarif`, `nilai (Rp)`) SELECT CONCAT('T', seq), seq * 12500.50 FROM seq_1_to_40;
INSERT INTO `o'brien "kutip"` VALUES (1, 'it''s'), (2, NULL), (3, 'NULL'), (4, ''), (5, '\\N\t\n\0\Z');
INSERT INTO `tabel``aneh` VALUES (1, '`a`'), (2, '"b"'), (-3, NULL);
INSERT INTO `pemeriksaan_é_日本` VALUES (1, 'é'), (2, 'É'), (3, '日本 🏥');
INSERT INTO cache_tarif SELECT CONCAT('T', seq), seq FROM seq_1_to_30;
INSERT INTO cache_tarif SELECT * FROM cache_tarif WHERE nilai < 5;
INSERT INTO bridging_bpjs.token VALUES ('0000-00-00 00:00:00.000', x'00FF0A0D1A27225C'), ('2024-01-01 00:00:00.125', 'abc');
