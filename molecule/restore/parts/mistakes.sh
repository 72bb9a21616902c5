#!/bin/bash
# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Writes what must be there afterwards, and more than two seconds later makes mistakes; prints the moment between them, and
# the checksums of everything at that moment and after the mistakes.
set -euo pipefail
parts=$(dirname "$(readlink --canonicalize "$0")")
cd /

postgresql() {
  runuser --user postgres -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$@"
}

mariadb klinik --execute "INSERT INTO obat VALUES (200, 'yang tetap', 7)"
postgresql --dbname=klinik --command="INSERT INTO obat VALUES (200, 'yang tetap', 7)"
good=$(python3 "$parts/sums.py")
# A moment is a whole second: one that began behind the last write, and is over before the next.
sleep 1.1
moment=$(date --utc +%Y-%m-%dT%H:%M:%SZ)
sleep 1.1
# The triggers write into riwayat, which nobody brings back; the cascade takes the children of the first five along.
for client in "mariadb klinik --execute" "postgresql --dbname=klinik --command"; do
  $client "DELETE FROM dokter WHERE id <= 5"
  $client "UPDATE kunjungan SET catatan = 'salah' WHERE id < 100"
  $client "UPDATE obat SET stok = 0"
  $client "DELETE FROM obat WHERE id > 90"
  $client "INSERT INTO obat VALUES (300, 'salah', 1)"
done
rm --recursive /srv/berkas/2026
bad=$(python3 "$parts/sums.py")
echo "{\"moment\": \"$moment\", \"good\": $good, \"bad\": $bad}"
