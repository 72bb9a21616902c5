# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which moments of an instance can be brought back, and the set and logs that lead to one of them.

Each lineage is a range of its own, from the end of its oldest set to the newest proven moment; after a restore the
older lineage stays, so a moment before that restore can still be brought back. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import Any, Optional

from .clock import iso, parse_moment
from .codec import Protection
from .engines.scratch import ScratchServer, Source
from .engines.scratch_registry import MOMENTS, scratch_for
from .engines.targets import Chain, Moments, NotInChain, Resolved, Target, set_moment
from .errors import DamagedError, InputError
from .instance import Instance
from .lineage import Lineage, LogRecord
from .repository import FullSet, InstanceFolder, Repository

_NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Range:
    """The moments that one lineage, or a set without logs, can be brought back to.

    :param lineage: empty for a set without logs, which is the moment of its end alone.
    :param kind: what the positions are: ``gtid``, ``lsn`` or ``archive``.
    :param sets: names, oldest first.
    :param whole: no finding has broken the lineage; what is in the range is good in either case.
    """

    lineage: str
    begin: datetime
    end: datetime
    kind: str
    from_position: str
    to_position: str
    sets: Sequence[str]
    whole: bool

    def describe(self, zone: tzinfo = timezone.utc) -> str:
        """Return it as people read it."""
        begin, end = (each.astimezone(zone).isoformat() for each in (self.begin, self.end))
        if not self.lineage:
            return f"{end} (the set {self.sets[0]} alone)"
        where = f", {self.kind} {self.from_position or '(none)'} to {self.to_position or '(none)'}"
        return f"{begin} to {end} (lineage {self.lineage}{where if self.kind != 'archive' else ''})"

    def to_json(self) -> dict[str, Any]:
        """Return the plain form."""
        return {
            "lineage": self.lineage,
            "from": iso(self.begin),
            "to": iso(self.end),
            "kind": self.kind,
            "from_position": self.from_position,
            "to_position": self.to_position,
            "sets": list(self.sets),
            "whole": self.whole,
        }


@dataclass(frozen=True)
class Found:
    """What is brought up: the set, its lineage, and how.

    :param records: the hashes of the lineage's records.
    """

    set: FullSet
    source: Source
    scratch: type[ScratchServer]
    lineage: Optional[Lineage]
    recoverable_to: datetime
    resolved: Resolved
    records: frozenset[str] = frozenset()


def ranges(folder: InstanceFolder) -> list[Range]:
    """Return what can be brought back of an instance, newest first, reading manifests and heads only.

    A set whose manifest does not hold is left out, as is a lineage whose newest record does not.
    """
    stored, _damaged = folder.readable_sets()
    good = [each for each in stored if _usable(each)]
    readable, _damaged_lineages = folder.readable_lineages()
    found = []
    taken: set[str] = set()
    for lineage in readable:
        members = _members(good, lineage.id)
        try:
            if members:
                found.append(_range(lineage, members))
                taken.update(each.id for each in members)
        except DamagedError:
            continue
    for each in good:
        if each.id not in taken:
            moments = MOMENTS[str(each.manifest.values["engine"])]
            position = moments.set_position(each.manifest.values)
            moment = _moment(each)
            found.append(Range("", moment, moment, moments.kind, position, position, [each.id], True))
    return sorted(found, key=lambda each: each.end, reverse=True)


def _usable(found: FullSet) -> bool:
    """Return whether a manifest says what a range is made of; one that does not was mangled, as a verification tells."""
    try:
        _moment(found)
    except InputError:
        return False
    return str(found.manifest.values["engine"]) in MOMENTS


def _members(good: Sequence[FullSet], lineage: str) -> list[FullSet]:
    """Return the sets that the lineage's logs can follow, oldest first."""
    return [
        each
        for each in reversed(good)
        if each.manifest.values["lineage"] == lineage and each.manifest.values["point_in_time_recovery"]
    ]


def _moment(found: FullSet) -> datetime:
    return set_moment(found.manifest.values)


def _range(lineage: Lineage, members: Sequence[FullSet]) -> Range:
    oldest, newest = members[0], members[-1]
    moments = MOMENTS[str(oldest.manifest.values["engine"])]
    head = lineage.head()
    position = moments.log_position(head) if head else moments.set_position(newest.manifest.values)
    return Range(
        lineage.id,
        _moment(oldest),
        _reached(lineage, head, moments, newest),
        moments.kind,
        moments.set_position(oldest.manifest.values),
        position,
        [each.id for each in members],
        not lineage.broken,
    )


def _reached(lineage: Lineage, head: Optional[LogRecord], moments: type[Moments], newest: FullSet) -> datetime:
    """Return the newest moment that a lineage proves: what the last cycle saw, or what its head says by itself."""
    said = lineage.state().get("recoverable_to")
    found = [_moment(newest)]
    if said:
        found.append(parse_moment(str(said)))
    if head is not None:
        found.append(moments.reached(head) or _NEVER)
    return max(found)


def find_source(
    repository: Repository,
    instance: Instance,
    protection: Protection,
    target: Target,
    set_name: str = "",
    lineage: str = "",
) -> Found:
    """Return the set and the logs that bring it to the target; only what is committed in the repository is read.

    :param set_name: the full set to begin with; by default the newest that leads to the target.
    :param lineage: which history is meant, where two hold the moment.
    :raises InputError: if there is no such set, or the moment lies in no range; the ranges are in the message.
    :raises ContinuityError: if the chain does not hold.
    """
    folder = repository.instance(instance.name)
    names = folder.set_names()
    if not names:
        raise InputError(
            f"There is no full backup of {instance.name} to test.", "Run the playbook full_backup.", {"code": "no-set"}
        )
    if target.in_the_logs:
        return _Search(folder, protection, target).find(set_name, lineage)
    name = set_name or (target.value if target.kind == "set" else "") or names[-1]
    chosen = folder.read_set(name)
    values = chosen.manifest.values
    scratch_for(values)
    history = None
    if target.kind != "set" and values["point_in_time_recovery"]:
        history = Lineage(folder.logs / str(values["lineage"]))
    if history is None:
        chain = Chain("", {}, folder.logs, protection, [values], (), _moment(chosen))
        return _found(folder, chain, [chosen], None, target)
    moments = MOMENTS[str(values["engine"])]
    to = _reached(history, history.head(), moments, chosen)
    chain = Chain(history.id, history.opening, history.path, protection, [values], list(history.records()), to)
    return _found(folder, chain, [chosen], history, target)


def _found(
    folder: InstanceFolder, chain: Chain, sets: Sequence[FullSet], lineage: Optional[Lineage], target: Target
) -> Found:
    """Resolve the target in a chain and return what brings it up."""
    moments = MOMENTS[str(chain.sets[0]["engine"])]
    resolved = moments.resolve(chain, target)
    chosen = next(each for each in sets if each.id == resolved.set_name)
    values = chosen.manifest.values
    source = Source(
        chosen.path,
        values,
        chain.protection,
        resolved.logs,
        chain.folder,
        resolved.stop,
        _histories(folder),
    )
    records = frozenset(each.sha256 for each in chain.records)
    moment = chain.to if resolved.logs else _moment(chosen)
    return Found(chosen, source, scratch_for(values), lineage, moment, resolved, records)


def _histories(folder: InstanceFolder) -> Sequence[Mapping[str, Any]]:
    readable, _damaged = folder.readable_lineages()
    return [lineage.start for lineage in readable]


class _Search:
    """Looks for a moment in every lineage of an instance."""

    def __init__(self, folder: InstanceFolder, protection: Protection, target: Target) -> None:
        self._folder = folder
        self._protection = protection
        self._target = target
        self._good, self._damaged = folder.readable_sets()
        self._ranges = ranges(folder)

    def find(self, set_name: str, lineage: str) -> Found:
        """Return the set and logs for the target.

        :raises InputError: if no lineage holds it, or more than one and none was named.
        """
        target = self._target
        if not self._good:
            raise self._damaged[0]
        engine = str(self._good[0].manifest.values["engine"])
        target.check_engine(self._folder.name, engine)
        if set_name:
            lineage = str(self._folder.read_set(set_name).manifest.values["lineage"])
        held = [each for each in self._ranges if each.lineage and lineage in ("", each.lineage)]
        if lineage and not held:
            known = ", ".join(each.lineage for each in self._ranges if each.lineage) or "none"
            raise InputError(f"{self._folder.name} has no lineage {lineage!r} with sets.", f"There are: {known}.")
        if target.kind == "time":
            held = [each for each in held if each.begin <= target.moment <= each.end]
        candidates: list[Found] = []
        refused: Optional[NotInChain] = None
        for each in held:
            try:
                found = self._in(each, set_name)
            except NotInChain as error:
                refused = refused or error
                continue
            if found is not None:
                candidates.append(found)
        if not candidates:
            raise self._outside(refused)
        if len(candidates) > 1:
            raise self._ambiguous(candidates)
        return candidates[0]

    def _in(self, held: Range, set_name: str) -> Optional[Found]:
        """Resolve the target in one lineage; None where the lineage does not hold it."""
        lineage = Lineage(self._folder.logs / held.lineage)
        members = [each for each in _members(self._good, held.lineage) if set_name in ("", each.id)]
        records, damage = _readable(lineage)
        values = [each.manifest.values for each in members]
        moments = MOMENTS[str(values[0]["engine"])]
        chain = Chain(lineage.id, lineage.opening, lineage.path, self._protection, values, records, held.end)
        if damage is not None:
            # What comes before the damage is as good as it was; where it ends is known by its last record alone.
            reached = moments.reached(records[-1]) if records else None
            if self._target.kind == "time" and (reached is None or self._target.moment > reached):
                raise damage
        if self._target.kind != "time" and not moments.holds(chain, self._target.value):
            if damage is not None:
                raise damage
            return None
        return _found(self._folder, chain, members, lineage, self._target)

    def _outside(self, refused: Optional[NotInChain]) -> InputError:
        known = "; ".join(each.describe(self._target.zone) for each in self._ranges) or "nothing"
        why = f" {refused.message}" if refused else ""
        remedy = "Name a moment in one of these ranges, or the target latest or set."
        if str(self._good[0].manifest.values["method"]) == "logical":
            known += (
                ". No log follows sets of the method logical: of each, the moment of the dump alone can be brought back, and none"
                " between two of them"
            )
            remedy = (
                "Name the target latest, or the target set with the set that is meant (in a playbook -e dbc_set=SET)."
            )
        elif self._target.kind == "time" and all(each.end < self._target.moment for each in self._ranges):
            remedy += " What production has logged since comes with the next log cycle: the playbook ship_logs fetches it now."
        return InputError(
            f"{self._folder.name} cannot be brought to the {self._target.describe()}.{why} It can be brought back to: {known}.",
            remedy,
            {"code": "out-of-range", "ranges": [each.to_json() for each in self._ranges]},
        )

    def _ambiguous(self, candidates: Sequence[Found]) -> InputError:
        choices = [each.resolved for each in candidates]
        shown = "; ".join(
            f"lineage {each.lineage}: {each.kind} {each.position} of {iso(each.before.moment)}" for each in choices
        )
        return InputError(
            f"The {self._target.describe()} lies in more than one history of {self._folder.name}: {shown}.",
            "Name the one that is meant: lineage (in a playbook -e dbc_lineage=LINEAGE).",
            {"code": "ambiguous", "choices": [each.to_json() for each in choices]},
        )


def _readable(lineage: Lineage) -> tuple[list[LogRecord], Optional[DamagedError]]:
    """Return the records up to the first that does not hold, and what is wrong with that one."""
    found: list[LogRecord] = []
    try:
        for record in lineage.records():
            found.append(record)
    except DamagedError as error:
        return found, error
    return found, None
