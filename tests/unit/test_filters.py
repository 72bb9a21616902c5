# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From inventory to modules, from results to what people read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.inventory import (
    due_slot,
    human_bytes,
    instance_arguments,
    local_time,
    select_instances,
)
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.progress_action import sentence
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.report import (
    cycle_report,
    full_backup_report,
    run_failures,
    run_report,
    status_report,
    table,
    verify_report,
)

SATURDAY = {"day": "Saturday", "start": "12:00"}


@pytest.mark.parametrize(
    ("activity", "zone", "now", "due"),
    [
        (SATURDAY, "Asia/Jakarta", "2026-09-19T12:00:00+07:00", "2026-09-19T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-19T11:59:59+07:00", "2026-09-12T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-19T05:00:00Z", "2026-09-19T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-20T00:00:00+07:00", "2026-09-19T12:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2026-09-25T23:59:00+07:00", "2026-09-19T12:00:00+07:00"),
        # Already Saturday in Jakarta, still Friday in UTC.
        ({"day": "Saturday", "start": "01:00"}, "Asia/Jakarta", "2026-09-18T18:30:00Z", "2026-09-19T01:00:00+07:00"),
        (SATURDAY, "Asia/Jakarta", "2027-01-01T00:00:00+07:00", "2026-12-26T12:00:00+07:00"),
        ({"day": "Monday", "start": "00:00"}, "Asia/Jakarta", "2026-09-21T00:00:00+07:00", "2026-09-21T00:00:00+07:00"),
        # The slot keeps its wall time over a change of clocks, and carries the offset of its own day.
        (
            {"day": "Saturday", "start": "12:00"},
            "Europe/Berlin",
            "2026-03-30T08:00:00+02:00",
            "2026-03-28T12:00:00+01:00",
        ),
        (
            {"day": "Sunday", "start": "02:30"},
            "Europe/Berlin",
            "2026-10-25T12:00:00+01:00",
            "2026-10-25T02:30:00+02:00",
        ),
    ],
)
def test_the_newest_slot_that_is_due(activity: dict[str, str], zone: str, now: str, due: str) -> None:
    assert due_slot(activity, zone, now) == due


def test_a_slot_is_the_same_all_week() -> None:
    slots = {
        due_slot(SATURDAY, "Asia/Jakarta", f"2026-09-{day:02d}T{hour:02d}:30:00+07:00")
        for day in range(20, 26)
        for hour in range(24)
    }
    assert slots == {"2026-09-19T12:00:00+07:00"}


def test_without_a_moment_it_is_the_present_one() -> None:
    assert "T12:00:00+07:00" in due_slot(SATURDAY, "Asia/Jakarta")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{day: Saturday, start: 12:30}", "'750' is not HH:MM. Quote it in YAML"),
        ("{day: Saturday, start: '24:00'}", "'24:00' is not HH:MM"),
        ("{day: Saturday, start: '12:60'}", "'12:60' is not HH:MM"),
        ("{day: Saturday, start: '12'}", "'12' is not HH:MM"),
        ("{day: Saturday, start: '²:00'}", "is not HH:MM"),
        ("{day: Saturday}", "'' is not HH:MM"),
        ("{day: sabtu, start: '12:00'}", "'sabtu' is not known. Use one of: Monday"),
        ("{start: '12:00'}", "The day '' is not known"),
    ],
)
def test_what_yaml_made_of_a_time_is_refused(text: str, why: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        due_slot(yaml.safe_load(text), "Asia/Jakarta")
    assert why in str(caught.value)


def test_yaml_reads_a_quoted_time_as_it_is_written() -> None:
    assert yaml.safe_load("12:30") == 750
    assert yaml.safe_load("'12:30'") == "12:30"


@pytest.mark.parametrize("zone", ["Asia/Jakatra", "", "../x", "Asia"])
def test_an_unknown_zone_is_named(zone: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"time zone .* is not known"):
        due_slot(SATURDAY, zone)


INSTANCES: dict[str, dict[str, Any]] = {
    "simrs": {"host": "db1", "engine": "mariadb"},
    "lab": {"host": "backup1", "engine": "postgresql", "parallel": 4},
    "scan": {"host": "db1", "engine": "files", "address": "198.51.100.9", "agent": {"port": 2222}},
}


def test_instances_are_chosen_by_name() -> None:
    assert list(select_instances(INSTANCES)) == ["simrs", "lab", "scan"]
    assert list(select_instances(INSTANCES, " scan, simrs ,")) == ["simrs", "scan"]


@pytest.mark.parametrize(
    ("instances", "only", "why"),
    [
        ({}, "", "dbc_instances names no instance"),
        (INSTANCES, "simsr", "dbc_only names simsr, which dbc_instances does not have. It has: lab, scan, simrs"),
        ({"a": "text"}, "", "dbc_instances.a is no mapping"),
        ({"a": {"engine": "mariadb"}}, "", "dbc_instances.a has no host"),
        ({"a": {"host": "x"}}, "", "dbc_instances.a has no engine"),
        ({"a": {"host": "x", "engine": "mysql"}}, "", "'mysql'. Use one of: mariadb, postgresql, files"),
        ({"a": {"host": "x", "engine": "mariadb", "passwort": "y"}}, "", "has passwort, which is not known"),
    ],
)
def test_an_instance_that_is_described_wrongly_is_named(instances: Any, only: str, why: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        select_instances(instances, only)
    assert why in str(caught.value)


def test_what_the_modules_are_told() -> None:
    hostvars = {"db1": {"ansible_host": "198.51.100.7"}, "backup1": {}}
    simrs, lab, scan = instance_arguments(INSTANCES, hostvars, "backup1")
    assert simrs["agent"] == {"transport": "ssh", "host": "198.51.100.7"}
    assert lab == {"name": "lab", "engine": "postgresql", "parallel": 4, "agent": {"transport": "local"}}
    assert scan["agent"] == {"transport": "ssh", "host": "198.51.100.9", "port": 2222}
    with pytest.raises(AnsibleFilterError, match="on the host 'db1', which the inventory does not have"):
        instance_arguments(INSTANCES, {"backup1": {}}, "backup1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_500_000, "1.4 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_bytes_as_people_read_them(value: float, text: str) -> None:
    assert human_bytes(value) == text


def test_moments_as_the_site_reads_them() -> None:
    assert local_time("2026-09-19T05:00:00Z", "Asia/Jakarta") == "2026-09-19 12:00:00 WIB"
    assert local_time(None, "Asia/Jakarta") == local_time("", "Asia/Jakarta") == "-"


def test_the_sentence_on_progress() -> None:
    assert sentence({"phase": "copying", "done_bytes": 0}) == "  ... copying: 0 B"
    state = {"phase": "copying", "done_bytes": 2**30, "percent": 50, "bytes_per_second": 2**20, "seconds_left": 7}
    assert sentence(state) == "  ... copying: 1.0 GiB, 50 %, 1.0 MiB/s, about 7 s left"


def test_columns_are_aligned() -> None:
    assert table([("a", 1), ("long", 22)], ("name", "n")) == ["name  n", "----  --", "a     1", "long  22"]


MADE = {
    "item": {"name": "simrs"},
    "changed": True,
    "set": "20260919T050000Z-0001",
    "size_bytes": 1024,
    "duration_seconds": 12.3,
    "window": {"kept": False},
    "notes": ["the binary log is off"],
}


def test_the_table_of_full_backups() -> None:
    lines = full_backup_report(
        {
            "results": [
                MADE,
                {**MADE, "item": {"name": "lab"}, "changed": False, "window": {"kept": True}, "notes": []},
                {"item": {"name": "scan"}, "changed": True, "plan": {}, "notes": []},
                {"item": {"name": "gone"}, "failed": True, "msg": "No answer."},
            ]
        },
        "Asia/Jakarta",
    )
    text = "\n".join(lines)
    assert "simrs     made               20260919T050000Z-0001  1.0 KiB  12 s  NOT kept" in text
    assert "lab       was there already" in text
    assert "scan      would be made" in text
    assert "gone      FAILED" in text
    assert "gone: No answer." in lines
    assert "note on simrs: the binary log is off" in lines


def test_a_host_that_did_not_run_says_so() -> None:
    hostvars = {
        "ran": {"dbc_zone": "Asia/Jakarta", "r": {"results": [MADE]}},
        "not": {"dbc_zone": "Asia/Jakarta"},
        "dead": {"dbc_zone": "Asia/Jakarta", "r": {"unreachable": True, "msg": "no route"}},
    }
    text = str(run_report(hostvars, ["ran", "not", "dead"], "r", "full_backup"))
    assert "not: NOT RUN: the play did not get that far" in text
    assert "dead: NOT RUN: no route" in text
    assert run_failures(hostvars, ["ran"], "r") == []
    assert run_failures(hostvars, ["not", "dead"], "r") == ["not: not run.", "dead: no route"]


@pytest.mark.parametrize(
    ("result", "failures"),
    [
        ({"results": [{"item": {"name": "a"}, "failed": True, "msg": "x"}]}, ["h, a: x"]),
        ({"failed": True}, ["h: failed without a reason"]),
        ({"failed": True, "results": [{"failed": True, "item": "text", "msg": "y"}]}, ["h: y"]),
        ({"skipped": True, "results": []}, ["h: not run."]),
        ({"skipped": True}, ["h: not run."]),
        ({"results": [{"skipped": True}]}, ["h: skipped, although it was due."]),
        ({"changed": True}, []),
    ],
)
def test_whatever_did_not_succeed_is_a_failure(result: dict[str, Any], failures: list[str]) -> None:
    assert run_failures({"h": {"r": result}}, ["h"], "r") == failures


def test_no_host_at_all_is_a_failure() -> None:
    assert "No host is in the group backup" in run_failures({}, [], "r")[0]


FINDING = {"code": "missing-log", "file": "bin.000004", "message": "It is gone.", "remedy": "Make a new one."}


def test_the_table_of_a_cycle() -> None:
    lines = cycle_report(
        {
            "instances": {
                "simrs": {
                    "result": "good",
                    "archived": [1, 2],
                    "recoverable_to": "2026-09-19T05:00:00Z",
                    "lag_seconds": 3.4,
                    "lag_bytes": 2048,
                    "warnings": ["w"],
                },
                "lab": {"result": "broken", "archived": [], "findings": [FINDING], "message": "Broken."},
            },
            "notes": ["The ledger has 1 damaged line(s)."],
        },
        "Asia/Jakarta",
    )
    assert "simrs     good       2         2026-09-19 12:00:00 WIB  3 s, 2.0 KiB" in lines
    assert "FINDING on lab: bin.000004: It is gone. Make a new one." in lines
    assert {"lab: Broken.", "note on simrs: w", "note: The ledger has 1 damaged line(s)."} <= set(lines)
    assert cycle_report({"msg": "it failed"}, "Asia/Jakarta")[-1] == "it failed"


def test_the_table_of_a_verification() -> None:
    lines = verify_report(
        {
            "instances": {
                "simrs": {"sets": [{"holds": True}, {"holds": False}], "logs": 7, "findings": [FINDING]},
                "lab": {"sets": [{"holds": True}], "logs": 0, "findings": []},
            },
            "ledger": {"records": 9, "problem": None, "head": "9:abc"},
        },
        "Asia/Jakarta",
    )
    assert "simrs     DOES NOT HOLD  1 of 2          7" in lines
    assert "lab       holds          1 of 1          0" in lines
    assert {"ledger: 9 records, holds", "ledger head: 9:abc"} <= set(lines)
    bad = verify_report({"ledger": {"records": 1, "problem": "line 2", "head": ""}, "msg": "m"}, "Asia/Jakarta")
    assert {"ledger: 1 records, DOES NOT HOLD: line 2", "m"} <= set(bad)


def test_the_page_of_the_status() -> None:
    held = {"from": "2026-09-19T05:00:00Z", "to": "2026-09-19T06:00:00Z", "by_logs": True}
    last = {"set": "S", "size_bytes": 1024, "point_in_time_recovery": True}
    whole = {"whole": True, "state": {"lag_seconds": 2.0}, "findings": []}
    base: dict[str, Any] = {
        "recoverable": [held],
        "sets": [last],
        "lineages": [whole],
        "damaged_sets": [],
        "damaged_lineages": [],
    }
    info = {
        "free_bytes": 2**30,
        "ledger_head": "9:abc",
        "notes": ["The ledger has 1 damaged line(s)."],
        "instances": {
            "good": base,
            "broken": {**base, "lineages": [{**whole, "whole": False, "findings": [FINDING]}]},
            "damaged": {**base, "damaged_sets": ["its manifest is gone"]},
            "chain": {**base, "damaged_lineages": ["its opening is gone"]},
            "nologs": {**base, "recoverable": [{**held, "by_logs": False}]},
            "logical": {
                **base,
                "recoverable": [{**held, "by_logs": False}],
                "sets": [{**last, "point_in_time_recovery": False}],
                "lineages": [],
            },
        },
    }
    text = str(status_report(info, {name: {} for name in [*info["instances"], "never"]}, "Asia/Jakarta"))  # type: ignore[misc]
    for name, colour in (
        ("good", "GREEN"),
        ("broken", "RED"),
        ("damaged", "RED"),
        ("chain", "RED"),
        ("nologs", "AMBER"),
    ):
        assert f"{name:<8}  {colour}" in text, name
    assert "logical   AMBER" in text
    assert "never     RED" in text
    assert "never: there is no full backup" in text
    assert "broken: bin.000004: It is gone." in text
    assert "damaged: its manifest is gone" in text
    assert "chain: its opening is gone" in text
    assert "note: The ledger has 1 damaged line(s)." in text
    assert "nologs: no log was archived" in text
    assert "logical: its backups have no recovery to a point in time" in text
    assert "free space: 1.0 GiB" in text
