# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of write-ahead log segments.

The receiver (pg_receivewal, a slot of its own) streams the log into folders of staging and gives a segment its name
once it is complete and on disk. A cycle has the server close its current segment if a transaction ended since the head
was closed, waits until the receiver has it, and proves each new segment: its size, the server, timeline and address in
every page, each record's checksum, and that its first record names the head's last one as the one before it. The record
that runs over the border of two segments is proven with the head's own file, which staging keeps for this.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Optional

from ...clock import iso, parse_moment
from ...durable import UNFINISHED
from ...instance import Instance
from ...lineage import Finding, LogRecord
from ..base import ChainBreak, DeliveredLog, Lag, LogChain
from .client import PostgreSQLClient
from .proof import Proof, prove_segment, sha256_of
from .state import ServerState, server_state, slot_name, switch_log
from .wal import SEGMENT_NAME, format_lsn, parse_lsn, segment_name, segment_start, segment_timeline

_NEW_FULL = "Make a new full backup now: run the playbook full_backup with -e dbc_force=true."
_RENEW = f"Run the playbook site (log_shipping), which renews the slot and the receiver. {_NEW_FULL}"
_RECEIVER = (
    "Run the playbook site (log_shipping) on the backup host and look at the receiver's service;"
    " nothing is lost while the slot is kept."
)
REMEDIES = {
    "missing-log": "If the file is on a copy, put it back into staging before the next cycle; otherwise: " + _NEW_FULL,
    "bit-flip": "Look at the disk and memory of the backup host. " + _NEW_FULL,
    "truncated": "Look at the disk of the backup host. " + _NEW_FULL,
    "other-server": "Check that the service file names the right server. If the server was replaced: " + _RENEW,
    "new-timeline": "The server was restored or promoted. " + _RENEW,
    "rolled-back": "The server was brought back to an older state. Find out why. " + _RENEW,
    "other-content": "The server was brought back to an older state, or a file was altered. Find out which. "
    + _NEW_FULL,
    "not-joined": "The server was brought back to an older state, or the file is another server's. " + _RENEW,
    "purged-too-early": "Raise max_slot_wal_keep_size, or find out why the receiver stayed away. " + _RENEW,
    "receiver-missing": _RECEIVER,
    "receiver-down": _RECEIVER,
    "receiver-late": _RECEIVER,
    "standby": "Name the primary in the service file.",
}
WAIT_SECONDS = 45.0
_GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.05
_PAGE_HEADER_BYTES = 40


def finding(code: str, file: str, message: str) -> Finding:
    """Return a finding with its code's remedy; those about the receiver alone leave the chain whole."""
    return Finding(code, file, message, REMEDIES[code], not code.startswith(("receiver", "standby")))


class WalChain(LogChain):
    """The log of one server. An object serves one cycle."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._known: Optional[ServerState] = None
        self._closed: Optional[ServerState] = None
        self._awaited = 0

    # -- the server --

    def _state(self, *, fresh: bool = False) -> ServerState:
        if self._known is None or fresh:
            self._known = server_state(PostgreSQLClient(self.instance), self.instance.name)
        return self._known

    def check_server(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> Sequence[Finding]:
        state = self._state(fresh=True)
        place = _Place(opening, head)
        name = place.next_name
        identifier = str(opening["identity"]["system_identifier"])
        if state.system_identifier != identifier:
            text = f"The server's system identifier is {state.system_identifier}; the chain is that of {identifier}."
            return [finding("other-server", name, text)]
        if state.standby:
            return [
                finding("standby", name, f"The server of {self.instance.name} has become a standby of another server.")
            ]
        if state.timeline != place.timeline:
            text = f"The server is on timeline {state.timeline}; the chain is of timeline {place.timeline}."
            return [finding("new-timeline", name, text)]
        if state.inserted < place.proven:
            text = (
                f"The server's log ends at {format_lsn(state.inserted)}; the chain is proven to {format_lsn(place.proven)}:"
                f" what came before {name} is gone from the server."
            )
            return [finding("rolled-back", name, text)]
        if state.slot is not None and state.slot.wal_status == "lost":
            text = (
                f"The slot {slot_name(self.instance.name)} is lost: the server removed log from {name} on before the receiver"
                " had it, because max_slot_wal_keep_size was reached."
            )
            return [finding("purged-too-early", name, text)]
        return []

    def rotate(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> bool:
        state = self._state()
        place = _Place(opening, head)
        if place.idle(state) or state.inserted <= place.next_start + _PAGE_HEADER_BYTES:
            return False
        end = monotonic() + _GRACE_SECONDS
        while state.slot is None or not state.slot.active:
            if monotonic() > end:
                return False  # nobody would receive the segment: deliver() says so
            sleep(0.5)
            state = self._state(fresh=True)
        self._closed, switched = switch_log(PostgreSQLClient(self.instance), self.instance.name)
        size = place.segment_bytes
        self._awaited = -(-switched // size) * size
        return True

    # -- delivery --

    def deliver(self, opening: Mapping[str, Any], head: Optional[LogRecord], workdir: Path) -> Iterator[DeliveredLog]:
        staging = workdir.parent
        join = workdir / "join"
        join.mkdir(mode=0o700)
        place = _Place(opening, head)
        deadline = monotonic() + WAIT_SECONDS
        before: Optional[Path] = None
        first = True
        while True:
            found = self._await(staging, place, deadline)
            if not found:
                break
            if first and head is not None:
                before = self._witness(staging, head, join)
                first = False
            here = join / place.next_name
            proof = self._prove(found, here, place, before)
            target = workdir / place.next_name
            _link(here, target)
            log = self._delivered(place, proof, target)
            if before is not None:
                before.unlink()
            before = here
            place = place.after(log.end)
            yield log
        self._complain(place)

    def _prove(self, found: Sequence[Path], here: Path, place: _Place, before: Optional[Path]) -> Proof:
        """Return the proof of the first of the files that holds: a server rolled back leaves others of the same name.

        :raises ChainBreak: if none holds.
        """
        faults = []
        for path in found:
            here.unlink(missing_ok=True)
            _link(path, here)
            proof = place.prove(here, before)
            if proof.fault is None:
                return proof
            faults.append(proof.fault)
        raise ChainBreak(finding(faults[0].code, place.next_name, faults[0].message))

    def _delivered(self, place: _Place, proof: Proof, path: Path) -> DeliveredLog:
        end: dict[str, Any] = {
            "timeline": place.timeline,
            "lsn": format_lsn(place.next_start + place.segment_bytes),
            "last_record": format_lsn(proof.last_record)
            if proof.last_record is not None
            else place.position.get("last_record"),
        }
        state = self._closed or self._state()
        if place.next_start + place.segment_bytes == self._awaited or place.idle(state):
            # What was committed before the server answered lies before the switch it was asked for right after.
            end["activity"] = state.activity
            end["recoverable_to"] = iso(state.at)
        elif proof.last_commit is not None:
            end["recoverable_to"] = iso(max(proof.last_commit, place.recoverable_to))
        else:
            end["recoverable_to"] = iso(place.recoverable_to)
        return DeliveredLog(
            name=place.next_name,
            path=path,
            size=place.segment_bytes,
            sha256=proof.sha256,
            start={"timeline": place.timeline, "lsn": format_lsn(place.next_start)},
            end=end,
            first_event_at=proof.first_commit,
            last_event_at=proof.last_commit,
            transactions=proof.transactions,
        )

    def _await(self, staging: Path, place: _Place, deadline: float) -> list[Path]:
        """Return the next segment's files, none if it is not closed yet.

        :raises ChainBreak: if it will not come any more, or not in time.
        """
        name = place.next_name
        gone_at: Optional[float] = None
        while True:
            found = _find(staging, name)
            if found:
                return found
            if gone_at is None and self._passed(staging, place):
                gone_at = monotonic() + _GRACE_SECONDS  # it may be between two names just now
            if gone_at is not None and monotonic() > gone_at:
                text = (
                    f"The log segment {name} is missing: staging does not hold it, but later ones came."
                    " It was removed, or the receiver was set up only after it."
                )
                raise ChainBreak(finding("missing-log", name, text))
            if gone_at is None and place.next_start >= self._awaited:
                return []
            if monotonic() > deadline:
                text = f"The receiver did not bring the closed segment {name} within {WAIT_SECONDS:g} seconds."
                raise ChainBreak(finding("receiver-late", name, text))
            sleep(_POLL_SECONDS)

    def _passed(self, staging: Path, place: _Place) -> bool:
        """Return whether the receiver has log that follows the next segment."""
        slot = self._state().slot
        if slot is not None and slot.received is not None and slot.received >= place.next_start + place.segment_bytes:
            return True
        return any(
            each.name > place.next_name and segment_timeline(each.name) == place.timeline for each in _segments(staging)
        )

    def _witness(self, staging: Path, head: LogRecord, join: Path) -> Optional[Path]:
        """Return the head's own file, if staging still has it.

        :raises ChainBreak: if a file of its name has other content than was archived.
        """
        kept: Optional[Path] = None
        for path in _find(staging, head.name):
            if sha256_of(path) != head.values["plain_sha256"]:
                text = f"{path} is not the segment {head.name} that was archived: same name, other content."
                raise ChainBreak(finding("other-content", head.name, text))
            kept = path
        if kept is None:
            return None
        _link(kept, join / head.name)
        return join / head.name

    def _complain(self, place: _Place) -> None:
        """Say at the end what stands in the way of the next delivery; what came is in the chain already."""
        slot = self._state().slot
        name = place.next_name
        if slot is None:
            text = f"The slot {slot_name(self.instance.name)} is missing on the server: nothing keeps the log for a receiver."
            raise ChainBreak(finding("receiver-missing", name, text))
        if not slot.active:
            text = f"The receiver is not connected to the slot {slot_name(self.instance.name)}: the log waits on production."
            raise ChainBreak(finding("receiver-down", name, text))

    def published(self, record: LogRecord, staging: Path) -> None:
        timeline = segment_timeline(record.name)
        for path in _files(staging):
            name = path.name[: -len(".partial")] if path.name.endswith(".partial") else path.name
            if not SEGMENT_NAME.match(name) or segment_timeline(name) > timeline:
                continue
            # The head itself stays as the witness of the next join; a partial file beside newer folders is a leaving.
            other = path.name == record.name and sha256_of(path) != record.values["plain_sha256"]
            if name < record.name or other:
                path.unlink(missing_ok=True)
        for folder in _folders(staging)[:-1]:
            with contextlib.suppress(OSError):
                folder.rmdir()

    # -- lag --

    def lag(self, opening: Mapping[str, Any], head: Optional[LogRecord], staging: Path) -> Lag:
        state = self._state(fresh=self._closed is not None)
        place = _Place(opening, head)
        idle = place.idle(state)
        written = max(0, state.inserted - place.proven)
        reached = state.at if idle else place.recoverable_to
        received = state.slot.received if state.slot and state.slot.received is not None else place.proven
        return Lag(
            recoverable_to=reached,
            lag_bytes=0 if idle else written,
            lag_seconds=0.0 if idle else max(0.0, (state.at - reached).total_seconds()),
            staged_bytes=max(0, received - place.proven),
            warnings=slot_warnings(self.instance.name, state),
            details={
                "timeline": state.timeline,
                "server_lsn": format_lsn(state.inserted),
                "proven_lsn": format_lsn(place.proven),
                "written_since_bytes": written,
                "slot": slot_name(self.instance.name),
                "slot_active": bool(state.slot and state.slot.active),
                "slot_wal_status": state.slot.wal_status if state.slot else "missing",
                "slot_safe_bytes": state.slot.safe_bytes if state.slot else None,
                "slot_holds_bytes": max(0, state.inserted - state.slot.received)
                if state.slot and state.slot.received
                else None,
            },
        )

    def verify_plain(
        self, opening: Mapping[str, Any], before: Optional[LogRecord], record: LogRecord, plain: Path
    ) -> Sequence[Finding]:
        place = _Place(opening, before)
        if record.name != place.next_name:
            text = f"{record.name} does not follow what is before it: {place.next_name} is missing."
            return [finding("missing-log", place.next_name, text)]
        with tempfile.TemporaryDirectory(prefix=f"{UNFINISHED}proof-", dir=plain.parent) as folder:
            path = Path(folder) / record.name
            _link(plain, path)
            proof = place.prove(path, None)
        if proof.fault is not None:
            return [finding(proof.fault.code, record.name, proof.fault.message)]
        if proof.sha256 != record.values["plain_sha256"]:
            text = f"{record.name} is not the segment that was archived: same name, other content."
            return [finding("other-content", record.name, text)]
        return []


class _Place:
    """Where the chain stands: what its next segment must be."""

    def __init__(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> None:
        self._opening = opening
        self.head = head is not None
        self.start: Mapping[str, Any] = opening["start"]
        self.position: Mapping[str, Any] = head.end if head is not None else self.start
        self.identifier = str(opening["identity"]["system_identifier"])
        self.timeline = int(self.start["timeline"])
        self.segment_bytes = int(self.start["segment_bytes"])
        self.major = int(self.start["major"])
        self.proven = parse_lsn(str(self.position["lsn"]))

    def after(self, end: Mapping[str, Any]) -> _Place:
        """Return the place once a segment with this end is in the chain."""
        place = _Place(self._opening, None)
        place.head, place.position, place.proven = True, end, parse_lsn(str(end["lsn"]))
        return place

    @property
    def next_start(self) -> int:
        """Return the address of the next segment's first byte."""
        if self.head:
            return self.proven
        return segment_start(str(self.start["wal_file"]), self.segment_bytes)

    @property
    def next_name(self) -> str:
        """Return the next segment's name."""
        return segment_name(self.timeline, self.next_start, self.segment_bytes)

    @property
    def start_lsn(self) -> Optional[int]:
        """Return where the proof of the very first segment begins: where the full backup does."""
        return None if self.head else self.proven

    @property
    def last_record(self) -> Optional[int]:
        """Return the address of the last record that begins in the head."""
        value = self.position.get("last_record")
        return parse_lsn(str(value)) if value else None

    @property
    def recoverable_to(self) -> datetime:
        """Return the moment before which everything committed is in the chain."""
        return parse_moment(str(self.position.get("recoverable_to") or self.start["at"]))

    def prove(self, path: Path, before: Optional[Path]) -> Proof:
        """Prove that a file is the next segment."""
        return prove_segment(
            path,
            self.next_name,
            self.segment_bytes,
            self.major,
            self.identifier,
            self.start_lsn,
            self.last_record,
            before,
        )

    def idle(self, state: ServerState) -> bool:
        """Return whether no transaction that changed anything ended since the head was closed."""
        return bool(self.position.get("activity")) and self.position["activity"] == state.activity


def slot_warnings(instance: str, state: ServerState) -> list[str]:
    """Return what threatens the log that the slot keeps, or the disk that it fills."""
    warnings = []
    if state.slot is not None:
        name = slot_name(instance)
        held = state.inserted - state.slot.received if state.slot.received else 0
        if state.slot.wal_status == "unreserved":
            warnings.append(
                f"The slot {name} is about to be lost: the server may remove the log it needs at the next checkpoint."
                " See to the receiver now."
            )
        elif state.keep_bytes and held > state.keep_bytes // 2:
            warnings.append(
                f"The slot {name} holds {held} bytes of log on production, over half of max_slot_wal_keep_size"
                f" ({state.keep_bytes}). See to the receiver before the slot is lost."
            )
    if state.keep_bytes is None:
        warnings.append("max_slot_wal_keep_size is unlimited: a receiver that stays away would fill production's disk.")
    return warnings


def _folders(staging: Path) -> list[Path]:
    """Return the folders the receiver wrote, oldest first."""
    return sorted(
        Path(entry.path)
        for entry in os.scandir(staging)
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
    )


def _files(staging: Path) -> list[Path]:
    """Return every plain file in staging and the receiver's folders."""
    return [
        Path(entry.path)
        for folder in (staging, *_folders(staging))
        for entry in os.scandir(folder)
        if entry.is_file(follow_symlinks=False)
    ]


def _segments(staging: Path) -> list[Path]:
    return [path for path in _files(staging) if SEGMENT_NAME.match(path.name)]


def _find(staging: Path, name: str) -> list[Path]:
    """Return the files of a segment, the newest folder's first."""
    places = (folder / name for folder in (*reversed(_folders(staging)), staging))
    return [path for path in places if path.is_file() and not path.is_symlink()]


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
