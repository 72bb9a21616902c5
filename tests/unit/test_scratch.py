# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The non-active folder: what is refused, with nothing touched, and what an aborted run leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timezone
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import scratch, throwaway
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import scratch as mariadb_scratch
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch_registry import restore_problem
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    InputError,
    LockHeldError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import run
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import (
    Assertion,
    Expectations,
    judge_objects,
    judge_rows,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_trial import moment_of
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scratch import check_folder, claimed
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.throwaway import (
    Daemon,
    Owner,
    Sandbox,
    owner_for,
    present_user,
)
from demo.process import alive, wait_until

ROOT = Path(__file__).parent.parent.parent


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what stands in a folder and how, to see that nothing was touched."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.lstat().st_uid)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "srv" / "repository"
    made.mkdir(parents=True)
    (made / "simrs").mkdir()
    return made


def refused(path: Path, repository: Path, why: str, kind: type[ContinuityError] = ContinuityError) -> ContinuityError:
    """Check that a folder is refused with a reason and a remedy, by a look and by a claim, and nothing is touched."""
    top = repository.parent.parent
    before = everything(top)
    with pytest.raises(kind, match=why) as caught:
        check_folder(path, repository)
    with pytest.raises(kind, match=why), claimed(path, repository, "test"):
        pass
    assert caught.value.remedy
    assert everything(top) == before
    return caught.value


def test_paths_that_cannot_be_meant(tmp_path: Path, repository: Path) -> None:
    refused(Path("scratch"), repository, "not an absolute path", InputError)
    refused(tmp_path / "a" / ".." / "b", repository, "not an absolute path", InputError)
    refused(tmp_path / "two words", repository, "characters", InputError)
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", repository, "is no folder", InputError)
    refused(Path("/"), repository, "contains the repository", InputError)


def test_symbolic_links(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refused(tmp_path / "link", repository, "symbolic link", InputError)
    error = refused(tmp_path / "link" / "below", repository, "symbolic link", InputError)
    assert str(tmp_path / "real" / "below") in error.remedy


def test_the_repository_in_every_direction(tmp_path: Path, repository: Path) -> None:
    refused(repository, repository, "is the repository", InputError)
    refused(repository / "simrs" / "x", repository, "lies in the repository", InputError)
    refused(repository.parent, repository, "contains the repository", InputError)
    shutil.move(repository, tmp_path / "elsewhere")
    (repository.parent / "repository").symlink_to(tmp_path / "elsewhere")
    refused(tmp_path / "elsewhere" / "x", repository, "lies in the repository", InputError)


def test_whatever_is_not_its_own(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "thesis.odt").write_text("years of work")
    refused(folder, repository, "not empty.*thesis.odt", PrerequisiteError)
    (folder / scratch.MARKER).write_text("{}")
    refused(folder, repository, "not empty", PrerequisiteError)
    (folder / scratch.MARKER).unlink()
    (folder / "thesis.odt").unlink()
    with claimed(folder, repository, "test"):
        pass
    (folder / "thesis.odt").write_text("years of work")
    (folder / "work-simrs").mkdir()
    refused(folder, repository, "what is not its own: thesis.odt", PrerequisiteError)


def test_a_folder_others_can_write_into_or_own(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    refused(folder, repository, "Others can write", PrerequisiteError)
    if os.geteuid() == 0:
        folder.chmod(0o755)
        os.chown(folder, 65534, 65534)
        refused(folder, repository, "another user", PrerequisiteError)


@contextmanager
def pretended_server(
    tmp_path: Path, *words: str, cwd: Path | None = None, listen: str = "", inherit: int = 0
) -> Iterator[None]:
    """Run a process that looks like a database server to whoever reads /proc."""
    program = tmp_path / "bin" / "mariadbd"
    program.parent.mkdir(exist_ok=True)
    code = "import socket, sys, time\n"
    code += f"s = socket.socket(socket.AF_UNIX); s.bind({listen!r}); s.listen()\n" if listen else ""
    code += "open('/proc/self/comm', 'w').write('mariadbd'); print('up', flush=True); time.sleep(600)\n"
    program.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(program), *words],
        cwd=cwd or "/",
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        pass_fds=(inherit,) if inherit else (),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield
    finally:
        process.kill()
        process.wait()


def test_folders_of_a_running_server(tmp_path: Path, repository: Path) -> None:
    data = tmp_path / "lib" / "mysql"
    (data / "inside").mkdir(parents=True)
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    space = tmp_path / "space"
    space.mkdir()
    (data / "pg_tblspc").mkdir()
    (data / "pg_tblspc" / "1").symlink_to(space)
    with pretended_server(tmp_path, f"--datadir={data}", listen=str(run_folder / "my.sock")):
        refused(data, repository, "data directory of the running mariadbd", PrerequisiteError)
        refused(data / "inside", repository, "lies in .*data directory", PrerequisiteError)
        refused(tmp_path / "lib", repository, "contains .*data directory", PrerequisiteError)
        refused(run_folder, repository, "socket directory", PrerequisiteError)
        refused(run_folder / "x", repository, "socket directory", PrerequisiteError)
        check_folder(tmp_path / "free", repository)
    check_folder(tmp_path / "lib" / "free", repository)
    with pretended_server(tmp_path, cwd=data):
        refused(data, repository, "data directory", PrerequisiteError)
        refused(space, repository, "tablespace", PrerequisiteError)
        refused(space / "x", repository, "tablespace", PrerequisiteError)


def test_a_socket_named_through_a_link_and_a_folder_held_open(tmp_path: Path, repository: Path) -> None:
    """As Debian's servers do: a socket in /var/run, which is /run, and a descriptor of the data directory itself."""
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    data = tmp_path / "lib" / "mysql"
    data.mkdir(parents=True)
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(descriptor, True)
        with pretended_server(tmp_path, listen=str(tmp_path / "linked" / "my.sock"), inherit=descriptor):
            refused(tmp_path / "real" / "x", repository, "lies in .*socket directory", PrerequisiteError)
            refused(data / "x", repository, "lies in", PrerequisiteError)
            check_folder(tmp_path / "lib" / "beside", repository)
    finally:
        os.close(descriptor)


def test_a_closed_parent_and_a_long_path(tmp_path: Path) -> None:
    other = Owner("someone", 12345, 12345)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PrerequisiteError, match="cannot get to"):
        scratch.check_reach(closed / "scratch", other)
    with pytest.raises(PrerequisiteError, match="too long for a socket"):
        scratch.check_reach(Path("/tmp") / ("x" * 80), present_user())


def test_no_room_says_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"has \d+ bytes free; the copy needs about") as caught:
        scratch.check_room(tmp_path / "not" / "there", 1 << 60)
    assert caught.value.details["needed_bytes"] == 1 << 60


def test_it_is_marked_closed_locked_and_destroyed(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "srv" / "scratch"
    with claimed(folder, repository, "restore test") as claim:
        assert claim.cleaned == []
        assert folder.stat().st_mode & 0o077 == (0o011 if os.geteuid() == 0 else 0)
        with pytest.raises(LockHeldError, match="restore test"), claimed(folder, repository, "restore test"):
            pass
        with claim.work("simrs", present_user()) as work:
            assert work.stat().st_mode & 0o777 == 0o700
            (work / "data").mkdir()
            (work / "data" / "ibdata1").write_text("12345")
            record = claim.destroy(work)
        assert record["files"] == 1
        assert record["bytes"] == 5
        assert record["destroyed_at"]
        with pytest.raises(RuntimeError), claim.work("simrs", present_user()) as work:
            raise RuntimeError("on the way")
        assert sorted(os.listdir(folder)) == [scratch.LOCK, scratch.MARKER]
        with pytest.raises(InputError, match="no copy in the scratch folder"):
            claim.destroy(repository)
        assert repository.is_dir()


def test_what_an_aborted_run_left_is_destroyed_and_recorded(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "scratch"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scratch import claimed\n"
        "from ansible_collections.rspon.dbcontinuity.plugins.module_utils.throwaway import *\n"
        f"with claimed(Path({str(folder)!r}), Path({str(repository)!r}), 'a run') as claim:\n"
        "  with claim.work('simrs', present_user()) as work:\n"
        f"    (work / 'link').symlink_to({str(outside)!r}); (work / 'ibdata1').write_text('12345')\n"
        "    daemon = Daemon(('sleep', '600'), work / 'log', work, {})\n"
        "    print(daemon.pid, work.name, flush=True); time.sleep(600)\n"
    )
    paths = f"{ROOT / 'collections'}:{ROOT}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        # The copy's name: in a folder with a long path it is cut, so that a socket fits behind it.
        child, name = process.stdout.readline().decode().split()
        with pytest.raises(LockHeldError, match="a run"), claimed(folder, repository, "test"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert name.startswith("work-s")
    assert wait_until(lambda: not alive(int(child)), 60)  # the server died with the run
    assert (folder / name / "ibdata1").exists()
    with claimed(folder, repository, "test") as claim:
        assert [Path(each["path"]).name for each in claim.cleaned] == [name]
        assert claim.cleaned[0]["files"] >= 2
    assert (outside / "kept").read_text() == "x"
    assert sorted(os.listdir(folder)) == [scratch.LOCK, scratch.MARKER]


def test_a_process_left_behind_is_named(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "scratch"
    with claimed(folder, repository, "test"):
        pass
    data = folder / "work-simrs" / "data"
    data.mkdir(parents=True)
    with pretended_server(tmp_path, f"--datadir={data}", cwd=data):
        error = refused(folder, repository, "still used by the process", PrerequisiteError)
        assert error.remedy.startswith("End it: kill ")


def test_a_run_at_work_is_named_as_one_and_nobody_is_told_to_end_it(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "scratch"
    with claimed(folder, repository, "restore test") as claim, claim.work("simrs", present_user()) as work:
        (work / "data").mkdir()
        with pretended_server(tmp_path, f"--datadir={work / 'data'}", cwd=work / "data"):
            error = refused(folder, repository, "is held by restore test", LockHeldError)
    assert error.remedy.startswith("Wait for it to end")


def test_two_that_mark_a_new_folder_at_once_do_not_refuse_each_other(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    # As the other run leaves it in the middle of that, also where the power failed then.
    (folder / f".unfinished-4711-{scratch.MARKER}").write_text("{")
    for _time in range(2):
        with claimed(folder, repository, "test"):
            pass
    (folder / ".unfinished-4711-thesis.odt").write_text("years of work")
    refused(folder, repository, "not its own: .unfinished-4711-thesis.odt", PrerequisiteError)


# -- how the programs in it run --


def test_who_runs_a_throwaway() -> None:
    if os.geteuid() != 0:
        with pytest.raises(InputError, match="Only root"):
            owner_for("nobody", ())
        assert owner_for("", ()).uid == os.geteuid()
        return
    assert owner_for("", ("no-such-user", "nobody")).name == "nobody"
    for wrong in ("root", "no-such-user"):
        with pytest.raises(InputError):
            owner_for(wrong, ())
    with pytest.raises(PrerequisiteError, match="None of the users"):
        owner_for("", ("no-such-user",))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give namespaces and other users")
def test_the_sandbox_has_no_network_and_writes_nowhere_else(tmp_path: Path) -> None:
    for folder in tmp_path.parents:
        if folder.stat().st_uid == 0 and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    owner = owner_for("nobody", ())
    owner.give(work)
    target = tmp_path / "open-to-all"
    target.mkdir()
    target.chmod(0o777)
    box = Sandbox(work, owner)
    if not box.isolated:
        pytest.skip("this host gives no namespaces")
    code = (
        "import json, os, socket\n"
        "def fails(act):\n"
        "    try: act()\n"
        "    except OSError as error: return error.errno\n"
        "    return 0\n"
        f"open({str(work / 'mine')!r}, 'w').close()\n"
        "print(json.dumps({'uid': os.getuid(), 'groups': os.getgroups(),\n"
        f" 'run': os.listdir('/run'), 'elsewhere': fails(lambda: open({str(target / 'x')!r}, 'w')), 'tmp': os.environ['TMPDIR'],\n"
        " 'network': fails(lambda: socket.create_connection(('127.0.0.1', PORT), 2))}))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = code.replace("PORT", str(server.getsockname()[1]))
        done = run(box.stage("/usr/bin/python3", "-c", code, label="look"))
    seen = json.loads(done.stdout)
    assert seen["uid"] == owner.uid
    assert seen["groups"] == []
    assert seen["elsewhere"] == 30  # read-only file system
    assert seen["network"] != 0
    assert seen["run"] == []  # production's sockets
    assert seen["tmp"] == str(work / "tmp")
    assert (work / "mine").exists()
    assert list(target.iterdir()) == []


def test_a_daemon_that_ends_or_is_slow_says_so_with_its_log(tmp_path: Path) -> None:
    daemon = Daemon(("sh", "-c", "echo no room >&2; exit 3"), tmp_path / "log", tmp_path, {})
    with pytest.raises(PipelineError, match="ended with status 3: no room"):
        daemon.wait_for(lambda: False, 60, "The server")
    slow = Daemon(("sleep", "60"), tmp_path / "log2", tmp_path, {})
    with pytest.raises(PipelineError, match=r"not ready within 0.2 seconds"):
        slow.wait_for(lambda: False, 0.2, "The server")
    slow.end()
    assert slow.status == -signal.SIGKILL
    assert throwaway.memory_for(0) == 128 * 1024 * 1024


# -- what a copy must hold --


@pytest.mark.parametrize(
    ("expect", "answer", "met"),
    [
        ("150", "150", True),
        ("150", "151", False),
        (">= 150", "150", True),
        ("> 150", "150", False),
        ("<= 2.5", "2.4", True),
        ("!= 0", "0", False),
        (">= 1", "", False),
        ("", "", True),
    ],
)
def test_assertions(expect: str, answer: str, met: bool) -> None:
    assert Assertion("x", "SELECT 1", expect).met_by(answer) is met


def test_expectations_are_looked_at_before_anything_runs() -> None:
    with pytest.raises(InputError, match="names no number"):
        Assertion("x", "SELECT 1", ">= many").met_by("1")
    with pytest.raises(InputError, match="names no number"):
        Expectations.from_json("simrs", {"checks": [{"name": "x", "sql": "SELECT 1", "expect": "< few"}]})
    with pytest.raises(InputError, match="lacks name, sql or expect"):
        Expectations.from_json("simrs", {"checks": [{"name": "x"}]})
    with pytest.raises(InputError, match="rto_minutes of simrs"):
        Expectations.from_json("simrs", {"rto_minutes": "soon"})
    assert Expectations.from_json("simrs", {"rpo_minutes": "10"}).rpo_minutes == 10


def test_objects_and_rows_against_what_was_known() -> None:
    findings, notes = judge_objects({"tables": 5, "views": 2}, {"tables": 4, "views": 3}, exactly_the_set=True)
    assert [each["file"] for each in findings] == ["tables"]
    assert notes == ["views: 3 in the copy, 2 when the backup was made"]
    findings, _notes = judge_objects({"tables": 5, "views": 2}, {"tables": 4, "views": 0}, exactly_the_set=False)
    assert [each["file"] for each in findings] == ["views"]
    before = {"a": 10, "b": 10, "c": 10, "d": 0, "e": 10}
    rows = {"a": 8, "b": 7, "c": 0, "d": 0}
    assert [(each["code"], each["file"]) for each in judge_rows(before, rows, 20, ())] == [
        ("table-shrunk", "b"),
        ("table-emptied", "c"),
        ("table-missing", "e"),
    ]
    assert judge_rows(before, rows, 20, ("b", "c", "e")) == []
    assert judge_rows(before, rows, 20, ("all",)) == []


def test_programs_of_another_release_are_told_before_the_first_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    assert restore_problem("files", "archive", "") == ""
    assert "the series differ" in restore_problem("mariadb", "logical", "5.5.68-MariaDB")
    assert "PostgreSQL 9.6.1" in restore_problem("postgresql", "logical", "9.6.1")
    assert "PostgreSQL 9.6.1" in restore_problem("postgresql", "physical", "9.6.1")
    monkeypatch.setattr(mariadb_scratch, "tool_version", lambda _shown: "10.11.19")
    assert restore_problem("mariadb", "physical", "10.11.6-MariaDB-log") == ""
    assert restore_problem("mariadb", "logical", "10.11.6-MariaDB-log") == ""
    problem = restore_problem("mariadb", "physical", "11.8.6-MariaDB")
    assert "10.11.19" in problem
    assert "/opt/mariadb-11.8/bin" in problem


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-09-19 12:00:00", "2026-09-19T05:00:00+00:00"),
        ("2026-09-19 12:00:00.25", "2026-09-19T05:00:00.250000+00:00"),
        ("2026-09-19 05:00:00+00", "2026-09-19T05:00:00+00:00"),
        ("2026-09-19", "2026-09-18T17:00:00+00:00"),
        ("", None),
        ("0000-00-00 00:00:00", None),
    ],
)
def test_the_newest_rows_time_is_meant_in_the_sites_zone(text: str, moment: str | None) -> None:
    found = moment_of(text, "Asia/Jakarta")
    assert (found.astimezone(timezone.utc).isoformat() if found else None) == moment
