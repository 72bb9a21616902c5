# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory's variables to what the modules are told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional
from zoneinfo import ZoneInfo

from ansible.errors import AnsibleFilterError

ENGINES = ("mariadb", "postgresql", "files")
# Keys of an instance that go to the modules as they are.
_PASSED = ("engine", "method", "credentials", "compress_on", "compression_level", "parallel")
# What a test restore asks of an instance's copy.
_EXPECTED = ("checks", "newest_row_sql", "newest_row_database", "rto_minutes", "rpo_minutes")
_KNOWN = {
    *_PASSED,
    *_EXPECTED,
    "host",
    "address",
    "port",
    "socket",
    "database",
    "cluster",
    "paths",
    "agent",
    "description",
    "configuration_paths",
    "server_id",
    "restore",
    "run_as",
    "settings",
    "settings_file",
    "tls",
}


def select_instances(instances: Mapping[str, Mapping[str, Any]], only: str = "") -> dict[str, dict[str, Any]]:
    """Return the instances chosen by ``dbc_only`` (names separated by commas), all where it is empty.

    :raises AnsibleFilterError: for an unknown name, or an instance that is described wrongly.
    """
    if not instances:
        raise AnsibleFilterError("dbc_instances names no instance. Describe at least one; inventories/rspon shows how.")
    for name, value in instances.items():
        _check(name, value)
    wanted = [part.strip() for part in str(only).split(",") if part.strip()]
    unknown = sorted(set(wanted) - set(instances))
    if unknown:
        raise AnsibleFilterError(
            f"dbc_only names {', '.join(unknown)}, which dbc_instances does not have. It has: {', '.join(sorted(instances))}."
        )
    return {name: dict(value) for name, value in instances.items() if not wanted or name in wanted}


def _check(name: str, value: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"dbc_instances.{name} is no mapping.")
    for key in ("host", "engine"):
        if not value.get(key):
            raise AnsibleFilterError(f"dbc_instances.{name} has no {key}.")
    if value["engine"] not in ENGINES:
        raise AnsibleFilterError(
            f"dbc_instances.{name} has the engine {value['engine']!r}. Use one of: {', '.join(ENGINES)}."
        )
    unknown = sorted(set(value) - _KNOWN)
    if unknown:
        raise AnsibleFilterError(
            f"dbc_instances.{name} has {', '.join(unknown)}, which is not known. Known: {', '.join(sorted(_KNOWN))}."
        )


def instance_arguments(
    instances: Mapping[str, Mapping[str, Any]],
    hostvars: Mapping[str, Mapping[str, Any]],
    backup_host: str,
    only: str = "",
) -> list[dict[str, Any]]:
    """Return the modules' ``instance`` dictionaries, in the inventory's order.

    :param backup_host: inventory name of the host the modules run on; an instance there is reached locally.
    """
    return [_arguments(name, value, hostvars, backup_host) for name, value in select_instances(instances, only).items()]


def _arguments(
    name: str, value: Mapping[str, Any], hostvars: Mapping[str, Mapping[str, Any]], backup_host: str
) -> dict[str, Any]:
    given = dict(value.get("agent") or {})
    host = str(value["host"])
    if host not in hostvars:
        raise AnsibleFilterError(f"dbc_instances.{name} is on the host {host!r}, which the inventory does not have.")
    variables = hostvars[host]
    local = host == backup_host
    agent: dict[str, Any] = {"transport": "local" if local else "ssh"}
    if not local:
        agent["host"] = str(value.get("address") or variables.get("ansible_host") or host)
        if variables.get("ansible_port"):
            agent["port"] = int(variables["ansible_port"])
    agent.update(given)
    return {"name": name, **{key: value[key] for key in _PASSED if key in value}, "agent": agent}


def restore_expectations(instances: Mapping[str, Mapping[str, Any]], only: str = "") -> dict[str, dict[str, Any]]:
    """Return, by instance, what a test restore asks of its copy."""
    return {
        name: {key: value[key] for key in _EXPECTED if value.get(key) is not None}
        for name, value in select_instances(instances, only).items()
    }


def human_bytes(value: float) -> str:
    """Return bytes as people read them: binary units, three digits."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024 or unit == "TiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def local_time(moment: Optional[str], zone: str) -> str:
    """Return a moment of the evidence (UTC) as the site reads it; a dash where there is none."""
    if not moment:
        return "-"
    return _moment(moment).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")
