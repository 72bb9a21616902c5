# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input gets one paragraph that names the value and the remedy, before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.servers import MariaDBServer, workspace
from tests.engine.faults import backup_arguments, called, instance_arguments
from tests.support import AGENT_PROGRAM, Place, make_place

pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="acts as several users")]


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBServer]:
    with workspace("refuse") as folder, MariaDBServer(folder / "simrs", fast=True) as running:
        running.query("CREATE DATABASE rs; CREATE TABLE rs.pasien (id INT PRIMARY KEY)")
        yield running


@dataclass
class Site:
    """What a refusal may play with."""

    place: Place
    server: MariaDBServer
    arguments: dict[str, Any]
    tmp: Path
    path: str = ""

    @property
    def instance(self) -> dict[str, Any]:
        found: dict[str, Any] = self.arguments["instance"]
        return found

    @property
    def credentials(self) -> Path:
        return self.place.root / "credentials" / "simrs"

    def shadow(self, name: str, script: str) -> None:
        """Put a program before the real one in PATH."""
        folder = self.tmp / "shadow"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
        self.path = str(folder)


@pytest.fixture
def site(server: MariaDBServer, tmp_path: Path) -> Site:
    place = make_place(tmp_path / "backup")
    return Site(place, server, backup_arguments(place, place.mariadb("simrs", server)), tmp_path)


def everything(site: Site) -> dict[str, bytes]:
    """All of the repository, and what the server holds."""
    files = {
        str(path.relative_to(site.place.repository)): path.read_bytes() if path.is_file() else b""
        for path in site.place.repository.rglob("*")
    }
    # Not the size of the newest log: the server itself notes checkpoints in it, when it comes to it.
    logs = [row[0] for row in site.server.query("SHOW BINARY LOGS")]
    holds = site.server.query("SELECT @@gtid_binlog_state; SHOW DATABASES")
    return {**files, "(server)": repr([logs, holds]).encode()}


def unknown_engine(site: Site) -> None:
    site.instance["engine"] = "oracle"


def unknown_method(site: Site) -> None:
    site.instance["method"] = "telepathic"


def slash_in_name(site: Site) -> None:
    site.instance["name"] = "sim/rs"


def reserved_name(site: Site) -> None:
    site.instance["name"] = "ledger"


def line_end_in_name(site: Site) -> None:
    site.instance["name"] = "simrs\n"


def relative_repository(site: Site) -> None:
    site.arguments["repository"] = "srv/backup"


def parent_in_repository(site: Site) -> None:
    site.arguments["repository"] = f"{site.place.repository}/../repository"


def relative_credentials(site: Site) -> None:
    site.instance["credentials"] = "credentials/simrs"


def no_repository(site: Site) -> None:
    (site.tmp / "mount").mkdir()
    site.arguments["repository"] = str(site.tmp / "mount")


def unreachable_server(site: Site) -> None:
    site.credentials.write_text(site.credentials.read_text().replace(f"port={site.server.port}", "port=1"))
    assert "port=1\n" in site.credentials.read_text()


def wrong_password(site: Site) -> None:
    site.credentials.write_text(site.credentials.read_text().replace("password=", "password=wrong-"))


def open_credentials(site: Site) -> None:
    site.credentials.chmod(0o644)


def missing_credentials(site: Site) -> None:
    site.credentials.unlink()


def missing_privilege(site: Site) -> None:
    site.server.query("REVOKE TRIGGER ON *.* FROM dbc_ship@'127.0.0.1'")


def missing_agent(site: Site) -> None:
    site.instance["agent"]["program"] = "/usr/local/libexec/none"


def agent_does_not_know(site: Site) -> None:
    (site.place.root / "agent" / "simrs.json").unlink()


def no_ssh_host(site: Site) -> None:
    site.instance["agent"]["transport"] = "ssh"


def unreachable_host(site: Site) -> None:
    site.instance["agent"].update({"transport": "ssh", "host": "127.0.0.1", "port": 1})


def missing_tool_on_production(site: Site) -> None:
    wrapper = site.tmp / "agent"
    wrapper.write_text(
        AGENT_PROGRAM.read_text().replace('"mariadb": ("mariadb-backup",', '"mariadb": ("mariadb-backup-gone",')
    )
    wrapper.chmod(0o755)
    assert "mariadb-backup-gone" in wrapper.read_text()
    site.instance["agent"]["program"] = str(wrapper)


def version_mismatch(site: Site) -> None:
    wrapper = site.tmp / "agent"
    wrapper.write_text(
        '#!/bin/bash\nif [ "$3" = probe ]; then\n'
        """echo '{"agent_version": 1, "engine": "mariadb", "tools": {"mariadb-backup": "based on MariaDB server 10.6.5-MariaDB"}}'\n"""
        """echo 'DBC-AGENT {"ok": true}' >&2\nexit 0\nfi\n"""
        f'exec {AGENT_PROGRAM} "$@"\n'
    )
    wrapper.chmod(0o755)
    site.instance["agent"]["program"] = str(wrapper)


def unusable_recipient(site: Site) -> None:
    site.arguments["recipients"] = ["age1" + "q" * 58]


def private_key_as_recipient(site: Site) -> None:
    secret = (site.place.root / "operations.key").read_text().splitlines()[-1]
    site.arguments["recipients"] = [secret]


def key_that_does_not_open(site: Site) -> None:
    (site.place.root / "operations.key").unlink()


def bad_slot(site: Site) -> None:
    site.arguments["slot"] = "2026-09-19T12:00:00"


def unquoted_window(site: Site) -> None:
    site.arguments["window"] = {"zone": "Asia/Jakarta", "start": "12:00", "end": 750}


def unknown_zone(site: Site) -> None:
    site.arguments["window"] = {"zone": "Asia/Jakatra", "start": "12:00", "end": "12:30"}


def too_many_threads(site: Site) -> None:
    site.instance["parallel"] = 0


def impossible_level(site: Site) -> None:
    site.instance["compression_level"] = 99


REFUSALS: list[tuple[Callable[[Site], None], str, str]] = [
    (unknown_engine, "engine of the instance simrs 'oracle' is not known", "mariadb, postgresql, files"),
    (unknown_method, "method 'telepathic' of the instance simrs is not known", "Use one of: physical"),
    (slash_in_name, "'sim/rs' cannot be used", "lower-case letters"),
    (reserved_name, "'ledger' is one of the repository's own folders", "Use another"),
    (line_end_in_name, "'simrs\\n' cannot be used", "lower-case letters"),
    (relative_repository, "repository 'srv/backup' is not an absolute path", "beginning with a slash"),
    (parent_in_repository, "is not an absolute path", "beginning with a slash"),
    (relative_credentials, "'credentials/simrs' is not an absolute path", "beginning with a slash"),
    (no_repository, "holds no repository", "Mount its file system"),
    (unreachable_server, "the server does not answer", "Check host, port"),
    (wrong_password, "the user or password is refused", "Check host, port, user and password in"),
    (open_credentials, "can be read by others", "chmod 0600"),
    (missing_credentials, "No such file or directory", "Run the playbook site"),
    (missing_privilege, "lacks the privilege TRIGGER", "GRANT TRIGGER ON *.* TO 'dbc_ship'@'127.0.0.1'"),
    (missing_agent, "/usr/local/libexec/none is not there or cannot be run", "Install it"),
    (agent_does_not_know, "'simrs' is not allowed on this host", "run the playbook site"),
    (no_ssh_host, "no host is named", "Set agent.host"),
    (unreachable_host, "Connection refused", "Check the link"),
    (missing_tool_on_production, "mariadb-backup-gone is not on this host", "install the package"),
    (version_mismatch, "is 10.6.5, its server is 10.", "Install the mariadb-backup of the server's series"),
    (unusable_recipient, "age refuses the recipients", "Correct recipients"),
    (private_key_as_recipient, "A private key stands among the recipients", "make a new key"),
    (key_that_does_not_open, "operations.key", "age-keygen -y"),
    (bad_slot, "slot '2026-09-19T12:00:00' has no UTC offset", "+07:00"),
    (unquoted_window, "time '750' is not HH:MM", "Quote it in YAML"),
    (unknown_zone, "'Asia/Jakatra' is not known", "Asia/Jakarta"),
    (too_many_threads, "parallel of simrs 0 cannot be used", "from 1 to 64"),
    (impossible_level, "compression_level of simrs 99 cannot be used", "from 1 to 19"),
]


@pytest.mark.parametrize(("spoil", "says", "remedy"), REFUSALS, ids=[each[0].__name__ for each in REFUSALS])
def test_a_full_backup_is_refused_before_anything_is_written(
    site: Site, spoil: Callable[[Site], None], says: str, remedy: str
) -> None:
    secrets = [line for line in site.credentials.read_text().splitlines() if line.startswith("password")]
    private = (site.place.root / "operations.key").read_text().splitlines()[-1]
    spoil(site)
    before = everything(site)
    answer = called("full_backup", site.arguments, path=site.path)
    assert answer["failed"]
    assert says in answer["msg"]
    assert remedy in answer["msg"]
    assert "\n" not in answer["msg"].strip()
    assert "Traceback" not in str(answer)
    assert everything(site) == before
    assert all(secret.split("=", 1)[1].strip('"') not in str(answer) for secret in secrets)
    assert private not in str(answer)


def test_what_is_refused_works_unspoilt(site: Site) -> None:
    before = everything(site)
    assert called("full_backup", site.arguments, check=True)["changed"]
    assert everything(site) == before
    assert called("full_backup", site.arguments)["changed"]


CYCLE_REFUSALS: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("engine", lambda values: values["instances"][0].update(engine="oracle"), "'oracle' is not known"),
    ("name", lambda values: values["instances"][0].update(name="../x"), "'../x' cannot be used"),
    ("twice", lambda values: values["instances"].append(values["instances"][0]), "is named twice"),
    ("path", lambda values: values.update(repository="x"), "not an absolute path"),
    ("folder", lambda values: values.update(repository="/usr"), "holds no repository"),
    ("key", lambda values: values.update(recipients=["age1"]), "no age public key"),
]


@pytest.mark.parametrize("module", ["log_cycle", "backup_verify"])
@pytest.mark.parametrize(("what", "spoil", "says"), CYCLE_REFUSALS, ids=[each[0] for each in CYCLE_REFUSALS])
def test_cycles_and_verifications_are_refused_before_anything_is_written(
    site: Site, module: str, what: str, spoil: Callable[[dict[str, Any]], None], says: str
) -> None:
    arguments: dict[str, Any] = {
        "instances": [dict(site.instance)],
        **{key: site.arguments[key] for key in ("repository", "recipients", "identity_file")},
    }
    spoil(arguments)
    before = everything(site)
    answer = called(module, arguments)
    assert answer["failed"]
    assert says in answer["msg"]
    assert everything(site) == before


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"sets": ["20200101T000000Z-0001"], "level": "deep"}, "no full backup set 20200101T000000Z-0001 of simrs"),
        ({"head": "12"}, "'12' is no ledger head"),
    ],
)
def test_a_verification_of_what_is_not_there_is_refused(site: Site, more: dict[str, Any], says: str) -> None:
    before = everything(site)
    common = {key: site.arguments[key] for key in ("repository", "recipients", "identity_file")}
    answer = called("backup_verify", {"instances": [site.instance], **common, **more})
    assert answer["failed"]
    assert says in answer["msg"]
    assert everything(site) == before


def test_one_instance_that_fails_leaves_the_others_alone(site: Site) -> None:
    documents = site.tmp / "scan"
    documents.mkdir()
    (documents / "a").write_text("1")
    files = site.place.files("scan", documents)
    assert called("full_backup", backup_arguments(site.place, files))["changed"]
    assert called("full_backup", site.arguments)["changed"]
    (documents / "b").write_text("2")
    unreachable_server(site)
    arguments = {
        "instances": [site.instance, instance_arguments(files)],
        **{key: site.arguments[key] for key in ("repository", "recipients", "identity_file")},
    }
    answer = called("log_cycle", arguments)
    assert answer["failed"] == ["simrs"] or answer["failed"] is True
    assert "the server does not answer" in answer["msg"]
    assert answer["instances"]["scan"]["result"] == "good"
    assert answer["instances"]["simrs"]["result"] == "failed"
    quiet = called("log_cycle", {**arguments, "fail_on_findings": False})
    assert quiet["failed"] == ["simrs"]


def test_check_mode_of_a_cycle_says_whether_there_is_something_to_archive(site: Site) -> None:
    arguments = {
        "instances": [site.instance],
        **{key: site.arguments[key] for key in ("repository", "recipients", "identity_file")},
    }
    assert called("full_backup", site.arguments)["changed"]
    assert called("log_cycle", arguments)["instances"]["simrs"]["result"] in ("good", "idle")
    site.server.query("INSERT INTO rs.pasien SELECT COALESCE(MAX(id), 0) + 1 FROM rs.pasien")
    before = everything(site)
    looked = called("log_cycle", arguments, check=True)
    assert looked["changed"]
    assert everything(site) == before
    done = called("log_cycle", arguments)
    assert done["changed"]
    assert not called("log_cycle", arguments, check=True)["changed"]
    assert not called("log_cycle", arguments)["changed"]


def test_the_package_of_a_missing_tool_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client program on the backup host."""
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "mariadb" else real(name, **more))
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.registry import engine_for
    from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PrerequisiteError

    server = site.server
    with pytest.raises(PrerequisiteError, match="apt-get install mariadb-client"):
        engine_for(site.place.mariadb("simrs", server)).inspect()
