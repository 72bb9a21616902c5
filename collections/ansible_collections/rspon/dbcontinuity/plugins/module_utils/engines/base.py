# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine offers; operations know nothing else of an engine, and engines nothing of the repository.

Two things are backed up: a *full* copy (:class:`FullBackup`) and the *log* of what happened since
(:class:`LogChain`, fed by a :class:`Receiver`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Optional

from ..errors import ChainError, PrerequisiteError
from ..instance import Instance
from ..lineage import Finding, LogRecord
from ..process import Stage, Written


@dataclass(frozen=True)
class Problem:
    """Something that forbids the work, and what to do about it."""

    message: str
    remedy: str


@dataclass(frozen=True)
class Inspection:
    """What was found before anything is written.

    :param version: the server's exact version.
    :param identity: what the server says of itself, such as server_uid or system_identifier.
    :param expected_bytes: content bytes a full backup will read, uncompressed.
    :param objects: counts by kind, such as ``{"tables": 41, "triggers": 3}``.
    :param tools: exact versions of the tools used, by name.
    :param non_transactional: tables a physical backup must lock, as ``schema.table``.
    :param warnings: sentences for people.
    :param problems: what forbids a backup.
    """

    version: str
    identity: Mapping[str, Any]
    expected_bytes: int
    objects: Mapping[str, int]
    tools: Mapping[str, str]
    non_transactional: Sequence[str] = ()
    warnings: Sequence[str] = ()
    problems: Sequence[Problem] = ()

    def require_no_problems(self) -> None:
        """Raise all problems as one error.

        :raises PrerequisiteError: if there are any.
        """
        if self.problems:
            raise PrerequisiteError(
                " ".join(problem.message for problem in self.problems),
                " ".join(problem.remedy for problem in self.problems),
                {"problems": [{"message": each.message, "remedy": each.remedy} for each in self.problems]},
            )


@dataclass(frozen=True)
class ArtefactStream:
    """One file of a full backup, as the programs that produce its content.

    :param name: the stored file's name without its layers' suffixes.
    :param content: what the manifest calls it, such as ``mbstream`` or ``tar``.
    :param compressed: whether the stages already give zstd.
    :param checksummed: whether the content has checksums of its own, which whoever unpacks it holds it against.
    :param read_by_hand: the command that unpacks the content from its standard input, for people.
    :param again_by_hand: a second command for the same content, once all artefacts were read.
    """

    name: str
    content: str
    stages: Sequence[Stage]
    compressed: bool = False
    checksummed: bool = False
    read_by_hand: str = ""
    again_by_hand: str = ""


@dataclass(frozen=True)
class BackupFacts:
    """What is known once all artefacts were written.

    :param start: position from which the log is needed, in the engine's terms.
    :param end: position at which the copy is consistent.
    :param point_in_time_recovery: whether logs can be applied to this copy.
    :param restore_by_hand: the commands that follow unpacking, for people.
    :param keep: small files of the working folder that the log side needs; they are moved into staging.
    """

    start: Mapping[str, Any]
    end: Mapping[str, Any]
    point_in_time_recovery: bool
    warnings: Sequence[str] = ()
    restore_by_hand: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    keep: Sequence[Path] = ()


class FullBackup(ABC):
    """One full backup under way."""

    @abstractmethod
    def artefacts(self) -> Iterator[ArtefactStream]:
        """Give the streams one after the other; each is written whole before the next is asked for."""

    @abstractmethod
    def written(self, stream: ArtefactStream, written: Written) -> None:
        """Look at how a stream's programs ended: status 0 does not prove that the copy is whole.

        :raises PipelineError: if it is not.
        """

    @abstractmethod
    def finish(self) -> BackupFacts:
        """Return positions and findings, all streams having been written."""


@dataclass(frozen=True)
class DeliveredLog:
    """A closed log, fetched whole into a working folder and proven to follow the one before.

    :param name: its name on the server.
    :param path: where it stands now, plain.
    :param start: position of its beginning, in the engine's terms.
    :param end: position of its end; the next log must begin there.
    :param transactions: number of committed transactions in it, where the engine can tell.
    """

    name: str
    path: Path
    size: int
    sha256: str
    start: Mapping[str, Any]
    end: Mapping[str, Any]
    first_event_at: Optional[datetime] = None
    last_event_at: Optional[datetime] = None
    transactions: Optional[int] = None


@dataclass(frozen=True)
class Lag:
    """How far the proven chain is behind the server.

    :param recoverable_to: every change committed before this moment is in the chain (UTC).
    :param lag_bytes: log on the server that is not in the chain.
    :param lag_seconds: age of the oldest change that is not in the chain; 0 where there is none.
    :param staged_bytes: of these, bytes the receiver already holds in staging (unproven).
    """

    recoverable_to: datetime
    lag_bytes: int
    lag_seconds: float
    staged_bytes: Optional[int] = None
    warnings: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class ChainBreak(ChainError):
    """A log that came does not prove to follow the chain; carries the findings."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(
            " ".join(finding.message for finding in findings),
            " ".join(finding.remedy for finding in findings),
            {"findings": [finding.to_json() for finding in findings]},
        )
        self.findings = findings


class LogChain(ABC):
    """The log side of one instance: what a cycle asks of the engine.

    *opening* is the lineage's ``lineage.json`` (its ``start`` came from :class:`BackupFacts`), *head* the newest
    log's record.
    """

    @abstractmethod
    def check_server(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> Sequence[Finding]:
        """Say whether the server is still the one, and in the history, that the chain belongs to.

        Finds reset numbering, a server rolled back, another server, a new timeline, logs purged too early.
        """

    @abstractmethod
    def rotate(self, opening: Mapping[str, Any], head: Optional[LogRecord]) -> bool:
        """Close the server's current log if anything happened since the head; return whether it was."""

    @abstractmethod
    def deliver(self, opening: Mapping[str, Any], head: Optional[LogRecord], workdir: Path) -> Iterator[DeliveredLog]:
        """Give the closed logs that follow the head, in order, each whole and proven.

        The caller publishes each before it asks for the next. *workdir* is empty and lies directly in staging.

        :raises ChainBreak: at the first that is missing, altered, cut or from another history.
        """

    @abstractmethod
    def published(self, record: LogRecord, staging: Path) -> None:
        """The log is in the repository: what staging holds of it and of older ones may go."""

    @abstractmethod
    def lag(self, opening: Mapping[str, Any], head: Optional[LogRecord], staging: Path) -> Lag:
        """Return how far the chain is behind, now."""

    @abstractmethod
    def verify_plain(
        self, opening: Mapping[str, Any], before: Optional[LogRecord], record: LogRecord, plain: Path
    ) -> Sequence[Finding]:
        """Prove an archived log again, decoded to *plain*: itself, and its join to the record before."""


class Receiver(ABC):
    """The stream of one instance's log into staging."""

    @abstractmethod
    def program(self, staging: Path, start: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the engine's part of the receiver program's configuration: see ``receiver_program``.

        That is ``folder``, ``argv``, ``environment``, ``start`` and ``probe``, as plain JSON without any secret.

        :param staging: the folder that everything is written into.
        :param start: ``logs``, the folder of lineages that tells where the chain goes on, and ``receiver_id``, the
            name or number under which the server is to know the stream (None: the engine's choice).
        """

    @abstractmethod
    def prepare_server(self, check_only: bool) -> Sequence[str]:
        """Create on the server what the stream needs (such as a slot); return what was, or would be, changed."""

    @abstractmethod
    def remove_from_server(self, check_only: bool) -> Sequence[str]:
        """Take away what :meth:`prepare_server` made; return what was, or would be, changed."""


class Engine(ABC):
    """One kind of thing that is backed up.

    :cvar name: as written in ``dbc_instances``.
    :cvar methods: the methods of a full backup it knows; the first is the default.
    """

    name: ClassVar[str]
    methods: ClassVar[tuple[str, ...]]

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    @abstractmethod
    def inspect(self) -> Inspection:
        """Look at server, privileges, tools and size; nothing is written.

        :raises AccessError: if the server does not answer or refuses the credentials.
        """

    @abstractmethod
    def full_backup(self, workdir: Path) -> AbstractContextManager[FullBackup]:
        """Begin a full backup; leaving the context ends every process and temporary thing of it.

        :param workdir: an empty folder on the repository's file system, removed by the caller.
        """

    @property
    def ships_logs(self) -> bool:
        """Return whether logs can follow this instance's full backups; a logical one has no recovery to a point in time."""
        return True

    @abstractmethod
    def log_chain(self) -> LogChain:
        """Return the log side."""

    def receiver(self) -> Optional[Receiver]:
        """Return the receiver of the log's stream, or None where the engine has no stream."""
        return None

    def same_history(
        self, identity: Mapping[str, Any], opening: Mapping[str, Any], head: Optional[LogRecord]
    ) -> Sequence[Finding]:
        """Return why a full backup made now does not belong to an existing lineage; empty if it does."""
        return self.log_chain().check_server(opening, head)

    @abstractmethod
    def verify_deep(self, folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Prove an unpacked set with the engine's own means (``--prepare``, ``pg_verifybackup``, the listing).

        :param folder: holds one sub-folder or file per artefact content, see the engine; may be changed.
        :raises DamagedError: if it does not hold.
        """
