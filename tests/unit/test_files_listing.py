# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that people work in while they are archived: what changed is counted, and excuses no more than that."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.agent_answer import trailer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.files.listing import (
    Excused,
    verify_against_listing,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PipelineError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Stage, run
from tests.support import AGENT_PROGRAM

GONE = "Cannot stat: No such file or directory"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "scan"
    root.mkdir()
    (root / "kept").write_text("1")
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/scan.json").write_text(json.dumps({"engine": "files", "paths": [str(root)]}))
    return root


def agent(folder: Path, verb: str, names: list[bytes]) -> tuple[dict[str, Any], bytes]:
    """Let the real agent work as the core does; return its last word and its data."""
    argv = (sys.executable, str(AGENT_PROGRAM), "--config", str(folder.parent / "agent"), verb, "scan")
    finished = run(Stage(argv), stdin=b"".join(name + b"\0" for name in names), check=False)
    return trailer(finished), finished.stdout


def listing(path: Path, *names: str) -> Path:
    path.write_text("".join(json.dumps({"path": name}) + "\n" for name in names), encoding="utf-8")
    return path


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name.lstrip("/")))
    return path


def test_files_that_vanish_are_counted_exactly_and_named_as_far_as_there_is_room(folder: Path) -> None:
    gone = [os.fsencode(folder / f"gone-{number:05d}") for number in range(1700)]
    said, data = agent(folder, "archive", [*gone, os.fsencode(folder / "kept")])
    assert b"kept" in data
    assert said["changed_while_read_count"] == 1700
    lines = said["changed_while_read"]
    assert 900 < len(lines) <= 1000
    assert all(GONE in line for line in lines)
    assert "gone-00000" in lines[0]


def test_long_names_do_not_cost_the_trailer_its_beginning(folder: Path) -> None:
    deep = b"/".join([os.fsencode(folder), *[b"\xc3\xa9" * 100] * 12])
    said, _data = agent(folder, "archive", [deep + b"-%d" % number for number in range(600)])
    assert said["changed_while_read_count"] == 600
    assert 0 < len(said["changed_while_read"]) < 600


def test_a_file_that_cannot_be_read_is_not_hidden_by_many_that_vanished(folder: Path) -> None:
    gone = [os.fsencode(folder / f"gone-{number}") for number in range(1500)]
    with pytest.raises(PipelineError, match="kept/below: Cannot stat: Not a directory"):
        agent(folder, "archive", [os.fsencode(folder / "kept/below"), *gone])


def test_names_that_tar_writes_in_another_way_are_known_again(folder: Path) -> None:
    names = [
        "baris\nbaru",
        "tab\there",
        "back\\slash",
        "é",
        os.fsdecode(b"latin-\xe9"),
        "a: b",
        "x:y",
        "\x7f",
        "nb\xa0sp",
        "q'u\"o",
    ]
    said, _data = agent(folder, "archive", [os.fsencode(folder / name) for name in names])
    named = Excused.of(said).finder()
    for name in names:
        assert named({"path": f"{folder}/{name}"}), name
    for name in ("baris", "b", "latin-", "slash"):
        assert not named({"path": f"{folder}/{name}"}), name


def test_a_socket_is_in_no_listing_as_it_is_in_no_archive(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path may not be long
        try:
            listening.bind("server.sock")
        finally:
            os.chdir(here)
    os.mkfifo(folder / "fifo")
    _said, listed = agent(folder, "list", [])
    assert [Path(json.loads(line)["path"]).name for line in listed.splitlines()] == ["scan", "fifo", "kept"]


def test_what_is_missing_is_excused_by_its_name(tmp_path: Path) -> None:
    written = listing(tmp_path / "listing", "/srv/a", "/srv/ab", "/srv/b")
    held = archive(tmp_path / "tar", "/srv/ab")
    excused = Excused((f"tar: srv/b: {GONE}",), 1)
    assert verify_against_listing(held, written, excused) == ["/srv/a is missing"]
    also = Excused((f"tar: srv/a: {GONE}", f"tar: srv/b: {GONE}"), 2)
    assert verify_against_listing(held, written, also) == []


@pytest.mark.parametrize(("count", "counts"), [(1, True), (2, True), (3, False), (400, False)])
def test_where_names_were_cut_any_file_may_have_changed_but_no_more_than_were_counted(
    tmp_path: Path, count: int, counts: bool
) -> None:
    written = listing(tmp_path / "listing", "/srv/a", "/srv/b", "/srv/c", "/srv/d")
    held = archive(tmp_path / "tar", "/srv/d")
    excused = Excused((f"tar: srv/c: {GONE}",), count)
    problems = verify_against_listing(held, written, excused)
    assert problems == (["/srv/a is missing", "/srv/b is missing"] if counts else [])


def test_what_no_listing_has_is_never_excused(tmp_path: Path) -> None:
    written = listing(tmp_path / "listing", "/srv/a")
    held = archive(tmp_path / "tar", "/srv/a", "/srv/foreign")
    assert verify_against_listing(held, written, Excused((), 100)) == ["/srv/foreign is not in the listing"]


def test_a_set_made_before_the_count_was_kept_names_them_all() -> None:
    old = Excused.of({"changed_while_read": ["tar: a: file changed as we read it"]})
    assert (old.count, old.unnamed) == (1, 0)
    assert Excused.of(Excused(("x",), 7).values()) == Excused(("x",), 7)


def test_the_agent_needs_only_the_standard_library() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(AGENT_PROGRAM), "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
