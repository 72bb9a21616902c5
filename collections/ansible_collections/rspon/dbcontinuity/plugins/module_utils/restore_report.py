# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test restore's report in the SPO's check-list form, plain text: Bahasa Indonesia, an English label with each.

Every instance is printed, also those with nothing to report, so that a missing row cannot hide. What people have to
add (number, witnesses, signatures) is left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional
from zoneinfo import ZoneInfo

from .clock import known_zone, parse_moment
from .report_layout import DAYS, MARKS, WIDTH, hanging

_LABEL = 46
_OPEN = "." * 30
_RESULTS = {"succeeded": "BERHASIL (succeeded)", "failed": "GAGAL (failed)"}


def report_text(results: Mapping[str, Mapping[str, Any]], run: str, actor: Mapping[str, str], zone: str) -> str:
    """Return the report of one run over all its instances.

    :param zone: of the times printed.
    :raises InputError: if there is no such zone.
    """
    local = known_zone(zone)
    good = sum(1 for each in results.values() if each["result"] == "succeeded")
    lines = [
        "BERITA ACARA UJI RESTORE (minutes of the test restore)".center(WIDTH).rstrip(),
        "SPO Back up, restore dan update database: D3, T1, T2".center(WIDTH).rstrip(),
        "=" * WIDTH,
        _row("Nomor (number)", _OPEN),
        _row("Pelaksanaan (run)", run),
        _row("Dijalankan oleh (actor)", ", ".join(f"{key} {value}" for key, value in sorted(actor.items()))),
        _row("Keberhasilan uji restore (success)", f"{good} dari (of) {len(results)}"),
        "",
    ]
    for number, (name, result) in enumerate(results.items(), 1):
        lines += [f"{number}. {name}: {_RESULTS.get(str(result['result']), result['result'])}", "-" * WIDTH]
        lines += _instance(result, local)
        lines.append("")
    lines += [
        _row("Pelaksana (carried out by), nama/NIP/jabatan", _OPEN),
        _row("Saksi (witness)", _OPEN),
        _row("Rekomendasi (recommendation)", _OPEN),
        _row("Mengetahui (acknowledged)", _OPEN),
        _row("Menyetujui (approved), Ka. Instalasi SIRS", _OPEN),
        "",
        "Belum disahkan oleh petugas IT (T1): menunggu pengesahan melalui ledger_entry.",
        "(Not yet attested by a member of the IT staff: this waits for an entry made with ledger_entry.)",
    ]
    return "\n".join(lines) + "\n"


def _instance(result: Mapping[str, Any], local: ZoneInfo) -> list[str]:
    lines = []
    if result.get("started_at"):
        began, ended = (parse_moment(str(result[key])).astimezone(local) for key in ("started_at", "finished_at"))
        lines += [
            _row("Hari/tanggal (date)", f"{DAYS[began.weekday()][0]}, {began:%d-%m-%Y}"),
            _row("Jam mulai/selesai (start/end)", f"{began:%H:%M:%S} / {ended:%H:%M:%S} {began.tzname()}"),
        ]
    source = result.get("source")
    if source:
        made = parse_moment(str(source["made_at"])).astimezone(local)
        lines += [
            _row("Sumber backup (source)", f"{source['medium']}, {source['set']}, {made:%d-%m-%Y %H:%M:%S %Z}"),
            _row("  Checksum manifest (SHA-256)", str(source["manifest_sha256"])),
            _row("  Log diterapkan (logs applied)", f"{source['logs']} {source['last_log']}".strip()),
            _row("  Mesin (engine)", f"{source['engine']} {source['version']}"),
        ]
    lines += _recovery_point(result.get("resolved"), local)
    lines.append(_row("Folder non aktif (non-active folder)", str(result.get("folder", "-"))))
    lines += _figures(result, local)
    for check in result.get("checks", ()):
        detail = f": {check['detail']}" if check["detail"] else ""
        lines += hanging(f"{MARKS[check['result']]} {check['name']}{detail}", "  ")
    for each in result.get("assertions", ()):
        met = "[v]" if each["met"] else "[x]"
        lines += hanging(f"{met} {each['name']}: {each['answer']} (harapan/expected: {each['expect']})", "  ")
    findings: Sequence[Mapping[str, Any]] = result.get("findings", ())
    lines.append(_row("Temuan (findings)", str(len(findings)) if findings else "tidak ada (none)"))
    for finding in findings:
        where = f"{finding['file']}: " if finding["file"] else ""
        lines += hanging(f"- {finding['code']}: {where}{finding['message']} {finding['remedy']}".strip(), "  ")
    for note in result.get("notes", ()):
        lines += hanging(f"  catatan (note): {note}", "  ")
    gone = result.get("destruction")
    shown = "tidak ada salinan dibuat (no copy was made)"
    if gone:
        moment = parse_moment(str(gone["destroyed_at"])).astimezone(local)
        shown = f"{moment:%H:%M:%S}, {gone['files']} berkas (files), {gone['bytes']} bytes"
    lines.append(_row("Pemusnahan data uji (destruction)", shown))
    return lines


def _recovery_point(resolved: Optional[Mapping[str, Any]], local: ZoneInfo) -> list[str]:
    """Return the moment brought back, with the transactions on either side."""
    if not resolved:
        return []
    asked, rows = resolved["asked"], []
    shown = f"{asked['kind']} {asked['value']}".strip()
    rows.append(
        _row("Titik pemulihan (recovery point)", f"{shown} = {resolved['kind']} {resolved['position']}".strip())
    )
    for label, key in (
        ("  Transaksi terakhir (last one in it)", "before"),
        ("  Transaksi berikutnya (first not in)", "after"),
    ):
        each = resolved[key]
        if each:
            moment = parse_moment(str(each["moment"])).astimezone(local)
            rows.append(_row(label, f"{moment:%d-%m-%Y %H:%M:%S %Z}, {each['position'] or '-'}"))
    return rows


def _figures(result: Mapping[str, Any], local: ZoneInfo) -> list[str]:
    lines = []
    rto, rpo = result.get("rto"), result.get("rpo")
    if rto:
        lines.append(_row("RTO target/aktual (target/actual)", _against(rto)))
    for name, seconds in result.get("phases", {}).items():
        lines.append(_row(f"  {name}", f"{seconds:.1f} s"))
    if rpo:
        to = parse_moment(str(rpo["recoverable_to"])).astimezone(local)
        lines.append(_row("RPO target/aktual (target/actual)", _against(rpo)))
        lines.append(_row("  Dapat dipulihkan sampai (recoverable to)", f"{to:%d-%m-%Y %H:%M:%S %Z}"))
        if "newest_row" in rpo:
            age = f" ({rpo['newest_row_seconds']:.0f} s)" if "newest_row_seconds" in rpo else ""
            lines.append(_row("  Baris terbaru (newest row)", f"{rpo['newest_row']}{age}"))
    content = result.get("content")
    if content:
        before = content["rows_in_all_before"]
        lines += [
            _row("Jumlah tabel (tables)", str(content["tables"])),
            _row(
                "Jumlah baris: uji lalu/hasil (rows: last test/now)",
                f"{before if before is not None else '-'} / {content['rows_in_all']}",
            ),
        ]
        source = content["objects_of_the_backup"]
        kinds = [f"{kind} {source.get(kind, '-')}/{count}" for kind, count in sorted(content["objects"].items())]
        lines.append(_row("Objek: sumber/hasil (objects: source/copy)", ""))
        lines += hanging(", ".join(kinds), "  ")
    return lines


def _against(value: Mapping[str, Any]) -> str:
    target = value["target_minutes"]
    aim = f"{target:g} menit (min)" if target is not None else "tidak ditetapkan (not set)"
    return f"{aim} / {value['actual_seconds'] / 60:.2f} menit (min)"


def _row(label: str, value: str) -> str:
    return f"{label.ljust(_LABEL)} : {value}".rstrip()
