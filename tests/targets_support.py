# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of recovery to a moment share: what production held after each step, and copies brought to a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.recoverable import Found, find_source
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from tests.restore_support import said, tried
from tests.support import Place


@dataclass(frozen=True)
class Step:
    """What production held right after a transaction.

    :param position: its GTID, or the end of the log after it.
    :param at: its time as the server's log says.
    """

    name: str
    position: str
    at: datetime
    holds: str


@dataclass
class History:
    """Steps by name, in the order they were made."""

    steps: dict[str, Step] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        assert step.name not in self.steps
        self.steps[step.name] = step

    def __getitem__(self, name: str) -> Step:
        return self.steps[name]

    def after(self, name: str) -> Step:
        """Return the step that follows."""
        names = list(self.steps)
        return self.steps[names[names.index(name) + 1]]


@dataclass(frozen=True)
class Town:
    """A place with one instance, its history, and where copies are brought up."""

    place: Place
    instance: Instance
    scratch: Path
    history: History

    def find(self, kind: str, value: str, **more: str) -> Found:
        """Resolve a target, without bringing anything up."""
        repository = Repository.open(self.place.repository)
        return find_source(repository, self.instance, self.place.protection, Target.parse(kind, value), **more)

    def bring(self, target: Target, look: Callable[[ScratchServer], Any], **more: Any) -> tuple[Any, dict[str, Any]]:
        """Bring a copy to a target; what *look* returned of it, and the evidence."""
        seen: list[Any] = []
        answer = tried(
            self.place,
            self.scratch,
            self.instance,
            target=target,
            before_destroy=lambda _name, server: seen.append(look(server)),
            **more,
        )
        name = self.instance.name
        assert answer["failed"] == [], said(answer, name)
        evidence: dict[str, Any] = answer["instances"][name]
        return seen[0], evidence


# What MariaDB's log then says of all that follows in the session: however slowly that comes, one second, and this one.
IN_ONE_SECOND = "SET TIMESTAMP=UNIX_TIMESTAMP()"


def written(moment: datetime) -> str:
    """Return a moment as a person writes it, in the zone of the hospital."""
    return moment.astimezone(timezone(timedelta(hours=7))).isoformat()
