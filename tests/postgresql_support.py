# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the PostgreSQL engine's tests share: accounts, service files, a receiver, servers brought up from a set."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.client import PostgreSQLClient
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.state import server_state
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.registry import engine_for
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ContinuityError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import (
    LogCycleRequest,
    log_cycle,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.process import owner, wait_until
from demo.servers import PostgreSQLServer
from tests.support import Place

# The least an account on the backup host needs.
GRANTS = (
    "REPLICATION",
    "GRANT pg_read_all_settings, pg_read_all_stats TO dbc_ship",
    "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO dbc_ship",
)


def instance(place: Place, name: str, server: PostgreSQLServer, **changes: Any) -> Instance:
    """Make the account, its service file and the agent's configuration for a private server."""
    account = server.account("dbc_ship", GRANTS)
    write_service(place.root / "credentials" / name, name, server, account.user, account.password)
    place.allow(
        name,
        {
            "engine": "postgresql",
            "configuration_paths": [str(server.conf / "postgresql.conf"), str(server.conf / "pg_hba.conf")],
        },
    )
    return Instance(
        name=name, engine="postgresql", credentials=place.root / "credentials" / name, agent=place.agent, **changes
    )


def write_service(path: Path, name: str, server: PostgreSQLServer, user: str, password: str) -> Path:
    """Write a libpq service file as the roles do."""
    pair = server.certificates
    values = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": user,
        "password": password,
        "dbname": "postgres",
        "sslmode": "verify-full",
        "sslrootcert": pair.ca if pair else "",
    }
    path.touch(mode=0o600)
    path.write_text(f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def backup(place: Place, one: Instance, **changes: Any) -> dict[str, Any]:
    """Make a full backup."""
    return full_backup(FullBackupRequest(one, place.repository, place.protection, **changes), Progress(None))


def cycle(place: Place, one: Instance, **changes: Any) -> dict[str, Any]:
    """Run a log cycle of one instance and return what it says of it."""
    answer = log_cycle(LogCycleRequest([one], place.repository, place.protection, **changes))
    result: dict[str, Any] = answer["instances"][one.name]
    return result


class Receiver:
    """Runs what the engine says a receiver is, one connection.

    The server's word counts for whether it is there: it learns of both beginning and end a moment later.
    """

    def __init__(self, place: Place, one: Instance) -> None:
        self._one = one
        self._staging = Repository.open(place.repository).instance(one.name).staging
        self._staging.mkdir(parents=True, exist_ok=True)
        receiver = engine_for(one).receiver()
        assert receiver is not None
        receiver.prepare_server(False)
        self._program: Mapping[str, Any] = receiver.program(self._staging, {})
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = self._staging

    def start(self) -> Receiver:
        self.folder = self._staging / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{time.monotonic_ns()}"
        self.folder.mkdir()
        self._process = subprocess.Popen(
            [word.replace("{folder}", str(self.folder)) for word in self._program["argv"]],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **self._program["environment"]},
            stderr=subprocess.DEVNULL,
        )
        # A cycle that comes before it is connected says so, and is right.
        wait_until(lambda: not self.running or self._connected(), 120)
        return self

    def _connected(self) -> bool:
        try:
            slot = server_state(PostgreSQLClient(self._one), self._one.name).slot
        except ContinuityError:  # the server is down
            return False
        return slot is not None and slot.active

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None
            wait_until(lambda: not self._connected(), 120)

    def __enter__(self) -> Receiver:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.stop(signal.SIGKILL)


def restore(place: Place, set_path: Path, commands: list[str], folder: Path) -> Path:
    """Unpack a set with nothing but the commands its manifest names; returns the data directory."""
    data = folder / "restored"
    for line in commands:
        words = line.replace("FOLDER", str(data)).replace("KEY", str(place.root / "operations.key"))
        words = words.replace("TABLESPACE-", str(folder / "space-")).replace("CONFIGURATION", str(folder / "conf"))
        first = words.split()[0]
        where = set_path if first in ("age", "zstd") else folder
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", words], cwd=where, capture_output=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    return data


SCRATCH = (
    ("listen_addresses", ""),
    ("archive_mode", "off"),
    ("shared_preload_libraries", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("max_logical_replication_workers", "0"),
    ("ssl", "off"),
    ("logging_collector", "off"),
)


@contextmanager
def scratch(data: Path, port: int, **settings: str) -> Iterator[Callable[[str], str]]:
    """Start a throwaway server on an unpacked data directory; gives a function that asks it."""
    user = owner(("postgres",))
    sockets = data.parent / "run"
    sockets.mkdir(exist_ok=True)
    (data / "postgresql.auto.conf").write_text("")
    for name in ("postgresql.conf", "pg_ident.conf"):
        (data / name).write_text("")
    (data / "pg_hba.conf").write_text("local all all trust\n")
    subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", str(data), str(sockets)], check=True)
    major = (data / "PG_VERSION").read_text().strip()
    program = f"/usr/lib/postgresql/{major}/bin/postgres"
    options = {**dict(SCRATCH), "unix_socket_directories": str(sockets), "port": str(port), "fsync": "off", **settings}
    words = [program, "-D", str(data), *(f"--{name}={value}" for name, value in options.items())]
    with open(data.parent / "scratch.log", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--", *words]
            if os.geteuid() == 0
            else words,
            stdout=log,
            stderr=log,
            cwd="/",
        )

    def ask(sql: str, database: str = "postgres") -> str:
        done = subprocess.run(
            ["psql", "-XAtq", "-h", str(sockets), "-p", str(port), "-U", "postgres", "-d", database, "-c", sql],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    try:
        end = time.monotonic() + 120
        while True:
            try:
                if ask("SELECT pg_is_in_recovery()") == "f":
                    break
            except RuntimeError as error:
                last = str(error)
            else:
                last = "still in recovery"
            text = (data.parent / "scratch.log").read_text()
            assert process.poll() is None, text[-3000:]
            assert time.monotonic() < end, (last, text[-3000:])
            time.sleep(0.1)
        yield ask
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def decoded(place: Place, archive: Path, target: Path) -> Path:
    """Decode one stored file with age and zstd."""
    key = shlex.quote(str(place.root / "operations.key"))
    subprocess.run(
        [
            "bash",
            "-eo",
            "pipefail",
            "-c",
            f"age -d -i {key} {shlex.quote(str(archive))} | zstd -dc > {shlex.quote(str(target))}",
        ],
        check=True,
    )
    return target
