# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes, on the control node, the one archive that scheduled runs on a backup host are installed from.

    dbcontinuity_release.py name --python 3.11 --machine x86_64        what an installation is called
    dbcontinuity_release.py make --python 3.11 --machine x86_64 --cache DIR [--wheels DIR]

The archive holds the collection, the program that timers start, the list of Python packages and the packages themselves as
wheels: the backup host needs no way to the internet. Its name is a hash of all that decides what gets installed, so that the
same content is never installed twice, and other content never under the same name.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

FILES = Path(__file__).resolve().parent
COLLECTION = FILES.parent.parent.parent
INSIDE = "collections/ansible_collections/rspon/dbcontinuity"
BESIDE = ("dbcontinuity_run.py", "ansible.cfg", "requirements.txt")
# What scheduled runs need of the collection.
PARTS = ("meta", "playbooks", "plugins", "galaxy.yml", "MANIFEST.json", "LICENSE")
_LEFT_OUT = ("__pycache__", ".pytest_cache", ".mypy_cache")
# Wheels for Linux name the oldest C library they run on; these are older than Debian 12's (2.36).
_GLIBC = ("2_17", "2_24", "2_28", "2_31", "2_34", "2_35", "2_36")


class ReleaseError(Exception):
    """What stands in the way, with the remedy."""


def content() -> Iterator[tuple[str, Path]]:
    """Give each file of an installation: its path there, and where it is here."""
    for name in BESIDE:
        yield name, FILES / name
    for part in PARTS:
        top = COLLECTION / part
        paths = [top] if top.is_file() else sorted(top.rglob("*")) if top.is_dir() else []
        for path in paths:
            if path.is_file() and not set(path.parts) & set(_LEFT_OUT) and path.suffix != ".pyc":
                yield f"{INSIDE}/{path.relative_to(COLLECTION)}", path


def release_name(python: str, machine: str) -> str:
    """Return the name: 20 characters of the hash of all content, and of what the packages are chosen for."""
    digest = hashlib.sha256(f"{python}\0{machine}\0".encode())
    for name, path in content():
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()[:20]


def wheel_command(folder: Path, python: str, machine: str) -> list[str]:
    """Return pip's command that fetches the wheels; nothing is built, nothing but the list is fetched."""
    short = python.replace(".", "")
    platforms = [f"manylinux_{each}_{machine}" for each in _GLIBC] + [f"manylinux2014_{machine}"]
    return [
        sys.executable,
        *("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--progress-bar=off"),
        *("--only-binary=:all:", "--no-deps", f"--python-version={python}", "--implementation=cp"),
        *(f"--abi={abi}" for abi in (f"cp{short}", "abi3", "none")),
        *(f"--platform={each}" for each in platforms),
        f"--dest={folder}",
        f"--requirement={FILES / 'requirements.txt'}",
    ]


def fetch_wheels(cache: Path, python: str, machine: str) -> Path:
    """Return the folder of the wheels, fetched once for each list, Python and machine."""
    digest = hashlib.sha256((FILES / "requirements.txt").read_bytes()).hexdigest()[:12]
    folder = cache / f"wheels-{python}-{machine}-{digest}"
    if folder.is_dir():
        return folder
    unfinished = Path(tempfile.mkdtemp(prefix=".wheels-", dir=cache))
    try:
        done = subprocess.run(
            wheel_command(unfinished, python, machine),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ReleaseError(
                f"The Python packages for the backup host (Python {python}, {machine}) could not be fetched:"
                f" {done.stderr.strip()[-1500:]} Fetch them where the package index can be reached, with"
                f" `python3 -m pip download` as requirements.txt says, and name their folder as dbc_wheels."
            )
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def required() -> list[str]:
    """Return the packages by the names that their wheels begin with."""
    lines = (FILES / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([\w.-]+)==([\w.]+)$", line) for line in lines if line and not line.startswith("#")]
    return [f"{re.sub('[-.]+', '_', each.group(1)).lower()}-{each.group(2)}" for each in found if each]


def wheels_in(folder: Path) -> list[Path]:
    """Return the wheels of a folder that the list asks for.

    :raises ReleaseError: naming those that are missing.
    """
    there = {
        path: re.sub("[-.]+", "_", path.name.split("-")[0]).lower() + "-" + path.name.split("-")[1]
        for path in sorted(folder.glob("*.whl"))
        if path.name.count("-") >= 4
    }
    missing = [each for each in required() if each not in there.values()]
    if missing:
        raise ReleaseError(
            f"{folder} holds no wheel of {', '.join(missing)}. requirements.txt beside this program lists all."
        )
    return [path for path, name in there.items() if name in required()]


def make(python: str, machine: str, cache: Path, wheels: str) -> Path:
    """Make the archive, unless it is there, and return it."""
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (cache / ".lock").open("a") as lock:  # two hosts, two sites: one after the other
        fcntl.flock(lock, fcntl.LOCK_EX)
        name = release_name(python, machine)
        archive = cache / f"release-{name}.tar.gz"
        if archive.is_file() and not wheels:
            return archive
        chosen = wheels_in(Path(wheels) if wheels else fetch_wheels(cache, python, machine))
        for old in cache.glob("release-*.tar.gz"):
            old.unlink()
        unfinished = cache / f".release-{os.getpid()}"
        try:
            with tarfile.open(unfinished, "w:gz", compresslevel=1) as tar:
                for inside, path in [*content(), *((f"wheels/{path.name}", path) for path in chosen)]:
                    tar.add(path, inside, recursive=False, filter=_plain)
            unfinished.rename(archive)
        finally:
            unfinished.unlink(missing_ok=True)
    return archive


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


def main(arguments: Sequence[str]) -> int:
    """Print a JSON object with the name, and the archive's path where one was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("name", "make"))
    parser.add_argument("--python", required=True, help="version of Python on the backup host, such as 3.11")
    parser.add_argument("--machine", required=True, help="its machine, as uname -m says")
    parser.add_argument("--cache", type=Path, help="folder on this machine that keeps wheels and archive")
    parser.add_argument("--wheels", default="", help="folder that holds the wheels already; nothing is fetched then")
    chosen = parser.parse_args(arguments)
    answer = {"name": release_name(chosen.python, chosen.machine)}
    if chosen.what == "make":
        if chosen.cache is None:
            parser.error("make needs --cache")
        try:
            answer["archive"] = str(make(chosen.python, chosen.machine, chosen.cache.expanduser(), chosen.wheels))
        except ReleaseError as error:
            print(error, file=sys.stderr)
            return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
