# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that write the tables at the end of a playbook; what they do stands in plugin_utils/report.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.report import run_failures, run_report
from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.status_text import status_failures, status_report


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "run_failures": run_failures,
            "run_report": run_report,
            "status_failures": status_failures,
            "status_report": status_report,
        }
