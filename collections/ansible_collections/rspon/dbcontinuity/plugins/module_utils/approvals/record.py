# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instruction to restore says, as typed values; docs/approval-record.schema.json is its published form.

The shape is checked here: which fields there are and what can stand in them. Whether an instruction holds for what is
about to be done is another question: see rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Optional

from ..clock import iso, parse_moment
from ..engines.targets import Target
from ..errors import InputError
from ..instance import check_name, choice
from ..scope import FULL
from ..scope import parse as parse_scope
from .fields import Fields, Letter, Person
from .text import Value

RECORD_VERSION = "1"
# Approvals of data updates, with their dispositions and signatures, will be kinds of their own beside this one.
RESTORE = "restore"
KINDS = (RESTORE,)
MODES = ("beside", "replace")
MEANS = ("letter", "telephone")
ACCEPTABLE = ("orphans",)
COUNTERSIGN_HOURS = 24

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class RestoreRecord:
    """An instruction to restore.

    :param scope: texts such as ``full`` or ``table:simrs.pasien``.
    :param target: kind and moment as instructed, before a time is resolved to a position.
    :param mode: ``beside`` or ``replace``.
    :param instructed_at: with the offset it was written with, whose date is the day of the instruction.
    :param by: ``letter`` (then *letter*) or ``telephone`` (then *heard_by*, *witness*, *countersign_until*).
    :param accepts: what the instruction takes into the bargain, of :data:`ACCEPTABLE`.
    :param written_by: who wrote it down, as seen by the host (:func:`actor.describe_actor`).
    """

    id: str
    instance: str
    scope: tuple[str, ...]
    target: Target
    mode: str
    reason: str
    instructed_by: Person
    instructed_at: datetime
    by: str
    valid_from: datetime
    valid_until: datetime
    written_at: datetime
    written_by: Mapping[str, str]
    letter: Optional[Letter] = None
    heard_by: Optional[Person] = None
    witness: Optional[Person] = None
    countersign_until: Optional[datetime] = None
    ticket: str = ""
    accepts: tuple[str, ...] = ()

    def to_values(self) -> dict[str, Value]:
        """Return the plain form, in the order it is written in."""
        values: dict[str, Value] = {
            "record_version": RECORD_VERSION,
            "kind": RESTORE,
            "id": self.id,
            "instance": self.instance,
            "scope": list(self.scope),
            "target": {"kind": self.target.kind, **({"value": self.target.value} if self.target.value else {})},
            "mode": self.mode,
            "reason": self.reason,
            "instructed_by": self.instructed_by.to_values(),
            "instructed_at": self.instructed_at.isoformat(),
            "by": self.by,
        }
        if self.letter:
            values["letter"] = {"number": self.letter.number, "date": self.letter.dated.isoformat()}
        for key, person in (("heard_by", self.heard_by), ("witness", self.witness)):
            if person:
                values[key] = person.to_values()
        if self.countersign_until:
            values["countersign_until"] = self.countersign_until.isoformat()
        values["valid_from"] = self.valid_from.isoformat()
        values["valid_until"] = self.valid_until.isoformat()
        if self.ticket:
            values["ticket"] = self.ticket
        if self.accepts:
            values["accepts"] = list(self.accepts)
        return {**values, "written_at": iso(self.written_at), "written_by": dict(self.written_by)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> RestoreRecord:
        """Return the record that plain values describe.

        :raises InputError: naming the field that is missing, unknown or cannot be used.
        """
        fields = Fields(values, "instruction")
        fields.only(_REQUIRED, _OPTIONAL)
        choice(fields.text("record_version"), (RECORD_VERSION,), "record_version")
        choice(fields.text("kind"), KINDS, "kind")
        target = fields.mapping("target", ("kind",), ("value",))
        record = cls(
            id=check_id(fields.text("id")),
            instance=check_name(fields.text("instance")),
            scope=check_scope(fields.texts("scope")),
            target=Target.parse(target["kind"], target.get("value", "")),
            mode=choice(fields.text("mode"), MODES, "mode"),
            reason=fields.text("reason", lines=True),
            instructed_by=fields.person("instructed_by", role=True),
            instructed_at=fields.moment("instructed_at"),
            by=choice(fields.text("by"), MEANS, "by"),
            valid_from=fields.moment("valid_from"),
            valid_until=fields.moment("valid_until"),
            written_at=fields.moment("written_at"),
            written_by=fields.mapping("written_by"),
            letter=fields.letter("letter") if "letter" in values else None,
            heard_by=fields.person("heard_by") if "heard_by" in values else None,
            witness=fields.person("witness") if "witness" in values else None,
            countersign_until=fields.moment("countersign_until") if "countersign_until" in values else None,
            ticket=fields.text("ticket") if "ticket" in values else "",
            accepts=tuple(fields.texts("accepts")) if "accepts" in values else (),
        )
        for each in record.accepts:
            choice(each, ACCEPTABLE, "accepts")
        record._check_together()
        return record

    def _check_together(self) -> None:
        if self.by == "letter" and (not self.letter or self.heard_by or self.witness or self.countersign_until):
            raise InputError(
                "An instruction by letter names the letter's number and date, and nobody who heard it.",
                "Give the letter, or say that the instruction came by telephone.",
            )
        if self.by == "telephone" and (self.letter or not self.countersign_until):
            raise InputError(
                "An instruction by telephone has no letter; it has a time until which it is to be countersigned.",
                "Leave the letter out: its number comes with the countersignature.",
            )
        if self.scope == (FULL,) and self.mode != "replace":
            raise InputError(
                "A full restore replaces: nothing can be put beside a whole server.", "Give the mode replace."
            )
        if self.valid_from < self.instructed_at:
            raise InputError(
                f"The instruction is valid from {self.valid_from.isoformat()}, before it was given at"
                f" {self.instructed_at.isoformat()}.",
                "Correct valid_from or instructed_at.",
            )
        if self.valid_until <= self.valid_from:
            raise InputError(
                f"The instruction is valid until {self.valid_until.isoformat()}, which is not after"
                f" {self.valid_from.isoformat()}, from when it is.",
                "Correct valid_until.",
            )


_REQUIRED = (
    "record_version",
    "kind",
    "id",
    "instance",
    "scope",
    "target",
    "mode",
    "reason",
    "instructed_by",
    "instructed_at",
    "by",
    "valid_from",
    "valid_until",
    "written_at",
    "written_by",
)
_OPTIONAL = ("letter", "heard_by", "witness", "countersign_until", "ticket", "accepts")


@dataclass(frozen=True)
class Countersignature:
    """What makes an instruction by telephone as good as a letter.

    :param record: whose id, and *record_sha256* of that record's file.
    """

    record: str
    record_sha256: str
    countersigned_by: Person
    countersigned_at: datetime
    letter: Letter
    written_at: datetime
    written_by: Mapping[str, str]

    def to_values(self) -> dict[str, Value]:
        """Return the plain form, in the order it is written in."""
        return {
            "record_version": RECORD_VERSION,
            "kind": "countersignature",
            "record": self.record,
            "record_sha256": self.record_sha256,
            "countersigned_by": self.countersigned_by.to_values(),
            "countersigned_at": self.countersigned_at.isoformat(),
            "letter": {"number": self.letter.number, "date": self.letter.dated.isoformat()},
            "written_at": iso(self.written_at),
            "written_by": dict(self.written_by),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Countersignature:
        """Return the countersignature that plain values describe.

        :raises InputError: naming the field that is missing, unknown or cannot be used.
        """
        fields = Fields(values, "countersignature")
        fields.only(_COUNTERSIGNATURE)
        choice(fields.text("record_version"), (RECORD_VERSION,), "record_version")
        choice(fields.text("kind"), ("countersignature",), "kind")
        return cls(
            record=check_id(fields.text("record")),
            record_sha256=fields.text("record_sha256"),
            countersigned_by=fields.person("countersigned_by", role=True),
            countersigned_at=fields.moment("countersigned_at"),
            letter=fields.letter("letter"),
            written_at=fields.moment("written_at"),
            written_by=fields.mapping("written_by"),
        )


_COUNTERSIGNATURE = (
    "record_version",
    "kind",
    "record",
    "record_sha256",
    "countersigned_by",
    "countersigned_at",
    "letter",
    "written_at",
    "written_by",
)


def check_id(text: object) -> str:
    """Return a record's id if it can name a folder.

    :raises InputError: otherwise, naming it.
    """
    if not isinstance(text, str) or not _ID.fullmatch(text) or ".." in text:
        raise InputError(
            f"The record id {text!r} cannot be used.",
            "Use letters, digits, dot, dash and underscore, at most 63, beginning and ending with a letter or digit;"
            " in quotes, for YAML takes 0012 for a number.",
        )
    return text


def check_scope(texts: Sequence[str]) -> tuple[str, ...]:
    """Return a scope's texts in the one form that scope.py gives them.

    :raises InputError: naming the text that is no scope.
    """
    scope = tuple(str(parse_scope(each)) for each in texts)
    if FULL in scope and len(scope) > 1:
        raise InputError("The scope names full beside others.", "full stands alone: it is everything.")
    return scope


def same_target(one: Target, other: Target) -> bool:
    """Return whether two targets are the same; times are compared as moments, not as texts."""
    if one.kind == other.kind == "time":
        return parse_moment(one.value) == parse_moment(other.value)
    return Target.parse(one.kind, one.value) == Target.parse(other.kind, other.value)


def same_scope(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two scopes name the same things, in whatever order and with whatever quotes."""
    return {str(parse_scope(each)) for each in one} == {str(parse_scope(each)) for each in other}


def countersign_until(instructed_at: datetime, hours: int = COUNTERSIGN_HOURS) -> datetime:
    """Return until when an instruction by telephone is to be countersigned."""
    return instructed_at + timedelta(hours=hours)
