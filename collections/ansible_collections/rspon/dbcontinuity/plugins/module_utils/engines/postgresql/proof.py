# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of one closed segment: itself, and that it follows the one before."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ...clock import parse_moment
from ...process import Pipeline, Stage
from .client import find_postgresql
from .wal import Edge, Fault, Segment, format_lsn, parse_lsn

_BLOCK_BYTES = 1024 * 1024
_LINE_LSN = re.compile(rb" lsn: ([0-9A-F]+/[0-9A-F]+),")
_COMMIT = re.compile(rb"desc: COMMIT(?:_PREPARED)? .*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")
_READ_SECONDS = 3600.0


@dataclass(frozen=True)
class Proof:
    """What was found in a segment.

    :param fault: what is wrong; everything else then says little.
    :param last_record: address of the last record that begins in it; None if one record fills it.
    :param transactions: number of commits.
    """

    sha256: str
    fault: Optional[Fault] = None
    last_record: Optional[int] = None
    transactions: int = 0
    first_commit: Optional[datetime] = None
    last_commit: Optional[datetime] = None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        for block in iter(lambda: stream.read(_BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def prove_segment(
    path: Path,
    name: str,
    size: int,
    major: int,
    system_identifier: str,
    start: Optional[int],
    last_record: Optional[int],
    before: Optional[Path],
) -> Proof:
    """Prove one segment.

    :param path: the file, under its own name, in a folder that holds *before* too.
    :param start: where the proof begins in the very first segment of a chain; None in a later one.
    :param last_record: address of the last record that begins in the segment before.
    :param before: the segment before; without it the end of a record that began there is not checked.
    """
    segment = Segment(path, name, size)
    sha256 = sha256_of(path)
    fault = segment.check(system_identifier)
    if fault is not None:
        return Proof(sha256, fault)
    edge = segment.edges()
    if start is None:
        fault = _joined(segment, edge, last_record)
        if fault is not None:
            return Proof(sha256, fault)
        start = last_record if before is not None and last_record is not None else edge.first
    last = edge.last if edge.last is not None else last_record
    if start is None:
        return Proof(sha256, None, last)  # one record fills it; its checksum is proven with the segments around it
    return _read(segment, sha256, last, major, start, edge)


def _joined(segment: Segment, edge: Edge, last_record: Optional[int]) -> Optional[Fault]:
    # After a crash the server overwrites a record it had begun: then the first one names the record before that.
    if edge.overwrites or edge.previous is None or last_record is None or edge.previous == last_record:
        return None
    return Fault(
        "not-joined",
        f"{segment.name} does not follow the chain: its first record names {format_lsn(edge.previous)} as the one before it,"
        f" but the chain's last record is at {format_lsn(last_record)}.",
    )


def _read(segment: Segment, sha256: str, last: Optional[int], major: int, start: int, edge: Edge) -> Proof:
    """Read every record with pg_waldump, which checks them all, and look at the commits it shows."""
    stage = Stage(
        (
            find_postgresql("pg_waldump", major),
            *("--rmgr=Transaction", f"--path={segment.path.parent}", f"--timeline={segment.timeline}"),
            *(f"--start={format_lsn(start)}", f"--end={format_lsn(segment.end)}"),
        ),
        label="pg_waldump",
    )
    count = 0
    times: list[bytes] = []
    with Pipeline([stage]) as pipeline:
        for line in pipeline.output:
            match = _COMMIT.search(line)
            place = _LINE_LSN.search(line)
            if match is None or place is None:
                continue
            if parse_lsn(place.group(1).decode()) < segment.start and not edge.continues:
                continue  # the record before the border, read again for the join
            count += 1
            times[1:] = [match.group(1)]
        finished = pipeline.wait(_READ_SECONDS)[0]
    if not finished.ok:
        words = finished.stderr.strip().splitlines()
        return Proof(
            sha256, Fault("bit-flip", f"{segment.name} is damaged: {words[-1] if words else 'pg_waldump failed'}.")
        )
    moments = [parse_moment(each.decode() + "+00:00") for each in times]
    return Proof(
        sha256,
        None,
        last,
        count,
        moments[0] if moments else None,
        moments[-1] if moments else None,
    )
