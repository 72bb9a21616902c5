# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One activity of the calendar, started by a timer on the backup host, with nobody there.

The playbook runs through ansible-runner in a process of its own. Whatever becomes of that process, this one ends what is
left of it, tells people, and hands its exit status on. A run that could tell nobody, because this process itself was
killed or the power failed, is told by whoever comes next: the unit's ExecStopPost, or the next run of the activity.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from .calendar import WORK
from .clock import iso, parse_moment, utc_now
from .durable import make_directory, read_json, write_json
from .errors import ContinuityError, InputError, LockHeldError
from .ledger import new_run_id
from .locks import exclusive, shared_folder
from .notice import NOT_INSTALLED, PLAYBOOK_MISSING, RUN_FAILED, RUN_KILLED, RUN_STOPPED, RUN_VANISHED, RunFacts
from .notifier import Notifier
from .operations.status import leave_status
from .run_facts import Trouble, troubles_of
from .run_process import RunProcess
from .scheduled_host import COLLECTION, Host

# Two days of cycles; of the rest more than a year of weeks, or two months of days.
KEPT_ARTEFACTS: Mapping[str, int] = {"log_cycle": 288}
KEPT_ARTEFACTS_OTHERWISE = 60
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ScheduledRun:
    """One run of one activity.

    :param say: prints a line; the journal keeps it.
    """

    def __init__(self, host: Host, activity: str, say: Callable[[str], None]) -> None:
        if activity not in WORK:
            raise InputError(f"There is no activity {activity!r}.", f"The activities are: {', '.join(WORK)}.")
        self._host = host
        self._activity = activity
        self._say = say
        self._run = new_run_id()

    def perform(self) -> int:
        """Run the activity and return its exit status: 0 also where a run of it is under way already."""
        process = RunProcess(self._run, self._tell)
        try:
            with process.watching() as wake, self._alone():
                self.finish_vanished()
                return self._perform(process, wake)
        except LockHeldError as error:
            self._tell(f"{self._activity} is under way already: {error.message} Nothing was started.")
            return 0

    def afterwards(self) -> None:
        """Tell people of a run that ended without telling them itself; nothing where there is none."""
        with contextlib.suppress(LockHeldError), self._alone():
            self.finish_vanished()

    def missed(self) -> bool:
        """Return whether the activity was due since it last began. One that never ran counts from now on."""
        due = self._due(utc_now())
        if due is None or self._activity not in self._host.calendar().activities:
            return False
        path = self._host.started(self._activity)
        try:
            return parse_moment(str(read_json(path)["started"])) < due
        except (ContinuityError, KeyError):
            make_directory(path.parent, 0o700)
            write_json(path, {"run": "", "started": iso(utc_now())}, 0o600)
            return False

    def _perform(self, process: RunProcess, wake: int) -> int:
        started = utc_now()
        due = self._due(started)
        begun = {"run": self._run, "started": iso(started), "due": iso(due) if due else None}
        self._keep(self._host.under_way(self._activity), begun)
        self._keep(self._host.started(self._activity), begun)
        late = f", due at {iso(due)}" if due else ""
        self._tell(f"{self._activity} begins{late}")
        troubles: tuple[Trouble, ...] = ()
        try:
            status = self._play(process, wake)
        except _CannotStart as error:
            self._tell(str(error))
            status, troubles = 1, (Trouble("", error.code),)
        if process.stopped:
            status = status or 143
            troubles = (Trouble("", RUN_STOPPED),)
        elif status and not troubles:
            troubles = self._troubles(started, status)
        self._tell(f"{self._activity} ended with status {status}" + "".join(f"; {each}" for each in troubles))
        self._notify(self._facts(self._run, status, troubles, due, started))
        self._remove_under_way()
        if not process.stopped:  # whoever stopped it waits for it
            self._leave_status()
        return status

    def _play(self, process: RunProcess, wake: int) -> int:
        """Run the playbook and return its status."""
        release, work = self._host.release, WORK[self._activity]
        playbook = release / COLLECTION / "playbooks" / f"{work.playbook}.yml"
        runner = release / "venv/bin/ansible-runner"
        for path, code in (
            (runner, NOT_INSTALLED),
            (self._host.inventory, NOT_INSTALLED),
            (playbook, PLAYBOOK_MISSING),
        ):
            if not path.is_file():
                raise _CannotStart(code, f"{path} is missing: run the playbook site.")
        folder = self._host.folder(self._activity)
        values = {"dbc_run": self._run, **work.variables}
        words = [
            str(release / "venv/bin/python"),
            str(runner),
            "run",
            str(folder),
            f"--ident={self._run}",
            f"--inventory={self._host.inventory}",
            f"--rotate-artifacts={KEPT_ARTEFACTS.get(self._activity, KEPT_ARTEFACTS_OTHERWISE)}",
            "--omit-env-files",
            "--only-failed-event-data",
            f"--playbook={playbook}",
            f"--cmdline={' '.join(f'-e {key}={value}' for key, value in values.items())}",
        ]
        try:
            make_directory(folder, 0o700)
            with shared_folder(release):
                return 143 if process.stopped else process.run(words, self._environment(), wake)
        except (ContinuityError, OSError) as error:
            raise _CannotStart(getattr(error, "kind", RUN_FAILED), f"It cannot be started: {error}") from None

    def _environment(self) -> dict[str, str]:
        """Return what the playbook finds in its environment: nothing of this process's but who started it."""
        own, state = os.environ, self._host.state
        handed_on = {key: own[key] for key in ("DBC_TIMER_UNIT", "SUDO_USER", "TMPDIR") if key in own}
        # systemd says which timer started the service; somebody who starts it by hand is none.
        if own.get("TRIGGER_UNIT"):
            handed_on["DBC_TIMER_UNIT"] = own["TRIGGER_UNIT"]
        return {
            "PATH": f"{self._host.release}/venv/bin:{_PATH}",
            "HOME": str(state),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(self._host.release / "ansible.cfg"),
            "ANSIBLE_HOME": str(state / "ansible"),
            "ANSIBLE_REMOTE_TEMP": str(state / "ansible/tmp"),
            "ANSIBLE_ASYNC_DIR": str(state / "ansible/async"),
            "ANSIBLE_NOCOLOR": "1",
            **handed_on,
        }

    def _troubles(self, started: datetime, status: int) -> tuple[Trouble, ...]:
        """Return what went wrong in a run that failed; that it did, at least."""
        found: tuple[Trouble, ...] = ()
        artefacts = self._host.folder(self._activity) / "artifacts" / self._run
        instances = list(self._host.variables().get("dbc_instances") or {})
        try:
            found = troubles_of(self._host.ledger(), artefacts, self._run, started, instances)
        except (ContinuityError, OSError) as error:
            self._tell(f"The ledger cannot be asked what went wrong: {error}")
            found = (Trouble("", "repository"),)
        if status > 128:
            return (Trouble("", RUN_KILLED), *found)
        return found or (Trouble("", RUN_FAILED),)

    def finish_vanished(self) -> None:
        """Tell people of a run that left no end. Call with the activity's lock held."""
        path = self._host.under_way(self._activity)
        try:
            left = read_json(path)
            started = parse_moment(str(left["started"]))
            due = parse_moment(str(left["due"])) if left.get("due") else None
        except (ContinuityError, KeyError):
            self._remove_under_way()  # nothing there, or half of it
            return
        self._tell(f"{self._activity} of {left['started']} ({left.get('run')}) ended without a result")
        self._notify(self._facts(str(left.get("run")), 1, (Trouble("", RUN_VANISHED),), due, started))
        self._remove_under_way()

    def _facts(
        self, run: str, status: int, troubles: tuple[Trouble, ...], due: Optional[datetime], started: datetime
    ) -> RunFacts:
        unit = f"dbcontinuity-{self._activity.replace('_', '-')}.service"
        return RunFacts(
            activity=self._activity,
            run=run,
            host=socket.gethostname(),
            zone=str(self._host.variables().get("dbc_zone") or "UTC"),
            exit_status=status,
            troubles=troubles,
            due=due,
            started=started,
            ended=utc_now(),
            look=(
                f"journalctl --unit={unit} --since='{started:%Y-%m-%d %H:%M:%S} UTC'",
                str(self._host.folder(self._activity) / "artifacts" / run / "stdout"),
            ),
        )

    def _notify(self, facts: RunFacts) -> None:
        try:
            Notifier(self._host, self._tell).tell(facts)
        except Exception as error:  # noqa: BLE001 - that nobody could be told must not hide how the run itself ended
            self._tell(f"Nobody could be told: {type(error).__name__}: {error}")

    def _leave_status(self) -> None:
        """Leave how things stand where monitoring finds it."""
        try:
            leave_status(self._host.repository(), self._host.state / "status.json", self._host.etc / "schedule.json")
        except Exception as error:  # noqa: BLE001 - the run has ended as it has, whatever becomes of this
            self._tell(f"The status could not be left: {type(error).__name__}: {error}")

    def _due(self, moment: datetime) -> Optional[datetime]:
        try:
            activity = self._host.calendar().activities.get(self._activity)
            return activity.last(moment) if activity else None
        except ContinuityError as error:
            self._tell(f"The calendar cannot be read: {error}")
            return None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the activity's lock: no activity overlaps itself.

        Where there is no lock to be had because the disk is full or broken, the run goes on: its failure must be told.
        """
        lock = exclusive(self._host.state / "runner" / f"{self._activity}.lock", self._activity)
        try:
            lock.__enter__()
        except LockHeldError:
            raise
        except (ContinuityError, OSError) as error:
            self._tell(f"There is no lock: {error}")
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a full disk: the lock goes with the process
                lock.__exit__(None, None, None)

    def _keep(self, path: Path, values: Mapping[str, Any]) -> None:
        try:
            make_directory(path.parent, 0o700)
            write_json(path, dict(values), 0o600)
        except (ContinuityError, OSError) as error:
            self._tell(f"{path} cannot be written: {error}")

    def _remove_under_way(self) -> None:
        with contextlib.suppress(OSError):
            self._host.under_way(self._activity).unlink(missing_ok=True)

    def _tell(self, line: str) -> None:
        self._say(f"[{self._run}] {line}")


class _CannotStart(Exception):
    """The playbook was not started."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
