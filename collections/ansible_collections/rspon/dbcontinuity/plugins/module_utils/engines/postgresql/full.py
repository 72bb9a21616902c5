# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A physical full backup of PostgreSQL: pg_basebackup over the replication protocol, from the backup host.

The log that makes the copy consistent comes in the same stream (``--wal-method=fetch``). A temporary replication slot,
held by a connection of its own, keeps the server from removing it meanwhile; server and slot part when this process
does, however it ends. Each archive flows through a check of its own into the repository; every file is held against the
server's manifest, and the log is parsed, before the set can be published.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...clock import iso
from ...errors import PipelineError, PrerequisiteError
from ...instance import Instance
from ...process import Finished, Stage, Written, find_tool, run
from ..base import ArtefactStream, BackupFacts, FullBackup
from . import tar_watch
from .client import PostgreSQLClient, find_postgresql
from .configuration import Configuration
from .pipes import ArchivePipes
from .state import ServerState

BASE = "base.tar"
ARCHIVE = "pg-tar"
MANIFEST = "backup_manifest"
_START = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)", re.M)
_TIMELINE = re.compile(r"^START TIMELINE: (\d+)", re.M)
_PLACE = "FOLDER"


class PhysicalBackup(FullBackup):
    """One base backup under way.

    :param spaces: the tablespaces' object identifiers and places.
    """

    def __init__(
        self,
        instance: Instance,
        client: PostgreSQLClient,
        state: ServerState,
        spaces: Sequence[tuple[str, str]],
        workdir: Path,
    ) -> None:
        self._instance = instance
        self._client = client
        self._state = state
        self._spaces = spaces
        self._workdir = workdir
        self._watched = workdir / "watched"
        self._watched.mkdir(mode=0o700)
        self._program = _watch_program(workdir)
        self._configuration = Configuration(instance, client, workdir)
        self._ranges: list[dict[str, Any]] = []

    # -- streams --

    def artefacts(self) -> Iterator[ArtefactStream]:
        yield from self._configuration.artefacts()
        compressed = self._instance.compress_on == "production"
        ending = ".tar.zst" if compressed else ".tar"
        prefixes = {f"base{ending}": "", **{f"{oid}{ending}": f"pg_tblspc/{oid}/" for oid, _place in self._spaces}}
        landing = self._workdir / "landing"
        with ArchivePipes(self._basebackup(landing, compressed), landing, tuple(prefixes)) as pipes:
            for _each in prefixes:
                name, descriptor = pipes.next()
                plain = name[: -len(ending)]
                yield ArtefactStream(
                    name=f"{plain}.tar",
                    content=ARCHIVE,
                    stages=(self._watch(descriptor, prefixes[name], compressed),),
                    compressed=compressed,
                    read_by_hand="tar --extract --same-permissions --one-top-level="
                    + (_PLACE if plain == "base" else f"TABLESPACE-{plain}"),
                )
                pipes.done(name)
            pipes.finish()
            (landing / MANIFEST).rename(self._watched / MANIFEST)
        self._prove()
        yield ArtefactStream(
            MANIFEST,
            "backup_manifest",
            (Stage((find_tool("cat", "coreutils"), str(self._watched / MANIFEST))),),
            read_by_hand=f"cat > {_PLACE}/{MANIFEST}",
        )

    def _basebackup(self, landing: Path, compressed: bool) -> Stage:
        level, workers = self._instance.compression_level, self._instance.parallel
        return self._client.stage(
            find_postgresql("pg_basebackup", self._state.major),
            f"--dbname={self._client.connection()}",
            *("--no-password", "--format=tar", f"--pgdata={landing}"),
            *("--wal-method=fetch", "--checkpoint=fast", "--manifest-checksums=SHA256", "--no-sync", "--verbose"),
            f"--label=dbcontinuity {self._instance.name}",
            f"--compress=server-zstd:level={level},workers={workers}" if compressed else "--compress=none",
            label="pg_basebackup",
        )

    def _watch(self, descriptor: int, prefix: str, compressed: bool) -> Stage:
        return Stage(
            (
                *(sys.executable or find_tool("python3"), "-I", str(self._program)),
                *(f"--folder={self._watched}", f"--prefix={prefix}", f"--source={descriptor}"),
                *((f"--zstd={find_tool('zstd')}",) if compressed else ()),
            ),
            label="the check of the archive",
            pass_fds=(descriptor,),
        )

    # -- proof --

    def written(self, stream: ArtefactStream, written: Written) -> None:
        if stream.content == "configuration":
            self._configuration.written(written)

    def _prove(self) -> None:
        """Hold every file against the server's manifest, and parse the log that makes the copy consistent."""
        manifest = self._watched / MANIFEST
        if not manifest.exists():
            raise PipelineError(
                "The base backup holds no backup_manifest: the stream was cut short.", "Run the backup again."
            )
        problems, self._ranges = tar_watch.compare(manifest, self._watched / tar_watch.SEEN)
        if problems:
            raise PipelineError(
                f"The base backup is not what the server's manifest says: {'; '.join(problems[:5])}"
                + (f" and {len(problems) - 5} more." if len(problems) > 5 else "."),
                "Run the backup again; if it fails again, look at the network and the memory of both hosts.",
                {"problems": problems[:100]},
            )
        if not self._ranges:
            raise PipelineError("The server's manifest names no log.", "Report this with the server's version.")
        for each in self._ranges:
            proof = parse_log(
                self._state.major, self._watched / "wal", int(each["Timeline"]), each["Start-LSN"], each["End-LSN"]
            )
            if not proof.ok:
                raise PipelineError(
                    f"The log in the base backup cannot be read from {each['Start-LSN']} to {each['End-LSN']}:"
                    f" {proof.stderr.strip()[-1000:]}",
                    "Run the backup again.",
                )

    def finish(self) -> BackupFacts:
        label = (self._watched / "backup_label").read_text(encoding="utf-8", errors="replace")
        start, timeline = _START.search(label), _TIMELINE.search(label)
        if start is None or timeline is None:
            raise PipelineError("backup_label does not say where the log starts.", "Report this with the version.")
        return BackupFacts(
            start={
                "timeline": int(timeline.group(1)),
                "lsn": start.group(1),
                "wal_file": start.group(2),
                "segment_bytes": self._state.segment_bytes,
                "major": self._state.major,
                "activity": self._state.activity,
                "at": iso(self._state.at),
            },
            end={"timeline": int(self._ranges[-1]["Timeline"]), "lsn": self._ranges[-1]["End-LSN"]},
            point_in_time_recovery=True,
            warnings=self._configuration.warnings,
            restore_by_hand=self._by_hand(),
            # Without a receiver nobody else has the log that the chain begins with.
            keep=sorted((self._watched / "wal").iterdir()) if self._state.slot is None else (),
            details={
                "backup_label": label,
                "manifest_verified": True,
                "tablespaces": dict(self._spaces),
                **self._configuration.details,
            },
        )

    def _by_hand(self) -> list[str]:
        """Return the commands that follow unpacking; they stand in the manifest, so they name no path of this host."""
        folder = f"/usr/lib/postgresql/{self._state.major}/bin"
        lines = [f"chmod 0700 {_PLACE}"]
        if self._spaces:
            lines += [f"ln -s $(realpath TABLESPACE-{oid}) {_PLACE}/pg_tblspc/{oid}" for oid, _place in self._spaces]
        lines.append(f"{folder}/pg_verifybackup {_PLACE}")
        if self._spaces:
            # tablespace_map names production's own folders: a server started here with it would write into them.
            lines.append(f": > {_PLACE}/tablespace_map")
            lines += [
                f"echo {oid} $(realpath TABLESPACE-{oid}) >> {_PLACE}/tablespace_map" for oid, _place in self._spaces
            ]
        return lines


def parse_log(major: int, folder: Path, timeline: int, start: str, end: str) -> Finished:
    """Read all records from *start* to *end*; status 0 says that none is missing and every checksum holds."""
    return run(
        Stage(
            (
                find_postgresql("pg_waldump", major),
                *("--quiet", f"--path={folder}", f"--timeline={timeline}", f"--start={start}", f"--end={end}"),
            ),
            label="pg_waldump",
        ),
        timeout=24 * 3600,
        check=False,
    )


def _watch_program(workdir: Path) -> Path:
    """Write the archive's check beside the data: the collection's own files may lie inside a zip archive."""
    source = pkgutil.get_data(tar_watch.__name__.rpartition(".")[0], "tar_watch.py")
    if source is None:
        raise PrerequisiteError("The program that checks the archive is missing.", "Install the collection again.")
    path = workdir / "tar_watch.py"
    path.write_bytes(source)
    return path


def verify_unpacked(folder: Path, manifest: Mapping[str, Any], *, content: bool = True) -> Finished:
    """Let ``pg_verifybackup`` look at an unpacked set; tablespaces are linked within the folder.

    :param folder: holds ``base.tar``, and a folder ``<oid>.tar`` for each tablespace, each unpacked, and
        ``backup_manifest`` where the set has it as a file of its own.
    :param content: also read every file's content; else that each is there with its size, and the log the set needs.
    """
    data = folder / BASE
    for oid in manifest.get("engine_details", {}).get("tablespaces", {}):
        link = data / "pg_tblspc" / str(oid)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(Path("../..") / f"{oid}.tar")
    own = folder / MANIFEST
    major = int(str(manifest["server"]["version"]).split(".", maxsplit=1)[0])
    return run(
        Stage(
            (
                find_postgresql("pg_verifybackup", major),
                *((f"--manifest-path={own}",) if own.exists() else ()),
                "--exit-on-error",
                *(() if content else ("--skip-checksums",)),
                str(data),
            ),
            label="pg_verifybackup",
        ),
        timeout=24 * 3600,
        check=False,
    )
