#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module restore_test."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_test
short_description: Prove that backups can be brought back (D3, T1, T2)
version_added: 0.1.0
description:
  - Brings each instance back into a non-active folder on this host, as a throwaway server that nothing can reach, looks at everything in it, and destroys it.
  - For each instance checks the checksums of set and logs, lets the engine verify the set, starts it, replays the shipped logs to the newest proven moment,
    counts objects and rows, asks the site's questions, lets the engine check every table and index, and measures RTO and RPO.
  - One instance's failure leaves the others alone. Each failure names its cause.
  - All figures go into the ledger, and into a report in the form of a check-list below C(reports) of the repository. The test waits for a staff member's
    attestation, given with M(rspon.dbcontinuity.ledger_entry).
author: The rspon.dbcontinuity authors (@rspon)
options:
  folder:
    description:
      - The non-active folder, an absolute path. It is new, empty, or was used by this module alone.
      - Refused where it is, contains, or lies in the repository or a folder of a running database server; behind a symbolic link; without room.
      - The throwaway servers' user must be able to get to it.
    type: path
    required: true
  target:
    description:
      - The moment to come back to. V(latest) is the end of the newest proven log, V(set) the full set alone.
      - V(time), V(gtid) and V(lsn) name it in O(moment). It is found by reading the logs; the result says which transactions are on either side.
      - The newest full set that leads there is taken. A moment that cannot be brought back is refused, with the ranges that can.
    type: str
    choices: [latest, set, time, gtid, lsn]
    default: latest
  moment:
    description:
      - For V(time) an ISO 8601 time with its UTC offset, such as V(2026-09-19T02:30:00+07:00). Every transaction is there before the first one whose time is
        later. MariaDB's logs tell times to the second, when the committing statement began; all of the second named is there. PostgreSQL's tell microseconds.
        Of folders it is the newest set or archive of changes that was finished by then.
      - For V(gtid) one GTID of MariaDB, such as V(0-1-1234). That transaction is there, and all before it in the log, of whatever domain.
      - For V(lsn) an address in PostgreSQL's log, such as V(0/5000148). Every transaction is there whose commit record ends at or before it; what
        C(pg_current_wal_lsn()) answers, and every position that this collection shows, is such an address.
    type: str
  set:
    description: Name of the full set; the newest of each instance that leads to the moment where none is given.
    type: str
  lineage:
    description: Name of the history that is meant, where more than one holds the moment. M(rspon.dbcontinuity.backup_info) names them.
    type: str
  untested:
    description:
      - Test only the instances whose newest full set no test restore on record in the ledger has succeeded with, so that each backup is tested soon
        after it was made.
      - Where none is left, nothing is done, nothing is recorded, and the module succeeds; RV(left_out) says why. With O(target) V(latest) or V(set),
        without O(set) and O(moment).
    type: bool
    default: false
  expectations:
    description:
      - By instance name, what the copy must answer. C(checks) is a list of C(name), C(sql), C(expect) and C(database); C(expect) is the single value, or a
        comparison such as C(>= 1000).
      - C(newest_row_sql), with C(newest_row_database), gives the time of the newest business row, for the real RPO.
      - C(rto_minutes) and C(rpo_minutes) are the site's targets; missing one is a finding.
    type: dict
    default: {}
  user:
    description:
      - Whom the throwaway servers run as.
      - Where this runs as root, by default C(mysql) or C(postgres), or C(dbcontinuity) where there is none; else the present user.
    type: str
  shrink_percent:
    description: A table with more than so many percent fewer rows than at the last test that succeeded is a finding.
    type: int
    default: 20
  accept_shrinking:
    description: Names of tables that may have shrunk or gone, as findings write them; V(all) for every table.
    type: list
    elements: str
    default: []
  timeout_minutes:
    description: How long the replay of one instance's logs may take.
    type: int
    default: 360
  wait_minutes:
    description:
      - How long to wait while another test restore, or a restore, works in O(folder). With V(0) this one is refused at once.
      - With O(untested), what the other one has tested meanwhile is left out.
    type: int
    default: 0
  zone:
    description: Time zone of the report.
    type: str
    default: UTC
  fail_on_findings:
    description: Fail when there are findings. The result holds all instances in either case.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says what would be tested, and whether folder, room, tools and chain allow it. Nothing is written.
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
- name: Test the restore of the hospital information system
  rspon.dbcontinuity.restore_test:
    instances:
      - name: simrs
        engine: mariadb
    repository: /srv/dbcontinuity
    identity_file: /etc/dbcontinuity/keys/operations.key
    folder: /srv/dbcontinuity-scratch
    zone: Asia/Jakarta
    expectations:
      simrs:
        checks:
          - name: there are patients
            sql: SELECT COUNT(*) FROM simrs.pasien
            expect: ">= 100000"
        newest_row_sql: SELECT MAX(waktu) FROM simrs.log_akses
        rto_minutes: 120
        rpo_minutes: 10

- name: Test every new full backup, and nothing twice
  rspon.dbcontinuity.restore_test:
    instances:
      - name: simrs
        engine: mariadb
    repository: /srv/dbcontinuity
    identity_file: /etc/dbcontinuity/keys/operations.key
    folder: /srv/dbcontinuity-scratch
    untested: true

- name: Look whether last night can be brought back
  rspon.dbcontinuity.restore_test:
    instances:
      - name: simrs
        engine: mariadb
    repository: /srv/dbcontinuity
    identity_file: /etc/dbcontinuity/keys/operations.key
    folder: /srv/dbcontinuity-scratch
    target: time
    moment: "2026-09-19T02:30:00+07:00"
"""

RETURN = r"""
failed:
  description: Names of the instances with findings.
  returned: always
  type: list
  elements: str
instances:
  description:
    - By name, C(result), all figures of the test, and the findings, each with C(code), C(file), C(message) and C(remedy).
    - C(resolved) says where the target was found, with the transactions C(before) and C(after) it, each with C(moment) and C(position).
  returned: always
  type: dict
left_out:
  description: With O(untested), by name, why an instance was not tested.
  returned: success
  type: dict
  sample: {simrs: "its newest full backup 20260919T050003Z-0001 was brought back by run 20260919T110001Z-1f2e3d4c"}
report:
  description: Path of the report.
  returned: when something was tested
  type: str
report_text:
  description: The report.
  returned: when something was tested
  type: str
cleaned:
  description: What an aborted run had left in the folder and was destroyed.
  returned: when something was tested
  type: list
  elements: dict
run:
  description: The run's id in the ledger.
  returned: when something was tested
  type: str
  sample: 20260919T050003Z-1f2e3d4c
ledger_head:
  description: Number and SHA-256 of the ledger's newest record.
  returned: when something was tested
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
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.scratch import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import absolute, between
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore_test import (
    RestoreTestRequest,
    restore_test,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.restore_evidence import Expectations


def expectations_from(values: dict[str, object]) -> dict[str, Expectations]:
    """Return what each instance's copy must answer."""
    found = {}
    for name, value in values.items():
        if not isinstance(value, dict):
            raise InputError(
                f"The expectations of {name} are no mapping.", "Write checks, rto_minutes … below its name."
            )
        found[name] = Expectations.from_json(name, value)
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instances": {"type": "list", "elements": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "folder": {"type": "path", "required": True},
            "target": {"type": "str", "choices": ["latest", "set", "time", "gtid", "lsn"], "default": "latest"},
            "moment": {"type": "str"},
            "set": {"type": "str"},
            "lineage": {"type": "str"},
            "untested": {"type": "bool", "default": False},
            "expectations": {"type": "dict", "default": {}},
            "user": {"type": "str"},
            "shrink_percent": {"type": "int", "default": 20},
            "accept_shrinking": {"type": "list", "elements": "str", "default": []},
            "timeout_minutes": {"type": "int", "default": 360},
            "wait_minutes": {"type": "int", "default": 0},
            "zone": {"type": "str", "default": "UTC"},
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
        result = restore_test(
            RestoreTestRequest(
                instances=[instance_from(each) for each in params["instances"]],
                repository=repository_from(params),
                protection=protection_from(params),
                folder=absolute(params["folder"], "folder"),
                target=Target.parse(params["target"], params["moment"] or ""),
                untested=params["untested"],
                set_name=params["set"] or "",
                lineage=params["lineage"] or "",
                expectations=expectations_from(params["expectations"]),
                user=params["user"] or "",
                shrink_percent=between(params["shrink_percent"], 0, 100, "shrink_percent"),
                accept_shrinking=params["accept_shrinking"],
                timeout_seconds=60.0 * between(params["timeout_minutes"], 1, 10080, "timeout_minutes"),
                wait_seconds=60.0 * between(params["wait_minutes"], 0, 10080, "wait_minutes"),
                zone=params["zone"],
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
