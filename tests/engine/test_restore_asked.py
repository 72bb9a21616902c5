# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook restore as somebody runs it at 02:00: it asks on a terminal, and answers are typed."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from demo.process import wait_until
from demo.servers import MariaDBServer, workspace
from tests.restore_full_support import HEAD, allow_restore, channel, siblings
from tests.restore_support import full
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parent.parent.parent
# What is asked, in this order, by words that stand in the question.
INSTANCE, SCOPE, MOMENT, MODE, RECORD = (
    "Instans / instance",
    "Lingkup / scope",
    "Waktu / moment",
    "di samping yang",
    "Nomor catatan",
)
CONFIRM = "Ketik nama instans"
INSTRUCTION = {
    "NIP Kepala Instalasi": HEAD["id_number"],
    "Waktu instruksi": "",
    "Nomor surat": "",
    "Tanggal surat": "",
    "Penerima telepon": "Contoh Petugas Satu, 1008",
    "Saksi": "Contoh Petugas Dua, 1009",
    "Alasan restore": "Baris pasien terhapus",
    "Nomor tiket": "",
    "Berlaku berapa jam": "",
}


def waits(pid: int) -> bool:
    """Return whether the playbook reads the terminal now: what was typed before it began to, it throws away."""
    try:
        flags = Path(f"/proc/{pid}/fdinfo/0").read_text().split("flags:")[1].split()[0]
    except OSError:
        return True  # it ended: whoever waits for its words says so
    return bool(int(flags, 8) & os.O_NONBLOCK)


@dataclass
class Site:
    """A backup host that is this machine, as an inventory, and the server that it is about."""

    place: Place
    server: MariaDBServer
    inventory: Path
    scratch: Path

    def typed(self, answers: Mapping[str, str], *more: str) -> tuple[int, str]:
        """Run the playbook on a terminal, and answer each question when it is asked; exit status and all it showed."""
        program = str(Path(sys.executable).parent / "ansible-playbook")
        child = pexpect.spawn(
            program,
            ["-i", str(self.inventory), "playbooks/restore.yml", *more],
            cwd=str(ROOT),
            env={**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", "TERM": "dumb"},
            encoding="utf-8",
            timeout=300,
            dimensions=(50, 400),
        )
        shown = question = ""
        try:
            for question, answer in answers.items():
                child.expect_exact(question)
                shown += child.before + question
                child.expect(":\r?\n")
                shown += child.before
                if not wait_until(lambda: waits(child.pid), 120):
                    pytest.fail(f"{question!r} takes no answer: {shown}")
                child.send(f"{answer}\r")
            child.expect(pexpect.EOF)
            shown += child.before
        except (pexpect.TIMEOUT, pexpect.EOF):
            pytest.fail(f"{question!r} was not asked: {shown}{child.before}")
        finally:
            child.close()
        return int(child.exitstatus if child.exitstatus is not None else -1), shown

    def restores(self) -> list[str]:
        """Return how the restores that were begun have ended, from the ledger."""
        records = Repository.open(self.place.repository).ledger.records()
        return [
            str(each["data"].get("result"))
            for each in records
            if each["activity"] == "restore" and each["kind"] == "finished"
        ]

    def patients(self) -> str:
        return self.server.value("SELECT COUNT(*) FROM rs.pasien") or ""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("asked") as folder, MariaDBServer(folder / "simrs", fast=True) as server:
        server.query("CREATE DATABASE rs; CREATE TABLE rs.pasien (id INT PRIMARY KEY) ENGINE=InnoDB")
        server.query("INSERT INTO rs.pasien SELECT seq FROM mysql.seq_1_to_1000")
        place = make_place(folder / "backup")
        instance = place.mariadb("simrs", server)
        allow_restore(place, "simrs", server)
        full(place, instance)
        (place.root / "officials.json").write_text(
            json.dumps({"kepala_instalasi_sirs": [{"name": HEAD["name"], "id": HEAD["id_number"]}]})
        )
        (place.root / "officials.json").chmod(0o600)
        way = channel(place)
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "dbc_zone": "Asia/Jakarta",
            "dbc_repository": str(place.repository),
            "dbc_recipients": list(place.protection.recipients),
            "dbc_identity_file": str(place.root / "operations.key"),
            "dbc_scratch_folder": str(folder / "scratch"),
            "dbc_officials_file": str(place.root / "officials.json"),
            "dbc_channel": {"transport": "local", "program": way.program, "config_dir": way.config_dir},
            "dbc_instances": {
                "simrs": {
                    "host": "this_machine",
                    "engine": "mariadb",
                    "credentials": str(place.root / "credentials" / "simrs"),
                    "agent": {"program": place.agent.program, "config_dir": place.agent.config_dir},
                }
            },
        }
        inventory = folder / "hosts.yml"
        inventory.write_text(
            json.dumps({"all": {"vars": variables, "children": {"backup": {"hosts": {"this_machine": {}}}}}})
        )
        yield Site(place, server, inventory, folder / "scratch")


@pytest.fixture(autouse=True)
def moment(site: Site) -> str:
    """Begin each test with patients who were deleted by mistake; the transaction before that."""
    site.server.query("INSERT IGNORE INTO rs.pasien SELECT seq FROM mysql.seq_1_to_1000")
    before = site.server.value("SELECT @@gtid_binlog_pos") or ""
    site.server.query("DELETE FROM rs.pasien WHERE id > 900")
    assert site.patients() == "900"
    return before


def untouched(site: Site, before: list[str]) -> None:
    assert site.patients() == "900"
    assert site.restores() == before
    assert siblings(Path(site.server.datadir)) == []
    assert site.server.value("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'dbc%'") == "0"
    assert not site.scratch.exists() or not [each for each in site.scratch.iterdir() if each.name.startswith("work-")]


def test_a_wrong_name_typed_at_the_end_touches_nothing_and_the_record_serves_again(site: Site, moment: str) -> None:
    before = site.restores()
    asked = {INSTANCE: "simrs", SCOPE: "table:rs.pasien", MOMENT: moment, MODE: "replace", RECORD: "", **INSTRUCTION}
    status, shown = site.typed({**asked, CONFIRM: "simr"})
    assert status != 0, shown
    assert "'simr' was typed instead of its name" in shown
    assert "can be brought back to any moment of:" in shown
    assert "Plan of the restore of simrs" in shown
    assert "table:rs.pasien (replace)" in shown
    untouched(site, before)
    # The instruction was written down, and nothing was done with it: its id is typed, and nobody is asked once more.
    records = [each for each in (site.place.repository / "approvals").iterdir() if each.is_dir()]
    assert len(records) == 1
    text = (records[0] / "record.yml").read_text()
    assert "Contoh Petugas Satu" in text
    assert "Baris pasien terhapus" in text
    again = {INSTANCE: "simrs", SCOPE: "table:rs.pasien", MOMENT: moment, MODE: "replace", RECORD: records[0].name}
    status, shown = site.typed({**again, CONFIRM: "simrs"})
    assert status == 0, shown
    assert site.patients() == "1000"
    assert site.restores() == [*before, "succeeded"]
    assert re.search(r"LAPORAN HASIL RESTORE", shown)


def test_nothing_typed_at_the_end_touches_nothing(site: Site) -> None:
    before = site.restores()
    asked = {SCOPE: "", MOMENT: "", RECORD: "", **INSTRUCTION, CONFIRM: ""}  # everything, the newest moment
    status, shown = site.typed(asked, "-e", "dbc_only=simrs")
    assert status != 0, shown
    assert "was not confirmed: ''" in shown
    assert "stop the server" in shown
    untouched(site, before)


def test_a_name_that_is_no_instance_ends_it_before_anything_else_is_asked(site: Site) -> None:
    before = site.restores()
    status, shown = site.typed({INSTANCE: "simrss"})
    assert status != 0
    assert re.search(r'"simrss\W+ is none of simrs', shown)
    untouched(site, before)


def test_a_person_who_is_not_the_head_is_refused_before_the_plan(site: Site) -> None:
    before = site.restores()
    asked = {SCOPE: "table:rs.pasien", MOMENT: "", MODE: "replace", RECORD: "", **INSTRUCTION}
    status, shown = site.typed({**asked, "NIP Kepala Instalasi": "9999"}, "-e", "dbc_only=simrs")
    assert status != 0
    assert "9999" in shown
    assert "Plan of the restore" not in shown
    untouched(site, before)
