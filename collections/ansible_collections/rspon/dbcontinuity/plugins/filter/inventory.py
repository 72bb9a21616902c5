# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for playbooks; what they do stands in plugin_utils/inventory.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.inventory import (
    due_slot,
    human_bytes,
    instance_arguments,
    local_time,
    restore_expectations,
    select_instances,
)


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "due_slot": due_slot,
            "human_bytes": human_bytes,
            "instance_arguments": instance_arguments,
            "local_time": local_time,
            "restore_expectations": restore_expectations,
            "select_instances": select_instances,
        }
