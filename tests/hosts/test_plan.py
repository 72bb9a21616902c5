# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the test hosts."""

from __future__ import annotations

import ipaddress
import json
import re

import pytest

from tests.hosts import plan, rootfs
from tests.hosts.cli import parser
from tests.hosts.system import HostsError

ROLES = "production,backup,nas,production"
OPTIONS = plan.ssh_options("/s/key", "/s/known", "/r/%h")


def make_fleet(slot: int = 3) -> plan.Fleet:
    hosts = plan.layout_hosts(ROLES, slot)
    disks = (plan.parse_disk("backup:external:64M", hosts, "11111111-2222-4333-8444-555555555555"),)
    return plan.Fleet(platform="debian12", slot=slot, rootfs="/r", boot_id="b", hosts=hosts, disks=disks)


def test_hosts_of_a_role_are_numbered_and_start_from_its_layer() -> None:
    hosts = plan.layout_hosts(ROLES, 0)
    assert [host.name for host in hosts] == ["production1", "backup1", "nas1", "production2"]
    assert [host.layer for host in hosts] == ["servers", "base", "base", "servers"]
    assert hosts[0].address == "198.51.100.2"


@pytest.mark.parametrize("roles", ["", "production,,nas", "NAS", "a" * 32, ",".join(["nas"] * 14)])
def test_a_list_of_roles_that_cannot_be_laid_out_is_refused(roles: str) -> None:
    with pytest.raises(plan.PlanError):
        plan.layout_hosts(roles, 0)


def test_no_two_slots_share_an_address_and_interface_names_fit_the_kernel() -> None:
    full = ",".join(["nas"] * plan.HOSTS_PER_FLEET)
    seen: set[str] = set()
    for slot in range(plan.SLOTS):
        hosts = plan.layout_hosts(full, slot)
        addresses = {host.address for host in hosts} | {plan.bridge_address(slot).split("/")[0]}
        assert len(addresses) == len(hosts) + 1
        assert not addresses & seen
        seen |= addresses
        network = plan.slot_network(slot)
        assert all(ipaddress.IPv4Address(address) in list(network.hosts()) for address in addresses)
        assert all(len(name) <= 15 for name in [plan.bridge_name(slot), *(host.link for host in hosts)])


def test_a_slot_another_interface_reaches_into_is_left_alone() -> None:
    other = ipaddress.IPv4Network("198.51.100.16/30")
    assert plan.free_slot([0], [other]) == 2
    with pytest.raises(plan.PlanError, match="sweep"):
        plan.free_slot([], [plan.NETWORK])


def test_a_fleet_survives_its_file() -> None:
    fleet = make_fleet()
    assert plan.Fleet.from_json(fleet.to_json()) == fleet


@pytest.mark.parametrize(("text", "size"), [("1M", 1 << 20), ("64M", 64 << 20), ("2G", 2 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert plan.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0M", "64", "64m", "1.5G", "-1M", "64M "])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(plan.PlanError):
        plan.parse_size(text)


@pytest.mark.parametrize("text", ["backup1:external", "tape1:x:1M", "backup1:Bad Name:1M", "backup1:x:1T"])
def test_disks_that_are_none(text: str) -> None:
    with pytest.raises(plan.PlanError):
        plan.parse_disk(text, plan.layout_hosts(ROLES, 0), "u")


def test_a_disk_and_a_host_are_found_by_name() -> None:
    fleet = make_fleet()
    assert fleet.disk("backup1", "external").image == "backup1-external.dbct.img"
    with pytest.raises(plan.PlanError, match="production1, backup1"):
        fleet.host("tape1")
    with pytest.raises(plan.PlanError, match="backup1:external"):
        fleet.disk("nas1", "external")


def test_hosts_know_each_other_by_name() -> None:
    hosts = plan.layout_hosts(ROLES, 0)
    text = plan.etc_hosts(hosts[1], hosts)
    assert "127.0.1.1\tbackup1\n" in text
    assert f"{hosts[2].address}\tnas1\n" in text
    assert not re.search(rf"^{re.escape(hosts[1].address)}\t", text, re.M)


def test_the_inventory_groups_hosts_by_role_and_pins_host_keys() -> None:
    fleet = make_fleet()
    devices = {("backup1", "external"): "/dev/loop0"}
    children = plan.inventory(fleet, "/s/key", OPTIONS, devices)["all"]["children"]
    assert sorted(children) == ["backup", "nas", "production"]
    assert sorted(children["production"]["hosts"]) == ["production1", "production2"]
    backup = children["backup"]["hosts"]["backup1"]
    assert "StrictHostKeyChecking=yes" in backup["ansible_ssh_common_args"]
    assert backup["test_disks"]["external"]["device"] == "/dev/loop0"
    assert not set(children) & {host.name for host in fleet.hosts}
    json.dumps(children)


def test_the_ssh_client_file_has_a_block_for_each_host() -> None:
    text = plan.ssh_config(make_fleet(), OPTIONS)
    assert "Host nas1\n  HostName 198.51.100.52\n" in text
    assert "  StrictHostKeyChecking yes\n" in text


def test_a_package_index_entry_names_file_size_and_hash() -> None:
    assert plan.package_stanza("Package: zstd\n", "zstd_1.deb", 7, "ab") == (
        "Package: zstd\nFilename: ./zstd_1.deb\nSize: 7\nSHA256: ab\n"
    )


def test_a_root_file_system_is_named_after_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rootfs.unit_name("debian12")
    assert before.startswith("bookworm-")
    monkeypatch.setattr(rootfs, "POOL_PACKAGES", (*rootfs.POOL_PACKAGES, "jq"))
    assert rootfs.unit_name("debian12") != before
    with pytest.raises(HostsError):
        rootfs.unit_name("debian7")


def test_a_command_for_a_host_is_kept_as_it_is() -> None:
    options = parser().parse_args(["exec", "--name", "x", "nas1", "--", "ls", "--all"])
    assert (options.host, options.words[-2:]) == ("nas1", ["ls", "--all"])
