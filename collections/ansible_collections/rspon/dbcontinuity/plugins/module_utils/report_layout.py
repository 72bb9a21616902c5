# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the reports that people print and sign are laid out: width, marks, days, the site's zone, rows and values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Optional

from .clock import known_zone, parse_moment
from .errors import InputError
from .instance import choice

WIDTH = 100
LANGUAGES = ("id", "en")
PEN = "." * 50
NONE = "-"
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


class Page:
    """A report being written in one of two languages: labels with their values, one below the other.

    :param words: what stands in the evidence, in both languages.
    :param label: how wide the labels are.
    :raises InputError: if there is no such zone or language.
    """

    def __init__(self, zone: str, language: str, words: Mapping[str, tuple[str, str]], label: int = 34) -> None:
        self.tongue = LANGUAGES.index(choice(language, LANGUAGES, "language"))
        self.local = known_zone(zone)
        self.lines: list[str] = []
        self._words = words
        self._label = label

    # -- how it is laid out --

    def title(self, *titles: str) -> None:
        """Begin the page."""
        self.lines += [*(title.center(WIDTH).rstrip() for title in titles), "=" * WIDTH]

    def said(self, indonesian: str, english: str) -> str:
        """Return what is said in the report's language."""
        return (indonesian, english)[self.tongue]

    def word(self, word: Optional[str]) -> str:
        """Return a word of the evidence in the report's language, itself where it has none."""
        return self.said(*self._words[word]) if word and word in self._words else word or ""

    def section(self, indonesian: str, english: str) -> None:
        """Begin a part."""
        self.lines += ["", self.said(indonesian, english), "-" * WIDTH]

    def row(self, indonesian: str, english: str, value: Optional[str]) -> None:
        """Add a label and its value, a dash where there is none; long values go on below themselves."""
        label = self.said(indonesian, english)
        text = NONE if not value else flat(value)
        lines = textwrap.wrap(text, WIDTH - self._label - 3, break_long_words=False, break_on_hyphens=False) or [""]
        self.lines.append(f"{label.ljust(self._label)} : {lines[0]}".rstrip())
        self.lines += [" " * (self._label + 3) + line for line in lines[1:]]

    def rows(self, indonesian: str, english: str, values: Iterable[str]) -> None:
        """Add a label and, below it, one line a value; a dash where there is none."""
        below = [line for value in values for line in hanging(flat(value), "    ")]
        label = self.said(indonesian, english).ljust(self._label)
        self.lines += [f"{label} :" if below else f"{label} : {NONE}", *below]

    def item(self, text: str, indent: str = "    ") -> None:
        """Add a text of its own."""
        self.lines += hanging(flat(text), indent)

    def mark(self, result: str, text: str) -> None:
        """Add a line of a check-list."""
        self.lines += hanging(f"{MARKS.get(result, '[?]')} {flat(text)}", "  ")

    # -- values --

    def moment(self, text: Optional[str]) -> Optional[datetime]:
        """Return a moment of the evidence in the site's zone; None where it is none: the report is written all the same."""
        try:
            return parse_moment(text).astimezone(self.local) if text else None
        except InputError:
            return None

    def when(self, text: Optional[str], *, exact: bool = False) -> str:
        """Return a moment in the site's zone, to the second; *exact* where the fraction tells transactions apart."""
        moment = self.moment(text)
        if moment is None:
            return ""
        fraction = f".{moment.microsecond:06d}".rstrip("0") if exact and moment.microsecond else ""
        return f"{moment:%d-%m-%Y %H:%M:%S}{fraction} {moment:%Z}"

    def count(self, number: Optional[int]) -> str:
        """Return a number with its thousands set apart."""
        if number is None:
            return NONE
        return f"{number:,}".replace(",", self.said(".", ","))

    def long(self, seconds: float) -> str:
        """Return a duration."""
        return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} {self.said('menit', 'min')}"

    def lasting(self, seconds: float) -> str:
        """Return a duration that may be hours or days."""
        if seconds < 2 * 3600:
            return self.long(seconds)
        if seconds < 48 * 3600:
            return f"{seconds / 3600:.1f} {self.said('jam', 'h')}"
        return f"{seconds / 86400:.1f} {self.said('hari', 'days')}"

    def size(self, value: float) -> str:
        """Return bytes in binary units."""
        units = ("B", "KiB", "MiB", "GiB", "TiB")
        step = 0
        while abs(value) >= 1024 and step < len(units) - 1:
            value, step = value / 1024, step + 1
        return f"{value:.1f} {units[step]}" if step else f"{value:.0f} B"

    def against(self, value: Optional[Mapping[str, Any]]) -> str:
        """Return a target in minutes and what it was."""
        if not value:
            return ""
        aim, actual = value.get("target_minutes"), value.get("actual_seconds")
        wanted = f"{aim:g} {self.said('menit', 'min')}" if aim is not None else self.said("tidak ditetapkan", "not set")
        return f"{wanted} / {self.long(actual) if actual is not None else NONE}"


def flat(text: str) -> str:
    """Return a text in one line."""
    return " ".join(str(text).split())
