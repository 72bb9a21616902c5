# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where instructions are kept: ``<repository>/approvals/<id>/``, each file of a record written once.

    record.yml              the instruction; never changed
    countersignature.yml    what came in writing after an instruction by telephone
    bound.json              the plan it was first used for
    used.json               the restore that succeeded under it

What happens to a record goes into the ledger first, with the hash of the file, then into the file. So a file that the
ledger does not know was put there by somebody else; and what the ledger knows holds, also where its file is gone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..clock import iso, stamp, utc_now
from ..durable import (
    UNFINISHED,
    dump_json,
    make_directory,
    publish_directory,
    sweep_unfinished,
    write_file,
    writing_to,
)
from ..errors import DamagedError, InputError
from ..ledger import Ledger
from ..locks import exclusive
from ..repository import Repository
from .record import Countersignature, RestoreRecord, check_id
from .refusals import refusal
from .text import Value, dump, parse

ACTIVITY = "approval"
RECORD, COUNTERSIGNATURE, BOUND, USED = "record.yml", "countersignature.yml", "bound.json", "used.json"
_STAMPED = re.compile(r"(\d{8}T\d{6}Z)-(\d{4})", re.ASCII)
_LOCK_WAIT_SECONDS = 30.0
_COPY = "Take the record's folder from a copy of the repository, or write a new record with approval_record."

Events = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Stored:
    """A record as it stands, held against the ledger.

    :param values: the record's plain form; *sha256* of its file.
    :param bound: what the ledger says of its first use (``plan_sha256``, ``run``, ``at``), *used* of its success.
    """

    id: str
    values: Mapping[str, Value]
    sha256: str
    countersignature: Optional[Countersignature] = None
    bound: Mapping[str, Any] = field(default_factory=dict)
    used: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Return what the record is about."""
        return str(self.values.get("kind"))

    @property
    def restore(self) -> RestoreRecord:
        """Return the instruction to restore.

        :raises DamagedError: if it holds anything that this version does not know.
        """
        try:
            record = RestoreRecord.from_values(self.values)
        except InputError as error:
            raise DamagedError(f"The record {self.id} cannot be read: {error.message}", _COPY) from None
        if record.id != self.id:
            raise DamagedError(f"The folder {self.id} holds the record {record.id}.", _COPY)
        return record


class Approvals:
    """The records of one repository."""

    def __init__(self, repository: Repository) -> None:
        self.folder = repository.root / "approvals"
        self.ledger: Ledger = repository.ledger

    def ids(self) -> list[str]:
        """Return the ids of all records, by name: those named by their time oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(each.name for each in self.folder.iterdir() if each.is_dir() and not each.name.startswith("."))

    def history(self) -> dict[str, Events]:
        """Return, by record, the newest event of each sort that the ledger holds."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for entry in self.ledger.whole_records(ACTIVITY):
            data = entry["data"]
            if {"event", "record"} <= set(data):
                event = {**data, "run": entry["run"], "at": entry["at"]}
                found.setdefault(str(data["record"]), {})[str(data["event"])] = event
        return dict(found)

    def read(self, record: str, history: Optional[Mapping[str, Events]] = None) -> Stored:
        """Return one record, held against the ledger.

        :param history: what :meth:`history` gave, where several are read.
        :raises InputError: for an id that cannot be one.
        :raises ApprovalError: if there is no such record, or it is not what was written.
        """
        folder = self.folder / check_id(record)
        if not folder.is_dir():
            known = ", ".join(self.ids()[-5:]) or "none"
            raise refusal(
                "unknown",
                f"There is no record {record} in {self.folder}.",
                f"The newest are: {known}. Name one of them, or write a new one with approval_record.",
                record=record,
            )
        events = (self.history() if history is None else history).get(record, {})
        data = self._bytes(record, folder / RECORD)
        sha256 = hashlib.sha256(data).hexdigest()
        written = events.get("written")
        if written is None:
            raise refusal(
                "not-in-ledger",
                f"The ledger does not know that the record {record} was written: somebody put it there by hand, or the"
                " ledger's line is damaged.",
                "Write the instruction with approval_record; ledger_info with verify tells whether lines are damaged.",
                record=record,
            )
        self._same(record, folder / RECORD, sha256, written.get("record_sha256"))
        try:
            values = parse(data, str(folder / RECORD))
        except DamagedError as error:
            raise _unreadable(record, error) from None
        return Stored(
            record,
            values,
            sha256,
            self._countersignature(record, folder, sha256, events),
            self._mark(record, folder / BOUND, events.get("bound")),
            self._mark(record, folder / USED, events.get("used")),
        )

    def write(
        self, values: Mapping[str, Value], record: str, run: str, actor: Mapping[str, str], now: datetime
    ) -> tuple[str, str]:
        """Write a record once; return its id and its file's hash.

        :param values: its plain form; ``id`` is set here.
        :param record: its id; one is made of the time where it is empty.
        :raises InputError: if there is one of that id.
        """
        make_directory(self.folder, 0o700)
        with self._locked("writing a record"):
            sweep_unfinished(self.folder)
            name = check_id(record) if record else self._next_id(now)
            final = self.folder / name
            if final.exists() or set(self.history().get(name, {})) - {"written"}:
                raise InputError(
                    f"There is, or was, a record {name} already, and records are never changed.",
                    "Give another id, or none.",
                )
            data = dump({**values, "id": name})
            RestoreRecord.from_values(parse(data, str(final / RECORD)))  # what is written can be read
            sha256 = hashlib.sha256(data).hexdigest()
            unfinished = self.folder / f"{UNFINISHED}{name}"
            with writing_to(unfinished):
                unfinished.mkdir(mode=0o700)
            write_file(unfinished / RECORD, data, 0o600)
            self._note("written", name, sha256, values, run, actor)
            publish_directory(unfinished, final)
        return name, sha256

    def countersign(self, stored: Stored, given: Countersignature, run: str, actor: Mapping[str, str]) -> str:
        """Put a countersignature beside a record; return its file's hash."""
        data = dump(given.to_values())
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / stored.id / COUNTERSIGNATURE
        with self._locked("countersigning"):
            if path.exists():
                raise InputError(f"{stored.id} is countersigned already.", "Look at it with approval_info.")
            self._note(
                "countersigned", stored.id, stored.sha256, stored.values, run, actor, countersignature_sha256=sha256
            )
            write_file(path, data, 0o600)
        return sha256

    def mark(self, event: str, stored: Stored, run: str, actor: Mapping[str, str], **details: str) -> None:
        """Note that a record was ``bound`` or ``used``: in the ledger, then beside the record."""
        self._note(event, stored.id, stored.sha256, stored.values, run, actor, **details)
        self.write_mark(event, stored, {**details, "run": run, "at": iso(utc_now())})

    def write_mark(self, event: str, stored: Stored, values: Mapping[str, Any]) -> None:
        """Write the file of a mark that the ledger knows; a crash may have come between."""
        path = self.folder / stored.id / {"bound": BOUND, "used": USED}[event]
        if not path.exists():
            content = {"record": stored.id, "record_sha256": stored.sha256, "event": event, **values}
            write_file(path, dump_json(content), 0o600)

    @contextmanager
    def held(self, record: str) -> Iterator[None]:
        """Hold a record for one run.

        :raises LockHeldError: if another run is going on under it.
        """
        with exclusive(self.folder / record / ".lock", f"a restore under the instruction {record}"):
            yield

    @contextmanager
    def _locked(self, activity: str) -> Iterator[None]:
        with exclusive(self.folder / ".lock", activity, _LOCK_WAIT_SECONDS):
            yield

    def _next_id(self, now: datetime) -> str:
        prefix = stamp(now)
        found = [_STAMPED.fullmatch(name) for name in self.ids()]
        taken = [int(match.group(2)) for match in found if match and match.group(1) == prefix]
        return f"{prefix}-{max(taken, default=0) + 1:04d}"

    def _note(
        self,
        event: str,
        record: str,
        sha256: str,
        values: Mapping[str, Value],
        run: str,
        actor: Mapping[str, str],
        **details: str,
    ) -> None:
        data = {"event": event, "record": record, "record_sha256": sha256, "kind": values["kind"], **details}
        self.ledger.append("event", ACTIVITY, run, instance=str(values.get("instance", "")), actor=actor, data=data)

    def _bytes(self, record: str, path: Path) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as stream:
                return stream.read()
        except OSError as error:
            raise refusal(
                "unreadable", f"{path} of the record {record} cannot be read: {error.strerror}.", _COPY, record=record
            ) from None

    def _same(self, record: str, path: Path, found: str, written: object) -> None:
        if found != written:
            raise refusal(
                "altered",
                f"{path} was changed after it was written: its SHA-256 is {found}, the ledger has {written}.",
                f"Find out who changed it and why. {_COPY}",
                record=record,
                path=str(path),
            )

    def _countersignature(self, record: str, folder: Path, sha256: str, events: Events) -> Optional[Countersignature]:
        path = folder / COUNTERSIGNATURE
        if not path.exists():
            return None  # one that the ledger knows and that is gone has to be given again: nobody can read it
        data = self._bytes(record, path)
        known = events.get("countersigned", {}).get("countersignature_sha256")
        self._same(record, path, hashlib.sha256(data).hexdigest(), known or "nothing of it")
        try:
            given = Countersignature.from_values(parse(data, str(path)))
        except (DamagedError, InputError) as error:
            raise _unreadable(record, error) from None
        if (given.record, given.record_sha256) != (record, sha256):
            raise refusal("altered", f"{path} belongs to the record {given.record}.", _COPY, record=record)
        return given

    def _mark(self, record: str, path: Path, event: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
        if event is None and path.exists():
            raise refusal(
                "altered",
                f"{path} stands there, but the ledger does not know of it.",
                f"Find out who put it there. {_COPY}",
                record=record,
                path=str(path),
            )
        return dict(event or {})


def _unreadable(record: str, error: DamagedError | InputError) -> Exception:
    return refusal("unreadable", f"The record {record} cannot be read: {error.message}", _COPY, record=record)
