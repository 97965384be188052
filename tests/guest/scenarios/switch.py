# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 900
# images: initrd.gz vmlinuz
# network: own
# by: hand
"""A guest on a standard switch, by vm, with a network behind its port: IPv4, IPv6, jumbo frames, VLANs, what vm info
says; and those of tests/vm/test_switch.py that need Debian's kernel, which may not be skipped here."""
import json
import subprocess
import sys

import harness
import machine
from harness import check, check_equal
from machine import Store

NAMESPACE = "khyve-lan"
folder = harness.make_folder()
state = {}


def sh(*args):
    run = subprocess.run(args, text=True, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=harness.limit(30))
    check_equal(run.returncode, 0, f"the status of {' '.join(args)} ({run.stdout.strip()})")
    return run.stdout


def lan(*args):
    return sh("ip", "netns", "exec", NAMESPACE, *args)


def guest(command, seconds=60):
    """Runs a command in the guest's shell; what it printed."""
    serial = state["serial"]
    serial.send(f"{command}; echo status=$?\n")
    match = serial.wait(r"^((?:.*\n)*?)status=(\d+)$", seconds)
    check_equal(match.group(2), "0", f"the status of {command} in the guest ({match.group(1).strip()})")


def switch():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    state["store"] = store = Store(folder)
    sh("ip", "netns", "add", NAMESPACE)
    sh("ip", "link", "add", "em9", "type", "veth", "peer", "name", "lan0", "netns", NAMESPACE)
    sh("ip", "link", "set", "em9", "mtu", "9000", "up")
    for command in ("link set lan0 mtu 9000 up", "addr add 192.0.2.1/24 dev lan0", "addr add 2001:db8::1/64 dev lan0",
                    "link add link lan0 name lan0.10 type vlan id 10", "addr add 198.51.100.1/24 dev lan0.10",
                    "link set lan0.10 up"):
        lan("ip", *command.split())
    store.vm("switch", "create", "-m", "9000", "-a", "192.0.2.2/24", "public")
    store.vm("switch", "add", "public", "em9")


def start():
    store = state["store"]
    store.vm("create", "-t", "linux-uefi", "-s", "64M", "-m", "256M", "-c", "1", "guest")
    store.edit("guest", loader="linux", graphics="no", kernel=str(folder / "vmlinuz"), initrd=str(folder / "initrd.gz"),
               cmdline="console=ttyS0 quiet mitigations=off khyve.test=shell", network0_type="virtio-net",
               network0_switch="public", network1_type="e1000", network1_switch="public", network1_vlan="10")
    store.vm("start", "guest")
    state["serial"] = serial = store.serial("guest")
    serial.mark("shell", 240)
    serial.wait("# $", 30)
    guest("n=$(cd /sys/bus/pci/devices/0000:00:0c.0 && ls -d virtio*/net/* net/* 2>/dev/null); n=${n##*/};"
          " e=$(ls /sys/bus/pci/devices/0000:00:0d.0/net)")
    guest("ip addr add 192.0.2.50/24 dev $n && ip -6 addr add 2001:db8::50/64 dev $n && ip link set $n up")
    guest("ip addr add 198.51.100.50/24 dev $e && ip link set $e up")


def packets():
    guest("ping -c 3 -w 30 192.0.2.1")
    guest("ping -c 3 -w 30 192.0.2.2")
    guest("ping -6 -c 3 -w 60 2001:db8::1")
    check("mtu 9000" in lan("ip", "link", "show", "lan0"), "the MTU of the LAN")
    guest("[ $(cat /sys/class/net/$n/mtu) = 9000 ] && ping -c 3 -w 30 -s 8900 192.0.2.1")


def vlan():
    """The guest's second card sees VLAN 10 without tags; the first one is a trunk."""
    guest("ping -c 3 -w 30 198.51.100.1")
    guest("modprobe 8021q; ip link set $e down && ip link add link $n name v10 type vlan id 10 &&"
          " ip addr add 198.51.100.51/24 dev v10 && ip link set v10 up && ping -c 3 -w 30 198.51.100.1")


def info():
    store = state["store"]
    cards = json.loads(store.vm("info", "--json", "guest"))["guests"][0]["network-interfaces"]
    check_equal([c["addresses"] for c in cards], [["192.0.2.50"], []], "the addresses")
    check_equal([(c["desc"], c["bridge"], c["mtu"]) for c in cards],
                [("vmnet/guest/0/public", "vm-public", 9000), ("vmnet/guest/1/public", "vm-public", 9000)], "the taps")
    check(cards[0]["bytes-in"] > 3 * 8900 and cards[0]["bytes-out"] > 3 * 8900, f"the counters: {cards}")


def destroy():
    store = state["store"]
    store.vm("poweroff", "-f", "guest")
    store.vm("switch", "remove", "public", "em9")
    store.vm("switch", "destroy", "public")
    links = [link["ifname"] for link in json.loads(sh("ip", "-j", "link"))]
    check(not [n for n in links if n.startswith(("tap", "vm-"))], f"interfaces are left: {links}")


def clean_up(failed):
    if failed and "store" in state:
        state["store"].vm("poweroff", "-f", "guest", status=0)
    sh("ip", "netns", "del", NAMESPACE)


def test_switch(name):
    def run():
        done = subprocess.run([sys.executable, "-B", str(harness.TOP / "tests/vm/test_switch.py"), name], text=True,
                              check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=harness.limit(240),
                              env={"VM": str(folder / "vm"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                                   "KHYVE_PATIENCE": str(10 * harness.PATIENCE)})
        check_equal(done.returncode, 0, f"its status (it says {done.stdout!r})")
        check("skipped" not in done.stdout, done.stdout)
    return run


harness.main([("a switch with a port", switch), ("a guest on it", start), ("packets", packets), ("VLANs", vlan),
              ("vm info", info), ("nothing is left", destroy)] +
             [(name, test_switch(name)) for name in ("vlan", "limits", "offloads", "add_", "killed_while")],
             clean_up, chained=True)
