# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings an instance back into a folder, with the commands of its manifest and the engine's own tools alone.

This is docs/restore-by-hand.md as a program: it uses nothing of the collection but reads the repository as a person
would. The restored server is a throwaway: unprivileged user, own socket, no network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.mariadb import MariaDBServer, name
from demo.postgresql import PostgreSQLServer
from demo.process import ServerError, find_program
from demo.server import Server


@dataclass(frozen=True)
class Held:
    """What a repository holds of one instance: its newest full set, and the logs that follow."""

    path: Path
    manifest: dict[str, Any]
    logs: tuple[Path, ...]
    names: tuple[str, ...]


def held(repository: Path, instance: str) -> Held:
    """Read the newest set's manifest and the records of its lineage's logs."""
    newest = max(path for path in (repository / instance / "full").iterdir() if not path.name.startswith("."))
    manifest = json.loads((newest / "manifest.json").read_text())
    lineage = repository / instance / "logs" / manifest["lineage"]
    records = sorted(lineage.glob("[0-9]*.json"))
    loaded = [json.loads(record.read_text()) for record in records]
    return Held(
        newest,
        manifest,
        tuple(lineage / record["artefact"] for record in loaded),
        tuple(record["name"] for record in loaded),
    )


def unpack(found: Held, key: Path, folder: Path) -> None:
    """Run the manifest's commands, as a person would copy them."""
    folder.mkdir(parents=True)
    for command in found.manifest["read_by_hand"]:
        if command.startswith("chown ") or not command.split()[0].islower():
            continue
        text = command.replace("KEY", str(key)).replace("TABLESPACE-", f"{folder}-tablespace-")
        text = text.replace("CONFIGURATION", f"{folder}-configuration")
        bash(text.replace("FOLDER", str(folder)), found.path)


def bash(command: str, folder: Path) -> None:
    """Run one line of the documents; every stage of a pipe counts."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerError(f"{command}\nended with {done.returncode}: {done.stderr[-2000:]}")


def decode(found: Held, key: Path, folder: Path) -> list[Path]:
    """Decrypt and unpack the logs into a folder, under their names on the server."""
    folder.mkdir(parents=True)
    plain = []
    for artefact, log in zip(found.logs, found.names):
        target = folder / log
        bash(f"age --decrypt -i '{key}' '{artefact}' | zstd -qdc > '{target}'", folder)
        plain.append(target)
    return plain


def give(server: Server, folder: Path) -> None:
    """Let the server's user own what root unpacked; links are owned, not followed."""
    if os.geteuid() == 0:
        for base, folders, files in os.walk(folder):
            for each in (*folders, *files):
                os.chown(os.path.join(base, each), server.owner.uid, server.owner.gid, follow_symlinks=False)
        os.chown(folder, server.owner.uid, server.owner.gid)


def mariadb(repository: Path, instance: str, key: Path, base: Path) -> tuple[MariaDBServer, float]:
    """Bring a MariaDB instance back to the end of its proven logs; the running server and the seconds it took."""
    began = time.monotonic()
    found = held(repository, instance)
    data = base / "data"
    base.mkdir(parents=True)
    base.chmod(0o755)
    unpack(found, key, data)
    server = MariaDBServer(
        base,
        datadir=data,
        tcp=False,
        tls=False,
        options={
            "event_scheduler": "OFF",
            "skip_slave_start": "",
            "log_bin": None,
            "gtid_strict_mode": None,
            "innodb_flush_log_at_trx_commit": "2",
        },
    )
    give(server, data)
    server.start()
    logs = decode(found, key, base / "logs")
    start = found.manifest["position"]["start"]
    names = [log.name for log in logs]
    if logs and start["file"] not in names:
        raise ServerError(f"the backup starts in {start['file']}, which the chain does not hold")
    logs = logs[names.index(start["file"]) :] if logs else []
    if logs:
        replay(server, logs, int(start["offset"]))
        advance_sequences(server)
    return server, time.monotonic() - began


def replay(server: MariaDBServer, logs: list[Path], offset: int) -> None:
    """Apply binary logs, the first from the backup's position on; both programs' status counts."""
    # --disable-log-bin: the throwaway keeps no log of its own.
    reader = subprocess.Popen(
        [
            find_program("mariadb-binlog"),
            "--no-defaults",
            "--disable-log-bin",
            "--verify-binlog-checksum",
            f"--start-position={offset}",
            *map(str, logs),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer = subprocess.run(
        [*server.client.command(), "--binary-mode"], stdin=reader.stdout, capture_output=True, check=False
    )
    said = reader.communicate()[1]
    if writer.returncode or reader.returncode:
        raise ServerError(f"replay: {said.decode(errors='replace')} {writer.stderr.decode(errors='replace')}")


def advance_sequences(server: MariaDBServer) -> None:
    """Move sequences that feed column defaults past every value in use.

    MariaDB does not write a sequence's advance to the binary log when a statement fires triggers (seen with 10.11.19),
    so after replay the next value may be one that a row has already.
    """
    columns = server.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REGEXP_REPLACE(COLUMN_DEFAULT, '^nextval[(](.*)[)]$', '\\\\1')"
        " FROM information_schema.COLUMNS WHERE COLUMN_DEFAULT LIKE 'nextval(%'"
    )
    for schema, table, column, sequence in columns:
        where = f"{name(str(schema))}.{name(str(table))}"
        last, cache, step = server.query(
            f"SELECT MAX({name(str(column))}), (SELECT cache_size FROM {sequence}), (SELECT increment FROM {sequence})"  # noqa: S608
            f" FROM {where}"
        )[0]
        if last is not None:
            server.query(f"SELECT SETVAL({sequence}, {int(last) + int(cache or 0) * int(step or 1)})")


def postgresql(repository: Path, instance: str, key: Path, base: Path) -> tuple[PostgreSQLServer, float]:
    """Bring a PostgreSQL instance back to the end of its proven logs; the running server and the seconds it took."""
    began = time.monotonic()
    found = held(repository, instance)
    base.mkdir(parents=True)
    base.chmod(0o755)
    data = base / "data"
    unpack(found, key, data)
    decode(found, key, base / "logs")
    end = json.loads(max((repository / instance / "logs" / found.manifest["lineage"]).glob("[0-9]*.json")).read_text())[
        "end"
    ]
    server = PostgreSQLServer(
        base,
        datadir=data,
        tcp=False,
        tls=False,
        options={
            "restore_command": f"cp {base}/logs/%f %p",
            # Without a target a hole would end recovery early and the server would open with rows missing.
            "recovery_target_lsn": str(end["last_record"]),
            "recovery_target_action": "promote",
            "archive_mode": "off",
            "shared_preload_libraries": "",
            "max_logical_replication_workers": "0",
        },
    )
    (data / "recovery.signal").touch()
    (data / "postgresql.auto.conf").write_text("")
    for folder in (data, base / "logs", *base.glob("data-tablespace-*")):
        give(server, folder)
    server.start()
    deadline = time.monotonic() + 120
    while server.query("SELECT pg_is_in_recovery()") != [["f"]]:
        if time.monotonic() > deadline:
            raise ServerError("the restored server is still in recovery after 120 s")
        time.sleep(0.1)
    return server, time.monotonic() - began


def files(repository: Path, instance: str, key: Path, base: Path) -> tuple[Path, float]:
    """Bring folders back below a folder, to the state of the newest archive of changes; the seconds it took.

    What an archive says is gone goes before the archive is unpacked, so that no removal goes through a link that
    came instead; at the end goes whatever the newest listing does not have.
    """
    began = time.monotonic()
    found = held(repository, instance)
    base.mkdir(parents=True)
    for artefact in (found.path / "files.tar.zst.age", *found.logs):
        decoded = f"age --decrypt -i '{key}' '{artefact}' | zstd -qdc"
        if artefact in found.logs:
            bash(f"{decoded} | tar -x -C '{base}' .dbcontinuity", base)
            bash("sed -z 's|^/||' .dbcontinuity/deleted | xargs -0 -r rm -rf --", base)
        bash(f"{decoded} | tar -x --acls --xattrs --numeric-owner -C '{base}'", base)
    if found.logs:
        as_listed(base, base / ".dbcontinuity" / "listing.jsonl")
    return base, time.monotonic() - began


def as_listed(base: Path, listing: Path) -> None:
    """Remove what the newest listing does not have, and give folders their times back."""
    entries = [json.loads(line) for line in listing.read_text().splitlines()]
    shutil.rmtree(base / ".dbcontinuity")
    known = {f"{base}{entry['path']}" for entry in entries}
    roots = [path for path in sorted(known) if os.path.dirname(path) not in known]
    for root in roots:
        for folder, folders, names in os.walk(root, topdown=False):
            for each in (*names, *folders):
                path = os.path.join(folder, each)
                if path not in known:
                    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    for entry in entries:
        if entry["kind"] == "folder":
            os.utime(f"{base}{entry['path']}", ns=(entry["modified"], entry["modified"]))
