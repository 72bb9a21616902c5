# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One entry of ``dbc_schedule`` as people write it, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .errors import InputError

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAILY = "daily"
DAY_MINUTES = 1440
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """What an entry says: days and a local time, or a number of minutes; see :class:`.calendar.Activity`."""

    days: tuple[int, ...] = ()
    start: str = ""
    end: str = ""
    every_minutes: int = 0
    within_minutes: int = 0

    @classmethod
    def parse(cls, where: str, values: object) -> Entry:
        """Return an entry from its plain form.

        :param where: how the entry is named to people, such as ``dbc_schedule.full_backup``.
        :raises InputError: naming the entry, what is wrong with it, and the remedy.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where} is no mapping.", "Write {day: Saturday, start: '12:00'} or {every_minutes: 10}.")
        by_minutes = "every_minutes" in values
        allowed = ("every_minutes", "within_minutes") if by_minutes else ("day", "start", "end")
        unknown = sorted(str(key) for key in values if key not in allowed)
        if unknown:
            raise InputError(
                f"{where} has {', '.join(unknown)}, which does not belong there.",
                "Give day, start and, for a window, end; or every_minutes and, for a window, within_minutes.",
            )
        return cls._by_minutes(where, values) if by_minutes else cls._by_days(where, values)

    @classmethod
    def _by_minutes(cls, where: str, values: Mapping[str, Any]) -> Entry:
        every = _number(f"{where}.every_minutes", values["every_minutes"])
        if 60 % every and (every % 60 or DAY_MINUTES % every):
            raise InputError(
                f"{where}.every_minutes is {every}, which is neither a part of an hour nor whole hours of a day.",
                "Use 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720 or 1440.",
            )
        if values.get("within_minutes") is None:
            return cls(every_minutes=every)
        within = _number(f"{where}.within_minutes", values["within_minutes"])
        if within > every or within >= DAY_MINUTES:
            raise InputError(
                f"{where}.within_minutes is {within}: the window would not close before the next one opens.",
                f"Give at most {min(every, DAY_MINUTES - 1)}.",
            )
        return cls(every_minutes=every, within_minutes=within)

    @classmethod
    def _by_days(cls, where: str, values: Mapping[str, Any]) -> Entry:
        for key in ("day", "start"):
            if not values.get(key):
                raise InputError(
                    f"{where} has no {key}.", "Write {day: Saturday, start: '12:00'} or {every_minutes: 10}."
                )
        start = _time(f"{where}.start", values["start"])
        end = "" if values.get("end") is None else _time(f"{where}.end", values["end"])
        if start == end:
            raise InputError(f"{where}: the window {start} to {end} has no length.", "Give it an end after its start.")
        return cls(days=_days(f"{where}.day", values["day"]), start=start, end=end)


def _days(where: str, value: object) -> tuple[int, ...]:
    if value == DAILY:
        return tuple(range(len(DAYS)))
    given = value if isinstance(value, list) else [value]
    found = {_day(each) for each in given}
    if None in found or len(found) != len(given):
        raise InputError(
            f"{where} is {value!r}.", f"Use {DAILY}, or one or several different days of {', '.join(DAYS)}."
        )
    return tuple(sorted(day for day in found if day is not None))


def _day(value: object) -> Optional[int]:
    return DAYS.index(value) if isinstance(value, str) and value in DAYS else None


def _time(where: str, value: object) -> str:
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise InputError(
            f"{where} is {value!r}, which is not HH:MM.", "Quote it in YAML ('12:30'): without quotes YAML reads 750."
        )
    return str(value)


def _number(where: str, value: object) -> int:
    # true is a number to Python; a number that a variable was templated into may come as text.
    if not isinstance(value, bool) and re.fullmatch(r"[1-9][0-9]{0,3}", str(value), re.ASCII):
        return int(str(value))
    raise InputError(f"{where} is {value!r}, which is no number of minutes above 0.", "Write it like 10.")
