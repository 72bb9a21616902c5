# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One session of the server's own client on production, fed piece by piece: statements, and what programs print.

It is cut off unless it is finished: a script's COMMIT stands at its very end, so whatever ends the session before rolls
back. What it answers comes as marked lines, in hex: no client's way of printing matters.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Optional

from ..agent_answer import agent_stage, trailer
from ..channel import Channel
from ..errors import PipelineError
from ..instance import Instance
from ..process import BUFFER_BYTES, Pipeline, Stage, failure

_STALL_SECONDS = 1800.0
_DAY = 24 * 3600.0
_KEPT_BYTES = 16 * 1024 * 1024
_MARK = re.compile(r"DBC:([a-z-]+):([0-9A-Fa-f]*)")


class Cut(PipelineError):
    """The session took no more; the agent's own last word says why."""


class Session:
    """Statements into production's client; use as a context manager."""

    def __init__(self, channel: Channel, instance: Instance) -> None:
        reading, self._writing = os.pipe()
        self._incoming: IO[bytes] = os.fdopen(reading, "rb", buffering=0)
        self._pipeline = Pipeline([sql_stage(channel, instance)], self._incoming)
        self._answer = bytearray()
        self._reader: Optional[threading.Thread] = None
        self.sent = 0

    def __enter__(self) -> Session:
        try:
            self._pipeline.__enter__()
        except BaseException:
            self._incoming.close()
            os.close(self._writing)
            raise
        self._incoming.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                block = os.read(self._pipeline.output.fileno(), 65536)
                if not block:
                    return
                if len(self._answer) < _KEPT_BYTES:
                    self._answer += block

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is not None:
            self._pipeline.kill()  # before its input's end could be taken for the script's
        self._close()
        if self._reader is not None:
            self._reader.join(10)
        self._pipeline.__exit__(None, None, None)

    def _close(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def say(self, text: str) -> None:
        """Send statements.

        :raises Cut: if the client takes no more.
        """
        self._write(memoryview(text.encode("utf-8", "surrogateescape")))

    def _write(self, block: memoryview) -> None:
        self.sent += len(block)
        try:
            while block:
                block = block[os.write(self._writing, block) :]
        except BrokenPipeError:
            raise Cut("the session ended early") from None

    def pour(self, stages: Sequence[Stage], on_progress: Optional[Callable[[int], None]] = None) -> None:
        """Send what programs print.

        :raises PipelineError: if one of them fails, or prints nothing for long; the session is to be left then.
        """
        with Pipeline(stages) as source:
            descriptor = source.output.fileno()
            while True:
                if not select.select([descriptor], [], [], _STALL_SECONDS)[0]:
                    raise PipelineError(f"Nothing came from {stages[-1].name} for {_STALL_SECONDS:g} s.", "")
                block = os.read(descriptor, BUFFER_BYTES)
                if not block:
                    break
                self._write(memoryview(block))
                if on_progress is not None:
                    on_progress(self.sent)
            finished = source.wait(_DAY)
        if not all(each.ok for each in finished):
            raise failure(finished)

    def finish(self) -> list[tuple[str, Any]]:
        """End the script and wait for the server; return the marked lines of its answer, decoded.

        :raises PipelineError: with the server's words, if it refused a statement.
        """
        self._close()
        finished = self._pipeline.wait(_DAY)[0]
        if self._reader is not None:
            self._reader.join(60)
        trailer(finished)
        return self.marks()

    def ended(self) -> PipelineError:
        """Return why the session took no more."""
        try:
            self.finish()
        except PipelineError as error:
            return error
        return PipelineError("The session on production ended before all was sent.", "Run again.")

    def marks(self) -> list[tuple[str, Any]]:
        """Return the marked lines that came so far."""
        text = self._answer.decode("utf-8", "replace")
        return [(word, json.loads(bytes.fromhex(digits) or b"null")) for word, digits in _MARK.findall(text)]


def sql_stage(channel: Channel, instance: Instance) -> Stage:
    """Return the stage of production's client; statements come by its standard input."""
    return agent_stage(channel, "sql", instance.name, accept_failure=True)


def fetch(channel: Channel, instance: Instance, question: Path, into: Stage) -> None:
    """Let what a script prints on production flow into a program on this host.

    :param question: the script; removed afterwards.
    :raises PipelineError: if either fails, or what came is not whole.
    """
    with question.open("rb") as commands, Pipeline([sql_stage(channel, instance), into], commands) as pipeline:
        pipeline.output.read()
        finished = pipeline.wait(_DAY)
    question.unlink()
    try:
        trailer(finished[0])
    except PipelineError:
        if finished[1].ok:
            raise
    if not finished[1].ok:
        raise failure(finished)
