# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scheduled run: whatever becomes of its child, people are told, nothing outlives it, and no activity overlaps itself."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import notifier as notifier_module
from ansible_collections.rspon.dbcontinuity.plugins.module_utils import run_process, scheduled_run
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import iso, parse_moment, utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.run_facts import Trouble, troubles_of
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.run_process import Output, processes_of
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_program import (
    main,
    remove_unused,
    run_missed,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_run import ScheduledRun
from demo.process import alive, wait_until
from tests.mail_server import Letters, Requests, mail_server, web_server
from tests.scheduled_support import Site, make_site

SECRET = "canary-run-Pw81"
FAILS = """
(artefacts / "job_events" / "1-x.json").write_text(json.dumps({"event": "runner_item_on_failed", "event_data": {"res": {
    "kind": "access", "msg": "SECRET", "item": {"name": "simrs"}}}}))
print("SECRET")
sys.exit(2)
""".replace("SECRET", SECRET)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    (made.host.release / "venv/bin/ansible-runner").unlink()
    return made


def run(site: Site, activity: str = "log_cycle") -> int:
    return ScheduledRun(site.host, activity, site.say).perform()


@pytest.fixture
def mail(site: Site) -> Any:
    with mail_server(Letters()) as letters:
        site.channels(
            {
                "kind": "mail",
                "to": ["it@rs.example"],
                "from": "backup@rs.example",
                "server": "127.0.0.1",
                "port": letters.port,
                "tls": "none",
            }
        )
        yield letters


def subjects(letters: Letters) -> list[str]:
    return [str(message["Subject"]).partition("] ")[2].partition(":")[0] for message in letters.messages()]


# -- what is started --


def test_ansible_runner_is_called_as_it_should_be(site: Site) -> None:
    site.fake("print(json.dumps([arguments, dict(os.environ)]))")
    assert run(site, "restore_test") == 0
    said = next(line for line in site.said if "--ident" in line)
    arguments, environment = json.loads(said.partition("] ")[2])
    words = dict(each[2:].split("=", 1) for each in arguments[2:] if "=" in each)
    assert arguments[:2] == ["run", str(site.host.folder("restore_test"))]
    assert words["ident"] == environment["DBC_SCHEDULED_RUN"]
    assert words["playbook"].endswith("/playbooks/restore_test.yml")
    # A test of new backups may be at work in the folder: it is waited for.
    assert words["cmdline"] == f"-e dbc_run={words['ident']} -e dbc_wait_minutes=360"
    assert words["rotate-artifacts"] == "60"
    assert environment["ANSIBLE_CONFIG"] == str(site.host.release / "ansible.cfg")
    assert site.host.folder("restore_test").stat().st_mode & 0o777 == 0o700
    assert all(line.startswith(f"[{words['ident']}] ") for line in site.said)


def test_the_timer_that_started_it_is_named_and_nothing_else_is_handed_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIGGER_UNIT", "dbcontinuity-log-cycle.timer")
    monkeypatch.setenv("HARMFUL", SECRET)
    site.fake("print(json.dumps(dict(os.environ)))")
    assert run(site) == 0
    environment = json.loads(next(line for line in site.said if "ANSIBLE_HOME" in line).partition("] ")[2])
    assert environment["DBC_TIMER_UNIT"] == "dbcontinuity-log-cycle.timer"
    assert SECRET not in json.dumps(environment)


def test_a_test_of_new_backups_is_a_test_restore_of_what_was_not_tested(site: Site) -> None:
    site.fake("print(values['cmdline'], values['playbook'])")
    assert run(site, "test_new_backups") == 0
    said = " ".join(site.said)
    assert "-e dbc_untested=true" in said
    assert "/restore_test.yml" in said


def test_an_activity_that_is_not_known_is_refused_with_those_that_are(site: Site) -> None:
    with pytest.raises(InputError, match="full_backup, log_cycle, restore_test, test_new_backups"):
        run(site, "copy_nas")
    process = site.program("copy_nas")
    out, _none = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "There is no activity 'copy_nas'" in out


def test_each_run_leaves_the_status_for_monitoring(site: Site) -> None:
    site.fake("")
    assert run(site) == 0
    left = site.host.state / "status.json"
    assert json.loads(left.read_text())["instances"] == {}
    # One that is no longer known to be so is removed.
    (site.root / "repository/dbcontinuity-repository.json").unlink()
    assert run(site) == 0
    assert not left.exists()
    assert any("The status could not be left" in line for line in site.said)


# -- whatever becomes of the child --


def test_a_failure_is_told_with_instance_and_code_and_no_secret(site: Site, mail: Letters) -> None:
    site.fake(FAILS)
    assert run(site) == 2
    (message,) = mail.messages()
    text = message.get_content()
    assert "FAILED" in message["Subject"]
    assert "- simrs: access" in text
    assert "exit status" not in text
    assert SECRET not in message.as_string()
    assert site.host.state.as_posix() in text
    assert not site.host.under_way("log_cycle").exists()


def test_a_failure_is_told_once_and_then_when_it_is_over(site: Site, mail: Letters) -> None:
    site.fake(FAILS)
    assert [run(site) for _ in range(3)] == [2, 2, 2]
    site.fake(FAILS.replace('"access"', '"prerequisite"'))
    assert run(site) == 2
    site.fake("")
    assert [run(site) for _ in range(2)] == [0, 0]
    assert subjects(mail) == [
        "GAGAL / FAILED",
        "MASIH GAGAL, LAIN DARI SEBELUMNYA / STILL FAILING, OTHERWISE THAN BEFORE",
        "PULIH / WELL AGAIN",
    ]


def test_a_failure_goes_on_being_told(site: Site, mail: Letters) -> None:
    site.channels(*json.loads((site.host.etc / "scheduled/notify.json").read_text())["channels"], hours=0.00001)
    site.fake(FAILS)
    assert run(site) == 2
    time.sleep(0.1)
    assert run(site) == 2
    assert subjects(mail) == ["GAGAL / FAILED", "MASIH GAGAL / STILL FAILING"]


def test_a_child_that_is_killed_is_told(site: Site, mail: Letters) -> None:
    site.fake("os.kill(os.getpid(), signal.SIGKILL)")
    assert run(site) == 137
    assert "- run-killed" in mail.messages()[0].get_content()


def test_what_a_killed_child_has_started_does_not_outlive_the_run(
    site: Site, mail: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_process, "GRACE_SECONDS", 1.0)
    site.fake(
        "one = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "two = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "print(one.pid, two.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    process = run_process.RunProcess("mark", site.say, 1.0)
    monkeypatch.setattr(
        "ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_run.RunProcess",
        lambda run, say: run_process.RunProcess(run, say, 1.0),
    )
    assert run(site) == 137
    pids = next(line for line in site.said if line.count(" ") == 2 and line.split()[-1].isdigit()).split()[-2:]
    assert wait_until(lambda: not any(alive(int(pid)) for pid in pids), 60)  # of themselves they would stay for 300 s
    assert not process.stopped


@pytest.mark.parametrize("missing", ["playbook", "runner", "inventory", "python"])
def test_what_is_missing_is_told(site: Site, mail: Letters, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fake("")
    activity = "log_cycle"
    if missing == "playbook":
        monkeypatch.setattr(
            "ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_run.COLLECTION", "collections/none"
        )
    elif missing == "runner":
        (site.host.release / "venv/bin/ansible-runner").unlink()
    elif missing == "inventory":
        site.host.inventory.unlink()
    else:
        (site.host.release / "venv/bin/python").unlink()
    assert run(site, activity) == 1
    code = {"playbook": "playbook-missing", "python": "run-failed"}.get(missing, "not-installed")
    assert f"- {code}" in mail.messages()[0].get_content()


def test_a_failure_of_which_nothing_is_known_is_told_as_one(site: Site, mail: Letters) -> None:
    site.fake("sys.exit(4)")
    assert run(site) == 4
    assert "- run-failed" in mail.messages()[0].get_content()


def test_a_repository_that_is_not_mounted_is_told(site: Site, mail: Letters) -> None:
    site.fake("sys.exit(2)")
    (site.root / "repository/dbcontinuity-repository.json").unlink()
    assert run(site) == 2
    assert "- repository" in mail.messages()[0].get_content()


def test_a_calendar_that_cannot_be_read_keeps_no_run_from_starting(site: Site, mail: Letters) -> None:
    (site.host.etc / "schedule.json").write_text("{half")
    site.fake("sys.exit(4)")
    assert run(site) == 4
    assert any("The calendar cannot be read" in line for line in site.said)
    assert "due" not in mail.messages()[0].get_content()


def test_a_state_folder_that_cannot_be_written_keeps_nobody_from_being_told(
    site: Site, mail: Letters, tmp_path: Path
) -> None:
    site.host.state.write_text("a file stands in its place")
    site.fake("")
    assert run(site) == 1
    assert len(mail.taken) == 1
    assert any("There is no lock" in line for line in site.said)
    assert any("may be told again" in line for line in site.said)


def test_a_program_error_of_the_notices_does_not_hide_the_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(notifier_module, "deliver", broken)
    site.fake("sys.exit(3)")
    assert run(site) == 3
    assert any("Nobody could be told" in line for line in site.said)


# -- stopped, killed, power cut --

WAITS = """
part = subprocess.Popen([sys.executable, "-c", (
    "import signal, sys, time, pathlib\\n"
    "signal.signal(signal.SIGTERM, lambda *a: (pathlib.Path(sys.argv[1]).write_text('cleared up'), sys.exit(143)))\\n"
    "print('waits', flush=True)\\ntime.sleep(300)"), str(folder / "cleared")], start_new_session=True)
sys.exit(part.wait() and 1)
"""


def begun(site: Site, *words: str) -> subprocess.Popen[str]:
    process = site.program(*words)
    assert process.stdout is not None
    for line in process.stdout:
        if "waits" in line:
            return process
    raise AssertionError("it did not begin")


def test_a_run_that_is_stopped_clears_up_and_tells_people(site: Site, mail: Letters) -> None:
    site.fake(WAITS)
    process = begun(site, "full_backup")
    process.send_signal(signal.SIGTERM)
    out, _none = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (site.host.folder("full_backup") / "cleared").read_text() == "cleared up"
    assert "- run-stopped" in mail.messages()[0].get_content(), out


def test_an_activity_does_not_overlap_itself_and_others_go_on(site: Site, mail: Letters) -> None:
    site.fake(WAITS)
    process = begun(site, "full_backup")
    try:
        site.fake("")
        assert run(site, "full_backup") == 0
        (line,) = [line for line in site.said if "under way already" in line]
        assert "since 20" in line
        assert "Nothing was started" in line
        assert run(site, "log_cycle") == 0
    finally:
        process.terminate()
        process.communicate(timeout=120)
    assert subjects(mail) == ["GAGAL / FAILED"]


def test_a_run_whose_program_was_killed_is_told_by_who_comes_next(site: Site, mail: Letters) -> None:
    site.fake(WAITS)
    process = begun(site, "full_backup")
    left = site.host.under_way("full_backup")
    name = json.loads(left.read_text())["run"]
    process.kill()
    process.communicate(timeout=120)
    run_process.end_processes(name, 60)
    assert left.exists()
    # What systemd starts after the unit's main process is gone.
    after = site.program("full_backup", "--afterwards")
    out, _none = after.communicate(timeout=120)
    assert after.returncode == 0, out
    assert "- run-vanished" in mail.messages()[0].get_content()
    assert name in mail.messages()[0].get_content()
    assert not left.exists()
    again = site.program("full_backup", "--afterwards")
    again.communicate(timeout=120)
    assert len(mail.taken) == 1
    # The next run is well.
    site.fake("")
    assert run(site, "full_backup") == 0
    assert subjects(mail) == ["GAGAL / FAILED", "PULIH / WELL AGAIN"]


def test_a_power_cut_is_told_by_the_next_run(site: Site, mail: Letters) -> None:
    site.host.under_way("log_cycle").parent.mkdir(parents=True)
    site.host.under_way("log_cycle").write_text(
        json.dumps(
            {"run": "20260919T050000Z-0000abcd", "started": "2026-09-19T05:00:00Z", "due": "2026-09-19T05:00:00Z"}
        )
    )
    site.fake("")
    assert run(site) == 0
    assert subjects(mail) == ["GAGAL / FAILED", "PULIH / WELL AGAIN"]
    assert "20260919T050000Z-0000abcd" in mail.messages()[0].get_content()
    site.host.under_way("log_cycle").write_text("{half")
    assert run(site) == 0
    assert len(mail.taken) == 2


# -- missed --


def test_what_was_due_since_it_last_began_was_missed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = parse_moment("2026-09-19T05:03:00Z")  # between two due times: while this runs, none comes
    monkeypatch.setattr(scheduled_run, "utc_now", lambda: now)
    run_of = ScheduledRun(site.host, "log_cycle", site.say)
    assert not run_of.missed()  # it never ran: from now on
    assert not run_of.missed()
    path = site.host.started("log_cycle")
    path.write_text(json.dumps({"run": "", "started": iso(now - timedelta(minutes=11))}))
    assert run_of.missed()
    path.write_text(json.dumps({"run": "", "started": iso(now)}))
    assert not run_of.missed()
    assert not ScheduledRun(site.host, "checklist", site.say).missed()  # the calendar does not name it


def test_what_was_missed_is_run_the_log_cycle_first(site: Site) -> None:
    for name in ("full_backup", "log_cycle"):
        site.host.started(name).parent.mkdir(parents=True, exist_ok=True)
        site.host.started(name).write_text(json.dumps({"run": "", "started": iso(utc_now() - timedelta(days=8))}))
    site.fake("sys.exit(3 if 'full' in values['playbook'] else 0)")
    assert run_missed(site.host, site.say) == 3
    begun_now = [line.partition("] ")[2].split()[0] for line in site.said if " begins" in line]
    assert begun_now == ["log_cycle", "full_backup"]
    assert run_missed(site.host, site.say) == 0
    (site.host.etc / "schedule.json").unlink()
    assert run_missed(site.host, site.say) == 0


# -- channels --


def test_a_success_pings_the_dead_mans_switch_and_a_failure_does_not(site: Site) -> None:
    with web_server(Requests()) as requests:
        site.channels({"kind": "heartbeat", "url": f"{requests.url}/{SECRET}"})
        site.fake("")
        assert run(site) == 0
        assert run(site, "full_backup") == 0  # not one of its activities
        site.fake("sys.exit(2)")
        assert run(site) == 2
    assert [method for method, *_rest in requests.taken] == ["GET"]
    assert SECRET not in site.host.notify_state.read_text()


def test_a_dead_channel_fails_nothing_and_stands_in_journal_ledger_and_memory(site: Site) -> None:
    site.channels(
        {"kind": "webhook", "url": f"http://127.0.0.1:9/{SECRET}"}, {"kind": "heartbeat", "url": "http://127.0.0.1:9/"}
    )
    site.fake("")
    assert [run(site) for _ in range(3)] == [0, 0, 0]
    records = [record for record in site.ledger.records() if record["activity"] == "notify"]
    assert [(record["kind"], record["data"]["channel"], record["data"]["state"]) for record in records] == [
        ("event", "heartbeat 127.0.0.1", "dead")
    ]
    assert sum("does not work: the connection was refused" in line for line in site.said) == 3
    assert site.state()["channels"]["heartbeat 127.0.0.1"]["problem"] == "the connection was refused"
    site.fake("sys.exit(2)")
    assert run(site) == 2
    assert set(site.state()["channels"]) == {"heartbeat 127.0.0.1", "webhook 127.0.0.1"}
    assert SECRET not in json.dumps(site.state()) + " ".join(site.said) + json.dumps(list(site.ledger.records()))


def test_a_dead_channel_without_a_ledger_is_told_in_the_journal(site: Site) -> None:
    site.channels({"kind": "heartbeat", "url": "http://127.0.0.1:9/"})
    site.inventory({}, dbc_repository="/nowhere/repository")
    site.fake("")
    assert run(site) == 0
    assert any("The ledger could not be told of it" in line for line in site.said)


@pytest.mark.parametrize("content", ["{half", '{"channels": [{"kind": "x"}]}', "[]", '{"repeat_hours": "x"}'])
def test_a_list_of_channels_that_cannot_be_read_is_said_and_fails_nothing(site: Site, content: str) -> None:
    (site.host.etc / "scheduled/notify.json").write_text(content)
    site.fake("")
    assert run(site) == 0
    assert any("notify.json cannot be read" in line for line in site.said)


def test_channels_can_be_tried(site: Site, mail: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--try-notify", f"--etc={site.host.etc}", f"--state={site.host.state}"]
    assert main(words, site.host.release) == 0
    assert "mail 127.0.0.1: sent" in capsys.readouterr().out
    assert subjects(mail) == ["PERCOBAAN / TRIAL"]
    site.channels({"kind": "webhook", "url": "http://127.0.0.1:9/"})
    assert main(words, site.host.release) == 1
    site.channels()
    assert main(words, site.host.release) == 0
    assert "names no channel" in capsys.readouterr().out


# -- what is known of a failure --


def finished(site: Site, activity: str, data: dict[str, Any], instance: str = "", kind: str = "finished") -> None:
    site.ledger.append(kind, activity, "run", instance=instance, data=data)


def known(site: Site) -> list[str]:
    began = utc_now() - timedelta(minutes=1)
    return [
        str(each) for each in troubles_of(site.ledger, site.root / "none", "run", began, ["simrs", "lis", "berkas"])
    ]


def test_findings_of_the_ledger_are_told_by_code_and_plain_file_name(site: Site) -> None:
    finding = {"code": "missing-log", "message": SECRET, "remedy": SECRET}
    finished(
        site,
        "log_cycle",
        {
            "result": "failed",
            "instances": {
                "simrs": {"result": "broken", "findings": [{**finding, "file": "/a/b/mariadb-bin.000002"}]},
                "lis": {"result": "no full backup", "message": SECRET},
                "berkas": {
                    "result": "finding",
                    "findings": [{**finding, "code": "x y!", "file": "rekam medis Ny. Siti.pdf"}],
                },
                "good": {"result": "good"},
            },
        },
    )
    finished(site, "full_backup", {"result": "failed", "reason": SECRET}, "simrs")
    assert known(site) == ["berkas: failed", "lis: no full backup", "simrs: missing-log mariadb-bin.000002"]


def test_a_test_restore_and_a_verification_are_told(site: Site) -> None:
    finished(site, "restore_test", {"result": "failed", "findings": [{"code": "rto-missed", "file": ""}]}, "simrs")
    finished(
        site,
        "backup_verify",
        {
            "result": "failed",
            "ledger_problem": SECRET,
            "instances": {
                "lis": {"sets": 1, "findings": []},
                "berkas": {"findings": [{"code": "missing-set", "file": "x"}]},
            },
        },
    )
    assert known(site) == ["ledger", "berkas: missing-set x", "simrs: rto-missed"]


def test_a_run_that_began_and_did_not_end_is_told(site: Site) -> None:
    finished(site, "full_backup", {}, "simrs", "started")
    finished(site, "full_backup", {}, "lis", "started")
    finished(site, "full_backup", {"result": "succeeded"}, "lis")
    finished(site, "full_backup", {"result": "failed"}, "gone-from-the-inventory")
    assert known(site) == ["simrs: unfinished"]


def test_events_of_ansible_tell_what_the_ledger_does_not(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "artefacts/job_events"
    folder.mkdir(parents=True)
    events: list[Any] = [
        {"event": "runner_on_unreachable", "event_data": {"res": {"msg": SECRET}}},
        {"event": "runner_on_failed", "event_data": {"res": {"kind": "prerequisite", "msg": SECRET}}},
        {
            "event": "runner_on_failed",
            "event_data": {
                "res": {
                    "kind": "finding",
                    "instances": {"simrs": {"result": "failed", "kind": "access", "findings": []}},
                }
            },
        },
        {
            "event": "runner_on_failed",
            "event_data": {
                "res": {
                    "results": [
                        {"failed": True},
                        {"failed": True, "kind": "repository-full", "msg": SECRET, "item": {"name": "lis"}},
                        {"failed": False, "kind": "input", "item": {"name": "lis"}},
                    ]
                }
            },
        },
        {"event": "runner_on_ok", "event_data": {"res": {"kind": "input"}}},
        {"event": "runner_on_failed"},
        [],
    ]
    for number, event in enumerate(events):
        (folder / f"{number}.json").write_text(json.dumps(event))
    (folder / "half.json").write_text("{")
    began = utc_now()
    found = troubles_of(site.ledger, folder.parent, "run", began, ["simrs", "lis"])
    assert [str(each) for each in found] == ["prerequisite", "unreachable", "lis: repository-full", "simrs: access"]


def test_a_damaged_ledger_is_told(site: Site) -> None:
    finished(site, "full_backup", {"result": "failed"}, "simrs")
    for _ in range(2):
        finished(site, "full_backup", {"result": "failed"}, "simrs")
    path = next((site.root / "repository/ledger").glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"damaged\n" + lines[2])
    assert "ledger" in known(site)


# -- what is said --


def test_output_is_given_on_in_whole_lines_without_control_characters() -> None:
    lines: list[str] = []
    output = Output(lines.append)
    for data in (b"one\r\n\x1b[0;31mre", b"d\x1b[0m\n\n", b"\xff\x00tail"):
        output.feed(data)
    output.feed(b"x" * 20000)
    output.end()
    output.end()
    assert lines[:2] == ["one", "red"]
    assert lines[2].startswith("\ufffdtailxxx")
    assert len(lines) == 4
    assert sum(len(line) for line in lines[2:]) == 20005


def test_processes_are_found_by_their_mark() -> None:
    mark = f"mark-of-a-test-{os.getpid()}"  # another run of these tests may be on this machine
    with subprocess.Popen(["sleep", "600"], env={"DBC_SCHEDULED_RUN": mark}) as child:
        try:
            assert wait_until(lambda: processes_of(mark) == [child.pid], 60)
        finally:
            child.kill()


# -- the installation --


def test_an_installation_that_was_replaced_is_removed_when_no_run_uses_it(tmp_path: Path, monkeypatch: Any) -> None:
    names = ("old", "used", "own", "now", "just-made", "half-made", "abandoned")
    folders = {name: tmp_path / name for name in names}
    for name, folder in folders.items():
        folder.mkdir()
        if name not in ("half-made", "abandoned"):
            (folder / "installed.json").write_text("{}")
    (tmp_path / "current").symlink_to(folders["now"])
    (tmp_path / "a file").write_text("")
    day = time.time() + 100_000
    for path in (folders["just-made"] / "installed.json", folders["half-made"]):
        os.utime(path, (day - 60, day - 60))
    assert remove_unused(folders["own"]) == []  # the link was changed a moment ago
    module = "ansible_collections.rspon.dbcontinuity.plugins.module_utils.scheduled_program.time.time"
    monkeypatch.setattr(module, lambda: day)
    descriptor = os.open(folders["used"], os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert remove_unused(folders["own"]) == ["abandoned", "old"]
    os.close(descriptor)
    assert remove_unused(folders["own"]) == ["used"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()) == [
        "half-made",
        "just-made",
        "now",
        "own",
    ]
    monkeypatch.setattr("shutil.rmtree", _refuses)
    os.utime(folders["just-made"] / "installed.json", (0, 0))
    assert remove_unused(folders["own"]) == []


def _refuses(*_arguments: Any, **_named: Any) -> None:
    raise OSError("refused")


def test_the_program_says_what_it_can_do(site: Site) -> None:
    process = site.program("--help")
    out, _none = process.communicate(timeout=120)
    assert process.returncode == 0
    for word in ("full_backup", "--missed", "--try-notify", "--afterwards"):
        assert word in out
    refused = site.program()
    refused.communicate(timeout=120)
    assert refused.returncode == 2


def test_a_system_log_that_has_gone_away_ends_no_run(site: Site) -> None:
    site.fake("sys.exit(5)")
    process = site.program("log_cycle")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 5


def test_a_run_by_the_program_ends_with_the_playbooks_status(site: Site, mail: Letters) -> None:
    site.fake("sys.exit(5)")
    process = site.program("log_cycle", DBC_TIMER_UNIT="cron")
    out, _none = process.communicate(timeout=120)
    assert process.returncode == 5, out
    assert len(mail.taken) == 1
    assert Trouble("", "run-failed").code in out
    words = ["log_cycle", f"--etc={site.host.etc}", f"--state={site.host.state}"]
    assert main(words, site.host.release) == 5
    assert main([*words, "--afterwards"], site.host.release) == 0
    assert main(["--missed", *words[1:]], site.host.release) == 0
    assert main(["nothing", *words[1:]], site.host.release) == 2
