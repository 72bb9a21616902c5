# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver: streams one instance's log into staging, as it is written, and starts again by itself.

A program of its own, installed on the backup host by ``log_shipping``; it needs nothing but Python's standard library.

    python3 dbcontinuity-receiver --config FILE run      in the foreground: what systemd starts
    python3 dbcontinuity-receiver --config FILE start    in the background, under a supervisor of its own
    python3 dbcontinuity-receiver --config FILE stop     end the supervisor and the stream
    python3 dbcontinuity-receiver --config FILE status   print what it last said, as JSON

The configuration (JSON, read anew for each connection) says which command streams; this program knows no database:

    instance, engine       names, for people
    staging                the folder that everything is written into
    folder                 "connection": a folder of its own for each connection; else the name of the one folder
    argv, environment      the command; {folder} and {start} are replaced
    start                  null, or where {start} comes from: logs (the folder of lineages), head_key and opening_key (what
                           to take from the newest log's end or the chain's start), otherwise (a command whose first
                           word of output is taken), missing (text in an error that means: use otherwise)
    probe                  null, or argv (prints the server's log name and size) and seconds: a stream that stands still
                           while the server's log grows is taken for dead
    minimum_free_bytes     below it nothing is written: the stream ends until there is room; production is not affected
    poll_seconds, backoff_seconds ([first, longest])

What it does stands in ``staging/receiver.json``, replaced as a whole. No secret is ever in its arguments or output: the
command's own option file holds them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

RECEIVER_VERSION = 1
STATUS = "receiver.json"
LOCK = "receiver.lock"
SUPERVISOR_LOCK = "receiver-supervisor.lock"
LOG = "receiver.log"
CRASH = "receiver.crash"
LOG_BYTES = 512 * 1024
ALREADY_RUNNING = 75
_LINEAGE = re.compile(r"^\d{8}T\d{6}Z-\d{4}$")
_KEPT_STDERR = 4000
_SYNC_SECONDS = 5.0
_TELL_SECONDS = 10.0
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ReceiverError(Exception):
    """Something the reader of the status should know."""


def now() -> str:
    """Return the present moment as text, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration.

    :raises ReceiverError: if it cannot be used.
    """
    try:
        data = path.read_bytes()
        values = json.loads(data)
        for key in ("instance", "staging", "argv", "folder", "minimum_free_bytes"):
            values[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReceiverError(f"the configuration {path} cannot be used: {error}") from None
    if values.get("receiver_version") != RECEIVER_VERSION:
        raise ReceiverError(
            f"the configuration {path} is of version {values.get('receiver_version')!r}, this program knows {RECEIVER_VERSION}"
        )
    values["sha256"] = hashlib.sha256(data).hexdigest()
    return dict(values)


def lock_is_held(path: Path) -> bool:
    """Return whether another process holds the lock; its file alone says nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock, the process id in its file.

    :raises BlockingIOError: if another process does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    # Who only looks whether the lock is held has it for a moment: that is no other holder. Looks are counted, not
    # seconds: a host that stood still for some would leave one look.
    looks = 100
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                looks -= 1
                if not looks:
                    raise
                time.sleep(0.01)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def spawn(argv: Sequence[str], environment: Mapping[str, str], stderr: Any) -> subprocess.Popen[bytes]:
    """Start a child that dies with this process, in a small fixed environment."""
    setpriv = shutil.which("setpriv", path=_SYSTEM_PATH)
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    base = {"PATH": os.environ.get("PATH") or _SYSTEM_PATH, "HOME": "/", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return subprocess.Popen(
        [*guard, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={**base, **environment},
        cwd="/",
        start_new_session=True,
    )


def ask(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the words of a command's first line of output; none if it fails."""
    base = {"PATH": os.environ.get("PATH") or _SYSTEM_PATH, "HOME": "/", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**base, **environment},
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode("utf-8", "replace").splitlines() if done.returncode == 0 else []
    return lines[0].split() if lines else []


def chain_start(rule: Mapping[str, Any]) -> str:
    """Return where the chain of archived logs goes on; empty if there is no chain yet."""
    logs = Path(str(rule["logs"]))
    try:
        names = sorted(entry.name for entry in logs.iterdir() if _LINEAGE.match(entry.name))
        lineage = logs / names[-1]
        if (lineage / "head.json").exists():
            record = json.loads((lineage / "head.json").read_bytes())["record"]
            return str(json.loads((lineage / str(record)).read_bytes())["end"][rule["head_key"]])
        return str(json.loads((lineage / "lineage.json").read_bytes())["start"][rule["opening_key"]])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ""


class Worker:
    """The stream itself: one connection after the other until it is told to end."""

    def __init__(self, config_path: Path, log: Optional[Path]) -> None:
        self._config_path = config_path
        self._log_path = log
        self._stopping = False
        self._config: dict[str, Any] = {}
        self._status: dict[str, Any] = {}
        self._told = ""
        self._told_at = 0.0
        self._last_error = ""

    def stop(self, *_: object) -> None:
        """End at the next look."""
        self._stopping = True

    def log(self, text: str) -> None:
        """Say something, in a file that stays small or on standard error."""
        line = f"{now()} {self._config.get('instance', '')}: {text}\n"
        if self._log_path is None:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        with contextlib.suppress(OSError):
            if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES:
                os.replace(self._log_path, f"{self._log_path}.1")
            with self._log_path.open("a") as stream:
                stream.write(line)

    def tell(self, **more: Any) -> None:
        """Write the status if it changed, or if it has not been written for a while."""
        changed = any(self._status.get(key) != value for key, value in more.items())
        self._status.update(more)
        if not changed and time.monotonic() - self._told_at < _TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        values = {**self._status, "last_error": self._last_error, "updated_at": now()}
        path = Path(str(self._config["staging"])) / STATUS
        fresh = path.with_name(f".{STATUS}.new")
        try:
            fresh.write_text(json.dumps(values, sort_keys=True, indent=2) + "\n")
            os.replace(fresh, path)
        except OSError as error:
            self.log(f"the status cannot be written: {error}")

    def run(self) -> int:
        """Stream until told to stop; return the exit status."""
        self._config = read_config(self._config_path)
        staging = Path(str(self._config["staging"]))
        try:
            with hold(staging / LOCK):
                self._status = {
                    "receiver_version": RECEIVER_VERSION,
                    "instance": self._config["instance"],
                    "engine": self._config.get("engine", ""),
                    "pid": os.getpid(),
                    "running_since": now(),
                    "program_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
                    "connections": 0,
                }
                self._connections()
                self.tell(state="stopped", folder=None, connected_since=None)
        except BlockingIOError:
            self.log("another receiver of this instance runs already")
            return ALREADY_RUNNING
        return 0

    def _connections(self) -> None:
        wait, use_oldest = 0.0, False
        while not self._stopping:
            first, longest = self._config.get("backoff_seconds", [1, 60])
            began, grew = time.monotonic(), False
            try:
                self._config = read_config(self._config_path)
                self._status["config_sha256"] = self._config["sha256"]
                grew = self._connection(use_oldest)
                use_oldest = False
            except (ReceiverError, OSError) as error:
                self._last_error = str(error)
                missing = (self._config.get("start") or {}).get("missing")
                use_oldest = bool(missing) and str(missing) in self._last_error
                self.log(self._last_error)
                self.tell(state="waiting", connected_since=None, error_at=now())
            wait = first if grew or time.monotonic() - began > longest else min(longest, max(first, wait * 2))
            self._rest(wait)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))

    def _free(self) -> int:
        usage = os.statvfs(str(self._config["staging"]))
        return usage.f_bavail * usage.f_frsize

    def _room(self) -> None:
        free, least = self._free(), int(self._config["minimum_free_bytes"])
        if free < least:
            raise ReceiverError(
                f"only {free} bytes are free where the stream is written, {least} must stay: nothing is received until there is room"
            )

    def _start(self, use_oldest: bool) -> str:
        rule = self._config.get("start")
        if not rule:
            return ""
        found = "" if use_oldest else chain_start(rule)
        if not found:
            found = (ask(rule["otherwise"], self._config.get("environment", {})) or [""])[0]
        if not found:
            raise ReceiverError("the server does not tell which logs it has")
        return found

    def _folder(self) -> Path:
        staging, name = Path(str(self._config["staging"])), str(self._config["folder"])
        if name != "connection":
            (staging / name).mkdir(mode=0o750, exist_ok=True)
            return staging / name
        while True:
            folder = staging / f"{datetime.now(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}-{os.getpid()}"
            try:
                folder.mkdir(mode=0o750)
            except FileExistsError:
                time.sleep(0.2)
                continue
            return folder

    def _connection(self, use_oldest: bool) -> bool:
        """Hold one connection until it ends; return whether anything came.

        :raises ReceiverError: saying why it ended, unless it was told to.
        """
        self._room()
        start = self._start(use_oldest)
        folder = self._folder()
        argv = [
            word.replace("{folder}", str(folder)).replace("{start}", start) for word in map(str, self._config["argv"])
        ]
        child = spawn(argv, self._config.get("environment", {}), subprocess.PIPE)
        self._status["connections"] += 1
        self.tell(state="connecting", connected_since=now(), folder=folder.name, start=start, last_file="", last_size=0)
        stream = Stream(child, folder)
        try:
            self._watch(stream)
        finally:
            stream.end()
            if not any(folder.iterdir()):
                folder.rmdir()
        return stream.grew

    def _watch(self, stream: Stream) -> None:
        poll = float(self._config.get("poll_seconds", 1.0))
        while not self._stopping:
            ended = stream.child.poll()
            stream.look()
            if ended is not None:
                raise ReceiverError(
                    f"{Path(str(self._config['argv'][0])).name} ended with status {ended}: {stream.said() or 'it printed nothing'}"
                )
            self.tell(
                state="streaming" if stream.newest else "connecting",
                last_file=stream.newest,
                last_size=stream.size,
                free_bytes=self._free() // (1 << 20) * (1 << 20),
            )
            self._room()
            self._probe(stream)
            time.sleep(poll)

    def _probe(self, stream: Stream) -> None:
        """Find a link that died without a word: the server's log grows and nothing comes."""
        probe = self._config.get("probe")
        if not probe or time.monotonic() - max(stream.grown_at, stream.probed_at) < float(probe["seconds"]):
            return
        words = ask(probe["argv"], self._config.get("environment", {}))
        stream.look()
        stream.probed_at = time.monotonic()
        if words[:2] != [stream.newest, str(stream.size)] and time.monotonic() - stream.grown_at > float(
            probe["seconds"]
        ):
            at = " ".join(words[:2]) or "(no answer)"
            raise ReceiverError(f"the stream stands at {stream.newest} {stream.size}, the server at {at}")


class Stream:
    """One connection's child and what it has written."""

    def __init__(self, child: subprocess.Popen[bytes], folder: Path) -> None:
        self.child = child
        self.folder = folder
        self.newest = ""
        self.size = 0
        self.grew = False
        self.grown_at = self.probed_at = time.monotonic()
        self._synced_at = 0.0
        self._unsynced: set[str] = set()
        self._said = b""
        if child.stderr is not None:
            os.set_blocking(child.stderr.fileno(), False)

    def look(self) -> None:
        """See what has come, and have it written to disk every few seconds."""
        self._listen()
        names = sorted(entry.name for entry in self.folder.iterdir())
        if names:
            newest = names[-1]
            size = (self.folder / newest).stat().st_size
            if (newest, size) != (self.newest, self.size):
                self._unsynced.update({newest, self.newest} - {""})
                self.newest, self.size, self.grew, self.grown_at = newest, size, True, time.monotonic()
        if self._unsynced and time.monotonic() - self._synced_at > _SYNC_SECONDS:
            for name in self._unsynced:
                with contextlib.suppress(FileNotFoundError):
                    _sync(self.folder / name)
            _sync(self.folder)
            self._unsynced.clear()
            self._synced_at = time.monotonic()

    def _listen(self) -> None:
        if self.child.stderr is not None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    block = os.read(self.child.stderr.fileno(), 65536)
                    if not block:
                        return
                    self._said = (self._said + block)[-_KEPT_STDERR:]

    def said(self) -> str:
        """Return the end of what the child said on standard error."""
        self._listen()
        return self._said.decode("utf-8", "replace").strip()

    def end(self) -> None:
        """End the child, politely first."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self._synced_at = -_SYNC_SECONDS * 2
        with contextlib.suppress(OSError):
            self.look()
        if self.child.stderr is not None:
            self.child.stderr.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def supervise(config_path: Path, staging: Path) -> None:
    """Keep a worker running until told to end; in a process of its own, in the background."""
    told: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _frame: object) -> None:
        told.append(number)
        for each in children:
            if each.poll() is None:
                each.terminate()

    with hold(staging / SUPERVISOR_LOCK):
        signal.signal(signal.SIGTERM, stop)
        wait = 1.0
        while not told:
            began = time.monotonic()
            argv = [sys.executable, "-I", str(Path(__file__).resolve()), "--config", str(config_path)]
            with (staging / CRASH).open("wb") as crash:
                children[:] = [spawn([*argv, "--log", str(staging / LOG), "run"], {}, crash)]
            if told:  # between the look and the start
                children[0].terminate()
            children[0].wait()
            wait = 1.0 if time.monotonic() - began > 60 else min(60.0, wait * 2)
            end = time.monotonic() + wait
            while not told and time.monotonic() < end:
                time.sleep(0.2)


def start(config_path: Path) -> int:
    """Start the supervisor in the background unless it runs; return once it does."""
    staging = Path(str(read_config(config_path)["staging"]))
    if lock_is_held(staging / SUPERVISOR_LOCK):
        return 0
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        # Whoever called may wait for the end of its pipes: let go of all of them.
        os.chdir("/")
        os.umask(0o027)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, 4096)
        status = 1
        with contextlib.suppress(BlockingIOError):
            supervise(config_path, staging)
            status = 0
        os._exit(status)
    os.wait()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if lock_is_held(staging / SUPERVISOR_LOCK):
            return 0
        time.sleep(0.05)
    sys.stderr.write("the supervisor did not start\n")
    return 1


def stop(config_path: Path) -> int:
    """End supervisor and stream; return once both are gone."""
    if end_supervisor(Path(str(read_config(config_path)["staging"]))):
        return 0
    sys.stderr.write("the receiver did not end within 20 seconds\n")
    return 1


def end_supervisor(staging: Path) -> bool:
    """End the supervisor whose stream is written into *staging*; return whether it is gone."""
    path = staging / SUPERVISOR_LOCK
    end = time.monotonic() + 20
    sent = 0
    while lock_is_held(path) or (sent and lock_is_held(staging / LOCK)):
        if time.monotonic() > end:
            return False
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            kind = signal.SIGKILL if time.monotonic() > end - 5 else signal.SIGTERM
            if lock_is_held(path) and sent != kind:
                os.kill(pid, kind)
                sent = kind
        time.sleep(0.1)
    return True


def status(config_path: Path) -> int:
    """Print the status, with whether it runs now."""
    staging = Path(str(read_config(config_path)["staging"]))
    try:
        values = json.loads((staging / STATUS).read_bytes())
    except (OSError, ValueError):
        values = {}
    values["running"] = lock_is_held(staging / LOCK)
    values["supervised"] = lock_is_held(staging / SUPERVISOR_LOCK)
    sys.stdout.write(json.dumps(values, sort_keys=True, indent=2) + "\n")
    return 0


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Streams one database's log into the repository's staging folder.")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--log", type=Path, help="write messages there instead of to standard error")
    parser.add_argument("verb", choices=("run", "start", "stop", "status"))
    options = parser.parse_args(arguments)
    try:
        if options.verb == "run":
            worker = Worker(options.config, options.log)
            signal.signal(signal.SIGTERM, worker.stop)
            signal.signal(signal.SIGINT, worker.stop)
            return worker.run()
        return {"start": start, "stop": stop, "status": status}[options.verb](options.config)
    except ReceiverError as error:
        sys.stderr.write(f"dbcontinuity-receiver: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
