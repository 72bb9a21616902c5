-- SPDX-License-Identifier: GPL-3.0-or-later
-- The small tables that everything else refers to, and large objects.
SET ROLE pemilik_simrs;
SET search_path TO simrs, public;
INSERT INTO poliklinik SELECT 'P' || lpad(n::text, 3, '0'),
  'Poli ' || (ARRAY['Saraf', 'Bedah Saraf', 'Anak', 'Memori', 'Nyeri'])[1 + n % 5] || ' ' || n,
  rentang_jam('08:00'::time, '08:00'::time + n * interval '10 min') FROM generate_series(0, 19) n;
INSERT INTO dokter SELECT 'D' || lpad(n::text, 4, '0'), 'dr. ' || (ARRAY['Andi', 'Ratna', 'Zoë', 'Bambang'])[1 + n % 4] || ' ' || n,
  CASE WHEN n % 10 > 0 THEN 'SIP/' || n || '/2024' END FROM generate_series(0, 59) n;
INSERT INTO obat SELECT 'B' || lpad(n::text, 5, '0'), 'Citicoline ' || n || ' mg', 100 + n * 17.25, n * 3,
  public.hstore('golongan', 'keras') || public.hstore('é', NULL) FROM generate_series(0, 499) n;
INSERT INTO jadwal_ruang SELECT n % 5, tstzrange(timestamptz '2024-01-01 08:00+07' + n * interval '1 hour',
  timestamptz '2024-01-01 09:00+07' + n * interval '1 hour') FROM generate_series(1, 100) n;
INSERT INTO cache_tarif SELECT 'T' || n, n * 1.5 FROM generate_series(1, 30) n;
INSERT INTO arsip_dasar SELECT n, 'dasar ' || n FROM generate_series(1, 50) n;
INSERT INTO arsip_radiologi SELECT n, 'CT ' || n, 'seri ' || md5(n::text) FROM generate_series(100, 400) n;
INSERT INTO "o'brien ""kutip""" VALUES (1, 'it''s'), (2, NULL), (3, 'NULL'), (4, ''), (5, E'\\N\t\n"'), (6, '\.');
INSERT INTO "Arsip Lama é"."Rekam Medis 2009" SELECT lpad(n::text, 8, '0'), 'Tn. Ñandú ' || n, repeat('lama ', n % 40)
  FROM generate_series(1, 400) n;
INSERT INTO "pemeriksaan_日本" VALUES ('NaN', '1 mon 2 days'), ('Infinity', NULL), (1e-30, '-00:00:01');
INSERT INTO pindaian SELECT n, lo_from_bytea(0, sha512(n::text::bytea) || convert_to(repeat('pindaian ' || n, 500), 'UTF8'))
  FROM generate_series(1, 20) n;
SELECT nextval('seq_antrian') FROM generate_series(1, 7);
DO $$
DECLARE nomor oid := (SELECT besar FROM pindaian WHERE id = 1);
BEGIN
  EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', nomor, 'pindaian pertama');
END $$;
