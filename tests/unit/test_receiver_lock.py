# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver's lock: whoever only looks at it keeps nobody from taking it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.receiver_program import hold, lock_is_held


def test_a_look_at_the_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            lock_is_held(path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for each in lookers:
        each.start()
    try:
        for _ in range(300):
            with hold(path):
                assert lock_is_held(path)
    finally:
        over.set()
        for each in lookers:
            each.join()
    assert not lock_is_held(path)


def test_a_held_lock_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path), pytest.raises(BlockingIOError), hold(path):
        pass
