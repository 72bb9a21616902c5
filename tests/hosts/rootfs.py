# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file systems test hosts start from: built once, kept outside the tree.

One unit for each platform holds three folders:

- `base`: a minimal Debian server with SSH and what Ansible needs, nothing of ours. Every host starts here, so
  a role that forgets to install something fails here as it would on a hospital's machine.
- `servers`: an overlay layer on `base` with MariaDB and PostgreSQL as `apt install` leaves them. `production`
  starts here.
- `pool`: the packages roles install. Hosts have no route out; their apt reads this folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from .plan import PACKAGES_DIR, PREFIX, STAFF_USER, TIMEZONE, package_stanza
from .system import (
    HostsError,
    cgroup_kill,
    cgroup_names,
    in_cgroup,
    locked,
    mount_overlay,
    remove_tree,
    run,
    unmount_below,
    write_file,
)

RECIPE = 1  # raise it when the way of building changes, not when a package list does

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"

BASE_PACKAGES = (
    "ca-certificates",
    "cron",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "logrotate",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
)
SERVER_PACKAGES = ("mariadb-server", "postgresql")
POOL_PACKAGES = (
    *SERVER_PACKAGES,
    "acl",
    "age",
    "mariadb-backup",
    "mariadb-client",
    "postgresql-client",
    "python3-psycopg2",
    "python3-pymysql",
    "python3-venv",
    "rsync",
    "zstd",
)
# They would hold dpkg's lock in the middle of a test, whenever they please.
DISABLED_TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")

# A mirror is asked again before a build fails: by apt for each file, and as a whole after so many seconds.
APT_PATIENCE = ('Acquire::Retries "5"', 'Acquire::http::Timeout "60"')
BUILD_PAUSES = (10.0, 60.0)

_CONTAINER_ENVIRONMENT = ("DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8")


@dataclass(frozen=True)
class Rootfs:
    """One finished unit of the cache."""

    path: Path

    @property
    def pool(self) -> Path:
        """Folder with the packages hosts can install."""
        return self.path / "pool"

    def layers(self, layer: str) -> list[Path]:
        """Return the folders of a layer, the topmost first."""
        base = self.path / "base"
        return [base] if layer == "base" else [self.path / layer, base]


def cache_folder() -> Path:
    """Return where everything of ours is kept between runs."""
    own = os.environ.get("DBC_TEST_CACHE")
    if own:
        return Path(own).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "rspon-dbcontinuity"


def unit_name(platform: str) -> str:
    """Return the unit's folder name: it changes with anything that changes its content."""
    if platform not in SUITES:
        raise HostsError(f"no platform {platform!r}: {', '.join(SUITES)}")
    packages = [BASE_PACKAGES, SERVER_PACKAGES, POOL_PACKAGES]
    recipe = [RECIPE, SUITES[platform], packages, DISABLED_TIMERS, PACKAGES_DIR]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    return f"{SUITES[platform]}-{digest[:12]}"


def ensure(platform: str, *, rebuild: bool = False) -> Rootfs:
    """Return the platform's root file systems, building them if they are not there."""
    folder = cache_folder() / "rootfs"
    unit = folder / unit_name(platform)
    with locked(folder / f".{unit.name}.lock", deadline=1800):
        sweep_builds(platform)
        if rebuild:
            remove_tree(unit)
        if not unit.exists():
            building = folder / f"{unit.name}.building"
            _build(SUITES[platform], building, _build_machine(platform))
            run(["sync", "--file-system", building])
            building.rename(unit)
    return Rootfs(unit)


def sweep_builds(platform: str) -> None:
    """Remove what an interrupted build left; the caller holds the unit's lock."""
    machine = _build_machine(platform)
    if machine in cgroup_names(machine):
        cgroup_kill(machine)
    remove_tree(cache_folder() / "rootfs" / f"{unit_name(platform)}.building")


def _build_machine(platform: str) -> str:
    """Return the name of a build: of this unit in this cache, so that another clone's build is never taken for ours."""
    place = hashlib.sha256(str(cache_folder()).encode()).hexdigest()[:6]
    return f"{PREFIX}build-{unit_name(platform)}-{place}"


def _build(suite: str, folder: Path, machine: str) -> None:
    base, pool, servers = folder / "base", folder / "pool", folder / "servers"
    pool.mkdir(parents=True)
    _bootstrap(suite, base, pool, machine)
    _index(pool)
    _configure(base)
    _in_container(base, pool, machine, ["apt-get", "--quiet", "update"])
    _install_servers(base, servers, pool, machine)


def _bootstrap(suite: str, base: Path, pool: Path, machine: str) -> None:
    """Make the base and, while apt can reach the mirror, fetch the pool with its recommended packages.

    A mirror that hiccups, or changes in between, is asked again.
    """
    download = (
        "APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --quiet --download-only"
        f" -o APT::Install-Recommends=true install {shlex.join(POOL_PACKAGES)}"
        f' && cp "$1"/var/cache/apt/archives/*.deb {shlex.quote(str(pool))}/'
    )
    argv = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        *(f"--aptopt={option}" for option in APT_PATIENCE),
        f"--include={','.join(BASE_PACKAGES)}",
        f"--customize-hook={download}",
        suite,
        str(base),
        f"deb {MIRROR} {suite} main",
        f"deb {MIRROR} {suite}-updates main",
        f"deb {SECURITY_MIRROR} {suite}-security main",
    ]
    for pause in (*BUILD_PAUSES, None):
        try:
            run(in_cgroup(machine, argv))
        except HostsError:
            if pause is None:
                raise
            cgroup_kill(machine)
            remove_tree(base)
            remove_tree(pool)
            pool.mkdir()
            time.sleep(pause)
        else:
            return


def _index(pool: Path) -> None:
    """Write the index that makes a folder of packages a repository."""
    stanzas = []
    for package in sorted(pool.glob("*.deb")):
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        control = run(["dpkg-deb", "--field", package])
        stanzas.append(package_stanza(control, package.name, package.stat().st_size, digest))
    write_file(pool / "Packages", "\n".join(stanzas))


def _configure(base: Path) -> None:
    """Turn the bootstrapped tree into a host that boots quietly, without the identity of any one machine."""
    identity = ("etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname", "etc/resolv.conf")
    for name in (*identity, "etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap"):
        (base / name).unlink(missing_ok=True)
    for key in (base / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    write_file(base / "etc/apt/sources.list.d/offline.list", f"deb [trusted=yes] file:{PACKAGES_DIR} ./\n")
    write_file(base / "etc/dpkg/dpkg.cfg.d/no-fsync", "force-unsafe-io\n")
    write_file(base / "etc/timezone", f"{TIMEZONE}\n")
    localtime = base / "etc/localtime"
    localtime.unlink(missing_ok=True)
    localtime.symlink_to(f"/usr/share/zoneinfo/{TIMEZONE}")
    write_file(base / "etc/default/locale", "LANG=C.UTF-8\n")
    (base / PACKAGES_DIR.lstrip("/")).mkdir(parents=True)
    run(["chroot", base, "useradd", "--create-home", "--shell=/bin/bash", "--groups=sudo", STAFF_USER])
    write_file(base / f"etc/sudoers.d/{STAFF_USER}", f"{STAFF_USER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    run(["systemctl", f"--root={base}", "enable", "systemd-networkd.service"])
    run(["systemctl", f"--root={base}", "disable", "systemd-networkd-wait-online.service", *DISABLED_TIMERS])


def _install_servers(base: Path, servers: Path, pool: Path, machine: str) -> None:
    """Install the database servers as an administrator would, in a layer of their own."""
    work, merged = servers.with_name("servers.work"), servers.with_name("servers.merged")
    mount_overlay(machine, [base], servers, work, merged)
    try:
        policy = merged / "usr/sbin/policy-rc.d"  # nothing is booted here: services must not be started
        write_file(policy, "#!/bin/sh\nexit 101\n", 0o755)
        install = ["apt-get", "--yes", "--quiet", "install", *SERVER_PACKAGES]
        _in_container(merged, pool, machine, install)
        _in_container(merged, pool, machine, ["apt-get", "clean"])
        policy.unlink()
    finally:
        unmount_below(merged)
    merged.rmdir()
    remove_tree(work)


def _in_container(root: Path, pool: Path, machine: str, argv: list[str]) -> None:
    """Run a command in a tree with /proc, /dev and /dev/shm as on a real machine, and without a network."""
    nspawn = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root}",
        f"--machine={machine}",
        "--register=no",
        "--keep-unit",
        "--as-pid2",
        "--private-network",
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        f"--bind-ro={pool}:{PACKAGES_DIR}",
        *(f"--setenv={entry}" for entry in _CONTAINER_ENVIRONMENT),
    ]
    run(in_cgroup(machine, [*nspawn, "--", *argv]))
    cgroup_kill(machine)
