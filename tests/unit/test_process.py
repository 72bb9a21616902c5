# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipelines: the cause is named, nothing is left behind, memory stays flat."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import process as module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    PipelineError,
    PrerequisiteError,
    RepositoryError,
    RepositoryFullError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import (
    Finished,
    Pipeline,
    Stage,
    child_environment,
    failure,
    find_tool,
    run,
    write_through,
)
from demo.process import wait_until


def sh(script: str, label: str = "", **more: object) -> Stage:
    return Stage(("/bin/bash", "-c", script), label=label, **more)  # type: ignore[arg-type]


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def running(marker: str) -> list[int]:
    """Processes that were started with a marker in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch) -> str:
    """A mark on every child: HOME is passed on."""
    text = f"/nonexistent/dbc-marker-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("HOME", text)
    return text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_what_is_written_is_counted_and_hashed(tmp_path: Path) -> None:
    seen: list[int] = []
    target = tmp_path / "out"
    written = write_through(
        (sh("head -c 3000000 /dev/zero"), Stage(("tr", "\\0", "x"))), target, on_progress=seen.append, mode=0o600
    )
    assert written.size == 3_000_000 == target.stat().st_size == seen[-1]
    assert written.sha256 == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert [each.status for each in written.stages] == [0, 0]
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_existing_target_is_never_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(RepositoryError):
        write_through((sh("echo new"),), target)
    assert target.read_text() == "old"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryError):
        write_through((sh("echo new"),), tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("stages", "cause"),
    [
        ((sh("echo broken >&2; exit 3", "first"), sh("cat", "last")), "first ended with status 3: broken"),
        ((sh("yes", "first"), sh("head -c 10; echo no >&2; exit 4", "last")), "last ended with status 4: no"),
        ((sh("yes", "a"), sh("cat", "b"), sh("exit 5", "c")), "c ended with status 5: it printed nothing"),
        ((sh("yes", "a"), sh("kill -9 $$", "b"), sh("cat", "c")), "b was killed by signal 9"),
        ((sh("kill -11 $$", "a"), sh("cat", "b")), "a was killed by signal 11"),
        ((sh("echo x; exit 7", "a"), sh("cat >/dev/null; exit 8", "b")), "a ended with status 7"),
        (
            (sh("yes || { echo 'write error: Broken pipe' >&2; exit 1; }", "a"), sh("exit 9", "b")),
            "b ended with status 9",
        ),
        ((sh("trap '' PIPE; yes 2>&1", "a"), sh("true", "b")), "a "),
    ],
)
def test_the_cause_is_named_and_not_its_consequence(tmp_path: Path, stages: tuple[Stage, ...], cause: str) -> None:
    with pytest.raises(PipelineError) as caught:
        write_through(stages, tmp_path / "out")
    assert cause in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_false_before_gzip_is_no_success(tmp_path: Path) -> None:
    # The trap first: the shell takes it for one.
    assert subprocess.run(["sh", "-c", "false | gzip > /dev/null"], check=False).returncode == 0
    with pytest.raises(PipelineError, match="false ended with status 1"):
        write_through((Stage(("false",)), Stage(("gzip", "-c"))), tmp_path / "out")


def test_accepted_statuses_are_success(tmp_path: Path) -> None:
    written = write_through((sh("echo x; exit 1", accepted=frozenset({0, 1})),), tmp_path / "out")
    assert written.stages[0].status == 1


def test_only_broken_pipes_are_told_all_the_same() -> None:
    error = failure([Finished("a", -signal.SIGPIPE, b"", "")])
    assert "a was killed by signal 13" in str(error)


def test_a_stalled_stage_is_ended_and_nothing_stays(tmp_path: Path, marker: str) -> None:
    begin = time.monotonic()
    with pytest.raises(PipelineError, match=r"No data came from source for 0\.5 seconds") as caught:
        write_through((sh("echo x; sleep 600", "source"), Stage(("cat",))), tmp_path / "out", stall_seconds=0.5)
    assert time.monotonic() - begin < 120
    assert caught.value.details["stage"] == "source"
    assert os.listdir(tmp_path) == []
    assert wait_until(lambda: running(marker) == [], 60)


def test_a_stage_that_closes_its_output_and_stays_is_ended(marker: str) -> None:
    with (  # noqa: PT012
        pytest.raises(PipelineError, match="closed its output but did not end"),
        Pipeline([sh("exec >&-; sleep 600", "stays")]) as pipeline,
    ):
        pipeline.output.read()
        pipeline.wait(timeout=0.5)
    assert wait_until(lambda: running(marker) == [], 60)


def test_the_dead_stage_is_named_and_not_the_one_that_hangs_because_of_it(marker: str) -> None:
    with (  # noqa: PT012
        pytest.raises(PipelineError, match="dead ended with status 6"),
        Pipeline([sh("sleep 600", "hangs"), sh("exit 6", "dead")]) as pipeline,
    ):
        pipeline.output.read()
        pipeline.wait(timeout=0.5)
    assert wait_until(lambda: running(marker) == [], 60)


def test_leaving_early_ends_every_stage(marker: str) -> None:
    with pytest.raises(KeyboardInterrupt), Pipeline([sh("yes"), sh("cat")]):  # noqa: PT012
        assert wait_until(lambda: len(running(marker)) >= 2, 60)
        raise KeyboardInterrupt
    assert wait_until(lambda: running(marker) == [], 60)


def test_a_missing_program_names_its_package_and_leaves_nothing_running(tmp_path: Path, marker: str) -> None:
    with pytest.raises(PrerequisiteError, match="no-such-tool is not on this host") as caught:
        find_tool("no-such-tool", "some-package")
    assert "apt-get install some-package" in caught.value.remedy
    with pytest.raises(PrerequisiteError, match="no-such-tool"):
        write_through((sh("sleep 600"), Stage(("no-such-tool",))), tmp_path / "out")
    with pytest.raises(PrerequisiteError, match="/nowhere/tool is not there or cannot be run"):
        run(Stage(("/nowhere/tool",)))
    assert os.listdir(tmp_path) == []
    assert wait_until(lambda: running(marker) == [], 60)


def test_a_program_that_cannot_start_ends_those_before_it(tmp_path: Path, marker: str) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(PipelineError):
        write_through((sh("yes"), Stage((str(broken),))), tmp_path / "out")
    assert wait_until(lambda: running(marker) == [], 60)


def test_the_present_folder_is_never_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted").write_text("#!/bin/sh\n")
    (tmp_path / "planted").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in ("", ":/usr/bin", "/usr/bin:"):
        monkeypatch.setenv("PATH", path)
        with pytest.raises(PrerequisiteError):
            find_tool("planted")
    monkeypatch.delenv("PATH")
    assert find_tool("true") == shutil.which("true", path="/usr/bin:/bin")
    assert find_tool("planted", extra_folders=[str(tmp_path)]) == str(tmp_path / "planted")


def test_the_environment_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PWD", "canary-secret")
    monkeypatch.setenv("TZ", "Asia/Jakarta")
    shown = run(Stage(("env",), environment={"X": "y"})).stdout.decode()
    assert "canary-secret" not in shown
    assert {"TZ=UTC", "LC_ALL=C.UTF-8", "X=y"} <= set(shown.splitlines())
    monkeypatch.delenv("PATH")
    assert child_environment({})["PATH"].startswith("/usr/local/sbin")


def test_run_gives_output_status_and_the_end_of_stderr() -> None:
    done = run(sh("cat; echo oops >&2; exit 3"), stdin=b"data", check=False)
    assert (done.stdout, done.stderr, done.status, done.ok) == (b"data", "oops\n", 3, False)
    with pytest.raises(PipelineError, match="bash ended with status 3: oops"):
        run(sh("echo oops >&2; exit 3"))


def test_run_ends_what_takes_too_long(marker: str) -> None:
    with pytest.raises(PipelineError, match=r"0\.3 seconds"):
        run(sh("sleep 600 & sleep 600"), timeout=0.3)
    assert wait_until(lambda: running(marker) == [], 60)


def test_run_is_interrupted_and_leaves_nothing(marker: str) -> None:
    main = threading.get_ident()

    def listens() -> bool:
        # A child is seen before Popen has returned and told whom to kill.
        names = {frame.f_code.co_name for frame, _line in traceback.walk_stack(sys._current_frames()[main])}
        return "communicate" in names and bool(running(marker))

    def interrupt() -> None:
        wait_until(listens, 120)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(sh("sleep 600"))
    assert wait_until(lambda: running(marker) == [], 60)


def test_a_flood_of_stderr_does_not_grow_memory_and_its_end_is_kept(tmp_path: Path) -> None:
    flood = "yes 'nothing but noise' | head -c 100000000 >&2; echo 'the last word' >&2; exit 2"
    before = peak_kib()
    with pytest.raises(PipelineError, match="the last word"):
        write_through((sh(flood),), tmp_path / "out")
    done = run(sh(flood), check=False)
    assert done.stderr.endswith("the last word\n")
    assert len(done.stderr) <= 2 * module.STDERR_KEPT_BYTES
    assert peak_kib() - before < 16 * 1024


def test_stderr_that_a_grandchild_keeps_open_does_not_hang(marker: str) -> None:
    begin = time.monotonic()
    with Pipeline([sh("sleep 300 >/dev/null & echo said >&2")]) as pipeline:
        pipeline.output.read()
        finished = pipeline.wait()
    assert finished[0].stderr == "said\n"
    assert time.monotonic() - begin < 120
    for pid in running(marker):
        os.kill(pid, signal.SIGKILL)


def test_a_full_disk_is_said_and_nothing_stays(small_disk: Path, marker: str) -> None:
    (small_disk / "older").write_text("kept")
    with pytest.raises(RepositoryFullError, match=r"is full \(\d+ bytes free\)") as caught:
        write_through((sh("head -c 50000000 /dev/urandom"), Stage(("cat",))), small_disk / "out")
    assert "Free space" in caught.value.remedy
    assert os.listdir(small_disk) == ["older"]
    assert wait_until(lambda: running(marker) == [], 60)


def test_a_disk_that_fails_at_the_last_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    monkeypatch.setattr(module, "_WRITE_BACK_EVERY_BYTES", 1000)
    with pytest.raises(RepositoryError, match="Input/output error"):
        write_through((sh("head -c 5000000 /dev/zero"),), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_children_die_with_their_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Stage, write_through\n"
        "write_through((Stage(('sleep', '601')), Stage(('cat',))), Path(sys.argv[1]))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")

        def programs() -> list[str]:
            # Each is another program first, which asks for its parent's death to be its own.
            return sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in children.read_text().split())

        assert wait_until(lambda: programs() == ["cat", "sleep"], 60)
        pids = [int(each) for each in children.read_text().split()]
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), 60)
    finally:
        parent.kill()


def test_memory_is_flat_whatever_the_size(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Stage, write_through\n"
        "write_through((Stage(('head', '-c', sys.argv[2], '/dev/zero')),), Path(sys.argv[1]))\n"
        # Not ru_maxrss: that counts what the process was before exec, too.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )

    def peak(size: int) -> int:
        target = tmp_path / str(size)
        done = subprocess.run(
            [sys.executable, "-c", code, str(target), str(size)],
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        )
        assert target.stat().st_size == size
        target.unlink()
        return int(done.stdout)

    small, large = peak(1_000_000), peak(1_000_000_000)
    assert large < 64 * 1024
    assert large - small < 6 * 1024
