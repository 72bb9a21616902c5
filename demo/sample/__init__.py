# SPDX-License-Identifier: GPL-3.0-or-later
"""A SIMRS-like sample: what hospital databases and document folders hold, made up, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

from demo.sample import mariadb, postgresql
from demo.sample.files import make_files
from demo.server import Server

__all__ = ["load", "make_files", "patients_for"]

FOLDER = Path(__file__).parent


def patients_for(engine: str, megabytes: float) -> int:
    """How many patients make a data directory grow by about this much."""
    each = mariadb.BYTES_PER_PATIENT if engine == "mariadb" else postgresql.BYTES_PER_PATIENT
    return max(100, int(megabytes * 1e6 / each))


def load(
    server: Server,
    megabytes: float = 30,
    *,
    patients: int | None = None,
    seed: int = 2019,
    data_directory: bool = True,
) -> int:
    """Create the sample in a fresh server; the number of patients.

    `data_directory=False` leaves out what lies outside the data directory (MariaDB: the DATA DIRECTORY tables
    become ordinary ones; PostgreSQL: no tablespace).
    """
    count = patients or patients_for(server.engine, megabytes)
    module = mariadb if server.engine == "mariadb" else postgresql
    module.load(server, count, seed, data_directory)
    return count
