# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's configuration files: Debian keeps them in /etc/postgresql, outside the data directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...agent_answer import agent_stage, trailer
from ...errors import PipelineError
from ...instance import Instance
from ...process import Stage, Written, find_tool
from ..base import ArtefactStream
from .client import PostgreSQLClient

NAME = "configuration.tar"
_FILES = """
SELECT name, setting FROM pg_settings WHERE name IN ('data_directory', 'config_file', 'hba_file', 'ident_file');
"""
_MAY_READ = """
SELECT has_function_privilege('pg_read_file(text)', 'EXECUTE') AND pg_has_role('pg_read_server_files', 'USAGE');
"""


class Configuration:
    """The configuration as an artefact: by the agent where one serves this instance, else by SQL, else a warning."""

    def __init__(self, instance: Instance, client: PostgreSQLClient, workdir: Path) -> None:
        self._instance = instance
        self._client = client
        self._folder = workdir / "configuration"
        self._by_agent = False
        self.warnings: list[str] = []
        self.details: dict[str, Any] = {}

    def artefacts(self) -> Iterator[ArtefactStream]:
        """Give the artefact, if there is one."""
        settings = {str(row[0]): row[1] or "" for row in self._client.query(_FILES)}
        data = settings.pop("data_directory", "")
        outside = sorted({path for path in settings.values() if path and not _within(path, data)})
        self.details["configuration_files"] = outside
        if agent_serves(self._instance):
            self._by_agent = True
            yield self._stream(
                agent_stage(self._instance.agent, "configuration", self._instance.name, accept_failure=True)
            )
            return
        if not outside:
            return
        if self._client.value(_MAY_READ) != "t":
            self.warnings.append(
                f"The configuration files are not in this backup: {', '.join(outside)}. Let the playbook site install the agent on"
                " production, or allow the account pg_read_file (GRANT pg_read_server_files, GRANT EXECUTE ON FUNCTION pg_read_file(text))."
            )
            return
        for path in outside:
            quoted = path.replace("'", "''")
            content = self._client.value(f"SELECT encode(convert_to(pg_read_file('{quoted}'), 'UTF8'), 'hex');")
            target = self._folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bytes.fromhex(content))
        yield self._stream(
            Stage((find_tool("tar"), "--create", "--file=-", "--format=posix", f"--directory={self._folder}", "."))
        )

    def _stream(self, stage: Stage) -> ArtefactStream:
        return ArtefactStream(
            name=NAME,
            content="configuration",
            stages=(stage,),
            read_by_hand="tar --extract --one-top-level=CONFIGURATION",
        )

    def written(self, written: Written) -> None:
        """Look at what the agent said."""
        if not self._by_agent:
            return
        missing = trailer(written.stages[0]).get("missing", [])
        if missing:
            raise PipelineError(
                f"The agent on production does not find the configuration files {', '.join(map(str, missing))}.",
                "Correct configuration_paths of the instance in the agent's configuration: run the playbook site.",
            )


def agent_serves(instance: Instance) -> bool:
    """Return whether an agent is set up for this instance: PostgreSQL needs it for configuration files alone."""
    agent = instance.agent
    if agent.transport != "local":
        return bool(agent.host)
    return os.access(agent.program, os.X_OK) and (Path(agent.config_dir) / f"{instance.name}.json").is_file()


def _within(path: str, folder: str) -> bool:
    return bool(folder) and os.path.normpath(path).startswith(os.path.normpath(folder).rstrip("/") + "/")
