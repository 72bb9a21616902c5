# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stream holds beyond the proven chain: all that is left of a production that is gone.

A file counts up to its last whole transaction, and only if it begins in the state in which the one before it ended.
Nobody can say whether production had committed more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from ...clock import iso
from ...lineage import LogRecord
from ..restore import Tail
from ..scratch import Source
from .binlog import Summary, moment
from .binlog_server import successor
from .gtid import GtidState
from .proof import examine
from .staging import connection_folders


def staged_tail(source: Source, staging: Path) -> Optional[Tail]:
    """Return what staging holds beyond the logs of *source*; None where that is nothing."""
    start = source.manifest["position"]["start"]
    if not start:
        return None
    last = source.logs[-1] if source.logs else None
    before = GtidState.parse(str(last.end["gtid_state"])) if last else None
    name = successor(last.name) if last else str(start["file"])
    number = last.sequence if last else 0
    records: list[LogRecord] = []
    found: list[Summary] = []
    while True:
        best = _best(staging, name, before, start)
        if best is None:
            break
        path, summary = best
        number += 1
        records.append(_record(path, name, number, summary))
        found.append(summary)
        if summary.damage is not None or not summary.closing:
            break
        before, name = summary.end, successor(name)
    while found and not found[-1].transactions:
        found.pop()
        records.pop()
    if not found or found[-1].last_at is None:
        return None
    end = found[-1]
    reached = last.end["gtid"] if last else start["gtid"]
    if end.end.position == str(reached):
        return None
    stop = {"offset": end.whole_end, "gtid": end.end.position, "transactions": end.transactions}
    at = moment(end.last_at or 0)
    return Tail(records, stop, end.end.position, at, sum(each.transactions for each in found))


def _best(
    staging: Path, name: str, before: Optional[GtidState], start: dict[str, Any]
) -> Optional[tuple[Path, Summary]]:
    """Return the file of a log that joins and reaches farthest: each connection of the stream wrote its own."""
    best: Optional[tuple[Path, Summary]] = None
    for folder in reversed(connection_folders(staging)):
        path = folder / name
        if not path.is_file() or path.is_symlink():
            continue
        summary = examine(path, probe=None if before is not None else int(start["offset"]))
        if before is not None:
            joins = summary.start == before
        else:
            state = GtidState.parse(str(start["gtid"]))
            joins = summary.at_probe is not None and summary.at_probe.position == state.position
        if joins and summary.incident is None and (best is None or summary.whole_end > best[1].whole_end):
            best = (path, summary)
    return best


def _record(path: Path, name: str, number: int, summary: Summary) -> LogRecord:
    return LogRecord(
        {
            "staged": True,
            "name": name,
            "sequence": number,
            "artefact": str(path),
            "layers": [],
            "size": summary.whole_end,
            "plain_size": summary.whole_end,
            "sha256": "",
            "start": {"gtid_state": str(summary.start or "")},
            "end": {"gtid": summary.end.position, "gtid_state": str(summary.end)},
            "transactions": summary.transactions,
            "last_event_at": iso(moment(summary.last_at)) if summary.last_at else None,
        }
    )
