# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares everything two servers hold: a source, and the copy that was restored from its backup.

    python -m demo.compare SOURCE COPY               exit 0: nothing differs; 1: something does; 2: not compared
    python -m demo.compare --save FILE SOURCE        keep the source's fingerprint of this moment

SOURCE and COPY: a demo server's folder, a saved fingerprint, `mariadb:SOCKET`, or `postgresql:SOCKET_FOLDER:PORT`.
Nobody may write while a fingerprint is taken. Four things need not be equal after a correct restore, and have rules:

- MariaDB's AUTO_INCREMENT (kind auto_increment): the copy's next number lies above every number the source has used.
- A MariaDB sequence: the copy may be up to two caches further, never behind. MariaDB does not log the advance of a
  sequence in a statement that fires triggers, so whoever replays its log moves the sequences on.
- A PostgreSQL sequence: the copy may be up to 32 values (and its cache) further, since that is how the server logs
  them; never behind.
- An unlogged PostgreSQL table: its rows are there or, after a physical restore, none of them is.

With strict=True (--strict) these have to be equal too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Union

from demo import fingerprint_mariadb, fingerprint_postgresql
from demo.clients import Client, MariaDBClient, PostgreSQLClient
from demo.fingerprint import Attributes, Fingerprint
from demo.process import ServerError
from demo.server import STATE, Server
from demo.servers import attach

Comparable = Union[Server, Client, Fingerprint]
LOGGED_AHEAD = 32  # PostgreSQL logs a sequence this many values ahead (SEQ_LOG_VALS)


@dataclass(frozen=True)
class Difference:
    """One attribute of one object; `source` or `copy` is None when the object is missing there."""

    kind: str
    name: str
    attribute: str
    source: Any
    copy: Any

    def __str__(self) -> str:
        if self.attribute == "exists":
            return f"{self.kind} {self.name}: {'only in the copy' if self.source is None else 'missing in the copy'}"
        return f"{self.kind} {self.name}, {self.attribute}: {_short(self.source)} -> {_short(self.copy)}"


@dataclass
class Comparison:
    """The differences, and for each kind how many objects the source and the copy have."""

    differences: list[Difference] = field(default_factory=list)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    rows: tuple[int, int] = (0, 0)

    @property
    def ok(self) -> bool:
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        lines = [f"{'kind':<24}{'source':>9}{'copy':>9}{'different':>11}"]
        for kind, (source, copy) in sorted(self.counts.items()):
            different = len({found.name for found in self.differences if found.kind == kind})
            lines.append(f"{kind:<24}{source:>9}{copy:>9}{different or '-':>11}")
        lines.append(f"{'(rows in all tables)':<24}{self.rows[0]:>9}{self.rows[1]:>9}")
        lines += ["", *map(str, self.differences)] if self.differences else []
        total = sum(source for source, _ in self.counts.values())
        lines += ["", f"{len(self.differences)} differences" if self.differences else f"{total} objects: all equal"]
        return "\n".join(lines)


def fingerprint(server: Server | Client, *, accounts: bool = False) -> Fingerprint:
    """Everything a running server holds; `accounts` adds users, roles and their rights."""
    client = server.client if isinstance(server, Server) else server
    if isinstance(client, MariaDBClient):
        return fingerprint_mariadb.take(client, accounts)
    if isinstance(client, PostgreSQLClient):
        return fingerprint_postgresql.take(client, accounts)
    raise ServerError(f"no fingerprint is known for {client.engine}")


def compare(
    source: Comparable,
    copy: Comparable,
    *,
    strict: bool = False,
    accounts: bool = False,
    ignore: Collection[str] = (),
) -> Comparison:
    """Compare two servers or fingerprints, without the kinds in `ignore`. Nothing to compare is a difference."""
    first, second = (
        side if isinstance(side, Fingerprint) else fingerprint(side, accounts=accounts) for side in (source, copy)
    )
    made = Comparison()
    if first.engine != second.engine:
        made.differences.append(Difference("server", "engine", "engine", first.engine, second.engine))
    for kind in sorted((set(first.objects) | set(second.objects)) - set(ignore)):
        ours, theirs = first.objects.get(kind, {}), second.objects.get(kind, {})
        made.counts[kind] = (len(ours), len(theirs))
        for name in sorted(set(ours) | set(theirs)):
            made.differences += _object(kind, name, ours.get(name), theirs.get(name), strict)
    if "rows" not in ignore and (not first.count("rows") or not second.count("rows")):
        made.differences.append(
            Difference("comparison", "tables", "compared", first.count("rows"), second.count("rows"))
        )
    if not any(ours for ours, _ in made.counts.values()):
        made.differences.append(Difference("comparison", "objects", "compared", 0, 0))
    made.rows = (_rows(first), _rows(second))
    return made


def _rows(side: Fingerprint) -> int:
    return sum(int(attributes.get("rows", 0)) for attributes in side.objects.get("rows", {}).values())


def _object(kind: str, name: str, ours: Attributes | None, theirs: Attributes | None, strict: bool) -> list[Difference]:
    if ours is None or theirs is None:
        there = {"source": None if ours is None else True, "copy": None if theirs is None else True}
        return [Difference(kind, name, "exists", there["source"], there["copy"])]
    found = [
        Difference(kind, name, attribute, ours.get(attribute), theirs.get(attribute))
        for attribute in sorted(set(ours) | set(theirs))
        if ours.get(attribute) != theirs.get(attribute)
    ]
    if not found or strict or "error" in theirs:
        return found
    if kind == "auto_increment":
        return [] if theirs["next"] > ours["used"] else found
    if kind == "sequence" and {one.attribute for one in found} <= {"last_value", "is_called"}:
        return [] if _logged_ahead(ours, theirs) else found
    if kind == "sequence" and {one.attribute for one in found} == {"next_not_cached_value"}:
        return [] if _moved_on(ours, theirs) else found
    if kind == "rows" and ours.get("unlogged") and theirs.get("rows") == 0:
        return []
    return found


def _logged_ahead(ours: Attributes, theirs: Attributes) -> bool:
    try:
        step = int(ours["increment"])
        ahead = (int(theirs["last_value"]) - int(ours["last_value"])) // step
        return 0 <= ahead <= LOGGED_AHEAD + int(ours["cache"]) and bool(theirs["is_called"])
    except KeyError:
        return False


def _moved_on(ours: Attributes, theirs: Attributes) -> bool:
    ahead = (int(theirs["next_not_cached_value"]) - int(ours["next_not_cached_value"])) // int(ours["increment"])
    return 0 <= ahead <= 2 * int(ours["cache_size"])


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 160 else f"{shown[:80]} … {shown[-60:]}"


def open_side(word: str) -> Comparable:
    """What a word on the command line stands for."""
    engine, _, rest = word.partition(":")
    if engine == "mariadb" and rest:
        return MariaDBClient(Path(rest))
    if engine == "postgresql" and rest:
        folder, _, port = rest.rpartition(":")
        return PostgreSQLClient(Path(folder), int(port))
    path = Path(word)
    return attach(path) if (path / STATE).exists() else Fingerprint.load(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.compare", description="Compare all that two servers hold.")
    parser.add_argument("source")
    parser.add_argument("copy", nargs="?")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the source's fingerprint")
    parser.add_argument("--strict", action="store_true", help="sequences and AUTO_INCREMENT must be equal")
    parser.add_argument("--accounts", action="store_true", help="users, roles and grants as well")
    parser.add_argument("--ignore", action="append", default=[], metavar="KIND", help="leave out a kind of object")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    chosen = parser.parse_args(arguments)
    if chosen.copy is None and chosen.save is None:
        parser.error("name a copy to compare with, or --save FILE")
    try:
        source = open_side(chosen.source)
        if not isinstance(source, Fingerprint):
            source = fingerprint(source, accounts=chosen.accounts)
        if chosen.save is not None:
            source.save(chosen.save)
        if chosen.copy is None:
            return 0
        result = compare(
            source,
            open_side(chosen.copy),
            strict=chosen.strict,
            accounts=chosen.accounts,
            ignore=chosen.ignore,
        )
    except (ServerError, OSError, ValueError) as error:
        print(f"not compared: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result.as_dict(), ensure_ascii=False, indent=1) if chosen.json else result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
