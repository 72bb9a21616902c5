# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - its SQL is made of names of the test's own
"""Prints as JSON a checksum of every table's rows, each database's definitions, every file: run on production as root."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

SYSTEM = "('information_schema', 'performance_schema', 'mysql', 'sys')"
TABLES = (
    "SELECT format('SELECT %L, md5(coalesce(string_agg(t::text, E''\\n'' ORDER BY t::text), '''')) FROM %s AS t;',"
    " current_database() || '.' || c.oid::regclass, c.oid::regclass) FROM pg_class c JOIN pg_namespace n ON n.oid ="
    " c.relnamespace WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND"
    " n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \\gexec"
)
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
# A counter may be further, and pg_dump prints a word of chance.
CHANGING = re.compile(r" AUTO_INCREMENT=\d+|^\\(?:un)?restrict .*$", re.M)


def said(*words: str, stdin: str = "", check: bool = True) -> str:
    """Return what a program prints; it must succeed, unless *check* is off."""
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=check, cwd="/").stdout


def mariadb() -> dict[str, str]:
    """Return the checksums of MariaDB's tables and databases."""
    ask = ("mariadb", "--batch", "--skip-column-names")
    found: dict[str, str] = {}
    for database in said(
        *ask, stdin=f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {SYSTEM}"
    ).split():
        names = said(
            *ask,
            stdin=f"SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables"
            f" WHERE table_schema = '{database}' AND table_type = 'BASE TABLE'",
        ).splitlines()
        if names:
            for line in said(*ask, stdin=f"CHECKSUM TABLE {', '.join(names)} EXTENDED").splitlines():
                table, _tab, value = line.partition("\t")
                found[f"mariadb {table}"] = value
        # A view whose table is gone, as one of the mistakes has it, ends a dump with a status that is not 0.
        words = (
            "--force",
            "--no-data",
            "--routines",
            "--triggers",
            "--events",
            "--skip-dump-date",
            "--skip-lock-tables",
        )
        found[f"mariadb definitions of {database}"] = digest(said("mariadb-dump", *words, database, check=False))
    return found


def postgresql() -> dict[str, str]:
    """Return the checksums of PostgreSQL's tables and databases."""
    user = ("runuser", "--user", "postgres", "--")
    ask = (*user, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
    found: dict[str, str] = {}
    for database in said(*ask, stdin=DATABASES).split():
        for line in said(*ask, f"--dbname={database}", stdin=TABLES).splitlines():
            table, _bar, value = line.rpartition("|")
            found[f"postgresql {table}"] = value
        found[f"postgresql definitions of {database}"] = digest(said(*user, "pg_dump", "--schema-only", database))
    return found


def files(root: Path) -> dict[str, str]:
    """Return the checksums of the files below a folder, but for those that the workload writes."""
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.parent != root / "masuk"]
    return {f"file {path}": digest(path.read_bytes()) for path in found}


def digest(content: str | bytes) -> str:
    """Return the SHA-256 of definitions or a file."""
    if isinstance(content, str):
        content = CHANGING.sub("", content).encode()
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    print(json.dumps({**mariadb(), **postgresql(), **files(Path("/srv/berkas"))}))
