# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that each file of the project that can hold a comment names its licence in its first lines."""

from __future__ import annotations

import subprocess
import sys

from tests.tools.common import ROOT

TAG = "SPDX-License-Identifier:"
FIRST_LINES = 8
# Files without comments, files other tools write, and data that is compared byte by byte.
EXEMPT_SUFFIXES = (
    ".json",
    ".lock",
    ".csv",
    ".pem",
    ".pub",
    ".sig",
    ".png",
    ".svg",
    ".bin",
    ".age",
    ".zst",
    ".pdf",
)
EXEMPT_NAMES = (
    "LICENSE",
    "changelogs/changelog.yaml",
    "CHANGELOG.rst",
    ".gitkeep",
    "tests/sanity/ignore-2.19.txt",
)
EXEMPT_FOLDERS = ("/data/", "/fixtures/", "/recorded/")


def files() -> list[str]:
    """Return the files git tracks, and new ones it does not ignore."""
    command = [
        "git",
        "-c",
        f"safe.directory={ROOT}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({name for name in listing.stdout.split("\0") if name})


def lacks_header(name: str) -> bool:
    """Tell whether the file `name` should name its licence and does not."""
    path = ROOT / name
    if name.endswith((*EXEMPT_SUFFIXES, *EXEMPT_NAMES)) or any(folder in f"/{name}" for folder in EXEMPT_FOLDERS):
        return False
    if not path.is_file() or path.is_symlink() or path.stat().st_size == 0:
        return False
    try:
        with path.open(encoding="utf-8") as handle:
            return not any(TAG in line for _number, line in zip(range(FIRST_LINES), handle))
    except UnicodeDecodeError:
        return False


def main() -> int:
    """Print the files without a licence line."""
    bare = [name for name in files() if lacks_header(name)]
    for name in bare:
        print(f"{name}: no '{TAG} GPL-3.0-or-later' in the first {FIRST_LINES} lines")
    return 1 if bare else 0


if __name__ == "__main__":
    sys.exit(main())
