# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site makes of calendar and inventory for a host that acts by itself: all that is needed, and no credential."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.calendar import WORK
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.scheduled import (
    scheduled_activities,
    scheduled_crontab,
    scheduled_inventory,
)
from tests.scheduled_support import SCHEDULE
from tests.support import COLLECTION

CALENDAR = {"zone": "Asia/Jakarta", "schedule": SCHEDULE, "scheduler": "systemd"}
CANARY = "canary-inventory-Vb45"


def made(**variables: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "dbc_zone": "Asia/Jakarta",
        "dbc_recipients": [],
        "dbc_scratch_user": "",
        "dbc_instances": {
            "simrs": {"host": "db", "engine": "mariadb", "rpo_minutes": 10, "settings": {"password": CANARY}},
            "berkas": {"host": "one", "engine": "files"},
        },
        **variables,
    }
    hostvars = {
        "db": {"ansible_host": "198.51.100.11", "ansible_password": CANARY, "dbc_credentials": CANARY},
        "one": {"ansible_host": "198.51.100.21", "ansible_become_password": CANARY},
    }
    return scheduled_inventory(values, hostvars, "one", "/usr/bin/python3")


def test_the_inventory_holds_this_host_and_addresses_and_no_credential() -> None:
    inventory = made()
    assert CANARY not in json.dumps(inventory)
    children = inventory["all"]["children"]
    assert children["backup"]["hosts"] == {
        "one": {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
    }
    assert children["production"]["hosts"] == {"db": {"ansible_host": "198.51.100.11"}, "one": {}}
    variables = inventory["all"]["vars"]
    assert variables["dbc_instances"]["simrs"] == {"host": "db", "engine": "mariadb", "rpo_minutes": 10}
    assert "dbc_scratch_user" not in variables
    assert variables["dbc_recipients"] == []


def test_a_private_key_among_the_recipients_is_refused_and_not_repeated() -> None:
    key = "AGE-SECRET-KEY-1" + "Q" * 58
    with pytest.raises(AnsibleFilterError) as refused:
        made(dbc_recipients=[key])
    assert key not in str(refused.value)


def test_the_inventory_has_every_variable_that_a_scheduled_playbook_reads() -> None:
    playbooks = COLLECTION / "playbooks"
    handed_in = set(yaml.safe_load((playbooks / "vars/roles.yml").read_text())["backup_variables"])
    for name in {work.playbook for work in WORK.values()}:
        text = (playbooks / f"{name}.yml").read_text()
        read = set(re.findall(r"\b(dbc_[a-z_]+)", "\n".join(re.findall(r"\{\{.*?\}\}", text, re.S))))
        own = set(re.findall(r"^\s+(?:register: )?(dbc_[a-z_]+):?", text, re.M)) | set(
            re.findall(r"register: (dbc_[a-z_]+)", text)
        )
        # What has a default there may be left out; what the command line gives stands in the playbook's head.
        optional = set(re.findall(r"\b(dbc_[a-z_]+) \| default", text)) | set(re.findall(r"-e (dbc_[a-z_]+)=", text))
        assert read - own - optional <= handed_in, name


def test_each_entry_becomes_a_unit_and_under_awx_the_log_cycle_alone() -> None:
    units = scheduled_activities(CALENDAR)
    assert [each["unit"] for each in units] == [
        "dbcontinuity-full-backup",
        "dbcontinuity-log-cycle",
        "dbcontinuity-restore-test",
    ]
    assert units[0]["on_calendar"] == ["Sat *-*-* 12:00:00 Asia/Jakarta"]
    assert [each["name"] for each in scheduled_activities({**CALENDAR, "scheduler": "awx"})] == ["log_cycle"]
    with pytest.raises(AnsibleFilterError, match="dbc_schedule"):
        scheduled_activities({**CALENDAR, "schedule": {"full_backup": {}}})


def test_the_crontab_runs_each_activity_and_keeps_what_it_says() -> None:
    lines = scheduled_crontab(CALENDAR, "UTC", "/usr/bin/run", "2026-09-19T00:00:00Z")
    full, cycle, test = lines
    assert (
        full == "0 5 * * 6 root /usr/bin/run full_backup 2>&1 | logger --socket-errors=off -t dbcontinuity-full-backup"
    )
    assert cycle.startswith(("*/10 * * * * root ", "0,10,20,30,40,50 * * * * root "))
    assert test.startswith("30 6 * * 5 root ")
    assert all("%" not in line for line in scheduled_crontab(CALENDAR, "Asia/Jakarta", "/usr/bin/run"))
    with pytest.raises(AnsibleFilterError):
        scheduled_crontab(CALENDAR, "Europe/Berlin", "/usr/bin/run", "2026-09-19T00:00:00Z")
