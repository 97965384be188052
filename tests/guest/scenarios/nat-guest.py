# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 300
# images: iperf.gz vmlinuz
"""Guests on a NAT switch of a host that has Docker's rules, from vm switch create to vm switch destroy: addresses,
names, the outside over IPv4 and IPv6, forwarded ports, and nothing left. All of it in network namespaces."""
import atexit
import json
import signal
import sys

import harness
from harness import check, check_equal
from machine import Store

sys.path.append(str(harness.TOP / "tests/vm"))
import world  # noqa: E402  pylint: disable=wrong-import-position

LEASE = (r"printf '#!/bin/sh\n[ $1 = bound ] || exit 0\nip addr add $ip/$mask dev eth0\n"
         r"ip route add default via $router\necho nameserver $dns > /etc/resolv.conf\necho search $domain >> /etc/resolv.conf\n"
         r"echo lease=$ip,$router,$dns,$domain\n' > /lease; chmod 755 /lease; modprobe af_packet")
CARDS = {"web": ("virtio-net", "172.31.1.3"), "db": ("e1000", "172.31.1.2")}
folder = harness.make_folder()
place = world.World(folder, folder / "vm.d")
state = {"serial": {}}


def switch():
    harness.stage(folder, ["iperf.gz", "vmlinuz"])
    place.make()
    state["store"] = store = Store(folder, place.prefix)
    place.sh(place.host, "sh", "-ec", world.DOCKER)
    for name, (card, _) in CARDS.items():
        store.vm("create", "-t", "linux-uefi", "-s", "64M", "-m", "256M", "-c", "1", name)
        store.edit(name, loader="linux", graphics="no", kernel=folder / "vmlinuz", initrd=folder / "iperf.gz",
                   cmdline="console=ttyS0 quiet mitigations=off khyve.test=shell", network0_type=card,
                   network0_switch="home")
    # What the first switch of all leaves: system.conf without keys, and a folder.
    store.vm("switch", "create", "first")
    store.vm("switch", "destroy", "first")
    state["before"] = place.state()
    check_equal(store.vm("switch", "create", "-t", "nat", "home"), "", "the output of vm switch create")


def start():
    store = state["store"]
    for name in CARDS:
        store.vm("start", name)
        state["serial"][name] = store.serial(name)
    for serial in state["serial"].values():
        serial.mark("shell", 240)
        serial.wait("# $", 60)


def guest(name, command, pattern=None, seconds=60):
    """Runs a command in a guest, which has to succeed; the match of what it prints."""
    serial = state["serial"][name]
    serial.send(f"{command}; echo status=$?\n")
    match = serial.wait(pattern, seconds) if pattern else None
    check_equal(serial.wait(r"^status=(\d+)$", seconds).group(1), "0", f"the status of {command} in {name}")
    return match


def addresses():
    """DHCP, and IPv6 from a router advertisement."""
    for name, (_, address) in CARDS.items():
        guest(name, LEASE)
        guest(name, "ip link set lo up; ip link set eth0 up; udhcpc -i eth0 -n -q -t 10 -s /lease",
              rf"^lease={address},172\.31\.1\.1,172\.31\.1\.1,vm$")
    for name in CARDS:
        guest(name, "for i in $(seq 60); do ip -6 addr show eth0 | grep global | grep -vq tentative && break; sleep 1; "
              "done; ip -6 addr show eth0", r"inet6 fd[0-9a-f:]+/64 scope global")


def outside():
    """By name, over IPv4 and IPv6; who the guest is there."""
    guest("web", "ping -4 -c 2 -w 30 www.example", r"^PING www\.example \(198\.51\.100\.7\)")
    guest("web", "ping -6 -c 2 -w 30 www.example", r"^PING www\.example \(2001:db8:7::7\)")
    guest("web", "nc www.example 80 < /dev/null; echo", r"^::ffff:192\.0\.2\.1")
    guest("db", "nc six.example 80 < /dev/null; echo", r"^2001:db8::1")


def names():
    """Guests find each other, and the host's dnsmasq knows them."""
    guest("web", "ping -c 2 -w 30 db.vm", r"^PING db\.vm \((172\.31\.1\.2|fd[0-9a-f:]+)\)")
    guest("db", "ping -4 -c 2 -w 30 web", r"^PING web \(172\.31\.1\.3\)")
    check_equal(place.net(place.host, "ask", "172.31.1.1", "web.vm", "A"), "172.31.1.3", "what dnsmasq says of web.vm")


def answers(space, address, port):
    """TCP: what the guest says; UDP: iperf3 in the guest sends, and this end counts."""
    text = place.net(space, "get", address, str(port))
    check(text == "hello", f"{address} port {port} says {text!r}")
    udp = json.loads(place.sh(space, "iperf3", "-c", address, "-p", str(port + 1), "-J", "-u", "-R", "-t", "1", "-l", "1000"))
    check(udp["end"]["sum"]["packets"] > udp["end"]["sum"]["lost_packets"], f"UDP: {udp['end']['sum']}")


def ports():
    """From the host itself and from outside, live."""
    store = state["store"]
    guest("web", "iperf3 -s -D; (nc -ll -p 80 -e echo hello &)")
    check_equal(place.net(place.host, "get", "127.0.0.1", "8080"), "refused", "a port that is not forwarded")
    ours = {"8080:80", "8081:5201", "8081:5201/udp"}
    for port in sorted(ours | {f"192.0.2.1:1{port}" for port in ours}):
        check_equal(store.vm("port", "add", "web", port), "", f"the output of vm port add {port}")
    answers(place.host, "127.0.0.1", 8080)
    answers(place.out, "192.0.2.1", 18080)
    for port in "8080", "8081", "8081/udp", "18080", "192.0.2.1:18081", "18081/udp":
        store.vm("port", "remove", "web", port)
    check_equal(place.net(place.host, "get", "127.0.0.1", "8080"), "refused", "a port that was removed")


def info():
    for name, (_, address) in CARDS.items():
        card = json.loads(state["store"].vm("info", "--json", name))["guests"][0]["network-interfaces"][0]
        check_equal(card["desc"], f"vmnet/{name}/0/home", "the tap's alias")
        check(address in card["addresses"] and any(a.startswith("fd") for a in card["addresses"]),
              f"the addresses of {name} are {card['addresses']}")


def destroy():
    store = state["store"]
    text = store.vm("switch", "destroy", "home", status=5)
    check("web" in text, f"vm switch destroy with guests says {text!r}")
    for name in CARDS:
        store.vm("poweroff", "-f", name)
    store.vm("switch", "destroy", "home")
    place.same(state["before"])


def clean_up(failed):
    if failed and "store" in state:
        for name in CARDS:
            print(state["store"].log(name), flush=True)
        print(place.sh(place.host, "sh", "-c", "ip addr; nft list ruleset"), flush=True)


atexit.register(place.close)
# Whoever ends this early leaves nothing behind.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
harness.main([("a NAT switch", switch), ("two guests on it", start), ("DHCP and router advertisement", addresses),
              ("the outside by name", outside), ("GUEST.vm", names), ("forwarded ports", ports), ("vm info", info),
              ("nothing is left", destroy)], clean_up, chained=True)
