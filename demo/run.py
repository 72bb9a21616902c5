# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: the main job on real servers of this machine's own, from nothing to a copy compared with its source.

Everything lies in .demo (repository, evidence, result.json) and in a folder below /tmp that goes at the end (the
servers). No server that runs already is touched, none is left running.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.inventory import human_bytes, local_time
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.report_table import table
from demo import bring_back
from demo.compare import Comparison, compare
from demo.place import PROJECT, Place
from demo.process import ServerError, find_program
from demo.process import run as run_tool
from demo.sample import load, make_files
from demo.servers import MariaDBServer, PostgreSQLServer, Server, workspace
from demo.workload import Workload

ZONE = "Asia/Jakarta"
DATABASES = {"simrs": MariaDBServer, "laboratorium": PostgreSQLServer}


# What a test alters in each restored copy, so that the comparison must fail: statements for simrs and laboratorium.
SPOIL = {
    "row": {
        "simrs": "UPDATE pasien SET nm_pasien = 'lain' ORDER BY no_rm LIMIT 1",
        "laboratorium": "UPDATE simrs.pasien SET nm_pasien = 'lain' WHERE no_rm = (SELECT min(no_rm::text) FROM simrs.pasien)",
    },
    "trigger": {
        "simrs": "DROP TRIGGER kunjungan_hapus",
        "laboratorium": "DROP TRIGGER pasien_audit ON simrs.pasien",
    },
}

# A table that somebody drops by mistake, where the server was just before, and what tells that the rows are the same.
MISTAKE = {
    "simrs": (
        "table:simrs.resep_detail",
        "DROP TABLE resep_detail",
        "SELECT @@GLOBAL.gtid_binlog_pos",
        "CHECKSUM TABLE resep_detail",
    ),
    "laboratorium": (
        "table:simrs.simrs.resep_detail",
        "DROP TABLE simrs.resep_detail",
        "SELECT pg_current_wal_insert_lsn()",
        "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM simrs.resep_detail t",
    ),
}
INSTRUCTION = {
    "instructed_by": {"id_number": "1005"},
    "reason": "Tabel terhapus (latihan)",
    "telephone": {
        "heard_by": {"name": "Contoh Petugas Satu", "id_number": "1008"},
        "witness": {"name": "Contoh Petugas Dua", "id_number": "1009"},
    },
}


class Demo:
    """One run of the demo."""

    def __init__(self, place: Place, folder: Path, megabytes: float, spoil: str = "") -> None:
        self.place, self.folder, self.megabytes, self.spoil = place, folder, megabytes, spoil
        self.servers: dict[str, Server] = {}
        self.documents = folder / "berkas"
        self.rows: list[tuple[str, str, str, str]] = []
        self.seconds: dict[str, float] = {}

    # -- the steps, in the order they run --

    def servers_and_samples(self) -> None:
        """Start a private server of each engine and fill it."""

        def one(name: str) -> None:
            server = DATABASES[name](self.folder / name)
            self.servers[name] = server
            server.start()
            load(server, self.megabytes)
            self.place.database(name, server)

        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(one, name) for name in DATABASES]:
                done.result()
        make_files(self.documents, 5)
        self.place.folders("berkas", self.documents)

    def playbook(self, name: str, *words: str, expect_failure: bool = False) -> str:
        """Run a playbook as its user would, showing what it prints; its output."""
        where = PROJECT / "playbooks" / f"{name}.yml"
        path = where if where.exists() else PROJECT / "demo" / f"{name}.yml"
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(path),
            "-e",
            f"dbc_demo={self.place.root}",
            *words,
        ]
        print(f"\n$ ansible-playbook {path.relative_to(PROJECT)} {' '.join(words)}".rstrip(), flush=True)
        environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if line.strip():
                print("  " + line.rstrip(), flush=True)
        status = process.wait()
        self.seconds[f"playbook {name}"] = round(time.monotonic() - began, 1)
        if (status != 0) != expect_failure:
            raise ServerError(f"the playbook {name} ended with status {status}")
        return "".join(lines)

    def cycles(self) -> None:
        """Let a small workload write, and ship its logs, three times."""
        for _ in range(3):
            with ThreadPoolExecutor() as pool:
                list(pool.map(self.write_a_little, DATABASES))
            (self.documents / "baru.txt").write_text(f"hasil {time.time_ns()}\n")
            self.playbook("ship_logs")

    def write_a_little(self, name: str) -> None:
        """Commit some transactions in one server."""
        with Workload(self.servers[name], self.place.root / f"journal-{name}.jsonl", rate=50, run="DM") as workload:
            workload.wait_for(60)
            workload.stop()

    def full_backup_under_load(self) -> None:
        """Make the full backups while the workload writes."""
        running = [
            Workload(self.servers[name], self.place.root / f"journal-{name}.jsonl", rate=20, run="DM").start()
            for name in DATABASES
        ]
        try:
            self.playbook("full_backup")
        finally:
            for workload in running:
                workload.stop()

    def planted_hole(self) -> str:
        """Take one log out of a copy of the repository; verification must refuse the chain and name the file."""
        copy = self.place.root / "repository-with-a-hole"
        # The receivers go on: what is in staging may go while it is copied, and is no part of the chain yet.
        shutil.copytree(self.place.repository, copy, ignore=shutil.ignore_patterns("staging"))
        logs = sorted(copy.glob("simrs/logs/*/[0-9]*.age"))
        missing = logs[len(logs) // 2]
        missing.unlink()
        output = self.playbook(
            "verify_backups", "-e", f"dbc_repository={copy}", "-e", "dbc_only=simrs", expect_failure=True
        )
        shutil.rmtree(copy)
        if missing.name not in output:
            raise ServerError(f"the missing log {missing.name} was not named")
        return missing.name

    def test_restore(self) -> None:
        """Let the collection bring everything back into a non-active folder; the rows come from the ledger."""
        self.playbook("restore_test", "-e", f"dbc_scratch_folder={self.folder / 'scratch'}")
        for record in Repository.open(self.place.repository).ledger.records():
            if record["activity"] == "restore_test" and record["kind"] == "finished":
                data = record["data"]
                evidence = (
                    f"answered in {data['rto']['actual_seconds']:.1f} s, {data['source']['logs']} logs, copy destroyed"
                )
                self.note("T1 T2", record["instance"], f"test restore {data['result']}", evidence)

    def dropped_table(self, name: str) -> bool:
        """Drop a table by mistake, and bring it back on the running server, under an instruction (R1, R2)."""
        scope, drop, where, rows = MISTAKE[name]
        server = self.servers[name]
        self.place.restorable(name, server)
        before, moment = server.query(rows, "simrs"), server.value(where)
        server.query(drop, "simrs")
        words = {
            "dbc_only": name,
            "dbc_scope": scope,
            "dbc_moment": moment,
            "dbc_mode": "replace",
            "dbc_instruction": INSTRUCTION,
            "dbc_confirm": name,
            "dbc_scratch_folder": str(self.folder / "scratch"),
        }
        self.playbook("restore", "-e", json.dumps(words))
        equal = server.query(rows, "simrs") == before
        seconds = self.seconds["playbook restore"]
        result = "dropped table is back" if equal else "NOT as it was"
        self.note("R1 R2 R3", name, result, f"{scope} at {moment}, {seconds:.0f} s with all questions answered")
        return equal

    def bring_back(self, name: str) -> Comparison:
        """Bring a database back into a folder, compare everything with its source, and destroy the copy."""
        make: Callable[..., tuple[Server, float]] = bring_back.mariadb if name == "simrs" else bring_back.postgresql
        server, seconds = make(self.place.repository, name, self.place.operations_key, self.folder / f"back-{name}")
        self.seconds[f"back {name}"] = round(seconds, 1)
        try:
            if self.spoil:
                server.query(SPOIL[self.spoil][name], "simrs")
            return compare(self.servers[name], server)
        finally:
            server.stop()

    def bring_files_back(self) -> bool:
        """Bring the folders back and compare everything rsync can tell apart."""
        base, seconds = bring_back.files(
            self.place.repository, "berkas", self.place.operations_key, self.folder / "back-berkas"
        )
        self.seconds["back berkas"] = round(seconds, 1)
        # Contents, kinds, links, hard links, rights, owners, times, extended attributes: anything that rsync would change.
        words = ["-aHAX", "--checksum", "--delete", "--dry-run", "--itemize-changes"]
        changes = run_tool([find_program("rsync"), *words, f"{self.documents}/", f"{base}{self.documents}/"]).decode(
            errors="replace"
        )
        print(f"\nberkas\n{changes or 'all equal'}".rstrip())
        return not changes

    # -- what it ends with --

    def note(self, clause: str, instance: str, result: str, evidence: str) -> None:
        """Add a row to the closing table."""
        self.rows.append((clause, instance, result, evidence))

    def backup_rows(self) -> None:
        """Add the rows of D1, B1, B2 and B3 from the repository itself."""
        for name in (*DATABASES, "berkas"):
            found = bring_back.held(self.place.repository, name)
            manifest = found.manifest
            size = human_bytes(sum(each["size"] for each in manifest["artefacts"]))
            objects = sum(count for kind, count in manifest["objects"].items() if kind != "bytes")
            self.note("D1 B1", name, "full backup", f"{manifest['set']}, {size}, {objects} objects")
            window = manifest["window"]
            kept = (
                "window kept"
                if window["kept"]
                else f"outside its window, {window['started_late_seconds'] / 3600:.0f} h late"
            )
            self.note("B2", name, kept, f"due {local_time(window['opens'], ZONE)}")
            state = json.loads((found.logs[-1].parent / "state.json").read_text())
            lag = f"lag {state['lag_seconds']:.0f} s, {human_bytes(state['lag_bytes'])}"
            self.note("B3", name, "chain whole", f"{len(found.logs)} logs, {lag}")

    def recoverable(self) -> list[dict[str, Any]]:
        """Return from when to when each instance can be brought back, and how long that took just now."""
        found = []
        for name in (*DATABASES, "berkas"):
            one = bring_back.held(self.place.repository, name)
            state = json.loads((one.logs[-1].parent / "state.json").read_text())
            found.append(
                {
                    "instance": name,
                    "from": one.manifest["finished_at"],
                    "to": state["recoverable_to"],
                    "seconds": self.seconds[f"back {name}"],
                }
            )
        return found


def run(place: Place, megabytes: float, spoil: str = "") -> int:
    """Do all of it; 0 if every comparison is equal and the planted hole was refused."""
    began = time.monotonic()
    place.make()
    with workspace("demo") as folder:
        demo = Demo(place, folder, megabytes, spoil)
        say("Private servers and a sample: patients, visits, prescriptions, laboratory results, scanned documents")
        demo.servers_and_samples()
        say("Streams of the logs (B3)")
        demo.playbook("receivers", "-e", "dbc_receivers=present")
        try:
            say("Full backup while the hospital writes (B1, B2)")
            demo.full_backup_under_load()
            say("Log shipping (B3)")
            demo.cycles()
            say("Verification of every stored byte")
            demo.playbook("verify_backups")
            say("A missing log in the middle: the native tools would replay across it and exit 0")
            missing = demo.planted_hole()
            say("Bringing one instance of each engine back into a folder, and comparing everything with its source")
            good = True
            demo.backup_rows()
            for name in DATABASES:
                comparison = demo.bring_back(name)
                print(f"\n{name}\n{comparison}")
                total = sum(source for source, _copy in comparison.counts.values())
                result = "equal to its source" if comparison.ok else f"{len(comparison.differences)} DIFFERENCES"
                demo.note(
                    "D3", name, result, f"{total} objects, {comparison.rows[0]} rows, {demo.seconds[f'back {name}']} s"
                )
                good = good and comparison.ok
            files_ok = demo.bring_files_back()
            demo.note(
                "D3", "berkas", "equal to its source" if files_ok else "DIFFERENT", f"{demo.seconds['back berkas']} s"
            )
            demo.note("B3", "simrs", "planted hole refused", missing)
            say("Test restore into a folder that no live database uses, destroyed afterwards (T1, T2)")
            demo.test_restore()
            say("A table dropped by mistake, back on the running server, under a recorded instruction (R1, R2, R3)")
            for name in DATABASES:
                good = demo.dropped_table(name) and good
        finally:
            demo.playbook("receivers", "-e", "dbc_receivers=absent")
        return finish(demo, good and files_ok, time.monotonic() - began)


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n=== {text}", flush=True)


def finish(demo: Demo, good: bool, seconds: float) -> int:
    """Print the closing table and write result.json."""
    place = demo.place
    ranges = demo.recoverable()
    result = {
        "ok": good,
        "seconds": round(seconds, 1),
        "rows": [dict(zip(("clause", "instance", "result", "evidence"), row)) for row in demo.rows],
        "recoverable": ranges,
        "steps_seconds": demo.seconds,
        "evidence": str(place.repository / "ledger"),
        "next": ["LC_ALL=C.UTF-8 .venv/bin/ansible-playbook playbooks/status.yml", "docs/first-day.md"],
    }
    (place.root / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print()
    for line in table(demo.rows, ("clause", "instance", "result", "evidence")):
        print(line)
    print()
    for one in ranges:
        print(
            f"recoverable now: {one['instance']}: {local_time(one['from'], ZONE)} to {local_time(one['to'], ZONE)}"
            f" in about {max(1, round(one['seconds']))} s"
        )
    print(f"\nevidence: {place.repository / 'ledger'} (and {place.root / 'result.json'})")
    print(
        "next: 1. LC_ALL=C.UTF-8 .venv/bin/ansible-playbook playbooks/status.yml   what could be recovered, at any time"
    )
    print("      2. docs/first-day.md                                                your own servers, in five steps")
    print(f"\n{'The demo passed' if good else 'THE DEMO FAILED'} in {seconds:.0f} s.")
    return 0 if good else 1


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="make demo DEMO_ARGS=…", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=20, help="size of each database's sample (default 20)")
    parser.add_argument("--folder", type=Path, default=PROJECT / ".demo", help="where it leaves what it made")
    parser.add_argument(
        "--spoil", choices=SPOIL, default="", help="alter the restored copies: the demo must fail (a test)"
    )
    given = parser.parse_args()
    try:
        return run(Place(given.folder.absolute()), given.megabytes, given.spoil)
    except ServerError as error:
        print(f"\nTHE DEMO FAILED: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
