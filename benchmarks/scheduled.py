# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduled log cycle costs that finds nothing new: through its program, ansible-runner and the playbook."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_host import COLLECTION
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_run import KEPT_ARTEFACTS
from benchmarks.full import AGENT, request
from benchmarks.many import one_server_many_names
from benchmarks.measure import Row, Table, median, operation
from benchmarks.receivers import until_idle
from demo.place import PROJECT, Place
from demo.process import environment
from demo.servers import MariaDBServer

ROUNDS = 5
LIMIT_SECONDS = 60.0  # of ten minutes, so that the next cycle is never kept waiting
CYCLES_A_DAY = 144


@dataclass(frozen=True)
class Cost:
    """What one run took.

    :ivar cpu: seconds of the processor, of all its processes.
    :ivar artefact_bytes: what ansible-runner keeps of it, as the file system counts.
    """

    wall: float
    cpu: float
    artefact_bytes: int
    artefact_files: int
    ledger_bytes: int


def scheduled(folder: Path, counts: Sequence[int], say: Callable[[str], None]) -> Table:
    """Measure idle cycles of so many instances each."""
    table = Table("An idle log cycle as a timer starts it, through ansible-runner")
    for count in counts:
        base = folder / f"scheduled-{count}"
        base.mkdir()
        _measure(base, count, table, say)
        shutil.rmtree(base)
    table.notes.append(
        "From the start of the program to its end: the run itself (lock, calendar, notices), ansible-runner, the playbook with its"
        " report, the module. Processor time is that of all these processes, not of the database server. Of the artefacts"
        f" {KEPT_ARTEFACTS['log_cycle']} runs are kept, two days; the ledger grows by what is shown for each cycle."
    )
    return table


def _measure(base: Path, count: int, table: Table, say: Callable[[str], None]) -> None:
    names = tuple(f"instance-{number:03d}" for number in range(count))
    place = Place(base / "place")
    place.make()
    with MariaDBServer(base / "server", fast=True) as server:
        one_server_many_names(place, names, server)
        asked = {**request(place, "mariadb", names=names), "operation": "log_cycle"}
        until_idle(asked)
        module = median([float(operation(asked)["seconds"]) for _round in range(3)])
        command = _install(base, place, names)
        _run(command, base, place)  # fills caches, compiles
        costs = []
        for number in range(ROUNDS):
            costs.append(_run(command, base, place))
            say(f"  {count} instances, round {number + 1}: {costs[-1].wall:.2f} s, {costs[-1].cpu:.2f} s of processor")
    what = f"{count} idle instance{'s' if count > 1 else ''}"
    wall = [each.wall for each in costs]
    kept = max(each.artefact_bytes for each in costs)
    table.times[what] = wall
    table.rows += [
        Row(
            f"{what}: wall (median)", f"{median(wall):.2f} s", f"within {LIMIT_SECONDS:g} s", max(wall) <= LIMIT_SECONDS
        ),
        Row(f"{what}: processor (median)", f"{median([each.cpu for each in costs]):.2f} s"),
        Row(f"{what}: the core's cycle alone, wall", f"{module:.2f} s"),
        Row(f"{what}: artefacts of a run", f"{kept / 1024:.0f} KiB in {costs[-1].artefact_files} files"),
        Row(f"{what}: artefacts kept at the most", f"{kept * KEPT_ARTEFACTS['log_cycle'] / 1e6:.0f} MB"),
        Row(f"{what}: ledger, a year of cycles", f"{costs[-1].ledger_bytes * CYCLES_A_DAY * 365 / 1e6:.0f} MB"),
    ]


def _install(base: Path, place: Place, names: Sequence[str]) -> list[str]:
    """Lay out what site installs on a backup host, out of this environment; return the command of a timer."""
    release, etc, state = base / "opt/one", base / "etc", base / "state"
    source = PROJECT / "collections/ansible_collections/rspon/dbcontinuity"
    release.mkdir(parents=True)
    (release / "venv").symlink_to(sys.prefix)
    (release / COLLECTION).parent.mkdir(parents=True)
    (release / COLLECTION).symlink_to(source)
    for name in ("dbcontinuity_run.py", "ansible.cfg"):
        shutil.copy(source / "roles/backup/files" / name, release / name)
    (etc / "scheduled").mkdir(parents=True)
    schedule = {"log_cycle": {"every_minutes": 10}}
    (etc / "schedule.json").write_text(json.dumps({"zone": "Asia/Jakarta", "schedule": schedule}))
    agent = {"program": str(AGENT), "config_dir": str(place.root / "agent")}
    instances = {
        name: {
            "host": "this_machine",
            "engine": "mariadb",
            "credentials": str(place.root / "credentials" / name),
            "agent": agent,
        }
        for name in names
    }
    variables = {
        "dbc_zone": "Asia/Jakarta",
        "dbc_repository": str(place.repository),
        "dbc_recipients": (place.root / "keys/recipients").read_text().splitlines(),
        "dbc_identity_file": str(place.operations_key),
        "dbc_instances": instances,
    }
    host = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"vars": variables, "children": {"backup": {"hosts": {"this_machine": host}}}}}
    (etc / "scheduled/inventory.json").write_text(json.dumps(inventory))
    program = [sys.executable, "-I", str(release / "dbcontinuity_run.py"), "log_cycle"]
    return [*program, f"--etc={etc}", f"--state={state}"]


def _run(command: Sequence[str], base: Path, place: Place) -> Cost:
    ledger = place.repository / "ledger"
    before, used, began = _size(ledger), resource.getrusage(resource.RUSAGE_CHILDREN), monotonic()
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    wall, now = monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or " idle " not in done.stdout:
        raise RuntimeError(f"the cycle was not idle:\n{done.stdout}{done.stderr}")
    newest = max((base / "state/runner/log_cycle/artifacts").iterdir(), key=lambda path: path.stat().st_mtime)
    files = [path for path in newest.rglob("*") if path.is_file()]
    return Cost(
        wall,
        now.ru_utime - used.ru_utime + now.ru_stime - used.ru_stime,
        sum(os.stat(path).st_blocks * 512 for path in files),
        len(files),
        _size(ledger) - before,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))
