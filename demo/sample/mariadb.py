# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads the sample into MariaDB: the server generates the rows itself, which is far quicker than sending them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from demo.server import Server

FOLDER = Path(__file__).parent / "mariadb"
BYTES_PER_PATIENT = 9500
BATCH = 20000
# 4 KiB that do not compress, the same for the same seed.
BLOB = "UNHEX(CONCAT(" + ", ".join(f"SHA2(CONCAT('@SEED@', seq, '-{n}'), 512)" for n in range(64)) + "))"


def load(server: Server, patients: int, seed: int, data_directory: bool) -> None:
    server.execute_script(script(patients, seed, server.external if data_directory else None))


def script(patients: int, seed: int, external: Path | None) -> Iterator[bytes]:
    """The whole sample as SQL, batch by batch."""
    tables = _read("1-tables.sql")
    if external is None:
        tables = re.sub(r" (DATA|INDEX) DIRECTORY='@EXTERNAL@'", "", tables)
    yield tables.replace("@EXTERNAL@", str(external)).encode()
    yield _read("2-reference.sql").encode()
    batch = _read("2-data.sql").replace("@BLOB@", BLOB).replace("@SEED@", str(seed))
    for first in range(1, patients + 1, BATCH):
        last = min(patients, first + BATCH - 1)
        yield batch.replace("@FROM@", str(first)).replace("@TO@", str(last)).encode()
    yield _read("3-programs.sql").replace("@LAST@", str(patients * 3)).encode()


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8") + "\n"
