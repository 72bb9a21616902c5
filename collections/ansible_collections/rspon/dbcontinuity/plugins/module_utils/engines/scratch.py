# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine offers to bring a copy up as a throwaway: test restore, and later restore and rehearsal, use it.

The operation unpacks nothing and knows no engine's flags; the engine is told where the artefacts and logs lie and how
they are decoded, and knows nothing else of the repository.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Optional

from ..codec import Protection, decode_stages
from ..errors import ChainError
from ..hashed import hashed_stages
from ..instance import Instance
from ..lineage import LogRecord
from ..manifest import Artefact
from ..process import Stage, find_tool
from ..stored import unpack_stages
from ..throwaway import Sandbox
from .targets import Target

__all__ = ["Check", "Content", "ScratchServer", "Source", "Target", "missing", "needed_bytes"]
PASSED, FAILED, NOT_CHECKABLE = "passed", "failed", "not checkable"
MEBIBYTE = 1024 * 1024
# Logs of the throwaway's own, its temporary files, the engines' fixed files.
_ROOM_BESIDE = 256 * MEBIBYTE


@dataclass(frozen=True)
class Source:
    """A full set and the logs that bring it to the target.

    :param folder: where the set's artefacts lie.
    :param manifest: the set's manifest, plain.
    :param logs: the records of the logs to apply, in order, and *logs_folder* where they lie.
    :param stop: where the replay ends, as the engine's resolver said; empty for the end of *logs*.
    :param histories: where each of the instance's lineages starts, in the engine's terms.
    :param hashed: hold each file against its hash while it is decoded; nobody has before.
    """

    folder: Path
    manifest: Mapping[str, Any]
    protection: Protection
    logs: Sequence[LogRecord] = ()
    logs_folder: Path = field(default_factory=Path)
    stop: Mapping[str, Any] = field(default_factory=dict)
    histories: Sequence[Mapping[str, Any]] = ()
    hashed: bool = False

    @property
    def artefacts(self) -> list[Artefact]:
        """Return the set's files."""
        return [Artefact.from_json(value) for value in self.manifest["artefacts"]]

    def artefact_stages(self, artefact: Artefact) -> list[Stage]:
        """Return the stages that give an artefact's content."""
        path = self.folder / artefact.name
        if self.hashed:
            return hashed_stages(path, artefact.size, artefact.sha256, artefact.layers, self.protection)
        return decode_stages(artefact.layers, self.protection, path)

    def unpack(self, artefact: Artefact, folder: Path) -> Path:
        """Decode an artefact into *folder*; see :func:`stored.unpack`."""
        return unpack_stages(artefact, self.artefact_stages(artefact), folder)

    def log_stages(self, record: LogRecord) -> list[Stage]:
        """Return the stages that give a log's content."""
        path = self.logs_folder / record.artefact
        if record.values.get("staged"):  # the stream's own file, which nothing has archived yet
            return [Stage((find_tool("cat", "coreutils"), str(path)))]
        if self.hashed:
            size, sha256 = int(record.values["size"]), str(record.values["sha256"])
            return hashed_stages(path, size, sha256, record.values["layers"], self.protection)
        return decode_stages(record.values["layers"], self.protection, path)

    @property
    def content_bytes(self) -> int:
        """Return the bytes of the set's content, uncompressed."""
        details = self.manifest.get("engine_details", {})
        stored = sum(artefact.size for artefact in self.artefacts)
        return max(int(self.manifest.get("expected_bytes") or 0), int(details.get("content_bytes") or 0), stored)

    @property
    def log_bytes(self) -> int:
        """Return the bytes of the logs, uncompressed."""
        return sum(int(record.values.get("plain_size") or 0) for record in self.logs)


def needed_bytes(source: Source) -> int:
    """Return about how much room a copy takes while it is brought up and looked at."""
    return int(source.content_bytes * 1.15) + 2 * source.log_bytes + _ROOM_BESIDE


@dataclass(frozen=True)
class Check:
    """What the engine says of the copy.

    :param result: ``passed``, ``failed`` or ``not checkable``.
    """

    name: str
    result: str
    detail: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the plain form."""
        return {"name": self.name, "result": self.result, "detail": self.detail}


@dataclass(frozen=True)
class Content:
    """What a copy holds: objects by kind, rows by table (for folders: entries by kind)."""

    objects: Mapping[str, int]
    rows: Mapping[str, int]


class ScratchServer(ABC):
    """A throwaway copy of one instance in a folder of its own; nothing can reach it but this process.

    :cvar users: who it runs as, by default: the first that exists on this host; none: whoever runs this.
    """

    users: ClassVar[tuple[str, ...]] = ()

    def __init__(self, instance: Instance, source: Source, folder: Path, sandbox: Sandbox) -> None:
        self.instance = instance
        self.source = source
        self.folder = folder
        self.sandbox = sandbox
        # Of a server made anew from a dump that production will run on: see FullRestore.layout.
        self.layout: Mapping[str, str] = {}

    @staticmethod
    @abstractmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the exact versions of the programs needed, by name.

        :raises PrerequisiteError: if one is missing or of another release than the set's server.
        """

    @staticmethod
    @abstractmethod
    def logs_of(manifest: Mapping[str, Any], records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        """Return those of a lineage's logs that follow the set.

        :raises ChainError: if one between the set and the first is missing.
        """

    @abstractmethod
    def unpack(self) -> None:
        """Decode the set into the folder."""

    @abstractmethod
    def verify_base(self) -> Sequence[Check]:
        """Prove the unpacked set with the engine's own means and make it ready to start.

        :raises DamagedError: if it does not hold.
        """

    @abstractmethod
    def start(self) -> None:
        """Start the server, cut off from everything; a server that replays while it starts does so in :meth:`replay`."""

    def base_objects(self) -> Optional[Mapping[str, int]]:
        """Return the objects of the set before any log is applied; None where the engine cannot tell then."""
        return None

    @abstractmethod
    def replay(self, on_progress: Callable[[int], None], timeout: float) -> Mapping[str, Any]:
        """Apply the logs to the target, exactly; on return the server answers queries, and takes writes.

        :param on_progress: called with the plain bytes applied so far.
        :raises ContinuityError: if it does not get exactly there.
        """

    @abstractmethod
    def content(self) -> Content:
        """Count objects and rows, exactly."""

    @abstractmethod
    def checks(self) -> Sequence[Check]:
        """Let the engine look at every table and index; ends the server where a check needs it stopped."""

    @abstractmethod
    def ask(self, sql: str, database: str) -> str:
        """Return a query's single value as text, empty for NULL or no row."""

    def settle(self) -> Path:
        """End the server cleanly and return its data directory, on disk, fit to become a server's own.

        Nothing of the throwaway's is left in it: its account, its settings. For folders it is the root that they lie
        below. The copy cannot be asked any more.

        :raises ContinuityError: if it does not end cleanly.
        """
        raise NotImplementedError

    @abstractmethod
    def end(self) -> None:
        """End the server at once; nothing of it runs afterwards. Does nothing where none runs."""


def missing(name: str, what: str) -> ChainError:
    """Return the error for a log that should stand first and does not."""
    return ChainError(
        f"The log {name} is missing: {what}.",
        "Take it from a copy of the repository, or make a new full backup now.",
        {"file": name},
    )
