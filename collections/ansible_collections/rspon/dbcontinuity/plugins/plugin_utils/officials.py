# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether dbc_officials says what the gates will need: found out by site in the day, not by a restore at night."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.approvals.officials import HEAD_OF_SIRS, Officials
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import PrerequisiteError


def officials_problems(officials: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with ``dbc_officials``, a sentence each; nothing where none are named yet."""
    problems = []
    listed = Officials(Path("dbc_officials"), officials, "")
    for role in officials:
        try:
            listed.appointments(role)
        except PrerequisiteError as error:
            problems.append(str(error))
    if officials and not officials.get(HEAD_OF_SIRS):
        problems.append(f"dbc_officials names nobody as {HEAD_OF_SIRS}: nobody could instruct a restore (R1).")
    return problems
