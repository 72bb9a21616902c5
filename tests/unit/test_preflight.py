# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight says of hosts, from what they answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.inspect import (
    SEES_EVERYTHING,
    SHIPS_LOGS,
)
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils import preflight

ROLE = Path(preflight.__file__).parents[2] / "roles/production"
WANTED: dict[str, Any] = {
    "instance": "simrs",
    "host": "db1",
    "settings": {"binlog_format": "ROW", "sync_binlog": 1},
    "local": False,
    "physical": True,
    "prepared": True,
    "certificate": "/c.pem",
    "ship_user": "ship",
    "backup_user": "copy",
    "addresses": ["198.51.100.3"],
}
SHIP, COPY = "'ship'@'198.51.100.3'", "'copy'@'localhost'"


def maria(**changed: str) -> dict[str, dict[str, Any]]:
    """Return what a server that lacks nothing answers, with some variables changed."""
    variables = {
        "log_bin": "ON",
        "binlog_format": "ROW",
        "sync_binlog": "1",
        "bind_address": "*",
        "skip_networking": "OFF",
        "port": "3306",
        "have_ssl": "YES",
        "ssl_cert": "/c.pem",
        "binlog_checksum": "CRC32",
        "innodb_flush_log_at_trx_commit": "1",
    }
    return {
        "variable": {**variables, **changed},
        "account": {SHIP: ["ANY"], COPY: [""]},
        "privilege": {SHIP: [*SEES_EVERYTHING, *SHIPS_LOGS], COPY: list(preflight.COPIES_FILES)},
    }


def levels(findings: list[dict[str, str]]) -> dict[str, str]:
    """Return what is not well: check and level."""
    return {each["check"]: each["level"] for each in findings if each["level"] != "ok"}


def test_a_good_mariadb_has_nothing_to_tell() -> None:
    assert levels(preflight.mariadb_findings(maria(), WANTED)) == {}


@pytest.mark.parametrize(
    ("changed", "check", "level"),
    [
        ({"log_bin": "OFF"}, "binary log", "restart"),
        ({"binlog_format": "MIXED"}, "binlog_format", "problem"),
        ({"sync_binlog": "0"}, "sync_binlog", "problem"),
        ({"bind_address": "127.0.0.1"}, "network", "restart"),
        ({"skip_networking": "ON"}, "network", "restart"),
        ({"have_ssl": "DISABLED"}, "TLS", "restart"),
        ({"ssl_cert": "/other.pem"}, "TLS", "restart"),
        ({"binlog_checksum": "NONE"}, "binlog_checksum", "note"),
        ({"innodb_flush_log_at_trx_commit": "2"}, "innodb_flush_log_at_trx_commit", "note"),
    ],
)
def test_each_lack_of_a_mariadb_is_a_finding(changed: dict[str, str], check: str, level: str) -> None:
    findings = preflight.mariadb_findings(maria(**changed), WANTED)
    assert levels(findings) == {check: level}
    assert all(each["remedy"] for each in findings if each["level"] != "ok")


@pytest.mark.parametrize(
    ("account", "privilege"), [(SHIP, "TRIGGER"), (SHIP, "REPLICATION SLAVE"), (COPY, "LOCK TABLES")]
)
def test_a_missing_privilege_is_named(account: str, privilege: str) -> None:
    look = maria()
    look["privilege"][account].remove(privilege)
    (finding,) = [each for each in preflight.mariadb_findings(look, WANTED) if each["level"] == "problem"]
    assert finding["says"] == f"{account} lacks {privilege}"


def test_an_account_without_tls_or_without_the_account_is_found() -> None:
    look = maria()
    look["account"][SHIP] = [""]
    assert levels(preflight.mariadb_findings(look, WANTED)) == {"account": "problem"}
    del look["account"][SHIP]
    assert levels(preflight.mariadb_findings(look, WANTED)) == {"account": "problem"}


def test_a_single_server_needs_neither_network_nor_tls() -> None:
    look = maria(bind_address="127.0.0.1", have_ssl="DISABLED")
    look["account"] = {"'ship'@'localhost'": [""], COPY: [""]}
    look["privilege"]["'ship'@'localhost'"] = look["privilege"].pop(SHIP)
    assert levels(preflight.mariadb_findings(look, {**WANTED, "local": True})) == {}


def test_the_role_grants_what_preflight_asks_for() -> None:
    values = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    assert set(values["production_mariadb_ship_privileges"]) == {*SEES_EVERYTHING, *SHIPS_LOGS}
    assert set(values["production_mariadb_backup_privileges"]) == set(preflight.COPIES_FILES)


def postgres(**changed: Any) -> dict[str, dict[str, Any]]:
    """Return what a PostgreSQL that lacks nothing answers, with some tags changed."""
    look: dict[str, dict[str, Any]] = {
        "variable": {
            "wal_level": "replica",
            "max_wal_senders": "10",
            "max_replication_slots": "10",
            "listen_addresses": "*",
            "port": "5432",
            "ssl": "on",
            "ssl_cert_file": "/c.pem",
        },
        "setting": {"max_slot_wal_keep_size": ["10GB"]},
        "hba": {"1": ["hostssl"]},
        "role": {"REPLICATION": ["true"], "pg_switch_wal()": ["true"]},
        "connect": {"postgres": ["true"]},
    }
    for tag, values in changed.items():
        look[tag] = {**look.get(tag, {}), **values} if values else {}
    return look


PG_WANTED = {**WANTED, "instance": "lis", "settings": {"max_slot_wal_keep_size": "10GB"}}


def test_a_good_postgresql_has_nothing_to_tell() -> None:
    assert levels(preflight.postgresql_findings(postgres(), PG_WANTED)) == {}


@pytest.mark.parametrize(
    ("changed", "check", "level"),
    [
        ({"variable": {"wal_level": "minimal"}}, "wal_level", "restart"),
        ({"variable": {"max_wal_senders": "2"}}, "max_wal_senders", "restart"),
        ({"variable": {"max_replication_slots": "1"}}, "max_replication_slots", "restart"),
        ({"variable": {"listen_addresses": "localhost"}}, "network", "restart"),
        ({"variable": {"ssl": "off"}}, "TLS", "problem"),
        ({"variable": {"ssl_cert_file": "snakeoil"}}, "TLS", "problem"),
        ({"pending": {"listen_addresses": ["*"]}}, "pending restart", "restart"),
        ({"hba error": {"7": ["invalid"]}}, "pg_hba.conf", "problem"),
        ({"hba": None}, "pg_hba.conf", "problem"),
        ({"role": {"REPLICATION": ["false"]}}, "account", "problem"),
        ({"role": None}, "account", "problem"),
        ({"connect": {"radiologi": ["false"]}}, "account", "problem"),
    ],
)
def test_each_lack_of_a_postgresql_is_a_finding(changed: dict[str, Any], check: str, level: str) -> None:
    assert levels(preflight.postgresql_findings(postgres(**changed), PG_WANTED)) == {check: level}


def test_what_a_server_answers_is_read_by_tag() -> None:
    look = preflight.server_look("variable\tLOG_BIN\tON\nprivilege\t'a'@'b'\tSELECT\nprivilege\t'a'@'b'\tEVENT\nodd\n")
    assert look == {
        "variable": {"log_bin": "ON"},
        "privilege": {"'a'@'b'": ["SELECT", "EVENT"]},
        "odd": {"": [""]},
    }
    assert preflight.server_look("hba error|7|a|b\ncoming|x|1\ncoming|x|2", "|") == {
        "hba error": {"7": ["a|b"]},
        "coming": {"x": "2"},
    }


INSTANCES: dict[str, Any] = {
    "simrs": {"host": "db1", "engine": "mariadb"},
    "lis": {"host": "db1", "engine": "postgresql", "cluster": "15/main"},
    "berkas": {"host": "db1", "engine": "files", "paths": ["/srv"]},
}
GOOD = "letters0123456789"
CREDENTIALS: dict[str, Any] = {
    "simrs": {"ship": {"user": "ship", "password": GOOD}, "backup": {"user": "copy", "password": GOOD}},
    "lis": {"ship": {"user": "ship", "password": GOOD}},
}
GROUPS = {"production": ["db1"], "backup": ["b1"]}


def test_a_good_inventory_lacks_nothing() -> None:
    assert preflight.inventory_problems(INSTANCES, CREDENTIALS, GROUPS) == []


@pytest.mark.parametrize(
    "password",
    ["short", 'with"quote-0123', "with space 01234", "CHANGE-ME-0123456", "back\\slash0123", "dash#0123456789"],
)
def test_a_password_that_a_file_would_misread_is_refused_and_not_shown(password: str) -> None:
    credentials = {**CREDENTIALS, "lis": {"ship": {"user": "ship", "password": password}}}
    (problem,) = preflight.inventory_problems(INSTANCES, credentials, GROUPS)
    assert "dbc_credentials.lis.ship.password" in problem
    assert password not in problem


@pytest.mark.parametrize(
    ("instances", "credentials", "groups", "said"),
    [
        (INSTANCES, {}, GROUPS, "dbc_credentials.simrs.ship has no user and password"),
        (INSTANCES, {**CREDENTIALS, "sirms": {}}, GROUPS, "sirms, which dbc_instances does not have"),
        (INSTANCES, CREDENTIALS, {**GROUPS, "backup": ["b1", "b2"]}, "The group backup has 2 hosts"),
        (INSTANCES, CREDENTIALS, {**GROUPS, "production": []}, "not in the group production"),
        ({"lis": {"host": "db1", "engine": "postgresql"}}, {"lis": CREDENTIALS["lis"]}, GROUPS, "no cluster"),
        ({"berkas": {"host": "db1", "engine": "files"}}, {}, GROUPS, "no paths"),
        (
            {"simrs": INSTANCES["simrs"]},
            {"simrs": {"ship": CREDENTIALS["lis"]["ship"], "backup": CREDENTIALS["lis"]["ship"]}},
            GROUPS,
            "same user",
        ),
        (
            {"lis": INSTANCES["lis"]},
            {"lis": {"ship": {"user": "O'Brien", "password": GOOD}}},
            GROUPS,
            "no plain name",
        ),
    ],
)
def test_what_an_inventory_lacks_is_said(instances: Any, credentials: Any, groups: Any, said: str) -> None:
    assert any(said in problem for problem in preflight.inventory_problems(instances, credentials, groups))


def test_a_host_that_was_not_reached_or_failed_is_named_with_what_is_on_it() -> None:
    hostvars: dict[str, Any] = {
        "db1": {},
        "b1": {"dbc_reached": ["backup"], "dbc_failures": ["Install the tools: no room"], "backup_findings": []},
    }
    findings = preflight.site_findings(hostvars, ["b1", "db1"], INSTANCES)
    said = preflight.forbidding(findings, ["failed"])
    assert said == [
        "b1: set-up: Install the tools: no room",
        "db1: reachable: Ansible cannot log in; on it: simrs, lis, berkas",
    ]


def test_the_table_shows_every_finding_and_each_remedy_once() -> None:
    finding = {"instance": "a", "host": "h", "check": "x", "level": "problem", "says": "bad", "remedy": "Do it."}
    good = {**finding, "check": "y", "level": "ok", "says": "good", "remedy": ""}
    long = {**finding, "check": "z", "says": "very " * 30, "remedy": "Cut it."}
    lines = preflight.findings_table([finding, {**finding, "instance": "b"}, good, long])
    assert sum("PROBLEM" in line for line in lines) == 3
    assert "- a (x), b (x): Do it." in lines
    assert any(line.startswith("- a (z): very very") and line.endswith("Cut it.") for line in lines)
    assert not any("good" in line for line in preflight.findings_table([finding, good], False))
    assert preflight.findings_table([good], False) == ["Nothing to report."]


def test_what_full_backup_refuses_becomes_a_problem_each() -> None:
    refusal = {
        "msg": "A. B. Do a. Do b.",
        "details": {"problems": [{"message": "A.", "remedy": "Do a."}, {"message": "B.", "remedy": "Do b."}]},
    }
    assert [each["says"] for each in preflight.backup_findings(refusal, "simrs", "b1")] == ["A.", "B."]
    (only,) = preflight.backup_findings({"msg": "No way. Try.", "remedy": "Try."}, "simrs", "b1")
    assert (only["level"], only["says"], only["remedy"]) == ("problem", "No way.", "Try.")
    fine = {"plan": {"needed_bytes": 1, "free_bytes": 2}, "objects": {"tables": 3}, "notes": ["careful"]}
    assert [each["level"] for each in preflight.backup_findings(fine, "simrs", "b1")] == ["ok", "ok", "note"]


@pytest.mark.parametrize(
    ("result", "level"),
    [
        ({"msg": "No way. Try.", "remedy": "Try."}, "problem"),
        ({"changes": ["start x"], "running": False, "service": "x"}, "problem"),
        ({"changes": [], "running": True, "service": "x", "status": {"state": "streaming"}}, "ok"),
        ({"changes": ["change y"], "running": True, "service": "x"}, "note"),
        ({"changes": ["change y"], "running": True, "service": "x", "run": "1"}, "ok"),
    ],
)
def test_a_receiver_that_does_not_run_is_a_problem(result: dict[str, Any], level: str) -> None:
    (finding,) = preflight.receiver_findings(result, "simrs", "b1")
    assert finding["level"] == level


SEEN: dict[str, Any] = {
    "host": "b1",
    "repository": "/srv/dbcontinuity",
    "marker": True,
    "recipients": ["age1own", "age1escrow"],
    "own": "age1own",
    "crypt": "yes",
    "shared": [],
    "clock": True,
    "missing": [],
}


@pytest.mark.parametrize(
    ("changed", "check", "level"),
    [
        ({"marker": False}, "repository", "problem"),
        ({"recipients": []}, "encryption", "problem"),
        ({"recipients": ["age1escrow"]}, "encryption", "problem"),
        ({"recipients": ["age1own"]}, "encryption", "note"),
        ({"own": ""}, "encryption", "problem"),
        ({"crypt": "no"}, "file system", "note"),
        ({"clock": False}, "clock", "note"),
        ({"shared": ["b1"]}, "isolation", "note"),
        ({"missing": ["db1"]}, "SSH", "problem"),
    ],
)
def test_each_lack_of_a_backup_host_is_a_finding(changed: dict[str, Any], check: str, level: str) -> None:
    assert levels(preflight.repository_findings(SEEN)) == {}
    assert levels(preflight.repository_findings({**SEEN, **changed})) == {check: level}


def test_a_certificate_near_its_end_and_a_full_disk_are_told() -> None:
    seen = {"instance": "a", "host": "h", "certificate": "/c", "today": "2026-11-23", "folder": "/var", "size": 1000}
    assert levels(preflight.host_findings({**seen, "certificate_until": "2027-11-23", "free": 500})) == {}
    assert levels(preflight.host_findings({**seen, "certificate_until": "2026-12-01", "free": 50})) == {
        "certificate": "note",
        "space on production": "note",
    }
    assert levels(preflight.host_findings({**seen, "certificate_until": "2026-11-22", "free": 500})) == {
        "certificate": "problem"
    }


def test_addresses_come_from_what_the_inventory_says() -> None:
    hostvars = {"a": {"dbc_address": "192.0.2.1", "ansible_host": "x"}, "b": {"ansible_host": "192.0.2.2"}, "c": {}}
    assert preflight.host_addresses(["a", "b", "c"], hostvars) == ["192.0.2.1", "192.0.2.2", "c"]
