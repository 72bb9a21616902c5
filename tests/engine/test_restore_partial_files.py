# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial restore of folders and files (R2): beside, or exchanged by rename, and nothing else is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import ScratchServer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError, PipelineError
from demo.sample import make_files
from tests.partial_support import RUN, Production, copy_of, item
from tests.restore_full_support import channel
from tests.restore_support import full
from tests.support import make_place

pytestmark = pytest.mark.engine

State = dict[bytes, tuple[int, int, int, bytes]]


@dataclass
class Site(Production):
    """Folders that were backed up and then damaged."""

    root: Path
    scratch: Path
    backup: State

    @contextmanager
    def copy(self) -> Iterator[ScratchServer]:
        with copy_of(self.place, self.instance, self.scratch) as server:
            yield server


def state(root: Path, *, without: str = "") -> State:
    """Return every entry with rights, size, time and content; sizes of folders differ between file systems."""
    found = {}
    for base, folders, names in os.walk(os.fsencode(root)):
        for each in (*folders, *names):
            path = os.path.join(base, each)
            name = os.path.relpath(path, os.fsencode(root))
            if without and without.encode() in name:
                continue
            info = os.lstat(path)
            content = b""
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as stream:
                    content = stream.read()
            plain = os.path.isfile(path)
            found[name] = (info.st_mode, info.st_size if plain else 0, info.st_mtime_ns if plain else 0, content)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    root = tmp_path / "dokumen"
    make_files(root, 1)
    place = make_place(tmp_path / "backup")
    instance = place.files("berkas", root)
    full(place, instance)
    path = place.root / "agent" / "berkas.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "restore": {"state_dir": str(place.root / "state")}}))
    return Site(place, instance, channel(place), root, tmp_path / "scratch", state(root))


def damage(folder: Path) -> None:
    (folder / "spasi  ganda .txt").write_text("rusak")
    (folder / ".tersembunyi").unlink()
    (folder / "baru.txt").write_text("baru")


def test_a_folder_is_exchanged_and_the_old_one_stays_beside(site: Site) -> None:
    folder = site.root / "nama aneh"
    damage(folder)
    (site.root / "jenis berkas" / "lain.txt").write_text("ditulis kemudian")
    damaged, other = state(folder), state(site.root / "jenis berkas")
    with site.copy() as server:
        planned = site.restored(server, f"folder:{folder}", check_only=True)
        assert state(folder) == damaged
        answer = site.restored(server, f"folder:{folder}")
        again = site.restored(server, f"folder:{folder}", run="20261123T170100Z-00000002")
    difference = item(planned, f"folder:{folder}")["difference"]
    assert (difference["only_in_production"], difference["only_in_copy"], difference["changed"]) == (1, 1, 1)
    assert difference["keys"]["changed"] == [f"{folder}/spasi  ganda .txt (5 bytes, in the copy 300)"]
    kept = Path(answer["kept"][0])
    assert kept == folder.with_name(f"nama aneh.dbcontinuity-{RUN}.old")
    assert state(kept) == damaged
    assert state(site.root / "jenis berkas") == other
    assert state(folder) == state_below(site.backup, "nama aneh")
    assert again["changed"] is False


def state_below(whole: State, name: str) -> State:
    prefix = name.encode() + b"/"
    return {path[len(prefix) :]: value for path, value in whole.items() if path.startswith(prefix)}


def test_a_folder_is_loaded_beside_by_default_and_the_original_stays(site: Site) -> None:
    folder = site.root / "nama aneh"
    damage(folder)
    before = state(site.root)
    with site.copy() as server:
        answer = site.restored(server, f"folder:{folder}", mode="beside")
    place = Path(answer["places"][0])
    assert place == folder.with_name(f"nama aneh.dbc-restore-{RUN}")
    assert state(place) == state_below(site.backup, "nama aneh")
    assert state(site.root, without=".dbc-restore-") == before


def test_a_whole_instances_folder_is_loaded_beside_too(site: Site) -> None:
    with site.copy() as server:
        answer = site.restored(server, f"folder:{site.root}", mode="beside")
    assert answer["places"] == [f"{site.root}.dbc-restore-{RUN}"]
    assert state(Path(answer["places"][0])) == site.backup == state(site.root)


def test_files_and_what_is_gone_come_back(site: Site) -> None:
    kinds = site.root / "jenis berkas"
    original = (kinds / "asli.dcm").read_bytes()
    for name in ("asli.dcm", "tautan relatif"):
        (kinds / name).unlink()
    (kinds / "skrip.sh").write_text("#!/bin/false\n")
    names = ("asli.dcm", "tautan relatif", "skrip.sh")
    with site.copy() as server:
        answer = site.restored(server, *(f"file:{kinds}/{name}" for name in names))
    assert [each["action"] for each in answer["items"]] == ["recreate", "recreate", "swap"]
    assert (kinds / "asli.dcm").read_bytes() == original
    assert (kinds / "tautan relatif").readlink() == Path("asli.dcm")
    old = next(name for name in os.listdir(kinds) if name.startswith("skrip.sh.dbcontinuity-"))
    assert (kinds / old).read_text() == "#!/bin/false\n"
    (kinds / old).unlink()
    assert state(site.root) == site.backup


def test_what_the_copy_does_not_hold_is_refused(site: Site) -> None:
    before = state(site.root)
    with site.copy() as server:
        for scope, why in (
            (f"folder:{site.root}/nama anah", "nama aneh"),
            (f"file:{site.root}/nama aneh", "Write folder:"),
            (f"folder:{site.root}/jenis berkas/skrip.sh", "Write file:"),
            (f"file:{site.root}/jenis berkas/tautan folder/x", "symbolic link"),
            ("folder:/etc", "no folder or file"),
        ):
            with pytest.raises(InputError, match=why):
                site.restored(server, scope)
    assert state(site.root) == before


def test_a_failure_leaves_the_folder_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = site.root / "nama aneh"
    damage(folder)
    before = state(site.root)

    def fails(*_arguments: object, **_more: object) -> None:
        raise PipelineError("the link broke")

    for verb in ("receive", "swap"):
        with site.copy() as server, monkeypatch.context() as patch:
            patch.setattr(Channel, verb, fails)
            with pytest.raises(PipelineError, match="the link broke"):
                site.restored(server, f"folder:{folder}")
        assert state(site.root) == before
        assert not (site.place.root / "restores" / "berkas-partial-restore.json").exists()


def test_an_interrupted_run_is_undone_by_the_next(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = site.root / "nama aneh"
    damage(folder)
    before = state(site.root)

    def killed(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with site.copy() as server:
        with monkeypatch.context() as patch:
            # Swapped, and then neither closed nor undone, as after a kill.
            patch.setattr(Channel, "clean", killed)
            patch.setattr(
                "ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.partial.Journal.done", killed
            )
            with pytest.raises(KeyboardInterrupt):
                site.restored(server, f"folder:{folder}")
        answer = site.restored(server, f"folder:{folder}", run="20261123T170100Z-00000002", check_only=True)
        assert answer["changed"] is False
        answer = site.restored(server, f"folder:{folder}", run="20261123T170200Z-00000003", mode="beside")
    assert answer["undone"] == {"run": RUN, "changed": True}
    assert state(site.root, without=".dbc-restore-") == before
