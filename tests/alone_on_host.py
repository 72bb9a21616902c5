# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup host left alone, looked at from inside; standard library only.

    alone_on_host.py ACTIVITY MOMENT RESULT

Ends the host's SSH server, so that no control node can help or look on. Waits for the timer of ACTIVITY, which is due at
MOMENT (seconds since 1970); where that is past, for the run's end, and starts one more. While the run is held, as if it
took long, a log cycle has to succeed, and a second run of the same activity has to refuse. Writes what it saw to RESULT as
JSON, and lets SSH in again, whatever happened.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = ("/usr/bin/python3", "-I", "/opt/dbcontinuity/current/dbcontinuity_run.py")
LONGEST_SECONDS = 600.0
BEGINS_SECONDS = 120.0
MIDDLE_SECONDS = 3.0
REPOSITORY = Path("/etc/dbcontinuity/repository")


def asked(*words: str) -> tuple[int, str]:
    """Run a command and return its exit status and what it printed."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout.strip()


def state(unit: str, name: str = "ActiveState") -> str:
    """Return one of a unit's properties."""
    return asked("systemctl", "show", f"--property={name}", "--value", unit)[1]


def waited(unit: str, wanted: str, until: float) -> bool:
    """Wait for a unit to be in a state; return whether it came to that."""
    while state(unit) != wanted:
        if time.time() > until:
            return False
        time.sleep(0.2)
    return True


def began(unit: str, until: float) -> bool:
    """Wait for the first words of a unit's present run: it has its lock by then."""
    run = state(unit, "InvocationID")
    words = ("journalctl", "--output=cat", f"_SYSTEMD_INVOCATION_ID={run}", "--grep= begins")
    while asked(*words)[0] != 0:
        if time.time() > until:
            return False
        time.sleep(0.2)
    return True


def ledger_is_free() -> bool:
    """Tell whether nobody holds the ledger at this moment."""
    descriptor = os.open(Path(REPOSITORY.read_text(encoding="utf-8").strip(), "ledger/.lock"), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def hold(unit: str) -> tuple[int, str]:
    """Freeze a unit; not while it holds the ledger for a moment, since then nobody could write there."""
    until = time.time() + BEGINS_SECONDS
    while True:
        held = asked("systemctl", "freeze", unit)
        if held[0] != 0 or ledger_is_free() or time.time() > until:
            return held
        asked("systemctl", "thaw", unit)
        time.sleep(0.2)


def watch(activity: str, moment: float) -> dict[str, Any]:
    """Wait for the timer's run, hold it, and look at what goes on beside it."""
    unit = f"dbcontinuity-{activity.replace('_', '-')}.service"
    saw: dict[str, Any] = {"ssh": state("ssh.service")}
    if time.time() > moment:
        saw["past"] = waited(unit, "inactive", time.time() + LONGEST_SECONDS)
        asked("systemctl", "start", unit)
    until = max(moment, time.time()) + BEGINS_SECONDS
    saw["came"] = waited(unit, "active", until) and began(unit, until)
    saw["came_seconds"] = round(time.time() - moment, 1)
    time.sleep(MIDDLE_SECONDS)  # not to see it begin, but to hold it in the middle
    saw["held"] = hold(unit)
    try:
        saw["cycle"] = asked("systemctl", "start", "--wait", "dbcontinuity-log-cycle.service")
        saw["again"] = asked(*PROGRAM, activity)
        saw["state"] = [state(unit), state(unit, "FreezerState")]
    finally:
        asked("systemctl", "thaw", unit)
    saw["ended"] = waited(unit, "inactive", time.time() + LONGEST_SECONDS)
    saw["result"] = state(unit, "Result")
    return saw


def main(activity: str, moment: float, result: Path) -> None:
    """Do all of it, and leave the host as it was."""
    sockets = [each for each in ("ssh.socket", "ssh.service") if state(each) == "active"]
    asked("systemctl", "stop", *sockets)
    saw: dict[str, Any] = {}
    since = int(time.time()) + 1
    try:
        saw = watch(activity, moment)
    finally:
        saw["since"] = max(since, int(moment))
        # Whole seconds, as the journal is asked: what comes in this very one is no longer looked at.
        saw["until"] = int(time.time())
        result.write_text(json.dumps(saw), encoding="utf-8")
        asked("systemctl", "start", *sockets)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
