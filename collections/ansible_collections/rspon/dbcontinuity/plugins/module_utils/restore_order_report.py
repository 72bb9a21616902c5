# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a restore (*laporan restore*, R3) in the SPO's check-list form, plain text, for the head of Instalasi SIRS.

Every field is printed, also the empty ones, with a dash. What no machine can know (root cause, who answers for it,
signatures) is a line to fill in by pen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from .approvals.fields import parse_date
from .report_layout import DAYS, NONE, PEN, WIDTH, Page
from .restore_order_evidence import Neighbour, RestoreEvidence

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
    return _Report(evidence, zone, language).text()


class _Report(Page):
    """One report being written."""

    def __init__(self, evidence: RestoreEvidence, zone: str, language: str) -> None:
        super().__init__(zone, language, _WORDS)
        self._evidence = evidence

    def text(self) -> str:
        """Return the whole."""
        self.title(
            self.said("LAPORAN HASIL RESTORE DATABASE", "REPORT OF A DATABASE RESTORE"),
            "SPO Back up, restore dan update database: D4, R1, R2, R3",
        )
        self._head()
        self._instruction()
        self._restored()
        self._work()
        self._result()
        self._list()
        self._follow_up()
        self._signatures()
        return "\n".join(self.lines) + "\n"

    # -- the parts --

    def _head(self) -> None:
        evidence = self._evidence
        began = self.moment(evidence.get("started_at"))
        self.row("Nomor laporan", "Report number", PEN)
        self.row("Hari/tanggal", "Date", f"{self.said(*DAYS[began.weekday()])}, {began:%d-%m-%Y}" if began else "")
        self.row("No. tiket", "Ticket", evidence.get("instruction", {}).get("ticket"))
        self.row("Nama database (instans)", "Database (instance)", evidence.get("instance"))
        self.row("Server", "Server", evidence.get("host"))
        self.row("Hasil", "Result", self.word(evidence.get("result")))

    def _instruction(self) -> None:
        given = self._evidence.get("instruction", {})
        letter = given.get("letter") or {}
        self.section("A. INSTRUKSI (R1)", "A. INSTRUCTION (R1)")
        self.row("Pemberi instruksi (nama/NIP)", "Given by (name, number)", _person(given.get("instructed_by")))
        self.row("Jabatan", "Office", self.word((given.get("instructed_by") or {}).get("role")))
        self.row("Waktu instruksi", "Given at", self.when(given.get("instructed_at")))
        self.row("Melalui", "By", self.word(given.get("by")))
        self.row("Nomor surat", "Letter number", letter.get("number"))
        self.row("Tanggal surat", "Letter date", self._day(letter.get("date")))
        self.row("Didengar oleh (telepon)", "Heard by (telephone)", _person(given.get("heard_by")))
        self.row("Saksi (telepon)", "Witness (telephone)", _person(given.get("witness")))
        self.row("Harus disahkan sebelum", "To be countersigned until", self.when(given.get("countersign_until")))
        self.row("Disahkan pada", "Countersigned at", self.when(given.get("countersigned_at")))
        self.row("Berlaku sampai", "Valid until", self.when(given.get("valid_until")))
        self.row("Alasan", "Reason", given.get("reason"))
        self.row("Catatan instruksi", "Record", given.get("record"))
        self.row("  SHA-256", "  SHA-256", given.get("record_sha256"))

    def _restored(self) -> None:
        evidence = self._evidence
        scope, target, found = evidence.get("scope", ()), evidence.get("target", {}), evidence.get("resolved", {})
        source = evidence.get("source", {})
        kinds = (
            ("Restore penuh (full restore)", "Full restore"),
            ("Restore sebagian (partial restore)", "Partial restore"),
        )
        self.section("B. YANG DIPULIHKAN (R2)", "B. WHAT WAS BROUGHT BACK (R2)")
        self.row("Jenis restore", "Kind", self.said(*kinds[list(scope) != ["full"]]) if scope else "")
        self.row("Cakupan", "Scope", ", ".join(scope))
        self.row("Cara", "Mode", self.word(evidence.get("mode")))
        self.row("Tujuan", "Place", evidence.get("place"))
        self.row(
            "Titik pemulihan yang diminta", "Moment asked for", self._point(target.get("kind"), target.get("value"))
        )
        self.row("Titik pemulihan", "Moment restored to", self.when(found.get("moment"), exact=True))
        self.row("  posisi", "  position", self._point(found.get("kind"), found.get("position")))
        self.row("  transaksi terakhir yang ada", "  last transaction in it", self._neighbour(found.get("before")))
        self.row("  transaksi pertama yang tidak ada", "  first one not in it", self._neighbour(found.get("after")))
        self.row("Sumber backup", "Source", ", ".join(filter(None, (source.get("medium"), source.get("set")))))
        self.row("  dibuat", "  made", self.when(source.get("made_at")))
        self.row("  SHA-256 manifest", "  SHA-256 of the manifest", source.get("manifest_sha256"))
        self.row("  mesin", "  engine", " ".join(filter(None, (source.get("engine"), source.get("version")))))
        logs = source.get("logs")
        self.row("  log diterapkan", "  logs applied", f"{self.count(logs)} {source.get('last_log') or ''}".strip())
        self.row("  di luar rantai terbukti", "  beyond the proven chain", source.get("unproven"))

    def _work(self) -> None:
        evidence = self._evidence
        began, ended = self.moment(evidence.get("started_at")), self.moment(evidence.get("finished_at"))
        self.section("C. PELAKSANAAN", "C. HOW IT WENT")
        self.row("Pelaksanaan (run)", "Run", evidence.get("run"))
        actor = evidence.get("actor") or {}
        self.row("Dijalankan oleh", "Run by", ", ".join(f"{key} {value}" for key, value in sorted(actor.items())))
        self.row("Jam mulai", "Start", self.when(evidence.get("started_at")))
        self.row("Jam selesai", "End", self.when(evidence.get("finished_at")))
        self.row(
            "Durasi",
            "Duration",
            str(ended.replace(microsecond=0) - began.replace(microsecond=0)) if began and ended else "",
        )
        for name, seconds in (evidence.get("phases") or {}).items():
            self.row(f"  {self.word(name)}", f"  {self.word(name)}", f"{seconds:.1f} s")
        self.row("RTO target/aktual", "RTO target/actual", self.against(evidence.get("rto")))
        self.row("RPO target/aktual", "RPO target/actual", self.against(evidence.get("rpo")))
        self.row("SHA-256 rencana", "SHA-256 of the plan", evidence.get("plan_sha256"))

    def _result(self) -> None:
        evidence = self._evidence
        self.section("D. HASIL", "D. RESULT")
        self.row("Data hilang", "Data lost", self._lost())
        rows = (
            f"{each.get('name')}: {self.count(each.get('before'))} / {self.count(each.get('after'))}"
            for each in evidence.get("counts") or ()
        )
        self.rows("Jumlah baris (sebelum/sesudah)", "Rows (before/after)", rows)
        objects = (
            f"{kind}: {self.count(each.get('before'))} / {self.count(each.get('after'))}"
            for kind, each in (evidence.get("objects") or {}).items()
        )
        self.rows("Objek (sebelum/sesudah)", "Objects (before/after)", objects)
        kept = (
            f"{each.get('what')}: {each.get('path')}"
            + (f", {self.count(each['bytes'])} byte" if each.get("bytes") is not None else "")
            for each in evidence.get("kept") or ()
        )
        self.rows("Data lama disimpan di", "Old data kept at", kept)
        self.row("Sebab kegagalan", "Cause of a failure", evidence.get("reason"))
        self.rows("Keadaan yang tersisa", "What a failure left", evidence.get("left") or ())
        findings = evidence.get("findings") or ()
        self.row("Temuan", "Findings", self.count(len(findings)) if findings else self.said("tidak ada", "none"))
        for finding in findings:
            where = f"{finding['file']}: " if finding.get("file") else ""
            self.item(f"- {finding.get('code')}: {where}{finding.get('message')} {finding.get('remedy') or ''}")
        for note in evidence.get("notes") or ():
            self.item(f"{self.said('catatan', 'note')}: {note}")

    def _list(self) -> None:
        evidence = self._evidence
        self.section("E. DAFTAR PERIKSA", "E. CHECK-LIST")
        good = evidence.get("result") == "succeeded"
        full = list(evidence.get("scope") or ()) == ["full"]
        self.mark(
            "passed" if evidence.get("instruction") else "failed",
            self.said("Instruksi Ka. Instalasi SIRS tercatat", "Instruction of the head recorded"),
        )
        self.mark(
            "passed" if evidence.get("source") else "failed",
            self.said("Sumber backup ditemukan", "Source found"),
        )
        self.mark(
            "passed" if evidence.get("resolved") else "not checkable",
            self.said("Titik pemulihan ditetapkan dari log", "Moment resolved from the log"),
        )
        for each in evidence.get("checks") or ():
            detail = f": {each['detail']}" if each.get("detail") else ""
            self.mark(str(each.get("result")), f"{each.get('name')}{detail}")
        kept = "passed" if evidence.get("kept") else "failed" if good and full else "not checkable"
        self.mark(kept, self.said("Data lama disimpan", "Old data kept"))
        self.mark("passed" if good else "failed", self.said("Restore selesai", "Restore finished"))
        self.lines.append(
            f"  [ ] {self.said('Fungsi aplikasi diuji oleh pengguna', 'The application was tried by its users')}"
        )

    def _follow_up(self) -> None:
        self.section("F. TINDAK LANJUT", "F. FOLLOW-UP")
        self.rows("Rencana tindak lanjut", "Planned", (f"- {each}" for each in self._evidence.get("follow_ups") or ()))
        self.row("Tindak lanjut lain", "Further follow-up", PEN)
        self.row("Dampak per unit", "Impact on each unit", PEN)
        self.row("Akar masalah", "Root cause", PEN)
        self.row("Penanggung jawab", "Responsible", PEN)
        self.row("Target selesai", "To be done by", PEN)

    def _signatures(self) -> None:
        self.lines += ["=" * WIDTH]
        self.row("Pelaksana, petugas IT (nama/NIP)", "Carried out by, IT staff", PEN)
        self.row("  tanda tangan/tanggal", "  signature/date", PEN)
        self.row("Diterima Ka. Instalasi SIRS", "Received by the head", PEN)
        self.row("  tanda tangan/tanggal", "  signature/date", PEN)
        self.row("Ujung ledger (head)", "Ledger head", self._evidence.get("ledger_head"))

    # -- values --

    @staticmethod
    def _day(text: Optional[str]) -> str:
        return f"{parse_date(text, 'date'):%d-%m-%Y}" if text else ""

    def _point(self, kind: Optional[str], value: Optional[str]) -> str:
        shown = self.when(value, exact=True) if kind == "time" else value or ""
        return f"{self.word(kind)} {shown}".strip()

    def _neighbour(self, near: Optional[Neighbour]) -> str:
        return f"{self.when(near.get('moment'), exact=True)}, {near.get('position')}" if near else ""

    def _lost(self) -> str:
        lost = self._evidence.get("lost")
        if not lost:
            return ""
        count, seconds = lost.get("transactions"), lost.get("seconds")
        if count == 0:
            return self.said("tidak ada", "none")
        until = self.when(lost.get("to")) or self.said("tidak diketahui", "unknown")
        known = [] if seconds is None else [self.long(seconds)]
        known += [] if count is None else [f"{self.count(count)} {self.said('transaksi', 'transactions')}"]
        many = f" ({', '.join(known)})" if known else ""
        words = self.said("sesudah", "after"), self.said("sampai", "until")
        return f"{words[0]} {self.when(lost.get('since')) or NONE} {words[1]} {until}{many}"


def _person(person: Optional[Mapping[str, Any]]) -> str:
    return f"{person.get('name')} / {person.get('id_number')}" if person else ""
