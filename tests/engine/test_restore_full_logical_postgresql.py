# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full restore of a real PostgreSQL server out of dumps (R2): tablespaces, locale, settings; and each refusal."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import restore_run
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import dump_scratch
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import (
    ContinuityError,
    DamagedError,
    InputError,
    PipelineError,
    PrerequisiteError,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import plan, ranges, restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_plan import FullPlan
from demo.compare import compare, fingerprint
from demo.process import run
from demo.sample import load
from demo.servers import PostgreSQLServer, workspace
from tests.postgresql_support import write_service
from tests.restore_full_support import allow_restore, order, siblings
from tests.restore_support import flip, full, newest_artefact, spoilt, tried
from tests.support import Place, make_place

pytestmark = pytest.mark.engine
ODD = "arsip\n rm -rf é"
_SETTINGS = """
SELECT d.datname, r.rolname, s.setconfig FROM pg_db_role_setting s
 LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1, 2
"""
_DATABASES = """
SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, datistemplate, datallowconn,
 (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(datacl) acl), shobj_description(oid, 'pg_database')
 FROM pg_database ORDER BY 1
"""


class OddServer(PostgreSQLServer):
    """A server that was made in another way than a new one with the defaults."""

    def _initialise(self) -> None:
        run(
            [
                *(self.program("initdb"), "-D", str(self.datadir), "--username=postgres", "--encoding=UTF8"),
                *("--locale=C.UTF-8", "--lc-collate=C", "--wal-segsize=4", "--data-checksums", "--auth=reject"),
                *("--no-instructions", "--no-sync"),
            ],
            self.owner,
            cwd=self.base,
        )
        for file in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
            (self.datadir / file).unlink()


@dataclass
class Site:
    """A production server with the sample and a tablespace, its repository of dumps, a scratch folder."""

    server: PostgreSQLServer
    place: Place
    instance: Instance
    scratch: Path

    def restored(self, target: Target | None = None, **changes: Any) -> dict[str, Any]:
        """Restore; nothing but the old data is left anywhere."""
        answer = restore(order(self.place, self.instance, self.scratch, target, **changes), Progress())
        assert answer["result"] == "succeeded"
        assert Repository.open(self.place.repository).ledger.verify().problem is None
        assert [name for name in os.listdir(self.scratch) if name.startswith("work-")] == []
        return answer

    def commit(self, text: str) -> None:
        """Commit one row."""
        self.server.query(f"INSERT INTO catatan VALUES ('{text}')", "simrs")  # noqa: S608

    def notes(self) -> list[str]:
        return [str(row[0]) for row in self.server.query("SELECT isi FROM catatan ORDER BY isi", "simrs")]

    @property
    def tablespace(self) -> Path:
        """The place of the sample's tablespace."""
        return Path(self.server.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16000") or "")

    @property
    def untouched(self) -> tuple[Any, ...]:
        """What a refusal must leave as it is."""
        places = (self.server.datadir, self.tablespace)
        kept = [(siblings(place), place.stat().st_ino) for place in places]
        return (self.server.pid, kept, self.notes())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with workspace("rdp") as folder, OddServer(folder / "simrs", fast=True) as server:
        load(server, patients=60)
        server.query("CREATE TABLE catatan (isi text PRIMARY KEY)", "simrs")
        server.query(f'CREATE DATABASE "{ODD}"')
        server.query("CREATE TABLE t (i int); INSERT INTO t VALUES (1)", ODD)
        server.query("CREATE TABLE di_postgres (i int); INSERT INTO di_postgres VALUES (7)", "postgres")
        server.query("CREATE TABLE di_template (i int)", "template1")
        for statement in (
            "ALTER DATABASE postgres SET work_mem = '6MB'",
            "ALTER DATABASE template1 SET work_mem = '5MB'",
            "COMMENT ON DATABASE postgres IS 'milik kami'",
            "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
            "ALTER SYSTEM SET work_mem = '7MB'",
        ):
            server.query(statement)
        place = make_place(folder / "backup")
        account = server.account("dbc_dump", ("SUPERUSER",))
        path = write_service(place.root / "credentials" / "simrs", "simrs", server, account.user, account.password)
        instance = Instance(name="simrs", engine="postgresql", method="logical", credentials=path, agent=place.agent)
        allow_restore(place, "simrs", server)
        full(place, instance)
        yield Site(server, place, instance, folder / "scratch")


def test_a_production_that_is_gone_comes_back_as_it_was_when_it_was_dumped(site: Site) -> None:
    server = site.server
    before = fingerprint(server, accounts=True)
    kept = [server.query(_SETTINGS), server.query(_DATABASES)]
    space = site.tablespace
    inode = space.stat().st_ino
    identifier = server.value("SELECT system_identifier FROM pg_control_system()")
    site.commit("sesudah dump")
    server.kill9()
    (server.datadir / "global" / "pg_control").unlink()
    planned = plan(order(site.place, site.instance, site.scratch))["plan"]
    assert planned["problems"] == []
    assert any("standbys" in each for each in planned["remarks"])
    assert "no log follows it" in planned["lost"]["detail"]
    assert str(space) in planned["place"].values()
    answer = site.restored()
    print(answer["phases"], answer["rto"], answer["follow_ups"])
    after = compare(before, fingerprint(server, accounts=True))
    assert after.ok, str(after)
    assert [server.query(_SETTINGS), server.query(_DATABASES)] == kept
    assert site.notes() == []
    assert site.tablespace == space
    assert space.stat().st_ino != inode
    assert len(siblings(space)) == 1
    assert len(siblings(server.datadir)) == 1
    assert len(answer["kept"]) == 2
    # A new server, laid out as the old one, with production's own settings.
    assert server.value("SELECT system_identifier FROM pg_control_system()") != identifier
    assert server.value("SHOW data_checksums") == "on"
    assert server.value("SHOW wal_segment_size") == "4MB"
    assert server.value("SELECT setting FROM pg_settings WHERE name = 'work_mem'", "simrs") == "7168"
    assert server.value("SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'simrs'", "simrs") == "t"
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf", "recovery.signal", "standby.signal"):
        assert not (server.datadir / name).exists()
    assert server.value("SELECT 1 FROM di_postgres WHERE i = 7", "postgres") == "1"
    held = Repository.open(site.place.repository).instance("simrs").sets()
    assert answer["lost"]["since"] == next(held).manifest.values["started_at"]


def test_then_a_full_backup_is_made_and_can_be_brought_back(site: Site) -> None:
    site.commit("baru")
    full(site.place, site.instance)
    known = ranges(order(site.place, site.instance, site.scratch, record=""))["ranges"]
    assert [each["lineage"] for each in known] == ["", ""]
    assert tried(site.place, site.scratch, site.instance)["failed"] == []


def test_an_older_dump_comes_back_where_it_is_named_and_every_part_is_checked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Repository.open(site.place.repository).instance("simrs").set_names()
    monkeypatch.setattr(FullPlan, "renamed", lambda *_of: False)  # as from another host
    site.restored(Target("set", held[0]))
    assert site.notes() == []
    answer = site.restored(Target("set", held[-1]), deep=True)
    results = {each["name"].split()[0]: each["result"] for each in answer["checks"]}
    assert results["pg_amcheck"] == results["pg_checksums"] == "passed"
    # What looked at it has left nothing behind.
    assert site.server.value("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'", "simrs") == "0"
    assert site.notes() == ["baru"]


def test_a_production_without_any_data_directory_gets_one(site: Site) -> None:
    space = site.tablespace
    site.server.kill9()
    shutil.rmtree(site.server.datadir)
    # Nobody knows any more whose folder that is: it is not replaced, and the refusal says so.
    with pytest.raises(PipelineError, match=f"{space} is no tablespace 1 of simrs, and not empty"):
        site.restored()
    assert not site.server.datadir.exists()
    space.rename(space.with_name("lama"))
    answer = site.restored()
    assert any("settings made with ALTER SYSTEM" in each for each in answer["notes"])
    assert site.notes() == ["baru"]
    assert answer["kept"] == []
    assert site.tablespace == space
    assert site.server.datadir.stat().st_mode & 0o777 == 0o700
    assert site.server.datadir.stat().st_uid == site.server.owner.uid
    # A pg_hba.conf that a new server would use, had production none elsewhere, lets nobody in just so.
    hba = (site.server.datadir / "pg_hba.conf").read_text()
    assert "trust" not in [line.split()[-1] for line in hba.splitlines() if line and not line.startswith("#")]


def test_settings_that_lie_in_the_data_directory_stay_productions_own(site: Site) -> None:
    data = site.server.datadir
    for name, text in (("postgresql.conf", "# milik produksi\n"), ("server.key", "rahasia"), ("lain.conf", "x = 1\n")):
        (data / name).write_text(text)
        (data / name).chmod(0o600)
        os.chown(data / name, site.server.owner.uid, site.server.owner.gid)
    site.server.query("ALTER SYSTEM SET work_mem = '9MB'")
    site.restored()
    assert (data / "postgresql.conf").read_text() == "# milik produksi\n"
    assert (data / "server.key").read_text() == "rahasia"
    assert (data / "server.key").stat().st_mode & 0o777 == 0o600
    assert (data / "server.key").stat().st_uid == site.server.owner.uid
    assert (data / "lain.conf").exists()
    assert site.server.value("SELECT setting FROM pg_settings WHERE name = 'work_mem'", "simrs") == "9216"


# -- refusals --


def refused(site: Site, kind: type[ContinuityError], match: str, request: Any) -> ContinuityError:
    before = site.untouched
    with pytest.raises(kind, match=match) as caught:
        restore(request, Progress())
    assert site.untouched == before
    assert not any(name.startswith("work-") for name in os.listdir(site.scratch))
    return caught.value


def test_a_moment_that_no_dump_has_is_refused_with_the_reason(site: Site) -> None:
    for target in (Target("time", "2026-01-01T00:00:00Z"), Target("lsn", "0/3000000")):
        request = order(site.place, site.instance, site.scratch, target)
        error = refused(site, InputError, "No log follows sets of the method logical", request)
        assert error.details["code"] == "out-of-range"
        assert "target set" in error.remedy


def test_refusals_touch_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(site, InputError, "was not confirmed", order(site.place, site.instance, site.scratch, confirm="simr"))
    look = Channel.look
    monkeypatch.setattr(Channel, "look", lambda *of: {**look(*of), "version": "17.2"})
    refused(
        site, PrerequisiteError, r"Production runs PostgreSQL 17\.2", order(site.place, site.instance, site.scratch)
    )


def test_a_damaged_dump_is_named_and_production_goes_on(site: Site) -> None:
    for content in ("pg-dump", "sql"):
        artefact = newest_artefact(site.place, content=content)
        request = order(site.place, site.instance, site.scratch)
        with spoilt(artefact, flip):
            refused(site, DamagedError, artefact.name, request)


def test_new_data_that_fail_leave_production_and_its_tablespace_on_the_old(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.commit("tetap ada")
    places = (site.server.datadir, site.tablespace)
    before = [(place.stat().st_ino, siblings(place)) for place in places]
    bring = restore_run.FullRun._bring

    def spoilt_files(self: restore_run.FullRun, settled: Path, spec: dict[str, Any]) -> None:
        (settled / "global" / "pg_control").write_bytes(b"")
        bring(self, settled, spec)

    monkeypatch.setattr(restore_run.FullRun, "_bring", spoilt_files)
    request = order(site.place, site.instance, site.scratch)
    with pytest.raises(PipelineError, match="the old data were put back, and production runs on them"):
        restore(request, Progress())
    monkeypatch.undo()
    assert "tetap ada" in site.notes()
    assert [(place.stat().st_ino, siblings(place)) for place in places] == before
    assert restore(request, Progress())["result"] == "succeeded"  # one instruction covers the second try
    assert "tetap ada" not in site.notes()


def test_a_first_role_of_another_name_is_refused_before_anything_is_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dump_scratch.read_globals
    monkeypatch.setattr(
        dump_scratch, "read_globals", lambda *of: re.sub(rb'(?m)^CREATE ROLE "postgres";\n', b"", real(*of))
    )
    refused(site, PipelineError, "is not called postgres", order(site.place, site.instance, site.scratch))


def test_a_dump_without_passwords_says_so_before_and_afterwards(site: Site) -> None:
    account = site.server.account("dbc_biasa", ("BYPASSRLS",))
    site.server.query(
        "GRANT pg_read_all_data, pg_read_all_settings, pg_read_all_stats TO dbc_biasa;"
        "GRANT CONNECT ON DATABASE postgres TO dbc_biasa"
    )
    # Nobody but its owner may read a large object.
    site.server.query("SELECT lo_unlink(oid) FROM pg_largeobject_metadata", "simrs")
    path = site.place.root / "credentials" / "biasa"
    write_service(path, "simrs", site.server, account.user, account.password)
    poor = replace(site.instance, credentials=path)
    full(site.place, poor)
    wanted = order(site.place, poor, site.scratch)
    assert any("holds no passwords" in each for each in plan(wanted)["plan"]["remarks"])
    answer = restore(wanted, Progress())
    assert answer["result"] == "succeeded"
    assert "Set the roles' passwords again: the dump held none." in answer["follow_ups"]
    assert any("run the playbook site" in each for each in answer["follow_ups"])
