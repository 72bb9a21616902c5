# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private production server that restores are measured on: its repository and the scratch folder lie beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.approval import Writing, record_instruction
from benchmarks.full import AGENT, NAME, SERVERS, bulk, request
from benchmarks.measure import operation
from demo.place import Place
from demo.sample import load
from demo.server import Server

RESTORE_AGENT = AGENT.with_name("dbcontinuity_restore_agent.py")
# As much memory for its data as a hospital's server has; an import profits by it most.
MEMORY = {
    "mariadb": {"innodb_buffer_pool_size": "1G"},
    "postgresql": {"shared_buffers": "1GB", "maintenance_work_mem": "256MB", "max_wal_size": "4GB"},
}


@dataclass
class Production:
    """The server, durable as a hospital's, and what restores of it need."""

    engine: str
    folder: Path
    place: Place
    server: Server

    @property
    def backup(self) -> dict[str, Any]:
        """Return what :mod:`benchmarks.operation` is asked for to make a full backup."""
        return request(self.place, self.engine)

    @property
    def sets(self) -> Path:
        """Return the folder of the full sets."""
        return self.place.repository / NAME / "full"

    @property
    def newest_set(self) -> Path:
        """Return the newest full set's folder."""
        return max(path for path in self.sets.iterdir() if not path.name.startswith("."))

    def full(self) -> None:
        """Make a full set; those before are removed."""
        for old in self.sets.glob("*"):
            shutil.rmtree(old)
        operation(self.backup)

    def restore(self, **more: Any) -> dict[str, Any]:
        """Restore in full to the newest moment, under an instruction of its own; the evidence.

        The data that were kept aside are removed.
        """
        done = operation(
            {
                **self.backup,
                "operation": "restore",
                "folder": str(self.folder / "scratch"),
                "record": self._instruction(),
                "officials_file": str(self.place.root / "officials.json"),
                "channel": {
                    "transport": "local",
                    "program": str(RESTORE_AGENT),
                    "config_dir": str(self.place.root / "restore"),
                },
                **more,
            }
        )
        result: dict[str, Any] = done["result"]
        if result["result"] != "succeeded" or self.server.value("SELECT COUNT(*) FROM sbtest1", "simrs") in ("0", None):
            raise RuntimeError(f"the restore: {result}")
        for old in result["kept"]:
            shutil.rmtree(old["path"])
        return result

    def _instruction(self) -> str:
        then = utc_now() - timedelta(minutes=5)
        answer = record_instruction(
            Writing(self.place.repository, self.place.root / "officials.json"),
            {
                "kind": "restore",
                "instance": NAME,
                "scope": ["full"],
                "target": {"kind": "latest"},
                "reason": "Pengukuran",
                "instructed_by": {"id_number": "1005"},
                "instructed_at": iso(then),
                "by": "letter",
                "letter": {"number": "0012/SIRS/2026", "date": then.date().isoformat()},
                "valid_until": iso(then + timedelta(hours=8)),
            },
        )
        return str(answer["record"]["id"] if isinstance(answer.get("record"), dict) else answer["id"])


@contextmanager
def production(engine: str, folder: Path, megabytes: float, say: Callable[[str], None]) -> Iterator[Production]:
    """Give a server with sysbench's tables, its accounts and keys."""
    place = Place(folder / "place")
    place.make()
    with SERVERS[engine](folder / "production", options=MEMORY[engine]) as server:
        say(f"restore, {engine}: making about {megabytes:g} MB of data")
        load(server, patients=300, data_directory=False)
        bulk(server, megabytes)
        place.database(NAME, server)
        place.restorable(NAME, server)
        yield Production(engine, folder, place, server)
