# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named pipes that stand where pg_basebackup means to write files; a script plays its part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.pipes import ArchivePipes
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PipelineError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Stage

# The pipe is put there while the server begins its work: that takes longer than anything here.
LANDS = 'mkdir "$1"; until [ -p "$1/base.tar" ]; do sleep 0.02; done'
WRITES = LANDS + '; printf base > "$1/base.tar"; printf manifest > "$1/backup_manifest"'


def pipes(folder: Path, script: str, *names: str) -> ArchivePipes:
    target = folder / "landing"
    return ArchivePipes(Stage(("bash", "-ec", script, "bash", str(target))), target, names or ("base.tar",))


def read_all(of: ArchivePipes) -> None:
    with of as flowing:
        name, descriptor = flowing.next()
        while os.read(descriptor, 100):
            pass
        flowing.done(name)
        flowing.finish()


def test_what_is_written_comes_through_and_nothing_stays(tmp_path: Path) -> None:
    with pipes(tmp_path, WRITES) as flowing:
        name, descriptor = flowing.next()
        assert (name, os.read(descriptor, 100)) == ("base.tar", b"base")
        assert os.read(descriptor, 100) == b""
        flowing.done(name)
        flowing.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('mkdir "$1.new"; touch "$1.new/base.tar"; mv "$1.new" "$1"; sleep 5', "before pipes could be put there"),
        ("echo no such server >&2; exit 1", "no such server"),
        (LANDS + "; echo connection lost >&2; exit 1", "connection lost"),
        (LANDS, "ended without writing base.tar"),
        (WRITES + '; printf x > "$1/16400.tar"', "also wrote 16400.tar"),
        (WRITES + "; echo disk on fire >&2; exit 1", "disk on fire"),
    ],
)
def test_what_goes_wrong_is_said_and_nothing_stays(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        read_all(pipes(tmp_path, script))
    assert not (tmp_path / "landing").exists()
