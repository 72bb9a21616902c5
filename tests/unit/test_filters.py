# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From inventory to modules, from results to what people read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.inventory import (
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
    verify_report,
)
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.report_table import table

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
