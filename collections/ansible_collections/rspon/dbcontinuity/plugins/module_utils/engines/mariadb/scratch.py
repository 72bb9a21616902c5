# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway MariaDB server on a prepared copy, rolled forward by its binary logs.

Each log flows from the repository through ``mariadb-binlog`` into one client session (temporary tables live in a
session); none lands on disk. The throwaway keeps a log of its own, opened at the backup's GTID in strict mode, so an
event that is applied twice or out of order is refused, and the end can be compared. That end alone proves nothing: the
chain of records does.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Optional

from ...errors import AccessError, DamagedError, InputError, PipelineError, PrerequisiteError
from ...instance import Instance
from ...lineage import LogRecord
from ...process import BUFFER_BYTES, Finished, Pipeline, Stage, failure, find_tool, left_early, run
from ...throwaway import Daemon, Sandbox, memory_for
from ..scratch import FAILED, NOT_CHECKABLE, PASSED, Check, Content, ScratchServer, Source, missing
from .binlog_server import split_name
from .client import MariaDBClient
from .gtid import GtidState
from .inspect import count_objects, series, tool_version

ACCOUNT = "dbcontinuity_scratch"
OWN_FOLDER = "/opt/mariadb-{}"  # programs of a series that is not the distribution's
_START_SECONDS = 600.0
_DAY = 24 * 3600.0
_NOT_OURS = "('information_schema','performance_schema','sys')"
_SYSTEM = "('information_schema','performance_schema','sys','mysql')"
_TABLES = "TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED')"
_BATCH = 100
# How the server lays its files out; the backup says it, the throwaway has to do the same.
_LAYOUT = re.compile(r"^(innodb_page_size|innodb_undo_tablespaces|innodb_data_file_path)=([\w:;.]+)$", re.M)
_PROGRAMS = (
    ("mariadbd", "mariadb-server-core"),
    ("mariadb-backup", "mariadb-backup"),
    ("mariadb-binlog", "mariadb-client"),
)


class MariaDBScratch(ScratchServer):
    """One throwaway MariaDB server."""

    # A host without production's server has no mysql; the role backup makes the other one.
    users: ClassVar[tuple[str, ...]] = ("mysql", "dbcontinuity")

    def __init__(self, instance: Instance, source: Source, folder: Path, sandbox: Sandbox) -> None:
        super().__init__(instance, source, folder, sandbox)
        self.data = folder / "data"
        self.socket = folder / "s" / "m.sock"
        self._option_file = folder / "client.cnf"
        self._daemon: Optional[Daemon] = None

    @staticmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        return tool_versions(manifest, _PROGRAMS)

    @staticmethod
    def logs_of(manifest: Mapping[str, Any], records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        start = manifest["position"]["start"]
        if not start:
            return []
        number = split_name(str(start["file"]))[1]
        found = [record for record in records if split_name(record.name)[1] >= number]
        if found and found[0].name != start["file"]:
            raise missing(str(start["file"]), f"the set starts in it, and the chain goes on with {found[0].name}")
        return found

    # -- bringing it up --

    def unpack(self) -> None:
        for artefact in self.source.artefacts:
            self.source.unpack(artefact, self.folder).rename(self.data)

    def verify_base(self) -> Sequence[Check]:
        # Link files hold production's own paths: the server would look at the live tables.
        for path in list(self.data.rglob("*.isl")):
            path.unlink()
        links = [path for path in self.data.rglob("*") if path.is_symlink()]
        if links:
            raise DamagedError(f"The set holds symbolic links, which no backup has: {links[0]}.", "Do not start it.")
        self.sandbox.owner.give(self.data)
        tool = _tool("mariadb-backup", "mariadb-backup", self._series)
        memory = memory_for(self.source.content_bytes)
        stage = self.sandbox.stage(
            tool,
            "--prepare",
            f"--target-dir={self.data}",
            f"--use-memory={memory}",
            *self._temporary,
            label="mariadb-backup --prepare",
        )
        prepared = run(stage, timeout=_DAY, check=False)
        if not prepared.ok or "completed OK!" not in prepared.stderr:
            raise DamagedError(
                f"The set {self.source.manifest['set']} cannot be prepared: {prepared.stderr.strip()[-1500:]}",
                "Make a new full backup now, and keep this set for the inquiry.",
            )
        return [Check("mariadb-backup --prepare", PASSED)]

    def start(self) -> None:
        for name in ("s", "binlog"):
            (self.folder / name).mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        start_file = self.folder / "start.sql"
        _write_closed(
            start_file,
            "SET SESSION sql_log_bin=0;\n"
            f"CREATE OR REPLACE USER {ACCOUNT}@localhost IDENTIFIED BY '{password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {ACCOUNT}@localhost WITH GRANT OPTION;\n",
        )
        _write_closed(self._option_file, f"[client]\nsocket={self.socket}\nuser={ACCOUNT}\npassword={password}\n")
        log = self.folder / "server.log"
        log.touch(mode=0o600)
        for path in (start_file, log, self.socket.parent, self.folder / "binlog"):
            os.chown(path, self.sandbox.owner.uid, self.sandbox.owner.gid)
        self._daemon = Daemon(self.sandbox.argv(*self._command(start_file)), log, self.data, self.sandbox.environment)
        self._daemon.wait_for(self._answers, _START_SECONDS, "The throwaway MariaDB server")
        start_file.unlink()

    def _command(self, start_file: Path) -> list[str]:
        words = [
            *(_tool("mariadbd", "mariadb-server-core", self._series), "--no-defaults", f"--datadir={self.data}"),
            *(f"--socket={self.socket}", f"--pid-file={self.folder}/s/pid", *self._temporary),
            *(f"--secure-file-priv={self.sandbox.temporary}", f"--init-file={start_file}", "--skip-networking"),
            # Nothing of production's goes on here, and no statement of its log writes outside the folder. (With the
            # scheduler DISABLED, instead of OFF, events could be neither counted nor created by the log: 1577.)
            *("--event-scheduler=OFF", "--skip-slave-start", "--skip-symbolic-links"),
            *(f"--log-bin={self.folder}/binlog/scratch", "--gtid-strict-mode=ON", "--server-id=4294967295"),
            # A throwaway need not survive a power cut.
            *("--sync-binlog=0", "--binlog-checksum=NONE", "--innodb-flush-log-at-trx-commit=0"),
            *("--skip-innodb-doublewrite", "--innodb-fast-shutdown=2", "--performance-schema=OFF"),
            # Only a transaction that was prepared and never ended can hold a lock.
            "--lock-wait-timeout=300",
            *("--max-allowed-packet=1G", "--log-bin-trust-function-creators=ON", "--skip-slow-query-log"),
            f"--innodb-buffer-pool-size={memory_for(self.source.content_bytes)}",
        ]
        layout = self.data / "backup-my.cnf"
        if layout.is_file():
            known = _LAYOUT.findall(layout.read_text(encoding="utf-8", errors="replace"))
            words += [f"--{name.replace('_', '-')}={value}" for name, value in known]
        return words

    @property
    def _temporary(self) -> tuple[str]:
        return (f"--tmpdir={self.sandbox.temporary}",)

    @property
    def _series(self) -> str:
        return series(str(self.source.manifest["server"]["version"]))

    @property
    def client(self) -> MariaDBClient:
        """Return the client of the throwaway, as its own administrator."""
        return MariaDBClient(replace(self.instance, credentials=self._option_file))

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            return self.client.value("SELECT 1;") == "1"
        except AccessError:
            return False

    def base_objects(self) -> Mapping[str, int]:
        return count_objects(self.client)

    # -- rolling forward --

    def replay(self, on_progress: Callable[[int], None], timeout: float) -> Mapping[str, Any]:
        start = self.source.manifest["position"]["start"]
        if not self.source.logs:
            return {"logs": 0, "end": dict(start)}
        self.client.query(f"SET GLOBAL gtid_binlog_state='{GtidState.parse(str(start['gtid']))}';")
        reading, writing = os.pipe()
        local = self.sandbox.temporary
        session = Stage(
            (
                *(find_tool("mariadb", "mariadb-client"), *self.client.arguments(), "--binary-mode", "--batch"),
                *("--max-allowed-packet=1G", "--local-infile=1", "--skip-reconnect"),
            ),
            label="the replay",
        )
        stop = self.source.stop
        with os.fdopen(reading, "rb", buffering=0) as commands, Pipeline([session], commands) as client:
            commands.close()
            sent = 0
            refused = False
            with os.fdopen(writing, "wb", buffering=0) as sink:
                for number, record in enumerate(self.source.logs):
                    position = int(start["offset"]) if number == 0 else 4
                    end = int(stop["offset"]) if stop and record is self.source.logs[-1] else 0
                    if not self._feed(record, position, local, sink.fileno(), end):
                        refused = True
                        break
                    sent += end or int(record.values.get("plain_size") or 0)
                    on_progress(sent)
            client.output.read()
            finished = client.wait(timeout=timeout)
        if refused or not finished[0].ok:
            raise _refused(finished, record)
        reached = self.client.value("SELECT @@GLOBAL.gtid_binlog_pos;")
        wanted = str(stop["gtid"] if stop else self.source.logs[-1].end["gtid"])
        if set(reached.split(",")) != set(wanted.split(",")):
            raise PipelineError(
                f"The replay ended at {reached or '(empty)'}; it should have ended at {wanted or '(empty)'}.",
                "Report this with both; the logs were proven when they came.",
            )
        counted = [int(each.values.get("transactions") or 0) for each in self.source.logs]
        if stop:
            counted[-1] = int(stop["transactions"])
        return {
            "logs": len(self.source.logs),
            "transactions": sum(counted),
            "bytes": sent,
            "sequences_moved": self._advance_sequences(),
            "prepared": [row[-1] or "" for row in self.client.query("XA RECOVER;")],
            "end": {"file": self.source.logs[-1].name, "gtid": reached},
        }

    def _feed(self, record: LogRecord, position: int, local: Path, sink: int, end: int) -> bool:
        """Send one log to the client; return False once the client takes no more, whose own words say why.

        :param end: the byte after the last transaction to send; 0 for all.
        """
        reader = Stage(
            (
                *(_tool("mariadb-binlog", "mariadb-client", self._series), "--no-defaults", "--verify-binlog-checksum"),
                *(f"--start-position={position}", f"--local-load={local}"),
                *((f"--stop-position={end}",) if end else ()),
                "-",
            ),
            label=f"mariadb-binlog of {record.name}",
        )
        with Pipeline([*self.source.log_stages(record), reader]) as pipeline:
            while True:
                block = os.read(pipeline.output.fileno(), BUFFER_BYTES)
                if not block:
                    break
                try:
                    view = memoryview(block)
                    while view:
                        view = view[os.write(sink, view) :]
                except BrokenPipeError:
                    pipeline.kill()
                    return False
            ended = pipeline.wait()
        # Where the log is left before its end, the stages before the reader lose theirs, and that is no failure.
        if not all(stage.ok for stage in ended) and not (end and left_early(ended)):
            raise failure(ended)
        return True

    def _advance_sequences(self) -> int:
        """Move sequences that feed column defaults past every value in use.

        MariaDB does not log a sequence's advance in a statement that fires triggers (seen with 10.11.19), so after
        the replay its next value may be one that a row has already.
        """
        columns = self.client.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REGEXP_REPLACE(COLUMN_DEFAULT, '^nextval[(](.*)[)]$', '\\\\1')"
            " FROM information_schema.COLUMNS WHERE COLUMN_DEFAULT LIKE 'nextval(%';"
        )
        for schema, table, column, sequence in columns:
            name = quoted(column or "")
            last, cache, step = self.client.query(
                f"SELECT MAX({name}), (SELECT cache_size FROM {sequence}), (SELECT increment FROM {sequence})"  # noqa: S608
                f" FROM {quoted(schema or '')}.{quoted(table or '')};"
            )[0]
            if last is not None:
                value = int(last) + int(cache or 0) * int(step or 1)
                self.client.query(f"SET SESSION sql_log_bin=0; SELECT SETVAL({sequence}, {value});")
        return len(columns)

    # -- looking at it --

    def content(self) -> Content:
        tables = self._tables(_SYSTEM)
        rows: dict[str, int] = {}
        for begin in range(0, len(tables), _BATCH):
            part = tables[begin : begin + _BATCH]
            sql = "".join(f"SELECT COUNT(*) FROM {quoted(one)}.{quoted(two)};\n" for one, two in part)  # noqa: S608
            for (one, two), counted in zip(part, self.client.query(sql, timeout=_DAY)):
                rows[f"{one}.{two}"] = int(counted[0] or 0)
        return Content(count_objects(self.client), rows)

    def _tables(self, without: str) -> list[tuple[str, str]]:
        found = self.client.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"  # noqa: S608
            f" WHERE {_TABLES} AND TABLE_SCHEMA NOT IN {without} ORDER BY 1, 2;"
        )
        return [(row[0] or "", row[1] or "") for row in found]

    def checks(self) -> Sequence[Check]:
        wrong: list[str] = []
        silent: set[str] = set()
        tables = self._tables(_NOT_OURS)
        for begin in range(0, len(tables), _BATCH):
            names = ", ".join(f"{quoted(one)}.{quoted(two)}" for one, two in tables[begin : begin + _BATCH])
            for table, _operation, kind, text in self.client.query(f"CHECK TABLE {names};", timeout=_DAY):
                if "doesn't support check" in (text or ""):
                    silent.add(table or "")
                elif (kind or "").lower() == "error" or (kind == "status" and text not in _GOOD):
                    wrong.append(f"{table}: {text}")
        checks = [
            Check(
                f"CHECK TABLE ({len(tables) - len(silent)} tables)", FAILED if wrong else PASSED, "; ".join(wrong[:20])
            )
        ]
        if silent:
            checks.append(
                Check("CHECK TABLE", NOT_CHECKABLE, f"their engine has none: {', '.join(sorted(silent)[:20])}")
            )
        return checks

    def ask(self, sql: str, database: str) -> str:
        text = sql.strip().rstrip(";")
        if not text:
            raise InputError("A query is empty.", "Write the SQL of each check.")
        return self.client.value(f"{f'USE {quoted(database)};' if database else ''}{text};")

    def settle(self) -> Path:
        if self._daemon is None:
            raise AssertionError("the throwaway was not started")
        # Without a full purge and flush the data directory would need the throwaway's own logs.
        self.client.query(
            f"SET SESSION sql_log_bin=0; SET GLOBAL innodb_fast_shutdown=1; DROP USER IF EXISTS {ACCOUNT}@localhost;"
        )
        self._daemon.end(signal.SIGTERM, timeout=_DAY)
        if self._daemon.status != 0:
            raise PipelineError(
                f"The throwaway MariaDB server did not end cleanly: {self._daemon.tail()}", "Try again."
            )
        run(Stage((find_tool("sync", "coreutils"), "--file-system", str(self.data))), timeout=_DAY)
        return self.data

    def end(self) -> None:
        if self._daemon is not None:
            self._daemon.end()


_GOOD = ("OK", "Table is already up to date")


def _tool(name: str, package: str, wanted: str) -> str:
    """Return a program of a series."""
    own = Path(OWN_FOLDER.format(wanted)) / "bin" / name
    return str(own) if own.is_file() else find_tool(name, package)


def tool_versions(manifest: Mapping[str, Any], programs: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Return the exact versions of programs, given with their packages.

    :raises PrerequisiteError: if one is missing or of another series than the set's server.
    """
    wanted = series(str(manifest["server"]["version"]))
    found = {}
    for name, package in programs:
        shown = run(Stage((_tool(name, package, wanted), "--version"), label=name), check=False)
        found[name] = tool_version(shown.stdout.decode("utf-8", "replace") + shown.stderr)
        said = re.search(rb"Ver (\S+)", shown.stdout)
        if name == "mariadb-binlog" and not found[name] and said:
            found[name] = said.group(1).decode("utf-8", "replace")  # until 10.11 it tells its own version alone
        elif series(found[name]) != wanted:
            raise PrerequisiteError(
                f"{name} on this host is {found[name] or 'of no known version'}; the set {manifest['set']} was made on"
                f" MariaDB {manifest['server']['version']}: the series differ.",
                f"Install {package} of the series {wanted}, or put its programs into /opt/mariadb-{wanted}/bin.",
                {"tool": name, "found": found[name], "series": wanted},
            )
    return found


def _refused(finished: Sequence[Finished], record: LogRecord) -> PipelineError:
    error = failure(finished) if not finished[0].ok else PipelineError("The client closed the session early.")
    return PipelineError(
        f"The replay stopped in {record.name}: {error.message}",
        "The set and the log do not fit together, or the server's release differs. Test the set alone (target: set).",
        {**error.details, "file": record.name},
    )


def _write_closed(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as stream:
        stream.write(text)


def quoted(name: str) -> str:
    """Return a name as MariaDB reads it in a statement."""
    return "`" + name.replace("`", "``") + "`"
