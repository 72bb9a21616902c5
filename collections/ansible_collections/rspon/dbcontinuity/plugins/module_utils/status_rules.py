# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the status is green, amber or red, why, and what to do about it.

Red: the hospital could not recover as it should now, or nobody knows whether it could. Amber: it could, and somebody has
to see to something. Each rule is a reason with a code of its own; ``docs/checklist.md`` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from .expected import (
    FAILED,
    FULL_BACKUP,
    LATE,
    LOG_CYCLE,
    NOT_RUN,
    OUT_OF_WINDOW,
    RESTORE_TEST,
    TEST_NEW,
    Slot,
)

GREEN, AMBER, RED = "green", "amber", "red"
COLOURS = (GREEN, AMBER, RED)
RED_DAYS, AMBER_DAYS = 3.0, 14.0
# So many log cycles in succession without success, and the SPO's ten minutes are no longer true.
CYCLES_MISSED = 3
# A test restore that is older proves little of what is stored now.
TEST_DAYS = 14.0
_ROOM_FACTOR = 1.1


@dataclass(frozen=True)
class Reason:
    """Why the status is not green.

    :ivar code: for machines; it never changes its meaning.
    :ivar remedy: what to do next.
    """

    code: str
    colour: str
    message: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """Return the plain form."""
        return {"code": self.code, "colour": self.colour, "message": self.message, "remedy": self.remedy}


def worst(colours: Iterable[str]) -> str:
    """Return the worst of some colours; green where there is none."""
    return max(colours, key=COLOURS.index, default=GREEN)


def _full_backup(name: str) -> str:
    return f"Run the playbook full_backup with -e dbc_only={name}."


def held_reasons(name: str, held: Mapping[str, Any]) -> list[Reason]:
    """Return what speaks against what is held of an instance, as ``describe_instance`` tells it."""
    found = []
    recoverable, sets, lineages = held["recoverable"], held["sets"], held["lineages"]
    if not recoverable:
        found.append(Reason("no-full-backup", RED, "there is no full backup.", _full_backup(name)))
    for each in [*held["damaged_sets"], *held.get("damaged_lineages", [])]:
        found.append(Reason("damaged", RED, str(each), ""))
    lineage = lineages[0] if lineages else None
    if lineage is not None and not lineage["whole"]:
        forced = f"Run the playbook full_backup with -e dbc_only={name} -e dbc_force=true."
        causes = lineage["findings"] or [
            {"file": "", "message": "The chain of logs is broken.", "remedy": "Make a new full backup."}
        ]
        for cause in causes:
            where = f"{cause['file']}: " if cause.get("file") else ""
            text = f"{where}{cause['message']} {cause['remedy']}".strip()
            found.append(Reason("broken-chain", RED, text, forced))
    elif recoverable and not sets[0]["point_in_time_recovery"]:
        text = "its backups have no recovery to a point in time (B3)."
        found.append(Reason("no-point-in-time", AMBER, text, "The method physical has it."))
    elif recoverable and not recoverable[0]["by_logs"]:
        text = "no log was archived since the last full backup."
        found.append(Reason("no-log-yet", AMBER, text, "Run the playbook ship_logs."))
    return found


def due_reasons(name: str, activity: str, slot: Slot, test_age_days: Optional[float]) -> list[Reason]:
    """Return what speaks against the newest due time of an activity.

    :param name: the instance; empty for an activity that is about none.
    :param test_age_days: since the instance's newest test restore that succeeded; None where there is none.
    """
    playbook = {TEST_NEW: "restore_test", "backup_verify": "verify_backups"}.get(activity, activity)
    only = f" with -e dbc_only={name}" if name else ""
    remedy = f"Run the playbook {playbook}{only}."
    why = f": {slot.run.reason}" if slot.run is not None and slot.run.reason else ""
    words = activity.replace("_", " ")
    if slot.state == FAILED:
        ended = why or (": its end is not recorded" if slot.run is not None and slot.run.finished is None else "")
        return [Reason(f"{_code(activity)}-failed", RED, f"the last {words} failed{ended}.", remedy)]
    if slot.state == NOT_RUN:
        proven = test_age_days is not None and test_age_days <= TEST_DAYS
        colour = RED if activity == FULL_BACKUP or (activity == RESTORE_TEST and not proven) else AMBER
        return [Reason(f"{_code(activity)}-overdue", colour, f"the {words} was due and did not run.", remedy)]
    if slot.state in (LATE, OUT_OF_WINDOW) and activity != LOG_CYCLE:
        text = f"the last {words} was {slot.state}."
        return [Reason(f"{_code(activity)}-late", AMBER, text, "See why it started late or took so long.")]
    return []


def cycle_reasons(name: str, slots: Sequence[Slot]) -> list[Reason]:
    """Return what speaks against the newest log cycles; *slots* are the last few, whose time has come."""
    bad = 0
    for slot in reversed(slots):
        if slot.good:
            break
        bad += 1
    if not bad:
        return []
    newest = slots[-1]
    why = f": {newest.run.reason}" if newest.run is not None and newest.run.reason else ""
    how = "failed" if newest.state == FAILED else "did not run"
    many = bad >= CYCLES_MISSED
    text = f"the last {'log cycle' if bad == 1 else f'{bad} log cycles'} {how}{why}."
    code = "log-cycle-failed" if newest.state == FAILED else "log-cycle-overdue"
    return [Reason(code, RED if many else AMBER, text, f"Run the playbook ship_logs with -e dbc_only={name}.")]


def _code(activity: str) -> str:
    return activity.replace("_", "-")


def room_reasons(free_bytes: int, days_left: Optional[float], largest_set: int) -> list[Reason]:
    """Return what speaks against the free space.

    :param days_left: at the present rate; None where it does not shrink, or nobody knows.
    :param largest_set: bytes of the largest newest set: the next full backup of its instance is refused without that room.
    """
    remedy = "Enlarge the repository's file system, or remove what is no longer needed."
    if free_bytes < largest_set * _ROOM_FACTOR:
        text = f"{free_bytes} bytes are free; the next full backup needs about {int(largest_set * _ROOM_FACTOR)}."
        return [Reason("no-room", RED, text, remedy)]
    if days_left is not None and days_left < AMBER_DAYS:
        colour = RED if days_left < RED_DAYS else AMBER
        return [Reason("little-room", colour, f"at the present rate the space lasts {days_left:.1f} days.", remedy)]
    return []


def people_reasons(
    instructions: Iterable[Mapping[str, Any]], unattested_days: Iterable[float], dead: Iterable[Mapping[str, Any]]
) -> list[Reason]:
    """Return what waits for people.

    :param instructions: the recorded ones that somebody has to see to.
    :param unattested_days: how long each test restore has waited for its attestation.
    :param dead: channels of notices that do not work.
    """
    found = [
        Reason(
            "instruction",
            # In time it keeps nobody from recovering; the check-list names it until it is signed.
            AMBER if each["state"] == "waiting for countersignature" else RED,
            f"the instruction {each['id']}: {each['reason']}",
            "docs/approvals.md tells how it is countersigned.",
        )
        for each in instructions
    ]
    waiting = [days for days in unattested_days if days > 7]
    if waiting:
        text = f"{len(waiting)} test restores wait for a staff member's attestation (T1), the oldest for {max(waiting):.0f} days."
        found.append(Reason("not-attested", AMBER, text, "Attest them with ledger_entry; docs/checklist.md shows how."))
    for each in dead:
        text = f"the channel {each['channel']} does not work since {each['since']}: {each['problem']}"
        found.append(Reason("dead-channel", AMBER, text, "Correct dbc_notify or the service it names; run site."))
    return found
