# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks, durable files, clock, windows, protection, names, progress: the small parts that everything stands on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import actor, clock, codec, durable, progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.agent_answer import trailer
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    DamagedError,
    InputError,
    LockHeldError,
    PipelineError,
    PrerequisiteError,
    RepositoryError,
    RepositoryFullError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import (
    Agent,
    absolute,
    between,
    check_name,
    choice,
    is_name,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.locks import exclusive, shared_folder
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import Finished, Stage, write_through
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.schedule import Window, forecast, judge

UTC = timezone.utc


# -- locks --


def test_the_second_is_told_who_holds_the_lock_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with exclusive(path, "full backup of simrs"):
        with pytest.raises(LockHeldError) as caught, exclusive(path, "another"):
            raise AssertionError("not reached")
        assert f"full backup of simrs (process {os.getpid()} on " in str(caught.value)
        assert caught.value.details["path"] == str(path)
    with exclusive(path, "another"):
        pass
    assert path.read_bytes() == b""


@pytest.mark.parametrize("content", [b"", b"5", b"null", b"[]", b"{}", b"\xff", b'{"activity": 1}', b"x" * 5000])
def test_a_lock_whose_file_says_nothing_is_held_all_the_same(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".lock"
    with exclusive(path, "first"):
        path.write_bytes(content)
        with pytest.raises(LockHeldError, match="another process"), exclusive(path, "second"):
            raise AssertionError("not reached")


def test_a_lock_goes_with_the_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from ansible_collections.rspon.dbcontinuity.plugins.module_utils.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'the killed one'):\n    print('held', flush=True); time.sleep(600)\n"
    )
    path = tmp_path / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeldError, match="the killed one"), exclusive(path, "next"):
            raise AssertionError("not reached")
        holder.kill()
        holder.wait()
        with exclusive(path, "next"):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_waiting_for_a_lock_ends_with_its_holder_or_with_patience(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(path, "first"):
            held.set()
            enough.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    with pytest.raises(LockHeldError), exclusive(path, "impatient", wait_seconds=0.1):
        raise AssertionError("not reached")
    ending = threading.Timer(0.3, enough.set)
    ending.start()
    with exclusive(path, "patient", wait_seconds=120):
        assert enough.is_set()
    thread.join()


def test_a_lock_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryError), exclusive(tmp_path / "link", "x"):
        raise AssertionError("not reached")
    assert not (tmp_path / "elsewhere").exists()


def test_any_number_may_read_a_set(tmp_path: Path) -> None:
    with shared_folder(tmp_path), shared_folder(tmp_path):
        pass


# -- durable files --


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    durable.write_json(path, {"a": 1})

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(RepositoryError, match="Input/output error"):
        durable.write_json(path, {"a": 2})
    assert durable.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["file.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_file_system_says_how_much_is_free(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(RepositoryFullError, match=r"is full \(\d+ bytes free\)"),
        durable.writing_to(tmp_path / "no" / "x"),
    ):
        raise OSError(number, "full")
    with pytest.raises(RepositoryError, match="Cannot write"), durable.writing_to(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"5", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedError, match=r"x\.json"):
        durable.read_json(tmp_path / "x.json")
    with pytest.raises(DamagedError, match="is missing"):
        durable.read_json(tmp_path / "none.json")


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    assert durable.make_directory(tmp_path / "a" / "b")
    assert not durable.make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    assert not durable.make_directory(tmp_path / "file")
    with pytest.raises(RepositoryError):
        durable.make_directory(tmp_path / "file" / "x")


def test_sweeping_takes_only_what_is_unfinished_and_follows_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    (folder / ".unfinished-a" / "deep").mkdir(parents=True)
    (folder / ".unfinished-b").write_text("")
    (folder / "kept").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    (folder / ".unfinished-link").symlink_to(outside)
    assert durable.sweep_unfinished(folder) == [".unfinished-a", ".unfinished-b", ".unfinished-link"]
    assert os.listdir(folder) == ["kept"]
    assert (outside / "precious").exists()
    assert durable.sweep_unfinished(tmp_path / "none") == []


# -- clock --


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-19T12:00:00+07:00", "2026-09-19T05:00:00Z"),
        ("2026-09-19T12:00:00+0700", "2026-09-19T05:00:00Z"),
        (" 2026-09-19T05:00:00Z ", "2026-09-19T05:00:00Z"),
        ("2026-09-19T05:00:00z", "2026-09-19T05:00:00Z"),
        ("2026-09-19T05:00:00.123456789Z", "2026-09-19T05:00:00.123456Z"),
        ("2026-09-19T05:00:00.5Z", "2026-09-19T05:00:00.500000Z"),
    ],
)
def test_moments_are_read(text: str, expected: str) -> None:
    assert clock.iso(clock.parse_moment(text)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("yesterday", "not an ISO 8601 time"),
        ("", "not an ISO 8601 time"),
        ("2026-13-01T00:00:00Z", "not an ISO 8601 time"),
        ("750", "not an ISO 8601 time"),
        ("2026-09-19T12:00:00", "has no UTC offset"),
        ("2026-09-19", "has no UTC offset"),
        ("0001-01-01T00:00:00+14:00", "outside the calendar"),
        ("9999-12-31T23:59:59-12:00", "outside the calendar"),
    ],
)
def test_what_is_no_moment_is_named(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        clock.parse_moment(text, "slot")
    assert f"slot {text!r}" in str(caught.value)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)))  # noqa: DTZ001
def test_a_moment_survives_being_written(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert clock.parse_moment(clock.iso(aware)) == aware
    assert clock.from_stamp(clock.stamp(aware)) == aware.replace(microsecond=0)
    with pytest.raises(ValueError, match="without a zone"):
        clock.iso(moment)


@pytest.mark.parametrize(("said", "meant"), [("echo yes", True), ("echo no", False), ("echo", None), ("exit 1", None)])
def test_whether_the_clock_is_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, meant: bool | None
) -> None:
    (tmp_path / "timedatectl").write_text(f"#!/bin/sh\n{said}\n")
    (tmp_path / "timedatectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(clock, "_clock_answer", None)
    assert clock.clock_synchronised() is meant
    monkeypatch.setenv("PATH", "/nonexistent")
    assert clock.clock_synchronised() is meant  # not asked again for a minute
    monkeypatch.setattr(clock, "_CLOCK_SECONDS", -1.0)
    assert clock.clock_synchronised() is None


# -- windows --


def local(zone: str, text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


@pytest.mark.parametrize(
    ("window", "moment", "opens", "closes"),
    [
        (("Asia/Jakarta", "12:00", "12:30"), "2026-09-19T12:10", "2026-09-19T12:00", "2026-09-19T12:30"),
        (("Asia/Jakarta", "12:00", "12:30"), "2026-09-19T12:00", "2026-09-19T12:00", "2026-09-19T12:30"),
        (("Asia/Jakarta", "12:00", "12:30"), "2026-09-19T11:59", "2026-09-18T12:00", "2026-09-18T12:30"),
        (("Asia/Jakarta", "12:00", "12:30"), "2026-09-20T01:00", "2026-09-19T12:00", "2026-09-19T12:30"),
        (("Asia/Jakarta", "23:30", "00:30"), "2026-09-20T00:10", "2026-09-19T23:30", "2026-09-20T00:30"),
        (("Asia/Jakarta", "23:30", "00:30"), "2026-12-31T23:40", "2026-12-31T23:30", "2027-01-01T00:30"),
        (("Asia/Jakarta", "00:00", "23:59"), "2028-02-29T00:00", "2028-02-29T00:00", "2028-02-29T23:59"),
        # Clocks go forward at 02:00 on 2026-03-29 in Berlin: the window over that night is an hour shorter.
        (("Europe/Berlin", "23:00", "05:00"), "2026-03-29T04:00", "2026-03-28T23:00", "2026-03-29T05:00"),
        # They go back at 03:00 on 2026-10-25: an hour longer.
        (("Europe/Berlin", "23:00", "05:00"), "2026-10-25T04:00", "2026-10-24T23:00", "2026-10-25T05:00"),
    ],
)
def test_the_window_a_moment_belongs_to(window: tuple[str, str, str], moment: str, opens: str, closes: str) -> None:
    zone = window[0]
    found = Window(*window).around(local(zone, moment).astimezone(UTC))
    assert found == (local(zone, opens), local(zone, closes))


def test_a_night_with_a_change_of_clocks_has_its_true_length() -> None:
    window = Window("Europe/Berlin", "23:00", "05:00")
    for night, hours in (("2026-03-29T01:00", 5), ("2026-10-25T01:00", 7), ("2026-06-01T01:00", 6)):
        opening, closing = window.around(local("Europe/Berlin", night))
        assert closing.astimezone(UTC) - opening.astimezone(UTC) == timedelta(hours=hours)


def test_an_hour_that_comes_twice_counts_from_its_first() -> None:
    opening, _closing = Window("Europe/Berlin", "02:10", "02:50").around(local("Europe/Berlin", "2026-10-25T02:30", 1))
    assert opening.astimezone(UTC) == datetime(2026, 10, 25, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "why"),
    [
        (("Asia/Jakarta", "750", "12:30"), "without quotes YAML reads 750"),
        (("Asia/Jakarta", "12:00", "750"), "'750' is not HH:MM"),
        (("Asia/Jakarta", "24:00", "12:30"), "'24:00'"),
        (("Asia/Jakarta", "12:60", "12:30"), "'12:60'"),
        (("Asia/Jakarta", "9:00", "12:30"), "'9:00'"),
        (("Asia/Jakarta", "12:00\n", "12:30"), "is not HH:MM"),
        (("Asia/Jakarta", "\u0661\u0662:\u0660\u0660", "12:30"), "is not HH:MM"),
        (("Asia/Jakarta", "12:00", "12:00"), "has no length"),
        (("Asia/Nowhere", "12:00", "12:30"), "'Asia/Nowhere' is not known"),
        (("", "12:00", "12:30"), "time zone '' is not known"),
        (("../etc/passwd", "12:00", "12:30"), "is not known"),
        (("Asia", "12:00", "12:30"), "is not known"),
    ],
)
def test_a_window_that_is_none_is_refused(window: tuple[str, str, str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        Window(*window)


def test_how_a_backup_stands_to_its_window() -> None:
    window = Window("Asia/Jakarta", "12:00", "12:30")
    slot = datetime(2026, 9, 19, 5, 0, tzinfo=UTC)

    def judged(start: int, end: int, given: datetime | None = slot) -> dict[str, Any]:
        return judge(window, given, slot + timedelta(minutes=start), slot + timedelta(minutes=end))

    assert judged(0, 20)["kept"] is True
    assert judged(0, 30)["kept"] is True
    late = judged(10, 40)
    assert (late["kept"], late["started_late_seconds"], late["overran_seconds"]) == (False, 600, 600)
    assert judged(-5, 10)["kept"] is False
    assert judged(24 * 60, 24 * 60 + 5)["kept"] is False  # a day late
    assert judged(24 * 60, 24 * 60 + 5, None)["kept"] is True  # by hand, in its own day's window
    assert late["opens"] == "2026-09-19T05:00:00Z"


def test_the_forecast() -> None:
    window = Window("Asia/Jakarta", "12:00", "12:30")
    now = datetime(2026, 9, 19, 5, 0, tzinfo=UTC)
    assert forecast(window, None, now, 0, 10.0) is None
    assert forecast(window, None, now, 10, 0.0) is None
    for size, fits in ((1800, True), (1801, False)):
        found = forecast(window, now, now, size, 1.0)
        assert found is not None
        assert found["fits"] is fits


# -- protection --


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("keys")

    def make(name: str) -> tuple[Path, str]:
        path = folder / name
        if not path.exists():
            subprocess.run(["age-keygen", "-o", str(path)], capture_output=True, check=True)
        shown = subprocess.run(["age-keygen", "-y", str(path)], capture_output=True, check=True, text=True)
        return path, shown.stdout.strip()

    return make


def test_what_is_encrypted_comes_back(tmp_path: Path, keys: Callable[[str], tuple[Path, str]]) -> None:
    path, public = keys("operations")
    protection = Protection((public, keys("escrow")[1]), path)
    codec.check_protection(protection)
    names = codec.layers(protection)
    assert codec.suffix(names) == ".zst.age"
    sealed = tmp_path / "x.zst.age"
    write_through((Stage(("printf", "secret content")), *codec.encode_stages(protection, 1, 1)), sealed)
    assert b"secret" not in sealed.read_bytes()
    for identity in (path, keys("escrow")[0]):
        plain = tmp_path / identity.name
        write_through(codec.decode_stages(names, Protection((), identity), sealed), plain)
        assert plain.read_text() == "secret content"


def test_without_recipients_it_is_compressed_alone(tmp_path: Path) -> None:
    codec.check_protection(Protection())
    assert codec.layers(Protection()) == ("zstd",)
    assert codec.encode_stages(Protection(), 1, 1, compressed=True) == []
    target = tmp_path / "x.zst"
    write_through((Stage(("printf", "abc")), *codec.encode_stages(Protection(), 3, 2)), target)
    write_through(codec.decode_stages(("zstd",), Protection(), target), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "abc"


@pytest.mark.parametrize("text", ["", "age1", "age1xyz", "AGE1" + "Q" * 58, "-r", "ssh-dss AAAA", "/etc/passwd"])
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no age public key"):
        Protection((text,))


def test_a_line_end_does_not_slip_through(keys: Callable[[str], tuple[Path, str]]) -> None:
    with pytest.raises(InputError):
        Protection((keys("operations")[1] + "\n",))


def test_a_private_key_among_the_recipients_is_refused_and_not_shown(keys: Callable[[str], tuple[Path, str]]) -> None:
    secret = keys("operations")[0].read_text().splitlines()[-1]
    assert secret.startswith("AGE-SECRET-KEY-1")
    for text in (secret, secret.lower(), "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"):
        with pytest.raises(InputError, match="A private key stands among the recipients") as caught:
            Protection((text,))
        assert text not in str(caught.value)
        assert text not in repr(caught.value.details)


def test_recipients_that_the_private_key_does_not_open_are_found_before_the_backup(
    keys: Callable[[str], tuple[Path, str]],
) -> None:
    with pytest.raises(PrerequisiteError, match="does not open what is encrypted to the recipients"):
        codec.check_protection(Protection((keys("escrow")[1],), keys("operations")[0]))
    with pytest.raises(PrerequisiteError, match="age refuses the recipients"):
        codec.check_protection(Protection(("age1" + "q" * 58,)))


def test_decoding_says_what_is_missing(tmp_path: Path) -> None:
    for protection in (Protection(), Protection((), tmp_path / "none.key")):
        with pytest.raises(PrerequisiteError, match="is not on this host"):
            codec.decode_stages(("zstd", "age"), protection, tmp_path / "x")
    with pytest.raises(InputError, match="unknown layer 'rot13'"):
        codec.decode_stages(("rot13",), Protection(), tmp_path / "x")


# -- names, paths, the agent --


@pytest.mark.parametrize("name", ["simrs", "a", "0", "simrs-2.old_x", "a" * 63])
def test_names_that_can_be_used(name: str) -> None:
    assert check_name(name) == name
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "../x", "a..b", ".a", "a.", "-a", "Simrs", "a b", "a\n", "simrs\n", "\n", "a\0", "é", "a" * 64, "a;b"],
)
def test_names_that_cannot(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InputError) as caught:
        check_name(name)
    assert repr(name) in str(caught.value)


def test_paths_numbers_choices() -> None:
    assert absolute("/a/b", "path") == Path("/a/b")
    for path in ("a/b", "", "/a/../b", "./a", "~/x", "/a\0b"):
        with pytest.raises(InputError, match="is not an absolute path"):
            absolute(path, "repository")
    assert between(3, 1, 19, "level") == 3
    for number in (0, 20, -1):
        with pytest.raises(InputError, match=f"level {number} cannot be used. Use a number from 1 to 19"):
            between(number, 1, 19, "level")
    assert choice("a", ("a", "b"), "thing") == "a"
    with pytest.raises(InputError, match=r"thing 'c' is not known\. Use one of: a, b"):
        choice("c", ("a", "b"), "thing")


def test_how_the_agent_is_called() -> None:
    assert Agent().argv("probe", "simrs")[1:] == ("--config", "/etc/dbcontinuity/agent", "probe", "simrs")
    remote = Agent(transport="ssh", host="-oProxyCommand=x").argv("probe", "simrs")
    assert remote[-4:] == ("--", "-oProxyCommand=x", "probe", "simrs")
    assert "StrictHostKeyChecking=yes" in remote
    with pytest.raises(InputError, match="no host is named"):
        Agent(transport="ssh").argv("probe", "simrs")
    for word in ("a b", "a;b", "$(x)", "", "a\n", "'"):
        with pytest.raises(InputError, match="cannot be passed to the agent"):
            Agent().argv("probe", word)


@pytest.mark.parametrize(
    ("stderr", "why"),
    [
        ("", "it printed nothing"),
        ("Permission denied", "Permission denied"),
        ('DBC-AGENT {"ok": tr', "without saying that its data are whole"),
        ("DBC-AGENT ", "without saying that its data are whole"),
        ('DBC-AGENT {"ok": false, "error": "the disk is gone"}', "the disk is gone"),
        ('DBC-AGENT {"ok": "yes"}', "no reason given"),
        ("DBC-AGENT [1]", r"\[1\]"),
        ("DBC-AGENT null", "without saying"),
        ('DBC-AGENT {"ok": true}\nDBC-AGENT {"ok": false}', "no reason given"),
    ],
)
def test_data_are_whole_only_if_the_agent_says_so(stderr: str, why: str) -> None:
    with pytest.raises(PipelineError, match=why):
        trailer(Finished("agent backup", 0, b"", stderr))


def test_the_agents_last_word() -> None:
    assert trailer(Finished("agent", 1, b"", 'noise\nDBC-AGENT {"ok": true, "bytes": 3}\n')) == {"ok": True, "bytes": 3}


# -- progress and actor --


def test_progress_is_a_whole_file_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [1000.0]
    monkeypatch.setattr(progress, "monotonic", lambda: seconds[0])
    path = tmp_path / "progress.json"
    told = progress.Progress(path)
    told.phase("copying", 1000)
    state = json.loads(path.read_text())
    assert (state["phase"], state["done_bytes"], state["expected_bytes"], state["pid"]) == (
        "copying",
        0,
        1000,
        os.getpid(),
    )
    seconds[0] += 0.25
    told.advance(500)
    state = json.loads(path.read_text())
    assert (state["done_bytes"], state["percent"]) == (500, 50)
    assert state["seconds_left"] >= 0
    seconds[0] += 0.01
    told.advance(600)  # at once after the one before: not worth a file
    assert json.loads(path.read_text())["done_bytes"] == 500
    assert os.listdir(tmp_path) == ["progress.json"]


def test_progress_that_cannot_be_told_does_not_stop_the_work(tmp_path: Path) -> None:
    told = progress.Progress(tmp_path / "gone" / "progress.json")
    told.phase("copying")
    told.advance(5)
    silent = progress.Progress()
    silent.phase("copying")
    silent.advance(5)
    assert os.listdir(tmp_path) == []


def test_the_actor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "siti")
    monkeypatch.setenv("DBC_TIMER_UNIT", "dbcontinuity-full.timer")
    found = actor.describe_actor("AWX job 7")
    assert (found["sudo_user"], found["timer"], found["given"]) == ("siti", "dbcontinuity-full.timer", "AWX job 7")
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.delenv("DBC_TIMER_UNIT")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    assert set(actor.describe_actor()) == {"user", "host"}
    assert actor.describe_actor()["user"] == "4000000"
