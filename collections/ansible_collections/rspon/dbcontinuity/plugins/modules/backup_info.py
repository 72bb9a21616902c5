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
  - With O(status) it also says how things stand, by the ledger and the calendar.
author: The rspon.dbcontinuity authors (@rspon)
options:
  names:
    description: Instances to tell of; all that the repository holds where none are given.
    type: list
    elements: str
    default: []
  status:
    description: Tell how things stand, too; it reads the ledger's end.
    type: bool
    default: false
  schedule_file:
    description:
      - The calendar that is installed on this host, for O(status).
      - Where there is none, nothing is due, and the status says so.
    type: path
    default: /etc/dbcontinuity/schedule.json
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

- name: How things stand
  rspon.dbcontinuity.backup_info:
    repository: /srv/dbcontinuity
    status: true
  register: backups
  failed_when: backups.status.colour == 'red'
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
status:
  description:
    - How things stand; C(docs/status.schema.json) is its schema. C(colour) is V(green), V(amber) or V(red), C(reasons) say why.
    - C(instances) holds the same by name, with what each could be brought back to, how fast, from what, and what is due.
  returned: with O(status)
  type: dict
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
    SCHEDULE_OPTIONS,
    answer,
    repository_from,
    schedule_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.backup_info import backup_info
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.status import status


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "default": []},
            "status": {"type": "bool", "default": False},
            **SCHEDULE_OPTIONS,
            **REPOSITORY_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        path, names = repository_from(module.params), module.params["names"]
        found = backup_info(path, names)
        if module.params["status"]:
            found["status"] = status(path, names, schedule_from(module.params), info=found)
        return found

    answer(module, work)


if __name__ == "__main__":
    main()
