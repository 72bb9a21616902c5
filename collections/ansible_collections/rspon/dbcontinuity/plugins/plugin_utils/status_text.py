# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status as people read it: could the hospital recover now, and what stands against it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .inventory import human_bytes, local_time
from .report_table import table

_LAST = {"full_backup": "full backup", "log_cycle": "log cycle", "restore_test": "test restore"}
_GOOD = ("done", "late", "out of window")


def status_report(info: Mapping[str, Any], zone: str) -> str:
    """Return the status, a line an instance; one that nothing is held of stands there, too.

    :param info: what the module backup_info returned with ``status``.
    :param zone: of the times printed.
    """
    status = info["status"]
    lines = [f"{status['colour'].upper()}: {_verdict(status)}", ""]
    lines += _held(status["instances"], zone)
    lines += ["", *_done(status["instances"], zone)]
    lines += ["", *_calendar(status, zone)]
    reasons = [(name, each) for name, one in status["instances"].items() for each in one["reasons"]]
    reasons += [("", each) for each in status["reasons"]]
    reasons.sort(key=lambda each: each[1]["colour"] != "red")
    if reasons:
        lines += ["", *(_reason(name, each) for name, each in reasons)]
    lines += ["", *(f"note: {note}" for note in info.get("notes") or []), _room(status)]
    lines.append(f"ledger head: {status['ledger_head']}")
    return "\n".join(lines)


def status_failures(hostvars: Mapping[str, Any], hosts: Sequence[str], variable: str) -> list[str]:
    """Return what is red, one sentence each; a host that could not be asked is.

    :param variable: the name under which the play registered the result of backup_info.
    """
    if not hosts:
        return ["No host is in the group backup: give the inventory with -i."]
    found = []
    for host in hosts:
        result = hostvars[host].get(variable) or {}
        if "status" not in result:
            found.append(f"{host}: {result.get('msg', 'the play did not get that far')}")
            continue
        status = result["status"]
        for name, one in [("", status), *status["instances"].items()]:
            where = f"{host}, {name}" if name else host
            found += [f"{where}: {each['message']}" for each in one["reasons"] if each["colour"] == "red"]
    return found


def _verdict(status: Mapping[str, Any]) -> str:
    count = dict.fromkeys(("green", "amber", "red"), 0)
    for one in status["instances"].values():
        count[one["colour"]] += 1
    return ", ".join(
        f"{number} {'instance' if number == 1 else 'instances'} {colour}" for colour, number in count.items()
    )


def _held(instances: Mapping[str, Mapping[str, Any]], zone: str) -> list[str]:
    rows = []
    for name, one in instances.items():
        held, lag = one["source"] is not None, one["lag_seconds"]
        rows.append(
            (
                name,
                one["colour"].upper(),
                _short(one["recoverable_from"], zone) if held else "nothing",
                local_time(one["recoverable_to"], zone) if held else "nothing",
                f"{lag:.0f} s" if lag is not None else "-",
                _back_in(one["back_in"]),
            )
        )
    return table(rows, ("instance", "now", "recoverable from", "recoverable to", "lag", "back in"))


def _back_in(back: Mapping[str, Any] | None) -> str:
    """Return how long it takes to have an instance back; what was not measured is marked as a guess."""
    if back is None:
        return "-"
    seconds = back["seconds"]
    text = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return text if back["measured"] else f"~{text}"


def _done(instances: Mapping[str, Mapping[str, Any]], zone: str) -> list[str]:
    rows = []
    for name, one in instances.items():
        cells = []
        for activity in _LAST:
            last = one["last"][activity]
            if last is None:
                cells.append("never")
            else:
                failed = "" if last["result"] == "succeeded" else f" {last['result'].upper()}"
                cells.append(f"{_short(last['started_at'], zone)}{failed}")
        source = one["source"]
        cells.append(f"{source['set']} and {source['logs']} logs" if source else "-")
        rows.append((name, *cells))
    return table(rows, ("instance", *(f"last {words}" for words in _LAST.values()), "out of"))


def _calendar(status: Mapping[str, Any], zone: str) -> list[str]:
    calendar = status["calendar"]
    if not calendar["installed"]:
        return ["No calendar is installed on this host: nothing is due, nothing runs by itself. Run the playbook site."]
    rows = []
    for activity, times in calendar["activities"].items():
        states = [one["due"][activity]["state"] for one in status["instances"].values() if activity in one["due"]]
        states += [times["state"]] if times["state"] else []
        good = sum(1 for state in states if state in _GOOD)
        rows.append(
            (
                activity.replace("_", " "),
                _short(times["last_due"], zone),
                f"{good} of {len(states)}" if states else "-",
                _short(times["next_due"], zone),
            )
        )
    lines = table(rows, ("activity", "last due", "done", "next due"))
    if not calendar["recorded"]:
        lines.append("This calendar is not in the ledger yet: run the playbook site.")
    return lines


def _reason(name: str, each: Mapping[str, Any]) -> str:
    where = f"{name}: " if name else ""
    return f"{each['colour'].upper():<5}  {where}{each['message']} {each['remedy']}".rstrip()


def _room(status: Mapping[str, Any]) -> str:
    free, days = human_bytes(status["free_bytes"]), status["days_left"]
    if days is not None:
        return (
            f"free space: {free}, {days:.0f} days at the present rate of {human_bytes(status['bytes_per_day'])} a day"
        )
    known = "it does not shrink" if status["bytes_per_day"] is not None else "its rate is not known yet"
    return f"free space: {free}; {known}"


def _short(moment: str | None, zone: str) -> str:
    return local_time(moment, zone)[:16] if moment else "-"
