# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging what was read of one binary log: by itself, and against the end of the log before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ...lineage import Finding
from .binlog import BinlogReader, Damage, Summary
from .gtid import GtidState

_NEW_FULL = "Make a new full backup now (playbook full_backup with -e dbc_force=true): it opens a new chain; what is archived before stays good."
_ANOTHER_COPY = "Take the file from another copy (NAS, external disk) or from the server while it keeps it; else " + (
    _NEW_FULL[0].lower() + _NEW_FULL[1:]
)
# The documented codes of this engine's findings, each with its remedy.
REMEDIES: Mapping[str, str] = {
    "other-server": "If the server was replaced or moved on purpose: " + _NEW_FULL,
    "log-bin-off": "Set log_bin and restart the server at a time of your choice; then: " + _NEW_FULL,
    "checksum-off": "Run SET GLOBAL binlog_checksum=CRC32 and put it into the server's configuration; then: "
    + _NEW_FULL,
    "numbering-reset": "RESET MASTER, a changed log_bin or a restored server does this. " + _NEW_FULL,
    "rolled-back": "Find out who restored the server or its virtual machine, and when. " + _NEW_FULL,
    "purged-too-early": "Let logs live longer (binlog_expire_logs_seconds), and see why cycles did not run. "
    + _NEW_FULL,
    "missing-log": _ANOTHER_COPY,
    "other-content": "Find out what replaced the file. " + _NEW_FULL,
    "other-history": "A log of another server or history stands in its place, or one in between is missing. "
    + _ANOTHER_COPY,
    "checksum-mismatch": "Check disk and memory of the host it comes from. " + _ANOTHER_COPY,
    "cut-inside-event": "The disk was full, or the file was cut. " + _ANOTHER_COPY,
    "cut-at-event-boundary": "The file was cut, or a crash lost its end. " + _ANOTHER_COPY,
    "malformed-log": "Check disk and memory of the host it comes from. " + _ANOTHER_COPY,
    "unreadable-log": "Check the disk it lies on. " + _ANOTHER_COPY,
    "lost-events": "The server itself says that it could not log everything. " + _NEW_FULL,
    "start-not-found": "The full backup's position does not lie in this history. " + _NEW_FULL,
    "second-reader": "Two readers disagree: keep the file and report it. " + _NEW_FULL,
}
_DAMAGE_CODES = {
    "checksum": "checksum-mismatch",
    "cut": "cut-inside-event",
    "malformed": "malformed-log",
    "unreadable": "unreadable-log",
}


def finding(code: str, file: str, message: str, *, breaks: bool = True) -> Finding:
    """Return a finding with its code's remedy."""
    return Finding(code, file, message, REMEDIES[code], breaks)


def examine(path: Path, *, probe: Optional[int] = None) -> Summary:
    """Read a log file; what is wrong stands in the summary's damage."""
    try:
        with path.open("rb") as stream:
            return BinlogReader(stream, probe=probe).read()
    except OSError as error:
        return Summary(damage=Damage("unreadable", 0, f"it cannot be read: {error.strerror}"))


def judge_alone(name: str, summary: Summary, *, expected_size: Optional[int], refused: str = "") -> list[Finding]:
    """Say what is wrong with a log by itself.

    :param expected_size: bytes it should have; None where it is known to be cut by a crash.
    :param refused: what the server said where it could not read the file to its end.
    """
    damage = summary.damage
    if damage is not None:
        hint = " It is encrypted: fetch it from its server, which decrypts it." if summary.encrypted else ""
        message = f"{name} is damaged at byte {damage.offset}: {damage.reason}.{hint}"
        return [finding(_DAMAGE_CODES[damage.kind], name, message)]
    if refused:
        return [
            finding("unreadable-log", name, f"The server cannot read {name} behind byte {summary.size}: {refused}.")
        ]
    if not summary.checksums:
        return [finding("checksum-off", name, f"{name} was written without checksums: nothing proves it.")]
    if summary.start is None:
        return [finding("malformed-log", name, f"{name} has no Gtid list: it is not the beginning of a MariaDB log.")]
    if summary.incident is not None:
        return [
            finding("lost-events", name, f"{name} has an incident event at byte {summary.incident}: events were lost.")
        ]
    if expected_size is not None and summary.size != expected_size:
        return [
            finding(
                "cut-at-event-boundary" if summary.size < expected_size else "other-content",
                name,
                f"{name} has {summary.size} bytes, it should have {expected_size}.",
            )
        ]
    return []


def judge_joins(name: str, summary: Summary, before: GtidState) -> list[Finding]:
    """Say whether a log begins exactly where the one before it ended."""
    if summary.start is None or summary.start == before:
        return []
    return [
        finding(
            "other-history",
            name,
            f"{name} begins at {summary.start or '(empty)'}, the log before it ended at {before or '(empty)'}.",
        )
    ]


def judge_opening(name: str, summary: Summary, opening: Mapping[str, Any]) -> list[Finding]:
    """Say whether the chain's first log holds the full backup's position: that GTID at that byte."""
    start = opening["start"]
    found = summary.at_probe
    if found is not None and found.agrees_with(GtidState.parse(str(start["gtid"]))):
        return []
    at = "no transaction ends there" if found is None else f"{found.position or '(empty)'} ends there"
    return [
        finding(
            "start-not-found",
            name,
            f"The full backup ends at {start['gtid'] or '(empty)'}, byte {start['offset']} of {name}, but {at}.",
        )
    ]
