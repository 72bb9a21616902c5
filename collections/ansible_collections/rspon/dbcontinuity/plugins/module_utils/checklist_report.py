# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check-list of the backup results (*check-list hasil backup*, B5) as plain text, in Bahasa Indonesia or English.

Each activity of the calendar has a line for every instance, also where there is nothing to report: a missing line
cannot hide. What people have to add (follow-up, initials, signatures) is left to the pen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .expected import (
    DONE,
    FAILED,
    LATE,
    LOG_CYCLE,
    NOT_DUE,
    NOT_RUN,
    OUT_OF_WINDOW,
    RUNNING,
    STATES,
    TEST_NEW,
)
from .report_layout import DAYS, NONE, PEN, WIDTH, Page

_ENGLISH_DAYS = [english for _indonesian, english in DAYS]
_WORDS: dict[str, tuple[str, str]] = {
    DONE: ("dilaksanakan", "done"),
    LATE: ("TERLAMBAT", "LATE"),
    OUT_OF_WINDOW: ("DI LUAR JENDELA", "OUT OF WINDOW"),
    FAILED: ("GAGAL", "FAILED"),
    NOT_RUN: ("TIDAK DIJALANKAN", "NOT RUN"),
    NOT_DUE: ("tidak dijadwalkan", "not due"),
    RUNNING: ("sedang berjalan", "running"),
    "succeeded": ("berhasil", "succeeded"),
    "unfinished": ("terputus", "broken off"),
    "full_backup": ("Backup penuh (B1, B2)", "Full backup (B1, B2)"),
    "log_cycle": ("Pengiriman log (B3)", "Log cycle (B3)"),
    "restore_test": ("Uji restore (T1, T2)", "Test restore (T1, T2)"),
    "test_new_backups": ("Uji restore backup baru (D3)", "Test of each new full backup (D3)"),
    "backup_verify": ("Pemeriksaan yang tersimpan", "Verification of what is stored"),
    "checklist": ("Check-list (B5)", "Check-list (B5)"),
    "waiting for countersignature": ("menunggu pengesahan", "waiting for countersignature"),
    "overdue": ("TERLAMBAT disahkan", "OVERDUE"),
    "altered": ("DIUBAH", "ALTERED"),
}
_MARKS = {DONE: "[v]", LATE: "[!]", OUT_OF_WINDOW: "[!]", RUNNING: "[~]", NOT_DUE: "[-]", FAILED: "[x]", NOT_RUN: "[x]"}
_NAME = 22
_MOST_TIMES = 5


def checklist_text(facts: Mapping[str, Any], *, zone: str, language: str = "id") -> str:
    """Return the check-list of a period.

    :param facts: as ``checklist_facts`` gives them.
    :param zone: of the times printed.
    :param language: ``id`` or ``en``.
    :raises InputError: if there is no such zone or language.
    """
    return _Checklist(facts, zone, language).text()


class _Checklist(Page):
    """One check-list being written."""

    def __init__(self, facts: Mapping[str, Any], zone: str, language: str) -> None:
        super().__init__(zone, language, _WORDS, label=32)
        self._facts = facts
        self._parts = 0
        self._several_years = self._year("since") != self._year("until")

    def text(self) -> str:
        """Return the whole."""
        self.title(
            self.said("CHECK-LIST HASIL BACKUP", "CHECK-LIST OF THE BACKUP RESULTS"),
            "SPO Back up, restore dan update database: B1-B5, D3, T1, T2, R1",
        )
        self._head()
        self._activities()
        self._sets()
        self._tests()
        self._people()
        self._evidence()
        self._signatures()
        return "\n".join(self.lines) + "\n"

    # -- the parts --

    def _head(self) -> None:
        facts = self._facts
        period = facts["period"]
        self.row("Nomor", "Number", PEN)
        self.row(
            "Periode",
            "Period",
            f"{self._day_of(period['since'])} {self.said('sampai', 'to')} {self._day_of(period['until'])}",
        )
        self.row("Dibuat", "Written", f"{self.when(facts['written_at'])}, {facts['run']}")
        self.row("Server backup", "Backup host", f"{facts['host']}, {facts['repository']}")
        free = facts["free_bytes"]
        self.row("Sisa ruang", "Free space", self.size(free) if free is not None else "")
        for name, label in (
            ("full_backup", ("Keberhasilan backup", "Full backups that succeeded")),
            ("restore_test", ("Keberhasilan uji restore", "Test restores that succeeded")),
        ):
            self.row(*label, self._share(facts["indicators"][name]))
        counted = [f"{count} {self.word(state)}" for state in STATES if (count := facts["summary"][state])]
        self.row("Ringkasan", "Summary", ", ".join(counted))
        for lost in facts["not_known"]:
            self.row("TIDAK DAPAT DIBACA", "COULD NOT BE READ", f"{lost['what']}: {lost['why']}")

    def _activities(self) -> None:
        rows, calendars = self._facts["rows"], self._facts["calendars"]
        if not calendars:
            self._part("Kegiatan menurut kalender", "Activities by the calendar")
            self.item(
                self.said(
                    "Belum ada kalender pada periode ini: jalankan playbook site. Tidak ada kegiatan yang dijanjikan.",
                    "No calendar was in force in this period: run the playbook site. Nothing was promised.",
                )
            )
            return
        for name in dict.fromkeys(row["activity"] for row in rows):
            self._part(*_WORDS.get(name, (name, name)))
            for text in self._planned(name, calendars):
                self.item(text, "  ")
            mine = [row for row in rows if row["activity"] == name]
            self._cycle_rows(mine) if name == LOG_CYCLE else self._day_rows(mine, name)
        for calendar in calendars:
            if calendar["problem"]:
                self.item(
                    f"{self.said('Kalender sejak', 'Calendar since')} {self.when(calendar['since'])}: {calendar['problem']}"
                )

    def _planned(self, name: str, calendars: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return when an activity was due; more than one line where the calendar was changed in the period."""
        said: list[tuple[str, str]] = []
        for calendar in calendars:
            entry = calendar["activities"].get(name)
            text = self._entry(entry, calendar["zone"]) if entry else self.said("tidak ada", "none")
            if not said or said[-1][1] != text:
                said.append((calendar["since"], text))
        first = f"{self.said('Jadwal', 'Due')}: {said[0][1]}"
        since = self.said("sejak", "since")
        return [first, *(f"{since} {self.when(moment)}: {text}" for moment, text in said[1:])]

    def _entry(self, entry: Mapping[str, Any], zone: str) -> str:
        if entry["every_minutes"]:
            within = entry["within_minutes"]
            every = self.said(f"setiap {entry['every_minutes']} menit", f"every {entry['every_minutes']} minutes")
            return every + (
                self.said(f", selesai dalam {within} menit", f", within {within} minutes") if within else ""
            )
        days = [DAYS[_ENGLISH_DAYS.index(day)][self.tongue] for day in entry["days"]]
        which = self.said("setiap hari", "daily") if len(days) == len(DAYS) else ", ".join(days)
        return f"{which} {entry['start']}" + (f"-{entry['end']}" if entry["end"] else "") + f" {zone}"

    def _day_rows(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        due = self.said("harus sebelum", "to be by") if name == TEST_NEW else self.said("jadwal", "due")
        self._line(
            (self.said("No", "No"), self.said("instans", "instance"), due),
            (self.said("mulai", "start"), self.said("selesai", "end"), self.said("durasi", "took"), "status"),
        )
        for number, row in enumerate(rows, 1):
            slots = row["slots"]
            who = row["instance"] or NONE
            if len(slots) == 1:
                self._slot(str(number), who, slots[0])
                continue
            many = f"{row['done']}/{row['expected']}" if row["expected"] else NONE
            self._line((str(number), who, many), (NONE, NONE, NONE, self._state(row["state"])))
            for slot in slots:
                if slot["state"] not in (DONE, NOT_DUE):
                    self._slot("", "", slot)

    def _slot(self, number: str, who: str, slot: Mapping[str, Any]) -> None:
        started, finished = slot.get("started_at"), slot.get("finished_at")
        self._line(
            (number, who, self._short(slot["due"])),
            (self._short(started), self._short(finished), self._took(started, finished), self._state(slot["state"])),
        )
        for remark in self._remarks(slot):
            self.item(remark, "      ")

    def _remarks(self, slot: Mapping[str, Any]) -> list[str]:
        said = []
        if slot.get("set"):
            said.append(f"{self.said('set', 'set')} {slot['set']}")
        if slot.get("late_seconds"):
            said.append(f"{self.said('terlambat', 'late by')} {self.lasting(slot['late_seconds'])}")
        if slot.get("overran_seconds"):
            said.append(
                f"{self.said('melewati akhir jendela', 'past the end of its window by')} {self.lasting(slot['overran_seconds'])}"
            )
        if slot.get("failures"):
            said.append(self.said(f"{slot['failures']} kali gagal di samping itu", f"{slot['failures']} more failed"))
        if slot.get("result") == "unfinished" and slot["state"] == FAILED:
            said.append(
                self.said(
                    f"dimulai, akhirnya tidak tercatat: server mati, proses dihentikan, atau baris ledger rusak ({slot['run']})",
                    f"begun, its end is not recorded: the host died, the process was killed, or a line of the ledger is"
                    f" damaged ({slot['run']})",
                )
            )
        if slot.get("reason"):
            said.append(f"{self.said('sebab', 'cause')}: {slot['reason']}")
        if slot.get("clock_synchronised") is False:
            said.append(self.said("jam server tidak sinkron", "the host's clock was not synchronised"))
        return said

    def _cycle_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        labels = (
            (self.said("jeda terlama", "longest gap"), 14),
            (self.said("lag terburuk", "worst lag"), 13),
            ("log", 6),
        )
        cells = "".join(f"{label:<{width}}" for label, width in labels)
        self._line(("No", self.said("instans", "instance"), self.said("siklus", "cycles")), (cells, "status"))
        for number, row in enumerate(rows, 1):
            found = row["cycles"]
            gap, lag = (
                self.lasting(found[key]) if found[key] is not None else NONE
                for key in ("longest_gap_seconds", "worst_lag_seconds")
            )
            cells = f"{gap:<14}{lag:<13}{self.count(found['logs']):<6}"
            many = f"{row['done']}/{row['expected']}" if row["expected"] else NONE
            self._line((str(number), row["instance"], many), (cells, self._state(row["state"])))
            for state, count in row["states"].items():
                if state not in (DONE, NOT_DUE):
                    when = [self._short(slot["due"]) for slot in row["slots"] if slot["state"] == state]
                    more = ", ..." if count > _MOST_TIMES else ""
                    self.item(f"{count} {self.word(state)}: {', '.join(when[:_MOST_TIMES])}{more}", "      ")
            if found["recoverable_to"]:
                self.item(
                    f"{self.said('dapat dipulihkan sampai', 'recoverable to')} {self.when(found['recoverable_to'])}",
                    "      ",
                )
            for each in found["findings"]:
                where = f"{each['file']}: " if each["file"] else ""
                self.item(f"- {each['code']} ({each['times']}x): {where}{each['message']} {each['remedy']}", "      ")
            for each in found["failures"]:
                self.item(f"- {each['times']}x: {each['reason']}", "      ")
            if any(slot.get("clock_synchronised") is False for slot in row["slots"]):
                self.item(self.said("jam server tidak sinkron", "the host's clock was not synchronised"), "      ")

    def _sets(self) -> None:
        self._part("Backup penuh yang dibuat", "Full backups made")
        for each in self._facts["sets"]:
            self.lines.append(f"  {each['instance']}: {each['set']}")
            size, before = each["size_bytes"], each["size_before_bytes"]
            change = f", {(size - before) / before * 100:+.1f} %" if size is not None and before else ""
            self.row(
                "    Mulai, selesai",
                "    Start, end",
                f"{self.when(each['started_at'])}, {self._short(each['finished_at'])}",
            )
            seconds = each["duration_seconds"]
            took = self.lasting(seconds) if seconds is not None else NONE
            self.row(
                "    Ukuran (selisih), durasi",
                "    Size (change), took",
                f"{self.size(size) if size is not None else NONE}{change}; {took}",
            )
            self.row("    SHA-256 manifest", "    SHA-256 of the manifest", each["manifest_sha256"])
            self.row("    Diuji (run)", "    Tested (run)", each["tested_by"])
            # B4 is not in the calendar yet; the form has its place for it.
            self.row("    Salinan NAS, disk, luar", "    Copies: NAS, disk, away", NONE)
            if not each["present"]:
                self.item(self.said("SET INI TIDAK ADA LAGI DI REPOSITORI", "THIS SET IS NO LONGER IN THE REPOSITORY"))
        if not self._facts["sets"]:
            self.lines.append(f"  {self.said('tidak ada', 'none')}")

    def _tests(self) -> None:
        self._part("Uji restore", "Test restores")
        for each in self._facts["tests"]:
            self.lines.append(f"  {each['instance']}: {self.word(each['result'])}, {self.when(each['started_at'])}")
            self.row("    Sumber (set), run", "    Source (set), run", f"{each['set'] or NONE}, {each['run']}")
            self.row("    RTO target/aktual", "    RTO target/actual", self.against(each["rto"]))
            self.row("    RPO target/aktual", "    RPO target/actual", self.against(each["rpo"]))
            attested = (
                ("sudah", "done") if each["attested"] else ("MENUNGGU petugas IT", "WAITS for a member of the IT staff")
            )
            good = each["result"] == "succeeded"
            self.row("    Pengesahan (T1)", "    Attestation (T1)", self.said(*attested) if good else "")
            for finding in each["findings"]:
                self.item(f"- {finding.get('code')}: {finding.get('message')} {finding.get('remedy') or ''}")
        if not self._facts["tests"]:
            self.lines.append(f"  {self.said('tidak ada', 'none')}")

    def _people(self) -> None:
        facts = self._facts
        self._part("Yang menunggu orang", "What waits for people")
        inside = {(each["instance"], each["run"]) for each in facts["tests"]}
        older = [each for each in facts["unattested"] if (each["instance"], each["run"]) not in inside]
        self.rows(
            "Uji restore lama belum disahkan",
            "Earlier tests not attested",
            (f"{each['instance']}: {self.when(each['finished_at'])}, {each['run']}" for each in older),
        )
        self.rows(
            "Instruksi restore (R1)",
            "Instructions to restore (R1)",
            (
                f"{each['id']} {each['instance']}: {self.word(each['state'])}. {each['reason']}"
                for each in facts["instructions"]
            ),
        )
        self.rows(
            "Saluran pemberitahuan mati",
            "Channels of notices that failed",
            (self._channel(each) for each in facts["channels"]),
        )
        self.rows(
            "Restore pada periode ini",
            "Restores in this period",
            (
                f"{each['instance']}: {self.word(each['result'])}, {self.when(each['started_at'])}, {each['run']}"
                for each in facts["restores"]
            ),
        )

    def _channel(self, each: Mapping[str, Any]) -> str:
        now = ("masih mati", "still dead") if each["dead"] else ("sudah pulih", "works again")
        return f"{each['channel']}: {self.said('sejak', 'since')} {self.when(each['since'])}, {self.said(*now)}: {each['problem']}"

    def _evidence(self) -> None:
        facts = self._facts
        self._part("Bukti", "Evidence")
        self.rows("Baris ledger yang rusak", "Damaged lines of the ledger", facts["damaged_lines"])
        if facts["ledger_warning"]:
            self.item(facts["ledger_warning"])
        unsure = facts["clock_not_synchronised"]
        self.row(
            "Catatan dengan jam tidak sinkron",
            "Records by an unsure clock",
            self.count(unsure) if unsure else self.said("tidak ada", "none"),
        )
        self.rows("Ujung ledger (head)", "Ledger head", [facts["ledger_head"]])

    def _signatures(self) -> None:
        self.lines += ["=" * WIDTH]
        self.row("Keterangan/tindak lanjut", "Follow-up", PEN)
        self.row("", "", PEN)
        self.row("Petugas IT (nama/NIP), paraf", "IT staff (name), initials", PEN)
        self.row("Verifikator (nama/NIP), paraf", "Verified by (name), initials", PEN)
        self.row("Mengetahui Ka. Instalasi SIRS", "Acknowledged by the head", PEN)
        self.row("  tanda tangan/tanggal", "  signature/date", PEN)

    # -- how it is laid out --

    def _part(self, indonesian: str, english: str) -> None:
        """Begin a part, with the next letter."""
        letter = chr(ord("A") + self._parts)
        self._parts += 1
        self.section(f"{letter}. {indonesian}", f"{letter}. {english}")

    def _line(self, left: tuple[str, str, str], right: Sequence[str]) -> None:
        """Add a line of a table: number, instance, due time; then the columns. A long name has a line of its own."""
        number, who, due = left
        cells = "".join(f"{cell:<12}" for cell in right[:-1]) + right[-1]
        if len(who) > _NAME:
            self.lines.append(f"{number:>3} {who}")
            number, who = "", ""
        self.lines.append(f"{number:>3} {who:<{_NAME + 1}}{due:<14}{cells}".rstrip())

    # -- values --

    def _state(self, state: str) -> str:
        return f"{_MARKS.get(state, '[?]')} {self.word(state)}"

    def _of(self, done: int, expected: int) -> str:
        return f"{done} {self.said('dari', 'of')} {expected}"

    def _share(self, of: Mapping[str, int]) -> str:
        if not of["expected"]:
            return ""
        return f"{self._of(of['done'], of['expected'])} ({of['done'] / of['expected'] * 100:.0f} %)"

    def _day_of(self, text: str) -> str:
        moment = self.moment(text)
        return f"{self.said(*DAYS[moment.weekday()])} {moment:%d-%m-%Y %H:%M %Z}" if moment else NONE

    def _year(self, key: str) -> Optional[int]:
        moment = self.moment(self._facts["period"][key])
        return moment.year if moment else None

    def _short(self, text: Optional[str]) -> str:
        """Return a moment as short as the period allows."""
        moment = self.moment(text)
        if moment is None:
            return NONE
        return f"{moment:%d-%m-%y %H:%M}" if self._several_years else f"{moment:%d-%m %H:%M}"

    def _took(self, started: Optional[str], finished: Optional[str]) -> str:
        begin, end = self.moment(started), self.moment(finished)
        return self.lasting((end - begin).total_seconds()) if begin and end else NONE
