#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module backup_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: Tell what the repository holds and to which moments it reaches
version_added: 0.1.0
description:
  - Reads manifests and chain heads only; it is quick, whatever the size.
author: The rspon.dbcontinuity authors (@rspon)
options:
  names:
    description: Instances to tell of; all that the repository holds where none are given.
    type: list
    elements: str
    default: []
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
- name: What is there
  rspon.dbcontinuity.backup_info:
    repository: /srv/dbcontinuity
  register: backups
"""

RETURN = r"""
instances:
  description:
    - By name, C(sets), C(lineages), C(damaged_sets) and the C(recoverable) ranges of each set, newest first.
    - C(ranges) says for each lineage, and each set without logs, which moments can be brought back, as times and as positions.
  returned: always
  type: dict
free_bytes:
  description: Free bytes of the repository's file system.
  returned: always
  type: int
ledger_head:
  description: Number and SHA-256 of the ledger's newest record.
  returned: always
  type: str
at:
  description: When this was read, UTC.
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
    REPOSITORY_OPTIONS,
    answer,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "default": []}, **REPOSITORY_OPTIONS},
        supports_check_mode=True,
    )
    answer(module, lambda: backup_info(repository_from(module.params), module.params["names"]))


if __name__ == "__main__":
    main()
