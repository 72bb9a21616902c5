# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for scheduled runs; what they do stands in plugin_utils/scheduled.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.scheduled import (
    notify_problems,
    scheduled_activities,
    scheduled_crontab,
    scheduled_inventory,
)


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "notify_problems": notify_problems,
            "scheduled_activities": scheduled_activities,
            "scheduled_crontab": scheduled_crontab,
            "scheduled_inventory": scheduled_inventory,
        }
