# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a failed stage is tried once more, alone.

Tests that start real servers and hosts can fail because the machine stood still for seconds. One that then passes has
not hidden anything: the first failure is shown in full, and the closing table names it. It is a defect to be looked into.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tests.tools.common import ROOT

MOST_FILES = 3
"""Where tests of more files failed, something is broken: no second attempt."""


def failed_tests(report: Path) -> dict[str, str]:
    """Return the tests that failed by pytest's report: the test's name, and its file below the project's folder."""
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest of this run wrote it
        if case.find("failure") is not None or case.find("error") is not None:
            file = _file(case.get("classname", ""))
            found[f"{file}::{case.get('name', '')}"] = file
    return found


def _file(class_name: str) -> str:
    """Return the file of a dotted name, which ends with the class where the test has one; "" where there is none."""
    parts = class_name.split(".")
    for length in range(len(parts), 0, -1):
        path = Path(*parts[:length]).with_suffix(".py")
        if (ROOT / path).is_file():
            return str(path)
    return ""


def files_to_try(report: Path) -> list[str]:
    """Return the files that are worth a second attempt; none where too many failed, or one's file is not known."""
    files = sorted(set(failed_tests(report).values()))
    return files if "" not in files and len(files) <= MOST_FILES else []
