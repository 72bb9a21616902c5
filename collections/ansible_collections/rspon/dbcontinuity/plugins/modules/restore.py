#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module restore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Bring an instance, or a part of it, back to any recoverable moment (D4, R1, R2, R3)
version_added: 0.1.0
description:
  - Brings the moment up as a throwaway server in a non-active folder on this host, looks at it, and only then brings its data to production.
  - Needs the recorded instruction of the head of Instalasi SIRS for exactly this (M(rspon.dbcontinuity.approval_record)), and the instance's name typed.
  - A full restore exchanges production's data directory by rename; the old one stays beside it and is named. The restored server begins a new history, so
    status is red until a new full backup is there.
  - Out of a set of the method V(logical) a full restore brings back the moment of the dump, loaded into a new server whose files production then runs
    on; O(target) is V(latest) or V(set) then. RV(plan) names what no dump holds.
  - A restore that fails leaves production as it was, or says exactly what is where. One that was interrupted is healed by the same restore again.
  - Production is reached through an agent that the playbook C(restore) puts there for one restore and removes afterwards.
author: The rspon.dbcontinuity authors (@rspon)
options:
  state:
    description:
      - V(ranges) tells which moments can be brought back. V(planned) tells what a restore would do. V(restored) does it.
      - In check mode V(restored) is V(planned).
    type: str
    choices: [ranges, planned, restored]
    default: planned
  folder:
    description: The non-active folder on this host, as for M(rspon.dbcontinuity.restore_test). Not needed for O(state=ranges).
    type: path
  channel:
    description: How production's restore agent is reached.
    type: dict
    suboptions:
      transport:
        description: V(ssh), or V(local) where this host is production itself.
        type: str
        choices: [local, ssh]
        default: local
      program:
        description: The restore agent's path, for V(local).
        type: path
        default: /usr/local/libexec/dbcontinuity-restore-agent
      config_dir:
        description: The agent's folder of allowed instances, for V(local).
        type: path
        default: /etc/dbcontinuity/agent
      host:
        description: Name or address of the production host, for V(ssh).
        type: str
      user:
        description: Login on the production host.
        type: str
        default: root
      port:
        description: Port of its SSH server.
        type: int
        default: 22
      identity_file:
        description: The private key that may run the restore agent there, made for this restore.
        type: path
        default: /run/dbcontinuity/restore_key
      known_hosts_file:
        description: The pinned keys of the production hosts.
        type: path
        default: /etc/dbcontinuity/ssh/known_hosts
  scope:
    description:
      - What is brought back. V(full) stands alone.
      - Else one or several of C(database:NAME), C(schema:DB.SCHEMA), C(table:DB.TABLE), C(table:DB.SCHEMA.TABLE), C(folder:/path), C(file:/path).
    type: list
    elements: str
    default: [full]
  target:
    description:
      - The moment. V(latest) is the newest proven one, V(set) the end of a full set alone, of a dump its beginning.
      - V(time), V(gtid) (MariaDB) and V(lsn) (PostgreSQL) are named by O(moment).
    type: str
    choices: [latest, set, time, gtid, lsn]
    default: latest
  moment:
    description: The moment of O(target), such as V(2026-09-19T02:30:00+07:00), V(0-1-1234) or V(0/5000148). A time carries its UTC offset.
    type: str
  set:
    description: Name of the full set to begin with; the newest that leads to the moment where none is given.
    type: str
  lineage:
    description: Which history is meant, where two hold the moment, as after a restore.
    type: str
  record:
    description: Id of the recorded instruction.
    type: str
  confirm:
    description: The instance's name, typed by whoever starts the restore. Only for O(state=restored).
    type: str
  mode:
    description: Of a partial restore. V(beside) loads next to the original and shows the difference, V(replace) exchanges rows. A full one always replaces.
    type: str
    choices: [beside, replace]
    default: beside
  compare:
    description: With O(state=planned), for a partial restore. Bring the copy up and say what differs from production. That takes as long as restoring.
    type: bool
    default: false
  accept_orphans:
    description: Rows that a replaced table leaves without their parents are accepted, as the instruction says.
    type: bool
    default: false
  deep:
    description: Let the engine check every table and index of the copy before it goes to production, as a test restore does. That takes as long.
    type: bool
    default: false
  expectations:
    description: What the copy must answer before it goes to production, as for one instance of M(rspon.dbcontinuity.restore_test).
    type: dict
    default: {}
  user:
    description: Whom the throwaway server runs as; as for M(rspon.dbcontinuity.restore_test).
    type: str
  officials_file:
    description:
      - Who holds which office, as for M(rspon.dbcontinuity.approval_record); its SHA-256 stands in the evidence.
      - It is believed only if nobody but root (or the user this runs as) can change it or a folder on the way to it.
    type: path
    default: /etc/dbcontinuity/officials.json
  timeout_minutes:
    description: How long the replay may take.
    type: int
    default: 1440
  zone:
    description: Time zone of what people read.
    type: str
    default: UTC
attributes:
  check_mode:
    description: Says what would be done, as V(planned) does. Nothing is touched.
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
- name: To which moments can the hospital information system be brought back?
  rspon.dbcontinuity.restore:
    state: ranges
    instance:
      name: simrs
      engine: mariadb
    repository: /srv/dbcontinuity
    zone: Asia/Jakarta

- name: Bring it back to the moment before the mistake
  rspon.dbcontinuity.restore:
    state: restored
    instance:
      name: simrs
      engine: mariadb
    repository: /srv/dbcontinuity
    identity_file: /etc/dbcontinuity/keys/operations.key
    folder: /srv/dbcontinuity-scratch
    channel:
      transport: ssh
      host: db1.example.org
    target: time
    moment: "2026-09-19T02:30:00+07:00"
    record: "0012-SIRS-2026"
    confirm: simrs
    zone: Asia/Jakarta
"""

RETURN = r"""
instance:
  description: The instance's name.
  returned: always
  type: str
ranges:
  description: The moments that can be brought back, newest history first, each with C(from), C(to), positions, sets and a C(text) for people.
  returned: for ranges
  type: list
  elements: dict
plan:
  description:
    - What would be done. Steps, minutes, what will be lost, room, remarks, and C(problems) that forbid it.
    - C(plan_sha256) is what the instruction is bound to.
  returned: when planned
  type: dict
instruction:
  description: On whose word.
  returned: when an instruction was named that covers this
  type: dict
refused:
  description: Why the instruction that was named does not serve.
  returned: when it does not
  type: str
parts:
  description: What a partial restore would do to each part, with the difference.
  returned: when planned with O(compare=true)
  type: dict
items:
  description: What a partial restore did to each part, with the difference. Keys of rows are in neither ledger nor report.
  returned: when restored in part
  type: list
  elements: dict
result:
  description: V(succeeded).
  returned: when restored
  type: str
resolved:
  description: The position restored to, its moment, and the transactions on either side.
  returned: when restored
  type: dict
phases:
  description: Seconds by step.
  returned: when restored
  type: dict
rto:
  description: The target in minutes, and the seconds from the command to the first answered query on production.
  returned: when restored
  type: dict
kept:
  description: What stands aside on production, such as the old data directory, each with C(what) and C(path).
  returned: when restored
  type: list
  elements: dict
follow_ups:
  description: What is to be done next.
  returned: when restored
  type: list
  elements: str
report:
  description: Path of the report.
  returned: when restored
  type: str
report_text:
  description: The report.
  returned: when restored
  type: str
run:
  description: The run's id in the ledger.
  returned: when restored
  type: str
  sample: 20260919T050003Z-1f2e3d4c
ledger_head:
  description: Number and SHA-256 of the ledger's newest record.
  returned: when restored
  type: str
  sample: "412:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
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
  description:
    - Values that belong to the failure. Once production was to be restored, C(result) says in which state it is, and C(report), C(report_text) are as above.
  returned: on failure
  type: dict
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.officials import OFFICIALS_FILE
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
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.channel import Channel
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import absolute, between
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import (
    RestoreRequest,
    plan,
    ranges,
    restore,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations

CHANNEL_OPTIONS: dict[str, Any] = {
    "transport": {"type": "str", "choices": ["local", "ssh"], "default": "local"},
    "program": {"type": "path", "default": "/usr/local/libexec/dbcontinuity-restore-agent"},
    "config_dir": {"type": "path", "default": "/etc/dbcontinuity/agent"},
    "host": {"type": "str"},
    "user": {"type": "str", "default": "root"},
    "port": {"type": "int", "default": 22},
    "identity_file": {"type": "path", "default": "/run/dbcontinuity/restore_key"},
    "known_hosts_file": {"type": "path", "default": "/etc/dbcontinuity/ssh/known_hosts"},
}


def request_from(params: Mapping[str, Any]) -> RestoreRequest:
    """Return what the module's parameters ask for.

    :raises InputError: for a value that cannot be used.
    """
    if not params["folder"] and params["state"] != "ranges":
        raise InputError("No scratch folder is named.", "Set folder to a non-active folder on this host.")
    name = params["instance"]["name"]
    channel = {key: value for key, value in (params["channel"] or {}).items() if value is not None}
    return RestoreRequest(
        instance=instance_from(params["instance"]),
        repository=repository_from(params),
        protection=protection_from(params),
        folder=absolute(params["folder"], "folder") if params["folder"] else Path("/nonexistent"),
        channel=Channel(**channel),
        scope=tuple(params["scope"]),
        target=Target.parse(params["target"], params["moment"] or ""),
        set_name=params["set"] or "",
        lineage=params["lineage"] or "",
        record=params["record"] or "",
        confirm=params["confirm"] or "",
        mode=params["mode"],
        compare=params["compare"],
        accept_orphans=params["accept_orphans"],
        deep=params["deep"],
        expectations=Expectations.from_json(name, params["expectations"]),
        user=params["user"] or "",
        timeout_seconds=60.0 * between(params["timeout_minutes"], 1, 100_000, "timeout_minutes"),
        zone=params["zone"],
        officials_file=absolute(params["officials_file"], "officials_file"),
        actor=params["actor"],
        run=params["run"],
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "state": {"type": "str", "choices": ["ranges", "planned", "restored"], "default": "planned"},
            "folder": {"type": "path"},
            "channel": {"type": "dict", "options": CHANNEL_OPTIONS},
            "scope": {"type": "list", "elements": "str", "default": ["full"]},
            "target": {"type": "str", "choices": ["latest", "set", "time", "gtid", "lsn"], "default": "latest"},
            "moment": {"type": "str"},
            "set": {"type": "str"},
            "lineage": {"type": "str"},
            "record": {"type": "str"},
            "confirm": {"type": "str"},
            "mode": {"type": "str", "choices": ["beside", "replace"], "default": "beside"},
            "compare": {"type": "bool", "default": False},
            "accept_orphans": {"type": "bool", "default": False},
            "deep": {"type": "bool", "default": False},
            "expectations": {"type": "dict", "default": {}},
            "user": {"type": "str"},
            "officials_file": {"type": "path", "default": str(OFFICIALS_FILE)},
            "timeout_minutes": {"type": "int", "default": 1440},
            "zone": {"type": "str", "default": "UTC"},
            **REPOSITORY_OPTIONS,
            **PROTECTION_OPTIONS,
            **ACTOR_OPTIONS,
            **PROGRESS_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, Any]:
        request = request_from(module.params)
        progress = progress_from(module.params)
        if module.params["state"] == "ranges":
            return ranges(request)
        if module.params["state"] == "planned" or module.check_mode:
            made = plan(request, progress)
            # A plan alone changes nothing; in check mode it tells what the restore would change.
            made["changed"] = module.params["state"] == "restored"
            return made
        return restore(request, progress)

    answer(module, work)


if __name__ == "__main__":
    main()
