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
from .mariadb.dump_scratch import MariaDBDumpScratch
from .mariadb.moments import BinlogMoments
from .mariadb.scratch import MariaDBScratch
from .postgresql.dump_scratch import PostgreSQLDumpScratch
from .postgresql.moments import WalMoments
from .postgresql.scratch import PostgreSQLScratch
from .scratch import ScratchServer
from .targets import Moments

SCRATCH: dict[str, type[ScratchServer]] = {
    "mariadb": MariaDBScratch,
    "postgresql": PostgreSQLScratch,
    "files": FilesScratch,
}
# Sets of the method logical: no server starts on them, they are loaded into a new one.
DUMPS: dict[str, type[ScratchServer]] = {"mariadb": MariaDBDumpScratch, "postgresql": PostgreSQLDumpScratch}
MOMENTS: dict[str, type[Moments]] = {
    "mariadb": BinlogMoments,
    "postgresql": WalMoments,
    "files": FilesMoments,
}


def scratch_for(manifest: Mapping[str, Any]) -> type[ScratchServer]:
    """Return how a set is brought up.

    :raises PrerequisiteError: for a set of a method that this engine does not have.
    """
    engine, method = str(manifest["engine"]), str(manifest["method"])
    found = (DUMPS if method == "logical" else SCRATCH).get(engine)
    if found is None:
        raise PrerequisiteError(
            f"The set {manifest['set']} of {manifest['instance']} is said to be {method}, of the engine {engine}: no such"
            " set can be brought up.",
            "Look at its manifest; verify_backups says whether the ledger knows it as it is.",
            {"set": manifest["set"], "method": method},
        )
    return found


def restore_problem(engine: str, method: str, version: str) -> str:
    """Return why a set of this server, made now, could not be brought up on this host; empty if it could."""
    manifest = {"engine": engine, "method": method, "server": {"version": version}, "set": "made now", "instance": ""}
    try:
        scratch_for(manifest).check_tools(manifest)
    except ContinuityError as error:
        return f"Its backups could not be brought back on this host: {error.message} {error.remedy}"
    return ""
