# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine ``mariadb``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DamagedError
from ...process import Stage, find_tool, run
from ..base import Engine, FullBackup, Inspection, LogChain, Receiver
from .chain import BinlogChain
from .client import MariaDBClient
from .full import PhysicalBackup
from .inspect import inspect_server
from .logical import LogicalBackup, look_closer, verify_dump
from .receiver import BinlogReceiver


class MariaDBEngine(Engine):
    """A MariaDB server, 10.11 and later."""

    name: ClassVar[str] = "mariadb"
    methods: ClassVar[tuple[str, ...]] = ("physical", "logical")

    def inspect(self) -> Inspection:
        client = MariaDBClient(self.instance)
        found = inspect_server(self.instance, client, self.instance.method or self.methods[0])
        if self.ships_logs or found.problems:
            return found
        problems, warnings = look_closer(client, found)
        return replace(found, problems=problems, warnings=[*found.warnings, *warnings])

    @contextmanager
    def full_backup(self, workdir: Path) -> Iterator[FullBackup]:
        if self.ships_logs:
            yield PhysicalBackup(self.instance)
        else:
            yield LogicalBackup(self.instance, MariaDBClient(self.instance), workdir)

    @property
    def ships_logs(self) -> bool:
        return self.instance.method != "logical"

    def log_chain(self) -> LogChain:
        return BinlogChain(self.instance)

    def receiver(self) -> Receiver:
        return BinlogReceiver(self.instance)

    def verify_deep(self, folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        if manifest["method"] == "logical":
            return verify_dump(folder, manifest)
        tool = find_tool("mariadb-backup", "mariadb-backup")
        prepared = run(
            Stage((tool, "--prepare", f"--target-dir={folder / 'backup.mbstream'}"), label="mariadb-backup --prepare"),
            timeout=24 * 3600,
            check=False,
        )
        if not prepared.ok or "completed OK!" not in prepared.stderr:
            raise DamagedError(
                f"The set {manifest['set']} of {manifest['instance']} cannot be prepared: {prepared.stderr.strip()[-1500:]}",
                "Make a new full backup now, and keep this set for the inquiry.",
            )
        return {"prepared": True}
