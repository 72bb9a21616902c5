# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the core's programs measured that tests start as processes of their own.

The core starts them by sys.executable with an environment that it makes anew, so nothing can be handed on in it. Where
the test run asks for it (DBC_CHILD_COVERAGE names the file that children's data go beside), sys.executable is a script that
turns the measuring on for these programs and becomes the real interpreter.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from tests.tools.coverage_check import PROGRAMS

_CONFIG = """[run]
parallel = true
sigterm = true
patch = _exit
data_file = {data}
include =
    {include}
disable_warnings = no-data-collected, couldnt-parse, module-not-measured, already-imported, no-sysmon
"""
_SCRIPT = """#!/bin/bash
# Made by tests/conftest.py for one test run. The interpreter takes this file's name for its own: what it starts comes here, too.
for word; do
    case $word in
    {patterns})
        export COVERAGE_PROCESS_START={config} COVERAGE_FILE={data}
        break
        ;;
    esac
done
exec -a "$0" {python} "$@"
"""


def pytest_configure() -> None:
    """Put the script into the interpreter's place, beside it: some tests look for other programs there."""
    data = os.environ.get("DBC_CHILD_COVERAGE")
    if not data:
        return
    patterns = [f"*/{name}" for name in PROGRAMS]
    config = Path(f"{data}-config")
    config.write_text(_CONFIG.format(data=data, include="\n    ".join(patterns)), encoding="utf-8")
    programs = Path(sys.prefix) / "bin"
    script = programs / f"python-measured-{Path(data).name.rpartition('.')[2]}"
    values = {"config": config, "data": data, "python": programs / "python"}
    quoted = {name: shlex.quote(str(value)) for name, value in values.items()}
    # Each worker of a run writes the same: none may meet it half-written.
    unfinished = script.with_name(f"{script.name}.{os.getpid()}")
    unfinished.write_text(_SCRIPT.format(patterns=" | ".join(patterns), **quoted), encoding="utf-8")
    unfinished.chmod(0o755)
    unfinished.replace(script)
    sys.executable = str(script)
