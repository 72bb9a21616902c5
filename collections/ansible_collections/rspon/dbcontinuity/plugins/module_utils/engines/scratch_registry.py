# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each engine's copies are brought up. Static imports: only what they show is shipped to the managed host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ContinuityError, PrerequisiteError
from .files.moments import FilesMoments
from .files.scratch import FilesScratch
from .mariadb.moments import BinlogMoments
from .mariadb.scratch import MariaDBScratch
from .postgresql.moments import WalMoments
from .postgresql.scratch import PostgreSQLScratch
from .scratch import ScratchServer
from .targets import Moments

SCRATCH: dict[str, type[ScratchServer]] = {
    "mariadb": MariaDBScratch,
    "postgresql": PostgreSQLScratch,
    "files": FilesScratch,
}
MOMENTS: dict[str, type[Moments]] = {
    "mariadb": BinlogMoments,
    "postgresql": WalMoments,
    "files": FilesMoments,
}


def scratch_for(manifest: Mapping[str, Any]) -> type[ScratchServer]:
    """Return how a set is brought up.

    :raises PrerequisiteError: for a logical set, which no server starts on.
    """
    if manifest["method"] == "logical":
        raise PrerequisiteError(
            f"Test restore of logical sets: {manifest['set']} of {manifest['instance']} is a dump; this release brings"
            " up physical sets only.",
            "Load the dump by hand as docs/restore-by-hand.md shows, or set the instance's method to physical. What the"
            " dump holds is proven by verify_backups with -e dbc_level=deep.",
            {"set": manifest["set"], "method": "logical"},
        )
    return SCRATCH[str(manifest["engine"])]


def restore_problem(engine: str, method: str, version: str) -> str:
    """Return why a set of this server, made now, could not be brought up on this host; empty if it could."""
    manifest = {"engine": engine, "method": method, "server": {"version": version}, "set": "made now", "instance": ""}
    if method == "logical":
        return ""  # its restore needs any server of the kind
    try:
        scratch_for(manifest).check_tools(manifest)
    except ContinuityError as error:
        return f"Its backups could not be brought back on this host: {error.message} {error.remedy}"
    return ""
