# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the playbooks preflight and site; what they do stands in plugin_utils, preflight.py and officials.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils import officials, preflight


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "backup_findings": preflight.backup_findings,
            "findings_table": preflight.findings_table,
            "forbidding": preflight.forbidding,
            "host_findings": preflight.host_findings,
            "host_addresses": preflight.host_addresses,
            "inventory_problems": preflight.inventory_problems,
            "mariadb_findings": preflight.mariadb_findings,
            "officials_problems": officials.officials_problems,
            "postgresql_findings": preflight.postgresql_findings,
            "receiver_findings": preflight.receiver_findings,
            "repository_findings": preflight.repository_findings,
            "server_look": preflight.server_look,
            "site_findings": preflight.site_findings,
        }
