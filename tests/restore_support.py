# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of test restores share: backups, log cycles, the test itself, and damage to what is stored."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore_test import (
    RestoreTestRequest,
    restore_test,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scratch import LOCK, MARKER
from tests.support import Place


def full(place: Place, instance: Instance, **changes: Any) -> dict[str, Any]:
    """Make a full backup."""
    return full_backup(FullBackupRequest(instance, place.repository, place.protection, **changes), Progress())


def cycle(place: Place, instance: Instance) -> dict[str, Any]:
    """Run a log cycle that must be good."""
    answer = log_cycle(LogCycleRequest([instance], place.repository, place.protection))
    result: dict[str, Any] = answer["instances"][instance.name]
    assert result["result"] in ("good", "idle"), result
    return result


def tried(place: Place, folder: Path, *instances: Instance, **changes: Any) -> dict[str, Any]:
    """Run a test restore; whatever it found, no copy is left, and the ledger holds."""
    values = {"protection": place.protection, **changes}
    answer = restore_test(
        RestoreTestRequest(instances=instances, repository=place.repository, folder=folder, **values), Progress()
    )
    if not changes.get("check_only"):
        assert sorted(os.listdir(folder)) == sorted([LOCK, MARKER])
        assert Repository.open(place.repository).ledger.verify().problem is None
    return answer


def codes(answer: dict[str, Any], name: str = "simrs") -> list[str]:
    """Return the codes of an instance's findings."""
    return [finding["code"] for finding in answer["instances"][name]["findings"]]


def said(answer: dict[str, Any], name: str = "simrs") -> str:
    """Return what an instance's findings say."""
    return " ".join(f"{each['file']}: {each['message']}" for each in answer["instances"][name]["findings"])


def newest_artefact(place: Place, name: str = "simrs", content: str = "") -> Path:
    """Return a file of the newest full set."""
    found = next(Repository.open(place.repository).instance(name).sets())
    return next(found.path / each.name for each in found.manifest.artefacts if content in ("", each.content))


def newest_log(place: Place, name: str = "simrs", back: int = 0) -> Path:
    """Return a stored log, counted from the newest."""
    lineage = Repository.open(place.repository).instance(name).current_lineage()
    assert lineage is not None
    return lineage.path / list(lineage.records())[-1 - back].artefact


@contextmanager
def spoilt(path: Path, change: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """Change a stored file, or take it away, and put it back afterwards."""
    before = path.read_bytes()
    after = change(before)
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    try:
        yield
    finally:
        path.write_bytes(before)


def flip(data: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def cut(data: bytes) -> bytes:
    """Cut the last bytes off."""
    return data[:-40]


def gone(_data: bytes) -> None:
    """Take it away."""


def evidence(place: Place, name: str = "simrs") -> dict[str, Any]:
    """Return what the ledger keeps of the last test of an instance."""
    records = Repository.open(place.repository).ledger.records()
    found = [each for each in records if each["activity"] == "restore_test" and each["instance"] == name]
    assert found[-1]["kind"] == "finished"
    result: dict[str, Any] = json.loads(json.dumps(found[-1]["data"]))
    return result
