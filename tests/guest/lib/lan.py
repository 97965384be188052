# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""A LAN for guests: a standard switch, and behind its port, a veth pair, a network namespace that stands for another machine."""
import ctypes
import os
import random
import socket
import subprocess
import threading
import zlib

import harness
from harness import check, check_equal, limit

CLONE_NEWNET = 0x40000000
MTU = 9000
CHUNK = 1 << 20
# The watchdogs would complain on the serial port, in the middle of answers, when the machine is busy.
CMDLINE = "console=ttyS0 quiet mitigations=off nowatchdog rcupdate.rcu_cpu_stall_suppress=1 khyve.test=shell"


def run(*args, status=0):
    """Runs a program; what it printed, both outputs together. status None: any."""
    done = subprocess.run([str(a) for a in args], text=True, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=limit(60))
    check(status is None or done.returncode == status,
          f"{' '.join(map(str, args))}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


class Lan:
    """Addresses 10.77.0.1/24 and fd77::1/64 in the namespace, the same with 10.77.10 and fd77:10:: in VLAN 10."""

    def __init__(self, store, switch="lan", namespace="khl"):
        self.store, self.switch, self.namespace, self.bridge, self.port = store, switch, namespace, f"vm-{switch}", f"{namespace}p"
        run("ip", "netns", "add", namespace)
        run("ip", "link", "add", self.port, "mtu", MTU, "type", "veth", "peer", "name", "eth0", "netns", namespace, "mtu", MTU)
        run("ip", "link", "set", self.port, "up")
        store.vm("switch", "create", "-m", MTU, switch)
        store.vm("switch", "add", switch, self.port)
        for key in ("eth0", "lo"):
            self.inside("ip", "link", "set", key, "up")
        self.inside("ip", "link", "add", "link", "eth0", "name", "vlan10", "type", "vlan", "id", 10)
        self.inside("ip", "link", "set", "vlan10", "up")
        for dev, v4, v6 in (("eth0", "10.77.0.1/24", "fd77::1/64"), ("vlan10", "10.77.10.1/24", "fd77:10::1/64")):
            self.inside("ip", "addr", "add", v4, "dev", dev)
            self.inside("ip", "addr", "add", v6, "dev", dev, "nodad")
        self.taps = []

    def tap(self, name):
        """A new tap on the switch, for as many queues as khyve likes."""
        run("ip", "tuntap", "add", name, "mode", "tap", "multi_queue")
        run("ip", "link", "set", name, "mtu", MTU, "master", self.bridge, "up")
        self.taps.append(name)
        return name

    def inside(self, *args, status=0):
        return run("ip", "netns", "exec", self.namespace, *args, status=status)

    def ping(self, address, *args):
        """Pings from the namespace."""
        self.inside("busybox", "ping", "-c", 3, "-W", int(limit(10)), *args, address)

    def close(self):
        for tap in self.taps:
            run("ip", "link", "del", tap, status=None)
        self.store.vm("switch", "destroy", self.switch)
        run("ip", "netns", "del", self.namespace, status=None)

    def listen(self, address, port):
        """A listening TCP socket in the namespace."""
        found = []

        def make():
            fd = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
            libc = ctypes.CDLL(None, use_errno=True)
            # Only this thread goes there.
            if libc.setns(fd, CLONE_NEWNET) == 0:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = socket.socket(family)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                sock.listen()
                found.append(sock)
            os.close(fd)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        check(found, f"cannot listen on {address} port {port} in {self.namespace}")
        return found[0]


def some_bytes(count):
    """The same bytes every time, in chunks that differ only in their number: making them takes long in the test host."""
    chunk = random.Random(1).randbytes(CHUNK)
    for i in range(0, count, CHUNK):
        yield i.to_bytes(8, "little") + chunk[8:min(CHUNK, count - i)]


class Transfer:
    """One connection of a guest to the LAN, with the CRC of all bytes. Takes them, or gives count of them."""

    def __init__(self, listener, count=None):
        self.listener, self.count = listener, count
        self.crc, self.bytes, self.error = 0, 0, None
        self.listener.settimeout(limit(60))
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            sock, _ = self.listener.accept()
            sock.settimeout(limit(120))
            with sock:
                for data in some_bytes(self.count) if self.count else iter(lambda: sock.recv(CHUNK), b""):
                    self.crc = zlib.crc32(data, self.crc)
                    self.bytes += len(data)
                    if self.count:
                        sock.sendall(data)
        except OSError as e:
            self.error = e

    def result(self, seconds):
        """The CRC and the number of bytes, as guest-pour prints them."""
        self.thread.join(limit(seconds))
        check(not self.thread.is_alive(), f"the transfer is not over after {limit(seconds):.0f} s, {self.bytes} bytes so far")
        check(not self.error, f"the transfer ended after {self.bytes} bytes: {self.error}")
        return f"{self.crc:08x} {self.bytes}"


class Shell:
    """The test guest with khyve.test=shell, through its serial port."""

    def __init__(self, guest):
        self.guest, self.count = guest, 0
        guest.serial.mark("shell", 180)
        guest.serial.wait("# $", 30)
        # Without echo and prompt, what comes is what the commands print.
        guest.serial.send("stty -echo; PS1=; echo BEGIN\n")
        guest.serial.wait("^BEGIN\n", 30)

    def start(self, command):
        self.count += 1
        self.guest.serial.send(f"{command}; echo END-{self.count}-$?\n")

    def finish(self, seconds=30):
        """The exit status and output of what was started."""
        before = self.guest.serial.position
        end = self.guest.serial.wait(rf"^END-{self.count}-(\d+)\n", seconds)
        return int(end.group(1)), self.guest.serial.text[before:end.start()]

    def __call__(self, command, seconds=30, status=0):
        self.start(command)
        got, text = self.finish(seconds)
        check_equal(got, status, f"the status of {command!r} in the guest, which says {text.strip()[-300:]!r},")
        return text.strip()


def bulk_size(default):
    """How many bytes to move: KHYVE_BULK in MiB, or the default."""
    return int(os.environ.get("KHYVE_BULK", default)) * CHUNK


def wait_for_carrier(shell, up):
    harness.wait_until(lambda: shell("cat /sys/class/net/eth0/carrier").endswith("1" if up else "0"), 20,
                       f"carrier {'up' if up else 'down'}")
