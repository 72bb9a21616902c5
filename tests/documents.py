# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents as tests read them: headings, and the blocks of commands that a reader would paste."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import jsonschema

PROJECT = Path(__file__).parent.parent
_HEADING = re.compile(r"#{1,6} (.+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: the nearest heading above it, its language, its text."""

    section: str
    language: str
    text: str


def fenced(path: Path) -> list[Block]:
    """Return a document's fenced blocks in order."""
    blocks: list[Block] = []
    section = ""
    language: str | None = None
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if language is None and line.startswith("```"):
            language, lines = line[3:].strip(), []
        elif language is not None and line.rstrip() == "```":
            blocks.append(Block(section, language, "".join(lines)))
            language = None
        elif language is not None:
            lines.append(line)
        elif heading := _HEADING.match(line):
            section = heading.group(1)
    assert language is None, f"{path} has a block without an end"
    return blocks


def headings(path: Path) -> list[int]:
    """Return the levels of a document's headings in order."""
    levels, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside and _HEADING.match(line):
            levels.append(len(line) - len(line.lstrip("#")))
    return levels


def validator(name: str) -> jsonschema.Draft202012Validator:
    """Return the validator of a published schema: manifest, log-record or ledger-record."""
    values = json.loads((PROJECT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(values)
    return jsonschema.Draft202012Validator(values)
