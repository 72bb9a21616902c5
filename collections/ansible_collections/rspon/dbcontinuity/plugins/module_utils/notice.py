# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told of a scheduled run, in Indonesian and English, out of words of our own alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from .clock import iso, known_zone
from .errors import InputError
from .notify import Notice
from .notify_state import CHANGED, FAILED, RECOVERED, STILL
from .run_facts import Trouble

# What a run itself can end with, beside the findings of docs/findings.md.
RUN_FAILED = "run-failed"
RUN_KILLED = "run-killed"
RUN_STOPPED = "run-stopped"
RUN_VANISHED = "run-vanished"
PLAYBOOK_MISSING = "playbook-missing"
NOT_INSTALLED = "not-installed"

_HEADLINES: Mapping[str, tuple[str, str]] = {
    FAILED: ("GAGAL", "FAILED"),
    CHANGED: ("MASIH GAGAL, LAIN DARI SEBELUMNYA", "STILL FAILING, OTHERWISE THAN BEFORE"),
    STILL: ("MASIH GAGAL", "STILL FAILING"),
    RECOVERED: ("PULIH", "WELL AGAIN"),
}
_ACTIVITIES: Mapping[str, tuple[str, str]] = {
    "full_backup": ("backup full (B1, B2)", "full backup (B1, B2)"),
    "log_cycle": ("pengiriman log (B3)", "log shipping (B3)"),
    "restore_test": ("uji restore (T1, T2)", "test restore (T1, T2)"),
    "test_new_backups": ("uji restore backup baru (D3)", "test restore of new backups (D3)"),
    "backup_verify": ("pemeriksaan isi backup", "verification of what is stored"),
    "checklist": ("check-list mingguan (B5)", "weekly check-list (B5)"),
}
_REMEDIES: Mapping[str, tuple[str, str]] = {
    "access": (
        "Server atau host tidak menjawab atau menolak: periksa jaringan dan server production.",
        "A server or host does not answer, or refuses: look at the network and at production.",
    ),
    "unreachable": (
        "Host tidak dapat dihubungi: periksa jaringan.",
        "A host cannot be reached: look at the network.",
    ),
    "prerequisite": (
        "Ada alat, hak atau ruang yang kurang: jalankan playbook preflight.",
        "A tool, a right or room is missing: run the playbook preflight.",
    ),
    "repository": (
        "Repository tidak dapat dibaca atau ditulis: periksa apakah disknya terpasang (mount).",
        "The repository cannot be read or written: see whether its disk is mounted.",
    ),
    "repository-full": (
        "Disk repository penuh: sediakan ruang. Backup yang ada tidak tersentuh.",
        "The repository's disk is full: make room. The backups that are there are untouched.",
    ),
    "ledger": (
        "Buku catatan (ledger) bermasalah: jalankan playbook verify_backups.",
        "Something is wrong with the ledger: run the playbook verify_backups.",
    ),
    "locked": (
        "Pekerjaan yang sama sedang berjalan: tunggu sampai selesai.",
        "The same work is under way: wait for it to end.",
    ),
    "no full backup": (
        "Belum ada backup full: jalankan playbook full_backup.",
        "There is no full backup yet: run the playbook full_backup.",
    ),
    RUN_KILLED: (
        "Prosesnya dimatikan: periksa memori host (journalctl -k) dan siapa yang mematikannya.",
        "Its process was killed: look at the host's memory (journalctl -k) and for who killed it.",
    ),
    RUN_STOPPED: (
        "Dihentikan sebelum selesai, misalnya karena host dimatikan. Yang terlewat dijalankan berikutnya.",
        "It was stopped before its end, for example by a shutdown. What was missed is caught up.",
    ),
    RUN_VANISHED: (
        "Berakhir tanpa hasil, misalnya karena listrik padam: lihat apakah yang berikutnya berhasil.",
        "It ended without a result, for example in a power cut: see whether the next one succeeds.",
    ),
    PLAYBOOK_MISSING: (
        "Pemasangan di host backup tidak lengkap: jalankan playbook site.",
        "What is installed on the backup host is not whole: run the playbook site.",
    ),
}
_REMEDIES_OF_OTHERS = (
    "Arti setiap kode ada di docs/findings.md; jalankan playbook status.",
    "docs/findings.md has the meaning of each code; run the playbook status.",
)


@dataclass(frozen=True)
class RunFacts:
    """One scheduled run, as far as people are told of it.

    :ivar exit_status: 0 where it succeeded; 128 and the number of the signal where it was killed.
    :ivar troubles: what was wrong; empty after a success.
    :ivar due: when it was due; None where the calendar could not be read.
    """

    activity: str
    run: str
    host: str
    zone: str
    exit_status: int
    troubles: tuple[Trouble, ...]
    due: Optional[datetime]
    started: datetime
    ended: datetime
    look: tuple[str, ...]

    @property
    def signature(self) -> str:
        """Return what is wrong as text that stays the same as long as that does; empty after a success."""
        # Files change with each cycle of one and the same trouble; which instances and what is wrong does not.
        return "; ".join(sorted({f"{each.instance}: {each.code}" for each in self.troubles}))


def notice(facts: RunFacts, state: str, failing_since: Optional[str]) -> Notice:
    """Return what is told of a run.

    :param state: ``failed``, ``changed``, ``still failing`` or ``recovered``.
    :param failing_since: ISO 8601, where it has been failing.
    """
    head_id, head_en = _HEADLINES[state]
    what_id, what_en = _ACTIVITIES.get(facts.activity, (facts.activity, facts.activity))
    remedies = _remedies(facts)
    lines = [f"{what_id}: {head_id}", f"{what_en}: {head_en}", ""]
    lines += [f"- {each}" for each in facts.troubles] + ([""] if facts.troubles else [])
    rows = [
        ("jatuh tempo / due", _local(facts.due, facts.zone)),
        ("mulai / started", _local(facts.started, facts.zone)),
        ("selesai / ended", _local(facts.ended, facts.zone)),
        ("gagal sejak / failing since", _since(failing_since, facts.zone)),
        ("host", facts.host),
        ("run", facts.run),
        ("status", str(facts.exit_status)),
    ]
    lines += [f"{name:<28}{value}" for name, value in rows if value]
    if remedies:
        lines += ["", "Yang harus dilakukan / what to do:", *(f"  {line}" for pair in remedies for line in pair)]
    lines += ["", "Lihat / look at:", *(f"  {each}" for each in facts.look), ""]
    data: dict[str, Any] = {
        "project": "rspon.dbcontinuity",
        "event": state,
        "activity": facts.activity,
        "host": facts.host,
        "run": facts.run,
        "exit_status": facts.exit_status,
        "troubles": [{"instance": each.instance, "code": each.code, "file": each.file} for each in facts.troubles],
        "remedies": [english for _indonesian, english in remedies],
        "due": iso(facts.due) if facts.due else None,
        "started": iso(facts.started),
        "ended": iso(facts.ended),
        "failing_since": failing_since,
        "look": list(facts.look),
    }
    return Notice(f"[dbcontinuity] {head_id} / {head_en}: {facts.activity}, {facts.host}", "\n".join(lines), data)


def trial(host: str) -> Notice:
    """Return the notice that tries the channels."""
    text = (
        "Ini percobaan: pemberitahuan kegagalan backup akan datang lewat jalan ini.\n"
        "This is a trial: the failures of backups will be told this way.\n"
    )
    return Notice(
        f"[dbcontinuity] PERCOBAAN / TRIAL: {host}",
        text,
        {"project": "rspon.dbcontinuity", "event": "trial", "host": host},
    )


def _remedies(facts: RunFacts) -> list[tuple[str, str]]:
    codes = {each.code for each in facts.troubles}
    found = [words for code, words in _REMEDIES.items() if code in codes]
    if codes - set(_REMEDIES):
        found.append(_REMEDIES_OF_OTHERS)
    return found


def _local(moment: Optional[datetime], zone: str) -> str:
    if moment is None:
        return ""
    try:
        return moment.astimezone(known_zone(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")
    except InputError:
        return iso(moment)


def _since(text: Optional[str], zone: str) -> str:
    if not text:
        return ""
    try:
        return _local(datetime.fromisoformat(text.replace("Z", "+00:00")), zone)
    except ValueError:
        return ""
