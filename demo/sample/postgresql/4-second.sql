-- SPDX-License-Identifier: GPL-3.0-or-later
-- The second database.
SET ROLE pemilik_simrs;
CREATE SCHEMA lis;
CREATE TABLE lis.alat (id serial PRIMARY KEY, nama text NOT NULL UNIQUE, ip inet);
CREATE TABLE lis.hasil_mentah (waktu timestamptz, alat int REFERENCES lis.alat, pesan text) WITH (fillfactor = 80);
INSERT INTO lis.alat (nama, ip) SELECT 'Analyzer é ' || n, ('10.0.0.' || n)::inet FROM generate_series(1, 9) n;
INSERT INTO lis.hasil_mentah SELECT timestamptz '2024-01-01 00:00+07' + n * interval '1 min', 1 + n % 9,
  'MSH|^~\&|LIS|' || md5(n::text) FROM generate_series(1, 2000) n;
CREATE VIEW lis.v_hasil AS SELECT nama, count(*) FROM lis.hasil_mentah h JOIN lis.alat a ON a.id = h.alat GROUP BY 1;
