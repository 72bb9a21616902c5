# SPDX-License-Identifier: GPL-3.0-or-later
"""Private servers live, die and are swept as promised, and leave every other process alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo import process
from demo.mariadb import text
from demo.servers import MariaDBServer, PostgreSQLServer, QueryError, Server, ServerError, attach, sweep, workspace

pytestmark = pytest.mark.engine
ENGINES: list[type[Server]] = [MariaDBServer, PostgreSQLServer]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ENGINES)
def test_kill_restart_attach_and_sweep(kind: type[Server], folder: Path) -> None:
    with kind(folder / "life" / kind.engine) as server:
        assert server.pid is not None
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert f"Uid:\t{server.owner.uid}\t" in status
        assert server.owner.uid != 0
        port, pid = server.port, server.pid
        server.query("CREATE DATABASE ujian")
        database = "ujian"
        server.query("CREATE TABLE t (isi VARCHAR(40)); INSERT INTO t VALUES ('sebelum')", database)

        other = attach(server.base)
        assert (other.pid, other.port) == (pid, port)
        assert other.query("SELECT isi FROM t", database) == [["sebelum"]]

        server.kill9()
        assert not server.running
        with pytest.raises(QueryError):
            server.query("SELECT 1")
        server.start()
        assert server.port == port
        assert server.query("SELECT isi FROM t", database) == [["sebelum"]]
        server.restart()
        assert server.port == port

        with pytest.raises(ServerError, match="runs already"):
            server.start()
        bystander = subprocess.Popen(["sleep", "600"], cwd=server.base)
        pretender = subprocess.Popen(  # names our data directory, and is no database server
            [sys.executable, "-c", "import time; time.sleep(600)", f"--datadir={server.datadir}"]
        )
        try:
            assert sweep(folder / "elsewhere") == []
            assert server.pid in sweep(folder / "life" / kind.engine)
            assert not server.running
            assert bystander.poll() is None
            assert pretender.poll() is None
        finally:
            bystander.kill()
            pretender.kill()
            bystander.wait()
            pretender.wait()
        assert process.servers_under(server.base) == []


@pytest.mark.parametrize("kind", ENGINES)
def test_values_come_back_as_they_are(kind: type[Server], mariadb: object, postgresql: object) -> None:
    server = getattr({"mariadb": mariadb, "postgresql": postgresql}[kind.engine], "source")  # noqa: B009
    odd = "a\tb\n\"c' <x> &amp; \r é 🏥 ~"
    assert server.query(f"SELECT NULL, 'NULL', '', {text(odd)}; SELECT 2") == [[None, "NULL", "", odd], ["2"]]
    assert server.query("SELECT 1 WHERE 1 = 0") == []
    with pytest.raises(QueryError, match="tidak_ada"):
        server.query("SELECT * FROM tidak_ada.t")
    with pytest.raises(QueryError):
        server.execute_script("SELECT 1; SELECT * FROM tidak_ada.t; SELECT 2;")
    with server.session() as session:
        assert session.run("SELECT 1, 2; SELECT 3") == [["1", "2"], ["3"]]
        with pytest.raises(QueryError):
            session.run("SELECT kolom_salah")


@pytest.mark.parametrize("kind", ENGINES)
def test_an_account_gets_in_by_tls_only(kind: type[Server], folder: Path, mariadb: object, postgresql: object) -> None:
    server = getattr({"mariadb": mariadb, "postgresql": postgresql}[kind.engine], "source")  # noqa: B009
    account = server.account("dbc_uji", ["RELOAD, PROCESS ON *.*"] if kind.engine == "mariadb" else ["REPLICATION"])
    file = account.option_file(folder / f"{kind.engine}.secret")
    assert file.stat().st_mode & 0o777 == 0o600
    if kind.engine == "mariadb":
        client = [process.find_program("mariadb"), f"--defaults-extra-file={file}", "-N", "-e"]
        assert b"TLS" in process.run([*client, "SHOW STATUS LIKE 'ssl_version'"])
        with pytest.raises(ServerError):
            process.run([*client[:2], "--skip-ssl", *client[2:], "SELECT 1"])
    else:
        client = [process.find_program("psql"), "-X", "-w", "-d", "postgres", "-Atc"]
        ask = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert b"TLS" in process.run([*client, ask], env=account.environment(file))
        with pytest.raises(ServerError):
            process.run([*client, "SELECT 1"], env={**account.environment(file), "PGSSLMODE": "disable"})
    for pid in [server.pid, *process.descendants(server.pid)]:
        assert account.password not in " ".join(process.arguments(pid))


def test_a_port_taken_at_the_last_moment_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process binds the port between our look and the server's start."""
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        taken = thief.getsockname()[1]
        offers = iter([taken, 0])
        real = process.Port

        def port(number: int | None = None) -> process.Port:
            return real(next(offers) or None)

        monkeypatch.setattr("demo.server.Port", port)
        with PostgreSQLServer(folder / "race", fast=True) as server:
            assert server.port != taken
            assert server.query("SELECT 1") == [["1"]]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_failed_start_shows_the_end_of_the_log(kind: type[Server], folder: Path) -> None:
    server = kind(folder / "broken" / kind.engine, options={"tidak_dikenal": "1"}, fast=True)
    with pytest.raises(ServerError, match="tidak_dikenal"):
        server.start()
    assert not server.running


def test_a_long_path_gets_a_short_socket(folder: Path) -> None:
    base = folder / ("panjang" * 12)
    with PostgreSQLServer(base, fast=True, tcp=False) as server:
        assert len(str(server.socket)) < 100
        assert server.query("SELECT 1") == [["1"]]
        assert attach(server.base).query("SELECT 2") == [["2"]]
        short = server.run_folder
    sweep(base)  # this server's folder only: other tests' servers stay
    assert not short.exists()


def test_a_folder_the_user_cannot_reach_is_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts servers as somebody else")
    closed = tmp_path / "tertutup"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerError, match="is closed to them"):
        MariaDBServer(closed / "server").start()
    assert not (closed / "server" / "data").exists()
    with pytest.raises(ServerError, match="refuses to run as root"):
        MariaDBServer(tmp_path / "x", user="root")


def test_the_next_workspace_clears_up_after_an_aborted_run() -> None:
    script = (
        "import os, signal\n"
        "from demo.servers import *\n"
        "with workspace('tests-abort') as folder:\n"
        "    server = PostgreSQLServer(folder / 's', fast=True, tcp=False).start()\n"
        "    print(folder, server.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left, pid = done.stdout.split()
    assert process.alive(int(pid))
    with workspace("tests-abort") as fresh:
        assert not process.alive(int(pid))
        assert not Path(left).exists()
        with workspace("tests-abort"):  # one that is in use is left alone
            assert fresh.exists()


def test_it_works_without_root(folder: Path) -> None:
    """Everything once more as an ordinary user, in a process of its own."""
    if os.geteuid() != 0:
        pytest.skip("this whole run is without root")
    who = process.owner(["nobody"], "nobody")
    code = folder / "code"
    shutil.copytree(ROOT / "demo", code / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(code)], check=True)
    script = (
        "from demo.servers import *\n"
        "with workspace('tests-nobody') as f, MariaDBServer(f / 'm', fast=True) as m:\n"
        "    print(m.value('SELECT CURRENT_USER()'))\n"
        "    with PostgreSQLServer(f / 'p', fast=True) as p:\n"
        "        print(p.value('SELECT current_user'))\n"
    )
    python = shutil.which("python3", path="/usr/bin") or "python3"
    shown = process.run([python, "-B", "-c", script], who, cwd=code, env={"PYTHONPATH": str(code)})
    assert shown.split() == [b"nobody@localhost", b"postgres"]


def test_waiting_ends() -> None:
    begun = time.monotonic()
    assert not process.wait_until(lambda: False, 0.2)
    assert time.monotonic() - begun < 60
