# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine ``postgresql``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DamagedError
from ..base import Engine, FullBackup, Inspection, LogChain, Receiver
from .chain import WalChain
from .client import PostgreSQLClient
from .full import PhysicalBackup, verify_unpacked
from .inspect import TABLESPACES, inspect_server
from .logical import LogicalBackup, look_closer, verify_dumps
from .receiver import WalReceiver
from .state import server_state


class PostgreSQLEngine(Engine):
    """A PostgreSQL server, 15 and later."""

    name: ClassVar[str] = "postgresql"
    methods: ClassVar[tuple[str, ...]] = ("physical", "logical")

    def inspect(self) -> Inspection:
        client = PostgreSQLClient(self.instance)
        found = inspect_server(self.instance, client, self.instance.method or self.methods[0])
        return found if self.ships_logs else replace(found, warnings=[*found.warnings, *look_closer(found)])

    @contextmanager
    def full_backup(self, workdir: Path) -> Iterator[FullBackup]:
        client = PostgreSQLClient(self.instance)
        if not self.ships_logs:
            yield LogicalBackup(client, server_state(client, self.instance.name).major, workdir)
            return
        # The slot is temporary: it goes with this connection, and so with this process, however that ends.
        slot = f"dbcontinuity_backup_{os.getpid()}_{os.urandom(4).hex()}"
        with client.session(
            "SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
            f"SELECT pg_create_physical_replication_slot('{slot}', true, true);"
        ):
            state = server_state(client, self.instance.name)
            spaces = [(row[0] or "", row[2] or "") for row in client.query(TABLESPACES)]
            yield PhysicalBackup(self.instance, client, state, spaces, workdir)

    @property
    def ships_logs(self) -> bool:
        return self.instance.method != "logical"

    def log_chain(self) -> LogChain:
        return WalChain(self.instance)

    def receiver(self) -> Receiver:
        return WalReceiver(self.instance)

    def verify_deep(self, folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let pg_verifybackup look; *folder* is described at :func:`~.full.verify_unpacked`."""
        if manifest["method"] == "logical":
            return verify_dumps(folder, manifest)
        verified = verify_unpacked(folder, manifest)
        if not verified.ok:
            raise DamagedError(
                f"The set {manifest['set']} of {manifest['instance']} does not hold: {verified.stderr.strip()[-1500:]}",
                "Make a new full backup now, and keep this set for the inquiry.",
            )
        return {"pg_verifybackup": True}
