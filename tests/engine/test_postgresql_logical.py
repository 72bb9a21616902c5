# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full backup of a real PostgreSQL server by its dump tools."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import logical
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.client import find_postgresql
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.stored import unpack
from demo.compare import compare, fingerprint
from demo.process import environment
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from tests.postgresql_support import backup, cycle, write_service
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
READER = ("BYPASSRLS", "GRANT pg_read_all_settings, pg_read_all_stats, pg_read_all_data TO dbc_dump")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with workspace("pglogical") as folder, PostgreSQLServer(folder / "simrs", fast=True) as running:
        load(running, patients=150, data_directory=False)
        running.query('CREATE DATABASE "arsip\n rm -rf é"')
        running.query("CREATE TABLE t (i int); INSERT INTO t VALUES (1)", "arsip\n rm -rf é")
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


def instance(place: Place, server: PostgreSQLServer, *attributes: str) -> Instance:
    """Make an account with the rights a dump needs, or with others."""
    account = server.account("dbc_dump", attributes or ("SUPERUSER", *READER))
    path = write_service(place.root / "credentials" / "simrs", "simrs", server, account.user, account.password)
    return Instance(name="simrs", engine="postgresql", method="logical", credentials=path, agent=place.agent)


@pytest.fixture(autouse=True)
def _no_account_left(server: PostgreSQLServer) -> Iterator[None]:
    yield
    server.query("DROP ROLE IF EXISTS dbc_dump")


def test_what_is_loaded_into_a_fresh_server_is_what_was_there(place: Place, server: PostgreSQLServer) -> None:
    made = backup(place, instance(place, server))
    assert made["point_in_time_recovery"] is False
    said = " ".join(made["warnings"])
    assert "B3" in said
    assert "databases is consistent in itself" in said
    found = Repository.open(place.repository).instance("simrs").read_set(made["set"])
    values = found.manifest.values
    before = fingerprint(server, accounts=True)
    with workspace("pglogical-copy") as folder, PostgreSQLServer(folder / "copy", fast=True) as copy:
        for command in values["read_by_hand"]:
            words = command.replace("KEY", str(place.root / "operations.key"))
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", words],
                cwd=found.path,
                env=environment(copy.client.env)
                | {"PGHOST": str(copy.socket_folder), "PGPORT": str(copy.port), "PGUSER": "postgres"},
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, (words, done.stderr)
        result = compare(before, copy, accounts=True)
        assert result.ok, str(result)
        assert copy.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'dbc_dump'") == server.value(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'dbc_dump'"
        )
    deep = backup_verify(
        VerifyRequest([instance(place, server)], place.repository, place.protection, level="deep"), Progress()
    )
    assert deep["failed"] == []
    counts = deep["instances"]["simrs"]["sets"][0]["deep"]["objects"]
    for kind in ("tables", "views", "triggers", "routines", "sequences", "extensions", "large_objects"):
        assert counts[kind] > 0, kind


def test_deep_verification_reads_each_archive_whole(place: Place, server: PostgreSQLServer, tmp_path: Path) -> None:
    made = backup(place, instance(place, server))
    found = Repository.open(place.repository).instance("simrs").read_set(made["set"])
    for artefact in found.manifest.artefacts:
        unpack(artefact, found.path, place.protection, tmp_path)
    largest = max(tmp_path.glob("database-*.dump"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    largest.write_bytes(whole[:-1000])  # the table of contents, at its beginning, is whole
    with pytest.raises(ContinuityError, match="does not hold"):
        logical.verify_dumps(tmp_path, found.manifest.values)
    largest.unlink()
    with pytest.raises(ContinuityError, match="is missing"):
        logical.verify_dumps(tmp_path, found.manifest.values)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        (("NOBYPASSRLS", READER[1]), "BYPASSRLS"),
        (("BYPASSRLS", "GRANT pg_read_all_settings, pg_read_all_stats TO dbc_dump"), "pg_read_all_data"),
    ],
)
def test_a_role_that_would_not_see_every_row_is_refused(
    place: Place, server: PostgreSQLServer, attributes: tuple[str, ...], what: str
) -> None:
    one = instance(place, server, *attributes)
    before = {str(path) for path in place.repository.rglob("*")}
    with pytest.raises(PrerequisiteError, match=what):
        backup(place, one)
    assert {str(path) for path in place.repository.rglob("*")} == before


def test_a_large_object_that_may_not_be_read_ends_the_backup(place: Place, server: PostgreSQLServer) -> None:
    # pg_read_all_data does not cover large objects; pg_dump says so and fails.
    with pytest.raises(PipelineError, match="large object"):
        backup(place, instance(place, server, *READER))
    assert Repository.open(place.repository).instance("simrs").set_names() == []


def test_without_a_superuser_the_passwords_are_left_out_and_it_is_said(place: Place, server: PostgreSQLServer) -> None:
    owner = server.value("SELECT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata LIMIT 1", "simrs")
    made = backup(place, instance(place, server, *READER, f'GRANT "{owner}" TO dbc_dump'))
    assert "must be set again" in " ".join(made["warnings"])
    details = Repository.open(place.repository).instance("simrs").read_set(made["set"]).manifest.values
    assert details["engine_details"]["role_passwords"] is False


@pytest.mark.parametrize(
    ("script", "what"),
    [('REAL "$@" | head -c 3000; exit 1', "status 1"), ('REAL "$@" | head -c 60000; kill -9 $$', "signal 9")],
)
def test_a_dump_that_is_not_whole_is_never_a_set(
    place: Place, server: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch, script: str, what: str
) -> None:
    one = instance(place, server)
    program = place.root / "pg_dump"
    program.write_text("#!/bin/bash\n" + script.replace("REAL", server.program("pg_dump")) + "\n")
    program.chmod(0o755)

    def found(name: str, major: int) -> str:
        return str(program) if name == "pg_dump" else find_postgresql(name, major)

    monkeypatch.setattr(logical, "find_postgresql", found)
    with pytest.raises(PipelineError, match=what):
        backup(place, one)
    folder = Repository.open(place.repository).instance("simrs")
    assert folder.set_names() == []
    assert list(folder.full.iterdir()) == []


def test_no_log_follows_a_logical_backup(place: Place, server: PostgreSQLServer) -> None:
    result: dict[str, Any] = cycle(place, instance(place, server))
    assert result["result"] == "no log"
    assert "B3" in result["message"]
