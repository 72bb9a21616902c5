# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding a moment in MariaDB's binary logs.

A log's records say when it was closed: what a log closed at or before the moment holds was committed by then, so one
log is read, not all. In it the copy stops before the first transaction with a later time: a statement that began
earlier and was logged later, or a clock set back, then lies behind the stop, and a note says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, ClassVar, Optional, cast

from ...clock import parse_moment
from ...lineage import LogRecord
from ...process import Pipeline
from ..targets import Chain, Moments, Neighbour, NotInChain, Resolved, Target, check_read, set_moment
from .binlog import BinlogReader, Group, moment
from .binlog_server import split_name
from .gtid import Gtid, GtidState
from .scratch import MariaDBScratch


@dataclass
class _Place:
    """A place in the chain: behind *offset* in the log number *index*; offset 0 is the end of the log before.

    :param state: the GTID state there, None where the log before says it.
    :param before: the last transaction before it in this log; *after*: the first one behind it, and its log.
    """

    index: int
    offset: int = 0
    state: Optional[GtidState] = None
    transactions: int = 0
    before: Optional[Group] = None
    after: Optional[Group] = None
    after_index: int = 0
    notes: list[str] = field(default_factory=list)


class BinlogMoments(Moments):
    """Moments of one MariaDB server's binary logs."""

    kind: ClassVar[str] = "gtid"

    @staticmethod
    def set_position(manifest: Mapping[str, Any]) -> str:
        return str((manifest["position"].get("start") or {}).get("gtid") or "")

    @staticmethod
    def log_position(record: LogRecord) -> str:
        return str(record.end["gtid"])

    @staticmethod
    def reached(record: LogRecord) -> Optional[datetime]:
        closed = record.end.get("closed_at") or record.values.get("last_event_at")
        return parse_moment(str(closed)) if closed else None

    @staticmethod
    def holds(chain: Chain, position: str) -> bool:
        wanted = GtidState([Gtid.parse(position)])
        if [Gtid.parse(position)] == _gtids(BinlogMoments.set_position(chain.sets[0])):
            return True
        if not chain.records:
            return False
        first, last = chain.records[0].values["start"], chain.records[-1].end
        begins = GtidState.parse(str(first["gtid_state"]))
        return GtidState.parse(str(last["gtid_state"])).covers(wanted) and not begins.covers(wanted)

    @staticmethod
    def resolve(chain: Chain, target: Target) -> Resolved:
        if not target.in_the_logs:
            return _whole(chain, target)
        place = _time_place(chain, target.moment) if target.kind == "time" else _gtid_place(chain, target.value)
        _look_ahead(chain, place)
        return _resolved(chain, target, place)


def _gtids(text: str) -> list[Gtid]:
    return [Gtid.parse(part) for part in text.split(",") if part.strip()]


def _whole(chain: Chain, target: Target) -> Resolved:
    """Return the set alone, or with every log that follows it."""
    values = chain.sets[-1]
    logs = MariaDBScratch.logs_of(values, chain.records) if target.kind == "latest" else []
    before = _end_of_set(values)
    moment_there = max(chain.to, before.moment) if logs else before.moment
    for record in reversed(logs):
        if record.values.get("last_event_at"):
            before = Neighbour(parse_moment(str(record.values["last_event_at"])), str(record.end["gtid"]))
            break
    return Resolved(
        target,
        "gtid",
        before.position,
        moment_there,
        before,
        None,
        str(values["set"]),
        chain.lineage,
        logs,
    )


# -- where it lies --


def _time_place(chain: Chain, wanted: datetime) -> _Place:
    second = int(wanted.timestamp())
    for index, record in enumerate(chain.records):
        closed = _closed(chain.records, index)
        if closed is None or int(closed.timestamp()) > second:
            return _scan_for_time(chain, index, record, second)
    return _Place(len(chain.records))


def _closed(records: Sequence[LogRecord], index: int) -> Optional[datetime]:
    """Return a moment by which all of a log was committed; None where nothing says it."""
    said = records[index].end.get("closed_at")
    if not said and index + 1 < len(records):
        said = records[index + 1].values["start"]["created_at"]  # a crash closed it: the server came up again later
    return parse_moment(str(said)) if said else None


def _scan_for_time(chain: Chain, index: int, record: LogRecord, second: int) -> _Place:
    place = _Place(index)
    same = late = 0
    for group, reader in _groups(chain, record):
        if place.after is None and group.timestamp <= second:
            _passed(place, group, reader)
            same += group.timestamp == second
        elif place.after is None:
            place.after, place.after_index = group, index
        elif group.timestamp <= second:
            late += 1
    if same > 1:
        place.notes.append(
            f"{same} transactions were logged in that very second; all of them are in. Name a GTID to stop between them."
        )
    late += sum(1 for each in chain.records[index + 1 :] if _earlier(each, second))
    if late:
        place.notes.append(
            f"Behind the place the log has transactions ({late} or more) whose time is at or before the moment: statements"
            " that ran long, a clock set back, or SET TIMESTAMP. They are not in; name a GTID to have them."
        )
    return place


def _earlier(record: LogRecord, second: int) -> bool:
    said = record.values.get("last_event_at")
    return bool(said) and int(parse_moment(str(said)).timestamp()) <= second


def _gtid_place(chain: Chain, position: str) -> _Place:
    gtid = Gtid.parse(position)
    wanted = GtidState([gtid])
    for index, record in enumerate(chain.records):
        if not GtidState.parse(str(record.end["gtid_state"])).covers(wanted):
            continue
        place = _Place(index)
        found = False
        for group, reader in _groups(chain, record):
            if not found:
                _passed(place, group, reader)
                found = group.gtid == gtid
            elif place.after is None:
                place.after, place.after_index = group, index
        if found:
            return place
        break
    if [gtid] == _gtids(BinlogMoments.set_position(chain.sets[0])):
        return _Place(0)  # the oldest set ends with it, and the logs begin behind it
    raise NotInChain(f"No log of the lineage {chain.lineage} holds the transaction {position}.")


def _passed(place: _Place, group: Group, reader: BinlogReader) -> None:
    place.before, place.offset = group, group.end
    place.state = reader.summary.end.copy()
    place.transactions += 1


def _look_ahead(chain: Chain, place: _Place) -> None:
    """Find the first transaction behind the place in a later log, where its own log has none."""
    if place.after is not None:
        return
    begin = place.index + 1 if place.offset else place.index
    for index in range(begin, len(chain.records)):
        if not chain.records[index].values.get("transactions"):
            continue
        with closing(_groups(chain, chain.records[index])) as groups:
            for group, _reader in groups:
                place.after, place.after_index = group, index
                return


def _groups(chain: Chain, record: LogRecord) -> Generator[tuple[Group, BinlogReader], None, None]:
    """Give a log's transactions, and the reader, whose summary is as of that transaction's end.

    :raises DamagedError: if the log, read to its end, is not the one that was archived.
    """
    with Pipeline(chain.log_stages(record)) as pipeline:
        reader = BinlogReader(cast(BinaryIO, pipeline.output))
        for group in reader.groups():
            yield group, reader
        ended = pipeline.wait()
    check_read(record, ended, reader.summary.sha256)


# -- what leads there --


def _resolved(chain: Chain, target: Target, place: _Place) -> Resolved:
    values = _fitting(chain, target, place)
    start = values["position"]["start"]
    number, offset = split_name(str(start["file"]))[1], int(start["offset"])
    logs = list(MariaDBScratch.logs_of(values, chain.records[: place.index + 1 if place.offset else place.index]))
    stop: dict[str, Any] = {}
    if logs and place.offset and place.state is not None and logs[-1] is chain.records[place.index]:
        if split_name(logs[-1].name)[1] == number and place.offset <= offset:
            logs = []  # all of it is in the set
        else:
            stop = {
                "log": logs[-1].name,
                "offset": place.offset,
                "gtid": place.state.position,
                "transactions": place.transactions,
            }
    before = _before(chain, values, place)
    after = Neighbour(moment(place.after.timestamp), str(place.after.gtid)) if place.after else None
    asked = target.moment if target.kind == "time" else before.moment
    return Resolved(
        target,
        "gtid",
        before.position,
        asked,
        before,
        after,
        str(values["set"]),
        chain.lineage,
        logs,
        stop,
        place.notes,
    )


def _fitting(chain: Chain, target: Target, place: _Place) -> Mapping[str, Any]:
    """Return the newest set that holds nothing behind the place."""
    end: Optional[tuple[int, int]] = None
    if place.after is not None:
        end = (split_name(chain.records[place.after_index].name)[1], place.after.offset)
    for values in reversed(chain.sets):
        start = values["position"]["start"]
        if target.kind == "time" and parse_moment(str(values["finished_at"])) > target.moment:
            continue
        if end is None or (split_name(str(start["file"]))[1], int(start["offset"])) <= end:
            return dict(values)
    raise NotInChain(
        f"The oldest full set that could be begun with, {chain.sets[0]['set']}, holds transactions behind that moment already."
    )


def _before(chain: Chain, values: Mapping[str, Any], place: _Place) -> Neighbour:
    """Return the last transaction that will be there."""
    newest = split_name(chain.records[-1].name)[1] if chain.records else -1
    if split_name(str(values["position"]["start"]["file"]))[1] > newest:
        return _end_of_set(values)  # the set was made behind the last log: what it ends with, no log says yet
    if place.before is not None:
        return Neighbour(moment(place.before.timestamp), str(place.before.gtid))
    for record in reversed(chain.records[: place.index]):
        if not record.values.get("transactions"):
            continue
        gtids = _gtids(str(record.end["gtid"]))
        if len(gtids) == 1:
            return Neighbour(parse_moment(str(record.values["last_event_at"])), str(gtids[0]))
        last: deque[Group] = deque((group for group, _reader in _groups(chain, record)), maxlen=1)
        if last:
            return Neighbour(moment(last[0].timestamp), str(last[0].gtid))
    return _end_of_set(values)


def _end_of_set(values: Mapping[str, Any]) -> Neighbour:
    return Neighbour(set_moment(values), BinlogMoments.set_position(values))
