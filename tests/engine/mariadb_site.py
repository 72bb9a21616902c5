# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One MariaDB instance with a repository, for tests of its logs: as small as it can be, and without Ansible."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import stamp, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection, decode_stages
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.chain import BinlogChain
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import (
    Finding,
    Lineage,
    LogRecord,
    open_lineage,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import write_through
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import InstanceFolder, Repository
from demo.process import wait_until
from demo.servers import MariaDBServer

GRANTS = ["SELECT, SHOW VIEW, TRIGGER, EVENT, PROCESS, RELOAD, BINLOG MONITOR, REPLICATION SLAVE ON *.*"]
NAME = "simrs"


@dataclass
class Site:
    """A server, an account on it, and a repository whose one lineage begins at the server's position."""

    server: MariaDBServer
    base: Path
    instance: Instance
    repository: Repository
    rows: int = field(default=0)

    @classmethod
    def make(cls, server: MariaDBServer, base: Path) -> Site:
        """Open a repository in *base*; the server gets its account and table."""
        base.mkdir(parents=True, exist_ok=True)
        account = server.account("dbc", GRANTS)
        option_file = account.option_file(base / "client.cnf")
        server.query(
            "CREATE DATABASE IF NOT EXISTS klinik;"
            " CREATE OR REPLACE TABLE klinik.pasien (id INT PRIMARY KEY, nama VARCHAR(200)) ENGINE=InnoDB"
        )
        repository = Repository.create(base / "repository")
        site = cls(server, base, Instance(NAME, "mariadb", credentials=option_file), repository)
        site.open()
        return site

    def open(self) -> Lineage:
        """Open a lineage where the server stands now, as a full backup does."""
        file, offset = self.server.query("SHOW MASTER STATUS")[0][:2]
        start = {"file": file, "offset": int(offset or 0), "gtid": self.server.value("SELECT @@gtid_binlog_pos") or ""}
        uid, server_id = self.server.query("SELECT @@server_uid, @@server_id")[0]
        return open_lineage(
            self.folder.logs,
            {
                "instance": NAME,
                "engine": "mariadb",
                "identity": {"server_uid": uid, "server_id": server_id},
                "start": start,
                "opened_by": f"{stamp(utc_now())}-0001",
            },
            utc_now(),
        )

    @property
    def folder(self) -> InstanceFolder:
        return self.repository.instance(NAME)

    @property
    def lineage(self) -> Lineage:
        found = self.folder.current_lineage()
        assert found is not None
        return found

    def write(self, count: int = 3) -> None:
        """Commit that many transactions."""
        first, self.rows = self.rows, self.rows + count
        statements = [f"INSERT INTO klinik.pasien VALUES ({each}, 'Siti {each}')" for each in range(first, self.rows)]  # noqa: S608
        self.server.query(";".join(statements))

    def current(self) -> str:
        """The log being written."""
        return self.server.value("SHOW MASTER STATUS") or ""

    def rotate(self, count: int = 3) -> str:
        """Commit transactions and close the log they are in; its name."""
        self.write(count)
        name = self.current()
        self.server.query("FLUSH BINARY LOGS")
        return name

    def purge(self) -> None:
        """Have the server remove all logs but the one being written (it keeps one that a client still reads)."""

        def purged() -> bool:
            self.server.query(f"PURGE BINARY LOGS TO '{self.current()}'")
            return len(self.server.query("SHOW BINARY LOGS")) == 1

        assert wait_until(purged, 120)

    def cycle(self, **more: Any) -> dict[str, Any]:
        """Run a cycle; this instance's result."""
        result = log_cycle(LogCycleRequest([self.instance], self.repository.root, Protection(), **more))
        answer: dict[str, Any] = result["instances"][NAME]
        return answer

    def codes(self, **more: Any) -> list[tuple[str, str]]:
        """Run a cycle; the findings as (code, file)."""
        return [(each["code"], each["file"]) for each in self.cycle(**more)["findings"]]

    def server_file(self, name: str) -> Path:
        return self.server.datadir / name

    def change(self, name: str, edit: Callable[[bytes], bytes]) -> None:
        """Alter a closed log on the server behind its back."""
        path = self.server_file(name)
        path.write_bytes(edit(path.read_bytes()))

    def events(self, name: str) -> list[tuple[int, str]]:
        """(offset, type) of a log's events."""
        return [(int(row[1] or 0), str(row[2])) for row in self.server.query(f"SHOW BINLOG EVENTS IN '{name}'")]

    def plain(self, record: LogRecord) -> Path:
        """The archived log, decoded."""
        target = self.base / f"plain-{record.sequence}-{record.name}"
        target.unlink(missing_ok=True)
        source = self.lineage.path / record.artefact
        write_through(decode_stages(record.values["layers"], Protection(), source), target)
        return target

    def verify(self, edit: Callable[[int, Path], None] | None = None, skip: str = "") -> list[Finding]:
        """Prove all archived logs again, optionally edited on the way; the findings of the first that does not hold."""
        chain = BinlogChain(self.instance)
        lineage = self.lineage
        before = None
        for record in lineage.records():
            if record.name == skip:
                continue
            plain = self.plain(record)
            if edit is not None:
                edit(record.sequence, plain)
            found = list(chain.verify_plain(lineage.opening, before, record, plain))
            if found:
                return found
            before = record
        return []

    def replay(self, names: list[str], start: int, target: MariaDBServer) -> subprocess.CompletedProcess[bytes]:
        """Replay logs of the server's folder with the native tools, as people do by hand."""
        files = [str(self.server_file(name)) for name in names]
        decoded = subprocess.run(
            ["mariadb-binlog", "--no-defaults", f"--start-position={start}", *files], capture_output=True, check=True
        )
        return subprocess.run(target.client.command(), input=decoded.stdout, capture_output=True, check=False)
