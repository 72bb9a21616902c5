# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How people name a moment, and what they are told where they name none."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.wal_stream import (
    WalError,
    WalReader,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.targets import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("yesterday", "", "The target 'yesterday' is not known. Use one of: latest, set, time, gtid, lsn."),
        ("latest", "0-1-1", "The target is latest, and the moment '0-1-1' is named too."),
        ("time", "", "The target is time, and no moment is named. Write it like 2026-09-19T02:30:00+07:00."),
        (
            "time",
            "2026-11-23 02:30",
            "has no UTC offset, so it could mean several moments. Add it: 2026-11-23T02:30+07:00",
        ),
        ("time", "2026-11-23T02:30:00.5", "Add it: 2026-11-23T02:30:00.5+07:00"),
        ("time", "2026-11-23", "has no UTC offset"),
        ("time", "02:30+07:00", "The time '02:30+07:00' says no day. Write the day, the time and the UTC offset"),
        ("time", "02:30", "says no day"),
        ("time", "last night", "is not an ISO 8601 time. Write it like"),
        ("time", "2026-02-30T02:30:00+07:00", "is not an ISO 8601 time"),
        ("gtid", "", "no moment is named. Write it like 0-1-1234."),
        ("gtid", "1234", "'1234' is no MariaDB GTID. Write it like 0-1-1234."),
        ("gtid", "0-1-5,1-1-7", "Name one alone"),
        ("gtid", "0-1-5; DROP TABLE x", "is no MariaDB GTID"),
        ("lsn", "5000148", "is no PostgreSQL log address (LSN). Write it like 0/5000148."),
        ("lsn", "0/5000148'", "is no PostgreSQL log address"),
    ],
)
def test_what_is_no_moment_is_refused_with_how_to_write_one(kind: str, value: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        Target.parse(kind, value)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T02:30:00+07:00",
        "2026-11-23 02:30:00+07",
        "2026-11-22T19:30:00Z",
        "2026-11-22T19:30Z",
        "2026-11-23T02:30+0700",
        " 2026-11-23T02:30:00.000000+07:00 ",
    ],
)
def test_a_time_can_be_written_in_several_ways(text: str) -> None:
    target = Target.parse("time", text)
    assert target.moment == datetime(2026, 11, 22, 19, 30, tzinfo=timezone.utc)
    assert target.in_the_logs


def test_positions_are_kept_as_the_engines_write_them() -> None:
    assert Target.parse("lsn", "0/15034e0 ").value == "0/15034E0"
    assert Target.parse("gtid", " 0-1-42").value == "0-1-42"
    assert Target.parse("set", "20260919T050000Z-0001").value == "20260919T050000Z-0001"
    assert Target.parse("latest") == Target()


def test_a_position_belongs_to_its_engine() -> None:
    Target.parse("gtid", "0-1-1").check_engine("simrs", "mariadb")
    Target.parse("time", "2026-11-23T02:30:00Z").check_engine("scan", "files")
    with pytest.raises(InputError, match="simrs is of the engine mariadb, which knows no lsn"):
        Target.parse("lsn", "0/1").check_engine("simrs", "mariadb")
    with pytest.raises(InputError, match="lab is of the engine postgresql, which knows no gtid") as refused:
        Target.parse("gtid", "0-1-1").check_engine("lab", "postgresql")
    assert "its lsn" in refused.value.remedy
    with pytest.raises(InputError, match="scan is of the engine files"):
        Target.parse("gtid", "0-1-1").check_engine("scan", "files")


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(8192), b"\xff" * 8192])
def test_what_is_no_log_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(WalError):
        list(WalReader().commits(io.BytesIO(content), 0x1000000))


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2026-11-23T02:30:00+07:00", 7),
        ("2026-11-23T02:30-0330", -3.5),
        ("2026-11-23 02:30:00.5+07", 7),
        ("2026-11-23T02:30Z", 0),
    ],
)
def test_the_answer_is_given_in_the_offset_of_the_question(text: str, hours: float) -> None:
    assert Target.parse("time", text).zone.utcoffset(None) == timedelta(hours=hours)
    assert Target("time", text).moment == Target.parse("time", text).moment
