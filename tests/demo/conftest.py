# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real servers of each engine: a source with the sample, and a copy made with the engine's own dump tool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.compare import fingerprint
from demo.fingerprint import Fingerprint
from demo.process import environment, find_program, postgresql_folders, run
from demo.sample import load
from demo.servers import MariaDBServer, PostgreSQLServer, Server, workspace

PATIENTS = 150
DATABASES = ["simrs", "bridging_bpjs", "arsip lama é"]


@dataclass
class Pair:
    """A source, its copy, what the source held when the copy was made, and what earlier tests left different."""

    source: Server
    copy: Server
    before: Fingerprint
    left: set[tuple[str, str]] = field(default_factory=set)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    with workspace("tests-demo") as made:
        yield made


@pytest.fixture(scope="session")
def mariadb(folder: Path) -> Iterator[Pair]:
    with MariaDBServer(folder / "ma", fast=True) as source, MariaDBServer(folder / "mb", fast=True) as copy:
        load(source, patients=PATIENTS, data_directory=False)
        copy.query("CREATE USER petugas_lama@localhost ACCOUNT LOCK; GRANT SELECT ON simrs.* TO petugas_lama@localhost")
        dump = run(
            [
                find_program("mariadb-dump"),
                *source.client.arguments(),
                # Without locks: a table whose default is a sequence's next value cannot be loaded under LOCK TABLES.
                "--skip-add-locks",
                *("--routines", "--events", "--triggers", "--single-transaction", "--hex-blob"),
                *("--default-character-set=utf8mb4", "--databases", *DATABASES),
            ]
        )
        copy.execute_script(dump)
        yield Pair(source, copy, fingerprint(source))


@pytest.fixture(scope="session")
def postgresql(folder: Path) -> Iterator[Pair]:
    with PostgreSQLServer(folder / "pa", fast=True) as source, PostgreSQLServer(folder / "pb", fast=True) as copy:
        load(source, patients=PATIENTS, data_directory=False)
        dump = run(
            [find_program("pg_dumpall", first=postgresql_folders()), *source.client.arguments()],
            env=environment(source.client.env),
        )
        copy.execute_script(re.sub(rb"(?m)^(CREATE|ALTER) ROLE postgres\b.*\n", b"", dump))
        yield Pair(source, copy, fingerprint(source))
