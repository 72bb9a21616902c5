#!/usr/bin/python
# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module approval_record."""

from __future__ import annotations

DOCUMENTATION = r"""
module: approval_record
short_description: Write down who instructed a restore
version_added: 0.1.0
description:
  - A restore is made on the instruction of the head of Instalasi SIRS (clause R1). This writes the instruction down in the
    repository, below C(approvals/), where the restore asks for it.
  - A record is never changed. One that stands there already under O(id) with the same values is left alone; without
    O(id) each call writes another.
  - With O(countersign) it notes instead that the head has signed what was instructed by telephone.
  - Numbers, dates and times must be texts. YAML reads V(0012) as 10; what arrives here as a number is refused.
author: The rspon.dbcontinuity authors (@rspon)
options:
  id:
    description:
      - The record's id, in letters, digits, dot, dash and underscore. It names the record to a restore.
      - One is made of the time where none is given. Required with O(countersign).
    type: raw
  kind:
    description: What is approved.
    type: str
    choices: [restore]
    default: restore
  instance:
    description: The instance that is to be restored.
    type: str
  scope:
    description:
      - What is to be brought back, such as V(full), V(database:simrs) or V(table:simrs.pasien).
    type: list
    elements: str
  target:
    description: The moment it is brought back to.
    type: dict
    suboptions:
      kind:
        description: How the moment is named.
        type: str
        choices: [latest, set, time, gtid, lsn]
        required: true
      value:
        description: The moment; a time as ISO 8601 with its UTC offset.
        type: raw
  mode:
    description:
      - V(beside) loads it beside what is there, V(replace) replaces that.
      - V(replace) is the default, and the only one, for the scope V(full); else V(beside) is the default.
    type: str
    choices: [beside, replace]
  reason:
    description: Why, in the words of who gave the instruction.
    type: raw
  accepts:
    description:
      - What the instruction takes into the bargain. V(orphans) are rows that are left without the row they refer to.
    type: list
    elements: str
    choices: [orphans]
  ticket:
    description: The number of a ticket.
    type: raw
  instructed_by:
    description: Who gave the instruction, as the list of officials names them.
    type: dict
    suboptions:
      role:
        description: The office.
        type: str
        default: kepala_instalasi_sirs
      name:
        description: The name; that of the list of officials where none is given.
        type: str
      id_number:
        description: The NIP, or what the list of officials has as id.
        type: raw
        required: true
  instructed_at:
    description: When, ISO 8601 with its UTC offset. The date as written is the day on which the person must hold the office.
    type: raw
  letter:
    description: The letter, if the instruction came in writing. Exactly one of O(letter) and O(telephone) is given.
    type: dict
    suboptions:
      number:
        description: Its number.
        type: raw
        required: true
      date:
        description: Its date, YYYY-MM-DD.
        type: raw
        required: true
  telephone:
    description:
      - If the instruction came by telephone, the two persons who stand for it until it is countersigned.
    type: dict
    suboptions:
      heard_by:
        description: Who heard it.
        type: dict
        suboptions:
          name:
            description: The name.
            type: str
            required: true
          id_number:
            description: The NIP or another number.
            type: raw
            required: true
      witness:
        description: Who heard it as well, or saw it noted.
        type: dict
        suboptions:
          name:
            description: The name.
            type: str
            required: true
          id_number:
            description: The NIP or another number.
            type: raw
            required: true
      countersign_hours:
        description: Hours from the instruction until it must be countersigned, 1 to 72.
        type: int
        default: 24
  valid_from:
    description: From when it may be carried out; O(instructed_at) where none is given.
    type: raw
  valid_until:
    description: Until when it may be carried out, ISO 8601 with its UTC offset.
    type: raw
  countersign:
    description: The countersignature of an instruction by telephone. Excludes everything but O(id).
    type: dict
    suboptions:
      by:
        description: Who signed, the head or the appointed deputy.
        type: dict
        required: true
        suboptions:
          role:
            description: The office.
            type: str
            default: kepala_instalasi_sirs
          name:
            description: The name; that of the list of officials where none is given.
            type: str
          id_number:
            description: The NIP, or what the list of officials has as id.
            type: raw
            required: true
      at:
        description: When, ISO 8601 with its UTC offset.
        type: raw
        required: true
      letter:
        description: The letter that was signed.
        type: dict
        required: true
        suboptions:
          number:
            description: Its number.
            type: raw
            required: true
          date:
            description: Its date, YYYY-MM-DD.
            type: raw
            required: true
  officials_file:
    description:
      - Who holds which office. The playbook C(site) writes it from C(dbc_officials).
      - It is believed only if nobody but root (or the user this runs as) can change it or a folder on the way to it.
    type: path
    default: /etc/dbcontinuity/officials.json
attributes:
  check_mode:
    description: Looks at everything, writes nothing, and says what would be written.
    support: full
  diff_mode:
    description: A record is never changed.
    support: none
extends_documentation_fragment:
  - rspon.dbcontinuity.repository
  - rspon.dbcontinuity.actor
"""

EXAMPLES = r"""
- name: Write down an instruction by letter
  rspon.dbcontinuity.approval_record:
    repository: /srv/dbcontinuity
    instance: simrs
    scope: ["table:simrs.pasien"]
    target: {kind: time, value: "2026-11-23T01:10:00+07:00"}
    mode: replace
    reason: Tabel pasien terhapus oleh kesalahan aplikasi
    instructed_by: {id_number: "1005"}
    instructed_at: "2026-11-23T08:00:00+07:00"
    letter: {number: "0012/SIRS/XI/2026", date: "2026-11-23"}
    valid_until: "2026-11-24T08:00:00+07:00"

- name: Write down what was said by telephone at night
  rspon.dbcontinuity.approval_record:
    repository: /srv/dbcontinuity
    instance: simrs
    scope: [full]
    target: {kind: latest}
    reason: Server basis data rusak
    instructed_by: {id_number: "1005"}
    instructed_at: "2026-11-23T02:05:00+07:00"
    telephone:
      heard_by: {name: Contoh Petugas Satu, id_number: "1008"}
      witness: {name: Contoh Petugas Dua, id_number: "1009"}
    valid_until: "2026-11-23T12:00:00+07:00"
  register: instruction

- name: Note the signature on the next morning
  rspon.dbcontinuity.approval_record:
    repository: /srv/dbcontinuity
    id: "{{ instruction.id }}"
    countersign:
      by: {id_number: "1005"}
      at: "2026-11-23T07:45:00+07:00"
      letter: {number: "0013/SIRS/XI/2026", date: "2026-11-23"}
"""

RETURN = r"""
id:
  description: The record's id; empty in check mode where none was given.
  returned: always
  type: str
state:
  description: V(valid), V(not yet valid), V(expired), V(used), V(waiting for countersignature), V(overdue) or V(altered).
  returned: always
  type: str
reason:
  description: Why it is in that state.
  returned: always
  type: str
red:
  description: Whether somebody has to see to it.
  returned: always
  type: bool
usable:
  description: Whether a restore may still be made under it, as far as time goes.
  returned: always
  type: bool
instance:
  description: The instance.
  returned: always
  type: str
record:
  description: What the record says; every value is text.
  returned: always
  type: dict
record_sha256:
  description: SHA-256 of the record's file, as it stands in the ledger; empty in check mode.
  returned: always
  type: str
countersignature:
  description: What the countersignature says, if there is one.
  returned: always
  type: dict
bound:
  description: The plan, run and time of its first use, if there was one.
  returned: always
  type: dict
used:
  description: The plan, run and time of the restore that succeeded, if one did.
  returned: always
  type: dict
ledger_head:
  description: Number and SHA-256 of the ledger's newest record.
  returned: always
  type: str
kind:
  description: The record's kind; on failure what kind of refusal this is, for machines.
  returned: always
  type: str
  sample: restore
remedy:
  description: What to do next.
  returned: on failure
  type: str
details:
  description: Values that belong to the failure; C(details.refusal) says which refusal it is.
  returned: on failure
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.bridge import (
    ACTOR_OPTIONS,
    REPOSITORY_OPTIONS,
    answer,
    repository_from,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import absolute
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.approval import (
    Writing,
    countersign,
    record_instruction,
)

# Raw, not str: Ansible would make a text of a number that YAML has already misread.
_PERSON: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "id_number": {"type": "raw", "required": True},
}
_OFFICIAL: dict[str, Any] = {
    "role": {"type": "str", "default": "kepala_instalasi_sirs"},
    "name": {"type": "str"},
    "id_number": {"type": "raw", "required": True},
}
_LETTER: dict[str, Any] = {
    "number": {"type": "raw", "required": True},
    "date": {"type": "raw", "required": True},
}
_FIELDS: dict[str, Any] = {
    "instance": {"type": "str"},
    "scope": {"type": "list", "elements": "str"},
    "target": {
        "type": "dict",
        "options": {
            "kind": {"type": "str", "choices": ["latest", "set", "time", "gtid", "lsn"], "required": True},
            "value": {"type": "raw"},
        },
    },
    "mode": {"type": "str", "choices": ["beside", "replace"]},
    "reason": {"type": "raw"},
    "accepts": {"type": "list", "elements": "str", "choices": ["orphans"]},
    "ticket": {"type": "raw"},
    "instructed_by": {"type": "dict", "options": _OFFICIAL},
    "instructed_at": {"type": "raw"},
    "letter": {"type": "dict", "options": _LETTER},
    "telephone": {
        "type": "dict",
        "options": {
            "heard_by": {"type": "dict", "options": _PERSON},
            "witness": {"type": "dict", "options": _PERSON},
            "countersign_hours": {"type": "int", "default": 24},
        },
    },
    "valid_from": {"type": "raw"},
    "valid_until": {"type": "raw"},
}


def _given(values: Any) -> Any:
    """Return values without what was left out."""
    if isinstance(values, dict):
        return {key: _given(value) for key, value in values.items() if value is not None}
    return values


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "raw"},
            "kind": {"type": "str", "choices": ["restore"], "default": "restore"},
            **_FIELDS,
            "countersign": {
                "type": "dict",
                "options": {
                    "by": {"type": "dict", "required": True, "options": _OFFICIAL},
                    "at": {"type": "raw", "required": True},
                    "letter": {"type": "dict", "required": True, "options": _LETTER},
                },
            },
            "officials_file": {"type": "path", "default": "/etc/dbcontinuity/officials.json"},
            **REPOSITORY_OPTIONS,
            **ACTOR_OPTIONS,
        },
        mutually_exclusive=[("countersign", each) for each in _FIELDS] + [("letter", "telephone")],
        required_one_of=[("countersign", "instance"), ("countersign", "letter", "telephone")],
        required_by={
            "countersign": ("id",),
            "instance": ("scope", "target", "reason", "instructed_by", "instructed_at", "valid_until"),
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, Any]:
        params = _given(module.params)
        writing = Writing(
            repository_from(params),
            absolute(params["officials_file"], "officials_file"),
            module.check_mode,
            params.get("actor"),
            params.get("run"),
        )
        later = params.get("countersign")
        if later:
            given = {"countersigned_by": later["by"], "countersigned_at": later["at"], "letter": later["letter"]}
            return countersign(writing, params["id"], given)
        values = {key: params[key] for key in ("id", "kind", *_FIELDS) if key in params and key != "telephone"}
        return record_instruction(
            writing,
            {**values, "by": "letter" if "letter" in params else "telephone", **params.get("telephone", {})},
        )

    answer(module, work)


if __name__ == "__main__":
    main()
