# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository on the backup host: one folder, self-describing, readable with ordinary tools.

    <root>/dbcontinuity-repository.json      the marker: without it a folder is not a repository (an unmounted disk
                                             is an ordinary empty folder)
    <root>/<instance>/full/<UTC stamp>-<seq>/   manifest.json and artefacts, published by rename
    <root>/<instance>/logs/<lineage>/           the chain of closed, proven logs, see lineage.py
    <root>/<instance>/staging/                  the receiver's stream and downloads under way
    <root>/<instance>/verify/                   what a deep verification unpacks, empty otherwise
    <root>/ledger/                              the evidence

A set is published whole or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from . import lineage as lineage_module
from .clock import from_stamp, stamp
from .durable import (
    UNFINISHED,
    make_directory,
    publish_directory,
    read_json,
    sweep_unfinished,
    write_file,
    write_json,
    writing_to,
)
from .errors import DamagedError, InputError, PrerequisiteError
from .instance import check_name, is_name
from .ledger import Ledger
from .locks import exclusive
from .manifest import MANIFEST_NAME, Manifest, read_manifest

MARKER = "dbcontinuity-repository.json"
_SET_NAME = re.compile(r"(\d{8}T\d{6}Z)-(\d{4})", re.ASCII)


@dataclass(frozen=True)
class FullSet:
    """A published full backup set."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def id(self) -> str:
        """Return the set's name: UTC stamp and sequence."""
        return self.path.name

    @property
    def started(self) -> datetime:
        """Return when the set was begun, to the second."""
        return from_stamp(self.id.rsplit("-", 1)[0])


class InstanceFolder:
    """What the repository holds of one instance."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = check_name(name)
        self.path = root / name
        self.full = self.path / "full"
        self.logs = self.path / "logs"
        self.staging = self.path / "staging"
        self.verify = self.path / "verify"

    @contextmanager
    def full_lock(self) -> Iterator[None]:
        """Hold the lock of full backups of this instance."""
        with exclusive(self.path / ".lock-full", f"full backup of {self.name}"):
            yield

    @contextmanager
    def log_lock(self, activity: str = "log cycle", wait_seconds: float = 0.0) -> Iterator[None]:
        """Hold the lock of whatever changes this instance's lineages."""
        with exclusive(self.path / ".lock-logs", f"{activity} of {self.name}", wait_seconds):
            yield

    @contextmanager
    def verify_lock(self) -> Iterator[None]:
        """Hold the lock of deep verifications of this instance, whose folder is :attr:`verify`."""
        with exclusive(self.path / ".lock-verify", f"verification of {self.name}"):
            yield

    def set_names(self) -> list[str]:
        """Return the names of the published sets, oldest first."""
        if not self.full.is_dir():
            return []
        return sorted(entry.name for entry in self.full.iterdir() if _SET_NAME.fullmatch(entry.name))

    def read_set(self, name: str) -> FullSet:
        """Return one set.

        :raises InputError: if there is none of that name.
        :raises DamagedError: if its manifest does not hold.
        """
        path = self.full / name
        if not _SET_NAME.fullmatch(name) or not path.exists():
            known = ", ".join(self.set_names()[-5:]) or "none"
            raise InputError(f"{self.name} has no full backup set {name!r}.", f"The newest are: {known}.")
        manifest, digest = read_manifest(path / MANIFEST_NAME)
        if manifest.values["set"] != name or manifest.values["instance"] != self.name:
            raise DamagedError(
                f"{path} holds the manifest of {manifest.values['instance']}/{manifest.values['set']}.",
                "Move the folder back to its place.",
            )
        return FullSet(path, manifest, digest)

    def sets(self) -> Iterator[FullSet]:
        """Give the sets, newest first; a damaged one raises when it is reached."""
        for name in reversed(self.set_names()):
            yield self.read_set(name)

    def readable_sets(self) -> tuple[list[FullSet], list[DamagedError]]:
        """Return the sets that can be read, newest first, and what is wrong with the others."""
        good: list[FullSet] = []
        damaged: list[DamagedError] = []
        for name in reversed(self.set_names()):
            try:
                good.append(self.read_set(name))
            except DamagedError as error:
                damaged.append(error)
        return good, damaged

    def begin_set(self, moment: datetime) -> UnfinishedSet:
        """Create the folder of a set not yet published. Call with the full lock held."""
        make_directory(self.full)
        prefix = stamp(moment)
        taken = [int(name.rsplit("-", 1)[1]) for name in self.set_names() if name.startswith(prefix)]
        name = f"{prefix}-{max(taken, default=0) + 1:04d}"
        path = self.full / f"{UNFINISHED}{name}"
        with writing_to(path):
            path.mkdir(mode=0o750)
        return UnfinishedSet(name, path, self.full / name)

    def sweep(self) -> list[str]:
        """Remove what an interrupted full backup left. Call with the full lock held."""
        return sweep_unfinished(self.full)

    def lineages(self) -> list[lineage_module.Lineage]:
        """Return the lineages of this instance's logs, oldest first."""
        return lineage_module.lineages(self.logs)

    def readable_lineages(self) -> tuple[list[lineage_module.Lineage], list[DamagedError]]:
        """Return the lineages that can be read, oldest first, and what is wrong with the others."""
        good: list[lineage_module.Lineage] = []
        damaged: list[DamagedError] = []
        for path in lineage_module.lineage_paths(self.logs):
            try:
                good.append(lineage_module.Lineage(path))
            except DamagedError as error:
                damaged.append(error)
        return good, damaged

    def current_lineage(self) -> Optional[lineage_module.Lineage]:
        """Return the newest lineage, also if its chain is broken; None before the first full backup."""
        found = self.lineages()
        return found[-1] if found else None


@dataclass(frozen=True)
class UnfinishedSet:
    """A set being written: *path* now, *final* once published."""

    name: str
    path: Path
    final: Path

    def publish(self, manifest: Manifest) -> FullSet:
        """Write the manifest, then give the folder its name. The artefacts were fsynced as they were written."""
        data = manifest.to_bytes()
        write_file(self.path / MANIFEST_NAME, data)
        publish_directory(self.path, self.final)
        return FullSet(self.final, manifest, manifest.sha256)


class Repository:
    """The repository in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = Ledger(root / "ledger")

    @classmethod
    def open(cls, root: Path) -> Repository:
        """Return the repository that stands in *root*.

        :raises InputError: if the path is not absolute.
        :raises PrerequisiteError: if no repository stands there.
        """
        if not root.is_absolute() or ".." in root.parts:
            raise InputError(
                f"The repository {str(root)!r} is not an absolute path.",
                "Write the whole path, beginning with a slash.",
            )
        if not (root / MARKER).is_file():
            raise PrerequisiteError(
                f"{root} holds no repository: {MARKER} is missing.",
                "Mount its file system; or, for a new one, run the playbook site, which puts the marker there.",
                {"path": str(root)},
            )
        values = read_json(root / MARKER)
        if values.get("repository_version") != 1:
            raise PrerequisiteError(
                f"{root} is a repository of version {values.get('repository_version')!r}; this code knows 1.",
                "Use the release that made it.",
            )
        return cls(root)

    @classmethod
    def create(cls, root: Path) -> Repository:
        """Make *root* a repository if it is none yet."""
        make_directory(root)
        if not (root / MARKER).exists():
            write_json(root / MARKER, marker_content())
        return cls.open(root)

    def instance(self, name: str) -> InstanceFolder:
        """Return what it holds of one instance; nothing is created."""
        return InstanceFolder(self.root, name)

    def instance_names(self) -> list[str]:
        """Return the names of the instances that something is held of; other folders may stand beside them."""
        found = []
        for entry in os.scandir(self.root):
            if entry.is_dir(follow_symlinks=False) and is_name(entry.name):
                folder = InstanceFolder(self.root, entry.name)
                if folder.full.is_dir() or folder.logs.is_dir():
                    found.append(entry.name)
        return sorted(found)


def marker_content() -> dict[str, Any]:
    """Return what the marker file holds."""
    return {"repository_version": 1, "made_by": "rspon.dbcontinuity"}
