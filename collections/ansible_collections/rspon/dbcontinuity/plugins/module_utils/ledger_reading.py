# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading as much of the ledger as is asked for, also where it does not hold everywhere.

Who tells people what was done must tell them most of all when something is wrong: a line that does not hold is named and
passed over here. Whether the chain holds is what ``Ledger.verify`` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from .ledger import Ledger
from .ledger_lines import begins, line_problem, lines_forward, lines_of_backwards, shaped

# Records are written with sorted keys, so that a line says what it is about in its first bytes.
_HEADING = re.compile(
    rb'\{"activity":"([^"\\]*)","actor":\{(?:"(?:[^"\\]|\\.)*"|[:,])*\},"at":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})[.0-9]*Z"'
)
# The clock of the host that writes may have been set back a little between two records.
_SLACK = timedelta(hours=1)


@dataclass
class Reading:
    """What was read.

    :ivar records: those that hold by themselves, in the ledger's order.
    :ivar damaged: the lines that do not, with their place and what is wrong.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def read_since(ledger: Ledger, since: datetime) -> Reading:
    """Return what the ledger has of *since* and later; whole months before it are not opened.

    A damaged line that no longer says when it was written is told of with the months that are read.
    """
    found = Reading()
    first = since.astimezone(timezone.utc).strftime("%Y-%m")
    begin = _written(since)
    for path, size in ledger.snapshot():
        if path.stem < first:
            continue
        for number, line in lines_forward(path, size):
            said = heading(line)
            if said is not None and said[1] < begin:
                continue
            problem = line_problem(line)
            record = None if problem else shaped(line)
            if record is not None:
                found.records.append(record)
            else:
                found.damaged.append(f"{path.name}:{number}: {problem or 'the line is no ledger record'}")
    return found


def newest_first(
    ledger: Ledger, activities: Sequence[str], wanted: Callable[[datetime, bytes], Optional[bool]]
) -> Iterator[dict[str, Any]]:
    """Give records of these activities that hold by themselves, the newest one first.

    :param wanted: called with each line's moment and the line: true for a record to be given, false for one to be passed over
        unparsed, None where nothing older is wanted, which ends the reading.
    """
    begin_with = [begins(activity) for activity in activities]
    for path, size in reversed(ledger.snapshot()):
        for line in lines_of_backwards(path, size, begin_with):
            said = heading(line)
            if said is None:
                continue  # no record's beginning: whoever verifies the ledger names the line
            answer = wanted(datetime.fromisoformat(said[1]).replace(tzinfo=timezone.utc), line)
            if answer is None:
                return
            record = shaped(line) if answer and not line_problem(line) else None
            if record is not None:
                yield record


def heading(line: bytes) -> Optional[tuple[str, str]]:
    """Return a line's activity and moment to the second, as the line itself says them; None where it does not."""
    match = _HEADING.match(line)
    return (match.group(1).decode("utf-8", "replace"), match.group(2).decode()) if match else None


def _written(moment: datetime) -> str:
    return (moment.astimezone(timezone.utc) - _SLACK).strftime("%Y-%m-%dT%H:%M:%S")
