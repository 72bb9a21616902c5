# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of scheduled runs: ``dbcontinuity_run.py``, which timers and cron start on the backup host."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .calendar import WORK
from .errors import ContinuityError
from .notifier import Notifier
from .scheduled_host import Host
from .scheduled_run import ScheduledRun
from .supervisor import start_stopped

CURRENT = "current"
INSTALLED = "installed.json"
_UNUSED_SECONDS = 3600.0  # a run that has just begun reads the link before it holds the folder
_ABANDONED_SECONDS = 86400.0


def main(arguments: Sequence[str], release: Path) -> int:
    """Do what is asked, and return the exit status.

    :param release: the folder of the installation this was started from.
    """
    chosen = _parser().parse_args(arguments)
    host = Host(release, chosen.etc, chosen.state)
    try:
        if chosen.try_notify:
            return 1 if Notifier(host, _say).try_all() else 0
        if chosen.afterwards:
            ScheduledRun(host, chosen.activity, _say).afterwards()
            return 0
        for said in start_stopped(host.receivers):
            _say(said)
        if chosen.missed:
            return run_missed(host, _say)
        run = ScheduledRun(host, chosen.activity, _say)
        status = run.perform()
        remove_unused(release)
        return status
    except ContinuityError as error:
        _say(str(error))
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dbcontinuity_run.py",
        description="Runs one activity of the calendar, as its timer does, and tells people where it fails.",
        epilog=f"Activities: {', '.join(WORK)}. An activity that is under way is not started a second time.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("activity", nargs="?", metavar="ACTIVITY", help="the activity to run")
    what.add_argument("--missed", action="store_true", help="run what was due while the host was off (cron's @reboot)")
    what.add_argument("--try-notify", action="store_true", help="send a trial through every channel of dbc_notify")
    parser.add_argument(
        "--afterwards",
        action="store_true",
        help="run nothing: tell people of a run of ACTIVITY that was ended before it could tell them",
    )
    parser.add_argument("--etc", type=Path, default=Host.etc, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--state", type=Path, default=Host.state, metavar="DIR", help="default: %(default)s")
    return parser


def _say(line: str) -> None:
    """Print a line; a system log that has gone away ends no run."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter would fail at its end


def run_missed(host: Host, say: Callable[[str], None]) -> int:
    """Run what was missed while the host was off, one after the other; return the last status that is not 0."""
    status = 0
    for name in sorted(WORK, key=lambda each: each != "log_cycle"):  # the shortest and most urgent first
        try:
            run = ScheduledRun(host, name, say)
            if run.missed():
                status = run.perform() or status
        except ContinuityError as error:
            say(str(error))
            status = 2
    return status


def remove_unused(release: Path) -> list[str]:
    """Remove installations that were replaced and that no run uses any more; return their names.

    :param release: the one that this process runs from; it stays, and so does the one in force.
    """
    removed: list[str] = []
    link = release.parent / CURRENT
    try:
        if not link.is_symlink() or time.time() - link.lstat().st_ctime < _UNUSED_SECONDS:
            return removed
        kept = {release.resolve(), link.resolve()}
        for folder in sorted(release.parent.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and folder.resolve() not in kept and _unused(folder):
                shutil.rmtree(folder)
                removed.append(folder.name)
    except OSError as error:
        _say(f"An installation that is no longer used could not be removed: {error}")
    return removed


def _unused(folder: Path) -> bool:
    """Return whether no run holds an installation, and site is not just making it."""
    mark = folder / INSTALLED
    age = time.time() - (mark if mark.exists() else folder).stat().st_mtime
    if age < (_UNUSED_SECONDS if mark.exists() else _ABANDONED_SECONDS):
        return False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
