# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampler that test hosts run finds what is planted in a command line and in an environment, and says how often it looked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.process import wait_until
from tests import sampler

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reads other users' environments")


def test_what_is_recorded_is_found_after_the_processes_are_gone(tmp_path: Path) -> None:
    """As on a host: one program records, and is ended; another searches."""
    record = tmp_path / "samples"
    recording = subprocess.Popen(["/usr/bin/python3", sampler.__file__, "record", str(record)])
    try:
        assert wait_until(lambda: record.exists() and record.stat().st_size > 0, 20)
        assert record.stat().st_mode & 0o777 == 0o600
        for argument, environment in (
            ("canary-planted-argument", {}),
            ("", {"MYSQL_PWD": "canary-planted-environment"}),
        ):
            words = [sys.executable, "-c", "import time; time.sleep(0.5)", argument]
            subprocess.run(words, env={**os.environ, **environment}, check=True)
        assert wait_until(lambda: '{"round": 200}' in record.read_text(), 60)
    finally:
        recording.terminate()
        recording.wait()
    done = subprocess.run(
        ["/usr/bin/python3", sampler.__file__, "search", str(record), "canary-[a-z-]+|AGE-SECRET-KEY-1"],
        capture_output=True,
        text=True,
        check=True,
    )
    looked, *found = done.stdout.splitlines()
    assert int(looked.split()[1]) >= 200
    assert found == ["cmdline canary-planted-argument", "environ canary-planted-environment"]


def test_a_record_that_ends_in_the_middle_of_a_line_is_read_to_there(tmp_path: Path) -> None:
    """It was ended while it wrote."""
    record = tmp_path / "samples"
    record.write_text('{"round": 7, "part": "environ", "program": "x", "text": "A=canary-a"}\n{"round": 8, "par')
    assert sampler.search(record, "canary-[a-z]") == (["environ canary-a"], 7)
    assert sampler.main(["nonsense"]) == 2
