# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instructions written down by a real ansible-playbook: what YAML would misread is refused or kept, never changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from tests.approval_support import Office, make_office

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parent.parent.parent
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Write it down
      rspon.dbcontinuity.approval_record:
        repository: "{repository}"
        officials_file: "{officials}"
        id: "{{{{ dbc_record }}}}"
        instance: simrs
        scope: ["table:simrs.pasien"]
        target: {{kind: time, value: "{moment}"}}
        mode: replace
        reason: "NO"
        ticket: "{{{{ dbc_ticket }}}}"
        instructed_by: {{id_number: {number}}}
        instructed_at: "{moment}"
        letter: {{number: "{{{{ dbc_letter }}}}", date: {day}}}
        valid_until: "{until}"
      register: written
    - name: Tell
      rspon.dbcontinuity.approval_info:
        repository: "{repository}"
        id: "{{{{ dbc_record }}}}"
      register: told
      when: not ansible_check_mode
    - name: Show
      ansible.builtin.debug:
        msg: "changed={{{{ written.changed }}}} red={{{{ told.red | default('-') }}}}"
"""


def hour_before() -> datetime:
    """Return the last full hour but one, in Jakarta."""
    return datetime.now(timezone(timedelta(hours=7))).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def played(office: Office, hour: datetime, number: str, *words: str) -> subprocess.CompletedProcess[str]:
    playbook = office.root / "play.yml"
    playbook.write_text(
        PLAY.format(
            repository=office.path,
            officials=office.officials,
            number=number,
            moment=hour.isoformat(),
            day=hour.strftime("%Y-%m-%d"),
            until=(hour + timedelta(days=1)).isoformat(),
        )
    )
    return subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(playbook), *words],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


EXTRA = ("-e", "dbc_record=0012", "-e", "dbc_ticket=12:30", "-e", "dbc_letter=0007", "-e", f"ansible_python_interpreter={sys.executable}")  # fmt: skip


def test_texts_stay_as_they_are_typed(tmp_path: Path) -> None:
    office = make_office(tmp_path / "backup")
    office.name_officials({"kepala_instalasi_sirs": [{"name": "Contoh Kepala", "id": "0012"}]})
    hour = hour_before()  # once: the same play a moment later says the same, also in the next hour
    checked = played(office, hour, '"0012"', *EXTRA, "--check")
    assert checked.returncode == 0, checked.stdout
    assert "changed=True" in checked.stdout
    assert not (office.path / "approvals").exists()
    first = played(office, hour, '"0012"', *EXTRA)
    assert first.returncode == 0, first.stdout
    assert "changed=True red=[]" in first.stdout
    stored = yaml.safe_load((office.path / "approvals" / "0012" / "record.yml").read_text())
    assert (stored["id"], stored["ticket"], stored["letter"]["number"]) == ("0012", "12:30", "0007")
    assert stored["reason"] == "NO"
    assert stored["instructed_by"] == {"role": "kepala_instalasi_sirs", "name": "Contoh Kepala", "id_number": "0012"}
    assert "changed=False" in played(office, hour, '"0012"', *EXTRA).stdout


@pytest.mark.parametrize(
    ("number", "extra", "said"),
    [
        ("0012", (), "the number 10 in"),
        ('"0012"', ("-e", json.dumps({"dbc_letter": 7})), "Put it in quotes"),
        ('"0012"', ("-e", json.dumps({"dbc_record": 12})), "in quotes"),
    ],
)
def test_what_yaml_has_made_a_number_of_is_refused(
    tmp_path: Path, number: str, extra: tuple[str, ...], said: str
) -> None:
    office = make_office(tmp_path / "backup")
    office.name_officials({"kepala_instalasi_sirs": [{"name": "Contoh Kepala", "id": "0012"}]})
    result = played(office, hour_before(), number, *EXTRA, *extra)
    assert result.returncode != 0
    assert said in result.stdout
    assert not (office.path / "approvals").exists()
