# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 (identifiers are quoted by the server's own format('%I'))
"""The fingerprint of a PostgreSQL cluster: all databases that take connections.

Content: for each table and materialized view the number of rows and the sum, over all rows, of a 64-bit hash of the
row's text (hashtextextended). A sum does not depend on the order and counts duplicates. Floats print exactly, times
in UTC. Partitions are read one by one, so that a row in the wrong one shows. Large objects: MD5 of the content.

Definitions come from the server's own pg_get_*def with an empty search path. What belongs to an extension is covered
by the extension's name and version. See `fingerprint_queries` for the list of kinds.
"""

from __future__ import annotations

import json

from demo.clients import PostgreSQLClient, QueryError, Row
from demo.fingerprint import Fingerprint
from demo.fingerprint_queries import ACCOUNTS, CLUSTER, DATABASE
from demo.postgresql import text

SETTINGS = (
    "SET search_path = pg_catalog; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres';"
    " SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmloption = 'content'; SET statement_timeout = 0;"
    " SET lock_timeout = '60s'; SET default_transaction_read_only = on;\n"
)
SKIP = "('pg_catalog', 'information_schema')"
RELATIONS = f"""
SELECT format('%I.%I', n.nspname, c.relname), c.relkind, c.relpersistence, c.relispopulated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN {SKIP} AND n.nspname !~ '^pg_(toast|temp)' AND c.relkind IN ('r', 'm', 'S', 'v')
ORDER BY 1
"""


def take(client: PostgreSQLClient, accounts: bool = False) -> Fingerprint:
    """Read everything. The caller sees to it that nobody writes meanwhile."""
    version = client.value("SHOW server_version") or ""
    made = Fingerprint("postgresql", version.split(" ")[0])
    for kind, sql in {**CLUSTER, **(ACCOUNTS if accounts else {})}.items():
        for name, attributes in client.query(SETTINGS + sql):
            made.add(kind, name or "", json.loads(attributes or "{}"))
    names = client.query("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1")
    for row in names:
        _Database(client, row[0] or "", made).read()
    return made


class _Database:
    def __init__(self, client: PostgreSQLClient, database: str, made: Fingerprint) -> None:
        self.client, self.database, self.made = client, database, made

    def read(self) -> None:
        parts = [f"SELECT {text(kind)}, name, body FROM ({sql}) AS found(name, body)" for kind, sql in DATABASE.items()]
        self._add(self._query(SETTINGS + ";\n".join(parts)))
        rows: dict[str, str] = {}
        sequences: dict[str, str] = {}
        views: list[str] = []
        for name, kind, persistence, populated in self._query(SETTINGS + RELATIONS):
            if kind == "S":
                sequences[name or ""] = (
                    f"SELECT 'sequence', {text(name or '')}, to_jsonb(s) || (SELECT jsonb_build_object('type',"
                    " q.seqtypid::regtype, 'start', q.seqstart, 'increment', q.seqincrement, 'max', q.seqmax, 'min',"
                    " q.seqmin, 'cache', q.seqcache, 'cycle', q.seqcycle) FROM pg_sequence q"
                    f" WHERE q.seqrelid = {text(name or '')}::regclass)"
                    f" FROM (SELECT last_value, is_called FROM {name}) s"
                )
            elif kind == "v":
                views.append(name or "")
            elif populated == "t":
                only = "ONLY " if kind == "r" else ""
                unlogged = "true" if persistence == "u" else "false"
                rows[name or ""] = (
                    f"SELECT 'rows', {text(name or '')}, jsonb_build_object('unlogged', {unlogged}, 'rows', count(*),"
                    ' \'content\', coalesce(sum(hashtextextended("~"::text COLLATE "C", 0)::numeric), 0)::text)'
                    f' FROM {only}{name} AS "~"'
                )
        self._each(rows, "rows")
        self._each(sequences, "sequence")
        self._open(views)

    def _query(self, sql: str) -> list[Row]:
        return self.client.query(sql, self.database)

    def _add(self, rows: list[Row]) -> None:
        for kind, name, body in rows:
            known = self.made.objects.setdefault(kind or "", {})
            known.setdefault(f"{self.database}/{name}", {}).update(json.loads(body or "{}"))

    def _each(self, statements: dict[str, str], kind: str) -> None:
        """All at once; if that fails one by one, for a broken object is a finding and not the end."""
        if not statements:
            return
        try:
            self._add(self._query(SETTINGS + ";\n".join(statements.values())))
        except QueryError:
            for name, statement in statements.items():
                try:
                    self._add(self._query(SETTINGS + statement))
                except QueryError as error:
                    self.made.add(kind, f"{self.database}/{name}", {"error": str(error)})

    def _open(self, views: list[str]) -> None:
        """Whether each view can be used: an error here is one of the copy, too."""
        if not views:
            return
        try:
            self._query(SETTINGS + ";\n".join(f"SELECT 1 FROM {view} LIMIT 0" for view in views))
        except QueryError:
            for view in views:
                try:
                    self._query(SETTINGS + f"SELECT 1 FROM {view} LIMIT 0")
                except QueryError as error:
                    self.made.objects["view"].setdefault(f"{self.database}/{view}", {})["error"] = str(error)
