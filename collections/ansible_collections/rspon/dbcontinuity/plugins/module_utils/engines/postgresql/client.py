# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a PostgreSQL server, through its own command-line client.

An instance's credentials are a libpq service file with one section, named like the instance: host, port, user,
password, dbname, sslmode, sslrootcert. No secret ever stands in an argument list or in the environment.
"""

from __future__ import annotations

import configparser
import csv
import io
import os
import re
import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn, Optional

from ...errors import AccessError, InputError, PipelineError, PrerequisiteError
from ...instance import Instance
from ...process import Pipeline, Stage, find_tool, run

BINARIES = Path("/usr/lib/postgresql")
_NULL = "\x01NULL\x01"
_ANSWER_SECONDS = 30.0
_ACCESS = (
    ("password authentication failed|no password supplied|authentication failed", "the user or password is refused"),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects",
        "the server's pg_hba.conf does not let this host, user or database in",
    ),
    ("could not translate host name", "the host name is not known"),
    ("certificate|SSL|TLS", "TLS could not be agreed upon"),
    ("role .* does not exist|is not permitted to log in", "the role does not exist or may not log in"),
    ("database .* does not exist|permission denied for database", "the database cannot be connected to"),
    ("must be superuser or replication role|permission denied to start WAL sender", "the role lacks REPLICATION"),
    ("the database system is", "the server is starting or stopping"),
    ("remaining connection slots|too many (connections|clients)", "the server has no connection left"),
    ("requested WAL sender connections|max_wal_senders", "all of max_wal_senders are in use"),
    (
        "refused|timeout expired|No route to host|unreachable|could not connect|No such file",
        "the server does not answer",
    ),
    ("server closed the connection|connection to server", "the connection was lost"),
)
# A dead link ends both sides within about a minute, also the server's: a walsender that nobody reads is no use.
_KEEPALIVE = "connect_timeout=10 keepalives_idle=15 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=30000"
_SERVER_KEEPALIVE = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


def find_postgresql(name: str, major: Optional[int] = None) -> str:
    """Return the path of a PostgreSQL program.

    :param major: the server's major version, which the program must have; any version if None.
    :raises PrerequisiteError: naming the package that brings it.
    """
    if major is None:
        known = sorted((int(each.name) for each in BINARIES.glob("*") if each.name.isdigit()), reverse=True)
        return find_tool(name, "postgresql-client", [str(BINARIES / str(each) / "bin") for each in known])
    own = BINARIES / str(major) / "bin" / name
    if own.is_file():
        return str(own)
    package = f"postgresql-{major}" if name in ("pg_waldump", "postgres", "pg_ctl") else f"postgresql-client-{major}"
    found = find_tool(name, package)
    if tool_major(found) != major:
        raise PrerequisiteError(
            f"The program {name} of PostgreSQL {major}, the server's version, is not on this host.",
            f"Install it: apt-get install {package} (it lies in {own.parent}).",
            {"tool": name, "package": package, "major": major},
        )
    return found


def tool_version(program: str) -> str:
    """Return the version a PostgreSQL program shows of itself, such as 15.18; empty if it shows none."""
    shown = run(Stage((program, "--version")), check=False).stdout.decode("utf-8", "replace")
    match = re.search(r"(\d+(?:\.\d+)+|\d+(?:beta|rc)\d+)", shown)
    return match.group(1) if match else ""


def tool_major(program: str) -> int:
    """Return a program's major version, 0 if it shows none."""
    match = re.match(r"\d+", tool_version(program))
    return int(match.group(0)) if match else 0


def tool_versions(manifest: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, str]:
    """Return the exact versions of programs.

    :raises PrerequisiteError: if one is missing or of another major version than the set's server.
    """
    major = int(str(manifest["server"]["version"]).split(".", maxsplit=1)[0])
    found = {}
    for name in names:
        try:
            found[name] = tool_version(find_postgresql(name, major))
        except PrerequisiteError as error:
            raise PrerequisiteError(
                f"The set {manifest['set']} was made on PostgreSQL {manifest['server']['version']}: {error.message}",
                f"Install it: apt-get install postgresql-{major}.",
                {"tool": name, "major": major},
            ) from None
    return found


class PostgreSQLClient:
    """Queries to one instance's server; its host, user, password and TLS stand in the service file alone."""

    def __init__(self, instance: Instance) -> None:
        self._name = instance.name
        self.service_file = service_file(instance)
        self.service = _service(self.service_file, instance.name)

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what every libpq program gets: where the credentials are, not what they are."""
        return {"PGSERVICEFILE": str(self.service_file), "PGAPPNAME": f"dbcontinuity {self._name}"[:63]}

    def connection(self, database: Optional[str] = None) -> str:
        """Return the connection string for a program's ``--dbname``; it holds no secret."""
        quoted = self._name.replace("\\", "\\\\").replace("'", "\\'")
        words = f"service='{quoted}' {_KEEPALIVE} options='{_SERVER_KEEPALIVE}'"
        if database is not None:
            escaped = database.replace("\\", "\\\\").replace("'", "\\'")
            words += f" dbname='{escaped}'"
        return words

    def stage(self, *words: str, label: str = "", accepted: frozenset[int] = frozenset({0})) -> Stage:
        """Return a stage that runs a libpq program with this instance's credentials."""
        return Stage(words, label=label, environment=self.environment, accepted=accepted)

    def _psql(self, database: Optional[str]) -> Stage:
        return self.stage(
            find_postgresql("psql"),
            *("-X", "-q", "-t", "--csv", "--no-password", "-v", "ON_ERROR_STOP=1", "-P", f"null={_NULL}"),
            f"--dbname={self.connection(database)}",
            label="psql",
        )

    def query(self, sql: str, database: Optional[str] = None, timeout: float = 60.0) -> list[list[Optional[str]]]:
        """Return the rows of all statements, values as text, NULL as None.

        :param database: another database than the service file's.
        :raises AccessError: if the server cannot be reached or refuses the user.
        :raises PipelineError: if a statement fails.
        """
        finished = run(self._psql(database), stdin=sql.encode(), timeout=timeout, check=False)
        if not finished.ok:
            self.refused(finished.stderr, finished.status == 2, finished.status)
        text = io.StringIO(finished.stdout.decode("utf-8", "replace"), newline="")
        # A single empty value is an empty line.
        return [[None if value == _NULL else value for value in row or [""]] for row in csv.reader(text)]

    def value(self, sql: str, database: Optional[str] = None) -> str:
        """Return the single value of a query, empty for NULL or no row."""
        rows = self.query(sql, database)
        return (rows[0][0] or "") if rows else ""

    @contextmanager
    def session(self, sql: str) -> Iterator[None]:
        """Run statements and keep their connection open, idle; it ends with the context, or with this process.

        :raises AccessError: if the server cannot be reached or refuses the user.
        :raises PipelineError: if a statement fails.
        """
        reading, writing = os.pipe()
        commands = os.fdopen(reading, "rb", buffering=0)
        sender = os.fdopen(writing, "wb", buffering=0)
        with commands, sender, Pipeline([self._psql(None)], commands) as pipeline:
            try:
                sender.write(f"{sql}\nSELECT 'ready';\n".encode())
                self._await_ready(pipeline)
                yield
            finally:
                pipeline.kill()

    def _await_ready(self, pipeline: Pipeline) -> None:
        said = b""
        end = monotonic() + _ANSWER_SECONDS
        while b"ready" not in said:
            source = pipeline.output.fileno()
            block = b""
            if select.select([source], [], [], max(0.0, end - monotonic()))[0]:
                block = os.read(source, 65536)
            if not block:
                if monotonic() >= end:
                    pipeline.kill()
                finished = pipeline.wait()[0]
                self.refused(finished.stderr or "no answer in time", finished.status == 2, finished.status)
            said += block

    def refused(self, stderr: str, connecting: bool, status: int) -> NoReturn:
        """Raise what a libpq program's words mean.

        :param connecting: whether it is known to have failed while connecting.
        """
        said = stderr.strip()[-2000:] or f"status {status}"
        if connecting or re.search("connection to server|could not connect|definition of service", said):
            for pattern, meaning in _ACCESS:
                if re.search(pattern, said):
                    raise AccessError(
                        f"PostgreSQL instance {self._name}: {meaning}: {said}",
                        f"Check host, port, user, password and TLS in {self.service_file}, the server's pg_hba.conf,"
                        " and that the server runs; the playbook preflight tells more.",
                        {"instance": self._name, "reason": meaning},
                    )
        raise PipelineError(
            f"PostgreSQL instance {self._name} refused: {said}", "", {"instance": self._name, "status": status}
        )


def service_file(instance: Instance) -> Path:
    """Return the service file of an instance, which must be there and closed to others.

    :raises InputError: if none is named.
    :raises PrerequisiteError: if it is missing or others can read it.
    """
    path = instance.credentials
    if path is None:
        raise InputError(
            f"The instance {instance.name} names no credentials.", "Set credentials to the path of its service file."
        )
    try:
        mode = path.stat().st_mode
        readable = os.access(path, os.R_OK)
    except OSError as error:
        raise PrerequisiteError(
            f"The credentials {path} of {instance.name} cannot be read: {error.strerror}.",
            "Run the playbook site, which writes them from dbc_credentials.",
        ) from None
    if not readable:
        raise PrerequisiteError(
            f"The credentials {path} of {instance.name} cannot be read by this user.",
            "Run as the user that owns it, or run the playbook site.",
        )
    if mode & 0o077:
        raise PrerequisiteError(
            f"The credentials {path} of {instance.name} can be read by others.", f"Run: chmod 0600 {path}"
        )
    return path


def _service(path: Path, name: str) -> Mapping[str, str]:
    """Return what the service file says of the instance, without the password."""
    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=("#",), strict=False, empty_lines_in_values=False
    )
    remedy = "Run the playbook site, which writes it from dbc_credentials."
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError):
        raise PrerequisiteError(
            f"The credentials {path} of {name} are no service file of PostgreSQL.", remedy
        ) from None
    if not parser.has_section(name):
        raise PrerequisiteError(f"The service file {path} has no section [{name}].", remedy)
    return {key: value for key, value in parser.items(name) if key != "password"}
