# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding a moment among the states of folders: each full set and each archive of changes is one.

A state counts from when it was finished: a file that was read after the moment may be newer than the moment. So the
newest state that was finished by then is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Optional

from ...clock import parse_moment
from ...lineage import LogRecord
from ..targets import Chain, Moments, Neighbour, NotInChain, Resolved, Target
from .scratch import FilesScratch


class FilesMoments(Moments):
    """States of one instance's folders."""

    kind: ClassVar[str] = "archive"

    @staticmethod
    def set_position(manifest: Mapping[str, Any]) -> str:
        return str(manifest["set"])

    @staticmethod
    def log_position(record: LogRecord) -> str:
        return record.name

    @staticmethod
    def reached(record: LogRecord) -> Optional[datetime]:
        return _finished(record)

    @staticmethod
    def holds(chain: Chain, position: str) -> bool:
        return False

    @staticmethod
    def resolve(chain: Chain, target: Target) -> Resolved:
        sets = [each for each in chain.sets if target.kind != "time" or _made(each) <= target.moment]
        if not sets:
            raise NotInChain(f"Its oldest full set was finished at {chain.sets[0]['finished_at']}.")
        values = sets[-1]
        follow = FilesScratch.logs_of(values, chain.records) if target.kind != "set" else []
        logs = [each for each in follow if target.kind != "time" or _finished(each) <= target.moment]
        before = Neighbour(_made(values), str(values["set"]))
        if logs:
            before = Neighbour(_finished(logs[-1]), logs[-1].name)
        after = None
        if target.kind == "time" and len(logs) < len(follow):
            after = Neighbour(_finished(follow[len(logs)]), follow[len(logs)].name)
        asked = target.moment if target.kind == "time" else before.moment
        return Resolved(
            target, "archive", before.position, asked, before, after, str(values["set"]), chain.lineage, logs
        )


def _made(manifest: Mapping[str, Any]) -> datetime:
    return parse_moment(str(manifest["finished_at"]))


def _finished(record: LogRecord) -> datetime:
    """Return when the last file of a state had surely been read."""
    return parse_moment(str(record.values.get("archived_at") or record.end["observed_at"]))
