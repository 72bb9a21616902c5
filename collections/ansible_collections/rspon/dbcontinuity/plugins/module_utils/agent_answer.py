# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent on production says at the end of its stderr: whether the data that came are whole."""

from __future__ import annotations

import json
from typing import Any

from .errors import PipelineError
from .instance import Agent
from .process import Finished, Stage, run

TRAILER = "DBC-AGENT "


def agent_stage(agent: Agent, *words: str, accept_failure: bool = False) -> Stage:
    """Return the stage that has the agent do *words*."""
    return Stage(
        agent.argv(*words),
        label=f"agent {words[0]}",
        accepted=frozenset(range(-64, 256)) if accept_failure else frozenset({0}),
    )


def trailer(finished: Finished) -> dict[str, Any]:
    """Return the agent's last word.

    :raises PipelineError: if it says, or does not say otherwise, that the data are not whole.
    """
    lines = [line for line in finished.stderr.splitlines() if line.startswith(TRAILER)]
    others = "\n".join(line for line in finished.stderr.splitlines() if not line.startswith(TRAILER)).strip()
    try:
        value = json.loads(lines[-1][len(TRAILER) :]) if lines else None
    except ValueError:  # the line itself was cut off
        value = None
    if value is None:
        raise PipelineError(
            f"The agent on production ended with status {finished.status} without saying that its data are whole: "
            f"{others[-1500:] or 'it printed nothing'}",
            "Check the link, the host key and the agent with the playbook preflight.",
            {"stage": finished.name, "status": finished.status},
        )
    if not isinstance(value, dict) or value.get("ok") is not True:
        raise PipelineError(
            f"The agent on production says: {value.get('error', 'no reason given') if isinstance(value, dict) else value}.",
            "",
            {"stage": finished.name, "status": finished.status},
        )
    return value


def ask(agent: Agent, *words: str, timeout: float = 60.0) -> bytes:
    """Return what the agent answers to a small question.

    :raises PipelineError: if it does not answer, or says why it cannot.
    """
    finished = run(agent_stage(agent, *words, accept_failure=True), timeout=timeout, check=False)
    trailer(finished)
    return finished.stdout
