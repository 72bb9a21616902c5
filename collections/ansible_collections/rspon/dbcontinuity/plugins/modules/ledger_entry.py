#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ledger_entry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_entry
short_description: Add an event to the ledger
version_added: 0.1.0
description:
  - For what people have to say, such as an attestation, a follow-up or a note. Activities write their own records.
author: The rspon.dbcontinuity authors (@rspon)
options:
  activity:
    description: What the event is about, such as V(attestation) or V(follow_up).
    type: str
    required: true
  instance:
    description: The instance concerned, if one is.
    type: str
  data:
    description: Plain values. Never a secret.
    type: dict
    required: true
  once:
    description:
      - Add nothing where the newest event of that activity and instance holds the same data. What is in force is then recorded when it changes,
        and only then.
    type: bool
    default: false
attributes:
  check_mode:
    description: Adds nothing and gives the present head.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.actor
"""

EXAMPLES = r"""
- name: Attest last Friday's test restore
  rspon.dbcontinuity.ledger_entry:
    repository: /srv/dbcontinuity
    activity: attestation
    instance: simrs
    data:
      of_run: 20260918T020000Z-1f2e3d4c
      text: Uji restore disaksikan

- name: Record which calendar is in force, where it is not the recorded one already
  rspon.dbcontinuity.ledger_entry:
    repository: /srv/dbcontinuity
    activity: calendar
    data:
      zone: Asia/Jakarta
      schedule: "{{ dbc_schedule }}"
      scheduler: systemd
      instances: "{{ dbc_instances | list | sort }}"
    once: true
"""

RETURN = r"""
head:
  description: Number and SHA-256 of the newest record.
  returned: always
  type: str
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
    REPOSITORY_OPTIONS,
    answer,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.ledger import ledger_entry


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "activity": {"type": "str", "required": True},
            "instance": {"type": "str"},
            "data": {"type": "dict", "required": True},
            "once": {"type": "bool", "default": False},
            **REPOSITORY_OPTIONS,
            **ACTOR_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        return ledger_entry(
            repository_from(params),
            params["activity"],
            params["data"],
            instance=params["instance"] or "",
            actor=params["actor"],
            run=params["run"],
            once=params["once"],
            check_only=module.check_mode,
        )

    answer(module, work)


if __name__ == "__main__":
    main()
