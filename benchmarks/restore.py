# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore on production beside the bare tools on the same set, and beside the import of a dump."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import by_hand
from benchmarks.full import NAME, SERVERS, content_bytes
from benchmarks.measure import Row, Table, alternate, median, paired_ratio, settle, shell
from benchmarks.production import MEMORY, Production, production
from benchmarks.replay import replay

LIMIT, IMPORT_FACTOR = 1.20, 8.0
OURS, BARE, IMPORT = "restore", "bare tools", "import of a dump"


def benchmark(
    engine: str, folder: Path, megabytes: float, rounds: int, transactions: int, say: Callable[[str], None]
) -> list[Table]:
    """Measure one engine.

    :param transactions: how many the log holds that is replayed.
    """
    with production(engine, folder, megabytes, say) as site:
        tables = [_restores(site, rounds, say)]
        say(f"restore, {engine}: writing {transactions} transactions")
        tables.append(replay(site, transactions, say))
        return tables


def _restores(site: Production, rounds: int, say: Callable[[str], None]) -> Table:
    size = content_bytes(site.server)
    say(f"restore, {site.engine}: the tables hold {size / 1e6:.0f} MB")
    dump = site.folder / "dump.gz"
    export = by_hand.dumping(site, dump)
    shell(export, dump)
    site.full()
    commands = by_hand.restoring(site)
    seen: list[dict[str, Any]] = []

    def ours() -> float:
        if seen:  # the restore before ended the history of its set
            site.full()
        settle()
        seen.append(site.restore())
        return float(seen[-1]["rto"]["actual_seconds"])

    def bare() -> float:
        taken = shell("\n".join(by_hand.restoring(site)), site.folder / "none")
        by_hand.undo(site)
        return taken

    taken = alternate({BARE: bare, OURS: ours}, rounds, say)
    taken[IMPORT] = [_import(site, dump, say)]
    ratio, factor = paired_ratio(taken, OURS, BARE), median(taken[IMPORT]) / median(taken[OURS])
    table = Table(f"Full restore, {site.engine}: {size / 1e6:.0f} MB of sysbench data", times=taken)
    table.rows = [
        Row("restore: from the command to production's first answer (median)", f"{median(taken[OURS]):.2f} s"),
        Row("bare tools (median)", f"{median(taken[BARE]):.2f} s"),
        Row("import of a dump (one round)", f"{median(taken[IMPORT]):.2f} s"),
        Row("restore / bare tools", f"{ratio:.2f}", f"at most {LIMIT:.2f}, aim 1.10", ratio <= LIMIT),
        Row("import / restore", f"{factor:.1f}", f"at least {IMPORT_FACTOR:g}", factor >= IMPORT_FACTOR),
    ]
    measured = seen[1:] or seen  # the first one warmed up
    phases = {name: median([each["phases"].get(name, 0.0) for each in measured]) for name in seen[-1]["phases"]}
    table.notes.append(
        "The restore fetches production's last log, holds what it reads against its hash, verifies PostgreSQL's base against"
        " its manifest, makes sure that no link leads out, starts the copy aside and asks it, shuts it down in full, flushes it"
        " to the disk, journals the exchange and gives production a history of its own; the bare tools do none of this. Both"
        " read the same set; production is as durable as its defaults make it, also for the import. The restore's steps,"
        " medians in seconds: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items())
        + f"; of the exchange, {median([each['stop_seconds'] for each in measured]):.2f} to stop production's server and"
        f" {median([each['start_seconds'] for each in measured]):.2f} to start it."
    )
    table.commands = [
        line.replace(str(site.folder), "…") for line in (*commands, "", export, by_hand.importing(site.server, dump))
    ]
    return table


def _import(site: Production, dump: Path, say: Callable[[str], None]) -> float:
    """Import the dump into an empty server that is configured as production is."""
    with SERVERS[site.engine](site.folder / "import", options=MEMORY[site.engine]) as server:
        if site.engine == "mariadb":  # a definer of the sample's
            server.query(
                "CREATE USER petugas_lama@localhost ACCOUNT LOCK; GRANT ALL ON simrs.* TO petugas_lama@localhost"
            )
        settle()
        taken = shell(by_hand.importing(server, dump), site.folder / "none")
        asked = "SELECT SUM(k), COUNT(*) FROM sbtest4"
        if server.query(asked, NAME) != site.server.query(asked, NAME):
            raise RuntimeError("the import of the dump is not complete")
        say(f"  {IMPORT}: {taken:.2f} s")
    return taken
