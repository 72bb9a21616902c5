# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver against a real server: set up, killed, cut off, taken down."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import receiver_program
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError, PrerequisiteError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_shipping import (
    LogShippingRequest,
    log_shipping,
)
from demo.process import alive, arguments, descendants, wait_until
from demo.servers import MariaDBServer, workspace
from tests.engine.mariadb_site import NAME, Site

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("receiver") as folder, MariaDBServer(folder / "server", fast=True) as running:
        yield running


@dataclasses.dataclass
class Shipping:
    """A site and the way its receiver is asked for."""

    site: Site
    request: LogShippingRequest

    def do(self, **changes: Any) -> dict[str, Any]:
        return log_shipping(dataclasses.replace(self.request, **changes))

    @property
    def staging(self) -> Path:
        return self.site.folder.staging

    def status(self) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.staging / receiver_program.STATUS).read_bytes())
        except (OSError, ValueError):
            return {}
        return value

    def staged(self) -> dict[str, bytes]:
        """The newest connection's files."""
        while True:
            folders = sorted(entry for entry in self.staging.iterdir() if entry.is_dir())
            with contextlib.suppress(FileNotFoundError):  # a connection that brought nothing takes its folder with it
                return {path.name: path.read_bytes() for path in folders[-1].iterdir()} if folders else {}

    def streamed(self) -> bool:
        """Whether staging holds the server's log to its last byte."""
        name = self.site.current()
        size = {row[0]: row[1] for row in self.site.server.query("SHOW BINARY LOGS")}[name]
        return len(self.staged().get(name, b"")) == int(size or 0)

    def caught_up(self) -> None:
        assert wait_until(self.streamed, 120), (self.status(), self.staged().keys())

    def waits_for(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 120) -> None:
        assert wait_until(lambda: condition(self.status()), seconds), self.status()


@pytest.fixture
def shipping(server: MariaDBServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shipping]:
    # A slow machine's receiver may take longer to say that it runs; what follows here builds upon that.
    monkeypatch.setattr(f"{log_shipping.__module__}._SETTLE_SECONDS", 120.0)
    site = Site.make(server, tmp_path)
    made = Shipping(
        site,
        LogShippingRequest(
            site.instance,
            site.repository.root,
            supervisor="process",
            program=tmp_path / "libexec" / "dbcontinuity-receiver",
            config_dir=tmp_path / "receivers",
            python=Path(sys.executable),
            minimum_free_bytes=1024,
        ),
    )
    yield made
    made.do(state="absent")


def test_set_up_twice_changed_once_and_taken_down(shipping: Shipping) -> None:
    plan = shipping.do(check_only=True)
    assert plan["changed"]
    assert not shipping.request.program.exists()
    assert {Path(each["after_header"]).name for each in plan["diff"]} == {"dbcontinuity-receiver", f"{NAME}.json"}
    records = len(list(shipping.site.repository.ledger.records()))
    first = shipping.do()
    assert (first["changed"], first["running"]) == (True, True)
    assert first["changes"] == plan["changes"]
    assert first["status"]["state"] in ("connecting", "streaming")
    assert len(list(shipping.site.repository.ledger.records())) == records + 1
    again = shipping.do()
    assert (again["changed"], again["changes"], again["diff"], again["running"]) == (False, [], [], True)
    assert len(list(shipping.site.repository.ledger.records())) == records + 1
    assert shipping.do(check_only=True)["changed"] is False
    shipping.caught_up()
    pid = shipping.status()["pid"]
    password = next(
        line.partition("=")[2]
        for line in Path(str(shipping.site.instance.credentials)).read_text().splitlines()
        if line.startswith("password")
    )
    config = json.loads((shipping.request.config_dir / f"{NAME}.json").read_text())
    everywhere = json.dumps([config, shipping.status()]) + " ".join(
        word for each in (pid, *descendants(pid)) for word in arguments(each)
    )
    assert password not in everywhere
    planned = shipping.do(state="absent", check_only=True)
    assert planned["changed"]
    assert alive(pid)
    gone = shipping.do(state="absent")
    assert (gone["changed"], gone["running"], gone["changes"]) == (True, False, planned["changes"])
    assert not alive(pid)
    assert not shipping.request.program.exists()
    assert list(shipping.request.config_dir.iterdir()) == []
    assert shipping.do(state="absent")["changed"] is False
    assert shipping.staged()  # what was received stays


def test_changed_settings_restart_it_and_nothing_else_does(shipping: Shipping) -> None:
    shipping.do()
    shipping.waits_for(lambda status: status.get("state") == "streaming")
    pid = shipping.status()["pid"]
    changed = shipping.do(receiver_id=4_000_000_123)
    assert [word.split()[0] for word in changed["changes"]] == ["change", "restart"]
    assert "4000000123" in changed["diff"][0]["after"]
    assert shipping.status()["pid"] != pid
    assert shipping.do(receiver_id=4_000_000_123)["changed"] is False
    shipping.request.program.write_text("# something else\n")
    repaired = shipping.do(receiver_id=4_000_000_123)
    assert [word.split()[0] for word in repaired["changes"]] == ["change", "restart"]


def test_stream_follows_within_seconds_and_cycles_prune_it(shipping: Shipping) -> None:
    site = shipping.site
    shipping.do()
    for _ in range(3):
        site.write()
        shipping.caught_up()
        assert site.cycle()["result"] == "good"
    shipping.caught_up()
    assert len(shipping.staged()) <= 2  # the one being written, and at most its predecessor
    site.write()
    shipping.caught_up()
    answer = site.cycle(check_only=True)
    assert answer["lag_bytes"] > 0


def test_killed_receiver_and_restarted_server(shipping: Shipping) -> None:
    site = shipping.site
    shipping.do()
    site.write()
    shipping.caught_up()
    first = shipping.status()
    children = descendants(first["pid"])
    assert children
    os.kill(first["pid"], signal.SIGKILL)
    assert wait_until(lambda: not any(map(alive, [first["pid"], *children])), 60)  # the stream's program dies with it
    site.write()
    shipping.waits_for(lambda status: status.get("pid") != first["pid"] and status.get("state") == "streaming")
    assert shipping.status()["folder"] != first["folder"]
    shipping.caught_up()
    second = shipping.status()
    site.server.kill9()
    shipping.waits_for(lambda status: status.get("state") == "waiting")
    assert "ended with status" in shipping.status()["last_error"]
    site.server.start()
    site.write()
    shipping.waits_for(lambda status: status.get("folder") not in (None, second["folder"]))
    shipping.caught_up()

    def same() -> bool:  # byte for byte, but for the mark that a file is in use
        return all(data[22:] == site.server_file(name).read_bytes()[22:] for name, data in shipping.staged().items())

    # The server itself may note a checkpoint in its log between the two looks.
    assert wait_until(lambda: shipping.streamed() and same(), 120), shipping.staged().keys()
    assert site.cycle()["result"] == "good"
    assert site.verify() == []


def test_starts_where_the_chain_ends_or_at_the_oldest_log(shipping: Shipping) -> None:
    site = shipping.site
    site.rotate()
    site.cycle()
    head = site.lineage.head()
    assert head is not None
    shipping.do()
    shipping.waits_for(lambda status: status.get("start") == head.end["next"])
    shipping.do(state="absent")
    site.rotate()
    site.rotate()
    site.purge()
    shipping.do()
    shipping.waits_for(lambda status: status.get("start") == site.current())
    shipping.caught_up()


def test_full_disk_pauses_the_stream_not_production(shipping: Shipping) -> None:
    shipping.do(minimum_free_bytes=1 << 60)
    shipping.waits_for(lambda status: status.get("state") == "waiting")
    assert "bytes are free" in shipping.status()["last_error"]
    shipping.site.write()
    assert shipping.staged() == {}
    shipping.do()
    shipping.caught_up()


def test_dead_link_is_noticed(shipping: Shipping, monkeypatch: pytest.MonkeyPatch) -> None:
    shipping.do()
    shipping.caught_up()
    folder = shipping.status()["folder"]
    config = shipping.request.config_dir / f"{NAME}.json"
    shipping.do(state="absent")
    shipping.do()
    values = json.loads(config.read_text())
    values["probe"]["seconds"] = 5  # longer than a slow client takes to bring its first byte
    config.write_text(json.dumps(values))
    pid = shipping.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    shipping.waits_for(lambda status: status.get("pid") != pid and status.get("state") == "streaming")
    stream = [each for each in descendants(shipping.status()["pid"]) if "--stop-never" in arguments(each)]
    folder = shipping.status()["folder"]
    os.kill(stream[0], signal.SIGSTOP)
    shipping.site.write()
    shipping.waits_for(lambda status: status.get("folder") not in (None, folder))
    assert "the stream stands at" in shipping.status()["last_error"]
    shipping.caught_up()


def test_only_one_receiver_of_an_instance(shipping: Shipping, capsys: pytest.CaptureFixture[str]) -> None:
    shipping.do()
    config = shipping.request.config_dir / f"{NAME}.json"
    assert receiver_program.main(["--config", str(config), "run"]) == receiver_program.ALREADY_RUNNING
    assert "runs already" in capsys.readouterr().err
    assert receiver_program.main(["--config", str(config), "start"]) == 0
    assert receiver_program.main(["--config", str(config), "status"]) == 0
    assert json.loads(capsys.readouterr().out)["supervised"]


def test_refusals_leave_nothing_behind(shipping: Shipping, tmp_path: Path) -> None:
    site = shipping.site
    lesser = site.server.account("lesser", ["RELOAD ON *.*"]).option_file(tmp_path / "lesser.cnf")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"instance": Instance(NAME, "mariadb", credentials=lesser)}, PrerequisiteError, "REPLICATION SLAVE"),
        ({"instance": Instance("arsip", "files")}, InputError, "no log stream"),
        ({"state": "there"}, InputError, "'there'"),
        ({"supervisor": "cron"}, InputError, "'cron'"),
        ({"user": "nobody-of-that-name"}, PrerequisiteError, "no user"),
        ({"user": "nobody"}, PrerequisiteError, "do not belong"),
        ({"receiver_id": 0}, InputError, "receiver id"),
        ({"python": Path("/nowhere/python3")}, PrerequisiteError, "no Python"),
    ]
    for changes, kind, text in cases:
        with pytest.raises(kind, match=text):
            shipping.do(**changes)
    assert not shipping.request.program.exists()
    assert not shipping.request.config_dir.exists()
    assert not shipping.staging.exists()


# -- systemd, with a stand-in for systemctl that keeps what it was told --

_SYSTEMCTL = """#!/bin/sh
state="{state}"
echo "$@" >> "$state/calls"
case "$1" in
is-active) cat "$state/active" 2>/dev/null || echo inactive ;;
is-enabled) cat "$state/enabled" 2>/dev/null || echo disabled ;;
enable) echo enabled > "$state/enabled" ;;
start|restart) echo active > "$state/active" ;;
disable) rm -f "$state/enabled" "$state/active" ;;
esac
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state = tmp_path / "systemd"
    state.mkdir()
    program = state / "systemctl"
    program.write_text(_SYSTEMCTL.format(state=state))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{state}:{os.environ['PATH']}")
    monkeypatch.setattr(
        "ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_shipping._SETTLE_SECONDS", 0.1
    )
    return state / "calls"


def test_systemd_unit(shipping: Shipping, systemctl: Path, tmp_path: Path) -> None:
    units = tmp_path / "units"
    how: dict[str, Any] = {"supervisor": "systemd", "unit_dir": units}
    first = shipping.do(**how)
    assert (first["changed"], first["running"], first["service"]) == (
        True,
        True,
        f"dbcontinuity-receiver@{NAME}.service",
    )
    template = units / "dbcontinuity-receiver@.service"
    drop_in = units / f"dbcontinuity-receiver@{NAME}.service.d" / "instance.conf"
    assert f'--config "{shipping.request.config_dir}/%i.json" run' in template.read_text()
    assert f'ReadWritePaths="{shipping.staging}"' in drop_in.read_text()
    assert "daemon-reload" in systemctl.read_text()
    # The stand-in starts nothing, so the receiver has not said that it runs with this configuration: say it here.
    config = shipping.request.config_dir / f"{NAME}.json"
    hashes = {
        "config_sha256": receiver_program.read_config(config)["sha256"],
        "program_sha256": hashlib.sha256(shipping.request.program.read_bytes()).hexdigest(),
    }
    (shipping.staging / receiver_program.STATUS).write_text(json.dumps(hashes))
    systemctl.unlink()
    again = shipping.do(**how)
    assert (again["changed"], again["changes"]) == (False, [])
    assert {line.split()[0] for line in systemctl.read_text().splitlines()} == {"is-active", "is-enabled"}
    changed = shipping.do(**how, receiver_id=77)
    assert changed["changes"][-1].startswith("restart ")
    with pytest.raises(InputError, match="systemd unit"):
        shipping.do(**how, program=tmp_path / "a%b")
    gone = shipping.do(**how, state="absent")
    assert (gone["changed"], gone["running"]) == (True, False)
    assert list(units.iterdir()) == []
    assert shipping.do(**how, state="absent")["changed"] is False


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_accepts_the_unit(shipping: Shipping, systemctl: Path, tmp_path: Path) -> None:
    units = tmp_path / "units"
    shipping.do(supervisor="systemd", unit_dir=units)
    unit = units / f"dbcontinuity-receiver@{NAME}.service"
    shutil.copy(units / "dbcontinuity-receiver@.service", unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(unit)], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if NAME in line]
    assert complaints == []
