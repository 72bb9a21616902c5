# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of recorded instructions share: a repository, a list of officials, an instruction that holds."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.gate import Asked
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.store import Approvals
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.targets import Target
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.approval import Writing
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.repository import Repository

# 02:30 in the night of 23 November, Jakarta.
NOW = datetime(2026, 11, 22, 19, 30, tzinfo=timezone.utc)
PLAN = "a" * 64
OFFICIALS: dict[str, Any] = {
    "kepala_instalasi_sirs": [
        {"name": "Contoh Kepala", "id": "0012", "from": "2026-01-01"},
        {"name": "Contoh Lama", "id": "0013", "from": "2020-01-01", "until": "2025-12-31"},
        {"name": "Contoh Pengganti", "id": "1006", "acting": True, "from": "2026-12-20", "until": "2027-01-03"},
    ],
    "petugas_it": [{"name": "Contoh Petugas Satu", "id": "1008", "from": "2026-01-01"}],
}
LETTER: dict[str, Any] = {
    "instance": "simrs",
    "scope": ["table:simrs.pasien", "table:simrs.kunjungan"],
    "target": {"kind": "time", "value": "2026-11-23T01:10:00+07:00"},
    "mode": "replace",
    "reason": "Tabel pasien terhapus",
    "instructed_by": {"role": "kepala_instalasi_sirs", "name": "Contoh Kepala", "id_number": "0012"},
    "instructed_at": "2026-11-23T02:00:00+07:00",
    "by": "letter",
    "letter": {"number": "0012/SIRS", "date": "2026-11-23"},
    "valid_until": "2026-11-24T02:00:00+07:00",
    "kind": "restore",
}
TELEPHONE: dict[str, Any] = {
    **{key: value for key, value in LETTER.items() if key != "letter"},
    "by": "telephone",
    "heard_by": {"name": "Contoh Petugas Satu", "id_number": "1008"},
    "witness": {"name": "Contoh Petugas Dua", "id_number": "1009"},
}
ASKED = Asked(
    "simrs",
    ("table:simrs.pasien", "table:simrs.kunjungan"),
    Target("time", "2026-11-23T01:10:00+07:00"),
    "replace",
    PLAN,
)


@dataclass(frozen=True)
class Office:
    """A backup host's folders, as far as instructions go."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "repository"

    @property
    def officials(self) -> Path:
        return self.root / "officials.json"

    @property
    def repository(self) -> Repository:
        return Repository.open(self.path)

    @property
    def approvals(self) -> Approvals:
        return Approvals(self.repository)

    def writing(self, **changes: Any) -> Writing:
        return Writing(**{"repository": self.path, "officials_file": self.officials, "now": NOW, **changes})

    def name_officials(self, values: Mapping[str, Any]) -> None:
        self.officials.write_text(json.dumps(values))
        self.officials.chmod(0o644)

    def force(self, values: Mapping[str, Any]) -> str:
        """Write a record past the rules of approval_record, as an earlier or a careless version might; return its id."""
        given = {
            "record_version": "1",
            "id": "",
            "valid_from": values["instructed_at"],
            "written_at": "2026-11-22T19:10:00Z",
            "written_by": {"user": "root"},
            **({"countersign_until": "2026-11-24T02:00:00+07:00"} if values["by"] == "telephone" else {}),
            **values,
        }
        return self.approvals.write(given, "", "test", {"user": "root"}, NOW)[0]

    def state(self) -> dict[str, bytes]:
        """Return every file there is, to see that nothing was touched."""
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}


def make_office(root: Path) -> Office:
    """Make a repository and a list of officials."""
    office = Office(root)
    root.mkdir(parents=True, exist_ok=True)
    Repository.create(office.path)
    office.name_officials(OFFICIALS)
    return office


def changed(values: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a copy with some fields changed; those set to None are left out."""
    both = {**copy.deepcopy(dict(values)), **changes}
    return {key: value for key, value in both.items() if value is not None}
