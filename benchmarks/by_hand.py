# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore with the bare tools: the commands as one would type them, and the same for a dump and for a log."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from benchmarks.full import NAME
from benchmarks.production import Production
from demo.process import find_program
from demo.server import Server
from demo.servers import MariaDBServer, PostgreSQLServer


def as_owner(server: Server) -> str:
    """Return what a command begins with that root runs as the server's user."""
    owner = server.owner
    return "" if owner.is_me else f"setpriv --reuid={owner.uid} --regid={owner.gid} --clear-groups "


def client(server: Server, database: str = "") -> str:
    """Return the administrator's client."""
    if isinstance(server, MariaDBServer):
        return f"mariadb --no-defaults --socket={server.socket} {database}".rstrip()
    return f"psql -qXAt -v ON_ERROR_STOP=1 -h {server.run_folder} -p {server.port} -U postgres {database or 'postgres'}"


def decoded(site: Production, file: Path) -> str:
    """Return the pipeline that gives a stored file's content."""
    return f"age -d -i {site.place.operations_key} {file} | zstd -dc"


def unpacking(site: Production, target: Path) -> list[str]:
    """Return the commands that make a data directory of the newest set."""
    found = site.newest_set
    lines = [f"mkdir -m 0700 {target}"]
    if site.engine == "mariadb":
        lines += [
            f"{decoded(site, next(found.glob('*.mbstream.zst.age')))} | mbstream -x -C {target}",
            f"mariadb-backup --prepare --target-dir={target}",
        ]
    else:
        lines.append(f"{decoded(site, found / 'base.tar.zst.age')} | tar -x -C {target}")
    owner = site.server.owner
    return [*lines, f"chown -R {owner.uid}:{owner.gid} {target}"]


def stopping(server: Server) -> str:
    """Return the command that stops a server."""
    if isinstance(server, MariaDBServer):
        return f"mariadb-admin --no-defaults --socket={server.socket} shutdown"
    if not isinstance(server, PostgreSQLServer):
        raise TypeError(type(server).__name__)
    return f"{as_owner(server)}{server.program('pg_ctl')} stop -s -m fast -D {server.datadir}"


def starting(server: Server, question: str = "SELECT 1", answer: str = "1") -> list[str]:
    """Return the commands that start a server, and wait for its first answer."""
    ask = f"{client(server)} {'-Ne' if server.engine == 'mariadb' else '-c'} {shlex.quote(question)} 2> /dev/null"
    return [
        f"{as_owner(server)}setsid {shlex.join(server.start_command())} < /dev/null >> {server.log} 2>&1 &",
        f'until [ "$({ask})" = {answer} ]; do sleep 0.05; done',
    ]


def restoring(site: Production) -> list[str]:
    """Return the commands of a restore onto production."""
    data = site.server.datadir
    return [
        *unpacking(site, new(data)),
        stopping(site.server),
        f"mv {data} {old(data)}",
        f"mv {new(data)} {data}",
        *starting(site.server),
    ]


def new(data: Path) -> Path:
    """Return where the new data are made."""
    return data.with_name(f"{data.name}.new")


def old(data: Path) -> Path:
    """Return where the old data go."""
    return data.with_name(f"{data.name}.old")


def undo(site: Production) -> None:
    """Put the old data back after :func:`restoring`, so that production's history goes on."""
    server = site.server
    server.stop()
    shutil.rmtree(server.datadir)
    old(server.datadir).rename(server.datadir)
    server.start()


def dumping(site: Production, target: Path) -> str:
    """Return the command that dumps the database."""
    if site.engine == "mariadb":
        program = f"mariadb-dump --no-defaults --socket={site.server.run_folder}/mysqld.sock"
        return f"{program} --single-transaction --quick --routines --events --hex-blob --skip-add-locks --databases {NAME} | gzip -1 > {target}"
    where = f"-h {site.server.run_folder} -p {site.server.port} -U postgres"
    return f"{find_program('pg_dump')} {where} --create --no-owner --no-privileges {NAME} | gzip -1 > {target}"


def importing(server: Server, dump: Path) -> str:
    """Return the command that imports the dump into an empty server."""
    target = client(server) if server.engine == "mariadb" else client(server).replace(" -v ON_ERROR_STOP=1", "")
    return f"gzip -dc {dump} | {target} > /dev/null"


def logs(site: Production) -> list[tuple[str, Path]]:
    """Return name and stored file of each log that follows the newest set, from the one it starts in."""
    manifest = json.loads((site.newest_set / "manifest.json").read_text())
    start = manifest["position"]["start"]
    first = str(start["file"] if site.engine == "mariadb" else start["wal_file"])
    lineage = site.place.repository / NAME / "logs" / manifest["lineage"]
    records = [json.loads(path.read_text()) for path in sorted(lineage.glob("[0-9]*.json"))]
    return [(record["name"], lineage / record["artefact"]) for record in records if record["name"] >= first]


def start_offset(site: Production) -> int:
    """Return where in the first binary log the set starts."""
    manifest = json.loads((site.newest_set / "manifest.json").read_text())
    return int(manifest["position"]["start"]["offset"])
