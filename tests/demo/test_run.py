# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo as a whole: it passes, and it fails when a restored copy is not its source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo.run", "--folder", str(folder), "--megabytes", "2", *words],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": "collections"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "named"), [("row", "rows simrs.pasien"), ("trigger", "trigger simrs.kunjungan_hapus")]
)
def test_an_altered_copy_fails_the_demo(tmp_path: Path, spoil: str, named: str) -> None:
    done = demo(tmp_path / "demo", "--spoil", spoil)
    assert done.returncode == 1, done.stdout[-3000:]
    assert named in done.stdout
    assert "THE DEMO FAILED" in done.stdout
    assert json.loads((tmp_path / "demo" / "result.json").read_text())["ok"] is False
