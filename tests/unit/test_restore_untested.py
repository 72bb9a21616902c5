# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each new full backup is tested soon, and none twice: which instances that leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore_test import (
    RestoreTestRequest,
    restore_test,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.report import restore_test_report

OLD, NEW = "20260912T050000Z-0001", "20260919T050000Z-0001"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "repository")


@pytest.fixture
def request_(repository: Repository, tmp_path: Path) -> RestoreTestRequest:
    return RestoreTestRequest(
        instances=[Instance("simrs", "files"), Instance("lis", "files")],
        repository=repository.root,
        protection=Protection((), None),
        folder=tmp_path / "scratch",
        untested=True,
    )


def held(repository: Repository, instance: str, *names: str) -> None:
    """Let there be sets; what is in them does not matter to the choice."""
    for name in names:
        (repository.root / instance / "full" / name).mkdir(parents=True)


def record(repository: Repository, instance: str, name: str, result: str = "succeeded", run: str = "r1") -> None:
    """Let the ledger know of a test of a set."""
    data = {"result": result, "target": "latest", "source": {"set": name}}
    repository.ledger.append("finished", "restore_test", run, instance=instance, data=data)


def chosen(request: RestoreTestRequest) -> list[str]:
    """Return what would be tested; in check mode nothing is brought up."""
    return list(restore_test(replace(request, check_only=True), Progress())["instances"])


def test_nothing_new_is_no_failure_changes_nothing_and_says_so(
    repository: Repository, request_: RestoreTestRequest
) -> None:
    held(repository, "simrs", OLD, NEW)
    record(repository, "simrs", NEW)
    before = str(repository.ledger.head())
    answer = restore_test(request_, Progress())
    assert (answer["changed"], answer["failed"], answer["instances"]) == (False, [], {})
    assert answer["left_out"] == {
        "simrs": f"its newest full backup {NEW} was brought back by run r1",
        "lis": "there is no full backup yet",
    }
    assert "report" not in answer
    assert not request_.folder.exists()
    assert not (repository.root / "reports").exists()
    assert str(repository.ledger.head()) == before
    shown = restore_test_report(answer, "Asia/Jakarta")
    assert f"simrs: not tested: its newest full backup {NEW} was brought back by run r1" in shown
    assert "There is no new full backup to test." in shown


def test_the_newest_set_counts_alone(repository: Repository, request_: RestoreTestRequest) -> None:
    held(repository, "simrs", OLD, NEW)
    held(repository, "lis", OLD)
    record(repository, "simrs", OLD)
    record(repository, "lis", OLD)
    assert chosen(request_) == ["simrs"]


def test_a_test_that_failed_or_of_another_instance_counts_for_nothing(
    repository: Repository, request_: RestoreTestRequest
) -> None:
    held(repository, "simrs", NEW)
    held(repository, "lis", NEW)
    record(repository, "simrs", NEW, "failed")
    record(repository, "lis", NEW)
    assert chosen(request_) == ["simrs"]


def test_a_success_stands_whatever_failed_later(repository: Repository, request_: RestoreTestRequest) -> None:
    """A later test of the same set with more logs may fail: that is a finding of the logs, not a set untested."""
    held(repository, "simrs", NEW)
    record(repository, "simrs", NEW)
    record(repository, "simrs", NEW, "failed", "r2")
    assert chosen(request_) == []


def test_a_ledger_that_cannot_be_read_lets_the_set_be_tested_again(
    repository: Repository, request_: RestoreTestRequest
) -> None:
    held(repository, "simrs", NEW)
    record(repository, "simrs", NEW)
    (path,) = (repository.root / "ledger").glob("*.jsonl")
    path.write_bytes(b"{no record\n" + path.read_bytes())
    assert chosen(request_) == ["simrs"]


def test_without_the_option_everything_is_tested(repository: Repository, request_: RestoreTestRequest) -> None:
    held(repository, "simrs", NEW)
    record(repository, "simrs", NEW)
    answer = restore_test(replace(request_, untested=False, check_only=True), Progress())
    assert (list(answer["instances"]), answer["left_out"]) == (["simrs", "lis"], {})


@pytest.mark.parametrize(
    "changes",
    [
        {"set_name": OLD},
        {"target": Target("set", OLD)},
        {"target": Target("time", "2026-09-19T02:30:00+07:00")},
    ],
)
def test_it_chooses_the_set_by_itself(request_: RestoreTestRequest, changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="chooses the set by itself"):
        restore_test(replace(request_, **changes), Progress())  # type: ignore[arg-type]  # each has its field's type
