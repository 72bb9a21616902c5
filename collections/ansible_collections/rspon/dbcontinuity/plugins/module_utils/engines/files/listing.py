# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The complete listing of an instance's folders, as the agent writes it: one JSON object a line."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any


def count_entries(listing: Path) -> dict[str, int]:
    """Return how many entries, files and folders a listing has, and the bytes of its files."""
    totals = {"entries": 0, "files": 0, "folders": 0, "links": 0, "special": 0, "bytes": 0}
    plural = {"file": "files", "folder": "folders", "link": "links", "special": "special"}
    with listing.open("rb") as lines:
        for line in lines:
            entry = json.loads(line)
            totals["entries"] += 1
            totals[plural[entry["kind"]]] += 1
            totals["bytes"] += entry["size"]
    return totals


def verify_against_listing(archive: Path, listing: Path) -> list[str]:
    """Return what a tar archive lacks of its listing; files that changed while they were read differ in size alone."""
    held: dict[str, int] = {}
    with tarfile.open(archive, "r:", errorlevel=2) as tar:
        for member in tar:
            held["/" + member.name.rstrip("/")] = member.size
    problems = []
    with listing.open("rb") as lines:
        for line in lines:
            entry: dict[str, Any] = json.loads(line)
            if entry["path"] not in held:
                problems.append(f"{entry['path']} is missing")
    return problems
