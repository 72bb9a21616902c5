# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One partial restore: the moment is brought up here, and parts of it go from the running copy onto production."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ..clock import iso, utc_now
from ..engines.partial import Order
from ..engines.scratch import ScratchServer
from ..repository import InstanceFolder
from ..restore_evidence import Expectations
from ..restore_plan import RestorePlan
from ..restore_run import Steps, brought_up, look_at
from ..scratch import Claim
from ..throwaway import Owner
from .restore_partial import PartialRequest, plan_partial, restore_partial


@dataclass
class PartRun:
    """A partial restore under way; :attr:`evidence` is what the ledger keeps.

    :param order: what is to be done with which parts.
    :ivar touched: whether production may be another than before although this failed.
    """

    plan: RestorePlan
    folder: InstanceFolder
    order: Order
    steps: Steps
    expectations: Expectations = field(default_factory=Expectations)
    timeout: float = 24 * 3600.0
    deep: bool = False
    before_ship: Optional[Callable[[ScratchServer], None]] = None
    evidence: dict[str, Any] = field(default_factory=dict)
    touched: bool = False

    @property
    def _request(self) -> PartialRequest:
        return PartialRequest(self.plan.full.instance, self.plan.channel, self.order, self.folder.path / "restore")

    def carry_out(self, claim: Claim, owner: Owner) -> None:
        """Do it all.

        :raises ContinuityError: production is as it was, or the message says what is where.
        """
        plan = self.plan
        with brought_up(
            claim, owner, plan.full.instance, plan.found, self.steps, self.evidence, self.timeout
        ) as server:
            look_at(server, self.expectations, self.deep, self.steps, self.evidence)
            if self.before_ship is not None:
                self.before_ship(server)
            with self.steps.step("restoring"):
                done = restore_partial(self._request, server, self.steps.progress)
        self.evidence["answered_at"] = iso(utc_now())
        self.evidence["rto"] = {
            "target_minutes": self.expectations.rto_minutes,
            "actual_seconds": round(self.steps.elapsed, 3),
        }
        self.evidence.update(_told(done))

    def compare(self, claim: Claim, owner: Owner) -> Mapping[str, Any]:
        """Bring the copy up and say what would be done, with the differences; production is not written to."""
        plan = self.plan
        with brought_up(
            claim, owner, plan.full.instance, plan.found, self.steps, self.evidence, self.timeout
        ) as server:
            return plan_partial(self._request, server)


def _told(done: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger and the report say of what was done; keys of rows stay out of both."""
    items = [dict(item) for item in done["items"]]
    for item in items:
        if item.get("difference"):
            item["difference"] = {key: value for key, value in item["difference"].items() if key != "keys"}
        item["orphans"] = [
            {key: value for key, value in each.items() if key != "keys"} for each in item.get("orphans", [])
        ]
    kept = [{"what": f"what was there of {item['name']}", "path": item["kept"]} for item in items if item["kept"]]
    places = list(done["places"])
    follow = [f"Look at {', '.join(places)} beside the originals, and remove it afterwards."] if places else []
    return {
        "items": items,
        "counts": [_count(item) for item in items],
        "kept": kept,
        "place": ", ".join(places) or "in place",
        "bytes": {"sent": done["bytes"]},
        "undone": done.get("undone", {}),
        "follow_ups": follow,
    }


def _count(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of one part in production before and after."""
    difference = item.get("difference")
    before = item["rows"] - difference["only_in_copy"] + difference["only_in_production"] if difference else None
    in_place = not item["place"]
    return {"name": item["name"], "before": before, "after": item["rows"] if in_place else before}
