# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks, run by a real ansible-playbook: nothing secret gets out, progress is shown, a second run does nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import ansible_runner
import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.process import wait_until
from demo.servers import MariaDBServer, PostgreSQLServer, workspace
from tests import postgresql_support
from tests.engine.faults import PausingTool, backup_arguments, backups_running, called
from tests.sampler import sampling
from tests.support import Place, make_place

pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="reads other users' environments")]
ROOT = Path(__file__).parent.parent.parent
COPYING = r"Streaming \./besar/pasien\.ibd"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("runs") as folder, MariaDBServer(folder / "simrs", fast=True) as running:
        running.query(
            "CREATE DATABASE besar; CREATE TABLE besar.pasien (id INT PRIMARY KEY, isi VARBINARY(1024));"
            "INSERT INTO besar.pasien SELECT seq, RANDOM_BYTES(1000) FROM mysql.seq_1_to_40000"
        )
        yield running


@dataclass
class Site:
    """A backup host that is this machine, as an inventory."""

    place: Place
    inventory: Path
    words: list[str]

    def play(self, name: str, *more: str, path: str = "", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                "-i",
                str(self.inventory),
                f"playbooks/{name}.yml",
                *more,
            ],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def played(self, name: str, *more: str, **environment: str) -> str:
        process = self.play(name, *more, **environment)
        out, _none = process.communicate(timeout=900)
        assert process.returncode == 0, out
        return out


@pytest.fixture
def site(server: MariaDBServer, tmp_path: Path) -> Site:
    place = make_place(tmp_path / "backup")
    place.mariadb("simrs", server)
    words = [
        match.group(1)
        for path in (place.root / "agent" / "simrs.cnf", place.root / "credentials" / "simrs")
        for match in re.finditer(r'(?m)^password\s*=\s*"?([^"\n]+)"?$', path.read_text())
    ]
    words.append((place.root / "operations.key").read_text().splitlines()[-1])
    assert len(words) == 3
    inventory = tmp_path / "hosts.yml"
    # Half a week from now: no test runs across the beginning of a slot.
    far = (datetime.now(ZoneInfo("Asia/Jakarta")) + timedelta(days=3)).strftime("%A")
    variables: dict[str, Any] = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "dbc_zone": "Asia/Jakarta",
        "dbc_repository": str(place.repository),
        "dbc_recipients": list(place.protection.recipients),
        "dbc_identity_file": str(place.root / "operations.key"),
        "dbc_schedule": {"full_backup": {"day": far, "start": "12:00", "end": "12:30"}},
        "dbc_instances": {
            "simrs": {
                "host": "this_machine",
                "engine": "mariadb",
                "credentials": str(place.root / "credentials" / "simrs"),
                "agent": {"program": place.agent.program, "config_dir": place.agent.config_dir},
            }
        },
    }
    inventory.write_text(
        json.dumps({"all": {"vars": variables, "children": {"backup": {"hosts": {"this_machine": {}}}}}})
    )
    return Site(place, inventory, words)


def recap(out: str, host: str = "this_machine") -> dict[str, int]:
    line = next(line for line in out.splitlines() if line.startswith(host) and "ok=" in line)
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}


def test_the_sampler_finds_what_is_planted() -> None:
    planted = "canary-kJ83hsQ"
    for argv, environment, where in (
        (["sh", planted], {}, "cmdline of "),
        (["sleep", "600"], {"MYSQL_PWD": planted}, "environ of "),
    ):
        with sampling([planted]) as sampler:
            child = subprocess.Popen(
                ["/bin/sh", "-c", 'sleep 600; exit 0 "$@"', *argv] if not environment else argv,
                env={**os.environ, **environment},
                start_new_session=True,
            )
            try:
                assert wait_until(lambda: any(each.startswith(where) for each in sampler.found), 120)  # noqa: B023
            finally:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def test_no_secret_in_processes_output_results_ledger(site: Site, server: MariaDBServer) -> None:
    with sampling(site.words) as sampler:
        out = site.played("full_backup", "-vvv")
        server.query("INSERT INTO besar.pasien SELECT MAX(id) + 1, 'x' FROM besar.pasien")
        out += site.played("ship_logs", "-vvv")
        out += site.played("verify_backups", "-vvv", "-e", "dbc_level=deep")
        out += site.played("status", "-vvv")
    assert sampler.rounds > 100
    assert sampler.found == set()
    assert "good" in out
    everything = out + "".join(
        path.read_text(errors="replace")
        for path in site.place.repository.rglob("*")
        if path.suffix in (".json", ".jsonl")
    )
    assert [word for word in site.words if word in everything] == []
    assert "password" in (site.place.root / "credentials" / "simrs").read_text()


def test_no_secret_of_a_postgresql_server(tmp_path: Path) -> None:
    place = make_place(tmp_path / "backup")
    with workspace("runspg") as folder, PostgreSQLServer(folder / "lab", fast=True) as lab:
        lab.query("CREATE TABLE pasien AS SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n")
        instance = postgresql_support.instance(place, "lab", lab)
        credentials = place.root / "credentials" / "lab"
        words = re.findall(r"(?m)^password=(.+)$", credentials.read_text())
        words.append((place.root / "operations.key").read_text().splitlines()[-1])
        assert len(words) == 2
        arguments = backup_arguments(place, instance)
        common = {key: arguments[key] for key in ("repository", "recipients", "identity_file")}
        with sampling(words) as sampler:
            made = called("full_backup", arguments)
            verified = called("backup_verify", {"instances": [arguments["instance"]], "level": "deep", **common})
            credentials.write_text(credentials.read_text().replace("password=", "password=wrong"))
            refused = called("full_backup", arguments)
    assert made["changed"], made
    assert verified["failed"] == [], verified
    assert refused["failed"]
    assert sampler.found == set()
    everything = json.dumps([made, verified, refused]) + "".join(
        path.read_text(errors="replace") for path in place.repository.rglob("*") if path.suffix in (".json", ".jsonl")
    )
    assert [word for word in words if word in everything] == []


def test_no_secret_in_the_runners_artefacts_also_when_it_fails(site: Site, tmp_path: Path) -> None:
    private = tmp_path / "runner"
    private.mkdir()
    environment = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    variables = {"dbc_recipients": [site.words[-1]]}  # somebody put the private key where the public one belongs
    for more, status in (({}, "successful"), (variables, "failed")):
        with sampling(site.words[:2] if more else site.words) as sampler:
            done = ansible_runner.run(
                private_data_dir=str(private),
                playbook=str(ROOT / "playbooks" / "full_backup.yml"),
                inventory=str(site.inventory),
                extravars={"dbc_force": True},
                envvars=environment,
                quiet=True,
                verbosity=3,
                **({"cmdline": f"-e @{_write(tmp_path / 'wrong.json', more)}"} if more else {}),
            )
        assert done.status == status, done.stdout.read()
        assert sampler.found == set()
    artefacts = [path for path in (private / "artifacts").rglob("*") if path.is_file()]
    assert any("job_events" in str(path) for path in artefacts)
    texts = {str(path): path.read_text(errors="replace") for path in artefacts}
    assert any("A private key stands among the recipients" in text for text in texts.values())
    assert [(word[:6], path) for path, text in texts.items() for word in site.words if word in text] == []


def _write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_second_run_changes_nothing_and_check_mode_tells_the_truth(site: Site) -> None:
    before = sorted(site.place.repository.rglob("*"))
    out = site.played("full_backup", "--check")
    assert recap(out)["changed"] == 1
    assert "would be made" in out
    assert sorted(site.place.repository.rglob("*")) == before
    out = site.played("full_backup")
    assert recap(out)["changed"] == 1
    files = {path: path.stat().st_mtime_ns for path in site.place.repository.rglob("*")}
    out = site.played("full_backup")
    assert recap(out)["changed"] == 0
    assert "was there already" in out
    out = site.played("full_backup", "--check")
    assert recap(out)["changed"] == 0
    assert {path: path.stat().st_mtime_ns for path in site.place.repository.rglob("*")} == files


def test_progress_is_shown_while_a_backup_is_under_way(site: Site, tmp_path: Path) -> None:
    tool = PausingTool.make(COPYING)
    remote = tmp_path / "remote"  # other playbooks of this machine have their own
    playing = site.play("full_backup", path=str(tool.folder), ANSIBLE_REMOTE_TMP=str(remote))
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(_pipe(playing).readline, "")))
    reader.start()
    try:
        assert wait_until((tool.folder / "reached").exists, 300)
        assert wait_until(lambda: any("... simrs backup.mbstream:" in line for line in list(lines)), 120), lines
        assert list(remote.glob("*/progress.json")) != []
        tool.go_on()
        playing.wait(900)
    finally:
        playing.kill()
        reader.join()
    out = "".join(lines)
    assert playing.returncode == 0, out
    shown = [line for line in out.splitlines() if line.strip().startswith("... simrs backup.mbstream:")]
    assert shown, out
    assert re.search(r"\d+(\.\d)? (B|KiB|MiB)", shown[-1])
    assert list(remote.glob("*/progress.json")) == []


def _pipe(playing: subprocess.Popen[str]) -> IO[str]:
    assert playing.stdout is not None
    return playing.stdout


def test_progress_stays_out_of_what_a_machine_reads(site: Site) -> None:
    if not (ROOT / ".cache/collections/ansible_collections/ansible/posix/plugins/callback/json.py").exists():
        pytest.skip("the collection ansible.posix was not fetched")
    tool = PausingTool.make(COPYING)
    playing = site.play("full_backup", path=str(tool.folder), ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    try:
        assert wait_until((tool.folder / "reached").exists, 300)
        time.sleep(3)
        tool.go_on()
        out, _none = playing.communicate(timeout=900)
    finally:
        playing.kill()
    assert json.loads(out)["stats"]["this_machine"]["failures"] == 0


def test_an_interrupted_playbook_ends_the_backup_behind_it(site: Site) -> None:
    tool = PausingTool.make(COPYING)
    playing = site.play("full_backup", path=str(tool.folder))
    try:
        assert wait_until((tool.folder / "reached").exists, 300)
        time.sleep(3)
        os.killpg(playing.pid, signal.SIGINT)
        playing.communicate(timeout=300)
    finally:
        playing.kill()
    try:
        assert wait_until(lambda: backups_running(tool) == [], 120)
    finally:
        tool.go_on()
    folder = Repository.open(site.place.repository).instance("simrs")

    def recorded() -> bool:
        kinds = [
            (each["kind"], each["data"].get("result"))
            for each in Repository.open(site.place.repository).ledger.records()
        ]
        return kinds == [("started", None), ("finished", "failed")]

    assert wait_until(recorded, 120)
    assert os.listdir(folder.full) == []
