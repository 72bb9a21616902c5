# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full backup of a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import full
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.client import find_postgresql
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.registry import engine_for
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    AccessError,
    ContinuityError,
    InputError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.clients import PostgreSQLClient
from demo.compare import compare
from demo.process import descendants, wait_until
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from tests.postgresql_support import backup, instance, restore, scratch, write_service
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with workspace("pgfull") as folder, PostgreSQLServer(folder / "simrs", fast=True) as running:
        load(running, patients=300)
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


def nothing_left(server: PostgreSQLServer, place: Place, name: str = "simrs") -> None:
    """Nobody may find half a set, nor may the server hold anything for a backup that is gone."""
    assert Repository.open(place.repository).instance(name).set_names() == []
    end = time.monotonic() + 120
    asked = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'dbcontinuity_backup%'"
    senders = "SELECT count(*) FROM pg_stat_replication"
    while (server.value(asked), server.value(senders)) != ("0", "0"):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("where", ["backup", "production"])
def test_what_comes_back_by_hand_is_what_was_there(
    server: PostgreSQLServer, place: Place, where: str, tmp_path: Path
) -> None:
    made = backup(place, instance(place, "simrs", server, compress_on=where))
    manifest = Repository.open(place.repository).instance("simrs").read_set(made["set"]).manifest.values
    spaces = manifest["engine_details"]["tablespaces"]
    assert spaces  # the sample has one
    assert manifest["objects"]["tablespaces"] == len(spaces)
    assert manifest["engine_details"]["manifest_verified"] is True
    for kind in ("tables", "views", "triggers", "routines", "sequences", "indexes", "extensions"):
        assert manifest["objects"][kind] > 0, kind
    assert manifest["position"]["start"]["timeline"] == 1
    with workspace("pgscratch") as folder:
        data = restore(place, Path(made["path"]), manifest["read_by_hand"], folder)
        conf = [path.name for path in (folder / "conf").rglob("*.conf")]
        assert sorted(conf) == ["pg_hba.conf", "postgresql.conf"]
        # The map names production's own folder until it is rewritten.
        for line in (data / "tablespace_map").read_text().splitlines():
            assert line.split(" ", 1)[1].startswith(str(folder)), line
        for oid in spaces:
            subprocess.run(["chown", "-R", "postgres:postgres", str(folder / f"space-{oid}")], check=True)
        with scratch(data, 5496) as ask:
            assert ask("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16383").startswith(
                str(folder)
            )
            found = compare(server, PostgreSQLClient(data.parent / "run", 5496))
            assert found.ok, str(found)
    deep = backup_verify(
        VerifyRequest([instance(place, "simrs", server)], place.repository, place.protection, level="deep"),
        Progress(None),
    )
    assert deep["failed"] == []
    assert deep["instances"]["simrs"]["sets"][0]["deep"] == {"pg_verifybackup": True}
    assert server.value("SELECT count(*) FROM pg_replication_slots") == "0"


def test_deep_verification_finds_what_the_check_sums_cannot(
    server: PostgreSQLServer, place: Place, tmp_path: Path
) -> None:
    one = instance(place, "simrs", server)
    made = backup(place, one)
    found = Repository.open(place.repository).instance("simrs").read_set(made["set"])
    commands = [
        line for line in found.manifest.values["read_by_hand"] if "backup_manifest" in line or "base.tar" in line
    ]
    with workspace("pgdeep") as folder:
        data = restore(place, found.path, commands, folder)
        data.rename(folder / "base.tar")
        (folder / "base.tar" / "base" / "1" / "1259").write_bytes(b"other")
        with pytest.raises(ContinuityError, match="does not hold"):
            engine_for(one).verify_deep(folder, found.manifest.values)


@pytest.mark.parametrize("fault", ["flipped", "cut", "log"])
def test_a_stream_that_is_not_what_the_server_sent_is_no_backup(
    server: PostgreSQLServer, place: Place, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pg_basebackup that ends well but whose archive was altered on the way."""
    one = instance(place, "simrs", server)
    altering = tmp_path / "pg_basebackup"
    altering.write_text(_ALTERING.format(python=sys.executable, fault=fault))
    altering.chmod(0o755)
    monkeypatch.setattr(
        full,
        "find_postgresql",
        lambda name, major=None: str(altering) if name == "pg_basebackup" else find_postgresql(name, major),
    )
    with pytest.raises(PipelineError) as error:
        backup(place, one)
    words = {"flipped": "other content", "cut": "cut short", "log": "log in the base backup"}[fault]
    assert words in error.value.message
    nothing_left(server, place)
    monkeypatch.undo()
    assert backup(place, one)["changed"]


# Stands in for pg_basebackup: runs the real one with pipes of its own, and spoils base.tar on the way.
_ALTERING = """#!{python}
import os, stat, subprocess, sys, time
fault = "{fault}"
words = sys.argv[1:]
target = next(w for w in words if w.startswith("--pgdata=")).split("=", 1)[1]
own = target + "-real"
words = [w.replace("--pgdata=" + target, "--pgdata=" + own) for w in words]
status = subprocess.run(["/usr/lib/postgresql/15/bin/pg_basebackup", *words]).returncode
os.mkdir(target)
for name in os.listdir(own):  # the backup puts a pipe there for each archive as soon as it sees the folder
    pipe = os.path.join(target, name)
    for _wait in range(12000 if name.endswith(".tar") else 0):
        if os.path.exists(pipe) and stat.S_ISFIFO(os.stat(pipe).st_mode):
            break
        time.sleep(0.01)
for name in sorted(os.listdir(own)):
    data = open(os.path.join(own, name), "rb").read()
    if name == "base.tar":
        if fault == "cut":
            data = data[: len(data) // 2]
        marker = b"PG_VERSION" if fault == "flipped" else b"pg_wal/0000"
        place = data.index(marker) + (512 if fault == "flipped" else 512 + 0x60) if fault != "cut" else 0
        if fault != "cut":
            data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    with open(os.path.join(target, name), "wb") as sink:
        sink.write(data)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER ROLE dbc_ship NOREPLICATION", 'ALTER ROLE "dbc_ship" REPLICATION;'),
        ("REVOKE pg_read_all_settings FROM dbc_ship", 'GRANT pg_read_all_settings TO "dbc_ship";'),
        ("REVOKE pg_read_all_stats FROM dbc_ship", 'GRANT pg_read_all_stats TO "dbc_ship";'),
        (
            "REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM dbc_ship",
            'GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "dbc_ship";',
        ),
    ],
)
def test_a_missing_privilege_is_named_with_the_statement_that_gives_it(
    server: PostgreSQLServer, place: Place, statement: str, words: str
) -> None:
    one = instance(place, "simrs", server)
    server.query(statement)
    with pytest.raises(PrerequisiteError) as error:
        backup(place, one)
    remedy = error.value.remedy
    assert words in remedy
    assert Repository.open(place.repository).instance("simrs").set_names() == []
    server.query(words)
    assert engine_for(one).inspect().problems == []


def test_a_database_that_lets_the_account_not_in_is_a_problem(server: PostgreSQLServer, place: Place) -> None:
    one = instance(place, "simrs", server)
    server.query("CREATE DATABASE rahasia")
    try:
        server.query("REVOKE CONNECT ON DATABASE rahasia FROM PUBLIC")
        (problem,) = engine_for(one).inspect().problems
        assert "rahasia" in problem.message
        assert "GRANT CONNECT" in problem.remedy
        server.query("ALTER DATABASE rahasia ALLOW_CONNECTIONS false")
        inspection = engine_for(one).inspect()
        assert not inspection.problems
        assert any("rahasia" in each for each in inspection.warnings)
    finally:
        server.query("DROP DATABASE rahasia WITH (FORCE)")  # whoever looked into it may still be on the way out


def test_bad_access_is_said_with_the_file_and_never_the_secret(server: PostgreSQLServer, place: Place) -> None:
    one = instance(place, "simrs", server)
    path = one.credentials
    assert path is not None
    good = path.read_text()

    def refused(kind: type[ContinuityError], *words: str) -> None:
        with pytest.raises(kind) as error:
            backup(place, one)
        for word in (*words, str(path)):
            assert word in str(error.value)
        assert "kenari" not in str(error.value) + repr(error.value.details)

    write_service(path, "simrs", server, "dbc_ship", "kenari-salah")
    refused(AccessError, "password is refused")
    path.write_text(good.replace(f"port={server.port}", "port=9"))
    refused(AccessError, "does not answer")
    path.write_text(good.replace("dbname=postgres", "dbname=tiada"))
    refused(AccessError, "cannot be connected to")
    path.write_text(good.replace("sslrootcert=", "sslrootcert=/etc/ssl/certs/ca-certificates.crt#"))
    refused(AccessError, "TLS")
    path.write_text(good.replace("[simrs]", "[lain]"))
    refused(PrerequisiteError, "[simrs]")
    path.write_text(good)
    path.chmod(0o644)
    refused(PrerequisiteError, "chmod 0600")
    path.unlink()
    refused(PrerequisiteError, "cannot be read")
    with pytest.raises(InputError, match="names no credentials"):
        engine_for(replace(one, credentials=None)).inspect()


_RUN = """
import os, sys
sys.path[:0] = [{root!r}, {root!r} + "/collections"]
os.environ["PATH"] = {tools!r} + ":" + os.environ["PATH"]
from pathlib import Path
from tests.postgresql_support import backup
from tests.support import Place
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
place = Place(Path({place!r}))
backup(place, Instance(name="simrs", engine="postgresql", credentials=place.root / "credentials" / "simrs"))
"""


# Stands before zstd: with the base backup it takes a first piece, and the rest only when it is told to go on.
_HALTING = """#!/bin/bash
compgen -G '{full}/.unfinished-*/base.tar*' > /dev/null || exec /usr/bin/zstd "$@"
{{
    head -c 100000
    touch {tools}/reached
    while [ ! -e {tools}/go ]; do sleep 0.05; done
    exec cat
}} | /usr/bin/zstd "$@"
"""


@contextmanager
def slow_run(server: PostgreSQLServer, place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A backup in a process of its own, held while data flow; it goes on at the end of the block."""
    tools = place.root / "tools"
    tools.mkdir()
    (tools / "zstd").write_text(_HALTING.format(full=place.repository / "simrs/full", tools=tools))
    (tools / "zstd").chmod(0o755)
    program = _RUN.format(root=str(ROOT), place=str(place.root), tools=str(tools))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 300
        while not (tools / "reached").exists():
            assert time.monotonic() < end
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.005)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        (tools / "go").touch()


@pytest.fixture(scope="module")
def big(server: PostgreSQLServer) -> Iterator[None]:
    server.query(
        "CREATE TABLE besar AS SELECT g, md5(g::text) || md5((g + 1)::text) AS isi FROM generate_series(1, 600000) g"
    )
    yield
    server.query("DROP TABLE besar")


def test_killed_in_the_middle_it_leaves_nothing_behind(server: PostgreSQLServer, place: Place, big: None) -> None:
    one = instance(place, "simrs", server)
    with slow_run(server, place) as process:
        process.kill()
        process.wait()
    nothing_left(server, place)
    made = backup(place, one)
    assert len(made["cleaned"]) == 1


def test_a_server_that_dies_leaves_no_set(place: Place) -> None:
    with workspace("pgdies") as folder, PostgreSQLServer(folder / "a", fast=True) as server:
        server.query("CREATE TABLE besar AS SELECT g, md5(g::text) AS isi FROM generate_series(1, 700000) g")
        one = instance(place, "simrs", server)
        with slow_run(server, place) as process:
            server.kill9()
            (place.root / "tools" / "go").touch()
            process.wait(300)
            assert process.returncode
        assert Repository.open(place.repository).instance("simrs").set_names() == []
        server.start()
        assert backup(place, one)["changed"]


def test_a_reader_that_stalls_holds_up_no_commit(server: PostgreSQLServer, place: Place, big: None) -> None:
    instance(place, "simrs", server)
    server.query("CREATE TABLE IF NOT EXISTS tulis (i int)")
    with slow_run(server, place) as process:
        stopped = descendants(process.pid)
        assert stopped
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # such as the halting script's sleep
                os.kill(pid, signal.SIGSTOP)
        try:
            slowest = 0.0
            for number in range(20):
                began = time.monotonic()
                server.query(f"INSERT INTO tulis VALUES ({number})")  # noqa: S608 - a number
                slowest = max(slowest, time.monotonic() - began)
            server.query("CHECKPOINT")
            assert slowest < 15
        finally:
            process.kill()
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):  # it died with its parent
                    os.kill(pid, signal.SIGCONT)
    nothing_left(server, place)


def test_what_is_worth_knowing_is_warned_of(server: PostgreSQLServer, place: Place) -> None:
    one = instance(place, "simrs", server)
    server.query("CREATE UNLOGGED TABLE antri (i int)")
    path = one.credentials
    assert path is not None
    path.write_text(path.read_text().replace("verify-full", "require"))
    server.query("ALTER SYSTEM SET max_slot_wal_keep_size = -1")
    before = server.value("SHOW max_slot_wal_keep_size")
    server.query("SELECT pg_reload_conf()")
    assert wait_until(lambda: server.value("SHOW max_slot_wal_keep_size") == "-1", 120)
    try:
        text = " ".join(engine_for(one).inspect().warnings)
    finally:
        server.query("ALTER SYSTEM RESET ALL; ")
        server.query("SELECT pg_reload_conf()")
        assert wait_until(lambda: server.value("SHOW max_slot_wal_keep_size") == before, 120)
        server.query("DROP TABLE antri")
    for words in ("antri", "not verified", "max_slot_wal_keep_size", "checksums are off", "No receiver"):
        assert words in text, words


def test_without_an_agent_the_configuration_comes_by_sql_or_is_said_to_be_missing(
    server: PostgreSQLServer, place: Place
) -> None:
    one: Any = instance(place, "simrs", server)
    (place.root / "agent" / "simrs.json").unlink()
    made = backup(place, one)
    assert any("configuration files are not in this backup" in each for each in made["warnings"])
    server.query("GRANT pg_read_server_files TO dbc_ship; GRANT EXECUTE ON FUNCTION pg_read_file(text) TO dbc_ship")
    try:
        made = backup(place, one, force=True)
        assert not any("configuration" in each for each in made["warnings"])
        assert (Path(made["path"]) / "configuration.tar.zst.age").is_file()
    finally:
        server.query(
            "REVOKE pg_read_server_files FROM dbc_ship; REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM dbc_ship"
        )
