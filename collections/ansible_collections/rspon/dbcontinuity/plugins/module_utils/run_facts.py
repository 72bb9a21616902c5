# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went wrong in a scheduled run: which instances, with which codes and files, out of its evidence.

It leaves the host in mails and web requests, so only what cannot hold a patient's name or a secret is taken: names of the
inventory's instances, codes of this project, and plain names of files. No message, no query, no value, no tool's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .errors import ContinuityError
from .ledger import Ledger

UNKNOWN = "failed"
UNFINISHED = "unfinished"
_CODE = re.compile(r"[a-z]+(?:[- ][a-z]+){0,4}", re.ASCII)
# Logs, artefacts, manifests, sets, tables: never a path with blanks or letters of another script, as people name documents.
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_GOOD = ("good", "idle", "no log", "succeeded", "nothing to test")
_EVENTS = ("runner_on_failed", "runner_item_on_failed", "runner_on_unreachable")
_LIMIT = 50
_EVENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, order=True)
class Trouble:
    """One thing that is wrong.

    :ivar instance: the instance's name; empty where it concerns the run.
    :ivar code: a finding's code, an error's kind, or what a run ended with.
    :ivar file: the name of the file it is about, where it has a plain one.
    """

    instance: str
    code: str
    file: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.instance}:" if self.instance else "", self.code, self.file) if part)


def troubles_of(
    ledger: Ledger, artefacts: Path, run: str, since: datetime, instances: Sequence[str]
) -> tuple[Trouble, ...]:
    """Return what is known to be wrong in a run that failed, sorted, at most fifty; nothing where nothing is known.

    :param artefacts: the folder that ansible-runner left of the run: what failed before the ledger had a record of it.
    :param since: when the run began.
    :param instances: the names of the inventory; others are not told.
    """
    found: set[Trouble] = set()
    try:
        found.update(_from_ledger(ledger.records(since), run))
    except (ContinuityError, OSError) as error:
        found.add(Trouble("", getattr(error, "kind", "ledger")))
    found.update(_from_events(artefacts / "job_events"))
    known = {each for each in found if each.instance in ("", *instances)}
    return tuple(sorted(_most_telling(known))[:_LIMIT])


def _most_telling(found: set[Trouble]) -> set[Trouble]:
    """Leave out that something failed where it is known what."""
    vague = (UNKNOWN, UNFINISHED)
    telling = {each.instance for each in found if each.code not in vague}
    return {each for each in found if each.code not in vague or each.instance not in telling}


def _from_ledger(records: Iterable[Mapping[str, Any]], run: str) -> Iterator[Trouble]:
    begun: set[str] = set()
    for record in records:
        if record["run"] != run:
            continue
        data, instance = record["data"], str(record["instance"])
        if record["kind"] == "started":
            begun.add(instance)
        elif record["kind"] == "finished":
            begun.discard(instance)
            if data.get("result") not in _GOOD:
                yield from _of_result(instance, data)
    yield from (Trouble(instance, UNFINISHED) for instance in begun)


def _of_result(instance: str, data: Mapping[str, Any]) -> Iterator[Trouble]:
    """Give what a record of the ledger, or a module's result, says of its instances."""
    several = data.get("instances")
    findings = _findings(instance, data.get("findings"))
    if isinstance(several, Mapping):
        for name, one in several.items():
            if isinstance(one, Mapping):
                bad = one.get("result") not in _GOOD if "result" in one else False
                yield from _findings(str(name), one.get("findings")) or ([_plain(str(name), one)] if bad else [])
        if data.get("ledger_problem"):
            yield Trouble("", "ledger")
    elif not findings:
        findings = [_plain(instance, data)]
    yield from findings


def _findings(instance: str, values: object) -> list[Trouble]:
    if not isinstance(values, list):
        return []
    found = []
    for each in values:
        if isinstance(each, Mapping):
            name = str(each.get("file") or "").rpartition("/")[2]
            found.append(Trouble(instance, _code(each.get("code")), name if _FILE.fullmatch(name) else ""))
    return found


def _plain(instance: str, data: Mapping[str, Any]) -> Trouble:
    """Return what is left to say without a finding: the kind of the error, or how it ended."""
    kind = _code(data.get("kind"))
    return Trouble(instance, kind if kind != UNKNOWN else _code(data.get("result")))


def _code(value: object) -> str:
    return value if isinstance(value, str) and len(value) < 60 and _CODE.fullmatch(value) else UNKNOWN


def _from_events(folder: Path) -> Iterator[Trouble]:
    """Give what ansible-runner kept of the tasks that failed."""
    try:
        paths = sorted(folder.glob("*.json"))
    except OSError:
        return
    for path in paths:
        try:
            if path.stat().st_size > _EVENT_BYTES:
                continue
            event = json.loads(path.read_bytes())
            if event["event"] in _EVENTS:
                yield from _of_event(event["event"], event["event_data"]["res"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a run that was killed leaves half an event


def _of_event(kind: str, result: Mapping[str, Any]) -> Iterator[Trouble]:
    if kind == "runner_on_unreachable":
        yield Trouble("", "unreachable")
        return
    results = result.get("results")
    for one in results if isinstance(results, list) else [result]:
        if isinstance(one, Mapping) and one.get("failed", True) and "kind" in one:
            item = one.get("item")
            name = str(item.get("name") or "") if isinstance(item, Mapping) else ""
            yield from _of_result(name, {"result": UNKNOWN, **one})
