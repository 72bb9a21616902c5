# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a MariaDB server shows of its binary logs, and fetching them whole."""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ...durable import free_bytes
from ...errors import AccessError, PipelineError, RepositoryFullError
from ...instance import Instance
from ...process import Finished, Stage, find_tool, run
from .binlog import HEADER_BYTES
from .client import MariaDBClient
from .gtid import GtidState

_NAME = re.compile(r"^(.+)\.(\d{6,})$")
_SLOWEST_BYTES_PER_SECOND = 512 * 1024
_VARIABLES = (
    "version",
    "server_uid",
    "server_id",
    "log_bin",
    "binlog_format",
    "sync_binlog",
    "binlog_checksum",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "encrypt_binlog",
    "gtid_binlog_state",
    "innodb_flush_log_at_trx_commit",
)
# What the server says when the log itself, not the link, is at fault.
_SERVER_CANNOT_READ = re.compile(
    r"truncated in the middle of event|event corruption|bogus data in log event|log event entry exceeded"
    r"|Could not open log file|I/O error reading log event|read on checksum|crc check failed|memory allocation failed",
    re.IGNORECASE,
)
_NOT_THERE = "Could not find first log file"


def split_name(name: str) -> tuple[str, int]:
    """Return a log's base name and number; number -1 where it has none."""
    match = _NAME.match(name)
    return (match.group(1), int(match.group(2))) if match else (name, -1)


def successor(name: str) -> str:
    """Return the name of the log that the server opens after *name*."""
    base, number = split_name(name)
    return f"{base}.{number + 1:06d}"


@dataclass(frozen=True)
class ServerLook:
    """The server at one moment.

    :param now: the server's clock (UTC), read together with *state* and before *sizes*.
    :param state: everything in its binary logs so far.
    :param sizes: bytes of each log by name, oldest first; the last one is being written.
    """

    variables: dict[str, str]
    now: datetime
    state: GtidState
    sizes: dict[str, int]

    @property
    def newest(self) -> str:
        """Return the name of the log being written; empty where the binary log is off."""
        return next(reversed(self.sizes), "")

    @property
    def oldest(self) -> str:
        """Return the name of the oldest log kept."""
        return next(iter(self.sizes), "")


@dataclass(frozen=True)
class Fetched:
    """A log fetched from the server.

    :param refused: what the server said where it could not read its own log to the end; empty if it could.
    :param missing: the server has no log of that name.
    """

    path: Path
    refused: str = ""
    missing: bool = False


class BinlogServer:
    """One instance's server, as far as its binary logs go."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.client = MariaDBClient(instance)
        self._has_logs = False

    def look(self) -> ServerLook:
        """Return what the server shows now.

        :raises AccessError: if it does not answer.
        """
        names = ",".join(f"'{name}'" for name in _VARIABLES)
        sql = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names}); SELECT 'now', UTC_TIMESTAMP(6);"
        # SHOW BINARY LOGS is an error where there are none: asked together only once they are known to be there.
        rows = self.client.query(sql + ("SHOW BINARY LOGS;" if self._has_logs else ""))
        split = next(number for number, row in enumerate(rows) if row[0] == "now") + 1
        values = {str(row[0]): row[1] or "" for row in rows[:split]}
        now = datetime.strptime(values.pop("now"), "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=timezone.utc)
        logs = rows[split:]
        if not self._has_logs and values.get("log_bin") == "ON":
            logs = self.client.query("SHOW BINARY LOGS;")
            self._has_logs = True
        sizes = {str(row[0]): int(row[1] or 0) for row in logs}
        return ServerLook(values, now, GtidState.parse(values.get("gtid_binlog_state", "")), sizes)

    def rotate(self) -> None:
        """Close the log being written and open the next."""
        self.client.query("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS;")

    def gtid_list(self, name: str) -> Optional[GtidState]:
        """Return what stood in the logs before *name*, as its own head says; None if it does not say."""
        quoted = name.replace("\\", "\\\\").replace("'", "''")
        for row in self.client.query(f"SHOW BINLOG EVENTS IN '{quoted}' LIMIT 4;"):
            if row[2] == "Gtid_list":
                return GtidState.found_in(row[5] or "")
        return None

    def fetch(self, name: str, size: int, folder: Path) -> Fetched:
        """Fetch a log whole into *folder*.

        :param size: bytes the server shows for it.
        :raises RepositoryFullError: if there is no room for it; nothing was fetched then.
        :raises AccessError: if the link fails; PipelineError: if the tool fails otherwise.
        """
        free = free_bytes(folder)
        if free < size + 1024 * 1024:
            raise RepositoryFullError(
                f"The log {name} of {self._instance.name} has {size} bytes, {folder} has {free} bytes free; nothing was fetched.",
                "Free space or enlarge the file system, then run again; the server keeps its logs until they expire.",
                {"path": str(folder), "free_bytes": free, "needed_bytes": size},
            )
        finished = self._remote(name, folder, (), 120 + size / _SLOWEST_BYTES_PER_SECOND)
        path = folder / name
        if finished.ok:
            return Fetched(path)
        return self._judge(finished, path, name)

    def fetch_end(self, name: str, offset: int) -> tuple[int, bytes]:
        """Return when a log was created (seconds since 1970) and its bytes from *offset*, an event's beginning.

        Meant for the last few KiB; bytes and time are empty and 0 if the server cannot read there.
        """
        with tempfile.TemporaryDirectory(prefix="dbc-") as folder:
            finished = self._remote(name, Path(folder), (f"--start-position={offset}",), 120)
            path = Path(folder) / name
            if not finished.ok:
                self._judge(finished, path, name)
                return 0, b""
            data = path.read_bytes()
        if len(data) < 4 + HEADER_BYTES:
            return 0, b""
        # The server sends magic and the format description first, then the events from the offset. A log without a
        # single transaction is so short that its last few events begin with the format description itself.
        created, length = struct.unpack_from("<I5xI", data, 4)
        return int(created), data[4 if offset <= 4 else 4 + int(length) :]

    def _remote(self, name: str, folder: Path, words: tuple[str, ...], timeout: float) -> Finished:
        argv = (
            find_tool("mariadb-binlog", "mariadb-client"),
            *self.client.arguments(),
            "--read-from-remote-server",
            "--raw",
            f"--result-file={folder}/",
            *words,
            name,
        )
        return run(Stage(argv, label="mariadb-binlog"), timeout=timeout, check=False)

    def _judge(self, finished: Finished, path: Path, name: str) -> Fetched:
        """Tell a log at fault from a link at fault."""
        said = finished.stderr.strip()
        if _NOT_THERE in said:
            return Fetched(path, said, missing=True)
        if _SERVER_CANNOT_READ.search(said):
            return Fetched(path, said)
        if "No space left" in said or "Errcode: 28" in said:
            raise RepositoryFullError(
                f"No room for the log {name} of {self._instance.name}: {said}.", "Free space, then run again."
            )
        if re.search(r"reading packet|Lost connection|connect|TLS|SSL|Access denied", said):
            raise AccessError(
                f"The log {name} of {self._instance.name} could not be fetched: {said}.",
                f"Check the link and the account in {self.client.option_file} (it needs REPLICATION SLAVE); the next cycle goes on.",
                {"instance": self._instance.name},
            )
        raise PipelineError(
            f"mariadb-binlog ended with status {finished.status} fetching {name} of {self._instance.name}: {said or 'it printed nothing'}",
            "",
            {"stage": "mariadb-binlog", "status": finished.status},
        )


def second_opinion(path: Path, folder: Path) -> str:
    """Let MariaDB's own reader check a file's checksums; return what it complains of, empty if nothing.

    Its exit status alone proves nothing: it is 0 for a file that ends inside an event.
    """
    spill = folder / "load-data"
    spill.mkdir(exist_ok=True)
    argv = (
        find_tool("mariadb-binlog", "mariadb-client"),
        "--no-defaults",
        "--verify-binlog-checksum",
        "--short-form",
        f"--local-load={spill}",
        "--result-file=/dev/null",
        str(path),
    )
    timeout = 120 + path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
    finished = run(Stage(argv, label="mariadb-binlog"), timeout=timeout, check=False)
    for left in spill.iterdir():
        left.unlink()
    spill.rmdir()
    complaints = [line for line in finished.stderr.splitlines() if "ERROR" in line]
    if complaints or not finished.ok:
        return " ".join(complaints) or f"status {finished.status}: {finished.stderr.strip()}"
    return ""
