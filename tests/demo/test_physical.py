# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole sample survives the engines' own physical backup tools, read back by another server: the demo's basis."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.compare import compare, fingerprint
from demo.process import find_program, run
from demo.sample import load
from demo.servers import MariaDBServer, PostgreSQLServer, ServerError

pytestmark = pytest.mark.engine
GRANTS = ["RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE ON *.*"]


def test_mariadb_backup(folder: Path) -> None:
    with MariaDBServer(folder / "phys-m", fast=True) as source:
        load(source, patients=120)
        tool = find_program("mariadb-backup", "mariabackup")
        options = source.account("dbc_backup", GRANTS).option_file(folder / "phys-m.cnf")
        source.owner.give(options)
        kept = folder / "phys-m-kept"
        kept.mkdir()
        source.owner.give(kept)
        backup = [tool, f"--defaults-extra-file={options}", "--backup", f"--datadir={source.datadir}"]
        run([*backup, f"--target-dir={kept / 'data'}"], source.owner)
        before = fingerprint(source, accounts=True)
        run([tool, "--prepare", f"--target-dir={kept / 'data'}"], source.owner)
        with MariaDBServer(folder / "phys-m-copy", datadir=kept / "data", fast=True) as copy:
            result = compare(before, copy, accounts=True)
            assert result.ok, str(result)
            files = [str(entry.readlink()) for entry in Path(f"/proc/{copy.pid}/fd").iterdir() if entry.is_symlink()]
            assert not [name for name in files if name.startswith(f"{source.base}/")]

        # Why no MyISAM table of the sample has a backtick in its name: the tool does not quote it.
        source.query("CREATE TABLE `ter``balik` (id INT) ENGINE=MyISAM", "simrs")
        with pytest.raises(ServerError, match="BACKUP LOCK"):
            run([*backup, f"--target-dir={kept / 'second'}"], source.owner)


def test_pg_basebackup(folder: Path) -> None:
    with PostgreSQLServer(folder / "phys-p", fast=True) as source:
        load(source, patients=120)
        kept = folder / "phys-p-kept"
        kept.mkdir()
        source.owner.give(kept)
        tablespace = f"--tablespace-mapping={source.external}={kept / 'extern'}"
        run(
            [
                *(source.program("pg_basebackup"), *source.client.arguments(), tablespace),
                *("--wal-method=stream", "--checkpoint=fast", f"--pgdata={kept / 'data'}"),
            ],
            source.owner,
        )
        with PostgreSQLServer(folder / "phys-p-copy", datadir=kept / "data", fast=True) as copy:
            result = compare(source, copy, accounts=True)
            assert result.ok, str(result)
            assert copy.value("SELECT count(*) FROM simrs.cache_tarif", "simrs") == "0"  # unlogged: never in a backup
            strict = compare(source, copy, strict=True)
            assert "simrs/simrs.cache_tarif" in {found.name for found in strict.differences}
