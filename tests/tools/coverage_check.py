# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together what stages have measured of the core, and hold it against the limit.

    python -m tests.tools.coverage_check TARGET PART…              fails below fail_under of pyproject.toml
    python -m tests.tools.coverage_check --no-limit TARGET PART…   reports only

Lines are counted, not branches. Some of the core's programs run as processes of their own, from a copy beside the data
they work on: tests/conftest.py has those measured, and here they count as the files they were copied from.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import coverage
from coverage import CoverageData

from tests.tools.common import ROOT

MODULE_UTILS = "collections/ansible_collections/rspon/dbcontinuity/plugins/module_utils"
# A copy's name, and what it is a copy of.
PROGRAMS = {
    "tar_watch.py": f"{MODULE_UTILS}/engines/postgresql/tar_watch.py",
    "list_watch.py": f"{MODULE_UTILS}/engines/postgresql/list_watch.py",
    "dump_watch.py": f"{MODULE_UTILS}/engines/mariadb/dump_watch.py",
    "receiver_program.py": f"{MODULE_UTILS}/receiver_program.py",
    "dbcontinuity-receiver": f"{MODULE_UTILS}/receiver_program.py",
}
LOW_PERCENT = 90.0


def original(path: str) -> str:
    """Return the file of the project, relative to its root, that a measured file is or is a copy of."""
    if path.startswith(f"{ROOT}/"):
        return path[len(f"{ROOT}/") :]
    return PROGRAMS.get(Path(path).name, path) if path.startswith("/") else path


def put_together(parts: Sequence[Path], target: Path) -> None:
    """Write all that was measured into one file."""
    whole = CoverageData(basename=str(target))
    whole.erase()
    for part in parts:
        data = CoverageData(basename=str(part))
        data.read()
        whole.update(data, map_path=original)
    whole.write()


def main(arguments: Sequence[str]) -> int:
    """Report; 2 where too little is covered."""
    parser = argparse.ArgumentParser(prog="coverage_check", description=__doc__)
    parser.add_argument("--no-limit", action="store_true", help="report only: the run was not a whole one")
    parser.add_argument("target", type=Path, help="the file to write what was put together into")
    parser.add_argument("parts", type=Path, nargs="+", help="the files that stages wrote")
    given = parser.parse_args(arguments)
    put_together(given.parts, given.target)
    measured = coverage.Coverage(data_file=str(given.target), config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    limit = float(str(measured.get_option("report:fail_under")))
    shown = io.StringIO()
    total = measured.report(file=shown)
    print(shown.getvalue())
    low = []
    for path in measured.get_data().measured_files():
        _name, statements, _excluded, missing, _text = measured.analysis2(path)
        percent = 100.0 * (len(statements) - len(missing)) / len(statements) if statements else 100.0
        if percent < LOW_PERCENT:
            low.append((percent, path.removeprefix(f"{ROOT}/").removeprefix(f"{MODULE_UTILS}/")))
    names = ", ".join(f"{path} {percent:.0f} %" for percent, path in sorted(low)) or "none"
    print(f"covered: {total:.2f} % of the core's lines (limit {limit:g} %); files below {LOW_PERCENT:g} %: {names}")
    return 2 if total < limit and not given.no_limit else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
