# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's folders: keys, accounts, the agent's configuration, the repository; what `site` does for a hospital."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.clients import Account
from demo.process import find_program, run
from demo.server import Server
from demo.servers import MariaDBServer, PostgreSQLServer

PROJECT = Path(__file__).resolve().parent.parent
BACKUP_GRANTS = ("RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE ON *.*",)
SHIP_GRANTS = ("SELECT, SHOW VIEW, TRIGGER, EVENT, PROCESS, RELOAD, BINLOG MONITOR, REPLICATION SLAVE ON *.*",)
POSTGRESQL_GRANTS = (
    "REPLICATION",
    "GRANT pg_read_all_settings, pg_read_all_stats TO dbc_ship",
    "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO dbc_ship",
)


class Place:
    """The demo's folder in the project, made anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = root / "repository"
        self.operations_key = root / "keys" / "operations.key"

    def make(self) -> None:
        """Make the folders, two age keys (operations and escrow), and the repository."""
        if self.root.exists():
            shutil.rmtree(self.root)
        for name in ("agent", "credentials", "keys"):
            (self.root / name).mkdir(parents=True, mode=0o700)
        keygen = find_program("age-keygen")
        recipients = []
        for name in ("operations", "escrow"):
            key = self.root / "keys" / f"{name}.key"
            run([keygen, "-o", str(key)])
            recipients.append(run([keygen, "-y", str(key)]).decode().strip())
        (self.root / "keys" / "recipients").write_text("\n".join(recipients) + "\n")
        # The escrow key's private half never stays on the backup host: here, it goes at once.
        (self.root / "keys" / "escrow.key").unlink()
        Repository.create(self.repository)
        head = {"name": "Contoh Kepala", "id": "1005"}
        (self.root / "officials.json").write_text(json.dumps({"kepala_instalasi_sirs": [head]}))

    def database(self, name: str, server: Server) -> None:
        """Make accounts with the least rights, their credentials, and the agent's configuration."""
        agent: dict[str, object] = {"engine": server.engine, "run_as": server.owner.name}
        credentials = self.root / "credentials" / name
        if server.engine == "mariadb":
            server.account("dbc_backup", BACKUP_GRANTS).option_file(self.root / "agent" / f"{name}.cnf")
            server.account("dbc_ship", SHIP_GRANTS).option_file(credentials)
            agent["option_file"] = str(self.root / "agent" / f"{name}.cnf")
        else:
            service_file(server.account("dbc_ship", POSTGRESQL_GRANTS), name, credentials)
            agent["configuration_paths"] = [str(server.conf)]
        self._allow(name, agent)

    def restorable(self, name: str, server: Server) -> None:
        """Let the restore agent act on a private server, as the playbook restore does while it runs."""
        folder = self.root / "restore"
        folder.mkdir(mode=0o700, exist_ok=True)
        settings = restore_settings(server, self.root / "state")
        config = {"engine": server.engine, "run_as": server.owner.name, "restore": settings}
        (folder / f"{name}.json").write_text(json.dumps(config))

    def folders(self, name: str, *paths: Path) -> None:
        """Let the agent read folders."""
        self._allow(name, {"engine": "files", "paths": [str(path) for path in paths]})

    def _allow(self, name: str, config: dict[str, object]) -> None:
        (self.root / "agent" / f"{name}.json").write_text(json.dumps(config))


def restore_settings(server: Server, state: Path) -> dict[str, object]:
    """Return what the restore agent has to know of a private server: its places, and how it is stopped and started.

    :param state: where the agent keeps its journal.
    """
    guard = []
    if not server.owner.is_me:
        guard = ["setpriv", f"--reuid={server.owner.uid}", f"--regid={server.owner.gid}", "--clear-groups", "--"]
    found: dict[str, object] = {
        "datadir": str(server.datadir),
        "state_dir": str(state),
        "start": [*guard, *server.start_command()],
    }
    if isinstance(server, PostgreSQLServer):
        control = server.program("pg_ctl")
        found.update(
            stop=[*guard, control, "stop", "-m", "fast", "-D", str(server.datadir)],
            socket=str(server.socket_folder),
            port=server.port,
            program_dir=str(Path(control).parent),
        )
    elif isinstance(server, MariaDBServer):
        stop = ["mariadb-admin", "--no-defaults", f"--socket={server.socket}", "shutdown"]
        found.update(stop=stop, socket=str(server.socket))
    return found


def service_file(account: Account, service: str, path: Path) -> None:
    """Write a libpq service file, closed to others."""
    lines = [
        f"[{service}]",
        f"host={account.host}",
        f"port={account.port}",
        f"user={account.user}",
        f"password={account.password}",
        "dbname=postgres",
    ]
    if account.ca is not None:
        lines += ["sslmode=verify-full", f"sslrootcert={account.ca}"]
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
