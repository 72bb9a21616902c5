# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: how a restore reaches production, through an agent that is there for this one restore.

It speaks the backup agent's protocol: words, data on standard input and output, and a last line on stderr that says
whether all went well. Bulk data flow through one buffer that hashes; both ends must have seen the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from .agent_answer import agent_stage, trailer
from .errors import InputError, PipelineError
from .instance import Agent, Instance
from .process import BUFFER_BYTES, Finished, Pipeline, Stage, failure, find_tool, run

_DAY = 24 * 3600.0
_STALL_SECONDS = 600.0
# The agent's client prints this for NULL where its own way could be mistaken for a text.
_NULL = "\x01NULL\x01"
_UNESCAPE = {"n": "\n", "t": "\t", "\\": "\\", "0": "\0"}


@dataclass(frozen=True)
class Channel(Agent):
    """How the restore agent on production is run; fields as for :class:`Agent`.

    Over SSH the key and the agent behind it exist only while the playbook restore runs.
    """

    program: str = "/usr/local/libexec/dbcontinuity-restore-agent"
    user: str = "root"
    identity_file: str = "/run/dbcontinuity/restore_key"

    # -- looking --

    def look(self, instance: Instance) -> dict[str, Any]:
        """Return what is on production: server, data directory, room, what earlier restores left.

        :raises PipelineError: if the agent does not answer, or says why it cannot.
        """
        return self._json(self._ask(instance, "look", timeout=600.0))

    # -- bringing data --

    def begin(self, instance: Instance, run_id: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Open a restore on production; what an unfinished one had received is removed.

        :param spec: ``parts`` (names of what will come), and what the engine's restore says of the new data.
        :returns: ``parts``: by name, ``path`` (what will be replaced), ``new`` and ``old``.
        """
        return self._json(self._ask(instance, "begin", run_id, stdin=json.dumps(spec).encode()))

    def receive(
        self,
        instance: Instance,
        run_id: str,
        part: str,
        folder: Path,
        on_progress: Optional[Callable[[int], None]] = None,
    ) -> int:
        """Send a folder's content (or a single file) beside production's own; return the bytes sent.

        :raises PipelineError: if it did not arrive whole; what came is removed by :meth:`clean`.
        """
        words = ("--create", "--file=-", "--format=posix", "--numeric-owner", "--acls", "--xattrs", "--sparse")
        where, what = (folder, ".") if folder.is_dir() and not folder.is_symlink() else (folder.parent, folder.name)
        pack = Stage((find_tool("tar"), *words, f"--directory={where}", "--", what), label="tar")
        sent, digest, finished = self._send([pack], instance, "receive", run_id, part, on_progress=on_progress)
        said = trailer(finished)
        if said.get("sha256") != digest:
            raise PipelineError(
                f"What arrived on production for {part} is not what was sent: SHA-256 {said.get('sha256')}, not {digest}.",
                "Run again; if it happens again, look at the network and the memory of both hosts.",
            )
        return sent

    def adopt(self, instance: Instance, run_id: str, part: str, folder: Path) -> bool:
        """Let the agent rename a folder of this very host into its place beside production's own.

        :returns: whether it could: it cannot over SSH, or from another file system.
        """
        if self.transport != "local":
            return False
        answer = self._json(self._ask(instance, "adopt", run_id, part, stdin=os.fsencode(folder), timeout=_DAY))
        return bool(answer.get("adopted"))

    # -- exchanging --

    def swap(self, instance: Instance, run_id: str) -> dict[str, Any]:
        """Stop the server, exchange the data, start it; on return it answers on the new data.

        :returns: ``parts`` with ``path`` and ``old``, ``stop_seconds``, ``start_seconds``.
        :raises PipelineError: if that failed; its words say which data production runs on.
        """
        return self._json(self._ask(instance, "swap", run_id, timeout=_DAY))

    def back(self, instance: Instance, run_id: str) -> dict[str, Any]:
        """Put the old data back and start the server on them; harmless where nothing was exchanged."""
        return self._json(self._ask(instance, "back", run_id, timeout=_DAY))

    def clean(self, instance: Instance, run_id: str) -> dict[str, Any]:
        """Close a restore: what was received and is not used goes, the old data stay."""
        return self._json(self._ask(instance, "clean", run_id, timeout=_DAY))

    # -- asking --

    def sql(
        self, instance: Instance, text: str, database: str = "", timeout: float = 600.0
    ) -> list[list[Optional[str]]]:
        """Run statements as the server's administrator; return the rows of all of them, values as text, NULL as None.

        The first error ends it. (MariaDB's client prints NULL and the text NULL alike: both come as None.)

        :raises PipelineError: with the server's words.
        """
        answered = self._ask(instance, "sql", *_database(database), stdin=text.encode(), timeout=timeout)
        return _rows(instance.engine, answered.decode("utf-8", "surrogateescape"))

    def feed(
        self,
        instance: Instance,
        stages: Sequence[Stage],
        database: str = "",
        on_progress: Optional[Callable[[int], None]] = None,
    ) -> int:
        """Run what *stages* give as statements, as :meth:`sql` does; nothing of the answer is kept.

        :returns: the bytes sent.
        """
        sent, _digest, finished = self._send(stages, instance, "sql", *_database(database), on_progress=on_progress)
        trailer(finished)
        return sent

    # -- the protocol --

    def _stage(self, instance: Instance, verb: str, *words: str) -> Stage:
        return agent_stage(self, verb, instance.name, *words, accept_failure=True)

    def _ask(self, instance: Instance, verb: str, *words: str, stdin: bytes = b"", timeout: float = 60.0) -> bytes:
        finished = run(self._stage(instance, verb, *words), stdin=stdin, timeout=timeout, check=False)
        trailer(finished)
        return finished.stdout

    @staticmethod
    def _json(data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise PipelineError(
                f"The restore agent on production answered no JSON object: {data[:200]!r}.", "Report this."
            )
        return value

    def _send(
        self,
        stages: Sequence[Stage],
        instance: Instance,
        verb: str,
        *words: str,
        on_progress: Optional[Callable[[int], None]],
    ) -> tuple[int, str, Finished]:
        """Pump *stages* into a verb; return bytes and SHA-256 sent, and how the agent ended."""
        digest = hashlib.sha256()
        sent = 0
        buffer = bytearray(BUFFER_BYTES)
        view = memoryview(buffer)
        reading, writing = os.pipe()
        source: tuple[Finished, ...] = ()
        gone = False
        command = self._stage(instance, verb, *words)
        with (
            os.fdopen(reading, "rb", buffering=0) as incoming,
            Pipeline([command], incoming) as agent,
            Pipeline(stages) as packed,
        ):
            incoming.close()
            with os.fdopen(writing, "wb", buffering=0) as sink:
                while True:
                    if not select.select([packed.output], [], [], _STALL_SECONDS)[0]:
                        raise PipelineError(f"Nothing came from {packed.stages[-1].name} for {_STALL_SECONDS:g} s.", "")
                    count = os.readv(packed.output.fileno(), [buffer])
                    if not count:
                        break
                    digest.update(view[:count])
                    try:
                        _write(sink.fileno(), view[:count])
                    except BrokenPipeError:
                        gone = True  # its own last word says why
                        break
                    sent += count
                    if on_progress is not None:
                        on_progress(sent)
                if gone:
                    packed.kill()
                else:
                    source = packed.wait()
                if not all(each.ok for each in source):
                    agent.kill()  # before the pipe's end could be taken for the data's
                    raise failure(source)
            agent.output.read()
            finished = agent.wait(timeout=_DAY)[0]
        return sent, digest.hexdigest(), finished


def _write(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


def _database(name: str) -> tuple[str, ...]:
    """Return the word that names a database; a name may hold anything, a word may not."""
    if "\0" in name:
        raise InputError(f"The database name {name!r} cannot be used.", "Correct the name.")
    return (f"database={name.encode().hex()}",) if name else ()


def _rows(engine: str, text: str) -> list[list[Optional[str]]]:
    if engine == "postgresql":
        parsed = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
        return [[None if value == _NULL else value for value in row or [""]] for row in parsed]
    return [[_unescape(value) for value in line.split("\t")] for line in text.split("\n")[:-1]]


def _unescape(value: str) -> Optional[str]:
    if value == "NULL":
        return None
    return re.sub(r"\\(.)", lambda match: _UNESCAPE.get(match.group(1), match.group(1)), value)
