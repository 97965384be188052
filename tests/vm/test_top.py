#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of what guests use: vm top and vm metrics."""
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

from harness import PATIENCE, cases_of, eq, match, run, true

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'


def families(text):
    """Types of families and samples of OpenMetrics text, which has to be in order and whole."""
    types, samples, family = {}, {}, None
    lines = text.splitlines()
    eq(lines[-1], "# EOF")
    for line in lines[:-1]:
        m = re.fullmatch(r"# (TYPE|UNIT|HELP) (khyve_guest_\w+) (.+)", line)
        if m and m[1] == "TYPE":
            family = m[2]
            true(family not in types, f"{family} is there twice")
            types[family] = m[3]
        elif m:
            eq(m[2], family)
            true(m[1] != "UNIT" or family.endswith("_" + m[3]), line)
        else:
            m = re.fullmatch(r'(khyve_guest_\w+)(\{guest="[^"]+"(,(disk|card)="[^"]+")?\}) (\d+(\.\d+)?)', line)
            true(m, line)
            eq(m[1], family + ("_total" if types[family] == "counter" else ""))
            true(m[1] + m[2] not in samples, line)
            samples[m[1][12:] + m[2]] = float(m[5])
    return types, samples


def guests(s, **modes):
    s.ok("init")
    for name, mode in modes.items():
        s.guest(name, MINIMAL, mode=mode)
    s.ok("start", *modes)
    s.guest("off", MINIMAL)


def test_metrics(s):
    guests(s, web="read=4096 written=512 received=100 sent=9", db="no-space", gone="hang")
    types, got = families(s.ok("metrics"))
    eq(len(types), 13)
    eq({k: v for k, v in got.items() if k.startswith("running")},
       {'running{guest="db"}': 1, 'running{guest="gone"}': 1, 'running{guest="off"}': 0, 'running{guest="web"}': 1})
    eq((got['disk_read_bytes_total{guest="web",disk="nvme-0:4.0"}'], got['disk_written_bytes_total{guest="web",disk="nvme-0:4.0"}'],
        got['network_received_bytes_total{guest="web",card="virtio-net-0:5.0"}'],
        got['network_sent_bytes_total{guest="web",card="virtio-net-0:5.0"}']), (4096, 512, 100, 9))
    eq((got['cpus{guest="web"}'], got['memory_bytes{guest="web"}'], got['exits_total{guest="web"}'] >= 1000),
       (2, 256 << 20, True))
    eq((got['paused{guest="db"}'], got['stalled{guest="db"}'], got['paused{guest="web"}']), (1, 1, 0))
    true(got['resident_bytes{guest="web"}'] > 1 << 20 and got['uptime_seconds{guest="gone"}'] >= 0, got)
    # Of a guest whose khyve does not answer only that is told which the kernel knows.
    eq(sorted(k.split("{")[0] for k in got if '"gone"' in k), ["cpu_seconds_total", "resident_bytes", "running", "uptime_seconds"])
    eq([k for k in got if '"off"' in k], ['running{guest="off"}'])


def test_metrics_of_nothing(s):
    s.ok("init")
    types, got = families(s.ok("metrics"))
    eq((len(types), got), (13, {}))
    eq(s.vm("metrics", "guest").exact, 2)


def test_tap(s):
    """What the kernel moves by itself is seen at the tap only, from the host's side. lo stands for one."""
    guests(s, web="received=1 sent=2 tap=lo")
    _, got = families(s.ok("metrics"))
    for what, file in (("received", "tx_bytes"), ("sent", "rx_bytes")):
        value = got[f'network_{what}_bytes_total{{guest="web",card="virtio-net-0:5.0"}}']
        true(value <= float(s.read(f"/sys/class/net/lo/statistics/{file}")) and value != {"received": 1, "sent": 2}[what]
             or value == 0, f"{what}: {value}")


def test_top(s):
    """One look when nobody watches: the busiest first, rates of a second."""
    guests(s, idle="", web="busy read=0 reads=1048576", db="no-space")
    guests_now = s.json("top", "top")["guests"]
    eq([g["name"] for g in guests_now], ["web", "db", "idle"])
    web, db, idle = guests_now
    true(idle["cpu-percent"] < web["cpu-percent"] <= 110, guests_now)
    true(300000 < web["disk-read"] < 3000000 and idle["disk-read"] == 0, guests_now)
    eq((db["state"], db["reason"], idle["reason"]), ("paused", "no space on the host for disk0.img", None))
    eq((web["cpu"], web["memory"], web["pid"]), (2, 256 << 20, s.pid("web")))
    lines = s.ok("top").splitlines()
    eq(lines[0].split(), ["NAME", "%CPU", "CPUS", "RSZ", "READ/s", "WRITE/s", "RECV/s", "SENT/s", "EXITS/s", "STATE"])
    eq([line.split()[0] for line in lines[1:]], ["web", "db", "idle"])
    true(lines[2].endswith("  no space on the host for disk0.img") and "\x1b" not in "".join(lines), lines)
    eq(s.vm("top", "web").exact, 2)


def test_top_of_nothing(s):
    s.ok("init")
    eq(s.json("top", "top")["guests"], [])
    eq(len(s.ok("top").splitlines()), 1)


def test_terminal(s):
    """Again and again until q, no more guests than fit, and the terminal is left as it was."""
    guests(s, aa="", bb="", cc="")
    for end in (b"q", b"\x03"):
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 80, 0, 0))
        before = termios.tcgetattr(side)
        p = s.popen("top", stdin=side, stdout=side, stderr=side, preexec_fn=lambda fd=side: (os.setsid(), fcntl.ioctl(fd, termios.TIOCSCTTY)))
        text, over = "", time.time() + 10 * PATIENCE
        while text.count("NAME") < 2 and time.time() < over:
            if select.select([main], [], [], 0.1)[0]:
                text += os.read(main, 4096).decode()
        os.write(main, end)
        eq(p.wait(10 * PATIENCE), 0)
        eq(termios.tcgetattr(side), before, "the terminal's modes")
        text += os.read(main, 4096).decode()
        match(text, "^\x1b\\[\\?1049h")
        true(text.endswith("\x1b[?1049l") and text.count("NAME") >= 2, repr(text))
        shown = text.rsplit("NAME", 1)[1]
        eq(len(re.findall(r"^(aa|bb|cc) ", shown, re.M)), 2, repr(shown))
        os.close(main)
        os.close(side)


if __name__ == "__main__":
    run(cases_of(sys.modules[__name__]))
