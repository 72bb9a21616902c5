# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each engine restores in part. Static imports: only what they show is shipped to the managed host."""

from __future__ import annotations

from ..errors import InputError
from .files.partial import FilesPartial
from .mariadb.partial import MariaDBPartial
from .partial import PartialRestore
from .postgresql.partial import PostgreSQLPartial

PARTIAL: dict[str, type[PartialRestore]] = {
    "mariadb": MariaDBPartial,
    "postgresql": PostgreSQLPartial,
    "files": FilesPartial,
}


def partial_for(engine: str) -> type[PartialRestore]:
    """Return how an engine restores in part.

    :raises InputError: for an engine that is not known.
    """
    if engine not in PARTIAL:
        raise InputError(f"The engine {engine!r} is not known.", f"Use one of: {', '.join(PARTIAL)}.")
    return PARTIAL[engine]
