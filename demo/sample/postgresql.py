# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads the sample into PostgreSQL: the server generates the rows itself, which is far quicker than sending them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from demo.server import Server

FOLDER = Path(__file__).parent / "postgresql"
BYTES_PER_PATIENT = 8800
BATCH = 20000
SECOND = "Laboratorium é"
# 4 KiB that do not compress, the same for the same seed.
BLOB = " || ".join(f"sha512(('@SEED@/' || n || '-{part}')::bytea)" for part in range(64))


def load(server: Server, patients: int, seed: int, tablespace: bool) -> None:
    cluster = _read("0-cluster.sql").replace("@EXTERNAL@", str(server.external))
    if not tablespace:
        cluster = re.sub(r"(?m)^CREATE TABLESPACE .*\n", "", cluster)
    server.execute_script(cluster)
    server.execute_script(script(patients, seed, tablespace), "simrs")
    server.execute_script(_read("4-second.sql"), SECOND)


def script(patients: int, seed: int, tablespace: bool) -> Iterator[bytes]:
    """Database simrs as SQL, batch by batch."""
    tables = _read("1-tables.sql")
    if not tablespace:
        tables = re.sub(r"\s+TABLESPACE arsip_lambat", "", tables)
    yield tables.encode()
    yield _read("2-reference.sql").encode()
    batch = _read("2-data.sql").replace("@BLOB@", BLOB).replace("@SEED@", str(seed))
    for first in range(1, patients + 1, BATCH):
        last = min(patients, first + BATCH - 1)
        yield batch.replace("@FROM@", str(first)).replace("@TO@", str(last)).encode()
    yield _read("3-programs.sql").replace("@LAST@", str(patients * 3)).encode()
    yield b"RESET ROLE; VACUUM ANALYZE;\n"


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8") + "\n"
