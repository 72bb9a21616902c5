# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full restore where folders cannot be renamed: the plan says so beforehand, and the exchange leaves what was there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import ContinuityError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.restore import plan, restore
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from demo.servers import workspace
from tests.restore_full_support import order, siblings
from tests.restore_support import full
from tests.support import make_place

pytestmark = [pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")]


@pytest.fixture
def merged() -> Iterator[Path]:
    """Give an overlay whose lower layer holds a folder of documents."""
    with workspace("overlay") as base:
        for name in ("lower/scan", "upper", "work", "merged"):
            (base / name).mkdir(parents=True)
        (base / "lower/scan/a").write_text("1")
        options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work,redirect_dir=off"
        words = ["mount", "-t", "overlay", "overlay", "-o", options, str(base / "merged")]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("no overlay can be mounted here")
        try:
            yield base / "merged"
        finally:
            subprocess.run(["umount", str(base / "merged")], check=True)


def test_an_overlay_is_told_in_the_plan_and_a_failed_exchange_leaves_what_was_there(
    merged: Path, tmp_path: Path
) -> None:
    place = make_place(tmp_path / "backup")
    scan = merged / "scan"
    instance = place.files("scan", scan)
    (place.root / "agent" / "scan.json").write_text(
        f'{{"engine": "files", "paths": ["{scan}"], "restore": {{"state_dir": "{place.root}/state"}}}}'
    )
    full(place, instance)
    (scan / "a").write_text("2")
    request = order(place, instance, tmp_path / "scratch")
    remarks = plan(request)["plan"]["remarks"]
    assert any(str(scan) in each and "EXDEV" in each for each in remarks), remarks
    with pytest.raises(ContinuityError, match="cross-device"):
        restore(request, Progress())
    assert (scan / "a").read_text() == "2"
    assert siblings(scan) == []
