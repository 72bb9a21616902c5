# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the collections of requirements.yml into .cache/collections, for the tests and the linter.

They are taken out of the PyPI package `ansible`, so that the tests need a package index and no Galaxy
server. The package is kept in the user's cache; only the collections named are unpacked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

from tests.tools.common import ROOT, cache_dir, locked

SOURCE = "ansible==12.3.0"
TARGET = ROOT / ".cache/collections"


def wanted() -> dict[str, SpecifierSet]:
    """Return the collections of requirements.yml with the versions they may have."""
    document = yaml.safe_load((ROOT / "requirements.yml").read_text(encoding="utf-8"))
    return {entry["name"]: SpecifierSet(entry["version"]) for entry in document["collections"]}


def download(folder: Path) -> Path:
    """Return the wheel that holds the collections, downloading it the first time."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{SOURCE.replace('==', '-')}-*.whl"
    found = list(folder.glob(pattern))
    if not found:
        # Under its own name only once it is whole: a run that is ended leaves no half of it there.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as fresh:
            _pip_download(Path(fresh))
            wheel = next(Path(fresh).glob(pattern))
            found = [wheel.rename(folder / wheel.name)]
    return found[0]


def _pip_download(folder: Path) -> None:
    """Download the package; pip asks again where a connection fails, not where a download breaks off."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    for pause in (5.0, 20.0, None):
        done = subprocess.run([*pip, "--no-deps", "--dest", str(folder), SOURCE], check=False)
        if done.returncode == 0:
            return
        if pause is not None:
            time.sleep(pause)
    raise SystemExit(f"{SOURCE} could not be downloaded: pip's message is above")


def unpack(wheel: Path, names: dict[str, SpecifierSet], target: Path) -> None:
    """Unpack the collections `names` out of `wheel` into `target`, replacing what is there."""
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        for name, allowed in names.items():
            prefix = f"ansible_collections/{name.replace('.', '/')}/"
            manifest = f"{prefix}MANIFEST.json"
            if manifest not in members:
                raise SystemExit(f"{wheel.name} holds no collection {name}: correct requirements.yml")
            version = json.loads(archive.read(manifest))["collection_info"]["version"]
            if version not in allowed:
                raise SystemExit(f"{name} {version} of {wheel.name} is outside {allowed} of requirements.yml")
            archive.extractall(fresh, [member for member in members if member.startswith(prefix)])
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def main() -> int:
    """Fetch what is missing; say nothing where nothing is."""
    names = wanted()
    stamp = TARGET / ".made-from"
    want = f"{SOURCE} {sorted((name, str(allowed)) for name, allowed in names.items())}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == want:
        return 0
    cache = cache_dir()
    with locked(cache / "collections.lock"):
        wheel = download(cache / "wheels")
        TARGET.parent.mkdir(exist_ok=True)
        unpack(wheel, names, TARGET)
    stamp.write_text(want, encoding="utf-8")
    print(f"{', '.join(sorted(names))} unpacked from {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
