#!/usr/bin/python3
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore agent on a production host: there while one restore runs, and not afterwards.

It stands behind a forced SSH command (the words come from SSH_ORIGINAL_COMMAND) or is called directly on a single
server. It acts only on instances that have a file with a section "restore" in its configuration folder:

    look INSTANCE                    server, data directory, room, what earlier restores left: JSON
    begin INSTANCE RUN               opens a restore; JSON on standard input says what will come
    receive INSTANCE RUN PART        a tar archive on standard input, unpacked beside production's own data
    adopt INSTANCE RUN PART          the same by renaming a folder of this host, named on standard input
    swap INSTANCE RUN                stops the server, exchanges the data by rename, starts it, waits until it answers
    back INSTANCE RUN                puts the old data back and starts the server on them
    clean INSTANCE RUN               removes what was received and not used; the old data stay
    sql INSTANCE [database=HEX]      statements on standard input, as the server's administrator

Each step of swap and back is written to a journal, and on disk, before it is made: after a crash at any point either
verb brings production to the new data or the old. Both go on when whoever called them is gone. The last line on
standard error begins with DBC-AGENT and tells, as JSON, whether all went well.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

AGENT_VERSION = 1
CONFIG = "/etc/dbcontinuity/agent"
STATE_FOLDER = "/var/lib/dbcontinuity-restore"
MARK = "dbcontinuity-"
# What a folder's copy that is loaded beside it is called, behind the folder's own name.
BESIDE = ".dbc-restore-"
# The places of a restore in the journal; from STOPPING to STARTING production may be without a server.
BEGUN, STOPPING, MOVING, STARTING, SWAPPED, RETURNING, RETURNED = (
    "begun",
    "stopping",
    "moving",
    "starting",
    "swapped",
    "returning",
    "returned",
)
UNDER_WAY = (STOPPING, MOVING, STARTING, RETURNING)
BLOCK_BYTES = 1024 * 1024
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/",
}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{3,62}")
_PART = re.compile(r"[a-z0-9]{1,40}")
_LOG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
_GTID = re.compile(r"\d{1,10}-\d{1,10}-\d{1,20}")
_VARIABLES = (
    "version",
    "log_bin",
    "log_bin_basename",
    "datadir",
    "innodb_data_home_dir",
    "innodb_undo_directory",
    "innodb_log_group_home_dir",
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "lower_case_table_names",
    "server_uid",
)
_OPTION = re.compile(r"--(?:loose[-_])?([A-Za-z][A-Za-z0-9_-]*)(?:=(.*))?")
_OWN_FILES = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
# What else people put into a data directory: certificates, files that the configuration includes.
_BESIDE_THEM = (".conf", ".crt", ".key", ".pem", ".crl")


class Refusal(Exception):
    """What the caller should read: one paragraph."""


# -- small things --


def program(name: str, *folders: str) -> str:
    """Return the path of a program."""
    found = shutil.which(name, path=os.pathsep.join([*filter(None, folders), ENVIRONMENT["PATH"]]))
    if found is None:
        raise Refusal(f"the program {name} is not on this host; install the package that brings it")
    return found


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all_below(path: Path) -> None:
    """Have the whole file system of *path* written out."""
    # A link is no place to open: what it leads to may not be there yet, or lie elsewhere.
    descriptor = os.open(path.parent if path.is_symlink() else path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def size_below(path: Path) -> int:
    """Return the bytes that the files below *path* take."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for base, _folders, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(base, name))
                total += min(found.st_size, found.st_blocks * 512) if found.st_blocks else 0
    return total


def mounts() -> dict[str, str]:
    """Return where something is mounted, and what: kind and options; the last one where there are several."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            place, _dash, what = line.rstrip("\n").partition(" - ")
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), place.split(" ")[4])
            found[point] = what
    return found


def mount_points() -> set[str]:
    """Return where something is mounted."""
    return set(mounts())


def on_overlay(path: Path) -> bool:
    """Return whether *path* lies on an overlay that renames no folder of its lower layers (EXDEV)."""
    known = mounts()
    place = Path(os.path.realpath(path))
    for each in (place, *place.parents):
        if str(each) in known:
            kind, _space, options = known[str(each)].partition(" ")
            return kind == "overlay" and "redirect_dir=on" not in options
    return False


def last_words(text: str) -> str:
    """Return the end of what a program printed, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-8:])[-2000:] or "it printed nothing"


# -- what is exchanged --


@dataclass(frozen=True)
class Root:
    """A folder of production's (or a single file) that a restore exchanges.

    It is exchanged as a whole by renames beside it. A mount point cannot be renamed: there the content moves, into and
    out of a folder within.
    """

    part: str
    path: Path
    run: str

    @property
    def mounted(self) -> bool:
        """Return whether it is a mount point, also one within a file system (a bind mount)."""
        return os.path.ismount(self.path) or str(self.path) in mount_points()

    @property
    def new(self) -> Path:
        """Return where the new data are received."""
        return self._aside("new")

    @property
    def old(self) -> Path:
        """Return where the old data end up."""
        return self._aside("old")

    def _aside(self, kind: str) -> Path:
        if self.mounted:
            return self.path / f".{MARK}{self.run}" / kind
        return self.path.with_name(f"{self.path.name}.{MARK}{self.run}.{kind}")

    def moves(self) -> list[tuple[str, str]]:
        """Return the renames that exchange old and new, in order."""
        if not self.mounted:
            out = [(str(self.path), str(self.old))] if os.path.lexists(self.path) else []
            return [*out, (str(self.new), str(self.path))]
        coming = sorted(os.listdir(self.new))
        return [(str(self.path / each), str(self.old / each)) for each in self.entries()] + [
            (str(self.new / each), str(self.path / each)) for each in coming
        ]

    def entries(self) -> list[str]:
        """Return what a mount point holds, without what stays there."""
        return sorted(
            each for each in os.listdir(self.path) if each != "lost+found" and not each.startswith(f".{MARK}")
        )

    def make_new(self, like: Mapping[str, int]) -> None:
        """Make the folder that receives, with the rights of what it will replace."""
        if self.mounted:
            self.new.parent.mkdir(mode=0o755, exist_ok=True)
            self.old.mkdir(mode=0o700, exist_ok=True)
        self.new.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self.new, like["uid"], like["gid"])
        os.chmod(self.new, like["mode"])

    def remove_new(self) -> None:
        """Remove what was received."""
        if self.new.is_dir() and not self.new.is_symlink():
            shutil.rmtree(self.new)
        elif os.path.lexists(self.new):
            self.new.unlink()
        if self.mounted and self.old.parent.is_dir() and not (self.old.is_dir() and os.listdir(self.old)):
            shutil.rmtree(self.old.parent)  # a server that took it for a database may have put a file of its own there

    def free_bytes(self) -> int:
        """Return the room beside it."""
        place = self.path
        while not place.exists():
            place = place.parent
        found = os.statvfs(place)
        return found.f_bavail * found.f_frsize

    def device(self) -> int:
        """Return the file system's number."""
        place = self.path if self.mounted else self.path.parent
        while not place.exists():
            place = place.parent
        return place.stat().st_dev


def exchange(moves: Sequence[Sequence[str]]) -> None:
    """Make the renames, in order, but those that have been made already.

    :raises Refusal: if a name is there that should not be, or the other way round: somebody else was at work.
    """
    made = [number for number, (source, target) in enumerate(moves) if _is_there(target) and not _is_there(source)]
    for source, target in moves[made[-1] + 1 if made else 0 :]:
        if not _is_there(source) or _is_there(target):
            raise Refusal(f"{source} cannot become {target}: {'it is there' if _is_there(target) else 'it is gone'}")
        _rename(source, target)


def _is_there(path: str) -> bool:
    return os.path.lexists(path)


def _rename(source: str, target: str) -> None:
    os.rename(source, target)
    for folder in sorted({os.path.dirname(source), os.path.dirname(target)}):
        sync_folder(Path(folder))


def undo(moves: Sequence[Sequence[str]]) -> None:
    """Take back those of the renames that were made, last first."""
    for first, then in reversed(moves):
        if _is_there(then) and not _is_there(first):
            _rename(then, first)


# -- the journal --


@dataclass
class Journal:
    """How far the restore of one instance is; on disk before each step."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> Journal:
        """Return the instance's journal, empty where no restore is open."""
        path = Path(str(config["restore"].get("state_dir", STATE_FOLDER))) / f"{name}.json"
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError:
            values = {}
        except ValueError as error:
            raise Refusal(f"{path} cannot be read: {error}; look at it before anything else") from None
        return cls(path, values)

    @property
    def phase(self) -> str:
        """Return the last step that was begun, empty where no restore is open."""
        return str(self.values.get("phase", ""))

    @property
    def run(self) -> str:
        """Return the run it belongs to."""
        return str(self.values.get("run", ""))

    def write(self, phase: str, **values: Any) -> None:
        """Note a step that is about to be made, durably."""
        self.values.update(values, phase=phase)
        temporary = self.path.with_suffix(".new")
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(self.values, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Forget the restore."""
        self.path.unlink(missing_ok=True)
        self.values = {}
        sync_folder(self.path.parent)

    @contextlib.contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """Hold the instance's lock, read the journal again within it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + seconds
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise Refusal("another step of this restore still runs on production; wait for it") from None
                time.sleep(0.2)
            self.values = json.loads(self.path.read_text()) if self.path.exists() else {}
            yield
        finally:
            os.close(descriptor)

    def expect(self, run: str) -> None:
        """Refuse a run that is not the one open."""
        if self.run != run:
            said = f"{self.run} ({self.phase})" if self.run else "none"
            raise Refusal(f"the restore {run} is not open on production; open: {said}")


# -- the engines --


class Engine:
    """What is common: folders that are exchanged, and perhaps a service around it."""

    programs: Sequence[str] = ()

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self.config = config
        self.settings: Mapping[str, Any] = config["restore"]
        self.timeout = float(self.settings.get("timeout_seconds", 600))

    # what is exchanged

    def roots(self, run: str, spec: Mapping[str, Any]) -> list[Root]:
        """Return what a restore of this instance exchanges, for the parts it brings."""
        raise NotImplementedError

    def like(self, root: Root) -> dict[str, int]:
        """Return owner and rights of what is replaced."""
        try:
            found = root.path.stat()
            return {"uid": found.st_uid, "gid": found.st_gid, "mode": found.st_mode & 0o7777}
        except FileNotFoundError:
            owner = self.owner()
            return {"uid": owner.pw_uid, "gid": owner.pw_gid, "mode": 0o700}

    def owner(self) -> pwd.struct_passwd:
        """Return whom the data belong to."""
        name = self.config.get("run_as")
        try:
            return pwd.getpwnam(str(name)) if name and os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        except KeyError:
            raise Refusal(f"the user {name!r} is not on this host") from None

    def become(self) -> dict[str, Any]:
        """Return how Popen becomes the owner."""
        owner = self.owner()
        if owner.pw_uid == os.geteuid():
            return {}
        return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def unpack_words(self) -> tuple[Sequence[str], Mapping[str, Any]]:
        """Return tar's options and whom it runs as."""
        return ("--no-same-owner", "--same-permissions"), self.become()

    def received(self, root: Root, spec: Mapping[str, Any]) -> None:
        """Make received data fit for their place."""

    # the service

    def processes(self) -> list[int]:
        """Return the server's processes, known by the folder they work in."""
        data = os.path.realpath(str(self.settings.get("datadir", "")))
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if (Path("/proc") / entry / "comm").read_text().strip() in self.programs and os.readlink(
                        f"/proc/{entry}/cwd"
                    ) == data:
                        found.append(int(entry))
        return found

    def stop(self) -> None:
        """End the server; one that does not end is killed, its data recover by themselves."""
        unit = self.settings.get("unit")
        said = ""
        if unit:
            said = self._command([program("systemctl"), "stop", str(unit)])
        elif self.settings.get("stop") and self.processes():
            said = self._command([str(word) for word in self.settings["stop"]])
        end = time.monotonic() + (self.timeout if not said else 5)
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        if self.processes():
            raise Refusal(f"the server of {self.name} cannot be stopped: {said or 'its processes do not end'}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        unit = self.settings.get("unit")
        started: Optional[subprocess.Popen[bytes]] = None
        if self.processes():
            pass
        elif unit:
            self._command([program("systemctl"), "reset-failed", str(unit)])
            said = self._command([program("systemctl"), "start", str(unit)])
            if said:
                raise Refusal(f"{unit} does not start: {said} {self._log()}")
        elif self.settings.get("start"):
            log = Path(str(self.settings.get("state_dir", STATE_FOLDER))) / f"{self.name}.start.log"
            with open(log, "wb") as sink:
                started = subprocess.Popen(
                    [str(word) for word in self.settings["start"]],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    cwd="/",
                    env=ENVIRONMENT,
                    start_new_session=True,
                )
        else:
            return
        end = time.monotonic() + self.timeout
        problem = self.answer_problem()
        gone_since: Optional[float] = None
        while problem:
            if started is not None and started.poll() not in (None, 0):
                raise Refusal(f"the server ended with status {started.returncode} while it started: {self._log()}")
            gone_since = None if self.processes() else gone_since or time.monotonic()
            if gone_since is not None and time.monotonic() > gone_since + 15:
                raise Refusal(f"the server of {self.name} started and ended: {self._log()}")
            if time.monotonic() > end:
                raise Refusal(f"the server of {self.name} does not answer within {self.timeout:g} seconds: {problem}")
            time.sleep(0.1)
            problem = self.answer_problem()

    def answer_problem(self) -> str:
        """Return why the server does not answer queries, empty if it does."""
        return ""

    def proof_problem(self, spec: Mapping[str, Any]) -> str:
        """Return why the running server is not what was restored, empty if it is."""
        return ""

    def _command(self, argv: Sequence[str]) -> str:
        """Run a command; return what it said if it failed."""
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout, check=False, env=ENVIRONMENT
            )
        except subprocess.TimeoutExpired:
            return f"{Path(argv[0]).name} did not end within {self.timeout:g} seconds."
        if done.returncode == 0:
            return ""
        return f"{shlex.join(argv)} ended with status {done.returncode}: " + last_words(
            (done.stdout + done.stderr).decode("utf-8", "replace")
        )

    def _log(self) -> str:
        """Return the end of what the server's start printed."""
        unit = self.settings.get("unit")
        if unit:
            done = subprocess.run(
                ["journalctl", "--unit", str(unit), "--lines=15", "--no-pager", "--output=cat"],
                capture_output=True,
                check=False,
                env=ENVIRONMENT,
            )
            return last_words(done.stdout.decode("utf-8", "replace"))
        with contextlib.suppress(OSError):
            log = Path(str(self.settings.get("state_dir", STATE_FOLDER))) / f"{self.name}.start.log"
            return last_words(log.read_text(errors="replace"))
        return ""

    # asking

    def client(self, database: str) -> tuple[list[str], dict[str, Any]]:
        """Return the client's command as administrator, and whom it runs as."""
        raise Refusal(f"{self.name} is a set of folders: nothing there answers SQL")

    def ask(self, sql: str) -> list[list[str]]:
        """Return the rows of a small question.

        :raises Refusal: with the server's words.
        """
        argv, options = self.client("")
        done = subprocess.run(
            argv, input=sql.encode(), capture_output=True, timeout=60, check=False, env=ENVIRONMENT, cwd="/", **options
        )
        if done.returncode:
            raise Refusal(last_words(done.stderr.decode("utf-8", "replace")))
        return [line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines()]

    def facts(self) -> dict[str, Any]:
        """Return what else the caller should know before anything is done."""
        return {}


class MariaDB(Engine):
    """A MariaDB server."""

    programs = ("mariadbd", "mysqld")

    def roots(self, run: str, spec: Mapping[str, Any]) -> list[Root]:
        found = [Root("data", Path(os.path.realpath(self.settings["datadir"])), run)]
        if self.log_folder is not None:
            # The restored server must not find the old logs: its numbers start over, its history is another one.
            found.append(Root("logs", self.log_folder, run))
        return found

    @property
    def log_folder(self) -> Optional[Path]:
        """Return the folder of the binary logs where it is not the data directory."""
        folder = self.settings.get("binlog_dir")
        data = os.path.realpath(self.settings["datadir"])
        return Path(os.path.realpath(folder)) if folder and os.path.realpath(folder) != data else None

    def received(self, root: Root, spec: Mapping[str, Any]) -> None:
        if not spec.get("log_name"):
            return
        if not _LOG_NAME.fullmatch(spec["log_name"]) or not all(_GTID.fullmatch(each) for each in self._state(spec)):
            raise Refusal("the name of the binary logs, or the state they begin in, cannot be meant")
        # A server that finds this file and no binary log takes its state over before it lets anybody in.
        if root.part == ("logs" if self.log_folder is not None else "data"):
            state = root.new / f"{spec['log_name']}.state"
            state.write_text("".join(f"{gtid}\n" for gtid in self._state(spec)))
            owner = self.owner()
            if os.geteuid() == 0:
                os.chown(state, owner.pw_uid, owner.pw_gid)
            state.chmod(0o660)

    @staticmethod
    def _state(spec: Mapping[str, Any]) -> list[str]:
        return [str(each) for each in spec.get("gtid_binlog_state", [])]

    def client(self, database: str) -> tuple[list[str], dict[str, Any]]:
        option_file = self.settings.get("admin_option_file")
        argv = [program("mariadb"), f"--defaults-file={option_file}" if option_file else "--no-defaults"]
        if self.settings.get("socket"):
            argv.append(f"--socket={self.settings['socket']}")
        argv += ["--batch", "--skip-column-names", "--binary-mode", "--default-character-set=utf8mb4"]
        argv += ["--max-allowed-packet=1G", "--local-infile=0", "--connect-timeout=10"]
        # A statement that is refused may hold patients' rows, and what is said of it goes into the ledger.
        argv.append("--loose-skip-print-query-on-error")
        return [*argv, f"--database={database}"] if database else argv, {}

    def answer_problem(self) -> str:
        try:
            return "" if self.ask("SELECT 1;") == [["1"]] else "it gives no answer"
        except Refusal as refusal:
            return str(refusal)

    def proof_problem(self, spec: Mapping[str, Any]) -> str:
        wanted = list(spec.get("gtid_binlog_state", []))
        on, base, state = self.ask("SELECT @@log_bin, @@log_bin_basename, @@GLOBAL.gtid_binlog_state;")[0]
        if on != "1":
            return ""
        reached = {tuple(each.split("-")[:2]): int(each.split("-")[2]) for each in state.split(",") if each}
        for each in wanted:
            domain, server, number = each.split("-")
            if reached.get((domain, server), -1) < int(number):
                return (
                    f"its binary log {base} begins at {state or '(nothing)'} instead of {','.join(wanted)}: log_bin or its"
                    " folder is not what the backup and binlog_dir say"
                )
        return ""

    def facts(self) -> dict[str, Any]:
        data = Path(os.path.realpath(self.settings["datadir"]))
        found: dict[str, Any] = {"link_files": sorted(str(path.relative_to(data)) for path in data.glob("*/*.isl"))}
        names = list(_VARIABLES)
        try:
            rows = self.ask("SELECT " + ", ".join(f"@@GLOBAL.{name}" for name in names) + ";")
            found["variables"] = dict(zip(names, rows[0]))
            found["version"] = found["variables"]["version"]
        except Refusal as refusal:
            found["problem"] = str(refusal)
            found["configured"] = self.configured()
            shown = subprocess.run(
                [program("mariadbd"), "--no-defaults", "--version"], capture_output=True, check=False, env=ENVIRONMENT
            )
            match = re.search(rb"Ver (\S+)", shown.stdout)
            found["version"] = match.group(1).decode() if match else ""
        return found

    def configured(self) -> dict[str, str]:
        """Return what option files and command say of the variables looked at; no server is started for it."""
        words = [str(word) for word in self.settings.get("start", [])]
        begin = next((number for number, word in enumerate(words) if Path(word).name in self.programs), None)
        if words and begin is None:
            return {}  # a script: what it adds cannot be known
        command = words[begin:] if begin is not None else [program("mariadbd")]
        files = [word for word in command[1:] if word.startswith("--defaults-") or word == "--no-defaults"]
        shown = subprocess.run(
            [command[0], *files, "--print-defaults"], capture_output=True, check=False, env=ENVIRONMENT, cwd="/"
        )
        found = {}
        for word in [*shown.stdout.decode("utf-8", "replace").split(), *command[1:]]:
            match = _OPTION.fullmatch(word)
            name = match.group(1).replace("-", "_") if match else ""
            if match and name in _VARIABLES:
                found[name] = "1" if match.group(2) is None else match.group(2)
        return found


class PostgreSQL(Engine):
    """A PostgreSQL server."""

    programs = ("postgres", "postmaster")

    def roots(self, run: str, spec: Mapping[str, Any]) -> list[Root]:
        data = Path(os.path.realpath(self.settings["datadir"]))
        found = [Root("data", data, run)]
        known = self.tablespaces()
        for part, place in sorted(spec.get("tablespaces", {}).items()):
            path = Path(os.path.realpath(place))
            if not re.fullmatch(r"\d{1,10}", str(part)) or path == data or data in path.parents or path in data.parents:
                raise Refusal(f"{place} cannot be the place of a tablespace {part} of {self.name}")
            # A server that was made anew numbers its tablespaces in its own way: before and after the exchange the place is
            # production's, under one number or the other.
            fits = str(path) in known.values() if spec.get("links") else known.get(str(part)) == str(path)
            if not fits and (not path.is_absolute() or (path.exists() and not self._empty(path))):
                raise Refusal(f"{place} is no tablespace {part} of {self.name}, and not empty: nothing is put there")
            found.append(Root(str(part), path, run))
        return found

    @staticmethod
    def _empty(path: Path) -> bool:
        return path.is_dir() and not [each for each in os.listdir(path) if each != "lost+found"]

    def tablespaces(self) -> dict[str, str]:
        """Return production's tablespaces, by the links in its data directory."""
        found = {}
        folder = Path(os.path.realpath(self.settings["datadir"])) / "pg_tblspc"
        with contextlib.suppress(OSError):
            found = {link.name: os.path.realpath(link) for link in folder.iterdir() if link.is_symlink()}
        return found

    def received(self, root: Root, spec: Mapping[str, Any]) -> None:
        if root.part != "data":
            return
        root.new.chmod(0o700)
        owner = self.owner()
        for part, place in spec.get("tablespaces", {}).items():
            link = root.new / "pg_tblspc" / self._link_name(spec, str(part))
            if os.path.lexists(link):
                link.unlink()
            link.symlink_to(os.path.realpath(place))
            if os.geteuid() == 0:
                os.chown(link, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        if spec.get("keep_configuration"):
            self._keep_configuration(root, owner)

    @staticmethod
    def _link_name(spec: Mapping[str, Any], part: str) -> str:
        """Return the number that the new data know a tablespace by; that of a server made anew is another one."""
        name = str(spec.get("links", {}).get(part, part))
        if not re.fullmatch(r"\d{1,10}", name):
            raise Refusal(f"{name!r} cannot be the number of a tablespace")
        return name

    @staticmethod
    def _keep_configuration(root: Root, owner: pwd.struct_passwd) -> None:
        """Take production's own settings over into a data directory that was made anew: no dump holds them.

        Where the old one is gone, the new one's stay, which let nobody in without a password.
        """
        whole = (root.path / "PG_VERSION").is_file()
        for name in _OWN_FILES:
            if whole and not (root.path / name).is_file():
                (root.new / name).unlink(missing_ok=True)  # Debian keeps them elsewhere
        if not root.path.is_dir():
            return
        for path in sorted(root.path.iterdir()):
            if path.is_symlink() or not path.is_file() or path.suffix not in _BESIDE_THEM:
                continue
            target = root.new / path.name
            target.unlink(missing_ok=True)
            shutil.copy2(path, target)
            if os.geteuid() == 0:
                os.chown(target, owner.pw_uid, owner.pw_gid)

    def client(self, database: str) -> tuple[list[str], dict[str, Any]]:
        argv = [program("psql", str(self.settings.get("program_dir", ""))), "-X", "-q", "-t", "--csv", "--no-password"]
        # Terse: an error's DETAIL and CONTEXT hold patients' rows, and what is said of it goes into the ledger.
        argv += ["-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-P", "csv_fieldsep=\t", "-P", "null=\x01NULL\x01"]
        if self.settings.get("socket"):
            argv += ["-h", str(self.settings["socket"])]
        if self.settings.get("port"):
            argv += ["-p", str(self.settings["port"])]
        # A connection string, so that no name is taken for one.
        quoted = (database or "postgres").replace("\\", "\\\\").replace("'", "\\'")
        return [*argv, "-U", str(self.settings.get("admin", "postgres")), "-d", f"dbname='{quoted}'"], self.become()

    def answer_problem(self) -> str:
        try:
            recovering = self.ask("SELECT pg_is_in_recovery();") != [["f"]]
            return "it is still in recovery" if recovering else ""
        except Refusal as refusal:
            return str(refusal)

    def proof_problem(self, spec: Mapping[str, Any]) -> str:
        # Not the checkpoint's timeline: a server that was just promoted has not made one yet.
        said = self.ask(
            "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,"
            " (SELECT system_identifier FROM pg_control_system());"
        )[0]
        wanted = [str(spec.get("timeline", said[0])), str(spec.get("system_identifier", said[1]))]
        if said != wanted:
            return f"it is timeline {said[0]} of {said[1]} instead of timeline {wanted[0]} of {wanted[1]}"
        return ""

    def facts(self) -> dict[str, Any]:
        data = Path(os.path.realpath(self.settings["datadir"]))
        wal = data / "pg_wal"
        found: dict[str, Any] = {
            "tablespaces": self.tablespaces(),
            "wal_link": os.path.realpath(wal) if wal.is_symlink() else "",
        }
        try:
            version, identifier, timeline = self.ask(
                "SELECT current_setting('server_version'), (SELECT system_identifier FROM pg_control_system()),"
                " ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int;"
            )[0]
            found.update(version=version.split()[0], system_identifier=identifier, timeline=int(timeline))
        except Refusal as refusal:
            found["problem"] = str(refusal)
            folder = str(self.settings.get("program_dir", ""))
            shown = subprocess.run(
                [program("postgres", folder), "--version"], capture_output=True, check=False, env=ENVIRONMENT
            )
            match = re.search(rb"(\d[\d.]*)", shown.stdout)
            found["version"] = match.group(1).decode() if match else ""
        return found


class Folders(Engine):
    """A set of folders, and perhaps a service that works in them."""

    def roots(self, run: str, spec: Mapping[str, Any]) -> list[Root]:
        allowed = [os.path.normpath(str(path)) for path in self.config.get("paths", [])]
        found = []
        for part, place in sorted(spec.get("folders", {}).items()):
            path = os.path.normpath(str(place))
            if not any(path == each or path.startswith((each.rstrip("/") + "/", each + BESIDE)) for each in allowed):
                raise Refusal(f"{place} lies outside the folders of {self.name}: {', '.join(allowed)}")
            if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
                raise Refusal(f"{path} lies behind a symbolic link; name the folder itself in dbc_instances")
            found.append(Root(str(part), Path(path), run))
        return found

    def unpack_words(self) -> tuple[Sequence[str], Mapping[str, Any]]:
        same = ("--same-owner", "--numeric-owner") if os.geteuid() == 0 else ("--no-same-owner",)
        return (*same, "--same-permissions", "--acls", "--xattrs"), {}

    def received(self, root: Root, spec: Mapping[str, Any]) -> None:
        if root.part in spec.get("single", []) and root.new.is_dir() and not root.new.is_symlink():
            # It came as the only entry of a folder.
            wrapping = root.new.with_name(root.new.name + ".d")
            root.new.rename(wrapping)
            next(iter(wrapping.iterdir())).rename(root.new)
            wrapping.rmdir()

    def processes(self) -> list[int]:
        return []

    def facts(self) -> dict[str, Any]:
        return {"paths": [str(path) for path in self.config.get("paths", [])], "version": ""}


ENGINES: dict[str, type[Engine]] = {"mariadb": MariaDB, "postgresql": PostgreSQL, "files": Folders}


def load(folder: Path, name: str) -> Engine:
    """Return an instance that may be restored here."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise Refusal(f"{name!r} cannot be the name of an instance")
    path = folder / f"{name}.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise Refusal(f"the instance {name!r} is not allowed on this host: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} cannot be read: {error}") from None
    kind = ENGINES.get(str(config.get("engine")))
    if kind is None or not isinstance(config.get("restore"), dict):
        raise Refusal(f'{path} lets nobody restore {name!r}: it has no section "restore"; run the playbook restore')
    settings = config["restore"]
    if kind.programs and not (settings.get("datadir") and (settings.get("unit") or settings.get("stop"))):
        raise Refusal(f"{path} does not say where the data of {name!r} lie, or how its server is stopped and started")
    return kind(name, config)


# -- the verbs --


def look(engine: Engine) -> dict[str, Any]:
    """Return what is here; nothing is changed."""
    journal = Journal.of(engine.config, engine.name)
    facts = engine.facts()
    spec = {"tablespaces": facts.get("tablespaces", {}), "folders": dict(enumerate(facts.get("paths", [])))}
    parts = {}
    leftovers = []
    for root in engine.roots("look", spec):
        exists = os.path.lexists(root.path)
        parts[root.part] = {
            "path": str(root.path),
            "exists": exists,
            "mount_point": root.mounted,
            "bytes": size_below(root.path) if exists else 0,
            "free_bytes": root.free_bytes(),
            "device": root.device(),
            "overlay": not root.mounted and on_overlay(root.path),
            "mounts": sorted(each for each in mount_points() if each.startswith(f"{root.path}/")),
        }
        inside = root.path.glob(f".{MARK}*/*") if root.mounted else ()
        for path in sorted([*root.path.parent.glob(f"{root.path.name}.{MARK}*"), *inside]):
            leftovers.append({"part": root.part, "path": str(path)})
    pids = engine.processes()
    return {
        "agent_version": AGENT_VERSION,
        "engine": engine.config["engine"],
        "running": bool(pids),
        "answers": not facts.get("problem") and (bool(pids) or not engine.programs),
        "parts": parts,
        "leftovers": leftovers,
        "journal": {key: journal.values.get(key) for key in ("run", "phase", "spec", "swapped") if journal.values},
        **facts,
    }


def begin(engine: Engine, run: str) -> dict[str, Any]:
    """Open a restore."""
    try:
        spec = json.loads(sys.stdin.buffer.read())
    except ValueError:
        raise Refusal("what the restore brings is no JSON") from None
    parts = [str(each) for each in spec.get("parts", [])]
    journal = Journal.of(engine.config, engine.name)
    with journal.held(5):
        if journal.phase in UNDER_WAY:
            raise Refusal(
                f"the restore {journal.run} was interrupted while it was {journal.phase}; it has to go back, or on, first"
            )
        if journal.run:
            _remove_received(engine, journal)
        roots = engine.roots(run, spec)
        for root in roots:
            if root.part in parts or root.part == "logs":
                root.remove_new()
                if root.part == "logs":  # nothing comes for it: it begins empty
                    root.make_new(engine.like(root))
                    engine.received(root, spec)
        unknown = sorted(set(parts) - {root.part for root in roots})
        if unknown:
            raise Refusal(f"{engine.name} has no place for {', '.join(unknown)}")
        journal.values = {"instance": engine.name, "run": run, "spec": spec, "received": {}}
        journal.write(BEGUN)
        return {"parts": _places(roots)}


def _places(roots: Sequence[Root]) -> dict[str, Any]:
    return {root.part: {"path": str(root.path), "new": str(root.new), "old": str(root.old)} for root in roots}


def _remove_received(engine: Engine, journal: Journal) -> None:
    for root in engine.roots(journal.run, journal.values.get("spec", {})):
        root.remove_new()


def _root(engine: Engine, journal: Journal, part: str) -> Root:
    for root in engine.roots(journal.run, journal.values["spec"]):
        if root.part == part and part in journal.values["spec"]["parts"]:
            return root
    raise Refusal(f"the restore {journal.run} brings no {part!r}")


def receive(engine: Engine, run: str, part: str) -> dict[str, Any]:
    """Unpack what comes beside production's own data; it counts once the caller's hash can be held against ours."""
    journal = Journal.of(engine.config, engine.name)
    with journal.held(5):
        journal.expect(run)
        if journal.phase != BEGUN:
            raise Refusal(f"the restore {run} is {journal.phase}: nothing more can be brought")
        root = _root(engine, journal, part)
        root.remove_new()
        root.make_new(engine.like(root))
        words, options = engine.unpack_words()
        digest, count = hashlib.sha256(), 0
        with subprocess.Popen(
            [program("tar"), "--extract", "--file=-", *words, f"--directory={root.new}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            **options,
        ) as tar:
            if tar.stdin is None or tar.stderr is None:
                raise AssertionError("Popen was asked for pipes")
            buffer = bytearray(BLOCK_BYTES)
            view = memoryview(buffer)
            with contextlib.suppress(BrokenPipeError):
                while True:
                    got = os.readv(0, [buffer])
                    if not got:
                        break
                    digest.update(view[:got])
                    tar.stdin.write(view[:got])
                    count += got
                tar.stdin.close()
            said = tar.stderr.read().decode("utf-8", "replace")
        if tar.returncode:
            raise Refusal(f"tar ended with status {tar.returncode}: {last_words(said)}")
        if not count:
            raise Refusal("nothing came")
        _accept(engine, journal, root, {"bytes": count, "sha256": digest.hexdigest()})
        return {"bytes": count, "sha256": digest.hexdigest()}


def adopt(engine: Engine, run: str, part: str) -> dict[str, Any]:
    """Rename a folder of this host into its place; not for callers from elsewhere."""
    source = Path(os.fsdecode(sys.stdin.buffer.read()))
    if "SSH_ORIGINAL_COMMAND" in os.environ:
        raise Refusal("only a caller on this host can name a folder of it")
    journal = Journal.of(engine.config, engine.name)
    with journal.held(5):
        journal.expect(run)
        if journal.phase != BEGUN:
            raise Refusal(f"the restore {run} is {journal.phase}: nothing more can be brought")
        root = _root(engine, journal, part)
        if source.is_symlink() or not source.is_absolute() or not source.exists():
            raise Refusal(f"{source} is no folder")
        if source.stat().st_dev != root.device():
            return {"adopted": False}
        root.remove_new()
        like = engine.like(root)
        if root.mounted:
            root.make_new(like)
            root.new.rmdir()
        try:
            os.rename(source, root.new)
        except OSError as error:
            if error.errno != errno.EXDEV:  # the same file system, mounted twice
                raise
            return {"adopted": False}
        if os.geteuid() == 0 and engine.config["engine"] != "files":
            _give(root.new, engine.owner())
        if root.new.is_dir() and engine.config["engine"] != "files":
            root.new.chmod(like["mode"])
        _accept(engine, journal, root, {"bytes": size_below(root.new)})
        return {"adopted": True}


def _give(folder: Path, owner: pwd.struct_passwd) -> None:
    for base, folders, names in os.walk(folder):
        for each in (".", *folders, *names):
            os.chown(os.path.join(base, each), owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _accept(engine: Engine, journal: Journal, root: Root, facts: Mapping[str, Any]) -> None:
    """Note that a part is there, whole and on disk."""
    engine.received(root, journal.values["spec"])
    sync_all_below(root.new)
    journal.write(BEGUN, received={**journal.values["received"], root.part: dict(facts)})


def swap(engine: Engine, run: str) -> dict[str, Any]:
    """Exchange old and new; goes back by itself where that fails."""
    journal = Journal.of(engine.config, engine.name)
    with journal.held(1800):
        journal.expect(run)
        if journal.phase == SWAPPED:
            return dict(journal.values["swapped"])
        if journal.phase not in (BEGUN, STOPPING, MOVING, STARTING):
            raise Refusal(f"the restore {run} is {journal.phase}: begin it anew")
        spec = journal.values["spec"]
        lacking = sorted(set(spec["parts"]) - set(journal.values["received"]))
        if lacking:
            raise Refusal(f"{', '.join(lacking)} of the restore {run} has not been received whole")
        try:
            return _exchange(engine, journal, spec)
        except (Refusal, OSError) as error:
            reason = str(error)
            try:
                _return(engine, journal)
            except (Refusal, OSError) as second:
                raise Refusal(
                    f"{reason}; and the old data could not be put back: {second}. {_where(journal)}"
                ) from None
            raise Refusal(f"{reason}; the old data were put back, and production runs on them") from None


def _exchange(engine: Engine, journal: Journal, spec: Mapping[str, Any]) -> dict[str, Any]:
    roots = engine.roots(journal.run, spec)
    began = time.monotonic()
    if journal.phase in (BEGUN, STOPPING):
        journal.write(STOPPING, was_running=bool(engine.processes()))
        engine.stop()
        exchanged = [root for root in roots if root.part in spec["parts"] or root.part == "logs"]
        moves = [each for root in exchanged for each in root.moves()]
        # Whether a root is mounted, and what lies in it, must not be asked again half-way.
        journal.write(MOVING, moves=moves, places=_places(exchanged))
    stopped = time.monotonic()
    if journal.phase == MOVING:
        engine.stop()
        exchange(journal.values["moves"])
        journal.write(STARTING)
    engine.start()
    problem = engine.proof_problem(spec)
    if problem:
        raise Refusal(f"the server started on the new data, but {problem}")
    result = {
        "parts": journal.values["places"],
        "stop_seconds": round(stopped - began, 3),
        "start_seconds": round(time.monotonic() - stopped, 3),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    journal.write(SWAPPED, swapped=result)
    return result


def back(engine: Engine, run: str) -> dict[str, Any]:
    """Put the old data back."""
    journal = Journal.of(engine.config, engine.name)
    with journal.held(1800):
        journal.expect(run)
        if journal.phase in (BEGUN, RETURNED):
            return {"changed": False, "phase": journal.phase}
        try:
            _return(engine, journal)
        except (Refusal, OSError) as error:
            raise Refusal(f"the old data could not be put back: {error}. {_where(journal)}") from None
        return {"changed": True, "phase": journal.phase}


def _return(engine: Engine, journal: Journal) -> None:
    if journal.phase in (STARTING, SWAPPED):
        engine.stop()
        journal.write(RETURNING, moves=[*journal.values["moves"], *_made_since(engine, journal)])
    journal.write(RETURNING)
    moves = journal.values.get("moves", [])
    if moves:
        engine.stop()
        undo(moves)
    data = journal.values.get("places", {}).get("data", {}).get("path")
    if moves and data is not None and not os.path.lexists(data):
        journal.write(RETURNED)  # there were no old data to begin with: nothing can be started on them
        return
    if journal.values.get("was_running") or moves:
        engine.start()
    journal.write(RETURNED)


def _made_since(engine: Engine, journal: Journal) -> list[tuple[str, str]]:
    """Return as renames what the new server has made in a mount point: it goes out again with the new data."""
    known = {target for _source, target in journal.values["moves"]}
    found = []
    for root in engine.roots(journal.run, journal.values["spec"]):
        if root.part in journal.values["places"] and root.mounted:
            made = [each for each in root.entries() if str(root.path / each) not in known]
            found += [(str(root.new / each), str(root.path / each)) for each in made]
    return found


def _where(journal: Journal) -> str:
    """Say what is where, for people."""
    said = []
    for place in journal.values.get("places", {}).values():
        there = [f"{kind} {place[kind]}" for kind in ("path", "old", "new") if os.path.lexists(place[kind])]
        said.append(f"of {place['path']} there are: {', '.join(there) or 'nothing'}")
    return "; ".join(said) or "nothing had been moved"


def clean(engine: Engine, run: str) -> dict[str, Any]:
    """Close a restore."""
    journal = Journal.of(engine.config, engine.name)
    with journal.held(60):
        if not journal.run:
            return {"closed": False}
        journal.expect(run)
        if journal.phase in UNDER_WAY:
            raise Refusal(
                f"the restore {run} was interrupted while it was {journal.phase}; it has to go back, or on, first"
            )
        _remove_received(engine, journal)
        journal.close()
        return {"closed": True}


def sql(engine: Engine, database: str) -> dict[str, Any]:
    """Hand statements to the server's own client; the first error ends it."""
    argv, options = engine.client(database)
    done = subprocess.run(argv, stderr=subprocess.PIPE, check=False, env=ENVIRONMENT, cwd="/", **options)
    if done.returncode:
        raise Refusal(f"the server refused: {last_words(done.stderr.decode('utf-8', 'replace'))}")
    return {}


# -- the command --


def survive(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work in a process of its own, which goes on when this one, or whoever called it, is killed.

    :raises Refusal: if it ended without an answer.
    """
    ears, mouth = os.pipe()
    child = os.fork()
    if not child:
        os.close(ears)
        try:
            os.setsid()
            for each in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_IGN)
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(nothing, descriptor)
            try:
                outcome: dict[str, Any] = {"value": work()}
            except Refusal as refusal:
                outcome = {"error": str(refusal)}
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller reads it
                outcome = {"error": f"{type(error).__name__}: {error}"}
            with contextlib.suppress(OSError):
                os.write(mouth, json.dumps(outcome).encode())
        finally:
            os._exit(0)
    os.close(mouth)
    with os.fdopen(ears, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    if not said:
        raise Refusal("the work was killed; run the same restore again: it heals what is half done")
    value: dict[str, Any] = json.loads(said)
    if "error" in value:
        raise Refusal(str(value["error"]))
    return dict(value["value"])


def do(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Do one verb; return what the last line tells besides."""
    if len(words) < 2:
        raise Refusal("say a verb and an instance: look, begin, receive, adopt, swap, back, clean or sql")
    verb, name, *rest = words
    engine = load(folder, name)
    if verb == "look" and not rest:
        return answer(look(engine))
    if verb == "sql" and len(rest) < 2:
        match = re.fullmatch(r"database=((?:[0-9a-f]{2})+)", rest[0]) if rest else None
        if rest and match is None:
            raise Refusal(f"the option {rest[0]!r} is not known")
        return sql(engine, bytes.fromhex(match.group(1)).decode() if match else "")
    if not rest or not _RUN.fullmatch(rest[0]):
        raise Refusal(f"{verb} needs the name of a run")
    run = rest[0]
    if verb in ("receive", "adopt") and len(rest) == 2 and _PART.fullmatch(rest[1]):
        return receive(engine, run, rest[1]) if verb == "receive" else answer(adopt(engine, run, rest[1]))
    if len(rest) == 1 and verb == "begin":
        return answer(begin(engine, run))
    if len(rest) == 1 and verb == "swap":
        return answer(survive(lambda: swap(engine, run)))
    if len(rest) == 1 and verb == "back":
        return answer(survive(lambda: back(engine, run)))
    if len(rest) == 1 and verb == "clean":
        return answer(clean(engine, run))
    raise Refusal(f"{' '.join(words)!r} is not known: look, begin, receive, adopt, swap, back, clean or sql")


def answer(value: Mapping[str, Any]) -> dict[str, Any]:
    """Print what a verb answers."""
    sys.stdout.write(json.dumps(value))
    sys.stdout.flush()
    return {}


def main() -> int:
    """Do one verb; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=CONFIG, metavar="DIR", help=f"folder of instances (default {CONFIG})")
    parser.add_argument("words", nargs="*", metavar="WORD", help="verb, instance, run")
    given = parser.parse_args()
    original = os.environ.get("SSH_ORIGINAL_COMMAND")
    trailer: dict[str, Any] = {"ok": False}
    try:
        trailer = {"ok": True, **do(shlex.split(original) if original is not None else given.words, Path(given.config))}
    except Refusal as refusal:
        trailer["error"] = str(refusal)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        trailer["error"] = f"{type(error).__name__}: {error}"
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"DBC-AGENT {json.dumps(trailer)}\n")
        sys.stderr.flush()
    return 0 if trailer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
