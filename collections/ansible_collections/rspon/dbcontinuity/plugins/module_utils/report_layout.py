# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the reports that people print and sign are laid out: width, marks, days, the site's zone."""

from __future__ import annotations

import textwrap
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import InputError

WIDTH = 100
# Bahasa Indonesia and English, from Monday on.
DAYS = (
    ("Senin", "Monday"),
    ("Selasa", "Tuesday"),
    ("Rabu", "Wednesday"),
    ("Kamis", "Thursday"),
    ("Jumat", "Friday"),
    ("Sabtu", "Saturday"),
    ("Minggu", "Sunday"),
)
MARKS = {"passed": "[v]", "failed": "[x]", "not checkable": "[-]"}


def known_zone(zone: str) -> ZoneInfo:
    """Return a time zone by its name.

    :raises InputError: if there is none.
    """
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f"There is no time zone {zone!r}.", "Name one such as Asia/Jakarta.") from None


def hanging(text: str, indent: str) -> list[str]:
    """Return a text in lines of the page's width, all but the first indented further; paths and hashes stay whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
