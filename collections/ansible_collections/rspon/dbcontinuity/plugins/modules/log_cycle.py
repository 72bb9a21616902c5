#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module log_cycle."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_cycle
short_description: Take delivery of the logs and prove that the chain has no hole (B3)
version_added: 0.1.0
description:
  - For all instances in one call, side by side. Closes the log where anything happened, fetches what is closed, proves
    each file and its join to the one before, and publishes it compressed and encrypted.
  - Each thing that is wrong with a chain is a finding with the file's name and the remedy. A broken chain stays broken until a new full backup opens a new one.
  - A chain that a full backup is just joining its set to, or that another cycle works on, is waited for, up to a minute.
  - One instance's failure leaves the others alone; the module fails at the end and names them, unless O(fail_on_findings=false).
author: The rspon.dbcontinuity authors (@rspon)
options:
  fail_on_findings:
    description: Fail when an instance failed or has findings. The result holds all instances in either case.
    type: bool
    default: true
attributes:
  check_mode:
    description: Looks at servers and chains, closes no log and fetches nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.instance.list
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.protection
  - rspon.dbcontinuity.actor
"""

EXAMPLES = r"""
- name: Ship the logs
  rspon.dbcontinuity.log_cycle:
    instances:
      - name: simrs
        engine: mariadb
      - name: berkas
        engine: files
    repository: /srv/dbcontinuity
    recipients: "{{ dbc_recipients }}"
"""

RETURN = r"""
failed:
  description: Names of the instances that failed or have findings.
  returned: always
  type: list
  elements: str
instances:
  description: By name, what happened to each instance.
  returned: always
  type: dict
  contains:
    result:
      description: V(good), V(idle), V(finding), V(broken), V(no full backup), V(no log) (the method is V(logical)) or V(failed).
      type: str
    archived:
      description: The logs that were added, with their names, hashes and sizes.
      type: list
      elements: dict
    findings:
      description: Each with C(code), C(file), C(message), C(remedy) and C(breaks_chain).
      type: list
      elements: dict
    recoverable_to:
      description: The newest recoverable moment, UTC.
      type: str
    lag_seconds:
      description: Age of the oldest change that is not in the chain.
      type: float
    lag_bytes:
      description: Log on the server that is not in the chain.
      type: int
    cleaned:
      description: What an interrupted run had left and this one removed.
      type: list
      elements: str
    message:
      description: Why it failed.
      type: str
run:
  description: The run's id in the ledger.
  returned: when something was recorded
  type: str
  sample: 20260919T050003Z-1f2e3d4c
ledger_head:
  description: Number and SHA-256 of the ledger's newest record.
  returned: when something was recorded
  type: str
  sample: "412:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
notes:
  description: What the run warns of, such as damaged lines of the ledger; also shown as warnings.
  returned: when there is anything
  type: list
  elements: str
kind:
  description: What kind of refusal this is, for machines.
  returned: on failure
  type: str
  sample: prerequisite
remedy:
  description: What to do next.
  returned: on failure
  type: str
details:
  description: Values that belong to the failure.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.bridge import (
    ACTOR_OPTIONS,
    INSTANCE_OPTIONS,
    PROTECTION_OPTIONS,
    REPOSITORY_OPTIONS,
    answer,
    fail_where_findings,
    instance_from,
    protection_from,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle

# A full backup holds the chain for moments, to join its set to it; a cycle that a person started, for seconds.
WAIT_SECONDS = 60.0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instances": {"type": "list", "elements": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "fail_on_findings": {"type": "bool", "default": True},
            **REPOSITORY_OPTIONS,
            **PROTECTION_OPTIONS,
            **ACTOR_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        result = log_cycle(
            LogCycleRequest(
                instances=[instance_from(each) for each in params["instances"]],
                repository=repository_from(params),
                protection=protection_from(params),
                check_only=module.check_mode,
                wait_seconds=WAIT_SECONDS,
                actor=params["actor"],
                run=params["run"],
            )
        )
        if params["fail_on_findings"]:
            fail_where_findings(module, result)
        return result

    answer(module, work)


if __name__ == "__main__":
    main()
