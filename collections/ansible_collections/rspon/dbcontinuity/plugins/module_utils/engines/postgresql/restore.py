# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore of PostgreSQL: data directory and tablespaces, on a timeline of their own, and a new slot."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ...errors import AccessError, ContinuityError, PipelineError
from ..base import Problem
from ..restore import FullRestore, Part, Tail, say_access
from ..scratch import ScratchServer
from .client import PostgreSQLClient
from .receiver import WalReceiver
from .scratch import PostgreSQLScratch
from .stream import staged_tail

_WHERE = """
SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
 (SELECT system_identifier FROM pg_control_system());
"""


# What a production that once was a standby, or was restored by hand, may still have in there.
_RECOVERY = re.compile(
    r"\s*(restore_command|recovery_\w+|archive_cleanup_command|primary_conninfo|primary_slot_name|promote_trigger_file)\b"
)


class PostgreSQLFullRestore(FullRestore):
    """The data directory and each tablespace are exchanged."""

    def problems(self) -> Sequence[Problem]:
        wanted = str(self.manifest["server"]["version"]).split(".", maxsplit=1)[0]
        there = str(self.look.get("version", ""))
        if there.split(".", maxsplit=1)[0] == wanted:
            return []
        return [
            Problem(
                f"Production runs PostgreSQL {there or 'of no known version'}; the set {self.manifest['set']} was made on"
                f" {self.manifest['server']['version']}: the major versions differ.",
                f"Install PostgreSQL {wanted} on production first, or restore to a server that has it.",
            )
        ]

    def remarks(self) -> Sequence[str]:
        said = []
        if self.look.get("wal_link"):
            said.append(
                f"Production's pg_wal is a link to {self.look['wal_link']}; the restored server keeps its log inside the data"
                " directory. Move it out again when the server may be stopped; the old log stays with the old data."
            )
        kept = {part for part, _place in self._tablespaces()}
        left = [place for oid, place in self.look.get("tablespaces", {}).items() if oid not in kept]
        if left:
            said.append(
                f"Tablespaces that the set does not have stay where they are, and belong to the old data: {', '.join(left)}."
            )
        return said

    def _tablespaces(self) -> list[tuple[str, str]]:
        """Return the set's tablespaces and their places, as production has them now where it has them."""
        now = self.look.get("tablespaces", {})
        then = self.manifest.get("engine_details", {}).get("tablespaces", {})
        return [(str(oid), str(now.get(str(oid)) or place)) for oid, place in sorted(then.items())]

    def parts(self) -> Sequence[Part]:
        # How the bytes are shared out nobody knows before; each file system is asked for all that could come.
        return [
            Part("data", self.part_path("data")),
            *(Part(oid, os.path.realpath(place)) for oid, place in self._tablespaces()),
        ]

    def spec(self, server: ScratchServer) -> dict[str, Any]:
        if not isinstance(server, PostgreSQLScratch):
            raise AssertionError("a copy of another engine")
        timeline, identifier = where_it_is(server)
        known = str(self.manifest["server"].get("identity", {}).get("system_identifier") or identifier)
        if identifier != known:
            raise PipelineError(f"The copy says it is the server {identifier}; the set is of {known}.", "Report this.")
        return {
            "timeline": timeline,
            "system_identifier": identifier,
            "tablespaces": dict(self._tablespaces()),
        }

    def folders(self, settled: Path) -> Mapping[str, Path]:
        for name in ("recovery.signal", "standby.signal", "backup_manifest"):
            (settled / name).unlink(missing_ok=True)
        _without_recovery(settled / "postgresql.auto.conf")
        links = {oid: settled / "pg_tblspc" / oid for oid, _place in self._tablespaces()}
        return {"data": settled, **{oid: Path(os.path.realpath(link)) for oid, link in links.items()}}

    def unproven(self, staging: Path) -> Optional[Tail]:
        return staged_tail(self.source, staging) if staging.is_dir() else None

    def resume(self, *, shipping: bool) -> Sequence[str]:
        try:
            PostgreSQLClient(self.instance).value("SELECT 1")
            done = WalReceiver(self.instance).prepare_server(check_only=False) if shipping else []
        except AccessError as error:
            return [say_access(error)]
        except ContinuityError as error:
            return [
                f"The replication slot could not be renewed from the backup host: {error.message} Run the playbook site."
            ]
        return [f"Done on production: {each}; the receiver goes on by itself." for each in done]


def where_it_is(server: PostgreSQLScratch) -> tuple[int, str]:
    """Return the timeline that a copy writes, and the identity it has."""
    timeline, identifier = server.client.query(_WHERE)[0]
    return int(timeline or 0), str(identifier or "")


def _without_recovery(path: Path) -> None:
    """Take settings out that would have the server recover again, or follow another one."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        kept = [line for line in lines if not _RECOVERY.match(line)]
        if kept != lines:
            path.write_text("".join(kept), encoding="utf-8", errors="surrogateescape")
