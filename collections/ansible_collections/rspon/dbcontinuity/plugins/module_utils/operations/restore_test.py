# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""D3, T1, T2: prove that the copy can be brought back, by bringing it back into a non-active folder.

Each instance by itself: checksums, the engine's own verification, start, replay of the shipped logs, content, checks;
then the copy, which is personal data, is destroyed. Everything measured goes into the ledger. One that fails names the
cause and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ..actor import describe_actor
from ..clock import known_zone, utc_now
from ..codec import Protection
from ..durable import make_directory, write_file
from ..engines.registry import engines_for
from ..engines.scratch import ScratchServer, Target, needed_bytes
from ..errors import ContinuityError, InputError
from ..instance import Instance
from ..ledger import new_run_id
from ..locks import shared_folder
from ..progress import Progress
from ..recoverable import Found, find_source
from ..repository import Repository
from ..restore_evidence import Expectations, History, read_history
from ..restore_report import report_text
from ..restore_trial import Rules, Trial
from ..scratch import Claim, check_folder, check_reach, check_room, claimed
from ..throwaway import Owner, owner_for, present_user

ACTIVITY = "restore_test"


@dataclass(frozen=True)
class RestoreTestRequest:
    """What is to be tested.

    :param folder: the non-active folder (T2).
    :param target: to which moment; :class:`Target`.
    :param untested: only the instances whose newest full set no test has succeeded with yet.
    :param set_name: the full set; the newest of each instance that leads to the target where none is given.
    :param lineage: which history is meant, where two hold the moment.
    :param expectations: by instance, what its copy must answer; :class:`Expectations`.
    :param wait_seconds: how long to wait for another run in the same folder; with 0 it is refused at once.
    :param user: who the throwaway servers run as; the engine's own user where none is given.
    :param zone: of the times people read.
    :param before_destroy: called with the running copy, before the engine's checks; for programs that compare.
    """

    instances: Sequence[Instance]
    repository: Path
    protection: Protection
    folder: Path
    target: Target = field(default_factory=Target)
    untested: bool = False
    set_name: str = ""
    lineage: str = ""
    expectations: Mapping[str, Expectations] = field(default_factory=dict)
    user: str = ""
    shrink_percent: int = 20
    accept_shrinking: Sequence[str] = ()
    timeout_seconds: float = 6 * 3600.0
    wait_seconds: float = 0.0
    zone: str = "UTC"
    check_only: bool = False
    actor: Optional[str] = None
    run: Optional[str] = None
    before_destroy: Optional[Callable[[str, ScratchServer], None]] = None


def restore_test(request: RestoreTestRequest, progress: Progress) -> dict[str, Any]:
    """Test each instance; ``failed`` names those with findings, ``left_out`` says why an instance was not tested.

    :raises ContinuityError: if the folder or a value cannot be used; nothing was touched then.
    """
    repository = Repository.open(request.repository)
    engines_for(request.instances)
    Target.parse(request.target.kind, request.target.value)
    if request.untested and (request.set_name or request.target.in_the_logs or request.target.value):
        raise InputError(
            "untested chooses the set by itself: each instance's newest.",
            "Leave set and moment out, and take latest or set as the target.",
        )
    for instance in request.instances:
        request.target.check_engine(instance.name, instance.engine)
    known_zone(request.zone)
    unknown = sorted(set(request.expectations) - {each.name for each in request.instances})
    if unknown:
        raise InputError(f"Expectations name {', '.join(unknown)}, which is not tested.", "Name instances under test.")
    left_out: dict[str, str] = {}
    if request.untested:  # where nothing is new, nobody is waited for
        request, left_out = _without_tested(request, repository, read_history(repository.ledger), left_out)
        if not request.instances:
            return {"changed": False, "failed": [], "instances": {}, "left_out": left_out}
    if request.check_only:
        check_folder(request.folder, request.repository)
        return {**_plans(request, repository), "left_out": left_out}
    with claimed(request.folder, request.repository, "restore test", request.wait_seconds) as claim:
        history = read_history(repository.ledger)
        if request.untested:  # another run that was waited for may have tested what was new
            request, left_out = _without_tested(request, repository, history, left_out)
            if not request.instances:
                return {"changed": False, "failed": [], "instances": {}, "left_out": left_out}
        return {**_tested(request, repository, history, claim, progress), "left_out": left_out}


def _without_tested(
    request: RestoreTestRequest, repository: Repository, history: History, left_out: Mapping[str, str]
) -> tuple[RestoreTestRequest, dict[str, str]]:
    """Return the request for what is still to be tested, and why the rest is not; *left_out* was before."""
    tested = _left_out(request, repository, history)
    instances = [each for each in request.instances if each.name not in tested]
    return replace(request, instances=instances), {**left_out, **tested}


def _left_out(request: RestoreTestRequest, repository: Repository, history: History) -> dict[str, str]:
    """Return, by instance, why there is nothing new to test.

    Where the ledger cannot be read to its end, a test that it does not show is made once more: that harms nobody.
    """
    reasons = {}
    for instance in request.instances:
        names = repository.instance(instance.name).set_names()
        if not names:
            reasons[instance.name] = "there is no full backup yet"
        elif (instance.name, names[-1]) in history.tested:
            run = history.tested[instance.name, names[-1]]
            reasons[instance.name] = f"its newest full backup {names[-1]} was brought back by run {run}"
    return reasons


def _tested(
    request: RestoreTestRequest, repository: Repository, history: History, claim: Claim, progress: Progress
) -> dict[str, Any]:
    """Bring each instance back, and return what came of it."""
    run = request.run or new_run_id()
    actor = describe_actor(request.actor)
    results: dict[str, dict[str, Any]] = {}
    for instance in request.instances:
        results[instance.name] = _one(request, repository, instance, history, claim, run, actor, progress)
    failed = [name for name, result in results.items() if result["result"] != "succeeded"]
    text = report_text(results, run, actor, request.zone)
    reports = repository.root / "reports"
    make_directory(reports)
    path = reports / f"restore-test-{run}.txt"
    write_file(path, text.encode())
    return {
        "changed": True,
        "run": run,
        "failed": failed,
        "instances": results,
        "cleaned": claim.cleaned,
        "report": str(path),
        "report_text": text,
        "ledger_head": str(repository.ledger.head()),
    }


def _plans(request: RestoreTestRequest, repository: Repository) -> dict[str, Any]:
    """Return what would be tested; nothing is written."""
    plans: dict[str, dict[str, Any]] = {}
    for instance in request.instances:
        try:
            found = _find(request, repository, instance)
            needed = needed_bytes(found.source)
            owner = _owner(request, found.scratch)
            check_reach(request.folder, owner, sockets=bool(found.scratch.users))
            check_room(request.folder, needed)
            plans[instance.name] = {
                "result": "would be tested",
                "set": found.set.id,
                "logs": len(found.source.logs),
                "resolved": found.resolved.to_json(),
                "needed_bytes": needed,
                "tools": dict(found.scratch.check_tools(found.source.manifest)),
                "run_as": owner.name,
                "findings": [],
            }
        except ContinuityError as error:
            plans[instance.name] = {"result": "cannot be tested", "findings": [finding_from(error)]}
    failed = [name for name, plan in plans.items() if plan["findings"]]
    return {"changed": True, "failed": failed, "instances": plans}


def _find(request: RestoreTestRequest, repository: Repository, instance: Instance) -> Found:
    return find_source(repository, instance, request.protection, request.target, request.set_name, request.lineage)


def finding_from(error: ContinuityError, code: str = "") -> dict[str, Any]:
    """Return an error as a finding."""
    return {
        "code": code or error.kind,
        "file": str(error.details.get("file") or error.details.get("path") or ""),
        "message": error.message,
        "remedy": error.remedy,
    }


def _one(
    request: RestoreTestRequest,
    repository: Repository,
    instance: Instance,
    history: History,
    claim: Claim,
    run: str,
    actor: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    name = instance.name
    data: dict[str, Any] = {
        "target": request.target.kind,
        "moment": request.target.value,
        "folder": str(request.folder),
        "cleaned": claim.cleaned,
        **({"untested": True} if request.untested else {}),  # the check-list tells it from the weekly one
    }
    repository.ledger.append("started", ACTIVITY, run, instance=name, actor=actor, data=data)
    started = utc_now()
    rules = Rules(
        request.shrink_percent, request.accept_shrinking, request.timeout_seconds, request.zone, request.before_destroy
    )
    trial = Trial(name, request.expectations.get(name, Expectations()), history, rules, started, request.target)
    try:
        _bring_up(request, repository, instance, trial, claim, progress)
    except ContinuityError as error:
        trial.found(error)
    except BaseException as error:
        reason = f"{'unexpected' if isinstance(error, Exception) else 'interrupted:'} {type(error).__name__}: {error}"
        failed = {**trial.evidence, "result": "failed", "reason": reason[:4000]}
        repository.ledger.append("finished", ACTIVITY, run, instance=name, actor=actor, data=failed)
        if not isinstance(error, Exception):
            raise
        return {**failed, "findings": [{"code": "unexpected", "file": "", "message": reason, "remedy": "Report this."}]}
    evidence = trial.finish()
    head = repository.ledger.append("finished", ACTIVITY, run, instance=name, actor=actor, data=evidence)
    return {**evidence, "ledger_head": str(head)}


def _bring_up(
    request: RestoreTestRequest,
    repository: Repository,
    instance: Instance,
    trial: Trial,
    claim: Claim,
    progress: Progress,
) -> None:
    found = _find(request, repository, instance)
    if (instance.name, found.set.id) not in trial.history.manifests:
        # A full backup that ended meanwhile: what vouches for a set is recorded before the set gets its name.
        trial.history = read_history(repository.ledger)
    owner = _owner(request, found.scratch)
    trial.begin(found, request.folder)
    check_reach(request.folder, owner, sockets=bool(found.scratch.users))
    check_room(request.folder, needed_bytes(found.source))
    with shared_folder(found.source.folder):
        trial.checksums(progress)
        trial.run(claim, owner, progress)


def _owner(request: RestoreTestRequest, scratch: type[ScratchServer]) -> Owner:
    """Return who a copy belongs to."""
    return owner_for(request.user, scratch.users) if scratch.users else present_user()
