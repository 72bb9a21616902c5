# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial restore (R2): parts of a running copy go back onto production, beside the originals or in their place.

The caller brings the copy up, holds the instance's lock and has the recorded instruction; this neither asks for one nor
writes the ledger.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..channel import Channel
from ..durable import make_directory
from ..engines.partial import NOTHING, Item, Journal, Order, PartialRestore
from ..engines.partial_registry import partial_for
from ..errors import InputError
from ..instance import Instance
from ..progress import Progress
from ..scope import FULL

JOURNAL = "partial-restore.json"


@dataclass(frozen=True)
class PartialRequest:
    """What is asked.

    :param state: a folder of this instance's on the backup host for the journal of a swap; made if it is not there.
    :param check_only: plan, and change nothing.
    """

    instance: Instance
    channel: Channel
    order: Order
    state: Path
    check_only: bool = False

    def __post_init__(self) -> None:
        if any(scope.kind == FULL for scope in self.order.scopes):
            raise InputError("A partial restore of everything was asked for.", "Make a full restore.")

    @property
    def journal(self) -> Path:
        """Return where the steps of a swap are written down."""
        return self.state / f"{self.instance.name}-{JOURNAL}"


def plan_partial(request: PartialRequest, server: Any) -> dict[str, Any]:
    """Return what would be restored, with the differences; production is not written to.

    :param server: the running copy at its moment.
    :raises ContinuityError: if it cannot be done so.
    """
    with tempfile.TemporaryDirectory(prefix="dbcontinuity-") as folder:
        return _answer(request, _part(request, server, Path(folder)).plan(), done=False)


def restore_partial(request: PartialRequest, server: Any, progress: Progress) -> dict[str, Any]:
    """Restore parts, whole or not at all; an interrupted swap of an earlier run is undone first.

    :param server: the running copy at its moment.
    :raises ContinuityError: production is as it was, or the message says exactly what is where.
    """
    if request.check_only:
        return plan_partial(request, server)
    with tempfile.TemporaryDirectory(prefix="dbcontinuity-") as folder:
        part = _part(request, server, Path(folder))
        undone = undo_partial(request)
        progress.phase(f"{request.instance.name} comparing")
        items = part.plan()
        progress.phase(f"{request.instance.name} restoring", sum(item.bytes for item in items))
        make_directory(request.state, 0o700)
        done = part.carry_out(items, Journal(request.journal), progress.advance)
        return {**_answer(request, done, done=True), "undone": dict(undone)}


def undo_partial(request: PartialRequest) -> Mapping[str, Any]:
    """Undo what an interrupted swap left; needs no copy, and does nothing where there is nothing.

    :raises ContinuityError: if production does not answer, or refuses.
    """
    journal = Journal(request.journal)
    if not journal.values:
        return {}
    with tempfile.TemporaryDirectory(prefix="dbcontinuity-") as folder:
        return _part(request, None, Path(folder)).undo(journal)


def _part(request: PartialRequest, server: Any, workdir: Path) -> PartialRestore:
    return partial_for(request.instance.engine)(server, request.channel, request.instance, request.order, workdir)


def _answer(request: PartialRequest, items: list[Item], *, done: bool) -> dict[str, Any]:
    acting = [item for item in items if item.action != NOTHING]
    return {
        "changed": bool(acting),
        "done": done,
        "run": request.order.run,
        "mode": request.order.mode,
        "scopes": [str(scope) for scope in request.order.scopes],
        "items": [item.to_json() for item in items],
        "places": sorted({item.place for item in items if item.place}),
        "kept": sorted({item.kept for item in items if item.kept}),
        "rows": sum(item.rows for item in acting),
        "bytes": sum(item.bytes for item in acting),
        "orphans": [orphan for item in items for orphan in item.orphans],
    }
