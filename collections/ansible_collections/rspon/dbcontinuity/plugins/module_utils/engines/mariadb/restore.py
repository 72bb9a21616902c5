# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore of MariaDB: what production's server needs to go on from the moment restored.

Its binary log starts over. A server that finds no log but a file ``<log_bin>.state`` takes the GTID state in it over
before it lets anybody in: no client can write a transaction with a number that the old history has below it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ...errors import AccessError, ContinuityError, PipelineError
from ..base import Problem
from ..restore import FullRestore, Part, Tail, say_access
from ..scratch import ScratchServer
from .binlog_server import split_name
from .client import MariaDBClient
from .inspect import series
from .scratch import MariaDBScratch
from .stream import staged_tail

# What mariadb-backup leaves for itself.
_OF_THE_BACKUP = ("xtrabackup_*", "mariadb_backup_*", "backup-my.cnf")
_FOLDERS = ("innodb_data_home_dir", "innodb_undo_directory", "innodb_log_group_home_dir")


class MariaDBFullRestore(FullRestore):
    """The data directory is exchanged, and the folder of the binary logs where it is another one."""

    def problems(self) -> Sequence[Problem]:
        found = []
        wanted, there = series(str(self.manifest["server"]["version"])), series(str(self.look.get("version", "")))
        if there != wanted:
            found.append(
                Problem(
                    f"Production runs MariaDB {self.look.get('version') or 'of no known version'}; the set"
                    f" {self.manifest['set']} was made on {self.manifest['server']['version']}: the series differ.",
                    f"Install the series {wanted} on production first, or restore to a server that has it.",
                )
            )
        variables = self.look.get("variables", {})
        known = [os.path.realpath(str(each["path"])) for each in self.look["parts"].values()]
        for name in _FOLDERS:
            place = str(variables.get(name) or "")
            if place not in ("", "NULL", ".", "./") and os.path.realpath(place) != known[0]:
                found.append(
                    Problem(
                        f"Production keeps InnoDB's files outside its data directory: {name} is {place}.",
                        "Restore by hand as docs/restore-by-hand.md shows: an exchange of the data directory alone would"
                        " mix old and new files.",
                    )
                )
        base = str(variables.get("log_bin_basename") or "")
        if base not in ("", "NULL") and os.path.realpath(os.path.dirname(base)) not in known:
            found.append(
                Problem(
                    f"Production writes its binary logs to {os.path.dirname(base)}, which the restore agent does not know.",
                    "Set restore.binlog_dir of the instance to it, then run the playbook again.",
                )
            )
        return found

    def remarks(self) -> Sequence[str]:
        said = []
        links = self.look.get("link_files") or []
        if links:
            tables = ", ".join(str(each)[: -len(".isl")].replace("/", ".") for each in links)
            said.append(
                f"Tables with a DATA DIRECTORY of their own ({tables}) come back inside the data directory; their old"
                " files stay where they are, and belong to the old data."
            )
        if "logs" in self.look["parts"]:
            said.append(
                f"The folder of the binary logs, {self.part_path('logs')}, is moved aside whole, with whatever else lies in it."
            )
        return said

    def parts(self) -> Sequence[Part]:
        return [Part("data", self.part_path("data"))]

    def spec(self, server: ScratchServer) -> dict[str, Any]:
        if not isinstance(server, MariaDBScratch):
            raise AssertionError("a copy of another engine")
        start = self.manifest["position"]["start"]
        if not start:
            return {}
        replayed = bool(self.source.logs)
        state = server.client.value("SELECT @@GLOBAL.gtid_binlog_state;") if replayed else str(start["gtid"])
        return {
            "log_name": self._log_name(str(start["file"])),
            "gtid_binlog_state": [each for each in state.split(",") if each],
        }

    def _log_name(self, file: str) -> str:
        """Return what production calls its logs now; what it called them then where it does not answer."""
        base = str(self.look.get("variables", {}).get("log_bin_basename") or "NULL")
        name = os.path.basename(base) if base != "NULL" else split_name(file)[0]
        if not name:
            raise PipelineError(f"The name of the binary logs cannot be told from {file!r}.", "Report this.")
        return name

    def unproven(self, staging: Path) -> Optional[Tail]:
        return staged_tail(self.source, staging)

    def resume(self, *, shipping: bool) -> Sequence[str]:
        try:
            MariaDBClient(self.instance).value("SELECT 1;")
        except AccessError as error:
            return [say_access(error)]
        except ContinuityError as error:
            return [f"The restored server could not be asked from the backup host: {error.message}"]
        return ["The stream of the log goes on by itself."] if shipping else []

    def folders(self, settled: Path) -> Mapping[str, Path]:
        for pattern in _OF_THE_BACKUP:
            for path in settled.glob(pattern):
                path.unlink()
        return {"data": settled}
