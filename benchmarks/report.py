# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of results: one section a table, each with when and how it was measured.

What a run measures takes the place of the section of the same kind; the others stay. So a part can be measured again
alone, and a run that is broken off keeps what it has.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from benchmarks.measure import Table, machine

_HEADING = re.compile(r"^## ", re.MULTILINE)


def kind(heading: str) -> str:
    """Return what a section is about: its heading up to the colon, behind which stand sizes and settings."""
    return heading.split("\n", maxsplit=1)[0].split(":", maxsplit=1)[0].strip()


def section(table: Table, measured_at: datetime, command: str, loads: tuple[str, str]) -> str:
    """Return a table as Markdown, without the ``##`` of its heading.

    :param measured_at: aware, UTC.
    :param loads: the machine's load before and after.
    """
    lines = [
        table.title,
        "",
        f"Measured {measured_at:%Y-%m-%d %H:%M} UTC by `{command}`; load before {loads[0]}, at the end {loads[1]}.",
        "",
        "| what | measured | promised | kept |",
        "| --- | --- | --- | --- |",
    ]
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


def keep(file: Path, new: str) -> None:
    """Put a section into the file in the place of the one of its kind, else at the end."""
    old = _HEADING.split(file.read_text(encoding="utf-8"))[1:] if file.exists() else []
    sections = [each.rstrip() + "\n" for each in old]
    places = [number for number, each in enumerate(sections) if kind(each) == kind(new)]
    if places:
        sections[places[0]] = new
    else:
        sections.append(new)
    file.write_text(_head() + "".join(f"\n## {each}" for each in sections), encoding="utf-8")


def _head() -> str:
    lines = [
        "<!--",
        "SPDX-FileCopyrightText: The rspon.dbcontinuity contributors",
        "SPDX-License-Identifier: GPL-3.0-or-later",
        "-->",
        "",
        "# Benchmarks",
        "",
        "Each figure is the median of alternating runs on equally warm caches; a ratio is the median of the rounds' ratios.",
        "The machine, as the newest section found it:",
        "",
        *(f"- {fact}" for fact in machine()),
    ]
    return "\n".join(lines) + "\n"
