# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup host's installation for scheduled runs, made out of this clone, for tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger import Ledger
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_host import COLLECTION, Host
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.scheduled import scheduled_inventory
from tests.support import COLLECTION as SOURCE

FILES = SOURCE / "roles/backup/files"
# Stands for ansible-runner: does what the test has written, as a program.
FAKE = """\
import json, os, signal, subprocess, sys, time
from pathlib import Path
arguments = sys.argv[1:]
values = dict(each[2:].split("=", 1) for each in arguments if each.startswith("--") and "=" in each)
run, folder = values["ident"], Path(arguments[1])
artefacts = folder / "artifacts" / run
(artefacts / "job_events").mkdir(parents=True)
"""
SCHEDULE = {
    "full_backup": {"day": "Saturday", "start": "12:00", "end": "12:30"},
    "log_cycle": {"every_minutes": 10},
    "restore_test": {"day": "Friday", "start": "13:30"},
}


@dataclass
class Site:
    """An installation and what it has said.

    :ivar said: the lines that a run has printed.
    """

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def host(self) -> Host:
        return Host(self.root / "opt/one", self.root / "etc", self.root / "state")

    @property
    def ledger(self) -> Ledger:
        return Repository.open(self.root / "repository").ledger

    def say(self, line: str) -> None:
        self.said.append(line)

    def fake(self, program: str) -> None:
        """Let a program of the test stand for ansible-runner."""
        (self.host.release / "venv/bin/ansible-runner").write_text(FAKE + program)

    def channels(self, *channels: dict[str, Any], hours: float = 6) -> None:
        path = self.host.etc / "scheduled/notify.json"
        path.write_text(json.dumps({"channels": channels, "repeat_hours": hours}))

    def schedule(self, **values: Any) -> None:
        (self.host.etc / "schedule.json").write_text(
            json.dumps({"zone": "Asia/Jakarta", "schedule": values or SCHEDULE, "scheduler": "systemd"})
        )

    def inventory(self, instances: dict[str, Any], **variables: Any) -> None:
        values = {
            "dbc_zone": "Asia/Jakarta",
            "dbc_repository": str(self.root / "repository"),
            "dbc_schedule": SCHEDULE,
            "dbc_instances": instances,
            **variables,
        }
        made = scheduled_inventory(values, {"this_machine": {}}, "this_machine", sys.executable)
        self.host.inventory.write_text(json.dumps(made))

    def state(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.host.notify_state.read_text())
        return read

    def program(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start the program as a timer does."""
        host = self.host
        argv = [sys.executable, "-I", str(host.release / "dbcontinuity_run.py"), *words]
        return subprocess.Popen(
            [*argv, f"--etc={host.etc}", f"--state={host.state}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": "/usr/bin:/bin", **environment},
        )


def make_site(root: Path) -> Site:
    """Lay out an installation: this environment's Python and ansible-runner, this clone's collection."""
    site = Site(root)
    release, programs = site.host.release, Path(sys.executable).parent
    (release / "venv/bin").mkdir(parents=True)
    for name in ("python", "ansible-playbook", "ansible-runner"):
        (release / "venv/bin" / name).symlink_to(programs / name)
    (release / COLLECTION).parent.mkdir(parents=True)
    (release / COLLECTION).symlink_to(SOURCE)
    for name in ("dbcontinuity_run.py", "ansible.cfg"):
        shutil.copy(FILES / name, release / name)
    (site.host.etc / "scheduled").mkdir(parents=True)
    if not (root / "repository").exists():
        Repository.create(root / "repository")
    site.inventory({"simrs": {"host": "this_machine", "engine": "mariadb"}})
    site.schedule()
    return site
