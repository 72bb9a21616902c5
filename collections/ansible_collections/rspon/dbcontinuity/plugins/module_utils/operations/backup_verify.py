# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove what is stored: every artefact against its manifest, every chain up to its newest log, each byte read once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..codec import Protection, decode_stages
from ..durable import UNFINISHED, make_directory, sweep_unfinished
from ..engines.base import Engine
from ..engines.registry import engines_for
from ..errors import ContinuityError, DamagedError, InputError, LedgerError, PipelineError, PrerequisiteError
from ..instance import Instance
from ..ledger import Head, new_run_id
from ..lineage import Lineage, LogRecord
from ..locks import shared_folder
from ..process import write_through
from ..progress import Progress
from ..repository import FullSet, InstanceFolder, Repository
from ..stored import check_file, unpack

ACTIVITY = "backup_verify"


@dataclass(frozen=True)
class VerifyRequest:
    """What is to be proven.

    :param level: ``checksum`` reads every stored byte; ``deep`` also unpacks and lets the engine's tools prove it.
    :param sets: names of full sets for ``deep``; the newest alone where none are given.
    :param head: a ledger head written down earlier.
    """

    instances: Sequence[Instance]
    repository: Path
    protection: Protection
    level: str = "checksum"
    sets: Sequence[str] = ()
    head: Optional[str] = None
    check_only: bool = False
    actor: Optional[str] = None
    run: Optional[str] = None


def backup_verify(request: VerifyRequest, progress: Progress) -> dict[str, Any]:
    """Verify and return, per instance, what holds and every finding; ``failed`` names those with findings."""
    repository = Repository.open(request.repository)
    engines = engines_for(request.instances)
    run = request.run or new_run_id()
    actor = describe_actor(request.actor)
    head = Head.parse(request.head) if request.head else None
    names = [instance.name for instance in request.instances]
    _check_chosen(request, repository)
    recording = not request.check_only
    if recording:
        data: dict[str, Any] = {"level": request.level, "instances": names}
        repository.ledger.append("started", ACTIVITY, run, actor=actor, data=data)
    try:
        verified = repository.ledger.verify(head)
        recorded = _read_recorded(repository)
        results = {
            each.name: _one(request, engines[each.name], repository.instance(each.name), recorded, progress)
            for each in request.instances
        }
    except BaseException as error:
        if recording:
            reason = error.message if isinstance(error, ContinuityError) else f"interrupted: {type(error).__name__}"
            data = {"level": request.level, "result": "failed", "reason": reason[:4000]}
            repository.ledger.append("finished", ACTIVITY, run, actor=actor, data=data)
        raise
    failed = [name for name, result in results.items() if result["findings"]]
    answer: dict[str, Any] = {
        "changed": False,
        "level": request.level,
        "failed": failed,
        "instances": results,
        "ledger": {
            "records": verified.records,
            "head": str(verified.head),
            "problem": verified.problem,
            "problems": list(verified.problems),
        },
    }
    if recording:
        answer["run"] = run
        data = {
            "level": request.level,
            "result": "failed" if failed or verified.problem else "succeeded",
            "ledger_problem": verified.problem,
            "instances": {
                name: {"sets": len(result["sets"]), "logs": result["logs"], "findings": result["findings"][:50]}
                for name, result in results.items()
            },
        }
        repository.ledger.append("finished", ACTIVITY, run, actor=actor, data=data)
    return answer


def _check_chosen(request: VerifyRequest, repository: Repository) -> None:
    known = {name for each in request.instances for name in repository.instance(each.name).set_names()}
    unknown = sorted(set(request.sets) - known)
    if unknown:
        raise InputError(
            f"There is no full backup set {', '.join(unknown)} of {', '.join(each.name for each in request.instances)}.",
            "backup_info names the sets that there are.",
        )


@dataclass
class _Recorded:
    """What the ledger vouches for: encryption does not authenticate, the ledger does.

    :ivar manifests: the manifests' hashes by instance and set.
    :ivar made: instance and set of each run that succeeded and whose set was not removed since by ``backup_prune``.
    :ivar logs: the newest archived record's hash by instance and lineage.
    :ivar whole: whether the ledger could be read to its end.
    """

    manifests: dict[tuple[str, str], str] = field(default_factory=dict)
    made: set[tuple[str, str]] = field(default_factory=set)
    logs: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    whole: bool = True


def _read_recorded(repository: Repository) -> _Recorded:
    found = _Recorded()
    try:
        for record in repository.ledger.records():
            _note(found, record)
    except LedgerError:
        found.whole = False  # verify() names the line
    return found


def _note(found: _Recorded, record: Mapping[str, Any]) -> None:
    activity, kind, instance, data = record["activity"], record["kind"], str(record["instance"]), record["data"]
    if activity == "full_backup" and kind in ("event", "finished") and data.get("manifest_sha256"):
        key = (instance, str(data.get("set")))
        found.manifests[key] = str(data["manifest_sha256"])
        if kind == "finished":
            found.made.add(key)
    elif activity == "backup_prune" and kind == "finished":
        found.made -= {(instance, str(name)) for name in data.get("removed", ())}
    elif activity == "log_cycle" and kind == "finished":
        for name, result in data.get("instances", {}).items():
            for log in result.get("archived", ())[-1:]:
                found.logs[(str(name), str(result.get("lineage")))] = (str(log["name"]), str(log["record_sha256"]))


def _one(
    request: VerifyRequest,
    engine: Engine,
    folder: InstanceFolder,
    recorded: _Recorded,
    progress: Progress,
) -> dict[str, Any]:
    if request.level != "deep":
        return _prove(request, engine, folder, recorded, progress)
    # Apart from the staging folder, which every log cycle clears.
    with folder.verify_lock():
        sweep_unfinished(folder.verify)
        return _prove(request, engine, folder, recorded, progress)


def _prove(
    request: VerifyRequest,
    engine: Engine,
    folder: InstanceFolder,
    recorded: _Recorded,
    progress: Progress,
) -> dict[str, Any]:
    findings: list[dict[str, Any]] = []
    good, damaged = folder.readable_sets()
    findings += [
        _finding("damaged-manifest", str(error.details.get("path", "manifest.json")), error) for error in damaged
    ]
    present = set(folder.set_names())
    for name in sorted(name for owner, name in recorded.made if owner == folder.name and name not in present):
        findings.append(
            _finding("missing-set", name, f"The full backup {name} was made, and it is gone.", "Take it from a copy.")
        )
    if not present:
        findings.append(
            _finding(
                "no-full-backup",
                folder.name,
                f"There is no full backup of {folder.name}.",
                "Run the playbook full_backup.",
            )
        )
    deep = request.level == "deep"
    chosen = set(request.sets) or {found.id for found in good[:1]}
    sets = []
    for found in good:
        if (folder.name, found.id) not in recorded.manifests:
            # A full backup that ended meanwhile: what vouches for a set is recorded before the set gets its name.
            recorded.manifests.update(_read_recorded(Repository.open(request.repository)).manifests)
        with shared_folder(found.path):
            before = len(findings)
            findings += _check_set(found, recorded.manifests.get((folder.name, found.id)), recorded.whole, progress)
            proof: Mapping[str, Any] = {}
            if deep and found.id in chosen and len(findings) == before:
                proof = _deep_set(request, engine, folder, found, findings)
            sets.append({"set": found.id, "holds": len(findings) == before, "deep": dict(proof)})
    logs = 0
    lineages, damaged = folder.readable_lineages()
    findings += [_finding("damaged-chain", "lineage.json", error) for error in damaged]
    for lineage in lineages:
        newest = recorded.logs.get((folder.name, lineage.id))
        logs += _check_lineage(request, engine, folder, lineage, newest, findings, progress)
    return {"sets": sets, "logs": logs, "findings": findings}


def _finding(code: str, file: str, error: ContinuityError | str, remedy: str = "") -> dict[str, Any]:
    message = error.message if isinstance(error, ContinuityError) else error
    advice = remedy or (error.remedy if isinstance(error, ContinuityError) else "")
    return {"code": code, "file": file, "message": message, "remedy": advice}


def _check_set(found: FullSet, recorded: Optional[str], ledger_whole: bool, progress: Progress) -> list[dict[str, Any]]:
    findings = []
    remedy = "Take the set from a copy, or make a new full backup now."
    if recorded is None and ledger_whole:
        findings.append(
            _finding(
                "unrecorded-set",
                found.id,
                f"The ledger knows no full backup {found.id}: this set was not made by a recorded run.",
                remedy,
            )
        )
    elif recorded is not None and recorded != found.manifest_sha256:
        findings.append(
            _finding(
                "altered-manifest", found.id, f"The manifest of {found.id} is not the one the ledger recorded.", remedy
            )
        )
    progress.phase(f"checking {found.id}", found.manifest.size)
    done = 0
    for artefact in found.manifest.artefacts:
        problem = check_file(found.path / artefact.name, artefact.size, artefact.sha256, _offset(progress, done))
        done += artefact.size
        if problem:
            findings.append(
                _finding("damaged-artefact", artefact.name, f"{found.path / artefact.name} {problem}.", remedy)
            )
    return findings


def _offset(progress: Progress, done: int) -> Callable[[int], None]:
    return lambda read: progress.advance(done + read)


def _deep_set(
    request: VerifyRequest, engine: Engine, folder: InstanceFolder, found: FullSet, findings: list[dict[str, Any]]
) -> Mapping[str, Any]:
    make_directory(folder.verify)
    work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.verify))
    try:
        for artefact in found.manifest.artefacts:
            unpack(artefact, found.path, request.protection, work)
        return engine.verify_deep(work, found.manifest.values)
    except PrerequisiteError:
        raise
    except ContinuityError as error:
        findings.append(_finding("deep-verification-failed", found.id, error))
        return {}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_lineage(
    request: VerifyRequest,
    engine: Engine,
    folder: InstanceFolder,
    lineage: Lineage,
    newest: Optional[tuple[str, str]],
    findings: list[dict[str, Any]],
    progress: Progress,
) -> int:
    before: Optional[LogRecord] = None
    count = 0
    reached = newest is None
    chain = engine.log_chain()
    progress.phase(f"checking logs of {lineage.id}", 0)
    try:
        for record in lineage.records():
            count += 1
            reached = reached or newest is None or record.sha256 == newest[1]
            path = lineage.path / record.artefact
            problem = check_file(path, int(record.values["size"]), str(record.values["sha256"]))
            if problem:
                code = "missing-log" if problem == "is missing" else "damaged-log"
                findings.append(
                    _finding(
                        code,
                        record.name,
                        f"{path} {problem}.",
                        "Take it from a copy, or make a new full backup: the chain ends before it.",
                    )
                )
            elif request.level == "deep":
                findings += _prove_log(
                    request,
                    chain_verify=chain.verify_plain,
                    lineage=lineage,
                    before=before,
                    record=record,
                    folder=folder,
                )
            before = record
    except DamagedError as error:
        findings.append(_finding("damaged-chain", lineage.id, error))
        return count
    if newest is not None and not reached:
        findings.append(
            _finding(
                "cut-off-chain",
                newest[0],
                f"The ledger says that {newest[0]} was archived as the newest log of {lineage.id}; the chain ends before it.",
                "Take the logs after its end, and head.json, from a copy; or make a new full backup.",
            )
        )
    return count


def _prove_log(
    request: VerifyRequest,
    *,
    chain_verify: Callable[..., Sequence[Any]],
    lineage: Lineage,
    before: Optional[LogRecord],
    record: LogRecord,
    folder: InstanceFolder,
) -> list[dict[str, Any]]:
    make_directory(folder.verify)
    plain = folder.verify / f"{UNFINISHED}{record.name}"
    try:
        write_through(decode_stages(record.values["layers"], request.protection, lineage.path / record.artefact), plain)
        return [each.to_json() for each in chain_verify(lineage.opening, before, record, plain)]
    except PipelineError as error:
        return [_finding("damaged-log", record.name, error, "Take it from a copy, or make a new full backup.")]
    finally:
        plain.unlink(missing_ok=True)
