# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 500
# images: lan.gz vmlinuz
# network: own
"""Guests under vm on the same switches: they reach each other and the LAN; private keeps them apart; span mirrors."""
import json
import types

import harness
from harness import check, check_equal
from lan import CMDLINE, MTU, Lan, Shell, run
from machine import Store

PINGS = 10
folder = harness.make_folder()
state = {}
shells = {}


def add(name, **keys):
    store = state["store"]
    store.vm("create", "-t", "linux-uefi", "-s", "16M", "-m", "320M", "-c", "1", name)
    store.edit(name, loader="linux", graphics="no", kernel=str(folder / "vmlinuz"), initrd=str(folder / "lan.gz"),
               cmdline=CMDLINE, **keys)
    store.vm("start", name)


def card(name, slot, variable):
    """Sets a shell variable to the name of the guest's card in a PCI slot, and switches it on."""
    shells[name](f"{variable}=$(cd /sys/bus/pci/devices/0000:00:{slot}.0 && ls -d virtio*/net/* net/* 2>/dev/null);"
                 f" {variable}=${{{variable}##*/}}; ip link set ${variable} up")


def boot():
    """Two guests with one card on a switch and one on a private switch, both of different models, and one that spies."""
    harness.stage(folder, ["lan.gz", "vmlinuz"])
    run("modprobe", "-a", "tun", "bridge", "veth", "8021q")
    state["store"] = store = Store(folder)
    state["lan"] = Lan(store)
    store.vm("switch", "create", "-p", "-a", "192.0.2.1/24", "apart")
    add("one", network0_type="virtio-net", network0_switch="lan", network1_type="e1000", network1_switch="apart")
    add("two", network0_type="e1000", network0_switch="lan", network1_type="virtio-net", network1_switch="apart")
    add("spy", network0_type="virtio-net", network0_switch="lan", network0_span="yes")
    for name in ("one", "two", "spy"):
        shells[name] = Shell(types.SimpleNamespace(serial=store.serial(name)))
        card(name, "0c", "a")
        shells[name](f"ip link set $a down; ip link set $a mtu {MTU} up")  # an e1000 cannot tell its driver
    for i, name in ((2, "one"), (3, "two")):
        card(name, "0d", "b")
        shells[name](f"ip addr add 10.77.0.{i}/24 dev $a; /bin/ip addr add fd77::{i}/64 dev $a nodad;"
                     f" ip addr add 192.0.2.{i}/24 dev $b; /bin/ip addr add 2001:db8::{i}/64 dev $b nodad")


def together():
    lan = state["lan"]
    for name, other in (("one", 3), ("two", 2)):
        for address in (f"10.77.0.{other}", f"fd77::{other}", "10.77.0.1", "fd77::1"):
            shells[name](f"ping -c 3 -W 10 {address}", 60)
        lan.ping(f"10.77.0.{other}")
    shells["one"]("ping -c 3 -W 10 -s 8900 10.77.0.3", 60)


def data():
    """TCP from one guest to the other: it may come in segments larger than any frame."""
    shells["two"].start("guest-pour take - 5000")
    sent = shells["one"]("while ! guest-pour send 10.77.0.3 5000 8; do sleep 1; done", 120)
    status, text = shells["two"].finish(60)
    check_equal(status, 0, "the status of the receiver")
    check_equal(text.strip(), sent.splitlines()[-1], "what the other guest got")


def apart():
    """A private switch: the host is reached, the other guest is not."""
    for name, own, other in (("one", 2, 3), ("two", 3, 2)):
        sh = shells[name]
        sh("ping -c 3 -W 10 192.0.2.1", 60)
        run("busybox", "ping", "-c", 3, "-W", int(harness.limit(10)), f"192.0.2.{own}")
        sh(f"ping -c 3 -W 5 192.0.2.{other}", 60, status=1)
        sh(f"ping -c 3 -W 5 2001:db8::{other}", 60, status=1)
        # not even by an address that it was told
        mac = shells["two" if name == "one" else "one"]("cat /sys/class/net/$b/address")
        sh(f"/bin/ip neigh replace 192.0.2.{other} lladdr {mac} dev $b")
        sh(f"ping -c 3 -W 5 192.0.2.{other}", 60, status=1)


def counters():
    """Bytes that the spy, and another machine on the LAN, have received."""
    spy = int(shells["spy"]("cat /sys/class/net/$a/statistics/rx_bytes"))
    other = json.loads(state["lan"].inside("ip", "-s", "-j", "link", "show", "eth0"))[0]["stats64"]["rx"]["bytes"]
    return spy, other


def span():
    """The spy gets what two guests send each other, which the LAN does not, and cannot send."""
    shells["spy"]("ip link set $a promisc on")
    shells["one"]("ping -c 1 -W 10 10.77.0.3", 60)
    spy, other = counters()
    shells["one"](f"ping -c {PINGS} -W 10 -s 1400 10.77.0.3", 60)
    spy_after, other_after = counters()
    check(spy_after - spy >= 2 * PINGS * 1400, f"the spy got {spy_after - spy} bytes of {PINGS} pings and their answers")
    check(other_after - other < PINGS * 1400, f"another port got {other_after - other} bytes")
    # between the LAN and a guest
    spy, _ = counters()
    state["lan"].ping("10.77.0.2", "-s", "1400")
    check(counters()[0] - spy >= 2 * 3 * 1400, "the spy does not get what the LAN sends")
    shells["spy"]("ip addr add 10.77.0.9/24 dev $a; /bin/ip neigh replace 10.77.0.1 lladdr 02:00:00:00:00:01 dev $a")
    shells["spy"]("ping -c 2 -W 3 10.77.0.1", 60, status=1)
    mac = shells["spy"]("cat /sys/class/net/$a/address")
    check(mac not in run("bridge", "fdb", "show", "br", state["lan"].bridge), "the switch knows the spy")


def end():
    store = state["store"]
    for name in ("one", "two", "spy"):
        store.vm("poweroff", "-f", name)
    store.vm("switch", "destroy", "apart")
    state.pop("lan").close()
    links = [link["ifname"] for link in json.loads(run("ip", "-j", "link"))]
    check(not [n for n in links if n.startswith(("tap", "vm-", "khl"))], f"interfaces are left: {links}")


def clean_up(failed):
    for name in ("one", "two", "spy"):
        if failed and "store" in state and state["store"].path(name, f"{name}.conf").exists():
            print(state["store"].log(name), flush=True)
            state["store"].vm("poweroff", "-f", name, status=None)


harness.main([("boot", boot), ("one switch", together), ("data", data), ("private", apart), ("span", span), ("end", end)],
             clean_up, chained=True)
