# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver program by itself, with small scripts in the place of a database's tools."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import receiver_program as program
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_shipping import program_source
from demo.process import alive, wait_until

STREAM = 'i=0; while :; do i=$((i+1)); echo $i >> "$1/$2"; sleep 0.05; done'


class Receiver:
    """A configuration, and a worker that runs with it in a thread."""

    def __init__(self, base: Path) -> None:
        self.staging = base / "staging"
        self.staging.mkdir()
        self.config = base / "simrs.json"
        self.values: dict[str, Any] = {
            "receiver_version": 1,
            "instance": "simrs",
            "engine": "none",
            "staging": str(self.staging),
            "folder": "connection",
            "argv": ["/bin/sh", "-c", STREAM, "stream", "{folder}", "{start}"],
            "environment": {},
            "start": {
                "logs": str(base / "logs"),
                "head_key": "next",
                "opening_key": "file",
                "otherwise": ["/bin/echo", "bin.000001 77"],
                "missing": "no such log",
            },
            "probe": None,
            "minimum_free_bytes": 1,
            "poll_seconds": 0.05,
            "backoff_seconds": [0.05, 0.3],
        }
        self.write()

    def write(self, **more: Any) -> None:
        self.values.update(more)
        self.config.write_text(json.dumps(self.values))

    @contextmanager
    def running(self, log: Path | None = None) -> Iterator[program.Worker]:
        worker = program.Worker(self.config, log)
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(worker.run()))
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(120)
        assert results == [0]

    def status(self) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.staging / program.STATUS).read_bytes())
        except (OSError, ValueError):
            return {}
        return value

    def waits_for(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        assert wait_until(lambda: bool(condition(self.status())), 120), self.status()
        return self.status()

    def folders(self) -> list[str]:
        return sorted(entry.name for entry in self.staging.iterdir() if entry.is_dir())


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


def test_streams_and_stops(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_SYNC_SECONDS", 0.1)
    with receiver.running():
        status = receiver.waits_for(lambda status: status.get("last_size", 0) > 10)
        assert (status["state"], status["start"], status["last_file"]) == ("streaming", "bin.000001", "bin.000001")
        assert status["config_sha256"] == hashlib.sha256(receiver.config.read_bytes()).hexdigest()
        assert program.lock_is_held(receiver.staging / program.LOCK)
        assert receiver.folders() == [status["folder"]]
    assert receiver.status()["state"] == "stopped"
    assert not program.lock_is_held(receiver.staging / program.LOCK)


def test_starts_where_the_chain_ends(receiver: Receiver, tmp_path: Path) -> None:
    lineage = tmp_path / "logs" / "20260919T050000Z-0001"
    lineage.mkdir(parents=True)
    rule = receiver.values["start"]
    assert program.chain_start(rule) == ""
    (lineage / "lineage.json").write_text(json.dumps({"start": {"file": "bin.000004"}}))
    assert program.chain_start(rule) == "bin.000004"
    (lineage / "00000001-bin.000004.json").write_text(json.dumps({"end": {"next": "bin.000005"}}))
    (lineage / "head.json").write_text(json.dumps({"record": "00000001-bin.000004.json"}))
    assert program.chain_start(rule) == "bin.000005"
    # That log is gone on the server: after its refusal the oldest one is taken.
    refuse = f'if [ "$2" = bin.000005 ]; then echo "ERROR: no such log" >&2; exit 1; fi; {STREAM}'
    receiver.write(argv=["/bin/sh", "-c", refuse, "stream", "{folder}", "{start}"])
    with receiver.running():
        receiver.waits_for(lambda status: status.get("start") == "bin.000001")


def test_says_why_it_ended_and_tries_again(receiver: Receiver, tmp_path: Path) -> None:
    log = tmp_path / "log"
    receiver.write(argv=["/bin/sh", "-c", "echo the link broke >&2; exit 3"])
    with receiver.running(log):
        status = receiver.waits_for(lambda status: status.get("connections", 0) >= 2)
        assert receiver.waits_for(lambda status: status.get("state") == "waiting")
        assert "sh ended with status 3: the link broke" in status["last_error"]
        receiver.write(argv=["/bin/sh", "-c", STREAM, "stream", "{folder}", "{start}"])  # read anew each time
        receiver.waits_for(lambda status: status.get("state") == "streaming")
    assert len(receiver.folders()) == 1  # connections that brought nothing leave nothing
    assert "the link broke" in log.read_text()


def test_nobody_knows_where_to_start(receiver: Receiver) -> None:
    for command in (["/bin/false"], ["/nowhere/tool"], ["/bin/true"]):
        receiver.write(start={**receiver.values["start"], "otherwise": command})
        (receiver.staging / program.STATUS).unlink(missing_ok=True)  # of the one before
        with receiver.running():
            receiver.waits_for(lambda status: "does not tell which logs" in status.get("last_error", ""))


def test_one_folder_for_all_connections(receiver: Receiver) -> None:
    once = 'echo x > "$1/000000010000000000000001.partial"; sleep 0.2'
    receiver.write(folder="timeline-1", start=None, argv=["/bin/sh", "-c", once, "stream", "{folder}"])
    with receiver.running():
        receiver.waits_for(lambda status: status.get("connections", 0) >= 2)
    assert receiver.folders() == ["timeline-1"]


def test_stops_while_the_disk_is_full(receiver: Receiver) -> None:
    with receiver.running() as worker:
        receiver.waits_for(lambda status: status.get("state") == "streaming")
        free = worker._free
        worker._free = lambda: 0  # type: ignore[method-assign]
        receiver.waits_for(lambda status: "only 0 bytes are free" in status.get("last_error", ""))
        size = {path: path.stat().st_size for path in receiver.staging.rglob("bin.*")}
        assert {path: path.stat().st_size for path in receiver.staging.rglob("bin.*")} == size
        worker._free = free  # type: ignore[method-assign]
        receiver.waits_for(lambda status: status.get("state") == "streaming")


def test_stream_that_stands_still_while_the_server_goes_on(receiver: Receiver) -> None:
    still = 'echo x > "$1/$2"; exec sleep 60'
    argv = ["/bin/sh", "-c", still, "stream", "{folder}", "{start}"]
    receiver.write(argv=argv, probe={"argv": ["/bin/echo", "bin.000001 2"], "seconds": 0.5})
    with receiver.running():
        # Where the shell is slower than the probe there were more connections: from here on there is none.
        before = receiver.waits_for(lambda status: (status.get("state"), status.get("last_size")) == ("streaming", 2))
        threading.Event().wait(2.0)
        assert receiver.status()["connections"] == before["connections"]  # the server stands there too
    receiver.write(probe={"argv": ["/bin/echo", "bin.000001 500"], "seconds": 0.5})
    with receiver.running():
        receiver.waits_for(
            lambda status: "stands at bin.000001 2, the server at bin.000001 500" in status["last_error"]
        )


def test_child_that_does_not_want_to_end(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", lambda self, timeout=None: real(self, timeout and min(timeout, 0.3)))
    stubborn = 'trap "" TERM; echo x > "$1/$2"; while :; do sleep 0.1; done'
    receiver.write(argv=["/bin/sh", "-c", stubborn, "stream", "{folder}", "{start}"])
    with receiver.running():
        receiver.waits_for(lambda status: status.get("state") == "streaming")


def test_status_that_cannot_be_written_is_no_reason_to_end(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    (receiver.staging / f".{program.STATUS}.new").mkdir()
    with receiver.running():
        assert wait_until(lambda: any(receiver.staging.rglob("bin.*")), 120)
    assert "status cannot be written" in capsys.readouterr().err


def test_log_stays_small(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LOG_BYTES", 200)
    log = tmp_path / "log"
    worker = program.Worker(receiver.config, log)
    for number in range(50):
        worker.log(f"line {number}")
    assert log.stat().st_size < 400
    assert Path(f"{log}.1").exists()
    assert "line 49" in log.read_text()


def test_second_one_is_refused(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    with program.hold(receiver.staging / program.LOCK):
        assert program.Worker(receiver.config, None).run() == program.ALREADY_RUNNING
    assert "runs already" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"receiver_version": 9}'])
def test_configuration_that_cannot_be_used(
    content: str, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.config.write_text(content)
    for verb in ("run", "start", "stop", "status"):
        assert program.main(["--config", str(receiver.config), verb]) == 1
        assert str(receiver.config) in capsys.readouterr().err
    receiver.write(receiver_version=2)
    assert program.main(["--config", str(receiver.config), "status"]) == 1
    assert "version 2" in capsys.readouterr().err


def test_supervisor_starts_the_worker_again_and_ends_with_it(receiver: Receiver) -> None:
    killed: list[int] = []

    def watch() -> None:
        try:
            first = receiver.waits_for(lambda status: status.get("state") == "streaming")["pid"]
            os.kill(first, signal.SIGKILL)
            receiver.waits_for(lambda status: status.get("pid") != first and status.get("state") == "streaming")
            killed.append(first)
        finally:  # the supervisor does not end before
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=watch)
    try:
        thread.start()
        program.supervise(receiver.config, receiver.staging)
    finally:
        thread.join()
        signal.signal(signal.SIGTERM, before)
    assert killed
    assert receiver.status()["state"] == "stopped"


def test_start_and_stop_in_the_background(
    receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = tmp_path / "dbcontinuity-receiver"
    installed.write_bytes(program_source())
    argv = [sys.executable, "-I", str(installed), "--config", str(receiver.config)]
    # Whoever waits for the end of its output must not wait for the receiver's end.
    done = subprocess.run([*argv, "start"], capture_output=True, timeout=120, check=True)
    assert done.stdout + done.stderr == b""
    pid = receiver.waits_for(lambda status: status.get("state") == "streaming")["pid"]
    assert subprocess.run([*argv, "start"], timeout=120).returncode == 0
    assert receiver.status()["pid"] == pid
    told = json.loads(subprocess.run([*argv, "status"], capture_output=True, timeout=120, check=True).stdout)
    assert (told["running"], told["supervised"]) == (True, True)
    assert program.main(["--config", str(receiver.config), "stop"]) == 0
    assert not alive(pid)
    assert program.main(["--config", str(receiver.config), "stop"]) == 0
    assert program.main(["--config", str(receiver.config), "status"]) == 0
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_program_needs_nothing_of_the_collection() -> None:
    text = program_source().decode()
    assert not [line for line in text.splitlines() if line.startswith(("from .", "from ansible", "import ansible"))]
