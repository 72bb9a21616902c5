# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> list[str]:
    """Return rows as aligned lines under their headings."""
    text = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[column]) for row in text) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in text]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
