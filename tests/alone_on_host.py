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

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = ("/usr/bin/python3", "-I", "/opt/dbcontinuity/current/dbcontinuity_run.py")
LONGEST_SECONDS = 240.0


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


def watch(activity: str, moment: float) -> dict[str, Any]:
    """Wait for the timer's run, hold it, and look at what goes on beside it."""
    unit = f"dbcontinuity-{activity.replace('_', '-')}.service"
    saw: dict[str, Any] = {"ssh": state("ssh.service")}
    if time.time() > moment:
        saw["past"] = waited(unit, "inactive", time.time() + LONGEST_SECONDS)
        asked("systemctl", "start", unit)
    saw["came"] = waited(unit, "active", max(moment, time.time()) + 30)
    saw["came_seconds"] = round(time.time() - moment, 1)
    # The journal's first words of the run: it has its lock by then.
    time.sleep(3)
    saw["held"] = asked("systemctl", "freeze", unit)
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
    try:
        saw = watch(activity, moment)
    finally:
        result.write_text(json.dumps(saw), encoding="utf-8")
        asked("systemctl", "start", *sockets)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
