# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a restore (*laporan restore*, R3) in the SPO's check-list form, plain text, for the head of Instalasi SIRS.

Every field is printed, also the empty ones, with a dash. What no machine can know (root cause, who answers for it,
signatures) is a line to fill in by pen.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Optional

from .approvals.fields import parse_date
from .clock import parse_moment
from .instance import choice
from .report_layout import DAYS, MARKS, WIDTH, hanging, known_zone
from .restore_order_evidence import Neighbour, RestoreEvidence

LANGUAGES = ("id", "en")
_LABEL = 34
_PEN = "." * 50
_NONE = "-"
_WORDS: dict[str, tuple[str, str]] = {
    "succeeded": ("BERHASIL", "SUCCEEDED"),
    "failed": ("GAGAL, data tujuan tetap seperti semula", "FAILED, the target is as it was"),
    "failed, target changed": ("GAGAL, data tujuan telah berubah", "FAILED, the target was changed"),
    "beside": ("dimuat di samping data yang ada", "loaded beside what is there"),
    "replace": ("menggantikan data yang ada", "replacing what is there"),
    "letter": ("surat", "letter"),
    "telephone": ("telepon", "telephone"),
    "latest": ("keadaan terbaru", "the newest state"),
    "set": ("set backup penuh", "full backup set"),
    "time": ("waktu", "time"),
    "gtid": ("GTID", "GTID"),
    "lsn": ("LSN", "LSN"),
    "archive": ("arsip perubahan", "archive of changes"),
    # The phases of a restore, as its evidence names them.
    "looking": ("melihat production", "looking"),
    "fetching the last log": ("mengambil log terakhir", "fetching the last log"),
    "unpacking": ("membuka set backup", "unpacking"),
    "verification of the base": ("memeriksa set backup", "verification of the base"),
    "start": ("menyalakan salinan", "start"),
    "replay": ("menerapkan log", "replay"),
    "checks": ("memeriksa salinan", "checks"),
    "settling": ("mematikan salinan", "settling"),
    "sending": ("mengirim ke production", "sending"),
    "exchange": ("menukar data", "exchange"),
    "restoring": ("memulihkan ke production", "restoring"),
    "afterwards": ("pekerjaan sesudahnya", "afterwards"),
    "kepala_instalasi_sirs": ("Kepala Instalasi SIRS", "Head of Instalasi SIRS"),
}


def restore_report_text(evidence: RestoreEvidence, *, zone: str, language: str = "id") -> str:
    """Return the report of one restore.

    :param zone: of the times printed.
    :param language: ``id`` or ``en``.
    :raises InputError: if there is no such zone or language.
    """
    choice(language, LANGUAGES, "language")
    return _Report(evidence, zone, LANGUAGES.index(language)).text()


class _Report:
    """One report being written; *tongue* is the language's place in :data:`LANGUAGES`."""

    def __init__(self, evidence: RestoreEvidence, zone: str, tongue: int) -> None:
        self._evidence = evidence
        self._local = known_zone(zone)
        self._tongue = tongue
        self._lines: list[str] = []

    def text(self) -> str:
        """Return the whole."""
        titles = (
            self._said("LAPORAN HASIL RESTORE DATABASE", "REPORT OF A DATABASE RESTORE"),
            "SPO Back up, restore dan update database: D4, R1, R2, R3",
        )
        self._lines += [*(title.center(WIDTH).rstrip() for title in titles), "=" * WIDTH]
        self._head()
        self._instruction()
        self._restored()
        self._work()
        self._result()
        self._list()
        self._follow_up()
        self._signatures()
        return "\n".join(self._lines) + "\n"

    # -- the parts --

    def _head(self) -> None:
        evidence = self._evidence
        began = self._moment(evidence.get("started_at"))
        self._row("Nomor laporan", "Report number", _PEN)
        self._row("Hari/tanggal", "Date", f"{self._said(*DAYS[began.weekday()])}, {began:%d-%m-%Y}" if began else "")
        self._row("No. tiket", "Ticket", evidence.get("instruction", {}).get("ticket"))
        self._row("Nama database (instans)", "Database (instance)", evidence.get("instance"))
        self._row("Server", "Server", evidence.get("host"))
        self._row("Hasil", "Result", self._word(evidence.get("result")))

    def _instruction(self) -> None:
        given = self._evidence.get("instruction", {})
        letter = given.get("letter") or {}
        self._section("A. INSTRUKSI (R1)", "A. INSTRUCTION (R1)")
        self._row("Pemberi instruksi (nama/NIP)", "Given by (name, number)", _person(given.get("instructed_by")))
        self._row("Jabatan", "Office", self._word((given.get("instructed_by") or {}).get("role")))
        self._row("Waktu instruksi", "Given at", self._when(given.get("instructed_at")))
        self._row("Melalui", "By", self._word(given.get("by")))
        self._row("Nomor surat", "Letter number", letter.get("number"))
        self._row("Tanggal surat", "Letter date", self._day(letter.get("date")))
        self._row("Didengar oleh (telepon)", "Heard by (telephone)", _person(given.get("heard_by")))
        self._row("Saksi (telepon)", "Witness (telephone)", _person(given.get("witness")))
        self._row("Harus disahkan sebelum", "To be countersigned until", self._when(given.get("countersign_until")))
        self._row("Disahkan pada", "Countersigned at", self._when(given.get("countersigned_at")))
        self._row("Berlaku sampai", "Valid until", self._when(given.get("valid_until")))
        self._row("Alasan", "Reason", given.get("reason"))
        self._row("Catatan instruksi", "Record", given.get("record"))
        self._row("  SHA-256", "  SHA-256", given.get("record_sha256"))

    def _restored(self) -> None:
        evidence = self._evidence
        scope, target, found = evidence.get("scope", ()), evidence.get("target", {}), evidence.get("resolved", {})
        source = evidence.get("source", {})
        kinds = (
            ("Restore penuh (full restore)", "Full restore"),
            ("Restore sebagian (partial restore)", "Partial restore"),
        )
        self._section("B. YANG DIPULIHKAN (R2)", "B. WHAT WAS BROUGHT BACK (R2)")
        self._row("Jenis restore", "Kind", self._said(*kinds[list(scope) != ["full"]]) if scope else "")
        self._row("Cakupan", "Scope", ", ".join(scope))
        self._row("Cara", "Mode", self._word(evidence.get("mode")))
        self._row("Tujuan", "Place", evidence.get("place"))
        self._row(
            "Titik pemulihan yang diminta", "Moment asked for", self._point(target.get("kind"), target.get("value"))
        )
        self._row("Titik pemulihan", "Moment restored to", self._when(found.get("moment"), exact=True))
        self._row("  posisi", "  position", self._point(found.get("kind"), found.get("position")))
        self._row("  transaksi terakhir yang ada", "  last transaction in it", self._neighbour(found.get("before")))
        self._row("  transaksi pertama yang tidak ada", "  first one not in it", self._neighbour(found.get("after")))
        self._row("Sumber backup", "Source", ", ".join(filter(None, (source.get("medium"), source.get("set")))))
        self._row("  dibuat", "  made", self._when(source.get("made_at")))
        self._row("  SHA-256 manifest", "  SHA-256 of the manifest", source.get("manifest_sha256"))
        self._row("  mesin", "  engine", " ".join(filter(None, (source.get("engine"), source.get("version")))))
        logs = source.get("logs")
        self._row("  log diterapkan", "  logs applied", f"{self._count(logs)} {source.get('last_log') or ''}".strip())
        self._row("  di luar rantai terbukti", "  beyond the proven chain", source.get("unproven"))

    def _work(self) -> None:
        evidence = self._evidence
        began, ended = self._moment(evidence.get("started_at")), self._moment(evidence.get("finished_at"))
        self._section("C. PELAKSANAAN", "C. HOW IT WENT")
        self._row("Pelaksanaan (run)", "Run", evidence.get("run"))
        actor = evidence.get("actor") or {}
        self._row("Dijalankan oleh", "Run by", ", ".join(f"{key} {value}" for key, value in sorted(actor.items())))
        self._row("Jam mulai", "Start", self._when(evidence.get("started_at")))
        self._row("Jam selesai", "End", self._when(evidence.get("finished_at")))
        self._row(
            "Durasi",
            "Duration",
            str(ended.replace(microsecond=0) - began.replace(microsecond=0)) if began and ended else "",
        )
        for name, seconds in (evidence.get("phases") or {}).items():
            self._row(f"  {self._word(name)}", f"  {self._word(name)}", f"{seconds:.1f} s")
        self._row("RTO target/aktual", "RTO target/actual", self._against(evidence.get("rto")))
        self._row("RPO target/aktual", "RPO target/actual", self._against(evidence.get("rpo")))
        self._row("SHA-256 rencana", "SHA-256 of the plan", evidence.get("plan_sha256"))

    def _result(self) -> None:
        evidence = self._evidence
        self._section("D. HASIL", "D. RESULT")
        self._row("Data hilang", "Data lost", self._lost())
        rows = (
            f"{each.get('name')}: {self._count(each.get('before'))} / {self._count(each.get('after'))}"
            for each in evidence.get("counts") or ()
        )
        self._rows("Jumlah baris (sebelum/sesudah)", "Rows (before/after)", rows)
        objects = (
            f"{kind}: {self._count(each.get('before'))} / {self._count(each.get('after'))}"
            for kind, each in (evidence.get("objects") or {}).items()
        )
        self._rows("Objek (sebelum/sesudah)", "Objects (before/after)", objects)
        kept = (
            f"{each.get('what')}: {each.get('path')}"
            + (f", {self._count(each['bytes'])} byte" if each.get("bytes") is not None else "")
            for each in evidence.get("kept") or ()
        )
        self._rows("Data lama disimpan di", "Old data kept at", kept)
        self._row("Sebab kegagalan", "Cause of a failure", evidence.get("reason"))
        self._rows("Keadaan yang tersisa", "What a failure left", evidence.get("left") or ())
        findings = evidence.get("findings") or ()
        self._row("Temuan", "Findings", self._count(len(findings)) if findings else self._said("tidak ada", "none"))
        for finding in findings:
            where = f"{finding['file']}: " if finding.get("file") else ""
            self._item(f"- {finding.get('code')}: {where}{finding.get('message')} {finding.get('remedy') or ''}")
        for note in evidence.get("notes") or ():
            self._item(f"{self._said('catatan', 'note')}: {note}")

    def _list(self) -> None:
        evidence = self._evidence
        self._section("E. DAFTAR PERIKSA", "E. CHECK-LIST")
        good = evidence.get("result") == "succeeded"
        full = list(evidence.get("scope") or ()) == ["full"]
        self._mark(
            "passed" if evidence.get("instruction") else "failed",
            self._said("Instruksi Ka. Instalasi SIRS tercatat", "Instruction of the head recorded"),
        )
        self._mark(
            "passed" if evidence.get("source") else "failed",
            self._said("Sumber backup ditemukan", "Source found"),
        )
        self._mark(
            "passed" if evidence.get("resolved") else "not checkable",
            self._said("Titik pemulihan ditetapkan dari log", "Moment resolved from the log"),
        )
        for each in evidence.get("checks") or ():
            detail = f": {each['detail']}" if each.get("detail") else ""
            self._mark(str(each.get("result")), f"{each.get('name')}{detail}")
        kept = "passed" if evidence.get("kept") else "failed" if good and full else "not checkable"
        self._mark(kept, self._said("Data lama disimpan", "Old data kept"))
        self._mark("passed" if good else "failed", self._said("Restore selesai", "Restore finished"))
        self._lines.append(
            f"  [ ] {self._said('Fungsi aplikasi diuji oleh pengguna', 'The application was tried by its users')}"
        )

    def _follow_up(self) -> None:
        self._section("F. TINDAK LANJUT", "F. FOLLOW-UP")
        self._rows("Rencana tindak lanjut", "Planned", (f"- {each}" for each in self._evidence.get("follow_ups") or ()))
        self._row("Tindak lanjut lain", "Further follow-up", _PEN)
        self._row("Dampak per unit", "Impact on each unit", _PEN)
        self._row("Akar masalah", "Root cause", _PEN)
        self._row("Penanggung jawab", "Responsible", _PEN)
        self._row("Target selesai", "To be done by", _PEN)

    def _signatures(self) -> None:
        self._lines += ["=" * WIDTH]
        self._row("Pelaksana, petugas IT (nama/NIP)", "Carried out by, IT staff", _PEN)
        self._row("  tanda tangan/tanggal", "  signature/date", _PEN)
        self._row("Diterima Ka. Instalasi SIRS", "Received by the head", _PEN)
        self._row("  tanda tangan/tanggal", "  signature/date", _PEN)
        self._row("Ujung ledger (head)", "Ledger head", self._evidence.get("ledger_head"))

    # -- how it is laid out --

    def _said(self, indonesian: str, english: str) -> str:
        return (indonesian, english)[self._tongue]

    def _word(self, word: Optional[str]) -> str:
        return self._said(*_WORDS[word]) if word in _WORDS else word or ""

    def _section(self, indonesian: str, english: str) -> None:
        self._lines += ["", self._said(indonesian, english), "-" * WIDTH]

    def _row(self, indonesian: str, english: str, value: Optional[str]) -> None:
        """Add a label and its value, a dash where there is none; long values go on below themselves."""
        label = self._said(indonesian, english)
        text = _NONE if not value else _flat(value)
        lines = textwrap.wrap(text, WIDTH - _LABEL - 3, break_long_words=False, break_on_hyphens=False) or [""]
        self._lines.append(f"{label.ljust(_LABEL)} : {lines[0]}".rstrip())
        self._lines += [" " * (_LABEL + 3) + line for line in lines[1:]]

    def _rows(self, indonesian: str, english: str, values: Iterable[str]) -> None:
        """Add a label and, below it, one line a value; a dash where there is none."""
        below = [line for value in values for line in hanging(_flat(value), "    ")]
        label = self._said(indonesian, english).ljust(_LABEL)
        self._lines += [f"{label} :" if below else f"{label} : {_NONE}", *below]

    def _item(self, text: str) -> None:
        self._lines += hanging(_flat(text), "    ")

    def _mark(self, result: str, text: str) -> None:
        self._lines += hanging(f"{MARKS.get(result, '[?]')} {_flat(text)}", "  ")

    # -- values --

    def _moment(self, text: Optional[str]) -> Optional[datetime]:
        return parse_moment(text).astimezone(self._local) if text else None

    def _when(self, text: Optional[str], *, exact: bool = False) -> str:
        """Return a moment in the site's zone, to the second; *exact* where the fraction tells transactions apart."""
        moment = self._moment(text)
        if moment is None:
            return ""
        fraction = f".{moment.microsecond:06d}".rstrip("0") if exact and moment.microsecond else ""
        return f"{moment:%d-%m-%Y %H:%M:%S}{fraction} {moment:%Z}"

    @staticmethod
    def _day(text: Optional[str]) -> str:
        return f"{parse_date(text, 'date'):%d-%m-%Y}" if text else ""

    def _point(self, kind: Optional[str], value: Optional[str]) -> str:
        shown = self._when(value, exact=True) if kind == "time" else value or ""
        return f"{self._word(kind)} {shown}".strip()

    def _neighbour(self, near: Optional[Neighbour]) -> str:
        return f"{self._when(near.get('moment'), exact=True)}, {near.get('position')}" if near else ""

    def _count(self, number: Optional[int]) -> str:
        if number is None:
            return _NONE
        return f"{number:,}".replace(",", self._said(".", ","))

    def _against(self, value: Optional[Mapping[str, Any]]) -> str:
        if not value:
            return ""
        aim, actual = value.get("target_minutes"), value.get("actual_seconds")
        wanted = (
            f"{aim:g} {self._said('menit', 'min')}" if aim is not None else self._said("tidak ditetapkan", "not set")
        )
        return f"{wanted} / {self._long(actual) if actual is not None else _NONE}"

    def _long(self, seconds: float) -> str:
        return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} {self._said('menit', 'min')}"

    def _lost(self) -> str:
        lost = self._evidence.get("lost")
        if not lost:
            return ""
        count, seconds = lost.get("transactions"), lost.get("seconds")
        if count == 0:
            return self._said("tidak ada", "none")
        until = self._when(lost.get("to")) or self._said("tidak diketahui", "unknown")
        known = [] if seconds is None else [self._long(seconds)]
        known += [] if count is None else [f"{self._count(count)} {self._said('transaksi', 'transactions')}"]
        many = f" ({', '.join(known)})" if known else ""
        words = self._said("sesudah", "after"), self._said("sampai", "until")
        return f"{words[0]} {self._when(lost.get('since')) or _NONE} {words[1]} {until}{many}"


def _person(person: Optional[Mapping[str, Any]]) -> str:
    return f"{person.get('name')} / {person.get('id_number')}" if person else ""


def _flat(text: str) -> str:
    """Return a text in one line."""
    return " ".join(str(text).split())
