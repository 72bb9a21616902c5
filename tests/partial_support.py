# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of partial restores share: a copy brought up beside production, the restore itself, a small workload."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.partial import Order
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer, Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore_partial import (
    PartialRequest,
    restore_partial,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.recoverable import find_source
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scope import parse_all
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scratch import claimed
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.throwaway import Sandbox, owner_for, present_user
from demo.process import descendants, wait_until
from demo.server import Server
from tests.support import Place

# Sample databases of others, where they lie beside the project.
SAMPLES = Path(__file__).parent.parent.parent / "shared" / "data"
RUN = "20261123T170000Z-ab12cd34"
WORD = "20261123t170000z_ab12cd34"


@contextmanager
def copy_of(place: Place, instance: Instance, folder: Path, target: str = "set") -> Iterator[ScratchServer]:
    """Bring a moment up as the restore does, by default that of the newest set."""
    found = find_source(Repository.open(place.repository), instance, place.protection, Target(target), "")
    owner = owner_for("", found.scratch.users) if found.scratch.users else present_user()
    with claimed(folder, place.repository, "test") as claim, claim.work(instance.name, owner) as work:
        server = found.scratch(Instance(instance.name, instance.engine), found.source, work, Sandbox(work, owner))
        try:
            server.unpack()
            server.verify_base()
            server.start()
            server.replay(lambda _done: None, 600)
            yield server
        finally:
            server.end()


@dataclass
class Production:
    """Where a partial restore goes."""

    place: Place
    instance: Instance
    channel: Channel

    def request(self, scopes: Sequence[str], mode: str = "replace", **changes: Any) -> PartialRequest:
        """Return what is asked."""
        check = changes.pop("check_only", False)
        order = Order(changes.pop("run", RUN), parse_all(scopes, self.instance.engine), mode, **changes)
        return PartialRequest(self.instance, self.channel, order, self.place.root / "restores", check)

    def restored(self, server: ScratchServer, *scopes: str, **changes: Any) -> dict[str, Any]:
        """Restore in part; return the operation's answer."""
        return restore_partial(self.request(scopes, **changes), server, Progress())


def item(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what an answer says of one thing."""
    found: dict[str, Any] = next(each for each in answer["items"] if each["name"] == name)
    return found


class Writer:
    """Inserts rows into a table of its own, all the time, and counts what the server confirmed."""

    def __init__(self, server: Server, statement: str, database: str) -> None:
        self._server, self._statement, self._database = server, statement, database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self.done = 0
        self.failure: BaseException | None = None

    def _write(self) -> None:
        try:
            with self._server.session(self._database) as session:
                while not self._stop.wait(0.01):
                    session.run(self._statement.replace("{n}", str(self.done)), timeout=60)
                    self.done += 1
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self.failure = error

    def __enter__(self) -> Writer:
        self._thread.start()
        assert wait_until(lambda: self.done > 0 or self.failure is not None, 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(90)
        if kind is None:
            assert self.failure is None, self.failure
            assert self.done > 0


_PR_SET_CHILD_SUBREAPER = 36
# Others' sessions: what the killed process began is over, or rolled back, when none is left.
_SESSIONS = {
    "mariadb": "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND HOST <> ''"
    " AND COMMAND <> 'Daemon'",
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
}


def in_a_process_that_dies(work: Callable[[], object], server: Server) -> None:
    """Do work in a process of its own that kills itself in the middle, and wait until nothing of it runs.

    Its client reads its input to the end, and the server rolls back: both take their time.
    """
    library = ctypes.CDLL(None, use_errno=True)
    assert library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # what it leaves behind becomes our child
    before = set(descendants(os.getpid()))
    try:
        child = os.fork()
        if not child:
            try:
                work()
            finally:
                os._exit(1)
        _pid, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status)
        assert os.WTERMSIG(status) == signal.SIGKILL

        def ended() -> bool:
            left = set(descendants(os.getpid())) - before
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            return not left

        assert wait_until(ended, 120)
    finally:
        library.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert wait_until(lambda: server.value(_SESSIONS[server.engine]) == "0", 120)
