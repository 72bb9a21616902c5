# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of files: full backup, cycles of changes, and what must never be taken for a change."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files import engine as files_engine
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files.listing import count_entries
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ContinuityError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from tests.support import Place, make_place

pytestmark = pytest.mark.engine


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Return a folder with what archives get wrong: spaces, newlines, non-UTF-8 names, links, holes."""
    root = tmp_path / "scan"
    (root / "rekam medis").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "rekam medis" / "hasil lab.txt").write_text("Hb 12,1")
    (root / "a!b").write_text("1")
    (root / "a").mkdir()
    (root / "a" / "x").write_text("2")
    (root / "baris\nbaru").write_text("3")
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9")).write_text("4")
    (root / "link").symlink_to("a/x")
    os.link(root / "a" / "x", root / "hard")
    with (root / "sparse").open("wb") as stream:
        stream.truncate(8 * 1024 * 1024)
    return root


def backup(place: Place, instance: Instance) -> dict[str, Any]:
    return full_backup(FullBackupRequest(instance, place.repository, place.protection), Progress())


def cycle(place: Place, instance: Instance) -> dict[str, Any]:
    result: dict[str, Any] = log_cycle(LogCycleRequest([instance], place.repository, place.protection))
    one: dict[str, Any] = result["instances"][instance.name]
    assert one["result"] != "failed", one["message"]
    return one


def unpack(place: Place, artefact: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    command = f"age --decrypt -i {place.root / 'operations.key'} '{artefact}' | zstd -dc | tar -x -C {target}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True)


def restored(place: Place, instance: Instance, target: Path) -> Path:
    """Bring the folders back with ordinary tools: the set, then every archive of changes in order."""
    folder = Repository.open(place.repository).instance(instance.name)
    lineage = folder.current_lineage()
    assert lineage is not None
    newest = next(folder.sets())
    unpack(place, newest.path / "files.tar.zst.age", target)
    for record in lineage.records():
        unpack(place, lineage.path / record.artefact, target)
        for name in (target / ".dbcontinuity" / "deleted").read_bytes().split(b"\0")[:-1]:
            gone = Path(os.fsdecode(os.fsencode(target) + name))
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink(missing_ok=True)
    return target


def same(left: Path, right: Path) -> bool:
    done = subprocess.run(["diff", "-r", "--no-dereference", str(left), str(right)], capture_output=True, check=False)
    return done.returncode == 0


def test_full_and_changes_bring_the_folder_back(place: Place, documents: Path, tmp_path: Path) -> None:
    instance = place.files("scan", documents)
    first = backup(place, instance)
    assert first["objects"]["files"] == 7
    assert cycle(place, instance)["result"] == "idle"
    (documents / "rekam medis" / "hasil lab.txt").write_text("Hb 12,4")
    (documents / "baru").write_text("new")
    (documents / "a!b").unlink()
    shutil.rmtree(documents / "empty")
    changed = cycle(place, instance)
    assert changed["result"] == "good"
    assert len(changed["archived"]) == 1
    assert cycle(place, instance)["result"] == "idle"
    (documents / "baris\nbaru").unlink()
    assert cycle(place, instance)["result"] == "good"
    back = restored(place, instance, tmp_path / "back")
    assert same(documents, Path(f"{back}{documents}"))
    (documents / "link").unlink()
    assert not same(documents, Path(f"{back}{documents}"))


def test_a_cycle_under_way_is_waited_for_where_that_is_asked(place: Place, documents: Path) -> None:
    instance = place.files("scan", documents)
    backup(place, instance)
    held, released = threading.Event(), threading.Event()

    def other() -> None:
        with Repository.open(place.repository).instance("scan").log_lock("another cycle"):
            held.set()
            released.wait(300)

    def asked(wait_seconds: float) -> dict[str, Any]:
        request = LogCycleRequest([instance], place.repository, place.protection, wait_seconds=wait_seconds)
        result: dict[str, Any] = log_cycle(request)["instances"]["scan"]
        return result

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(120)
    try:
        at_once = asked(0)
        threading.Timer(1, released.set).start()
        assert asked(120)["result"] in ("good", "idle")
    finally:
        released.set()
        thread.join()
    assert at_once["kind"] == "locked"
    assert "another cycle" in at_once["message"]


def test_an_unmounted_folder_is_a_finding_and_not_the_deletion_of_everything(place: Place, documents: Path) -> None:
    instance = place.files("scan", documents)
    backup(place, instance)
    documents.rename(documents.with_name("elsewhere"))
    documents.mkdir()
    found = cycle(place, instance)
    assert [each["code"] for each in found["findings"]] == ["other-folder"]
    assert found["archived"] == []
    documents.rmdir()
    documents.with_name("elsewhere").rename(documents)
    # Renaming a folder changes its own time of change: that is archived, and nothing else is.
    assert cycle(place, instance)["result"] in ("idle", "good")


def test_a_missing_folder_is_refused_and_names_the_mount(place: Place, documents: Path) -> None:
    instance = place.files("scan", documents)
    shutil.rmtree(documents)
    with pytest.raises(ContinuityError, match="is its file system mounted"):
        backup(place, instance)
    assert not (place.repository / "scan").exists()


def test_the_agent_gives_nothing_outside_the_folders(place: Place, documents: Path) -> None:
    instance = place.files("scan", documents)
    for path in (b"/etc/passwd", os.fsencode(documents) + b"/../../../etc/passwd", os.fsencode(documents) + b"-not"):
        done = subprocess.run(
            instance.agent.argv("archive", "scan"), input=path + b"\0", capture_output=True, check=False
        )
        assert done.returncode == 1
        assert b"lies outside" in done.stderr
        assert done.stdout == b""


def test_a_busy_folder_is_a_good_set_whatever_the_number_of_files_that_vanish(
    place: Place, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = place.files("scan", documents)
    busy = [documents / f"antrian-{number}" for number in range(1500)]
    for path in busy:
        path.touch()

    def meanwhile(listing: Path) -> dict[str, int]:  # called between the listing and the archive
        for path in busy:
            path.unlink(missing_ok=True)
        return count_entries(listing)

    monkeypatch.setattr(files_engine, "count_entries", meanwhile)
    made = backup(place, instance)
    assert any(warning.startswith("1500 files changed or vanished") for warning in made["warnings"])
    found = backup_verify(VerifyRequest([instance], place.repository, place.protection, level="deep"), Progress())
    assert found["instances"]["scan"]["findings"] == []
    assert cycle(place, instance)["result"] == "good"
