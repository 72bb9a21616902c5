#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module log_shipping."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_shipping
short_description: Set up or take down the stream of a database's log (B3)
version_added: 0.1.0
description:
  - Sets up the receiver of one instance on the backup host, a service that streams the log into the repository's
    staging folder as it is written, and what the server needs for it (such as a replication slot).
  - The service restarts by itself and pauses rather than fill the repository's file system. Secrets stay in the credentials file.
author: The rspon.dbcontinuity authors (@rspon)
options:
  state:
    description: Whether the receiver should be there and run, or be gone.
    type: str
    choices: [present, absent]
    default: present
  supervisor:
    description:
      - What keeps the receiver running. V(process) is for hosts without systemd.
      - It does not survive a reboot; the next run of the calendar starts it again.
    type: str
    choices: [systemd, process]
    default: systemd
  program:
    description: Where the receiver program is installed.
    type: path
    default: /usr/local/libexec/dbcontinuity-receiver
  config_dir:
    description: Folder of the receivers' configurations, one file an instance.
    type: path
    default: /etc/dbcontinuity/receivers
  unit_dir:
    description: Folder of systemd's units.
    type: path
    default: /etc/systemd/system
  python:
    description: The interpreter that runs the program, 3.9 or later.
    type: path
    default: /usr/bin/python3
  user:
    description: Whom the receiver runs as; the user this runs as where none is given.
    type: str
    default: ""
  receiver_id:
    description: The number under which the server knows the stream; the engine chooses one where none is given.
    type: int
  minimum_free_bytes:
    description: Below so many free bytes the stream pauses.
    type: int
    default: 2147483648
attributes:
  check_mode:
    description: Says what would be changed on the server and in files, and changes neither.
    support: full
  diff_mode:
    description: Shows the files before and after; of the program its hash.
    support: full
extends_documentation_fragment:
  - rspon.dbcontinuity.instance
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.actor
"""

EXAMPLES = r"""
- name: Stream the hospital database's log
  rspon.dbcontinuity.log_shipping:
    instance:
      name: simrs
      engine: mariadb
    repository: /srv/dbcontinuity
    user: dbcontinuity
"""

RETURN = r"""
state:
  description: The state that was asked for.
  returned: success
  type: str
service:
  description: The service's name.
  returned: success
  type: str
supervisor:
  description: What keeps it running.
  returned: success
  type: str
changes:
  description: What was, or would be, changed.
  returned: success
  type: list
  elements: str
running:
  description: Whether the receiver runs.
  returned: success
  type: bool
status:
  description: What the receiver says of itself.
  returned: success
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.bridge import (
    ACTOR_OPTIONS,
    INSTANCE_OPTIONS,
    REPOSITORY_OPTIONS,
    answer,
    instance_from,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_shipping import (
    LogShippingRequest,
    log_shipping,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "supervisor": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
            "program": {"type": "path", "default": "/usr/local/libexec/dbcontinuity-receiver"},
            "config_dir": {"type": "path", "default": "/etc/dbcontinuity/receivers"},
            "unit_dir": {"type": "path", "default": "/etc/systemd/system"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "user": {"type": "str", "default": ""},
            "receiver_id": {"type": "int"},
            "minimum_free_bytes": {"type": "int", "default": 2 * 1024**3},
            **REPOSITORY_OPTIONS,
            **ACTOR_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        request = LogShippingRequest(
            instance=instance_from(params["instance"]),
            repository=repository_from(params),
            state=params["state"],
            supervisor=params["supervisor"],
            program=Path(params["program"]),
            config_dir=Path(params["config_dir"]),
            unit_dir=Path(params["unit_dir"]),
            python=Path(params["python"]),
            user=params["user"],
            receiver_id=params["receiver_id"],
            minimum_free_bytes=params["minimum_free_bytes"],
            check_only=module.check_mode,
            actor=params["actor"],
            run=params["run"],
        )
        return log_shipping(request)

    answer(module, work)


if __name__ == "__main__":
    main()
