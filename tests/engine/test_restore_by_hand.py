# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/restore-by-hand.md, every block word for word, against real repositories: only the settings' values are put in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from demo.servers import MariaDBServer, PostgreSQLServer, sweep, workspace
from tests.documents import PROJECT, Block, fenced, validator
from tests.postgresql_support import Receiver, backup, cycle, instance, write_service
from tests.support import Place, make_place

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="the document asks for a root shell"),
]
DOCUMENT = PROJECT / "docs" / "restore-by-hand.md"
BLOCKS = [block for block in fenced(DOCUMENT) if block.language.split()[:1] == ["bash"]]
SETTINGS, DERIVED = BLOCKS[:2]
# By section, the last lines that the text promises of its blocks.
PROMISES = {
    "1.": (),
    "2.": ("chain whole:",),
    "3.": ("unpacked into", "[2-9] logs follow"),
    "4a.": ("mysqld is alive", "replayed", "sequences moved"),
    "4b.": ("target: recovery_target_lsn", "open, in recovery: false"),
    "4c.": ("changes applied: 2", "as listed:"),
    "4d.": ("loaded",),
    "5.": (),
}


@dataclass
class Reader:
    """Somebody who pastes the document's blocks, each time with the settings above them."""

    repository: Path
    key: Path
    name: str
    work: Path
    until: str = ""

    def settings(self) -> str:
        """Return the settings block with this reader's values, and the one derived from it."""
        text = SETTINGS.text
        for variable, value in (
            ("REPO", self.repository),
            ("KEY", self.key),
            ("INSTANCE", self.name),
            ("WORK", self.work),
            ("UNTIL", self.until),
        ):
            text, count = re.subn(rf"^{variable}=\S*", f"{variable}={value}", text, flags=re.M)
            assert count == 1, variable
        return text + DERIVED.text

    def paste(self, block: Block) -> subprocess.CompletedProcess[str]:
        """Run a block in a fresh shell, as an interactive one would: it goes on after an error."""
        return subprocess.run(
            ["bash", "-c", self.settings() + block.text], capture_output=True, text=True, check=False, cwd="/"
        )

    def section(self, start: str, *, without_last: bool = False, engine: str = "") -> list[str]:
        """Run the blocks of a section in order, of those for one engine its own; what each printed."""
        wanted = ("bash", f"bash {engine}")
        blocks = [block for block in BLOCKS[2:] if block.section.startswith(start) and block.language in wanted]
        assert blocks, start
        said = []
        for block in blocks[:-1] if without_last else blocks:
            done = self.paste(block)
            assert done.returncode == 0, (block.text, done.stdout, done.stderr)
            said.append(done.stdout)
        ends = [text.rstrip().rpartition("\n")[2] for text in said]
        assert [each for each in PROMISES[start] if not any(re.match(each, end) for end in ends)] == [], said
        return said

    def up_to_engine(self) -> None:
        """Run what is common to all engines."""
        for start in ("1.", "2.", "3."):
            self.section(start)

    def last(self, start: str) -> None:
        """Run a section's last block: the one that stops the server."""
        block = [block for block in BLOCKS if block.section.startswith(start)][-1]
        done = self.paste(block)
        assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with workspace("byhand") as folder:
        yield folder


@pytest.fixture(scope="module")
def place(base: Path) -> Place:
    return make_place(base / "backup")


def reader(place: Place, base: Path, name: str, work: str, until: str = "") -> Reader:
    return Reader(place.repository, place.root / "operations.key", name, base / work, until)


def test_the_text_tells_what_each_step_must_end_with() -> None:
    text = DOCUMENT.read_text()
    for promise in (
        "chain whole:",
        "unpacked into",
        "mysqld is alive",
        "replayed",
        "open, in recovery: false",
        "as listed:",
    ):
        assert f"must end with `{promise}" in text


# -- MariaDB --


@dataclass
class Site:
    """An instance whose newest full backup has logs before and after it, and a moment in between."""

    one: Instance
    moment: str


@pytest.fixture(scope="module")
def mariadb(base: Path, place: Place) -> Iterator[Site]:
    with MariaDBServer(base / "simrs", fast=True) as server:
        server.query(
            "CREATE DATABASE simrs; USE simrs;"  # noqa: S608 - a test's own folder
            "CREATE SEQUENCE nomor START WITH 1 CACHE 10;"
            "CREATE TABLE kunjungan (id BIGINT PRIMARY KEY DEFAULT NEXT VALUE FOR nomor, isi TEXT);"
            "CREATE TABLE jejak (isi TEXT);"
            f"CREATE TABLE arsip (id INT PRIMARY KEY) DATA DIRECTORY='{server.external}';"
            "CREATE TRIGGER catat AFTER INSERT ON kunjungan FOR EACH ROW INSERT INTO jejak VALUES (NEW.isi);"
            "CREATE EVENT hapus ON SCHEDULE EVERY 1 SECOND STARTS '2030-01-01' DO DELETE FROM kunjungan"
        )
        one = place.mariadb("simrs", server)

        def write(text: str) -> None:
            server.query(f"INSERT INTO kunjungan (isi) VALUES ('{text}')", "simrs")  # noqa: S608 - a test's own words

        write("before")
        backup(place, one)
        write("log 1")
        assert cycle(place, one)["result"] == "good"
        backup(place, one)
        write("log 2")
        moment = server.value("SELECT @@gtid_binlog_pos") or ""
        write("log 2, after the moment")
        assert cycle(place, one)["result"] == "good"
        write("log 3")
        server.query("INSERT INTO arsip VALUES (7)", "simrs")
        assert cycle(place, one)["result"] == "good"
        backup(place, place.mariadb("dump", server, method="logical"))
        server.stop()  # the copy must not need it
        yield Site(one, moment)


def ask_mariadb(work: Path, sql: str) -> list[str]:
    done = subprocess.run(
        ["mariadb", "--no-defaults", f"--socket={work}/run/mysqld.sock", "--user=root", "-BNe", sql, "simrs"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def test_mariadb_to_the_end_of_the_logs(base: Path, place: Place, mariadb: Site) -> None:
    pasting = reader(place, base, "simrs", "back-end")
    pasting.up_to_engine()
    pasting.section("4a.", without_last=True)
    try:
        rows = ["before", "log 1", "log 2", "log 2, after the moment", "log 3"]
        assert ask_mariadb(pasting.work, "SELECT isi FROM kunjungan ORDER BY id") == rows
        assert ask_mariadb(pasting.work, "SELECT isi FROM jejak") == rows
        assert ask_mariadb(pasting.work, "SELECT id FROM arsip") == ["7"]
        # Without the document's last statements the sequence gives a number that a row has.
        ask_mariadb(pasting.work, "INSERT INTO kunjungan (isi) VALUES ('new')")
        assert ask_mariadb(pasting.work, "SELECT @@event_scheduler, @@skip_networking, @@log_bin") == ["DISABLED\t1\t0"]
        assert list(pasting.work.rglob("*.isl")) == []
    finally:
        pasting.last("4a.")
    assert not (pasting.work / "run" / "mariadbd.pid").exists()
    assert sweep(pasting.work) == []
    pasting.last("5.")
    assert not pasting.work.exists()


def test_mariadb_to_a_moment(base: Path, place: Place, mariadb: Site) -> None:
    pasting = reader(place, base, "simrs", "back-moment", mariadb.moment)
    pasting.up_to_engine()
    said = pasting.section("4a.", without_last=True)
    try:
        assert any(mariadb.moment in text for text in said)  # the listing shows the GTID that UNTIL wants
        assert ask_mariadb(pasting.work, "SELECT isi FROM kunjungan ORDER BY id") == ["before", "log 1", "log 2"]
    finally:
        pasting.last("4a.")


def planted(place: Place, base: Path, name: str, harm: str) -> Reader:
    """Return a reader of a copy of the repository whose second log is harmed."""
    copy = base / f"repository-{name}-{harm}"
    shutil.copytree(place.repository, copy)
    (log,) = copy.glob(f"{name}/logs/*/00000002-*.zst.age")
    (record,) = copy.glob(f"{name}/logs/*/00000002-*.json")
    if harm == "missing":
        log.unlink()
        record.unlink()
    elif harm == "renumbered":  # somebody closed the ranks
        log.unlink()
        (third,) = copy.glob(f"{name}/logs/*/00000003-*.json")
        record.write_text(third.read_text().replace('"sequence": 3', '"sequence": 2'))
    else:
        log.write_bytes(log.read_bytes()[:-1] + b"\x00")
    return Reader(copy, place.root / "operations.key", name, base / f"back-{harm}")


@pytest.mark.parametrize(("harm", "words"), [("missing", "HOLE"), ("renumbered", "HOLE"), ("flipped", "FAILED")])
def test_a_chain_that_is_not_whole_is_refused(base: Path, place: Place, mariadb: Site, harm: str, words: str) -> None:
    pasting = planted(place, base, "simrs", harm)
    (check,) = [block for block in BLOCKS if block.section.startswith("2.")]
    done = pasting.paste(check)
    assert done.returncode != 0
    assert "chain whole" not in done.stdout
    assert words in done.stdout


def test_a_link_that_leads_out_is_refused(base: Path, place: Place, mariadb: Site) -> None:
    pasting = reader(place, base, "simrs", "back-link")
    (pasting.work / "data").mkdir(parents=True)
    (pasting.work / "data" / "tabel").symlink_to("/var/lib")
    (check,) = [block for block in BLOCKS if "no link leads out" in block.text]
    done = pasting.paste(check)
    assert done.returncode != 0
    assert "/var/lib" in done.stdout


def test_a_dump_of_mariadb_is_loaded_into_a_throwaway_server(base: Path, place: Place, mariadb: Site) -> None:
    pasting = reader(place, base, "dump", "back-dump")
    unpacking = next(block for block in BLOCKS if block.section.startswith("3."))
    refused = pasting.paste(unpacking)  # its commands would load into the server that answers by default
    assert refused.returncode != 0
    assert "STOP: this set is a dump" in refused.stdout
    assert not pasting.work.exists()
    pasting.section("4d.", engine="mariadb")
    try:
        rows = ["before", "log 1", "log 2", "log 2, after the moment", "log 3"]
        assert ask_mariadb(pasting.work, "SELECT isi FROM kunjungan ORDER BY id") == rows
    finally:
        pasting.last("4a.")


# -- PostgreSQL --


@pytest.fixture(scope="module")
def postgresql(base: Path, place: Place) -> Iterator[Site]:
    with PostgreSQLServer(base / "lab", fast=True) as server:
        space = server.external / "arsip"
        space.mkdir()
        server.owner.give(space)
        server.query(f"CREATE TABLESPACE arsip LOCATION '{space}'")
        server.query(
            "CREATE TABLE hasil (id serial PRIMARY KEY, isi text); CREATE TABLE lama (id int) TABLESPACE arsip"
        )
        one = instance(place, "lab", server)

        def write(text: str) -> None:
            server.query(f"INSERT INTO hasil (isi) VALUES ('{text}')")  # noqa: S608 - a test's own words

        with Receiver(place, one):
            write("before")
            backup(place, one)
            write("log 1")
            assert cycle(place, one)["result"] == "good"
            backup(place, one)
            write("log 2")
            moment = server.value("SELECT pg_current_wal_insert_lsn()") or ""
            write("log 2, after the moment")
            assert cycle(place, one)["result"] == "good"
            write("log 3")
            server.query("INSERT INTO lama VALUES (7)")
            assert cycle(place, one)["result"] == "good"
        dumper = server.account("dbc_dump", ("SUPERUSER",))
        file = write_service(place.root / "credentials" / "labdump", "labdump", server, dumper.user, dumper.password)
        server.query("ALTER TABLE lama SET TABLESPACE pg_default; DROP TABLESPACE arsip")
        backup(place, Instance("labdump", "postgresql", method="logical", credentials=file, agent=place.agent))
        server.stop()
        yield Site(one, moment)


def ask_postgresql(work: Path, sql: str) -> list[str]:
    done = subprocess.run(
        ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-h", str(work / "run"), "-d", "postgres", "-c", sql],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return done.stdout.split("\n")[:-1]


def test_postgresql_to_the_end_of_the_logs(base: Path, place: Place, postgresql: Site) -> None:
    pasting = reader(place, base, "lab", "lab-end")
    pasting.up_to_engine()
    pasting.section("4b.", without_last=True)
    try:
        rows = ["before", "log 1", "log 2", "log 2, after the moment", "log 3"]
        assert ask_postgresql(pasting.work, "SELECT isi FROM hasil ORDER BY id") == rows
        assert ask_postgresql(pasting.work, "SELECT id FROM lama") == ["7"]
        spaces = ask_postgresql(
            pasting.work, "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'arsip'"
        )
        assert all(space.startswith(f"{pasting.work}/") for space in spaces)
        assert ask_postgresql(pasting.work, "SHOW listen_addresses") == [""]
    finally:
        pasting.last("4b.")
    assert sweep(pasting.work) == []


def test_postgresql_to_a_moment(base: Path, place: Place, postgresql: Site) -> None:
    # The document has the reader take the commit's own address, as pg_waldump prints it.
    listing = reader(place, base, "lab", "lab-moment")
    listing.up_to_engine()
    (show,) = [block for block in BLOCKS if "pg_waldump" in block.text]
    commits = re.findall(r"lsn: ([0-9A-F/]+)", listing.paste(show).stdout)
    wanted = [each for each in commits if _number(each) < _number(postgresql.moment)][-1]
    listing.until = wanted
    listing.section("4b.", without_last=True)
    try:
        assert ask_postgresql(listing.work, "SELECT isi FROM hasil ORDER BY id") == ["before", "log 1", "log 2"]
    finally:
        listing.last("4b.")


def _number(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def test_postgresql_does_not_open_where_a_log_is_missing(base: Path, place: Place, postgresql: Site) -> None:
    pasting = reader(place, base, "lab", "lab-hole")
    pasting.up_to_engine()
    sorted((pasting.work / "logs").iterdir())[-2].unlink()
    said = [pasting.paste(block) for block in BLOCKS if block.section.startswith("4b.")][:-1]
    assert "open, in recovery: false" not in "".join(each.stdout for each in said)
    assert "recovery ended before configured recovery target was reached" in said[2].stdout


def test_a_dump_of_postgresql_is_loaded_into_a_throwaway_server(base: Path, place: Place, postgresql: Site) -> None:
    pasting = reader(place, base, "labdump", "lab-dump")
    pasting.section("4d.", engine="postgresql")
    try:
        rows = ["before", "log 1", "log 2", "log 2, after the moment", "log 3"]
        assert ask_postgresql(pasting.work, "SELECT isi FROM hasil ORDER BY id") == rows
    finally:
        pasting.last("4b.")


def test_what_is_stored_of_real_servers_holds_the_published_schemas(
    place: Place, mariadb: Site, postgresql: Site
) -> None:
    for name, pattern, least in (("manifest", "*/full/*/manifest.json", 6), ("log-record", "*/logs/*/0*.json", 6)):
        found = sorted(place.repository.glob(pattern))
        assert len(found) >= least
        for path in found:
            validator(name).validate(json.loads(path.read_text()))


# -- folders of files --


def test_folders_of_files(base: Path, place: Place) -> None:
    scan = base / "scan"
    (scan / "rekam medis").mkdir(parents=True)
    (scan / "lain").mkdir()
    for name in ("rekam medis/a", "lain/a", "hapus", "baris\nbaru"):
        (scan / name).write_text(name)
    (scan / "tautan").symlink_to("lain/a")
    one = place.files("berkas", scan)

    def shipped() -> None:
        result: dict[str, Any] = cycle(place, one)
        assert result["result"] == "good", result

    backup(place, one)
    (scan / "antara").write_text("in the second full backup only")
    (scan / "hapus").unlink()
    backup(place, one)
    (scan / "antara").unlink()
    shipped()
    # What was a folder is a link now: deleting through it would take the other folder's file.
    shutil.rmtree(scan / "rekam medis")
    (scan / "rekam medis").symlink_to("lain")
    (scan / "lain" / "b").write_text("b")
    shipped()
    pasting = reader(place, base, "berkas", "berkas-back")
    pasting.up_to_engine()
    pasting.section("4c.")
    changes = subprocess.run(
        [
            *("rsync", "-aHAX", "--checksum", "--delete", "--dry-run", "--itemize-changes"),
            f"{scan}/",
            f"{pasting.work}/data{scan}/",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert changes.stdout == ""
