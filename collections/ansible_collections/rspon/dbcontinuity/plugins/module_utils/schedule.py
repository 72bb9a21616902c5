# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedule window of a full backup: when it was due, and whether it kept its window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Optional
from zoneinfo import ZoneInfo

from .calendar_entry import TIME
from .clock import iso, known_zone
from .errors import InputError


@dataclass(frozen=True)
class Window:
    """A window of local time in a named zone; *end* before *start* runs over midnight.

    :param zone: an IANA name such as Asia/Jakarta.
    :param start: HH:MM, local.
    :param end: HH:MM, local.
    """

    zone: str
    start: str
    end: str

    def __post_init__(self) -> None:
        for value in (self.start, self.end):
            if not TIME.fullmatch(value):
                raise InputError(
                    f"The window's time {value!r} is not HH:MM.",
                    "Quote it in YAML ('12:30'): without quotes YAML reads 750.",
                )
        if self.start == self.end:
            raise InputError(f"The window {self.start} to {self.end} has no length.", "Give it an end after its start.")
        known_zone(self.zone)

    def around(self, moment: datetime) -> tuple[datetime, datetime]:
        """Return start and end (UTC-aware, local zone) of the window that a backup begun at *moment* belongs to.

        That is the last window that opened at or before *moment*.
        """
        local = moment.astimezone(ZoneInfo(self.zone))
        opening = self._at(local, self.start)
        if opening > local:
            opening = self._at(local - timedelta(days=1), self.start)
        closing = self._at(opening, self.end)
        if closing <= opening:
            closing = self._at(opening + timedelta(days=1), self.end)
        return opening, closing

    @staticmethod
    def _at(day: datetime, text: str) -> datetime:
        hour, minute = (int(part) for part in text.split(":"))
        return day.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)


def judge(window: Window, slot: Optional[datetime], started: datetime, finished: datetime) -> dict[str, Any]:
    """Return how a backup stands to its window: plain values for manifest, ledger and result.

    :param slot: when it was due; without one, the window of its own start counts.
    """
    opening, closing = window.around(slot or started)
    late = max(0.0, (started - opening).total_seconds())
    over = max(0.0, (finished - closing).total_seconds())
    return {
        "opens": iso(opening),
        "closes": iso(closing),
        "zone": window.zone,
        "kept": started >= opening and over == 0,
        "started_late_seconds": round(late, 3),
        "overran_seconds": round(over, 3),
    }


def forecast(
    window: Window, slot: Optional[datetime], now: datetime, expected_bytes: int, bytes_per_second: float
) -> Optional[dict[str, Any]]:
    """Return when a backup begun now should end, from the last runs' rate, and whether that keeps the window."""
    if expected_bytes <= 0 or bytes_per_second <= 0:
        return None
    seconds = expected_bytes / bytes_per_second
    _opening, closing = window.around(slot or now)
    ends = now + timedelta(seconds=seconds)
    return {"expected_seconds": round(seconds, 1), "expected_end": iso(ends), "fits": ends <= closing}
