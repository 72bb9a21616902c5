# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engine tests share: a repository, age keys, the agent's configuration, instances of private servers."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Agent, Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.servers import MariaDBServer

COLLECTION = Path(__file__).parent.parent / "collections/ansible_collections/rspon/dbcontinuity"
AGENT_PROGRAM = COLLECTION / "roles/production/files/dbcontinuity_agent.py"

BACKUP_GRANTS = ("RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE ON *.*",)
SHIP_GRANTS = ("SELECT, SHOW VIEW, TRIGGER, EVENT, PROCESS, RELOAD, BINLOG MONITOR, REPLICATION SLAVE ON *.*",)


@dataclass(frozen=True)
class Place:
    """A backup host's folders, for tests: repository, keys, credentials, the agent's configuration."""

    root: Path

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def agent(self) -> Agent:
        return Agent(transport="local", program=str(AGENT_PROGRAM), config_dir=str(self.root / "agent"))

    @property
    def protection(self) -> Protection:
        public = subprocess.run(
            ["age-keygen", "-y", str(self.root / "operations.key")], capture_output=True, text=True, check=True
        ).stdout.strip()
        return Protection((public,), self.root / "operations.key")

    def allow(self, name: str, config: dict[str, object]) -> None:
        """Let the agent act on an instance."""
        (self.root / "agent" / f"{name}.json").write_text(json.dumps(config))

    def mariadb(self, name: str, server: MariaDBServer, **changes: Any) -> Instance:
        """Make accounts, credentials and the agent's configuration for a private server."""
        backup = server.account("dbc_backup", BACKUP_GRANTS)
        ship = server.account("dbc_ship", SHIP_GRANTS)
        backup.option_file(self.root / "agent" / f"{name}.cnf")
        ship.option_file(self.root / "credentials" / name)
        self.allow(
            name,
            {
                "engine": "mariadb",
                "run_as": server.owner.name,
                "option_file": str(self.root / "agent" / f"{name}.cnf"),
            },
        )
        return Instance(
            name=name, engine="mariadb", credentials=self.root / "credentials" / name, agent=self.agent, **changes
        )

    def files(self, name: str, *paths: Path) -> Instance:
        """Let the agent read folders."""
        self.allow(name, {"engine": "files", "paths": [str(path) for path in paths]})
        return Instance(name=name, engine="files", agent=self.agent)


def make_place(root: Path) -> Place:
    """Make the folders, a repository and an age key."""
    for folder in ("agent", "credentials"):
        (root / folder).mkdir(parents=True)
    subprocess.run(["age-keygen", "-o", str(root / "operations.key")], capture_output=True, check=True)
    Repository.create(root / "repository")
    return Place(root)
