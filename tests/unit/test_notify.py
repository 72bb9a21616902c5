# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices reach a real mail server and a real web server, over verified links; a dead channel is named without a secret."""

from __future__ import annotations

import os
import socket
import ssl
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import notify
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.notice import RunFacts, notice, trial
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.notify import (
    Channel,
    Notice,
    channels_from,
    deliver,
    words,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.notify_state import NotifyState
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.run_facts import Trouble
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.scheduled import notify_problems
from demo.process import Owner
from demo.tls import Certificates, certificates
from tests.mail_server import Letters, Requests, mail_server, web_server

SECRET = "canary-notify-Hx62"
NOTICE = Notice("[dbcontinuity] subject", "text with é\n.a line that begins with a dot\n", {"event": "failed"})
MAIL = {"kind": "mail", "to": ["a@rs.example", "b@rs.example"], "from": "backup@rs.example", "server": "127.0.0.1"}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"), Owner("me", os.geteuid(), os.getegid()))


@pytest.fixture
def context(tls: Certificates) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(tls.certificate, tls.key)
    return made


def one(**values: Any) -> Channel:
    (channel,) = channels_from([values])
    return channel


def sent(channel: Channel) -> str | None:
    return deliver([(channel, NOTICE)])[channel.name]


# -- mail --


def test_a_letter_reaches_every_recipient_through_starttls_and_a_login(
    tls: Certificates, context: ssl.SSLContext
) -> None:
    letters = Letters(context=context, login="backup", password=SECRET)
    with mail_server(letters):
        channel = one(**MAIL, port=letters.port, ca_file=str(tls.ca), username="backup", password=SECRET)
        assert sent(channel) is None
    ((to, _data),) = letters.taken
    assert to == MAIL["to"]
    assert letters.protected == [True]
    (message,) = letters.messages()
    assert message["Subject"] == NOTICE.subject
    assert message["From"] == MAIL["from"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@rs.example>")
    assert message.get_content().splitlines() == NOTICE.text.replace("\n.", "\n..").splitlines()
    assert SECRET not in repr(channel)


def test_a_letter_through_tls_from_the_first_byte(tls: Certificates, context: ssl.SSLContext) -> None:
    letters = Letters(context=context, wrapped=True)
    with mail_server(letters):
        assert sent(one(**MAIL, port=letters.port, tls="tls", ca_file=str(tls.ca))) is None
    assert letters.protected == [True]


def test_no_letter_goes_to_a_server_whose_certificate_is_not_trusted(context: ssl.SSLContext) -> None:
    letters = Letters(context=context, login="backup", password=SECRET)
    with mail_server(letters):
        problem = sent(one(**MAIL, port=letters.port, username="backup", password=SECRET))
    assert problem == "the server's certificate is not trusted"
    assert letters.taken == []


def test_no_letter_goes_unprotected_where_protection_was_asked_for() -> None:
    letters = Letters()
    with mail_server(letters):
        problem = sent(one(**MAIL, port=letters.port))
    assert problem == "the server does not offer what is asked for (STARTTLS, login)"
    assert letters.taken == []


@pytest.mark.parametrize(
    ("letters", "password", "problem"),
    [
        (Letters(login="backup", password="another"), SECRET, "the server refused the login"),
        (Letters(refuse=("a@rs.example", "b@rs.example")), "", "the server refused every recipient"),
        (Letters(refuse=("b@rs.example",)), "", "the server refused 1 of 2 recipients"),
        (Letters(broken=True), "", "the server answered with SMTP code 554"),
    ],
)
def test_what_a_mail_server_refuses_is_told_without_its_words(letters: Letters, password: str, problem: str) -> None:
    login = {"username": "backup", "password": password} if password else {}
    with mail_server(replace(letters, taken=[], protected=[])) as running:
        assert sent(one(**MAIL, port=running.port, tls="none", **login)) == problem


# -- web --


def test_a_webhook_gets_the_notice_as_json_over_a_verified_link(tls: Certificates, context: ssl.SSLContext) -> None:
    with web_server(Requests(), context) as requests:
        headers = {"Authorization": f"Bearer {SECRET}"}
        channel = one(kind="webhook", url=f"{requests.url}/hook", headers=headers, ca_file=str(tls.ca))
        assert sent(channel) is None
        assert sent(one(kind="webhook", url=requests.url)) == "the server's certificate is not trusted"
    ((method, path, got, _body),) = requests.taken
    assert (method, path, got["Authorization"]) == ("POST", "/hook", f"Bearer {SECRET}")
    assert got["Content-Type"] == "application/json"
    assert requests.bodies() == [{"event": "failed", "text": f"{NOTICE.subject}\n\n{NOTICE.text}"}]
    assert SECRET not in repr(channel)


def test_a_dead_mans_switch_is_asked_for_and_told_nothing() -> None:
    with web_server(Requests()) as requests:
        channel = one(kind="heartbeat", url=f"{requests.url}/ping/{SECRET}")
        assert sent(channel) is None
    assert [(method, path, body) for method, path, _headers, body in requests.taken] == [
        ("GET", f"/ping/{SECRET}", b"")
    ]
    assert channel.activities == ("log_cycle",)
    assert SECRET not in channel.name + repr(channel)


def test_a_redirect_is_not_followed_with_the_headers() -> None:
    with web_server(Requests()) as other, web_server(Requests(status=302, location=f"{other.url}/")) as requests:
        channel = one(kind="webhook", url=requests.url, headers={"Authorization": SECRET})
        assert sent(channel) == "the server answered with HTTP status 302"
    assert other.taken == []


@pytest.mark.parametrize("status", [404, 500])
def test_a_web_server_that_refuses_is_told_by_its_status(status: int) -> None:
    with web_server(Requests(status=status)) as requests:
        assert sent(one(kind="webhook", url=requests.url)) == f"the server answered with HTTP status {status}"


# -- dead channels --


def test_one_dead_channel_keeps_no_other_from_being_told() -> None:
    letters = Letters()
    # A port that is taken, and where nobody listens: nobody else can begin to.
    with socket.socket() as closed, mail_server(letters), web_server(Requests(slow_seconds=300)) as slow:
        closed.bind(("127.0.0.1", 0))
        channels = channels_from(
            [
                {"kind": "webhook", "url": f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}", "name": "closed"},
                {"kind": "webhook", "url": slow.url, "name": "slow"},
                {"kind": "webhook", "url": "https://does-not-exist.invalid/", "name": "unknown"},
                {**MAIL, "port": letters.port, "tls": "none", "name": "good"},
                {**MAIL, "port": letters.port, "ca_file": "/nowhere/ca.pem", "tls": "tls", "name": "no ca"},
            ]
        )
        began = time.monotonic()
        outcome = deliver([(channel, NOTICE) for channel in channels], deadline_seconds=8)
        assert time.monotonic() - began < 120
    assert outcome["good"] is None
    assert len(letters.taken) == 1
    assert outcome["closed"] == "the connection was refused"
    assert outcome["slow"] == notify.NO_ANSWER
    assert outcome["unknown"] in ("the server's name cannot be resolved", notify.NO_ANSWER)
    assert outcome["no ca"] == "ca_file is missing"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(SECRET), "no answer in time"),
        (OSError(SECRET), "no connection (OSError)"),
        (ssl.SSLError(SECRET), "no protected connection (TLS) came about"),
        (ValueError(SECRET), "unexpected ValueError"),
    ],
)
def test_an_error_is_told_in_words_of_our_own(error: Exception, said: str) -> None:
    assert words(error) == said


# -- the list --


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("mail", "is no mapping"),
        ({"kind": "telegram"}, "is none of mail, webhook, heartbeat"),
        ({**MAIL, "to": []}, "to names no address"),
        ({**MAIL, "to": ["nobody"]}, "to names no address"),
        ({**MAIL, "to": 7}, "to is no list of text"),
        ({**MAIL, "from": "x"}, "from is no address"),
        ({**MAIL, "server": f"a b{SECRET}"}, "server is no name"),
        ({**MAIL, "tls": False}, "tls is no plain line of text; quote it"),
        ({**MAIL, "tls": "ssl"}, "tls is none of starttls, tls, none"),
        ({**MAIL, "port": "70000"}, "port is no number"),
        ({**MAIL, "port": True}, "port is no number"),
        ({**MAIL, "password": SECRET}, "username and password go together"),
        (
            {**MAIL, "server": "mail.example", "tls": "none", "username": "a", "password": SECRET},
            "for all to read",
        ),
        ({**MAIL, "passwort": SECRET}, "passwort is not known"),
        ({**MAIL, "name": "a\nb"}, "name is no plain line"),
        ({**MAIL, "name": f"{SECRET}!"}, "name has other characters"),
        ({"kind": "webhook", "url": f"ftp://{SECRET}/"}, "url is no address that begins with https://"),
        ({"kind": "webhook", "url": f"https://[{SECRET}"}, "url cannot be read"),
        ({"kind": "webhook", "url": f"https://user:{SECRET}@a.example/"}, "url holds a user name"),
        ({"kind": "webhook", "url": "http://a.example/", "headers": {"X": SECRET}}, "for all to read"),
        ({"kind": "webhook", "url": "https://a.example/", "headers": {"X": f"{SECRET}\n"}}, "headers is no mapping"),
        ({"kind": "webhook", "url": "https://a.example/", "headers": [SECRET]}, "headers is no mapping"),
    ],
)
def test_a_wrong_entry_is_named_without_its_secret(entry: Any, said: str) -> None:
    good = {"kind": "webhook", "url": "https://chat.example/x"}
    (problem,) = notify_problems([good, entry])
    assert problem.startswith("dbc_notify, entry 2")
    assert said in problem
    assert SECRET not in problem


def test_a_list_is_wanted_and_two_entries_need_two_names() -> None:
    assert "is no list" in notify_problems({"kind": "mail"})[0]
    twice = {"kind": "webhook", "url": "https://chat.example/x"}
    assert "a name of its own" in notify_problems([twice, twice])[0]
    assert notify_problems([twice, {**twice, "name": "second"}]) == []
    assert [each.name for each in channels_from([twice])] == ["webhook chat.example"]


def test_a_channel_may_be_for_some_activities_alone() -> None:
    every, some = channels_from([{**MAIL}, {**MAIL, "name": "x", "activities": ["full_backup"]}])
    assert every.concerns("log_cycle")
    assert some.concerns("full_backup")
    assert not some.concerns("log_cycle")


# -- the memory --

START = parse_moment("2026-09-19T05:00:00Z")
REPEAT = timedelta(hours=6)


@pytest.fixture
def state() -> NotifyState:
    return NotifyState()


def test_a_failure_is_told_once_then_on_change_then_every_six_hours_then_when_it_is_over(state: NotifyState) -> None:
    told = []
    for minutes in range(0, 14 * 60, 10):
        now = START + timedelta(minutes=minutes)
        wrong = "simrs: access" if minutes < 60 else "simrs: missing-log"
        state.note_failure("log_cycle", now)
        what = state.to_tell("log_cycle", "mail", wrong, now, REPEAT)
        if what:
            told.append((minutes, what))
            state.note_told("log_cycle", "mail", wrong, now)
    assert told == [(0, "failed"), (60, "changed"), (420, "still failing"), (780, "still failing")]
    assert state.failing_since("log_cycle") == iso(START)
    assert state.to_tell("full_backup", "mail", "", START, REPEAT) is None
    assert state.to_tell("log_cycle", "mail", "", START, REPEAT) == "recovered"
    state.note_told("log_cycle", "mail", "", START)
    state.note_success("log_cycle", ["mail"])
    assert state.failing_since("log_cycle") is None
    assert state.to_tell("log_cycle", "mail", "", START, REPEAT) is None


def test_a_channel_that_was_dead_when_it_began_is_told_as_soon_as_it_works(state: NotifyState) -> None:
    state.note_failure("log_cycle", START)
    state.note_told("log_cycle", "webhook", "x", START)
    assert state.to_tell("log_cycle", "mail", "x", START, REPEAT) == "failed"
    # The webhook could not be told that it is over; the success is kept for it until it can.
    state.note_success("log_cycle", ["webhook", "mail"])
    assert state.to_tell("log_cycle", "webhook", "", START, REPEAT) == "recovered"
    assert state.to_tell("log_cycle", "mail", "", START, REPEAT) is None
    # It is no longer configured.
    state.note_success("log_cycle", ["mail"])
    assert state.failing_since("log_cycle") is None


def test_a_clock_that_was_set_back_silences_nobody(state: NotifyState) -> None:
    state.note_failure("log_cycle", START)
    state.note_told("log_cycle", "mail", "x", START)
    assert state.to_tell("log_cycle", "mail", "x", START - timedelta(days=1), REPEAT) == "still failing"


def test_the_ledger_hears_of_a_dead_channel_once_an_hour_and_when_it_works_again(state: NotifyState) -> None:
    recorded = []
    for minutes in range(0, 130, 10):
        record = state.note_channel("mail x", "mail", "the connection was refused", START + timedelta(minutes=minutes))
        if record:
            recorded.append(minutes)
            assert record["state"] == "dead"
            assert record["since"] == iso(START)
    assert recorded == [0, 60, 120]
    assert list(state.dead()) == ["mail x"]
    again = state.note_channel("mail x", "mail", None, START + timedelta(hours=3))
    assert again is not None
    assert again["state"] == "works again"
    assert state.note_channel("mail x", "mail", None, START + timedelta(hours=4)) is None
    assert state.dead() == {}
    state.forget_channels([])
    assert state.values()["channels"] == {}


@pytest.mark.parametrize(
    "content", ["", "{half", "[]", '{"version": 2}', '{"version": 1, "activities": [], "channels": 3}']
)
def test_a_memory_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    state = NotifyState.read(path)
    assert state.to_tell("log_cycle", "mail", "x", START, REPEAT) == "failed"
    state.note_failure("log_cycle", START)
    state.write(path)
    assert NotifyState.read(path).failing_since("log_cycle") == iso(START)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damaged", [{"log_cycle": 3}, {"log_cycle": {"told": []}}, {"log_cycle": {"told": {"mail": {"at": "x"}}}}]
)
def test_a_memory_with_holes_makes_nothing_fail(damaged: Any) -> None:
    state = NotifyState({"version": 1, "activities": damaged, "channels": {"mail": 3}})
    assert state.to_tell("log_cycle", "mail", "x", START, REPEAT) in ("failed", "changed")
    assert state.note_channel("mail", "mail", "dead", START) is not None


# -- the text --


def facts(**changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "activity": "log_cycle",
        "run": "20260919T050000Z-0000abcd",
        "host": "cadangan",
        "zone": "Asia/Jakarta",
        "exit_status": 2,
        "troubles": (Trouble("simrs", "missing-log", "mariadb-bin.000002"), Trouble("lis", "access")),
        "due": START,
        "started": START + timedelta(seconds=1),
        "ended": START + timedelta(seconds=9),
        "look": ("journalctl --unit=x",),
    }
    return RunFacts(**{**values, **changes})


def test_a_notice_says_what_where_when_and_what_to_do() -> None:
    made = notice(facts(), "failed", iso(START))
    assert made.subject == "[dbcontinuity] GAGAL / FAILED: log_cycle, cadangan"
    assert made.subject.isascii()
    for words_of_it in (
        "pengiriman log (B3): GAGAL",
        "log shipping (B3): FAILED",
        "- simrs: missing-log mariadb-bin.000002",
        "2026-09-19 12:00:00 WIB",
        "2026-09-19 12:00:01 WIB",
        "20260919T050000Z-0000abcd",
        "docs/findings.md",
        "A server or host does not answer",
        "journalctl --unit=x",
    ):
        assert words_of_it in made.text, made.text
    assert made.data["troubles"][0] == {"instance": "simrs", "code": "missing-log", "file": "mariadb-bin.000002"}
    assert made.data["failing_since"] == iso(START)


def test_a_notice_that_all_is_well_again_asks_for_nothing() -> None:
    made = notice(facts(exit_status=0, troubles=(), due=None), "recovered", iso(START))
    assert "PULIH / WELL AGAIN" in made.subject
    assert "what to do" not in made.text
    assert "due" not in made.text
    assert facts(troubles=()).signature == ""


def test_a_zone_that_is_not_known_costs_no_notice() -> None:
    made = notice(facts(zone="Nowhere/Nothing"), "failed", "no time")
    assert "2026-09-19T05:00:01Z" in made.text
    assert "failing since" not in made.text


def test_the_same_trouble_with_other_files_is_the_same() -> None:
    other = facts(troubles=(Trouble("lis", "access"), Trouble("simrs", "missing-log", "mariadb-bin.000003")))
    assert facts().signature == other.signature
    assert facts().signature != facts(troubles=(Trouble("lis", "access"),)).signature


def test_a_trial_says_so() -> None:
    assert "PERCOBAAN / TRIAL" in trial("cadangan").subject
