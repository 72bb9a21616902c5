# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine adds to a full restore: what speaks against it, what production's agent is told, what follows.

The moment is brought up as a :class:`ScratchServer` on the backup host; the operation carries its data to production.
Here stands only what differs from engine to engine, and nothing here touches production.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..errors import AccessError, PrerequisiteError
from ..instance import Instance
from ..lineage import LogRecord
from .base import Problem
from .scratch import ScratchServer, Source


@dataclass(frozen=True)
class Part:
    """One folder of production's that a full restore exchanges.

    :param name: as the restore agent calls it, such as ``data``.
    :param path: where production has it.
    :param share: which part of the new data's bytes it gets, about, 0 to 1.
    """

    name: str
    path: str
    share: float = 1.0


@dataclass(frozen=True)
class Tail:
    """What the stream holds beyond the proven chain, up to its last whole transaction; unproven.

    :param records: as if they were archived, the files standing in staging (``staged``).
    :param stop: as of :class:`Source`.
    """

    records: Sequence[LogRecord]
    stop: Mapping[str, Any]
    position: str
    moment: datetime
    transactions: Optional[int] = None


class FullRestore(ABC):
    """A full restore of one instance from one set and its logs.

    :param look: what the restore agent saw on production.
    """

    def __init__(self, instance: Instance, source: Source, look: Mapping[str, Any]) -> None:
        self.instance = instance
        self.source = source
        self.look = look

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Return the set's manifest."""
        return self.source.manifest

    @property
    def of_a_dump(self) -> bool:
        """Return whether the data come out of a dump, loaded into a new server: no log follows it."""
        return bool(self.manifest.get("method") == "logical")

    def layout(self) -> Mapping[str, str]:
        """Return how a server that is made anew from a dump must lay out its files, for production to start on them."""
        return {}

    @abstractmethod
    def problems(self) -> Sequence[Problem]:
        """Return what forbids the exchange, such as another release on production."""

    @abstractmethod
    def remarks(self) -> Sequence[str]:
        """Return what people should know of the result before they agree."""

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return what is exchanged, the data directory first."""

    @abstractmethod
    def spec(self, server: ScratchServer) -> dict[str, Any]:
        """Return what production's agent is told of the new data; asked while the copy still runs."""

    @abstractmethod
    def folders(self, settled: Path) -> Mapping[str, Path]:
        """Return by part the folder of the settled copy whose content it gets."""

    def unproven(self, staging: Path) -> Optional[Tail]:
        """Return what the stream in *staging* holds beyond the logs of the source; None where that is nothing."""
        return None

    def resume(self, *, shipping: bool) -> Sequence[str]:
        """Let the log be shipped again once production runs on the new data; return what was done or is left to do.

        :param shipping: whether the log was streamed before.
        """
        return []

    def part_path(self, name: str) -> str:
        """Return where production has a part that it has now."""
        return str(self.look["parts"][name]["path"])

    def mounts_within(self) -> Sequence[Problem]:
        """Return what speaks against an exchange where file systems are mounted inside what is exchanged."""
        present = self.look["parts"]
        found = [mount for each in self.parts() for mount in present.get(each.name, {}).get("mounts", [])]
        return [
            Problem(
                f"{mount} is a file system of its own inside the data: after an exchange it would come back at the next boot,"
                " over the restored data.",
                "Take it out of the data directory (a link to it is no hindrance), or restore by hand as"
                " docs/restore-by-hand.md shows.",
            )
            for mount in found
        ]

    def mounted(self) -> Sequence[str]:
        """Return the folders to be exchanged that are mount points."""
        present = self.look["parts"]
        return [each.path for each in self.parts() if present.get(each.name, {}).get("mount_point")]

    def overlaid(self) -> Sequence[str]:
        """Return the folders to be exchanged that may refuse to be renamed, since they lie on an overlay."""
        present = self.look["parts"]
        return [each.path for each in self.parts() if present.get(each.name, {}).get("overlay")]


def say_access(error: AccessError) -> str:
    """Return what is left to do where the backup host's own account is refused by the restored server."""
    return (
        f"The account of the backup host is refused: {error.message} Accounts and passwords are those of the moment"
        " restored: run the playbook site."
    )


def require_none(problems: Sequence[Problem]) -> None:
    """Raise all problems as one error.

    :raises PrerequisiteError: if there are any; nothing was touched.
    """
    if problems:
        raise PrerequisiteError(
            " ".join(each.message for each in problems),
            " ".join(dict.fromkeys(each.remedy for each in problems)),
            {"problems": [{"message": each.message, "remedy": each.remedy} for each in problems]},
        )
