#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module backup_verify."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_verify
short_description: Prove that what is stored is what was written
version_added: 0.1.0
description:
  - V(checksum) reads every stored byte once. It checks each artefact against its manifest, each manifest against the
    ledger, each chain of logs from its start to the newest log.
  - V(deep) also decrypts and unpacks, prepares the newest set with the engine's own tool, and proves each log again.
author: The rspon.dbcontinuity authors (@rspon)
options:
  level:
    description: How deep to look.
    type: str
    choices: [checksum, deep]
    default: checksum
  sets:
    description: Full sets for V(deep); the newest of each instance where none are given.
    type: list
    elements: str
    default: []
  head:
    description: A ledger head written down earlier, C(NUMBER:SHA256); a ledger whose end was cut off shows itself only so.
    type: str
  fail_on_findings:
    description: Fail when there are findings. The result holds all instances in either case.
    type: bool
    default: true
attributes:
  check_mode:
    description: Verifies all the same, and leaves no record in the ledger.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.instance.list
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.protection
  - rspon.dbcontinuity.actor
  - rspon.dbcontinuity.progress
"""

EXAMPLES = r"""
- name: Prove every stored byte
  rspon.dbcontinuity.backup_verify:
    instances:
      - name: simrs
        engine: mariadb
    repository: /srv/dbcontinuity
"""

RETURN = r"""
failed:
  description: Names of the instances with findings.
  returned: always
  type: list
  elements: str
instances:
  description: By name, the sets and logs read, and the findings, each with C(code), C(file), C(message) and C(remedy).
  returned: always
  type: dict
ledger:
  description: Records read, head, and the first problem, if any.
  returned: always
  type: dict
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
    PROGRESS_OPTIONS,
    PROTECTION_OPTIONS,
    REPOSITORY_OPTIONS,
    answer,
    fail_where_findings,
    instance_from,
    progress_from,
    protection_from,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_verify import (
    VerifyRequest,
    backup_verify,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instances": {"type": "list", "elements": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "level": {"type": "str", "choices": ["checksum", "deep"], "default": "checksum"},
            "sets": {"type": "list", "elements": "str", "default": []},
            "head": {"type": "str"},
            "fail_on_findings": {"type": "bool", "default": True},
            **REPOSITORY_OPTIONS,
            **PROTECTION_OPTIONS,
            **ACTOR_OPTIONS,
            **PROGRESS_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        result = backup_verify(
            VerifyRequest(
                instances=[instance_from(each) for each in params["instances"]],
                repository=repository_from(params),
                protection=protection_from(params),
                level=params["level"],
                sets=params["sets"],
                head=params["head"],
                check_only=module.check_mode,
                actor=params["actor"],
                run=params["run"],
            ),
            progress_from(params),
        )
        if params["fail_on_findings"]:
            fail_where_findings(module, result)
        return result

    answer(module, work)


if __name__ == "__main__":
    main()
