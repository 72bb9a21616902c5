# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every check and test of the project and say, stage by stage, how it went.

    python -m tests.tools.run_all                  what `make test` runs
    python -m tests.tools.run_all --all            and the slow tests, real timers, and Molecule on Debian 13
    python -m tests.tools.run_all lint sanity      some stages or groups of stages
    python -m tests.tools.run_all unit -- -k ledger

Stages go in waves; those of one wave run side by side, and one that fails keeps no other from running.
What a stage says goes to tests/output/<stage>.log; its end is shown where the stage failed. Where only a few files of
tests against real servers failed, or a scenario on real hosts, they are tried once more, alone, and the table says so.
The last line counts the tests pytest ran and each other stage as one.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.tools.common import OUTPUT, ROOT, VENV_BIN, tool_environment
from tests.tools.second_attempt import failed_tests, files_to_try

TAIL_LINES = 60
COMPLAINT = re.compile(r"(ERROR|FATAL|FAILED|fatal:|E  )")
HEARTBEAT_SECONDS = 60
OUT_OF_TIME = "out of time"
NO_TIME = "no time left to start it"
COVERAGE_PREFIX = ".coverage"
CHILDREN_PREFIX = ".children"
PYTHON_TREES = ("demo", "benchmarks", "molecule", "tests")
CORE = "collections/ansible_collections/rspon/dbcontinuity"


@dataclass(frozen=True)
class Stage:
    """One command of the test run."""

    name: str
    group: str
    wave: int
    command: Sequence[str]
    minutes: float
    needs: Sequence[str] = ()
    """The stage is left out, and the table says so, where none of these paths exists."""
    pytest: bool = False
    long: bool = False
    """Part of --all only."""
    again: Sequence[str] | None = None
    """The command of a second attempt; for pytest without the files, which are those that failed."""
    cwd: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a stage went."""

    stage: Stage
    result: str
    seconds: float
    passed: int = 0
    failed: int = 0
    note: str = ""

    @property
    def good(self) -> bool:
        """Tell whether nothing speaks against the stage."""
        return self.failed == 0


def tool(name: str) -> str:
    """Return the path of a program of the virtual environment."""
    return str(VENV_BIN / name)


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a Python module of this project."""
    return [sys.executable, "-m", name, *arguments]


def existing(*paths: str) -> list[str]:
    """Return those of the paths that hold Python files."""
    return [path for path in paths if any((ROOT / path).rglob("*.py"))]


def pytest_stage(
    name: str, folders: Sequence[str], *, wave: int, minutes: int, marks: str, long: bool = False, workers: int = 1
) -> Stage:
    """Return a stage that runs pytest over `folders` and measures the core's coverage.

    :param workers: processes that share the files; the tests of one file stay together, in their order.
    """
    alone = [
        *module("pytest", "-m", marks),
        "--durations=10",
        "--cov",
        "--cov-report=",
        "--cov-fail-under=0",  # the limit is for all stages together
    ]
    sharing = ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []
    command = [*alone, *sharing, f"--junitxml={OUTPUT / name}.xml", *existing(*folders)]
    again = [*alone, "--cov-append", f"--junitxml={OUTPUT / name}-again.xml"]
    environment = {
        "COVERAGE_FILE": str(OUTPUT / f"{COVERAGE_PREFIX}.{name}"),
        "DBC_CHILD_COVERAGE": str(OUTPUT / f"{CHILDREN_PREFIX}.{name}"),
    }
    return Stage(
        name, name, wave, command, minutes, folders, pytest=True, long=long, again=again, environment=environment
    )


def molecule_stage(
    name: str, platform: str, *, wave: int, scenario: str = "default", long: bool = False, minutes: float = 30
) -> Stage:
    """Return a stage that builds real hosts of one platform and runs a scenario on them."""
    command = [tool("molecule"), "test", "--scenario-name", scenario]
    needs = (f"molecule/{scenario}/molecule.yml",)
    environment = {"DBC_PLATFORM": platform, **({"DBC_LONG": "1"} if long else {})}
    return Stage(name, "molecule", wave, command, minutes, needs, long=long, again=command, environment=environment)


def stages() -> list[Stage]:
    """Return every stage, in the order of the closing table."""
    collection = ROOT / CORE
    build = ["build", "--force", "--output-path", str(OUTPUT), str(collection)]
    platform = os.environ.get("DBC_PLATFORM") or "debian12"
    return [
        Stage("collections", "lint", 0, module("tests.tools.fetch_collections"), 10),
        Stage("ruff", "lint", 1, [tool("ruff"), "check", "."], 5),
        Stage("format", "lint", 1, [tool("ruff"), "format", "--check", "."], 5),
        Stage("mypy", "lint", 1, [tool("mypy"), *existing(f"{CORE}/plugins", f"{CORE}/roles", *PYTHON_TREES)], 10),
        Stage("yamllint", "lint", 1, [tool("yamllint"), "--strict", "."], 5),
        Stage("shellcheck", "lint", 1, module("tests.tools.check_shell"), 5),
        Stage("headers", "lint", 1, module("tests.tools.check_headers"), 5),
        Stage("changelog", "lint", 1, [tool("antsibull-changelog"), "lint"], 5, cwd=collection),
        Stage("build", "lint", 1, [tool("ansible-galaxy"), "collection", *build], 5),
        Stage("ansible-lint", "lint", 1, [tool("ansible-lint"), "--nocolor"], 15),
        pytest_stage("unit", ["tests/unit", "tests/hosts"], wave=2, minutes=15, marks="not slow"),
        Stage("sanity", "sanity", 2, module("tests.tools.run_sanity"), 20),
        pytest_stage("engine", ["tests/engine", "tests/demo"], wave=3, minutes=40, marks="not slow", workers=2),
        pytest_stage(
            "slow",
            ["tests/unit", "tests/engine", "tests/demo", "tests/hosts"],
            wave=4,
            minutes=120,
            marks="slow",
            long=True,
        ),
        molecule_stage("molecule", platform, wave=5),
        molecule_stage("molecule-restore", platform, wave=6, scenario="restore"),
        # It waits for real timers: eight minutes, more than make test has left.
        molecule_stage("molecule-calendar", platform, wave=7, scenario="calendar", long=True),
        molecule_stage("molecule-cron", platform, wave=8, scenario="cron", long=True),
        # Weeks in minutes: about twenty of them on a machine that does nothing else.
        molecule_stage("molecule-compressed", platform, wave=9, scenario="compressed", long=True, minutes=45),
        molecule_stage("molecule-debian13", "debian13", wave=10, long=True),
        molecule_stage("molecule-restore-debian13", "debian13", wave=11, scenario="restore", long=True),
    ]


def chosen(names: Sequence[str], everything: bool) -> list[Stage]:
    """Return the stages to run: those named, or all that are not long, or all."""
    available = stages()
    known = {stage.name for stage in available} | {stage.group for stage in available}
    for name in names:
        if name not in known:
            raise SystemExit(f"no stage or group '{name}'; there are: {', '.join(sorted(known))}")
    if names:
        by_name = [stage for stage in available if stage.name in names]
        by_group = [stage for stage in available if stage.group in names and (everything or not stage.long)]
        # Hosts are set up with collections of others: a clone in which nothing else ran has none.
        needed = {"collections"} if any(stage.group == "molecule" for stage in [*by_name, *by_group]) else set()
        return [stage for stage in available if stage in by_name or stage in by_group or stage.name in needed]
    return [stage for stage in available if everything or not stage.long]


def run_command(stage: Stage, log: Path, deadline: float, running: Callable[[int | None], None]) -> tuple[int, str]:
    """Run the stage's command to its end or to the deadline; return its exit status and a remark."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            stage.command,
            cwd=stage.cwd,
            env={**tool_environment(), **stage.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running(process.pid)
        try:
            return process.wait(timeout=max(deadline - time.monotonic(), 1)), ""
        except subprocess.TimeoutExpired:
            for number, patience in ((signal.SIGINT, 30), (signal.SIGTERM, 15), (signal.SIGKILL, 15)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=patience)
                    break
            return 124, OUT_OF_TIME
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            running(None)


def count(report: Path) -> tuple[int, int, int]:
    """Return how many tests of pytest's report passed, failed, were skipped."""
    passed = failed = skipped = 0
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - pytest of this run wrote it
        bad = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        out = int(suite.get("skipped", "0"))
        passed += int(suite.get("tests", "0")) - bad - out
        failed += bad
        skipped += out
    return passed, failed, skipped


def first_failures(stage: Stage) -> list[str]:
    """Return the names of the tests that failed in a stage's first attempt; none where it is not pytest's."""
    report = OUTPUT / f"{stage.name}.xml"
    return list(failed_tests(report)) if stage.pytest and report.is_file() else []


def second_command(stage: Stage) -> list[str] | None:
    """Return what a second attempt at a failed stage runs, or None where there is none."""
    if stage.again is None:
        return None
    if not stage.pytest:
        return list(stage.again)
    report = OUTPUT / f"{stage.name}.xml"
    files = files_to_try(report) if report.is_file() else []
    return [*stage.again, *files] if files else None


def excerpt(text: str) -> str:
    """Return what a failed stage said: its complaints, wherever they stand, and the end."""
    lines = text.splitlines()
    early, end = lines[:-TAIL_LINES], lines[-TAIL_LINES:]
    complaints = [line for line in early if COMPLAINT.match(line)]
    shown = [*complaints[-TAIL_LINES:], *(["…"] if early else []), *end]
    return "\n".join(f"    | {line}" for line in shown)


class Run:
    """A test run: what is running now, what came of what has run."""

    def __init__(self, budget_minutes: float | None, extra: Sequence[str], jobs: int) -> None:
        """Start the clock."""
        self._extra = extra
        self._jobs = jobs
        self._end = time.monotonic() + budget_minutes * 60 if budget_minutes is not None else float("inf")
        self._speech = threading.Lock()
        self._running: dict[str, tuple[float, int | None]] = {}
        self._over = threading.Event()

    def say(self, text: str) -> None:
        """Print without tearing another stage's lines."""
        with self._speech:
            print(text, flush=True)

    def stage(self, stage: Stage) -> Outcome:
        """Run one stage and report it."""
        if stage.needs and not existing_any(stage.needs):
            return Outcome(stage, "absent", 0, note=f"there is no {' or '.join(stage.needs)} yet")
        if stage.pytest and self._extra:
            stage = replace(stage, command=[*stage.command, *self._extra])
        first = self._attempt(stage, stage.name)
        if first.good or first.result == "absent":
            return first
        tests = first_failures(stage)
        command = second_command(stage)
        if command is None or first.note in (OUT_OF_TIME, NO_TIME) or self._extra:
            return first
        self.say(f"  {stage.name:<18} tried once more, alone: {', '.join(tests) or 'the whole stage'}")
        second = self._attempt(replace(stage, command=command), f"{stage.name}-again")
        seconds = first.seconds + second.seconds
        if not second.good:
            return replace(first, seconds=seconds, note=f"{first.note}; failed a second time")
        passed = first.passed + first.failed
        note = f"{passed} passed" + (f", at first failed: {', '.join(tests)}" if tests else " at the second attempt")
        return Outcome(stage, "ok", seconds, passed, 0, note)

    def _attempt(self, stage: Stage, name: str) -> Outcome:
        """Run a stage's command once, its log and report under the name given, and report it."""
        started = time.monotonic()
        log = OUTPUT / f"{name}.log"
        report = OUTPUT / f"{name}.xml"
        report.unlink(missing_ok=True)
        if started > self._end - 5:
            outcome = Outcome(stage, "FAILED", 0, failed=1, note=NO_TIME)
            self.say(f"  {name:<18} FAILED  {outcome.note}")
            return outcome

        def running(pid: int | None) -> None:
            if pid is None:
                self._running.pop(name, None)
            else:
                self._running[name] = (started, pid)

        deadline = min(started + stage.minutes * 60, self._end)
        try:
            status, note = run_command(stage, log, deadline, running)
        except OSError as error:
            log.write_text(f"{error}\n", encoding="utf-8")
            status, note = 127, str(error)
        passed, failed, skipped = (1, 0, 0) if status == 0 else (0, 1, 0)
        if stage.pytest and report.is_file() and not note:
            passed, failed, skipped = count(report)
            note = f"{passed} passed, {failed} failed, {skipped} skipped"
            if status != 0 and failed == 0:  # crashed, or collected nothing
                failed, note = 1, f"{note}; pytest ended with status {status}"
        elif status not in (0, 124, 127):
            note = f"status {status}"
        outcome = Outcome(stage, "ok" if failed == 0 else "FAILED", time.monotonic() - started, passed, failed, note)
        text = f"  {name:<18} {outcome.result:<7} {outcome.seconds:7.1f} s  {note}".rstrip()
        if not outcome.good:
            text += f"\n    from {log}:\n" + excerpt(log.read_text(encoding="utf-8", errors="replace"))
        self.say(text)
        return outcome

    def heartbeat(self) -> None:
        """Say every minute what is still running."""
        while not self._over.wait(HEARTBEAT_SECONDS):
            now = time.monotonic()
            names = [f"{name} ({now - since:.0f} s)" for name, (since, _pid) in list(self._running.items())]
            if names:
                self.say(f"  … {', '.join(names)}")

    def stop(self, number: int, _frame: object) -> None:
        """End what is running when this run is told to end."""
        self._end = 0
        for _since, pid in list(self._running.values()):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    def all(self, selection: Sequence[Stage]) -> list[Outcome]:
        """Run the stages, wave by wave."""
        threading.Thread(target=self.heartbeat, daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.stop)
        outcomes: list[Outcome] = []
        for wave in sorted({stage.wave for stage in selection}):
            batch = [stage for stage in selection if stage.wave == wave]
            with concurrent.futures.ThreadPoolExecutor(max_workers=min(self._jobs, len(batch))) as pool:
                outcomes += pool.map(self.stage, batch)
            if any(stage.pytest for stage in batch) and not any(
                later.pytest for later in selection if later.wave > wave
            ):
                outcomes += self.coverage(selection)
        self._over.set()
        return outcomes

    def coverage(self, selection: Sequence[Stage]) -> list[Outcome]:
        """Put the coverage of all pytest stages together; the limit holds for a full run only."""
        parts = [part for stage in selection if stage.pytest for part in measured(stage)]
        if not parts:
            return []
        whole = {"unit", "engine"} <= {stage.name for stage in selection} and not self._extra
        command = [
            *module("tests.tools.coverage_check", *([] if whole else ["--no-limit"])),
            str(OUTPUT / "coverage.sqlite"),
            *map(str, parts),
        ]
        outcome = self.stage(Stage("coverage", "coverage", 0, command, 5))
        lines = (OUTPUT / "coverage.log").read_text(encoding="utf-8", errors="replace").splitlines()
        self.say("\n".join(f"    {line}" for line in lines if line.startswith("covered: ")))
        return [outcome]


def measured(stage: Stage) -> list[Path]:
    """Return the files a pytest stage has left of what it measured: its own, and its children's."""
    own = OUTPUT / f"{COVERAGE_PREFIX}.{stage.name}"
    return [*([own] if own.exists() else []), *sorted(OUTPUT.glob(f"{CHILDREN_PREFIX}.{stage.name}.*"))]


def existing_any(paths: Sequence[str]) -> bool:
    """Tell whether one of the paths is there: a file, or a folder with Python files in it."""
    return any((ROOT / path).is_file() for path in paths) or bool(existing(*paths))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the closing table."""
    width = max(len(outcome.stage.name) for outcome in outcomes)
    lines = ["", f"{'stage':<{width}}  result   seconds  remark"]
    lines += [
        f"{outcome.stage.name:<{width}}  {outcome.result:<7}  {outcome.seconds:7.1f}  {outcome.note}".rstrip()
        for outcome in outcomes
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the stages asked for; the exit status is 1 where one of them failed."""
    own, extra = list(arguments), []
    if "--" in own:
        cut = own.index("--")
        own, extra = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(prog="run_all", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="stages or groups; default: all that are not long")
    parser.add_argument("--all", action="store_true", help="the slow tests, real timers and the second platform too")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="end what is not done after so many minutes")
    parser.add_argument("--jobs", type=int, default=2, help="stages side by side within a wave (default 2)")
    options = parser.parse_args(own)
    selection = chosen(options.stages, options.all)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for stage in selection:
        for name in (stage.name, f"{stage.name}-again"):
            for path in (OUTPUT / f"{name}.log", OUTPUT / f"{name}.xml"):
                path.unlink(missing_ok=True)
        for path in measured(stage):
            path.unlink(missing_ok=True)
    started = time.monotonic()
    outcomes = Run(options.budget, extra, options.jobs).all(selection)
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    print(table(outcomes))
    print(f"\nall stages: {time.monotonic() - started:.0f} s; logs in {OUTPUT}\n")
    if passed + failed == 0:  # a run that tried nothing has shown nothing
        failed = 1
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
