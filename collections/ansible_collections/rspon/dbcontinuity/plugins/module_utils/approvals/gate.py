# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of a restore (R1): without an instruction of the head of Instalasi SIRS for exactly this, nothing is touched.

An operation calls :func:`require_instruction` to plan (it only looks), and goes through :func:`under_instruction` to
restore: that holds the record for this run, binds it to the plan, and lets the run note its success::

    asked = Asked(instance.name, scope, target, mode, plan_digest)
    with under_instruction(repository, record_id, asked, run=run, actor=actor) as instruction:
        ...                      # the restore
        instruction.used()       # at once after it has succeeded
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Optional

from ..clock import utc_now
from ..engines.targets import Target
from ..errors import ApprovalError, DamagedError, InputError
from ..repository import Repository
from ..restore_order_evidence import InstructionGiven, LetterNamed, PersonNamed
from ..scope import FULL
from . import rules
from .fields import Letter, Person
from .officials import OFFICIALS_FILE, read_officials
from .record import RESTORE, Countersignature, RestoreRecord, same_scope, same_target
from .refusals import refusal
from .store import Approvals, Stored

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Asked:
    """What is about to be done.

    :param scope: in the one text form: ``full``, ``table:DB.TABLE`` and so on.
    :param target: as it was asked for, before a time is resolved to a position.
    :param mode: ``beside`` or ``replace``; a full restore replaces, whatever stands here.
    :param plan_digest: SHA-256 of the plan, 64 hexadecimal digits. It covers what is decided (instance, scope, target,
        mode, set, place), not what differs from try to try (minutes, free room, the newest log): with the same
        decisions a second try has the same digest.
    :param accepts: what is to be taken into the bargain, such as ``orphans``.
    """

    instance: str
    scope: Sequence[str]
    target: Target
    mode: str
    plan_digest: str
    accepts: Sequence[str] = ()


@dataclass(frozen=True)
class Instruction:
    """An instruction that holds for what is about to be done.

    :param record_sha256: of the record's file, *officials_sha256* of the list it was held against; both for the evidence.
    """

    record: RestoreRecord
    record_sha256: str
    officials_sha256: str
    countersignature: Optional[Countersignature] = None

    def to_evidence(self) -> InstructionGiven:
        """Return what evidence and report say of it."""
        record, later = self.record, self.countersignature
        given = InstructionGiven(
            record=record.id,
            record_sha256=self.record_sha256,
            officials_sha256=self.officials_sha256,
            instructed_by=_person(record.instructed_by),
            instructed_at=record.instructed_at.isoformat(),
            by=record.by,
            valid_until=record.valid_until.isoformat(),
            reason=record.reason,
            ticket=record.ticket,
        )
        letter = record.letter or (later.letter if later else None)
        if letter:
            given["letter"] = _letter(letter)
        if record.heard_by:
            given["heard_by"] = _person(record.heard_by)
        if record.witness:
            given["witness"] = _person(record.witness)
        if record.countersign_until:
            given["countersign_until"] = record.countersign_until.isoformat()
        if later:
            given["countersigned_at"] = later.countersigned_at.isoformat()
        return given


@dataclass(frozen=True)
class HeldInstruction(Instruction):
    """An instruction that this run holds, bound to its plan."""

    plan_digest: str = ""
    run: str = ""
    actor: Mapping[str, str] = field(default_factory=dict)
    store: Optional[Approvals] = None
    stored: Optional[Stored] = None

    def used(self) -> None:
        """Note that the restore has succeeded: the record serves no other. Once noted, it stays so."""
        if self.store and self.stored and not self.stored.used:
            self.store.mark("used", self.stored, self.run, self.actor, plan_sha256=self.plan_digest)


def require_instruction(
    repository: Repository,
    record: str,
    asked: Asked,
    *,
    officials_file: Path = OFFICIALS_FILE,
    now: Optional[datetime] = None,
) -> Instruction:
    """Return the instruction for what is asked; only looks.

    :param record: the record's id; empty where none was named.
    :raises ApprovalError: if there is none, or it does not hold for exactly this; ``details['refusal']`` says which.
    :raises PrerequisiteError: if the list of officials is missing or not root's.
    """
    return _required(Approvals(repository), record, asked, officials_file, now or utc_now(), finishing=False)[0]


@contextmanager
def under_instruction(
    repository: Repository,
    record: str,
    asked: Asked,
    *,
    run: str,
    actor: Mapping[str, str],
    officials_file: Path = OFFICIALS_FILE,
    now: Optional[datetime] = None,
    finishing: bool = False,
) -> Iterator[HeldInstruction]:
    """Hold the instruction for one run: looked at, locked, and bound to the plan from the first try on.

    :param finishing: a restore of this very plan under this record has changed production and was interrupted; what is
        left is to bring it to its end. Its time may have run out since then, and its success may be noted already.
    :raises ApprovalError: see :func:`require_instruction`; nothing was touched then.
    :raises LockHeldError: if another run is going on under it.
    """
    store = Approvals(repository)
    _required(store, record, asked, officials_file, now or utc_now(), finishing)
    with store.held(record):
        # Again, now that no other run can bind it or use it up.
        given, stored = _required(store, record, asked, officials_file, now or utc_now(), finishing)
        if stored.bound:
            store.write_mark("bound", stored, _bound_before(stored))
        else:
            store.mark(
                "bound",
                stored,
                run,
                actor,
                plan_sha256=asked.plan_digest,
                officials_sha256=given.officials_sha256,
            )
        yield HeldInstruction(
            given.record,
            given.record_sha256,
            given.officials_sha256,
            given.countersignature,
            asked.plan_digest,
            run,
            actor,
            store,
            stored,
        )


def _required(
    store: Approvals, record: str, asked: Asked, officials_file: Path, now: datetime, finishing: bool
) -> tuple[Instruction, Stored]:
    if not _DIGEST.fullmatch(asked.plan_digest):
        raise InputError(f"The plan's digest {asked.plan_digest!r} is no SHA-256.", "Report this.")
    if not record.strip():
        raise refusal(
            "missing",
            f"A restore of {asked.instance} needs the recorded instruction of the head of Instalasi SIRS (R1), and"
            " none was named.",
            "Write it down with approval_record, then name its id.",
        )
    stored = store.read(record)
    if stored.kind != RESTORE:
        raise refusal(
            "other-kind",
            f"The record {record} is of kind {stored.kind}, not {RESTORE}.",
            "Name the record of an instruction to restore.",
            record=record,
        )
    try:
        said = stored.restore
    except DamagedError as error:
        raise refusal("unreadable", error.message, error.remedy, record=record) from None
    _check_same(said, asked)
    officials = read_officials(officials_file)
    if finishing:
        rules.check_begun(stored)
    else:
        rules.check_time(said, now)
        rules.check_valid_from(said, now)
        rules.check_people(said, officials)
        rules.check_standing(stored, said, now)
    rules.check_plan(stored, asked.plan_digest)
    return Instruction(said, stored.sha256, officials.sha256, stored.countersignature), stored


def _check_same(said: RestoreRecord, asked: Asked) -> None:
    mode = "replace" if tuple(asked.scope) == (FULL,) else asked.mode
    if said.instance != asked.instance:
        raise _other("other-instance", said, f"the instance {said.instance}", f"of {asked.instance}")
    if not same_scope(said.scope, asked.scope):
        raise _other("other-scope", said, f"the scope {', '.join(said.scope)}", f"of {', '.join(asked.scope)}")
    if not same_target(said.target, asked.target):
        raise _other("other-target", said, f"the moment {said.target.describe()}", f"to {asked.target.describe()}")
    if said.mode != mode:
        raise _other("other-mode", said, f"the mode {said.mode}", f"in the mode {mode}")
    if not set(asked.accepts) <= set(said.accepts):
        accepted = ", ".join(said.accepts) or "nothing"
        raise _other(
            "not-accepted", said, f"a restore that accepts {accepted}", f"that accepts {', '.join(asked.accepts)}"
        )


def _other(which: str, said: RestoreRecord, theirs: str, ours: str) -> ApprovalError:
    return refusal(
        which,
        f"The instruction {said.id} is for {theirs}; this would be a restore {ours}.",
        "Name the record that was written for this, or have an instruction for this given.",
        record=said.id,
    )


def _bound_before(stored: Stored) -> dict[str, str]:
    return {
        key: str(stored.bound[key]) for key in ("plan_sha256", "officials_sha256", "run", "at") if key in stored.bound
    }


def _person(person: Person) -> PersonNamed:
    return PersonNamed(role=person.role, name=person.name, id_number=person.id_number)


def _letter(letter: Letter) -> LetterNamed:
    return LetterNamed(number=letter.number, date=letter.dated.isoformat())
