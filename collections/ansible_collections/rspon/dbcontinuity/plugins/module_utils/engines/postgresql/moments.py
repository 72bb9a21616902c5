# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding a moment in PostgreSQL's write-ahead log.

The place is a commit record: the recovery ends right after it (``recovery_target_lsn`` is the address where it
begins). ``recovery_target_time`` is never used: behind the last commit it ends in FATAL with nothing missing. Records of
aborted transactions, and those that only prepare one, are no commits; what a prepared one commits with is.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, BinaryIO, ClassVar, Optional, cast

from ...clock import parse_moment
from ...errors import ContinuityError, DamagedError
from ...lineage import LogRecord
from ...process import Pipeline
from ..targets import FROM_COPY, Chain, Moments, Neighbour, NotInChain, Resolved, Target, check_read, set_moment
from .scratch import PostgreSQLScratch
from .wal import format_lsn, parse_lsn
from .wal_stream import Commit, WalError, WalReader

# A commit takes its time before its place in the log: so much later it has surely got one.
_SLACK = timedelta(seconds=10)
_BLOCK_BYTES = 1024 * 1024


@dataclass
class _Place:
    """A place in the chain.

    :param before: the last commit before it, None where the chain has none; *log*: the number of the log it ends in.
    :param after: the first one behind it.
    """

    before: Optional[Commit] = None
    log: int = 0
    after: Optional[Commit] = None
    notes: list[str] = field(default_factory=list)


class WalMoments(Moments):
    """Moments of one PostgreSQL server's log."""

    kind: ClassVar[str] = "lsn"

    @staticmethod
    def set_position(manifest: Mapping[str, Any]) -> str:
        return str((manifest["position"].get("end") or {}).get("lsn") or "")

    @staticmethod
    def log_position(record: LogRecord) -> str:
        return str(record.end["lsn"])

    @staticmethod
    def reached(record: LogRecord) -> Optional[datetime]:
        said = record.end.get("recoverable_to")
        return parse_moment(str(said)) if said else None

    @staticmethod
    def holds(chain: Chain, position: str) -> bool:
        first = parse_lsn(WalMoments.set_position(chain.sets[0]))
        last = parse_lsn(str(chain.records[-1].end["lsn"])) if chain.records else first
        return first <= parse_lsn(position) <= max(first, last)

    @staticmethod
    def resolve(chain: Chain, target: Target) -> Resolved:
        if not target.in_the_logs:
            return _whole(chain, target)
        by_time = target.kind == "time"
        place = _time_place(chain, target.moment) if by_time else _lsn_place(chain, parse_lsn(target.value))
        return _resolved(chain, target, place)


def _whole(chain: Chain, target: Target) -> Resolved:
    """Return the set alone, or with every log that follows it."""
    values = chain.sets[-1]
    logs: Sequence[LogRecord] = []
    if target.kind == "latest":
        logs = PostgreSQLScratch.logs_of(values, chain.records)
    if logs and _runs_on(chain, logs[-1]):
        return _resolved(chain, target, _last_commit(chain, len(chain.records)))
    before = _end_of_set(values)
    for record in reversed(logs):
        if record.values.get("last_event_at"):
            before = Neighbour(parse_moment(str(record.values["last_event_at"])), str(logs[-1].end["lsn"]))
            break
    moment = max(chain.to, before.moment) if logs else before.moment
    return Resolved(target, "lsn", before.position, moment, before, None, str(values["set"]), chain.lineage, logs)


def _runs_on(chain: Chain, record: LogRecord) -> bool:
    """Return whether a log was filled, not switched: its last record then ends in a log that is not there yet."""
    reader = WalReader()
    try:
        for _commit in _read(chain, record, reader):
            pass
    except ContinuityError:
        return False  # whoever brings the copy up reads every stored byte first, and names what is wrong
    return reader.inside_a_record


def _end_of_set(values: Mapping[str, Any]) -> Neighbour:
    return Neighbour(set_moment(values), WalMoments.set_position(values))


# -- where it lies --


def _time_place(chain: Chain, wanted: datetime) -> _Place:
    begin = next((index for index, each in enumerate(chain.records) if _last(each, wanted - _SLACK)), None)
    if begin is None:
        return _last_commit(chain, len(chain.records))
    place = _Place()
    late = 0
    reading = begin
    with closing(_commits(chain, begin)) as commits:
        for index, commit in commits:
            if place.after is not None and index > reading:
                break
            reading = index
            if place.after is None and commit.moment <= wanted:
                place.before, place.log = commit, index
            elif place.after is None:
                place.after = commit
            elif commit.moment <= wanted:
                late += 1
    late += sum(
        1 for each in chain.records[reading + 1 :] if each.values.get("first_event_at") and _early(each, wanted)
    )
    if late:
        place.notes.append(
            f"Behind the place the log has transactions ({late} or more) whose time is at or before the moment: the"
            " server's clock was set back, or they were committed side by side. They are not in; name an LSN to have them."
        )
    return place if place.before is not None else _with_before(place, _last_commit(chain, begin))


def _last(record: LogRecord, moment: datetime) -> bool:
    said = record.values.get("last_event_at")
    return bool(said) and parse_moment(str(said)) > moment


def _early(record: LogRecord, moment: datetime) -> bool:
    return parse_moment(str(record.values["first_event_at"])) <= moment


def _with_before(place: _Place, earlier: _Place) -> _Place:
    place.before, place.log = earlier.before, earlier.log
    return place


def _lsn_place(chain: Chain, wanted: int) -> _Place:
    place = _Place()
    begin = next(
        (index for index, each in enumerate(chain.records) if parse_lsn(str(each.end["lsn"])) >= wanted),
        len(chain.records),
    )
    with closing(_commits(chain, begin)) as commits:
        for index, commit in commits:
            if commit.end > wanted:
                place.after = commit
                break
            place.before, place.log = commit, index
    return place if place.before is not None else _with_before(place, _last_commit(chain, begin))


def _last_commit(chain: Chain, end: int) -> _Place:
    """Return the last commit that ends before the log number *end*."""
    place = _Place()
    for index in range(end - 1, -1, -1):
        if not chain.records[index].values.get("transactions"):
            continue
        for _index, commit in _commits(chain, index, index + 1):
            place.before, place.log = commit, index
        if place.before is not None:
            break
    return place


def _commits(chain: Chain, begin: int, end: Optional[int] = None) -> Generator[tuple[int, Commit], None, None]:
    """Give the commits that end in the logs from number *begin* on, each with its log's number.

    :raises ContinuityError: naming the log that cannot be read.
    """
    reader = WalReader()
    read: Optional[int] = None
    for index in range(begin, len(chain.records) if end is None else end):
        if not chain.records[index].values.get("transactions"):
            continue
        if read != index - 1:
            reader = WalReader()
            if index:  # a commit may begin in the segment before
                for _commit in _read(chain, chain.records[index - 1], reader):
                    pass
        for commit in _read(chain, chain.records[index], reader):
            yield index, commit
        read = index


def _read(chain: Chain, record: LogRecord, reader: WalReader) -> Generator[Commit, None, None]:
    damage = ""
    with Pipeline(chain.log_stages(record)) as pipeline:
        try:
            yield from reader.commits(cast(BinaryIO, pipeline.output), parse_lsn(str(record.values["start"]["lsn"])))
        except WalError as error:
            damage = str(error)
            while pipeline.output.read(_BLOCK_BYTES):
                pass  # why it came so may be a stage's own failure
        ended = pipeline.wait()
    if damage and all(stage.ok for stage in ended):
        raise DamagedError(f"The log {record.name} is damaged: {damage}.", FROM_COPY, {"file": record.name})
    check_read(record, ended, reader.sha256)


# -- what leads there --


def _resolved(chain: Chain, target: Target, place: _Place) -> Resolved:
    values = _fitting(chain, target, place)
    consistent = parse_lsn(WalMoments.set_position(values))
    logs: Sequence[LogRecord] = []
    stop: dict[str, Any] = {}
    if place.before is not None and place.before.start >= consistent:
        logs = PostgreSQLScratch.logs_of(values, chain.records[: place.log + 1])
        stop = {"log": logs[-1].name, "record": format_lsn(place.before.start), "lsn": place.before.position}
    before = _end_of_set(values)
    # What a set ends with that was made behind the last log, no log says yet.
    if place.before is not None and parse_lsn(str(chain.records[-1].end["lsn"])) >= consistent:
        before = Neighbour(place.before.moment, place.before.position)
    after = Neighbour(place.after.moment, place.after.position) if place.after else None
    moment = target.moment if target.kind == "time" else before.moment
    return Resolved(
        target,
        "lsn",
        before.position,
        moment,
        before,
        after,
        str(values["set"]),
        chain.lineage,
        logs,
        stop,
        place.notes,
    )


def _fitting(chain: Chain, target: Target, place: _Place) -> Mapping[str, Any]:
    """Return the newest set that is consistent before the first commit that must not be there."""
    for values in reversed(chain.sets):
        if target.kind == "time" and parse_moment(str(values["finished_at"])) > target.moment:
            continue
        if place.after is None or parse_lsn(WalMoments.set_position(values)) <= place.after.start:
            return dict(values)
    raise NotInChain(
        f"The oldest full set that could be begun with, {chain.sets[0]['set']}, holds transactions behind that moment already."
    )
