# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of a restore as a report reads it: the data of the ledger's ``finished`` record of activity ``restore``.

Plain JSON values. Every key may be missing: a restore that failed early knows little, and the report says so in its
place. Moments are ISO 8601 in UTC, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, TypedDict


class Neighbour(TypedDict, total=False):
    """A commit beside the moment restored to."""

    moment: str
    position: str


class ResolvedTarget(TypedDict, total=False):
    """What the target came to, as ``Resolved.to_json()`` of engines/targets.py says it.

    ``kind`` and ``position`` name the place, ``moment`` its time, ``before`` and ``after`` the commits on either side.
    """

    kind: str
    position: str
    moment: str
    before: Optional[Neighbour]
    after: Optional[Neighbour]


class PersonNamed(TypedDict, total=False):
    """A person as the record names them."""

    role: str
    name: str
    id_number: str


class LetterNamed(TypedDict, total=False):
    """A letter's number and its date, YYYY-MM-DD."""

    number: str
    date: str


class InstructionGiven(TypedDict, total=False):
    """On whose word: what ``Instruction.to_evidence()`` of approvals/gate.py gives.

    ``by`` is ``letter`` or ``telephone``; ``letter`` is the countersignature's for one by telephone, once there is one.
    """

    record: str
    record_sha256: str
    officials_sha256: str
    instructed_by: PersonNamed
    instructed_at: str
    by: str
    letter: LetterNamed
    heard_by: PersonNamed
    witness: PersonNamed
    countersign_until: str
    countersigned_at: str
    valid_until: str
    reason: str
    ticket: str


class SourceUsed(TypedDict, total=False):
    """What it was brought back from. ``logs`` is how many were applied, ``unproven`` how far the stream beyond them went."""

    medium: str
    set: str
    made_at: str
    manifest_sha256: str
    engine: str
    version: str
    logs: int
    last_log: str
    unproven: str


class Lost(TypedDict, total=False):
    """What the hospital has no longer: from the moment restored to, to the last one that production had.

    ``to`` is None where nobody can tell how far production had come; ``transactions`` and ``seconds`` likewise.
    """

    since: str
    to: Optional[str]
    transactions: Optional[int]
    seconds: Optional[float]


class Count(TypedDict, total=False):
    """Rows of one table (or entries of a folder) in the target before and after; None where it could not be asked."""

    name: str
    before: Optional[int]
    after: Optional[int]


class Kept(TypedDict, total=False):
    """What stands aside on the target's host, such as the old data directory."""

    what: str
    path: str
    bytes: int


class Measured(TypedDict, total=False):
    """A target in minutes, None where the site set none, and what it was."""

    target_minutes: Optional[float]
    actual_seconds: float


class Checked(TypedDict, total=False):
    """A check of the result: ``passed``, ``failed`` or ``not checkable``."""

    name: str
    result: str
    detail: str


class RestoreEvidence(TypedDict, total=False):
    """One restore of one instance.

    :ivar result: ``succeeded``; ``failed`` (the target is as it was); ``failed, target changed`` (see *left*).
    :ivar scope: the texts of the scope; *mode* is ``beside`` or ``replace``.
    :ivar target: ``{"kind", "value"}`` as asked.
    :ivar plan_sha256: the digest the instruction is bound to.
    :ivar host: of production; *place*, the data directory or where the copy was put beside.
    :ivar phases: seconds by name, in order.
    :ivar counts: of the tables concerned; *objects* by kind, ``{"before": n, "after": n}``.
    :ivar kept: what stands aside and where.
    :ivar left: where a failure left something: what is exactly where, one sentence each.
    :ivar findings: ``code``, ``file``, ``message``, ``remedy``.
    :ivar follow_ups: what is to be done next, one sentence each.
    """

    run: str
    instance: str
    engine: str
    host: str
    place: str
    result: str
    reason: str
    scope: Sequence[str]
    mode: str
    target: Mapping[str, str]
    resolved: ResolvedTarget
    plan_sha256: str
    instruction: InstructionGiven
    source: SourceUsed
    started_at: str
    finished_at: str
    phases: Mapping[str, float]
    rto: Measured
    rpo: Measured
    lost: Lost
    counts: Sequence[Count]
    objects: Mapping[str, Mapping[str, Optional[int]]]
    checks: Sequence[Checked]
    kept: Sequence[Kept]
    left: Sequence[str]
    findings: Sequence[Mapping[str, Any]]
    follow_ups: Sequence[str]
    notes: Sequence[str]
    actor: Mapping[str, str]
    ledger_head: str
