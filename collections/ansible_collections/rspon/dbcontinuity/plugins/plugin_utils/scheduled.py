# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the site's calendar and inventory to what a backup host needs to act by itself: units, a crontab, an inventory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Optional

from ansible.errors import AnsibleFilterError

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.calendar import Calendar
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import parse_moment
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import is_private_key
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ContinuityError, InputError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.notify import channels_from

# Of an instance, what set-up alone needs, and where a site may have put anything.
_NOT_SCHEDULED = ("settings", "settings_file", "tls", "server_id", "restore", "configuration_paths")
# Of a production host, what is needed to reach it.
_OF_A_HOST = ("ansible_host", "ansible_port")


def scheduled_activities(calendar: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the backup host itself starts: ``name``, ``unit`` (without its ending) and ``on_calendar`` of each.

    :param calendar: ``zone``, ``schedule`` and ``scheduler``. Where AWX starts the activities, the log cycles are left here.
    """
    return [
        {"name": name, "unit": f"dbcontinuity-{name.replace('_', '-')}", "on_calendar": activity.on_calendar()}
        for name, activity in _here(_calendar(calendar)).items()
    ]


def scheduled_crontab(
    calendar: Mapping[str, Any], host_zone: str, command: str, now: Optional[str] = None
) -> list[str]:
    """Return the lines of a crontab for a host without systemd.

    :param host_zone: the zone of the host's own clock, which cron goes by.
    :param command: what is run, with the activity behind it.
    """
    moment = parse_moment(now) if now else datetime.now(timezone.utc)
    try:
        return [
            f"{fields} root {command} {name} 2>&1 | logger --socket-errors=off -t dbcontinuity-{name.replace('_', '-')}"
            for name, activity in _here(_calendar(calendar)).items()
            for fields in activity.crontab(host_zone, moment)
        ]
    except ContinuityError as error:
        raise AnsibleFilterError(str(error)) from None


def scheduled_inventory(
    variables: Mapping[str, Any], hostvars: Mapping[str, Mapping[str, Any]], backup_host: str, python: str
) -> dict[str, Any]:
    """Return the inventory of scheduled runs: this host, the names and addresses of production, no credential.

    :param variables: the site's variables by name; what is not defined is left out.
    """
    kept = {name: value for name, value in variables.items() if value not in (None, "")}
    for recipient in kept.get("dbc_recipients") or []:
        if is_private_key(str(recipient)):
            raise AnsibleFilterError(
                "dbc_recipients holds a private key. Put the public half there, and make a new key."
            )
    instances = {
        name: {key: value for key, value in instance.items() if key not in _NOT_SCHEDULED}
        for name, instance in kept["dbc_instances"].items()
    }
    hosts = sorted({str(instance["host"]) for instance in instances.values()})
    own = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": python}
    production = {
        host: {key: hostvars[host][key] for key in _OF_A_HOST if host in hostvars and hostvars[host].get(key)}
        for host in hosts
        if host != backup_host
    }
    if backup_host in hosts:
        production[backup_host] = {}
    return {
        "all": {
            "vars": {**kept, "dbc_instances": instances},
            "children": {"backup": {"hosts": {backup_host: own}}, "production": {"hosts": production}},
        }
    }


def notify_problems(channels: object) -> list[str]:
    """Return what is wrong with ``dbc_notify``, without any value of it that could be secret."""
    try:
        channels_from(channels)
    except InputError as error:
        return [str(error)]
    return []


def _calendar(values: Mapping[str, Any]) -> Calendar:
    try:
        return Calendar.from_mapping(values)
    except ContinuityError as error:
        raise AnsibleFilterError(str(error)) from None


def _here(calendar: Calendar) -> dict[str, Any]:
    """Return the activities that the backup host starts; a log cycle must not wait for another host."""
    alone = calendar.scheduler == "systemd"
    return {name: each for name, each in calendar.activities.items() if alone or name == "log_cycle"}
