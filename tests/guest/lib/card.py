# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""What every model of network card has to do for a guest on a LAN: the cases of the scenarios net-virtio and net-e1000."""
import re
import time

import harness
from harness import check, check_equal
from lan import CMDLINE, Lan, Shell, Transfer, bulk_size, run, wait_for_carrier
from machine import Khyve, Store

BULK, SMALL = bulk_size(8), 8 << 20
MAC = "58:9c:fc:00:00:77"
GUEST4, GUEST6 = "10.77.0.2", "fd77::2"
TAP = "khn0"
GROUP = "224.0.0.251"  # of mDNS


class Card:
    """A card of a guest on a LAN. driver: the folder of the guest's driver in /sys/bus. vlan_filter: the card has one."""

    def __init__(self, model, driver, vlan_filter=True, **settings):
        self.model, self.driver, self.vlan_filter, self.settings = model, f"/sys/bus/{driver}", vlan_filter, settings
        self.folder = harness.make_folder()
        self.lan = self.guest = self.sh = None

    def boot(self):
        harness.stage(self.folder, ["lan.gz", "vmlinuz"])
        run("modprobe", "-a", "tun", "bridge", "veth", "8021q")
        self.lan = Lan(Store(self.folder))
        card = {"device": self.model, "backend": f"tap:{self.lan.tap(TAP)}", "mac": MAC} | self.settings
        self.guest = Khyve(self.folder, "net", {
            "cpus": 2, "memory.size": "768M", "linux.kernel": self.folder / "vmlinuz",
            "linux.initrd": self.folder / "lan.gz",
            "linux.cmdline": CMDLINE,
            } | {f"pci.0.2.0.{key}": value for key, value in card.items()})
        self.sh = Shell(self.guest)

    def found(self):
        sh = self.sh
        check_equal(sh("readlink -f /sys/class/net/eth0/device/driver"), sh(f"readlink -f {self.driver}"), "the driver")
        check_equal(sh("cat /sys/class/net/eth0/address"), MAC, "the address")
        # An address is to work at once.
        sh("for f in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $f; done")
        sh("ip link set lo up; ip link set eth0 mtu 1500 up")
        wait_for_carrier(sh, True)

    def ipv4(self):
        sh = self.sh
        sh(f"ip addr add {GUEST4}/24 dev eth0")
        self.lan.ping(GUEST4)
        sh("ping -c 3 -W 10 10.77.0.1", 60)
        check(re.search(MAC, self.lan.inside("ip", "neigh", "show", GUEST4)), "ARP does not know the guest")

    def ipv6(self):
        """Neighbour discovery goes to multicast addresses, so it needs the card's filter to be right."""
        sh = self.sh
        sh(f"ip -6 addr add {GUEST6}/64 dev eth0")
        self.lan.ping(GUEST6)
        sh("ping -c 3 -W 10 fd77::1", 60)
        # All nodes, as DHCP, mDNS and routers' messages come: to a group's address
        self.lan.ping("ff02::1%eth0", "-I", "eth0")

    def multicast(self):
        """The guest hears a group once it joins it, as an mDNS responder does."""
        sh, lan = self.sh, self.lan
        sh("echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")
        ping = ["busybox", "ping", "-c", 2, "-W", 3, "-I", "eth0", GROUP]
        check("0 packets received" in lan.inside(*ping, status=1), "a group that the guest is not in")
        sh(f"/bin/ip addr add {GROUP}/32 dev eth0 autojoin")  # not the applet
        check(GROUP in sh("/bin/ip maddr show dev eth0"), "the guest did not join")
        lan.ping(GROUP, "-I", "eth0")
        sh(f"/bin/ip addr del {GROUP}/32 dev eth0")

    def jumbo(self):
        sh, lan = self.sh, self.lan
        # Linux' e1000 may forget to switch its transmitter on again if its watchdog comes at the wrong moment of a change
        # while the interface is up (e1000_down and e1000_watchdog); not if it was taken down.
        sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down; ip link set eth0 down; ip link set eth0 mtu 9000 up")
        wait_for_carrier(sh, True)
        lan.ping(GUEST4, "-s", 8972)
        sh("ping -c 3 -W 10 -s 8972 10.77.0.1", 60)
        fields = sh("grep Ip: /proc/net/snmp").split("\n")
        values = dict(zip(fields[0].split(), fields[1].split()))
        check_equal(values["ReasmReqds"], "0", "fragments that the guest got")

    def vlan(self):
        sh, lan = self.sh, self.lan
        sh("modprobe 8021q; ip link add link eth0 name eth0.10 type vlan id 10 && ip link set eth0.10 up")
        sh("ip addr add 10.77.10.2/24 dev eth0.10; ip -6 addr add fd77:10::2/64 dev eth0.10")
        lan.ping("10.77.10.2")
        lan.ping("fd77:10::2")
        lan.ping("10.77.10.2", "-s", 8972)
        if not self.vlan_filter:
            return
        # another VLAN does not come through
        lan.inside("ip", "link", "add", "link", "eth0", "name", "vlan11", "type", "vlan", "id", 11)
        lan.inside("ip", "addr", "add", "10.77.11.1/24", "dev", "vlan11")
        lan.inside("ip", "link", "set", "vlan11", "up")
        before = sh("cat /sys/class/net/eth0/statistics/rx_packets")
        lan.inside("busybox", "arping", "-c", "3", "-w", "3", "-I", "vlan11", "10.77.11.2", status=None)
        check(int(sh("cat /sys/class/net/eth0/statistics/rx_packets")) - int(before) < 3, "VLAN 11 reaches the guest")

    def receive(self, address, port, count=BULK):
        listener = self.lan.listen(address, port)
        transfer = Transfer(listener, count)
        start = time.monotonic()
        got = self.sh(f"guest-pour take {address} {port}", 60 + count // 500000)
        print(f"received {count >> 20} MiB in {time.monotonic() - start:.1f} s", flush=True)
        check_equal(got, transfer.result(30), "what the guest received")
        check_equal(transfer.bytes, count, "bytes")
        listener.close()

    def send(self, address, port, count=BULK):
        listener = self.lan.listen(address, port)
        transfer = Transfer(listener)
        start = time.monotonic()
        sent = self.sh(f"guest-pour send {address} {port} {count >> 20}", 60 + count // 500000)
        print(f"sent {count >> 20} MiB in {time.monotonic() - start:.1f} s", flush=True)
        check_equal(transfer.result(60), sent, "what the guest sent")
        check_equal(transfer.bytes, count, "bytes")
        listener.close()

    def cable(self):
        sh, guest, lan = self.sh, self.guest, self.lan
        name = f"{self.model}-0:2.0"
        check_equal(guest.control("link"), {name: "up"}, "the cards")
        check_equal(guest.control("link 0 down"), {name: "down"}, "the answer")
        wait_for_carrier(sh, False)
        check_equal(guest.control(f"link {name} up"), {name: "up"}, "the answer")
        wait_for_carrier(sh, True)
        lan.ping(GUEST4)
        # the tap's own link
        run("ip", "link", "set", TAP, "down")
        wait_for_carrier(sh, False)
        run("ip", "link", "set", TAP, "up")
        wait_for_carrier(sh, True)
        lan.ping(GUEST4)

    def pauses(self):
        """Traffic goes on where it was after pauses, and a new driver works after the old one."""
        sh, guest, lan = self.sh, self.guest, self.lan
        listener = lan.listen("10.77.0.1", 5005)
        transfer = Transfer(listener, SMALL)
        sh.start("guest-pour take 10.77.0.1 5005")
        harness.wait_until(lambda: transfer.bytes > 0, 60, "first bytes")
        for _ in range(5):
            guest.control("pause")
            harness.wait_until(lambda: guest.control("status")["state"] == "paused", 20, "pause")
            guest.control("resume")
            harness.wait_until(lambda: guest.control("status")["state"] == "running", 20, "resume")
        status, got = sh.finish(400)
        check_equal(status, 0, "the status of the transfer")
        check_equal(got.strip(), transfer.result(30), "what the guest received")
        listener.close()
        sh(f"cd {self.driver}; d=$(basename $(readlink /sys/class/net/eth0/device)); "
           "echo $d > unbind; echo $d > bind; cd /")
        sh(f"ip link set eth0 up; ip addr add {GUEST4}/24 dev eth0")
        wait_for_carrier(sh, True)
        lan.ping(GUEST4)

    def complaints(self):
        said = self.sh("dmesg | grep -E '(eth0|e1000|virtio).*([Hh]ang|timed out|[Ff]ail|[Ee]rror|WATCHDOG)' || true")
        check_equal(said, "", "what the driver complains of")

    def reboot(self):
        """A reset of the machine with traffic in flight: the next start finds the card as new."""
        guest, lan = self.guest, self.lan
        listener = lan.listen("10.77.0.1", 5006)
        transfer = Transfer(listener, SMALL)
        self.sh.start("guest-pour take 10.77.0.1 5006")
        harness.wait_until(lambda: transfer.bytes > 0, 60, "first bytes")
        guest.control("reset")
        self.sh = sh = Shell(guest)
        sh(f"ip link set eth0 up; ip addr add {GUEST4}/24 dev eth0")
        wait_for_carrier(sh, True)
        lan.ping(GUEST4)
        listener.close()

    def end(self):
        self.guest.control("quit")
        check_equal(self.guest.end(), 1, "khyve's exit status")
        check_equal(self.guest.said(), "INFO machine: guest reset", "what khyve said")

    def clean_up(self, failed):
        if self.guest:
            if failed:
                print(self.guest.said())
            self.guest.kill()
        if self.lan:
            self.lan.close()

    def main(self, early=(), late=()):
        """Runs the cases, and further ones (name, function) as soon as the driver is there and when data has gone both ways."""
        harness.main([
            ("boot", self.boot), ("driver", self.found), *early, ("ARP and IPv4", self.ipv4),
            ("IPv6", self.ipv6), ("multicast", self.multicast), ("jumbo frames", self.jumbo), ("VLAN 10", self.vlan),
            ("receive", lambda: self.receive("10.77.0.1", 5001)), ("send", lambda: self.send("10.77.0.1", 5002)),
            ("receive over IPv6", lambda: self.receive("fd77::1", 5003, SMALL)),
            ("send over IPv6", lambda: self.send("fd77::1", 5004, SMALL)), *late, ("cable", self.cable),
            ("pause and unbind", self.pauses), ("complaints", self.complaints), ("reset", self.reboot),
            ("end", self.end)], self.clean_up, chained=True)
