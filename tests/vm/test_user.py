#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of user-mode networking under vm: the real khyve-net, a stand-in for khyve."""
import json
import os
import signal
import socket
import sys
import time

from harness import alive, cases_of, eq, kill, match, run, true, until

GUEST = ('loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
         'network0_type="virtio-net"\n')
NOBODY = 65534


def nets(s):
    """The pids of the store's khyve-net."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                name = f.read().split(b"\0")[0]
            if name == b"khyve-net" and alive(int(pid)) and listens(s, int(pid)):
                found.append(int(pid))
        except OSError:
            pass
    return found


def listens(s, pid):
    """It gives its working folder away to root only; its environment is what it got from vm."""
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(s.dir)
    except OSError:
        return False


def command(s, line, name="guest", net=0):
    """The answer of khyve-net's control socket, without the greeting."""
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(5)
        c.connect(s.path(name, f"net{net}.ctl"))
        c.sendall(line.encode() + b"\n")
        text = b""
        while not text.endswith(b"ok\n") and b"\nerr " not in text:
            piece = c.recv(65536)
            true(piece, "the control socket was closed")
            text += piece
    return text.decode().splitlines()[1:]


def cable(s, name="guest", net=0):
    """Stands in for khyve's end of the cable."""
    c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    c.settimeout(5)
    c.connect(s.path(name, f"net{net}.sock"))
    return c


def free_port():
    with socket.socket() as c:
        c.bind(("127.0.0.1", 0))
        return c.getsockname()[1]


def taken(port):
    with socket.socket() as c:
        return c.connect_ex(("127.0.0.1", port)) == 0


def stopped(s, name="guest"):
    until(lambda: s.state(name) == "Stopped" and not s.run_files(name) and not nets(s),
          f"nothing is left: {s.state(name)} {s.run_files(name)} {nets(s)}", 20)


def start(s, conf=GUEST):
    s.ok("init")
    s.guest("guest", conf)
    s.ok("start", "guest")


def test_default(s):
    """A card without a switch, on a host that has none."""
    start(s)
    eq(len(nets(s)), 1, "khyve-net")
    match(s.read(s.path("guest/khyve.run")), r"(?m)^pci\.0\.12\.0\.backend=socket:net0\.sock$")
    match(s.read(s.path("guest/vm-bhyve.log")), "network0 has user networking: this host has no switch")
    with cable(s):
        until(lambda: "link=up" in command(s, "status"), "the link is up")
    s.ok("poweroff", "-f", "guest")
    stopped(s)


def test_info(s):
    """What the guest uses and how much, as khyve-net knows it."""
    start(s)
    card = json.loads(s.ok("info", "--json", "guest"))["guests"][0]["network-interfaces"][0]
    eq((card["active-device"], card["addresses"], card["bytes-out"]), ("khyve-net", [], 0))
    with cable(s) as c:
        # The guest 10.0.2.15 pings its router.
        c.send(bytes.fromhex("52550a0002020200000000010800" "4500001c00010000400162d00a00020f0a000202" "0800f7fd00010001"))
        until(lambda: "guest4=10.0.2.15" in command(s, "status"), "it is seen")
        match(s.ok("info", "guest"), r"active-device: khyve-net\n    bytes-in: \d+ .*\n    bytes-out: 42 .*\n    addresses: 10\.0\.2\.15\n")
    s.ok("poweroff", "-f", "guest")
    stopped(s)
    true("active-device" not in s.ok("info", "guest"), "the guest is off")


def test_asked_for(s):
    """Two cards, by name."""
    start(s, GUEST + 'network0_switch="user"\nnetwork1_type="e1000"\nnetwork1_switch="user"\n')
    eq(len(nets(s)), 2, "khyve-net")
    eq(command(s, "forward list", net=1), ["ok"])
    s.ok("poweroff", "-f", "guest")
    stopped(s)


def test_ports(s):
    """Added while it is stopped, while it runs; they survive a khyve-net, and the guest's end."""
    s.ok("init")
    s.guest("guest", GUEST)
    first, second = free_port(), free_port()
    s.ok("port", "add", "guest", f"{first}:22")
    s.ok("start", "guest")
    true(taken(first), "the port of the guest's file is not open")
    s.ok("port", "add", "guest", f"{second}:80")
    true(taken(second), "the new port is not open")
    pid = nets(s)[0]
    os.kill(pid, signal.SIGKILL)
    until(lambda: nets(s) not in ([], [pid]) and taken(first) and taken(second), "it is started again, with its ports")
    s.ok("port", "remove", "guest", str(first))
    true(not taken(first), "the port is still open")
    s.ok("poweroff", "-f", "guest")
    stopped(s)
    true(not taken(second), "the port is still open")
    s.ok("start", "guest")
    true(taken(second) and not taken(first), "other ports than before")
    s.ok("poweroff", "-f", "guest")
    stopped(s)


def test_port_in_use(s):
    """A port that somebody else has taken meanwhile costs that port, not the network."""
    s.ok("init")
    s.guest("guest", GUEST)
    with socket.create_server(("127.0.0.1", 0)) as other:
        s.write(s.path("guest/guest.conf"),
                GUEST + f'network0_ports="127.0.0.1:{other.getsockname()[1]}:22/tcp"\n')
        s.ok("start", "guest")
        eq(command(s, "forward list"), ["ok"])
    match(s.read(s.path("guest/khyve.log")), "another program has this port")
    s.ok("poweroff", "-f", "guest")
    stopped(s)


def test_killed_supervisor(s):
    """khyve-net stays with its khyve, and ends when that ends."""
    start(s)
    with cable(s):
        kill(s.supervisor())
        time.sleep(1)
        eq(len(nets(s)), 1, "khyve-net")
        true("link=up" in command(s, "status"), "the link is down")
        os.kill(s.pid(), signal.SIGKILL)
    until(lambda: not nets(s), "khyve-net ends", 20)
    s.ok("list")
    s.ok("start", "guest")
    eq(len(nets(s)), 1, "khyve-net")
    s.ok("poweroff", "-f", "guest")
    stopped(s)


def test_next_run(s):
    """One that an earlier run has left makes way."""
    start(s)
    before = nets(s)
    with cable(s):
        kill(s.supervisor())
        kill(s.pid())
        s.ok("start", "guest")
        true(len(nets(s)) <= 2 and nets(s) != before, f"{before}, then {nets(s)}")
    until(lambda: len(nets(s)) == 1, "one khyve-net", 20)
    s.ok("poweroff", "-f", "guest")
    stopped(s)


def test_not_root(s):
    """Nobody needs any privilege for it."""
    if os.geteuid() != 0:
        return
    s.become(NOBODY)
    start(s)
    eq(len(nets(s)), 1, "khyve-net")
    s.ok("poweroff", "-f", "guest")
    stopped(s)


if __name__ == "__main__":
    sys.exit(run(cases_of(sys.modules[__name__])))
