# SPDX-License-Identifier: GPL-3.0-or-later
"""A private MariaDB server, configured as a hospital's production server should be."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Sequence
from pathlib import Path

from demo.clients import Account, MariaDBClient, QueryError
from demo.process import find_program, my_name, run
from demo.server import Server, answers


class MariaDBServer(Server):
    """Administrator: whoever runs this, over the socket (plugin `unix_socket`). No empty passwords."""

    engine = "mariadb"
    users = ("mysql",)
    socket_name = "mysqld.sock"
    stop_signal = signal.SIGTERM

    @property
    def socket(self) -> Path:
        return self.run_folder / self.socket_name

    @property
    def pid_file(self) -> Path:
        return self.run_folder / "mariadbd.pid"

    @property
    def option_file(self) -> Path:
        """The server's my.cnf, which is also what `mariadb-backup --defaults-file` wants."""
        return self.conf / "my.cnf"

    @property
    def client(self) -> MariaDBClient:
        return MariaDBClient(self.socket)

    def initialised(self) -> bool:
        return (self.datadir / "mysql").is_dir()

    def _initialise(self) -> None:
        run(
            [
                find_program("mariadb-install-db", "mysql_install_db"),
                "--no-defaults",
                f"--datadir={self.datadir}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={my_name()}",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            self.owner,
            cwd=self.base,
        )

    def settings(self) -> dict[str, str | None]:
        """What goes into my.cnf. A value of "" writes the bare option."""
        made: dict[str, str | None] = {
            "datadir": str(self.datadir),
            "socket": str(self.socket),
            "pid_file": str(self.pid_file),
            "tmpdir": str(self.base / "tmp"),
            "log_error": str(self.log),
            "skip_name_resolve": "ON",
            "character_set_server": "utf8mb4",
            "collation_server": "utf8mb4_general_ci",
            "default_time_zone": "+07:00",
            "event_scheduler": "ON",
            "local_infile": "OFF",
            "innodb_buffer_pool_size": "64M",
            "log_bin": "mariadb-bin",
            "binlog_format": "ROW",
            "sync_binlog": "1",
            "gtid_strict_mode": "ON",
            "binlog_expire_logs_seconds": "1209600",
            "innodb_flush_log_at_trx_commit": "1",
            "max_allowed_packet": "64M",
        }
        if self.tcp:
            made.update(bind_address="127.0.0.1", port=str(self.port), server_id=str(self.port))
        else:
            made.update(skip_networking="", server_id="1")
        pair = self.certificates
        if pair is not None:
            made.update(ssl_ca=str(pair.ca), ssl_cert=str(pair.certificate), ssl_key=str(pair.key))
        if self.fast:
            made.update(
                sync_binlog="0",
                innodb_flush_log_at_trx_commit="2",
                innodb_log_file_size="32M",
                innodb_fast_shutdown="1",
            )
        made.update(self.options)
        return {name: value for name, value in made.items() if value is not None}

    def _configure(self) -> None:
        lines = [f"{name}={value}" if value else name for name, value in self.settings().items()]
        self.option_file.write_text("[mariadbd]\n" + "\n".join(lines) + "\n")
        self.option_file.chmod(0o644)

    def _command(self) -> list[str]:
        # The data directory also stands in the argument list: by it a server is recognised as one of ours.
        return [
            find_program("mariadbd", "mysqld"),
            f"--defaults-file={self.option_file}",
            f"--datadir={self.datadir}",
        ]

    def _ready(self) -> bool:
        if not answers(self.socket):
            return False
        try:
            return self.client.value("SELECT 1") == "1"
        except QueryError:
            return False

    def account(self, name: str, grants: Sequence[str] = (), password: str | None = None) -> Account:
        """`grants` as in GRANT … TO: "RELOAD, PROCESS ON *.*"."""
        secret = password or secrets.token_urlsafe(18)
        who = f"{text(name)}@'127.0.0.1'"
        need = " REQUIRE SSL" if self.tls else ""
        given = [f"GRANT {grant} TO {who};" for grant in grants]
        self.query(f"CREATE OR REPLACE USER {who} IDENTIFIED BY {text(secret)}{need}; " + " ".join(given))
        pair = self.certificates
        return Account(self.engine, name, secret, "127.0.0.1", self.port, pair.ca if pair else None)


def text(value: str) -> str:
    """A MariaDB string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def name(value: str) -> str:
    """A MariaDB identifier."""
    return "`" + value.replace("`", "``") + "`"
