# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the PostgreSQL engine needs no server: names in the log, the check of an archive, what libpq's words mean."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql import tar_watch
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.client import PostgreSQLClient
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.state import slot_name
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.postgresql.wal import (
    Segment,
    format_lsn,
    parse_lsn,
    segment_name,
    segment_start,
    segment_timeline,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import AccessError, PipelineError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance

SIZES = st.sampled_from([2**power * 1024 * 1024 for power in range(11)])


@given(st.integers(0, 2**64 - 1))
def test_a_log_sequence_number_is_written_as_it_was_read(value: int) -> None:
    assert parse_lsn(format_lsn(value)) == value


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**63), SIZES)
def test_a_segment_s_name_says_where_it_begins(timeline: int, lsn: int, size: int) -> None:
    name = segment_name(timeline, lsn, size)
    assert len(name) == 24
    assert segment_timeline(name) == timeline
    assert segment_start(name, size) <= lsn < segment_start(name, size) + size
    assert segment_name(timeline, segment_start(name, size) + size, size) > name


def test_names_are_postgresql_s_own() -> None:
    assert segment_name(1, parse_lsn("0/15034E0"), 16 * 1024**2) == "000000010000000000000001"
    assert segment_name(3, parse_lsn("2A/FF000000"), 16 * 1024**2) == "000000030000002A000000FF"


@given(st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", fullmatch=True))
def test_a_slot_s_name_is_one_that_postgresql_takes(instance: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]{1,63}", slot_name(instance))


def test_two_instances_never_share_a_slot() -> None:
    assert slot_name("simrs") == "dbcontinuity_simrs"
    names = {slot_name(each) for each in ("sim-rs", "sim.rs", "sim_rs", "x" * 60, "x" * 61)}
    assert len(names) == 5


def test_a_file_that_is_no_segment_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "000000010000000000000001"
    path.write_bytes(b"\0" * 1024**2)
    fault = Segment(path, path.name, 1024**2).check("1")
    assert fault is not None
    assert fault.code == "bit-flip"
    fault = Segment(path, path.name, 2 * 1024**2).check("1")
    assert fault is not None
    assert fault.code == "truncated"


FILES = {
    "backup_label": b"label",
    "PG_VERSION": b"15\n",
    "base/1/1": b"x" * 9000,
    "base/1/2": b"",
    "tablespace_map": b"",
}


def archive(files: dict[str, bytes]) -> bytes:
    """Make an archive as the server does."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo("base")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def server_manifest(files: dict[str, bytes]) -> bytes:
    """Make a backup_manifest as the server does."""
    entries = ",\n".join(
        json.dumps(
            {
                "Path": name,
                "Size": len(data),
                "Checksum-Algorithm": "SHA256",
                "Checksum": hashlib.sha256(data).hexdigest(),
            }
        )
        for name, data in files.items()
    )
    text = (
        '{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n' + entries + '\n],\n"WAL-Ranges": [\n'
        '{ "Timeline": 1, "Start-LSN": "0/4000028", "End-LSN": "0/4000100" }\n],\n'
    ).encode()
    return text + f'"Manifest-Checksum": "{hashlib.sha256(text).hexdigest()}"}}\n'.encode()


def look(folder: Path, data: bytes, step: int = 1000, prefix: str = "") -> None:
    watcher = tar_watch.Watcher(folder, prefix)
    view = memoryview(data)
    try:
        for start in range(0, len(view), step):
            watcher.feed(view[start : start + step])
    finally:
        watcher.close()


def problems(folder: Path, manifest: bytes) -> list[str]:
    (folder / "backup_manifest").write_bytes(manifest)
    return tar_watch.compare(folder / "backup_manifest", folder / tar_watch.SEEN)[0]


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 100000])
def test_an_archive_is_read_in_blocks_of_any_length(tmp_path: Path, step: int) -> None:
    look(tmp_path, archive(FILES), step)
    found, ranges = tar_watch.compare(_written(tmp_path, FILES), tmp_path / tar_watch.SEEN)
    assert found == []
    assert ranges == [{"Timeline": 1, "Start-LSN": "0/4000028", "End-LSN": "0/4000100"}]
    assert (tmp_path / "backup_label").read_bytes() == b"label"


def _written(folder: Path, files: dict[str, bytes]) -> Path:
    (folder / "backup_manifest").write_bytes(server_manifest(files))
    return folder / "backup_manifest"


def test_each_difference_from_the_manifest_is_named(tmp_path: Path) -> None:
    manifest = server_manifest(FILES)
    for number, (files, words) in enumerate(
        [
            ({**FILES, "base/1/1": b"y" * 9000}, "base/1/1 has other content"),
            ({**FILES, "base/1/1": b"x" * 8999}, "base/1/1 has 8999 bytes instead of 9000"),
            ({name: data for name, data in FILES.items() if name != "base/1/2"}, "base/1/2 is missing"),
            ({**FILES, "base/1/3": b""}, "base/1/3 is not in the manifest"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        look(folder, archive(files))
        assert [each for each in problems(folder, manifest) if words in each], words
    look(tmp_path, archive(FILES))
    altered = manifest.replace(b"9000", b"9001")
    assert "backup_manifest itself is damaged or cut short" in problems(tmp_path, altered)
    assert problems(tmp_path, b"{ nothing") != []
    assert problems(tmp_path, manifest[:-60]) == ["backup_manifest itself is damaged or cut short"]


def test_a_tablespace_s_files_stand_in_the_manifest_with_its_path(tmp_path: Path) -> None:
    look(tmp_path, archive({"PG_15/5/1": b"row"}), prefix="pg_tblspc/16385/")
    assert problems(tmp_path, server_manifest({"pg_tblspc/16385/PG_15/5/1": b"row"})) == []


@given(st.integers(0, 12000))
def test_an_archive_cut_anywhere_is_not_whole(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    whole = archive({"base/1/1": b"x" * 9000})
    ends = len(whole.rstrip(b"\0")) // 512 * 512 + 512 + 1024  # two empty blocks end it, whatever padding follows
    cut = whole[: min(length, ends - 1)]
    with pytest.raises(tar_watch.BrokenArchive):
        look(tmp_path_factory.mktemp("cut"), cut)


def test_a_damaged_header_is_no_archive(tmp_path: Path) -> None:
    data = bytearray(archive(FILES))
    data[700] ^= 1
    with pytest.raises(tar_watch.BrokenArchive, match=r"damaged|unknown|cut short"):
        look(tmp_path, bytes(data))


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ('FATAL:  password authentication failed for user "x"', "password is refused"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "pg_hba.conf"),
        ('could not translate host name "simrs" to address', "host name is not known"),
        ("Connection refused", "does not answer"),
        ("timeout expired", "does not answer"),
        ("SSL error: certificate verify failed", "TLS"),
        ('FATAL:  database "x" does not exist', "cannot be connected to"),
        ("FATAL:  the database system is starting up", "starting or stopping"),
        ("FATAL:  sorry, too many clients already", "no connection left"),
    ],
)
def test_what_libpq_says_is_put_into_words(tmp_path: Path, said: str, meaning: str) -> None:
    client = _client(tmp_path)
    with pytest.raises(AccessError) as error:
        client.refused(f'psql: error: connection to server at "10.0.0.2", port 5432 failed: {said}', True, 2)
    assert meaning in error.value.message
    assert str(tmp_path / "simrs") in error.value.remedy
    assert "rahasia" not in str(error.value)


def test_a_refused_statement_is_no_question_of_access(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="permission denied for function"):
        _client(tmp_path).refused("ERROR:  permission denied for function pg_switch_wal", False, 3)


def _client(folder: Path) -> PostgreSQLClient:
    path = folder / "simrs"
    path.touch(mode=0o600)
    path.write_text("[simrs]\nhost=10.0.0.2\nuser=dbc\npassword=rahasia%s\n")
    client = PostgreSQLClient(Instance(name="simrs", engine="postgresql", credentials=path))
    assert "rahasia" not in json.dumps([client.connection("x'y"), dict(client.environment), dict(client.service)])
    return client
