# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver of the log's stream: pg_receivewal with a replication slot of its own.

Each connection writes a folder of its own. In an empty folder pg_receivewal starts where the slot says, on the slot's
timeline: after a restore, or once the slot was renewed, it never loops on a place that the server does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from ...errors import PrerequisiteError
from ...instance import Instance
from ..base import Receiver
from .client import PostgreSQLClient, find_postgresql
from .state import ServerState, server_state, slot_name

FOLDER = "{folder}"
_LEAVE_SECONDS = 15.0


class WalReceiver(Receiver):
    """pg_receivewal, and its slot ``dbcontinuity_<instance>``."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._client = PostgreSQLClient(instance)
        self._slot = slot_name(instance.name)

    def _state(self) -> ServerState:
        return server_state(self._client, self._instance.name)

    def program(self, staging: Path, start: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the receiver's configuration; ``{folder}`` stands for the connection's own new folder."""
        return {
            "argv": [
                find_postgresql("pg_receivewal", self._state().major),
                f"--dbname={self._client.connection()}",
                "--no-password",
                f"--slot={self._slot}",
                "--synchronous",
                "--no-loop",
                "--status-interval=5",
                f"--directory={FOLDER}",
            ],
            "environment": dict(self._client.environment),
            "staging": str(staging),
            "folder": "connection",
        }

    def prepare_server(self, check_only: bool) -> Sequence[str]:
        """Create the slot; renew it if the server had to give up the log it kept.

        :raises PrerequisiteError: if a slot of this name is in the way.
        """
        state = self._state()
        if state.slot is not None and state.slot.wal_status != "lost":
            return []
        changes = [f"create the replication slot {self._slot}"]
        if state.slot is not None:
            changes.insert(0, f"drop the lost replication slot {self._slot}")
        if check_only:
            return changes
        if state.slot is not None:
            self._drop()
        # Reserved at once: the server keeps its log from now on, not only once the receiver connects.
        self._client.query(f"SELECT pg_create_physical_replication_slot('{self._slot}', true);")
        return changes

    def remove_from_server(self, check_only: bool) -> Sequence[str]:
        """Drop the slot; its receiver must have been stopped.

        :raises PrerequisiteError: if a receiver still uses it.
        """
        if self._state().slot is None:
            return []
        if not check_only:
            self._drop()
        return [f"drop the replication slot {self._slot}"]

    def _drop(self) -> None:
        end = monotonic() + _LEAVE_SECONDS
        while True:
            slot = self._state().slot
            if slot is None:
                return
            if not slot.active:
                self._client.query(f"SELECT pg_drop_replication_slot('{self._slot}');")
                return
            if monotonic() > end:
                raise PrerequisiteError(
                    f"The replication slot {self._slot} of {self._instance.name} is still in use by a receiver.",
                    "Stop the receiver's service first; log_shipping with state absent does.",
                )
            sleep(0.5)
