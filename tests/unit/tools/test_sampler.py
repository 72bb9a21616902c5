# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampler that test hosts run finds what is planted in a command line and in an environment, and says how often it looked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.process import wait_until
from tests import sampler

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reads other users' environments")


def recorded(record: Path, word: str) -> Callable[[], bool]:
    """Return whether a word has got into a record."""
    return lambda: word in record.read_text()


def test_what_is_recorded_is_found_after_the_processes_are_gone(tmp_path: Path) -> None:
    """As on a host: one program records, and is ended; another searches."""
    canary = f"canary-planted-{os.getpid()}"  # other tests have canaries of their own, at the same time
    record = tmp_path / "samples"
    recording = subprocess.Popen(["/usr/bin/python3", sampler.__file__, "record", str(record)])
    try:
        assert wait_until(lambda: record.exists() and record.stat().st_size > 0, 120)
        assert record.stat().st_mode & 0o777 == 0o600
        for argument, environment in (
            (f"{canary}-argument", {}),
            ("", {"MYSQL_PWD": f"{canary}-environment"}),
        ):
            words = [sys.executable, "-c", "import time; time.sleep(600)", argument]
            planted = subprocess.Popen(words, env={**os.environ, **environment})
            try:
                wanted = argument or environment["MYSQL_PWD"]
                assert wait_until(recorded(record, wanted), 120), wanted
            finally:
                planted.kill()
                planted.wait()
        assert wait_until(lambda: '{"round": 200}' in record.read_text(), 300)
    finally:
        recording.terminate()
        recording.wait()
    done = subprocess.run(
        ["/usr/bin/python3", sampler.__file__, "search", str(record), f"{canary}-[a-z-]+"],
        capture_output=True,
        text=True,
        check=True,
    )
    looked, *found = done.stdout.splitlines()
    assert int(looked.split()[1]) >= 200
    assert found == [f"cmdline {canary}-argument", f"environ {canary}-environment"]


def test_a_record_that_ends_in_the_middle_of_a_line_is_read_to_there(tmp_path: Path) -> None:
    """It was ended while it wrote."""
    record = tmp_path / "samples"
    record.write_text('{"round": 7, "part": "environ", "program": "x", "text": "A=canary-a"}\n{"round": 8, "par')
    assert sampler.search(record, "canary-[a-z]") == (["environ canary-a"], 7)
    assert sampler.main(["nonsense"]) == 2
