# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine ``files``: folders of files (D1: databases *or files*)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from ...agent_answer import agent_stage, ask, trailer
from ...errors import DamagedError, PipelineError
from ...process import Stage, Written, find_tool, write_through
from ..base import ArtefactStream, BackupFacts, Engine, FullBackup, Inspection, LogChain, Problem
from .chain import FilesChain
from .listing import (
    Excused,
    count_entries,
    name_bytes,
    read_listing,
    sort_stage,
    staged_name,
    verify_against_listing,
)


class FilesEngine(Engine):
    """One or more folders on a production host."""

    name: ClassVar[str] = "files"
    methods: ClassVar[tuple[str, ...]] = ("archive",)

    def inspect(self) -> Inspection:
        try:
            answer: dict[str, Any] = json.loads(ask(self.instance.agent, "probe", self.instance.name))
        except PipelineError as error:
            return Inspection(
                "",
                {},
                0,
                {},
                {},
                problems=[Problem(error.message, error.remedy or "Run the playbook site for this host.")],
            )
        problems = [
            Problem(f"On the production host of {self.instance.name}: {each}.", "")
            for each in answer.get("problems", [])
        ]
        return Inspection(
            version=str(answer["tools"].get("tar", "")),
            identity={"paths": answer.get("paths", [])},
            expected_bytes=0,
            objects={},
            tools=dict(answer["tools"]),
            problems=problems,
        )

    @contextmanager
    def full_backup(self, workdir: Path) -> Iterator[FullBackup]:
        yield ArchiveBackup(self, workdir)

    def log_chain(self) -> LogChain:
        return FilesChain(self.instance)

    def verify_deep(self, folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        excused = Excused.of(manifest.get("engine_details", {}))
        problems = verify_against_listing(folder / "files.tar", folder / "listing.jsonl", excused)
        if problems:
            raise DamagedError(
                f"The set {manifest['set']} of {manifest['instance']} does not hold what its listing says: {'; '.join(problems[:5])}",
                "Make a new full backup now, and keep this set for the inquiry.",
                {"problems": problems[:100]},
            )
        return {"entries": count_entries(folder / "listing.jsonl")["entries"]}


class ArchiveBackup(FullBackup):
    """A listing, then an archive of everything in it: what changes in between is in the next cycle's changes."""

    def __init__(self, engine: FilesEngine, workdir: Path) -> None:
        self._engine = engine
        self._workdir = workdir
        self._listing = workdir / "listing.jsonl"
        self._names = workdir / "names"
        self._warnings: list[str] = []
        self._totals: dict[str, int] = {}
        self._sha256 = ""
        self._changed = Excused()

    def artefacts(self) -> Iterator[ArtefactStream]:
        instance = self._engine.instance
        agent = instance.agent
        listed = write_through(
            (agent_stage(agent, "list", instance.name, accept_failure=True), sort_stage()), self._listing
        )
        trailer(listed.stages[0])
        self._sha256 = listed.sha256
        self._totals = count_entries(self._listing)
        with self._names.open("wb") as names:
            for entry in read_listing(self._listing):
                names.write(name_bytes(entry) + b"\0")
        yield ArtefactStream(
            "listing.jsonl",
            "listing",
            (Stage((find_tool("cat", "coreutils"), str(self._listing))),),
            read_by_hand="cat",
        )
        compressed = instance.compress_on == "production"
        words = ["archive", instance.name, *([f"zstd={instance.compression_level}"] if compressed else [])]
        yield ArtefactStream(
            "files.tar",
            "tar",
            (
                Stage((find_tool("cat", "coreutils"), str(self._names))),
                agent_stage(agent, *words, accept_failure=True),
            ),
            compressed=compressed,
            read_by_hand="tar --extract --acls --xattrs --numeric-owner --directory=FOLDER",
        )

    def written(self, stream: ArtefactStream, written: Written) -> None:
        if stream.name == "files.tar":
            self._changed = Excused.of(trailer(written.stages[1]))
            if self._changed.count:
                self._warnings.append(
                    f"{self._changed.count} files changed or vanished while they were read; the next cycle brings them: "
                    + "; ".join(self._changed.lines[:10])
                )

    def finish(self) -> BackupFacts:
        position = {"listing_sha256": self._sha256, "entries": self._totals["entries"]}
        kept = self._workdir / staged_name(self._sha256)
        self._listing.rename(kept)
        return BackupFacts(
            start=position,
            end=position,
            point_in_time_recovery=True,
            warnings=self._warnings,
            details={
                "content_bytes": self._totals["bytes"],
                "objects": self._totals,
                **self._changed.values(),
            },
            restore_by_hand=("# then each later archive of changes: docs/restore-by-hand.md shows how",),
            keep=(kept,),
        )
