# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, and write down what was measured.

python -m benchmarks.run                     2 GB, five rounds; writes benchmarks/results.md, part by part
python -m benchmarks.run --quick             a few megabytes, once: whether it works, not how fast it is
python -m benchmarks.run --only mariadb      full backups of one engine alone (or postgresql, cycles, many, scheduled, restore)
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

from benchmarks import cycles, full, restore, scheduled, status
from benchmarks.measure import PROJECT, Table, load
from benchmarks.report import keep, section
from demo.servers import workspace

PARTS = ("mariadb", "postgresql", "cycles", "many", "scheduled", "restore", "status")


def say(line: str) -> None:
    """Tell what is being done."""
    print(line, flush=True)


def measure(chosen: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """Run the parts that were chosen; each table is given as soon as it is there."""
    for engine in ("mariadb", "postgresql"):
        for where, data in product(chosen.compress_on or [full.COMPRESS_ON[engine]], chosen.data):
            if engine in chosen.only:
                base = folder / f"{engine}-{where}-{data}"
                base.mkdir()
                yield full.benchmark(engine, base, chosen.megabytes, chosen.pairs, where, data, say)
                shutil.rmtree(base)
    if "cycles" in chosen.only:
        yield cycles.long_and_short(folder, chosen.archived, chosen.pairs, say)
    if "many" in chosen.only:
        yield cycles.many(folder, chosen.instances, say)
    if "scheduled" in chosen.only:
        yield scheduled.scheduled(folder, sorted({1, min(10, chosen.instances), chosen.instances}), say)
    if "restore" in chosen.only:
        for engine in chosen.engine or full.SERVERS:
            base = folder / f"restore-{engine}"
            base.mkdir()
            yield from restore.benchmark(engine, base, chosen.megabytes, chosen.pairs, chosen.transactions, say)
            shutil.rmtree(base)
    if "status" in chosen.only:
        yield status.benchmark(folder, chosen.instances, chosen.days, say)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure against the bare tools.")
    parser.add_argument(
        "--megabytes", type=float, default=2000, help="size of the data directory (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=5, help="rounds of alternating runs (default: %(default)s)")
    parser.add_argument("--archived", type=int, default=10_000, help="logs of the long chain (default: %(default)s)")
    parser.add_argument("--instances", type=int, default=50, help="idle instances (default: %(default)s)")
    parser.add_argument(
        "--transactions", type=int, default=200_000, help="of the log that is replayed (default: %(default)s)"
    )
    parser.add_argument(
        "--days", type=int, default=status.YEAR_DAYS, help="of the ledger that the status reads (default: %(default)s)"
    )
    parser.add_argument("--engine", action="append", choices=tuple(full.SERVERS), help="restores of one engine alone")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part alone; may be repeated")
    parser.add_argument(
        "--compress-on",
        action="append",
        choices=("backup", "production"),
        help="where zstd runs (default: where the bare pipeline has it)",
    )
    parser.add_argument(
        "--data",
        action="append",
        choices=("sample", "sysbench"),
        help="a hospital's sample, or sysbench's tables; may be repeated (default: sysbench)",
    )
    parser.add_argument(
        "--results", type=Path, default=PROJECT / "benchmarks/results.md", help="where they are written"
    )
    parser.add_argument("--quick", action="store_true", help="as small as it can be: does it work?")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.megabytes, chosen.pairs, chosen.archived, chosen.instances = 5, 0, 20, 3
        chosen.transactions, chosen.days = 300, 8
    chosen.only = chosen.only or list(PARTS)
    chosen.data = chosen.data or ["sysbench"]
    command = " ".join(["python -m benchmarks.run", *(arguments if arguments is not None else sys.argv[1:])])
    before, tables = load(), []
    with workspace("bench") as folder:
        for table in measure(chosen, folder):
            text = section(table, datetime.now(timezone.utc), command, (before, load()))
            keep(chosen.results, text)
            say(f"\n{text}")
            tables.append(table)
    missed = [
        f"{table.title}: {row.what}: {row.measured}" for table in tables for row in table.rows if row.holds is False
    ]
    if missed and not chosen.quick:
        say("Not kept: " + "; ".join(missed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
