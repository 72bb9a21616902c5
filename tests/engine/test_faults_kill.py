# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed in the middle, or out of room: nothing half-written is ever listed, and the next run succeeds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import decode_stages, encode_stages
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.durable import dump_json
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Stage, write_through
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.process import wait_until
from demo.servers import MariaDBServer, workspace
from tests.engine.faults import (
    LONGEST_WAIT,
    PausingTool,
    Run,
    backup_arguments,
    backups_running,
    called,
    instance_arguments,
    started,
    writers,
)
from tests.support import AGENT_PROGRAM, Place, make_place

pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="acts on other users' processes")]
COPYING = r"Streaming \./besar/pasien\.ibd"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("kill") as folder, MariaDBServer(folder / "simrs", fast=True) as running:
        running.query(
            "CREATE DATABASE besar; CREATE TABLE besar.pasien (id INT PRIMARY KEY, isi VARBINARY(1024));"
            "INSERT INTO besar.pasien SELECT seq, RANDOM_BYTES(1000) FROM mysql.seq_1_to_40000"
        )
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


def cycle_arguments(place: Place, *instances: Any) -> dict[str, Any]:
    return {
        "instances": [instance_arguments(each) for each in instances],
        "repository": str(place.repository),
        "recipients": list(place.protection.recipients),
        "identity_file": str(place.protection.identity_file),
    }


def listed(place: Place) -> list[str]:
    """What anybody who asks is told."""
    info = backup_info(place.repository)["instances"].get("simrs", {"sets": [], "damaged_sets": []})
    assert info["damaged_sets"] == []
    return [each["set"] for each in info["sets"]]


def kill_module(run: Run, _server: MariaDBServer) -> None:
    run.process.kill()


def kill_agent(run: Run, _server: MariaDBServer) -> None:
    os.kill(run.child(AGENT_PROGRAM.name), signal.SIGKILL)


def kill_tool(run: Run, _server: MariaDBServer) -> None:
    os.kill(run.child("mariadb-backup"), signal.SIGKILL)


def kill_zstd(run: Run, _server: MariaDBServer) -> None:
    os.kill(run.child("zstd"), signal.SIGKILL)


def kill_age(run: Run, _server: MariaDBServer) -> None:
    os.kill(run.child("age"), signal.SIGKILL)


def kill_server(_run: Run, server: MariaDBServer) -> None:
    server.kill9()


def end_module(run: Run, _server: MariaDBServer) -> None:
    run.process.terminate()


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (kill_module, ""),
        pytest.param(kill_agent, "without saying that its data are whole", marks=pytest.mark.slow),
        pytest.param(kill_tool, "mariadb-backup ended with status", marks=pytest.mark.slow),
        pytest.param(kill_zstd, "zstd was killed by signal 9", marks=pytest.mark.slow),
        (kill_age, "age was killed by signal 9"),
        (kill_server, "mariadb-backup ended with status"),
        (end_module, ""),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_backup_killed_in_the_middle(
    server: MariaDBServer, place: Place, act: Callable[[Run, MariaDBServer], None], why: str
) -> None:
    arguments = backup_arguments(place, place.mariadb("simrs", server))
    tool = PausingTool.make(COPYING)
    with started("full_backup", arguments, path=str(tool.folder)) as run:
        tool.wait(run)
        folder = Repository.open(place.repository).instance("simrs")
        assert [name for name in os.listdir(folder.full) if name.startswith(".unfinished-")]
        assert listed(place) == []
        act(run, server)
        tool.go_on()
        if why:
            answer = run.result()
            assert answer["failed"]
            assert why in answer["msg"]
        else:
            run.process.wait(300)
        assert wait_until(lambda: backups_running(tool) == [], 120), "a backup tool is left"
    if act is kill_server:
        server.start()
    assert listed(place) == []
    left = [name for name in os.listdir(folder.full) if name.startswith(".unfinished-")]
    assert bool(left) == (act is kill_module)  # only kill -9 leaves something: whoever can clears up behind himself
    again = called("full_backup", arguments)
    assert again["changed"], again
    assert again["cleaned"] == left
    assert os.listdir(folder.full) == [again["set"]]
    assert listed(place) == [again["set"]]
    records = [
        (each["kind"], each["data"].get("result")) for each in Repository.open(place.repository).ledger.records()
    ]
    interrupted = [] if act is kill_module else [("finished", "failed")]
    assert records == [
        ("started", None),
        *interrupted,
        ("started", None),
        ("event", "sealed"),
        ("finished", "succeeded"),
    ]
    verified = called("backup_verify", cycle_arguments(place, place.mariadb("simrs", server)))
    assert verified["failed"] == [], verified


def test_killed_between_publishing_and_the_last_record(server: MariaDBServer, place: Place) -> None:
    """The set is there and vouched for; the next run writes what the dead one could not."""
    instance = place.mariadb("simrs", server)
    slot = "2026-09-19T05:00:00Z"
    made = called("full_backup", backup_arguments(place, instance, slot=slot))
    ledger = Repository.open(place.repository).ledger
    path = max(ledger.folder.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "finished"
    path.write_bytes(b"".join(lines[:-1]))  # as if it had been killed before this one
    before = path.read_bytes()
    checked = called("full_backup", backup_arguments(place, instance, slot=slot), check=True)
    assert not checked["changed"]
    assert path.read_bytes() == before
    again = called("full_backup", backup_arguments(place, instance, slot=slot))
    assert (again["changed"], again["set"]) == (False, made["set"])
    last = list(ledger.records())[-1]
    assert (last["kind"], last["run"], last["data"]["set"]) == ("finished", made["run"], made["set"])
    assert "recorded_late" in last["data"]
    before = path.read_bytes()
    assert not called("full_backup", backup_arguments(place, instance, slot=slot))["changed"]
    assert path.read_bytes() == before
    assert called("backup_verify", cycle_arguments(place, instance))["failed"] == []


@pytest.mark.parametrize("who", ["module", "server"])
def test_a_cycle_killed_in_the_middle(server: MariaDBServer, place: Place, tmp_path: Path, who: str) -> None:
    instance = place.mariadb("simrs", server)
    assert called("full_backup", backup_arguments(place, instance))["changed"]
    server.query("INSERT INTO besar.pasien SELECT id + 1000000, isi FROM besar.pasien WHERE id < 20000 LIMIT 20000")
    tools = tmp_path / "tools"
    tools.mkdir()
    # The log is on its way into the repository: compressed, and not yet published.
    (tools / "zstd").write_text(
        f"#!/bin/bash\nif [ ! -e {tools}/go ]; then touch {tools}/reached; while [ ! -e {tools}/go ]; do sleep 0.05; done; fi\n"
        'exec /usr/bin/zstd "$@"\n'
    )
    (tools / "zstd").chmod(0o755)
    arguments = cycle_arguments(place, instance)
    with started("log_cycle", arguments, path=str(tools)) as run:
        assert wait_until(lambda: (tools / "reached").exists(), 300)
        if who == "module":
            run.process.kill()
            run.process.wait(60)
        else:
            server.kill9()
        (tools / "go").touch()
        if who == "server":
            answer = run.result()
            assert answer["instances"]["simrs"]["result"] in ("failed", "good")
    if who == "server":
        server.start()
    lineage = Repository.open(place.repository).instance("simrs").current_lineage()
    assert lineage is not None
    for record in lineage.records():
        assert (lineage.path / record.artefact).stat().st_size == record.values["size"]
    again = called("log_cycle", arguments)
    assert again["failed"] == [], again
    if who == "module":
        assert again["instances"]["simrs"]["cleaned"] != []
        assert again["instances"]["simrs"]["archived"] != []
    assert [name for name in os.listdir(lineage.path) if name.startswith(".unfinished-")] == []
    assert called("backup_verify", {**arguments, "level": "deep"})["failed"] == []
    server.query("DELETE FROM besar.pasien WHERE id > 1000000")


def test_a_repository_that_fills_up_in_the_middle(server: MariaDBServer, place: Place, tmp_path: Path) -> None:
    instance = place.mariadb("simrs", server)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(small)], check=True)
    try:
        Repository.create(small)
        arguments = {**backup_arguments(place, instance), "repository": str(small)}
        first = called("full_backup", arguments)
        assert first["changed"], first
        files = {path: path.read_bytes() for path in Path(first["path"]).iterdir()}
        tool = PausingTool.make(COPYING)
        with writers(server) as both, started("full_backup", arguments, path=str(tool.folder)) as run:
            tool.wait(run)
            # Somebody else fills the file system while the backup is under way.
            with (small / "other").open("wb") as stream, pytest.raises(OSError, match="No space left"):  # noqa: PT012
                while True:
                    stream.write(b"x" * 1_000_000)
                    stream.flush()
            tool.go_on(both)
            answer = run.result()
            assert answer["failed"]
            assert "is full" in answer["msg"] or "No space left" in answer["msg"]
            assert "Free space" in answer["remedy"]
            assert wait_until(lambda: backups_running(tool) == [], 120)
            assert all(each.worst() < LONGEST_WAIT for each in both.values())
            assert all(each.failure == "" for each in both.values())
        folder = Repository.open(small).instance("simrs")
        assert os.listdir(folder.full) == [first["set"]]
        assert {path: path.read_bytes() for path in Path(first["path"]).iterdir()} == files
        (small / "other").unlink()
        assert called("full_backup", arguments)["changed"]
        verify = {**cycle_arguments(place, instance), "repository": str(small)}
        assert called("backup_verify", verify)["failed"] == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_without_room_it_is_refused_before_anything_is_written(
    server: MariaDBServer, place: Place, tmp_path: Path
) -> None:
    instance = place.mariadb("simrs", server)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        Repository.create(small)
        before = sorted(small.rglob("*"))
        answer = called("full_backup", {**backup_arguments(place, instance), "repository": str(small)})
        assert answer["failed"]
        assert "bytes free; a full backup of simrs needs about" in answer["msg"]
        assert sorted(small.rglob("*")) == before
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_set_is_unpacked_and_prepared_and_one_that_is_cut_is_not(server: MariaDBServer, place: Place) -> None:
    instance = place.mariadb("simrs", server)
    made = full_backup(FullBackupRequest(instance, place.repository, place.protection), Progress())
    request = VerifyRequest([instance], place.repository, place.protection, level="deep")
    good = backup_verify(request, Progress())
    assert good["failed"] == [], good
    assert good["instances"]["simrs"]["sets"][0]["deep"] != {}
    folder = Repository.open(place.repository).instance("simrs")
    assert list(folder.verify.iterdir()) == []
    # A stream that lacks its end, with a manifest and a ledger that know nothing of it.
    found = folder.read_set(made["set"])
    artefact = found.manifest.artefacts[0]
    plain = place.root / "plain"
    target = found.path / artefact.name
    write_through(decode_stages(artefact.layers, place.protection, target), plain)
    os.truncate(plain, plain.stat().st_size // 2)
    target.unlink()
    written = write_through((Stage(("cat", str(plain))), *encode_stages(place.protection, 1, 1)), target)
    values = json.loads((found.path / "manifest.json").read_text())
    values["artefacts"][0].update(size=written.size, sha256=written.sha256)
    (found.path / "manifest.json").write_bytes(dump_json(values))
    digest = folder.read_set(made["set"]).manifest_sha256
    data = {"set": made["set"], "manifest_sha256": digest, "result": "succeeded"}
    Repository.open(place.repository).ledger.append("finished", "full_backup", "forged", instance="simrs", data=data)
    assert backup_verify(VerifyRequest([instance], place.repository, place.protection), Progress())["failed"] == []
    bad = backup_verify(request, Progress())["instances"]["simrs"]
    assert [each["code"] for each in bad["findings"]] == ["deep-verification-failed"]
    assert list(folder.verify.iterdir()) == []


@pytest.mark.slow
def test_the_modules_memory_does_not_grow_with_the_database(tmp_path: Path) -> None:
    place = make_place(tmp_path / "backup")
    with workspace("memory") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        server.query(
            "CREATE DATABASE besar; CREATE TABLE besar.pasien (id INT PRIMARY KEY, isi VARBINARY(1024));"
            "INSERT INTO besar.pasien SELECT seq, RANDOM_BYTES(1000) FROM mysql.seq_1_to_1000000",
        )
        with started("full_backup", backup_arguments(place, place.mariadb("simrs", server))) as run:
            peak = 0
            while run.process.poll() is None:
                try:
                    status = Path(f"/proc/{run.pid}/status").read_text()
                except OSError:
                    break
                found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
                peak = max(peak, int(found[0].split()[1]) if found else 0)
                time.sleep(0.2)
            answer = run.result()
    assert answer["changed"], answer
    assert answer["size_bytes"] > 900_000_000
    assert 10_000 < peak < 64 * 1024
