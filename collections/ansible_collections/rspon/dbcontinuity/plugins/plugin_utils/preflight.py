# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks preflight and site find on the hosts, and the table people read.

A finding is a plain mapping: ``instance`` (empty for a host as a whole), ``host``, ``check``, ``level``, ``says``,
``remedy``. Levels: ``ok``; ``note`` (worth knowing); ``restart`` (takes effect when somebody restarts the server);
``problem`` (forbids the work); ``failed`` (the playbook itself could not do its part there).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb.inspect import (
    SEES_EVERYTHING,
    SHIPS_LOGS,
)

from .inventory import human_bytes, select_instances
from .report_table import table

Finding = dict[str, str]
FORBIDDING = ("failed", "problem", "restart")
_MARKS = {"ok": "ok", "note": "note", "restart": "RESTART", "problem": "PROBLEM", "failed": "FAILED"}
_RUN_SITE = "Run the playbook site."
_RESTART = "Restart the server at a time of your choice; nothing here does it."
# What option files, service files and SQL take without quoting that one of them would read differently.
_PASSWORD = re.compile(r"^[A-Za-z0-9_.~+=:@/-]{12,128}$")
_USER = re.compile(r"^[a-z_][a-z0-9_]{0,31}$")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# What mariadb-backup needs of its local account.
COPIES_FILES = ("RELOAD", "PROCESS", "LOCK TABLES", "BINLOG MONITOR", "REPLICATION SLAVE")
_GATHERED = ("production_findings", "backup_findings", "backup_possible", "backup_receivers", "nas_findings")
_CERTIFICATE_DAYS_LEFT = 30
_ROOM_LEFT = 0.1


def server_look(text: str, separator: str = "\t") -> dict[str, dict[str, Any]]:
    """Return what a server answered: lines of tag, key and value.

    :returns: by tag and key; the tags ``variable`` and ``coming`` (what a restart will bring) have one value for a key,
        the last, any other has a list.
    """
    look: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        tag, key, value = [*line.split(separator, 2), "", ""][:3]
        if tag in ("variable", "coming"):
            look.setdefault(tag, {})[key.lower()] = value
        else:
            look.setdefault(tag, {}).setdefault(key, []).append(value)
    return look


def inventory_problems(
    instances: Mapping[str, Mapping[str, Any]],
    credentials: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    only: str = "",
) -> list[str]:
    """Return what is wrong with the inventory, a sentence each; no sentence holds a secret."""
    chosen = select_instances(instances, only)
    problems = []
    if len(groups.get("backup", [])) != 1:
        problems.append(f"The group backup has {len(groups.get('backup', []))} hosts; one keeps the repository.")
    for name in sorted(set(credentials) - set(instances)):
        problems.append(f"dbc_credentials has {name}, which dbc_instances does not have.")
    for name, value in chosen.items():
        if value["host"] not in groups.get("production", []):
            problems.append(f"dbc_instances.{name} is on {value['host']}, which is not in the group production.")
        if value["engine"] == "files":
            if not value.get("paths"):
                problems.append(f"dbc_instances.{name} names no paths.")
            continue
        if value["engine"] == "postgresql" and not re.match(r"^\d{2,}/[\w.-]+$", str(value.get("cluster", ""))):
            problems.append(f"dbc_instances.{name} names no cluster such as 15/main; pg_lsclusters shows it.")
        problems += _credential_problems(name, value, credentials.get(name) or {})
    return problems


def _credential_problems(name: str, instance: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    problems = []
    accounts = ["ship"]
    if instance["engine"] == "mariadb" and (instance.get("method") or "physical") == "physical":
        accounts.append("backup")
    for account in accounts:
        where = f"dbc_credentials.{name}.{account}"
        value = given.get(account)
        if not isinstance(value, Mapping) or not value.get("user") or not value.get("password"):
            problems.append(
                f"{where} has no user and password. Give the vault: -e @inventories/rspon.vault.yml --ask-vault-pass"
            )
            continue
        if not _USER.match(str(value["user"])):
            problems.append(f"{where}.user is no plain name: lower-case letters, digits, underscore, at most 32.")
        if not _PASSWORD.match(str(value["password"])) or "CHANGE" in str(value["password"]):
            problems.append(
                f"{where}.password is not usable: 12 to 128 letters, digits or _.~+=:@/- and not the example's."
            )
    if len(accounts) == 2 and len({str((given.get(each) or {}).get("user")) for each in accounts}) == 1 and given:
        problems.append(f"dbc_credentials.{name}: ship and backup have the same user; they need different rights.")
    return problems


def host_addresses(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the addresses that hosts come from: ``dbc_address``, or ``ansible_host``, or the name."""
    found = []
    for host in hosts:
        variables = hostvars[host]
        found.append(str(variables.get("dbc_address") or variables.get("ansible_host") or host))
    return found


def site_findings(
    hostvars: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], instances: Mapping[str, Mapping[str, Any]]
) -> list[Finding]:
    """Return what all hosts found, gathered from their facts; a host that failed or was not reached says so.

    What concerns a host as a whole comes first, then instance by instance.
    """
    found: list[Finding] = []
    for host in hosts:
        variables = hostvars[host]
        names = ", ".join(name for name, value in instances.items() if value.get("host") == host)
        one = _Findings("", host)
        if not variables.get("dbc_reached"):
            one.add(
                "reachable",
                "failed",
                "Ansible cannot log in" + (f"; on it: {names}" if names else ""),
                f"Check name, network, key and sudo: ansible {host} -m ansible.builtin.ping",
            )
        for failure in variables.get("dbc_failures") or []:
            one.add(
                "set-up", "failed", str(failure), "Correct it and run this again; the task's own message stands above."
            )
        found += one.all
        for name in _GATHERED:
            found += variables.get(name) or []
    order = {name: number for number, name in enumerate(instances, start=1)}
    return sorted(found, key=lambda each: order.get(each["instance"], 0))


class _Findings:
    """Findings of one instance, or of a host."""

    def __init__(self, instance: str, host: str) -> None:
        self._instance = instance
        self._host = host
        self.all: list[Finding] = []

    def add(self, check: str, level: str, says: str, remedy: str = "") -> None:
        self.all.append(
            {
                "instance": self._instance,
                "host": self._host,
                "check": check,
                "level": level,
                "says": says,
                "remedy": "" if level == "ok" else remedy,
            }
        )

    def judge(self, check: str, good: bool, says: str, otherwise: str, remedy: str, level: str = "problem") -> None:
        self.add(check, "ok" if good else level, says if good else otherwise, remedy)


def mariadb_findings(look: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[Finding]:
    """Return what is right and wrong with a MariaDB server, as its administrator sees it.

    :param wanted: ``instance``, ``host``, ``settings``, ``local`` (the backup host is this host), ``physical``,
        ``prepared`` (the option file is written), ``certificate`` (its path, where it is ours), ``ship_user``,
        ``backup_user``, ``addresses``.
    """
    found = _Findings(str(wanted["instance"]), str(wanted["host"]))
    live = look.get("variable", {})
    late = _RESTART if wanted["prepared"] else f"{_RUN_SITE} Then: {_RESTART.lower()}"
    found.judge(
        "binary log",
        live.get("log_bin") == "ON",
        f"on, {live.get('log_bin_basename', '')}",
        "log_bin is off: no log to ship (B3)",
        late,
        "restart",
    )
    for name, value in wanted["settings"].items():
        now = live.get(str(name).lower())
        if now is None:
            found.add(
                str(name), "problem", "the server does not know this setting", "Correct settings of the instance."
            )
        else:
            found.judge(str(name), _same(now, value), now, f"is {now}, should be {value}", _RUN_SITE)
    if not wanted["local"]:
        address = live.get("bind_address", "")
        open_to_network = live.get("skip_networking") != "ON" and address not in _LOOPBACK
        says = "skip_networking is on" if live.get("skip_networking") == "ON" else f"listens on {address} only"
        found.judge(
            "network", open_to_network, f"listens on {address or '*'}, port {live.get('port')}", says, late, "restart"
        )
        certificate = wanted["certificate"]
        speaks = live.get("have_ssl") == "YES" and (not certificate or live.get("ssl_cert") == certificate)
        found.judge(
            "TLS",
            speaks,
            live.get("ssl_cert", ""),
            "the server does not use the certificate the backup host knows",
            late,
            "restart",
        )
    users: dict[str, tuple[str, ...]] = {wanted["ship_user"]: (*SEES_EVERYTHING, *SHIPS_LOGS)}
    if wanted["physical"]:
        users[wanted["backup_user"]] = COPIES_FILES
    for user, needed in users.items():
        hosts = ["localhost"] if wanted["local"] or user == wanted["backup_user"] else list(wanted["addresses"])
        for host in hosts:
            _account(found, look, f"'{user}'@'{host}'", needed, tls=host != "localhost")
    if live.get("binlog_checksum") == "NONE":
        found.add(
            "binlog_checksum",
            "note",
            "is NONE: a flipped bit in a log shows only by chance",
            "Set binlog_checksum = CRC32.",
        )
    if live.get("innodb_flush_log_at_trx_commit") not in ("1", None):
        found.add(
            "innodb_flush_log_at_trx_commit",
            "note",
            f"is {live['innodb_flush_log_at_trx_commit']}: a power cut can take transactions that are in the binary log",
            "Set innodb_flush_log_at_trx_commit = 1.",
        )
    return found.all


def _account(
    found: _Findings, look: Mapping[str, Mapping[str, Any]], account: str, needed: Iterable[str], *, tls: bool
) -> None:
    known = look.get("account", {}).get(account)
    if known is None:
        found.add("account", "problem", f"{account} is not there", _RUN_SITE)
        return
    missing = sorted(set(needed) - set(look.get("privilege", {}).get(account, [])))
    if missing:
        found.add("account", "problem", f"{account} lacks {', '.join(missing)}", _RUN_SITE)
    elif tls and not known[0]:
        found.add("account", "problem", f"{account} may come without TLS", _RUN_SITE)
    else:
        found.add("account", "ok", account)


def postgresql_findings(look: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[Finding]:
    """Return what is right and wrong with a PostgreSQL server, as its administrator sees it; see `mariadb_findings`."""
    found = _Findings(str(wanted["instance"]), str(wanted["host"]))
    live = look.get("variable", {})
    late = f"{_RUN_SITE} If it is still told then: {_RESTART.lower()}"
    level = live.get("wal_level", "")
    if wanted["physical"]:
        found.judge(
            "wal_level",
            level in ("replica", "logical"),
            level,
            f"is {level}: no base backup and no log",
            f"Set wal_level = replica. {_RESTART}",
            "restart",
        )
        for name, least in (("max_wal_senders", 4), ("max_replication_slots", 3)):
            count = int(live.get(name) or 0)
            found.judge(
                name,
                count >= least,
                str(count),
                f"is {count}, at least {least} are needed",
                f"Raise {name}. {_RESTART}",
                "restart",
            )
    for name in wanted["settings"]:
        for now in look.get("setting", {}).get(str(name), ["unknown to the server"]):
            found.add(
                str(name),
                "ok" if now != "unknown to the server" else "problem",
                now,
                "Correct settings of the instance.",
            )
    pending = sorted(look.get("pending", {}))
    if pending:
        found.add("pending restart", "restart", ", ".join(pending), _RESTART)
    if not wanted["local"]:
        address = live.get("listen_addresses", "")
        alone = {part.strip() for part in address.split(",")} <= _LOOPBACK | {""}
        found.judge(
            "network",
            not alone,
            f"listens on {address}, port {live.get('port')}",
            f"listens on {address or 'nothing'} only",
            late,
            "restart",
        )
        certificate = wanted["certificate"]
        speaks = live.get("ssl") == "on" and (not certificate or live.get("ssl_cert_file") == certificate)
        found.judge(
            "TLS",
            speaks,
            live.get("ssl_cert_file", ""),
            "the server does not use the certificate the backup host knows",
            _RUN_SITE,
        )
    found.judge(
        "pg_hba.conf",
        not look.get("hba error"),
        "no error",
        "; ".join(_flat(look.get("hba error"))),
        "Correct the line and reload the server.",
    )
    user = wanted["ship_user"]
    role = look.get("role", {})
    if not role:
        found.add("account", "problem", f"the role {user} is not there", _RUN_SITE)
        return found.all
    lacks = sorted(
        name for name, values in role.items() if values[0] != "true" and (wanted["physical"] or name != "REPLICATION")
    )
    lacks += [f"CONNECT on {name}" for name, values in look.get("connect", {}).items() if values[0] != "true"]
    found.judge("account", not lacks, str(user), f"{user} lacks {', '.join(lacks)}", _RUN_SITE)
    if not look.get("hba"):
        found.add("pg_hba.conf", "problem", f"no line lets {user} in", _RUN_SITE)
    return found.all


def _flat(values: Any) -> list[str]:
    return [f"line {line}: {text}" for line, texts in (values or {}).items() for text in texts]


def host_findings(seen: Mapping[str, Any]) -> list[Finding]:
    """Return what is said of a production host that an instance is on.

    :param seen: ``instance``, ``host``, ``certificate_until`` (YYYY-MM-DD or empty), ``today``, ``free`` and ``size``
        (bytes of the file system the data are on; 0 where unknown), ``folder``.
    """
    found = _Findings(str(seen["instance"]), str(seen["host"]))
    until = str(seen.get("certificate_until") or "")
    if until:
        left = (date.fromisoformat(until) - date.fromisoformat(str(seen["today"]))).days
        level = "ok" if left > _CERTIFICATE_DAYS_LEFT else "problem" if left < 0 else "note"
        found.add(
            "certificate", level, f"valid until {until}", f"Remove {seen['certificate']} and run the playbook site."
        )
    free, size = int(seen.get("free") or 0), int(seen.get("size") or 0)
    if size:
        found.judge(
            "space on production",
            free > size * _ROOM_LEFT,
            f"{human_bytes(free)} free in {seen['folder']}",
            f"only {human_bytes(free)} of {human_bytes(size)} free in {seen['folder']}: the log grows while the backup host is away",
            "Free space, or shorten what the server keeps of its log.",
            "note",
        )
    return found.all


def backup_findings(result: Mapping[str, Any], name: str, host: str) -> list[Finding]:
    """Return what ``full_backup`` said in check mode about one instance."""
    found = _Findings(name, host)
    if "plan" not in result:
        problems = (result.get("details") or {}).get("problems") or [
            {
                "message": str(result.get("msg", "failed")).removesuffix(str(result.get("remedy", ""))).strip(),
                "remedy": result.get("remedy", ""),
            }
        ]
        for each in problems:
            found.add("backup", "problem", str(each["message"]), str(each["remedy"]))
        return found.all
    plan = result.get("plan") or {}
    counts = ", ".join(f"{count} {kind}" for kind, count in (result.get("objects") or {}).items() if count)
    found.add("backup", "ok", f"can be made: {counts or 'its folders'}")
    found.add(
        "space",
        "ok",
        f"needs about {human_bytes(plan.get('needed_bytes', 0))}, {human_bytes(plan.get('free_bytes', 0))} free",
    )
    for warning in result.get("notes") or []:
        found.add("backup", "note", str(warning))
    return found.all


def receiver_findings(result: Mapping[str, Any], name: str, host: str) -> list[Finding]:
    """Return what ``log_shipping`` said about one instance's receiver (B3), in check mode or not."""
    found = _Findings(name, host)
    if "changes" not in result:
        remedy = str(result.get("remedy", ""))
        says = str(result.get("msg", "failed")).removesuffix(remedy).strip()
        found.add("receiver", "problem", f"not set up yet: {says}", f"{remedy} Then: {_RUN_SITE.lower()}".strip())
    elif not result.get("running"):
        says = "; ".join(str(each) for each in result["changes"]) or "it does not run"
        found.add("receiver", "problem", f"the log is not streamed; missing: {says}", _RUN_SITE)
    else:
        state = str((result.get("status") or {}).get("state", "runs"))
        level = "note" if result["changes"] and "run" not in result else "ok"
        found.add("receiver", level, f"{result['service']}: {state}", _RUN_SITE)
    return found.all


def repository_findings(seen: Mapping[str, Any]) -> list[Finding]:
    """Return what is said of a backup host as a whole.

    :param seen: ``host``, ``repository``, ``marker`` (it is there), ``recipients``, ``own`` (the operations key's public
        half), ``crypt`` (``yes``, ``no`` or empty where unknown), ``shared`` (production hosts that are this host),
        ``clock`` (whether it is synchronised), ``missing`` (hosts without a pinned key).
    """
    found = _Findings("", str(seen["host"]))
    found.judge(
        "repository",
        bool(seen["marker"]),
        str(seen["repository"]),
        f"{seen['repository']} holds no repository",
        "Mount its file system; for a new repository run the playbook site.",
    )
    recipients, own = list(seen["recipients"]), str(seen["own"])
    if not own:
        found.add("encryption", "problem", "there is no operations key", _RUN_SITE)
    elif not recipients:
        found.add(
            "encryption",
            "problem",
            "dbc_recipients is empty: backups would be stored in the clear",
            f"Put {own} and the escrow key's public half into dbc_recipients.",
        )
    elif own not in recipients:
        found.add(
            "encryption",
            "problem",
            "dbc_recipients lacks the operations key: nothing could be read back here",
            f"Add this line to dbc_recipients: {own}",
        )
    elif len(recipients) == 1:
        found.add(
            "encryption",
            "note",
            "one recipient only: with this host its key is lost, and so is every copy",
            "Make an escrow key elsewhere with age-keygen, keep it in a safe, and add its public half to dbc_recipients.",
        )
    else:
        found.add("encryption", "ok", f"{len(recipients)} recipients, the operations key among them")
    if seen["crypt"]:
        found.judge(
            "file system",
            seen["crypt"] == "yes",
            "encrypted",
            "the repository's file system is not encrypted; logs lie there in the clear until a cycle takes them",
            "Put it on LUKS.",
            "note",
        )
    found.judge(
        "clock",
        bool(seen["clock"]),
        "synchronised",
        "not synchronised: times in the evidence may be wrong",
        "Set up systemd-timesyncd or chrony.",
        "note",
    )
    if seen["shared"]:
        found.add(
            "isolation",
            "note",
            f"{', '.join(seen['shared'])} is production and backup in one: its backups are lost with it",
            "Copy them to the NAS and the external disk, or use a second server.",
        )
    if seen["missing"]:
        found.add("SSH", "problem", f"no pinned host key of {', '.join(seen['missing'])}", _RUN_SITE)
    return found.all


def findings_table(findings: Sequence[Finding], every: bool = True) -> list[str]:
    """Return the lines people read: a row a finding, and below the table what to do.

    :param every: also what is well.
    """
    shown = [each for each in findings if every or each["level"] != "ok"]
    if not shown:
        return ["Nothing to report."]
    rows = [
        (each["instance"] or "-", each["host"], each["check"], _MARKS[each["level"]], _cut(each["says"]))
        for each in shown
    ]
    lines = table(rows, ("instance", "host", "check", "result", "what was found"))
    remedies: dict[str, list[str]] = {}
    for each in shown:
        if each["level"] != "ok" and (each["remedy"] or len(each["says"]) > _WIDE):
            text = each["remedy"] if len(each["says"]) <= _WIDE else f"{each['says']} {each['remedy']}".strip()
            remedies.setdefault(text, []).append(f"{each['instance'] or each['host']} ({each['check']})")
    if remedies:
        lines += ["", "What to do:"]
        lines += [f"- {', '.join(dict.fromkeys(who))}: {remedy}" for remedy, who in remedies.items()]
    return lines


_WIDE = 90


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else text[: _WIDE - 1] + "…"


def forbidding(findings: Sequence[Finding], levels: Sequence[str] = FORBIDDING) -> list[str]:
    """Return one sentence for each finding that stands in the way."""
    return [
        f"{each['instance'] or each['host']}: {each['check']}: {each['says']}"
        for each in findings
        if each["level"] in levels
    ]


def _same(now: str, wanted: Any) -> bool:
    """Tell whether a setting has the value it should, as MariaDB writes values."""
    words = {"true": "ON", "1": "ON", "false": "OFF", "0": "OFF"}
    one, two = str(now).upper(), str(wanted).upper()
    if one == two:
        return True
    if one in ("ON", "OFF"):
        return one == words.get(two.lower(), two)
    try:
        return float(one) == float(two)
    except ValueError:
        return False
