#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module approval_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: approval_info
short_description: Say where recorded instructions stand
version_added: 0.1.0
description:
  - Gives the records below C(approvals/) of the repository, each held against the ledger, and which of them somebody has to see
    to.
author: The rspon.dbcontinuity authors (@rspon)
options:
  id:
    description: This record only. One that does not exist is an error.
    type: raw
  instance:
    description: Only records of this instance, and those that cannot be read.
    type: str
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.repository
"""

EXAMPLES = r"""
- name: See which instructions by telephone still have to be signed
  rspon.dbcontinuity.approval_info:
    repository: /srv/dbcontinuity
  register: approvals
  failed_when: approvals.red | length > 0
"""

RETURN = r"""
records:
  description:
    - The records by id, those named by their time oldest first.
    - One that is not as it was written has C(id), C(state), C(reason), C(red) and C(usable) alone.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The record's id.
      type: str
    kind:
      description: What is approved.
      type: str
    instance:
      description: The instance.
      type: str
    state:
      description: V(valid), V(not yet valid), V(expired), V(used), V(waiting for countersignature), V(overdue) or V(altered).
      type: str
    reason:
      description: Why it is in that state.
      type: str
    red:
      description:
        - Whether somebody has to see to it. An instruction by telephone is red until it is countersigned.
      type: bool
    usable:
      description: Whether a restore may still be made under it, as far as time goes.
      type: bool
    record:
      description: What the record says; every value is text.
      type: dict
    record_sha256:
      description: SHA-256 of the record's file.
      type: str
    countersignature:
      description: What the countersignature says, if there is one.
      type: dict
    bound:
      description: The plan, run and time of its first use, if there was one.
      type: dict
    used:
      description: The plan, run and time of the restore that succeeded, if one did.
      type: dict
red:
  description: The ids of the records that somebody has to see to.
  returned: always
  type: list
  elements: str
kind:
  description: What kind of refusal this is, for machines.
  returned: on failure
  type: str
  sample: approval
remedy:
  description: What to do next.
  returned: on failure
  type: str
details:
  description: Values that belong to the failure.
  returned: on failure
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.bridge import (
    REPOSITORY_OPTIONS,
    answer,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.approval import approval_info


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"id": {"type": "raw"}, "instance": {"type": "str"}, **REPOSITORY_OPTIONS},
        supports_check_mode=True,
    )

    def work() -> dict[str, Any]:
        params = module.params
        return approval_info(
            repository_from(params),
            "" if params["id"] is None else params["id"],
            instance=params["instance"] or "",
        )

    answer(module, work)


if __name__ == "__main__":
    main()
