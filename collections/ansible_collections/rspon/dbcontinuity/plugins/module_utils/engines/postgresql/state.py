# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one question to the server tells a cycle: who it is, where its log stands, whether anything happened."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from ...clock import parse_moment
from .client import PostgreSQLClient
from .wal import parse_lsn, segment_timeline

SLOT_PREFIX = "dbcontinuity_"
_LONGEST_SLOT = 63


def slot_name(instance: str) -> str:
    """Return the name of an instance's replication slot: lower-case letters, digits and underscores only."""
    plain = re.sub(r"[^a-z0-9_]", "_", instance)
    name = SLOT_PREFIX + plain
    if plain != instance or len(name) > _LONGEST_SLOT:
        mark = hashlib.sha256(instance.encode()).hexdigest()[:8]
        name = f"{name[: _LONGEST_SLOT - 9]}_{mark}"
    return name


@dataclass(frozen=True)
class Slot:
    """The receiver's replication slot.

    :param received: address up to which the receiver has the log on its disk; None before it first connected.
    :param wal_status: ``reserved``, ``extended``, ``unreserved`` or ``lost``.
    :param safe_bytes: log that may still be written before the slot is lost; None without a limit.
    """

    active: bool
    received: Optional[int]
    wal_status: str
    safe_bytes: Optional[int]


@dataclass(frozen=True)
class ServerState:
    """The server at one moment.

    :param at: the server's own clock, read before everything else here.
    :param standby: whether it follows another server.
    :param inserted: address of the end of the log; 0 on a standby.
    :param activity: changes whenever a transaction that changed something ends: equal values prove that no
        transaction was committed in between, whatever the server wrote into its log on its own.
    :param segment_bytes: ``wal_segment_size``.
    :param keep_bytes: ``max_slot_wal_keep_size``; None if unlimited.
    """

    version_number: int
    system_identifier: str
    standby: bool
    timeline: int
    inserted: int
    activity: str
    at: datetime
    segment_bytes: int
    keep_bytes: Optional[int]
    slot: Optional[Slot]

    @property
    def major(self) -> int:
        """Return the server's major version."""
        return self.version_number // 10000


# pg_current_snapshot() changes whenever a transaction with an id of its own ends: its id is either among those the
# snapshot names as running, or not yet below its xmax. A transaction without an id changed nothing that a restore
# could bring back. What the server writes by itself on an idle system (running transactions, checkpoints) leaves it.
# A prepared transaction has not ended, so those are named beside it.
_STATE = """
SELECT current_setting('server_version_num'),
 (SELECT system_identifier FROM pg_control_system()),
 pg_is_in_recovery(),
 CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END,
 CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END,
 CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END || ' '
  || (SELECT coalesce(string_agg(transaction::text, ',' ORDER BY transaction::text), '') FROM pg_prepared_xacts),
 to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
 (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'),
 (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
 slot.slot_name, slot.active, slot.restart_lsn, slot.wal_status, slot.safe_wal_size
FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots AS slot ON slot.slot_name = '{slot}' AND slot.slot_type = 'physical';
"""


def server_state(client: PostgreSQLClient, instance: str) -> ServerState:
    """Ask the server once.

    :raises AccessError: if it does not answer or refuses the credentials.
    """
    return _state(client.query(_STATE.format(slot=slot_name(instance)))[0])


def switch_log(client: PostgreSQLClient, instance: str) -> tuple[ServerState, int]:
    """Have the server close its current segment; return what it was right before, and the address of the switch."""
    rows = client.query(_STATE.format(slot=slot_name(instance)) + "SELECT pg_switch_wal();")
    return _state(rows[0]), parse_lsn(rows[1][0] or "")


def _state(row: list[Optional[str]]) -> ServerState:
    keep = int(row[8] or -1)
    slot = None
    if row[9] is not None:
        slot = Slot(
            active=row[10] == "t",
            received=parse_lsn(row[11]) if row[11] else None,
            wal_status=row[12] or "",
            safe_bytes=int(row[13]) if row[13] else None,
        )
    return ServerState(
        version_number=int(row[0] or 0),
        system_identifier=row[1] or "",
        standby=row[2] == "t",
        timeline=segment_timeline(row[3]) if row[3] else 0,
        inserted=parse_lsn(row[4]) if row[4] else 0,
        activity=row[5] or "",
        at=parse_moment(row[6] or ""),
        segment_bytes=int(row[7] or 0),
        keep_bytes=keep * 1024 * 1024 if keep >= 0 else None,
        slot=slot,
    )
