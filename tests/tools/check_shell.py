# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run shellcheck over each shell script of the project, known by its first line."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.tools.check_headers import files
from tests.tools.common import ROOT

SHELL = re.compile(rb"#!\s*(/usr/bin/env\s+|/bin/|/usr/bin/)(ba|da)?sh\b")


def scripts() -> list[str]:
    """Return the files whose first line names a shell; templates are left out."""
    found = []
    for name in files():
        path = ROOT / name
        if path.suffix == ".j2" or not path.is_file() or path.is_symlink():
            continue
        with path.open("rb") as handle:
            if SHELL.match(handle.readline(200)):
                found.append(name)
    return found


def main() -> int:
    """Check them all; no script at all would mean that this looked in the wrong place."""
    names = scripts()
    if not names:
        print("found no shell script")
        return 1
    return subprocess.run(["shellcheck", "--severity=style", *names], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
