# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, and write down what was measured.

python -m benchmarks.run                     2 GB, five rounds; writes benchmarks/results.md
python -m benchmarks.run --quick             a few megabytes, once: whether it works, not how fast it is
python -m benchmarks.run --only mariadb      full backups of one engine alone (or postgresql, cycles, many, restore)
"""

from __future__ import annotations

import argparse
import shutil
import sys
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from time import monotonic

from benchmarks import cycles, full, restore
from benchmarks.measure import PROJECT, Table, load, machine
from demo.servers import workspace

PARTS = ("mariadb", "postgresql", "cycles", "many", "restore")


def say(line: str) -> None:
    """Tell what is being done."""
    print(line, flush=True)


def measure(chosen: argparse.Namespace, folder: Path) -> list[Table]:
    """Run the parts that were chosen."""
    tables = []
    for engine in ("mariadb", "postgresql"):
        for where, data in product(chosen.compress_on or [full.COMPRESS_ON[engine]], chosen.data):
            if engine in chosen.only:
                base = folder / f"{engine}-{where}-{data}"
                base.mkdir()
                tables.append(full.benchmark(engine, base, chosen.megabytes, chosen.pairs, where, data, say))
                shutil.rmtree(base)
    if "cycles" in chosen.only:
        tables.append(cycles.long_and_short(folder, chosen.archived, chosen.pairs, say))
    if "many" in chosen.only:
        tables.append(cycles.many(folder, chosen.instances, say))
    if "restore" in chosen.only:
        for engine in chosen.engine or full.SERVERS:
            base = folder / f"restore-{engine}"
            base.mkdir()
            tables += restore.benchmark(engine, base, chosen.megabytes, chosen.pairs, chosen.transactions, say)
            shutil.rmtree(base)
    return tables


def results(tables: list[Table], began: float, load_before: str, command: str) -> str:
    """Return the results as Markdown."""
    lines = [
        "<!--",
        "SPDX-FileCopyrightText: The rspon.dbcontinuity contributors",
        "SPDX-License-Identifier: GPL-3.0-or-later",
        "-->",
        "",
        "# Benchmarks",
        "",
        f"Measured {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by `{command}` in {(monotonic() - began) / 60:.0f} minutes.",
        "Each figure is the median of alternating runs on equally warm caches; a ratio is the median of the rounds' ratios.",
        "",
        *(f"- {fact}" for fact in machine()),
        f"- load before {load_before}, at the end {load()}",
    ]
    for table in tables:
        lines += ["", f"## {table.title}", "", "| what | measured | promised | kept |", "| --- | --- | --- | --- |"]
        for row in table.rows:
            kept = "" if row.holds is None else "yes" if row.holds else "**no**"
            lines.append(f"| {row.what} | {row.measured} | {row.limit} | {kept} |")
        lines += ["", *(f"{note}\n" for note in table.notes)]
        if table.commands:
            lines += ["```text", *table.commands, "```", ""]
        lines += [
            f"- {name}: " + ", ".join(f"{value:.2f}" for value in values) + " s" for name, values in table.times.items()
        ]
    return "\n".join(lines).rstrip() + "\n"


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
        chosen.transactions = 300
    chosen.only = chosen.only or list(PARTS)
    chosen.data = chosen.data or ["sysbench"]
    began, before = monotonic(), load()
    command = " ".join(["python -m benchmarks.run", *(arguments if arguments is not None else sys.argv[1:])])
    with workspace("bench") as folder:
        tables = measure(chosen, folder)
    text = results(tables, began, before, command)
    chosen.results.write_text(text, encoding="utf-8")
    say(text)
    missed = [
        f"{table.title}: {row.what}: {row.measured}" for table in tables for row in table.rows if row.holds is False
    ]
    if missed and not chosen.quick:
        say("Not kept: " + "; ".join(missed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
