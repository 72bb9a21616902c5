# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to a server through its own command-line client: SQL goes in by stdin, never by the argument list.

A client needs no server object: `MariaDBClient(socket)` and `PostgreSQLClient(socket_folder, port)` reach
any server, for instance one that was restored into a scratch folder.
"""

from __future__ import annotations

import contextlib
import csv
import html
import io
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Optional, Union

from demo.process import ServerError, environment, find_program, my_name, postgresql_folders

Row = list[Optional[str]]
Script = Union[str, Path, bytes]

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class QueryError(ServerError):
    """The server refused a statement; the text is the server's own."""


@dataclass
class Result:
    """One result set: the column names, and rows in which NULL is None."""

    names: list[str]
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Account:
    """A login over TCP (verified TLS where the server has it); clients get the password by a 0600 file."""

    engine: str
    user: str
    password: str
    host: str
    port: int
    ca: Path | None = None

    def option_file(self, path: Path) -> Path:
        """MariaDB: a `--defaults-extra-file`. PostgreSQL: a password file (see `environment`)."""
        if self.engine == "mariadb":
            lines = [
                "[client]",
                f"user={self.user}",
                f"password={self.password}",
                f"host={self.host}",
                f"port={self.port}",
                "protocol=tcp",
            ]
            if self.ca is not None:
                lines += [f"ssl-ca={self.ca}", "ssl-verify-server-cert"]
            text = "\n".join(lines) + "\n"
        else:
            text = f"{self.host}:{self.port}:*:{self.user}:{self.password}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def environment(self, password_file: Path) -> dict[str, str]:
        """PostgreSQL: what its tools need to log in as this account."""
        made = {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSFILE": str(password_file),
        }
        if self.ca is not None:
            made.update(PGSSLMODE="verify-full", PGSSLROOTCERT=str(self.ca))
        return made


class Session:
    """One connection held open for many small statements: SQL in, tab-separated text out."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._errors = io.BytesIO()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            cwd="/",
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._listener = threading.Thread(target=self._read_errors, daemon=True)
        self._listener.start()
        threading.Thread(target=self._read_lines, daemon=True).start()

    def _read_lines(self) -> None:
        stream = _pipe(self._process.stdout)
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        stream = _pipe(self._process.stderr)
        for line in stream:
            self._errors.write(line)

    def run(self, sql: str, timeout: float = 60) -> list[list[str]]:
        """The rows, once all statements were executed. An error ends the session. NULL is not told apart."""
        marker = uuid.uuid4().hex
        deadline = time.monotonic() + timeout
        try:
            stream = _pipe(self._process.stdin)
            stream.write(f"{sql.rstrip().rstrip(';')};\nSELECT '{marker}';\n".encode("utf-8", "surrogateescape"))
            stream.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._failure() from error
        rows: list[list[str]] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                self.close()
                raise ServerError(f"no answer from the server within {timeout:g} s") from None
            if line is None:
                raise self._failure()
            text = line.decode("utf-8", "surrogateescape").rstrip("\n")
            if text == marker:
                return rows
            rows.append(text.split("\t"))

    def _failure(self) -> ServerError:
        self.close()
        self._listener.join(60)  # what it said last may not have been read yet
        return QueryError(error_text(self._errors.getvalue()) or "the session's client ended")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("not a pipe")
    return stream


def error_text(stderr: bytes) -> str:
    """The error lines of a client's stderr (which may repeat the statement, and so a password)."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    wanted = [
        line for line in lines if re.match(r"(\S*: )?(ERROR|FATAL|psql:|could not|connection|server closed)", line)
    ]
    return "\n".join(wanted or lines)[-2000:].strip()


class Client(ABC):
    """What can be asked of a running server."""

    engine: str

    @abstractmethod
    def command(self, database: str | None = None, extra: Sequence[str] = ()) -> list[str]:
        """The client's argument list, for reading SQL on stdin and stopping at the first error."""

    @abstractmethod
    def results(self, sql: str, database: str | None = None, timeout: float = 600) -> list[Result]:
        """Every result set of these statements (PostgreSQL: one, with the rows of all and no names)."""

    @abstractmethod
    def session(self, database: str | None = None) -> Session: ...

    @property
    @abstractmethod
    def env(self) -> Mapping[str, str]:
        """What its tools (dump and the like) need in their environment."""

    def query(self, sql: str, database: str | None = None, timeout: float = 600) -> list[Row]:
        """The rows of all result sets in turn; NULL is None. Routine bodies need no DELIMITER here."""
        return [row for result in self.results(sql, database, timeout) for row in result.rows]

    def value(self, sql: str, database: str | None = None) -> str | None:
        """The first column of the first row."""
        rows = self.query(sql, database)
        if not rows:
            raise ServerError(f"no row came back for: {sql}")
        return rows[0][0]

    def execute_script(
        self, script: Script | Iterable[bytes], database: str | None = None, timeout: float = 3600
    ) -> None:
        """Run a script: a path, its text, or chunks as they are made (a dump, generated rows)."""
        if isinstance(script, Path):
            with open(script, "rb") as stream:
                self._feed(iter(lambda: stream.read(1 << 20), b""), database, timeout)
        elif isinstance(script, str):
            self._feed([script.encode("utf-8", "surrogateescape")], database, timeout)
        else:
            self._feed([script] if isinstance(script, bytes) else script, database, timeout)

    def _feed(self, chunks: Iterable[bytes], database: str | None, timeout: float) -> None:
        process = subprocess.Popen(
            self.command(database),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(self.env),
            cwd="/",
        )
        killer = threading.Timer(timeout, process.kill)
        killer.start()
        try:
            errors = _Collector(_pipe(process.stderr))
            stream = _pipe(process.stdin)
            try:
                for chunk in chunks:
                    stream.write(chunk)
                stream.close()
            except BrokenPipeError:
                pass
            code = process.wait()
        finally:
            killer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if code:
            raise QueryError(error_text(errors.text()) or f"{self.command()[0]} exited with {code}")

    def _ask(self, command: Sequence[str], sql: str, timeout: float) -> str:
        try:
            done = subprocess.run(
                list(command),
                input=sql.encode("utf-8", "surrogateescape"),
                capture_output=True,
                env=environment(self.env),
                cwd="/",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"no answer from the server within {timeout:g} s") from error
        if done.returncode:
            raise QueryError(error_text(done.stderr) or f"{command[0]} exited with {done.returncode}")
        return done.stdout.decode("utf-8", "surrogateescape")


class _Collector(threading.Thread):
    """Reads a pipe to its end, so that its writer never blocks."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream, self._data = stream, b""
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self._data = (self._data + line)[-16384:]

    def text(self) -> bytes:
        self.join(5)
        return self._data


class MariaDBClient(Client):
    """Through a unix socket, as the operating-system user who runs this (plugin `unix_socket`)."""

    engine = "mariadb"
    _FIELD = re.compile(r'<resultset [^>]*>|<row>|<field name="([^"]*)"(?: xsi:nil="true" />|>([^<]*)</field>)')

    def __init__(self, socket: Path, user: str | None = None, option_file: Path | None = None) -> None:
        self.socket, self.user, self.option_file = socket, user or my_name(), option_file
        self._program = find_program("mariadb", "mysql")

    @property
    def env(self) -> Mapping[str, str]:
        return {}

    def arguments(self) -> list[str]:
        """How any of MariaDB's tools gets in: to stand right behind the program's name."""
        first = f"--defaults-file={self.option_file}" if self.option_file else "--no-defaults"
        return [first, f"--socket={self.socket}", f"--user={self.user}"]

    def command(self, database: str | None = None, extra: Sequence[str] = ()) -> list[str]:
        return [
            self._program,
            *self.arguments(),
            "--batch",
            "--skip-ssl",  # a unix socket: TLS would only cost time
            "--default-character-set=utf8mb4",
            *extra,
            *([f"--database={database}"] if database else []),
        ]

    def session(self, database: str | None = None) -> Session:
        return Session(self.command(database, ["--skip-column-names", "--unbuffered"]), self.env)

    def results(self, sql: str, database: str | None = None, timeout: float = 600) -> list[Result]:
        """XML is this client's one format that tells NULL from 'NULL' (but drops NUL bytes: ask for HEX)."""
        never = f"~{uuid.uuid4().hex}~"  # so that the whole text is sent at once and routine bodies stay whole
        text = self._ask(self.command(database, ["--xml", f"--delimiter={never}"]), sql, timeout)
        results: list[Result] = []
        for match in self._FIELD.finditer(text):
            if match.group().startswith("<resultset"):
                results.append(Result([]))
            elif match.group() == "<row>":
                results[-1].rows.append([])
            else:
                if len(results[-1].rows) == 1:
                    results[-1].names.append(html.unescape(match.group(1)))
                value = match.group(2)
                results[-1].rows[-1].append(None if value is None else _unescape(value))
        return results


def _unescape(text: str) -> str:
    """The four entities the client writes (html.unescape would also touch what merely looks like one)."""
    if "&" not in text:
        return text
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


class PostgreSQLClient(Client):
    """Through a unix socket folder, as the superuser the cluster was made with."""

    engine = "postgresql"

    def __init__(self, folder: Path, port: int, user: str = "postgres") -> None:
        self.folder, self.port, self.user = folder, port, user
        self._program = find_program("psql", first=postgresql_folders())

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "PGHOST": str(self.folder),
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGCLIENTENCODING": "UTF8",
            "PGOPTIONS": "-c client_min_messages=warning",
        }

    def arguments(self) -> list[str]:
        """How any of PostgreSQL's tools gets in."""
        return [f"--host={self.folder}", f"--port={self.port}", f"--username={self.user}", "--no-password"]

    def command(self, database: str | None = None, extra: Sequence[str] = ()) -> list[str]:
        return [
            self._program,
            "-X",
            "-q",
            *self.arguments(),
            "-v",
            "ON_ERROR_STOP=1",
            *extra,
            f"--dbname={database or 'postgres'}",
        ]

    def session(self, database: str | None = None) -> Session:
        return Session(self.command(database, ["-A", "-t", "-F", "\t"]), self.env)

    def results(self, sql: str, database: str | None = None, timeout: float = 600) -> list[Result]:
        null = f"null-{uuid.uuid4().hex}"
        text = self._ask(self.command(database, ["--csv", "-t", "-P", f"null={null}"]), sql, timeout)
        rows: list[Row] = [
            [None if value == null else value for value in row] for row in csv.reader(io.StringIO(text, newline=""))
        ]
        return [Result([], rows)]
