# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that refer to none: counted for every foreign key from and to the tables of an exchange, within its transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ...errors import PipelineError, PrerequisiteError
from .sides import Sides, block, words_of
from .tables import ForeignKey, Table, foreign_keys, literal, mark, quoted, tables


class Orphans:
    """The foreign keys of some tables.

    :param standing: where tables stand that have not their own names yet, by database and name.
    :param known: keys that production does not have yet.
    """

    def __init__(
        self,
        sides: Sides,
        mine: Sequence[Table],
        standing: Optional[Mapping[tuple[str, str], str]] = None,
        known: Sequence[ForeignKey] = (),
    ) -> None:
        self._sides = sides
        self._standing = dict(standing or {})
        wanted = [(table.database, table.name) for table in mine]
        present = foreign_keys(sides.ask, wanted)
        there = {(key.child, key.name) for key in present}
        self.keys = [*present, *(key for key in known if (key.child, key.name) not in there)]
        self._key_texts: dict[tuple[str, str], str] = {}
        for table in mine:
            self._key_texts[table.database, table.name] = table.key_text("c.")

    def _example(self, key: ForeignKey) -> str:
        if key.child not in self._key_texts:
            found = tables(self._sides.ask, *key.child)
            self._key_texts[key.child] = found[0].key_text("c.") if found else "''"
        text = self._key_texts[key.child]
        return text if text != "''" else f"CONCAT_WS(' / ', {', '.join(f'c.{quoted(one)}' for one in key.columns)})"

    def _where(self, name: tuple[str, str]) -> str:
        return self._standing.get(name) or f"{quoted(name[0])}.{quoted(name[1])}"

    def script(self, exchanged: set[str]) -> str:
        """Return what counts, names and, unless accepted, ends the transaction.

        :param exchanged: the tables whose rows are new; the rows they refer to are held until the end.
        """
        made = ["SET @dbc_orphans = 0;\n"]
        examples = int(self._sides.order.examples)
        for key in self.keys:
            child, shown = self._where(key.child), self._example(key)
            hold = " LOCK IN SHARE MODE" if f"{quoted(key.child[0])}.{quoted(key.child[1])}" in exchanged else ""
            made.append(
                f"SELECT COUNT(*), JSON_ARRAYAGG({shown} ORDER BY {shown} LIMIT {examples}) INTO @dbc_n, @dbc_k"
                f" {key.orphans(child, self._where(key.parent))}{hold};\n"
                "SET @dbc_orphans = @dbc_orphans + @dbc_n;\n"
                f"SELECT {mark('orphans', self._answer(key))};\n"
            )
        if not self._sides.order.accept_orphans:
            made.append(
                block("IF @dbc_orphans > 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'dbc-orphans'; END IF;")
            )
        return "".join(made)

    @staticmethod
    def _answer(key: ForeignKey) -> str:
        return (
            f"JSON_OBJECT('constraint', {literal(key.label)}, 'rows', @dbc_n,"
            " 'keys', IF(@dbc_n, JSON_COMPACT(@dbc_k), JSON_ARRAY()))"
        )

    @staticmethod
    def judged(error: PipelineError, found: Sequence[Mapping[str, Any]], untouched: str) -> Exception:
        """Return what a failure means: orphans that are not accepted, or itself."""
        if not words_of(error, "orphans"):
            return error
        said = "; ".join(
            f"{each['rows']} in {each['constraint']} ({', '.join(map(str, each['keys'] or []))})" for each in found
        )
        return PrerequisiteError(
            f"After the restore rows would refer to rows that are not there: {said}. {untouched}",
            "Restore the tables they refer to in the same restore, or have the instruction accept them (accept_orphans).",
            {"orphans": [dict(each) for each in found]},
        )
