# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a full backup set: everything needed to restore it by hand stands in it.

Versioned JSON; its schema is published as ``docs/manifest.schema.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .durable import dump_json
from .errors import DamagedError

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"
_SHAPES: dict[str, tuple[type, ...]] = {
    "manifest_version": (int,),
    "set": (str,),
    "instance": (str,),
    "engine": (str,),
    "method": (str,),
    "lineage": (str,),
    "server": (dict,),
    "started_at": (str,),
    "finished_at": (str,),
    "duration_seconds": (int, float),
    "position": (dict,),
    "artefacts": (list,),
    "recipients": (list,),
    "parameters": (dict,),
    "objects": (dict,),
    "warnings": (list,),
    "actor": (dict,),
    "point_in_time_recovery": (bool,),
    "read_by_hand": (list,),
}
REQUIRED = tuple(_SHAPES)


@dataclass(frozen=True)
class Artefact:
    """One file of a set.

    :param name: file name inside the set's folder.
    :param content: what it holds once its layers are off, such as ``mbstream`` or ``tar``.
    :param layers: from the inside out, such as ``("zstd", "age")``.
    :param size: bytes as stored.
    :param sha256: of the bytes as stored.
    """

    name: str
    content: str
    layers: tuple[str, ...]
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the plain form."""
        return {
            "name": self.name,
            "content": self.content,
            "layers": list(self.layers),
            "size": self.size,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Artefact:
        """Return an artefact from its plain form; a name that leaves the set's folder is refused."""
        name = str(value["name"])
        if name != Path(name).name or name.startswith(".") or not name.isprintable() or not name:
            raise DamagedError(
                f"The manifest names the artefact {name!r}, which is no plain file name.", "Take the set from a copy."
            )
        names = value["layers"]
        if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
            raise TypeError(f"the layers of {name} are no list of names")
        return cls(name, str(value["content"]), tuple(names), int(value["size"]), str(value["sha256"]))


@dataclass(frozen=True)
class Manifest:
    """A manifest as read or about to be written; *values* is its whole plain form."""

    values: Mapping[str, Any]

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """Return the set's files."""
        return tuple(Artefact.from_json(value) for value in self.values["artefacts"])

    @property
    def size(self) -> int:
        """Return the bytes of all artefacts as stored."""
        return sum(artefact.size for artefact in self.artefacts)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return dump_json(self.values)

    @property
    def sha256(self) -> str:
        """Return the hash that the ledger keeps."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """Return a manifest and the SHA-256 of the file as it stands.

    :raises DamagedError: if it is missing, no manifest, or of a version this code does not know.
    """
    try:
        data = path.read_bytes()
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        missing = [key for key in REQUIRED if key not in values]
        version = values.get("manifest_version")
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing.", "The set is not usable; take it from a copy.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read: {error}.", "The set is not usable; take it from a copy.") from None
    if version != MANIFEST_VERSION:
        raise DamagedError(
            f"{path} has the version {version!r}; this code knows {MANIFEST_VERSION}.",
            "Use the release that wrote it, or a newer one.",
        )
    if missing:
        raise DamagedError(f"{path} lacks {', '.join(missing)}.", "The set is not usable; take it from a copy.")
    wrong = [key for key, kinds in _SHAPES.items() if not isinstance(values[key], kinds)]
    if wrong or not isinstance(values["server"].get("version"), str):
        raise DamagedError(
            f"{path} has a wrong value for {', '.join(wrong or ['server'])}.",
            "The set is not usable; take it from a copy.",
        )
    manifest = Manifest(values)
    try:
        list(manifest.artefacts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{path} describes its artefacts wrongly: {error}.", "Take the set from a copy.") from None
    return manifest, hashlib.sha256(data).hexdigest()
