# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook restore asks, tells, and hands on."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.restore import (
    hours_from_now,
    instruction_from_answers,
    restore_agent_config,
    restore_channel,
    restore_plan_text,
    restore_ranges_text,
    restore_target,
)

NOON = "2026-09-19T12:00:00+07:00"


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("", "", ("latest", "")),
        (None, "", ("latest", "")),
        (" Terbaru? ", "", ("time", "Terbaru?")),  # the module says what is wrong with it
        ("latest", "", ("latest", "")),
        ("0-1-1234", "", ("gtid", "0-1-1234")),
        ("0-1-12,1-1-7", "", ("gtid", "0-1-12,1-1-7")),
        ("0/5000148", "", ("lsn", "0/5000148")),
        (NOON, "", ("time", NOON)),
        ("2026-09-19", "", ("time", "2026-09-19")),
        ("", "set", ("set", "")),
    ],
)
def test_a_moment_is_told_by_its_form(text: str, kind: str, target: tuple[str, str]) -> None:
    assert restore_target(text, kind) == {"kind": target[0], "value": target[1]}


def test_the_agent_is_told_debians_places_unless_the_server_or_the_site_says_otherwise() -> None:
    instances: dict[str, dict[str, Any]] = {
        "simrs": {"host": "db", "engine": "mariadb", "restore": {"unit": "mysql@rs.service"}},
        "lis": {"host": "db", "engine": "postgresql", "cluster": "15/main", "port": 5433},
        "berkas": {"host": "db", "engine": "files", "paths": ["/srv/a"]},
    }
    noted = {"datadir": "/data/mysql", "unit": "mariadb.service"}
    assert restore_agent_config(instances, "simrs", noted) == {
        "engine": "mariadb",
        "run_as": "mysql",
        "restore": {"unit": "mysql@rs.service", "datadir": "/data/mysql", "socket": "/run/mysqld/mysqld.sock"},
    }
    places = restore_agent_config(instances, "lis")["restore"]
    assert places["unit"] == "postgresql@15-main.service"
    assert places["datadir"] == "/var/lib/postgresql/15/main"
    assert places["port"] == 5433
    assert restore_agent_config(instances, "berkas") == {"engine": "files", "restore": {}, "paths": ["/srv/a"]}


def test_the_channel_goes_where_the_backup_agent_is() -> None:
    assert restore_channel({"agent": {"transport": "local"}})["transport"] == "local"
    far = restore_channel({"agent": {"transport": "ssh", "host": "db", "port": 2222, "identity_file": "/etc/key"}})
    assert far == {"transport": "ssh", "host": "db", "port": 2222, "user": "dbcontinuity"}


def answers(**said: str) -> dict[str, Any]:
    return {"results": [{"item": {"key": key}, "user_input": value} for key, value in said.items()]}


def test_an_instruction_by_letter_and_by_telephone_is_read_from_answers() -> None:
    letter = instruction_from_answers(answers(head="1005", letter="0012/SIRS", date="2026-09-19", reason="rusak"))
    assert letter["letter"] == {"number": "0012/SIRS", "date": "2026-09-19"}
    assert letter["instructed_by"] == {"id_number": "1005"}
    assert "telephone" not in letter
    told = instruction_from_answers(answers(head="1005", heard="Contoh Satu, 1008", witness="Contoh, S.Kom, 1009"))
    assert told["telephone"] == {
        "heard_by": {"name": "Contoh Satu", "id_number": "1008"},
        "witness": {"name": "Contoh, S.Kom", "id_number": "1009"},
    }


@pytest.mark.parametrize("said", [{}, {"heard": "Contoh"}, {"letter": "1", "hours": "besok"}])
def test_an_answer_that_names_nobody_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(AnsibleFilterError, match="Nothing was touched"):
        instruction_from_answers(answers(**said))


def test_hours_are_counted_in_utc() -> None:
    assert hours_from_now(24, NOON) == "2026-09-20T05:00:00+00:00"


def test_the_ranges_say_so_where_there_are_none() -> None:
    assert "no full backup" in restore_ranges_text({"instance": "simrs", "ranges": []})
    assert "  from here" in restore_ranges_text({"instance": "simrs", "ranges": [{"text": "from here"}]})


def test_the_plan_shows_moment_loss_room_steps_and_what_forbids_it() -> None:
    neighbour = {"moment": "2026-09-19T05:00:00Z", "position": "0-1-7"}
    plan = {
        "scope": ["full"],
        "mode": "replace",
        "resolved": {"moment": "2026-09-19T05:00:01Z", "position": "0-1-7", "before": neighbour, "after": None},
        "set": "20260919T050000Z-01",
        "made_at": "2026-09-19T05:00:00Z",
        "logs": 3,
        "log_bytes": 2048,
        "minutes": {"total": 4.5, "steps": {"replay": 1.0}, "based_on": "run-1"},
        "lost": {"detail": "Everything since noon."},
        "room": [{"host": "production", "path": "/var/lib/mysql", "needed_bytes": 2048, "free_bytes": 1024}],
        "steps": ["stop the server"] * 10,
        "remarks": ["a remark"],
        "problems": ["no room"],
        "plan_sha256": "ab" * 32,
    }
    text = restore_plan_text({"instance": "simrs", "plan": plan}, "Asia/Jakarta")
    for part in (
        "2026-09-19 12:00:01 WIB, 0-1-7",
        "last kept  0-1-7",
        "about 4.5 minutes",
        "Everything since noon.",
        "2.0 KiB needed, 1.0 KiB free",
        " 10. stop the server",
        "FORBIDDEN  no room",
        "ab" * 32,
    ):
        assert part in text
    assert "first lost" not in text
    with pytest.raises(AnsibleFilterError):
        restore_plan_text({"instance": "simrs"}, "Asia/Jakarta")
