# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instruction holds: who gave it, when, to whom, and where it stands now.

Each refusal is a function of its own that touches nothing; the gate and approval_record ask the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional

from .fields import Letter, Person
from .officials import HEAD_OF_SIRS, Officials
from .record import Countersignature, RestoreRecord
from .refusals import refusal
from .store import Stored

VALID, NOT_YET, EXPIRED, USED_UP = "valid", "not yet valid", "expired", "used"
WAITING, OVERDUE, ALTERED = "waiting for countersignature", "overdue", "altered"
# The host on which somebody typed the time need not agree with this one to the second.
_CLOCKS_DIFFER = timedelta(minutes=2)


@dataclass(frozen=True)
class Standing:
    """Where a record stands.

    :param reason: one sentence that says why, naming the times.
    :param red: whether somebody has to do something about it; check-list and status show it.
    :param usable: whether a restore may still be made under it, as far as time goes.
    """

    state: str
    reason: str
    red: bool = False
    usable: bool = False


def standing(stored: Stored, record: RestoreRecord, now: datetime) -> Standing:
    """Return where a record stands at a moment."""
    usable = not stored.used and _has_begun(record, now) and now < record.valid_until
    open_by_telephone = record.by == "telephone" and stored.countersignature is None
    until = record.countersign_until
    # What was said by telephone and never acted upon ends by itself.
    if open_by_telephone and until and (stored.bound or stored.used or now < record.valid_until):
        done = " A restore was made under it." if stored.used else ""
        if now < until:
            reason = f"It came by telephone and is to be countersigned until {until.isoformat()}.{done}"
            return Standing(WAITING, reason, red=True, usable=usable)
        reason = f"It came by telephone and was not countersigned until {until.isoformat()}.{done}"
        return Standing(OVERDUE, reason, red=True)
    if stored.used:
        return Standing(USED_UP, f"The restore {stored.used.get('run')} succeeded under it at {stored.used.get('at')}.")
    if now >= record.valid_until:
        return Standing(EXPIRED, f"It was valid until {record.valid_until.isoformat()}.")
    if not _has_begun(record, now):
        return Standing(NOT_YET, f"It is valid from {record.valid_from.isoformat()}.")
    return Standing(VALID, f"It is valid until {record.valid_until.isoformat()}.", usable=usable)


def check_time(record: RestoreRecord, now: datetime) -> None:
    """Refuse an instruction that is dated in the future, or no longer valid."""
    _check_not_future(record.id, "given", record.instructed_at, record.letter, now)
    if now >= record.valid_until:
        raise refusal(
            "expired",
            f"The instruction {record.id} was valid until {record.valid_until.isoformat()}; it is {_at(now, record)}.",
            "Ask the head of Instalasi SIRS again and write the new instruction down with approval_record.",
            record=record.id,
            valid_until=record.valid_until.isoformat(),
        )


def check_valid_from(record: RestoreRecord, now: datetime) -> None:
    """Refuse an instruction whose time has not come."""
    if not _has_begun(record, now):
        raise refusal(
            "not-yet-valid",
            f"The instruction {record.id} is valid from {record.valid_from.isoformat()}; it is {_at(now, record)}.",
            "Wait until then, or have another instruction given.",
            record=record.id,
            valid_from=record.valid_from.isoformat(),
        )


def check_people(record: RestoreRecord, officials: Officials) -> None:
    """Refuse an instruction that the head did not give, or that too few persons heard."""
    check_head(record.id, record.instructed_by, record.instructed_at, officials)
    roles = [("gave it", record.instructed_by)]
    if record.by == "telephone":
        missing = [name for name, person in (("heard_by", record.heard_by), ("witness", record.witness)) if not person]
        if missing:
            raise refusal(
                "needs-two-persons",
                f"The instruction {record.id} came by telephone, and {' and '.join(missing)} is not named.",
                "Two persons stand for what was said: who heard it, and a witness. Write it down anew with both.",
                record=record.id,
            )
    roles += [
        (did, person) for did, person in (("heard it", record.heard_by), ("witnessed it", record.witness)) if person
    ]
    check_different(record.id, roles)


def check_different(record: str, roles: list[tuple[str, Person]]) -> None:
    """Refuse one person in two roles."""
    for number, (did, person) in enumerate(roles):
        for other_did, other in roles[number + 1 :]:
            if person.is_also(other):
                raise refusal(
                    "one-person-twice",
                    f"In the instruction {record} {person} {did} and {other} {other_did}: that is one person in two roles.",
                    "Name different persons. Two who share a name are told apart by writing their names in full.",
                    record=record,
                )


def check_head(record: str, person: Person, at: datetime, officials: Officials) -> None:
    """Refuse somebody who was not the head of Instalasi SIRS, or the appointed deputy, on that day."""
    day = at.date()
    listed = officials.appointments(HEAD_OF_SIRS)
    if person.role == HEAD_OF_SIRS and officials.holder(HEAD_OF_SIRS, person, day):
        return
    same = [str(each) for each in listed if each.person.id_number == person.id_number]
    known = "; ".join(same or [str(each) for each in listed]) or "nobody"
    raise refusal(
        "not-the-head",
        f"{person} as {person.role or 'no office'} was not {HEAD_OF_SIRS} on {day.isoformat()}, when the instruction"
        f" {record} was given or signed. {officials.path} lists: {known}.",
        "Only the head of Instalasi SIRS, or a deputy (Plt/Plh) within the appointment, can instruct a restore (R1)."
        " If the list is behind, correct dbc_officials in the inventory and run the playbook site.",
        record=record,
        person=person.id_number,
    )


def check_countersignature(record: RestoreRecord, given: Countersignature, officials: Officials, now: datetime) -> None:
    """Refuse a countersignature that the head did not give, or that does not follow the instruction."""
    check_head(record.id, given.countersigned_by, given.countersigned_at, officials)
    _check_not_future(record.id, "countersigned", given.countersigned_at, given.letter, now)
    heard = [(did, each) for did, each in (("heard it", record.heard_by), ("witnessed it", record.witness)) if each]
    check_different(record.id, [("countersigned it", given.countersigned_by), *heard])
    if given.countersigned_at < record.instructed_at:
        raise refusal(
            "dated-backwards",
            f"The instruction {record.id} was given at {record.instructed_at.isoformat()} and countersigned at"
            f" {given.countersigned_at.isoformat()}, before that.",
            "Correct the time of the countersignature.",
            record=record.id,
        )


def check_standing(stored: Stored, record: RestoreRecord, now: datetime) -> None:
    """Refuse a record that served its restore, or whose countersignature is overdue."""
    if stored.used:
        raise refusal(
            "used",
            f"The restore {stored.used.get('run')} succeeded under the instruction {record.id} at"
            f" {stored.used.get('at')}: it covers no other.",
            "Ask the head of Instalasi SIRS for another instruction.",
            record=record.id,
        )
    found = standing(stored, record, now)
    if found.state == OVERDUE:
        raise refusal(
            "countersignature-overdue",
            f"The instruction {record.id} cannot be used. {found.reason}",
            "Have it countersigned and note that with approval_record (countersign), or have another one given.",
            record=record.id,
        )


def check_begun(stored: Stored) -> None:
    """Refuse to finish a restore that was never begun under the record."""
    if not stored.bound:
        raise refusal(
            "not-begun",
            f"No restore was begun under the instruction {stored.id}, so there is none to finish.",
            "Name the record of the restore that was interrupted.",
            record=stored.id,
        )


def check_plan(stored: Stored, plan_digest: str) -> None:
    """Refuse another plan than the one that the record was first used for."""
    bound = stored.bound.get("plan_sha256")
    if bound is not None and bound != plan_digest:
        raise refusal(
            "plan-changed",
            f"The instruction {stored.id} was used for the plan {bound} at {stored.bound.get('at')};"
            f" this is another plan, {plan_digest}.",
            "Try again with the same choices as then (instance, scope, moment, mode, set), or have another instruction given.",
            record=stored.id,
            bound=str(bound),
            plan=plan_digest,
        )


def _check_not_future(record: str, what: str, at: datetime, letter: Optional[Letter], now: datetime) -> None:
    latest = now + _CLOCKS_DIFFER
    if at > latest or (letter and letter.dated > latest.astimezone(at.tzinfo).date()):
        when = f"at {at.isoformat()}" + (f", with a letter of {letter.dated.isoformat()}" if letter else "")
        raise refusal(
            "dated-in-the-future",
            f"The instruction {record} was {what} {when}; this host's clock says {now.astimezone(at.tzinfo).isoformat()}.",
            "Correct the date, or the clock.",
            record=record,
        )


def _has_begun(record: RestoreRecord, now: datetime) -> bool:
    # One that is valid from when it was given is so whatever this host's clock says; a future date is another refusal.
    return record.valid_from <= max(now, record.instructed_at)


def _at(now: datetime, record: RestoreRecord) -> str:
    """Return the present in the zone that the record is written in."""
    return now.astimezone(record.instructed_at.tzinfo).isoformat(timespec="seconds")
