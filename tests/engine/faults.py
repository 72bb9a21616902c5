# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault tests share: a module run in a process of its own, writers that measure their waits, a backup tool
that pauses at a stage, an SSH server of our own, a link that can be cut."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from demo.process import Port, alive, descendants, wait_until
from demo.servers import MariaDBServer, ServerError
from tests.support import AGENT_PROGRAM, Place

LONGEST_WAIT = 15.0
_DRIVER = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
name, check = sys.argv[1], sys.argv[2] == "check"
module = importlib.import_module(f"ansible_collections.rspon.dbcontinuity.plugins.modules.{name}")
with patch_module_args({**json.load(sys.stdin), "_ansible_check_mode": check}):
    module.main()
"""


@dataclass
class Run:
    """A module under way in a process of its own."""

    process: subprocess.Popen[str]

    def result(self, timeout: float = 300) -> dict[str, Any]:
        """Wait for it; what it answered."""
        out, err = self.process.communicate(timeout=timeout)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        assert lines, f"no answer, status {self.process.returncode}: {out}{err}"
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer

    @property
    def pid(self) -> int:
        return self.process.pid

    def child(self, name: str) -> int:
        """Wait for a descendant of this name (as the kernel has it, or as its script is called); its process id."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [
                pid
                for pid in descendants(self.pid)
                if command_of(pid).split(" ")[0] == name or f"/{name} " in command_of(pid)
            ]
            return bool(found)

        assert wait_until(there, 120), f"no {name} below {self.pid}"
        return found[0]

    def kill(self) -> None:
        """End it the hard way, if it has not ended: its number may be another's by now."""
        if self.process.poll() is not None:
            return
        for pid in [self.pid, *descendants(self.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)


def command_of(pid: int) -> str:
    """The program's name and its command line."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return f"{name} " + Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


@contextlib.contextmanager
def started(module: str, arguments: Mapping[str, Any], *, check: bool = False, path: str = "") -> Iterator[Run]:
    """Run a module as Ansible runs it on the backup host; nothing of it outlives the block.

    :param path: folders that stand before PATH.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, module, "check" if check else "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(arguments))
    process.stdin.close()
    process.stdin = None
    run = Run(process)
    try:
        yield run
    finally:
        run.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def called(module: str, arguments: Mapping[str, Any], *, check: bool = False, path: str = "") -> dict[str, Any]:
    """Run a module to its end; what it answered."""
    with started(module, arguments, check=check, path=path) as run:
        return run.result()


def instance_arguments(instance: Instance, **agent: Any) -> dict[str, Any]:
    """The module's ``instance`` for an instance of the tests."""
    return {
        "name": instance.name,
        "engine": instance.engine,
        "credentials": str(instance.credentials) if instance.credentials else None,
        "compress_on": instance.compress_on,
        "agent": {
            "transport": instance.agent.transport,
            "program": instance.agent.program,
            "config_dir": instance.agent.config_dir,
            **agent,
        },
    }


def backup_arguments(place: Place, instance: Instance, **more: Any) -> dict[str, Any]:
    """The arguments of full_backup."""
    return {
        "instance": instance_arguments(instance, **more.pop("agent", {})),
        "repository": str(place.repository),
        "recipients": list(place.protection.recipients),
        "identity_file": str(place.protection.identity_file),
        **more,
    }


@dataclass
class Writer(threading.Thread):
    """Commits row by row and remembers how long the longest commit took.

    :ivar since: what was waited before this moment is not counted.
    """

    server: MariaDBServer
    statement: str
    longest: float = 0.0
    longest_of_all: float = 0.0
    since: float = 0.0
    commits: int = 0
    failure: str = ""
    _began: float | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            with self.server.client.session() as session:
                session.run("SET SESSION lock_wait_timeout=300")
                while not self._ended.is_set():
                    self._began = time.monotonic()
                    session.run(self.statement, timeout=300)
                    self.longest = max(self.longest, self.waiting())
                    self.longest_of_all = max(self.longest_of_all, time.monotonic() - self._began)
                    self._began = None
                    self.commits += 1
                    time.sleep(0.02)
        except ServerError as error:
            self.failure = str(error)

    def waiting(self) -> float:
        """For how long the present commit has been waiting."""
        began = self._began
        return time.monotonic() - max(began, self.since) if began is not None else 0.0

    def worst(self) -> float:
        """The longest wait, the present one included."""
        return max(self.longest, self.waiting())

    def worst_of_all(self) -> float:
        """The longest wait, whatever it was for."""
        return max(self.longest_of_all, self.worst())

    def stop(self) -> None:
        self._ended.set()
        self.join(60)

    def count_from_now(self) -> None:
        """Forget what was waited so far."""
        self.since = time.monotonic()
        self.longest = 0.0


@contextlib.contextmanager
def writers(server: MariaDBServer) -> Iterator[dict[str, Writer]]:
    """Commit into an InnoDB table and into a MyISAM table all the while."""
    server.query(
        "CREATE DATABASE IF NOT EXISTS tulis; CREATE TABLE IF NOT EXISTS tulis.i (t TIMESTAMP) ENGINE=InnoDB;"
        "CREATE TABLE IF NOT EXISTS tulis.m (t TIMESTAMP) ENGINE=MyISAM"
    )
    both = {
        "InnoDB": Writer(server, "INSERT INTO tulis.i VALUES (NOW())"),
        "MyISAM": Writer(server, "INSERT INTO tulis.m VALUES (NOW())"),
    }
    for each in both.values():
        each.start()
    try:
        assert wait_until(lambda: all(each.commits > 3 for each in both.values()), 120)
        yield both
    finally:
        for each in both.values():
            each.stop()


# The tool writes its message before the bytes of that stage. So each piece of its output is passed on only after its
# messages were read: it is stopped before any byte of the stage leaves, however late this program gets its turn.
_PAUSING = """#!{python}
import ctypes, os, re, select, signal, subprocess, sys, time
real, folder, pattern = {real!r}, {folder!r}, re.compile({pattern!r}.encode())
if "--backup" not in sys.argv:
    os.execv(real, [real, *sys.argv[1:]])
fds = tuple(int(each.rsplit("/", 1)[1]) for each in sys.argv if each.startswith("--defaults-file=/dev/fd/"))
tool = subprocess.Popen([folder + "/mariadb-backup", *sys.argv[1:]], executable=real, pass_fds=fds, bufsize=0,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
out, err = tool.stdout.fileno(), tool.stderr.fileno()
os.set_blocking(err, False)
said, done = b"", False
def write(fd, data):
    while data:
        data = data[os.write(fd, data):]
def messages():
    global said, done
    while True:
        try:
            text = os.read(err, 65536)
        except BlockingIOError:
            return True
        if not text:
            return False
        said = (said + text)[-200000:]
        if not done and pattern.search(said):
            done = True
            tool.send_signal(signal.SIGSTOP)
            open(folder + "/reached", "w").close()
            while not os.path.exists(folder + "/go"):
                time.sleep(0.01)
            tool.send_signal(signal.SIGCONT)
        write(2, text)
opened = {{out, err}}
while opened:
    ready = select.select(list(opened), [], [])[0]
    piece = os.read(out, 65536) if out in ready else None
    if err in opened and not messages():
        opened.discard(err)
    if piece == b"":
        opened.discard(out)
    elif piece:
        write(1, piece)
sys.exit(tool.wait())
"""


@dataclass
class PausingTool:
    """A mariadb-backup that stops when its stderr first matches a pattern, until it is told to go on."""

    folder: Path

    @classmethod
    def make(cls, pattern: str) -> PausingTool:
        """Put it into a folder of its own: the server's user, whom pytest's folders keep out, runs it."""
        parent = Path(tempfile.gettempdir())
        for old in parent.glob("dbc-tool-*"):
            if not alive(int(old.name.split("-")[2])):  # of an aborted run
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"dbc-tool-{os.getpid()}-", dir=parent))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o777)
        real = shutil.which("mariadb-backup")
        assert real is not None
        program = folder / "mariadb-backup"
        program.write_text(_PAUSING.format(python="/usr/bin/python3", real=real, folder=str(folder), pattern=pattern))
        program.chmod(0o755)
        return cls(folder)

    def wait(self, run: Run) -> None:
        """Wait until it is at its stage."""
        reached = self.folder / "reached"
        assert wait_until(lambda: reached.exists() or run.process.poll() is not None, 300), (
            "the stage was never reached"
        )
        assert reached.exists(), f"the stage was never reached: {run.result()}"

    def go_on(self, both: Mapping[str, Writer] | None = None) -> None:
        """Let it go on.

        :param both: what these have waited so far was this pause, not the backup; from now on it counts. The backup's
            guard learns only now, too, that the stage has come.
        """
        for each in (both or {}).values():
            each.count_from_now()
        (self.folder / "go").touch()


def drain(stream: IO[bytes], until: Path, seconds: float = 300) -> None:
    """Read and throw away until a file is there."""
    os.set_blocking(stream.fileno(), False)
    deadline = time.monotonic() + seconds
    while not until.exists():
        assert time.monotonic() < deadline, f"{until} did not come"
        if not stream.read(1 << 20):
            time.sleep(0.005)


def backups_running(tool: PausingTool) -> list[int]:
    """The mariadb-backup processes, real ones and wrappers, that this tool started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            text = command_of(int(entry.name))
            if f"{tool.folder}/mariadb-backup" in text and "--backup" in text:
                found.append(int(entry.name))
    return found


# -- links --


@dataclass
class SshServer:
    """An sshd of our own, with the agent as forced command."""

    folder: Path
    address: str
    port: int
    process: subprocess.Popen[bytes]

    def agent(self) -> dict[str, Any]:
        """What an instance's ``agent`` says to go through it."""
        return {
            "transport": "ssh",
            "host": self.address,
            "port": self.port,
            "user": "root",
            "identity_file": str(self.folder / "client"),
            "known_hosts_file": str(self.folder / "known_hosts"),
        }


@contextlib.contextmanager
def ssh_server(
    folder: Path, config: Path, *, address: str = "127.0.0.1", path: str = "", program: Path = AGENT_PROGRAM
) -> Iterator[SshServer]:
    """Run an sshd on a free port; keys and configuration lie in *folder*."""
    folder.mkdir(mode=0o700)
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    command = f"/usr/bin/env PATH={path}:/usr/sbin:/usr/bin:/sbin:/bin {program} --config {config}"
    key = (folder / "client.pub").read_text()
    (folder / "authorized_keys").write_text(f'restrict,command="{command}" {key}')
    reserved = Port()  # below the ports of outgoing connections, and no other test's: nobody takes it before sshd does
    port = reserved.number
    (folder / "known_hosts").write_text(f"[{address}]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"ListenAddress {address}\nPort {port}\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPermitRootLogin forced-commands-only\n"
        "PasswordAuthentication no\nClientAliveInterval 5\nClientAliveCountMax 2\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log
        )
    server = SshServer(folder, address, port, process)
    try:
        assert wait_until(lambda: _answers(address, port), 60), (folder / "log").read_text()
        yield server
    finally:
        for pid in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        reserved.release()


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=10) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@dataclass(frozen=True)
class Link:
    """A cable between this host and a network namespace in which the backup host's ssh runs."""

    namespace: str
    device: str
    address: str
    tools: Path

    def cut(self) -> None:
        subprocess.run(["ip", "link", "set", self.device, "down"], check=True)


@contextlib.contextmanager
def link(folder: Path) -> Iterator[Link]:
    """Lay a cable (198.51.100.248/30, a documentation range); its ``ssh`` goes through it."""
    for old in Path("/run/netns").glob("dbcf[0-9]*"):
        if not alive(int(old.name[4:])):  # of an aborted run: its end of the cable has the same address
            subprocess.run(["ip", "link", "del", f"dbcfa{old.name[4:]}"], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", old.name], check=False)
    number = os.getpid()
    name, device, peer = f"dbcf{number}", f"dbcfa{number}", f"dbcfb{number}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in (
            f"ip link add {device} type veth peer name {peer} netns {name}",
            f"ip addr add 198.51.100.249/30 dev {device}",
            f"ip link set {device} up",
            f"ip -n {name} addr add 198.51.100.250/30 dev {peer}",
            f"ip -n {name} link set {peer} up",
        ):
            subprocess.run(command.split(), check=True)
        folder.mkdir()
        (folder / "ssh").write_text(f'#!/bin/sh\nexec ip netns exec {name} /usr/bin/ssh "$@"\n')
        (folder / "ssh").chmod(0o755)
        yield Link(name, device, "198.51.100.249", folder)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", device], check=False, capture_output=True)


def stages_of(text: str) -> list[str]:
    """The backup stages that a mariadb-backup's stderr names."""
    return re.findall(r"Starting BACKUP STAGE (\w+)", text)
