# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A record as text: YAML that a person reads, in which every value is text.

YAML turns ``0012`` into 10, ``NO`` into false and ``12:30`` into 750. Here each value stands in double quotes, so that
any reader of YAML gives the same text, and this one needs no library: keys, lists of texts, mappings of texts, and
nothing else. A file that was not written exactly so is refused; what was signed or hashed is what is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Union

from ..errors import DamagedError, InputError

Value = Union[str, Sequence[str], Mapping[str, str]]
NOTE = "# Written once and never edited: its SHA-256 stands in the ledger. Every value is text.\n"

# A key stands there without quotes, so none of YAML's own words can be one.
_KEY = re.compile(r"(?!(?:yes|no|on|off|true|false|null|y|n)$)[a-z][a-z0-9_]*", re.ASCII)
_TOP = re.compile(r'([a-z][a-z0-9_]*):(?: (".*"))?', re.ASCII)
_ITEM = re.compile(r'  - (".*")')
_PAIR = re.compile(r'  ([a-z][a-z0-9_]*): (".*")', re.ASCII)
_ESCAPE = re.compile(r'\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|["\\nt])', re.ASCII)
# What cannot be seen, or that YAML's readers refuse or fold. A fixed list: a Python that knows newer characters must
# not write, or read, an old record in another way.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u070f\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
    "\ud800-\uf8ff\ufeff\ufff0-\uffff\U000e0000-\U0010ffff]"
)
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_LONG = {escape[1]: character for character, escape in _SHORT.items()}


def dump(values: Mapping[str, Value]) -> bytes:
    """Return the file's content; keys stand in the order given.

    :raises InputError: for a value that cannot be written, such as an empty list.
    """
    lines = []
    for key, value in values.items():
        _check_key(key)
        if isinstance(value, str):
            lines.append(f"{key}: {_quoted(value)}\n")
            continue
        if not value:
            raise InputError(f"The record's {key} is empty.", "Leave it out, or say something.")
        lines.append(f"{key}:\n")
        if isinstance(value, Mapping):
            for name, text in value.items():
                _check_key(name)
                lines.append(f"  {name}: {_quoted(text)}\n")
        else:
            lines += [f"  - {_quoted(text)}\n" for text in value]
    return (NOTE + "".join(lines)).encode()


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise InputError(
            f"A record cannot have the key {key!r}.",
            "Use lower-case letters, digits and underscores, and no word of YAML's own.",
        )


def parse(data: bytes, where: str) -> dict[str, Value]:
    """Return what :func:`dump` wrote; *where* names the file in an error.

    :raises DamagedError: for anything that it did not write exactly so.
    """
    try:
        values = _read(data.decode("utf-8"))
        whole = dump(values) == data
    except (ValueError, OverflowError, InputError) as error:
        raise _damaged(where, str(error)) from None
    if not whole:
        raise _damaged(where, "it is laid out in another way than it is written")
    return values


def _damaged(where: str, why: str) -> DamagedError:
    return DamagedError(
        f"{where} cannot be read as a record: {why}.",
        "A record is never edited. Take it from a copy of the repository, or write a new one with approval_record.",
        {"path": where},
    )


def _quoted(text: str) -> str:
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if not _UNSEEN.match(character):
        return character
    number = ord(character)
    if 0xD800 <= number <= 0xDFFF:
        raise InputError("A record cannot hold half a character (a lone surrogate).", "Type the text again.")
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _unquoted(quoted: str) -> str:
    inner = quoted[1:-1]
    plain = _ESCAPE.sub("", inner)
    if '"' in plain or "\\" in plain:
        raise ValueError(f"{quoted} is no text in double quotes")
    return _ESCAPE.sub(_meant, inner)


def _meant(match: re.Match[str]) -> str:
    escape = match.group(1)
    return _LONG[escape] if escape in _LONG else chr(int(escape[1:], 16))


def _read(text: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    items: list[str] = []
    pairs: dict[str, str] = {}
    key = ""
    # Not splitlines(): it also splits where YAML and a person see one line.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if number == 1:
            continue  # the note; that it is the right one shows when all is written again
        top, item, pair = _TOP.fullmatch(line), _ITEM.fullmatch(line), _PAIR.fullmatch(line)
        if top:
            key, items, pairs = top.group(1), [], {}
            if key in found:
                raise ValueError(f"line {number}: {key} stands there twice")
            found[key] = _unquoted(top.group(2)) if top.group(2) else items
        elif item and found.get(key) is items:
            items.append(_unquoted(item.group(1)))
        elif pair and key and (found[key] is pairs or found[key] == []):
            if pair.group(1) in pairs:
                raise ValueError(f"line {number}: {pair.group(1)} stands there twice")
            pairs[pair.group(1)] = _unquoted(pair.group(2))
            found[key] = pairs
        else:
            raise ValueError(f"line {number} is none of a record's lines")
    return found
