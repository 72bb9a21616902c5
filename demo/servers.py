# SPDX-License-Identifier: GPL-3.0-or-later
"""Private throwaway servers for the demo and for every test that needs a real engine.

    with workspace("mytest") as folder, MariaDBServer(folder / "simrs") as server:
        server.query("SELECT VERSION()")

They never touch a server that runs already, nor /etc/mysql, /etc/postgresql, /var/lib.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import process
from demo.clients import Account, Client, MariaDBClient, PostgreSQLClient, QueryError, Session
from demo.mariadb import MariaDBServer
from demo.postgresql import PostgreSQLServer
from demo.process import ServerError
from demo.server import STATE, Server

__all__ = [
    "Account",
    "Client",
    "MariaDBClient",
    "MariaDBServer",
    "PostgreSQLClient",
    "PostgreSQLServer",
    "QueryError",
    "Server",
    "ServerError",
    "Session",
    "attach",
    "sweep",
    "workspace",
]

ENGINES: dict[str, type[Server]] = {"mariadb": MariaDBServer, "postgresql": PostgreSQLServer}
_MARK = ".workspace"


def attach(base: Path | str) -> Server:
    """The server another process made in this folder, running or not."""
    path = Path(base) / STATE
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        raise ServerError(f"no server was made in {base}: {path} is missing") from None
    kind = ENGINES[state["engine"]]
    return kind(base, port=state["port"], tls=state["tls"], tcp=state["tcp"], fast=state["fast"])


def sweep(base: Path | str) -> list[int]:
    """Kill the servers an aborted run left, if their data directory lies in this folder; their pids."""
    folder = Path(base)
    killed = []
    if folder.is_dir():
        for pid, _ in process.servers_under(folder):
            if process.alive(pid):
                process.kill9(pid)
                killed.append(pid)
        for state in folder.rglob(STATE):
            _remove_run_folder(state)
    return killed


def _remove_run_folder(state: Path) -> None:
    """A socket folder that had to lie in /tmp because the path was too long."""
    try:
        run = Path(json.loads(state.read_text())["run"])
    except (OSError, ValueError, KeyError):
        return
    if run.parent == Path("/tmp") and run.name.startswith("dbc-run-"):  # noqa: S108
        shutil.rmtree(run, ignore_errors=True)


@contextmanager
def workspace(name: str, keep: bool = False) -> Iterator[Path]:
    """A fresh folder below /tmp that any user can pass through, removed at the end with all servers in it.

    Its lock dies with this process: the next workspace of the same name clears up after an aborted run first.
    """
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"dbc-{name}-*"):
        _clear(old)
    folder = Path(tempfile.mkdtemp(prefix=f"dbc-{name}-", dir=parent))
    with open(folder / f"{_MARK}.new", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Locked before it has its name: a process that clears up at this moment must not find it free.
        os.rename(folder / f"{_MARK}.new", folder / _MARK)
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            sweep(folder)
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


def _clear(old: Path) -> None:
    try:
        if old.is_symlink() or old.stat().st_uid != os.geteuid():
            return
        with open(old / _MARK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sweep(old)
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        return  # in use, not a workspace, or gone meanwhile
