# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in force is recorded when it changes, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.ledger import ledger_entry
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository

CALENDAR: dict[str, Any] = {
    "zone": "Asia/Jakarta",
    "schedule": {"log_cycle": {"every_minutes": 10}},
    "instances": ["a"],
}
OTHER: dict[str, Any] = {**CALENDAR, "schedule": {"log_cycle": {"every_minutes": 5}}}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "repository")


def count(repository: Repository) -> int:
    return len(list(repository.ledger.records()))


def test_the_same_again_adds_nothing(repository: Repository) -> None:
    first = ledger_entry(repository.root, "calendar", CALENDAR, once=True)
    again = ledger_entry(repository.root, "calendar", dict(reversed(list(CALENDAR.items()))), once=True)
    assert (first["changed"], again) == (True, {"changed": False, "head": first["head"]})
    assert count(repository) == 1


def test_back_to_what_was_in_force_before_is_recorded(repository: Repository) -> None:
    """Only the newest counts: a calendar that returns came into force a second time."""
    for data in (CALENDAR, OTHER, CALENDAR):
        assert ledger_entry(repository.root, "calendar", data, once=True)["changed"]
    assert count(repository) == 3


def test_other_instances_activities_and_runs_do_not_count(repository: Repository) -> None:
    ledger_entry(repository.root, "calendar", CALENDAR, instance="simrs")
    ledger_entry(repository.root, "note", CALENDAR)
    repository.ledger.append("finished", "calendar", "r1", data=CALENDAR)
    assert ledger_entry(repository.root, "calendar", CALENDAR, once=True)["changed"]
    assert not ledger_entry(repository.root, "calendar", CALENDAR, instance="simrs", once=True)["changed"]


def test_without_once_every_entry_counts(repository: Repository) -> None:
    for _time in range(2):
        assert ledger_entry(repository.root, "note", CALENDAR)["changed"]
    assert count(repository) == 2


def test_check_mode_says_truly_what_would_change(repository: Repository) -> None:
    assert ledger_entry(repository.root, "calendar", CALENDAR, once=True, check_only=True)["changed"]
    ledger_entry(repository.root, "calendar", CALENDAR, once=True)
    assert not ledger_entry(repository.root, "calendar", CALENDAR, once=True, check_only=True)["changed"]
    assert ledger_entry(repository.root, "calendar", OTHER, once=True, check_only=True)["changed"]
    assert count(repository) == 1


def test_keys_and_values_compare_as_the_ledger_keeps_them(repository: Repository) -> None:
    """A tuple comes back from the ledger as a list, a number as a key comes back as text."""
    data = {"days": (1, 2), "names": {1: "one"}}
    assert ledger_entry(repository.root, "calendar", data, once=True)["changed"]
    assert not ledger_entry(repository.root, "calendar", data, once=True)["changed"]
