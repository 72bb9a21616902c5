# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `ansible-test sanity` on the collection.

ansible-test keeps virtual environments and a pip bootstrap script below the home directory and hands none
of pip's environment variables on. It therefore gets a home of its own in the cache, with this project's
bootstrap script and the pip settings in force; nothing in the user's home is written.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tools.common import COLLECTION, VENV_BIN, cache_dir, locked, tool_environment

BOOTSTRAP = Path(__file__).with_name("ansible_test_pip.py")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def pip_settings() -> str:
    """Return the pip settings in force (files, then environment) as one configuration file."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = {"quiet": "1"}  # what pip collects and downloads would bury what the tests find
    entries = [line.partition("=") for line in listing.splitlines() if "=" in line]
    # The environment wins over the files, as it does in pip.
    for key, _equals, value in sorted(entries, key=lambda entry: entry[0].startswith(":env:")):
        section, _dot, name = key.rpartition(".")
        if section in {"global", "install", ":env:"}:
            settings[name.replace("_", "-")] = str(ast.literal_eval(value)).replace("\n", "\n    ")
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items())]) + "\n"


def prepare_home(home: Path) -> None:
    """Put the bootstrap script and pip's settings where ansible-test and its pip look for them."""
    script = home / ".ansible/test/cache/get_pip_24_2.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(BOOTSTRAP, script)
    config = home / ".config/pip/pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.unlink(missing_ok=True)
    descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(pip_settings())


def main(arguments: list[str]) -> int:
    """Run the sanity tests; further arguments go to ansible-test (a test's name, a file, `-v`)."""
    home = cache_dir() / "sanity"
    home.mkdir(exist_ok=True)
    with locked(home / "lock"):
        prepare_home(home)
        environment = tool_environment()
        environment["HOME"] = str(home)
        environment.pop("ANSIBLE_CONFIG", None)
        command = [str(VENV_BIN / "ansible-test"), "sanity", "--local", "--python", PYTHON, "--color", "no"]
        return subprocess.run([*command, *arguments], cwd=COLLECTION, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
