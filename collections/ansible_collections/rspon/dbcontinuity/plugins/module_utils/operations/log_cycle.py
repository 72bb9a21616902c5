# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""B3: take delivery of the closed logs of all instances, prove that the chain has no hole, record the lag."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..clock import iso, utc_now
from ..codec import Protection, compress_stage, encrypt_stage, layers, suffix
from ..durable import UNFINISHED, make_directory, sweep_unfinished
from ..engines.base import ChainBreak, DeliveredLog, LogChain
from ..engines.registry import engines_for
from ..errors import ContinuityError
from ..instance import Instance
from ..ledger import new_run_id
from ..lineage import Lineage
from ..process import Stage, write_through
from ..repository import InstanceFolder, Repository

ACTIVITY = "log_cycle"
# What B3 says of an instance whose full backups no log can follow: nothing failed, and nothing was to do.
NO_LOG = "no log"
_AT_ONCE = 8


@dataclass(frozen=True)
class LogCycleRequest:
    """What a cycle is asked to do, for all instances in one call.

    :param check_only: look at servers and chains, change neither.
    :param wait_seconds: for an instance's cycle that is under way; with 0 it fails, and says since when that runs.
    """

    instances: Sequence[Instance]
    repository: Path
    protection: Protection
    check_only: bool = False
    wait_seconds: float = 0.0
    actor: Optional[str] = None
    run: Optional[str] = None


def log_cycle(request: LogCycleRequest) -> dict[str, Any]:
    """Run one cycle of every instance, side by side; one's failure leaves the others alone.

    :returns: ``changed``, ``failed`` (names of instances that failed or have findings) and ``instances``: for each
        name what was archived, where it is recoverable to, the lag, the findings or the error.
    """
    repository = Repository.open(request.repository)
    engines = engines_for(request.instances)
    run = request.run or new_run_id()
    actor = describe_actor(request.actor)
    if not request.check_only:
        names = [instance.name for instance in request.instances]
        repository.ledger.append("started", ACTIVITY, run, actor=actor, data={"instances": names})

    def one(instance: Instance) -> dict[str, Any]:
        try:
            if not engines[instance.name].ships_logs:
                return _no_log()
            folder = repository.instance(instance.name)
            chain = engines[instance.name].log_chain()
            if request.check_only:
                return _look(instance, folder, chain)
            with folder.log_lock(wait_seconds=request.wait_seconds):
                return _cycle(instance, folder, chain, request.protection)
        except ContinuityError as error:
            return {"result": "failed", "kind": error.kind, "message": str(error), "archived": [], "findings": []}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other instances' cycles go on and are recorded
            message = f"unexpected {type(error).__name__}: {error}"
            return {"result": "failed", "kind": "unexpected", "message": message, "archived": [], "findings": []}

    try:
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            results = dict(zip((each.name for each in request.instances), pool.map(one, request.instances)))
    except BaseException as error:
        if not request.check_only:
            data = {"result": "failed", "reason": f"interrupted: {type(error).__name__}"}
            repository.ledger.append("finished", ACTIVITY, run, actor=actor, data=data)
        raise
    failed = sorted(name for name, result in results.items() if result["result"] not in ("good", "idle", NO_LOG))
    answer: dict[str, Any] = {
        "changed": any(result["archived"] or result.get("would_archive") for result in results.values()),
        "failed": failed,
        "instances": results,
    }
    if not request.check_only:
        head = repository.ledger.append(
            "finished",
            ACTIVITY,
            run,
            actor=actor,
            data={
                "result": "failed" if failed else "succeeded",
                "instances": {name: _evidence(result) for name, result in results.items()},
            },
        )
        answer.update({"run": run, "ledger_head": str(head)})
    return answer


def _evidence(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger keeps of one instance's cycle: little of an idle one, all of a finding."""
    kept = {
        key: result[key] for key in ("result", "lineage", "recoverable_to", "lag_bytes", "lag_seconds") if key in result
    }
    if result["archived"]:
        kept["archived"] = [
            {key: log[key] for key in ("name", "sha256", "record_sha256")} for log in result["archived"]
        ]
    for key in ("findings", "message", "cleaned"):
        if result.get(key):
            kept[key] = result[key]
    return kept


def _no_log() -> dict[str, Any]:
    return {
        "result": NO_LOG,
        "message": "Its full backups are logical: it can be recovered to the moment of each of them alone, to none between"
        " (B3). The method physical has its logs shipped.",
        "archived": [],
        "findings": [],
    }


def _no_lineage() -> dict[str, Any]:
    return {
        "result": "no full backup",
        "message": "There is no full backup yet that the logs could follow. Run the playbook full_backup.",
        "archived": [],
        "findings": [],
    }


def _broken(lineage: Lineage) -> dict[str, Any]:
    return {
        "result": "broken",
        "lineage": lineage.id,
        "message": "The chain is broken; a new full backup opens a new one. Run the playbook full_backup with -e dbc_force=true.",
        "archived": [],
        "findings": lineage.findings(),
        "recoverable_to": lineage.state().get("recoverable_to"),
    }


def _look(instance: Instance, folder: InstanceFolder, chain: LogChain) -> dict[str, Any]:
    lineage = folder.current_lineage()
    if lineage is None:
        return _no_lineage()
    if lineage.broken:
        return _broken(lineage)
    head = lineage.head()
    findings = chain.check_server(lineage.opening, head)
    lag = chain.lag(lineage.opening, head, folder.staging)
    return {
        "result": "broken" if any(each.breaks for each in findings) else "good",
        "lineage": lineage.id,
        "archived": [],
        "would_archive": lag.lag_bytes > 0,
        "findings": [each.to_json() for each in findings],
        "lag_bytes": lag.lag_bytes,
        "lag_seconds": round(lag.lag_seconds, 3),
        "recoverable_to": lineage.state().get("recoverable_to"),
    }


def _cycle(instance: Instance, folder: InstanceFolder, chain: LogChain, protection: Protection) -> dict[str, Any]:
    lineage = folder.current_lineage()
    if lineage is None:
        return _no_lineage()
    if lineage.broken:
        return _broken(lineage)
    make_directory(folder.staging)
    cleaned = sweep_unfinished(folder.staging)
    archived: list[dict[str, Any]] = []
    findings = list(chain.check_server(lineage.opening, lineage.head()))
    rotated = False
    if not any(each.breaks for each in findings):
        rotated = chain.rotate(lineage.opening, lineage.head())
        workdir = folder.staging / f"{UNFINISHED}cycle"
        workdir.mkdir(mode=0o700)
        try:
            for log in chain.deliver(lineage.opening, lineage.head(), workdir):
                if not archived:
                    cleaned += lineage.sweep()
                archived.append(_publish(instance, folder, lineage, chain, log, protection))
        except ChainBreak as broken:
            findings += broken.findings
        finally:
            shutil.rmtree(workdir, ignore_errors=True)
    state: dict[str, Any] = {"checked_at": iso(utc_now())}
    breaking = [each for each in findings if each.breaks]
    if breaking:
        lineage.mark_broken(breaking, utc_now())
        state["recoverable_to"] = _recoverable_after(lineage)
    else:
        lag = chain.lag(lineage.opening, lineage.head(), folder.staging)
        state.update(
            {
                "recoverable_to": iso(lag.recoverable_to),
                "lag_bytes": lag.lag_bytes,
                "lag_seconds": round(lag.lag_seconds, 3),
                "staged_bytes": lag.staged_bytes,
                "warnings": list(lag.warnings),
                "details": dict(lag.details),
            }
        )
    lineage.write_state(state)
    result = "broken" if breaking else "finding" if findings else "good" if archived else "idle"
    return {
        "result": result,
        "lineage": lineage.id,
        "rotated": rotated,
        "archived": archived,
        "findings": [each.to_json() for each in findings],
        "cleaned": cleaned,
        **state,
    }


def _recoverable_after(lineage: Lineage) -> Optional[str]:
    """Return the newest moment that the logs before a break reach: what was proven before stays true."""
    head = lineage.head()
    moments = [head.values.get("last_event_at") if head else None, lineage.state().get("recoverable_to")]
    return max((str(each) for each in moments if each), default=None)


def _publish(
    instance: Instance,
    folder: InstanceFolder,
    lineage: Lineage,
    chain: LogChain,
    log: DeliveredLog,
    protection: Protection,
) -> dict[str, Any]:
    names = layers(protection)
    compress = compress_stage(instance.compression_level, instance.parallel)
    stages = [Stage((*compress.argv[:-1], str(log.path)), label=compress.label)]
    if protection.recipients:
        stages.append(encrypt_stage(protection))
    target = lineage.path / f"{UNFINISHED}{log.name}"
    written = write_through(stages, target)
    record = lineage.append(
        {
            "instance": instance.name,
            "name": log.name,
            "suffix": suffix(names),
            "layers": list(names),
            "size": written.size,
            "sha256": written.sha256,
            "plain_size": log.size,
            "plain_sha256": log.sha256,
            "start": dict(log.start),
            "end": dict(log.end),
            "first_event_at": iso(log.first_event_at) if log.first_event_at else None,
            "last_event_at": iso(log.last_event_at) if log.last_event_at else None,
            "transactions": log.transactions,
            "archived_at": iso(utc_now()),
        },
        target,
    )
    log.path.unlink(missing_ok=True)
    chain.published(record, folder.staging)
    return {
        "name": record.name,
        "sequence": record.sequence,
        "artefact": str(lineage.path / record.artefact),
        "sha256": written.sha256,
        "record_sha256": record.sha256,
        "size": written.size,
        "plain_size": log.size,
        "transactions": log.transactions,
    }
