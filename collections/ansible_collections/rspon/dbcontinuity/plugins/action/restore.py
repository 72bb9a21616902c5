# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress for the module restore."""

from __future__ import annotations

from ansible_collections.rspon.dbcontinuity.plugins.plugin_utils.progress_action import ProgressAction


class ActionModule(ProgressAction):
    """Runs the module and prints its progress."""
