# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, as one small hierarchy.

Every error says what is wrong, where, and what to do next, in one paragraph. Operations raise these; the bridge to
Ansible turns them into a failed result in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


class ContinuityError(Exception):
    """Base of all errors raised by the core.

    :param message: what is wrong, naming the value or the place concerned.
    :param remedy: what the reader should do next; empty where the message already says so.
    :param details: plain JSON values for machines (never a secret).
    """

    kind = "error"

    def __init__(self, message: str, remedy: str = "", details: Mapping[str, object] | None = None) -> None:
        # One paragraph, whatever lines the tools that are quoted in it have printed.
        self.message = re.sub(r"\s*\n\s*", " | ", message.strip())
        self.remedy = remedy
        super().__init__(self.message)
        self.details: dict[str, object] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(ContinuityError):
    """A value given by the user cannot be used. Nothing was touched."""

    kind = "input"


class PrerequisiteError(ContinuityError):
    """A tool, version, privilege, setting or the space needed is missing. Nothing was written."""

    kind = "prerequisite"


class AccessError(ContinuityError):
    """A server or host does not answer, or refuses these credentials."""

    kind = "access"


class LockHeldError(ContinuityError):
    """Another run is doing the same thing to the same instance."""

    kind = "locked"


class PipelineError(ContinuityError):
    """A stage of a pipeline of processes failed; details hold stage, status and the end of its stderr."""

    kind = "pipeline"


class RepositoryError(ContinuityError):
    """The repository cannot be read or written as it should be."""

    kind = "repository"


class RepositoryFullError(RepositoryError):
    """The repository's file system has no room left."""

    kind = "repository-full"


class DamagedError(RepositoryError):
    """A published artefact, manifest or record is not what was published."""

    kind = "damaged"


class LedgerError(ContinuityError):
    """The ledger cannot be appended to, or its chain does not hold."""

    kind = "ledger"


class ChainError(ContinuityError):
    """The chain of logs is not whole; details hold the findings."""

    kind = "chain"


class ApprovalError(ContinuityError):
    """No instruction or approval covers this; details hold which refusal it is. Nothing was touched."""

    kind = "approval"
