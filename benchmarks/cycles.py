# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log cycle costs that finds nothing: with a short and a long chain behind it, and for many instances at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import Lineage, open_lineage
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from benchmarks.full import NAME, request
from benchmarks.measure import Row, Table, alternate, median, operation, paired_ratio
from demo.place import Place
from demo.servers import MariaDBServer

SHORT = 10
SAME = 1.25  # what two equal costs may seem to differ by on a busy machine
MANY_LIMIT_SECONDS = 60.0


def long_and_short(folder: Path, archived: int, rounds: int, say: Callable[[str], None]) -> Table:
    """Measure an idle cycle of a chain of ten logs and of one of *archived*, of the same server."""
    base = folder / "cycles"
    base.mkdir()
    place = Place(base / "place")
    place.make()
    with MariaDBServer(base / "server", fast=True) as server:
        server.query("CREATE DATABASE rs; CREATE TABLE rs.t (i INT PRIMARY KEY)")
        place.database(NAME, server)
        backup = request(place, "mariadb")
        operation(backup)
        asked = {**backup, "operation": "log_cycle"}
        for number in range(SHORT):
            server.query(f"INSERT INTO rs.t VALUES ({number})")  # noqa: S608 - a number of its own
            _expect(operation(asked), "good")
        say(f"cycles: making a chain of {archived} logs")
        long = base / "long"
        shutil.copytree(place.repository, long)
        _lengthen(long, archived)
        far = {**asked, "repository": str(long)}
        taken = alternate(
            {f"{SHORT} logs": lambda: _idle(asked), f"{archived} logs": lambda: _idle(far)}, max(rounds, 3), say
        )
    ratio = paired_ratio(taken, f"{archived} logs", f"{SHORT} logs")
    table = Table("An idle log cycle, by the length of the chain", times=taken)
    table.rows = [Row(f"with {name} (median)", f"{median(values):.3f} s") for name, values in taken.items()]
    table.rows.append(Row("long chain / short chain", f"{ratio:.2f}", f"the same (within {SAME})", ratio <= SAME))
    table.notes.append(
        f"Both chains end with the same archived log of the same server; the long one has a ledger of {archived} more"
        " records, too."
    )
    return table


def _idle(asked: dict[str, Any]) -> float:
    answer = operation(asked)
    _expect(answer, "idle")
    return float(answer["seconds"])


def _expect(answer: dict[str, Any], result: str) -> None:
    found = {name: one["result"] for name, one in answer["result"]["instances"].items()}
    if set(found.values()) != {result}:
        raise RuntimeError(f"expected {result}: {answer['result']}")


def _lengthen(path: Path, archived: int) -> None:
    """Put copies of a log before the newest one, as if each had been archived in its turn."""
    repository = Repository.open(path)
    lineage = repository.instance(NAME).current_lineage()
    if lineage is None:
        raise RuntimeError("there is no chain")
    newest = lineage.head()
    if newest is None:
        raise RuntimeError("the chain is empty")
    content = (lineage.path / newest.artefact).read_bytes()
    for old in lineage.path.glob("0*"):
        old.unlink()
    (lineage.path / "head.json").unlink()
    suffix = newest.artefact.partition(newest.name)[2]
    for number in range(1, archived + 1):
        name = newest.name if number == archived else f"{newest.name}-{number}"
        unfinished = lineage.path / "unfinished"
        unfinished.write_bytes(content)
        _append(lineage, {**newest.values, "name": name, "suffix": suffix}, unfinished)
        repository.ledger.append("event", "benchmark", f"run-{number}", data={"number": number})


def _append(lineage: Lineage, values: dict[str, Any], unfinished: Path) -> None:
    for key in ("record_version", "lineage", "sequence", "artefact", "previous"):
        values.pop(key, None)
    lineage.append(values, unfinished)


def many(folder: Path, instances: int, say: Callable[[str], None]) -> Table:
    """Measure one call for many idle instances, which are one server's under many names."""
    base = folder / "many"
    base.mkdir()
    place = Place(base / "place")
    place.make()
    names = tuple(f"instance-{number:03d}" for number in range(instances))
    repository = Repository.open(place.repository)
    with MariaDBServer(base / "server", fast=True) as server:
        for name in names[:1]:
            place.database(name, server)
        for name in names[1:]:  # the same account: a new password would end the others' access
            shutil.copy2(place.root / "credentials" / names[0], place.root / "credentials" / name)
        server.query("FLUSH BINARY LOGS")
        file, offset = server.query("SHOW MASTER STATUS")[0][:2]
        state = server.value("SELECT @@gtid_binlog_pos") or ""
        uid, number = server.query("SELECT @@server_uid, @@server_id")[0]
        for name in names:
            values = {
                "instance": name,
                "engine": "mariadb",
                "identity": {"server_uid": uid, "server_id": number},
                "start": {"file": file, "offset": int(offset or 0), "gtid": state},
                "opened_by": "benchmark",
            }
            open_lineage(repository.instance(name).logs, values, utc_now())
        asked = {**request(place, "mariadb", names=names), "operation": "log_cycle"}
        server.query("CREATE DATABASE rs")  # something for each chain to archive, before all is quiet
        for _round in range(5):
            results = operation(asked)["result"]["instances"].values()
            if {each["result"] for each in results} == {"idle"}:
                break
        taken = {f"{instances} instances": [_idle(asked) for _round in range(3)]}
    for value in taken[f"{instances} instances"]:
        say(f"  {instances} idle instances: {value:.2f} s")
    worst = max(taken[f"{instances} instances"])
    table = Table(f"A log cycle of {instances} idle instances in one call", times=taken)
    table.rows = [
        Row("slowest of three", f"{worst:.2f} s", f"within {MANY_LIMIT_SECONDS:g} s", worst <= MANY_LIMIT_SECONDS)
    ]
    table.notes.append(
        "The instances are one MariaDB server under many names, each with a chain, a credentials file and connections of"
        " its own, so that client, server and repository do the work of as many servers, all on this machine. Each cycle"
        " compares the newest archived log with the server's file, as always."
    )
    return table
