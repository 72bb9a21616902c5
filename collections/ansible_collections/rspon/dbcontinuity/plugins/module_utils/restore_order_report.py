# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a restore (*laporan restore*, R3) in the SPO's check-list form, plain text, for the head of Instalasi SIRS.

Every field is printed, also the empty ones. What no machine can know (root cause, who answers for it, signatures) is a
line to fill in by pen.
"""

from __future__ import annotations

from .restore_order_evidence import RestoreEvidence

LANGUAGES = ("id", "en")


def restore_report_text(evidence: RestoreEvidence, *, zone: str, language: str = "id") -> str:
    """Return the report of one restore.

    :param zone: of the times printed.
    :param language: ``id`` or ``en``.
    :raises InputError: if there is no such zone or language.
    """
    raise NotImplementedError
