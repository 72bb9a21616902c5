# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine offers to bring parts back (R2): out of a running copy, through the channel, onto production.

``beside`` loads next to the original and touches nothing else; ``replace`` exchanges. Planning writes nothing to
production; the copy is a throwaway and may be written to. Results name keys, never whole rows: those are patients' data.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..channel import Channel
from ..durable import read_json, write_json
from ..errors import InputError, PipelineError
from ..instance import Instance
from ..scope import Scope

BESIDE, REPLACE = "beside", "replace"
MODES = (BESIDE, REPLACE)
# What an item's action can be.
LOAD, EXCHANGE, RECREATE, SWAP, NOTHING = "load beside", "exchange rows", "recreate", "swap", "nothing to do"
# The remedy where rows cannot be exchanged.
BESIDE_INSTEAD = "Load it beside the original (mode: beside) and take over by hand what is needed."


@dataclass(frozen=True)
class Order:
    """What is to be done.

    :param run: the run's id; it names what is made on production.
    :param accept_orphans: whether the instruction accepts rows that refer to none.
    :param examples: how many keys each difference names.
    :param lock_seconds: how long the exchange waits for locks of others before it gives up.
    :param attempts: how often an exchange is tried anew where rows changed meanwhile.
    """

    run: str
    scopes: Sequence[Scope]
    mode: str = BESIDE
    accept_orphans: bool = False
    examples: int = 10
    lock_seconds: int = 30
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"The mode {self.mode!r} is not known.", f"Use one of: {', '.join(MODES)}.")

    @property
    def word(self) -> str:
        """Return the run's id as a part of names in a database."""
        return re.sub(r"[^a-z0-9]+", "_", self.run.lower())[:28].strip("_")


@dataclass
class Difference:
    """How production's rows differ from the copy's.

    :ivar by: ``primary key`` or ``whole rows`` (a table without one: changed rows count on both sides).
    :ivar keys: up to so many keys by kind.
    """

    by: str
    only_production: int = 0
    only_copy: int = 0
    changed: int = 0
    keys: dict[str, list[str]] = field(default_factory=dict)

    @property
    def none(self) -> bool:
        """Return whether both sides hold the same."""
        return not (self.only_production or self.only_copy or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return the plain form."""
        return {
            "by": self.by,
            "only_in_production": self.only_production,
            "only_in_copy": self.only_copy,
            "changed": self.changed,
            "keys": {kind: list(keys) for kind, keys in self.keys.items()},
        }


@dataclass
class Item:
    """What is, or would be, done with one table, database, schema or folder.

    :ivar name: as in a scope.
    :ivar place: where the copy is put; empty where its own place is.
    :ivar kept: where the old is kept.
    :ivar rows: of the copy (for folders: files).
    :ivar orphans: by constraint, how many rows refer to none, and keys of some.
    """

    name: str
    action: str
    place: str = ""
    kept: str = ""
    rows: int = 0
    bytes: int = 0
    in_production: bool = True
    difference: Optional[Difference] = None
    orphans: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the plain form."""
        return {
            "name": self.name,
            "action": self.action,
            "place": self.place,
            "kept": self.kept,
            "rows": self.rows,
            "bytes": self.bytes,
            "in_production": self.in_production,
            "difference": self.difference.to_json() if self.difference else None,
            "orphans": list(self.orphans),
            "notes": list(self.notes),
        }


class Unsettled(PipelineError):
    """The link broke while a transaction was ended, and production does not answer: nobody knows yet how it ended."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(
            f"{first} Whether the exchange was made is not known: {second}",
            "Once production answers, plan the same restore again: its difference tells.",
        )


class Journal:
    """The steps of a swap, each durable before it is done, so that an interrupted one can be undone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = read_json(path) if path.is_file() else {}

    def note(self, **values: Any) -> None:
        """Keep values durably."""
        self.values.update(values)
        write_json(self.path, self.values, mode=0o600)

    def done(self) -> None:
        """Nothing of this run is left to be undone."""
        self.path.unlink(missing_ok=True)


class PartialRestore(ABC):
    """One partial restore of one instance.

    :param server: the running copy, at its moment; the engine's own :class:`ScratchServer`.
    :param workdir: an empty folder for small files, removed afterwards.
    """

    def __init__(self, server: Any, channel: Channel, instance: Instance, order: Order, workdir: Path) -> None:
        self.server = server
        self.channel = channel
        self.instance = instance
        self.order = order
        self.workdir = workdir

    @abstractmethod
    def plan(self) -> list[Item]:
        """Look at both sides and say what would be done; production is not written to.

        :raises InputError: for names the copy does not hold.
        :raises PrerequisiteError: for what cannot be done so, saying what can.
        """

    @abstractmethod
    def carry_out(self, items: Sequence[Item], journal: Journal, on_progress: Callable[[int], None]) -> list[Item]:
        """Do what :meth:`plan` said; on failure production is as it was, or the error says exactly what is where.

        :param on_progress: called with the bytes sent so far.
        :returns: what was done, with the differences found in doing it.
        """

    @abstractmethod
    def undo(self, journal: Journal) -> Mapping[str, Any]:
        """Bring back what an interrupted swap left, out of its journal; harmless where there is nothing."""


def beside_name(order: Order, number: int = 0) -> str:
    """Return the database or schema that tables are loaded into beside the original."""
    return f"dbc_restore_{order.word}" + (f"_{number + 1}" if number else "")


def unfinished_name(order: Order, number: int = 0) -> str:
    """Return what the same is called as long as it is not whole."""
    return f"dbc_unfinished_{order.word}" + (f"_{number + 1}" if number else "")


def kept_name(name: str, order: Order, limit: int, *, in_bytes: bool) -> str:
    """Return the name under which the old is kept; a long name is cut so that it fits."""
    end = f"_before_{order.word}"
    while (len(name.encode()) if in_bytes else len(name)) + len(end) > limit:
        name = name[:-1]
    return name + end
