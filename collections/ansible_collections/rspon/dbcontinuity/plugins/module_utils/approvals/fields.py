# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that records are made of, read out of plain values: persons, letters, moments, texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ..clock import parse_moment
from ..errors import InputError

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_LONGEST = 2000


@dataclass(frozen=True)
class Person:
    """A person as a record names them.

    :param id_number: NIP or the like, as text: leading zeros belong to it.
    :param role: the office they acted in, as the officials file calls it; empty where none is needed.
    """

    name: str
    id_number: str
    role: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.id_number})"

    def is_named(self, other: Person) -> bool:
        """Return whether both names are the same but for case and spaces."""
        return _folded(self.name) == _folded(other.name)

    def is_also(self, other: Person) -> bool:
        """Return whether both are one person: the same number, or the same name whatever the number."""
        return self.id_number == other.id_number or self.is_named(other)

    def to_values(self) -> dict[str, str]:
        """Return the plain form."""
        return {**({"role": self.role} if self.role else {}), "name": self.name, "id_number": self.id_number}


@dataclass(frozen=True)
class Letter:
    """A letter's number, and its date as on the paper."""

    number: str
    dated: date


class Fields:
    """Plain values, field by field.

    Each method refuses what is not there or cannot be used with an :class:`InputError` that names it.

    :param what: names the whole in an error.
    """

    def __init__(self, values: Mapping[str, Any], what: str) -> None:
        self._values = values
        self._what = what

    def only(self, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Refuse a field that is missing or unknown.

        :raises InputError: naming them.
        """
        missing = [key for key in required if key not in self._values]
        unknown = sorted(set(self._values) - set(required) - set(optional))
        if missing or unknown:
            said = [f"lacks {', '.join(missing)}"] if missing else []
            said += [f"has the unknown {', '.join(unknown)}"] if unknown else []
            raise InputError(f"The {self._what} {' and '.join(said)}.", "See docs/approval-record.schema.json.")

    def text(self, key: str, *, lines: bool = False) -> str:
        """Return a field's text.

        :param lines: whether it may have several lines.
        """
        return self._checked(self._values[key], key, lines=lines)

    def texts(self, key: str) -> list[str]:
        """Return a field's list of texts."""
        value = self._values[key]
        if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence) or not value:
            raise InputError(f"The {self._what}'s {key} is {value!r}, which is no list of texts.", "Give a list.")
        return [self._checked(each, key) for each in value]

    def mapping(self, key: str, required: Sequence[str] = (), optional: Sequence[str] = ()) -> dict[str, str]:
        """Return a field's mapping of texts, with the parts it must and may have; any, where none is named."""
        value = self._values[key]
        if not isinstance(value, Mapping) or not value:
            raise InputError(f"The {self._what}'s {key} is {value!r}, which is no mapping.", "Give its parts by name.")
        if required or optional:
            Fields(value, f"{self._what}'s {key}").only(required, optional)
        return {str(name): self._checked(each, f"{key}.{name}") for name, each in value.items()}

    def person(self, key: str, *, role: bool = False) -> Person:
        """Return a field's person."""
        parts = self.mapping(key, ("name", "id_number", *(("role",) if role else ())))
        return Person(parts["name"], parts["id_number"], parts.get("role", ""))

    def letter(self, key: str) -> Letter:
        """Return a field's letter."""
        parts = self.mapping(key, ("number", "date"))
        return Letter(parts["number"], parse_date(parts["date"], f"date of the {self._what}'s letter"))

    def moment(self, key: str) -> datetime:
        """Return a field's moment, with the offset it was written with: its date is the day that people mean."""
        text = self.text(key)
        moment = parse_moment(text, f"{self._what}'s {key}")
        return moment.astimezone(datetime.fromisoformat(_with_offset(text)).tzinfo)

    def _checked(self, value: object, key: str, *, lines: bool = False) -> str:
        if not isinstance(value, str):
            raise InputError(
                f"The {self._what}'s {key} is {value!r}, which is no text.",
                "Put it in quotes: YAML takes 0012, NO and 12:30 for something else.",
            )
        text = value.strip()
        seen = text.replace("\n", " ") if lines else text
        if not text or len(text) > _LONGEST or _UNSEEN.search(seen):
            raise InputError(
                f"The {self._what}'s {key} {value[:80]!r} is empty, too long or holds characters that cannot be seen.",
                f"Type it anew, at most {_LONGEST} characters{'' if lines else ' in one line'}.",
            )
        return text


def _with_offset(text: str) -> str:
    """Return the moment 0 of the calendar with a text's UTC offset."""
    offset = re.search(r"([+-]\d\d)(?::?(\d\d))?$", text.strip())
    return f"2000-01-01T00:00:00{offset.group(1)}:{offset.group(2) or '00'}" if offset else "2000-01-01T00:00:00+00:00"


def parse_date(text: str, what: str) -> date:
    """Return a date given by a person.

    :raises InputError: if the text is none.
    """
    try:
        if not _DATE.fullmatch(text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"The {what} {text!r} is no date.", "Write it like 2026-09-19.") from None


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
