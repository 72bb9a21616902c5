# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""B3: set up, or take down, the receiver that streams an instance's log into staging as it is written."""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Optional

from .. import receiver_program
from ..actor import describe_actor
from ..durable import dump_json, make_directory, write_file, writing_to
from ..engines.base import Receiver
from ..engines.registry import engine_for
from ..errors import InputError, PrerequisiteError
from ..instance import Instance, choice
from ..ledger import new_run_id
from ..locks import exclusive
from ..repository import InstanceFolder, Repository
from ..supervisor import PROGRAM, ProcessSupervisor, Supervisor, SystemdSupervisor, unit_files

ACTIVITY = "log_shipping"
STATES = ("present", "absent")
SUPERVISORS = ("systemd", "process")
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class LogShippingRequest:
    """What is asked for one instance.

    :param state: ``present`` or ``absent``.
    :param supervisor: ``systemd``, or ``process`` where there is none (after a reboot the next scheduled run starts it).
    :param program: where the receiver program is installed.
    :param config_dir: the folder of the receivers' configurations, one file an instance; no secret stands there.
    :param unit_dir: the folder of systemd's units.
    :param python: the interpreter that runs the program, 3.9 or later.
    :param user: whom the receiver runs as; empty means the user of this process.
    :param receiver_id: the number or name under which the server knows the stream; None lets the engine choose.
    :param minimum_free_bytes: below it the stream pauses rather than fill the repository's file system.
    :param check_only: say what would change, change nothing.
    """

    instance: Instance
    repository: Path
    state: str = "present"
    supervisor: str = "systemd"
    program: Path = PROGRAM
    config_dir: Path = Path("/etc/dbcontinuity/receivers")
    unit_dir: Path = Path("/etc/systemd/system")
    python: Path = Path("/usr/bin/python3")
    user: str = ""
    receiver_id: Optional[int] = None
    minimum_free_bytes: int = 2 * 1024**3
    check_only: bool = False
    actor: Optional[str] = None
    run: Optional[str] = None


@dataclass(frozen=True)
class _File:
    """A file that should stand at *path*, or should not (content None)."""

    path: Path
    content: Optional[bytes]
    mode: int = 0o644
    whole_diff: bool = True

    def present(self) -> Optional[bytes]:
        return self.path.read_bytes() if self.path.is_file() else None

    def differs(self) -> bool:
        present = self.present()
        if present is None or self.content is None:
            return present is not self.content
        return present != self.content or self.path.stat().st_mode & 0o777 != self.mode

    def diff(self) -> dict[str, str]:
        """Return the change as Ansible's diff mode shows it; of the program only its hash."""

        def shown(data: Optional[bytes]) -> str:
            if data is None:
                return ""
            if self.whole_diff:
                return data.decode("utf-8", "replace")
            return f"program with SHA-256 {hashlib.sha256(data).hexdigest()}\n"

        header = str(self.path)
        return {
            "before_header": header,
            "after_header": header,
            "before": shown(self.present()),
            "after": shown(self.content),
        }

    def put(self) -> None:
        if self.content is None:
            with writing_to(self.path):
                self.path.unlink(missing_ok=True)
            return
        make_directory(self.path.parent, 0o755)
        write_file(self.path, self.content, self.mode)
        with writing_to(self.path):
            self.path.chmod(self.mode)


def log_shipping(request: LogShippingRequest) -> dict[str, Any]:
    """Bring the receiver into the state asked for and return what was, or would be, changed.

    :returns: ``changed``, ``state``, ``supervisor``, ``service``, ``changes`` (sentences), ``diff`` (one entry a file),
        ``running``, ``status`` (what the receiver says of itself), and ``run`` and ``ledger_head`` if anything changed.
    :raises InputError: if the instance's engine has no stream, or a value cannot be used.
    :raises PrerequisiteError: if server, account, tool or user lack what the stream needs; nothing was changed then.
    """
    choice(request.state, STATES, "state")
    choice(request.supervisor, SUPERVISORS, "supervisor")
    repository = Repository.open(request.repository)
    engine = engine_for(request.instance)
    receiver = engine.receiver()
    if request.state == "present" and not engine.ships_logs:
        raise InputError(
            f"The full backups of {request.instance.name} are logical: no log can follow them.",
            "Set its method to physical, or leave it out of log_shipping.",
        )
    if receiver is None:
        raise InputError(
            f"The engine {request.instance.engine} of {request.instance.name} has no log stream.",
            "log_cycle alone brings its changes; leave this instance out of log_shipping.",
        )
    folder = repository.instance(request.instance.name)
    if request.check_only:
        return _bring_about(request, receiver, folder)
    make_directory(folder.path)
    with exclusive(folder.path / ".lock-shipping", f"log shipping of {folder.name}"):
        result = _bring_about(request, receiver, folder)
    if result["changed"]:
        run = request.run or new_run_id()
        head = repository.ledger.append(
            "event",
            ACTIVITY,
            run,
            instance=folder.name,
            actor=describe_actor(request.actor),
            data={
                "state": request.state,
                "supervisor": request.supervisor,
                "changes": result["changes"],
                "running": result["running"],
            },
        )
        result.update({"run": run, "ledger_head": str(head)})
    return result


def _bring_about(request: LogShippingRequest, receiver: Receiver, folder: InstanceFolder) -> dict[str, Any]:
    wanted = request.state == "present"
    if wanted:
        changes = list(receiver.prepare_server(check_only=True))
        _check_user(request)
    else:
        changes = list(receiver.remove_from_server(check_only=True))
    server_changes = bool(changes)
    config = request.config_dir / f"{folder.name}.json"
    supervisor = _supervisor(request, config, folder.staging)
    files = _files(request, receiver, folder, config)
    differing = [each for each in files if each.differs()]
    was_running = supervisor.running() if wanted else supervisor.anything()
    diff = [each.diff() for each in differing]
    for each in differing:
        verb = "remove" if each.content is None else "write" if each.present() is None else "change"
        changes.append(f"{verb} {each.path}")
    if wanted and not folder.staging.is_dir():
        changes.append(f"create {folder.staging}")
    stale = wanted and was_running and (bool(differing) or not _runs_as_written(folder, files, config, request.program))
    if wanted and not was_running:
        changes.append(f"start {supervisor.name}")
    elif stale:
        changes.append(f"restart {supervisor.name}")
    elif not wanted and was_running:
        changes.append(f"stop {supervisor.name}")
    if not request.check_only and changes:
        if wanted:
            _set_up(request, receiver, folder, differing, supervisor, server_changes)
            if stale or not was_running:
                supervisor.start(again=stale)
                _settle(folder, files, config, request.program)
        else:
            if was_running:
                supervisor.stop()
            _put(differing, supervisor)
            _remove_status(folder)
            if server_changes:
                receiver.remove_from_server(check_only=False)
    return {
        "changed": bool(changes),
        "state": request.state,
        "supervisor": request.supervisor,
        "service": supervisor.name,
        "changes": changes,
        "diff": diff,
        "running": supervisor.running() if wanted and not request.check_only else was_running and request.check_only,
        "status": _status(folder),
    }


def _supervisor(request: LogShippingRequest, config: Path, staging: Path) -> Supervisor:
    if request.supervisor == "systemd":
        return SystemdSupervisor(request.instance.name)
    return ProcessSupervisor(request.instance.name, request.python, request.program, config, staging, request.user)


def _files(request: LogShippingRequest, receiver: Receiver, folder: InstanceFolder, config: Path) -> list[_File]:
    """Return all files the receiver needs, or that go with the last one."""
    units = []
    if request.supervisor == "systemd":
        units = list(
            unit_files(
                request.unit_dir,
                folder.name,
                python=request.python,
                program=request.program,
                config_dir=request.config_dir,
                repository=request.repository,
                staging=folder.staging,
                user=request.user,
            )
        )
    if request.state == "absent":
        others = [each for each in request.config_dir.glob("*.json") if each != config]
        shared = [request.program, *(path for path, _text in units[:1])]
        own = [config, *(path for path, _text in units[1:])]
        return [_File(path, None, whole_diff=path != request.program) for path in (own if others else [*own, *shared])]
    start: Mapping[str, Any] = {"logs": str(folder.logs), "receiver_id": request.receiver_id}
    values = {
        "receiver_version": receiver_program.RECEIVER_VERSION,
        "instance": folder.name,
        "engine": request.instance.engine,
        "staging": str(folder.staging),
        "minimum_free_bytes": request.minimum_free_bytes,
        "poll_seconds": 1.0,
        "backoff_seconds": [1, 60],
        **receiver.program(folder.staging, start),
    }
    return [
        _File(request.program, program_source(), 0o755, whole_diff=False),
        _File(config, dump_json(values)),
        *(_File(path, text.encode()) for path, text in units),
    ]


def program_source() -> bytes:
    """Return the receiver program's text, also where the core was shipped inside an archive."""
    package = receiver_program.__name__.rpartition(".")[0]
    data = pkgutil.get_data(package, "receiver_program.py")
    if data is None:
        raise PrerequisiteError(
            "The receiver program is missing from this installation.", "Install the collection anew."
        )
    return data


def _check_user(request: LogShippingRequest) -> None:
    """Refuse a user who is not there, or cannot read the instance's credentials."""
    if not request.python.is_file():
        raise PrerequisiteError(
            f"There is no Python at {request.python}.", f"Set python; this process runs {sys.executable}."
        )
    if not request.user:
        return
    try:
        account = pwd.getpwnam(request.user)
    except KeyError:
        raise PrerequisiteError(
            f"There is no user {request.user} on this host.", "Run the playbook site, which makes it."
        ) from None
    credentials = request.instance.credentials
    if credentials is not None and account.pw_uid and credentials.stat().st_uid != account.pw_uid:
        raise PrerequisiteError(
            f"The credentials {credentials} do not belong to {request.user}, whom the receiver runs as.",
            f"Run: chown {request.user} {credentials}",
        )


def _set_up(
    request: LogShippingRequest,
    receiver: Receiver,
    folder: InstanceFolder,
    differing: list[_File],
    supervisor: Supervisor,
    server_changes: bool,
) -> None:
    if server_changes:
        receiver.prepare_server(check_only=False)
    if make_directory(folder.staging) and request.user and os.geteuid() == 0:
        account = pwd.getpwnam(request.user)
        with writing_to(folder.staging):
            os.chown(folder.staging, account.pw_uid, account.pw_gid)
    _put(differing, supervisor)


def _put(files: list[_File], supervisor: Supervisor) -> None:
    for each in files:
        each.put()
        if each.content is None and each.path.name == "instance.conf" and each.path.parent.is_dir():
            with writing_to(each.path.parent):
                each.path.parent.rmdir()
    if files:
        supervisor.files_changed()


def _status(folder: InstanceFolder) -> dict[str, Any]:
    try:
        value = json.loads((folder.staging / receiver_program.STATUS).read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(value) if isinstance(value, dict) else {}


def _runs_as_written(folder: InstanceFolder, files: list[_File], config: Path, program: Path) -> bool:
    """Return whether the running receiver was started with these very files."""
    status = _status(folder)
    wanted = {each.path: hashlib.sha256(each.content or b"").hexdigest() for each in files}
    return status.get("config_sha256") == wanted[config] and status.get("program_sha256") == wanted[program]


def _settle(folder: InstanceFolder, files: list[_File], config: Path, program: Path) -> None:
    """Give a receiver that was just started the time to say so."""
    end = monotonic() + _SETTLE_SECONDS
    while monotonic() < end:
        if _runs_as_written(folder, files, config, program) and _status(folder).get("state") != "stopped":
            return
        sleep(0.1)


def _remove_status(folder: InstanceFolder) -> None:
    """Remove what the receiver said of itself; what it received stays."""
    names = ("STATUS", "LOCK", "SUPERVISOR_LOCK", "LOG", "CRASH")
    for name in names:
        path = folder.staging / getattr(receiver_program, name)
        for each in (path, path.with_name(path.name + ".1")):
            with writing_to(each):
                each.unlink(missing_ok=True)
