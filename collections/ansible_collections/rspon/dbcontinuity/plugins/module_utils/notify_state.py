# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who was told what, and when: a failure is told at once, then when it changes, every few hours, and when it is over.

A log cycle runs every ten minutes. Without a memory its failure would be 144 letters a day, which nobody reads. Each
channel has a memory of its own: one that was dead when the failure began is told as soon as it works again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

from .clock import iso, parse_moment
from .durable import read_json, write_json
from .errors import ContinuityError

VERSION = 1
FAILED, CHANGED, STILL, RECOVERED = "failed", "changed", "still failing", "recovered"
_RECORD_AFTER = timedelta(hours=1)


class NotifyState:
    """The memory; plain JSON in one file.

    ``activities`` holds, for each activity that fails, since when and what each channel was told; ``channels`` holds for
    each channel since when it is dead and why (``dead_since`` null: it works), when it last worked and when the ledger
    last had a record of it.
    """

    def __init__(self, values: Optional[Mapping[str, Any]] = None) -> None:
        values = values if values is not None and values.get("version") == VERSION else {}
        self._activities: dict[str, Any] = dict(values.get("activities") or {})
        self._channels: dict[str, Any] = dict(values.get("channels") or {})

    @classmethod
    def read(cls, path: Path) -> NotifyState:
        """Return the memory; an empty one where there is none or it cannot be read: better told twice than never."""
        try:
            return cls(read_json(path))
        except (ContinuityError, AttributeError, TypeError, ValueError):
            return cls()

    def write(self, path: Path) -> None:
        """Keep it."""
        write_json(path, self.values(), 0o600)

    def values(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"version": VERSION, "activities": self._activities, "channels": self._channels}

    def failing_since(self, activity: str) -> Optional[str]:
        """Return since when the activity fails (ISO 8601), None where it does not."""
        since = self._activity(activity).get("since")
        return str(since) if since else None

    def to_tell(self, activity: str, channel: str, signature: str, now: datetime, repeat: timedelta) -> Optional[str]:
        """Return what a channel is to be told now, None where it knows.

        :param signature: what is wrong, as text that stays the same as long as that does; empty after a success.
        """
        told = self._activity(activity).get("told", {}).get(channel)
        if not signature:
            return RECOVERED if told else None
        if not told:
            return FAILED
        if told.get("signature") != signature:
            return CHANGED
        since = _age(told.get("at"), now)
        return STILL if since is None or not timedelta(0) <= since < repeat else None

    def note_failure(self, activity: str, now: datetime) -> None:
        """Remember since when the activity fails."""
        entry = self._activity(activity)
        self._activities[activity] = {"since": entry.get("since") or iso(now), "told": entry.get("told", {})}

    def note_told(self, activity: str, channel: str, signature: str, now: datetime) -> None:
        """Remember what a channel was told; an empty signature: that it is over."""
        told = self._activities.setdefault(activity, {"since": iso(now), "told": {}})["told"]
        if signature:
            told[channel] = {"signature": signature, "at": iso(now)}
        else:
            told.pop(channel, None)

    def note_success(self, activity: str, channels: Sequence[str]) -> None:
        """Forget a failure that is over, as soon as no channel that there still is waits to be told so."""
        entry = self._activity(activity)
        waiting = {name: value for name, value in entry.get("told", {}).items() if name in channels}
        if waiting:
            self._activities[activity] = {**entry, "told": waiting}
        else:
            self._activities.pop(activity, None)

    def note_channel(self, channel: str, kind: str, problem: Optional[str], now: datetime) -> Optional[dict[str, Any]]:
        """Remember how a channel is; return what the ledger should hold of it, None where it knows.

        :param problem: why it does not work, None where it does.
        """
        entry = self._channels.get(channel) if isinstance(self._channels.get(channel), dict) else {}
        before = dict(entry or {})
        dead_since = before.get("dead_since")
        values = {"kind": kind, "last_good": before.get("last_good"), "recorded": before.get("recorded")}
        if problem is None:
            self._channels[channel] = {**values, "dead_since": None, "problem": None, "last_good": iso(now)}
            self._channels[channel]["recorded"] = None
            if not dead_since or not before.get("recorded"):
                return None
            return {"channel": channel, "kind": kind, "state": "works again", "since": iso(now)}
        since = dead_since or iso(now)
        age = _age(before.get("recorded"), now)
        record = age is None or not timedelta(0) <= age < _RECORD_AFTER
        recorded = iso(now) if record else before.get("recorded")
        self._channels[channel] = {**values, "dead_since": since, "problem": problem, "recorded": recorded}
        if not record:
            return None
        return {"channel": channel, "kind": kind, "state": "dead", "problem": problem, "since": since}

    def forget_channels(self, present: Sequence[str]) -> None:
        """Drop what is remembered of channels that are no longer configured."""
        self._channels = {name: value for name, value in self._channels.items() if name in present}

    def dead(self) -> dict[str, Any]:
        """Return the channels that do not work, by name."""
        return {
            name: value
            for name, value in sorted(self._channels.items())
            if isinstance(value, dict) and value.get("dead_since")
        }

    def _activity(self, activity: str) -> dict[str, Any]:
        entry = self._activities.get(activity)
        return entry if isinstance(entry, dict) and isinstance(entry.get("told"), dict) else {}


def _age(text: object, now: datetime) -> Optional[timedelta]:
    try:
        return now - parse_moment(str(text)) if text else None
    except ContinuityError:
        return None
