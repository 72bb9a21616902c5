# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between Ansible and the core: argument specifications, and one place that turns errors into failed results."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from .codec import Protection, is_private_key
from .errors import ContinuityError
from .instance import Agent, Instance, absolute, between, check_name
from .progress import Progress
from .repository import Repository
from .schedule import Window

AGENT_OPTIONS: dict[str, Any] = {
    "transport": {"type": "str", "choices": ["local", "ssh"], "default": "local"},
    "program": {"type": "path", "default": "/usr/local/libexec/dbcontinuity-agent"},
    "config_dir": {"type": "path", "default": "/etc/dbcontinuity/agent"},
    "host": {"type": "str"},
    "user": {"type": "str", "default": "dbcontinuity"},
    "port": {"type": "int", "default": 22},
    "identity_file": {"type": "path", "default": "/etc/dbcontinuity/ssh/agent_key"},
    "known_hosts_file": {"type": "path", "default": "/etc/dbcontinuity/ssh/known_hosts"},
}
INSTANCE_OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    # Not a choice here: the core's own refusal names the instance, too.
    "engine": {"type": "str", "required": True},
    "method": {"type": "str"},
    "credentials": {"type": "path"},
    "agent": {"type": "dict", "options": AGENT_OPTIONS},
    "compress_on": {"type": "str", "choices": ["backup", "production"], "default": "backup"},
    "compression_level": {"type": "int", "default": 1},
    "parallel": {"type": "int", "default": 2},
}
REPOSITORY_OPTIONS: dict[str, Any] = {"repository": {"type": "path", "required": True}}
PROTECTION_OPTIONS: dict[str, Any] = {
    "recipients": {"type": "list", "elements": "str", "default": []},
    "identity_file": {"type": "path"},
}
ACTOR_OPTIONS: dict[str, Any] = {"actor": {"type": "str"}, "run": {"type": "str"}}
SCHEDULE_OPTIONS: dict[str, Any] = {"schedule_file": {"type": "path", "default": "/etc/dbcontinuity/schedule.json"}}
PROGRESS_OPTIONS: dict[str, Any] = {"progress_file": {"type": "path"}}


def instance_from(values: Mapping[str, Any]) -> Instance:
    """Return the instance that module parameters describe.

    :raises InputError: for a name or path that cannot be used.
    """
    agent = {key: value for key, value in (values.get("agent") or {}).items() if value is not None}
    credentials = values.get("credentials") or f"/etc/dbcontinuity/credentials/{check_name(values['name'])}"
    return Instance(
        name=check_name(values["name"]),
        engine=values["engine"],
        method=values.get("method") or "",
        credentials=absolute(credentials, f"credentials of {values['name']}"),
        agent=Agent(**agent),
        compress_on=values["compress_on"],
        compression_level=between(values["compression_level"], 1, 19, f"compression_level of {values['name']}"),
        parallel=between(values["parallel"], 1, 64, f"parallel of {values['name']}"),
    )


def repository_from(params: Mapping[str, Any]) -> Path:
    """Return the repository's path."""
    return absolute(params["repository"], "repository")


def schedule_from(params: Mapping[str, Any]) -> Path:
    """Return the path of the calendar."""
    return absolute(params["schedule_file"], "schedule_file")


def protection_from(params: Mapping[str, Any]) -> Protection:
    """Return who can read what is stored."""
    identity = params.get("identity_file")
    return Protection(tuple(params["recipients"]), absolute(identity, "identity_file") if identity else None)


def window_from(values: Optional[Mapping[str, Any]]) -> Optional[Window]:
    """Return the schedule window, if one is given."""
    return Window(values["zone"], values["start"], values["end"]) if values else None


def progress_from(params: Mapping[str, Any]) -> Progress:
    """Return where progress is told."""
    path = params.get("progress_file")
    progress = Progress(absolute(path, "progress_file") if path else None)
    progress.advance(0)  # so that whoever watches knows from the beginning which process to end
    return progress


def _end(_number: int, _frame: object) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second one, of whoever ends Ansible, too, would end the clearing away
    raise SystemExit(143)  # so that what is unfinished is cleared away and the ledger says so


def answer(module: AnsibleModule, work: Callable[[], dict[str, Any]]) -> None:
    """Do the work and end the module: with its result, or with its error as one paragraph and the rest for machines."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    # A private key that was given for a public one must not come back in the result's invocation.
    module.no_log_values.update(each for each in module.params.get("recipients") or [] if is_private_key(str(each)))
    try:
        result = work()
    except ContinuityError as error:
        notes = _notes(module)
        more = {"notes": notes} if notes else {}
        module.fail_json(msg=str(error), kind=error.kind, remedy=error.remedy, details=error.details, **more)
    except OSError as error:
        module.fail_json(
            msg=f"{error.strerror}: {error.filename}", kind="system", remedy="", details={"errno": error.errno}
        )
    else:
        notes = _notes(module, result.pop("warnings", []))
        if notes:
            result["notes"] = notes
        module.exit_json(**result)


def _notes(module: AnsibleModule, warnings: Sequence[str] = ()) -> list[str]:
    """Give a run's warnings and the ledger's to Ansible, and return them: warnings do not reach a registered result."""
    notes = list(warnings)
    # What is wrong with the repository itself the run has said already.
    with contextlib.suppress(ContinuityError, OSError):
        if module.params.get("repository"):
            notes += filter(None, [Repository.open(repository_from(module.params)).ledger.warning()])
    for note in notes:
        module.warn(note)
    return notes


def fail_where_findings(module: AnsibleModule, result: Mapping[str, Any]) -> None:
    """End the module as failed, with the whole result, where an instance failed or has findings."""
    problem = result.get("ledger", {}).get("problem")
    sentences = [f"The ledger does not hold: {problem}."] if problem else []
    for name in result["failed"]:
        one = result["instances"][name]
        said = [f"{each['message']} {each['remedy']}".strip() for each in one.get("findings", [])]
        sentences.append(f"{name}: " + " ".join(said or [str(one.get("message", one.get("result", "")))]))
    if sentences:
        whole = {**result, "notes": _notes(module, result.get("warnings", []))}
        module.fail_json(msg=" | ".join(sentences), kind="finding", remedy="", details={}, **whole)
