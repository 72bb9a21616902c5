# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operations are told about one instance: where it is, how it is reached, how its copies are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from .errors import InputError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_AGENT_WORD = re.compile(r"[A-Za-z0-9._=:+/-]+")
# Folders of the repository that are no instance's.
RESERVED_NAMES = ("ledger", "approvals", "reports")


@dataclass(frozen=True)
class Agent:
    """How a tool is run on the production host, through the agent installed there.

    :param transport: ``local`` (this host is production) or ``ssh`` (through a forced command).
    :param program: the agent's path, for ``local``.
    :param config_dir: the agent's folder of instances, for ``local``.
    :param host: name or address, for ``ssh``; with *user*, *port*, *identity_file*, *known_hosts_file*.
    """

    transport: str = "local"
    program: str = "/usr/local/libexec/dbcontinuity-agent"
    config_dir: str = "/etc/dbcontinuity/agent"
    host: str = ""
    user: str = "dbcontinuity"
    port: int = 22
    identity_file: str = "/etc/dbcontinuity/ssh/agent_key"
    known_hosts_file: str = "/etc/dbcontinuity/ssh/known_hosts"

    def argv(self, *words: str) -> tuple[str, ...]:
        """Return the command that has the agent do *words*; the words are safe for a remote shell.

        The server's key must be pinned, and a dead link ends the command within 15 seconds.
        """
        for word in words:
            if not _AGENT_WORD.fullmatch(word):
                raise InputError(
                    f"{word!r} cannot be passed to the agent.", "Use letters, digits, dot, dash, underscore."
                )
        if self.transport == "local":
            return (self.program, "--config", self.config_dir, *words)
        if not self.host:
            raise InputError(
                "The agent is to be reached over SSH, but no host is named.",
                "Set agent.host, or agent.transport: local.",
            )
        return (
            "ssh",
            *("-F", "none", "-T", "-i", self.identity_file, "-p", str(self.port), "-l", self.user),
            *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={self.known_hosts_file}", "-o", "GlobalKnownHostsFile=none"),
            *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"),
            *("-o", "ForwardAgent=no", "-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"),
            "--",
            self.host,
            *words,
        )


@dataclass(frozen=True)
class Instance:
    """One database server, or one set of folders, that is backed up under one name.

    :param name: lower-case letters, digits, dot, dash, underscore; it names folders, services and lock files.
    :param engine: ``mariadb``, ``postgresql`` or ``files``.
    :param method: ``physical`` or ``logical`` for databases, ``archive`` for files.
    :param credentials: the client's own configuration file (MariaDB option file, PostgreSQL service file), 0600.
    :param agent: how the production host is reached.
    :param compress_on: ``backup`` or ``production``: where zstd runs.
    :param compression_level: zstd's level, 1 to 19.
    :param parallel: threads of the engine's tool and of zstd.
    """

    name: str
    engine: str
    method: str = ""
    credentials: Optional[Path] = None
    agent: Agent = field(default_factory=Agent)
    compress_on: str = "backup"
    compression_level: int = 1
    parallel: int = 2


def is_name(name: str) -> bool:
    """Return whether an instance can have this name."""
    return name not in RESERVED_NAMES and ".." not in name and _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return the instance name if it can name folders, services and lock files.

    :raises InputError: otherwise, naming it.
    """
    if name in RESERVED_NAMES:
        raise InputError(f"The instance name {name!r} is one of the repository's own folders.", "Use another one.")
    if not is_name(name):
        raise InputError(
            f"The instance name {name!r} cannot be used.",
            "Use lower-case letters, digits, dot, dash and underscore, at most 63, beginning and ending with a letter or digit.",
        )
    return name


def absolute(path: str, what: str) -> Path:
    """Return a path that must be absolute and free of ``..``.

    :raises InputError: otherwise, naming it.
    """
    candidate = Path(path)
    if not candidate.is_absolute() or ".." in candidate.parts or "\0" in path:
        raise InputError(
            f"The {what} {path!r} is not an absolute path.", "Write the whole path, beginning with a slash."
        )
    return candidate


def between(value: int, lowest: int, highest: int, what: str) -> int:
    """Return a number that must lie between two others.

    :raises InputError: otherwise, naming them.
    """
    if not lowest <= value <= highest:
        raise InputError(f"The {what} {value} cannot be used.", f"Use a number from {lowest} to {highest}.")
    return value


def choice(value: str, allowed: Mapping[str, object] | tuple[str, ...], what: str) -> str:
    """Return *value* if it is one of *allowed*.

    :raises InputError: otherwise, naming what is allowed.
    """
    if value not in allowed:
        raise InputError(f"The {what} {value!r} is not known.", f"Use one of: {', '.join(allowed)}.")
    return value
