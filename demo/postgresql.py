# SPDX-License-Identifier: GPL-3.0-or-later
"""A private PostgreSQL cluster, configured as a hospital's production server should be."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.clients import Account, PostgreSQLClient
from demo.process import find_program, postgresql_folders, run
from demo.server import Server

HBA = """# Local connections: the socket's folder is closed to everybody else. TCP: password{over}.
local all         all trust
local replication all trust
{kind} all         all 127.0.0.1/32 scram-sha-256
{kind} replication all 127.0.0.1/32 scram-sha-256
"""


class PostgreSQLServer(Server):
    """Administrator: role `postgres` over the socket, whose folder is closed to all but the server's user.

    As on Debian the configuration lies outside the data directory, in base/conf.
    """

    engine = "postgresql"
    users = ("postgres",)
    stop_signal = signal.SIGINT

    def __init__(
        self,
        base: Path | str,
        *,
        checksums: bool = False,
        user: str | None = None,
        datadir: Path | str | None = None,
        port: int | None = None,
        options: Mapping[str, str | None] | None = None,
        tls: bool = True,
        tcp: bool = True,
        fast: bool = False,
        timeout: float = 120,
    ) -> None:
        super().__init__(
            base,
            user=user,
            datadir=datadir,
            port=port,
            options=options,
            tls=tls,
            tcp=tcp,
            fast=fast,
            timeout=timeout,
        )
        self.checksums = checksums

    socket_name = ".s.PGSQL.65535.lock"

    @property
    def socket_folder(self) -> Path:
        return self.run_folder

    @property
    def port(self) -> int:
        """Without TCP the number still names the socket."""
        return super().port if self.tcp else 5432

    @property
    def socket(self) -> Path:
        return self.socket_folder / f".s.PGSQL.{self.port}"

    @property
    def client(self) -> PostgreSQLClient:
        return PostgreSQLClient(self.socket_folder, self.port)

    def initialised(self) -> bool:
        return (self.datadir / "PG_VERSION").exists()

    def program(self, name: str) -> str:
        """A program of the data directory's own major version (the newest before there is one)."""
        marker = self.datadir / "PG_VERSION"
        own = [Path("/usr/lib/postgresql") / marker.read_text().strip() / "bin"] if marker.exists() else []
        return find_program(name, first=[*own, *postgresql_folders()])

    def _initialise(self) -> None:
        options = ["--data-checksums"] if self.checksums else []
        run(
            [
                self.program("initdb"),
                "-D",
                str(self.datadir),
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth=reject",
                "--no-instructions",
                *(["--no-sync"] if self.fast else []),
                *options,
            ],
            self.owner,
            cwd=self.base,
        )
        for file in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
            (self.datadir / file).unlink()

    def settings(self) -> dict[str, str | None]:
        """What goes into postgresql.conf."""
        made: dict[str, str | None] = {
            "data_directory": str(self.datadir),
            "hba_file": str(self.conf / "pg_hba.conf"),
            "ident_file": str(self.conf / "pg_ident.conf"),
            "external_pid_file": str(self.run_folder / "postgres.pid"),
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "listen_addresses": "127.0.0.1" if self.tcp else "",
            "port": str(self.port),
            "timezone": "Asia/Jakarta",
            "log_timezone": "Asia/Jakarta",
            "password_encryption": "scram-sha-256",
            "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "posix",
            "logging_collector": "off",
            "wal_level": "replica",
            "max_wal_senders": "10",
            "max_replication_slots": "10",
            "max_slot_wal_keep_size": "1GB",
            "wal_keep_size": "0",
            "min_wal_size": "80MB",
            "max_wal_size": "1GB",
        }
        pair = self.certificates
        if pair is not None:
            made.update(
                ssl="on",
                ssl_ca_file=str(pair.ca),
                ssl_cert_file=str(pair.certificate),
                ssl_key_file=str(pair.key),
            )
        if self.fast:
            made.update(fsync="off", synchronous_commit="off", full_page_writes="on")
        made.update(self.options)
        return {name: value for name, value in made.items() if value is not None}

    def _configure(self) -> None:
        kind, over = ("hostssl", " over TLS") if self.tls else ("host", "")
        self._write("pg_hba.conf", HBA.format(kind=kind, over=over))
        self._write("pg_ident.conf", "")
        self._write(
            "postgresql.conf",
            "".join(f"{name} = {text(value or '')}\n" for name, value in self.settings().items()),
        )

    def _write(self, file: str, content: str) -> None:
        path = self.conf / file
        path.write_text(content)
        path.chmod(0o640)
        self.owner.give(path)

    def _own(self, folder: Path, mode: int) -> None:
        super()._own(folder, 0o700 if folder == self.run_folder else mode)

    def _command(self) -> list[str]:
        # The data directory also stands in the argument list: by it a server is recognised as one of ours.
        return [
            self.program("postgres"),
            "-D",
            str(self.datadir),
            "-c",
            f"config_file={self.conf / 'postgresql.conf'}",
        ]

    def _ready(self) -> bool:
        try:
            lines = (self.datadir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and len(lines) > 7 and lines[7].strip() in ("ready", "standby")

    def account(self, name: str, grants: Sequence[str] = (), password: str | None = None) -> Account:
        """`grants`: role attributes ("REPLICATION") or whole statements ("GRANT pg_read_all_data TO …")."""
        secret = password or secrets.token_urlsafe(18)
        attributes = [grant for grant in grants if not grant.upper().startswith("GRANT ")]
        exists = self.query(f"SELECT 1 FROM pg_roles WHERE rolname = {text(name)}")  # noqa: S608 (quoted)
        verb = "ALTER" if exists else "CREATE"
        self.query(
            f"{verb} ROLE {identifier(name)} LOGIN {' '.join(attributes)} PASSWORD {text(secret)};"
            + ";".join(grant for grant in grants if grant not in attributes)
        )
        pair = self.certificates
        return Account(self.engine, name, secret, "127.0.0.1", self.port, pair.ca if pair else None)


def text(value: str) -> str:
    """A PostgreSQL string literal (also in postgresql.conf)."""
    return "'" + value.replace("'", "''") + "'"


def identifier(value: str) -> str:
    """A PostgreSQL identifier."""
    return '"' + value.replace('"', '""') + '"'
