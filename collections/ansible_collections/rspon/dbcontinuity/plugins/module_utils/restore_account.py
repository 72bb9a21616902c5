# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ledger and report are told of a restore: when it begins, when it fails, when it is over."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .approvals.gate import HeldInstruction
from .clock import iso, utc_now
from .durable import make_directory, write_file
from .errors import ApprovalError, ContinuityError
from .report_layout import LANGUAGES
from .repository import Repository
from .restore_evidence import Expectations
from .restore_order_evidence import RestoreEvidence
from .restore_order_report import restore_report_text
from .restore_plan import FullPlan, RestorePlan
from .restore_run import UNDER_WAY, Steps

ACTIVITY = "restore"


class Work(Protocol):
    """A restore under way, full or of parts."""

    steps: Steps
    evidence: dict[str, Any]
    touched: bool


def described(
    plan: RestorePlan,
    instruction: HeldInstruction,
    expectations: Expectations,
    run: str,
    actor: Mapping[str, str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return what is known of a restore when it begins."""
    values = plan.found.set.manifest.values
    lost = plan.lost(bool(plan.full.look.get("answers")))
    parts = plan.full.parts() if isinstance(plan, FullPlan) else []
    return {
        "run": run,
        "instance": plan.full.instance.name,
        "engine": plan.full.instance.engine,
        "host": plan.channel.host or socket.gethostname(),
        "place": ", ".join(part.path for part in parts),
        "scope": list(plan.scope),
        "mode": plan.mode,
        "target": plan.target.to_json(),
        "resolved": plan.found.resolved.to_json(),
        "plan_sha256": plan.digest,
        "instruction": dict(instruction.to_evidence()),
        "source": {
            "medium": "repository",
            "set": plan.found.set.id,
            "made_at": values["finished_at"],
            "manifest_sha256": plan.found.set.manifest_sha256,
            "engine": values["engine"],
            "version": values["server"]["version"],
            "logs": len(plan.source.logs),
            "last_log": plan.source.logs[-1].name if plan.source.logs else "",
            "unproven": plan.unproven,
        },
        "started_at": iso(plan.now),
        "lost": lost,
        "rpo": {"target_minutes": expectations.rpo_minutes, "actual_seconds": lost["seconds"]},
        "checks": [],
        "kept": [],
        "findings": [],
        "follow_ups": [],
        "notes": [*notes, *plan.remarks()],
        "actor": dict(actor),
    }


def half_done(error: ApprovalError, made: RestorePlan) -> ApprovalError:
    """Return a refusal that does not leave a production without data unmentioned."""
    if made.journal.get("phase") not in UNDER_WAY:
        return error
    name, run = made.full.instance.name, made.journal["run"]
    return ApprovalError(
        f"{error.message} The restore {run} was interrupted while it was {made.journal['phase']}: production may be without"
        " its data.",
        f"{error.remedy} Any restore of {name} under a valid instruction puts the old data back first; so does, as root on"
        f" production: {made.channel.program} --config {made.channel.config_dir} back {name} {run}",
        error.details,
    )


def failed(work: Work, error: BaseException) -> None:
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


def finish(repository: Repository, evidence: dict[str, Any], steps: Steps, zone: str) -> dict[str, Any]:
    """Write ledger and reports, whatever came out, and return what the caller is told."""
    evidence.update({"finished_at": iso(utc_now()), "phases": dict(steps.seconds)})
    name, run = str(evidence["instance"]), str(evidence["run"])
    head = repository.ledger.append("finished", ACTIVITY, run, instance=name, actor=evidence["actor"], data=evidence)
    reports = repository.root / "reports"
    make_directory(reports)
    texts = {}
    told = RestoreEvidence(**{**evidence, "ledger_head": str(head)})  # type: ignore[typeddict-item]  # built here, key by key
    for language in LANGUAGES:
        texts[language] = restore_report_text(told, zone=zone, language=language)
        write_file(reports / f"restore-{run}.{language}.txt", texts[language].encode())
    return {
        "changed": True,
        **evidence,
        "report": str(reports / f"restore-{run}.{LANGUAGES[0]}.txt"),
        "report_text": texts[LANGUAGES[0]],
        "ledger_head": str(head),
    }
