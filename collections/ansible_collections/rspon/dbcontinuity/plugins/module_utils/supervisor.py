# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a receiver running: systemd, or where there is none a process that watches over it."""

from __future__ import annotations

import pwd
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from . import receiver_program
from .errors import ContinuityError, InputError, PipelineError
from .process import Finished, Stage, find_tool, run

TEMPLATE = "dbcontinuity-receiver@.service"
PROGRAM = Path("/usr/local/libexec/dbcontinuity-receiver")
# Where systemd is the host's service manager, and nowhere else: sd_booted(3).
_SYSTEMD = Path("/run/systemd/system")

# What every receiver's unit says; what differs between instances stands in a drop-in of their own.
_TEMPLATE_TEXT = """\
# Written by rspon.dbcontinuity.log_shipping; changes are overwritten.
[Unit]
Description=dbcontinuity: log receiver of %i
Documentation=man:mariadb-binlog(1) man:pg_receivewal(1)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart="{python}" -I "{program}" --config "{config_dir}/%i.json" run
Restart=always
RestartSec=5
KillMode=control-group
TimeoutStopSec=20
UMask=0027
Nice=5
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""
_INSTANCE_TEXT = """\
# Written by rspon.dbcontinuity.log_shipping; changes are overwritten.
[Unit]
RequiresMountsFor="{repository}"

[Service]
{user}ReadWritePaths="{staging}"
"""


def _plain(path: Path, what: str) -> str:
    text = str(path)
    if any(character in text for character in "\"'\\%$\n"):
        raise InputError(f"The {what} {text!r} cannot stand in a systemd unit.", "Use a path without quotes, %, $, \\.")
    return text


def unit_files(
    unit_dir: Path,
    name: str,
    *,
    python: Path,
    program: Path,
    config_dir: Path,
    repository: Path,
    staging: Path,
    user: str,
) -> tuple[tuple[Path, str], tuple[Path, str]]:
    """Return the unit template and the instance's drop-in, as (path, content)."""
    template = _TEMPLATE_TEXT.format(
        python=_plain(python, "python"),
        program=_plain(program, "program"),
        config_dir=_plain(config_dir, "config_dir"),
    )
    drop_in = _INSTANCE_TEXT.format(
        repository=_plain(repository, "repository"),
        staging=_plain(staging, "staging folder"),
        user=f"User={user}\n" if user else "",
    )
    return (
        (unit_dir / TEMPLATE, template),
        (unit_dir / f"dbcontinuity-receiver@{name}.service.d" / "instance.conf", drop_in),
    )


class Supervisor(ABC):
    """Starts, stops and looks at one instance's receiver."""

    name: str

    @abstractmethod
    def running(self) -> bool:
        """Return whether the receiver is kept running now, and from the next boot on where that applies."""

    def anything(self) -> bool:
        """Return whether anything of it runs or would at the next boot."""
        return self.running()

    @abstractmethod
    def start(self, *, again: bool) -> None:
        """Start it; *again*: end a running one first."""

    @abstractmethod
    def stop(self) -> None:
        """End it, also for the next boot."""

    def files_changed(self) -> None:  # noqa: B027 - only systemd wants to know
        """Files were written or removed."""


class SystemdSupervisor(Supervisor):
    """One unit of the template ``dbcontinuity-receiver@.service``."""

    def __init__(self, instance: str) -> None:
        self.name = f"dbcontinuity-receiver@{instance}.service"

    def _systemctl(self, *words: str, check: bool = True) -> Finished:
        stage = Stage((find_tool("systemctl", "systemd"), *words), label=f"systemctl {words[0]}")
        return run(stage, timeout=90, check=check)

    def _state(self) -> tuple[bool, bool]:
        active = self._systemctl("is-active", self.name, check=False).stdout.strip()
        enabled = self._systemctl("is-enabled", self.name, check=False).stdout.strip()
        return active in (b"active", b"activating", b"reloading"), enabled == b"enabled"

    def running(self) -> bool:
        return all(self._state())

    def anything(self) -> bool:
        return any(self._state())

    def start(self, *, again: bool) -> None:
        self._systemctl("enable", self.name)
        self._systemctl("restart" if again else "start", self.name)

    def stop(self) -> None:
        self._systemctl("disable", "--now", self.name, check=False)
        if self.anything():
            raise PipelineError(f"{self.name} could not be stopped.", f"Run: systemctl stop {self.name}")

    def files_changed(self) -> None:
        self._systemctl("daemon-reload")


class ProcessSupervisor(Supervisor):
    """The program's own ``start`` and ``stop``: for hosts without systemd, and the demo.

    It does not survive a reboot; see :func:`start_stopped`.
    """

    def __init__(self, instance: str, python: Path, program: Path, config: Path, staging: Path, user: str) -> None:
        self.name = f"receiver of {instance}"
        become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--") if user else ()
        self._argv = (*become, str(python), "-I", str(program), "--config", str(config), "start")
        # One that runs streams where it was told to when it was started.
        self._staging = staging
        with suppress(receiver_program.ReceiverError):
            self._staging = Path(str(receiver_program.read_config(config)["staging"]))

    def running(self) -> bool:
        return receiver_program.lock_is_held(self._staging / receiver_program.SUPERVISOR_LOCK)

    def start(self, *, again: bool) -> None:
        if again:
            self.stop()
        done = run(Stage(self._argv, label="receiver start"), timeout=60, check=False)
        if not done.ok:
            raise ContinuityError(f"The {self.name} could not be started: {done.stderr.strip()}")

    def stop(self) -> None:
        if not receiver_program.end_supervisor(self._staging):
            raise ContinuityError(f"The {self.name} did not end within 20 seconds.", "Look at its process.")


def start_stopped(configs: Path, program: Path = PROGRAM, systemd: Path = _SYSTEMD) -> Iterator[str]:
    """Start the receivers that do not run, on a host without systemd: after a reboot nobody else does.

    :param configs: the folder of the receivers' configurations.
    :param systemd: the folder that is there where systemd sees to them.
    :returns: a sentence for each that was started, or could not be.
    """
    if systemd.is_dir():
        return
    for config in sorted(configs.glob("*.json")):
        try:
            staging = Path(str(receiver_program.read_config(config)["staging"]))
            owner = staging.stat().st_uid
            user = pwd.getpwuid(owner).pw_name if owner else ""
            supervisor = ProcessSupervisor(config.stem, Path(sys.executable), program, config, staging, user)
            if not supervisor.running():
                supervisor.start(again=False)
                yield f"The {supervisor.name} did not run, and was started."
        except (ContinuityError, receiver_program.ReceiverError, OSError, KeyError) as error:
            yield f"The receiver of {config.stem} could not be started: {error}"
