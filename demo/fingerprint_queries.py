# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 (constants only)
"""What is read of a PostgreSQL cluster: one query a kind of object, giving its qualified name and a JSON object."""

from __future__ import annotations


def _acl(column: str) -> str:
    return f"(SELECT jsonb_agg(a::text ORDER BY a::text) FROM unnest({column}) a)"


def _owner(column: str) -> str:
    return f"pg_get_userbyid({column})"


def _mine(catalog: str, alias: str) -> str:
    """Not part of an extension."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = {alias}.oid"
        " AND e.deptype = 'e')"
    )


USER_SCHEMA = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
RELATION = "format('%I.%I', n.nspname, c.relname)"
OF_RELATION = "JOIN pg_class c ON c.oid = {0} JOIN pg_namespace n ON n.oid = c.relnamespace"
TABLESPACE = "(SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace)"


def _relations(kinds: str, more: str = "") -> str:
    return f"""SELECT {RELATION}, jsonb_build_object('owner', {_owner("c.relowner")}, 'acl', {_acl("c.relacl")},
    'options', to_jsonb(c.reloptions), 'persistence', c.relpersistence, 'tablespace', {TABLESPACE}{more})
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE {USER_SCHEMA} AND c.relkind IN ({kinds}) AND {_mine("pg_class", "c")}"""


CLUSTER = {
    "tablespace": f"""SELECT spcname, jsonb_build_object('owner', {_owner("spcowner")}, 'acl', {_acl("spcacl")},
    'options', to_jsonb(spcoptions)) FROM pg_tablespace WHERE spcname !~ '^pg_'""",
    "database": f"""SELECT datname, jsonb_build_object('owner', {_owner("datdba")}, 'acl', {_acl("datacl")},
    'encoding', pg_encoding_to_char(encoding), 'collate', datcollate, 'ctype', datctype, 'limit', datconnlimit,
    'comment', shobj_description(oid, 'pg_database'), 'settings', (SELECT jsonb_agg(setconfig ORDER BY setrole)
    FROM pg_db_role_setting WHERE setdatabase = d.oid)) FROM pg_database d WHERE datallowconn AND NOT datistemplate""",
}

ACCOUNTS = {
    "role": """SELECT rolname, to_jsonb(r) - 'oid' - 'rolpassword' || jsonb_build_object('password', md5(rolpassword),
    'comment', shobj_description(oid, 'pg_authid'), 'member of', (SELECT jsonb_agg(pg_get_userbyid(m.roleid) ORDER BY pg_get_userbyid(m.roleid))
    FROM pg_auth_members m WHERE m.member = r.oid), 'settings', (SELECT jsonb_agg(setconfig)
    FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0)) FROM pg_authid r WHERE rolname !~ '^pg_'""",
}

DATABASE = {
    "schema": f"""SELECT format('%I', nspname), jsonb_build_object('owner', {_owner("nspowner")},
    'acl', {_acl("nspacl")}) FROM pg_namespace n WHERE {USER_SCHEMA}""",
    "extension": """SELECT extname, jsonb_build_object('version', extversion, 'schema', extnamespace::regnamespace)
  FROM pg_extension""",
    "table": _relations(
        "'r', 'p', 'f'",
        """, 'row security', c.relrowsecurity, 'forced', c.relforcerowsecurity, 'identity', c.relreplident,
    'partition key', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
    'bound', pg_get_expr(c.relpartbound, c.oid), 'kind', c.relkind,
    'inherits', (SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno) FROM pg_inherits i
      WHERE i.inhrelid = c.oid)""",
    ),
    "view": _relations("'v'", ", 'definition', pg_get_viewdef(c.oid)"),
    "materialized view": _relations("'m'", ", 'definition', pg_get_viewdef(c.oid), 'filled', c.relispopulated"),
    "sequence": _relations(
        "'S'",
        """, 'owned by', (SELECT format('%s.%I', d.refobjid::regclass, a.attname) FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
      AND d.refclassid = 'pg_class'::regclass LIMIT 1)""",
    ),
    "column": f"""SELECT {RELATION} || format('.%I', a.attname), jsonb_build_object(
    'type', format_type(a.atttypid, a.atttypmod), 'not null', a.attnotnull, 'identity', a.attidentity,
    'generated', a.attgenerated, 'default', pg_get_expr(f.adbin, f.adrelid), 'collation', a.attcollation::regcollation,
    'storage', a.attstorage, 'compression', a.attcompression, 'statistics', a.attstattarget,
    'options', to_jsonb(a.attoptions), 'acl', {_acl("a.attacl")}, 'inherited', a.attinhcount,
    'position', (SELECT count(*) FROM pg_attribute b WHERE b.attrelid = a.attrelid AND b.attnum BETWEEN 1 AND a.attnum
      AND NOT b.attisdropped))
  FROM pg_attribute a {OF_RELATION.format("a.attrelid")}
    LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  WHERE {USER_SCHEMA} AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped
    AND {_mine("pg_class", "c")}""",
    "index": f"""SELECT {RELATION}, jsonb_build_object('definition', pg_get_indexdef(i.indexrelid),
    'valid', i.indisvalid, 'clustered', i.indisclustered, 'identity', i.indisreplident, 'tablespace', {TABLESPACE})
  FROM pg_index i {OF_RELATION.format("i.indexrelid")} WHERE {USER_SCHEMA}""",
    "constraint": f"""SELECT CASE WHEN k.conrelid <> 0 THEN k.conrelid::regclass::text ELSE k.contypid::regtype::text END
    || format('.%I', k.conname), jsonb_build_object('definition', pg_get_constraintdef(k.oid),
    'validated', k.convalidated, 'inherited', k.coninhcount, 'local', k.conislocal)
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
  WHERE {USER_SCHEMA} AND (k.conrelid <> 0 OR k.contypid <> 0)""",
    "trigger": f"""SELECT {RELATION} || format('.%I', t.tgname), jsonb_build_object(
    'definition', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled)
  FROM pg_trigger t {OF_RELATION.format("t.tgrelid")} WHERE {USER_SCHEMA} AND NOT t.tgisinternal""",
    "event trigger": f"""SELECT evtname, jsonb_build_object('event', evtevent, 'tags', to_jsonb(evttags),
    'function', evtfoid::regprocedure, 'enabled', evtenabled, 'owner', {_owner("evtowner")}) FROM pg_event_trigger t
  WHERE {_mine("pg_event_trigger", "t")}""",
    "routine": f"""SELECT p.oid::regprocedure::text, jsonb_build_object('owner', {_owner("p.proowner")},
    'acl', {_acl("p.proacl")}, 'kind', p.prokind, 'definition', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid)
    ELSE (SELECT (to_jsonb(g) - 'aggfnoid' - 'aggtranstype' - 'aggmtranstype' - 'aggsortop')::text || g.aggtranstype::regtype::text
      FROM pg_aggregate g WHERE g.aggfnoid = p.oid) END)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {USER_SCHEMA} AND {_mine("pg_proc", "p")}""",
    "rule": f"""SELECT {RELATION} || format('.%I', r.rulename), jsonb_build_object('definition', pg_get_ruledef(r.oid),
    'enabled', r.ev_enabled)
  FROM pg_rewrite r {OF_RELATION.format("r.ev_class")} WHERE {USER_SCHEMA} AND r.rulename <> '_RETURN'""",
    "policy": f"""SELECT {RELATION} || format('.%I', p.polname), jsonb_build_object('command', p.polcmd,
    'permissive', p.polpermissive, 'using', pg_get_expr(p.polqual, p.polrelid),
    'check', pg_get_expr(p.polwithcheck, p.polrelid), 'roles', (SELECT jsonb_agg(w.who ORDER BY w.who) FROM (SELECT CASE WHEN r = 0
      THEN 'public' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r) w(who)))
  FROM pg_policy p {OF_RELATION.format("p.polrelid")} WHERE {USER_SCHEMA}""",
    "type": f"""SELECT t.oid::regtype::text, jsonb_build_object('kind', t.typtype, 'owner', {_owner("t.typowner")},
    'acl', {_acl("t.typacl")}, 'base', nullif(t.typbasetype, 0)::regtype, 'default', t.typdefault,
    'not null', t.typnotnull, 'modifier', t.typtypmod, 'collation', nullif(t.typcollation, 0)::regcollation,
    'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
    'subtype', (SELECT r.rngsubtype::regtype FROM pg_range r WHERE r.rngtypid = t.oid))
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE {USER_SCHEMA} AND {_mine("pg_type", "t")} AND t.typelem = 0 AND t.typtype <> 'm'  -- a multirange is its range's
    AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))""",
    "collation": f"""SELECT t.oid::regcollation::text, jsonb_build_object('provider', t.collprovider,
    'owner', {_owner("t.collowner")}, 'locale', coalesce(to_jsonb(t)->>'colliculocale', to_jsonb(t)->>'colllocale', t.collcollate),
    'deterministic', t.collisdeterministic)
  FROM pg_collation t JOIN pg_namespace n ON n.oid = t.collnamespace WHERE {USER_SCHEMA}""",
    "operator": f"""SELECT o.oid::regoperator::text, jsonb_build_object('owner', {_owner("o.oprowner")},
    'function', o.oprcode::text, 'merges', o.oprcanmerge, 'hashes', o.oprcanhash)
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE {USER_SCHEMA} AND {_mine("pg_operator", "o")}""",
    "cast": f"""SELECT format('%s to %s', c.castsource::regtype, c.casttarget::regtype), jsonb_build_object(
    'function', c.castfunc::regprocedure, 'context', c.castcontext, 'method', c.castmethod)
  FROM pg_cast c WHERE c.oid >= 16384 AND {_mine("pg_cast", "c")}""",
    "statistics": f"""SELECT format('%I.%I', n.nspname, s.stxname), jsonb_build_object('owner', {_owner("s.stxowner")},
    'definition', pg_get_statisticsobjdef(s.oid))
  FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {USER_SCHEMA}""",
    "text search": f"""SELECT 'configuration ' || t.oid::regconfig::text, jsonb_build_object('owner', {_owner("t.cfgowner")},
    'map', (SELECT jsonb_agg(jsonb_build_array(m.maptokentype, m.mapdict::regdictionary) ORDER BY m.maptokentype,
      m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = t.oid))
  FROM pg_ts_config t JOIN pg_namespace n ON n.oid = t.cfgnamespace
  WHERE {USER_SCHEMA} AND {_mine("pg_ts_config", "t")}
  UNION ALL SELECT 'dictionary ' || t.oid::regdictionary::text, jsonb_build_object('options', t.dictinitoption)
  FROM pg_ts_dict t JOIN pg_namespace n ON n.oid = t.dictnamespace
  WHERE {USER_SCHEMA} AND {_mine("pg_ts_dict", "t")}""",
    "publication": f"""SELECT pubname, to_jsonb(p) - 'oid' - 'pubowner' || jsonb_build_object(
    'owner', {_owner("p.pubowner")}, 'tables', (SELECT jsonb_agg(r.prrelid::regclass::text ORDER BY r.prrelid::regclass::text)
      FROM pg_publication_rel r WHERE r.prpubid = p.oid)) FROM pg_publication p""",
    "foreign server": f"""SELECT srvname, jsonb_build_object('owner', {_owner("srvowner")}, 'options',
    to_jsonb(srvoptions), 'acl', {_acl("srvacl")}) FROM pg_foreign_server""",
    "default rights": f"""SELECT coalesce(defaclnamespace::regnamespace::text, '*') || ' ' || defaclobjtype::text || ' of '
    || {_owner("defaclrole")}, jsonb_build_object('acl', {_acl("defaclacl")}) FROM pg_default_acl""",
    "large object": f"""SELECT m.oid::text, jsonb_build_object('owner', {_owner("m.lomowner")},
    'acl', {_acl("m.lomacl")}, 'content', md5(lo_get(m.oid)), 'bytes', length(lo_get(m.oid)))
  FROM pg_largeobject_metadata m""",
    "comment": """SELECT i.type || ' ' || i.identity, jsonb_build_object('text', d.description)
  FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
  WHERE d.objoid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid
    AND e.deptype = 'e')""",
}
