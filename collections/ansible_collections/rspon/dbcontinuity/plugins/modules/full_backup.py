#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module full_backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: full_backup
short_description: Make a full backup of a database server or of folders (B1, B2)
version_added: 0.1.0
description:
  - Makes one full backup set of an instance in the repository on this host, compressed, encrypted and hashed on the way, and publishes it whole or not at all.
  - Refuses before anything is written where a tool, a privilege, a version or the space is missing.
  - A set that is already there for O(slot) makes this a no-op.
author: The rspon.dbcontinuity authors (@rspon)
options:
  slot:
    description:
      - When this backup was due, ISO 8601 with a UTC offset. A whole set for it is there already, then nothing is done.
      - Without a slot a set is made at each call.
    type: str
  force:
    description: Make one more set although the slot has its own.
    type: bool
    default: false
  window:
    description: The window of local time that the backup should keep. It runs all the same, and says whether it did.
    type: dict
    suboptions:
      zone:
        description: Name of the time zone.
        type: str
        required: true
      start:
        description: C(HH:MM), quoted.
        type: str
        required: true
      end:
        description: C(HH:MM), quoted.
        type: str
        required: true
attributes:
  check_mode:
    description: Inspects server, privileges, tools, keys and space, and says what would be done.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.instance
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.protection
  - rspon.dbcontinuity.actor
  - rspon.dbcontinuity.progress
"""

EXAMPLES = r"""
- name: Back up the hospital's database
  rspon.dbcontinuity.full_backup:
    instance:
      name: simrs
      engine: mariadb
      agent:
        transport: ssh
        host: db1.example.org
    repository: /srv/dbcontinuity
    recipients:
      - age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    identity_file: /etc/dbcontinuity/keys/operations.key
    slot: "2026-09-19T12:00:00+07:00"
    window:
      zone: Asia/Jakarta
      start: "12:00"
      end: "12:30"
"""

RETURN = r"""
set:
  description: The set's name, UTC stamp and sequence.
  returned: when there is a set
  type: str
  sample: 20260919T050003Z-0001
path:
  description: The set's folder.
  returned: when there is a set
  type: str
manifest_sha256:
  description: Hash of the set's manifest, as the ledger keeps it.
  returned: when there is a set
  type: str
size_bytes:
  description: Bytes of all artefacts as stored.
  returned: when there is a set
  type: int
duration_seconds:
  description: From the start to the last artefact.
  returned: when there is a set
  type: float
lineage:
  description: The history the set belongs to; empty without recovery to a point in time.
  returned: when there is a set
  type: str
position:
  description: Start and end position in the log, in the engine's terms.
  returned: when there is a set
  type: dict
point_in_time_recovery:
  description: Whether logs can be applied to this set (B3).
  returned: when there is a set
  type: bool
window:
  description: When the window opened and closed (UTC), whether it was kept, seconds late and overrun.
  returned: when a window was given
  type: dict
objects:
  description: Objects counted, by kind.
  returned: when a set was or would be made
  type: dict
notes:
  description: What was noticed; also shown as warnings.
  returned: when there is anything
  type: list
  elements: str
cleaned:
  description: What an interrupted run had left and this one removed.
  returned: when a set was made
  type: list
  elements: str
plan:
  description: What would be done.
  returned: in check mode
  type: dict
reason:
  description: Why nothing was done.
  returned: when nothing was done
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
    instance_from,
    progress_from,
    protection_from,
    repository_from,
    window_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)

WINDOW_OPTIONS = {
    "zone": {"type": "str", "required": True},
    "start": {"type": "str", "required": True},
    "end": {"type": "str", "required": True},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "slot": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "window": {"type": "dict", "options": WINDOW_OPTIONS},
            **REPOSITORY_OPTIONS,
            **PROTECTION_OPTIONS,
            **ACTOR_OPTIONS,
            **PROGRESS_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        request = FullBackupRequest(
            instance=instance_from(params["instance"]),
            repository=repository_from(params),
            protection=protection_from(params),
            slot=parse_moment(params["slot"], "slot") if params["slot"] else None,
            window=window_from(params["window"]),
            force=params["force"],
            check_only=module.check_mode,
            actor=params["actor"],
            run=params["run"],
        )
        return full_backup(request, progress_from(params))

    answer(module, work)


if __name__ == "__main__":
    main()
