# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running other programs: one command, or a pipeline of them whose every exit status and stderr is looked at.

Always argv lists, never a shell. Secrets never stand in argv; engines hand them over in files named by argv.
Each child is started under ``setpriv --pdeathsig KILL``: when this process is killed, no child goes on alone.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import IO, Optional

from .durable import writing_to
from .errors import PipelineError, PrerequisiteError

BUFFER_BYTES = 1024 * 1024
STDERR_KEPT_BYTES = 256 * 1024
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python 3.9 does not name
_WRITE_BACK_EVERY_BYTES = 32 * 1024 * 1024
_FOLLOW_SECONDS = 0.04
_POLL_SECONDS = 0.01
_REPORT_SECONDS = 0.5
# In the words of C's library and of Go's (age).
_NO_ROOM = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Stage:
    """One program of a pipeline.

    :param argv: program and arguments; the program is looked up in PATH and the system's folders.
    :param label: what people call it in an error, default the program's name.
    :param environment: variables added to a small fixed environment (never inherited wholesale).
    :param accepted: exit statuses that mean success.
    :param pass_fds: descriptors the program inherits.
    """

    argv: tuple[str, ...]
    label: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset({0})
    pass_fds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Return what people call this stage."""
        return self.label or Path(self.argv[0]).name


@dataclass(frozen=True)
class Finished:
    """One program that ended: its exit status (negative: the signal), stdout, and the end of its stderr."""

    name: str
    status: int
    stdout: bytes
    stderr: str
    accepted: frozenset[int] = frozenset({0})

    @property
    def ok(self) -> bool:
        """Return whether the status means success."""
        return self.status in self.accepted


@dataclass(frozen=True)
class Written:
    """What the last hop of a pipeline wrote: size in bytes, SHA-256 in hex, and how each stage ended."""

    size: int
    sha256: str
    seconds: float
    stages: tuple[Finished, ...]


def find_tool(name: str, hint: str = "", extra_folders: Sequence[str] = ()) -> str:
    """Return the absolute path of a program.

    :raises PrerequisiteError: naming the program and the package that brings it.
    """
    # An empty part would mean the present folder.
    search = os.pathsep.join(
        filter(None, [*extra_folders, *os.environ.get("PATH", "").split(os.pathsep), _SYSTEM_PATH])
    )
    found = shutil.which(name, path=search)
    if found is None:
        raise PrerequisiteError(
            f"The program {name} is not on this host.",
            f"Install it: apt-get install {hint or name}.",
            {"tool": name, "package": hint or name},
        )
    return found


def child_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child: fixed locale and zone, the caller's PATH and HOME, and what is added."""
    base = {
        "PATH": os.environ.get("PATH") or _SYSTEM_PATH,
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    base.update(added)
    return base


def _guarded_argv(argv: Sequence[str]) -> list[str]:
    program = argv[0] if "/" in argv[0] else find_tool(argv[0])
    if not os.access(program, os.X_OK):
        raise PrerequisiteError(
            f"The program {program} is not there or cannot be run.", "Install it, or correct its path."
        )
    setpriv = shutil.which("setpriv", path=_SYSTEM_PATH)
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    return [*guard, program, *argv[1:]]


def run(
    stage: Stage,
    *,
    stdin: bytes = b"",
    timeout: float = 60.0,
    check: bool = True,
) -> Finished:
    """Run one program to its end, its output small enough to hold.

    :param timeout: seconds, after which it is killed.
    :raises PipelineError: if it fails and *check* is set, or takes longer than *timeout*.
    """
    process = subprocess.Popen(
        _guarded_argv(stage.argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(stage.environment),
        pass_fds=stage.pass_fds,
        start_new_session=True,
    )
    if process.stderr is None:
        raise AssertionError("Popen was asked for pipes")
    keeper = _StderrKeeper(process.stderr)
    process.stderr = None  # communicate() would keep all of it
    try:
        stdout, _none = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        process.communicate()
        raise PipelineError(
            f"{stage.name} did not end within {timeout:g} seconds and was killed.",
            "Look at the load and the locks of the server or host it talks to.",
            {"stage": stage.name, "timeout_seconds": timeout},
        ) from None
    except BaseException:
        _kill_group(process)
        raise
    finished = Finished(stage.name, process.returncode, stdout, keeper.text(), stage.accepted)
    if check and not finished.ok:
        raise failure([finished])
    return finished


def failure(stages: Sequence[Finished]) -> PipelineError:
    """Return the error for the stage that failed first in cause: a broken pipe is a consequence, not a cause."""
    failed = [stage for stage in stages if not stage.ok]
    causes = [stage for stage in failed if not _died_of_broken_pipe(stage)] or failed
    cause = causes[-1] if any(_died_of_broken_pipe(stage) for stage in failed) else causes[0]
    how = f"was killed by signal {-cause.status}" if cause.status < 0 else f"ended with status {cause.status}"
    last_words = cause.stderr.strip()[-2000:] or "it printed nothing"
    return PipelineError(
        f"{cause.name} {how}: {last_words}",
        "",
        {"stage": cause.name, "status": cause.status, "stderr": cause.stderr[-8000:]},
    )


def left_early(stages: Sequence[Finished]) -> bool:
    """Return whether the last stage ended well and the others did too, or only lost the reader of their output."""
    return stages[-1].ok and all(stage.ok or _died_of_broken_pipe(stage) for stage in stages)


def _died_of_broken_pipe(stage: Finished) -> bool:
    return stage.status in (-signal.SIGPIPE, 128 + signal.SIGPIPE) or (
        stage.status > 0 and "broken pipe" in stage.stderr.lower()
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold as much as is read at once: a sixteenth of the calls and of the changes from task to task."""
    with contextlib.suppress(OSError):  # over the user's limit: it works as it is
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, BUFFER_BYTES)


class _StderrKeeper(threading.Thread):
    """Drains one stage's stderr and keeps its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        # A descriptor of its own, closed by the thread: a grandchild may keep the pipe open longer than the stage.
        self._descriptor = os.dup(stream.fileno())
        stream.close()
        self._kept: collections.deque[bytes] = collections.deque()
        self._size = 0
        self.start()

    def run(self) -> None:
        try:
            while True:
                block = os.read(self._descriptor, 65536)
                if not block:
                    return
                self._kept.append(block)
                self._size += len(block)
                while self._size - len(self._kept[0]) >= STDERR_KEPT_BYTES:
                    self._size -= len(self._kept.popleft())
        finally:
            os.close(self._descriptor)

    def text(self) -> str:
        """Return what was kept, once the stage ended."""
        self.join(timeout=5)
        return b"".join(tuple(self._kept)).decode("utf-8", "replace")


class Pipeline:
    """Programs joined by pipes, the last one's output read by this process, or going into a file.

    Use as a context manager: leaving it early kills every stage and waits for it.

    :param sink: the descriptor that the last one writes to.
    """

    def __init__(self, stages: Iterable[Stage], stdin: Optional[IO[bytes]] = None, sink: int = subprocess.PIPE) -> None:
        self.stages = tuple(stages)
        self._stdin = stdin
        self._sink = sink
        self._processes: list[subprocess.Popen[bytes]] = []
        self._keepers: list[_StderrKeeper] = []

    def __enter__(self) -> Pipeline:
        guarded = [_guarded_argv(stage.argv) for stage in self.stages]
        upstream: Optional[IO[bytes]] = self._stdin
        try:
            for number, (stage, argv) in enumerate(zip(self.stages, guarded), 1):
                process = subprocess.Popen(
                    argv,
                    stdin=upstream if upstream is not None else subprocess.DEVNULL,
                    stdout=self._sink if number == len(guarded) else subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=child_environment(stage.environment),
                    pass_fds=stage.pass_fds,
                    start_new_session=True,
                )
                self._processes.append(process)
                if process.stderr is None:
                    raise AssertionError("Popen was asked for pipes")
                if process.stdout is not None:
                    _widen(process.stdout)
                self._keepers.append(_StderrKeeper(process.stderr))
                if upstream is not None and upstream is not self._stdin:
                    upstream.close()
                upstream = process.stdout
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is not None:
            self.kill()
        for process in self._processes:
            if process.stdout is not None:
                process.stdout.close()

    @property
    def output(self) -> IO[bytes]:
        """Return the last stage's stdout."""
        stream = self._processes[-1].stdout
        if stream is None:
            raise AssertionError("the pipeline was not started, or writes into a file")
        return stream

    def ended_within(self, seconds: float) -> bool:
        """Wait for the last program's end, for so long at most; return whether it has ended."""
        process = self._processes[-1]
        try:
            descriptor = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # a C library or kernel without it, or a sandbox that forbids it
            sleep(min(seconds, _POLL_SECONDS))
        else:
            try:
                select.select([descriptor], [], [], seconds)
            finally:
                os.close(descriptor)
        return process.poll() is not None

    def kill(self) -> None:
        """Kill every stage that still runs, and wait for it."""
        for process in self._processes:
            _kill_group(process)
        for process in self._processes:
            process.wait()

    def wait(self, timeout: float = 120.0) -> tuple[Finished, ...]:
        """Wait for all stages, the output having been read to its end.

        :raises PipelineError: if a stage does not end in time.
        """
        end = monotonic() + timeout
        results = []
        for stage, process, keeper in zip(self.stages, self._processes, self._keepers):
            try:
                process.wait(max(0.1, end - monotonic()))
            except subprocess.TimeoutExpired:
                ended = [each.poll() is not None for each in self._processes]
                self.kill()
                dead = [
                    Finished(each.name, one.returncode, b"", kept.text(), each.accepted)
                    for each, one, kept, over in zip(self.stages, self._processes, self._keepers, ended)
                    if over
                ]
                if not all(each.ok for each in dead):
                    raise failure(dead) from None  # why the one before it hangs
                raise PipelineError(
                    f"{stage.name} closed its output but did not end within {timeout:g} seconds and was killed.",
                    "",
                    {"stage": stage.name},
                ) from None
            results.append(Finished(stage.name, process.returncode, b"", keeper.text(), stage.accepted))
        return tuple(results)


def write_through(
    stages: Sequence[Stage],
    target: Path,
    *,
    stdin: Optional[IO[bytes]] = None,
    on_progress: Optional[Callable[[int], None]] = None,
    stall_seconds: float = 600.0,
    mode: int = 0o640,
) -> Written:
    """Run a pipeline into a new file, hashing and counting what arrives there; the file is fsynced on return.

    The last program writes the file itself, and this one reads behind it, out of the kernel's cache: a pipe in between
    would cost another copy and a change of task for every few blocks. Memory does not grow with the data: one buffer of
    :data:`BUFFER_BYTES`.

    :param target: must not exist; removed again if anything fails.
    :param on_progress: called with the bytes written so far, at most a few times a second.
    :param stall_seconds: without a byte for so long the pipeline is killed.
    :raises PipelineError: if any stage fails or stalls.
    :raises RepositoryFullError: if the file system has no room.
    """
    started = monotonic()
    with writing_to(target):
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    follower = _Follower(descriptor, on_progress)
    try:
        with Pipeline(stages, stdin, sink=descriptor) as pipeline:
            while not pipeline.ended_within(_FOLLOW_SECONDS):
                if follower.catch_up() > stall_seconds:
                    pipeline.kill()
                    raise PipelineError(
                        f"No data came from {pipeline.stages[0].name} for {stall_seconds:g} seconds; the pipeline was killed.",
                        "Look at the server, its locks and the network, then run again.",
                        {"stage": pipeline.stages[0].name, "stall_seconds": stall_seconds},
                    )
            finished = pipeline.wait()
            if not all(stage.ok for stage in finished):
                if finished[-1].status > 0 and _NO_ROOM.search(finished[-1].stderr):
                    with writing_to(target):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
                raise failure(finished)
        follower.catch_up()
        with writing_to(target):
            os.fsync(descriptor)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    if on_progress is not None:
        on_progress(follower.size)
    return Written(follower.size, follower.sha256, monotonic() - started, finished)


class _Follower:
    """Reads a file that another process writes, hashes it, and has it written back to disk on the way.

    :ivar size: bytes read so far.
    """

    def __init__(self, descriptor: int, on_progress: Optional[Callable[[int], None]]) -> None:
        self._descriptor = descriptor
        self._on_progress = on_progress
        self._digest = hashlib.sha256()
        self._buffer = bytearray(BUFFER_BYTES)
        self._written_back = 0
        self._moved_at = monotonic()
        self._reported_at = 0.0
        self.size = 0

    def catch_up(self) -> float:
        """Read to the present end; return for how many seconds nothing has come."""
        view = memoryview(self._buffer)
        while True:
            count = os.preadv(self._descriptor, [view], self.size)
            if not count:
                break
            self._digest.update(view[:count])
            self.size += count
            self._moved_at = monotonic()
            self._write_back()
        now = monotonic()
        if self._on_progress is not None and now >= self._reported_at + _REPORT_SECONDS:
            self._on_progress(self.size)
            self._reported_at = now
        return now - self._moved_at

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what was read, in hex."""
        return self._digest.hexdigest()

    def _write_back(self) -> None:
        """Have what came since the last time written to the disk, so that the final fsync does not wait for everything.

        DONTNEED starts that and waits for nothing (the kernel's mm/fadvise.c); fdatasync, beside the writer, made it wait
        for the file system's journal now and then. An error shows itself at the final fsync.
        """
        length = self.size - self._written_back
        if length >= _WRITE_BACK_EVERY_BYTES:
            os.posix_fadvise(self._descriptor, self._written_back, length, os.POSIX_FADV_DONTNEED)
            self._written_back = self.size
