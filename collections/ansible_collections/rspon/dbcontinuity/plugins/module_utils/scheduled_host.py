# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a scheduled run finds what it needs on the backup host, and where it leaves what it has to say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calendar import Calendar
from .durable import read_json
from .errors import ContinuityError, DamagedError
from .ledger import Ledger
from .repository import Repository

COLLECTION = "collections/ansible_collections/rspon/dbcontinuity"


@dataclass(frozen=True)
class Host:
    """Where things lie on the backup host.

    :ivar release: the folder of this installation: ``venv``, ``collections``, ``ansible.cfg``.
    :ivar etc: what ``site`` writes.
    :ivar state: what runs leave: artefacts, the memory of notices.
    """

    release: Path
    etc: Path = Path("/etc/dbcontinuity")
    state: Path = Path("/var/lib/dbcontinuity")

    @property
    def inventory(self) -> Path:
        return self.etc / "scheduled/inventory.json"

    @property
    def receivers(self) -> Path:
        """Return the folder of the receivers' configurations."""
        return self.etc / "receivers"

    @property
    def notify_state(self) -> Path:
        return self.state / "notify-state.json"

    def folder(self, activity: str) -> Path:
        """Return ansible-runner's private data directory of an activity."""
        return self.state / "runner" / activity

    def under_way(self, activity: str) -> Path:
        """Return the file that stands there from a run's beginning until people were told of its end."""
        return self.state / "runner" / f"{activity}.under-way.json"

    def started(self, activity: str) -> Path:
        """Return the file that says when the activity last began."""
        return self.state / "runner" / f"{activity}.started.json"

    def calendar(self) -> Calendar:
        """Return the calendar in force.

        :raises ContinuityError: where there is none that can be read.
        """
        return Calendar.read(self.etc / "schedule.json")

    def variables(self) -> dict[str, Any]:
        """Return the inventory's variables for all hosts; none where it cannot be read."""
        try:
            return dict(read_json(self.inventory)["all"]["vars"])
        except (ContinuityError, KeyError, TypeError, ValueError):
            return {}

    def repository(self) -> Path:
        """Return the repository's folder.

        :raises DamagedError: where the inventory does not name it.
        """
        path = self.variables().get("dbc_repository")
        if not path:
            raise DamagedError(f"{self.inventory} names no repository.", "Run the playbook site.")
        return Path(str(path))

    def ledger(self) -> Ledger:
        """Return the ledger of the repository.

        :raises ContinuityError: where the repository is not there.
        """
        return Repository.open(self.repository()).ledger
