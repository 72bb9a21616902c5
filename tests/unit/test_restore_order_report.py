# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a restore: every field is there, in both languages, also of a restore that knows next to nothing."""

from __future__ import annotations

import re
from typing import Any, get_type_hints

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_order_evidence import RestoreEvidence
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_order_report import restore_report_text

WHOLE: RestoreEvidence = {
    "run": "20261122T193500Z-1f2e3d4c",
    "instance": "simrs",
    "engine": "mariadb",
    "host": "db1.rspon.example",
    "place": "/var/lib/mysql",
    "result": "succeeded",
    "reason": "",
    "scope": ["full"],
    "mode": "replace",
    "target": {"kind": "time", "value": "2026-11-23T01:10:00+07:00"},
    "resolved": {
        "kind": "gtid",
        "position": "0-1-4711",
        "moment": "2026-11-22T18:09:58Z",
        "before": {"moment": "2026-11-22T18:09:58Z", "position": "0-1-4711"},
        "after": {"moment": "2026-11-22T18:10:02.250000Z", "position": "0-1-4712"},
    },
    "plan_sha256": "c" * 64,
    "instruction": {
        "record": "20261122T193000Z-0001",
        "record_sha256": "d" * 64,
        "officials_sha256": "e" * 64,
        "instructed_by": {"role": "kepala_instalasi_sirs", "name": "Contoh Kepala", "id_number": "0012"},
        "instructed_at": "2026-11-23T02:05:00+07:00",
        "by": "telephone",
        "letter": {"number": "0013/SIRS", "date": "2026-11-23"},
        "heard_by": {"name": "Contoh Petugas Satu", "id_number": "1008"},
        "witness": {"name": "Contoh Petugas Dua", "id_number": "1009"},
        "countersign_until": "2026-11-24T02:05:00+07:00",
        "countersigned_at": "2026-11-23T07:45:00+07:00",
        "valid_until": "2026-11-23T12:00:00+07:00",
        "reason": "Server basis data rusak,\ntidak dapat dinyalakan",
        "ticket": "0077",
    },
    "source": {
        "medium": "repository",
        "set": "20261121T050000Z-0001",
        "made_at": "2026-11-21T05:00:00Z",
        "manifest_sha256": "f" * 64,
        "engine": "mariadb",
        "version": "10.11.19",
        "logs": 1440,
        "last_log": "000000001440",
        "unproven": "0-1-4711",
    },
    "started_at": "2026-11-22T19:35:00.5Z",
    "finished_at": "2026-11-22T20:36:02Z",
    "phases": {"unpacking": 61.25, "replay": 1800.0},
    "rto": {"target_minutes": 120, "actual_seconds": 3600.0},
    "rpo": {"target_minutes": None, "actual_seconds": 30.0},
    "lost": {
        "since": "2026-11-22T18:09:58Z",
        "to": "2026-11-22T19:20:00Z",
        "transactions": 12345,
        "seconds": 4202.0,
    },
    "counts": [
        {"name": "simrs.pasien", "before": None, "after": 1234567},
        {"name": "simrs.kunjungan", "before": 10, "after": 9},
    ],
    "objects": {"views": {"before": 3, "after": 4}},
    "checks": [
        {"name": "CHECK TABLE", "result": "passed", "detail": "312 tables"},
        {"name": "assertion", "result": "failed", "detail": ""},
        {"name": "page checksums", "result": "not checkable", "detail": "off"},
    ],
    "kept": [{"what": "data directory", "path": "/var/lib/mysql.dbcontinuity-1f2e3d4c.old", "bytes": 2147483648}],
    "left": ["Nothing is left."],
    "findings": [{"code": "table-missing", "file": "simrs.obat", "message": "It is not there.", "remedy": "Look."}],
    "follow_ups": ["Backup penuh baru harus dibuat dan diverifikasi"],
    "notes": ["the last log was fetched"],
    "actor": {"user": "root", "sudo_user": "petugas"},
    "ledger_head": "412:" + "9" * 64,
}
# Printed in another form: scope and mode as words, the language's own numbers.
IN_WORDS = {
    "full",
    "replace",
    "telephone",
    "kepala_instalasi_sirs",
    "time",
    "gtid",
    "succeeded",
    "passed",
    "failed",
    "not checkable",
}
PEN = "." * 50


def report(evidence: RestoreEvidence, language: str = "id") -> str:
    return restore_report_text(evidence, zone="Asia/Jakarta", language=language)


def texts(value: Any) -> list[str]:
    """Return every text in a value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in texts(each)]


@pytest.mark.parametrize("language", ["id", "en"])
def test_everything_in_the_evidence_is_printed(language: str) -> None:
    assert set(WHOLE) == set(get_type_hints(RestoreEvidence))
    said = " ".join(report(WHOLE, language).split())
    moment = re.compile(r"\d{4}-\d\d-\d\d(T|$)")
    for text in texts(dict(WHOLE)):
        if text in IN_WORDS or moment.match(text) or text == "e" * 64:
            continue
        assert " ".join(text.split()) in said, text
    for moment_shown in (
        "23-11-2026 02:05:00 WIB",
        "23-11-2026 01:09:58 WIB",
        "23-11-2026 01:10:02.25 WIB",
        "21-11-2026 12:00:00 WIB",
        "23-11-2026 02:20:00 WIB",
        "23-11-2026 02:35:00 WIB",
        ": 23-11-2026 ",
        "1:01:02",
    ):
        assert moment_shown in said, moment_shown


def test_it_speaks_one_language_at_a_time() -> None:
    indonesian, english = report(WHOLE, "id"), report(WHOLE, "en")
    for word in (
        "Senin, 23-11-2026",
        "Akar masalah",
        "Penanggung jawab",
        "BERHASIL",
        "1.234.567",
        "70.0 menit",
        "12.345 transaksi",
    ):
        assert word in indonesian
        assert word not in english
    for word in (
        "Monday, 23-11-2026",
        "Root cause",
        "Responsible",
        "SUCCEEDED",
        "1,234,567",
        "70.0 min,",
        "12,345 transactions",
    ):
        assert word in english
        assert word not in indonesian
    assert len(indonesian.splitlines()) == len(english.splitlines())


def labels(text: str) -> list[str]:
    return [line[:34].rstrip() for line in text.splitlines() if line[34:37] in (" :", " : ")]


@pytest.mark.parametrize("language", ["id", "en"])
def test_every_field_is_printed_also_when_nothing_is_known(language: str) -> None:
    bare = report({}, language)
    phases = {"  unpacking", "  replay", "  membuka set backup", "  menerapkan log"}
    assert labels(bare) == [label for label in labels(report(WHOLE, language)) if label not in phases]
    for line in bare.splitlines():
        if line[34:37] == " : ":
            assert line[37:] in ("-", PEN, "tidak ada", "none"), line


def test_what_no_machine_can_know_is_left_to_the_pen() -> None:
    text = report(WHOLE)
    for label in ("Akar masalah", "Penanggung jawab", "Target selesai", "Dampak per unit", "Nomor laporan"):
        (line,) = [line for line in text.splitlines() if line.startswith(label)]
        assert line.endswith(PEN)


def test_the_check_list_says_what_was_done() -> None:
    text = report(WHOLE)
    assert "  [v] CHECK TABLE: 312 tables" in text
    assert "  [x] assertion" in text
    assert "  [-] page checksums: off" in text
    assert "  [v] Instruksi Ka. Instalasi SIRS tercatat" in text
    assert "  [v] Data lama disimpan" in text
    bare = report({"result": "failed"})
    assert "  [x] Instruksi Ka. Instalasi SIRS tercatat" in bare
    assert "  [x] Restore selesai" in bare
    kept_not: RestoreEvidence = {**WHOLE, "kept": []}
    assert "  [x] Data lama disimpan" in report(kept_not)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ({"since": "2026-11-22T18:09:58Z", "to": None}, "sesudah 23-11-2026 01:09:58 WIB sampai tidak diketahui"),
        ({"transactions": 0}, "tidak ada"),
    ],
)
def test_what_was_lost_is_said_also_where_nobody_can_tell_how_much(lost: Any, said: str) -> None:
    assert said in " ".join(report({"lost": lost}).split())


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("failed", "data tujuan tetap seperti semula"),
        ("failed, target changed", "data tujuan telah berubah"),
        ("something new", "something new"),
    ],
)
def test_a_failure_says_how_the_target_is(result: str, said: str) -> None:
    assert said in report({"result": result, "left": ["/srv/x is the old one"]})


def test_long_lines_go_on_below_and_stay_in_their_column() -> None:
    text = report({"instruction": {"reason": "kata " * 60}, "findings": [{"code": "x", "message": "kata " * 60}]})
    assert max(map(len, text.splitlines())) <= 101
    assert re.search(r"^ {37}kata", text, re.M)


def test_a_name_cannot_break_a_line_out() -> None:
    text = report(
        {"counts": [{"name": "a\nHasil : BERHASIL", "before": 1, "after": 2}], "host": "x\r\nHasil : BERHASIL"}
    )
    assert [line for line in text.splitlines() if line.startswith("Hasil") and "BERHASIL" in line] == []


@pytest.mark.parametrize("wrong", [{"zone": "Asia/Jakatra"}, {"zone": "UTC", "language": "fr"}])
def test_a_zone_or_language_that_is_none_is_named(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError):
        restore_report_text({}, **wrong)
