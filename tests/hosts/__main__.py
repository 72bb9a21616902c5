# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of `python3 -m tests.hosts`."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
