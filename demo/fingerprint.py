# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server holds, as plain data: it can be kept as JSON and compared with a restored copy later."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FORMAT = 1

Attributes = dict[str, Any]


@dataclass
class Fingerprint:
    """objects[kind][name] = attributes. Names are qualified (database, schema, table), attributes are JSON values."""

    engine: str
    version: str
    taken: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    objects: dict[str, dict[str, Attributes]] = field(default_factory=dict)
    format: int = FORMAT

    def add(self, kind: str, name: str, attributes: Attributes) -> None:
        self.objects.setdefault(kind, {})[name] = attributes

    def count(self, kind: str) -> int:
        return len(self.objects.get(kind, {}))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=True, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Fingerprint:
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or data.get("format") != FORMAT or "objects" not in data:
            raise ValueError(f"{path} is not a fingerprint of format {FORMAT}")
        return cls(**data)
