# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times: UTC and ISO 8601 in files and evidence; people see the site's zone."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime, timezone
from time import monotonic
from typing import Optional
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import InputError

_STAMP = "%Y%m%dT%H%M%SZ"
# timedatectl wakes a service up: each record of a run would cost tens of milliseconds. An answer is good for so long.
_CLOCK_SECONDS = 60.0
_clock_answer: Optional[tuple[float, Optional[bool]]] = None


def utc_now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(timezone.utc)


def iso(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC with microseconds only where there are any."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a zone")
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """Return a moment as used in names, to the second, in UTC: 20260919T050000Z."""
    return moment.astimezone(timezone.utc).strftime(_STAMP)


def from_stamp(text: str) -> datetime:
    """Return the moment named by :func:`stamp`."""
    return datetime.strptime(text, _STAMP).replace(tzinfo=timezone.utc)


def parse_moment(text: str, what: str = "time") -> datetime:
    """Return a moment given by a person or a file; it must carry a UTC offset or ``Z``.

    :raises InputError: if the text is no ISO 8601 time or carries no offset.
    """
    # datetime.fromisoformat learnt 'Z', basic offsets and fractions of any length in Python 3.11 only.
    candidate = re.sub(r"[zZ]$", "+00:00", text.strip())
    candidate = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", candidate)
    fraction = re.search(r"\.(\d+)", candidate)
    if fraction:
        candidate = candidate.replace(fraction.group(0), "." + fraction.group(1)[:6].ljust(6, "0"))
    try:
        moment = datetime.fromisoformat(candidate)
    except ValueError:
        raise InputError(
            f"The {what} {text!r} is not an ISO 8601 time.", "Write it like 2026-09-19T12:00:00+07:00."
        ) from None
    if moment.tzinfo is None:
        raise InputError(
            f"The {what} {text!r} has no UTC offset, so it could mean several moments.",
            "Write it like 2026-09-19T12:00:00+07:00.",
        )
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise InputError(f"The {what} {text!r} lies outside the calendar.", "Write the year with care.") from None


def known_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    :raises InputError: if this host does not know it.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"The time zone {name!r} is not known on this host: there is no time zone of that name.",
            "Use a name such as Asia/Jakarta.",
        ) from None


def clock_synchronised() -> Optional[bool]:
    """Return whether this host's clock is synchronised, or None where nothing here can tell; asked once a minute at most."""
    global _clock_answer
    if _clock_answer is None or monotonic() - _clock_answer[0] > _CLOCK_SECONDS:
        _clock_answer = (monotonic(), _ask_clock())
    return _clock_answer[1]


def _ask_clock() -> Optional[bool]:
    try:
        answer = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {b"yes": True, b"no": False}.get(answer.stdout.strip())
