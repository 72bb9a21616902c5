# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of the benchmarks' results keeps what a run did not measure."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from benchmarks.measure import Row, Table
from benchmarks.report import keep, section

AT = datetime(2026, 9, 19, 5, 0, tzinfo=timezone.utc)


def written(title: str, value: str) -> str:
    table = Table(title, [Row("ratio", value, "at most 1.20", float(value) <= 1.2)], times={"ours": [1.0, 2.5]})
    return section(table, AT, "python -m benchmarks.run", ("0.10", "0.90"))


def test_a_section_takes_the_place_of_its_kind_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    for title, value in (("Full backup, mariadb: 5 MB", "1.31"), ("Full restore, mariadb: 5 MB", "1.00")):
        keep(file, written(title, value))
    keep(file, written("Full backup, mariadb: 2000 MB", "1.19"))
    text = file.read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# Benchmarks", "## Full backup, mariadb: 2000 MB", "## Full restore, mariadb: 5 MB"]
    assert "| ratio | 1.19 | at most 1.20 | yes |" in text
    assert "1.31" not in text
    assert (
        text.count("Measured 2026-09-19 05:00 UTC by `python -m benchmarks.run`; load before 0.10, at the end 0.90.")
        == 2
    )
    assert text.count("- ours: 1.00, 2.50 s") == 2
    keep(file, written("Full backup, mariadb: 2000 MB", "1.19"))
    assert file.read_text() == text
