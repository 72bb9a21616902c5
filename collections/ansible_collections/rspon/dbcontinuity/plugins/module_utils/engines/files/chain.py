# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of folders: archives of what changed, each with the complete listing, chained by the listing's hash.

An archive of changes is a tar file readable with ordinary tools. It holds the new and changed files, and two members
of ours: ``.dbcontinuity/listing.jsonl`` (everything there is) and ``.dbcontinuity/deleted`` (NUL-separated, what went).
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Optional

from ...agent_answer import agent_stage, trailer
from ...clock import parse_moment, utc_now
from ...errors import PipelineError
from ...instance import Instance
from ...lineage import Finding, LogRecord
from ...process import Stage, find_tool, run, write_through
from ..base import ChainBreak, DeliveredLog, Lag, LogChain
from .listing import Excused, archive_members, compare, read_listing, sort_stage, staged_name

OURS = ".dbcontinuity"
_NEW_FULL = "Make a new full backup: run the playbook full_backup with -e dbc_force=true."


class FilesChain(LogChain):
    """The changes of one instance of folders."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._observed_at: Optional[datetime] = None

    def check_server(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> Sequence[Finding]:
        return ()

    def rotate(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> bool:
        return False

    def deliver(self, opening: Mapping[str, Any], head: Optional[LogRecord], workdir: Path) -> Iterator[DeliveredLog]:
        instance = self._instance
        began = utc_now()
        listing = workdir / "listing.jsonl"
        listed = write_through(
            (agent_stage(instance.agent, "list", instance.name, accept_failure=True), sort_stage()), listing
        )
        trailer(listed.stages[0])
        before = str((head.end if head else opening["start"])["listing_sha256"])
        if listed.sha256 == before:
            self._observed_at = began
            return
        previous = workdir.parent / staged_name(before)
        if not previous.is_file():
            raise ChainBreak(
                Finding(
                    "missing-listing",
                    previous.name,
                    f"The listing {previous.name} that the next changes of {instance.name} are measured against is not in staging.",
                    _NEW_FULL,
                )
            )
        moved = _replaced_roots(previous, listing)
        if moved:
            raise ChainBreak(
                Finding(
                    "other-folder",
                    moved[0],
                    f"{', '.join(moved)} is not the folder it was: another one, or its file system is not mounted. Nothing was archived.",
                    "Mount it; if it was replaced on purpose, make a new full backup with -e dbc_force=true.",
                    breaks=False,
                )
            )
        ours = workdir / OURS
        ours.mkdir()
        names = workdir / "names"
        with names.open("wb") as changed, (ours / "deleted").open("wb") as deleted:
            changes = compare(previous, listing, changed, deleted)
        os.link(listing, ours / "listing.jsonl")
        name = f"changes-{began:%Y%m%dT%H%M%S.%fZ}"
        target = workdir / f"{name}.tar"
        excused = self._archive(names, target)
        _add_ours(target, workdir)
        kept = workdir.parent / staged_name(listed.sha256)
        listing.replace(kept)
        size, digest = _hash_file(target)
        yield DeliveredLog(
            name=name,
            path=target,
            size=size,
            sha256=digest,
            start={"listing_sha256": before},
            end={
                "listing_sha256": listed.sha256,
                "observed_at": began.isoformat(),
                "changed": changes.changed,
                "deleted": changes.deleted,
                **excused.values(),
            },
            last_event_at=datetime.fromtimestamp(changes.newest / 1e9, timezone.utc) if changes.newest else began,
        )
        self._observed_at = began

    def _archive(self, names: Path, target: Path) -> Excused:
        written = write_through(
            (
                Stage((find_tool("cat", "coreutils"), str(names))),
                agent_stage(self._instance.agent, "archive", self._instance.name, accept_failure=True),
            ),
            target,
        )
        return Excused.of(trailer(written.stages[1]))

    def published(self, record: LogRecord, staging: Path) -> None:
        needed = staged_name(str(record.end["listing_sha256"]))
        for path in staging.glob("listing-*.jsonl"):
            if path.name != needed:
                path.unlink()

    def lag(self, opening: Mapping[str, Any], head: Optional[LogRecord], staging: Path) -> Lag:
        seen = self._observed_at or (
            parse_moment(str(head.end["observed_at"])) if head else parse_moment(opening["opened_at"])
        )
        return Lag(recoverable_to=seen, lag_bytes=0, lag_seconds=0.0)

    def verify_plain(
        self, opening: Mapping[str, Any], before: Optional[LogRecord], record: LogRecord, plain: Path
    ) -> Sequence[Finding]:
        expected = str((before.end if before else opening["start"])["listing_sha256"])
        problems = []
        if record.values["start"].get("listing_sha256") != expected:
            problems.append("does not begin where the record before it ends")
        count = 0
        digest = hashlib.sha256()
        try:
            for name, tar, member in archive_members(plain):
                count += 1
                if name == f"/{OURS}/listing.jsonl".encode():
                    _hash_stream(tar.extractfile(member), digest)
            if digest.hexdigest() != record.end["listing_sha256"]:
                problems.append("holds another listing than its record says")
            if count - 2 + Excused.of(record.end).count < int(record.end["changed"]):
                problems.append("holds fewer files than its record says")
        except (tarfile.TarError, OSError, KeyError) as error:
            problems.append(f"cannot be read: {error}")
        return [
            Finding("damaged-log", record.name, f"The archive of changes {record.name} {problem}.", _NEW_FULL)
            for problem in problems
        ]


def _replaced_roots(previous: Path, listing: Path) -> list[str]:
    """Return the roots that are another folder now: an unmounted file system leaves its empty mount point behind."""
    before, after = _roots(previous), _roots(listing)
    return sorted(path for path, inode in before.items() if after.get(path) != inode)


def _roots(listing: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in read_listing(listing):
        path = str(entry["path"])
        if not any(path.startswith(root.rstrip("/") + "/") for root in found):
            found[path] = int(entry["inode"])
    return found


def _add_ours(target: Path, workdir: Path) -> None:
    appended = run(
        Stage(
            (
                find_tool("tar"),
                "--append",
                f"--file={target}",
                f"--directory={workdir}",
                f"{OURS}/listing.jsonl",
                f"{OURS}/deleted",
            )
        ),
        timeout=3600,
        check=False,
    )
    if not appended.ok:
        raise PipelineError(f"tar could not add the listing: {appended.stderr.strip()}")


def _hash_file(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        size = _hash_stream(stream, digest)
    return size, digest.hexdigest()


def _hash_stream(stream: Optional[IO[bytes]], digest: hashlib._Hash) -> int:
    size = 0
    while stream is not None:
        block = stream.read(1024 * 1024)
        if not block:
            break
        digest.update(block)
        size += len(block)
    return size
