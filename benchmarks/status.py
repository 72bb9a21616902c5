# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status and the check-list of many instances cost with a year of the ledger behind them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger as module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.calendar import Calendar
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, stamp, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.durable import write_json
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger_lines import canonical, record_hash
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import open_lineage
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.manifest import MANIFEST_NAME, MANIFEST_VERSION
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from benchmarks.measure import Row, Table, median, operation

LIMIT_SECONDS = 10.0
ROUNDS = 3
YEAR_DAYS = 365
KEPT_WEEKS = 5  # sets that the repository holds of each instance
SCHEDULE = {
    "full_backup": {"day": "Saturday", "start": "12:00", "end": "12:30"},
    "log_cycle": {"every_minutes": 10},
    "restore_test": {"day": "Friday", "start": "13:30"},
    "test_new_backups": {"day": "daily", "start": "18:00"},
    "backup_verify": {"day": "Sunday", "start": "03:00"},
    "checklist": {"day": "Monday", "start": "07:00"},
}


class Written:
    """A ledger written line by line, as the ledger itself would, but for waiting on the disk each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sequence, self._previous = 0, module.GENESIS
        self._lines: dict[str, list[bytes]] = {}

    def add(
        self, at: datetime, kind: str, activity: str, run: str, data: Mapping[str, Any], instance: str = ""
    ) -> None:
        """Add a record."""
        self._sequence += 1
        record = {
            "ledger_version": module.LEDGER_VERSION,
            "sequence": self._sequence,
            "previous": self._previous,
            "at": iso(at),
            "kind": kind,
            "activity": activity,
            "run": run,
            "instance": instance,
            "actor": {"host": "backup", "timer": f"dbcontinuity-{activity}.service", "user": "root"},
            "clock_synchronised": True,
            "data": dict(data),
        }
        record["sha256"] = self._previous = record_hash(record)
        self._lines.setdefault(at.strftime("%Y-%m"), []).append(canonical(record) + b"\n")

    def close(self) -> int:
        """Write the files; return their bytes."""
        self._folder.mkdir(exist_ok=True)
        for month, lines in self._lines.items():
            (self._folder / f"{month}.jsonl").write_bytes(b"".join(lines))
        return sum(len(line) for lines in self._lines.values() for line in lines)


def benchmark(folder: Path, instances: int, days: int, say: Callable[[str], None]) -> Table:
    """Measure the status and the check-list of a week, each in a process of its own.

    :param days: how much of the ledger there is.
    """
    base = folder / "status"
    base.mkdir()
    names = [f"instance-{number:03d}" for number in range(instances)]
    began = monotonic()
    cycles, size = _year(base, names, days, utc_now().replace(microsecond=0))
    say(
        f"status: {cycles} log cycles of {instances} instances, {size / 1e6:.0f} MB, made in {monotonic() - began:.0f} s"
    )
    table = Table(f"The status of {instances} instances with {cycles} log cycles in the ledger")
    for what, asked in (("status", "status"), ("check-list of the week", "checklist")):
        taken, memory = [], 0
        for _round in range(ROUNDS):
            answer = operation(
                {
                    "operation": asked,
                    "instances": [],
                    "recipients": [],
                    "identity_file": "",
                    "repository": str(base / "repository"),
                    "schedule_file": str(base / "schedule.json"),
                }
            )
            taken.append(float(answer["seconds"]))
            memory = max(memory, int(answer["peak_kilobytes"]))
            say(f"  {what}: {taken[-1]:.2f} s")
        worst = max(taken)
        table.times[what] = taken
        table.rows += [
            Row(f"{what} (median)", f"{median(taken):.2f} s"),
            Row(
                f"{what}, slowest of {ROUNDS}", f"{worst:.2f} s", f"within {LIMIT_SECONDS:g} s", worst <= LIMIT_SECONDS
            ),
            Row(f"{what}, most memory", f"{memory / 1024:.0f} MiB"),
        ]
    table.notes.append(
        f"The ledger has {size / 1e6:.0f} MB: {cycles} log cycles, and the weekly full backups, test restores, verifications"
        f" and check-lists of {days} days; the repository holds {KEPT_WEEKS} sets of each instance. One instance was never"
        " tested: the status reads the whole ledger for it."
    )
    return table


def _year(base: Path, names: list[str], days: int, now: datetime) -> tuple[int, int]:
    """Make a repository with that much of the past; return its log cycles and the ledger's bytes."""
    repository = Repository.create(base / "repository")
    values = {"zone": "Asia/Jakarta", "schedule": SCHEDULE, "scheduler": "systemd"}
    (base / "schedule.json").write_text(json.dumps(values))
    calendar = Calendar.from_mapping(values)
    begin = now - timedelta(days=days)
    due = [
        (at, name)
        for name, each in calendar.activities.items()
        for at in each.occurrences(begin, now - timedelta(minutes=9))
    ]
    written = Written(base / "repository" / "ledger")
    written.add(begin, "event", "calendar", "site", {**values, "instances": names})
    lineages = {name: _opened(repository, name, begin, now) for name in names}
    chance = random.Random(4711)
    newest: dict[str, str] = {}
    for number, (at, activity) in enumerate(sorted(due), 1):
        run = f"{stamp(at)}-{number:08x}"
        if activity == "log_cycle":
            _cycle(written, at, run, lineages, chance)
        elif activity == "full_backup":
            for name in names:
                newest[name] = _full(repository, written, at, run, name, lineages[name], now)
        elif activity == "restore_test" and newest:
            for name in names[1:]:
                _test(written, at, run, name, newest[name])
        elif activity == "backup_verify":
            written.add(at, "started", activity, run, {"level": "checksum", "instances": names})
            told = {name: {"sets": KEPT_WEEKS, "logs": 900, "findings": []} for name in names}
            written.add(at, "finished", activity, run, {"level": "checksum", "result": "succeeded", "instances": told})
        elif activity == "checklist":
            written.add(at, "started", activity, run, {})
            written.add(at, "finished", activity, run, {"result": "succeeded"})
    return sum(1 for _at, name in due if name == "log_cycle"), written.close()


def _opened(repository: Repository, name: str, begin: datetime, now: datetime) -> str:
    start = {"instance": name, "engine": "files", "identity": {}, "start": {}, "opened_by": "benchmark"}
    lineage = open_lineage(repository.instance(name).logs, start, begin)
    lineage.write_state({"recoverable_to": iso(now - timedelta(seconds=4)), "lag_bytes": 0, "lag_seconds": 4.0})
    return lineage.id


def _cycle(written: Written, at: datetime, run: str, lineages: Mapping[str, str], chance: random.Random) -> None:
    """Record a log cycle that archived a log of every third instance."""
    written.add(at, "started", "log_cycle", run, {"instances": list(lineages)})
    told = {}
    for name, lineage in lineages.items():
        told[name] = {
            "result": "idle",
            "lineage": lineage,
            "recoverable_to": iso(at - timedelta(seconds=4)),
            "lag_bytes": 0,
            "lag_seconds": round(chance.uniform(1, 9), 3),
        }
        if chance.random() < 1 / 3:
            hashes = {key: f"{chance.getrandbits(256):064x}" for key in ("sha256", "record_sha256")}
            told[name].update({"result": "good", "archived": [{"name": "mariadb-bin.000042", **hashes}]})
    written.add(at + timedelta(seconds=4), "finished", "log_cycle", run, {"result": "succeeded", "instances": told})


def _full(
    repository: Repository, written: Written, at: datetime, run: str, name: str, lineage: str, now: datetime
) -> str:
    """Record a full backup, and put the set's manifest into the repository where it is still kept."""
    end = at + timedelta(minutes=6)
    made = f"{stamp(at)}-0001"
    written.add(at, "started", "full_backup", run, {"plan": {"slot": iso(at), "free_bytes": 10**12}}, name)
    done = {
        "result": "succeeded",
        "set": made,
        "manifest_sha256": "e" * 64,
        "lineage": lineage,
        "size_bytes": 10**6,
        "duration_seconds": 360.0,
        "window": None,
        "point_in_time_recovery": True,
    }
    written.add(end, "finished", "full_backup", run, done, name)
    if now - at < timedelta(weeks=KEPT_WEEKS):
        artefact = {"name": "x.zst", "content": "tar", "layers": ["zstd"], "size": 10**6, "sha256": "0" * 64}
        values = {
            "manifest_version": MANIFEST_VERSION,
            "set": made,
            "instance": name,
            "engine": "files",
            "method": "physical",
            "lineage": lineage,
            "server": {"version": "1"},
            "started_at": iso(at),
            "finished_at": iso(end),
            "duration_seconds": 360.0,
            "position": {"start": {}, "end": {}},
            "artefacts": [artefact],
            "recipients": [],
            "parameters": {},
            "objects": {},
            "warnings": [],
            "actor": {},
            "point_in_time_recovery": True,
            "read_by_hand": [],
        }
        folder = repository.instance(name).full / made
        folder.mkdir(parents=True)
        write_json(folder / MANIFEST_NAME, values)
    return made


def _test(written: Written, at: datetime, run: str, name: str, made: str) -> None:
    written.add(at, "started", "restore_test", run, {"target": "latest", "folder": "/srv/scratch"}, name)
    done = {
        "target": "latest",
        "source": {"medium": "repository", "set": made, "size_bytes": 10**6},
        "result": "succeeded",
        "rto": {"target_minutes": 30, "actual_seconds": 200.0},
        "rpo": {"target_minutes": 15, "actual_seconds": 300.0},
        "content": {
            "tables": 400,
            "rows_in_all": 10**7,
            "rows": {f"rs.table_{number:03d}": 25_000 for number in range(400)},
        },
        "findings": [],
    }
    written.add(at + timedelta(minutes=4), "finished", "restore_test", run, done, name)
