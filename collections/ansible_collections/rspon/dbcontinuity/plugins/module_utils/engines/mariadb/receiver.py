# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream of a MariaDB server's binary log into staging: what the receiver program is told."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, PrerequisiteError
from ...instance import Instance
from ...process import find_tool
from ..base import Receiver
from .client import MariaDBClient
from .inspect import SHIPS_LOGS, missing_privileges, server_variables

_IDS_FROM, _IDS = 3_000_000_000, 1_000_000_000


class BinlogReceiver(Receiver):
    """``mariadb-binlog --raw --stop-never``, a folder a connection: it truncates what it opens."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def program(self, staging: Path, start: Mapping[str, Any]) -> Mapping[str, Any]:
        client = MariaDBClient(self.instance)
        query = (find_tool("mariadb", "mariadb-client"), *client.arguments(), "--batch", "--skip-column-names", "-e")
        return {
            "folder": "connection",
            "argv": [
                find_tool("mariadb-binlog", "mariadb-client"),
                *client.arguments(),
                "--read-from-remote-server",
                "--raw",
                "--stop-never",
                f"--stop-never-slave-server-id={self._id(start)}",
                "--result-file={folder}/",
                "{start}",
            ],
            "environment": {},
            "start": {
                "logs": str(start["logs"]),
                "head_key": "next",
                "opening_key": "file",
                "otherwise": [*query, "SHOW BINARY LOGS"],
                "missing": "Could not find first log",
            },
            "probe": {"argv": [*query, "SHOW MASTER STATUS"], "seconds": 60},
        }

    def _id(self, start: Mapping[str, Any]) -> int:
        """Return the id under which the server knows the stream; another client with the same one throws it out."""
        given = start.get("receiver_id")
        if given is None:
            name = f"{socket.gethostname()}/{self.instance.name}"
            return _IDS_FROM + zlib.crc32(name.encode()) % _IDS
        if not 1 <= int(given) <= 0xFFFFFFFF:
            raise InputError(f"The receiver id {given!r} cannot be used.", "Use a number from 1 to 4294967295.")
        return int(given)

    def prepare_server(self, check_only: bool) -> Sequence[str]:
        """Refuse what cannot work; nothing is created on a MariaDB server.

        :raises PrerequisiteError: if the binary log is off or the account lacks a privilege.
        """
        client = MariaDBClient(self.instance)
        variables = server_variables(client)
        if variables.get("log_bin") != "ON":
            raise PrerequisiteError(
                f"The binary log of {self.instance.name} is off: there is nothing to stream.",
                "Set log_bin, and restart the server at a time of your choice.",
            )
        missing = missing_privileges(client, SHIPS_LOGS)
        if missing:
            account = client.value("SELECT CURRENT_USER();")
            raise PrerequisiteError(
                f"The account {account} of {self.instance.name} lacks {', '.join(missing)}.",
                f"As an administrator run: GRANT {', '.join(missing)} ON *.* TO {account};",
                {"missing": missing},
            )
        return ()

    def remove_from_server(self, check_only: bool) -> Sequence[str]:
        return ()
