# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module in the background and prints how far it is, so that long work is not silent.

The module rewrites a small progress file; this reads it every few seconds and prints at steps of percent and time.
Check mode, a user's own ``async:`` and connections without background jobs run the module plainly.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from .inventory import human_bytes

display = Display()
POLL_SECONDS = 2.0
PRINT_EVERY_SECONDS = 15.0
PRINT_EVERY_PERCENT = 10
JOB_LIMIT_SECONDS = 7 * 24 * 3600


class Interrupted(BaseException):
    """The playbook was interrupted; Ansible's own handler would end the process here and leave the job running."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _catch_signals() -> dict[int, Any]:
    """Have SIGINT and SIGTERM raise :class:`Interrupted` once; return the handlers that stood there."""
    if threading.current_thread() is not threading.main_thread():
        return {}

    def interrupt(number: int, _frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    return {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}


class ProgressAction(ActionBase):
    """The action behind a module that tells its progress."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and return its result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.async_val or self._task.check_mode or self._connection.always_pipeline_modules:
            result.update(self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val))
            return result
        result.update(self._watched(task_vars or {}))
        return result

    def _watched(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        folder = self._make_tmp_path()
        progress_file = self._connection._shell.join_path(folder, "progress.json")
        arguments = {**self._task.args, "progress_file": progress_file}
        self._task.async_val = JOB_LIMIT_SECONDS
        job = ""
        finished = False
        handlers = _catch_signals()
        try:
            started = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=True)
            job = str(started.get("ansible_job_id", ""))
            if not job:
                finished = True
                return dict(started)
            outcome = self._wait(job, progress_file, task_vars)
            finished = True
            return outcome
        except Interrupted as interrupted:
            # As Ansible would have ended this process, but the work behind it first.
            self._cancel(progress_file)
            finished = True
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.kill(os.getpid(), interrupted.number)
            raise
        finally:
            self._task.async_val = 0
            if job and not finished:
                self._cancel(progress_file)
            self._remove_tmp_path(folder, force=True)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _wait(self, job: str, progress_file: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        last: dict[str, Any] = {}
        printed_at = time.monotonic()
        while True:
            time.sleep(POLL_SECONDS if last else 0.3)
            status = self._status(job, "status", task_vars)
            if status.get("finished"):
                self._status(job, "cleanup", task_vars)
                for key in ("ansible_job_id", "finished", "started", "results_file"):
                    status.pop(key, None)
                return status
            if status.get("failed") or "finished" not in status:
                status.setdefault("msg", f"the background job {job} cannot be asked")
                return {**status, "failed": True}
            state = self._read(progress_file)
            if not state.get("phase"):
                continue
            due = time.monotonic() - printed_at >= PRINT_EVERY_SECONDS
            step = state.get("percent", 0) - last.get("percent", 0) >= PRINT_EVERY_PERCENT
            if due or step or state["phase"] != last.get("phase"):
                self._print(sentence(state))
                printed_at = time.monotonic()
                last = state
            last = last or state

    def _status(self, job: str, mode: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        folder = self.get_shell_option("async_dir", default="~/.ansible_async")
        arguments = {"jid": job, "mode": mode, "_async_dir": folder}
        return dict(
            self._execute_module(module_name="ansible.legacy.async_status", module_args=arguments, task_vars=task_vars)
        )

    def _read(self, progress_file: str) -> dict[str, Any]:
        answer = self._low_level_execute_command(f"cat {self._connection._shell.quote(progress_file)}", sudoable=True)
        try:
            state = json.loads(answer.get("stdout", ""))
        except ValueError:
            return {}
        return state if isinstance(state, dict) else {}

    def _cancel(self, progress_file: str) -> None:
        pid = self._read(progress_file).get("pid")
        if isinstance(pid, int):
            self._low_level_execute_command(f"kill -TERM {pid}", sudoable=True)

    def _print(self, text: str) -> None:
        # A machine reads these callbacks' stdout: nothing of ours may stand between.
        if str(C.DEFAULT_STDOUT_CALLBACK).rsplit(".", 1)[-1] in ("json", "jsonl", "oneline"):
            display.v(text)
        else:
            display.display(text)


def sentence(state: dict[str, Any]) -> str:
    """Return one line on how far the work is."""
    parts = [f"  ... {state['phase']}: {human_bytes(state['done_bytes'])}"]
    if "percent" in state:
        parts.append(f"{state['percent']} %")
    if state.get("bytes_per_second"):
        parts.append(f"{human_bytes(state['bytes_per_second'])}/s")
    if "seconds_left" in state:
        parts.append(f"about {state['seconds_left']} s left")
    return ", ".join(parts)
