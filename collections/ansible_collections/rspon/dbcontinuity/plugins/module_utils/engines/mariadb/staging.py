# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the receiver's stream left in staging: a folder a connection, unproven copies of the server's logs.

staging/<UTC stamp>-<process>/<log name>
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from pathlib import Path
from typing import Optional

from ...lineage import LogRecord
from .binlog import HEADER_BYTES, MAGIC
from .binlog_server import split_name

_FOLDER = re.compile(r"^\d{8}T\d{6}Z-\d+$")


def connection_folders(staging: Path) -> list[Path]:
    """Return the folders of the stream's connections, oldest first."""
    if not staging.is_dir():
        return []
    return sorted(entry for entry in staging.iterdir() if _FOLDER.match(entry.name) and entry.is_dir())


def staged_logs(folder: Path) -> list[Path]:
    """Return the logs in one connection's folder, oldest first."""
    return sorted(
        (entry for entry in folder.iterdir() if split_name(entry.name)[1] >= 0), key=lambda path: split_name(path.name)
    )


def staged_bytes(staging: Path, after: str, offset: int) -> int:
    """Return the bytes the newest connection holds behind the log *after* (or behind *offset* in it)."""
    folders = connection_folders(staging)
    if not folders:
        return 0
    base, number = split_name(after)
    total = 0
    for path in staged_logs(folders[-1]):
        its_base, its_number = split_name(path.name)
        if its_base == base and its_number >= number:
            total += path.stat().st_size - (offset if its_number == number else 0)
    return max(0, total)


def _created(path: Path) -> Optional[int]:
    with path.open("rb") as stream:
        head = stream.read(4 + HEADER_BYTES)
    if len(head) < 4 + HEADER_BYTES or head[:4] != MAGIC:
        return None
    return int(struct.unpack_from("<I", head, 4)[0])


def prune(staging: Path, record: LogRecord, chain_opened: Optional[datetime]) -> list[Path]:
    """Remove staged logs that the archive holds: *record*'s and older ones; return what went.

    The newest file of the newest folder stays: the stream may be writing it. A folder of an earlier connection goes
    once it is empty, or if everything in it is older than the chain itself.
    """
    removed: list[Path] = []
    base, number = split_name(record.name)
    archived = record.values.get("start", {}).get("created")
    folders = connection_folders(staging)
    for folder in folders:
        is_newest = folder == folders[-1]
        logs = staged_logs(folder)
        for path in logs[:-1] if is_newest else logs:
            its_base, its_number = split_name(path.name)
            created = _created(path)
            if its_base == base and its_number <= number and (created is None or created <= archived):
                path.unlink()
                removed.append(path)
        if is_newest:
            continue
        left = list(folder.iterdir())
        if chain_opened is not None and all(path.stat().st_mtime < chain_opened.timestamp() for path in left):
            for path in left:
                path.unlink()
                removed.append(path)
            left = []
        if not left:
            folder.rmdir()
            removed.append(folder)
    return removed
