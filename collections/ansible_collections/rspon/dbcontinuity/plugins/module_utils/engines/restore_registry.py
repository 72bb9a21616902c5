# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each engine's data come back to production. Static imports: only what they show is shipped to the managed host."""

from __future__ import annotations

from .files.restore import FilesFullRestore
from .mariadb.restore import MariaDBFullRestore
from .postgresql.restore import PostgreSQLFullRestore
from .restore import FullRestore

FULL_RESTORE: dict[str, type[FullRestore]] = {
    "mariadb": MariaDBFullRestore,
    "postgresql": PostgreSQLFullRestore,
    "files": FilesFullRestore,
}
