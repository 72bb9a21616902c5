# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 (names come from its own journal)
"""The sample is the same for the same seed and holds what it should; the workload's journal keeps its word."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.compare import compare, fingerprint
from demo.sample import load, make_files, patients_for
from demo.servers import MariaDBServer, PostgreSQLServer, Server
from demo.workload import Workload, check, now, read_journal
from tests.demo.conftest import PATIENTS, Pair

pytestmark = pytest.mark.engine
ENGINES: list[type[Server]] = [MariaDBServer, PostgreSQLServer]


@pytest.mark.parametrize("kind", ENGINES)
def test_sample_and_workload(kind: type[Server], folder: Path, mariadb: Pair, postgresql: Pair) -> None:
    """The same seed gives the same rows; a crash in the middle of the workload loses nothing that was promised."""
    known = {"mariadb": mariadb, "postgresql": postgresql}[kind.engine].before
    with kind(folder / "sample" / kind.engine) as server:
        load(server, patients=PATIENTS)
        rows = compare(known, fingerprint(server), ignore=set(known.objects) - {"rows"})
        differing = {found.name for found in rows.differences if found.kind == "rows"}
        # A timestamp of the moment of loading, and numbers the server gives to large objects.
        assert differing <= {"simrs/simrs.pindaian"}, str(rows)
        assert any(server.external.iterdir())

        journal = folder / f"{kind.engine}.journal"
        with Workload(server, journal, rate=100) as work:
            work.wait_for(20)
            middle = now()
            work.wait_for(40)
            server.kill9()  # the next transaction, whenever it comes, meets a session without a server
            server.start()
            work.wait_for(60)
        entries = read_journal(journal)
        assert sum(entry.committed for entry in entries) == work.committed >= 60
        assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
        assert any(not entry.committed for entry in entries)
        assert all(entry.position for entry in entries if entry.committed)
        assert check(server, entries) == []
        assert any("though it was not begun" in problem for problem in check(server, entries, middle))

        victim = next(entry.visit for entry in reversed(entries) if entry.committed)
        server.query(f"DELETE FROM hasil_laboratorium WHERE no_rawat = '{victim}'", "simrs")
        assert any("only in part" in problem for problem in check(server, entries))
        server.query(f"DELETE FROM kunjungan WHERE no_rawat = '{victim}'", "simrs")
        assert any(victim in problem and "is missing" in problem for problem in check(server, entries))

        done = subprocess.run(
            [sys.executable, "-m", "demo.workload", str(server.base), str(journal), "--seconds", "2"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "transactions committed" in done.stdout
        assert len(read_journal(journal)) > len(entries)


def test_a_journal_cut_off_by_a_kill_can_be_read(tmp_path: Path) -> None:
    line = {"seq": 1, "visit": "WL/1", "begun": "a", "ended": "b", "committed": True, "position": "x"}
    (tmp_path / "j").write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    assert [entry.seq for entry in read_journal(tmp_path / "j")] == [1]


def test_size_decides_the_number_of_patients() -> None:
    assert patients_for("mariadb", 0.001) == 100
    assert patients_for("mariadb", 60) == pytest.approx(2 * patients_for("mariadb", 30), abs=2)


def _listing(folder: Path) -> dict[str, tuple[int, int, str]]:
    found = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in [*folders, *files]:
            path = os.path.join(place, name)
            state = os.lstat(path)
            content = ""
            if os.path.islink(path):
                content = os.fsdecode(os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as stream:
                    content = hashlib.sha256(stream.read()).hexdigest()
            relative = os.fsdecode(os.path.relpath(path, os.fsencode(folder)))
            found[relative] = (state.st_mode, state.st_mtime_ns if not os.path.isdir(path) else 0, content)
    return found


def test_files_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    count = make_files(tmp_path / "a", 1)
    assert count >= 30
    assert make_files(tmp_path / "b", 1) == count
    first, second = _listing(tmp_path / "a"), _listing(tmp_path / "b")
    assert {name: row[::2] for name, row in first.items()} == {name: row[::2] for name, row in second.items()}
    make_files(tmp_path / "c", 1, seed=7)
    assert _listing(tmp_path / "c") != first
    kinds = tmp_path / "a" / "jenis berkas"
    assert (kinds / "asli.dcm").stat().st_nlink == 2
    assert (kinds / "tautan putus").is_symlink()
    assert (kinds / "berlubang.img").stat().st_blocks * 512 < 8 << 20
    assert any("\n" in name for name in first)
