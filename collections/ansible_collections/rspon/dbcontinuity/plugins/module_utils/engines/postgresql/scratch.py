# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway PostgreSQL server on an unpacked base backup, rolled forward by its write-ahead log.

The recovery always has a target, the newest record that was proven: without one a hole would end the recovery early
and the server would open with rows missing. Segments are decoded a few ahead of the server and removed behind it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Optional

from ...errors import AccessError, DamagedError, PipelineError, PrerequisiteError
from ...instance import Instance
from ...lineage import LogRecord
from ...process import Stage, find_tool, run
from ...throwaway import Daemon, Sandbox, memory_for
from ..scratch import FAILED, NOT_CHECKABLE, PASSED, Check, Content, ScratchServer, Source, missing
from .client import PostgreSQLClient, find_postgresql, tool_versions
from .full import BASE, verify_unpacked
from .inspect import count_objects
from .segments import SegmentFeeder
from .wal import parse_lsn, segment_timeline

_DAY = 24 * 3600.0
_CONTROL = ("max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_xacts", "max_locks_per_xact")
_TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname || '.' || c.relname
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm')
 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
 AND (c.relkind = 'r' OR c.relispopulated) ORDER BY 2;
"""
_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1;"
_CONFIGURATION = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
_HAS_AMCHECK = "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck';"
_BATCH = 100


class PostgreSQLScratch(ScratchServer):
    """One throwaway PostgreSQL server."""

    users: ClassVar[tuple[str, ...]] = ("postgres", "dbcontinuity")
    _signals: ClassVar[tuple[str, ...]] = ("recovery.signal",)

    def __init__(self, instance: Instance, source: Source, folder: Path, sandbox: Sandbox) -> None:
        super().__init__(instance, source, folder, sandbox)
        self._base = folder / "base"
        self.data = self._base / BASE
        self.sockets = folder / "s"
        self._originals = folder / "originals"
        self._service = folder / "service.conf"
        self._log = folder / "server.log"
        self._major = _major(source.manifest)
        self._daemon: Optional[Daemon] = None
        self._feeder: Optional[SegmentFeeder] = None

    @staticmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        return tool_versions(manifest, ("postgres", "pg_verifybackup", "pg_controldata"))

    @staticmethod
    def logs_of(manifest: Mapping[str, Any], records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        start = manifest["position"]["start"]
        if not start:
            return []
        first = str(start["wal_file"])
        found = [record for record in records if record.name >= first]
        if found and found[0].name != first:
            raise missing(first, f"the set starts in it, and the chain goes on with {found[0].name}")
        timelines = {segment_timeline(record.name) for record in found}
        if timelines - {int(start["timeline"])}:
            raise missing(first, "the chain goes on in another timeline than the set's")
        last = found[-1].end.get("last_record") if found else None
        # Logs that end before the copy is consistent add nothing: the set brings its own.
        end = str(manifest["position"]["end"]["lsn"])
        return found if last and parse_lsn(str(last)) >= parse_lsn(end) else []

    # -- bringing it up --

    def unpack(self) -> None:
        self._base.mkdir(mode=0o700)
        for artefact in self.source.artefacts:
            if artefact.content != "configuration":  # production's own; the throwaway must not have it
                self.source.unpack(artefact, self._base)

    def verify_base(self) -> Sequence[Check]:
        self.data.chmod(0o700)
        # What was hashed while it was unpacked is, byte for byte, what was held against the server's manifest when it came.
        verified = verify_unpacked(self._base, self.source.manifest, content=not self.source.hashed)
        if not verified.ok:
            raise DamagedError(
                f"The set {self.source.manifest['set']} does not hold: {verified.stderr.strip()[-1500:]}",
                "Make a new full backup now, and keep this set for the inquiry.",
            )
        self._disarm()
        self.sandbox.owner.give(self._base)
        return [Check(f"pg_verifybackup{' --skip-checksums' if self.source.hashed else ''}", PASSED)]

    def _disarm(self) -> None:
        """Take out whatever leads back to production, and let recovery run to its target alone."""
        spaces = self.source.manifest.get("engine_details", {}).get("tablespaces", {})
        # It names production's own folders: a server started with it would write into them.
        (self.data / "tablespace_map").unlink(missing_ok=True)
        if spaces:
            lines = [f"{oid} {self._base / f'{oid}.tar'}\n" for oid in spaces]
            (self.data / "tablespace_map").write_text("".join(lines), encoding="utf-8")
        for name in ("standby.signal", "postmaster.pid", "postmaster.opts"):
            (self.data / name).unlink(missing_ok=True)
        for base, folders, names in os.walk(self.data):
            for each in (*folders, *names):
                path = Path(base, each)
                if path.is_symlink() and self.folder not in Path(os.path.realpath(path)).parents:
                    raise DamagedError(
                        f"The set's link {path.relative_to(self.data)} leads out of the scratch folder, to"
                        f" {os.path.realpath(path)}: it was not started.",
                        "Look how it came into the set; nothing was written there.",
                    )

    def start(self) -> None:
        for path in (self.sockets, self.folder / "logs"):
            path.mkdir(mode=0o700)
        logs = self.source.logs
        if logs:
            self._feeder = SegmentFeeder(self.source, self.folder / "logs")
        settings = self._settings()
        self._originals.mkdir(mode=0o700)
        for name, text in {
            "postgresql.conf": "".join(f"{name} = '{value}'\n" for name, value in settings.items()),
            **dict.fromkeys(("postgresql.auto.conf", "pg_ident.conf", *self._signals), ""),
            "pg_hba.conf": "local all all trust\n",
            **dict.fromkeys(self._taken_timelines, ""),
        }.items():
            path = self.data / name
            if path.is_file() and name in _CONFIGURATION:
                path.rename(self._originals / name)
            path.unlink(missing_ok=True)
            path.write_text(text, encoding="utf-8")
            os.chown(path, self.sandbox.owner.uid, self.sandbox.owner.gid)
        self._log.touch(mode=0o600)
        descriptor = os.open(self._service, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"[{self.instance.name}]\nhost={self.sockets}\nport=5432\nuser=postgres\ndbname=postgres\n")
        for path in (self.sockets, self.folder / "logs"):
            self.sandbox.owner.give(path)
        os.chown(self._log, self.sandbox.owner.uid, self.sandbox.owner.gid)
        if self._feeder is not None:
            self._feeder.start()
        program = find_postgresql("postgres", self._major)
        self._daemon = Daemon(
            self.sandbox.argv(program, "-D", str(self.data)), self._log, self.data, self.sandbox.environment
        )

    @property
    def _taken_timelines(self) -> list[str]:
        """Return the files that make the server take a timeline that none of the instance's histories has used.

        Else a copy of an older moment would number its log like that of the history it leaves behind.
        """
        first = int(self.source.manifest["position"]["start"]["timeline"])
        newest = max((int(each.get("timeline") or 0) for each in self.source.histories), default=first)
        return [f"pg_wal/{number:08X}.history" for number in range(first + 1, newest + 1)]

    def _settings(self) -> dict[str, str]:
        memory = memory_for(self.source.content_bytes) // (1024 * 1024)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "port": "5432",
            # Nothing of production's goes on here.
            "archive_mode": "off",
            "shared_preload_libraries": "",
            "session_preload_libraries": "",
            "local_preload_libraries": "",
            "primary_conninfo": "",
            "primary_slot_name": "",
            "max_logical_replication_workers": "0",
            "ssl": "off",
            "logging_collector": "off",
            "lc_messages": "C",
            "hot_standby": "off",
            "autovacuum": "off",
            # Nobody else is here: only a transaction that was prepared and never ended can hold a lock.
            "lock_timeout": "60s",
            # A throwaway need not survive a power cut.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "1h",
            "shared_buffers": f"{memory}MB",
            "maintenance_work_mem": "256MB",
            **self._control(),
            "recovery_target_action": "promote",
            "recovery_target_timeline": "current",
        }
        if self._feeder is None:
            settings.update({"restore_command": "false", "recovery_target": "immediate"})
        else:
            settings.update({"restore_command": self._feeder.command, "recovery_target_lsn": self._last_record})
        return settings

    @property
    def _last_record(self) -> str:
        """Return where the last record to apply begins."""
        return str(self.source.stop.get("record") or self.source.logs[-1].end["last_record"])

    def _control(self) -> dict[str, str]:
        """Return the settings that recovery needs at least as large as production's."""
        shown = run(self._stage("pg_controldata", str(self.data))).stdout.decode("utf-8", "replace")
        names = {"max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}
        found = {}
        for name in _CONTROL:
            for line in shown.splitlines():
                if line.startswith(f"{name} setting:"):
                    found[names.get(name, name)] = line.rpartition(":")[2].strip()
        return found

    def _stage(self, name: str, *words: str) -> Stage:
        return self.sandbox.stage(find_postgresql(name, self._major), *words, label=name)

    @property
    def client(self) -> PostgreSQLClient:
        """Return the client of the throwaway, as its superuser."""
        return PostgreSQLClient(replace(self.instance, credentials=self._service))

    def _open(self) -> bool:
        """Return whether the server answers and takes writes."""
        if not (self.sockets / ".s.PGSQL.5432").exists():
            return False
        try:
            return self.client.value("SELECT pg_is_in_recovery()::text") == "false"
        except AccessError:
            return False

    # -- rolling forward --

    def replay(self, on_progress: Callable[[int], None], timeout: float) -> Mapping[str, Any]:
        if self._daemon is None:
            raise AssertionError("the throwaway was not started")
        feeder = self._feeder

        def ready() -> bool:
            if feeder is not None:
                feeder.raise_failure()
                on_progress(feeder.asked_bytes)
            return self._open()

        try:
            self._daemon.wait_for(ready, timeout, "The throwaway PostgreSQL server")
        except PipelineError as error:
            if feeder is not None:
                feeder.raise_failure()
            remedy = (
                "A log is missing or does not fit, or a setting stands in the way; the server's own words tell which."
            )
            if "Tablespace/CREATE" in error.message:
                remedy = (
                    "A tablespace was made after the set; its log names production's own folder, which a copy must not"
                    " touch. Make a new full backup now."
                )
            raise PipelineError(
                f"The recovery did not reach its target: {error.message}", remedy, error.details
            ) from None
        finally:
            if feeder is not None:
                feeder.stop()
        for name in self._taken_timelines:
            (self.data / name).unlink()
        return self._reached()

    def _reached(self) -> Mapping[str, Any]:
        """Return what the recovery did, having looked whether it ended at the target.

        :raises PipelineError: if it did not.
        """
        logs, stop = self.source.logs, self.source.stop
        end = dict(logs[-1].end) if logs else dict(self.source.manifest["position"]["end"])
        # The server wrote down where and why it left production's timeline.
        timeline = self.client.value("SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)")
        history = self.client.value(f"SELECT pg_read_file('pg_wal/{timeline}.history')")
        _parent, left, reason = history.strip().splitlines()[-1].split("\t")
        wanted = parse_lsn(str(stop.get("lsn") or ("0/0" if logs else end["lsn"])))
        right = (
            reason.startswith("after LSN ") and parse_lsn(reason.split()[-1]) == parse_lsn(self._last_record)
            if logs
            else True
        )
        if not right or parse_lsn(left) < wanted or (stop and parse_lsn(left) != wanted):
            raise PipelineError(
                f"The recovery ended at {left} ({reason.strip()}); it should have ended"
                f" {f'after the record at {self._last_record}' if logs else 'at'} {stop.get('lsn') or end['lsn']}.",
                "Report this with the server's version.",
            )
        return {
            "logs": len(logs),
            "transactions": sum(int(each.values.get("transactions") or 0) for each in logs),
            "bytes": self.source.log_bytes,
            "prepared": [row[0] or "" for row in self.client.query("SELECT gid FROM pg_prepared_xacts ORDER BY 1")],
            "end": {**end, **({"lsn": left} if stop else {})},
        }

    # -- looking at it --

    def _databases(self) -> list[str]:
        return [row[0] or "" for row in self.client.query(_DATABASES)]

    def content(self) -> Content:
        rows: dict[str, int] = {}
        for database in self._databases():
            tables = [(row[0] or "", row[1] or "") for row in self.client.query(_TABLES, database)]
            for begin in range(0, len(tables), _BATCH):
                part = tables[begin : begin + _BATCH]
                sql = "".join(f"SELECT count(*) FROM ONLY {name};\n" for name, _shown in part)  # noqa: S608
                for (_name, shown), counted in zip(part, self.client.query(sql, database, timeout=_DAY)):
                    rows[f"{database}.{shown}"] = int(counted[0] or 0)
        objects, _unlogged, _closed = count_objects(self.instance, self.client, [])
        spaces = int(self.client.value("SELECT count(*) FROM pg_tablespace WHERE oid >= 16384"))
        return Content({**objects, **({"tablespaces": spaces} if spaces else {})}, rows)

    def checks(self) -> Sequence[Check]:
        return [self._amcheck(), self._checksums()]

    def _amcheck(self) -> Check:
        # What a prepared transaction has written to cannot be locked, as the whole check wants.
        whole = self.client.value("SELECT count(*) FROM pg_prepared_xacts") == "0"
        depth = ("--parent-check", "--rootdescend") if whole else ()
        name = " ".join(("pg_amcheck --heapallindexed", *depth))
        try:
            program = find_postgresql("pg_amcheck", self._major)
        except PrerequisiteError:
            return Check(name, NOT_CHECKABLE, f"pg_amcheck of PostgreSQL {self._major} is not on this host")
        available = self.client.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'")
        if available == "0":
            return Check(name, NOT_CHECKABLE, f"the extension amcheck of PostgreSQL {self._major} is not on this host")
        lacking = [each for each in self._databases() if self.client.value(_HAS_AMCHECK, each) == "0"]
        words = ("--all", "--install-missing", "--heapallindexed", *depth, "--jobs=2")
        where = (f"--host={self.sockets}", "--port=5432", "--username=postgres", "--no-password")
        finished = run(self.sandbox.stage(program, *words, *where, label="pg_amcheck"), timeout=_DAY, check=False)
        for each in lacking:  # the copy may become production's
            self.client.query("DROP EXTENSION IF EXISTS amcheck;", each)
        said = (finished.stdout.decode("utf-8", "replace") + finished.stderr).strip()
        return Check(name, PASSED if finished.ok else FAILED, "" if finished.ok else said[-2000:])

    def _checksums(self) -> Check:
        name = "pg_checksums --check"
        if self.client.value("SHOW data_checksums") != "on":
            return Check(name, NOT_CHECKABLE, "the server was set up without data checksums")
        program = find_postgresql("pg_checksums", self._major)
        self._shut_down()
        finished = run(
            self.sandbox.stage(program, "--check", f"--pgdata={self.data}", label="pg_checksums"),
            timeout=_DAY,
            check=False,
        )
        said = (finished.stdout.decode("utf-8", "replace") + finished.stderr).strip()
        return Check(name, PASSED if finished.ok else FAILED, "" if finished.ok else said[-2000:])

    def _shut_down(self) -> None:
        if self._daemon is not None:
            self._daemon.end(signal.SIGINT, timeout=600)

    def ask(self, sql: str, database: str) -> str:
        return self.client.value(sql, database or None)

    def settle(self) -> Path:
        if self._daemon is None:
            raise AssertionError("the throwaway was not started")
        self._daemon.end(signal.SIGINT, timeout=_DAY)
        if self._daemon.status != 0:
            raise PipelineError(f"The throwaway server did not end cleanly: {self._daemon.tail()}", "Try again.")
        for name in _CONFIGURATION:
            (self.data / name).unlink()
            if (self._originals / name).is_file():
                (self._originals / name).rename(self.data / name)
        for name in ("postmaster.opts", "backup_label.old", "tablespace_map.old"):
            (self.data / name).unlink(missing_ok=True)
        # It ran with fsync off.
        run(Stage((find_tool("sync", "coreutils"), "--file-system", str(self.data))), timeout=_DAY)
        return self.data

    def end(self) -> None:
        if self._feeder is not None:
            self._feeder.stop()
        if self._daemon is not None:
            self._daemon.end(signal.SIGQUIT, timeout=20)


def _major(manifest: Mapping[str, Any]) -> int:
    return int(str(manifest["server"]["version"]).split(".", maxsplit=1)[0])
