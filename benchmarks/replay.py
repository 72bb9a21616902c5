# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replay of a log of many small transactions, beside the bare tools on an equally configured throwaway."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from time import monotonic, sleep

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.throwaway import memory_for
from benchmarks import by_hand
from benchmarks.full import SERVERS, content_bytes
from benchmarks.measure import Row, Table, operation, settle, shell
from benchmarks.production import Production
from benchmarks.receivers import expect, receiving
from demo.clients import QueryError
from demo.server import Server

# Tables of sysbench's, a table of pgbench's kind; as long as the log of a busy hour in a fraction of its time.
WRITE = {
    "mariadb": """
SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 2
//
BEGIN NOT ATOMIC
  DECLARE n INT DEFAULT 0;
  WHILE n < {transactions} DO
    START TRANSACTION;
    UPDATE sbtest1 SET k = k + 1 WHERE id = 1 + n * 7919 MOD {rows};
    UPDATE sbtest2 SET c = LEFT(CONCAT(n, '-', REVERSE(c)), 119) WHERE id = 1 + n * 104729 MOD {rows};
    INSERT INTO history (tid, delta, mtime) VALUES (n MOD 100, n, NOW());
    COMMIT;
    SET n = n + 1;
  END WHILE;
END
//
SET GLOBAL sync_binlog = 1, GLOBAL innodb_flush_log_at_trx_commit = 1
""",
    "postgresql": """
SET synchronous_commit = off;
DO $$ BEGIN
  FOR n IN 0..{transactions} - 1 LOOP
    UPDATE sbtest1 SET k = k + 1 WHERE id = 1 + n::bigint * 7919 % {rows};
    UPDATE sbtest2 SET c = left(n || '-' || reverse(c), 120) WHERE id = 1 + n::bigint * 104729 % {rows};
    INSERT INTO history (tid, delta, mtime) VALUES (n % 100, n, now());
    COMMIT;
  END LOOP;
END $$;
""",
}
HISTORY = "CREATE TABLE history (tid INT, delta INT, mtime TIMESTAMP)"


def replay(site: Production, transactions: int, say: Callable[[str], None]) -> Table:
    """Replay one log both ways, once: the bare tools aside first, then a restore of production to the log's end."""
    rows = int(site.server.value("SELECT COUNT(*) FROM sbtest1", "simrs") or 1)
    site.server.query(HISTORY, "simrs")
    asked = {**site.backup, "operation": "log_cycle"}
    with receiving(site.place.repository, asked["instances"]):
        site.full()
        for statement in WRITE[site.engine].split("\n//\n"):
            site.server.query(statement.format(transactions=transactions, rows=rows), "simrs", timeout=7200)
        expect(operation(asked), "good")
    size = sum(file.stat().st_size for _name, file in by_hand.logs(site))
    commands, bare, plain = _bare(site, transactions, say)
    settle()
    answer = site.restore()
    _check(site.server, transactions)
    ours = float(answer["phases"]["replay"])
    if site.engine == "postgresql":  # it recovers from its start on
        ours += float(answer["phases"]["start"])
    told = answer["replay"]
    say(f"  restore: {ours:.2f} s for {told['transactions']} transactions")
    table = Table(f"Replay of a log, {site.engine}: {told['transactions']} transactions, {plain / 1e6:.0f} MB")
    table.rows = [
        Row(
            "the restore's replay",
            f"{ours:.2f} s, {told['transactions'] / ours:.0f} transactions/s, {size / 1e6:.0f} MB stored",
        ),
        Row(
            "bare tools on an equally configured throwaway",
            f"{bare:.2f} s, {told['transactions'] / bare:.0f} transactions/s",
        ),
        Row("replay / bare tools", f"{ours / bare:.2f}"),
    ]
    table.notes.append("Each side decrypts the same logs; the restore's holds each against its hash, too.")
    table.commands = [line.replace(str(site.folder), "…") for line in commands]
    return table


def _check(server: Server, transactions: int) -> None:
    """Fail unless all that was written is there."""
    found = server.value("SELECT COUNT(*) FROM history", "simrs")
    if found != str(transactions):
        raise RuntimeError(f"of {transactions} transactions {found} were replayed")


def _bare(site: Production, transactions: int, say: Callable[[str], None]) -> tuple[list[str], float, int]:
    """Replay with the bare tools; the commands, the seconds, and the log's plain bytes."""
    base, folder = site.folder / "replayed", site.folder / "logs"
    for each in (base, folder):
        each.mkdir(mode=0o755)
    shell("\n".join(by_hand.unpacking(site, base / "data")), site.folder / "none")
    stored = by_hand.logs(site)
    lines = [f"{by_hand.decoded(site, file)} > {folder / name}" for name, file in stored]
    shown = [lines[0], *([f"… and so on, {len(lines)} logs"] if len(lines) > 1 else [])]
    memory = memory_for(content_bytes(site.server))
    server: Server
    if site.engine == "mariadb":
        server = SERVERS["mariadb"](base, tcp=False, tls=False, options=_mariadb(memory))
        with server:
            names = " ".join(str(folder / name) for name, _file in stored)
            offset = by_hand.start_offset(site)
            roll = f"mariadb-binlog --start-position={offset} {names} | {by_hand.client(server)} --binary-mode"
            shown.append(roll.replace(names, str(folder / "mariadb-bin.*")))
            settle()
            taken = shell("\n".join([*lines, roll]), site.folder / "none")
            _check(server, transactions)
    else:
        command = f"cp {folder}/%f %p"
        server = SERVERS["postgresql"](base, tcp=False, tls=False, options=_postgresql(memory, command), timeout=7200)
        (base / "data" / "recovery.signal").touch()
        server.owner.give(base / "data" / "recovery.signal")
        shown += ["touch …/data/recovery.signal", f"postgres -D …/data -c restore_command='{command}'"]
        settle()
        taken = shell("\n".join(lines), site.folder / "none")
        began = monotonic()
        server.start()  # without hot_standby: it runs, and takes no question before it has recovered
        _until_recovered(server)
        taken += monotonic() - began
        _check(server, transactions)
        server.stop()
    say(f"  bare tools: {taken:.2f} s")
    plain = sum(path.stat().st_size for path in folder.iterdir())
    for each in (base, folder):
        shutil.rmtree(each)
    return shown, taken, plain


def _until_recovered(server: Server, seconds: float = 7200) -> None:
    """Wait until a server that has begun its recovery answers; looked at fifty times a second."""
    deadline = monotonic() + seconds
    while True:
        try:
            server.value("SELECT 1")
        except QueryError:
            if monotonic() > deadline or not server.running:
                raise
            sleep(0.02)
        else:
            return


def _mariadb(memory: int) -> dict[str, str | None]:
    """Return what the restore's throwaway has, too."""
    return {
        "innodb_buffer_pool_size": str(memory),
        "innodb_flush_log_at_trx_commit": "0",
        "sync_binlog": "0",
        "binlog_checksum": "NONE",
        "skip_innodb_doublewrite": "",
        "innodb_fast_shutdown": "2",
        "performance_schema": "OFF",
        "event_scheduler": "OFF",
    }


def _postgresql(memory: int, command: str) -> dict[str, str | None]:
    return {
        "shared_buffers": f"{memory // 1024 // 1024}MB",
        "restore_command": command,
        "recovery_target_timeline": "current",
        "hot_standby": "off",
        "autovacuum": "off",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "1h",
    }
