# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stream holds beyond the proven chain: all that is left of a production that is gone.

The receiver's newest segment is unfinished and padded with zeros. Its records are read with their checksums
(``pg_waldump``), and the recovery ends with the last commit that is whole. Nobody can say whether production had more.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ...clock import iso
from ...lineage import LogRecord
from ...process import Stage, run
from ..restore import Tail
from ..scratch import Source
from .client import find_postgresql
from .wal import format_lsn, parse_lsn, segment_name, segment_start
from .wal_stream import Commit, WalError, WalReader

_PARTIAL = ".partial"
_COMMIT = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+), prev [0-9A-F/]+, desc: COMMIT")
_DAY = 24 * 3600.0


def staged_tail(source: Source, staging: Path) -> Optional[Tail]:
    """Return what staging holds beyond the logs of *source*; None where no commit is in it."""
    start = source.manifest["position"]["start"]
    size, timeline, major = int(start["segment_bytes"]), int(start["timeline"]), int(start["major"])
    last = source.logs[-1] if source.logs else None
    begin = parse_lsn(str(last.end["lsn"])) if last else segment_start(str(start["wal_file"]), size)
    files: list[Path] = []
    while True:
        found = _file(staging, segment_name(timeline, begin + len(files) * size, size), size)
        if found is None:
            break
        files.append(found)
        if found.name.endswith(_PARTIAL):
            break
    if not files:
        return None
    witness = _file(staging, last.name, size) if last else None
    whole = _whole_commits(major, [*([witness] if witness else []), *files], timeline, begin if last else None)
    commits = _commits(files, witness, begin, size)
    kept = [(index, commit) for index, commit in commits if commit.start in whole]
    consistent = parse_lsn(str(source.manifest["position"]["end"]["lsn"]))
    if not kept or kept[-1][1].start < consistent:
        return None
    index, end = kept[-1]
    number = last.sequence if last else 0
    records = [
        _record(
            path, number + 1 + each, begin + each * size, size, timeline, end, sum(1 for at, _one in kept if at == each)
        )
        for each, path in enumerate(files[: index + 1])
    ]
    stop = {"log": records[-1].name, "record": format_lsn(end.start), "lsn": end.position}
    return Tail(records, stop, end.position, end.moment, len(kept))


def _file(staging: Path, name: str, size: int) -> Optional[Path]:
    """Return a segment in staging, a finished one rather than an unfinished one, the newest connection's first."""
    folders = sorted(
        (each for each in staging.iterdir() if each.is_dir() and not each.name.startswith(".")), reverse=True
    )
    for ending in ("", _PARTIAL):
        for folder in (*folders, staging):
            path = folder / f"{name}{ending}"
            if path.is_file() and not path.is_symlink() and path.stat().st_size == size:
                return path
    return None


def _whole_commits(major: int, files: Sequence[Path], timeline: int, begin: Optional[int]) -> set[int]:
    """Return where commits begin whose records, and all before them, hold their checksums."""
    with tempfile.TemporaryDirectory(prefix="dbcontinuity-") as folder:
        for path in files:
            os.symlink(path, Path(folder) / path.name.replace(_PARTIAL, ""))
        first = files[0].name.replace(_PARTIAL, "")
        words = [f"--path={folder}", f"--timeline={timeline}", "--rmgr=Transaction"]
        words += [f"--start={format_lsn(begin)}"] if begin is not None else [first]
        # It ends with an error where the log does: behind its last whole record.
        said = run(Stage((find_postgresql("pg_waldump", major), *words), label="pg_waldump"), timeout=_DAY, check=False)
    return {parse_lsn(match) for match in _COMMIT.findall(said.stdout.decode("utf-8", "replace"))}


def _commits(files: Sequence[Path], witness: Optional[Path], begin: int, size: int) -> list[tuple[int, Commit]]:
    """Return the commits that end in the files, each with its file's number; they stop where the log has no form."""
    found: list[tuple[int, Commit]] = []
    reader = WalReader()
    try:
        if witness is not None:  # a record may begin in it
            with witness.open("rb") as stream:
                for _commit in reader.commits(stream, begin - size):
                    pass
        for index, path in enumerate(files):
            with path.open("rb") as stream:
                for commit in reader.commits(stream, begin + index * size):
                    found.append((index, commit))
    except WalError:
        pass
    return found


def _record(
    path: Path, number: int, address: int, size: int, timeline: int, end: Commit, transactions: int
) -> LogRecord:
    return LogRecord(
        {
            "staged": True,
            "name": path.name.replace(_PARTIAL, ""),
            "sequence": number,
            "artefact": str(path),
            "layers": [],
            "size": size,
            "plain_size": size,
            "sha256": "",
            "start": {"timeline": timeline, "lsn": format_lsn(address)},
            "end": {"timeline": timeline, "lsn": format_lsn(address + size), "last_record": format_lsn(end.start)},
            "transactions": transactions,
            "last_event_at": iso(end.moment),
        }
    )
