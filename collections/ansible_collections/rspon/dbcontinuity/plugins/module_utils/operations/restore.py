# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""D4, R1, R2: bring an instance, or a part of it, back to any recoverable moment, on production.

Nothing is touched before the plan holds, the instance's name was typed, and the recorded instruction covers exactly
this. The dying server's last log is fetched first if it still answers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional
from zoneinfo import ZoneInfo

from ..actor import describe_actor
from ..approvals.gate import Asked, HeldInstruction, require_instruction, under_instruction
from ..approvals.officials import OFFICIALS_FILE
from ..channel import Channel
from ..clock import iso, utc_now
from ..codec import Protection
from ..durable import make_directory, write_file
from ..engines.registry import engines_for
from ..engines.restore_registry import FULL_RESTORE
from ..engines.scratch import ScratchServer, Target
from ..errors import ContinuityError, InputError, LedgerError
from ..instance import Instance
from ..ledger import Ledger, new_run_id
from ..locks import exclusive
from ..progress import Progress
from ..recoverable import find_source
from ..recoverable import ranges as recoverable_ranges
from ..repository import InstanceFolder, Repository
from ..restore_evidence import Expectations
from ..restore_order_evidence import RestoreEvidence
from ..restore_order_report import LANGUAGES, restore_report_text
from ..restore_plan import FullPlan, Rates
from ..restore_report import known_zone
from ..restore_run import SWAPPED, UNDER_WAY, FullRun, Steps, after_swap
from ..scope import FULL, parse_all
from ..scratch import check_folder, check_reach, claimed
from ..throwaway import owner_for, present_user
from .log_cycle import LogCycleRequest, log_cycle

ACTIVITY = "restore"


@dataclass(frozen=True)
class RestoreRequest:
    """What is to be brought back, to when, where, and on whose instruction.

    :param folder: the non-active folder on this host where the moment is brought up first.
    :param channel: the way to production, open for this restore.
    :param scope: texts as ``scope.py`` reads them; ``full`` stands alone.
    :param target: the moment; :class:`Target`.
    :param set_name: the full set to begin with; the newest that serves where none is given.
    :param lineage: which history is meant, where two hold the moment.
    :param record: the instruction's id below ``approvals/``.
    :param confirm: the instance's name, typed by whoever starts the restore.
    :param mode: of a partial restore: ``beside`` or ``replace``.
    :param accept_orphans: rows that a replaced table would leave without their parents are accepted.
    :param deep: let the engine check every table and index of the copy before it goes to production.
    :param user: who the throwaway server runs as; the engine's own user where none is given.
    :param zone: of the times people read.
    :param before_ship: called with the running copy before it is settled; for programs that compare.
    """

    instance: Instance
    repository: Path
    protection: Protection
    folder: Path
    channel: Channel = field(default_factory=Channel)
    scope: Sequence[str] = (FULL,)
    target: Target = field(default_factory=Target)
    set_name: str = ""
    lineage: str = ""
    record: str = ""
    confirm: str = ""
    mode: str = "beside"
    accept_orphans: bool = False
    deep: bool = False
    expectations: Expectations = field(default_factory=Expectations)
    user: str = ""
    timeout_seconds: float = 24 * 3600.0
    zone: str = "UTC"
    officials_file: Path = OFFICIALS_FILE
    actor: Optional[str] = None
    run: Optional[str] = None
    before_ship: Optional[Callable[[ScratchServer], None]] = None


def ranges(request: RestoreRequest) -> dict[str, Any]:
    """Return which moments can be brought back, newest history first; nothing is touched, production is not asked."""
    known_zone(request.zone)
    folder = Repository.open(request.repository).instance(request.instance.name)
    found = recoverable_ranges(folder)
    zone = ZoneInfo(request.zone)
    return {
        "changed": False,
        "instance": request.instance.name,
        "ranges": [{**each.to_json(), "text": each.describe(zone)} for each in found],
    }


def plan(request: RestoreRequest) -> dict[str, Any]:
    """Return what :func:`restore` would do, and whether an instruction covers it; nothing is touched.

    :returns: ``plan``; ``instruction``: the evidence of the one that was named, or ``refused``: why it does not serve.
    :raises ContinuityError: if the moment cannot be brought back, or production cannot be asked.
    """
    repository = _checked(request)
    look = request.channel.look(request.instance)
    try:
        made = _plan(request, repository, look)
    except InputError as error:
        if error.details.get("code") != "out-of-range" or not look.get("answers"):
            raise
        raise InputError(
            error.message, f"{error.remedy} If it is newer than these, run the playbook ship_logs first.", error.details
        ) from None
    answer: dict[str, Any] = {"changed": True, "instance": request.instance.name, "plan": made.to_json()}
    try:
        _reach(request, made)
    except ContinuityError as error:
        answer["plan"]["problems"].append(str(error))
    if request.record:
        asked = _asked(request, made.digest)
        try:
            given = require_instruction(repository, request.record, asked, officials_file=request.officials_file)
            answer["instruction"] = dict(given.to_evidence())
        except ContinuityError as error:
            answer["refused"] = str(error)
    return answer


def restore(request: RestoreRequest, progress: Progress) -> dict[str, Any]:
    """Bring it back.

    :returns: ``result`` ``succeeded`` with the evidence, ``report`` and ``report_text``.
    :raises ContinuityError: whatever went wrong. Production is as it was, unless the error says what is where.
    """
    steps = Steps(request.instance.name, progress)
    repository = _checked(request)
    if request.confirm != request.instance.name:
        raise InputError(
            f"The restore of {request.instance.name} was not confirmed: {request.confirm!r} was typed instead of its name.",
            "Type the instance's name (in a playbook -e dbc_confirm=NAME). Nothing was touched.",
        )
    # Whether it covers exactly this is asked once the plan is there.
    if not request.record:
        require_instruction(repository, "", _asked(request, "0" * 64), officials_file=request.officials_file)
    folder = repository.instance(request.instance.name)
    with exclusive(folder.path / ".lock-restore", f"restore of {folder.name}"):
        with steps.step("looking"):
            look = request.channel.look(request.instance)
        notes = []
        # Behind an exchange that was not finished it is another history already.
        if look.get("answers") and (look.get("journal") or {}).get("phase") != SWAPPED:
            with steps.step("fetching the last log"):
                notes = _last_log(request)
        made = _plan(request, repository, look)
        journal = made.journal
        mine = dict(journal.get("spec") or {}).get("record") == request.record
        if journal.get("phase") == SWAPPED and mine:
            return _finish_late(request, repository, folder, made, steps)
        require_instruction(
            repository, request.record, _asked(request, made.digest), officials_file=request.officials_file
        )
        _reach(request, made)
        made.require()
        healed = _heal(request, folder, made)
        if healed:
            made = _plan(request, repository, request.channel.look(request.instance))
            made.require()
        return _restore(request, repository, folder, made, steps, [*healed, *notes])


def _checked(request: RestoreRequest) -> Repository:
    """Refuse values that cannot be used; nothing was touched then."""
    repository = Repository.open(request.repository)
    engines_for([request.instance])
    known_zone(request.zone)
    scopes = parse_all(request.scope, request.instance.engine)
    if [str(each) for each in scopes] != [FULL]:
        raise InputError("A full restore has the scope full.", "Use restore_partial for parts.")
    request.target.check_engine(request.instance.name, request.instance.engine)
    check_folder(request.folder, request.repository)
    return repository


def _plan(request: RestoreRequest, repository: Repository, look: Mapping[str, Any]) -> FullPlan:
    found = find_source(
        repository, request.instance, request.protection, request.target, request.set_name, request.lineage
    )
    if look.get("timeline"):  # of a history that no backup was made of
        known = [*found.source.histories, {"timeline": look["timeline"]}]
        found = replace(found, source=replace(found.source, histories=known))
    full = FULL_RESTORE[request.instance.engine](request.instance, found.source, look)
    test, last = _measured(repository.ledger, request.instance.name)
    return FullPlan(
        found,
        full,
        request.channel,
        request.folder,
        request.target,
        utc_now(),
        Rates.from_evidence(test, last),
        look.get("journal") or {},
    )


def _measured(ledger: Ledger, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the evidence of the newest test restore and the newest restore that succeeded."""
    found: dict[str, Mapping[str, Any]] = {}
    try:
        for record in ledger.records():
            activity, data = str(record["activity"]), record["data"]
            ours = record["instance"] == name and record["kind"] == "finished"
            if ours and activity in (ACTIVITY, "restore_test") and data.get("result") == "succeeded":
                found[activity] = {**data, "run": record["run"]}
    except LedgerError:
        pass  # rates inform only: whoever verifies the ledger says that it does not hold
    return found.get("restore_test", {}), found.get(ACTIVITY, {})


def _asked(request: RestoreRequest, digest: str) -> Asked:
    return Asked(request.instance.name, [FULL], request.target, "replace", digest)


def _reach(request: RestoreRequest, made: FullPlan) -> None:
    scratch = made.found.scratch
    owner = owner_for(request.user, scratch.users) if scratch.users else present_user()
    scratch.check_tools(made.source.manifest)
    check_reach(request.folder, owner, sockets=bool(scratch.users))


def _heal(request: RestoreRequest, folder: InstanceFolder, made: FullPlan) -> list[str]:
    """Bring what an interrupted restore left on production to an end: back, or closed."""
    run, phase = str(made.journal.get("run") or ""), str(made.journal.get("phase") or "")
    if not phase:
        return []
    if phase in UNDER_WAY:
        request.channel.back(request.instance, run)
        request.channel.clean(request.instance, run)
        return [
            f"The restore {run} had been interrupted while it was {phase}: production's old data were put back first."
        ]
    said = f"The restore {run} had been interrupted when it was {phase}; it was closed first."
    if phase == SWAPPED:
        after_swap(folder, request.instance, made.full.resume, run)
    request.channel.clean(request.instance, run)
    return [said]


def _last_log(request: RestoreRequest) -> list[str]:
    """Take delivery of what production has logged until now; a server that is dying may not give it."""
    answer = log_cycle(LogCycleRequest([request.instance], request.repository, request.protection, actor=request.actor))
    result = answer["instances"][request.instance.name]
    if result["result"] in ("good", "idle"):
        return []
    why = result.get("message") or " ".join(str(each["message"]) for each in result["findings"])
    return [f"Production's last log could not be fetched ({result['result']}): {why}"]


def _restore(
    request: RestoreRequest,
    repository: Repository,
    folder: InstanceFolder,
    made: FullPlan,
    steps: Steps,
    notes: list[str],
) -> dict[str, Any]:
    run = request.run or new_run_id()
    actor = describe_actor(request.actor)
    scratch = made.found.scratch
    owner = owner_for(request.user, scratch.users) if scratch.users else present_user()
    work = FullRun(
        made,
        folder,
        run,
        request.record,
        steps,
        request.expectations,
        request.timeout_seconds,
        request.deep,
        request.before_ship,
    )
    with under_instruction(
        repository,
        request.record,
        _asked(request, made.digest),
        run=run,
        actor=actor,
        officials_file=request.officials_file,
    ) as instruction:
        work.evidence.update(_described(request, made, instruction, run, actor, notes))
        data = {"plan": made.to_json(), "record": request.record}
        repository.ledger.append("started", ACTIVITY, run, instance=folder.name, actor=actor, data=data)
        try:
            with claimed(request.folder, request.repository, "restore") as claim:
                work.evidence["cleaned"] = claim.cleaned
                work.carry_out(claim, owner)
            instruction.used()
        except BaseException as error:
            _failed(work, error)
            _finish(request, repository, work.evidence, steps)
            raise
        work.evidence["result"] = "succeeded"
        return _finish(request, repository, work.evidence, steps)


def _described(
    request: RestoreRequest,
    made: FullPlan,
    instruction: HeldInstruction,
    run: str,
    actor: Mapping[str, str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return what is known of a restore when it begins."""
    values = made.found.set.manifest.values
    lost = made.lost(bool(made.full.look.get("answers")))
    return {
        "run": run,
        "instance": request.instance.name,
        "engine": request.instance.engine,
        "host": request.channel.host or socket.gethostname(),
        "place": made.full.parts()[0].path if made.full.parts() else "",
        "scope": [FULL],
        "mode": "replace",
        "target": request.target.to_json(),
        "resolved": made.found.resolved.to_json(),
        "plan_sha256": made.digest,
        "instruction": dict(instruction.to_evidence()),
        "source": {
            "medium": "repository",
            "set": made.found.set.id,
            "made_at": values["finished_at"],
            "manifest_sha256": made.found.set.manifest_sha256,
            "engine": values["engine"],
            "version": values["server"]["version"],
            "logs": len(made.source.logs),
            "last_log": made.source.logs[-1].name if made.source.logs else "",
        },
        "started_at": iso(made.now),
        "lost": lost,
        "rpo": {"target_minutes": request.expectations.rpo_minutes, "actual_seconds": lost["seconds"]},
        "checks": [],
        "kept": [],
        "findings": [],
        "follow_ups": [],
        "notes": [*notes, *made.remarks()],
        "actor": dict(actor),
    }


def _failed(work: FullRun, error: BaseException) -> None:
    """Note how a restore failed, and in which state production is."""
    evidence = work.evidence
    if isinstance(error, ContinuityError):
        code = str(error.details.get("code") or f"{work.steps.now.replace(' ', '-') or 'restore'}-failed")
        file = str(error.details.get("file") or "")
        evidence["reason"] = error.message
        evidence["findings"] = [{"code": code, "file": file, "message": error.message, "remedy": error.remedy}]
        left = error.details.get("left")
        evidence["left"] = [str(each) for each in left] if isinstance(left, list) else []
    else:
        evidence["reason"] = f"interrupted: {type(error).__name__}: {error}"[:4000]
    evidence["result"] = "failed"
    if work.touched:
        evidence["result"] = "failed, target changed"
        evidence.setdefault("left", [])
        evidence["left"].append(
            "Production's agent carries the exchange through, or puts the old data back, without this host. The same restore"
            " again finds out and heals what is half done."
        )


def _finish(request: RestoreRequest, repository: Repository, evidence: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Write ledger and report, whatever came out."""
    evidence.update({"finished_at": iso(utc_now()), "phases": dict(steps.seconds)})
    name, run = request.instance.name, str(evidence["run"])
    head = repository.ledger.append(
        "finished", ACTIVITY, run, instance=name, actor=evidence.get("actor"), data=evidence
    )
    reports = repository.root / "reports"
    make_directory(reports)
    texts = {}
    told = RestoreEvidence(**{**evidence, "ledger_head": str(head)})  # type: ignore[typeddict-item]  # built here, key by key
    for language in LANGUAGES:
        texts[language] = restore_report_text(told, zone=request.zone, language=language)
        write_file(reports / f"restore-{run}.{language}.txt", texts[language].encode())
    return {
        "changed": True,
        **evidence,
        "report": str(reports / f"restore-{run}.{LANGUAGES[0]}.txt"),
        "report_text": texts[LANGUAGES[0]],
        "ledger_head": str(head),
    }


def _finish_late(
    request: RestoreRequest, repository: Repository, folder: InstanceFolder, made: FullPlan, steps: Steps
) -> dict[str, Any]:
    """Bring to its end a restore under this very instruction that was interrupted after the exchange.

    Restoring once more would lose what the applications have written since.
    """
    spec = dict(made.journal["spec"])
    run = str(made.journal["run"])
    actor = describe_actor(request.actor)
    with under_instruction(
        repository,
        request.record,
        _asked(request, str(spec["plan_sha256"])),
        run=run,
        actor=actor,
        officials_file=request.officials_file,
    ) as instruction:
        note = f"The restore {run} was interrupted after the exchange: production has been running on the restored data since."
        evidence = _described(request, made, instruction, run, actor, [note])
        with steps.step("afterwards"):
            evidence["follow_ups"] = after_swap(folder, request.instance, made.full.resume, run)
            request.channel.clean(request.instance, run)
        evidence["result"] = "succeeded"
        evidence["recorded_late"] = True
        instruction.used()
        return _finish(request, repository, evidence, steps)
