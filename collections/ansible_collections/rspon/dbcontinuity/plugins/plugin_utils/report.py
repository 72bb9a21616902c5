# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that people read at the end of a playbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .inventory import human_bytes, local_time
from .report_table import table
from .status_text import status_report


def run_report(hostvars: Mapping[str, Any], hosts: Sequence[str], variable: str, kind: str) -> str:
    """Return the tables of a run on all hosts that should have run it; one that did not says so.

    :param variable: the name under which the play registered its result.
    :param kind: ``full_backup``, ``log_cycle``, ``verification``, ``restore_test``, ``checklist`` or ``status``.
    """
    writers = {
        "full_backup": full_backup_report,
        "log_cycle": cycle_report,
        "verification": verify_report,
        "restore_test": restore_test_report,
        "checklist": checklist_report,
        "status": status_lines,
    }
    lines = []
    for host in hosts:
        values = hostvars[host]
        result = values.get(variable)
        if result is None or result.get("unreachable"):
            lines.append(f"{host}: NOT RUN: {(result or {}).get('msg', 'the play did not get that far')}")
        else:
            lines += writers[kind](result, values["dbc_zone"])
    return "\n".join(lines)


def run_failures(hostvars: Mapping[str, Any], hosts: Sequence[str], variable: str) -> list[str]:
    """Return what failed, one sentence each; empty only if every host ran everything and all of it succeeded."""
    if not hosts:
        return ["No host is in the group backup: give the inventory with -i."]
    failures = []
    for host in hosts:
        result = hostvars[host].get(variable)
        if result is None or (result.get("skipped") and not result.get("results")):
            failures.append(f"{host}: not run.")
            continue
        for one in result.get("results", [result]):
            if one.get("skipped"):
                failures.append(f"{host}: skipped, although it was due.")
            elif one.get("failed") or one.get("unreachable"):
                item = one.get("item")
                where = f"{host}, {item['name']}" if isinstance(item, Mapping) and "name" in item else host
                failures.append(f"{where}: {one.get('msg', 'failed without a reason')}")
    return failures


def full_backup_report(registered: Mapping[str, Any], zone: str) -> list[str]:
    """Return the table of a full backup run (B1, B2), whose registered result loops over instances."""
    results: Sequence[Mapping[str, Any]] = registered.get("results", [])
    rows = []
    for result in results:
        name = result.get("item", {}).get("name", "?")
        if result.get("failed"):
            rows.append((name, "FAILED", "-", "-", "-", "-"))
            continue
        window = result.get("window") or {}
        kept = "-" if not window else "kept" if window["kept"] else "NOT kept"
        state = "made" if result.get("changed") else "was there already"
        if "plan" in result:
            state = "would be made"
        rows.append(
            (
                name,
                state,
                result.get("set", "-"),
                human_bytes(result["size_bytes"]) if "size_bytes" in result else "-",
                f"{result['duration_seconds']:.0f} s" if "duration_seconds" in result else "-",
                kept,
            )
        )
    lines = table(rows, ("instance", "full backup", "set", "size", "took", "window"))
    for result in results:
        if result.get("failed"):
            lines.append(f"{result.get('item', {}).get('name', '?')}: {result.get('msg', 'failed without a reason')}")
        lines += [f"note on {result['item']['name']}: {warning}" for warning in result.get("notes") or []]
    return lines


def cycle_report(result: Mapping[str, Any], zone: str) -> list[str]:
    """Return the table of a log cycle (B3)."""
    rows = []
    notes = []
    for name, one in result.get("instances", {}).items():
        lag = f"{one['lag_seconds']:.0f} s, {human_bytes(one['lag_bytes'])}" if "lag_seconds" in one else "-"
        rows.append((name, one["result"], len(one["archived"]), local_time(one.get("recoverable_to"), zone), lag))
        for finding in one.get("findings", []):
            notes.append(f"FINDING on {name}: {finding['file']}: {finding['message']} {finding['remedy']}")
        if one.get("message"):
            notes.append(f"{name}: {one['message']}")
        notes += [f"note on {name}: {warning}" for warning in one.get("warnings") or []]
    notes += [f"note: {note}" for note in result.get("notes") or []]
    if not rows and result.get("msg"):
        notes.append(str(result["msg"]))
    return [*table(rows, ("instance", "log cycle", "new logs", "recoverable to", "lag")), *notes]


def verify_report(result: Mapping[str, Any], zone: str) -> list[str]:
    """Return the table of a verification."""
    rows = []
    notes = []
    for name, one in result.get("instances", {}).items():
        holds = sum(1 for each in one["sets"] if each["holds"])
        rows.append(
            (name, "holds" if not one["findings"] else "DOES NOT HOLD", f"{holds} of {len(one['sets'])}", one["logs"])
        )
        for finding in one["findings"]:
            notes.append(f"FINDING on {name}: {finding['file']}: {finding['message']} {finding['remedy']}")
    ledger = result.get("ledger", {})
    if ledger:
        notes.append(
            f"ledger: {ledger['records']} records, "
            + (f"DOES NOT HOLD: {ledger['problem']}" if ledger["problem"] else "holds")
        )
        notes.append(f"ledger head: {ledger['head']}")
    if not rows and result.get("msg"):
        notes.append(str(result["msg"]))
    return [*table(rows, ("instance", "verification", "sets that hold", "logs read")), *notes]


def restore_test_report(result: Mapping[str, Any], zone: str) -> list[str]:
    """Return the table of a test restore (T1, T2); the whole of it stands in the report's own file."""
    rows = []
    notes = []
    for name, one in result.get("instances", {}).items():
        content, rto, rpo = one.get("content", {}), one.get("rto", {}), one.get("rpo", {})
        source = one.get("source", one)
        rows.append(
            (
                name,
                one["result"],
                source.get("set", "-"),
                source.get("logs", "-"),
                f"{rto['actual_seconds']:.0f} s" if rto else "-",
                local_time(rpo.get("recoverable_to"), zone),
                content.get("tables", "-"),
                content.get("rows_in_all", "-"),
            )
        )
        for finding in one.get("findings", []):
            where = f"{finding['file']}: " if finding["file"] else ""
            notes.append(f"FINDING on {name}: {where}{finding['message']} {finding['remedy']}")
        notes += _recovery_point(name, one.get("resolved"), zone)
        if "needed_bytes" in one:
            notes.append(f"{name}: the copy would take about {human_bytes(one['needed_bytes'])}")
        notes += [f"note on {name}: {note}" for note in one.get("notes") or []]
    notes += [f"{name}: not tested: {reason}" for name, reason in (result.get("left_out") or {}).items()]
    notes += [f"note: {note}" for note in result.get("notes") or []]
    if not rows and result.get("msg"):
        notes.append(str(result["msg"]))
    elif not rows and result.get("left_out"):
        notes.append("There is no new full backup to test.")
    if result.get("report"):
        notes.append(f"report: {result['report']} (it waits for a staff member's attestation: ledger_entry)")
    if result.get("ledger_head"):
        notes.append(f"ledger head: {result['ledger_head']}")
    headings = ("instance", "test restore", "set", "logs", "answered in", "recoverable to", "tables", "rows")
    return [*table(rows, headings), *notes]


def checklist_report(result: Mapping[str, Any], zone: str) -> list[str]:
    """Return the check-list as it was written (B5), and where."""
    if not result.get("report_text"):
        return [str(result.get("msg", "no check-list was written"))]
    notes = [f"note: {note}" for note in result.get("notes") or []]
    where = [f"written to {result['report']}"] if "ledger_head" in result else ["check mode: nothing was written"]
    return [*str(result["report_text"]).splitlines(), *notes, *where]


def status_lines(result: Mapping[str, Any], zone: str) -> list[str]:
    """Return the status (design: could the hospital recover now?)."""
    return status_report(result, zone).splitlines() if "status" in result else [str(result.get("msg", "not known"))]


def _recovery_point(name: str, resolved: Mapping[str, Any] | None, zone: str) -> list[str]:
    """Return which moment was brought back, where one inside the logs was asked for."""
    if not resolved or resolved["asked"]["kind"] not in ("time", "gtid", "lsn"):
        return []
    sides = [(key, resolved[key]) for key in ("before", "after")]
    before, after = (
        f"{each['position'] or '-'} ({local_time(each['moment'], zone)})" if each else "none" for _key, each in sides
    )
    return [f"{name}: the last transaction in the copy is {before}; the first that is not in it: {after}"]
