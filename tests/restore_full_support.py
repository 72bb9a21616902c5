# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of full restores share: private servers that the restore agent may stop and start, instructions, the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from demo.servers import MariaDBServer, PostgreSQLServer, Server
from tests.support import COLLECTION, Place

RESTORE_AGENT = COLLECTION / "roles/production/files/dbcontinuity_restore_agent.py"


def channel(place: Place) -> Channel:
    """Return the way to a production that is this host."""
    return Channel(transport="local", program=str(RESTORE_AGENT), config_dir=str(place.root / "agent"))


def as_owner(server: Server, words: list[str]) -> list[str]:
    """Return a command as it is run by the server's user."""
    if server.owner.is_me:
        return words
    guard = ["setpriv", f"--reuid={server.owner.uid}", f"--regid={server.owner.gid}", "--clear-groups", "--"]
    return [*guard, *words]


def allow_restore(place: Place, name: str, server: Server, **more: Any) -> None:
    """Let the restore agent act on a private server."""
    path = place.root / "agent" / f"{name}.json"
    config: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"engine": server.engine}
    settings: dict[str, Any] = {
        "datadir": str(server.datadir),
        "state_dir": str(place.root / "state"),
        "start": as_owner(server, server._command()),
        "timeout_seconds": 40,
    }
    if isinstance(server, MariaDBServer):
        stop = ["mariadb-admin", "--no-defaults", f"--socket={server.socket}", "shutdown"]
        settings.update(stop=stop, socket=str(server.socket))
    elif isinstance(server, PostgreSQLServer):
        stop = as_owner(server, [server.program("pg_ctl"), "stop", "-m", "fast", "-D", str(server.datadir)])
        settings.update(
            stop=stop,
            socket=str(server.socket_folder),
            port=server.port,
            program_dir=str(Path(server.program("pg_ctl")).parent),
        )
    settings.update(more)
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
