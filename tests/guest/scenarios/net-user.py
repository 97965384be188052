# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 360
# images: initrd.gz vmlinuz
"""A Linux guest behind khyve's back end slirp: addresses, TCP both ways, a forward, khyve-net killed, nothing left."""
import hashlib
import socket
import subprocess
import threading

import harness
import machine
from harness import check, check_equal

OUTSIDE = "192.0.2.1"  # the test host's own network may be 10.0.2.0/24, too
SIZE = 1 << 20
FORWARDED = 2222
folder = harness.make_folder()
state = {}


def create():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    subprocess.run(["ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo"], check=False)
    state["khyve"] = khyve = machine.Khyve(folder, "guest", {
        "cpus": "1", "memory.size": "256M", "pci.0.0.0.device": "hostbridge", "pci.0.31.0.device": "lpc",
        "linux.kernel": str(folder / "vmlinuz"), "linux.initrd": str(folder / "initrd.gz"),
        "linux.cmdline": "console=ttyS0 quiet mitigations=off khyve.test=shell",
        "pci.0.12.0.device": "virtio-net", "pci.0.12.0.backend": "slirp", "pci.0.12.0.open": "true",
        "pci.0.12.0.hostfwd": f"tcp:127.0.0.1:{FORWARDED}-:22"})
    khyve.serial.mark("shell", 120)
    khyve.serial.wait("# $", 30)


def shell(command, pattern, seconds=30):
    """Runs a command in the guest; the match of a line that it prints."""
    serial = state["khyve"].serial
    serial.send(command + "\n")
    return serial.wait(pattern, seconds)


def addresses():
    """DHCP, and IPv6 from a router advertisement."""
    shell("modprobe af_packet; printf '#!/bin/sh\\n[ $1 = bound ] || exit 0\\nip addr add $ip/24 dev eth0\\n"
          "ip route add default via $router\\necho dns=$dns\\n' > /lease; chmod 755 /lease; ip link set eth0 up; "
          "udhcpc -i eth0 -n -q -s /lease; echo dhcp=$?", r"^dns=10\.0\.2\.3$", 60)
    check_equal(shell("", r"^dhcp=(\d+)$").group(1), "0", "the status of udhcpc")
    shell("ip addr show eth0", r"inet 10\.0\.2\.15/24")
    shell("for i in $(seq 20); do ip addr show eth0 | grep -q fd00 && break; sleep 1; done; ip addr show eth0",
          r"inet6 fd00:[0-9a-f:]+/64", 60)


def ping():
    shell("ping -c 2 10.0.2.2; ping -c 2 fd00::2; echo ping=$?", r"^ping=0$")


def serve(function):
    """A server for one connection; returns its port."""
    server = socket.create_server((OUTSIDE, 0))

    def run():
        with server, server.accept()[0] as conn:
            function(conn)

    threading.Thread(target=run, daemon=True).start()
    return server.getsockname()[1]


def download():
    data = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(SIZE // 32))
    port = serve(lambda conn: conn.sendall(data))
    got = shell(f"nc {OUTSIDE} {port} < /dev/null | sha256sum", r"^([0-9a-f]{64})  -$", 120).group(1)
    check_equal(got, hashlib.sha256(data).hexdigest(), "what the guest got")


def upload():
    got, done = hashlib.sha256(), threading.Event()

    def take(conn):
        while data := conn.recv(65536):
            got.update(data)
        done.set()

    port = serve(take)
    want = shell(f"head -c {SIZE} /dev/urandom > /tmp/data; sha256sum < /tmp/data; nc {OUTSIDE} {port} < /tmp/data",
                 r"^([0-9a-f]{64})  -$", 120).group(1)
    check(done.wait(harness.limit(120)), "the guest's data do not end")
    check_equal(got.hexdigest(), want, "what the host got")


def ask_guest():
    """What the guest says on the forwarded port."""
    try:
        with socket.create_connection(("127.0.0.1", FORWARDED), harness.limit(5)) as conn:
            conn.settimeout(harness.limit(5))
            return conn.recv(100)
    except OSError:
        return b""


def forward():
    shell("while :; do echo hello | nc -l -p 22; done > /dev/null 2>&1 & echo listens", r"^listens$")
    harness.wait_until(lambda: ask_guest() == b"hello\n", 30, "answer through the forward")


def cable():
    """Pulled and plugged in by the control socket."""
    khyve = state["khyve"]
    (card,) = khyve.control("link")
    check_equal(khyve.control(f"link {card} down"), {card: "down"}, "the answer of the control socket")
    shell("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 1; done; echo cable=out", "^cable=out$")
    check_equal(khyve.control("link 0 up"), {card: "up"}, "the answer of the control socket")
    shell("until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 1; done; echo cable=in", "^cable=in$")
    harness.wait_until(lambda: ask_guest() == b"hello\n", 60, "answer after the cable was out")


def helpers():
    return machine.processes(r"^khyve-net ")


def kill_helper():
    """The guest runs on, sees its link go down and come back, and all works again."""
    before = int(shell("echo downs=$(cat /sys/class/net/eth0/carrier_down_count)", r"^downs=(\d+)$").group(1))
    pids = helpers()
    check_equal(len(pids), 1, "the number of khyve-net")
    machine.kill(pids[0])
    harness.wait_until(lambda: helpers() not in ([], pids), 20, "new khyve-net")
    harness.wait_until(lambda: ask_guest() == b"hello\n", 60, "answer through the new khyve-net")
    after = int(shell("echo downs=$(cat /sys/class/net/eth0/carrier_down_count)", r"^downs=(\d+)$").group(1))
    check(after > before, "the guest's link did not go down")
    shell("echo up=$(cat /sys/class/net/eth0/carrier)", r"^up=1$")
    download()


def end():
    """kill -9 of khyve: no process is left, and the port is free."""
    state["khyve"].kill()
    harness.wait_until(lambda: not helpers(), 20, "end of khyve-net")
    check_equal(ask_guest(), b"", "what the forwarded port says")


def clean_up(_failed):
    if "khyve" in state:
        state["khyve"].kill()


harness.main([("create", create), ("DHCP and router advertisement", addresses), ("ping", ping),
              ("TCP from outside", download), ("TCP to the outside", upload), ("a forward", forward), ("a cable", cable),
              ("kill -9 khyve-net", kill_helper), ("kill -9 khyve", end)], clean_up, chained=True)
