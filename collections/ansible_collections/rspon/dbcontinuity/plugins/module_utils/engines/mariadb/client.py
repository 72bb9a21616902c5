# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a MariaDB server, through its own command-line client."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Optional

from ...errors import AccessError, InputError, PipelineError, PrerequisiteError
from ...instance import Instance
from ...process import Stage, find_tool, run

_ACCESS_CODES = {
    "1045": "the user or password is refused",
    "1044": "the user has no rights on the database",
    "2002": "the server does not answer",
    "2003": "the server does not answer",
    "2005": "the host name is not known",
    "2013": "the connection was lost",
    "2026": "TLS could not be agreed upon",
    "1130": "the server does not let this host in",
    "1698": "the user is refused",
}
_ERROR = re.compile(r"ERROR (\d+) ")
_UNESCAPE = {"n": "\n", "t": "\t", "\\": "\\", "0": "\0"}


class MariaDBClient:
    """Queries to one instance's server; its host, user, password and TLS stand in the option file alone."""

    def __init__(self, instance: Instance) -> None:
        self._name = instance.name
        self.option_file = credentials_file(instance)

    def arguments(self) -> tuple[str, ...]:
        """Return what every MariaDB client program gets first: only this option file is read."""
        return (f"--defaults-file={self.option_file}",)

    def query(self, sql: str, timeout: float = 60.0) -> list[list[Optional[str]]]:
        """Return the rows of a query, values as text, NULL as None.

        :raises AccessError: if the server cannot be reached or refuses the user.
        :raises PipelineError: if the query fails.
        """
        stage = Stage(
            (
                find_tool("mariadb", "mariadb-client"),
                *self.arguments(),
                "--batch",
                "--skip-column-names",
                "--connect-timeout=10",
            ),
            label="mariadb",
        )
        finished = run(stage, stdin=sql.encode(), timeout=timeout, check=False)
        if not finished.ok:
            self._refused(finished.stderr, finished.status)
        return [
            [_unescape(value) for value in line.split("\t")]
            for line in finished.stdout.decode("utf-8", "replace").split("\n")[:-1]
        ]

    def answers(self, *statements: str) -> list[list[list[Optional[str]]]]:
        """Return the rows of each of several queries, asked over one connection: a new one costs more than most queries.

        :raises AccessError: as :meth:`query`.
        :raises PipelineError: as :meth:`query`.
        """
        mark = secrets.token_hex(8)
        found: list[list[list[Optional[str]]]] = [[]]
        for row in self.query(f" SELECT '{mark}';".join(statements)):
            if row == [mark]:
                found.append([])
            else:
                found[-1].append(row)
        return found

    def value(self, sql: str) -> str:
        """Return the single value of a query, empty for NULL or no row."""
        rows = self.query(sql)
        return (rows[0][0] or "") if rows else ""

    def _refused(self, stderr: str, status: int) -> None:
        match = _ERROR.search(stderr)
        code = match.group(1) if match else ""
        said = stderr.strip() or f"status {status}"
        if code in _ACCESS_CODES:
            raise AccessError(
                f"MariaDB instance {self._name}: {_ACCESS_CODES[code]}: {said}.",
                f"Check host, port, user and password in {self.option_file}, and that the server runs; the playbook preflight tells more.",
                {"instance": self._name, "code": int(code)},
            )
        raise PipelineError(f"MariaDB instance {self._name} refused a query: {said}", "", {"instance": self._name})


def credentials_file(instance: Instance) -> Path:
    """Return the client file of an instance, which must be there and closed to others.

    :raises InputError: if none is named.
    :raises PrerequisiteError: if it is missing or others can read it.
    """
    path = instance.credentials
    if path is None:
        raise InputError(
            f"The instance {instance.name} names no credentials.", "Set credentials to the path of its client file."
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise PrerequisiteError(
            f"The credentials {path} of {instance.name} cannot be read: {error.strerror}.",
            "Run the playbook site, which writes them from dbc_credentials.",
        ) from None
    if mode & 0o077:
        raise PrerequisiteError(
            f"The credentials {path} of {instance.name} can be read by others.", f"Run: chmod 0600 {path}"
        )
    return path


def _unescape(value: str) -> Optional[str]:
    if value == "NULL":
        return None
    return re.sub(r"\\(.)", lambda match: _UNESCAPE.get(match.group(1), match.group(1)), value)
