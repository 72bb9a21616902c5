# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log cycle costs that finds nothing, with a short and a long chain behind it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from unittest.mock import patch

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import ledger
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.lineage import Lineage
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from benchmarks.full import NAME, SERVERS, request
from benchmarks.many import many
from benchmarks.measure import Row, Table, alternate, median, operation, paired_ratio
from benchmarks.receivers import expect, receiving, until_idle
from demo.place import Place

__all__ = ["long_and_short", "many"]

SHORT = 10
SAME = 1.25  # what two equal costs may seem to differ by on a busy machine


def long_and_short(folder: Path, archived: int, rounds: int, say: Callable[[str], None]) -> Table:
    """Measure, for each engine, an idle cycle of a chain of ten logs and of one of *archived*, of the same server."""
    table = Table("An idle log cycle, by the length of the chain")
    for engine in SERVERS:
        _engine(engine, folder / f"cycles-{engine}", archived, 3 * rounds, table, say)  # short runs vary more
    table.notes.append(
        f"Of each engine both chains end with the same archived log of the same server; the long one has a ledger of {archived}"
        " more records, too. Its other logs are copies of that log, archived one by one by the project's own code, with"
        " a record each."
    )
    return table


def _engine(engine: str, base: Path, archived: int, rounds: int, table: Table, say: Callable[[str], None]) -> None:
    base.mkdir()
    place = Place(base / "place")
    place.make()
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[engine](base / "server", fast=True))
        server.query("CREATE DATABASE rs")
        server.query("CREATE TABLE t (i INT PRIMARY KEY)", "rs")
        place.database(NAME, server)
        backup = request(place, engine)
        asked = {**backup, "operation": "log_cycle"}
        stack.enter_context(receiving(place.repository, asked["instances"]))
        operation(backup)
        for number in range(SHORT):
            server.query(f"INSERT INTO t VALUES ({number})", "rs")  # noqa: S608 - a number of its own
            expect(operation(asked), "good")
        until_idle(asked)
        began = monotonic()
        long = base / "long"
        shutil.copytree(place.repository, long)
        _lengthen(long, archived)
        say(f"cycles: a chain of {archived} logs of {engine} was made in {monotonic() - began:.0f} s")
        far = {**asked, "repository": str(long)}
        short_name, long_name = f"{engine}, {SHORT} logs", f"{engine}, {archived} logs"
        taken = alternate({short_name: lambda: _idle(asked), long_name: lambda: _idle(far)}, rounds, say)
    shutil.rmtree(long)
    ratio = paired_ratio(taken, long_name, short_name)
    table.times.update(taken)
    table.rows += [Row(f"with {name} (median)", f"{median(values):.3f} s") for name, values in taken.items()]
    table.rows.append(
        Row(f"{engine}: long chain / short chain", f"{ratio:.2f}", f"the same (within {SAME})", ratio <= SAME)
    )


def _idle(asked: dict[str, Any]) -> float:
    answer = operation(asked)
    expect(answer, "idle")
    return float(answer["seconds"])


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
    with _unhurried():
        for number in range(1, archived + 1):
            name = newest.name if number == archived else f"{newest.name}-{number}"
            unfinished = lineage.path / "unfinished"
            unfinished.write_bytes(content)
            _append(lineage, {**newest.values, "name": name, "suffix": suffix}, unfinished)
            repository.ledger.append("event", "benchmark", f"run-{number}", data={"number": number})


@contextmanager
def _unhurried() -> Iterator[None]:
    """Write to disk once, at the end; what is made so is not measured."""
    with patch.object(os, "fsync", lambda _descriptor: None), patch.object(ledger, "clock_synchronised", lambda: None):
        yield
    os.sync()


def _append(lineage: Lineage, values: dict[str, Any], unfinished: Path) -> None:
    for key in ("record_version", "lineage", "sequence", "artefact", "previous"):
        values.pop(key, None)
    lineage.append(values, unfinished)
