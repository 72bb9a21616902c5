# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of a backup stalls, or its link is cut: production's commits must not wait for it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Agent, Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.process import wait_until
from demo.servers import MariaDBServer, workspace
from tests.engine.faults import (
    LONGEST_WAIT,
    PausingTool,
    backup_arguments,
    backups_running,
    called,
    drain,
    instance_arguments,
    link,
    ssh_server,
    started,
    writers,
)
from tests.support import AGENT_PROGRAM, Place, make_place

pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="acts on other users' processes")]

# What mariadb-backup says when it comes to each stage. From BLOCK_DDL on writes to MyISAM tables wait, and then
# every commit. Log tables are copied in BLOCK_DDL, and what was added since while commits are blocked.
STAGES = {
    "InnoDB": r"Streaming \./besar/pasien\.ibd",
    "MyISAM": r"Acquired locks for BACKUP STAGE BLOCK_DDL",
    "BLOCK_COMMIT": r"Acquired locks for BACKUP STAGE BLOCK_COMMIT",
}
DEFAULT = [("BLOCK_COMMIT", "age"), ("BLOCK_COMMIT", "agent")]
ALL = [(stage, victim) for stage in STAGES for victim in ("zstd", "age", "agent")]


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    """A server whose every stage has more to copy than all buffers of the pipeline hold."""
    with workspace("stall") as folder, MariaDBServer(folder / "simrs", fast=True) as running:
        running.query(
            "CREATE DATABASE besar;"
            "CREATE TABLE besar.pasien (id INT PRIMARY KEY, isi VARBINARY(1024));"
            "INSERT INTO besar.pasien SELECT seq, RANDOM_BYTES(1000) FROM mysql.seq_1_to_40000"
        )
        add_to_the_log_table(running)
        yield running


def add_to_the_log_table(server: MariaDBServer) -> None:
    """Give the next stage 40 MB to copy, more than all buffers of a pipeline hold."""
    with (server.datadir / "mysql" / "general_log.CSV").open("ab") as stream:
        stream.writelines(log_lines())


@functools.cache
def log_lines() -> list[bytes]:
    """40 lines of a megabyte that cannot be compressed; made once, for they are added while commits wait."""
    begin = b'"2026-09-19 12:00:00.000000","root[root] @ localhost []",1,1,"Query","'
    return [begin + os.urandom(500_000).hex().encode() + b'"\n' for _ in range(40)]


@pytest.fixture
def place(tmp_path: Path, server: MariaDBServer) -> Place:
    # What earlier tests added to the log table would be copied again, while MyISAM's writers wait for it.
    server.query("TRUNCATE TABLE mysql.general_log")
    add_to_the_log_table(server)
    return make_place(tmp_path / "backup")


def sets(place: Place) -> list[str]:
    return Repository.open(place.repository).instance("simrs").set_names()


def test_with_the_bare_tool_a_stalled_reader_holds_up_every_commit(server: MariaDBServer, tmp_path: Path) -> None:
    tool = PausingTool.make(STAGES["BLOCK_COMMIT"])
    backup = subprocess.Popen(
        [
            str(tool.folder / "mariadb-backup"),
            f"--defaults-file={server.option_file}",
            "--backup",
            "--stream=mbstream",
            "--user=root",
            f"--socket={server.socket}",
            f"--target-dir={tmp_path / 'target'}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert backup.stdout is not None
    with writers(server) as both:
        try:
            drain(backup.stdout, tool.folder / "reached")  # from here on nobody reads
            add_to_the_log_table(server)
            tool.go_on(both)
            assert wait_until(lambda: all(each.waiting() > 6 for each in both.values()), 120), both
        finally:
            os.killpg(backup.pid, signal.SIGKILL)
            backup.wait()
        assert wait_until(lambda: both["InnoDB"].waiting() < 1 and both["MyISAM"].waiting() < 1, 120)


@pytest.mark.parametrize(
    ("stage", "victim"),
    [pytest.param(*each, marks=[] if each in DEFAULT else [pytest.mark.slow], id="-".join(each)) for each in ALL],
)
def test_a_stopped_reader_never_holds_up_a_commit(server: MariaDBServer, place: Place, stage: str, victim: str) -> None:
    instance = place.mariadb("simrs", server)
    arguments = backup_arguments(place, instance)
    tool = PausingTool.make(STAGES[stage])
    with writers(server) as both, started("full_backup", arguments, path=str(tool.folder)) as run:
        tool.wait(run)
        stalled_at = time.monotonic()
        add_to_the_log_table(server)
        pid = run.child({"agent": AGENT_PROGRAM.name}.get(victim, victim))
        os.kill(pid, signal.SIGSTOP)
        tool.go_on(both)
        assert wait_until(lambda: backups_running(tool) == [], 120), "the backup was not ended"
        assert time.monotonic() - stalled_at > 5, "it did not stall: there was too little to copy"
        assert wait_until(lambda: all(each.waiting() < 1 for each in both.values()), 120)
        assert {name: each.worst() < LONGEST_WAIT for name, each in both.items()} == {"InnoDB": True, "MyISAM": True}
        # The stage was met: what it blocks did wait.
        assert both["InnoDB"].worst_of_all() > 3 or stage != "BLOCK_COMMIT"
        assert both["MyISAM"].worst_of_all() > 3 or stage == "InnoDB"
        with contextlib.suppress(ProcessLookupError):  # the module may have ended it by now
            os.kill(pid, signal.SIGCONT)
        answer = run.result()
        assert all(each.failure == "" for each in both.values())
    assert answer["failed"]
    assert (
        "so that it does not hold up production" in answer["msg"]
        or "commits on production were blocked" in answer["msg"]
    )
    assert sets(place) == []
    again = called("full_backup", arguments)
    assert again["changed"]
    assert sets(place) == [again["set"]]


def test_a_stopped_module_holds_up_nothing(server: MariaDBServer, place: Place) -> None:
    arguments = backup_arguments(place, place.mariadb("simrs", server))
    tool = PausingTool.make(STAGES["BLOCK_COMMIT"])
    with writers(server) as both, started("full_backup", arguments, path=str(tool.folder)) as run:
        tool.wait(run)
        add_to_the_log_table(server)
        os.kill(run.pid, signal.SIGSTOP)
        tool.go_on(both)
        # The last program of the pipeline writes the file itself: no byte waits for the module.
        assert wait_until(lambda: backups_running(tool) == [], 120)
        assert wait_until(lambda: all(each.waiting() < 1 for each in both.values()), 120)
        assert all(each.worst() < LONGEST_WAIT for each in both.values())
        assert sets(place) == []
        os.kill(run.pid, signal.SIGCONT)
        answer = run.result()
    assert answer["changed"]
    assert sets(place) == [answer["set"]]


@pytest.mark.slow
def test_a_reader_that_trickles_is_held_to_the_commit_guard(server: MariaDBServer, place: Place) -> None:
    instance = place.mariadb("simrs", server)
    tool = PausingTool.make(STAGES["BLOCK_COMMIT"])
    # A few bytes now and then: never silent for as long as the stall guard waits.
    agent = subprocess.Popen(
        [*instance.agent.argv("backup", "simrs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": f"{tool.folder}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    assert agent.stdout is not None
    assert agent.stderr is not None
    try:
        with writers(server) as both:
            drain(agent.stdout, tool.folder / "reached")
            add_to_the_log_table(server)
            tool.go_on(both)
            deadline = time.monotonic() + 120
            while backups_running(tool) and time.monotonic() < deadline:
                agent.stdout.read(65536)
                time.sleep(2)
            assert wait_until(lambda: all(each.waiting() < 1 for each in both.values()), 120)
            assert both["InnoDB"].worst() < LONGEST_WAIT
            assert both["InnoDB"].worst_of_all() > 3, "the stage was missed"
        os.set_blocking(agent.stdout.fileno(), True)
        agent.stdout.read()
        assert b"commits on production were blocked for 10 seconds" in agent.stderr.read()
        assert agent.wait(120) == 1
    finally:
        agent.kill()
        agent.wait()


@pytest.mark.slow
def test_over_ssh_a_stopped_client_never_holds_up_a_commit(server: MariaDBServer, place: Place, tmp_path: Path) -> None:
    instance = place.mariadb("simrs", server)
    tool = PausingTool.make(STAGES["BLOCK_COMMIT"])
    with (
        ssh_server(tmp_path / "ssh", place.root / "agent", path=str(tool.folder)) as sshd,
        writers(server) as both,
        started("full_backup", backup_arguments(place, instance, agent=sshd.agent())) as run,
    ):
        tool.wait(run)
        add_to_the_log_table(server)
        client = run.child("ssh")
        os.kill(client, signal.SIGSTOP)
        tool.go_on(both)
        assert wait_until(lambda: backups_running(tool) == [], 120), "the backup was not ended"
        assert wait_until(lambda: all(each.waiting() < 1 for each in both.values()), 120)
        assert all(each.worst() < LONGEST_WAIT for each in both.values())
        assert both["InnoDB"].worst_of_all() > 3
        with contextlib.suppress(ProcessLookupError):
            os.kill(client, signal.SIGCONT)
        assert run.result()["failed"]
    assert sets(place) == []


def test_a_link_that_is_cut_never_holds_up_a_commit(server: MariaDBServer, place: Place, tmp_path: Path) -> None:
    instance = place.mariadb("simrs", server)
    tool = PausingTool.make(STAGES["BLOCK_COMMIT"])
    with (
        link(tmp_path / "link") as cable,
        ssh_server(tmp_path / "ssh", place.root / "agent", address=cable.address, path=str(tool.folder)) as sshd,
        writers(server) as both,
        started("full_backup", backup_arguments(place, instance, agent=sshd.agent()), path=str(cable.tools)) as run,
    ):
        tool.wait(run)
        add_to_the_log_table(server)
        cable.cut()
        tool.go_on(both)
        began = time.monotonic()
        assert wait_until(lambda: backups_running(tool) == [], 120), "the backup was not ended"
        assert wait_until(lambda: all(each.waiting() < 1 for each in both.values()), 120)
        assert all(each.worst() < LONGEST_WAIT for each in both.values())
        assert both["InnoDB"].worst_of_all() > 3
        answer = run.result()
        assert time.monotonic() - began < 80  # not for as long as TCP would wait, which is many minutes
    assert answer["failed"]
    assert "without saying that its data are whole" in answer["msg"]
    assert sets(place) == []


def test_over_ssh_everything_works_databases_and_folders(server: MariaDBServer, place: Place, tmp_path: Path) -> None:
    instance = place.mariadb("simrs", server)
    documents = tmp_path / "scan"
    documents.mkdir()
    for number in range(3000):
        (documents / f"berkas {number} dengan nama yang agak panjang.txt").write_text(str(number))
    files = place.files("scan", documents)
    with ssh_server(tmp_path / "ssh", place.root / "agent") as sshd:
        made = called("full_backup", backup_arguments(place, instance, agent=sshd.agent()))
        assert made["changed"], made
        made = called("full_backup", backup_arguments(place, files, agent=sshd.agent()))
        assert made["changed"], made
        for path in documents.iterdir():
            path.write_text("changed")
        cycle: dict[str, Any] = {
            "instances": [instance_arguments(files, **sshd.agent())],
            "repository": str(place.repository),
            "recipients": list(place.protection.recipients),
            "identity_file": str(place.protection.identity_file),
        }
        done = called("log_cycle", cycle)
        assert done["instances"]["scan"]["result"] == "good", done
        verified = called("backup_verify", {**cycle, "level": "deep"})
        assert verified["failed"] == [], verified
        # Behind some sshd input and output are one socket, which does not block: a pause is not the end.
        argv = Agent(**sshd.agent()).argv("archive", "scan")
        asked = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert asked.stdin is not None
        for path in list(documents.iterdir())[:3]:
            asked.stdin.write(os.fsencode(path) + b"\0")
            asked.stdin.flush()
            time.sleep(0.5)
        archived, said = asked.communicate(timeout=300)
        assert b'"ok": true' in said, said
        assert archived.count(b"ustar") >= 3
        # A host key that is not the pinned one.
        known = sshd.folder / "known_hosts"
        known.write_text(known.read_text().split(" ")[0] + " " + (sshd.folder / "client.pub").read_text())
        refused = called("full_backup", backup_arguments(place, files, agent=sshd.agent()))
        assert refused["failed"]
        assert "Host key verification failed" in refused["msg"]


def test_an_agent_that_is_killed_leaves_no_tool_behind(server: MariaDBServer, place: Place) -> None:
    instance: Instance = place.mariadb("simrs", server)
    assert isinstance(instance.agent, Agent)
    tool = PausingTool.make(STAGES["InnoDB"])
    with started("full_backup", backup_arguments(place, instance), path=str(tool.folder)) as run:
        tool.wait(run)
        assert backups_running(tool) != []
        os.kill(run.child(AGENT_PROGRAM.name), signal.SIGKILL)
        assert wait_until(lambda: backups_running(tool) == [], 60)
        answer = run.result()
    assert answer["failed"]
    assert "without saying that its data are whole" in answer["msg"]
    assert sets(place) == []
