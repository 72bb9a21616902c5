# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for playbooks; what they do stands in plugin_utils/inventory.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.inventory import (
    human_bytes,
    instance_arguments,
    local_time,
    restore_expectations,
    select_instances,
)
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.restore import (
    hours_from_now,
    instruction_from_answers,
    restore_agent_config,
    restore_channel,
    restore_plan_text,
    restore_ranges_text,
    restore_target,
)
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.schedule import (
    due_slot,
    due_window,
    schedule_problems,
)


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "due_slot": due_slot,
            "due_window": due_window,
            "hours_from_now": hours_from_now,
            "human_bytes": human_bytes,
            "instance_arguments": instance_arguments,
            "instruction_from_answers": instruction_from_answers,
            "local_time": local_time,
            "restore_agent_config": restore_agent_config,
            "restore_channel": restore_channel,
            "restore_expectations": restore_expectations,
            "restore_plan_text": restore_plan_text,
            "restore_ranges_text": restore_ranges_text,
            "restore_target": restore_target,
            "schedule_problems": schedule_problems,
            "select_instances": select_instances,
        }
