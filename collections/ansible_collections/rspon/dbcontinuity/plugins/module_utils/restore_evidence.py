# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a copy that was brought back must hold: against the backup's own counts, the last test, the site's questions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from .errors import InputError, LedgerError
from .ledger import Ledger

ACTIVITY = "restore_test"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda found, wanted: found >= wanted,
    "<=": lambda found, wanted: found <= wanted,
    "!=": lambda found, wanted: found != wanted,
    ">": lambda found, wanted: found > wanted,
    "<": lambda found, wanted: found < wanted,
}


@dataclass(frozen=True)
class Assertion:
    """A question of the site's, and the answer it wants.

    :param expect: the single value as text; or ``>= 1000`` and the like for a number.
    """

    name: str
    sql: str
    expect: str
    database: str = ""

    def met_by(self, answer: str) -> bool:
        """Return whether an answer is the one wanted."""
        wanted = self.expect.strip()
        for sign, holds in _COMPARE.items():
            if wanted.startswith(sign):
                limit = _number(wanted[len(sign) :])
                if limit is None:
                    raise InputError(
                        f"The check {self.name!r} expects {self.expect!r}, which names no number after {sign}.",
                        "Write it like '>= 1000', or the value itself.",
                    )
                found = _number(answer)
                return found is not None and holds(found, limit)
        return answer.strip() == wanted


def _number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Expectations:
    """What the site asks of one instance's copy.

    :param newest_row_sql: gives the time of the newest business row, for the real RPO.
    :param rto_minutes: the site's targets; None where it set none.
    """

    checks: Sequence[Assertion] = ()
    newest_row_sql: str = ""
    newest_row_database: str = ""
    rto_minutes: Optional[float] = None
    rpo_minutes: Optional[float] = None

    @classmethod
    def from_json(cls, instance: str, values: Mapping[str, Any]) -> Expectations:
        """Return expectations from their plain form.

        :raises InputError: naming what is wrong.
        """
        checks = []
        for value in values.get("checks") or ():
            if not isinstance(value, Mapping) or not {"name", "sql", "expect"} <= set(value):
                raise InputError(
                    f"A check of {instance} lacks name, sql or expect: {value!r}.",
                    "Write each check with name, sql, expect, and database where it is needed.",
                )
            checks.append(
                Assertion(str(value["name"]), str(value["sql"]), str(value["expect"]), str(value.get("database") or ""))
            )
        for each in checks:
            each.met_by("0")  # an expectation that cannot be met is said before anything runs
        return cls(
            checks,
            str(values.get("newest_row_sql") or ""),
            str(values.get("newest_row_database") or ""),
            _minutes(instance, "rto_minutes", values),
            _minutes(instance, "rpo_minutes", values),
        )


def _minutes(instance: str, key: str, values: Mapping[str, Any]) -> Optional[float]:
    value = values.get(key)
    number = _number(str(value)) if value is not None else None
    if value is not None and (number is None or number <= 0):
        raise InputError(f"{key} of {instance} is {value!r}.", "Give a number of minutes above 0.")
    return number


@dataclass
class History:
    """What the ledger knows.

    :ivar manifests: the hash of each set's manifest by instance and set.
    :ivar logs: the newest archived log and its record's hash by instance and lineage.
    :ivar last_tests: the last test that succeeded by instance and target.
    :ivar tested: the run of the last test that succeeded by instance and set.
    :ivar whole: whether the ledger could be read to its end.
    """

    manifests: dict[tuple[str, str], str] = field(default_factory=dict)
    logs: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    last_tests: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    tested: dict[tuple[str, str], str] = field(default_factory=dict)
    whole: bool = True


def read_history(ledger: Ledger) -> History:
    """Read the ledger once; an end that does not hold is noted, not raised."""
    found = History()
    try:
        for record in ledger.records():
            name, data = str(record["instance"]), record["data"]
            if record["activity"] == "full_backup" and data.get("manifest_sha256"):
                found.manifests[name, str(data.get("set"))] = str(data["manifest_sha256"])
            elif record["activity"] == "log_cycle" and record["kind"] == "finished":
                for each, result in data.get("instances", {}).items():
                    for log in result.get("archived", ())[-1:]:
                        key = (str(each), str(result.get("lineage")))
                        found.logs[key] = (str(log["name"]), str(log["record_sha256"]))
            elif record["activity"] == ACTIVITY and record["kind"] == "finished" and data.get("result") == "succeeded":
                found.last_tests[name, str(data.get("target"))] = {**data, "run": record["run"]}
                found.tested[name, str((data.get("source") or {}).get("set"))] = str(record["run"])
    except LedgerError:
        found.whole = False
    return found


def _finding(code: str, file: str, message: str, remedy: str) -> dict[str, Any]:
    return {"code": code, "file": file, "message": message, "remedy": remedy}


def judge_objects(
    recorded: Mapping[str, Any], found: Mapping[str, int], *, exactly_the_set: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Hold a copy's objects against what the backup counted; return findings and notes.

    :param exactly_the_set: no log was applied yet; after one, objects may have been dropped on purpose.
    """
    findings, notes = [], []
    for kind, count in sorted(recorded.items()):
        if not isinstance(count, int) or kind not in found:
            continue
        if found[kind] < count and (exactly_the_set or found[kind] == 0):
            findings.append(
                _finding(
                    "objects-missing",
                    kind,
                    f"The copy has {found[kind]} {kind}; the backup counted {count}.",
                    "Look whether they were dropped on purpose; if not, make a new full backup and test it.",
                )
            )
        elif found[kind] != count:
            notes.append(f"{kind}: {found[kind]} in the copy, {count} when the backup was made")
    return findings, notes


def judge_rows(
    before: Mapping[str, Any], rows: Mapping[str, int], shrink_percent: int, accepted: Collection[str]
) -> list[dict[str, Any]]:
    """Hold the rows of each table against the last test's: one that is gone, empty, or much smaller is a finding."""
    findings = []
    remedy = "Find out who removed them. If it was on purpose, test again with -e dbc_accept_shrinking=TABLE (or all)."
    for table, count in sorted(before.items()):
        if "all" in accepted or table in accepted or not isinstance(count, int):
            continue
        now = rows.get(table)
        if now is None:
            findings.append(
                _finding("table-missing", table, f"{table} had {count} rows at the last test; it is not there.", remedy)
            )
        elif now == 0 and count > 0:
            findings.append(
                _finding("table-emptied", table, f"{table} is empty; it had {count} rows at the last test.", remedy)
            )
        elif now < count * (1 - shrink_percent / 100):
            text = f"{table} has {now} rows; it had {count} at the last test: more than {shrink_percent} % fewer."
            findings.append(_finding("table-shrunk", table, text, remedy))
    return findings
