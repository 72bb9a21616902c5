# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore is to bring back, in one text form wherever it is written:

    full                              everything; stands alone
    database:NAME                     MariaDB, PostgreSQL
    schema:DATABASE.SCHEMA            PostgreSQL
    table:DATABASE.TABLE              MariaDB
    table:DATABASE.SCHEMA.TABLE       PostgreSQL
    folder:/absolute/path             files
    file:/absolute/path               files

A name may hold spaces and quotes. One that holds a dot, or begins with a quote, is put in backticks or double quotes,
in which the same quote is written twice.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import InputError

FULL, DATABASE, SCHEMA, TABLE, FOLDER, FILE = "full", "database", "schema", "table", "folder", "file"
_FORMS = "full, database:NAME, schema:DB.SCHEMA, table:DB.TABLE, table:DB.SCHEMA.TABLE, folder:/path, file:/path"
# By engine and kind, how many names a scope has.
_KNOWN: dict[str, dict[str, int]] = {
    "mariadb": {FULL: 0, DATABASE: 1, TABLE: 2},
    "postgresql": {FULL: 0, DATABASE: 1, SCHEMA: 2, TABLE: 3},
    "files": {FULL: 0, FOLDER: 1, FILE: 1},
}
_SYSTEM = {
    "mariadb": ("mysql", "information_schema", "performance_schema", "sys"),
    "postgresql": ("template0", "template1"),
}
_SYSTEM_SCHEMAS = ("information_schema",)
_ALONE = "Restore the whole instance (scope: full) if the server's own tables are to go back as well."
_QUOTES = '"`'


@dataclass(frozen=True)
class Scope:
    """One thing to bring back.

    :param kind: ``full``, ``database``, ``schema``, ``table``, ``folder`` or ``file``.
    :param names: from the outermost (database) to the innermost (table); for files the path alone.
    """

    kind: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == FULL:
            return FULL
        if self.kind in (FOLDER, FILE):
            return f"{self.kind}:{self.names[0]}"
        return f"{self.kind}:{'.'.join(_quoted(name) for name in self.names)}"

    def holds(self, other: Scope) -> bool:
        """Return whether *other* is this, or a part of it."""
        if self.kind == FULL or self == other:
            return True
        if FOLDER in (self.kind, other.kind) or FILE in (self.kind, other.kind):
            return self.kind == FOLDER and other.names[0].startswith(f"{self.names[0].rstrip('/')}/")
        return len(self.names) < len(other.names) and other.names[: len(self.names)] == self.names


def parse(text: str) -> Scope:
    """Return the scope a text names.

    :raises InputError: if it names none, saying which forms there are.
    """
    kind, colon, rest = text.strip().partition(":")
    if kind == FULL and not colon:
        return Scope(FULL)
    if not colon or kind not in (DATABASE, SCHEMA, TABLE, FOLDER, FILE):
        raise InputError(f"{text!r} is no scope of a restore.", f"Write one of: {_FORMS}.")
    if kind in (FOLDER, FILE):
        return Scope(kind, (_path(text, rest),))
    names = _parts(text, rest)
    wanted = {DATABASE: (1,), SCHEMA: (2,), TABLE: (2, 3)}[kind]
    if len(names) not in wanted:
        raise InputError(
            f"The scope {text!r} has {len(names)} names; {kind} takes {' or '.join(map(str, wanted))}.",
            f"Write one of: {_FORMS}. A name that holds a dot is put in double quotes or backticks.",
        )
    return Scope(kind, names)


def _path(text: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise InputError(f"The scope {text!r} names no absolute path.", "Write the whole path, beginning with a slash.")
    found = os.path.normpath(path)
    if found.strip("/") == "":
        raise InputError(f"The scope {text!r} is the whole file system.", "Name a folder or a file in it.")
    return "/" + found.lstrip("/")


def _parts(text: str, rest: str) -> tuple[str, ...]:
    names = []
    position = 0
    while True:
        name, position = _name(text, rest, position)
        if not name or any(ord(letter) < 32 for letter in name):
            raise InputError(f"The scope {text!r} holds an empty or unprintable name.", f"Write one of: {_FORMS}.")
        names.append(name)
        if position == len(rest):
            return tuple(names)
        position += 1  # the dot


def _name(text: str, rest: str, position: int) -> tuple[str, int]:
    """Return the name that begins at *position*, and where the dot after it or the end is."""
    quote = rest[position : position + 1]
    if not quote or quote not in _QUOTES:
        end = rest.find(".", position)
        end = len(rest) if end < 0 else end
        return rest[position:end], end
    name = ""
    position += 1
    while position < len(rest):
        if rest[position] != quote:
            name += rest[position]
            position += 1
        elif rest[position + 1 : position + 2] == quote:
            name += quote
            position += 2
        elif position + 1 == len(rest) or rest[position + 1] == ".":
            return name, position + 1
        else:
            break
    raise InputError(f"A quoted name in the scope {text!r} does not end.", f"Close it with {quote}.")


def _quoted(name: str) -> str:
    if "." in name or name[:1] in ("", *_QUOTES) or name != name.strip():
        return '"' + name.replace('"', '""') + '"'
    return name


def parse_all(texts: Iterable[str], engine: str) -> tuple[Scope, ...]:
    """Return the scopes of one restore, in the order given.

    :raises InputError: for none, one of a kind the engine does not have, the server's own schemas, or two that overlap.
    """
    scopes = tuple(parse(text) for text in texts)
    if not scopes:
        raise InputError("Nothing is named that should be restored.", f"Set scope to one or several of: {_FORMS}.")
    known = _KNOWN[engine]
    for scope in scopes:
        if scope.kind not in known or len(scope.names) != known[scope.kind]:
            forms = ", ".join(_form(kind, count) for kind, count in known.items())
            raise InputError(f"The scope {scope} does not fit the engine {engine}.", f"Write one of: {forms}.")
        _refuse_system(scope, engine)
    for number, scope in enumerate(scopes):
        for other in (*scopes[:number], *scopes[number + 1 :]):
            if scope.holds(other):
                raise InputError(f"The scope {scope} holds {other} already.", f"Leave out {other}.")
    return scopes


def _form(kind: str, count: int) -> str:
    if kind in (FOLDER, FILE):
        return f"{kind}:/path"
    names = {1: "NAME", 2: "DB.SCHEMA" if kind == SCHEMA else "DB.TABLE", 3: "DB.SCHEMA.TABLE"}
    return f"{kind}:{names[count]}" if count else kind


def _refuse_system(scope: Scope, engine: str) -> None:
    if not scope.names or engine == "files":
        return
    if scope.names[0].lower() in _SYSTEM[engine] or (scope.kind == DATABASE and scope.names == ("postgres",)):
        raise InputError(f"The scope {scope} names a database of the server's own.", _ALONE)
    if engine == "postgresql" and len(scope.names) > 1:
        schema = scope.names[1]
        if schema in _SYSTEM_SCHEMAS or schema.startswith("pg_"):
            raise InputError(f"The scope {scope} names a schema of the server's own.", _ALONE)


def unknown(what: str, name: str, known: Sequence[str], scope: Scope) -> InputError:
    """Return the error for a name that the copy does not hold, with those that are near."""
    same = [each for each in known if each.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, known, 5, 0.5)
    hint = f"Did you mean {' or '.join(repr(each) for each in near)}?" if near else f"It has: {some(known)}."
    return InputError(f"The copy holds no {what} {name!r} (scope {scope}) at this moment.", hint, {"near": list(near)})


def some(names: Sequence[str], count: int = 10) -> str:
    """Return the first of some names as people read them."""
    shown = ", ".join(names[:count]) or "none"
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown
