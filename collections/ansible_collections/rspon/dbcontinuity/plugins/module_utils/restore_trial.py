# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One instance's test restore, step by step, with everything that is measured and found on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any, Optional
from zoneinfo import ZoneInfo

from .clock import iso, parse_moment
from .engines.scratch import FAILED, ScratchServer
from .engines.targets import Target
from .errors import ContinuityError, DamagedError, InputError, PipelineError
from .instance import Instance
from .progress import Progress
from .recoverable import Found
from .restore_evidence import Expectations, History, judge_objects, judge_rows
from .scratch import Claim
from .stored import check_file
from .throwaway import Owner, Sandbox

_FROM_COPY = "Take it from a copy of the repository, or make a new full backup now."


@dataclass(frozen=True)
class Rules:
    """How a trial judges and how long it may take.

    :param zone: in which an application's times without an offset are meant.
    :param before_destroy: called with the running copy, before the engine's checks.
    """

    shrink_percent: int = 20
    accept_shrinking: Sequence[str] = ()
    timeout_seconds: float = 6 * 3600.0
    zone: str = "UTC"
    before_destroy: Optional[Callable[[str, ScratchServer], None]] = None


class Stop(ContinuityError):
    """The trial cannot go on; its findings say why."""


@dataclass
class Trial:
    """One instance's test; :attr:`evidence` is what the ledger keeps."""

    name: str
    expectations: Expectations
    history: History
    rules: Rules
    started: datetime
    target: Target = field(default_factory=Target)
    findings: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = monotonic()
        self._phases: dict[str, float] = {}
        self._now = "finding the backup"

    # -- notes --

    @contextmanager
    def _phase(self, name: str, progress: Progress, expected: int = 0) -> Iterator[None]:
        self._now = name
        progress.phase(f"{self.name} {name}", expected)
        began = monotonic()
        try:
            yield
        finally:
            self._phases[name] = round(monotonic() - began, 3)

    def add(self, code: str, file: str, message: str, remedy: str) -> None:
        """Note a finding."""
        self.findings.append({"code": code, "file": file, "message": message, "remedy": remedy})

    def found(self, error: ContinuityError) -> None:
        """Note the error that ended the trial, naming its cause."""
        if isinstance(error, Stop):
            return
        code, message, remedy = error.kind, error.message, error.remedy
        if isinstance(error, PipelineError) and error.details.get("stage") == "age":
            code = "decryption-failed"
            message = f"The private key does not open what is stored, while {self._now}: {message}"
            remedy = "Give the operations key this was encrypted to; the escrow key's holder can bring the other one."
        elif "sequence" in error.details:
            code = "damaged-chain"
        elif isinstance(error, DamagedError) and "file" in error.details:
            code = "damaged-log"
        elif isinstance(error, (PipelineError, DamagedError)):
            code = f"{self._now.replace(' ', '-')}-failed"
        elif error.kind == "prerequisite" and {"series", "major"} & set(error.details):
            code = "version-mismatch"
        elif error.kind == "chain":
            code = "missing-log"
        elif error.details.get("code"):
            code = str(error.details["code"])
        self.add(code, str(error.details.get("file") or ""), message, remedy)

    # -- the steps --

    def begin(self, found: Found, folder: Path) -> None:
        """Note what is tested."""
        values = found.set.manifest.values
        self.source = found.source
        self.chosen = found
        self.evidence.update(
            {
                "source": {
                    "medium": "repository",
                    "set": found.set.id,
                    "manifest_sha256": found.set.manifest_sha256,
                    "made_at": values["finished_at"],
                    "engine": values["engine"],
                    "version": values["server"]["version"],
                    "size_bytes": found.set.manifest.size,
                    "sha256": {each.name: each.sha256 for each in found.set.manifest.artefacts},
                    "lineage": str(values["lineage"]),
                    "logs": len(found.source.logs),
                    "last_log": found.source.logs[-1].name if found.source.logs else "",
                    "last_record_sha256": found.source.logs[-1].sha256 if found.source.logs else "",
                },
                "folder": str(folder),
                "target": self.target.kind,
                "resolved": found.resolved.to_json(),
            }
        )
        self.notes += found.resolved.notes

    def checksums(self, progress: Progress) -> None:
        """Read every stored byte of the set and its logs, and hold the manifest against the ledger.

        :raises Stop: if anything does not hold.
        """
        chosen = self.chosen.set
        with self._phase("checksums", progress, chosen.manifest.size):
            recorded = self.history.manifests.get((self.name, chosen.id))
            if recorded is not None and recorded != chosen.manifest_sha256:
                text = f"The manifest of {chosen.id} is not the one the ledger recorded."
                self.add("altered-manifest", chosen.id, text, _FROM_COPY)
            elif recorded is None and self.history.whole:
                text = f"The ledger knows no full backup {chosen.id}: no recorded run made this set."
                self.add("unrecorded-set", chosen.id, text, _FROM_COPY)
            for artefact in chosen.manifest.artefacts:
                path = chosen.path / artefact.name
                self._stored("artefact", artefact.name, path, artefact.size, artefact.sha256)
            for record in self.source.logs:
                path = self.source.logs_folder / record.artefact
                self._stored("log", record.name, path, int(record.values["size"]), str(record.values["sha256"]))
        self._whole_chain()
        if any(each["code"] != "chain-broken" for each in self.findings):
            raise Stop("the stored files do not hold")

    def _whole_chain(self) -> None:
        lineage = self.chosen.lineage
        if lineage is None:
            return
        name, digest = self.history.logs.get((self.name, lineage.id), ("", ""))
        if digest and digest not in self.chosen.records:
            text = (
                f"The ledger says that {name} was archived as the newest log of {lineage.id}; the chain ends before it."
            )
            self.add("cut-off-chain", name, text, _FROM_COPY)
        if lineage.broken:
            causes = lineage.findings()
            said = " ".join(str(each.get("message", "")) for each in causes)
            first = str(causes[0].get("file", "")) if causes else ""
            text = f"The chain of logs is broken; the copy ends before that: {said}"
            if self.target.in_the_logs:
                self.notes.append(text.strip())  # what was asked for lies before it
                return
            self.add("chain-broken", first, text.strip(), "Make a new full backup now.")

    def _stored(self, kind: str, name: str, path: Path, size: int, sha256: str) -> None:
        problem = check_file(path, size, sha256)
        if problem:
            how = (
                "missing"
                if problem == "is missing"
                else "truncated"
                if problem.startswith("has ") and (path.stat().st_size < size)
                else "damaged"
            )
            self.add(f"{how}-{kind}", name, f"{path} {problem}.", _FROM_COPY)

    def run(self, claim: Claim, owner: Owner, progress: Progress) -> None:
        """Bring the copy up, look at it, destroy it."""
        source = self.source
        self.evidence["tools"] = dict(self.chosen.scratch.check_tools(source.manifest))
        with claim.work(self.name, owner) as folder:
            sandbox = Sandbox(folder, owner)
            server = self.chosen.scratch(self._instance(), source, folder, sandbox)
            self.evidence["server"] = {"run_as": owner.name, "isolation": sandbox.describe(), "folder": str(folder)}
            try:
                self._bring_up(server, progress)
                self._look(server, progress)
            finally:
                server.end()
                self.evidence["destruction"] = claim.destroy(folder)

    def _instance(self) -> Instance:
        return Instance(self.name, str(self.source.manifest["engine"]))

    def _bring_up(self, server: ScratchServer, progress: Progress) -> None:
        source = self.source
        with self._phase("unpacking", progress, source.content_bytes):
            server.unpack()
        with self._phase("verification of the base", progress):
            self._check(server.verify_base())
        with self._phase("start", progress):
            server.start()
            objects = server.base_objects()
        if objects is not None:
            wrong, notes = judge_objects(source.manifest["objects"], objects, exactly_the_set=True)
            self.findings += wrong
            self.notes += notes
        with self._phase("replay", progress, source.log_bytes):
            self.evidence["replay"] = dict(server.replay(progress.advance, self.rules.timeout_seconds))
        prepared = self.evidence["replay"].get("prepared")
        if prepared:
            self.notes.append(
                f"At that moment these transactions were prepared and not committed: {', '.join(prepared[:10])}. Who restores"
                " has to commit or roll back each; until then they keep their locks."
            )
        seconds = self._phases["replay"]
        moved = int(self.evidence["replay"].get("bytes") or 0)
        self.evidence["replay"]["bytes_per_second"] = round(moved / seconds) if seconds > 0 else 0
        self._measure_rto()

    def _measure_rto(self) -> None:
        actual = round(monotonic() - self._began, 3)
        target = self.expectations.rto_minutes
        self.evidence["rto"] = {"target_minutes": target, "actual_seconds": actual}
        if target is not None and actual > target * 60:
            text = f"The copy answered after {actual / 60:.1f} minutes; the target (RTO) is {target:g}."
            self.add("rto-missed", "", text, "Look at the phases: which one takes the time.")

    def _check(self, checks: Sequence[Any]) -> None:
        kept = self.evidence.setdefault("checks", [])
        for check in checks:
            kept.append(check.to_json())
            if check.result == FAILED:
                self.add("check-failed", check.name, f"{check.name} failed: {check.detail}", _FROM_COPY)

    def _look(self, server: ScratchServer, progress: Progress) -> None:
        with self._phase("content", progress):
            self._content(server)
        if self.rules.before_destroy is not None:
            self.rules.before_destroy(self.name, server)
        with self._phase("assertions", progress):
            self._assertions(server)
            self._measure_rpo(server)
        with self._phase("checks", progress):
            self._check(server.checks())

    def _content(self, server: ScratchServer) -> None:
        content = server.content()
        recorded = self.source.manifest["objects"]
        only_set = not self.source.logs
        if server.base_objects() is None or only_set:
            wrong, notes = judge_objects(recorded, content.objects, exactly_the_set=only_set)
            self.findings += [each for each in wrong if each not in self.findings]
            self.notes += [each for each in notes if each not in self.notes]
        # An older moment has fewer rows by right: there is nothing to hold it against.
        last = {} if self.target.in_the_logs else self.history.last_tests.get((self.name, self.target.kind), {})
        before = last.get("content", {}).get("rows", {})
        self.findings += judge_rows(before, content.rows, self.rules.shrink_percent, self.rules.accept_shrinking)
        self.evidence["content"] = {
            "objects": dict(content.objects),
            "objects_of_the_backup": dict(recorded),
            "tables": len(content.rows),
            "rows_in_all": sum(content.rows.values()),
            "rows": dict(content.rows),
            "compared_with_run": last.get("run", ""),
            "rows_in_all_before": last.get("content", {}).get("rows_in_all"),
        }
        if not last and not self.target.in_the_logs:
            self.notes.append("no earlier test that succeeded: rows were not compared with one")

    def _assertions(self, server: ScratchServer) -> None:
        kept: list[dict[str, Any]] = []
        self.evidence["assertions"] = kept
        for each in self.expectations.checks:
            try:
                answer = server.ask(each.sql, each.database)
                met = each.met_by(answer)
            except ContinuityError as error:
                answer, met = error.message, False
            kept.append({"name": each.name, "expect": each.expect, "answer": answer[:500], "met": met})
            if not met:
                text = f"The check {each.name!r} gave {answer[:500]!r}; it should give {each.expect!r}."
                self.add(
                    "assertion-not-met", each.name, text, "Look at the data the check asks for, on production too."
                )

    def _measure_rpo(self, server: ScratchServer) -> None:
        recoverable = self.chosen.recoverable_to
        lost = max(0.0, (self.started - recoverable).total_seconds())
        target = self.expectations.rpo_minutes
        kept: dict[str, Any] = {
            "target_minutes": target,
            "actual_seconds": round(lost, 3),
            "recoverable_to": iso(recoverable),
        }
        self.evidence["rpo"] = kept
        if self.expectations.newest_row_sql:
            try:
                answer = server.ask(self.expectations.newest_row_sql, self.expectations.newest_row_database)
                kept["newest_row"] = answer
                newest = moment_of(answer, self.rules.zone)
                if newest is not None:
                    kept["newest_row_seconds"] = round((self.started - newest).total_seconds(), 3)
            except ContinuityError as error:
                self.add("newest-row-failed", "", f"newest_row_sql failed: {error.message}", "Correct the query.")
        judged = self.chosen.lineage is not None and not self.target.in_the_logs
        if target is not None and judged and lost > target * 60:
            text = f"The copy ends {lost / 60:.1f} minutes before the test began; the target (RPO) is {target:g}."
            self.add("rpo-missed", "", text, "Look whether the log cycles run: the playbook status tells.")

    def finish(self) -> dict[str, Any]:
        """Return the evidence, whole."""
        ended = datetime.now(timezone.utc)
        self.evidence.update(
            {
                "result": "failed" if self.findings else "succeeded",
                "started_at": iso(self.started),
                "finished_at": iso(ended),
                "duration_seconds": round(monotonic() - self._began, 3),
                "phases": dict(self._phases),
                "findings": self.findings[:200],
                "notes": self.notes[:50],
                "attested": False,
            }
        )
        return self.evidence


def moment_of(text: str, zone: str) -> Optional[datetime]:
    """Return the moment a query answered, None where it is none; without an offset it is meant in the site's zone."""
    candidate = text.strip()
    if ":" not in candidate:
        candidate += "T00:00:00"
    candidate = re.sub(r"([+-]\d\d)$", r"\1:00", candidate)
    try:
        return parse_moment(candidate)
    except InputError:
        pass
    try:
        return parse_moment(f"{candidate}+00:00").replace(tzinfo=ZoneInfo(zone))
    except InputError:
        return None
