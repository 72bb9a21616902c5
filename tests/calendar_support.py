# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ledgers of weeks that never were, for tests of the check-list and the status: written by the real ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, stamp
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.durable import write_json
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import open_lineage
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.manifest import MANIFEST_NAME, MANIFEST_VERSION
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import FullSet, Repository

ZONE = ZoneInfo("Asia/Jakarta")
# The SPO's calendar: B1, B2, B3, T1, B5.
SCHEDULE: dict[str, Any] = {
    "full_backup": {"day": "Saturday", "start": "12:00", "end": "12:30"},
    "log_cycle": {"every_minutes": 10},
    "restore_test": {"day": "Friday", "start": "13:30"},
    "test_new_backups": {"day": "daily", "start": "18:00"},
    "backup_verify": {"day": "Sunday", "start": "03:00"},
    "checklist": {"day": "Monday", "start": "07:00"},
}
# A week from check-list to check-list; the 16th of November 2026 is a Monday.
MONDAY = datetime(2026, 11, 16, 7, 0, tzinfo=ZONE).astimezone(timezone.utc)
NEXT_MONDAY = MONDAY + timedelta(days=7)


def local(day: int, clock: str, month: int = 11) -> datetime:
    """Return a local time of the site, such as the 21st at 12:00."""
    hour, minute, *second = (int(part) for part in clock.split(":"))
    moment = datetime(2026, month, day, hour, minute, second[0] if second else 0, tzinfo=ZONE)
    return moment.astimezone(timezone.utc)


class Past:
    """A repository whose ledger tells of a past of the test's choosing."""

    def __init__(self, root: Path) -> None:
        self.repository = Repository.create(root)
        self.ledger = self.repository.ledger
        self._runs = 0

    def run_id(self) -> str:
        """Return a name for the next run."""
        self._runs += 1
        return f"run-{self._runs:05d}"

    def record(
        self, at: datetime, kind: str, activity: str, run: str, data: Mapping[str, Any], instance: str = ""
    ) -> None:
        """Add a record."""
        self.ledger.append(kind, activity, run, instance=instance, data=data, moment=at, actor={"user": "root"})

    def calendar(
        self,
        at: datetime,
        instances: Sequence[str],
        schedule: Mapping[str, Any] | None = None,
        zone: str = "Asia/Jakarta",
    ) -> dict[str, Any]:
        """Put a calendar into force, as the playbook site does; return what it holds."""
        values = {"zone": zone, "schedule": dict(SCHEDULE if schedule is None else schedule), "scheduler": "systemd"}
        self.record(at, "event", "calendar", self.run_id(), {**values, "instances": list(instances)})
        return values

    def full(
        self,
        at: datetime,
        instance: str,
        minutes: float = 10,
        *,
        result: str = "succeeded",
        size: int = 5_000_000,
        slot: datetime | None = None,
        ends: bool = True,
        stored: bool = True,
        run: str = "",
    ) -> str:
        """Record a full backup, with its set in the repository; return the set's name."""
        run, name = run or self.run_id(), f"{stamp(at)}-0001"
        end = at + timedelta(minutes=minutes)
        plan = {"plan": {"slot": iso(slot) if slot else None, "free_bytes": 10**9}}
        self.record(at, "started", "full_backup", run, plan, instance)
        if not ends:
            return ""
        if result != "succeeded":
            self.record(end, "finished", "full_backup", run, {"result": "failed", "reason": result}, instance)
            return ""
        made = self.store(instance, at, end, size) if stored else None
        data = {
            "result": "succeeded",
            "set": name,
            "manifest_sha256": made.manifest_sha256 if made else "e" * 64,
            "lineage": "",
            "size_bytes": size,
            "duration_seconds": minutes * 60,
            "window": None,
            "point_in_time_recovery": True,
        }
        self.record(end, "finished", "full_backup", run, data, instance)
        return name

    def store(self, instance: str, at: datetime, end: datetime, size: int, lineage: str = "") -> FullSet:
        """Publish a set, without its artefacts' bytes."""
        folder = self.repository.instance(instance)
        unfinished = folder.begin_set(at)
        artefact = {"name": "x.zst", "content": "tar", "layers": ["zstd"], "size": size, "sha256": "0" * 64}
        values = {
            "manifest_version": MANIFEST_VERSION,
            "set": unfinished.name,
            "instance": instance,
            "engine": "files",
            "method": "physical",
            "lineage": lineage,
            "server": {"version": "1"},
            "started_at": iso(at),
            "finished_at": iso(end),
            "duration_seconds": (end - at).total_seconds(),
            "position": {"start": {}, "end": {}},
            "artefacts": [artefact],
            "recipients": [],
            "parameters": {},
            "objects": {},
            "warnings": [],
            "actor": {},
            "point_in_time_recovery": bool(lineage),
            "read_by_hand": [],
        }
        write_json(unfinished.path / MANIFEST_NAME, values)
        unfinished.path.rename(unfinished.final)
        return folder.read_set(unfinished.name)

    def lineage(self, instance: str, at: datetime, state: Mapping[str, Any]) -> str:
        """Open a chain whose last cycle saw *state*; return its name."""
        start = {"instance": instance, "engine": "files", "identity": {}, "start": {}, "opened_by": "test"}
        opened = open_lineage(self.repository.instance(instance).logs, start, at)
        opened.write_state(state)
        return opened.id

    def cycle(
        self,
        at: datetime,
        results: Mapping[str, Mapping[str, Any]] | Sequence[str],
        *,
        seconds: float = 3,
        ends: bool = True,
    ) -> None:
        """Record a log cycle of several instances; names alone stand for idle ones."""
        run = self.run_id()
        told = {name: dict(results[name]) if isinstance(results, Mapping) else idle(at) for name in results}
        self.record(at, "started", "log_cycle", run, {"instances": list(told)})
        if ends:
            bad = [name for name, one in told.items() if one["result"] not in ("good", "idle", "no log")]
            data = {"result": "failed" if bad else "succeeded", "instances": told}
            self.record(at + timedelta(seconds=seconds), "finished", "log_cycle", run, data)

    def cycles(self, since: datetime, until: datetime, names: Sequence[str], without: Sequence[datetime] = ()) -> None:
        """Record idle cycles every ten minutes, but for those *without*."""
        at = since
        while at < until:
            if at not in without:
                self.cycle(at + timedelta(seconds=1), names)
            at += timedelta(minutes=10)

    def test(
        self,
        at: datetime,
        instance: str,
        name: str,
        *,
        result: str = "succeeded",
        untested: bool = False,
        minutes: float = 8,
    ) -> str:
        """Record a test restore of a set; return its run."""
        run = self.run_id()
        begun = {"target": "latest", "moment": "", "folder": "/srv/scratch", "cleaned": [], "untested": untested}
        self.record(at, "started", "restore_test", run, begun, instance)
        findings = [] if result == "succeeded" else [finding("damaged-artefact", "x.zst", result)]
        data = {
            "target": "latest",
            "untested": untested,
            "source": {"medium": "repository", "set": name, "size_bytes": 5_000_000},
            "result": "succeeded" if result == "succeeded" else "failed",
            "rto": {"target_minutes": 30, "actual_seconds": minutes * 60 - 30},
            "rpo": {"target_minutes": 15, "actual_seconds": 420.0, "recoverable_to": iso(at)},
            "duration_seconds": minutes * 60,
            "findings": findings,
            "attested": False,
        }
        self.record(at + timedelta(minutes=minutes), "finished", "restore_test", run, data, instance)
        return run

    def verify(self, at: datetime, names: Sequence[str], findings: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Record a verification."""
        run, found = self.run_id(), findings or {}
        self.record(at, "started", "backup_verify", run, {"level": "checksum", "instances": list(names)})
        told = {name: {"sets": 1, "logs": 3, "findings": list(found.get(name, ()))} for name in names}
        data = {"level": "checksum", "result": "failed" if found else "succeeded", "instances": told}
        self.record(at + timedelta(minutes=5), "finished", "backup_verify", run, data)

    def checklist(self, at: datetime) -> None:
        """Record that a check-list was written."""
        run = self.run_id()
        self.record(at, "started", "checklist", run, {})
        self.record(at + timedelta(seconds=2), "finished", "checklist", run, {"result": "succeeded"})


def idle(at: datetime, lag: float = 4.0) -> dict[str, Any]:
    """Return what the ledger keeps of an idle cycle."""
    moment = iso(at - timedelta(seconds=lag))
    return {"result": "idle", "lineage": "l1", "recoverable_to": moment, "lag_bytes": 0, "lag_seconds": lag}


def finding(
    code: str, file: str, message: str = "It is gone.", remedy: str = "Make a new full backup."
) -> dict[str, Any]:
    """Return a finding of the chain."""
    return {"code": code, "file": file, "message": message, "remedy": remedy}
