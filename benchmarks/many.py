# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one log cycle of many instances costs that finds nothing new."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import open_lineage
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from benchmarks.full import request
from benchmarks.measure import Row, Table, median, operation
from benchmarks.receivers import expect, receiving, until_idle
from demo.place import Place
from demo.servers import MariaDBServer, PostgreSQLServer

LIMIT_SECONDS = 60.0
ROUNDS = 3
AT_ONCE = 4  # servers that are made side by side
# Fifty servers on one machine: each as small as it can be, and otherwise as every other of the project's tests.
SMALL = {
    "shared_buffers": "1MB",
    "max_connections": "10",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    "autovacuum_max_workers": "1",
    "max_worker_processes": "1",
    "min_wal_size": "32MB",
}


def many(folder: Path, instances: int, say: Callable[[str], None]) -> Table:
    """Measure one call for many idle instances, for each engine."""
    names = tuple(f"instance-{number:03d}" for number in range(instances))
    table = Table(f"A log cycle of {instances} idle instances in one call")
    _mariadb(folder / "many-mariadb", names, table, say)
    _postgresql(folder / "many-postgresql", names, table, say)
    return table


def _measure(what: str, asked: dict[str, Any], table: Table, say: Callable[[str], None]) -> None:
    until_idle(asked)
    taken = []
    for _round in range(ROUNDS):
        answer = operation(asked)
        expect(answer, "idle")
        taken.append(float(answer["seconds"]))
        say(f"  {what}: {taken[-1]:.2f} s")
    worst = max(taken)
    table.times[what] = taken
    table.rows += [
        Row(f"{what} (median)", f"{median(taken):.2f} s"),
        Row(f"{what}, slowest of {ROUNDS}", f"{worst:.2f} s", f"within {LIMIT_SECONDS:g} s", worst <= LIMIT_SECONDS),
    ]


def _mariadb(base: Path, names: Sequence[str], table: Table, say: Callable[[str], None]) -> None:
    base.mkdir()
    place = Place(base / "place")
    place.make()
    with MariaDBServer(base / "server", fast=True) as server:
        one_server_many_names(place, names, server)
        server.query("CREATE DATABASE rs")  # something for each chain to archive, before all is quiet
        asked = {**request(place, "mariadb", names=tuple(names)), "operation": "log_cycle"}
        _measure(f"{len(names)} idle instances of MariaDB", asked, table, say)
    table.notes.append(
        "MariaDB: the instances are one server under many names, each with a chain, a credentials file and connections of"
        " its own, so that client, server and repository do the work of as many servers, all on this machine. Each cycle"
        " compares the newest archived log with the server's file, as always."
    )


def one_server_many_names(place: Place, names: Sequence[str], server: MariaDBServer) -> None:
    """Let one server stand for many instances: a chain, a credentials file and the agent's leave for each name."""
    repository = Repository.open(place.repository)
    place.database(names[0], server)
    for name in names[1:]:  # the same account: a new password would end the others' access
        shutil.copy2(place.root / "credentials" / names[0], place.root / "credentials" / name)
    server.query("FLUSH BINARY LOGS")
    file, offset = server.query("SHOW MASTER STATUS")[0][:2]
    state = server.value("SELECT @@gtid_binlog_pos") or ""
    uid, number = server.query("SELECT @@server_uid, @@server_id")[0]
    for name in names:
        values = {
            "instance": name,
            "engine": "mariadb",
            "identity": {"server_uid": uid, "server_id": number},
            "start": {"file": file, "offset": int(offset or 0), "gtid": state},
            "opened_by": "benchmark",
        }
        open_lineage(repository.instance(name).logs, values, utc_now())


def _postgresql(base: Path, names: Sequence[str], table: Table, say: Callable[[str], None]) -> None:
    base.mkdir()
    place = Place(base / "place")
    place.make()
    servers = [PostgreSQLServer(base / name, fast=True, options=dict(SMALL)) for name in names]
    began = monotonic()
    say(f"many: making {len(servers)} PostgreSQL servers")
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool, ExitStack() as stack:
        stack.callback(lambda: list(pool.map(PostgreSQLServer.kill9, servers)))
        list(pool.map(PostgreSQLServer.start, servers))
        for name, server in zip(names, servers):
            place.database(name, server)
        every = request(place, "postgresql", names=tuple(names))
        asked = {**every, "operation": "log_cycle"}
        stack.enter_context(receiving(place.repository, every["instances"]))
        list(pool.map(lambda one: operation({**every, "instances": [one]}), every["instances"]))
        for server in servers:  # something for each chain to archive, before all is quiet
            server.query("CREATE TABLE rs (i INT PRIMARY KEY)")
        say(f"many: the servers and their full backups were made in {monotonic() - began:.0f} s")
        _measure(f"{len(names)} idle instances of PostgreSQL", asked, table, say)
    shutil.rmtree(base)
    table.notes.append(
        "PostgreSQL: the instances are as many servers (initdb for each, shared_buffers of 1 MB), each with a full backup, a"
        " replication slot, a receiver that streams, and TLS of its own, all on this machine: its processors do the"
        " servers' and receivers' idle work, too."
    )
