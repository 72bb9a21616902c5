# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the repository holds of each instance, and to which moments it could be brought back now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..clock import iso, utc_now
from ..durable import free_bytes
from ..errors import DamagedError
from ..lineage import Finding, Lineage
from ..recoverable import ranges
from ..repository import FullSet, InstanceFolder, Repository


def backup_info(repository_path: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return sets, lineages and recoverable ranges, newest first, reading manifests and heads only.

    :param names: instances; all that the repository holds where none are given.
    """
    repository = Repository.open(repository_path)
    wanted = list(names) or repository.instance_names()
    return {
        "changed": False,
        "at": iso(utc_now()),
        "repository": str(repository_path),
        "free_bytes": free_bytes(repository_path),
        "ledger_head": str(repository.ledger.head()),
        "instances": {name: describe_instance(repository.instance(name)) for name in wanted},
    }


def describe_instance(folder: InstanceFolder) -> dict[str, Any]:
    """Return what is held of one instance."""
    good, damaged = folder.readable_sets()
    readable, damaged_lineages = folder.readable_lineages()
    described = [_describe_lineage(lineage) for lineage in reversed(readable)]
    states = {each["lineage"]: each for each in described}
    return {
        "sets": [_describe_set(found) for found in good],
        "damaged_sets": [str(error) for error in damaged],
        "damaged_lineages": [str(error) for error in damaged_lineages],
        "lineages": described,
        "ranges": [each.to_json() for each in ranges(folder)],
        "recoverable": [each for each in (_range(found, states) for found in good) if each is not None],
    }


def _describe_lineage(lineage: Lineage) -> dict[str, Any]:
    """Return what is held of one chain; a damaged one is not whole, and says why."""
    values: dict[str, Any] = {
        "lineage": lineage.id,
        "opened_at": lineage.opening["opened_at"],
        "opened_by": lineage.opening["opened_by"],
        "logs": 0,
        "newest_log": None,
        "whole": False,
        "findings": [],
        "state": {},
    }
    try:
        head = lineage.head()
        values["logs"], values["newest_log"] = (head.sequence, head.name) if head else (0, None)
        values["findings"] = lineage.findings()
        values["state"] = lineage.state()
        values["whole"] = not lineage.broken
    except DamagedError as error:
        values["findings"] = [Finding("damaged-chain", lineage.id, error.message, error.remedy).to_json()]
    return values


def _describe_set(found: FullSet) -> dict[str, Any]:
    values = found.manifest.values
    kept = (
        "engine",
        "method",
        "slot",
        "started_at",
        "finished_at",
        "duration_seconds",
        "window",
        "lineage",
        "objects",
        "warnings",
    )
    return {
        "set": found.id,
        "path": str(found.path),
        "size_bytes": found.manifest.size,
        "manifest_sha256": found.manifest_sha256,
        "server_version": values["server"]["version"],
        "point_in_time_recovery": values["point_in_time_recovery"],
        "encrypted": bool(values["recipients"]),
        **{key: values.get(key) for key in kept},
    }


def _range(found: FullSet, lineages: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the moments a set reaches: its own end alone, or on to where its chain of logs is proven."""
    values = found.manifest.values
    lineage = lineages.get(str(values["lineage"]))
    begin = values["finished_at"]
    end = lineage["state"].get("recoverable_to") if lineage and values["point_in_time_recovery"] else None
    return {
        "set": found.id,
        "from": begin,
        "to": max(begin, end) if end else begin,
        "by_logs": bool(end and end > begin),
    }
