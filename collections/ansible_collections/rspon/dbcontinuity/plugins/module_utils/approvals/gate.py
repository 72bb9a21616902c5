# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of a restore (R1): without an instruction of the head of Instalasi SIRS for exactly this, nothing is touched.

An operation calls :func:`require_instruction` to plan (it only looks), and goes through :func:`under_instruction` to
restore: that holds the record for this run, binds it to the plan, and lets the run note its success::

    asked = Asked(instance.name, scope, target, mode, plan_digest)
    with under_instruction(repository, record_id, asked, run=run, actor=actor) as instruction:
        ...                      # the restore
        instruction.used()       # at once after it has succeeded
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ..engines.scratch import Target
from ..repository import Repository
from .record import RestoreRecord

OFFICIALS_FILE = Path("/etc/dbcontinuity/officials.json")


@dataclass(frozen=True)
class Asked:
    """What is about to be done.

    :param scope: in the one text form: ``full``, ``table:DB.TABLE`` and so on.
    :param target: as it was asked for, before a time is resolved to a position.
    :param mode: ``beside`` or ``replace``; a full restore replaces.
    :param plan_digest: SHA-256 of the plan, 64 hexadecimal digits. It covers what is decided (instance, scope, target,
        mode, set, place), not what differs from try to try (minutes, free room, the newest log): with the same
        decisions a second try has the same digest.
    :param accepts: what is to be taken into the bargain, such as ``orphans``.
    """

    instance: str
    scope: Sequence[str]
    target: Target
    mode: str
    plan_digest: str
    accepts: Sequence[str] = ()


@dataclass(frozen=True)
class Instruction:
    """An instruction that holds for what is about to be done.

    :param record_sha256: of the record's file, *officials_sha256* of the list it was held against; both for the evidence.
    """

    record: RestoreRecord
    record_sha256: str
    officials_sha256: str

    def used(self) -> None:
        """Note that the restore has succeeded: the record serves no other. Only inside :func:`under_instruction`."""
        raise NotImplementedError


def require_instruction(
    repository: Repository,
    record: str,
    asked: Asked,
    *,
    officials_file: Path = OFFICIALS_FILE,
    now: Optional[datetime] = None,
) -> Instruction:
    """Return the instruction for what is asked; only looks.

    :param record: the record's id; empty where none was named.
    :raises ApprovalError: if there is none, or it does not hold for exactly this; ``details['refusal']`` says which.
    """
    raise NotImplementedError


@contextmanager
def under_instruction(
    repository: Repository,
    record: str,
    asked: Asked,
    *,
    run: str,
    actor: Mapping[str, str],
    officials_file: Path = OFFICIALS_FILE,
    now: Optional[datetime] = None,
) -> Iterator[Instruction]:
    """Hold the instruction for one run: looked at, locked, and bound to the plan from the first try on.

    :raises ApprovalError: see :func:`require_instruction`; nothing was touched then.
    :raises LockHeldError: if another run is going on under it.
    """
    yield require_instruction(repository, record, asked, officials_file=officials_file, now=now)
