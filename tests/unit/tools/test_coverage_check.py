# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Too little coverage fails the test run, and programs that run from a copy count as what they were copied from."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import coverage
import pytest
from coverage import CoverageData

from tests.tools import coverage_check, run_all
from tests.tools.common import ROOT
from tests.tools.coverage_check import MODULE_UTILS, PROGRAMS
from tests.tools.run_all import Run, Stage, measured


@functools.cache
def statements(path: str) -> list[int]:
    """Return the lines of a file of the project that can run."""
    return coverage.Coverage(data_file=None, config_file=False).analysis2(str(ROOT / path))[1]


def part(target: Path, share: float) -> Path:
    """Leave what a stage leaves that covers so much of each line of the core."""
    data = CoverageData(basename=str(target))
    for path in sorted((ROOT / MODULE_UTILS).rglob("*.py")):
        relative = str(path.relative_to(ROOT))
        lines = statements(relative)
        data.add_lines({relative: lines[: int(len(lines) * share)]})
    data.write()
    return target


@pytest.mark.parametrize(("share", "status"), [(0.97, 0), (0.94, 2)])
def test_the_stage_fails_below_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float, status: int
) -> None:
    """As the whole test run calls it, over the core as it is."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run_all, "OUTPUT", tmp_path)
    part(tmp_path / ".coverage.unit", share)
    selection = [Stage(name, name, 0, [], 1, pytest=True) for name in ("unit", "engine")]
    outcome = Run(None, [], 1).coverage(selection)[0]
    assert (outcome.result, outcome.failed) == (("ok", 0) if status == 0 else ("FAILED", 1))
    shown = capsys.readouterr().out
    assert "of the core's lines (limit 95 %)" in shown


def test_a_part_of_the_tests_says_nothing_about_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is for the whole run; the report is there all the same."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run_all, "OUTPUT", tmp_path)
    part(tmp_path / ".coverage.unit", 0.1)
    selection = [Stage(name, name, 0, [], 1, pytest=True) for name in ("unit", "engine")]
    for extra, chosen in (([], selection[:1]), (["-k", "ledger"], selection)):
        assert Run(None, extra, 1).coverage(chosen)[0].failed == 0
        assert "ledger.py 10 %" in capsys.readouterr().out


def test_a_run_in_which_nothing_was_measured_has_no_coverage_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lint alone, for example."""
    monkeypatch.setattr(run_all, "OUTPUT", tmp_path)
    assert Run(None, [], 1).coverage([Stage("ruff", "lint", 0, [], 1)]) == []


def test_each_stage_takes_its_own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one stage's name begins like another's; a child's configuration is no part."""
    monkeypatch.setattr(run_all, "OUTPUT", tmp_path)
    names = [
        ".coverage.unit",
        ".children.unit.host.1.x",
        ".children.unit-config",
        ".children.unit2.x",
        ".coverage.unit2",
    ]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in measured(Stage("unit", "unit", 0, [], 1, pytest=True))] == names[:2]


def test_what_ran_from_a_copy_counts_as_the_original(tmp_path: Path) -> None:
    """Each program that is copied beside its data is known, and is there."""
    for name, path in PROGRAMS.items():
        assert (ROOT / path).is_file(), path
        assert coverage_check.original(f"/tmp/somewhere/{name}") == path
        assert coverage_check.original(str(ROOT / path)) == path
    assert coverage_check.original("/tmp/other.py") == "/tmp/other.py"
    path = PROGRAMS["list_watch.py"]
    lines = statements(path)
    parts = []
    for number, (name, chosen) in enumerate((("/tmp/a/list_watch.py", lines[:3]), (path, lines[3:5]))):
        data = CoverageData(basename=str(tmp_path / str(number)))
        data.add_lines({name: chosen})
        data.write()
        parts.append(tmp_path / str(number))
    coverage_check.put_together(parts, tmp_path / "whole")
    whole = CoverageData(basename=str(tmp_path / "whole"))
    whole.read()
    assert whole.measured_files() == {path}
    assert sorted(whole.lines(path) or []) == lines[:5]


def test_a_copied_program_is_measured_though_its_environment_is_made_anew(tmp_path: Path) -> None:
    """The way from conftest's script through a clean environment to the data, and on to what the program starts itself."""
    copy = tmp_path / "tar_watch.py"
    shutil.copy(ROOT / PROGRAMS["tar_watch.py"], copy)
    inner = tmp_path / "list_watch.py"
    inner.write_text("import os, sys\nassert 'DBC_CHILD_COVERAGE' not in os.environ\nprint(sys.executable)\n")
    tests = tmp_path / "test_it.py"
    tests.write_text(
        "import subprocess, sys\n"
        "def test_it():\n"
        f"    for words in ([{str(copy)!r}, '--help'], [{str(inner)!r}]):\n"
        "        subprocess.run([sys.executable, '-I', *words], env={'PATH': '/usr/bin:/bin'}, check=True)\n"
    )
    data = tmp_path / ".children.tried"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-c",
            str(ROOT / "pyproject.toml"),
            "-q",
            "-s",
            str(tests),
        ],
        cwd=ROOT,
        env={**os.environ, "DBC_CHILD_COVERAGE": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    script = Path(sys.prefix) / "bin/python-measured-tried"
    assert str(script) in done.stdout.splitlines()
    script.unlink()
    parts = list(tmp_path.glob(".children.tried.*"))
    assert len(parts) == 2
    coverage_check.put_together(parts, tmp_path / "whole")
    whole = CoverageData(basename=str(tmp_path / "whole"))
    whole.read()
    assert set(whole.measured_files()) == {PROGRAMS["tar_watch.py"], PROGRAMS["list_watch.py"]}
