# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore is to bring back, as text: one form, read and written alike."""

from __future__ import annotations

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.scope import Scope, parse, parse_all, unknown


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [
        ("full", "full", ()),
        ("database:simrs", "database", ("simrs",)),
        ("database:arsip lama é", "database", ("arsip lama é",)),
        ("schema:simrs.lis", "schema", ("simrs", "lis")),
        ("table:simrs.pasien", "table", ("simrs", "pasien")),
        ("table:simrs.simrs.pasien", "table", ("simrs", "simrs", "pasien")),
        ("table:simrs.tarif khusus", "table", ("simrs", "tarif khusus")),
        ('table:simrs.o\'brien "kutip"', "table", ("simrs", 'o\'brien "kutip"')),
        ("table:simrs.tabel`aneh", "table", ("simrs", "tabel`aneh")),
        ('table:simrs."b.c"', "table", ("simrs", "b.c")),
        ('table:"a.b"."c""d.e"', "table", ("a.b", 'c"d.e')),
        ('table:simrs."""mulai"', "table", ("simrs", '"mulai')),
        ("folder:/srv/scan/rekam medis", "folder", ("/srv/scan/rekam medis",)),
        ("file:/srv/scan/a:b.pdf", "file", ("/srv/scan/a:b.pdf",)),
    ],
)
def test_what_is_read_is_written_alike(text: str, kind: str, names: tuple[str, ...]) -> None:
    scope = parse(text)
    assert scope == Scope(kind, names)
    assert str(scope) == text
    assert parse(str(scope)) == scope


def test_backticks_quote_as_double_quotes_do_and_paths_are_made_plain() -> None:
    assert parse("table:simrs.`a.b``c`") == Scope("table", ("simrs", "a.b`c"))
    assert str(parse("table:`simrs`.`pasien`")) == "table:simrs.pasien"
    assert parse("folder:/srv//scan/") == Scope("folder", ("/srv/scan",))
    assert parse(" full ") == Scope("full")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pasien",
        "full:x",
        "table:",
        "table:simrs",
        "table:simrs.",
        "table:a.b.c.d",
        "table:.pasien",
        "schema:simrs",
        "database:a.b",
        'table:simrs."pasien',
        'table:simrs."pasien"x',
        "table:simrs.a\nb",
        "folder:scan",
        "folder:/srv/../etc",
        "folder:/",
        "view:simrs.v",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


@pytest.mark.parametrize(
    ("engine", "texts", "why"),
    [
        ("mariadb", [], "Nothing is named"),
        ("mariadb", ["table:a.b.c"], "does not fit"),
        ("mariadb", ["schema:a.b"], "does not fit"),
        ("mariadb", ["folder:/srv"], "does not fit"),
        ("postgresql", ["table:a.b"], "does not fit"),
        ("postgresql", ["file:/srv/x"], "does not fit"),
        ("files", ["database:simrs"], "does not fit"),
        ("mariadb", ["database:mysql"], "server's own"),
        ("mariadb", ["table:MySQL.user"], "server's own"),
        ("mariadb", ["table:information_schema.TABLES"], "server's own"),
        ("postgresql", ["table:simrs.pg_catalog.pg_class"], "server's own"),
        ("postgresql", ["schema:simrs.information_schema"], "server's own"),
        ("postgresql", ["schema:simrs.pg_toast"], "server's own"),
        ("postgresql", ["database:template1"], "server's own"),
        ("postgresql", ["database:postgres"], "server's own"),
        ("mariadb", ["full", "database:simrs"], "holds"),
        ("mariadb", ["table:simrs.pasien", "table:simrs.pasien"], "holds"),
        ("mariadb", ["table:simrs.pasien", "database:simrs"], "holds"),
        ("postgresql", ["schema:simrs.lis", "table:simrs.lis.alat"], "holds"),
        ("files", ["folder:/srv/scan", "file:/srv/scan/a.pdf"], "holds"),
    ],
)
def test_what_does_not_go_together_is_refused(engine: str, texts: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_all(texts, engine)


def test_what_stands_side_by_side_goes_together() -> None:
    assert len(parse_all(["table:simrs.pasien", "table:simrs.pasien2", "database:lab"], "mariadb")) == 3
    assert len(parse_all(["folder:/srv/scan", "folder:/srv/scan2"], "files")) == 2
    assert len(parse_all(["table:postgres.public.t"], "postgresql")) == 1


def test_an_unknown_name_brings_the_near_ones() -> None:
    scope = Scope("table", ("simrs", "pasein"))
    assert "'pasien'" in str(unknown("table", "pasein", ["dokter", "pasien", "poliklinik"], scope))
    assert "'Pasien'" in str(unknown("table", "pasien", ["Pasien", "pasien2"], scope))
    assert "It has: dokter" in str(unknown("table", "xyz", ["dokter"], scope))
