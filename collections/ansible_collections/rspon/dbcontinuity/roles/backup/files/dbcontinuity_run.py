# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one activity of the calendar on the backup host; timers and cron start it. --help says what else it does.

What it does stands in the collection's core, module_utils/scheduled_program.py. This file finds the core beside itself: the
whole installation is one folder, so that an upgrade, which is another folder, never changes a run that is under way.
"""

from __future__ import annotations

import sys
from pathlib import Path

RELEASE = Path(__file__).resolve().parent


def main() -> int:
    """Hand on to the core, and return the exit status."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(RELEASE / "collections"))
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_program import main as run

    return run(sys.argv[1:], RELEASE)


if __name__ == "__main__":
    sys.exit(main())
