# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test run counts what happened: a failure, a crash, a hang, a stage that is not there."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.tools import run_all
from tests.tools.run_all import Outcome, Run, Stage


@pytest.fixture(autouse=True)
def _output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the logs of these stages away from those of the run that runs this test."""
    monkeypatch.setattr(run_all, "OUTPUT", tmp_path)


def run(code: str, *, minutes: float = 1, pytest_stage: bool = False, needs: tuple[str, ...] = ()) -> Outcome:
    """Run a stage whose command is a piece of Python."""
    command = [sys.executable, "-c", code]
    stage = Stage("tried", "tried", 0, command, minutes, needs, pytest=pytest_stage)
    return Run(None, [], 1).stage(stage)


def report(folder: Path, passed: int, failed: int) -> str:
    """Return code that leaves the report pytest would leave, beside the stage's log."""
    xml = f'<testsuites><testsuite tests="{passed + failed}" failures="{failed}" errors="0" skipped="0"/></testsuites>'
    return f"open({str(folder / 'tried.xml')!r}, 'w').write({xml!r})"


def test_success_counts_one() -> None:
    """A stage without pytest counts as one test."""
    outcome = run("print('fine')")
    assert (outcome.result, outcome.passed, outcome.failed) == ("ok", 1, 0)


def test_failure_is_shown_with_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The reader sees why, also where the reason stands far above the end."""
    outcome = run("print('ERROR: the reason'); print('chatter\\n' * 500); raise SystemExit(3)")
    assert (outcome.passed, outcome.failed, outcome.note) == (0, 1, "status 3")
    shown = capsys.readouterr().out
    assert "| ERROR: the reason" in shown
    assert shown.count("chatter") < 100


def test_pytest_counts_its_own_tests(tmp_path: Path) -> None:
    """The closing line counts tests where pytest ran them."""
    outcome = run(report(tmp_path, 5, 2) + "; raise SystemExit(1)", pytest_stage=True)
    assert (outcome.passed, outcome.failed) == (5, 2)


def test_pytest_that_crashes_after_its_report_fails(tmp_path: Path) -> None:
    """A report without failures does not hide an exit status."""
    outcome = run(report(tmp_path, 5, 0) + "; raise SystemExit(3)", pytest_stage=True)
    assert (outcome.result, outcome.passed, outcome.failed) == ("FAILED", 5, 1)


def test_pytest_without_a_report_fails(tmp_path: Path) -> None:
    """A report of an earlier run is not taken for this one's."""
    (tmp_path / "tried.xml").write_text('<testsuite tests="9" failures="0" errors="0" skipped="0"/>')
    outcome = run("raise SystemExit(4)", pytest_stage=True)
    assert (outcome.passed, outcome.failed) == (0, 1)


def test_hanging_stage_is_ended_with_its_children(tmp_path: Path) -> None:
    """The end of a stage's time ends what it started, too."""
    mark = tmp_path / "still-alive"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    started = time.monotonic()
    outcome = run(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()", minutes=1 / 60)
    assert (outcome.failed, outcome.note) == (1, "out of time")
    time.sleep(max(0, started + 4 - time.monotonic()))
    assert not mark.exists()


def test_missing_program_fails() -> None:
    """A tool that is not installed is a failure, not a crash of the run."""
    outcome = Run(None, [], 1).stage(Stage("tried", "tried", 0, ["/nonexistent/tool"], 1))
    assert outcome.failed == 1


def test_absent_stage_is_neither() -> None:
    """What is not built yet is named and not counted."""
    outcome = run("raise SystemExit(1)", needs=("no/such/folder",))
    assert (outcome.result, outcome.passed, outcome.failed) == ("absent", 0, 0)


def test_no_budget_left_fails() -> None:
    """A stage that could not be started any more has not passed."""
    stage = Stage("tried", "tried", 0, [sys.executable, "-c", ""], 1)
    assert Run(0, [], 1).stage(stage).failed == 1


def test_run_that_tried_nothing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing passed and nothing failed is no success."""
    stage = Stage("tried", "tried", 0, ["true"], 1, needs=("no/such/folder",))
    monkeypatch.setattr(run_all, "stages", lambda: [stage])
    monkeypatch.setattr(Run, "all", lambda self, selection: [self.stage(one) for one in selection])
    assert run_all.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def attempts(tmp_path: Path, outcomes: str, **more: object) -> Outcome:
    """Run a stage that counts its attempts and ends them with these exit statuses."""
    code = (
        f"import pathlib; p = pathlib.Path({str(tmp_path / 'attempts')!r}); "
        f"n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1)); raise SystemExit({outcomes}[n])"
    )
    command = [sys.executable, "-c", code]
    return Run(None, [], 1).stage(Stage("tried", "tried", 0, command, 1, again=command, **more))  # type: ignore[arg-type]


def test_scenario_that_fails_is_tried_once_more_and_the_table_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A success at the second attempt is one, the first failure stays in sight."""
    outcome = attempts(tmp_path, "[2, 0, 9]")
    assert (outcome.result, outcome.passed, outcome.failed) == ("ok", 1, 0)
    assert "second attempt" in outcome.note
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "tried once more" in shown
    assert (tmp_path / "attempts").read_text() == "xx"


def test_scenario_that_fails_twice_fails(tmp_path: Path) -> None:
    """There is no third attempt."""
    outcome = attempts(tmp_path, "[2, 2, 0]")
    assert (outcome.result, outcome.failed) == ("FAILED", 1)
    assert (tmp_path / "attempts").read_text() == "xx"


def cases(folder: Path, name: str, failed: list[str], passed: int = 3) -> str:
    """Return code that leaves a report in which one test of each of these files failed."""
    bad = "".join(f'<testcase classname="{file}" name="test_it"><failure/></testcase>' for file in failed)
    total = passed + len(failed)
    xml = f'<testsuites><testsuite tests="{total}" failures="{len(failed)}" errors="0" skipped="0">{bad}</testsuite></testsuites>'
    return f"open({str(folder / name)!r}, 'w').write({xml!r}); raise SystemExit({int(bool(failed))})"


def attempts_at_tests(folder: Path, first: list[str], second: list[str]) -> Outcome:
    """Run a stage of tests in which these files fail, and at the second attempt those."""
    command = [sys.executable, "-c", cases(folder, "tried.xml", first)]
    again = [sys.executable, "-c", f"import sys; print(sys.argv[1:]); {cases(folder, 'tried-again.xml', second, 1)}"]
    return Run(None, [], 1).stage(Stage("tried", "tried", 0, command, 1, pytest=True, again=again))


HERE = "tests.unit.tools.test_run_all"


def test_only_the_files_with_failed_tests_are_tried_again(tmp_path: Path) -> None:
    """The table counts the tests once and names those that failed at first."""
    outcome = attempts_at_tests(tmp_path, [f"{HERE}.TestSomething"], [])
    assert (outcome.result, outcome.passed, outcome.failed) == ("ok", 4, 0)
    assert "at first failed: tests/unit/tools/test_run_all.py::test_it" in outcome.note
    assert "['tests/unit/tools/test_run_all.py']" in (tmp_path / "tried-again.log").read_text()


def test_tests_that_fail_again_fail(tmp_path: Path) -> None:
    """What failed twice is counted as failed."""
    outcome = attempts_at_tests(tmp_path, [HERE], [HERE])
    assert (outcome.result, outcome.passed, outcome.failed) == ("FAILED", 3, 1)


@pytest.mark.parametrize(
    "failed",
    [
        [HERE, "tests.unit.tools.test_coverage_check", "tests.tools.common", "tests.tools.run_all"],
        ["no.such.file"],
    ],
)
def test_what_is_broken_gets_no_second_attempt(tmp_path: Path, failed: list[str]) -> None:
    """Failures in many files, or in none that is known, are no matter of timing."""
    assert attempts_at_tests(tmp_path, failed, []).result == "FAILED"
    assert not (tmp_path / "tried-again.log").exists()
