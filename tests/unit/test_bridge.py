# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between Ansible and the core: what a module is given, what it answers, how it is ended."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import bridge
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.modules import (
    backup_info,
    backup_verify,
    checklist,
    full_backup,
    ledger_entry,
    ledger_info,
    log_cycle,
)
from tests.support import Place, make_place


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def called(
    module: ModuleType, capsys: pytest.CaptureFixture[str], arguments: dict[str, Any], *, check: bool = False
) -> dict[str, Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit) as ended:
        module.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    # What an instance failed at is also called failed, as a list: the status tells.
    assert ended.value.code == (1 if answer.get("msg") else 0)
    return answer


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "backup")


@pytest.fixture
def arguments(place: Place, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a").write_text("1")
    instance = place.files("scan", tmp_path / "scan")
    return {
        "instance": {
            "name": "scan",
            "engine": "files",
            "agent": {"program": instance.agent.program, "config_dir": instance.agent.config_dir},
        },
        "repository": str(place.repository),
        "recipients": list(place.protection.recipients),
        "identity_file": str(place.protection.identity_file),
    }


def several(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "instances": [arguments["instance"]],
        **{key: arguments[key] for key in ("repository", "recipients", "identity_file")},
    }


def test_a_log_cycle_waits_for_a_full_backup_that_joins_its_set_to_the_chain(
    place: Place, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    called(full_backup, capsys, arguments)
    held, released = threading.Event(), threading.Event()

    def joins() -> None:
        with Repository.open(place.repository).instance("scan").log_lock("full backup"):
            held.set()
            released.wait(120)

    thread = threading.Thread(target=joins)
    thread.start()
    assert held.wait(120)
    threading.Timer(1, released.set).start()
    try:
        assert called(log_cycle, capsys, several(arguments))["failed"] == []
    finally:
        released.set()
        thread.join()


def test_every_module_from_its_arguments_to_its_answer(
    place: Place, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    window = {"zone": "Asia/Jakarta", "start": "12:00", "end": "12:30"}
    given = {**arguments, "window": window, "slot": "2026-09-19T12:00:00+07:00", "actor": "Siti", "run": "r1"}
    progress = tmp_path / "progress.json"
    planned = called(full_backup, capsys, given, check=True)
    assert planned["changed"]
    assert planned["plan"]["slot"] == "2026-09-19T05:00:00Z"
    made = called(full_backup, capsys, {**given, "progress_file": str(progress)})
    assert (made["changed"], made["run"], made["window"]["kept"]) == (True, "r1", False)
    assert json.loads(progress.read_text())["pid"] == os.getpid()
    assert not called(full_backup, capsys, given)["changed"]
    cycled = called(log_cycle, capsys, several(arguments))
    assert cycled["failed"] == []
    verified = called(backup_verify, capsys, {**several(arguments), "level": "deep"})
    assert verified["failed"] == []
    info = called(backup_info, capsys, {"repository": arguments["repository"], "names": ["scan"]})
    assert len(info["instances"]["scan"]["sets"]) == 1
    entry = called(
        ledger_entry, capsys, {"repository": arguments["repository"], "activity": "attestation", "data": {"by": "Siti"}}
    )
    assert entry["changed"]
    shown = called(ledger_info, capsys, {"repository": arguments["repository"], "verify": True})
    assert shown["holds"] is True
    assert shown["records"][-1]["data"] == {"by": "Siti"}
    assert shown["records"][0]["actor"]["given"] == "Siti"


def test_status_and_check_list_from_their_arguments_to_their_answers(
    place: Place, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    called(full_backup, capsys, arguments)
    given = {"repository": arguments["repository"], "schedule_file": str(tmp_path / "none.json")}
    info = called(backup_info, capsys, {**given, "names": ["scan", "other"], "status": True})
    assert {name: one["colour"] for name, one in info["status"]["instances"].items()} == {
        "scan": "amber",
        "other": "red",
    }
    assert "status" not in called(backup_info, capsys, given)
    more = {"language": "en", "period_end": "2026-09-21T07:00:00+07:00", "period_days": 3, "zone": "Asia/Jakarta"}
    looked = called(checklist, capsys, {**given, **more}, check=True)
    assert "ledger_head" not in looked
    written = called(checklist, capsys, {**given, **more, "actor": "Siti", "run": "r9"})
    assert (written["run"], written["changed"]) == ("r9", True)
    assert written["period"] == {"since": "2026-09-18T00:00:00Z", "until": "2026-09-21T00:00:00Z"}
    assert Path(written["report"]).read_text().startswith(" " * 34 + "CHECK-LIST OF THE BACKUP RESULTS")
    refused = called(checklist, capsys, {**given, "period_end": "2026-09-21 07:00"})
    assert (refused["kind"], "UTC offset" in refused["msg"]) == ("input", True)


def test_findings_fail_the_module_with_the_whole_result(
    place: Place, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    called(full_backup, capsys, arguments)
    folder = Repository.open(place.repository).instance("scan")
    next(folder.full.glob("*/files.tar*")).unlink()
    answer = called(backup_verify, capsys, several(arguments))
    assert "scan: " in answer["msg"]
    assert "is missing" in answer["msg"]
    assert answer["kind"] == "finding"
    assert answer["instances"]["scan"]["findings"][0]["code"] == "damaged-artefact"
    path = max(Repository.open(place.repository).ledger.folder.glob("*.jsonl"))
    path.write_bytes(b"{}\n" + path.read_bytes())
    answer = called(backup_verify, capsys, several(arguments))
    assert "The ledger does not hold: " in answer["msg"]
    alone = {**arguments, "instance": {**arguments["instance"], "name": "other"}}
    answer = called(log_cycle, capsys, several(alone))
    assert "other: There is no full backup yet" in answer["msg"]


def test_every_result_warns_of_a_damaged_line_in_the_ledger(
    place: Place, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "notes" not in called(full_backup, capsys, arguments)
    path = max(Repository.open(place.repository).ledger.folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"kind":"finished"', b'"kind":"finisheD"'))
    shown = {"repository": arguments["repository"]}
    entry = {**shown, "activity": "attestation", "data": {"by": "Siti"}}
    for module, given in (
        (full_backup, {**arguments, "force": True}),
        (log_cycle, several(arguments)),
        (ledger_entry, entry),
        (ledger_info, {**shown, "verify": True}),
        (backup_info, shown),
    ):
        answer = called(module, capsys, given)
        assert not answer.get("failed"), answer
        assert ["1 damaged line(s)" in note for note in answer["notes"]].count(True) == 1, module
    answer = called(backup_verify, capsys, several(arguments))
    assert answer["kind"] == "finding"
    assert "was changed after it was written" in answer["msg"]
    assert any("1 damaged line(s)" in note for note in answer["notes"])
    refused = called(full_backup, capsys, {**arguments, "recipients": ["none"]})
    assert refused["failed"]
    assert any("1 damaged line(s)" in note for note in refused["notes"])


def test_a_refusal_is_one_paragraph_and_its_parts(
    arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = called(full_backup, capsys, {**arguments, "repository": "relative"})
    assert answer["failed"] is True
    assert (answer["kind"], answer["details"]) == ("input", {})
    assert answer["msg"].endswith(answer["remedy"])


def test_what_the_system_refuses_is_said(
    arguments: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "/srv/x")

    monkeypatch.setattr(full_backup, "full_backup", refuses)
    answer = called(full_backup, capsys, arguments)
    assert (answer["msg"], answer["kind"], answer["details"]) == (
        "Permission denied: /srv/x",
        "system",
        {"errno": 13},
    )


def test_a_private_key_does_not_come_back(
    place: Place, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    secret = (place.root / "operations.key").read_text().splitlines()[-1]
    answer = called(full_backup, capsys, {**arguments, "recipients": [secret]})
    assert "A private key stands among the recipients" in answer["msg"]
    assert secret not in json.dumps(answer)


def test_a_second_signal_does_not_end_the_clearing_away(
    place: Place, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import full_backup as operation

    def ended(*_: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            cleared.append(True)

    cleared: list[bool] = []
    monkeypatch.setattr(operation, "_make_set", ended)
    with patch_module_args(arguments), pytest.raises(SystemExit) as caught:
        full_backup.main()
    assert caught.value.code == 143
    assert cleared == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_and_the_ledger_says_so(
    place: Place, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations import full_backup as operation

    def ended(*_: Any) -> None:
        os.kill(os.getpid(), number)
        raise AssertionError("not reached")

    monkeypatch.setattr(operation, "_make_set", ended)
    with patch_module_args(arguments), pytest.raises(SystemExit) as caught:
        full_backup.main()
    assert caught.value.code == 143
    last = list(Repository.open(place.repository).ledger.records())[-1]
    assert (last["kind"], last["data"]["result"]) == ("finished", "failed")
    assert Repository.open(place.repository).instance("scan").set_names() == []


def test_a_hangup_that_is_ignored_stays_ignored(arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    called(full_backup, capsys, arguments, check=True)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_defaults_of_an_instance() -> None:
    values: dict[str, Any] = {
        "name": "simrs",
        "engine": "mariadb",
        "compress_on": "backup",
        "compression_level": 1,
        "parallel": 2,
    }
    assert str(bridge.instance_from(values).credentials) == "/etc/dbcontinuity/credentials/simrs"
    assert bridge.instance_from({**values, "agent": {"transport": "local", "host": None}}).agent.host == ""
    for key, value in (("parallel", 65), ("compression_level", 0), ("name", "a/b"), ("credentials", "x")):
        with pytest.raises(InputError):
            bridge.instance_from({**values, key: value})
    assert bridge.window_from(None) is None
