# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would do, before it does anything: from where to where, how long, what is lost, what room it takes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from .channel import Channel
from .clock import iso, parse_moment
from .durable import existing_parent, free_bytes
from .engines.base import Problem
from .engines.restore import FullRestore, Tail
from .engines.scratch import Source, Target, needed_bytes
from .engines.targets import Neighbour
from .errors import LedgerError, PrerequisiteError
from .ledger import Ledger
from .recoverable import Found

# Where nothing was measured yet: modest hardware. A dump is loaded statement by statement.
_UNPACK, _REPLAY, _SEND = 60e6, 10e6, 80e6
_LOAD = 4e6
_FIXED_SECONDS = 20.0
_GROWTH = 1.05
FULL = ("full",)


@dataclass(frozen=True)
class Rates:
    """What the last restores and test restores of this instance measured, in bytes a second.

    :param based_on: the run they come from; empty where they are assumed.
    """

    unpack: float = _UNPACK
    replay: float = _REPLAY
    send: float = _SEND
    based_on: str = ""

    @classmethod
    def from_evidence(cls, test: Mapping[str, Any], restore: Mapping[str, Any]) -> Rates:
        """Return the rates that the newest test and the newest restore that succeeded give."""
        phases = {**test.get("phases", {}), **restore.get("phases", {})}
        size = float(restore.get("bytes", {}).get("set") or test.get("source", {}).get("size_bytes") or 0)
        seconds = sum(float(phases.get(name) or 0) for name in ("unpacking", "verification of the base"))
        replayed = float((restore or test).get("replay", {}).get("bytes_per_second") or 0)
        sent, sending = float(restore.get("bytes", {}).get("sent") or 0), float(phases.get("sending") or 0)
        return cls(
            size / seconds if size and seconds else _UNPACK,
            replayed or _REPLAY,
            sent / sending if sent and sending else _SEND,
            str((restore or test).get("run") or ""),
        )


def measured_rates(ledger: Ledger, name: str) -> Rates:
    """Return what the newest test restore and the newest restore of an instance that succeeded measured."""
    found: dict[str, Mapping[str, Any]] = {}
    try:
        for record in ledger.records():
            activity, data = str(record["activity"]), record["data"]
            ours = record["instance"] == name and record["kind"] == "finished"
            if ours and activity in ("restore", "restore_test") and data.get("result") == "succeeded":
                found[activity] = {**data, "run": record["run"]}
    except LedgerError:
        pass  # rates inform only: whoever verifies the ledger says that it does not hold
    return Rates.from_evidence(found.get("restore_test", {}), found.get("restore", {}))


@dataclass
class RestorePlan:
    """A restore, planned. Nothing was touched to make it.

    This one is of parts: what it does to each is known once the copy runs. See :class:`FullPlan`.

    :param found: the set, the logs, the moment.
    :param full: the engine's part of a full restore, and what was seen on production.
    :param folder: the non-active folder on this host.
    :param unproven: how far the stream beyond the proven chain goes; empty where it is not used.
    """

    found: Found
    full: FullRestore
    channel: Channel
    folder: Path
    target: Target
    now: datetime
    rates: Rates = field(default_factory=Rates)
    journal: Mapping[str, Any] = field(default_factory=dict)
    scope: Sequence[str] = FULL
    mode: str = "replace"
    unproven: str = ""

    @property
    def source(self) -> Source:
        """Return the set and its logs."""
        return self.found.source

    @property
    def new_bytes(self) -> int:
        """Return about how large the restored data are."""
        return int((self.source.content_bytes + self.source.log_bytes) * _GROWTH)

    @property
    def swapped_at(self) -> Optional[datetime]:
        """Return when an exchange that was never brought to its end was made; None where there is none."""
        said = dict(self.journal.get("swapped") or {}).get("at")
        return parse_moment(str(said)) if said else None

    # -- what the instruction is bound to --

    @property
    def decisions(self) -> dict[str, Any]:
        """Return what is decided: with the same decisions a second try is the same restore."""
        return {
            "instance": self.full.instance.name,
            "scope": sorted(self.scope),
            "target": self.target.to_json(),
            "mode": self.mode,
            "set": self.found.set.id,
        }

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the decisions' canonical JSON."""
        text = json.dumps(self.decisions, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()

    # -- room and time --

    def room(self) -> list[dict[str, Any]]:
        """Return by file system concerned what is needed and what is free, in bytes."""
        needed, free = needed_bytes(self.source), free_bytes(self.folder)
        return [{"host": "backup", "path": str(self.folder), "needed_bytes": needed, "free_bytes": free}]

    def alternatives(self) -> list[str]:
        """Return what else could be done where there is no room."""
        return ["Free space, or name a scratch folder on another file system."]

    def seconds(self) -> dict[str, float]:
        """Return the estimate by step."""
        assumed = self.full.of_a_dump and not self.rates.based_on
        return {
            "unpacking": self.found.set.manifest.size / (_LOAD if assumed else self.rates.unpack),
            "replay": self.source.log_bytes / self.rates.replay,
            "everything else": _FIXED_SECONDS,
        }

    def minutes(self) -> dict[str, Any]:
        """Return the estimate, from measured rates where there are any."""
        steps = self.seconds()
        return {
            "total": round(sum(steps.values()) / 60, 1),
            "steps": {name: round(seconds / 60, 1) for name, seconds in steps.items()},
            "based_on": self.rates.based_on or "assumed rates: nothing of this instance was measured yet",
        }

    def lost(self, answers: bool) -> dict[str, Any]:
        """Return what the restored data will not have."""
        resolved = self.found.resolved
        moment = resolved.moment if self.source.logs or self.target.kind != "latest" else self.found.recoverable_to
        since = max(moment, self.found.recoverable_to) if self.target.kind == "latest" else moment
        seconds = max(0.0, (self.now - since).total_seconds())
        detail = f"Everything committed after {iso(since)}: up to {seconds / 60:.1f} minutes of work."
        if self.full.of_a_dump:
            detail += f" The set {self.found.set.id} is a dump: no log follows it, and nothing between it and now can be brought back."
        if resolved.after is not None:
            detail += f" The first transaction that will be missing is {resolved.after.position} of {iso(resolved.after.moment)}."
        return {
            "since": iso(since),
            "to": iso(self.now) if answers else None,
            "transactions": None,
            "seconds": round(seconds, 1),
            "detail": detail,
        }

    # -- judging it --

    def problems(self) -> Sequence[Problem]:
        """Return what forbids the restore."""
        found = []
        for each in self.room():
            if each["free_bytes"] < each["needed_bytes"]:
                found.append(
                    Problem(
                        f"There is no room{' for two copies' if self.scope == FULL else ''}: {each['path']} on {each['host']} has {each['free_bytes']} bytes"
                        f" free, and about {each['needed_bytes']} are needed.",
                        " ".join(self.alternatives()),
                    )
                )
        return found

    def require(self) -> None:
        """Refuse a restore that something forbids.

        :raises PrerequisiteError: naming all of it; nothing was touched.
        """
        problems = self.problems()
        if problems:
            raise PrerequisiteError(
                " ".join(each.message for each in problems),
                " ".join(dict.fromkeys(each.remedy for each in problems)),
                {"problems": [{"message": each.message, "remedy": each.remedy} for each in problems]},
            )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        values = self.found.set.manifest.values
        return {
            **self.decisions,
            "plan_sha256": self.digest,
            "engine": values["engine"],
            "made_at": values["finished_at"],
            "resolved": self.found.resolved.to_json(),
            "logs": len(self.source.logs),
            "unproven": self.unproven,
            "log_bytes": self.source.log_bytes,
            "content_bytes": self.source.content_bytes,
            "steps": self.steps(),
            "minutes": self.minutes(),
            "lost": self.lost(bool(self.full.look.get("answers"))),
            "room": self.room(),
            "remarks": self.remarks(),
            "problems": [f"{each.message} {each.remedy}".strip() for each in self.problems()],
        }

    def remarks(self) -> list[str]:
        """Return what people should know before they agree."""
        said = list(self.found.resolved.notes)
        for each in self.full.look.get("leftovers", []):
            said.append(f"An earlier restore left {each['path']}.")
        if self.journal.get("phase"):
            said.append(
                f"The restore {self.journal['run']} on production is {self.journal['phase']}: it is healed first."
            )
        if self.full.look.get("problem"):
            said.append(f"Production's server does not answer: {self.full.look['problem']}")
        return said

    def steps(self) -> list[str]:
        """Return what will be done, in order, for people."""
        brought = f"bring {self.found.set.id} and {len(self.source.logs)} logs up in {self.folder}, and look at them"
        how = "load them beside the originals" if self.mode == "beside" else "exchange production's"
        return [brought, f"compare {', '.join(self.scope)} with production, and {how}"]


class FullPlan(RestorePlan):
    """A restore of everything."""

    @property
    def decisions(self) -> dict[str, Any]:
        return {**super().decisions, "place": {part.name: part.path for part in self.full.parts()}}

    def renamed(self, part: str) -> bool:
        """Return whether a part can be renamed into its place: this host is production, and the file system the same."""
        there = self.full.look["parts"].get(part, {})
        if self.channel.transport != "local" or there.get("mount_point"):
            return False
        return bool(there.get("device") == os.stat(existing_parent(self.folder)).st_dev)

    def room(self) -> list[dict[str, Any]]:
        here = super().room()[0]
        local = self.channel.transport == "local"
        devices: dict[Any, dict[str, Any]] = {os.stat(existing_parent(self.folder)).st_dev if local else "backup": here}
        present = self.full.look["parts"]
        parts = self.full.parts()
        known = sum(int(present.get(each.name, {}).get("bytes") or 0) for each in parts)
        for part in parts:
            if self.renamed(part.name):
                continue
            there = present.get(part.name)
            if there is None:
                continue  # a tablespace that production has no link to now: the agent did not look there
            size = int(there.get("bytes") or 0)
            needed = int(self.new_bytes * size / known) if size and known else self.new_bytes
            entry = devices.setdefault(
                there.get("device", part.path),
                {"host": "production", "path": part.path, "needed_bytes": 0, "free_bytes": there.get("free_bytes", 0)},
            )
            entry["needed_bytes"] += needed
        return list(devices.values())

    def alternatives(self) -> list[str]:
        """Return what else could be done where there is no room for two copies."""
        leftovers = [str(each["path"]) for each in self.full.look.get("leftovers", [])]
        said = (
            [f"Remove what earlier restores left, once nobody needs it: {', '.join(leftovers)}."] if leftovers else []
        )
        if self.channel.transport == "local" and not all(self.renamed(each.name) for each in self.full.parts()):
            beside = Path(self.full.parts()[0].path).parent
            said.append(f"Name a scratch folder on the file system of {beside}: the data are renamed then, not copied.")
        said.append(
            "Enlarge the file system, or restore to another server with room and let the applications use that."
        )
        said.append(
            "Bring back only what is missing: a scope of databases, schemas or tables needs room for these alone."
        )
        return said

    def seconds(self) -> dict[str, float]:
        copied = 0 if all(self.renamed(part.name) for part in self.full.parts()) else self.new_bytes
        return {**super().seconds(), "sending": copied / self.rates.send}

    def problems(self) -> Sequence[Problem]:
        return [*self.full.problems(), *self.full.mounts_within(), *super().problems()]

    def remarks(self) -> list[str]:
        said = [*self.full.remarks(), *super().remarks()]
        for path in self.full.mounted():
            said.append(
                f"{path} is a mount point and cannot be renamed: its content is moved into {path}/.dbcontinuity-RUN/old"
                " instead. Remove that folder once nobody needs the old data: it lies inside the data directory."
            )
        for path in self.full.overlaid():
            said.append(
                f"{path} lies on an overlay file system, as in a container: a folder of its lower layer cannot be renamed"
                " (EXDEV). The exchange then ends without a change, on the old data. Put the data on a volume of their own,"
                " or copy the folder once, with the server stopped, and put the copy in its place."
            )
        return said

    def steps(self) -> list[str]:
        """Return what will be done, in order, for people."""
        parts = self.full.parts()
        service = self.full.instance.engine != "files"
        logs = "" if self.full.of_a_dump else f" and {len(self.source.logs)} logs"
        brought = (
            f"load {self.found.set.id}, a dump, into a new server"
            if self.full.of_a_dump
            else f"bring {self.found.set.id}{logs} up"
        )
        ended = "status is red until a new full backup is made"
        how = [f"{'rename' if self.renamed(each.name) else 'send'} the new data beside {each.path}" for each in parts]
        return [
            f"{brought} in {self.folder}, and look at {'it' if self.full.of_a_dump else 'them'}",
            *how,
            *(["stop the server"] if service else []),
            *(f"rename {each.path} to …dbcontinuity-RUN.old, and the new data into its place" for each in parts),
            *(["start the server, and wait until it answers"] if service else []),
            *([ended if self.full.of_a_dump else f"end this history of the logs: {ended}"] if service else []),
        ]


def with_tail(found: Found, tail: Tail) -> Found:
    """Return what brings the copy to the end of the stream, beyond what is proven."""
    logs = [*found.source.logs, *tail.records]
    note = (
        f"The newest {tail.transactions if tail.transactions is not None else ''} transactions, up to {tail.position} of"
        f" {iso(tail.moment)}, come from the stream and are unproven: nobody can say whether production had more."
    )
    resolved = replace(
        found.resolved,
        position=tail.position,
        moment=tail.moment,
        before=Neighbour(tail.moment, tail.position),
        after=None,
        logs=logs,
        stop=tail.stop,
        notes=[*found.resolved.notes, note.replace("  ", " ")],
    )
    source = replace(found.source, logs=logs, stop=tail.stop)
    return replace(found, source=source, resolved=resolved, recoverable_to=max(found.recoverable_to, tail.moment))
