# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the stream in staging goes once it is archived, and what must stay."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import staging
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import LogRecord
from tests.unit.test_mariadb_binlog import WHEN, Maker

OLD, NEW = "20260919T050000Z-11", "20260919T060000Z-12"


def record(name: str, created: int = WHEN) -> LogRecord:
    return LogRecord({"name": name, "start": {"created": created}})


def put(folder: Path, *names: str, created: int = WHEN) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = Maker().gtid_list().data
    for name in names:
        (folder / name).write_bytes(data[:4] + created.to_bytes(4, "little") + data[8:])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_archived_logs_go_and_the_newest_stays(tmp_path: Path) -> None:
    put(tmp_path / OLD, "bin.000001", "bin.000002")
    put(tmp_path / NEW, "bin.000002", "bin.000003", "bin.000004")
    (tmp_path / "receiver.json").write_text("{}")
    staging.prune(tmp_path, record("bin.000002"), None)
    assert names(tmp_path) == [NEW, "receiver.json"]
    assert names(tmp_path / NEW) == ["bin.000003", "bin.000004"]
    staging.prune(tmp_path, record("bin.000004"), None)
    assert names(tmp_path / NEW) == ["bin.000004"]


def test_what_is_not_archived_stays(tmp_path: Path) -> None:
    put(tmp_path / OLD, "bin.000001", "bin.000005", "other.000001")
    put(tmp_path / NEW, "bin.000001", created=WHEN + 100)  # numbered anew since
    put(tmp_path / NEW, "bin.000002", created=WHEN + 200)
    staging.prune(tmp_path, record("bin.000003"), None)
    assert names(tmp_path / OLD) == ["bin.000005", "other.000001"]
    assert names(tmp_path / NEW) == ["bin.000001", "bin.000002"]


def test_folders_older_than_the_chain_go(tmp_path: Path) -> None:
    put(tmp_path / OLD, "bin.000009")
    put(tmp_path / NEW, "bin.000001")
    opened = datetime(2026, 9, 19, tzinfo=timezone.utc)
    os.utime(tmp_path / OLD / "bin.000009", (opened.timestamp() - 5,) * 2)
    staging.prune(tmp_path, record("bin.000001"), opened)
    assert names(tmp_path) == [NEW]


def test_bytes_behind_the_chain(tmp_path: Path) -> None:
    assert staging.staged_bytes(tmp_path / "nowhere", "bin.000002", 10) == 0
    put(tmp_path / OLD, "bin.000009")
    put(tmp_path / NEW, "bin.000001", "bin.000002", "bin.000003", "other.000007")
    size = (tmp_path / NEW / "bin.000001").stat().st_size
    assert staging.staged_bytes(tmp_path, "bin.000002", 10) == 2 * size - 10
    assert staging.staged_bytes(tmp_path, "bin.000007", 0) == 0
