# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling people of scheduled runs: what each channel does not know yet, and what is wrong with the channels themselves."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Optional

from .actor import describe_actor
from .clock import utc_now
from .errors import ContinuityError
from .locks import exclusive
from .notice import RunFacts, notice, trial
from .notify import REPEAT_HOURS, Channel, Notice, channels_from, deliver
from .notify_state import RECOVERED, NotifyState
from .scheduled_host import Host

_STATE_WAIT_SECONDS = 60.0


class Notifier:
    """Tells people of runs through the channels that ``site`` has written down, and remembers what they were told."""

    def __init__(self, host: Host, say: Callable[[str], None]) -> None:
        self._host = host
        self._say = say

    def tell(self, facts: RunFacts) -> None:
        """Tell each channel what it does not know yet; a success pings the dead man's switches."""
        channels, repeat = self._channels()
        state = NotifyState.read(self._host.notify_state)
        now = utc_now()
        if facts.troubles:
            state.note_failure(facts.activity, now)
        since = state.failing_since(facts.activity)
        sent: list[tuple[Channel, Notice]] = []
        for channel in channels:
            what = self._what(state, channel, facts, now, repeat)
            if what:
                sent.append((channel, notice(facts, what, since)))
        outcome = deliver(sent)
        now = utc_now()
        with self._locked_state() as kept:
            if facts.troubles:
                kept.note_failure(facts.activity, now)
            for channel, _notice in sent:
                problem = outcome[channel.name]
                if problem is None and channel.kind != "heartbeat":
                    kept.note_told(facts.activity, channel.name, facts.signature, now)
                self._note(kept, channel, problem, now, facts)
            if not facts.troubles:
                kept.note_success(facts.activity, [each.name for each in channels])
            kept.forget_channels([each.name for each in channels])

    def try_all(self) -> int:
        """Send a trial through every channel; return how many did not take it."""
        channels, _repeat = self._channels()
        if not channels:
            self._say("dbc_notify names no channel: nobody is told of failures.")
        outcome = deliver([(channel, trial(socket.gethostname())) for channel in channels])
        for name, problem in outcome.items():
            self._say(f"{name}: {problem or 'sent'}")
        return sum(1 for problem in outcome.values() if problem)

    @staticmethod
    def _what(state: NotifyState, channel: Channel, facts: RunFacts, now: datetime, repeat: timedelta) -> Optional[str]:
        if not channel.concerns(facts.activity):
            return None
        if channel.kind == "heartbeat":
            return None if facts.troubles else RECOVERED
        return state.to_tell(facts.activity, channel.name, facts.signature, now, repeat)

    def _note(
        self, state: NotifyState, channel: Channel, problem: Optional[str], now: datetime, facts: RunFacts
    ) -> None:
        """Tell the journal, and the ledger once an hour, of a channel that is dead; that it works again, too."""
        if problem:
            self._say(f"The channel {channel.name} does not work: {problem}.")
        record = state.note_channel(channel.name, channel.kind, problem, now)
        if record is None:
            return
        try:
            self._host.ledger().append("event", "notify", facts.run, actor=describe_actor(), data=record)
        except (ContinuityError, OSError) as error:
            self._say(f"The ledger could not be told of it: {error}")

    def _channels(self) -> tuple[list[Channel], timedelta]:
        path = self._host.etc / "scheduled/notify.json"
        try:
            values = json.loads(path.read_bytes())
            hours = float(values.get("repeat_hours") or REPEAT_HOURS)
            return channels_from(values.get("channels") or []), timedelta(hours=hours)
        except FileNotFoundError:
            return [], timedelta(hours=REPEAT_HOURS)
        except (ContinuityError, OSError, ValueError, TypeError, AttributeError) as error:
            # json's errors quote what they cannot read: only what is ours is told
            self._say(f"{path} cannot be read: {error if isinstance(error, ContinuityError) else type(error).__name__}")
            return [], timedelta(hours=REPEAT_HOURS)

    @contextlib.contextmanager
    def _locked_state(self) -> Iterator[NotifyState]:
        """Give the memory as it is now, and keep what becomes of it: another activity may end at the same time."""
        lock = self._host.state / "notify-state.lock"
        try:
            with exclusive(lock, "telling people", _STATE_WAIT_SECONDS):
                state = NotifyState.read(self._host.notify_state)
                yield state
                state.write(self._host.notify_state)
        except (ContinuityError, OSError) as error:
            self._say(f"What people were told cannot be remembered, so they may be told again: {error}")
