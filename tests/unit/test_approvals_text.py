# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A record as text: what is written is read again, by this project and by every reader of YAML, and nothing else is."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.text import NOTE, Value, dump, parse
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import DamagedError, InputError

WORDS = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
keys = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(lambda each: each not in WORDS)
# What YAML takes for something else, and what breaks lines, quotes and readers.
awkward = st.sampled_from(
    ["0012", "NO", "12:30", "~", "null", "", " ", "- a", "a: b", "#x", '"', "\\", "\n", "\t", "\x85", "\u2028", "\ufeff",
     "1e3", "0x1F", "2026-11-23", "!!int 1", "&a", "*a", "{a: 1}", "[1]", "%", "@", "`", "'", "\xa0", "\x00", "\U0001f600"]
)  # fmt: skip
texts = st.one_of(awkward, st.text(st.characters(exclude_categories=["Cs"])))
values = st.dictionaries(
    keys,
    st.one_of(texts, st.lists(texts, min_size=1, max_size=4), st.dictionaries(keys, texts, min_size=1, max_size=4)),
)


@given(values)
def test_what_is_written_is_read_again(plain: dict[str, Value]) -> None:
    assert parse(dump(plain), "record.yml") == plain


@given(values)
def test_every_reader_of_yaml_reads_the_same_texts(plain: dict[str, Value]) -> None:
    data = dump(plain)
    for loader in (yaml.BaseLoader, yaml.SafeLoader):
        assert (yaml.load(data, Loader=loader) or {}) == plain  # noqa: S506 - both make plain values only


@given(values, st.data())
def test_a_changed_character_is_read_as_another_record_or_refused(plain: dict[str, Value], data: st.DataObject) -> None:
    text = dump(plain).decode()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(list(" \n\"\\:-#x0'é\t\ufeff")).filter(lambda each: each != text[at]))
    try:
        found = parse((text[:at] + other + text[at + 1 :]).encode(), "record.yml")
    except DamagedError:
        return
    assert found != plain


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: b\n", "line 2 is none"),
        ("a: 'b'\n", "line 2 is none"),
        ('a:  "b"\n', "line 2 is none"),
        ('a: "b" \n', "line 2 is none"),
        ('a: "b\n', "line 2 is none"),
        ('a: "b"c"\n', "no text in double quotes"),
        ('a: "\\q"\n', "no text in double quotes"),
        ('a: "\\ud800"\n', "surrogate"),
        ('a: "\\Uffffffff"\n', "cannot be read"),
        ('a: "\\x41"\n', "laid out"),
        ('a: "b"\na: "c"\n', "twice"),
        ('a:\n  b: "1"\n  b: "2"\n', "twice"),
        ('a:\n  - "1"\n  b: "2"\n', "line 4"),
        ('a:\n  b: "2"\n  - "1"\n', "line 4"),
        ("a:\n", "empty"),
        ('  - "1"\n', "line 2"),
        ('  b: "1"\n', "line 2"),
        ('a: "b"', "laid out"),
        ('a: "b"\n\n', "line 3"),
        ('a: "b"\r\n', "line 2"),
        ('# another note\na: "b"\n', "line 2"),
        ('a: !!python/object:os.system "b"\n', "line 2"),
    ],
)
def test_anything_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(DamagedError, match=why):
        parse((NOTE + text).encode(), "record.yml")


def test_what_stands_above_the_record_belongs_to_it() -> None:
    with pytest.raises(DamagedError, match="laid out"):
        parse(b'# edited by hand\na: "b"\n', "record.yml")
    with pytest.raises(DamagedError, match="cannot be read"):
        parse(b'\xff\na: "b"\n', "record.yml")


@pytest.mark.parametrize(
    "plain",
    [
        *({word: "x"} for word in WORDS),
        {"a": {"no": "x"}},
        {"a": []},
        {"a": {}},
        {"A": "x"},
        {"a b": "x"},
        {"a": {"B": "x"}},
        {"a": "\ud800"},
        {"": "x"},
    ],
)
def test_what_cannot_be_written_is_refused(plain: dict[str, Value]) -> None:
    with pytest.raises(InputError):
        dump(plain)


def test_a_person_can_read_it() -> None:
    text = dump(
        {"instance": "simrs", "scope": ["full"], "target": {"kind": "time", "value": "2026-11-23T01:10:00+07:00"}}
    )
    assert text.decode() == (
        NOTE + 'instance: "simrs"\nscope:\n  - "full"\ntarget:\n  kind: "time"\n  value: "2026-11-23T01:10:00+07:00"\n'
    )
