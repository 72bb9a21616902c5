# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One full restore, step by step: the moment is brought up and looked at here, and only then is production touched.

Until the exchange production runs on its own data, untouched. The exchange itself is made by production's agent, which
journals each step, and goes back by itself where one fails; it does not need this host for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Optional

from .channel import Channel
from .clock import iso, parse_moment, utc_now
from .engines.scratch import FAILED, ScratchServer, Source
from .errors import ContinuityError, DamagedError, PipelineError
from .instance import Instance
from .lineage import Finding
from .locks import shared_folder
from .progress import Progress
from .recoverable import Found
from .repository import InstanceFolder
from .restore_evidence import Expectations
from .restore_plan import FullPlan
from .scratch import Claim
from .stored import check_file
from .throwaway import Owner, Sandbox

SWAPPED, RETURNED = "swapped", "returned"
UNDER_WAY = ("stopping", "moving", "starting", "returning")
_FROM_COPY = "Take it from a copy of the repository, choose another set, or another moment."
_NEW_FULL = "Make a new full backup now: run the playbook full_backup with -e dbc_force=true."


@dataclass
class Steps:
    """What is measured on the way."""

    name: str
    progress: Progress
    began: float = field(default_factory=monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    now: str = ""

    @contextmanager
    def step(self, name: str, expected: int = 0) -> Iterator[None]:
        """Measure one step, and say that it goes on."""
        self.now = name
        self.progress.phase(f"{self.name} {name}", expected)
        began = monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + monotonic() - began, 3)

    @property
    def elapsed(self) -> float:
        """Return the seconds since the command."""
        return monotonic() - self.began


@contextmanager
def brought_up(
    claim: Claim,
    owner: Owner,
    instance: Instance,
    found: Found,
    steps: Steps,
    evidence: dict[str, Any],
    timeout: float,
    layout: Optional[Mapping[str, str]] = None,
) -> Iterator[ScratchServer]:
    """Give the running copy at its moment; whatever happens, it is destroyed afterwards, and that is recorded.

    :param layout: how it lays out its files where it is made anew, out of a dump, and production will run on them.

    :raises ContinuityError: if set or logs do not hold, or it does not get exactly there.
    """
    source = replace(found.source, hashed=True)
    evidence["tools"] = dict(found.scratch.check_tools(source.manifest))
    with shared_folder(source.folder), claim.work(instance.name, owner) as folder:
        sandbox = Sandbox(folder, owner)
        server = found.scratch(Instance(instance.name, instance.engine), source, folder, sandbox)
        server.layout = layout or {}
        evidence["server"] = {"run_as": owner.name, "isolation": sandbox.describe(), "folder": str(folder)}
        try:
            try:
                kept = _bring_up(server, source, steps, evidence, timeout)
            except (DamagedError, PipelineError):
                _check_stored(found)  # a damaged file is the cause, whatever it led to
                raise
            evidence["checks"] = kept
            yield server
        finally:
            server.end()
            evidence["destruction"] = claim.destroy(folder)


def _bring_up(
    server: ScratchServer, source: Source, steps: Steps, evidence: dict[str, Any], timeout: float
) -> list[dict[str, Any]]:
    """Bring the copy to its moment; return what the engine said of the set."""
    with steps.step("unpacking", source.content_bytes):
        server.unpack()
    with steps.step("verification of the base"):
        kept: list[dict[str, Any]] = [dict(check.to_json()) for check in server.verify_base()]
    with steps.step("start"):
        server.start()
    with steps.step("replay", source.log_bytes):
        evidence["replay"] = dict(server.replay(steps.progress.advance, timeout))
    seconds = steps.seconds["replay"]
    moved = int(evidence["replay"].get("bytes") or 0)
    evidence["replay"]["bytes_per_second"] = round(moved / seconds) if seconds > 0 else 0
    return kept


def look_at(
    server: ScratchServer, expectations: Expectations, deep: bool, steps: Steps, evidence: dict[str, Any]
) -> None:
    """Ask the copy the site's questions before anything of it goes to production.

    :param deep: let the engine check every table and index, too.
    :raises DamagedError: if an answer is not the one wanted, or a check fails.
    """
    with steps.step("checks"):
        kept = evidence["checks"]
        for each in expectations.checks:
            answer = server.ask(each.sql, each.database)
            result = "passed" if each.met_by(answer) else FAILED
            detail = f"{answer[:200]!r}; expected {each.expect!r}"
            kept.append({"name": each.name, "result": result, "detail": detail})
        objects = server.base_objects()
        if objects is not None:
            evidence["objects"] = {kind: {"before": None, "after": count} for kind, count in sorted(objects.items())}
        if deep:
            kept += [check.to_json() for check in server.checks()]
    wrong = [f"{each['name']}: {each['detail']}" for each in kept if each["result"] == FAILED]
    if wrong:
        raise DamagedError(
            f"The copy does not hold: {'; '.join(wrong)}. Production was not touched.",
            "Choose another moment or set; or leave out the check, if the data are right.",
        )


def _check_stored(found: Found) -> None:
    """Look whether every stored file is what was written.

    :raises DamagedError: naming the first that is not.
    """
    for artefact in found.source.artefacts:
        _whole(found.source.folder / artefact.name, artefact.size, artefact.sha256)
    for record in found.source.logs:
        if record.values.get("staged"):
            continue
        path = found.source.logs_folder / record.artefact
        _whole(path, int(record.values["size"]), str(record.values["sha256"]))


def _whole(path: Path, size: int, sha256: str) -> None:
    problem = check_file(path, size, sha256)
    if problem:
        raise DamagedError(f"{path} {problem}.", _FROM_COPY, {"file": path.name})


@dataclass
class FullRun:
    """One full restore under way; :attr:`evidence` is what the ledger keeps.

    :param expectations: what the copy must answer before it goes to production.
    :param deep: let the engine check every table and index first; takes as long as in a test restore.
    """

    plan: FullPlan
    folder: InstanceFolder
    run: str
    record: str
    steps: Steps
    expectations: Expectations = field(default_factory=Expectations)
    timeout: float = 24 * 3600.0
    deep: bool = False
    before_ship: Optional[Callable[[ScratchServer], None]] = None
    evidence: dict[str, Any] = field(default_factory=dict)
    touched: bool = False

    @property
    def instance(self) -> Instance:
        """Return what is restored."""
        return self.plan.full.instance

    @property
    def channel(self) -> Channel:
        """Return the way to production."""
        return self.plan.channel

    def carry_out(self, claim: Claim, owner: Owner) -> None:
        """Do it all.

        :raises ContinuityError: whatever went wrong; production then runs on its old data, or the error says what is where.
        """
        found = self.plan.found
        try:
            layout = self.plan.full.layout()
            with brought_up(
                claim, owner, self.instance, found, self.steps, self.evidence, self.timeout, layout
            ) as server:
                spec = {**self.plan.full.spec(server), **self._about()}  # a deep look may end the copy
                look_at(server, self.expectations, self.deep, self.steps, self.evidence)
                if self.before_ship is not None:
                    self.before_ship(server)
                with self.steps.step("settling"):
                    settled = server.settle()
                self._bring(settled, spec)
            self._exchange()
        except BaseException:
            if not self.touched:
                self._clean()
            raise
        self._afterwards()

    def _about(self) -> dict[str, Any]:
        return {
            "parts": [part.name for part in self.plan.full.parts()],
            "record": self.record,
            "plan_sha256": self.plan.digest,
            "set": self.plan.found.set.id,
        }

    def _bring(self, settled: Path, spec: Mapping[str, Any]) -> None:
        """Bring the data beside production's own."""
        full = self.plan.full
        with self.steps.step("sending", self.plan.new_bytes):
            self.channel.begin(self.instance, self.run, spec)
            sent = 0
            renamed = []
            for name, place in full.folders(settled).items():
                if self.plan.renamed(name) and self.channel.adopt(self.instance, self.run, name, place):
                    renamed.append(name)
                    continue
                base = sent
                sent += self.channel.receive(
                    self.instance,
                    self.run,
                    name,
                    place,
                    lambda done, base=base: self.steps.progress.advance(base + done),  # type: ignore[misc]
                )
        self.evidence["bytes"] = {"sent": sent, "set": self.plan.found.set.manifest.size}
        self.evidence["renamed"] = renamed

    def _exchange(self) -> None:
        """Have production exchange its data."""
        self.touched = True
        with self.steps.step("exchange"):
            done = self._swap()
        self.evidence["rto"] = {
            "target_minutes": self.expectations.rto_minutes,
            "actual_seconds": round(self.steps.elapsed, 3),
        }
        self.evidence["answered_at"] = iso(utc_now())
        sizes = self.plan.full.look["parts"]
        self.evidence["kept"] = [
            {"what": f"old data of {name}", "path": place["old"], "bytes": int(sizes.get(name, {}).get("bytes") or 0)}
            for name, place in done["parts"].items()
            if sizes.get(name, {}).get("exists")
        ]
        self.evidence["stop_seconds"], self.evidence["start_seconds"] = done["stop_seconds"], done["start_seconds"]

    def _swap(self) -> dict[str, Any]:
        """Exchange; where the link broke meanwhile, find out how it ended, and help it on."""
        try:
            return self.channel.swap(self.instance, self.run)
        except PipelineError as first:
            try:
                journal = self.channel.look(self.instance).get("journal") or {}
            except ContinuityError as second:
                raise PipelineError(
                    f"{first.message} Production cannot be asked how it ended: {second.message} Its agent carries the exchange"
                    " through, or puts the old data back, without this host.",
                    "Once production can be reached, run the same restore again: it finds out, and heals what is half done.",
                    {"left": [first.message]},
                ) from None
            if journal.get("run") == self.run and journal.get("phase") == RETURNED:
                self.touched = False
                raise
            try:
                return self.channel.swap(self.instance, self.run)
            except PipelineError:
                self._back(first)
                raise first from None

    def _back(self, error: PipelineError) -> None:
        """Put the old data back.

        :raises PipelineError: if that fails, too; it says what is where.
        """
        try:
            self.channel.back(self.instance, self.run)
        except PipelineError as second:
            raise PipelineError(
                f"{error.message} The old data could not be put back either: {second.message}",
                "Run the same restore again once the cause is mended: it begins with putting the old data back.",
                {"left": [second.message]},
            ) from None
        self.touched = False

    def _clean(self) -> None:
        """Remove what was brought; whatever keeps that from being done, the cause is another error's."""
        try:
            self.channel.clean(self.instance, self.run)
        except ContinuityError as error:
            self.evidence.setdefault("notes", []).append(f"What was brought was not removed: {error.message}")

    def _afterwards(self) -> None:
        """End the old history, let the log flow again, close the journal."""
        with self.steps.step("afterwards"):
            follow = after_swap(self.folder, self.instance, self.plan.full.resume, self.run)
            self.evidence["follow_ups"] = follow
            self.channel.clean(self.instance, self.run)


def after_swap(
    folder: InstanceFolder,
    instance: Instance,
    resume: Callable[..., Sequence[str]],
    run: str,
    at: Optional[datetime] = None,
) -> list[str]:
    """End the lineage that production has left, and let the log be shipped again; return what is to be done next.

    :param at: when the data were exchanged, where that was long ago: a lineage opened since is the new one.
    """
    shipping = folder.staging.is_dir() and any(each.is_dir() for each in folder.staging.iterdir())
    end_history(folder, utc_now(), run, at)
    said = list(resume(shipping=shipping))
    said.append(f"Status is red until a new full backup is there. {_NEW_FULL}")
    return said


def end_history(folder: InstanceFolder, moment: datetime, run: str, at: Optional[datetime] = None) -> None:
    """Say that the instance's present chain ends here; what it holds stays good. Does nothing where it has ended."""
    with folder.log_lock("restore", wait_seconds=900.0):
        lineage = folder.current_lineage()
        if lineage is None or lineage.broken:
            return
        if at is not None and parse_moment(str(lineage.opening["opened_at"])) > at:
            return
        head = lineage.head()
        text = f"{folder.name} was restored (run {run}): its history began anew."
        lineage.mark_broken([Finding("restored", head.name if head else "", text, _NEW_FULL, True)], moment)
