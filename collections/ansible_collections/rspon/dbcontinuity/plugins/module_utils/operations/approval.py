# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""R1: write down who instructed what, and say where the records stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..approvals import rules
from ..approvals.fields import Fields
from ..approvals.officials import HEAD_OF_SIRS, OFFICIALS_FILE, Officials, read_officials
from ..approvals.record import (
    COUNTERSIGN_HOURS,
    RECORD_VERSION,
    Countersignature,
    RestoreRecord,
    check_id,
    countersign_until,
)
from ..approvals.store import Approvals, Stored
from ..approvals.text import Value
from ..clock import iso, utc_now
from ..errors import ApprovalError, DamagedError, InputError
from ..instance import between
from ..ledger import new_run_id
from ..repository import Repository
from ..scope import FULL

_OURS = ("written_at", "written_by")
_LONGEST_WAIT_HOURS = 72


@dataclass(frozen=True)
class Writing:
    """Where, for whom and by whom something is written down.

    :param officials_file: the list of who holds which office, a file of root.
    :param now: the present; the clock's where none is given.
    """

    repository: Path
    officials_file: Path = OFFICIALS_FILE
    check_only: bool = False
    actor: Optional[str] = None
    run: Optional[str] = None
    now: Optional[datetime] = None


def record_instruction(writing: Writing, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write an instruction down; one that stands there already with the same values is left alone.

    :param values: the record's fields as people give them; ``id``, ``mode``, ``valid_from`` and the names of officials
        may be left out, and ``countersign_hours`` stands for ``countersign_until``.
    :raises InputError: naming the field that cannot be used.
    :raises ApprovalError: if the instruction could never be followed: not the head's, expired, one person twice.
    """
    repository = Repository.open(writing.repository)
    store = Approvals(repository)
    officials = read_officials(writing.officials_file)
    now = writing.now or utc_now()
    actor = describe_actor(writing.actor)
    record = "" if values.get("id") in (None, "") else check_id(values["id"])
    plain = _completed(values, officials, now, actor)
    wanted = RestoreRecord.from_values(plain)
    if record and record in store.ids():
        stored = store.read(record)
        if not _same(stored.restore, wanted):
            raise InputError(
                f"The record {record} says something else: {_differences(stored.restore, wanted)}. Records are never changed.",
                "Give another id, or none.",
            )
        return {"changed": False, **_described(stored, now), "ledger_head": str(repository.ledger.head())}
    rules.check_time(wanted, now)
    rules.check_people(wanted, officials)
    if writing.check_only:
        shown = Stored(record, {**wanted.to_values(), "id": record}, "")
        return {"changed": True, **_described(shown, now, wanted), "ledger_head": str(repository.ledger.head())}
    name, _sha256 = store.write(wanted.to_values(), record, writing.run or new_run_id(), actor, now)
    return {"changed": True, **_described(store.read(name), now), "ledger_head": str(repository.ledger.head())}


def countersign(writing: Writing, record: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Note that the head has signed what was instructed by telephone.

    :param values: ``countersigned_by``, ``countersigned_at``, ``letter``.
    :raises InputError: for a field that cannot be used, or an instruction that did not come by telephone.
    :raises ApprovalError: if the record does not stand, or the head did not sign it.
    """
    repository = Repository.open(writing.repository)
    store = Approvals(repository)
    officials = read_officials(writing.officials_file)
    now = writing.now or utc_now()
    actor = describe_actor(writing.actor)
    values = _filled(values)
    stored = store.read(record)
    said = stored.restore
    if said.by != "telephone":
        raise InputError(
            f"The instruction {record} came by letter, which is signed already.",
            "Only one by telephone is countersigned.",
        )
    given = Countersignature.from_values(
        {
            "record_version": RECORD_VERSION,
            "kind": "countersignature",
            "record": stored.id,
            "record_sha256": stored.sha256,
            "countersigned_by": _named(values.get("countersigned_by"), officials),
            "written_at": iso(now),
            "written_by": actor,
            **{key: values[key] for key in ("countersigned_at", "letter") if key in values},
        }
    )
    before = stored.countersignature
    if before is not None:
        if _without_ours(before.to_values()) != _without_ours(given.to_values()):
            raise InputError(
                f"The instruction {record} is countersigned with the letter {before.letter.number} of"
                f" {before.letter.dated.isoformat()} already.",
                "A countersignature is never changed; note the other one with ledger_entry.",
            )
        return {"changed": False, **_described(stored, now), "ledger_head": str(repository.ledger.head())}
    rules.check_countersignature(said, given, officials, now)
    if not writing.check_only:
        store.countersign(stored, given, writing.run or new_run_id(), actor)
        stored = store.read(record)
    return {"changed": True, **_described(stored, now), "ledger_head": str(repository.ledger.head())}


def approval_info(
    repository_path: Path, record: object = "", *, instance: str = "", now: Optional[datetime] = None
) -> dict[str, Any]:
    """Return where the records stand; ``red`` names those that somebody has to see to.

    :param record: one record; all where none is named.
    :raises ApprovalError: if the record named does not exist.
    """
    store = Approvals(Repository.open(repository_path))
    now = now or utc_now()
    history = store.history()
    found = []
    for name in store.ids() if record == "" else [check_id(record)]:
        try:
            one = _described(store.read(name, history), now)
        except (ApprovalError, DamagedError, InputError) as error:
            if error.details.get("refusal") == "unknown":
                raise
            one = {"id": name, "state": rules.ALTERED, "reason": str(error), "red": True, "usable": False}
        # One that cannot be read is shown whatever is asked for: nobody knows whose it is.
        if not instance or one.get("instance", instance) == instance:
            found.append(one)
    return {"changed": False, "records": found, "red": [one["id"] for one in found if one["red"]]}


def _completed(
    values: Mapping[str, Any], officials: Officials, now: datetime, actor: Mapping[str, str]
) -> dict[str, Any]:
    """Return a record's plain values with what need not be said."""
    plain = {key: value for key, value in _filled(values).items() if key != "countersign_hours"}
    plain.setdefault("mode", "replace" if plain.get("scope") == [FULL] else "beside")
    plain["instructed_by"] = _named(plain.get("instructed_by"), officials)
    if "instructed_at" in plain:
        plain.setdefault("valid_from", plain["instructed_at"])
    if plain.get("by") == "telephone" and "countersign_until" not in plain and "instructed_at" in plain:
        hours = between(
            int(values.get("countersign_hours") or COUNTERSIGN_HOURS), 1, _LONGEST_WAIT_HOURS, "countersign_hours"
        )
        given = Fields(plain, "instruction").moment("instructed_at")
        plain["countersign_until"] = countersign_until(given, hours).isoformat()
    # The id is known once the record is written; until then any that could be one stands for it.
    plain.setdefault("id", "new")
    return {**plain, "record_version": RECORD_VERSION, "written_at": iso(now), "written_by": dict(actor)}


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without those that a form left empty."""
    given = {key: _filled(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in given.items() if value not in (None, "", [])}


def _named(person: Any, officials: Officials) -> Any:
    """Return a person with the office, and the name that the list of officials has for the number, where left out."""
    if not isinstance(person, Mapping):
        return person
    parts = {"role": HEAD_OF_SIRS, **person}
    number = parts.get("id_number")
    if "name" in parts or number is None:
        return parts
    listed = officials.appointments(HEAD_OF_SIRS)
    names = [each.person.name for each in listed if each.person.id_number == number]
    if not names:
        known = "; ".join(map(str, listed)) or "nobody"
        raise InputError(
            f"No {HEAD_OF_SIRS} has the number {number!r} in {officials.path}; it lists: {known}.",
            "Put the number in quotes, as it stands there: YAML reads 0012 as 10. If the list is behind, run the playbook site.",
        )
    return {**parts, "name": names[-1]}


def _without_ours(values: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in values.items() if key not in _OURS}


def _same(one: RestoreRecord, other: RestoreRecord) -> bool:
    return _without_ours(one.to_values()) == _without_ours(other.to_values())


def _differences(one: RestoreRecord, other: RestoreRecord) -> str:
    before, after = _without_ours(one.to_values()), _without_ours(other.to_values())
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return "; ".join(f"{key} is {before.get(key, 'not given')}, not {after.get(key, 'not given')}" for key in keys)


def _described(stored: Stored, now: datetime, record: Optional[RestoreRecord] = None) -> dict[str, Any]:
    """Return a record and where it stands, plain."""
    said = record or stored.restore
    found = rules.standing(stored, said, now)
    later = stored.countersignature
    return {
        "id": stored.id,
        "kind": stored.kind,
        "instance": said.instance,
        "state": found.state,
        "reason": found.reason,
        "red": found.red,
        "usable": found.usable,
        "record": dict(stored.values),
        "record_sha256": stored.sha256,
        "countersignature": later.to_values() if later else None,
        "bound": dict(stored.bound) or None,
        "used": dict(stored.used) or None,
    }
