# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A physical full backup of MariaDB: mariadb-backup on production, streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ...agent_answer import agent_stage, trailer
from ...errors import PipelineError
from ...instance import Instance
from ...process import Written
from ..base import ArtefactStream, BackupFacts, FullBackup

_BINLOG = re.compile(r"filename '([^']+)', position '(\d+)'(?:, GTID of the last change '([^']*)')?")


class PhysicalBackup(FullBackup):
    """One physical backup under way."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._answer: dict[str, Any] = {}

    def artefacts(self) -> Iterator[ArtefactStream]:
        words = ["backup", self._instance.name, f"parallel={self._instance.parallel}"]
        compressed = self._instance.compress_on == "production"
        if compressed:
            words.append(f"zstd={self._instance.compression_level}")
        yield ArtefactStream(
            name="backup.mbstream",
            content="mbstream",
            # The agent's own last word is looked at in written(): it says more than its exit status.
            stages=(agent_stage(self._instance.agent, *words, accept_failure=True),),
            compressed=compressed,
            checksummed=True,  # each chunk of an mbstream: extra/mariabackup/xbstream_read.cc
            read_by_hand="mbstream --extract --directory=FOLDER",
        )

    def written(self, stream: ArtefactStream, written: Written) -> None:
        self._answer = trailer(written.stages[0])

    def finish(self) -> BackupFacts:
        position = position_from(str(self._answer["info"].get("binlog_pos", "")))
        warnings = [str(line) for line in self._answer.get("warnings", [])]
        return BackupFacts(
            start=position or {},
            end=position or {},
            point_in_time_recovery=position is not None,
            warnings=warnings,
            restore_by_hand=(
                # Link files hold production's own paths: a server started here would look at the live tables.
                "find FOLDER -name '*.isl' -delete",
                "mariadb-backup --prepare --target-dir=FOLDER",
                "chown -R mysql:mysql FOLDER",
            ),
            details={
                key: self._answer["info"][key]
                for key in (
                    "tool_version",
                    "server_version",
                    "start_time",
                    "end_time",
                    "innodb_from_lsn",
                    "innodb_to_lsn",
                )
                if key in self._answer["info"]
            },
        )


def position_from(text: str) -> Optional[Mapping[str, Any]]:
    """Return the binary log position in a backup's information, None where the binary log was off.

    :param text: ``filename 'bin.000002', position '343', GTID of the last change '0-1-10'``.
    :raises PipelineError: if there is text that is no position.
    """
    if not text.strip():
        return None
    match = _BINLOG.search(text)
    if match is None:
        raise PipelineError(
            f"mariadb-backup told no binary log position that can be read: {text!r}",
            "Report this with the tool's version.",
        )
    return {"file": match.group(1), "offset": int(match.group(2)), "gtid": match.group(3) or ""}
