# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One operation of the core in a process of its own, as a module's: what it took, and how much memory its Python had.

Reads a JSON object from standard input and answers with one on standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import monotonic
from typing import Any

# Not used here; every module has it in memory, and it counts.
import ansible.module_utils.basic  # noqa: F401

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Agent, Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.checklist import ChecklistRequest, checklist
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import RestoreRequest, restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.status import status
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress


def peak_kilobytes() -> int:
    """Return the most memory this process had (VmHWM: getrusage would count the parent's before the exec, too)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmHWM")


def instance(values: dict[str, Any]) -> Instance:
    """Return the instance that plain values describe."""
    known = {**values, "credentials": Path(values["credentials"]), "agent": Agent(**values.get("agent", {}))}
    return Instance(**known)


def main() -> None:
    """Do what standard input asks for."""
    asked = json.load(sys.stdin)
    protection = Protection(tuple(asked["recipients"]), Path(asked["identity_file"]))
    instances = [instance(each) for each in asked["instances"]]
    repository = Path(asked["repository"])
    progress = Progress(Path(asked["progress_file"])) if asked.get("progress_file") else Progress()
    began = monotonic()
    if asked["operation"] == "full_backup":
        done = full_backup(FullBackupRequest(instances[0], repository, protection), progress)
    elif asked["operation"] == "restore":
        request = RestoreRequest(
            instances[0],
            repository,
            protection,
            Path(asked["folder"]),
            Channel(**asked["channel"]),
            record=asked["record"],
            confirm=instances[0].name,
            officials_file=Path(asked["officials_file"]),
        )
        done = restore(request, progress)
    elif asked["operation"] == "status":
        done = status(repository, (), Path(asked["schedule_file"]))
    elif asked["operation"] == "checklist":
        done = checklist(ChecklistRequest(repository, Path(asked["schedule_file"]), check_only=True))
    else:
        done = log_cycle(LogCycleRequest(instances, repository, protection))
    seconds = monotonic() - began
    json.dump({"seconds": seconds, "peak_kilobytes": peak_kilobytes(), "result": done}, sys.stdout)


if __name__ == "__main__":
    main()
