# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the ledger, and adding what people have to say to it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..clock import parse_moment
from ..errors import LedgerError
from ..ledger import Head, Ledger, new_run_id
from ..ledger_lines import canonical
from ..repository import Repository


def ledger_info(
    repository_path: Path,
    *,
    verify: bool = False,
    head: Optional[str] = None,
    activity: str = "",
    instance: str = "",
    since: Optional[datetime] = None,
    limit: int = 100,
) -> dict[str, Any]:
    """Return the head, the newest records that match, the lines known to be damaged, and with *verify* whether all holds."""
    ledger = Repository.open(repository_path).ledger
    expected = Head.parse(head) if head else None
    found: deque[dict[str, Any]] = deque(maxlen=max(0, limit))
    result: dict[str, Any] = {"changed": False}
    if verify or expected:
        outcome = ledger.verify(expected)
        result.update(
            {
                "head": str(outcome.head),
                "holds": outcome.problem is None,
                "problem": outcome.problem,
                "problems": list(outcome.problems),
                "verified_records": outcome.records,
            }
        )
    else:
        result["head"] = str(ledger.head())
    damaged: list[str] = []
    try:
        for record in ledger.records(since, damaged):
            if activity and record["activity"] != activity:
                continue
            if instance and record["instance"] != instance and instance not in (record["data"].get("instances") or ()):
                continue
            if since and parse_moment(record["at"]) < since:
                continue
            found.append(record)
    except LedgerError:
        if not result.get("problem"):
            raise
    result["records"] = list(found)
    result["damaged_lines"] = damaged
    return result


def ledger_entry(
    repository_path: Path,
    activity: str,
    data: Mapping[str, Any],
    *,
    instance: str = "",
    actor: Optional[str] = None,
    run: Optional[str] = None,
    once: bool = False,
    check_only: bool = False,
) -> dict[str, Any]:
    """Add one event, such as an attestation or a follow-up, and return the new head.

    :param once: add nothing where the newest event of that activity and instance holds the same data.
    """
    repository = Repository.open(repository_path)
    if once and _newest_data(repository.ledger, activity, instance) == json.loads(canonical(data)):
        return {"changed": False, "head": str(repository.ledger.head())}
    if check_only:
        return {"changed": True, "head": str(repository.ledger.head())}
    head = repository.ledger.append(
        "event", activity, run or new_run_id(), instance=instance, actor=describe_actor(actor), data=data
    )
    return {"changed": True, "head": str(head)}


def _newest_data(ledger: Ledger, activity: str, instance: str) -> Optional[dict[str, Any]]:
    """Return what the newest event of an activity and instance holds; None where there is none that can be read."""
    newest: Optional[dict[str, Any]] = None
    for record in ledger.whole_records(activity):
        if record["kind"] == "event" and record["instance"] == instance:
            newest = dict(record["data"])
    return newest
