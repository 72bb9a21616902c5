# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GTIDs and states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.binlog_server import (
    split_name,
    successor,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.gtid import (
    Gtid,
    GtidState,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError

GTIDS = st.lists(st.builds(Gtid, st.integers(0, 3), st.integers(1, 3), st.integers(1, 99)), max_size=12)


def test_last_server_of_a_domain_counts() -> None:
    one, other = GtidState.parse("0-1-5,0-2-7"), GtidState.parse("0-2-7,0-1-5")
    assert one != other
    assert (one.position, other.position) == ("0-2-7", "0-1-5")
    assert one.covers(other)
    assert other.covers(one)


@given(GTIDS)
def test_text_gives_the_same_state(gtids: list[Gtid]) -> None:
    state = GtidState(gtids)
    again = GtidState.parse(str(state))
    assert again == state
    assert hash(again) == hash(state)
    shown = ",\n".join(str(state).split(","))
    assert GtidState.found_in(f"[{shown}]") == state
    assert state.copy() == state
    assert bool(state) == bool(gtids)


@given(GTIDS, GTIDS)
def test_covering(before: list[Gtid], after: list[Gtid]) -> None:
    state = GtidState(before)
    later = state.copy()
    for gtid in after:
        newest = max(gtid.sequence, *(each.sequence for each in [*before, *after]))
        later.add(gtid._replace(sequence=newest))
    assert later.covers(state)
    assert not GtidState().covers(GtidState([Gtid(0, 1, 1)]))


@pytest.mark.parametrize("text", ["0-1", "0-1-2-3", "a-1-2", "0-1-2;0-1-3", "-1-1-1", "0-1-" + "9" * 21])
def test_what_is_no_gtid(text: str) -> None:
    with pytest.raises(InputError, match="no MariaDB GTID"):
        GtidState.parse(text)


def test_positions() -> None:
    def agree(state: str, position: str) -> bool:
        return GtidState.parse(state).agrees_with(GtidState.parse(position))

    assert agree("0-1-2,1-1-1", "1-1-1, 0-1-2")
    assert agree("0-2-1,0-1-2", "0-1-2")  # the state tells all servers, the position each domain's last
    assert agree("", "")
    assert agree("", "5-9-100")  # a replica once, that has logged nothing of its own
    assert agree("0-1-2", "0-1-2,5-9-100")
    assert agree("0-1-2,6-9-1", "0-1-2")
    assert not agree("0-1-2", "")
    assert not agree("0-1-2", "0-1-3")
    assert not agree("0-1-2", "0-2-2")


def test_names() -> None:
    assert split_name("mariadb-bin.000009") == ("mariadb-bin", 9)
    assert successor("mariadb-bin.000009") == "mariadb-bin.000010"
    assert successor("bin.999999") == "bin.1000000"
    assert split_name("mariadb-bin.index")[1] == -1
