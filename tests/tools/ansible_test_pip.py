# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the virtual environments of ansible-test a pip without downloading get-pip.py.

ansible-test looks for a bootstrap script in its cache before it fetches one from a server of its own,
which a hospital's network may not reach. This script stands in for it: the interpreter's own ensurepip
brings a pip, and that pip installs what the command line names, from whatever index is configured.
"""

from __future__ import annotations

import subprocess
import sys

# Options of get-pip.py that pip itself does not know.
GET_PIP_ONLY = {"--no-setuptools", "--no-wheel"}


def main() -> int:
    """Install pip, then let it install the packages that were asked for."""
    # In a process of its own: ensurepip switches pip's configuration off for the process it runs in.
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
    wanted = [argument for argument in sys.argv[1:] if argument not in GET_PIP_ONLY]
    return subprocess.run([sys.executable, "-m", "pip", "install", *wanted], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
