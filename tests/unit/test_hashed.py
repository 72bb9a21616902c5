# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding and hashing in one pass: what is not as written fails, however it decodes."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import hashed
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.errors import DamagedError, PipelineError
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.process import write_through

CONTENT = b"".join(b"rekam medis %d\n" % number for number in range(200_000))


@pytest.fixture(params=["small", "streamed"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "streamed":
        monkeypatch.setattr(hashed, "_SMALL_BYTES", 0)
    path = tmp_path / "isi.zst"
    packed = subprocess.run(["zstd", "-q", "-c", "-"], input=CONTENT, capture_output=True, check=True).stdout
    path.write_bytes(packed)
    return path


def decode(path: Path, size: int, sha256: str) -> bytes:
    target = path.with_name("plain")
    write_through(hashed.hashed_stages(path, size, sha256, ["zstd"], Protection()), target)
    return target.read_bytes()


def test_what_is_whole_is_decoded(stored: Path) -> None:
    data = stored.read_bytes()
    assert decode(stored, len(data), hashlib.sha256(data).hexdigest()) == CONTENT


@pytest.mark.parametrize("change", ["cut", "other", "longer"])
def test_what_is_not_as_written_fails_and_leaves_nothing(stored: Path, change: str) -> None:
    data = stored.read_bytes()
    if change == "cut":
        stored.write_bytes(data[:-200])
    elif change == "longer":  # zstd takes a second frame for more of the same
        stored.write_bytes(data + data)
    else:  # whole by itself, and not what was written
        packed = subprocess.run(["zstd", "-q", "-c", "-"], input=b"lain", capture_output=True, check=True).stdout
        stored.write_bytes(packed)
    with pytest.raises((DamagedError, PipelineError)) as caught:
        decode(stored, len(data), hashlib.sha256(data).hexdigest())
    assert not stored.with_name("plain").exists()
    if change != "cut":  # there, zstd may complain first
        assert "isi.zst" in str(caught.value)
