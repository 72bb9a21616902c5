# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking measures: alternating runs, medians, and what is known of the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Optional

from demo.process import environment

PROJECT = Path(__file__).resolve().parent.parent
Run = Callable[[], float]


@dataclass
class Row:
    """A line of the results.

    :param limit: what is promised, in words; *holds* says whether it was kept (None: nothing was promised).
    """

    what: str
    measured: str
    limit: str = ""
    holds: Optional[bool] = None


@dataclass
class Table:
    """A part of the results: its rows, the commands that were compared, and each single time."""

    title: str
    rows: list[Row] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def alternate(runs: Mapping[str, Run], rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Run all once unmeasured, so that each finds the caches equally warm, then in turn, every other round backwards.

    Of no rounds, the times of the first run are returned: they say that it works, not how fast it is.
    """
    names = list(runs)
    cold = {name: [runs[name]()] for name in names}
    for name in names:
        say(f"  warming up: {name}: {cold[name][0]:.2f} s")
    if not rounds:
        return cold
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            settle()
            taken[name].append(runs[name]())
            say(f"  round {number + 1} of {rounds}: {name}: {taken[name][-1]:.2f} s")
    return taken


def settle() -> None:
    """Write back what the run before left, so that the next one does not pay for it."""
    os.sync()


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def paired_ratio(taken: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    """Return the median of the rounds' ratios: what slows a whole round down slows both."""
    return statistics.median(one / other for one, other in zip(taken[ours], taken[theirs]))


def shell(command: str, target: Path) -> float:
    """Run a pipeline that a person would type; return what it took. Its target is removed before."""
    target.unlink(missing_ok=True)
    began = monotonic()
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command], env=environment(), stderr=subprocess.PIPE, check=False
    )
    taken = monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.decode(errors='replace')[-2000:]}")
    return taken


def operation(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run an operation of the core in a process of its own; see :mod:`benchmarks.operation`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.operation"],
        input=json.dumps(asked).encode(),
        env={**environment(), "PYTHONPATH": "collections"},
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-3000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def machine() -> list[str]:
    """Return what the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = Path("/proc/meminfo").read_text().split()[1]
    facts = [
        f"{os.cpu_count()} processors: {model}; {int(memory) / 1024 / 1024:.0f} GiB of memory",
        f"Linux {platform.release()}, Python {platform.python_version()}",
    ]
    for words in (
        ["mariadb-backup", "--version"],
        ["pg_basebackup", "--version"],
        ["zstd", "--version"],
        ["age", "--version"],
    ):
        shown = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
        facts.append(f"{words[0]}: {(shown.stdout + shown.stderr).strip().splitlines()[0]}")
    return facts


def load() -> str:
    """Return the load of the last minute: others' work on the machine spoils the figures."""
    return f"{os.getloadavg()[0]:.2f}"
