#!/usr/bin/python3
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on a production host: the only thing the backup host may run there.

It stands behind a forced SSH command (the words come from SSH_ORIGINAL_COMMAND) or is called directly on a single
server. It knows four verbs, acts only on instances that have a file in its configuration folder, and never lets a
reader that stalls hold up the database:

    probe INSTANCE                              what is here, as JSON
    backup INSTANCE [parallel=N] [zstd=LEVEL]   a physical backup of MariaDB, as an mbstream
    list INSTANCE                               the files of an instance of folders, one JSON object a line
    archive INSTANCE [zstd=LEVEL]               a tar archive of the NUL-separated files named on standard input
    configuration INSTANCE                      a tar archive of the instance's configuration files

Standard output carries the data. The last line on standard error begins with DBC-AGENT and tells, as JSON, whether
the data are whole: a stream without it is not whole, whatever the exit status.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import grp
import json
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Optional

AGENT_VERSION = 1
TRAILER = "DBC-AGENT "
BLOCK_BYTES = 1024 * 1024
F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python 3.9 does not name
STDERR_KEPT_LINES = 400
# The changed files the trailer names, and the room their names may take in it: the backup host keeps the last 256 KiB
# of stderr, and a trailer without its beginning would be none. Above that the trailer still has their exact number.
CHANGED_KEPT_LINES = 1000
CHANGED_KEPT_BYTES = 128 * 1024
DEFAULT_CONFIG = "/etc/dbcontinuity/agent"
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_OPTION = re.compile(r"(parallel|zstd)=([0-9]{1,2})")
# What GNU tar says of files that somebody writes to or removes meanwhile, and of what it need not read.
_HARMLESS = re.compile(
    r": (.*No such file or directory|file changed as we read it|File removed before we read it"
    r"|File shrank by [0-9]+ bytes?; padding with zeros|socket ignored|Warning: .*)$"
)
# Seconds. Production's commits may wait 15 at the most; killing and releasing the locks takes some of them.
STALL_SECONDS = 10.0
COMMIT_BLOCK_SECONDS = 10.0
# How often the agent looks at the clock and tells its guard that it moves.
HEARTBEAT_SECONDS = 0.2


class AgentError(Exception):
    """Something the caller should read; the message is one paragraph."""


class Changed:
    """What tar said of files that changed while it read them: the exact number, and the first of the lines."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []
        self.unexplained: list[str] = []
        """The first lines that tell of something else, so that a flood of harmless ones hides no real failure."""
        self._room = CHANGED_KEPT_BYTES
        self._cut = False

    def note(self, line: str) -> None:
        """Take in one line of tar's stderr."""
        if "Exiting with failure status" in line:
            return
        self.count += 1
        self._room -= len(json.dumps(line)) + 2
        self._cut = self._cut or self._room < 0 or len(self.lines) == CHANGED_KEPT_LINES
        if not self._cut:
            self.lines.append(line)
        if not _HARMLESS.search(line) and len(self.unexplained) < 5:
            self.unexplained.append(line)


class StderrReader(threading.Thread):
    """Keeps the end of a tool's stderr, never blocking the tool, and notes since when it blocks commits."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.lines: deque[str] = deque(maxlen=STDERR_KEPT_LINES)
        self.commits_blocked_since: Optional[float] = None
        self.changed = Changed()
        self.start()

    def run(self) -> None:
        for raw in self._stream:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            self.lines.append(line)
            self.changed.note(line)
            if "BACKUP STAGE BLOCK_COMMIT" in line or "FLUSH TABLES WITH READ LOCK" in line:
                # The tool names the stage again when it has the lock and when it is done with it.
                self.commits_blocked_since = self.commits_blocked_since or monotonic()
            elif "BACKUP STAGE END" in line or "UNLOCK TABLES" in line:
                self.commits_blocked_since = None

    def text(self) -> str:
        """Return what was kept."""
        self.join(timeout=5)
        return "\n".join(self.lines)


class Output:
    """Standard output with a guard: a reader that takes nothing for too long is given up."""

    def __init__(self, descriptor: int = 1, stall_seconds: float = STALL_SECONDS) -> None:
        self._descriptor = descriptor
        self._stall_seconds = stall_seconds
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._hangup = select.poll()
        self._hangup.register(descriptor, 0)
        self._splices = hasattr(os, "splice")
        self._buffer = bytearray(BLOCK_BYTES)
        self.bytes = 0

    def write(self, block: memoryview, check: Callable[[], None] = lambda: None) -> None:
        """Write the whole block.

        :param check: called every second while the reader is slow; it may raise.
        :raises AgentError: if the reader stalls.
        :raises BrokenPipeError: if it is gone.
        """
        moved_at = monotonic()
        while block:
            ready = self._poll.poll(1000)
            check()
            try:
                count = os.write(self._descriptor, block) if ready else 0
            except BlockingIOError:
                count = 0  # ready, but with less room than a pipe takes at once
            if count:
                moved_at = monotonic()
            elif monotonic() - moved_at > self._stall_seconds:
                raise self._stalled()
            self.bytes += count
            block = block[count:]

    def take(self, source: int, check: Callable[[], None]) -> int:
        """Move what *source*, a pipe, has now; return the bytes, 0 at its end.

        splice(2) moves pages from pipe to pipe without copying them; where the output is none it can write to, or
        Python is older than 3.10, they are copied.
        """
        moved_at = monotonic()
        while self._splices:
            ready = self._poll.poll(1000)
            check()
            try:
                count = os.splice(source, self._descriptor, BLOCK_BYTES, flags=os.SPLICE_F_NONBLOCK) if ready else -1
            except BlockingIOError:
                count = -1
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._splices = False
                break
            if count >= 0:
                self.bytes += count
                return count
            if monotonic() - moved_at > self._stall_seconds:
                raise self._stalled()
        count = os.readv(source, [self._buffer])
        self.write(memoryview(self._buffer)[:count], check)
        return count

    def _stalled(self) -> AgentError:
        return AgentError(
            f"the reader took nothing for {self._stall_seconds:g} seconds; the backup was ended so that it does not hold up production"
        )

    def check_reader(self) -> None:
        """Raise BrokenPipeError if nobody reads any more."""
        if self._hangup.poll(0):
            raise BrokenPipeError("the reader is gone")


def load_instance(folder: Path, name: str) -> dict[str, Any]:
    """Return the configuration of an allowed instance."""
    if not _WORD.fullmatch(name) or ".." in name:
        raise AgentError(f"{name!r} cannot be the name of an instance")
    try:
        value = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        raise AgentError(
            f"the instance {name!r} is not allowed on this host: {folder}/{name}.json is missing; run the playbook site"
        ) from None
    except (OSError, ValueError) as error:
        raise AgentError(f"{folder}/{name}.json cannot be read: {error}") from None
    if not isinstance(value, dict) or "engine" not in value:
        raise AgentError(f"{folder}/{name}.json names no engine")
    return value


def tool(name: str) -> str:
    """Return the path of a program."""
    found = shutil.which(
        name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    if found is None:
        raise AgentError(f"the program {name} is not on this host; install the package that brings it")
    return found


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how Popen becomes the configured user: only root can."""
    name = config.get("run_as")
    if not name or os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(str(name))
    except KeyError:
        raise AgentError(f"the user {name!r} is not on this host") from None
    groups = [each.gr_gid for each in grp.getgrall() if name in each.gr_mem]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def private_copy(path: Path, owner: Mapping[str, Any]) -> int:
    """Return a descriptor of an unlinked in-memory copy of an option file that only the tool's user can read."""
    descriptor = os.memfd_create("option-file", 0)
    os.write(descriptor, path.read_bytes())
    os.fchmod(descriptor, 0o400)
    if owner:
        os.fchown(descriptor, owner["user"], owner["group"])
    return descriptor


def environment() -> dict[str, str]:
    """Return the environment of every tool."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": "/",
    }


class Tools:
    """A tool, with zstd behind it if asked, copied to the output under guard."""

    def __init__(self, argv: Sequence[str], zstd: str, **options: Any) -> None:
        self.first = subprocess.Popen(
            list(argv),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment(),
            preexec_fn=die_with_parent,
            **options,
        )
        self.processes = [self.first]
        if zstd:
            second = subprocess.Popen(
                [tool("zstd"), "-q", "-T2", f"-{zstd}", "-c", "-"],
                stdin=self.first.stdout,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=environment(),
                preexec_fn=die_with_parent,
            )
            pipe(self.first.stdout).close()
            self.processes.append(second)
        self._heart = watch_over([each.pid for each in self.processes])
        self._beat_at = 0.0
        self.readers = [StderrReader(pipe(each.stderr)) for each in self.processes]

    def kill(self) -> None:
        """End every tool at once."""
        for process in self.processes:
            if process.poll() is None:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    process.kill()
        for process in self.processes:
            process.wait()

    def pump(self, output: Output) -> list[int]:
        """Copy to the output until the end; return the exit statuses."""
        source = pipe(self.processes[-1].stdout).fileno()
        with contextlib.suppress(OSError):
            fcntl.fcntl(source, F_SETPIPE_SZ, BLOCK_BYTES)  # fewer and larger moves
        try:
            while True:
                ready = select.select([source], [], [], 1.0)[0]
                self._check()
                if not ready:
                    output.check_reader()
                    continue
                if output.take(source, self._check) == 0:
                    break
            self._rest()
            return [process.wait(timeout=300) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            raise AgentError(f"{error.cmd[0]} closed its output but did not end; it was killed") from None
        finally:
            self._rest()
            self.kill()

    def _rest(self) -> None:
        if self._heart >= 0:
            os.close(self._heart)
            self._heart = -1

    def _check(self) -> None:
        now = monotonic()
        if now - self._beat_at < HEARTBEAT_SECONDS:
            return
        self._beat_at = now
        try:
            os.write(self._heart, b".")
        except BrokenPipeError:
            raise AgentError(
                f"the agent stood still for {STALL_SECONDS:g} seconds; its guard ended the work so that it does not hold up production"
            ) from None
        since = self.readers[0].commits_blocked_since
        if since is not None and monotonic() - since > COMMIT_BLOCK_SECONDS:
            raise AgentError(
                f"commits on production were blocked for {COMMIT_BLOCK_SECONDS:g} seconds; the backup was ended to release them"
            )

    def stderr(self) -> str:
        """Return the end of what the tools said."""
        return "\n".join(reader.text() for reader in self.readers)


def watch_over(groups: Sequence[int]) -> int:
    """Start a process that kills the tools when this one stands still; return where to tell it that it does not.

    What stalls may be the agent itself: stopped, or swapped out.
    """
    ears, heart = os.pipe()
    if os.fork():
        os.close(ears)
        os.set_blocking(heart, False)
        return heart
    try:
        os.dup2(ears, 0)
        os.closerange(1, 256)
        while select.select([0], [], [], STALL_SECONDS)[0]:
            if not os.read(0, 4096):
                os._exit(0)
        for group in groups:
            os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(0)


def pipe(stream: Optional[BinaryIO | Any]) -> Any:
    """Return a stream that Popen was asked for."""
    if stream is None:
        raise AssertionError("Popen was asked for a pipe")
    return stream


def die_with_parent() -> None:
    """In the child: be killed when the agent is (Linux, prctl PR_SET_PDEATHSIG = 1)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def backup(name: str, config: Mapping[str, Any], options: Mapping[str, str], output: Output) -> dict[str, Any]:
    """Stream a physical backup of a MariaDB server."""
    if config["engine"] != "mariadb":
        raise AgentError(f"the instance {name!r} is of the engine {config['engine']}, which this verb does not serve")
    owner = identity(config)
    with tempfile.TemporaryDirectory(prefix="dbcontinuity-") as folder:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        secret = private_copy(Path(config["option_file"]), owner)
        try:
            tools = Tools(
                [
                    tool("mariadb-backup"),
                    f"--defaults-file=/dev/fd/{secret}",
                    "--backup",
                    "--stream=mbstream",
                    f"--parallel={options.get('parallel', '2')}",
                    f"--target-dir={folder}",
                    f"--extra-lsndir={folder}",
                ],
                options.get("zstd", ""),
                pass_fds=(secret,),
                cwd=folder,
                **owner,
            )
            statuses = tools.pump(output)
        finally:
            os.close(secret)
        said = tools.stderr()
        if any(statuses) or "completed OK!" not in said:
            raise AgentError(f"mariadb-backup ended with status {statuses[0]}: {last_words(said)}")
        info = {}
        for entry in Path(folder).iterdir():
            if entry.name in ("xtrabackup_info", "mariadb_backup_info"):
                info = dict(
                    line.split(" = ", 1) for line in entry.read_text(errors="replace").splitlines() if " = " in line
                )
        for key in ("tool_command",):
            info.pop(key, None)
        warnings = [line for line in said.splitlines() if "[Warning]" in line or "[WARN]" in line]
        return {"info": info, "warnings": warnings[-50:]}


def last_words(text: str) -> str:
    """Return the lines of a tool's stderr that say most."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return " | ".join((errors or lines)[-5:]) or "it printed nothing"


def walk(root: str) -> Iterator[dict[str, Any]]:
    """Give everything under a root, parents before children, names in order, not following symbolic links."""
    try:
        status = os.lstat(root)
    except OSError as error:
        raise AgentError(f"{root} cannot be read: {error.strerror}; is its file system mounted?") from None
    yield describe(root, status)
    if not stat.S_ISDIR(status.st_mode):
        return
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue  # removed while we walked: the next listing shows it gone
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISSOCK(status.st_mode):
                continue  # a running program's, which no archive holds
            yield describe(entry.path, status)
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry.path)


def describe(path: str, status: os.stat_result) -> dict[str, Any]:
    """Return one entry of a listing: times in nanoseconds since 1970 UTC, size in bytes."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "special")
    entry: dict[str, Any] = {
        "path": path,
        "kind": kind,
        "size": status.st_size if kind == "file" else 0,
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "modified": status.st_mtime_ns,
        "changed": status.st_ctime_ns,
        "inode": status.st_ino,
    }
    if kind == "link":
        try:
            entry["target"] = os.readlink(path)
        except OSError:
            entry["target"] = ""
    return entry


def folders(name: str, config: Mapping[str, Any]) -> list[str]:
    """Return the roots of an instance of folders."""
    paths = config.get("paths")
    if config["engine"] != "files" or not isinstance(paths, list) or not paths:
        raise AgentError(f"the instance {name!r} has no folders: set paths in dbc_instances")
    for path in paths:
        if not os.path.isabs(path) or ".." in Path(path).parts:
            raise AgentError(f"the folder {path!r} of {name!r} is not an absolute path")
    return [os.path.normpath(path) for path in paths]


def list_files(name: str, config: Mapping[str, Any], output: Output) -> dict[str, Any]:
    """Write the listing; ``"path"`` stands first in each line, so that lines sort by it."""
    count = size = 0
    pending = bytearray()
    for root in folders(name, config):
        for entry in walk(root):
            count += 1
            size += entry["size"]
            pending += json.dumps(entry, separators=(",", ":")).encode() + b"\n"
            if len(pending) >= BLOCK_BYTES:
                output.write(memoryview(bytes(pending)))
                pending.clear()
    output.write(memoryview(bytes(pending)))
    return {"entries": count, "content_bytes": size}


def within(roots: Sequence[str], path: bytes) -> bool:
    """Return whether a path lies in one of the roots, by its name alone."""
    text = os.path.normpath(b"/" + path.lstrip(b"/"))
    return any(text == os.fsencode(root) or text.startswith(os.fsencode(root.rstrip("/")) + b"/") for root in roots)


def read_input() -> bytes:
    """Return what standard input has next, empty at its end.

    Behind some sshd it is the same socket as standard output, which does not block.
    """
    while True:
        select.select([0], [], [])
        try:
            return os.read(0, BLOCK_BYTES)
        except BlockingIOError:
            continue


def archive(name: str, config: Mapping[str, Any], options: Mapping[str, str], output: Output) -> dict[str, Any]:
    """Write a tar archive of the files named on standard input."""
    roots = folders(name, config)
    with tempfile.TemporaryFile() as names:
        rest = b""
        count = 0
        while True:
            block = read_input()
            parts = (rest + block).split(b"\0")
            rest = parts.pop()
            for part in parts:
                if not within(roots, part) or b".." in part.split(b"/"):
                    raise AgentError(f"{os.fsdecode(part)!r} lies outside the folders of {name!r}")
                names.write(part.lstrip(b"/") + b"\0")
                count += 1
            if not block:
                break
        if rest:
            raise AgentError("the list of files was cut off")
        names.seek(0)
        return tar(
            ["--no-recursion", "--null", "--verbatim-files-from", "--files-from=-"], options, output, stdin=names
        ) | {"entries": count}


def tar(arguments: Sequence[str], options: Mapping[str, str], output: Output, **popen: Any) -> dict[str, Any]:
    """Write a tar archive; files that changed meanwhile are named, not an error."""
    tools = Tools(
        [
            tool("tar"),
            "--create",
            "--file=-",
            "--format=posix",
            "--numeric-owner",
            "--acls",
            "--xattrs",
            "--sparse",
            "--directory=/",
            *arguments,
        ],
        options.get("zstd", ""),
        **popen,
    )
    statuses = tools.pump(output)
    said = tools.stderr()
    # GNU tar: 1 means that some files changed while they were read, 2 that something was not read at all; a file
    # that was removed since it was listed is no failure.
    changed = tools.readers[0].changed
    vanished = statuses[0] == 2 and changed.count > 0 and not changed.unexplained
    if (statuses[0] not in (0, 1) and not vanished) or any(statuses[1:]):
        why = "\n".join(changed.unexplained) if statuses[0] not in (0, 1) else ""
        raise AgentError(f"tar ended with status {statuses[0]}: {last_words(why or said)}")
    if statuses[0] == 0:
        changed = Changed()
    return {"changed_while_read": changed.lines, "changed_while_read_count": changed.count}


def configuration(name: str, config: Mapping[str, Any], options: Mapping[str, str], output: Output) -> dict[str, Any]:
    """Write a tar archive of the configuration files that lie outside the data directory."""
    paths = [str(path) for path in config.get("configuration_paths", [])]
    present = [path.lstrip("/") for path in paths if os.path.lexists(path)]
    missing = [path for path in paths if not os.path.lexists(path)]
    return tar(["--", *present] if present else ["--files-from=/dev/null"], options, output) | {"missing": missing}


def probe(name: str, config: Mapping[str, Any], output: Output) -> dict[str, Any]:
    """Write what is here: versions of the tools, the size of folders."""
    answer: dict[str, Any] = {"agent_version": AGENT_VERSION, "engine": config["engine"], "tools": {}}
    wanted = {"mariadb": ("mariadb-backup", "zstd"), "files": ("tar", "zstd")}.get(
        str(config["engine"]), ("tar", "zstd")
    )
    for program in wanted:
        try:
            shown = subprocess.run(
                [tool(program), "--version"], capture_output=True, text=True, timeout=20, check=False, env=environment()
            )
            answer["tools"][program] = (shown.stdout + shown.stderr).strip().splitlines()[0][:200]
        except (AgentError, IndexError, OSError) as error:
            answer["tools"][program] = ""
            answer.setdefault("problems", []).append(str(error) or f"{program} does not tell its version")
    if config["engine"] == "mariadb":
        identity(config)
        if not os.access(str(config.get("option_file", "")), os.R_OK):
            answer.setdefault("problems", []).append(
                f"the option file {config.get('option_file')} cannot be read; run the playbook site"
            )
    if config["engine"] == "files":
        answer["paths"] = folders(name, config)
        for path in answer["paths"]:
            if not os.path.lexists(path):
                answer.setdefault("problems", []).append(f"the folder {path} is not there; is its file system mounted?")
    output.write(memoryview(json.dumps(answer).encode()))
    return {}


def words_from(arguments: Sequence[str]) -> list[str]:
    """Return the words of the command: behind sshd they come from SSH_ORIGINAL_COMMAND alone."""
    original = os.environ.get("SSH_ORIGINAL_COMMAND")
    try:
        return shlex.split(original) if original is not None else list(arguments)
    except ValueError as error:
        raise AgentError(f"the command cannot be read: {error}") from None


def main() -> int:
    """Do one verb; 0 if the data are whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, metavar="DIR", help=f"folder of instances (default {DEFAULT_CONFIG})"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="verb, instance, options")
    given = parser.parse_args()
    trailer: dict[str, Any] = {"ok": False}
    output = Output()
    try:
        words = words_from(given.words)
        if len(words) < 2:
            raise AgentError("say a verb and an instance: probe, backup, list, archive or configuration")
        verb, name, *rest = words
        options = {}
        for word in rest:
            match = _OPTION.fullmatch(word)
            if not match:
                raise AgentError(f"the option {word!r} is not known")
            options[match.group(1)] = match.group(2)
        config = load_instance(Path(given.config), name)
        verbs = {
            "probe": lambda: probe(name, config, output),
            "backup": lambda: backup(name, config, options, output),
            "list": lambda: list_files(name, config, output),
            "archive": lambda: archive(name, config, options, output),
            "configuration": lambda: configuration(name, config, options, output),
        }
        if verb not in verbs:
            raise AgentError(f"the verb {verb!r} is not known: probe, backup, list, archive or configuration")
        trailer = {"ok": True, **verbs[verb]()}
        status = 0
    except AgentError as error:
        trailer["error"] = str(error)
        status = 1
    except BrokenPipeError:
        trailer["error"] = "the reader is gone; the work was ended"
        status = 1
    except OSError as error:
        trailer["error"] = f"{error.filename or 'a file'}: {error.strerror}"
        status = 1
    trailer["bytes"] = output.bytes
    try:
        sys.stderr.write(f"{TRAILER}{json.dumps(trailer)}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return status


if __name__ == "__main__":
    sys.exit(main())
