# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts: whole Debian machines in systemd-nspawn, for Molecule scenarios and for trials by hand."""
