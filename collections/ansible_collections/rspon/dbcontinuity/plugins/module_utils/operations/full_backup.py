# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""B1, B2: a full backup of one instance, published whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..clock import clock_synchronised, iso, utc_now
from ..codec import Protection, check_protection, encode_stages, layers, suffix
from ..durable import UNFINISHED, free_bytes, fsync_directory, make_directory, writing_to
from ..engines.base import BackupFacts, Engine, Inspection
from ..engines.registry import engine_for, method_of
from ..engines.scratch_registry import restore_problem
from ..errors import ContinuityError, DamagedError, PrerequisiteError
from ..instance import Instance
from ..ledger import new_run_id
from ..lineage import Lineage, open_lineage
from ..manifest import MANIFEST_VERSION, Artefact, Manifest
from ..process import write_through
from ..progress import Progress
from ..repository import FullSet, InstanceFolder, Repository, UnfinishedSet
from ..schedule import Window, forecast, judge

ACTIVITY = "full_backup"
# zstd -1 shrinks databases to a half or less; without an earlier set to go by, the whole is asked for.
_ROOM_FACTOR = 1.1
# A log cycle under way is waited for; it ends by itself.
_WAIT_FOR_CYCLE_SECONDS = 900.0


@dataclass(frozen=True)
class FullBackupRequest:
    """What a full backup is asked to do.

    :param slot: when it was due (aware); a set already there for it makes this a no-op.
    :param window: the local window it should keep, if any.
    :param force: make one more although the slot has its set.
    :param check_only: inspect and report, write nothing.
    """

    instance: Instance
    repository: Path
    protection: Protection
    slot: Optional[datetime] = None
    window: Optional[Window] = None
    force: bool = False
    check_only: bool = False
    actor: Optional[str] = None
    run: Optional[str] = None


def full_backup(request: FullBackupRequest, progress: Progress) -> dict[str, Any]:
    """Make one full backup set and return what was done, as plain values.

    :raises ContinuityError: whatever went wrong; nothing was published then.
    """
    repository = Repository.open(request.repository)
    folder = repository.instance(request.instance.name)
    engine = engine_for(request.instance)
    present = None if request.force else _set_for_slot(folder, request.slot)
    if present is not None:
        return _already(repository, folder, present, request.check_only)
    try:
        with ThreadPoolExecutor(1) as beside:
            protected = beside.submit(check_protection, request.protection)
            beside.submit(clock_synchronised)  # asked for by the first record; the answer is kept
            inspection = engine.inspect()
        inspection.require_no_problems()
        protected.result()
        plan = _plan(request, inspection, folder, utc_now())
    except ContinuityError as error:
        _record_refusal(request, repository, error)
        raise
    if request.check_only:
        return {
            "changed": True,
            "plan": plan,
            "objects": dict(inspection.objects),
            "warnings": [*inspection.warnings, *_restore_warnings(request.instance, inspection)],
        }
    run = request.run or new_run_id()
    actor = describe_actor(request.actor)
    with folder.full_lock(), ThreadPoolExecutor(1) as beside:
        present = None if request.force else _set_for_slot(folder, request.slot)
        if present is not None:
            return _already(repository, folder, present, request.check_only)
        started = utc_now()
        plan = _plan(request, inspection, folder, started)
        cleaned = folder.sweep()
        repository.ledger.append(
            "started",
            ACTIVITY,
            run,
            instance=request.instance.name,
            actor=actor,
            data={"plan": plan, "cleaned": cleaned},
        )
        restore_warnings = beside.submit(_restore_warnings, request.instance, inspection)
        try:
            unfinished, manifest = _make_set(request, engine, folder, inspection, plan, started, actor, progress)
            # Recorded before it gets its name: a crash in between must not leave a set that nobody vouches for.
            sealed = {"set": unfinished.name, "manifest_sha256": manifest.sha256, "cleaned": cleaned}
            repository.ledger.append(
                "event", ACTIVITY, run, instance=request.instance.name, actor=actor, data={"result": "sealed", **sealed}
            )
            result = unfinished.publish(manifest)
        except BaseException as error:
            reason = error.message if isinstance(error, ContinuityError) else f"interrupted: {type(error).__name__}"
            folder.sweep()
            repository.ledger.append(
                "finished",
                ACTIVITY,
                run,
                instance=request.instance.name,
                actor=actor,
                data={"result": "failed", "reason": reason[:4000]},
            )
            raise
        done = {**_describe(result), "cleaned": cleaned}
        head = repository.ledger.append(
            "finished",
            ACTIVITY,
            run,
            instance=request.instance.name,
            actor=actor,
            data={"result": "succeeded", **{key: done[key] for key in _EVIDENCE}, "cleaned": cleaned},
        )
    return {
        "changed": True,
        "run": run,
        "ledger_head": str(head),
        "objects": dict(result.manifest.values["objects"]),
        "warnings": [*result.manifest.values["warnings"], *restore_warnings.result()],
        **done,
    }


def _record_refusal(request: FullBackupRequest, repository: Repository, error: ContinuityError) -> None:
    """Record that a backup that was due could not begin: a check-list has to call it failed, not "not run"."""
    if request.slot is None or request.check_only:
        return
    run, actor, name = request.run or new_run_id(), describe_actor(request.actor), request.instance.name
    begun = {"plan": {"slot": iso(request.slot)}, "cleaned": []}
    repository.ledger.append("started", ACTIVITY, run, instance=name, actor=actor, data=begun)
    data = {"result": "failed", "reason": error.message[:4000]}
    repository.ledger.append("finished", ACTIVITY, run, instance=name, actor=actor, data=data)


def _restore_warnings(instance: Instance, inspection: Inspection) -> list[str]:
    """Say now, not when it is needed, that the programs of the server's own release are missing here."""
    problem = restore_problem(instance.engine, method_of(instance), inspection.version)
    return [problem] if problem else []


_EVIDENCE = (
    "set",
    "manifest_sha256",
    "lineage",
    "size_bytes",
    "duration_seconds",
    "window",
    "position",
    "point_in_time_recovery",
)


def _already(repository: Repository, folder: InstanceFolder, present: FullSet, check_only: bool) -> dict[str, Any]:
    """Return that nothing was to do. A run that died after it had published its set is finished in the ledger now."""
    described = _describe(present)
    sealed: Optional[Mapping[str, Any]] = None
    for record in repository.ledger.records(since=present.started):
        if record["instance"] != folder.name or record["data"].get("set") != present.id:
            continue
        if record["kind"] == "finished":
            sealed = None
        elif record["data"].get("manifest_sha256") == present.manifest_sha256:
            sealed = record
    if sealed is not None and not check_only:
        repository.ledger.append(
            "finished",
            ACTIVITY,
            str(sealed["run"]),
            instance=folder.name,
            actor=sealed.get("actor"),
            data={
                "result": "succeeded",
                **{key: described[key] for key in _EVIDENCE},
                "cleaned": sealed["data"].get("cleaned", []),
                "recorded_late": "the run that made this set was ended before it could record it",
            },
        )
    return {"changed": False, "reason": "the slot has its set already", **described}


def _describe(found: FullSet) -> dict[str, Any]:
    values = found.manifest.values
    return {
        "set": found.id,
        "path": str(found.path),
        "manifest_sha256": found.manifest_sha256,
        "size_bytes": found.manifest.size,
        "duration_seconds": values["duration_seconds"],
        "lineage": values["lineage"],
        "position": values["position"],
        "window": values.get("window"),
        "point_in_time_recovery": values["point_in_time_recovery"],
    }


def _set_for_slot(folder: InstanceFolder, slot: Optional[datetime]) -> Optional[FullSet]:
    if slot is None:
        return None
    good, _damaged = folder.readable_sets()
    for found in good:
        if found.manifest.values.get("slot") == iso(slot) and all(
            (found.path / artefact.name).is_file() and (found.path / artefact.name).stat().st_size == artefact.size
            for artefact in found.manifest.artefacts
        ):
            return found
    return None


def _plan(request: FullBackupRequest, inspection: Inspection, folder: InstanceFolder, now: datetime) -> dict[str, Any]:
    """Return what will be done; refuse where there is no room; forecast the window."""
    earlier, damaged = folder.readable_sets()
    last = earlier[0] if earlier else None
    needed = int((last.manifest.size if last else inspection.expected_bytes) * _ROOM_FACTOR)
    free = free_bytes(folder.path)
    if free < needed:
        raise PrerequisiteError(
            f"The repository {request.repository} has {free} bytes free; a full backup of {request.instance.name} needs about {needed}.",
            "Free space or enlarge the file system; nothing was written.",
            {"free_bytes": free, "needed_bytes": needed},
        )
    plan: dict[str, Any] = {
        "method": method_of(request.instance),
        "slot": iso(request.slot) if request.slot else None,
        "expected_bytes": inspection.expected_bytes,
        "needed_bytes": needed,
        "free_bytes": free,
        "non_transactional_tables": list(inspection.non_transactional),
        "damaged_sets": [error.message for error in damaged],
    }
    if request.window is not None and last is not None:
        rate = _rate(last.manifest.values)
        plan["forecast"] = forecast(request.window, request.slot, now, inspection.expected_bytes, rate)
    return plan


def _rate(values: Mapping[str, Any]) -> float:
    seconds = float(values["duration_seconds"])
    return float(values.get("expected_bytes") or 0) / seconds if seconds > 0 else 0.0


def _make_set(
    request: FullBackupRequest,
    engine: Engine,
    folder: InstanceFolder,
    inspection: Inspection,
    plan: Mapping[str, Any],
    started: datetime,
    actor: Mapping[str, str],
    progress: Progress,
) -> tuple[UnfinishedSet, Manifest]:
    unfinished = folder.begin_set(started)
    workdir = unfinished.path / f"{UNFINISHED}work"
    workdir.mkdir(mode=0o700)
    instance = request.instance
    artefacts: list[Artefact] = []
    by_hand: list[str] = []
    again: list[str] = []
    names = layers(request.protection)
    earlier, _damaged = folder.readable_sets()
    last_sizes = {each.name: each.size for each in earlier[0].manifest.artefacts} if earlier else {}
    with engine.full_backup(workdir) as backup:
        for stream in backup.artefacts():
            target = unfinished.path / (stream.name + suffix(names))
            progress.phase(f"{instance.name} {stream.name}", last_sizes.get(target.name, 0))
            stages = [
                *stream.stages,
                *encode_stages(
                    request.protection,
                    instance.compression_level,
                    instance.parallel,
                    compressed=stream.compressed,
                    checksummed=stream.checksummed,
                ),
            ]
            written = write_through(stages, target, on_progress=progress.advance)
            backup.written(stream, written)
            artefacts.append(Artefact(target.name, stream.content, names, written.size, written.sha256))
            decode = "age --decrypt -i KEY {0} | zstd -dc" if "age" in names else "zstd -dc {0}"
            by_hand.append(f"{decode.format(target.name)} | {stream.read_by_hand}")
            if stream.again_by_hand:
                again.append(f"{decode.format(target.name)} | {stream.again_by_hand}")
        facts = backup.finish()
    if facts.keep:
        make_directory(folder.staging)
        with writing_to(folder.staging):
            for kept in facts.keep:
                os.replace(kept, folder.staging / kept.name)
            fsync_directory(folder.staging)
    shutil.rmtree(workdir)
    finished = utc_now()
    lineage = _lineage(engine, folder, inspection, facts, unfinished) if facts.point_in_time_recovery else None
    warnings = [*inspection.warnings, *facts.warnings]
    window = judge(request.window, request.slot, started, finished) if request.window else None
    if plan.get("forecast") and not plan["forecast"]["fits"]:
        warnings.append(
            f"From the last rates this backup was expected to end at {plan['forecast']['expected_end']}, after its window."
        )
    values = {
        "manifest_version": MANIFEST_VERSION,
        "set": unfinished.name,
        "instance": instance.name,
        "engine": instance.engine,
        "method": method_of(instance),
        "lineage": lineage.id if lineage else "",
        "server": {"version": inspection.version, "identity": dict(inspection.identity)},
        "tools": dict(inspection.tools),
        "slot": iso(request.slot) if request.slot else None,
        "started_at": iso(started),
        "finished_at": iso(finished),
        "duration_seconds": round((finished - started).total_seconds(), 3),
        "window": window,
        "position": {"start": dict(facts.start), "end": dict(facts.end)},
        "artefacts": [artefact.to_json() for artefact in artefacts],
        "expected_bytes": inspection.expected_bytes,
        "recipients": list(request.protection.recipients),
        "parameters": {
            "compress_on": instance.compress_on,
            "compression_level": instance.compression_level,
            "parallel": instance.parallel,
        },
        "objects": facts.details.get("objects") or dict(inspection.objects),
        "non_transactional_tables": list(inspection.non_transactional),
        "warnings": warnings,
        "actor": dict(actor),
        "point_in_time_recovery": facts.point_in_time_recovery,
        "engine_details": {key: value for key, value in facts.details.items() if key != "objects"},
        "read_by_hand": [*by_hand, *again, *facts.restore_by_hand],
    }
    return unfinished, Manifest(values)


def _lineage(
    engine: Engine, folder: InstanceFolder, inspection: Inspection, facts: BackupFacts, unfinished: UnfinishedSet
) -> Lineage:
    """Return the lineage this set belongs to: the present one if the server is proven to be in it, else a new one."""
    with folder.log_lock("full backup", wait_seconds=_WAIT_FOR_CYCLE_SECONDS):
        current = _present_lineage(folder)
        if current is not None and not current.broken:
            findings = engine.same_history(inspection.identity, current.opening, current.head())
            breaking = [each for each in findings if each.breaks]
            if not breaking:
                return current
            current.mark_broken(breaking, utc_now())
        return open_lineage(
            folder.logs,
            {
                "instance": folder.name,
                "engine": engine.name,
                "identity": dict(inspection.identity),
                "start": dict(facts.start),
                "opened_by": unfinished.name,
            },
            utc_now(),
        )


def _present_lineage(folder: InstanceFolder) -> Optional[Lineage]:
    """Return the newest lineage; None where it is damaged, so that a full backup, the remedy, can open a new one."""
    try:
        current = folder.current_lineage()
        if current is not None:
            current.head()
    except DamagedError:
        return None
    return current
