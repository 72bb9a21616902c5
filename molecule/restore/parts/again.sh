#!/bin/bash
# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes mistakes once more, so that each part can be brought back alone, whole databases among them, and in the sample
# databases that are here.
set -euo pipefail
cd /

postgresql() {
  runuser --user postgres -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$@"
}

# Without the cascade: a parent that is gone leaves its children where they are.
mariadb klinik --execute "SET foreign_key_checks = 0; DELETE FROM dokter WHERE id > 15; DELETE FROM kunjungan WHERE id > 400"
postgresql --dbname=klinik --command="SET session_replication_role = replica; DELETE FROM dokter WHERE id > 15; DELETE FROM kunjungan WHERE id > 400"
# Nor do triggers fire: what they would write is brought back by nobody.
mariadb klinik --execute "TRUNCATE obat"
postgresql --dbname=klinik --command="SET session_replication_role = replica; UPDATE obat SET nama = 'salah'"
# Of whole databases: a view is left without its table.
mariadb arsip --execute "DROP TABLE lampiran; DELETE FROM surat"
postgresql --dbname=arsip --command="DROP VIEW v_surat; DELETE FROM surat"
if mariadb --execute "USE sakila" 2> /dev/null; then
  mariadb sakila --execute "SET foreign_key_checks = 0; DELETE FROM payment WHERE payment_id % 3 = 0; DELETE FROM rental WHERE rental_id < 500"
fi
if postgresql --dbname=pagila --command="SELECT 1" > /dev/null 2>&1; then
  postgresql --dbname=pagila --command="SET session_replication_role = replica; DELETE FROM film_actor WHERE actor_id < 50; UPDATE staff SET username = 'salah'"
fi
