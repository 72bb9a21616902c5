# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The moment a copy is brought to, and what reading the logs says of it.

A time is no place in a log: it is resolved to the last transaction that was committed at or before it, named in the
engine's own terms, with the transactions on either side. What follows acts on that place alone.

``gtid`` (MariaDB)    up to and including that transaction, and every one before it in the log, of whatever domain
``lsn`` (PostgreSQL)  every transaction whose commit record ends at or before that address; ``pg_current_wal_lsn()``
                      asked before a mistake, or a position that this project shows, is such an address
``time``              every transaction before the first one whose time is later. MariaDB's times are to the second and
                      say when the committing statement began: all of the second named is in. PostgreSQL's are to the
                      microsecond. Of folders it is the newest set or archive of changes that was finished by then
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, ClassVar, Optional

from ..clock import iso, parse_moment
from ..codec import Protection, decode_stages
from ..errors import DamagedError, InputError, PipelineError
from ..instance import choice
from ..lineage import LogRecord
from ..process import Finished, Stage, failure

TARGET_KINDS = ("latest", "set", "time", "gtid", "lsn")
# The kinds that name a moment of their own, inside the logs.
MOMENTS = ("time", "gtid", "lsn")
_FORMS = {
    "gtid": (re.compile(r"\d{1,10}-\d{1,10}-\d{1,20}"), "MariaDB GTID", "0-1-1234", "mariadb"),
    "lsn": (
        re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}"),
        "PostgreSQL log address (LSN)",
        "0/5000148",
        "postgresql",
    ),
}
_NAIVE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
_CLOCK = re.compile(r"\d\d:\d\d(?::\d\d)?(?:[+-]\d\d:?\d\d|[zZ])?")
_OFFSET = re.compile(r":\d\d(?:\.\d+)?([+-])(\d\d):?(\d\d)?$")
_HOURS_ONLY = re.compile(r"([T ]\d\d:\d\d[^+-]*[+-]\d\d)$")
_EXAMPLE = "2026-09-19T02:30:00+07:00"


@dataclass(frozen=True)
class Target:
    """The moment a copy is brought to.

    :param kind: ``latest`` (the newest proven log's end), ``set`` (the full set alone), ``time``, ``gtid`` or ``lsn``.
    :param value: the moment, for the last three as people write it; the set's name for ``set``, or empty.
    """

    kind: str = "latest"
    value: str = ""

    @classmethod
    def parse(cls, kind: str, value: str = "") -> Target:
        """Return the target that a person named.

        :raises InputError: if the kind is unknown, or the value is none of that kind, saying how to write it.
        """
        choice(kind, TARGET_KINDS, "target")
        text = value.strip()
        if kind == "latest" and text:
            raise InputError(
                f"The target is latest, and the moment {text!r} is named too.",
                "Name the target time, gtid or lsn with the moment, or leave the moment out.",
            )
        if kind in MOMENTS and not text:
            example = _EXAMPLE if kind == "time" else _FORMS[kind][2]
            raise InputError(f"The target is {kind}, and no moment is named.", f"Write it like {example}.")
        if kind == "time":
            return cls(kind, _checked_time(text))
        if kind in _FORMS:
            form, what, example, _engine = _FORMS[kind]
            if not form.fullmatch(text):
                several = " Name one alone: what comes before it in the log is in, of every domain." * ("," in text)
                raise InputError(f"{text!r} is no {what}.{several}", f"Write it like {example}.")
            return cls(kind, text.upper())
        return cls(kind, text)

    @property
    def in_the_logs(self) -> bool:
        """Return whether it names a moment of its own."""
        return self.kind in MOMENTS

    @property
    def moment(self) -> datetime:
        """Return a time target's moment, in UTC."""
        return parse_moment(_checked_time(self.value), "target time")

    @property
    def zone(self) -> tzinfo:
        """Return the offset in which a time was named, so that the answer can be read beside it; else UTC."""
        given = _OFFSET.search(self.value) if self.kind == "time" else None
        if given is None:
            return timezone.utc
        offset = timedelta(hours=int(given.group(2)), minutes=int(given.group(3) or 0))
        return timezone(-offset if given.group(1) == "-" else offset)

    def check_engine(self, name: str, engine: str) -> None:
        """Refuse a position of another engine than the instance's.

        :raises InputError: naming both.
        """
        wanted = _FORMS[self.kind][3] if self.kind in _FORMS else engine
        if wanted != engine:
            other = next((kind for kind, form in _FORMS.items() if form[3] == engine), "")
            raise InputError(
                f"{name} is of the engine {engine}, which knows no {self.kind}.",
                f"Name a time{f' or its {other}' if other else ''}, and instances of other engines apart (dbc_only).",
            )

    def describe(self) -> str:
        """Return it as people read it."""
        return f"{self.kind} {self.value}".strip()

    def to_json(self) -> dict[str, str]:
        """Return the plain form."""
        return {"kind": self.kind, "value": self.value}


def _checked_time(text: str) -> str:
    """Return a time in the form that :func:`parse_moment` reads."""
    given = _HOURS_ONLY.sub(r"\1:00", text)
    if _CLOCK.fullmatch(given):
        raise InputError(
            f"The time {text!r} says no day.",
            f"Write the day, the time and the UTC offset: {_EXAMPLE} (WIB is +07:00).",
        )
    if _NAIVE.fullmatch(given):
        raise InputError(
            f"The time {text!r} has no UTC offset, so it could mean several moments.",
            f"Add it: {given.replace(' ', 'T')}+07:00 (WIB is +07:00, UTC is Z).",
        )
    parse_moment(given, "target time")
    return given


@dataclass(frozen=True)
class Neighbour:
    """A transaction (of folders: a state) beside the place a target was resolved to.

    :param moment: when it was committed, as its log says, in UTC.
    :param position: its GTID; the address where its commit record ends; the archive's name.
    """

    moment: datetime
    position: str

    def to_json(self) -> dict[str, str]:
        """Return the plain form."""
        return {"moment": iso(self.moment), "position": self.position}


@dataclass(frozen=True)
class Resolved:
    """Where a target lies: which set and logs lead there, where the last log is left, and what is on either side.

    :param kind: ``gtid``, ``lsn``, or ``archive`` for folders: what *position* is.
    :param position: of the last transaction that will be there; with *kind* it is a target that means the same. For
        ``latest`` and ``set`` it is where they end, of MariaDB with a GTID for each domain.
    :param moment: the moment brought back: the one asked for, or the last transaction's.
    :param before: the last transaction that will be there; *after*: the first that will not, None at the chain's end.
    :param set_name: the full set to begin with, and *lineage* the history it lies in; empty without logs.
    :param logs: the records of the logs to apply, in order.
    :param stop: where the replay ends, in the engine's terms; empty where all of *logs* is applied.
    :param notes: what people should know before they rely on it.
    """

    asked: Target
    kind: str
    position: str
    moment: datetime
    before: Neighbour
    after: Optional[Neighbour]
    set_name: str
    lineage: str = ""
    logs: Sequence[LogRecord] = ()
    stop: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plain form, for plans and evidence."""
        return {
            "asked": self.asked.to_json(),
            "kind": self.kind,
            "position": self.position,
            "moment": iso(self.moment),
            "before": self.before.to_json(),
            "after": self.after.to_json() if self.after else None,
            "set": self.set_name,
            "lineage": self.lineage,
            "logs": len(self.logs),
            "last_log": self.logs[-1].name if self.logs else "",
            "stop": dict(self.stop),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Chain:
    """One lineage as a resolver sees it.

    :param opening: the lineage's own record; empty for a set without logs.
    :param folder: where the logs lie.
    :param sets: the manifests of the sets it may begin with, oldest first; at least one.
    :param records: the logs' records, in order.
    :param to: the newest moment that is proven.
    """

    lineage: str
    opening: Mapping[str, Any]
    folder: Path
    protection: Protection
    sets: Sequence[Mapping[str, Any]]
    records: Sequence[LogRecord]
    to: datetime

    def log_stages(self, record: LogRecord) -> list[Stage]:
        """Return the stages that give a log's content."""
        return decode_stages(record.values["layers"], self.protection, self.folder / record.artefact)


def set_moment(manifest: Mapping[str, Any]) -> datetime:
    """Return the moment up to which a set alone holds everything, in UTC.

    A physical set is brought to its end by the log it carries; a dump shows each database as it was when its own dump
    began, so that nothing later than the beginning of the run can be promised.
    """
    return parse_moment(str(manifest["started_at" if manifest.get("method") == "logical" else "finished_at"]))


FROM_COPY = "Take it from a copy of the repository, or name a moment before it."


def check_read(record: LogRecord, ended: Sequence[Finished], sha256: str) -> None:
    """Say what is wrong with a log that was read to its end.

    :param ended: how the stages that decoded it ended, and *sha256* of what they gave.
    :raises PipelineError: if the private key does not open it.
    :raises DamagedError: if it cannot be decoded, or is not the one that was archived.
    """
    details: dict[str, object] = {"file": record.name}
    if not all(stage.ok for stage in ended):
        error = failure(ended)
        if "no identity matched" in error.message:
            raise PipelineError(error.message, error.remedy, {**error.details, **details})
        raise DamagedError(f"The log {record.name} cannot be read: {error.message}", FROM_COPY, details)
    if sha256 != record.values["plain_sha256"]:
        raise DamagedError(
            f"The log {record.name} is not the one that was archived: its content has another SHA-256.",
            FROM_COPY,
            details,
        )


class NotInChain(InputError):
    """The target does not lie in this lineage, or before all of its sets. Nothing was touched."""


class Moments(ABC):
    """Finds targets in the logs of one engine, reading them as streams; nothing lands on disk.

    :cvar kind: what a position of this engine is called: ``gtid``, ``lsn`` or ``archive``.
    """

    kind: ClassVar[str]

    @staticmethod
    @abstractmethod
    def holds(chain: Chain, position: str) -> bool:
        """Return whether a position lies in the chain, as far as the records alone can tell."""

    @staticmethod
    @abstractmethod
    def resolve(chain: Chain, target: Target) -> Resolved:
        """Find the target, and the newest of the chain's sets that leads there.

        :raises NotInChain: if it does not lie in the chain, or no set leads there.
        :raises ContinuityError: if a log cannot be read.
        """

    @staticmethod
    @abstractmethod
    def set_position(manifest: Mapping[str, Any]) -> str:
        """Return the position where a set ends."""

    @staticmethod
    @abstractmethod
    def log_position(record: LogRecord) -> str:
        """Return the position where a log ends."""

    @staticmethod
    @abstractmethod
    def reached(record: LogRecord) -> Optional[datetime]:
        """Return a moment up to which everything is in the chain once it holds this log; None where it does not say."""
