# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks run, at a size that says nothing of speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.run import main

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_the_quick_benchmarks_write_their_results(tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    assert main(["--quick", "--results", str(target)]) == 0
    text = target.read_text()
    for title in ("An idle log cycle", "3 idle instances", "as a timer starts it", "The status of 3 instances"):
        assert title in text
    for engine in ("mariadb", "postgresql"):
        for title in ("Full backup", "Full restore", "Replay of a log"):
            assert f"## {title}, {engine}: " in text
    memory = [line for line in text.splitlines() if line.startswith("| most memory of the module's Python")]
    assert len(memory) == 2
    assert all(line.endswith("| yes |") for line in memory)
