-- SPDX-License-Identifier: GPL-3.0-or-later
-- Views, routines, triggers, rules; loaded after the data, so that the triggers do not slow that down.
SET ROLE pemilik_simrs;
SET search_path TO simrs, public;

CREATE VIEW v_kunjungan WITH (security_barrier) AS
  SELECT k.no_rawat, k.no_rm, p.nm_pasien, k.waktu_daftar, k.status, o.nm_poli
  FROM kunjungan k JOIN pasien p USING (no_rm) JOIN poliklinik o USING (kd_poli);
CREATE VIEW v_rekap_poli AS
  SELECT nm_poli, count(*) AS jumlah, count(*) FILTER (WHERE status = 'Selesai') AS selesai FROM v_kunjungan GROUP BY 1;
CREATE VIEW "v pasien ""lansia""" AS SELECT no_rm, nm_pasien, tgl_lahir FROM pasien WHERE tgl_lahir < '1964-01-01'
  WITH LOCAL CHECK OPTION;
COMMENT ON VIEW v_rekap_poli IS 'Rekapitulasi';
CREATE MATERIALIZED VIEW mv_rekap AS SELECT * FROM v_rekap_poli ORDER BY nm_poli;
CREATE UNIQUE INDEX uk_mv_rekap ON mv_rekap (nm_poli);
CREATE MATERIALIZED VIEW mv_kosong AS SELECT 1 AS satu WITH NO DATA;

CREATE FUNCTION umur(lahir date, pada date DEFAULT current_date) RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT extract(year FROM age(pada, lahir))::int $$;
CREATE FUNCTION nama_pasien(rm text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path TO simrs AS $$
DECLARE hasil text;
BEGIN
  SELECT nm_pasien INTO hasil FROM pasien WHERE no_rm = rm;
  RETURN coalesce(hasil, 'tidak ditemukan; "é"');
END $$;
CREATE PROCEDURE tutup_kunjungan(nomor text) LANGUAGE plpgsql AS $$
BEGIN
  UPDATE kunjungan SET status = 'Selesai' WHERE no_rawat = nomor;
END $$;
COMMENT ON FUNCTION umur(date, date) IS 'Umur dalam tahun';
REVOKE EXECUTE ON FUNCTION nama_pasien(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nama_pasien(text) TO petugas_it;
CREATE FUNCTION gabung_langkah(a text, b text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT concat_ws('; ', a, b) $$;
CREATE AGGREGATE gabung(text) (SFUNC = gabung_langkah, STYPE = text);
CREATE OPERATOR <~> (LEFTARG = text, RIGHTARG = text, FUNCTION = gabung_langkah);

CREATE FUNCTION catat_perubahan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO simrs.log_perubahan (tabel, kunci, semula) VALUES (TG_TABLE_NAME, OLD.no_rm, to_jsonb(OLD) - 'nama_cari');
  RETURN NULL;
END $$;
CREATE TRIGGER pasien_audit AFTER UPDATE OF nm_pasien, telp ON pasien FOR EACH ROW
  WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION catat_perubahan();
CREATE FUNCTION kunjungan_awal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.waktu_ubah := now(); RETURN NEW; END $$;
CREATE TRIGGER kunjungan_awal BEFORE INSERT OR UPDATE ON kunjungan FOR EACH ROW EXECUTE FUNCTION kunjungan_awal();
CREATE TRIGGER lab_mati AFTER INSERT ON hasil_laboratorium FOR EACH STATEMENT EXECUTE FUNCTION kunjungan_awal();
ALTER TABLE hasil_laboratorium DISABLE TRIGGER lab_mati;
CREATE RULE jangan_hapus_poli AS ON DELETE TO poliklinik DO INSTEAD NOTHING;
CREATE RULE v_rekap_sisip AS ON INSERT TO v_rekap_poli DO INSTEAD INSERT INTO poliklinik VALUES (NEW.nm_poli, NEW.nm_poli, NULL);

RESET ROLE;
CREATE FUNCTION public.catat_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE EVENT TRIGGER awasi_ddl ON ddl_command_end WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION public.catat_ddl();
CREATE PUBLICATION kirim_lab FOR TABLE simrs.hasil_laboratorium;
SET ROLE pemilik_simrs;
SELECT setval('simrs.kunjungan_urut_seq', @LAST@), setval('simrs.seq_tagihan', @LAST@ + 1000),
  setval('simrs.hasil_laboratorium_id_seq', @LAST@ * 3 + 3);
UPDATE pasien SET telp = ARRAY['+628000000'] WHERE no_rm = '00000001';
