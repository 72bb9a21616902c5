-- SPDX-License-Identifier: GPL-3.0-or-later
-- Roles, tablespace, databases. @EXTERNAL@ stands for a folder of the server's outside its data directory.
CREATE ROLE pemilik_simrs NOLOGIN;
CREATE ROLE petugas_it NOLOGIN;
CREATE ROLE "Dokter Jaga" NOLOGIN IN ROLE petugas_it;
COMMENT ON ROLE petugas_it IS 'Petugas IT Instalasi SIRS';
CREATE TABLESPACE arsip_lambat OWNER pemilik_simrs LOCATION '@EXTERNAL@';
CREATE DATABASE simrs OWNER pemilik_simrs TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';
CREATE DATABASE "Laboratorium é" OWNER pemilik_simrs;
ALTER DATABASE simrs SET search_path TO simrs, public;
ALTER DATABASE simrs SET datestyle TO 'ISO, DMY';
COMMENT ON DATABASE simrs IS 'Sistem informasi rumah sakit';
