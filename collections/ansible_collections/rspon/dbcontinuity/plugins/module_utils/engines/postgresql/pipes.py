# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_basebackup's archives as streams: it can write to standard output only what is neither compressed by the server
nor spread over tablespaces. So its files are named pipes, and nothing of them ever lies on a disk.

It insists on an empty folder, and makes it if it is missing; right after that the pipes are put there, while the server
is still busy with its checkpoint. Should pg_basebackup ever be faster, a plain file stands there already, which is seen
at once, and it is started again.
"""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from ...errors import PipelineError
from ...process import Finished, Pipeline, Stage, failure

_ATTEMPTS = 5
_CONNECT_SECONDS = 60.0
_CHECKPOINT_SECONDS = 3600.0
_END_SECONDS = 600.0


class ArchivePipes:
    """pg_basebackup under way, one pipe for each archive it was expected to write.

    Use as a context manager: leaving it ends pg_basebackup.

    :param stage: pg_basebackup, told to write into *folder*, which must not exist.
    :param names: the files it will write there, each once.
    """

    def __init__(self, stage: Stage, folder: Path, names: Sequence[str]) -> None:
        self._stage = stage
        self._folder = folder
        self._names = names
        self._open: dict[str, int] = {}
        self._pipeline = Pipeline([stage])

    def __enter__(self) -> ArchivePipes:
        try:
            for _attempt in range(_ATTEMPTS):
                self._pipeline = Pipeline([self._stage])
                self._pipeline.__enter__()
                if self._make_pipes():
                    return self
                self._end()
            raise PipelineError(
                f"pg_basebackup opened its files before pipes could be put there, {_ATTEMPTS} times.",
                "Look at the load of this host, then run again.",
            )
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._pipeline.kill()
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_pipes(self) -> bool:
        """Put the pipes there; return False if a file stands in a pipe's place."""
        end = monotonic() + _CONNECT_SECONDS
        while not self._folder.is_dir():
            if self._ended():
                raise failure(self._pipeline.wait())
            if monotonic() > end:
                raise PipelineError(f"pg_basebackup did not connect within {_CONNECT_SECONDS:g} seconds.")
            sleep(0.0005)
        try:
            for name in self._names:
                os.mkfifo(self._folder / name, 0o600)
        except FileExistsError:
            return False
        for name in self._names:
            self._open[name] = os.open(self._folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return True

    def _ended(self) -> bool:
        """Return whether pg_basebackup closed its (empty) standard output: it ends."""
        output = self._pipeline.output.fileno()
        return bool(select.select([output], [], [], 0)[0]) and not os.read(output, 65536)

    def next(self) -> tuple[str, int]:
        """Wait until pg_basebackup writes the next archive; return its name and the descriptor to read it from.

        :raises PipelineError: if it ends instead.
        """
        poll = select.poll()
        names = {descriptor: name for name, descriptor in self._open.items()}
        for descriptor in names:
            poll.register(descriptor, select.POLLIN)
        end = monotonic() + _CHECKPOINT_SECONDS
        while monotonic() < end:
            ended = self._ended()
            ready = poll.poll(200)
            if ready:
                descriptor = ready[0][0]
                os.set_blocking(descriptor, True)
                return names[descriptor], descriptor
            if ended:
                finished = self._pipeline.wait()
                if not finished[0].ok:
                    raise failure(finished)
                missing = ", ".join(sorted(names.values()))
                raise PipelineError(
                    f"pg_basebackup ended without writing {missing}: a tablespace was dropped meanwhile.",
                    "Run the backup again.",
                )
        raise PipelineError(
            f"The server sent nothing within {_CHECKPOINT_SECONDS:g} seconds.", "Look at the server's checkpoints."
        )

    def done(self, name: str) -> None:
        """Close an archive that was read to its end."""
        os.close(self._open.pop(name))

    def finish(self) -> Finished:
        """Return how pg_basebackup ended, all archives having been read.

        :raises PipelineError: if it failed, or wrote a file that was not expected.
        """
        finished = self._pipeline.wait(_END_SECONDS)
        if not finished[0].ok:
            raise failure(finished)
        others = {path.name for path in self._folder.iterdir()} - {*self._names, "backup_manifest"}
        if others:
            raise PipelineError(
                f"pg_basebackup also wrote {', '.join(sorted(others))}: a tablespace was made meanwhile.",
                "Run the backup again.",
            )
        return finished[0]
