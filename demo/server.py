# SPDX-License-Identifier: GPL-3.0-or-later
"""What both kinds of throwaway server have in common: folder, life cycle, state for other processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from demo import process
from demo.clients import Account, Client, Row, Script, Session
from demo.process import Port, ServerError
from demo.tls import Certificates, certificates

STATE = "server.json"
LONGEST_SOCKET = 99
Self = TypeVar("Self", bound="Server")


class Server(ABC):
    """One private server; every path it uses lies in its folder (but a socket path that would be too long).

        base/data     data directory            base/conf    its configuration, outside it as on Debian
        base/run      socket, pid file          base/log     error.log
        base/tls      CA, certificate           base/extern  for DATA DIRECTORY tables and tablespaces
        base/server.json  where to reach it: `attach(base)` in another process reads that

    `options` override the configuration; None as a value takes one out. `fast` gives up durability: tests.
    """

    engine: str
    users: Sequence[str]
    socket_name: str

    def __init__(
        self,
        base: Path | str,
        *,
        user: str | None = None,
        datadir: Path | str | None = None,
        port: int | None = None,
        options: Mapping[str, str | None] | None = None,
        tls: bool = True,
        tcp: bool = True,
        fast: bool = False,
        timeout: float = 120,
    ) -> None:
        self.base = Path(base).absolute()
        known = self._read_state()
        self.owner = process.owner(self.users, user or known.get("user"))
        self.datadir = Path(datadir or known.get("datadir") or self.base / "data").absolute()
        self.fast, self.tcp, self.tls, self.timeout = fast, tcp, tls and tcp, timeout
        self.options: dict[str, str | None] = {**known.get("options", {}), **(options or {})}
        self._fixed_port = port or known.get("port")
        self._port: Port | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.run_folder = Path(known["run"]) if "run" in known else self.base / "run"

    # -- where things are --

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; it stays the same over restarts."""
        number = self._port.number if self._port else self._fixed_port
        if not number:
            raise ServerError(f"{self.base}: no port before the first start")
        return number

    @property
    def conf(self) -> Path:
        return self.base / "conf"

    @property
    def log(self) -> Path:
        return self.base / "log" / "error.log"

    @property
    def external(self) -> Path:
        """A folder of the server's outside its data directory."""
        return self.base / "extern"

    @property
    def certificates(self) -> Certificates | None:
        folder = self.base / "tls"
        return certificates(folder, self.owner) if self.tls else None

    @property
    @abstractmethod
    def client(self) -> Client: ...

    # -- what each engine does its own way --

    @abstractmethod
    def initialised(self) -> bool: ...

    @abstractmethod
    def _initialise(self) -> None: ...

    @abstractmethod
    def _configure(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    def start_command(self) -> list[str]:
        """Return the command that the server is started with, as its own user."""
        return self._command()

    @abstractmethod
    def _ready(self) -> bool: ...

    @abstractmethod
    def account(self, name: str, grants: Sequence[str] = (), password: str | None = None) -> Account:
        """Make a login for TCP (TLS required where it is on), with these rights only."""

    stop_signal: signal.Signals

    # -- life --

    def create(self: Self) -> Self:
        """Make the folders and the data directory, once."""
        self.base.mkdir(mode=0o755, parents=True, exist_ok=True)
        blocked = self.owner.reaches(self.base / "x")
        if blocked is not None and blocked != self.base:
            raise ServerError(
                f"user {self.owner.name} cannot get to {self.base}: {blocked} is closed to them. "
                "Choose a folder below /tmp or /var/tmp"
            )
        for name, mode in (("conf", 0o755), ("log", 0o755), ("tmp", 0o700), ("extern", 0o700)):
            self._own(self.base / name, mode)
        if len(str(self.base / "run" / self.socket_name)) > LONGEST_SOCKET and self.run_folder == self.base / "run":
            self.run_folder = Path(tempfile.mkdtemp(prefix="dbc-run-", dir="/tmp"))
        self._own(self.run_folder, 0o755)
        if not self.initialised():
            self._own(self.datadir, 0o700)
            self._initialise()
        return self

    def _own(self, folder: Path, mode: int) -> None:
        if not folder.is_dir():
            folder.mkdir(mode=mode, parents=True)
            folder.chmod(mode)
        self.owner.give(folder)
        if folder == self.run_folder:
            folder.chmod(mode)

    def start(self: Self) -> Self:
        """Create if need be, start, and wait until it answers."""
        if self.running:
            raise ServerError(f"the server in {self.base} runs already (pid {self.pid})")
        self.create()
        for _ in range(10):
            if self._port is None and self.tcp:
                self._port = Port(self._fixed_port)
            self._configure()
            self._write_state()
            started_at = self.log.stat().st_size if self.log.exists() else 0
            command = self._command()
            self._process = process.start(command, self.owner, cwd=self.base, log=self.log)
            problem = self._wait_ready()
            if problem is None:
                self._settle()
                return self
            if not (process.ADDRESS_IN_USE.search(self._log_since(started_at)) and self._fixed_port is None):
                raise ServerError(
                    f"{Path(command[0]).name} in {self.base} {problem}. The end of {self.log}:\n"
                    f"{process.tail(self.log)}"
                )
            if self._port is not None:  # somebody took the port between our look and the server's bind: another one
                self._port.release()
                self._port = None
        raise ServerError(f"no free port for {self.base} after 10 attempts")

    def _settle(self) -> None:
        self._fixed_port = self._port.number if self._port else None
        self._write_state()

    def _wait_ready(self) -> str | None:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                return f"ended with status {self._process.returncode} while starting"
            if self._ready():
                return None
            time.sleep(0.05)
        self._end(kill=True)
        return f"did not answer within {self.timeout:g} s"

    def _log_since(self, position: int) -> str:
        with open(self.log, "rb") as stream:
            stream.seek(position)
            return stream.read().decode(errors="replace")

    @property
    def pid(self) -> int | None:
        """The running server's process id, found by its data directory and nothing else."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        data = self.datadir.resolve()
        pids = {pid for pid, folder in process.servers_under(self.datadir) if folder == data}
        tops = [pid for pid in sorted(pids) if process.parent(pid) not in pids]
        return tops[0] if tops else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def stop(self, timeout: float | None = None) -> None:
        """A clean shutdown. Nothing happens when it does not run."""
        self._end(kill=False, timeout=timeout or self.timeout)

    def kill9(self) -> None:
        """SIGKILL to the server and all its processes: a crash."""
        self._end(kill=True)

    def restart(self: Self) -> Self:
        self.stop()
        return self.start()

    def _end(self, kill: bool, timeout: float = 60) -> None:
        pid = self.pid
        if pid is None:
            return
        if kill:
            process.kill9(pid)
        else:
            os.kill(pid, self.stop_signal)
            if not process.wait_until(lambda: not self._still(pid), timeout):
                raise ServerError(
                    f"pid {pid} in {self.base} did not shut down within {timeout:g} s. The end of "
                    f"{self.log}:\n{process.tail(self.log)}"
                )
        if self._process is not None:
            self._process.wait(60)
            self._process = None

    def _still(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return process.alive(pid)

    def __enter__(self: Self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except ServerError:
            self.kill9()
            if error is None:
                raise
        finally:
            if self._port is not None:
                self._port.release()
                self._port = None

    # -- talking to it --

    def query(self, sql: str, database: str | None = None, timeout: float = 600) -> list[Row]:
        return self.client.query(sql, database, timeout)

    def value(self, sql: str, database: str | None = None) -> str | None:
        return self.client.value(sql, database)

    def execute_script(self, script: Script | Iterable[bytes], database: str | None = None) -> None:
        self.client.execute_script(script, database)

    def session(self, database: str | None = None) -> Session:
        return self.client.session(database)

    # -- state for other processes --

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads((self.base / STATE).read_text())
        except FileNotFoundError:
            return {}
        if state.get("engine") != self.engine:
            raise ServerError(f"{self.base} holds a {state.get('engine')} server, not {self.engine}")
        return dict(state)

    def _write_state(self) -> None:
        state = {
            "engine": self.engine,
            "user": self.owner.name,
            "datadir": str(self.datadir),
            "tcp": self.tcp,
            "run": str(self.run_folder),
            "port": self._port.number if self._port else None,
            "tls": self.tls,
            "fast": self.fast,
            "options": self.options,
        }
        fresh = self.base / f"{STATE}.new"
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        os.replace(fresh, self.base / STATE)


def answers(path: Path) -> bool:
    """Whether something listens on this unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
