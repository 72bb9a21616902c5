# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet of test hosts looks like: names, addresses, file contents. Nothing here touches the system."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

NETWORK = ipaddress.IPv4Network("198.51.100.0/24")  # TEST-NET-2: nobody's real network
SLOT_PREFIX = 28
SLOTS = 1 << (SLOT_PREFIX - NETWORK.prefixlen)
HOSTS_PER_FLEET = 13  # a /28 without network, broadcast and bridge address

PREFIX = "dbct"  # every machine, bridge, cgroup and mount of ours starts with it
IMAGE_SUFFIX = ".dbct.img"  # every disk image of ours ends with it
TIMEZONE = "Asia/Jakarta"
STAFF_USER = "itstaff"
PACKAGES_DIR = "/opt/debian-packages"

# The layer of the root file system a role starts from; a role not named here starts from `base`.
LAYER_BY_ROLE = {"production": "servers"}
DEFAULT_LAYER = "base"

_ROLE = re.compile(r"[a-z][a-z0-9_]{0,30}")
_DISK_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")  # it becomes an ext4 label: 16 characters
_SIZE = re.compile(r"([1-9][0-9]*)([MG])")


class PlanError(ValueError):
    """The fleet asked for cannot be laid out."""


@dataclass(frozen=True)
class Host:
    """One test host: its inventory name, its group, and where it stands in the fleet's network."""

    name: str
    role: str
    index: int
    machine: str
    address: str

    @property
    def layer(self) -> str:
        """Layer of the root file system this host starts from."""
        return LAYER_BY_ROLE.get(self.role, DEFAULT_LAYER)

    @property
    def link(self) -> str:
        """Network interface, on the outside, of this host's only cable (named by systemd-nspawn)."""
        return f"vb-{self.machine}"


@dataclass(frozen=True)
class Disk:
    """One disk of a host: an image file on a loop device."""

    host: str
    name: str
    size: int
    uuid: str

    @property
    def image(self) -> str:
        """File name of the image."""
        return f"{self.host}-{self.name}{IMAGE_SUFFIX}"


@dataclass(frozen=True)
class Fleet:
    """Hosts that were started together and see each other."""

    platform: str
    slot: int
    rootfs: str
    boot_id: str
    hosts: tuple[Host, ...]
    disks: tuple[Disk, ...] = ()
    ready: bool = False
    version: int = field(default=1)

    @property
    def bridge(self) -> str:
        """Name of the fleet's network bridge."""
        return bridge_name(self.slot)

    def host(self, name: str) -> Host:
        """Return the host with that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise PlanError(f"no host {name!r} in this fleet: {known}")

    def disk(self, host: str, name: str) -> Disk:
        """Return a host's disk with that name."""
        for disk in self.disks:
            if (disk.host, disk.name) == (host, name):
                return disk
        known = ", ".join(f"{disk.host}:{disk.name}" for disk in self.disks) or "none"
        raise PlanError(f"no disk {host}:{name} in this fleet: {known}")

    def to_json(self) -> str:
        """Return the fleet as the text kept in its state folder."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Fleet:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        data["hosts"] = tuple(Host(**host) for host in data["hosts"])
        data["disks"] = tuple(Disk(**disk) for disk in data["disks"])
        return cls(**data)


def bridge_name(slot: int) -> str:
    """Return the name of a slot's bridge (an interface name holds 15 characters)."""
    return f"{PREFIX}br{slot}"


def slot_network(slot: int) -> ipaddress.IPv4Network:
    """Return the slot's share of the test network."""
    if not 0 <= slot < SLOTS:
        raise PlanError(f"slot {slot} is outside 0..{SLOTS - 1}")
    return list(NETWORK.subnets(new_prefix=SLOT_PREFIX))[slot]


def bridge_address(slot: int) -> str:
    """Return the address of the bridge (the control node's) with its prefix length."""
    return f"{slot_network(slot)[1]}/{SLOT_PREFIX}"


def free_slot(taken: Sequence[int], foreign: Sequence[ipaddress.IPv4Network]) -> int:
    """Return the first slot that no fleet of ours has and no other interface of this machine reaches into."""
    for slot in range(SLOTS):
        network = slot_network(slot)
        if slot not in taken and not any(network.overlaps(other) for other in foreign):
            return slot
    raise PlanError(f"all {SLOTS} slots of {NETWORK} are taken: see `list`, free them with `sweep --all`")


def layout_hosts(roles: str, slot: int) -> tuple[Host, ...]:
    """Lay out hosts for a list such as `production,backup,nas`: the second `production` is `production2`."""
    names = [role.strip() for role in roles.split(",")]
    if len(names) > HOSTS_PER_FLEET:
        raise PlanError(f"{len(names)} hosts asked for, a fleet holds {HOSTS_PER_FLEET}")
    seen: dict[str, int] = {}
    hosts = []
    for index, role in enumerate(names, start=1):
        if not _ROLE.fullmatch(role):
            raise PlanError(f"{role!r} is no role name (lower-case letters, digits and _)")
        seen[role] = seen.get(role, 0) + 1
        hosts.append(
            Host(
                name=f"{role}{seen[role]}".replace("_", "-"),
                role=role,
                index=index,
                machine=f"{PREFIX}{slot}-{index}",
                address=str(slot_network(slot)[index + 1]),
            )
        )
    return tuple(hosts)


def parse_size(text: str) -> int:
    """Read `64M` or `2G` as bytes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise PlanError(f"{text!r} is no size such as 64M or 2G")
    return int(match[1]) << (20 if match[2] == "M" else 30)


def parse_disk(text: str, hosts: Sequence[Host], uuid: str) -> Disk:
    """Read `backup1:external:2G` (or `backup:…`, the first host of that role)."""
    parts = text.split(":")
    if len(parts) != 3:
        raise PlanError(f"{text!r} is no disk such as backup1:external:2G")
    owner, name, size = parts
    if not _DISK_NAME.fullmatch(name):
        raise PlanError(f"{name!r} is no disk name (16 lower-case letters, digits and -)")
    for host in hosts:
        if owner in (host.name, host.role):
            return Disk(host=host.name, name=name, size=parse_size(size), uuid=uuid)
    raise PlanError(f"disk {text!r}: no host {owner!r}")


def etc_hosts(host: Host, hosts: Sequence[Host]) -> str:
    """Return /etc/hosts of a host: itself as Debian's installer does it, then all the others."""
    lines = [
        "127.0.0.1\tlocalhost",
        f"127.0.1.1\t{host.name}",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "",
    ]
    lines += [f"{other.address}\t{other.name}" for other in hosts if other is not host]
    return "\n".join(lines) + "\n"


def network_unit(host: Host) -> str:
    """Return the systemd-networkd file of a host's only interface: no route leads out of the fleet."""
    return (
        "[Match]\nName=host0\n\n"
        f"[Network]\nAddress={host.address}/{SLOT_PREFIX}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nDHCP=no\n"
    )


def small_init(host: Host) -> str:
    """Return the script that stands for an init other than systemd: the network, SSH, and cron, which goes on."""
    return (
        f"ip link set lo up; ip address add {host.address}/{SLOT_PREFIX} dev host0; ip link set host0 up;"
        " mkdir -p /run/sshd /run/lock; /usr/sbin/sshd; exec /usr/sbin/cron -f"
    )


def disk_nodes(disk: Disk, device: str, major: int, minor: int) -> str:
    """Return the tmpfiles.d lines that give a host its disk, now and after each of its boots."""
    return (
        f"b {device} 0660 root disk - {major}:{minor}\n"
        f"L+ /dev/disk/by-uuid/{disk.uuid} - - - - {device}\n"
        f"L+ /dev/disk/by-label/{disk.name} - - - - {device}\n"
    )


def ssh_options(key: str, known_hosts: str, control_path: str) -> list[str]:
    """Return the SSH client's options: this key, these host keys, nothing of the user's own."""
    return [
        f"IdentityFile={key}",
        "IdentitiesOnly=yes",
        f"UserKnownHostsFile={known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ConnectTimeout=10",
        f"ControlPath={control_path}",
    ]


def ssh_config(fleet: Fleet, options: Sequence[str]) -> str:
    """Return a file for `ssh -F`, so that `ssh -F STATE/ssh_config backup1` just works."""
    blocks = [f"Host {host.name}\n  HostName {host.address}\n  User root\n" for host in fleet.hosts]
    common = "".join(f"  {option.replace('=', ' ', 1)}\n" for option in options)
    return "\n".join([*blocks, f"Host *\n{common}"])


def inventory(fleet: Fleet, key: str, options: Sequence[str], devices: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return the Ansible inventory: one group for each role, connection and disks as host variables."""
    groups: dict[str, Any] = {}
    args = " ".join(f"-o {option}" for option in options)
    for host in fleet.hosts:
        disks = {
            disk.name: {
                "uuid": disk.uuid,
                "label": disk.name,
                "size": disk.size,
                "device": devices[host.name, disk.name],
            }
            for disk in fleet.disks
            if disk.host == host.name
        }
        groups.setdefault(host.role, {"hosts": {}})["hosts"][host.name] = {
            "ansible_host": host.address,
            "ansible_port": 22,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": key,
            "ansible_ssh_common_args": args,
            "ansible_python_interpreter": "/usr/bin/python3",
            "test_platform": fleet.platform,
            "test_disks": disks,
        }
    return {"all": {"children": groups}}


def instances(fleet: Fleet, key: str) -> list[dict[str, Any]]:
    """Return Molecule's instance list, which `molecule login` and `molecule list` read."""
    return [
        {"instance": host.name, "address": host.address, "user": "root", "port": 22, "identity_file": key}
        for host in fleet.hosts
    ]


def package_stanza(control: str, name: str, size: int, sha256: str) -> str:
    """Return one entry of a flat Debian repository's index."""
    return f"{control.strip()}\nFilename: ./{name}\nSize: {size}\nSHA256: {sha256}\n"
