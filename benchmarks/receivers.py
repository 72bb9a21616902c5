# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements of cycles share: the receivers that stream logs meanwhile, and what a cycle must say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.registry import engine_for
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository
from benchmarks.measure import operation
from benchmarks.operation import instance
from demo.process import environment


@contextmanager
def receiving(repository: Path, instances: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Run each instance's receiver, where its cycles need one: PostgreSQL's do, MariaDB's read the server's own files."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for values in instances:
            if values["engine"] == "postgresql":
                running.append(_receiver(repository, values))
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _receiver(repository: Path, values: dict[str, Any]) -> subprocess.Popen[bytes]:
    receiver = engine_for(instance(values)).receiver()
    if receiver is None:
        raise RuntimeError("the engine has no receiver")
    staging = Repository.open(repository).instance(values["name"]).staging
    folder = staging / "20260101T000000Z-1"
    folder.mkdir(parents=True)
    receiver.prepare_server(False)
    program = receiver.program(staging, {})
    return subprocess.Popen(
        [word.replace("{folder}", str(folder)) for word in program["argv"]],
        env={**environment(), **program["environment"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def expect(answer: dict[str, Any], result: str) -> None:
    """Fail unless each instance's cycle came to this result."""
    found = {name: one["result"] for name, one in answer["result"]["instances"].items()}
    if set(found.values()) != {result}:
        raise RuntimeError(f"expected {result}: {answer['result']}")


def until_idle(asked: dict[str, Any]) -> None:
    """Run cycles until nothing is left to archive."""
    for _round in range(5):
        answer = operation(asked)
        if {each["result"] for each in answer["result"]["instances"].values()} == {"idle"}:
            return
    expect(operation(asked), "idle")
