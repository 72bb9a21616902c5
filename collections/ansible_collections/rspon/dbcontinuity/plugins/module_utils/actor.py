# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who did it: each record of the ledger names its actor."""

from __future__ import annotations

import os
import pwd
import socket
from typing import Optional


def describe_actor(given: Optional[str] = None) -> dict[str, str]:
    """Return who runs this: a timer's unit, an AWX user and job, the user behind sudo, or the login user.

    :param given: what the caller says; kept beside what is seen here, never instead of it.
    """
    environment = os.environ
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    actor = {"user": user, "host": socket.gethostname()}
    if environment.get("SUDO_USER"):
        actor["sudo_user"] = environment["SUDO_USER"]
    if environment.get("DBC_TIMER_UNIT"):
        actor["timer"] = environment["DBC_TIMER_UNIT"]
    if given:
        actor["given"] = given
    return actor
