# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of binary logs: each file fetched whole, proven by itself and against its neighbours.

GTID equality at the end proves nothing (a replay without a middle log ends with the right GTID): what counts is that
each file begins with exactly the state in which the one before it ended, and that the server still holds the file that
was archived last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from ...clock import from_stamp, iso, parse_moment
from ...instance import Instance
from ...lineage import Finding, LogRecord
from ..base import ChainBreak, DeliveredLog, Lag, LogChain
from .binlog import Summary, moment
from .binlog_server import BinlogServer, ServerLook, second_opinion, split_name, successor
from .gtid import GtidState
from .proof import examine, finding, judge_alone, judge_joins, judge_opening
from .staging import prune, staged_bytes


class BinlogChain(LogChain):
    """The binary logs of one server."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._opening: Mapping[str, Any] = {}
        self._notes: list[str] = []
        self._rotated: Optional[tuple[str, datetime]] = None  # the log that rotate() closed, and the moment before

    @cached_property
    def _server(self) -> BinlogServer:
        """The server; archived logs are proven again without it, and without its credentials."""
        return BinlogServer(self.instance)

    # -- is it still the server, and the history, that the chain belongs to --

    def check_server(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> Sequence[Finding]:
        self._opening = opening
        look = self._server.look()
        said, known = look.variables.get("server_uid", ""), str(opening.get("identity", {}).get("server_uid", ""))
        if known and said != known:
            return [
                finding("other-server", "", f"The server that answers for {self.instance.name} is another one: {said}.")
            ]
        if look.variables.get("log_bin") != "ON":
            return [finding("log-bin-off", "", f"The binary log of {self.instance.name} is off.")]
        found = self._check_names(look, opening, head)
        if found is None:
            found = self._check_head(look, head) if head else self._check_start(look, opening)
        findings = [found] if found else []
        if look.variables.get("binlog_checksum") != "CRC32":
            findings.append(
                finding(
                    "checksum-off",
                    look.newest,
                    f"binlog_checksum of {self.instance.name} is {look.variables.get('binlog_checksum')}: nothing proves its logs.",
                    breaks=False,
                )
            )
        return findings

    def _check_names(
        self, look: ServerLook, opening: Mapping[str, Any], head: Optional[LogRecord]
    ) -> Optional[Finding]:
        """Look for a hole in the numbers, or numbers that went back."""
        anchor = head.name if head else str(opening["start"]["file"])
        needed = successor(anchor) if head else anchor
        base, _number = split_name(anchor)
        if split_name(look.newest)[0] != base:
            return finding(
                "numbering-reset",
                anchor,
                f"The server now calls its logs like {look.newest}; the chain holds {anchor}.",
            )
        oldest, newest = split_name(look.oldest)[1], split_name(look.newest)[1]
        if newest < split_name(needed)[1]:
            return self._went_back(look, opening, head, f"its newest log is {look.newest}, the chain needs {needed}")
        if oldest > split_name(needed)[1]:
            return finding(
                "purged-too-early",
                needed,
                f"The server has removed {needed} before it was archived; its oldest log is {look.oldest}.",
            )
        for each in range(split_name(needed)[1], newest):
            name = f"{base}.{each:06d}"
            if not look.sizes.get(name):
                return finding("missing-log", name, f"The log {name} is missing on the server; later ones are there.")
        return None

    def _check_head(self, look: ServerLook, head: LogRecord) -> Optional[Finding]:
        """Compare the newest archived log with the server's file of that name, and the states."""
        end, name = head.end, head.name
        state = GtidState.parse(str(end["gtid_state"]))
        if not look.state.covers(state):
            return self._went_back(look, self._opening, head, f"it knows {look.state}, the chain ends at {state}")
        size = look.sizes.get(name)
        if size is not None:
            created, tail = self._server.fetch_end(name, int(end["tail_offset"])) if size == end["size"] else (0, b"")
            if hashlib.sha256(tail).hexdigest() != end["tail_sha256"]:
                if not created:
                    created, _tail = self._server.fetch_end(name, size)
                code = "rolled-back" if created == head.values["start"]["created"] else "other-content"
                return finding(
                    code,
                    name,
                    f"The server's {name} ({size} bytes) is not the one that was archived ({end['size']} bytes).",
                )
        elif self._server.gtid_list(successor(name)) != state:
            return finding(
                "other-content",
                successor(name),
                f"The server's {successor(name)} does not follow the archived {name}, which it no longer has.",
            )
        return None

    def _check_start(self, look: ServerLook, opening: Mapping[str, Any]) -> Optional[Finding]:
        start = opening["start"]
        state = GtidState.parse(str(start["gtid"])).limited_to(look.state)
        if look.sizes.get(str(start["file"]), 0) < int(start["offset"]) or not look.state.covers(state):
            return self._went_back(look, opening, None, f"it knows {look.state or 'nothing'}, the full backup {state}")
        return None

    def _went_back(self, look: ServerLook, opening: Mapping[str, Any], head: Optional[LogRecord], why: str) -> Finding:
        """Tell logs that began anew from a server set back to an earlier moment."""
        created, _tail = self._server.fetch_end(look.oldest, look.sizes[look.oldest])
        known = int(head.values["start"]["created"]) if head else _opened(opening).timestamp()
        name = head.name if head else str(opening["start"]["file"])
        if created > known:
            return finding("numbering-reset", name, f"The server's logs began anew: {why}.")
        return finding("rolled-back", name, f"The server was set back to an earlier state: {why}.")

    # -- a cycle --

    def rotate(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> bool:
        self._opening = opening
        look = self._server.look()
        if _nothing_since(look, opening, head) or self._server.gtid_list(look.newest) == look.state:
            return False
        self._server.rotate()
        self._rotated = (look.newest, look.now)
        return True

    def deliver(self, opening: Mapping[str, Any], head: Optional[LogRecord], workdir: Path) -> Iterator[DeliveredLog]:
        self._opening = opening
        look = self._server.look()
        name = successor(head.name) if head else str(opening["start"]["file"])
        before = GtidState.parse(str(head.end["gtid_state"])) if head else None
        while name != look.newest:
            if not look.sizes.get(name):
                gone = split_name(name)[1] < split_name(look.oldest)[1]
                code = "purged-too-early" if gone else "missing-log"
                raise ChainBreak(
                    finding(code, name, f"The server has no log {name} any more; the chain needs it next.")
                )
            log = self._deliver_one(opening, name, look, before, workdir)
            yield log
            before, name = GtidState.parse(str(log.end["gtid_state"])), successor(name)

    def _deliver_one(
        self, opening: Mapping[str, Any], name: str, look: ServerLook, before: Optional[GtidState], workdir: Path
    ) -> DeliveredLog:
        """Fetch and prove one log; one that does not hold is fetched once more before it breaks the chain."""
        following = successor(name)
        if following not in look.sizes:
            raise ChainBreak(finding("missing-log", following, f"The log {following} is missing on the server."))
        findings: list[Finding] = []
        for _attempt in range(2):
            path = workdir / name
            path.unlink(missing_ok=True)
            size = look.sizes[name]
            fetched = self._server.fetch(name, size, workdir)
            if fetched.missing:
                raise ChainBreak(
                    finding("purged-too-early", name, f"The server removed {name} before it was archived.")
                )
            summary = examine(path, probe=None if before is not None else int(opening["start"]["offset"]))
            crashed = "truncated in the middle" in fetched.refused
            findings = judge_alone(
                name, summary, expected_size=None if crashed else size, refused="" if crashed else fetched.refused
            )
            if not findings:
                findings = (
                    judge_opening(name, summary, opening) if before is None else judge_joins(name, summary, before)
                )
            if not findings:
                findings = self._judge_end(name, following, summary, crashed)
            if not findings:
                complaint = second_opinion(path, workdir)
                if complaint:
                    findings = [finding("second-reader", name, f"mariadb-binlog refuses {name}: {complaint}")]
            if not findings:
                return _delivered(path, name, following, summary, opening if before is None else None)
        raise ChainBreak(*findings)

    def _judge_end(self, name: str, following: str, summary: Summary, crashed: bool) -> list[Finding]:
        """Prove that nothing is missing behind the file's end: the next one must begin in the state it ends in."""
        if summary.closing == "rotate" and summary.next_name != following:
            return [
                finding("other-history", name, f"{name} says that {summary.next_name} follows it, not {following}.")
            ]
        listed = self._server.gtid_list(following)
        if listed == summary.end:
            return []
        state = "(no Gtid list)" if listed is None else str(listed) or "(empty)"
        if summary.closing:
            return [
                finding(
                    "other-history",
                    following,
                    f"{following} begins at {state}, but {name} before it ended whole at {summary.end or '(empty)'}.",
                )
            ]
        code = "cut-inside-event" if crashed else "cut-at-event-boundary"
        return [
            finding(
                code,
                name,
                f"{name} ends at {summary.end or '(empty)'} without saying that it was closed; {following} begins at {state}:"
                " its end is missing.",
            )
        ]

    def published(self, record: LogRecord, staging: Path) -> None:
        opened = self._opening.get("opened_at")
        try:
            prune(staging, record, parse_moment(str(opened)) if opened else None)
        except OSError as error:
            self._notes.append(f"What the stream holds of archived logs could not be removed: {error}.")

    def lag(self, opening: Mapping[str, Any], head: Optional[LogRecord], staging: Path) -> Lag:
        look = self._server.look()
        anchor = head.name if head else str(opening["start"]["file"])
        offset = int(head.end["size"]) if head else int(opening["start"]["offset"])
        number = split_name(anchor)[1]
        behind = sum(size for name, size in look.sizes.items() if split_name(name)[1] > number)
        behind += max(0, look.sizes.get(anchor, offset) - offset)
        idle = _nothing_since(look, opening, head)
        reached = look.now if idle else self._reached(opening, head)
        return Lag(
            recoverable_to=reached,
            lag_bytes=0 if idle else behind,
            lag_seconds=0.0 if idle else max(0.0, (look.now - reached).total_seconds()),
            staged_bytes=0 if idle else min(behind, staged_bytes(staging, anchor, offset)),
            warnings=[*self._notes, *_warnings(look, opening, head)],
            details={
                "server_time": iso(look.now),
                "gtid_state": str(look.state),
                "newest_log": look.newest,
                "logs_on_server_bytes": sum(look.sizes.values()),
            },
        )

    def _reached(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> datetime:
        """Return a moment before which every change is in the chain, by the server's clock."""
        if head is None:
            return _opened(opening)
        if self._rotated and split_name(head.name)[1] >= split_name(self._rotated[0])[1]:
            return self._rotated[1]
        closed = head.end.get("closed_at") or head.values.get("last_event_at") or head.values["start"]["created_at"]
        return parse_moment(str(closed))

    # -- proving again --

    def verify_plain(
        self, opening: Mapping[str, Any], before: Optional[LogRecord], record: LogRecord, plain: Path
    ) -> Sequence[Finding]:
        name = record.name
        expected = successor(before.name) if before else str(opening["start"]["file"])
        if name != expected:
            return [
                finding("missing-log", expected, f"The chain goes on with {name}, but {expected} should stand there.")
            ]
        summary = examine(plain, probe=None if before else int(opening["start"]["offset"]))
        joins = (
            judge_joins(name, summary, GtidState.parse(str(before.end["gtid_state"])))
            if before
            else judge_opening(name, summary, opening)
        )
        crash = record.end.get("closed_by") == "crash"
        alone = judge_alone(name, summary, expected_size=int(record.values["plain_size"]))
        findings = [*joins, *alone] if summary.damage is None else [*alone]
        if not findings and not crash and summary.closing != record.end.get("closed_by"):
            findings.append(finding("cut-at-event-boundary", name, f"{name} has lost the event that closed it."))
        if not findings and (
            summary.sha256 != record.values["plain_sha256"] or str(summary.end) != record.end["gtid_state"]
        ):
            findings.append(
                finding("other-content", name, f"The archived {name} is whole, but not the file that was archived.")
            )
        return findings


def _opened(opening: Mapping[str, Any]) -> datetime:
    """Return a moment that the full backup which opened the chain surely holds: its beginning."""
    return from_stamp(str(opening["opened_by"]).rsplit("-", 1)[0])


def _nothing_since(look: ServerLook, opening: Mapping[str, Any], head: Optional[LogRecord]) -> bool:
    """Return whether the server has logged no transaction since the chain's end."""
    if head is None:
        return look.state.position == GtidState.parse(str(opening["start"]["gtid"])).position
    return str(look.state) == str(head.end["gtid_state"])


def _delivered(
    path: Path, name: str, following: str, summary: Summary, opening: Optional[Mapping[str, Any]]
) -> DeliveredLog:
    with path.open("rb") as stream:
        stream.seek(summary.tail_offset)
        tail = hashlib.sha256(stream.read()).hexdigest()
    start = {
        "file": name,
        "offset": int(opening["start"]["offset"]) if opening else 4,
        "gtid_state": str(summary.start),
        "created": summary.created,
        "created_at": iso(moment(summary.created)),
        "server_id": summary.server_id,
        "server_version": summary.server_version,
    }
    end = {
        "file": name,
        "offset": summary.whole_end,
        "size": summary.size,
        "gtid": summary.end.position,
        "gtid_state": str(summary.end),
        "closed_by": summary.closing or "crash",
        "closed_at": iso(moment(summary.closed_at)) if summary.closed_at else None,
        "next": following,
        "tail_offset": summary.tail_offset,
        "tail_sha256": tail,
    }
    return DeliveredLog(
        name=name,
        path=path,
        size=summary.size,
        sha256=summary.sha256,
        start=start,
        end=end,
        first_event_at=moment(summary.first_at) if summary.first_at is not None else None,
        last_event_at=moment(summary.last_at) if summary.last_at is not None else None,
        transactions=summary.transactions,
    )


def _warnings(look: ServerLook, opening: Mapping[str, Any], head: Optional[LogRecord]) -> list[str]:
    """Return what is set on the server so that logs or copies are worth less than they could be."""
    values = look.variables
    warnings = []
    if values.get("binlog_format") != "ROW":
        warnings.append(
            f"binlog_format is {values.get('binlog_format')}: a replay of statements can give other rows. Set it to ROW."
        )
    if values.get("sync_binlog") != "1":
        warnings.append(
            f"sync_binlog is {values.get('sync_binlog')}: a power cut on production can lose logged commits. Set it to 1."
        )
        if head is not None and head.end.get("closed_by") == "crash":
            warnings.append(
                f"The server crashed after {head.name} with sync_binlog off: its tables may hold commits that no log has."
                " Make a new full backup if the whole machine, not only the server, went down."
            )
    if values.get("innodb_flush_log_at_trx_commit") != "1":
        warnings.append(
            f"innodb_flush_log_at_trx_commit is {values.get('innodb_flush_log_at_trx_commit')}: a power cut on production"
            " can lose commits that the chain has. Set it to 1."
        )
    kept = timedelta(
        seconds=float(values.get("binlog_expire_logs_seconds") or 0), days=float(values.get("expire_logs_days") or 0)
    )
    if not kept:
        warnings.append("Binary logs never expire: production's disk fills. Set binlog_expire_logs_seconds.")
    elif kept < timedelta(days=1):
        warnings.append(
            f"Binary logs expire after {kept}: a backup host that is away for longer breaks the chain. Keep several days."
        )
    known = str(opening.get("identity", {}).get("server_id", ""))
    if known and values.get("server_id") != known:
        warnings.append(
            f"server_id was changed from {known} to {values.get('server_id')}; the logs prove the same history."
        )
    return warnings
