# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full backup of a real MariaDB server by its dump tool."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import logical
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    InputError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_shipping import (
    LogShippingRequest,
    log_shipping,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.status import status
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import find_tool
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.stored import unpack
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.report import cycle_report
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.status_text import status_report
from demo.compare import compare, fingerprint
from demo.process import find_program
from demo.sample import load
from demo.servers import MariaDBServer, workspace
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("malogical") as folder, MariaDBServer(folder / "simrs", fast=True) as running:
        load(running, patients=150, data_directory=False)
        # History, FLOAT beyond six digits, a body with lines that look like the dump's own.
        running.query(
            "CREATE TABLE tarif_sejarah (id INT PRIMARY KEY, harga INT) WITH SYSTEM VERSIONING;"
            "INSERT INTO tarif_sejarah VALUES (1, 100); UPDATE tarif_sejarah SET harga = 200;"
            "CREATE TABLE suhu (id INT PRIMARY KEY, nilai FLOAT, teliti DOUBLE);"
            "INSERT INTO suhu VALUES (1, 37.1234567, 37.1234567);"
            "CREATE USER kasir@localhost; GRANT SELECT (id), UPDATE (nilai) ON simrs.suhu TO kasir@localhost;"
            "GRANT EXECUTE ON FUNCTION simrs.umur TO kasir@localhost",
            "simrs",
        )
        running.execute_script(
            b"DELIMITER ;;\nCREATE PROCEDURE simrs.jebakan()\nBEGIN\n"
            b"CREATE TABLE `palsu` (i INT);\nSELECT '\n/*!50001 VIEW palsu */';\nEND;;\nDELIMITER ;\n"
        )
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


def request(place: Place, server: MariaDBServer, **changes: Any) -> FullBackupRequest:
    values: dict[str, Any] = {
        "instance": place.mariadb("simrs", server, method="logical"),
        "repository": place.repository,
        "protection": place.protection,
    }
    values.update(changes)
    return FullBackupRequest(**values)


def load_by_hand(place: Place, path: Path, commands: list[str], target: MariaDBServer) -> None:
    """Do what the manifest says, and nothing else."""
    for command in commands:
        words = command.replace("KEY", str(place.root / "operations.key"))
        words = re.sub(r"\| mariadb ", f"| mariadb --no-defaults --socket={target.socket} ", words)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", words], cwd=path, capture_output=True, check=False)
        assert done.returncode == 0, (words, done.stderr)


def test_what_is_loaded_into_a_fresh_server_is_what_was_there(place: Place, server: MariaDBServer) -> None:
    made = full_backup(request(place, server), Progress())
    assert made["point_in_time_recovery"] is False
    assert made["lineage"] == ""
    said = " ".join(made["warnings"])
    assert "logical" in said
    assert "not transactional" in said
    assert "simrs.suhu.nilai" in said
    found = Repository.open(place.repository).instance("simrs").read_set(made["set"])
    values = found.manifest.values
    assert [each["name"] for each in values["artefacts"]] == ["accounts.sql.zst.age", "databases.sql.zst.age"]
    before = fingerprint(server, accounts=True)
    with workspace("malogical-copy") as folder, MariaDBServer(folder / "copy", fast=True) as copy:
        load_by_hand(place, found.path, values["read_by_hand"], copy)
        result = compare(before, copy, accounts=True)
        # mariadb-dump writes six digits of a FLOAT; DOUBLE comes back as it was. And it gives the administrator of a new
        # server its right PROXY once more, which changes nothing.
        different = {(one.kind, one.name) for one in result.differences}
        assert different == {("rows", "simrs.suhu"), ("user", "'root'@'localhost'")}, str(result)
        root = next(one for one in result.differences if one.kind == "user")
        assert (root.attribute, set(root.source)) == ("grants", set(root.copy))
        assert copy.value("SELECT CAST(nilai AS DOUBLE) FROM simrs.suhu") != server.value(
            "SELECT CAST(nilai AS DOUBLE) FROM simrs.suhu"
        )
        assert copy.value("SELECT teliti FROM simrs.suhu") == server.value("SELECT teliti FROM simrs.suhu")
    kinds = {kind: before.count(kind) for kind in ("trigger", "event", "view", "sequence", "table", "database")}
    assert {kind: values["objects"][f"{kind}s"] for kind in kinds} == kinds
    assert values["objects"]["routines"] == before.count("procedure") + before.count("function")
    assert values["objects"]["accounts"] > 2


def test_deep_verification_reads_the_dump_whole(place: Place, server: MariaDBServer, tmp_path: Path) -> None:
    wanted = request(place, server)
    made = full_backup(wanted, Progress())
    deep = backup_verify(VerifyRequest([wanted.instance], place.repository, place.protection, level="deep"), Progress())
    assert deep["failed"] == []
    assert deep["instances"]["simrs"]["sets"][0]["deep"]["dump_completed"]
    found = Repository.open(place.repository).instance("simrs").read_set(made["set"])
    for artefact in found.manifest.artefacts:
        unpack(artefact, found.path, place.protection, tmp_path)
    whole = (tmp_path / "databases.sql").read_bytes()
    (tmp_path / "databases.sql").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ContinuityError, match="Dump completed"):
        logical.verify_dump(tmp_path, found.manifest.values)
    (tmp_path / "databases.sql").write_bytes(whole.replace(b"\nCREATE TABLE `pasien` (", b"\n-- ", 1))
    with pytest.raises(ContinuityError, match="tables instead of"):
        logical.verify_dump(tmp_path, found.manifest.values)


@pytest.mark.parametrize("privilege", ["TRIGGER", "SHOW VIEW", "EVENT", "SELECT"])
def test_an_account_from_which_the_server_would_hide_objects_is_refused(
    place: Place, server: MariaDBServer, privilege: str
) -> None:
    wanted = request(place, server)
    before = {str(path) for path in place.repository.rglob("*")}
    server.query(f"REVOKE {privilege} ON *.* FROM dbc_ship@'127.0.0.1'")
    with pytest.raises(PrerequisiteError, match=privilege):
        full_backup(wanted, Progress())
    assert {str(path) for path in place.repository.rglob("*")} == before


def fake_dump(place: Place, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program before the real mariadb-dump; REAL in *script* stands for that."""
    folder = place.root / "bin"
    folder.mkdir()
    program = folder / "mariadb-dump"
    program.write_text("#!/bin/bash\n" + script.replace("REAL", find_program("mariadb-dump")) + "\n")
    program.chmod(0o755)

    def found(name: str, *rest: str) -> str:
        return str(program) if name == "mariadb-dump" else find_tool(name, *rest)

    monkeypatch.setattr(logical, "find_tool", found)


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ('REAL "$@" | head -c 200000; exit 0', "cut short"),
        ('REAL "$@" | head -n -1', "cut short"),
        ('REAL "$@"; exit 3', "status 3"),
        ('REAL "$@" | head -c 90000; kill -9 $$', "signal 9"),
        ('case "$*" in *--system*) exec REAL "$@";; esac; REAL "$@" | sed \'s/^CREATE TABLE `pasien`/-- &/\'', "lacks"),
        ("REAL \"$@\" | sed '/50003 CREATE/d'", r"lacks objects.* 0 of \d+ triggers"),
        ("REAL \"$@\" | sed 's/^CREATE DEFINER/-- insufficient privileges to SHOW CREATE/'", "left objects"),
    ],
)
def test_a_dump_that_is_not_whole_is_never_a_set(
    place: Place, server: MariaDBServer, monkeypatch: pytest.MonkeyPatch, script: str, what: str
) -> None:
    wanted = request(place, server)
    fake_dump(place, monkeypatch, script)
    with pytest.raises(PipelineError, match=what):
        full_backup(wanted, Progress())
    folder = Repository.open(place.repository).instance("simrs")
    assert folder.set_names() == []
    assert list(folder.full.iterdir()) == []


def test_what_the_dump_tool_says_is_shown(place: Place, server: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = request(place, server)
    fake_dump(place, monkeypatch, 'echo "-- Warning: something odd" >&2; exec REAL "$@"')
    made = full_backup(wanted, Progress())
    assert [line for line in made["warnings"] if "something odd" in line]


def test_a_broken_view_stops_the_dump_and_names_it(place: Place, server: MariaDBServer) -> None:
    wanted = request(place, server)
    server.query("CREATE TABLE fana (i INT); CREATE VIEW v_rusak AS SELECT i FROM fana; DROP TABLE fana", "simrs")
    try:
        with pytest.raises(PipelineError, match="v_rusak"):
            full_backup(wanted, Progress())
        assert Repository.open(place.repository).instance("simrs").set_names() == []
    finally:
        server.query("DROP VIEW v_rusak", "simrs")


def test_no_log_follows_a_logical_backup_and_everything_says_so(place: Place, server: MariaDBServer) -> None:
    wanted = request(place, server)
    full_backup(wanted, Progress())
    answer = log_cycle(LogCycleRequest([wanted.instance], place.repository, place.protection))
    assert answer["failed"] == []
    assert answer["instances"]["simrs"]["result"] == "no log"
    assert "B3" in "\n".join(cycle_report(answer, "Asia/Jakarta"))
    look = log_cycle(LogCycleRequest([wanted.instance], place.repository, place.protection, check_only=True))
    assert look["instances"]["simrs"]["result"] == "no log"
    shown = status_report({"status": status(place.repository, ["simrs"], place.root / "none.json")}, "Asia/Jakarta")
    assert "no recovery to a point in time (B3)" in shown
    with pytest.raises(InputError, match="logical"):
        log_shipping(LogShippingRequest(wanted.instance, place.repository, state="present"))
