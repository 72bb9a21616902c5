# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore agent on a real MariaDB server: production runs on the old data or the new, wherever it is interrupted."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PipelineError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from demo.process import wait_until
from demo.servers import MariaDBServer, workspace
from tests.restore_full_support import RESTORE_AGENT, allow_restore, channel, siblings, tree
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
SIMRS = Instance("simrs", "mariadb")
STATE = "0-7-4711"


@dataclass
class Site:
    """A server whose table says ``old``, and a copy of its data in which it says ``new``."""

    server: MariaDBServer
    place: Place
    channel: Channel
    new: Path
    number: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        return {"parts": ["data"], "log_name": "mariadb-bin", "gtid_binlog_state": [STATE]}

    def next_run(self) -> str:
        """Return the name of one more run."""
        self.number += 1
        return f"20260919T05000{self.number % 10}Z-{self.number:08x}"

    def begin(self) -> str:
        """Open a restore and bring the new data; its run."""
        run = self.next_run()
        self.channel.begin(SIMRS, run, self.spec)
        self.channel.receive(SIMRS, run, "data", self.new)
        return run

    def says(self) -> str:
        """Return which data the server runs on."""
        return self.server.value("SELECT kata FROM klinik.tanda") or ""

    def journal(self) -> dict[str, Any]:
        path = self.place.root / "state" / "simrs.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def reset(self) -> None:
        """Bring it to the beginning again."""
        if self.journal():
            self.channel.back(SIMRS, self.journal()["run"])
            self.channel.clean(SIMRS, self.journal()["run"])
        for name in siblings(self.server.datadir):
            shutil.rmtree(self.server.datadir.parent / name)
        assert self.says() == "old"


@pytest.fixture(scope="module")
def made() -> Iterator[Site]:
    with workspace("agent") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        place = make_place(folder / "backup")
        allow_restore(place, "simrs", server)
        server.query("CREATE DATABASE klinik; CREATE TABLE klinik.tanda (kata VARCHAR(9)) SELECT 'new' kata")
        server.stop()
        new = folder / "new"
        shutil.copytree(server.datadir, new, symlinks=True)
        for path in new.glob("mariadb-bin.*"):
            path.unlink()
        server.start()
        server.query("UPDATE klinik.tanda SET kata = 'old'")
        yield Site(server, place, channel(place), new)


@pytest.fixture
def site(made: Site) -> Iterator[Site]:
    yield made
    made.reset()


def test_look_tells_what_is_there_and_changes_nothing(site: Site) -> None:
    before = tree(site.server.datadir)
    look = site.channel.look(SIMRS)
    assert look["running"]
    assert look["answers"]
    assert look["version"].startswith("1")
    part = look["parts"]["data"]
    assert part["path"] == str(site.server.datadir)
    assert part["bytes"] > 1_000_000
    assert part["free_bytes"] > 0
    assert part["mount_point"] is False
    assert look["leftovers"] == []
    assert not look["journal"]
    assert {key: value[0] for key, value in tree(site.server.datadir).items()} == {
        key: value[0] for key, value in before.items()
    }


def test_the_new_data_come_in_and_the_old_stay_beside(site: Site) -> None:
    run = site.begin()
    assert site.says() == "old"  # nothing is exchanged before it is said
    done = site.channel.swap(SIMRS, run)
    assert site.says() == "new"
    old = Path(done["parts"]["data"]["old"])
    assert siblings(site.server.datadir) == [old.name]
    assert (old / "mariadb-bin.000001").exists()
    found = site.server.datadir.stat()
    assert (found.st_uid, found.st_mode) == (site.server.owner.uid, old.stat().st_mode)
    # Its log starts over, in the history it was told, before anybody could write.
    assert site.server.value("SELECT @@gtid_binlog_state") == STATE
    assert site.server.query("SHOW BINARY LOGS")[0][0] == "mariadb-bin.000001"
    site.server.query("UPDATE klinik.tanda SET kata = 'neu'; UPDATE klinik.tanda SET kata = 'new'")
    assert (site.server.value("SELECT @@gtid_binlog_pos") or "").endswith("-4713")
    assert site.channel.swap(SIMRS, run) == done  # asked again, it says the same
    assert site.channel.back(SIMRS, run)["changed"]
    assert site.says() == "old"


def test_a_folder_of_this_host_is_renamed_into_place(site: Site) -> None:
    run = site.next_run()
    site.channel.begin(SIMRS, run, site.spec)
    copy = site.new.with_name("copy")
    shutil.copytree(site.new, copy, symlinks=True)
    assert site.channel.adopt(SIMRS, run, "data", copy)
    assert not copy.exists()
    site.channel.swap(SIMRS, run)
    assert site.says() == "new"


def test_binary_logs_in_a_folder_of_their_own_start_over_there(site: Site) -> None:
    logs = site.server.base / "binlog"
    logs.mkdir()
    site.server.owner.give(logs)
    site.server.stop()
    site.server.options["log_bin"] = str(logs / "mariadb-bin")
    site.server.start()
    allow_restore(site.place, "simrs", site.server, binlog_dir=str(logs))
    try:
        site.server.query("UPDATE klinik.tanda SET kata = 'old'")
        run = site.begin()
        done = site.channel.swap(SIMRS, run)
        assert site.says() == "new"
        assert site.server.value("SELECT @@gtid_binlog_state") == STATE
        assert (Path(done["parts"]["logs"]["old"]) / "mariadb-bin.000001").exists()
        site.channel.back(SIMRS, run)
        assert site.says() == "old"
        assert STATE not in (site.server.value("SELECT @@gtid_binlog_state") or "")
        site.channel.clean(SIMRS, run)
    finally:
        site.server.stop()
        del site.server.options["log_bin"]
        site.server.start()
        allow_restore(site.place, "simrs", site.server)
        for name in siblings(logs):
            shutil.rmtree(logs.parent / name)


# -- interrupted --


def agent_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dbcontinuity_restore_agent", RESTORE_AGENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def killed_while_swapping(site: Site, run: str, when: str) -> None:
    """Swap, and be gone without a word: after a step was journalled, or after so many renames."""
    child = os.fork()
    if not child:
        try:
            agent: Any = agent_module()
            if when.startswith("rename"):
                left = [int(when[-1])]
                rename = agent._rename

                def renaming(source: str, target: str) -> None:
                    rename(source, target)
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)

                agent._rename = renaming
            else:
                write = agent.Journal.write

                def writing(self: Any, phase: str, **values: Any) -> None:
                    write(self, phase, **values)
                    if phase == when:
                        os.kill(os.getpid(), signal.SIGKILL)

                agent.Journal.write = writing
            agent.swap(agent.load(Path(site.place.root / "agent"), "simrs"), run)
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), status


STEPS = ["stopping", "moving", "rename1", "rename2", "starting", "swapped"]


@pytest.mark.parametrize("when", STEPS)
@pytest.mark.parametrize("then", ["back", "swap"])
def test_killed_at_any_step_either_verb_heals(site: Site, when: str, then: str) -> None:
    run = site.begin()
    killed_while_swapping(site, run, when)
    assert site.journal()["phase"] == {"rename1": "moving", "rename2": "moving"}.get(when, when)
    if when == "rename1":
        assert not site.server.datadir.exists()  # the worst moment: only the journal knows
    getattr(site.channel, then)(SIMRS, run)
    assert site.says() == ("old" if then == "back" else "new")
    if then == "back":
        site.channel.clean(SIMRS, run)
        assert siblings(site.server.datadir) == []


@pytest.mark.parametrize("when", ["moving", "rename1"])
def test_another_restore_does_not_begin_on_half_exchanged_data(site: Site, when: str) -> None:
    run = site.begin()
    killed_while_swapping(site, run, when)
    with pytest.raises(PipelineError, match=f"{run} was interrupted while it was moving"):
        site.channel.begin(SIMRS, site.next_run(), site.spec)
    with pytest.raises(PipelineError, match="has to go back, or on, first"):
        site.channel.clean(SIMRS, run)


def test_the_exchange_goes_on_when_its_caller_is_killed(site: Site) -> None:
    go_on = site.server.base / "go-on"
    stop = f"until [ -e '{go_on}' ]; do sleep 0.05; done; exec mariadb-admin --no-defaults --socket='{site.server.socket}' shutdown"
    allow_restore(site.place, "simrs", site.server, stop=["sh", "-c", stop])
    run = site.begin()
    caller = subprocess.Popen(site.channel.argv("swap", "simrs", run), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert wait_until(lambda: site.journal()["phase"] == "stopping", 60)
        caller.kill()
        caller.wait()
        assert site.says() == "old"  # the exchange is before it, not behind
    finally:
        go_on.touch()
        caller.kill()
        caller.communicate()
        allow_restore(site.place, "simrs", site.server)
    assert site.channel.swap(SIMRS, run)["parts"]["data"]["path"] == str(site.server.datadir)
    assert site.says() == "new"


# -- what fails goes back --


def test_data_that_no_server_starts_on_go_back_by_themselves(site: Site) -> None:
    broken = site.new.with_name("broken")
    shutil.copytree(site.new, broken, symlinks=True)
    (broken / "ibdata1").write_bytes(b"no tablespace")
    run = site.next_run()
    site.channel.begin(SIMRS, run, site.spec)
    site.channel.receive(SIMRS, run, "data", broken)
    with pytest.raises(PipelineError, match="the old data were put back, and production runs on them"):
        site.channel.swap(SIMRS, run)
    assert site.says() == "old"
    assert site.journal()["phase"] == "returned"
    site.channel.clean(SIMRS, run)
    assert siblings(site.server.datadir) == []
    shutil.rmtree(broken)


def test_without_old_data_there_is_nothing_to_go_back_to(site: Site) -> None:
    site.server.stop()
    away = site.server.datadir.with_name("away")
    site.server.datadir.rename(away)
    run = site.begin()
    site.channel.swap(SIMRS, run)
    assert site.says() == "new"
    assert site.channel.back(SIMRS, run)["phase"] == "returned"
    assert not site.server.datadir.exists()
    site.channel.clean(SIMRS, run)
    assert siblings(site.server.datadir) == []
    away.rename(site.server.datadir)
    site.server.start()


def test_a_server_that_opens_another_history_goes_back(site: Site) -> None:
    run = site.next_run()
    site.channel.begin(SIMRS, run, {**site.spec, "log_name": "other-bin"})
    site.channel.receive(SIMRS, run, "data", site.new)
    with pytest.raises(PipelineError, match="log_bin or its folder is not what the backup"):
        site.channel.swap(SIMRS, run)
    assert site.says() == "old"


def test_a_server_that_hangs_is_killed_and_its_data_are_kept(site: Site) -> None:
    allow_restore(site.place, "simrs", site.server, stop=["false"])
    run = site.begin()
    try:
        site.channel.swap(SIMRS, run)
        assert site.says() == "new"
    finally:
        allow_restore(site.place, "simrs", site.server)


def test_what_did_not_come_whole_is_not_exchanged(site: Site) -> None:
    run = site.next_run()
    site.channel.begin(SIMRS, run, site.spec)
    words = site.channel.argv("receive", "simrs", run, "data")
    packed = subprocess.run(["tar", "-C", str(site.new), "-c", "."], capture_output=True, check=True).stdout
    done = subprocess.run(words, input=packed[: len(packed) // 2], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"DBC-AGENT" in done.stderr
    with pytest.raises(PipelineError, match=r"data of the restore .* has not been received whole"):
        site.channel.swap(SIMRS, run)
    assert site.says() == "old"
    site.channel.clean(SIMRS, run)
    assert siblings(site.server.datadir) == []


# -- refusals --


def test_what_is_not_allowed_is_refused_and_nothing_is_touched(site: Site) -> None:
    before = siblings(site.server.datadir)
    with pytest.raises(PipelineError, match="not allowed on this host"):
        site.channel.look(Instance("lain", "mariadb"))
    (site.place.root / "agent" / "tanpa.json").write_text('{"engine": "mariadb"}')
    with pytest.raises(PipelineError, match="lets nobody restore"):
        site.channel.look(Instance("tanpa", "mariadb"))
    with pytest.raises(PipelineError, match="has no place for 17000"):
        site.channel.begin(SIMRS, site.next_run(), {"parts": ["data", "17000"]})
    run = site.next_run()
    site.channel.begin(SIMRS, run, {**site.spec, "log_name": "../../../tmp/x"})
    with pytest.raises(PipelineError, match="cannot be meant"):
        site.channel.receive(SIMRS, run, "data", site.new)
    site.channel.clean(SIMRS, run)
    for verb in ("swap", "back"):
        with pytest.raises(PipelineError, match="is not open on production; open: none"):
            getattr(site.channel, verb)(SIMRS, site.next_run())
    for words in (["look", "../simrs"], ["receive", "simrs", "x;y", "data"], ["rm", "simrs", "20260919T050000Z-1"]):
        done = subprocess.run(
            [str(RESTORE_AGENT), "--config", str(site.place.root / "agent"), *words], capture_output=True, check=False
        )
        assert done.returncode == 1, words
    assert siblings(site.server.datadir) == before
    assert site.says() == "old"


def test_a_caller_from_elsewhere_names_no_folder_of_this_host(site: Site) -> None:
    run = site.next_run()
    site.channel.begin(SIMRS, run, site.spec)
    done = subprocess.run(
        [str(RESTORE_AGENT), "--config", str(site.place.root / "agent")],
        input=os.fsencode(site.new),
        env={**os.environ, "SSH_ORIGINAL_COMMAND": f"adopt simrs {run} data"},
        capture_output=True,
        check=False,
    )
    assert b"only a caller on this host" in done.stderr
    assert site.new.exists()


# -- SQL --


def test_sql_answers_and_stops_at_the_first_error(site: Site) -> None:
    site.server.query("CREATE DATABASE `aneh.\"nama'`; CREATE TABLE `aneh.\"nama'`.t (i INT, s TEXT)")
    try:
        database = "aneh.\"nama'"
        assert site.channel.sql(
            SIMRS, "INSERT INTO t VALUES (1, 'a\\tb\\nc'), (2, NULL); SELECT * FROM t;", database
        ) == [
            ["1", "a\tb\nc"],
            ["2", None],
        ]
        with pytest.raises(PipelineError, match="nirvana"):
            site.channel.sql(SIMRS, "INSERT INTO nirvana VALUES (1); DELETE FROM t;", database)
        assert site.channel.sql(SIMRS, "SELECT COUNT(*) FROM t;", database) == [["2"]]
    finally:
        site.server.query("DROP DATABASE `aneh.\"nama'`")


# -- mount points --


def backed_up(site: Site) -> list[str]:
    """Make a physical backup; the paths in it."""
    target = site.place.root / "physical"
    words = ["mariadb-backup", "--no-defaults", "--backup", f"--target-dir={target}", f"--socket={site.server.socket}"]
    subprocess.run([*words, f"--datadir={site.server.datadir}", "--user=root"], capture_output=True, check=True)
    found = [str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()]
    shutil.rmtree(target)
    assert "klinik/tanda.ibd" in found
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_data_directory_that_is_a_mount_point_has_its_content_moved(site: Site) -> None:
    site.server.stop()
    disk = site.server.base / "disk"
    site.server.datadir.rename(disk)
    site.server.datadir.mkdir()
    subprocess.run(["mount", "--bind", str(disk), str(site.server.datadir)], check=True)
    try:
        site.server.start()
        assert site.channel.look(SIMRS)["parts"]["data"]["mount_point"]
        for when in ("", "rename1", "rename9", "starting"):
            run = site.begin()
            if when:
                killed_while_swapping(site, run, when)
            done = site.channel.swap(SIMRS, run)
            assert site.says() == "new"
            assert not [path for path in backed_up(site) if "dbcontinuity" in path and not path.endswith("db.opt")]
            assert (Path(done["parts"]["data"]["old"]) / "klinik").is_dir()
            site.channel.back(SIMRS, run)
            assert site.says() == "old"
            site.channel.clean(SIMRS, run)
            assert [name for name in os.listdir(site.server.datadir) if "dbcontinuity" in name] == []
    finally:
        site.server.stop()
        for _attempt in range(300):
            if subprocess.run(["umount", str(site.server.datadir)], check=False).returncode == 0:
                break
            time.sleep(0.1)
        site.server.datadir.rmdir()
        disk.rename(site.server.datadir)
        site.server.start()
