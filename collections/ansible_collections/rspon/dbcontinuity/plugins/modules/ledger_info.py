#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ledger_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_info
short_description: Read the ledger and prove that it was not changed
version_added: 0.1.0
description:
  - Gives the newest records that match, and the head that people write down or print.
author: The rspon.dbcontinuity authors (@rspon)
options:
  verify:
    description: Read the whole ledger and check every hash and the chain.
    type: bool
    default: false
  head:
    description: A head written down earlier, C(NUMBER:SHA256), to be found in the ledger; implies O(verify).
    type: str
  activity:
    description: Only records of this activity.
    type: str
  instance:
    description: Only records of this instance.
    type: str
  since:
    description: Only records from this moment on, ISO 8601 with a UTC offset.
    type: str
  limit:
    description: How many records at the most, the newest.
    type: int
    default: 100
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
- name: Check the ledger against the head on last week's check-list
  rspon.dbcontinuity.ledger_info:
    repository: /srv/dbcontinuity
    head: "412:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
"""

RETURN = r"""
head:
  description: Number and SHA-256 of the newest record.
  returned: always
  type: str
records:
  description: The records, oldest first.
  returned: always
  type: list
  elements: dict
damaged_lines:
  description: Lines that were found damaged when the record after them was written, or stand damaged at the end; with file and line.
  returned: always
  type: list
  elements: str
problems:
  description: Everything that is wrong, as far as the ledger can be read; at most a hundred.
  returned: when verified
  type: list
  elements: str
notes:
  description: What the run warns of, such as damaged lines of the ledger; also shown as warnings.
  returned: when there is anything
  type: list
  elements: str
holds:
  description: Whether the whole chain holds.
  returned: when verified
  type: bool
problem:
  description: The first thing that is wrong, with file and line.
  returned: when verified
  type: str
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
    REPOSITORY_OPTIONS,
    answer,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.ledger import ledger_info


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "verify": {"type": "bool", "default": False},
            "head": {"type": "str"},
            "activity": {"type": "str"},
            "instance": {"type": "str"},
            "since": {"type": "str"},
            "limit": {"type": "int", "default": 100},
            **REPOSITORY_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        return ledger_info(
            repository_from(params),
            verify=params["verify"],
            head=params["head"],
            activity=params["activity"] or "",
            instance=params["instance"] or "",
            since=parse_moment(params["since"], "since") if params["since"] else None,
            limit=params["limit"],
        )

    answer(module, work)


if __name__ == "__main__":
    main()
