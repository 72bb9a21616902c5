# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the test hosts."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import fleet as fleets
from . import rootfs
from .plan import PlanError
from .system import HostsError, leader, need_root_and

TOOLS = (
    "mmdebstrap",
    "systemd-nspawn",
    "ip",
    "losetup",
    "mkfs.ext4",
    "ssh",
    "ssh-keygen",
    "nsenter",
    "dpkg-deb",
)
EXAMPLES = """\
examples:
  python3 -m tests.hosts up --name try --platform debian13 --disk backup1:external:2G
  python3 -m tests.hosts exec --name try backup1 -- apt-get install --yes zstd
  python3 -m tests.hosts link --name try nas1 silent
  python3 -m tests.hosts down --name try
"""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    top = argparse.ArgumentParser(
        prog="python3 -m tests.hosts",
        description="Whole Debian machines for tests, in systemd-nspawn. Needs root.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    place = argparse.ArgumentParser(add_help=False)
    where = place.add_mutually_exclusive_group()
    where.add_argument("--name", default="default", help="name of the fleet; its state lies in the cache folder")
    where.add_argument("--state", type=Path, metavar="DIR", help="keep the fleet's state in this folder instead")

    add = commands.add_parser("up", parents=[place], help="bring up a fleet (an old one of that name goes first)")
    add.add_argument("--platform", choices=sorted(rootfs.SUITES), default="debian12")
    add.add_argument("--hosts", default="production,backup,nas", metavar="ROLE,…", help="roles (%(default)s)")
    add.add_argument("--disk", action="append", default=[], metavar="HOST:NAME:SIZE", help="e.g. backup1:external:2G")
    add.add_argument("--timeout", type=float, default=420.0, metavar="S", help="for all hosts to boot (%(default)s)")
    add.add_argument(
        "--owner", type=Path, metavar="DIR", help="sweep the fleet once this folder is gone, e.g. a clone's"
    )

    commands.add_parser("down", parents=[place], help="take a fleet down, whatever state it is in")
    add = commands.add_parser("list", help="show all fleets of this machine")
    add.add_argument("--json", action="store_true")
    add = commands.add_parser("sweep", help="clean up after runs that died (`up` does it by itself)")
    add.add_argument("--all", action="store_true", help="take down the living fleets, too")
    add = commands.add_parser("build", help="build the root file systems without starting anything")
    add.add_argument("--platform", choices=sorted(rootfs.SUITES), default="debian12")
    add.add_argument("--rebuild", action="store_true", help="afresh, e.g. for Debian's newest updates")

    for name, text in (
        ("start", "switch a host on"),
        ("stop", "switch a host off"),
        ("exec", "run a command in a host, by SSH"),
        ("link", "cut or restore a host's network"),
        ("disk", "plug or unplug a host's disk"),
    ):
        add = commands.add_parser(name, parents=[place], help=text)
        add.add_argument("host")
        if name == "start":
            add.add_argument("--timeout", type=float, default=300.0, metavar="S")
            add.add_argument("--without-systemd", action="store_true", help="with SSH and cron, and no service manager")
        elif name == "stop":
            add.add_argument("--hard", action="store_true", help="a power cut instead of a shutdown")
        elif name == "exec":
            add.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
        elif name == "link":
            add.add_argument(
                "wanted", choices=("up", "down", "silent"), help="silent: packets vanish, the link stays up"
            )
        else:
            add.add_argument("disk")
            add.add_argument("wanted", choices=("attach", "detach"))
    return top


def _state(options: argparse.Namespace) -> fleets.State:
    return fleets.State(options.state or rootfs.cache_folder() / "hosts" / options.name)


def _up(options: argparse.Namespace) -> None:
    state = _state(options)
    fleets.up(state, options.platform, options.hosts, options.disk, _say, options.timeout, options.owner)
    files = {
        "state": state.folder,
        "inventory": state.inventory,
        "instances": state.instances,
        "key": state.key,
    }
    print(json.dumps({name: str(path) for name, path in files.items()}, indent=2))


def _down(options: argparse.Namespace) -> None:
    print("taken down" if fleets.down(_state(options)) else "nothing to take down")


def _list(options: argparse.Namespace) -> None:
    found: list[dict[str, Any]] = []
    for slot, state in fleets.slots().items():
        entry: dict[str, Any] = {"slot": slot, "state": str(state.folder)}
        try:
            fleet = state.load()
        except (HostsError, ValueError, TypeError, KeyError):
            found.append({**entry, "platform": "?", "ready": False, "hosts": {}})
            continue
        hosts = {
            host.name: {"address": host.address, "running": leader(host.machine) is not None} for host in fleet.hosts
        }
        found.append({**entry, "platform": fleet.platform, "ready": fleet.ready, "hosts": hosts})
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for item in found:
        print(f"{item['platform']}  {'ready' if item['ready'] else 'not ready'}  {item['state']}")
        for name, host in item["hosts"].items():
            print(f"    {name:<16} {host['address']:<15} {'running' if host['running'] else 'off'}")


def _on_host(options: argparse.Namespace) -> None:
    """Carry out the commands that act on one host of a living fleet."""
    state = _state(options)
    fleet = state.load()
    host = fleet.host(options.host)
    if options.command == "exec":
        words = options.words[1:] if options.words[:1] == ["--"] else options.words
        argv = ["ssh", "-F", str(state.ssh_config), host.name, *words]
        raise SystemExit(subprocess.run(argv, check=False).returncode)
    if options.command == "start":
        systemd = not options.without_systemd
        fleets.start(state, fleet, host, systemd=systemd)
        fleets.wait_ready(state, host, time.monotonic() + options.timeout, systemd=systemd)
    elif options.command == "stop":
        fleets.stop(fleet, host, hard=options.hard)
    elif options.command == "link":
        fleets.link(fleet, host, options.wanted)
    else:
        act = fleets.attach_disk if options.wanted == "attach" else fleets.detach_disk
        act(state, fleet, fleet.disk(host.name, options.disk))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = parser().parse_args(argv)
    try:
        need_root_and(TOOLS)
        if options.command == "up":
            _up(options)
        elif options.command == "down":
            _down(options)
        elif options.command == "list":
            _list(options)
        elif options.command == "sweep":
            fleets.sweep(_say, everything=options.all)
        elif options.command == "build":
            print(rootfs.ensure(options.platform, rebuild=options.rebuild).path)
        else:
            _on_host(options)
    except (HostsError, PlanError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
