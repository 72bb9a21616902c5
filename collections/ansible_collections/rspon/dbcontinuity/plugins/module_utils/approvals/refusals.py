# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A refusal: which one it is, for machines, beside what is wrong and what to do, for people. docs/approvals.md lists them."""

from __future__ import annotations

from ..errors import ApprovalError


def refusal(which: str, message: str, remedy: str, **details: object) -> ApprovalError:
    """Return the error of one refusal; ``details['refusal']`` is *which*."""
    return ApprovalError(message, remedy, {"refusal": which, **details})
