# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module restore as Ansible ships and runs it: ranges, the plan, check mode, the refusal without an instruction."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.restore_full_support import RESTORE_AGENT, siblings
from tests.restore_support import full
from tests.support import make_place

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parent.parent.parent


def test_the_module_tells_plans_and_refuses(tmp_path: Path) -> None:
    place = make_place(tmp_path / "backup")
    scan = tmp_path / "scan"
    scan.mkdir()
    (scan / "a").write_text("1")
    instance = place.files("scan", scan)
    path = place.root / "agent" / "scan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "restore": {"state_dir": str(place.root / "state")}}))
    full(place, instance)
    (scan / "a").write_text("2")

    def run(state: str, *more: str, **arguments: Any) -> dict[str, Any]:
        values = {
            "state": state,
            "instance": {
                "name": "scan",
                "engine": "files",
                "agent": {"program": place.agent.program, "config_dir": place.agent.config_dir},
            },
            "channel": {"program": str(RESTORE_AGENT), "config_dir": str(place.root / "agent")},
            "repository": str(place.repository),
            "recipients": list(place.protection.recipients),
            "identity_file": str(place.root / "operations.key"),
            "folder": str(tmp_path / "scratch"),
            "zone": "Asia/Jakarta",
            **arguments,
        }
        play = [
            {
                "hosts": "localhost",
                "gather_facts": False,
                "tasks": [
                    {"rspon.dbcontinuity.restore": values, "register": "done", "ignore_errors": True},
                    {
                        "ansible.builtin.copy": {
                            "content": "{{ done | to_json }}",
                            "dest": str(tmp_path / "done.json"),
                        },
                        "check_mode": False,
                    },
                ],
            }
        ]
        book = tmp_path / "play.json"
        book.write_text(json.dumps(play))
        words = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            "-c",
            "local",
            str(book),
            *more,
        ]
        words += ["-e", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run(
            words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads((tmp_path / "done.json").read_text())
        return result

    told = run("ranges")
    assert told["changed"] is False
    assert "+07:00" in told["ranges"][0]["text"]
    planned = run("planned")
    assert planned["changed"] is False
    assert planned["plan"]["problems"] == []
    assert planned["plan"]["place"] == {"0": str(scan)}
    checked = run("restored", "--check", confirm="scan", record="x")
    assert checked["changed"] is True
    assert checked["plan"]["plan_sha256"] == planned["plan"]["plan_sha256"]
    assert "x" in checked["refused"]
    refused = run("restored", confirm="scan")
    assert refused["failed"]
    assert refused["kind"] == "approval"
    assert (scan / "a").read_text() == "2"
    assert siblings(scan) == []
    assert not (tmp_path / "scratch").exists()
