# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of scanned documents as a hospital's file server has it, with the names and kinds of file that break tools."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

EPOCH = 1_700_000_000
DOCUMENTS = ("hasil MRI", "surat rujukan", "persetujuan tindakan", "resume medis")


def make_files(folder: Path, megabytes: float = 5, *, seed: int = 2019, size: int = 64_000) -> int:
    """Fill a folder; how many entries are no folders. The same seed gives the same names, content and times.

    Its owner is whoever runs this. What the file system cannot hold (extended attributes) is left out.
    """
    rng = random.Random(seed)
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    count = max(8, int(megabytes * 1e6 / size))
    for number in range(count):
        patient = f"{number // 4 + 1:08d}"
        place = folder / "pindaian" / patient[:5] / patient
        place.mkdir(parents=True, exist_ok=True)
        name = f"{DOCUMENTS[number % 4]} {number:06d}.pdf"
        (place / name).write_bytes(
            b"%PDF-1.4\n" + rng.randbytes(rng.randrange(size // 2, size * 3 // 2)) + b"\n%%EOF\n"
        )
    _awkward(folder / "nama aneh", rng)
    _kinds(folder / "jenis berkas", rng)
    _settle_times(folder)
    return sum(len(files) for _, _, files in os.walk(folder))


def _awkward(folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    names = [
        "spasi  ganda .txt",
        "petik ' dan \".txt",
        "baris\nbaru.txt",
        "tab\tdi sini.txt",
        "-mulai-dengan-tanda-minus",
        "日本語 – é.txt",
        "emoji 🏥.txt",
        "$(perintah) `x`; & | > #.txt",
        "back\\slash.txt",
        ".tersembunyi",
        "titik.di.akhir.",
        "n" * 240 + ".txt",
        "e\u0301 terurai.txt",
    ]
    for name in names:
        (folder / name).write_bytes(rng.randbytes(300))
    bukan_utf8 = os.fsencode(folder) + b"/bukan-utf8-\xe9\xff.txt"
    with open(bukan_utf8, "wb") as stream:
        stream.write(b"latin1")
    deep = folder.joinpath(*["tingkat"] * 30)
    deep.mkdir(parents=True)
    (deep / "dalam.txt").write_text("dalam")


def _kinds(folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    original = folder / "asli.dcm"
    original.write_bytes(rng.randbytes(50_000))
    os.link(original, folder / "tautan keras.dcm")
    (folder / "tautan relatif").symlink_to("asli.dcm")
    (folder / "tautan putus").symlink_to("tidak ada")
    (folder / "tautan folder").symlink_to("../nama aneh", target_is_directory=True)
    (folder / "folder kosong").mkdir()
    (folder / "kosong.txt").touch()
    with open(folder / "berlubang.img", "wb") as stream:
        stream.write(b"awal")
        stream.seek(8 << 20)
        stream.write(b"akhir")
    (folder / "hanya baca.txt").write_text("x")
    (folder / "hanya baca.txt").chmod(0o440)
    (folder / "skrip.sh").write_text("#!/bin/sh\n")
    (folder / "skrip.sh").chmod(0o755)
    (folder / "folder tertutup").mkdir(mode=0o700)
    (folder / "folder tertutup" / "isi.txt").write_text("rahasia")
    _try(lambda: os.setxattr(original, "user.nomor_rm", "00000001 é".encode()))
    _try(lambda: os.mkfifo(folder / "pipa"))


def _try(make: Callable[[], None]) -> None:
    try:
        make()
    except OSError:
        return


def _settle_times(folder: Path) -> None:
    """Times that do not depend on now, with nanoseconds; folders last, since filling them changes theirs."""
    number = 0
    for place, folders, files in os.walk(folder, topdown=False):
        for name in sorted([*files, *(entry for entry in folders if os.path.islink(os.path.join(place, entry)))]):
            number += 1
            moment = (EPOCH + number) * 10**9 + number * 1001
            os.utime(os.path.join(place, name), ns=(moment, moment), follow_symlinks=False)
        os.utime(place, ns=(EPOCH * 10**9, EPOCH * 10**9))
