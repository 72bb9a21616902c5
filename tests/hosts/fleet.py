# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets of test hosts: bring up, take down, cut a cable, pull a disk, and clean up after runs that died.

A fleet lives in a state folder. A slot record in the run folder says, machine-wide, which state folder has
which share of the test network. Whatever belongs to a fleet carries its slot in its name, so that leavings
are found without any record: cgroups, bridges and overlay mounts by name, loop devices by the suffix of their
image file.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from . import rootfs
from .plan import (
    IMAGE_SUFFIX,
    PACKAGES_DIR,
    PREFIX,
    SLOTS,
    STAFF_USER,
    Disk,
    Fleet,
    Host,
    bridge_address,
    bridge_name,
    disk_nodes,
    etc_hosts,
    free_slot,
    instances,
    inventory,
    layout_hosts,
    network_unit,
    parse_disk,
    small_init,
    ssh_config,
    ssh_options,
)
from .system import (
    PATIENCE_SECONDS,
    HostsError,
    allow_watches,
    boot_id,
    cgroup_kill,
    cgroup_names,
    in_cgroup,
    is_locked,
    leader,
    locked,
    mount_overlay,
    mounts,
    remove_tree,
    run,
    unmount_below,
    write_file,
)

RUN_FOLDER = Path("/run/rspon-dbcontinuity-hosts")
POWEROFF_SIGNAL = signal.SIGRTMIN + 4  # to process 1: systemd's poweroff.target
CONSOLE_TAIL = 40
WATCHES = 16 * SLOTS * 4  # inotify instances of as many fleets as there can be, of four hosts each
SSH_BANNER = b"SSH-2.0"
# With --keep-unit systemd-nspawn leaves a reboot to whoever started it, and says so with this status.
REBOOT_LOOP = 'while "$@"; status=$?; [ "$status" -eq 133 ]; do :; done; exit "$status"'

Say = Callable[[str], None]


class State:
    """The state folder of a fleet."""

    def __init__(self, folder: Path) -> None:
        """Point at a folder, which may not exist yet."""
        self.folder = folder.resolve()
        self.record = self.folder / "fleet.json"
        self.key = self.folder / "id_ed25519"
        self.known_hosts = self.folder / "known_hosts"
        self.ssh_config = self.folder / "ssh_config"
        self.inventory = self.folder / "inventory.json"
        self.instances = self.folder / "instances.json"
        self.hosts = self.folder / "hosts"
        self.disks = self.folder / "disks"
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        self.lock = RUN_FOLDER / f"state-{name}.lock"

    def load(self) -> Fleet:
        """Return the fleet recorded here."""
        try:
            return Fleet.from_json(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise HostsError(f"no fleet in {self.folder}") from None

    def save(self, fleet: Fleet) -> None:
        """Record a fleet."""
        write_file(self.record, fleet.to_json())

    def root(self, host: Host) -> Path:
        """Return the mounted root file system of a host."""
        return self.hosts / host.name / "root"

    def console(self, host: Host) -> Path:
        """Return the file a host's console is written to."""
        return self.hosts / host.name / "console.log"

    def refuse_if_foreign(self) -> None:
        """Refuse a folder that holds something and is not ours: it will be emptied later on."""
        if self.folder.exists() and not self.record.exists() and any(self.folder.iterdir()):
            raise HostsError(f"{self.folder} holds other things: name an empty or a new folder")

    def remove(self) -> None:
        """Delete everything of ours, and the folder if nothing else is in it."""
        remove_tree(self.hosts)
        remove_tree(self.disks)
        # The record goes last: while it is there, the folder is known as ours.
        keys = (self.key, self.key.with_suffix(".pub"), self.known_hosts)
        for path in (*keys, self.ssh_config, self.inventory, self.instances, self.record):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


# --- slots ---


def _slot_file(slot: int) -> Path:
    return RUN_FOLDER / f"slot-{slot}.json"


def slots() -> dict[int, State]:
    """Return the state folder of each slot in use."""
    found = {}
    for slot in range(SLOTS):
        with contextlib.suppress(FileNotFoundError):
            found[slot] = State(Path(json.loads(_slot_file(slot).read_text(encoding="utf-8"))["state"]))
    return found


def _owner(slot: int) -> Path | None:
    """Return the folder that a slot's fleet was brought up for, None where none was named."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        named = json.loads(_slot_file(slot).read_text(encoding="utf-8")).get("owner")
        return Path(named) if named else None
    return None


def _ssh_options(state: State, fleet: Fleet) -> list[str]:
    control_path = f"{RUN_FOLDER}/{PREFIX}{fleet.slot}-%h-%r.ssh"
    return ssh_options(str(state.key), str(state.known_hosts), control_path)


def _forget_connections(slot: int, address: str = "*") -> None:
    """Remove the sockets of shared SSH connections: a host without power does not say goodbye on them."""
    for path in RUN_FOLDER.glob(f"{PREFIX}{slot}-{address}-*.ssh"):
        path.unlink(missing_ok=True)


def _foreign_networks() -> list[ipaddress.IPv4Network]:
    """Return the networks of this machine's interfaces that are none of ours."""
    found = []
    for interface in json.loads(run(["ip", "-json", "-4", "address", "show"])):
        if not str(interface.get("ifname", "")).startswith(PREFIX):
            for address in interface.get("addr_info", []):
                text = f"{address['local']}/{address['prefixlen']}"
                found.append(ipaddress.IPv4Network(text, strict=False))
    return found


def _interfaces() -> list[str]:
    return [name.name for name in Path("/sys/class/net").iterdir()]


# --- taking down ---


def _clear_slot(slot: int) -> None:
    """Remove all of a slot's machines, interfaces and mounts, found by name alone."""
    machine = re.compile(rf"{PREFIX}{slot}-\d+")
    _forget_connections(slot)
    for name in cgroup_names(f"{PREFIX}{slot}-"):
        cgroup_kill(name)
        propagate = Path("/run/systemd/nspawn/propagate") / name
        with contextlib.suppress(FileNotFoundError):
            propagate.rmdir()
    for source, point in reversed(mounts()):
        if machine.fullmatch(source):
            unmount_below(Path(point))
    for interface in _interfaces():
        if interface == bridge_name(slot) or interface.startswith(f"vb-{PREFIX}{slot}-"):
            run(["ip", "link", "delete", interface], check=False)  # a cable goes by itself, sooner or later


def _loops() -> list[tuple[str, Path]]:
    """Return (device, image) of every loop device that carries one of our images."""
    found = []
    listed = run(["losetup", "--json", "--list", "--output", "NAME,BACK-FILE"])
    for loop in json.loads(listed)["loopdevices"] if listed.strip() else []:
        image = str(loop["back-file"] or "").removesuffix(" (deleted)")
        if image.endswith(IMAGE_SUFFIX):
            found.append((str(loop["name"]), Path(image)))
    return found


def _detach_loops(unwanted: Callable[[Path], bool]) -> None:
    for device, image in _loops():
        if unwanted(image):
            _detach_loop(device, image)


def _detach_loop(device: str, image: Path) -> None:
    """Let go of an image, and wait until that is so: the kernel puts it off while a host that dies still has it open.

    A device that goes by itself between two looks, because that was asked for before, is no mistake.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while (device, image) in _loops():
        run(["losetup", "--detach", device], check=False)
        if (device, image) not in _loops():
            return
        if time.monotonic() > end:
            raise HostsError(f"{device} does not let go of {image}")
        time.sleep(0.05)


def _take_down(slot: int, state: State) -> None:
    """Remove a fleet whole; the caller holds the machine-wide lock."""
    _clear_slot(slot)
    _detach_loops(lambda image: image.is_relative_to(state.disks))
    if state.record.exists():
        state.remove()
    _slot_file(slot).unlink(missing_ok=True)


def down(state: State) -> bool:
    """Take a fleet down, hard, whatever state it is in; tell whether there was one."""
    with locked(state.lock), locked(RUN_FOLDER / "lock"):
        return _down_locked(state)


def _down_locked(state: State) -> bool:
    mine = [slot for slot, owner in slots().items() if owner.folder == state.folder]
    for slot in mine:
        _take_down(slot, state)
    if state.record.exists():
        state.remove()
        return True
    return bool(mine)


def sweep(say: Say, *, everything: bool = False) -> None:
    """Remove what dead runs left on this machine (`everything`: living fleets too)."""
    with locked(RUN_FOLDER / "lock"):
        _sweep_locked(say, everything=everything)


def _sweep_locked(say: Say, *, everything: bool = False) -> None:
    now = boot_id()
    for slot, state in slots().items():
        reason = _why_dead(state, now, _owner(slot))
        if everything and reason is None and not is_locked(state.lock):
            reason = "asked to"
        if reason is not None:
            say(f"sweep: removing the fleet of {state.folder}: {reason}")
            _take_down(slot, state)
    known = slots()
    for slot in set(range(SLOTS)) - set(known):
        if _slot_leavings(slot):
            say(f"sweep: removing machines, mounts and interfaces of slot {slot}, which belongs to no fleet")
            _clear_slot(slot)
    folders = [state.disks for state in known.values()]
    _detach_loops(lambda image: not any(image.is_relative_to(folder) for folder in folders))


def _why_dead(state: State, now: str, owner: Path | None) -> str | None:
    """Tell why a fleet counts as dead, or None for a living one."""
    if is_locked(state.lock):  # somebody is at work on it
        return None
    try:
        fleet = state.load()
    except (HostsError, ValueError, TypeError, KeyError):
        return "its record is gone or unreadable"
    if fleet.boot_id != now:
        return "the machine was restarted since"
    if not fleet.ready:
        return "its start was never finished"
    if owner is not None and not owner.exists():
        return f"{owner}, which it was brought up for, is gone"
    return None


def _slot_leavings(slot: int) -> bool:
    machine = re.compile(rf"{PREFIX}{slot}-\d+")
    return (
        any(machine.fullmatch(name) for name in cgroup_names(f"{PREFIX}{slot}-"))
        or any(machine.fullmatch(source) for source, _ in mounts())
        or bridge_name(slot) in _interfaces()
    )


# --- bringing up ---


def up(
    state: State,
    platform: str,
    roles: str,
    disks: Sequence[str],
    say: Say,
    timeout: float,
    owner: Path | None = None,
) -> Fleet:
    """Bring up a fleet; one that is already in this state folder is taken down first.

    :param owner: a clone's folder; once that is gone, the fleet counts as left behind.
    """
    began = time.monotonic()

    def tell(what: str) -> None:
        say(f"[{time.monotonic() - began:5.1f} s] {what}")

    layout_hosts(roles, 0)  # a mistake in the request shows before anything is built
    allow_watches(WATCHES)
    with locked(state.lock):
        state.refuse_if_foreign()
        unit = rootfs.ensure(platform)
        tell(f"root file systems: {unit.path}")
        with locked(RUN_FOLDER / "lock"):
            _down_locked(state)
            _sweep_locked(tell)
            fleet = _claim(state, platform, roles, disks, unit, owner)
        _make_key(state)
        for host in fleet.hosts:
            _make_host(state, fleet, host, unit)
        for disk in fleet.disks:
            _make_disk(state, fleet, disk)
        write_file(state.ssh_config, ssh_config(fleet, _ssh_options(state, fleet)))
        for host in fleet.hosts:
            start(state, fleet, host)
        tell("started: " + ", ".join(f"{host.name} {host.address}" for host in fleet.hosts))
        end = time.monotonic() + timeout
        for host in fleet.hosts:
            wait_ready(state, host, end)
        _publish(state, fleet)
        fleet = replace(fleet, ready=True)
        state.save(fleet)
        tell(f"ready: {state.inventory}")
    return fleet


def _claim(
    state: State, platform: str, roles: str, disks: Sequence[str], unit: rootfs.Rootfs, owner: Path | None
) -> Fleet:
    """Take a free slot, record it before anything of it exists, and make its bridge."""
    slot = free_slot(list(slots()), _foreign_networks())
    hosts = layout_hosts(roles, slot)
    fleet = Fleet(
        platform=platform,
        slot=slot,
        rootfs=str(unit.path),
        boot_id=boot_id(),
        hosts=hosts,
        disks=tuple(parse_disk(text, hosts, str(uuid.uuid4())) for text in disks),
    )
    state.folder.mkdir(parents=True, exist_ok=True)
    state.save(fleet)
    record = {"state": str(state.folder), **({"owner": str(owner.resolve())} if owner is not None else {})}
    write_file(_slot_file(slot), json.dumps(record) + "\n")
    run(["ip", "link", "add", fleet.bridge, "type", "bridge"])
    run(["ip", "address", "add", bridge_address(slot), "dev", fleet.bridge])
    run(["ip", "link", "set", fleet.bridge, "up"])
    return fleet


def _make_key(state: State) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test hosts", "-f", state.key])


def _make_host(state: State, fleet: Fleet, host: Host, unit: rootfs.Rootfs) -> None:
    """Give a host its root file system and its identity."""
    root = state.root(host)
    overlay = root.parent
    mount_overlay(host.machine, unit.layers(host.layer), overlay / "upper", overlay / "work", root)
    write_file(root / "etc/hostname", f"{host.name}\n")
    write_file(root / "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    write_file(root / "etc/hosts", etc_hosts(host, fleet.hosts))
    write_file(root / "etc/systemd/network/10-host0.network", network_unit(host))
    key = root / "etc/ssh/ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{host.name}", "-f", key])
    with state.known_hosts.open("a", encoding="utf-8") as handle:
        public = key.with_suffix(".pub").read_text(encoding="utf-8").split()[:2]
        handle.write(f"{host.name},{host.address} {' '.join(public)}\n")
    authorized = state.key.with_suffix(".pub").read_text(encoding="utf-8")
    for user, home in (("root", "root"), (STAFF_USER, f"home/{STAFF_USER}")):
        folder = root / home / ".ssh"
        write_file(folder / "authorized_keys", authorized, 0o600)
        folder.chmod(0o700)
        run(["chroot", root, "chown", "-R", f"{user}:", f"/{home}/.ssh"])


def start(state: State, fleet: Fleet, host: Host, *, systemd: bool = True) -> None:
    """Switch a host on.

    :param systemd: its service manager; without it nothing but SSH and cron is started, as after a small init's boot.
    """
    if leader(host.machine) is not None:
        raise HostsError(f"{host.name} is running")
    cgroup_kill(host.machine)
    if host.link in _interfaces():
        run(["ip", "link", "delete", host.link], check=False)
    argv = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={state.root(host)}",
        f"--machine={host.machine}",
        f"--hostname={host.name}",
        "--boot" if systemd else "--as-pid2",
        "--register=no",
        "--keep-unit",
        f"--network-bridge={fleet.bridge}",
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        f"--bind-ro={rootfs.Rootfs(Path(fleet.rootfs)).pool}:{PACKAGES_DIR}",
        *([] if systemd else ["/bin/sh", "-c", small_init(host)]),
    ]
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with state.console(host).open("ab") as console:
        subprocess.Popen(
            in_cgroup(host.machine, ["/bin/sh", "-c", REBOOT_LOOP, "host", *argv]),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            cwd="/",
            env=environment,
        )


def stop(fleet: Fleet, host: Host, *, hard: bool, deadline: float = 240.0) -> None:
    """Switch a host off: properly, or as if its cable had been pulled out of the wall.

    A host without power cannot close its connections; a killed process does. So the network goes first.
    """
    first = leader(host.machine)
    if hard and host.link in _interfaces():
        run(["ip", "link", "set", host.link, "nomaster"])
    if first is not None and not hard:
        os.kill(first, POWEROFF_SIGNAL)
        end = time.monotonic() + deadline
        while leader(host.machine) is not None:
            if time.monotonic() > end:
                raise HostsError(f"{host.name} did not shut down within {deadline:.0f} s")
            time.sleep(0.1)
    cgroup_kill(host.machine)
    _forget_connections(fleet.slot, host.address)


def wait_ready(state: State, host: Host, end: float, *, systemd: bool = True) -> None:
    """Wait until a host lets us in by SSH and has finished booting without a failed unit."""
    while not _ssh_answers(host.address):
        _check_alive(state, host, end, "its SSH port does not answer")
        time.sleep(0.1)
    if not systemd:
        return
    question = "systemctl is-system-running --wait; systemctl --failed --plain"
    argv = ["ssh", "-F", str(state.ssh_config), host.name, question]
    while True:
        left = max(1.0, end - time.monotonic())
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=left, check=False
            )
            said = done.stdout
            problem = said.strip() or done.stderr.strip()
        except subprocess.TimeoutExpired:
            said, problem = "", "it did not finish booting"
        if said.startswith("running"):
            return
        if said.startswith("degraded"):
            raise HostsError(f"{host.name} booted with failed units:\n{problem}\n{_console_tail(state, host)}")
        _check_alive(state, host, end, problem)
        time.sleep(0.5)


def _ssh_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=10) as connection:
            return connection.recv(len(SSH_BANNER)) == SSH_BANNER
    except OSError:
        return False


def _check_alive(state: State, host: Host, end: float, problem: str) -> None:
    if not cgroup_names(host.machine) or (leader(host.machine) is None and time.monotonic() > end):
        raise HostsError(f"{host.name} is not running: {problem}\n{_console_tail(state, host)}")
    if time.monotonic() > end:
        raise HostsError(f"{host.name} was not ready in time: {problem}\n{_console_tail(state, host)}")


def _console_tail(state: State, host: Host) -> str:
    """Return the end of a host's console and of its journal, read from outside."""
    console = state.console(host)
    lines = console.read_text(encoding="utf-8", errors="replace").splitlines() if console.exists() else []
    journal = state.root(host) / "var/log/journal"
    words = run(["journalctl", "--no-pager", f"--directory={journal}", f"--lines={CONSOLE_TAIL}"], check=False)
    tail = "\n".join(lines[-CONSOLE_TAIL:])
    return f"--- the end of {console}:\n{tail}\n--- the end of its journal:\n{words}"


def _publish(state: State, fleet: Fleet) -> None:
    devices = {(disk.host, disk.name): _device(state, disk) or "" for disk in fleet.disks}
    key, options = str(state.key), _ssh_options(state, fleet)
    write_file(state.inventory, json.dumps(inventory(fleet, key, options, devices), indent=2) + "\n")
    write_file(state.instances, json.dumps(instances(fleet, key), indent=2) + "\n")


# --- cables and disks ---


def link(fleet: Fleet, host: Host, wanted: str) -> None:
    """Plug or unplug a host's cable: `down` is seen by the host, `silent` swallows everything and is not."""
    if wanted == "down":
        run(["ip", "link", "set", host.link, "down"])
    elif wanted == "silent":
        run(["ip", "link", "set", host.link, "nomaster"])
    else:
        run(["ip", "link", "set", host.link, "master", fleet.bridge])
        run(["ip", "link", "set", host.link, "up"])


def _device(state: State, disk: Disk) -> str | None:
    image = state.disks / disk.image
    return next((device for device, path in _loops() if path == image), None)


def _make_disk(state: State, fleet: Fleet, disk: Disk) -> None:
    state.disks.mkdir(exist_ok=True)
    image = state.disks / disk.image
    with image.open("wb") as handle:
        handle.truncate(disk.size)
    run(["mkfs.ext4", "-q", "-L", disk.name, "-U", disk.uuid, image])
    _plug(state, fleet, disk)


def _plug(state: State, fleet: Fleet, disk: Disk) -> None:
    device = run(["losetup", "--find", "--show", state.disks / disk.image]).strip()
    number = os.stat(device).st_rdev
    nodes = disk_nodes(disk, device, os.major(number), os.minor(number))
    write_file(_nodes_file(state, fleet, disk), nodes)


def _nodes_file(state: State, fleet: Fleet, disk: Disk) -> Path:
    return state.root(fleet.host(disk.host)) / f"etc/tmpfiles.d/test-disk-{disk.name}.conf"


def attach_disk(state: State, fleet: Fleet, disk: Disk) -> None:
    """Plug a disk in."""
    if _device(state, disk) is None:
        _plug(state, fleet, disk)
    pid = leader(fleet.host(disk.host).machine)
    if pid is not None:
        file = f"/etc/tmpfiles.d/{_nodes_file(state, fleet, disk).name}"
        run(_inside(pid, ["systemd-tmpfiles", "--create", file]))
    _publish(state, fleet)


def detach_disk(state: State, fleet: Fleet, disk: Disk) -> None:
    """Pull a disk out, mounted or not."""
    device = _device(state, disk)
    if device is None:
        return
    _nodes_file(state, fleet, disk).unlink(missing_ok=True)
    pid = leader(fleet.host(disk.host).machine)
    if pid is not None:
        find = ["findmnt", "--noheadings", "--raw", "--output=TARGET", device]
        for point in run(_inside(pid, find), check=False).split():
            run(_inside(pid, ["umount", "--lazy", point]))
        links = [f"/dev/disk/by-uuid/{disk.uuid}", f"/dev/disk/by-label/{disk.name}"]
        run(_inside(pid, ["rm", "-f", device, *links]))
    _detach_loop(device, state.disks / disk.image)
    _publish(state, fleet)


def _inside(pid: int, argv: Sequence[str]) -> list[str]:
    """Return a command that runs in a host's own namespaces, also when its network is cut."""
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd=/"]
    return ["nsenter", f"--target={pid}", *namespaces, "--", *argv]
