#!/bin/bash
# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Writes all the time to what is not restored: rows and files, one every tenth of a second. Ends where a write fails.
set -euo pipefail
cd /

rows() {
  while sleep 0.1; do
    echo "INSERT INTO beban (waktu) VALUES (current_timestamp(6));"
  done
}

rows | mariadb klinik &
rows | runuser --user postgres -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=klinik &
mkdir --parents /srv/berkas/masuk
number=0
while sleep 0.1; do
  number=$((number + 1))
  echo "$number" > "/srv/berkas/masuk/$number"
done &
wait -n
exit 1
