# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook restore_test, run by a real ansible-playbook: report, check mode, refusals, one instance's failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.recoverable import find_source
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.servers import MariaDBServer, workspace
from tests.restore_support import cycle, flip, full, newest_artefact, spoilt
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
SIMRS = Instance("simrs", "mariadb")
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Site:
    """A backup host that is this machine, as an inventory, with a full set of a server and of folders."""

    place: Place
    inventory: Path
    scratch: Path

    def play(self, *more: str, succeeds: bool = True) -> str:
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.inventory)),
                *("playbooks/restore_test.yml", *more),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rtplay") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        server.query("CREATE DATABASE rs; CREATE TABLE rs.pasien (id INT PRIMARY KEY)")
        server.query("INSERT INTO rs.pasien SELECT seq FROM mysql.seq_1_to_1000")
        documents = folder / "scan"
        documents.mkdir()
        (documents / "a").write_text("1")
        place = make_place(folder / "backup")
        simrs, scan = place.mariadb("simrs", server), place.files("scan", documents)
        for instance in (simrs, scan):
            full(place, instance)
        server.query("INSERT INTO rs.pasien VALUES (5000)")
        cycle(place, simrs)
        agent = {"program": place.agent.program, "config_dir": place.agent.config_dir}
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "dbc_zone": "Asia/Jakarta",
            "dbc_repository": str(place.repository),
            "dbc_recipients": list(place.protection.recipients),
            "dbc_identity_file": str(place.root / "operations.key"),
            "dbc_scratch_folder": str(folder / "scratch"),
            "dbc_instances": {
                "simrs": {
                    "host": "this_machine",
                    "engine": "mariadb",
                    "credentials": str(place.root / "credentials" / "simrs"),
                    "agent": agent,
                    "rto_minutes": 30,
                    "checks": [
                        {"name": "newest patient", "sql": "SELECT MAX(id) FROM rs.pasien", "expect": "5000"},
                    ],
                },
                "scan": {"host": "this_machine", "engine": "files", "agent": agent},
            },
        }
        inventory = folder / "hosts.yml"
        inventory.write_text(
            json.dumps({"all": {"vars": variables, "children": {"backup": {"hosts": {"this_machine": {}}}}}})
        )
        yield Site(place, inventory, folder / "scratch")


def test_check_mode_writes_nothing(site: Site) -> None:
    before = sorted(site.place.repository.rglob("*"))
    out = site.play("--check")
    assert out.count("would be tested") == 2
    assert sorted(site.place.repository.rglob("*")) == before
    assert not site.scratch.exists()


def test_every_instance_is_tested_and_the_report_says_so(site: Site) -> None:
    out = site.play()
    assert out.count("  succeeded  ") == 2
    report = next((site.place.repository / "reports").glob("restore-test-*.txt")).read_text()
    assert "2 dari (of) 2" in report
    assert "newest patient: 5000" in report
    assert "WIB" in report
    assert "30 menit" in report
    assert len(os.listdir(site.scratch)) == 2  # the marker and the lock's file


def test_one_instances_failure_is_reported_and_fails_the_play(site: Site) -> None:
    with spoilt(newest_artefact(site.place), flip):
        out = site.play(succeeds=False)
    assert "FINDING on simrs: backup.mbstream.zst.age" in out
    records = [
        (each["instance"], each["data"]["result"])
        for each in Repository.open(site.place.repository).ledger.records()
        if each["activity"] == "restore_test" and each["kind"] == "finished"
    ]
    assert records[-2:] == [("simrs", "failed"), ("scan", "succeeded")]


def test_an_active_folder_is_refused(site: Site) -> None:
    out = site.play("-e", f"dbc_scratch_folder={site.place.repository}/x", succeeds=False)
    assert "lies in the repository" in out


def test_a_moment_in_the_logs_is_brought_back(site: Site) -> None:
    found = find_source(Repository.open(site.place.repository), SIMRS, site.place.protection, Target())
    out = site.play("-e", f"dbc_only=simrs dbc_target=gtid dbc_moment={found.resolved.position}")
    assert f"simrs: the last transaction in the copy is {found.resolved.position}" in out
    report = max((site.place.repository / "reports").glob("restore-test-*.txt"), key=os.path.getmtime).read_text()
    assert f"Titik pemulihan (recovery point)               : gtid {found.resolved.position}" in report
    out = site.play("-e", "dbc_only=simrs dbc_target=time", "-e", "dbc_moment='2026-11-23 02:30'", succeeds=False)
    assert "has no UTC offset" in out
    out = site.play("-e", "dbc_only=simrs dbc_target=time dbc_moment=2001-01-01T00:00:00+07:00", succeeds=False)
    assert "It can be brought back to" in " ".join(out.split())
