# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests and the repository's folders: what is mangled is named, and never an unhandled exception."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.durable import dump_json, write_json
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    DamagedError,
    InputError,
    PrerequisiteError,
    RepositoryError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import RESERVED_NAMES
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.manifest import (
    MANIFEST_NAME,
    REQUIRED,
    Artefact,
    Manifest,
    read_manifest,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import MARKER, Repository

MOMENT = datetime(2026, 9, 19, 5, 0, tzinfo=timezone.utc)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
slow_to_draw = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def values(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "manifest_version": 1,
        "set": "20260919T050000Z-0001",
        "instance": "simrs",
        "engine": "mariadb",
        "method": "physical",
        "lineage": "",
        "server": {"version": "10.11.19-MariaDB", "identity": {}},
        "slot": None,
        "started_at": "2026-09-19T05:00:00Z",
        "finished_at": "2026-09-19T05:10:00Z",
        "duration_seconds": 600.0,
        "expected_bytes": 1000,
        "window": None,
        "position": {"start": {}, "end": {}},
        "artefacts": [
            Artefact("backup.mbstream.zst", "mbstream", ("zstd",), 3, hashlib.sha256(b"abc").hexdigest()).to_json()
        ],
        "recipients": [],
        "parameters": {},
        "objects": {},
        "warnings": [],
        "actor": {},
        "point_in_time_recovery": False,
        "read_by_hand": [],
    }
    made.update(changes)
    return made


def published(root: Path, **changes: Any) -> Repository:
    repository = Repository.create(root)
    unfinished = repository.instance("simrs").begin_set(MOMENT)
    (unfinished.path / "backup.mbstream.zst").write_bytes(b"abc")
    unfinished.publish(Manifest(values(**changes)))
    return repository


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    odd = os.fsdecode(b"berkas-\xe9")
    manifest = Manifest(values(warnings=["peringatan: ñ", odd]))
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(manifest.to_bytes())
    again, digest = read_manifest(path)
    assert again.values == manifest.values
    assert digest == manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert again.size == 3
    assert again.artefacts == manifest.artefacts


@slow_to_draw
@given(content=st.binary(max_size=200) | any_json.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_manifest_is_damaged(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("m") / MANIFEST_NAME
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=str(path)):
        read_manifest(path)


@slow_to_draw
@given(key=st.sampled_from(REQUIRED), value=any_json)
@example(key="engine", value="")
@example(key="finished_at", value="")
def test_one_mangled_value_never_surprises_whoever_reads_the_repository(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    root = tmp_path_factory.mktemp("r")
    repository = published(root)
    path = repository.instance("simrs").full / "20260919T050000Z-0001" / MANIFEST_NAME
    path.write_bytes(json.dumps({**values(), key: value}).encode())
    info = backup_info(root)["instances"]["simrs"]
    assert len(info["sets"]) + len(info["damaged_sets"]) == 1


@pytest.mark.parametrize("key", REQUIRED)
def test_each_missing_value_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(dump_json({name: value for name, value in values().items() if name != key}))
    with pytest.raises(DamagedError, match=key if key != "manifest_version" else "version None"):
        read_manifest(path)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0b", "a\nb", ".hidden", "a\ud800", "x/"]
)
def test_an_artefact_that_leaves_the_set_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / MANIFEST_NAME
    one = {**values()["artefacts"][0], "name": name}
    path.write_bytes(json.dumps(values(artefacts=[one])).encode())
    with pytest.raises(DamagedError, match="no plain file name"):
        read_manifest(path)


@pytest.mark.parametrize(
    "change",
    [
        {"size": "x"},
        {"size": 1e999},
        {"size": None},
        {"layers": "zstd"},
        {"layers": [1]},
        {"layers": None},
    ],
)
def test_an_artefact_described_wrongly_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(json.dumps(values(artefacts=[{**values()["artefacts"][0], **change}])).encode())
    with pytest.raises(DamagedError, match="artefacts"):
        read_manifest(path)


def test_a_deeply_nested_file_is_damage(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(DamagedError):
        read_manifest(path)


def test_a_manifest_of_another_version_or_missing(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_NAME
    with pytest.raises(DamagedError, match="is missing"):
        read_manifest(path)
    path.write_bytes(dump_json(values(manifest_version=2)))
    with pytest.raises(DamagedError, match="version 2; this code knows 1"):
        read_manifest(path)


def test_a_set_is_seen_once_it_is_whole(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r")
    folder = repository.instance("simrs")
    unfinished = folder.begin_set(MOMENT)
    (unfinished.path / "backup.mbstream.zst").write_bytes(b"abc")
    assert folder.set_names() == []
    found = unfinished.publish(Manifest(values()))
    assert folder.set_names() == [found.id]
    assert found.started == MOMENT
    assert folder.read_set(found.id).manifest_sha256 == found.manifest_sha256
    second = folder.begin_set(MOMENT)
    assert second.name.endswith("-0002")
    assert folder.sweep() == [second.path.name]
    assert next(folder.sets()).id == found.id


def test_publishing_never_overwrites(tmp_path: Path) -> None:
    repository = published(tmp_path / "r")
    folder = repository.instance("simrs")
    unfinished = folder.begin_set(MOMENT)
    taken = type(unfinished)(unfinished.name, unfinished.path, folder.full / "20260919T050000Z-0001")
    with pytest.raises(RepositoryError, match="exists already"):
        taken.publish(Manifest(values()))
    assert (taken.final / "backup.mbstream.zst").read_bytes() == b"abc"


def test_a_set_that_is_not_there_or_not_the_one(tmp_path: Path) -> None:
    repository = published(tmp_path / "r")
    folder = repository.instance("simrs")
    for name in ("20260920T050000Z-0001", "../x", "20260919T050000Z-0001\n", ""):
        with pytest.raises(InputError, match="no full backup set"):
            folder.read_set(name)
    (folder.full / "20260919T050000Z-0001").rename(folder.full / "20260919T050001Z-0001")
    with pytest.raises(DamagedError, match="holds the manifest of simrs/20260919T050000Z-0001"):
        folder.read_set("20260919T050001Z-0001")


def test_a_file_in_a_sets_place_is_damage_and_the_others_stay_listed(tmp_path: Path) -> None:
    repository = published(tmp_path / "r")
    folder = repository.instance("simrs")
    (folder.full / "20260920T050000Z-0001").write_text("")
    good, damaged = folder.readable_sets()
    assert [each.id for each in good] == ["20260919T050000Z-0001"]
    assert len(damaged) == 1
    with pytest.raises(DamagedError):
        list(folder.sets())


def test_other_folders_beside_the_instances_do_not_disturb(tmp_path: Path) -> None:
    repository = published(tmp_path / "r")
    for name in ("Old Stuff", "lost+found", "ledger", "approvals", "reports", ".snapshots", "empty", "simrs2"):
        (tmp_path / "r" / name).mkdir()
    (tmp_path / "r" / "simrs2" / "logs").mkdir()
    (tmp_path / "r" / "link").symlink_to(tmp_path / "r" / "simrs")
    assert repository.instance_names() == ["simrs", "simrs2"]
    assert set(backup_info(tmp_path / "r")["instances"]) == {"simrs", "simrs2"}


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_an_instance_cannot_take_one_of_the_repositorys_folders(tmp_path: Path, name: str) -> None:
    repository = Repository.create(tmp_path / "r")
    before = sorted((tmp_path / "r").rglob("*"))
    with pytest.raises(InputError, match="the repository's own folders"):
        repository.instance(name)
    assert sorted((tmp_path / "r").rglob("*")) == before


def test_a_folder_without_its_marker_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    with pytest.raises(PrerequisiteError, match="holds no repository"):
        Repository.open(tmp_path / "mount")
    for path in (Path("relative"), tmp_path / ".." / "x"):
        with pytest.raises(InputError, match="not an absolute path"):
            Repository.open(path)
    write_json(tmp_path / "mount" / MARKER, {"repository_version": 9})
    with pytest.raises(PrerequisiteError, match="version 9"):
        Repository.open(tmp_path / "mount")
    (tmp_path / "mount" / MARKER).write_text("[1]")
    with pytest.raises(DamagedError, match="no JSON object"):
        Repository.create(tmp_path / "mount")
    assert os.listdir(tmp_path / "mount") == [MARKER]


def test_every_error_is_one_paragraph_with_its_remedy() -> None:
    error = ContinuityError("What is wrong.", "What to do.", {"a": 1})
    assert str(error) == "What is wrong. What to do."
    assert (error.kind, error.details) == ("error", {"a": 1})
    assert str(ContinuityError("Only this.")) == "Only this."
