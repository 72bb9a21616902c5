#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module checklist."""

from __future__ import annotations

DOCUMENTATION = r"""
module: checklist
short_description: Write the check-list of what was done, held against the calendar
version_added: 0.1.0
description:
  - Clause B5 of the SPO. Each activity of the calendar has a row for every instance, also where there is nothing to report.
  - It reads the ledger and writes C(reports/checklist-PERIOD.txt) and C(.json) in the repository. A fact that cannot be
    read is named in it; it is written all the same.
  - A row that is not good does not fail the module. The check-list tells of it.
author: The rspon.dbcontinuity authors (@rspon)
options:
  schedule_file:
    description: The calendar that is installed on this host. It says when a check-list is due, and the zone of its times.
    type: path
    default: /etc/dbcontinuity/schedule.json
  language:
    description: Language of the text, Bahasa Indonesia or English.
    type: str
    choices: [id, en]
    default: id
  period_end:
    description:
      - End of the period, ISO 8601 with an offset.
      - The newest due time of a check-list where it is not given; the present where no calendar is installed.
    type: str
  period_days:
    description:
      - Length of the period in days, up to 400.
      - V(0) means back to the check-list's due time before, a week where no calendar is installed.
    type: int
    default: 0
  zone:
    description: Time zone of the times that are printed where no calendar names one.
    type: str
    default: UTC
attributes:
  check_mode:
    description: Gives the text and writes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.actor
"""

EXAMPLES = r"""
- name: Write the check-list of the last week
  rspon.dbcontinuity.checklist:
    repository: /srv/dbcontinuity

- name: Write the check-list of thirty days in English
  rspon.dbcontinuity.checklist:
    repository: /srv/dbcontinuity
    language: en
    period_end: "2026-12-01T07:00:00+07:00"
    period_days: 30
"""

RETURN = r"""
report:
  description: Path of the text.
  returned: on success
  type: str
report_json:
  description: Path of the same as JSON, of which C(docs/checklist.schema.json) is the schema.
  returned: on success
  type: str
report_text:
  description: The text.
  returned: on success
  type: str
period:
  description: Its C(since) and C(until), UTC.
  returned: on success
  type: dict
summary:
  description: How many rows are in which state.
  returned: on success
  type: dict
  sample: {"done": 11, "failed": 0, "late": 1, "not due": 2, "not run": 0, "out of window": 0, "running": 0}
not_known:
  description: What could not be read, and why.
  returned: on success
  type: list
  elements: dict
sha256:
  description: SHA-256 of both files by name, as the ledger has them.
  returned: on success
  type: dict
run:
  description: Name of the run in the ledger.
  returned: on success
  type: str
ledger_head:
  description: Number and SHA-256 of the newest record.
  returned: on success, unless in check mode
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
    SCHEDULE_OPTIONS,
    answer,
    repository_from,
    schedule_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.checklist import (
    ChecklistRequest,
    checklist,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "language": {"type": "str", "choices": ["id", "en"], "default": "id"},
            "period_end": {"type": "str"},
            "period_days": {"type": "int", "default": 0},
            "zone": {"type": "str", "default": "UTC"},
            **SCHEDULE_OPTIONS,
            **REPOSITORY_OPTIONS,
            **ACTOR_OPTIONS,
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, object]:
        params = module.params
        return checklist(
            ChecklistRequest(
                repository_from(params),
                schedule_from(params),
                params["language"],
                parse_moment(params["period_end"], "period_end") if params["period_end"] else None,
                params["period_days"],
                params["zone"],
                module.check_mode,
                params["actor"],
                params["run"],
            )
        )

    answer(module, work)


if __name__ == "__main__":
    main()
