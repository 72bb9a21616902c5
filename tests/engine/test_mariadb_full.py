# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full backup of a real MariaDB server."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    AccessError,
    ContinuityError,
    LockHeldError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.schedule import Window
from demo.servers import MariaDBServer, workspace
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
SLOT = datetime(2026, 9, 19, 5, 0, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("full") as folder, MariaDBServer(folder / "simrs", fast=True) as running:
        running.query(
            "CREATE DATABASE rs; CREATE TABLE rs.pasien (id INT PRIMARY KEY, nama VARCHAR(80));"
            "INSERT INTO rs.pasien SELECT seq, CONCAT('pasien ', seq) FROM mysql.seq_1_to_1000;"
            "CREATE TABLE rs.antrian (no INT) ENGINE=MyISAM;"
        )
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


def request(place: Place, server: MariaDBServer, **changes: object) -> FullBackupRequest:
    values: dict[str, object] = {
        "instance": place.mariadb("simrs", server),
        "repository": place.repository,
        "protection": place.protection,
    }
    values.update(changes)
    return FullBackupRequest(**values)  # type: ignore[arg-type]


def everything_under(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_set_is_published_with_all_that_is_needed_to_restore_it_by_hand(place: Place, server: MariaDBServer) -> None:
    result = full_backup(request(place, server, slot=SLOT, window=Window("Asia/Jakarta", "12:00", "12:30")), Progress())
    assert result["changed"]
    assert result["point_in_time_recovery"]
    found = Repository.open(place.repository).instance("simrs").read_set(result["set"])
    values = found.manifest.values
    assert values["objects"]["tables"] == 2
    assert values["non_transactional_tables"] == ["rs.antrian"]
    assert values["position"]["end"]["file"].count(".") == 1
    assert values["window"]["opens"] == "2026-09-19T05:00:00Z"
    assert values["window"]["kept"] is False
    assert os.listdir(found.path.parent) == [found.id]
    # The commands of the manifest alone bring the tables back.
    target = place.root / "back"
    target.mkdir()
    for command in values["read_by_hand"][:3]:
        text = command.replace("KEY", str(place.root / "operations.key")).replace("FOLDER", str(target))
        subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=found.path, check=True, capture_output=True)
    assert (target / "rs" / "pasien.ibd").stat().st_size > 0
    assert (target / "rs" / "antrian.MYD").exists()


def test_an_mbstream_holds_every_byte_against_its_own_checksums(
    place: Place, server: MariaDBServer, tmp_path: Path
) -> None:
    """zstd adds none to it: this is why it need not."""
    made = Path(full_backup(request(place, server), Progress())["path"]) / "backup.mbstream.zst.age"
    decode = f"age --decrypt -i {place.root / 'operations.key'} '{made}' | zstd -dc"
    content = bytearray(subprocess.run(["bash", "-c", decode], capture_output=True, check=True).stdout)

    def extracted(name: str, data: bytearray) -> int:
        (tmp_path / name).mkdir()
        command = ["mbstream", "--extract", f"--directory={tmp_path / name}"]
        return subprocess.run(command, input=data, capture_output=True, check=False).returncode

    assert extracted("whole", content) == 0
    for number, place_in_it in enumerate((0.1, 0.5, 0.9)):
        at = int(len(content) * place_in_it)
        content[at] ^= 1
        assert extracted(f"altered {number}", content) != 0
        content[at] ^= 1


def test_a_slot_that_has_its_set_gets_no_second_one(place: Place, server: MariaDBServer) -> None:
    first = full_backup(request(place, server, slot=SLOT), Progress())
    before = everything_under(place.repository)
    again = full_backup(request(place, server, slot=SLOT), Progress())
    assert not again["changed"]
    assert again["set"] == first["set"]
    assert everything_under(place.repository) == before
    assert full_backup(request(place, server, slot=SLOT, force=True), Progress())["changed"]


def test_check_mode_writes_nothing(place: Place, server: MariaDBServer) -> None:
    before = everything_under(place.repository)
    result = full_backup(request(place, server, check_only=True), Progress())
    assert result["changed"]
    assert result["plan"]["non_transactional_tables"] == ["rs.antrian"]
    assert everything_under(place.repository) == before


def test_an_account_that_would_hide_triggers_is_refused_before_anything_is_written(
    place: Place, server: MariaDBServer
) -> None:
    wanted = request(place, server)
    server.query("REVOKE TRIGGER ON *.* FROM dbc_ship@'127.0.0.1'")
    before = everything_under(place.repository)
    with pytest.raises(PrerequisiteError, match="TRIGGER"):
        full_backup(wanted, Progress())
    assert everything_under(place.repository) == before


def test_a_wrong_password_names_the_file_and_not_the_password(place: Place, server: MariaDBServer) -> None:
    wanted = request(place, server)
    credentials = place.root / "credentials" / "simrs"
    credentials.write_text(credentials.read_text().replace("password=", "password=wrong-"))
    before = everything_under(place.repository)
    with pytest.raises(AccessError) as caught:
        full_backup(wanted, Progress())
    assert str(credentials) in str(caught.value)
    assert "wrong-" not in str(caught.value)
    assert everything_under(place.repository) == before


def test_the_backup_accounts_missing_privilege_fails_and_publishes_nothing(place: Place, server: MariaDBServer) -> None:
    wanted = request(place, server)
    server.query("REVOKE RELOAD ON *.* FROM dbc_backup@'127.0.0.1'")
    with pytest.raises(ContinuityError, match="RELOAD"):
        full_backup(wanted, Progress())
    folder = Repository.open(place.repository).instance("simrs")
    assert folder.set_names() == []
    assert os.listdir(folder.full) == []
    kinds = [
        (record["kind"], record["data"].get("result")) for record in Repository.open(place.repository).ledger.records()
    ]
    assert kinds == [("started", None), ("finished", "failed")]


def test_the_second_of_two_at_once_says_who_holds_the_lock(place: Place, server: MariaDBServer) -> None:
    wanted = request(place, server)
    with (
        Repository.open(place.repository).instance("simrs").full_lock(),
        pytest.raises(LockHeldError, match=rf"full backup of simrs \(process {os.getpid()} on .* since \d{{4}}-"),
    ):
        full_backup(wanted, Progress())
    assert full_backup(wanted, Progress())["changed"]


def test_a_stream_cut_short_by_the_agent_is_never_a_set(place: Place, server: MariaDBServer) -> None:
    wanted = request(place, server)
    cut = place.root / "cut-agent"
    agent = shlex.quote(str(wanted.instance.agent.program))
    cut.write_text(
        '#!/bin/bash\nif [ "$3" = backup ]; then ' + agent + ' "$@" 2>/dev/null | head -c 100000; exit 0; fi\n'
        f'exec {agent} "$@"\n'
    )
    cut.chmod(0o755)
    instance = wanted.instance
    changed = type(instance)(
        **{**instance.__dict__, "agent": type(instance.agent)(**{**instance.agent.__dict__, "program": str(cut)})}
    )
    with pytest.raises(ContinuityError, match="without saying that its data are whole"):
        full_backup(request(place, server, instance=changed), Progress())
    assert Repository.open(place.repository).instance("simrs").set_names() == []


def test_a_full_repository_leaves_older_sets_untouched(place: Place, server: MariaDBServer) -> None:
    first = full_backup(request(place, server), Progress())
    manifest = Path(first["path"], "manifest.json").read_bytes()
    small = place.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=True)
    try:
        Repository.create(small)
        with pytest.raises(ContinuityError) as caught:
            full_backup(request(place, server, repository=small), Progress())
        assert caught.value.kind in ("repository-full", "prerequisite")
        assert Repository.open(small).instance("simrs").set_names() == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert Path(first["path"], "manifest.json").read_bytes() == manifest
    assert json.loads(manifest)["set"] == first["set"]
