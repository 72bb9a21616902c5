# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lineage: the unbroken history of one server, as a chain of closed logs that were proven when they came.

    logs/<id>/lineage.json                     which full backup opened it, the server's identity, where it starts
    logs/<id>/<number>-<log name>.zst.age      a log
    logs/<id>/<number>-<log name>.json         its record, which holds the hash of the record before
    logs/<id>/head.json                        the newest record's number, file and hash: the commit point
    logs/<id>/state.json                       what the last cycle saw: recoverable to, lag
    logs/<id>/broken.json                      only once the chain is broken: the findings

A record counts once ``head.json`` names it or a later one, so a crash in between leaves nothing half-written that is
taken for a log, and finding the head costs the same with ten logs and ten thousand.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from .clock import iso, stamp
from .durable import (
    dump_json,
    fsync_directory,
    make_directory,
    read_json,
    sweep_unfinished,
    write_file,
    write_json,
    writing_to,
)
from .errors import DamagedError

RECORD_VERSION = 1
_LINEAGE = re.compile(r"\d{8}T\d{6}Z-\d{4}", re.ASCII)
_RECORD = re.compile(r"(\d{8})-[^/]+\.json", re.ASCII)
GENESIS = "0" * 64


@dataclass(frozen=True)
class Finding:
    """Something wrong with the chain, as a value of its own.

    :param code: one of the documented codes, such as ``missing-log``.
    :param file: the name of the log concerned.
    :param message: what is wrong.
    :param remedy: what to do.
    :param breaks: whether the chain cannot be called good until a new full backup.
    """

    code: str
    file: str
    message: str
    remedy: str
    breaks: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the plain form."""
        return {
            "code": self.code,
            "file": self.file,
            "message": self.message,
            "remedy": self.remedy,
            "breaks_chain": self.breaks,
        }


@dataclass(frozen=True)
class LogRecord:
    """One log of the chain; *values* is its whole plain form."""

    values: Mapping[str, Any]

    @property
    def sequence(self) -> int:
        """Return its number in the lineage, from 1."""
        return int(self.values["sequence"])

    @property
    def name(self) -> str:
        """Return the log's name on its server."""
        return str(self.values["name"])

    @property
    def artefact(self) -> str:
        """Return the stored file's name."""
        return str(self.values["artefact"])

    @property
    def end(self) -> Mapping[str, Any]:
        """Return the position where it ends, in the engine's terms."""
        value = self.values["end"]
        return value if isinstance(value, dict) else {}

    @property
    def record_name(self) -> str:
        """Return the record's file name."""
        return f"{self.sequence:08d}-{self.name}.json"

    @property
    def sha256(self) -> str:
        """Return the hash that the next record holds."""
        return hashlib.sha256(dump_json(self.values)).hexdigest()


class Lineage:
    """One lineage's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opening = read_json(path / "lineage.json")
        if not isinstance(self.opening.get("start"), dict) or not {"opened_at", "opened_by"} <= set(self.opening):
            raise DamagedError(f"{path / 'lineage.json'} is not what was written.", "Take it from a copy.")

    @property
    def id(self) -> str:
        """Return the lineage's name, which is ours, not the server's."""
        return self.path.name

    @property
    def start(self) -> Mapping[str, Any]:
        """Return the position where the chain starts, in the engine's terms."""
        return dict(self.opening["start"])

    def head(self) -> Optional[LogRecord]:
        """Return the newest log's record, or None in a lineage without logs.

        :raises DamagedError: if the record is not the one that was committed.
        """
        if not (self.path / "head.json").exists():
            return None
        head = read_json(self.path / "head.json")
        name = str(head.get("record"))
        if not _RECORD.fullmatch(name):
            raise DamagedError(f"{self.path / 'head.json'} names no record.", "Take it from a copy.")
        record = LogRecord(read_json(self.path / name))
        if record.sha256 != head.get("record_sha256"):
            raise DamagedError(
                f"{self.path / name} is not the record that was written.",
                "Take it from a copy, or make a new full backup.",
            )
        return record

    def artefact_path(self, name: str, suffix: str, sequence: int) -> Path:
        """Return where the log *name* stands once published as number *sequence*."""
        return self.path / f"{sequence:08d}-{name}{suffix}"

    def append(self, values: Mapping[str, Any], unfinished: Path) -> LogRecord:
        """Publish a log: the file at *unfinished* (in this folder, fsynced) and its record.

        :param values: the record without version, sequence, artefact and previous, which are set here.
        """
        before = self.head()
        sequence = before.sequence + 1 if before else 1
        target = self.artefact_path(str(values["name"]), str(values["suffix"]), sequence)
        record = LogRecord(
            {
                **{key: value for key, value in values.items() if key != "suffix"},
                "record_version": RECORD_VERSION,
                "lineage": self.id,
                "sequence": sequence,
                "artefact": target.name,
                "previous": before.sha256 if before else GENESIS,
            }
        )
        with writing_to(target):
            os.replace(unfinished, target)
            fsync_directory(self.path)
        write_file(self.path / record.record_name, dump_json(record.values))
        write_json(
            self.path / "head.json",
            {"sequence": sequence, "record": record.record_name, "record_sha256": record.sha256},
        )
        return record

    def records(self, after: int = 0) -> Iterator[LogRecord]:
        """Give the records in order from number *after* + 1 up to the head; only what is committed.

        :raises DamagedError: at the first record that is missing or does not hold.
        """
        head = self.head()
        if head is None:
            return
        names: dict[int, list[str]] = {}
        for entry in os.scandir(self.path):
            match = _RECORD.fullmatch(entry.name)
            if match and int(match.group(1)) <= head.sequence:
                names.setdefault(int(match.group(1)), []).append(entry.name)
        before: Optional[LogRecord] = None
        for sequence in range(after + 1, head.sequence + 1):
            found = names.get(sequence, [])
            if len(found) != 1:
                if before is not None:
                    yield before
                raise DamagedError(
                    f"{self.path} has {len(found)} records of number {sequence}; it should have one.",
                    "Take the missing one from a copy of the repository, or make a new full backup.",
                    {"path": str(self.path), "sequence": sequence},
                )
            record = LogRecord(read_json(self.path / found[0]))
            expected = before.sha256 if before else GENESIS if sequence == 1 else record.values.get("previous")
            if record.values.get("sequence") != sequence or record.values.get("previous") != expected:
                raise DamagedError(
                    f"{self.path / found[0]} does not follow the record before it: one of the two was altered.",
                    "Take both from a copy of the repository, or make a new full backup.",
                    {"path": str(self.path), "sequence": sequence},
                )
            if before is not None:
                yield before  # proven: the record after it holds its hash
            before = record
        if before is not None and before.sha256 != head.sha256:
            raise DamagedError(
                f"{self.path}: the newest record is not the one head.json names.", "Take both from a copy."
            )
        if before is not None:
            yield before

    def state(self) -> dict[str, Any]:
        """Return what the last cycle saw; empty before the first."""
        path = self.path / "state.json"
        return read_json(path) if path.exists() else {}

    def write_state(self, values: Mapping[str, Any]) -> None:
        """Keep what a cycle saw."""
        write_json(self.path / "state.json", dict(values))

    def findings(self) -> list[dict[str, Any]]:
        """Return why the chain is broken; empty while it is whole."""
        path = self.path / "broken.json"
        return list(read_json(path).get("findings") or []) if path.exists() else []

    @property
    def broken(self) -> bool:
        """Return whether the chain cannot be called good any more."""
        return (self.path / "broken.json").exists()

    def mark_broken(self, findings: Sequence[Finding], moment: datetime) -> None:
        """Say that the chain ends at its head, and why. The logs before remain good."""
        write_json(
            self.path / "broken.json", {"at": iso(moment), "findings": [finding.to_json() for finding in findings]}
        )

    def sweep(self) -> list[str]:
        """Remove what an interrupted cycle left, published or not, that no head ever named. Log lock held.

        It reads the folder's names, so call it when a log is about to be added, not in each idle cycle.
        """
        swept = sweep_unfinished(self.path)
        head = self.head()
        newest = head.sequence if head else 0
        for entry in sorted(os.listdir(self.path)):
            number = re.match(r"^(\d{8})-", entry)
            if number and int(number.group(1)) > newest:
                (self.path / entry).unlink()
                swept.append(entry)
        return swept


def lineage_paths(folder: Path) -> list[Path]:
    """Return the folders of the lineages that stand in *folder*, oldest first."""
    if not folder.is_dir():
        return []
    found = sorted(entry for entry in folder.iterdir() if _LINEAGE.fullmatch(entry.name))
    return [path for path in found if (path / "lineage.json").exists()]


def lineages(folder: Path) -> list[Lineage]:
    """Return the lineages that stand in *folder*, oldest first.

    :raises DamagedError: if one of them cannot be read.
    """
    return [Lineage(path) for path in lineage_paths(folder)]


def open_lineage(folder: Path, values: Mapping[str, Any], moment: datetime) -> Lineage:
    """Create a lineage. Call with the log lock held.

    :param values: instance, engine, identity, start, opened_by.
    """
    make_directory(folder)
    prefix = stamp(moment)
    taken = [int(path.name.rsplit("-", 1)[1]) for path in folder.glob(f"{prefix}-*")]
    path = folder / f"{prefix}-{max(taken, default=0) + 1:04d}"
    make_directory(path)
    write_json(path / "lineage.json", {**values, "lineage_version": 1, "lineage": path.name, "opened_at": iso(moment)})
    return Lineage(path)
