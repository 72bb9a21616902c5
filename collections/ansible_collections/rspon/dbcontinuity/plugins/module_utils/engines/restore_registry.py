# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each engine's data come back to production. Static imports: only what they show is shipped to the managed host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..instance import Instance
from .files.restore import FilesFullRestore
from .mariadb.dump_restore import MariaDBDumpRestore
from .mariadb.restore import MariaDBFullRestore
from .postgresql.dump_restore import PostgreSQLDumpRestore
from .postgresql.restore import PostgreSQLFullRestore
from .restore import FullRestore
from .scratch import Source

# Out of sets of the method logical: production gets the files of a new server that they were loaded into.
DUMP_RESTORE: dict[str, type[FullRestore]] = {"mariadb": MariaDBDumpRestore, "postgresql": PostgreSQLDumpRestore}
FULL_RESTORE: dict[str, type[FullRestore]] = {
    "mariadb": MariaDBFullRestore,
    "postgresql": PostgreSQLFullRestore,
    "files": FilesFullRestore,
}


def full_restore_for(instance: Instance, source: Source, look: Mapping[str, Any]) -> FullRestore:
    """Return an engine's part of a full restore.

    :param look: what the restore agent saw on production.
    """
    kinds = DUMP_RESTORE if source.manifest.get("method") == "logical" else FULL_RESTORE
    return kinds[instance.engine](instance, source, look)
