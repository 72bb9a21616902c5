# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scheduled run that takes long, as with a large database; standard library only.

    slow_on_host.py ACTIVITY REPOSITORY DUE SECONDS

Waits until the ledger has the beginning of a run of ACTIVITY at or after DUE (seconds since 1970), then lets the unit work for a
part of each second only, for SECONDS or until it has ended. Never long enough at a time to be taken for a stall.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

AT_WORK_SECONDS = 0.1
AT_REST_SECONDS = 2.0
PATIENCE_SECONDS = 60.0


def systemctl(*words: str) -> str:
    """Return what systemd says."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()


def records(ledger: Path) -> Iterator[dict[str, Any]]:
    """Give the newest file's records; a line that is being written is none yet."""
    for line in sorted(ledger.glob("*.jsonl"))[-1].read_text(encoding="utf-8").split("\n")[:-1]:
        yield json.loads(line)


def begun(ledger: Path, activity: str, due: float) -> bool:
    """Return whether a run's beginning is in the ledger."""
    return any(
        each["activity"] == activity
        and each["kind"] == "started"
        and datetime.fromisoformat(each["at"].replace("Z", "+00:00")).timestamp() >= due
        for each in records(ledger)
    )


def main(activity: str, repository: Path, due: float, seconds: float) -> None:
    """Slow it down, and let it go whatever happens."""
    unit = f"dbcontinuity-{activity.replace('_', '-')}.service"
    time.sleep(max(0.0, due - time.time()))
    while not begun(repository / "ledger", activity, due):
        if time.time() > due + PATIENCE_SECONDS:
            raise SystemExit(f"no run of {activity} has begun")
        time.sleep(0.05)
    end = time.time() + seconds
    try:
        while time.time() < end and systemctl("is-active", unit) == "active":
            systemctl("freeze", unit)
            time.sleep(AT_REST_SECONDS)
            systemctl("thaw", unit)
            time.sleep(AT_WORK_SECONDS)
    finally:
        systemctl("thaw", unit)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
