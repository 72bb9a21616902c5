# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child of a scheduled run: what it says goes on line by line, and nothing of it outlives the run.

Ansible starts modules in sessions of their own, some as background jobs: neither the child's process group nor its
descendants are all of it. Every process of a run has the run's id in its environment, and is found by that.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Optional

MARK = "DBC_SCHEDULED_RUN"
GRACE_SECONDS = 30.0  # for what is under way to clear up and to write its end into the ledger
_LINE_LIMIT = 16384
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def processes_of(run: str) -> list[int]:
    """Return the ids of all processes that carry the run's mark, without this one's."""
    mark = f"{MARK}={run}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_processes(run: str, grace_seconds: float, *, ask: bool = True) -> None:
    """End what is left of a run.

    :param ask: tell the processes to end (SIGTERM) before they are waited for; those that stay are killed.
    """
    if ask:
        _signal(processes_of(run), signal.SIGTERM)
    end = time.monotonic() + grace_seconds
    while processes_of(run):
        if time.monotonic() >= end:
            _signal(processes_of(run), signal.SIGKILL)
            return
        time.sleep(0.1)


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


class Output:
    """Gives what a process prints on as whole lines, without a terminal's colours and control characters."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        while len(self._rest) > _LINE_LIMIT:
            self._line(self._rest[:_LINE_LIMIT])
            self._rest = self._rest[_LINE_LIMIT:]

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)
        self._rest = b""

    def _line(self, line: bytes) -> None:
        text = _ESCAPES.sub(b"", line).decode("utf-8", "replace").rstrip()
        if text:
            self._say(text)


class RunProcess:
    """Runs one child to its end, or to the signal that this process gets.

    :ivar stopped: whether this process was told to end.
    """

    def __init__(self, run: str, say: Callable[[str], None], grace_seconds: float = GRACE_SECONDS) -> None:
        self.stopped = False
        self._run = run
        self._say = say
        self._grace = grace_seconds

    @contextlib.contextmanager
    def watching(self) -> Iterator[int]:
        """Have signals noticed instead of obeyed; gives the descriptor that wakes up who waits."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        child = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGCHLD, child)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _stop(self, _number: int, _frame: Optional[FrameType]) -> None:
        self.stopped = True

    def run(self, argv: Sequence[str], environment: Mapping[str, str], wake: int) -> int:
        """Run the child and everything it starts; return its exit status, 128 and the signal where one killed it.

        :param wake: what :meth:`watching` gave.
        :raises OSError: where it cannot be started.
        """
        child = subprocess.Popen(
            list(argv),
            env={**environment, MARK: self._run},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C at a terminal is this process's to hand on
        )
        output = Output(self._say)
        if child.stdout is None:
            raise AssertionError("PIPE was asked for")
        try:
            self._follow(child, child.stdout.fileno(), output, wake)
        finally:
            end_processes(self._run, self._grace, ask=not self.stopped)
            status = child.wait()
            with contextlib.suppress(OSError):
                self._drain(child.stdout.fileno(), output)
            child.stdout.close()
            output.end()
        return 128 - status if status < 0 else status

    def _follow(self, child: subprocess.Popen[bytes], source: int, output: Output, wake: int) -> None:
        """Hand on what the child says until it has ended, or until it was told to end and had its time."""
        os.set_blocking(source, False)
        sources, end = [source, wake], 0.0
        while child.poll() is None:
            wait = max(0.0, end - time.monotonic()) if end else None
            ready, _writable, _exceptional = select.select(sources, [], [], wait)
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            if source in ready and not self._drain(source, output):
                sources.remove(source)
            if self.stopped and not end:
                end = time.monotonic() + self._grace
                # ansible-runner would kill the playbook, and Ansible its modules: they are asked, and it ends after them.
                _signal([each for each in processes_of(self._run) if each != child.pid], signal.SIGTERM)
            if end and time.monotonic() >= end:
                return

    @staticmethod
    def _drain(source: int, output: Output) -> bool:
        """Read what there is; return False at the end."""
        while True:
            try:
                data = os.read(source, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            output.feed(data)
