# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full backup through the core, with encryption and hashing, beside the bare pipeline and beside dump and gzip."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Table, alternate, median, operation, paired_ratio, shell
from demo.place import PROJECT, Place
from demo.sample import load
from demo.server import Server
from demo.servers import MariaDBServer, PostgreSQLServer

AGENT = PROJECT / "collections/ansible_collections/rspon/dbcontinuity/roles/production/files/dbcontinuity_agent.py"
NAME = "simrs"
# sysbench's oltp tables: rows of random digits, harder to compress than a hospital's.
TABLES, BYTES_PER_ROW, BATCH_ROWS = 4, 245, 250_000
LIMIT, PEAK_LIMIT_KILOBYTES = 1.20, 64 * 1024
OURS, BARE, DUMP = "full backup", "bare pipeline", "dump and gzip"
DUMP_FACTOR = {"mariadb": 10.0, "postgresql": 3.0}
# As the bare pipelines do it: mariadb-backup's stream is compressed by whoever takes it, PostgreSQL's by the server.
COMPRESS_ON = {"mariadb": "backup", "postgresql": "production"}
SERVERS: dict[str, type[Server]] = {"mariadb": MariaDBServer, "postgresql": PostgreSQLServer}


def benchmark(
    engine: str, folder: Path, megabytes: float, rounds: int, compress_on: str, data: str, say: Callable[[str], None]
) -> Table:
    """Measure one engine on a private server.

    :param data: ``sample`` (what a hospital's tables hold) or ``sysbench`` (that benchmark's own tables).
    """
    place = Place(folder / "place")
    place.make()
    with SERVERS[engine](folder / engine, fast=True) as server:
        say(f"{engine}: making about {megabytes:g} MB of data")
        if data == "sample":
            load(server, megabytes, data_directory=False)
        else:
            load(server, patients=300, data_directory=False)
            bulk(server, megabytes)
        place.database(NAME, server)
        size = content_bytes(server)
        say(f"{engine}: the tables hold {size / 1e6:.0f} MB")
        return _measure(
            engine, place, server, folder, size, rounds, f"{data} data, zstd on {compress_on}", compress_on, say
        )


def _measure(
    engine: str,
    place: Place,
    server: Server,
    folder: Path,
    size: int,
    rounds: int,
    title: str,
    compress_on: str,
    say: Callable[[str], None],
) -> Table:
    out = folder / "out"
    out.mkdir()
    server.owner.give(out)
    asked = request(place, engine, compress_on)
    bare, dump = commands(engine, place, server, out)
    seen: list[dict[str, Any]] = []

    def ours() -> float:
        for old in (place.repository / NAME / "full").glob("*"):
            shutil.rmtree(old)
        answer = operation(asked)
        seen.append(answer)
        return float(answer["seconds"])

    def plain() -> float:
        shutil.rmtree(out / "base", ignore_errors=True)
        return shell(bare, out / "bare.zst")

    taken = alternate({BARE: plain, OURS: ours}, rounds, say)
    # Once: it takes minutes, and what it is measured for is no matter of percents.
    taken[DUMP] = [shell(dump, out / "dump.gz")]
    say(f"  {DUMP}: {taken[DUMP][0]:.2f} s")
    ratio, factor = paired_ratio(taken, OURS, BARE), taken[DUMP][0] / median(taken[OURS])
    peak = max(int(each["peak_kilobytes"]) for each in seen)
    stored = int(seen[-1]["result"]["size_bytes"])
    table = Table(f"Full backup, {engine}: {size / 1e6:.0f} MB of {title}", times=taken)
    table.rows = [
        Row("full backup (median)", f"{median(taken[OURS]):.2f} s, {stored / 1e6:.0f} MB stored"),
        Row("bare pipeline (median)", f"{median(taken[BARE]):.2f} s"),
        Row("dump and gzip (once)", f"{taken[DUMP][0]:.2f} s"),
        Row("full backup / bare pipeline", f"{ratio:.2f}", f"at most {LIMIT:.2f}, aim 1.10", ratio <= LIMIT),
        Row(
            "dump and gzip / full backup",
            f"{factor:.1f}",
            f"at least {DUMP_FACTOR[engine]:g}",
            factor >= DUMP_FACTOR[engine],
        ),
        Row(
            "most memory of the module's Python",
            f"{peak / 1024:.1f} MiB",
            f"under {PEAK_LIMIT_KILOBYTES / 1024:g} MiB",
            peak < PEAK_LIMIT_KILOBYTES,
        ),
    ]
    table.commands = [bare.replace(str(folder), "…"), dump.replace(str(folder), "…")]
    table.notes.append(
        "The full backup inspects the server, encrypts to two recipients, hashes, flushes to the disk and writes the"
        " ledger, over TLS where the protocol is the server's; the bare pipeline does none of this. Ours compresses at zstd's level 1;"
        " pg_basebackup's own default, which the bare pipeline has, is level 3."
    )
    return table


def request(place: Place, engine: str, compress_on: str = "backup", names: tuple[str, ...] = (NAME,)) -> dict[str, Any]:
    """Return what :mod:`benchmarks.operation` is asked for."""
    return {
        "operation": "full_backup",
        "repository": str(place.repository),
        "recipients": (place.root / "keys" / "recipients").read_text().split(),
        "identity_file": str(place.operations_key),
        "progress_file": str(place.root / "progress.json"),
        "instances": [
            {
                "name": name,
                "engine": engine,
                "credentials": str(place.root / "credentials" / name),
                "compress_on": compress_on,
                "agent": {"transport": "local", "program": str(AGENT), "config_dir": str(place.root / "agent")},
            }
            for name in names
        ],
    }


def commands(engine: str, place: Place, server: Server, out: Path) -> tuple[str, str]:
    """Return the bare pipeline, and dump and gzip, as one would type them."""
    as_owner = (
        "" if server.owner.is_me else f"setpriv --reuid={server.owner.uid} --regid={server.owner.gid} --clear-groups "
    )
    if isinstance(server, MariaDBServer):
        config = json.loads((place.root / "agent" / f"{NAME}.json").read_text())
        options = out / "bare.cnf"
        shutil.copy(config["option_file"], options)
        server.owner.give(options)
        bare = (
            f"{as_owner}mariadb-backup --defaults-extra-file={options} --backup --datadir={server.datadir}"
            f" --parallel=2 --stream=mbstream --target-dir={out}/base 2> {out}/bare.log | zstd -q -T2 -1 > {out}/bare.zst"
        )
        dump = (
            f"mariadb-dump {shlex.join(server.client.arguments())} --single-transaction --quick --routines --events"
            f" --hex-blob --all-databases | gzip > {out}/dump.gz"
        )
        return bare, dump
    if not isinstance(server, PostgreSQLServer):
        raise TypeError(type(server).__name__)
    where = f"--host={server.socket_folder} --port={server.port} --username=postgres"
    bare = (
        f"{as_owner}{server.program('pg_basebackup')} {where} --checkpoint=fast --format=tar"
        f" --compress=server-zstd:workers=2 --wal-method=fetch --pgdata={out}/base"
    )
    dump = f"{server.program('pg_dump')} {where} simrs | gzip > {out}/dump.gz"
    return bare, dump


def bulk(server: Server, megabytes: float) -> None:
    """Fill tables like those of sysbench's ``oltp_*``: c of ten, pad of five groups of eleven random digits."""
    rows = max(1000, int(megabytes * 1e6 / BYTES_PER_ROW / TABLES))
    if server.engine == "mariadb":
        group, series = "LPAD(FLOOR(RAND() * 99999999999), 11, '0')", "seq_{0}_to_{1}"
        quiet, chance = "SET sql_log_bin = 0, unique_checks = 0; ", f"FLOOR(RAND() * {rows})"
    else:
        group = "lpad(floor(random() * 99999999999)::bigint::text, 11, '0')"
        series, quiet, chance = "generate_series({0}, {1}) AS seq", "", f"floor(random() * {rows})"
    for number in range(1, TABLES + 1):
        table = f"sbtest{number}"
        columns = "id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL"
        server.query(f"CREATE TABLE {table} ({columns})", "simrs")
        for first in range(1, rows + 1, BATCH_ROWS):
            numbers = series.format(first, min(rows, first + BATCH_ROWS - 1))
            c, pad = (f"CONCAT_WS('-', {', '.join([group] * count)})" for count in (10, 5))
            chosen = f"SELECT seq, {chance}, {c}, {pad} FROM {numbers}"  # noqa: S608 - constants and numbers
            server.query(f"{quiet}INSERT INTO {table} {chosen}", "simrs")
        server.query(f"CREATE INDEX k_{number} ON {table} (k)", "simrs")
        if server.engine == "postgresql":
            server.query(f"VACUUM {table}", "simrs")
    if server.engine == "postgresql":
        server.query("CHECKPOINT")


def content_bytes(server: Server) -> int:
    """Return what there is to back up, logs not counted."""
    asked = (
        "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_SYS_TABLESPACES"
        if server.engine == "mariadb"
        else "SELECT sum(pg_database_size(oid)) FROM pg_database"
    )
    return int(server.value(asked) or 0)
