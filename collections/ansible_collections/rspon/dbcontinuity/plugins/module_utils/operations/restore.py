# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""D4, R1, R2: bring an instance, or a part of it, back to any recoverable moment, on production.

Nothing is touched before the plan holds, the instance's name was typed, and the recorded instruction covers exactly
this. The dying server's last log is fetched first if it still answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union
from zoneinfo import ZoneInfo

from ..actor import describe_actor
from ..approvals.gate import Asked, require_instruction, under_instruction
from ..approvals.officials import OFFICIALS_FILE
from ..channel import Channel
from ..clock import iso, known_zone, utc_now
from ..codec import Protection
from ..engines.partial import Order
from ..engines.registry import engines_for
from ..engines.restore_registry import full_restore_for
from ..engines.scratch import ScratchServer, Target
from ..errors import ApprovalError, ContinuityError, InputError
from ..instance import Instance
from ..ledger import new_run_id
from ..locks import exclusive
from ..progress import Progress
from ..recoverable import find_source
from ..recoverable import ranges as recoverable_ranges
from ..repository import InstanceFolder, Repository
from ..restore_account import ACTIVITY, described, failed, finish, half_done
from ..restore_evidence import Expectations
from ..restore_plan import FullPlan, RestorePlan, measured_rates, with_tail
from ..restore_run import SWAPPED, UNDER_WAY, FullRun, Steps, after_swap
from ..scope import FULL, Scope, parse_all
from ..scratch import check_folder, check_reach, claimed
from ..throwaway import Owner, owner_for, present_user
from .log_cycle import LogCycleRequest, log_cycle
from .restore_parts import PartRun

# A cycle that a timer has just begun: what it brings is wanted, and what comes after it, too.
_WAIT_FOR_CYCLE_SECONDS = 300.0


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
    :param compare: for :func:`plan` of a partial restore: bring the copy up and say what differs, which takes as long.
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
    compare: bool = False
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

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Return what is to be brought back.

        :raises InputError: if a text names nothing that this engine has.
        """
        return parse_all(self.scope, self.instance.engine)

    @property
    def scope_texts(self) -> tuple[str, ...]:
        """Return it in the one text form."""
        return tuple(str(each) for each in self.scopes)

    @property
    def whole(self) -> bool:
        """Return whether it is everything."""
        return self.scope_texts == (FULL,)

    def asked(self, digest: str) -> Asked:
        """Return what the instruction must be for."""
        mode = "replace" if self.whole else self.mode
        accepts = ("orphans",) if self.accept_orphans and not self.whole else ()
        return Asked(self.instance.name, self.scope_texts, self.target, mode, digest, accepts)


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


def plan(request: RestoreRequest, progress: Optional[Progress] = None) -> dict[str, Any]:
    """Return what :func:`restore` would do, and whether an instruction covers it; nothing is touched.

    :returns: ``plan``; ``instruction``: the evidence of the one that was named, or ``refused``: why it does not serve;
        ``parts``: what a partial restore would do to each, where that was asked for.
    :raises ContinuityError: if the moment cannot be brought back, or production cannot be asked.
    """
    repository = _checked(request)
    look = request.channel.look(request.instance)
    try:
        made = _plan(request, repository, look, fetched=bool(look.get("answers")))
    except InputError as error:
        logged = request.instance.method != "logical"
        if error.details.get("code") != "out-of-range" or not look.get("answers") or not logged:
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
        asked = request.asked(made.digest)
        try:
            given = require_instruction(repository, request.record, asked, officials_file=request.officials_file)
            answer["instruction"] = dict(given.to_evidence())
        except ContinuityError as error:
            answer["refused"] = str(error)
    if request.compare and not request.whole:
        made.require()
        steps = Steps(request.instance.name, progress or Progress())
        work = _work(request, repository.instance(request.instance.name), made, new_run_id(), steps)
        if isinstance(work, PartRun):
            with claimed(request.folder, request.repository, "restore") as claim:
                answer["parts"] = dict(work.compare(claim, _owner(request, made)))
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
        require_instruction(repository, "", request.asked("0" * 64), officials_file=request.officials_file)
    folder = repository.instance(request.instance.name)
    with exclusive(folder.path / ".lock-restore", f"restore of {folder.name}"):
        with steps.step("looking"):
            look = request.channel.look(request.instance)
        notes = [] if look.get("answers") else ["Production's server does not answer: its last log was not fetched."]
        # Behind an exchange that was not finished it is another history already.
        if look.get("answers") and (look.get("journal") or {}).get("phase") != SWAPPED:
            with steps.step("fetching the last log"):
                notes = _last_log(request)
        fetched = not notes
        made = _plan(request, repository, look, fetched=fetched)
        journal = made.journal
        mine = dict(journal.get("spec") or {}).get("record") == request.record
        if journal.get("phase") == SWAPPED and mine:
            return _finish_late(request, repository, folder, made, steps)
        try:
            require_instruction(
                repository, request.record, request.asked(made.digest), officials_file=request.officials_file
            )
        except ApprovalError as error:
            raise half_done(error, made) from None
        _reach(request, made)
        healed = _heal(request, folder, made)
        if healed:
            made = _plan(request, repository, request.channel.look(request.instance), fetched=fetched)
        made.require()  # what the interrupted one had brought takes no room any more
        return _restore(request, repository, folder, made, steps, [*healed, *notes])


def _checked(request: RestoreRequest) -> Repository:
    """Refuse values that cannot be used; nothing was touched then."""
    repository = Repository.open(request.repository)
    engines_for([request.instance])
    known_zone(request.zone)
    parse_all(request.scope, request.instance.engine)
    request.target.check_engine(request.instance.name, request.instance.engine)
    check_folder(request.folder, request.repository)
    return repository


def _plan(
    request: RestoreRequest, repository: Repository, look: Mapping[str, Any], *, fetched: bool = True
) -> RestorePlan:
    """Plan it.

    :param fetched: whether production's log is in the chain to its end; else the stream's rest serves the newest moment.
    """
    found = find_source(
        repository, request.instance, request.protection, request.target, request.set_name, request.lineage
    )
    if look.get("timeline"):  # of a history that no backup was made of
        known = [*found.source.histories, {"timeline": look["timeline"]}]
        found = replace(found, source=replace(found.source, histories=known))
    full = full_restore_for(request.instance, found.source, look)
    unproven = ""
    if request.target.kind == "latest" and not fetched and found.lineage is not None and not found.lineage.broken:
        tail = full.unproven(repository.instance(request.instance.name).staging)
        if tail is not None:
            found = with_tail(found, tail)
            full = full_restore_for(request.instance, found.source, look)
            unproven = f"{tail.position} of {iso(tail.moment)}"
    kind = FullPlan if request.whole else RestorePlan
    return kind(
        found,
        full,
        request.channel,
        request.folder,
        request.target,
        utc_now(),
        measured_rates(repository.ledger, request.instance.name),
        look.get("journal") or {},
        request.scope_texts,
        "replace" if request.whole else request.mode,
        unproven,
    )


def _owner(request: RestoreRequest, made: RestorePlan) -> Owner:
    scratch = made.found.scratch
    return owner_for(request.user, scratch.users) if scratch.users else present_user()


def _reach(request: RestoreRequest, made: RestorePlan) -> None:
    scratch = made.found.scratch
    scratch.check_tools(made.source.manifest)
    check_reach(request.folder, _owner(request, made), sockets=bool(scratch.users))


def _heal(request: RestoreRequest, folder: InstanceFolder, made: RestorePlan) -> list[str]:
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
        after_swap(folder, request.instance, made.full.resume, run, made.swapped_at)
    request.channel.clean(request.instance, run)
    return [said]


def _last_log(request: RestoreRequest) -> list[str]:
    """Take delivery of what production has logged until now; a server that is dying may not give it."""
    answer = log_cycle(
        LogCycleRequest(
            [request.instance],
            request.repository,
            request.protection,
            actor=request.actor,
            wait_seconds=_WAIT_FOR_CYCLE_SECONDS,
        )
    )
    result = answer["instances"][request.instance.name]
    if result["result"] in ("good", "idle", "no log"):  # no log follows a dump
        return []
    why = result.get("message") or " ".join(str(each["message"]) for each in result["findings"])
    return [f"Production's last log could not be fetched ({result['result']}): {why}"]


def _restore(
    request: RestoreRequest,
    repository: Repository,
    folder: InstanceFolder,
    made: RestorePlan,
    steps: Steps,
    notes: list[str],
) -> dict[str, Any]:
    run = request.run or new_run_id()
    actor = describe_actor(request.actor)
    work = _work(request, folder, made, run, steps)
    with under_instruction(
        repository,
        request.record,
        request.asked(made.digest),
        run=run,
        actor=actor,
        officials_file=request.officials_file,
    ) as instruction:
        work.evidence.update(described(made, instruction, request.expectations, run, actor, notes))
        data = {"plan": made.to_json(), "record": request.record}
        repository.ledger.append("started", ACTIVITY, run, instance=folder.name, actor=actor, data=data)
        try:
            with claimed(request.folder, request.repository, "restore") as claim:
                work.evidence["cleaned"] = claim.cleaned
                work.carry_out(claim, _owner(request, made))
            instruction.used()
        except BaseException as error:
            failed(work, error)
            told = finish(repository, work.evidence, steps, request.zone)
            if isinstance(error, ContinuityError):
                error.details.update({key: told[key] for key in ("run", "result", "report", "report_text")})
            raise
        work.evidence["result"] = "succeeded"
        return finish(repository, work.evidence, steps, request.zone)


def _work(
    request: RestoreRequest, folder: InstanceFolder, made: RestorePlan, run: str, steps: Steps
) -> Union[FullRun, PartRun]:
    if isinstance(made, FullPlan):
        return FullRun(
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
    return PartRun(
        made,
        folder,
        Order(run, request.scopes, request.mode, request.accept_orphans),
        steps,
        request.expectations,
        request.timeout_seconds,
        request.deep,
        request.before_ship,
    )


def _finish_late(
    request: RestoreRequest, repository: Repository, folder: InstanceFolder, made: RestorePlan, steps: Steps
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
        request.asked(str(spec["plan_sha256"])),
        run=run,
        actor=actor,
        officials_file=request.officials_file,
        finishing=True,
    ) as instruction:
        note = f"The restore {run} was interrupted after the exchange: production has been running on the restored data since."
        evidence = described(made, instruction, request.expectations, run, actor, [note])
        with steps.step("afterwards"):
            evidence["follow_ups"] = after_swap(folder, request.instance, made.full.resume, run, made.swapped_at)
            request.channel.clean(request.instance, run)
        evidence["result"] = "succeeded"
        evidence["recorded_late"] = True
        instruction.used()
        return finish(repository, evidence, steps, request.zone)
