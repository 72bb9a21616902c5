# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""D4, R1, R2: bring an instance, or a part of it, back to any recoverable moment, on production."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..channel import Channel
from ..codec import Protection
from ..engines.scratch import ScratchServer, Target
from ..instance import Instance
from ..restore_evidence import Expectations

ACTIVITY = "restore"
FULL = "full"


@dataclass(frozen=True)
class RestoreRequest:
    """What is to be brought back, to when, where, and on whose instruction.

    :param folder: the non-active folder on this host where the moment is brought up first.
    :param channel: the way to production, open for this restore.
    :param scope: texts as ``scope.py`` reads them; ``full`` stands alone.
    :param target: the moment; :class:`Target`.
    :param set_name: the full set to begin with; the newest that serves where none is given.
    :param record: the instruction's id below ``approvals/``.
    :param confirm: the instance's name, typed by whoever starts the restore.
    :param mode: of a partial restore: ``beside`` or ``replace``.
    :param accept_orphans: rows that a replaced table would leave without their parents are accepted.
    :param user: who the throwaway server runs as; the engine's own user where none is given.
    :param zone: of the times people read.
    """

    instance: Instance
    repository: Path
    protection: Protection
    folder: Path
    channel: Channel = field(default_factory=Channel)
    scope: Sequence[str] = (FULL,)
    target: Target = field(default_factory=Target)
    set_name: str = ""
    record: str = ""
    confirm: str = ""
    mode: str = "beside"
    accept_orphans: bool = False
    expectations: Expectations = field(default_factory=Expectations)
    user: str = ""
    timeout_seconds: float = 24 * 3600.0
    zone: str = "UTC"
    actor: Optional[str] = None
    run: Optional[str] = None
    before_ship: Optional[Callable[[ScratchServer], None]] = None


@dataclass(frozen=True)
class Plan:
    """What a restore would do; its SHA-256 over the canonical JSON is what the instruction covers."""

    values: Mapping[str, Any]
