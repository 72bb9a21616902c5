# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook restore asks people, tells them, and hands to the module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from ansible.errors import AnsibleFilterError

from .inventory import human_bytes, local_time, select_instances

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_GTID = re.compile(r"\d+-\d+-\d+(,\d+-\d+-\d+)*")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")  # which is no GTID
_LATEST = ("", "latest", "terakhir")
# What the agent cannot do without, as Debian lays it out; an instance's `restore` says otherwise.
_PLACES: Mapping[str, Mapping[str, str]] = {
    "mariadb": {"unit": "mariadb.service", "datadir": "/var/lib/mysql", "socket": "/run/mysqld/mysqld.sock"},
    "postgresql": {
        "unit": "postgresql@{version}-{name}.service",
        "datadir": "/var/lib/postgresql/{version}/{name}",
        "program_dir": "/usr/lib/postgresql/{version}/bin",
        "socket": "/var/run/postgresql",
        "port": "5432",
    },
    "files": {},
}
_OWNERS = {"mariadb": "mysql", "postgresql": "postgres"}


def restore_target(text: Optional[str], kind: str = "") -> dict[str, str]:
    """Return the target that a person wrote, as the modules take it.

    :param text: nothing or ``latest``, a time with its UTC offset, a GTID, or an LSN.
    :param kind: what it is, where the writer says so.
    """
    moment = str(text or "").strip()
    if kind:
        return {"kind": kind, "value": moment}
    if moment.lower() in _LATEST:
        return {"kind": "latest", "value": ""}
    if _GTID.fullmatch(moment) and not _DAY.fullmatch(moment):
        return {"kind": "gtid", "value": moment}
    if _LSN.fullmatch(moment):
        return {"kind": "lsn", "value": moment}
    return {"kind": "time", "value": moment}


def restore_agent_config(
    instances: Mapping[str, Mapping[str, Any]], name: str, noted: Optional[Mapping[str, Any]] = None
) -> dict[str, Any]:
    """Return what production's restore agent is told of one instance.

    :param noted: the places that ``site`` read from the running server; ``restore`` of the instance goes before them.
    """
    instance = select_instances(instances, name)[name]
    engine = str(instance["engine"])
    version, _slash, cluster = str(instance.get("cluster") or "").partition("/")
    places = {key: value.format(version=version, name=cluster) for key, value in _PLACES[engine].items()}
    places.update({key: instance[key] for key in ("socket", "port") if instance.get(key)})
    places.update(noted or {})
    places.update(instance.get("restore") or {})
    config: dict[str, Any] = {"engine": engine, "restore": places}
    if engine in _OWNERS:
        config["run_as"] = str(instance.get("run_as") or _OWNERS[engine])
    else:
        config["paths"] = list(instance.get("paths") or [])
    return config


def restore_channel(instance: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the restore agent of an instance is reached, from what its backup agent is reached by.

    :param instance: as the modules take it.
    """
    agent: Mapping[str, Any] = instance["agent"]
    if agent["transport"] == "local":
        return {"transport": "local", "config_dir": "/run/dbcontinuity/restore"}
    known = {key: agent[key] for key in ("transport", "host", "port", "known_hosts_file") if key in agent}
    return {**known, "user": agent.get("user", "dbcontinuity")}


def instruction_from_answers(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instruction that a person's answers make, as ``dbc_instruction`` is written.

    :param asked: the registered result of the questions, one for each key.
    :raises AnsibleFilterError: if a person was not written as NAME, NUMBER.
    """
    said = {each["item"]["key"]: str(each.get("user_input") or "").strip() for each in asked.get("results", [])}
    given: dict[str, Any] = {
        "instructed_by": {"id_number": said.get("head", "")},
        "reason": said.get("reason", ""),
        "valid_until": hours_from_now(_number(said.get("hours") or "24")),
    }
    for key, name in (("at", "instructed_at"), ("ticket", "ticket")):
        if said.get(key):
            given[name] = said[key]
    if said.get("letter"):
        given["letter"] = {"number": said["letter"], "date": said.get("date", "")}
    else:
        given["telephone"] = {"heard_by": _person(said.get("heard", "")), "witness": _person(said.get("witness", ""))}
    return given


def _person(text: str) -> dict[str, str]:
    name, _comma, number = text.rpartition(",")
    if not name.strip() or not number.strip():
        raise AnsibleFilterError(
            f"{text!r} names no person: an instruction by telephone is heard by one person and witnessed by another,"
            " each written as NAME, NUMBER. Nothing was touched."
        )
    return {"name": name.strip(), "id_number": number.strip()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise AnsibleFilterError(f"{text!r} is no number of hours. Nothing was touched.") from None


def hours_from_now(hours: float, now: Optional[str] = None) -> str:
    """Return the moment so many hours from now, UTC, to the second."""
    began = datetime.fromisoformat(now) if now else datetime.now(timezone.utc)
    return (began + timedelta(hours=float(hours))).astimezone(timezone.utc).isoformat(timespec="seconds")


def restore_ranges_text(answer: Mapping[str, Any]) -> str:
    """Return the moments that can be brought back, as lines."""
    found = [f"  {each['text']}" for each in answer.get("ranges", [])]
    if not found:
        return f"{answer['instance']}: nothing can be brought back; there is no full backup."
    return "\n".join([f"{answer['instance']} can be brought back to any moment of:", *found])


def restore_plan_text(answer: Mapping[str, Any], zone: str) -> str:
    """Return the plan of a restore as a person reads it before typing the instance's name."""
    plan: Optional[Mapping[str, Any]] = answer.get("plan")
    if plan is None:
        raise AnsibleFilterError("There is no plan: the module was not asked for one.")
    lines = [
        f"Plan of the restore of {answer['instance']}",
        f"  scope      {', '.join(plan['scope'])} ({plan['mode']})",
        *_moment_lines(plan.get("resolved") or {}, zone),
    ]
    if plan.get("set"):
        made = local_time(plan.get("made_at"), zone)
        logs = f", and {plan['logs']} logs ({human_bytes(plan['log_bytes'])})" if plan.get("logs") else ""
        lines.append(f"  from       {plan['set']}, made {made}{logs}")
    minutes = plan.get("minutes")
    if minutes:
        parts = ", ".join(f"{name} {value:g}" for name, value in minutes["steps"].items())
        lines.append(f"  takes      about {minutes['total']:g} minutes ({parts}); {minutes['based_on']}")
    if plan.get("lost"):
        lines.append(f"  lost       {plan['lost']['detail']}")
    for each in plan.get("room", []):
        needed, free = human_bytes(each["needed_bytes"]), human_bytes(each["free_bytes"])
        lines.append(f"  room       {each['host']} {each['path']}: {needed} needed, {free} free")
    lines += [
        f"  {number}.{'':<8} {step}" if number < 10 else f"  {number}. {step}"
        for number, step in enumerate(plan.get("steps", []), 1)
    ]
    lines += [f"  note       {each}" for each in plan.get("remarks", [])]
    lines += [f"  FORBIDDEN  {each}" for each in plan.get("problems", [])]
    lines.append(f"  plan       {plan['plan_sha256']}")
    return "\n".join(lines)


def _moment_lines(resolved: Mapping[str, Any], zone: str) -> list[str]:
    lines = []
    if resolved.get("moment"):
        position = f", {resolved['position']}" if resolved.get("position") else ""
        lines.append(f"  moment     {local_time(resolved['moment'], zone)}{position}")
    for key, words in (("before", "last kept"), ("after", "first lost")):
        neighbour = resolved.get(key)
        if neighbour and neighbour["position"]:
            lines.append(f"  {words:<10} {neighbour['position']} of {local_time(neighbour['moment'], zone)}")
    return lines
