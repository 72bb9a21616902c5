# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MariaDB's global transaction ids, and the state of a binary log in terms of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ...errors import InputError

_GTID = re.compile(r"^(\d{1,10})-(\d{1,10})-(\d{1,20})$")


class Gtid(NamedTuple):
    """One transaction's name: domain, server, number."""

    domain: int
    server: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Gtid:
        """Return the GTID written as ``0-1-42``.

        :raises InputError: if the text is none.
        """
        match = _GTID.match(text.strip())
        if match is None:
            raise InputError(f"{text!r} is no MariaDB GTID.", "Write it like 0-1-42.")
        return cls(*(int(part) for part in match.groups()))


class GtidState:
    """What a binary log holds so far: for each domain and server the newest number, and each domain's last server.

    It is what ``@@gtid_binlog_state`` shows and what stands in the Gtid list at the head of each log.
    """

    def __init__(self, gtids: Iterable[Gtid] = ()) -> None:
        self._newest: dict[tuple[int, int], int] = {}
        self._last: dict[int, int] = {}
        for gtid in gtids:
            self.add(gtid)

    @classmethod
    def parse(cls, text: str) -> GtidState:
        """Return the state written as ``0-1-42,0-2-40`` (a domain's last server comes last); empty text is empty.

        :raises InputError: if the text holds anything else.
        """
        return cls(Gtid.parse(part) for part in text.split(",") if part.strip())

    @classmethod
    def found_in(cls, text: str) -> GtidState:
        """Return the state from text that surrounds it, such as what SHOW BINLOG EVENTS tells of a Gtid list."""
        return cls(Gtid.parse(part) for part in re.findall(r"\d+-\d+-\d+", text))

    def add(self, gtid: Gtid) -> None:
        """Take a transaction into account."""
        self._newest[gtid.domain, gtid.server] = gtid.sequence
        self._last[gtid.domain] = gtid.server

    def copy(self) -> GtidState:
        """Return a state of its own."""
        other = GtidState()
        other._newest, other._last = dict(self._newest), dict(self._last)
        return other

    @property
    def position(self) -> str:
        """Return the last transaction of each domain, as in ``gtid_binlog_pos``."""
        return ",".join(
            f"{domain}-{server}-{self._newest[domain, server]}" for domain, server in sorted(self._last.items())
        )

    def covers(self, other: GtidState) -> bool:
        """Return whether everything in *other* is in this state too."""
        return all(self._newest.get(key, -1) >= number for key, number in other._newest.items())

    def limited_to(self, other: GtidState) -> GtidState:
        """Return this state without the domains that *other* knows nothing of."""
        limited = GtidState()
        limited._newest = {key: number for key, number in self._newest.items() if key[0] in other._last}
        limited._last = {domain: server for domain, server in self._last.items() if domain in other._last}
        return limited

    def agrees_with(self, position: GtidState) -> bool:
        """Return whether this log's state can be the one of a copy of the server taken at *position*.

        The copy tells ``gtid_current_pos``. On a server that was a replica once it has domains that its own log never
        saw, and lacks those that only others wrote: what both know must be the same.
        """
        if self and not position:
            return False
        return self.limited_to(position).position == position.limited_to(self).position

    def __bool__(self) -> bool:
        return bool(self._newest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidState) and (self._newest, self._last) == (other._newest, other._last)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"GtidState({self})"

    def __str__(self) -> str:
        """Return the one way of writing it: by domain and server, a domain's last server at its end."""
        keys = sorted(self._newest, key=lambda key: (key[0], self._last[key[0]] == key[1], key[1]))
        return ",".join(f"{domain}-{server}-{self._newest[domain, server]}" for domain, server in keys)
