# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of full restores share: private servers that the restore agent may stop and start, instructions, the way."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import receiver_program
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.approval import Writing, record_instruction
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_shipping import (
    LogShippingRequest,
    log_shipping,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import RestoreRequest
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.place import restore_settings
from demo.servers import Server
from tests.support import COLLECTION, Place

RESTORE_AGENT = COLLECTION / "roles/production/files/dbcontinuity_restore_agent.py"


def channel(place: Place) -> Channel:
    """Return the way to a production that is this host."""
    return Channel(transport="local", program=str(RESTORE_AGENT), config_dir=str(place.root / "agent"))


def allow_restore(place: Place, name: str, server: Server, **more: Any) -> None:
    """Let the restore agent act on a private server."""
    path = place.root / "agent" / f"{name}.json"
    config: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"engine": server.engine}
    settings = {**restore_settings(server, place.root / "state"), "timeout_seconds": 120, **more}
    path.write_text(json.dumps({**config, "run_as": server.owner.name, "restore": settings}))


def siblings(folder: Path) -> list[str]:
    """Return what restores have put beside a folder."""
    return sorted(each for each in os.listdir(folder.parent) if each.startswith(f"{folder.name}.dbcontinuity-"))


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return every path below a folder with its inode, size and time: whoever changed anything shows."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[str(path)] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


HEAD = {"name": "Sri Wahyuni", "id_number": "0019790101"}


def instruct(place: Place, instance: Instance, target: Target | None = None, **changes: Any) -> str:
    """Write down the head's instruction for a restore; the record's id."""
    officials = place.root / "officials.json"
    head = {"name": HEAD["name"], "id": HEAD["id_number"]}
    officials.write_text(json.dumps({"kepala_instalasi_sirs": [head]}))
    officials.chmod(0o600)
    now = utc_now()
    asked = target or Target()
    values = {
        "kind": "restore",
        "instance": instance.name,
        "scope": ["full"],
        "target": {key: value for key, value in asked.to_json().items() if value},
        "reason": "Uji pemulihan",
        "instructed_by": {**HEAD, "role": "kepala_instalasi_sirs"},
        "instructed_at": iso(now - timedelta(minutes=5)),
        "by": "letter",
        "letter": {"number": "0012/SIRS/2026", "date": (now - timedelta(minutes=5)).date().isoformat()},
        "valid_until": iso(now + timedelta(hours=8)),
        **changes,
    }
    answer = record_instruction(Writing(place.repository, officials), values)
    return str(answer["record"]["id"] if isinstance(answer.get("record"), dict) else answer["id"])


def order(
    place: Place, instance: Instance, folder: Path, target: Target | None = None, **changes: Any
) -> RestoreRequest:
    """Return the request of a full restore, confirmed and under an instruction of its own."""
    values: dict[str, Any] = {
        "channel": channel(place),
        "confirm": instance.name,
        "target": target or Target(),
        "officials_file": place.root / "officials.json",
        **changes,
    }
    if "record" not in values:
        values["record"] = instruct(place, instance, target)
    return RestoreRequest(instance, place.repository, place.protection, folder, **values)


@contextmanager
def shipped(place: Place, instance: Instance) -> Iterator[Callable[[], bool]]:
    """Stream an instance's log as the playbook site sets it up; gives whether the receiver is connected now."""
    request = LogShippingRequest(
        instance,
        place.repository,
        supervisor="process",
        program=place.root / "libexec" / "dbcontinuity-receiver",
        config_dir=place.root / "receivers",
        python=Path(sys.executable),
        minimum_free_bytes=1024,
    )
    log_shipping(request)
    status = Repository.open(place.repository).instance(instance.name).staging / receiver_program.STATUS

    def streaming() -> bool:
        try:
            return bool(json.loads(status.read_bytes()).get("state") == "streaming")
        except (OSError, ValueError):
            return False

    try:
        yield streaming
    finally:
        log_shipping(replace(request, state="absent"))
