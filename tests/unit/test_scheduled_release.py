# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup host is given to act by itself: one archive, whose name changes with its content, with every package in it."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.documents import PROJECT
from tests.scheduled_support import FILES


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with a small collection of its own."""
    spec = importlib.util.spec_from_file_location("dbcontinuity_release", FILES / "dbcontinuity_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    collection = tmp_path / "collection"
    for name in (
        "plugins/module_utils/a.py",
        "plugins/__pycache__/a.pyc",
        "playbooks/b.yml",
        "docs/c.md",
        "galaxy.yml",
    ):
        (collection / name).parent.mkdir(parents=True, exist_ok=True)
        (collection / name).write_text(name)
    monkeypatch.setattr(module, "COLLECTION", collection)
    return module


def wheels(release: ModuleType, folder: Path) -> Path:
    folder.mkdir()
    for name in release.required():
        (folder / f"{name}-py3-none-any.whl").write_text(name)
    (folder / "other-1.0-py3-none-any.whl").write_text("not asked for")
    return folder


def test_the_name_changes_with_whatever_gets_installed(release: ModuleType) -> None:
    names = [release.release_name("3.11", "x86_64"), release.release_name("3.13", "x86_64")]
    names.append(release.release_name("3.11", "aarch64"))
    assert release.release_name("3.11", "x86_64") == names[0]
    (release.COLLECTION / "plugins/__pycache__/a.pyc").write_text("compiled anew")
    (release.COLLECTION / "docs/c.md").write_text("no part of it")
    assert release.release_name("3.11", "x86_64") == names[0]
    (release.COLLECTION / "playbooks/b.yml").write_text("changed")
    names.append(release.release_name("3.11", "x86_64"))
    (release.COLLECTION / "playbooks/b.yml").rename(release.COLLECTION / "playbooks/c.yml")
    names.append(release.release_name("3.11", "x86_64"))
    assert len(set(names)) == 5


def test_the_archive_holds_all_that_is_needed_and_nothing_else(release: ModuleType, tmp_path: Path) -> None:
    given = wheels(release, tmp_path / "wheels")
    cache = tmp_path / "cache"
    archive = release.make("3.11", "x86_64", cache, str(given))
    with tarfile.open(archive) as tar:
        entries = {entry.name: entry for entry in tar}
    inside = "collections/ansible_collections/rspon/dbcontinuity"
    names = {name for name in entries if not name.startswith("wheels/")}
    assert names == {
        "dbcontinuity_run.py",
        "ansible.cfg",
        "requirements.txt",
        f"{inside}/plugins/module_utils/a.py",
        f"{inside}/playbooks/b.yml",
        f"{inside}/galaxy.yml",
    }
    assert {name for name in entries if name.startswith("wheels/")} == {
        f"wheels/{name}-py3-none-any.whl" for name in release.required()
    }
    assert {(entry.uid, entry.gid, entry.mode & 0o022) for entry in entries.values()} == {(0, 0, 0)}
    # Made once; another content replaces it.
    before = archive.stat().st_mtime_ns
    assert release.make("3.11", "x86_64", cache, "").stat().st_mtime_ns == before
    (release.COLLECTION / "playbooks/b.yml").write_text("changed")
    other = release.make("3.11", "x86_64", cache, str(given))
    assert list(cache.glob("release-*")) == [other]


def test_a_folder_that_lacks_a_package_is_refused_by_name(release: ModuleType, tmp_path: Path) -> None:
    given = wheels(release, tmp_path / "wheels")
    next(given.glob("ansible_runner-*")).unlink()
    with pytest.raises(release.ReleaseError, match=r"holds no wheel of ansible_runner-"):
        release.make("3.11", "x86_64", tmp_path / "cache", str(given))
    assert list((tmp_path / "cache").glob("release-*")) == []


def test_wheels_are_fetched_once_for_the_hosts_python(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def pip(words: list[str], **_rest: Any) -> SimpleNamespace:
        called.append(words)
        folder = Path(next(each.partition("=")[2] for each in words if each.startswith("--dest=")))
        for name in release.required():
            (folder / f"{name}-py3-none-any.whl").write_text("")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    release.make("3.13", "aarch64", tmp_path / "cache", "")
    (release.COLLECTION / "playbooks/b.yml").write_text("changed")
    release.make("3.13", "aarch64", tmp_path / "cache", "")
    (words,) = called
    assert {"--only-binary=:all:", "--no-deps", "--python-version=3.13", "--abi=cp313", "--abi=abi3"} <= set(words)
    assert "--platform=manylinux2014_aarch64" in words
    assert not any(each.endswith("_x86_64") for each in words)


def test_wheels_that_cannot_be_fetched_are_said_with_the_way_out(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: SimpleNamespace(returncode=1, stderr="no index\n"))
    words = ["make", "--python=3.11", "--machine=x86_64", f"--cache={tmp_path / 'cache'}"]
    assert release.main(words) == 1
    said = capsys.readouterr().err
    assert "no index" in said
    assert "dbc_wheels" in said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_the_program_answers_with_json(release: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = ["--python=3.11", "--machine=x86_64"]
    assert release.main(["name", *host]) == 0
    name = json.loads(capsys.readouterr().out)["name"]
    given = wheels(release, tmp_path / "wheels")
    assert release.main(["make", *host, f"--cache={tmp_path / 'cache'}", f"--wheels={given}"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["name"] == name
    assert Path(answer["archive"]).name == f"release-{name}.tar.gz"
    with pytest.raises(SystemExit):
        release.main(["make", *host])


def test_the_backup_host_gets_the_packages_that_the_project_has_pinned() -> None:
    def pins(path: Path) -> dict[str, str]:
        return {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==([\w.]+)$", path.read_text(), re.M)}

    host, control, locked = (
        pins(path) for path in (FILES / "requirements.txt", PROJECT / "requirements.txt", PROJECT / "constraints.txt")
    )
    assert set(control) <= set(host)
    assert {name: locked[name] for name in host} == host


def test_the_packages_of_the_backup_host_pull_in_nothing_more() -> None:
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    listed = re.findall(r"^([\w.-]+)==", (FILES / "requirements.txt").read_text(), re.M)
    known = {re.sub("[-_.]+", "-", name).lower() for name in listed}
    for name in listed:
        for text in distribution(name).requires or []:
            wanted = Requirement(text)
            needed = wanted.marker is None or any(
                wanted.marker.evaluate({"python_version": v, "python_full_version": f"{v}.2", "extra": ""})
                for v in ("3.11", "3.13")
            )
            assert not needed or re.sub("[-_.]+", "-", wanted.name).lower() in known, (name, text)
