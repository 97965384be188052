#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of a guest's hooks, and of its limits where this host has cgroup v2 (else what is said then)."""
import os
import signal
import sys

from harness import cases_of, eq, match, run, true, until

CONF = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
HOOKS = "".join(f'{h}="./hook-{h}"\n' for h in ("prestart", "poststart", "prestop", "poststop"))
HOOK = '#!/bin/sh\necho "{name} $1 $2 $(pwd) $(ls control.sock 2>/dev/null)" >> told\n'


def hooks(s, name="guest", **texts):
    s.guest(name, CONF + HOOKS)
    for h in ("prestart", "poststart", "prestop", "poststop"):
        path = s.path(name, f"hook-{h}")
        s.write(path, texts.get(h, HOOK.format(name=h)))
        os.chmod(path, 0o755)
    return s.path(name)


def told(s, name="guest"):
    path = s.path(name, "told")
    return s.read(path).splitlines() if os.path.exists(path) else []


def log(s, name="guest"):
    return s.read(s.path(name, "vm-bhyve.log"))


def test_order(s):
    s.ok("init")
    folder = hooks(s)
    eq(s.vm("start", "guest", status=0).err, "")
    until(lambda: len(told(s)) == 2, "poststart")
    line = f"guest {folder} {folder} "
    # Before the guest there is no socket, then there is one, and in the end there is none.
    eq(told(s), [f"prestart {line}", f"poststart {line}control.sock"])
    s.ok("stop", "guest")
    until(lambda: s.state() == "Stopped" and len(told(s)) == 4, "poststop")
    eq(told(s)[2:], [f"prestop {line}control.sock", f"poststop {line}"])
    match(log(s), "running prestart script .*/guest/./hook-prestart\n")
    # A guest that is started again has each of them again.
    s.ok("start", "guest")
    until(lambda: len(told(s)) == 6, "poststart")
    s.ok("restart", "guest")
    until(lambda: len(told(s)) == 10, "restarted")
    eq([t.split()[0] for t in told(s)[4:]], ["prestart", "poststart", "prestop", "poststop", "prestart", "poststart"])
    # Power that is taken is no stop, but an end.
    s.ok("poweroff", "-f", "guest")
    eq([t.split()[0] for t in told(s)[10:]], ["poststop"])


def test_supervisor(s):
    """Its SIGTERM is a stop too; after a guest that cannot start, the end is told."""
    s.ok("init")
    hooks(s)
    s.ok("start", "guest")
    until(lambda: len(told(s)) == 2, "poststart")
    os.kill(s.supervisor(), signal.SIGTERM)
    until(lambda: s.state() == "Stopped" and len(told(s)) == 4, "stopped")
    eq([t.split()[0] for t in told(s)[2:]], ["prestop", "poststop"])
    hooks(s, "dead")
    s.write(s.path("dead", "fake.mode"), "die")
    s.vm("start", "dead", status=1)
    until(lambda: len(told(s, "dead")) == 2, "poststop")
    eq([t.split()[0] for t in told(s, "dead")], ["prestart", "poststop"])


def test_failures(s):
    """Nothing depends on what they do, and the log tells it."""
    s.ok("init")
    hooks(s, prestart="#!/bin/sh\necho to the log\nexit 3\n", poststart="no program", prestop="#!/bin/sh\nkill -9 $$\n",
          poststop="#!/bin/sh\nls /proc/self/fd > fds\nread x || echo none >> fds\n")
    s.ok("start", "guest")
    s.ok("stop", "guest")
    until(lambda: s.state() == "Stopped" and os.path.exists(s.path("guest/fds")), "stopped")
    for text in ("\nto the log\n", "warning; prestart ended with status 3", "cannot run .*hook-poststart: Exec format error",
                 "warning; poststart ended with status 127", "warning; prestop ended by signal 9"):
        match(log(s), text)
    until(lambda: "none" in s.read(s.path("guest/fds")), "no input")
    eq(s.read(s.path("guest/fds")).split()[:3], ["0", "1", "2"])
    true(len(s.read(s.path("guest/fds")).split()) <= 5, "no descriptor is inherited")
    os.unlink(s.path("guest/hook-prestart"))
    s.ok("start", "guest")
    match(log(s), "cannot run .*hook-prestart: No such file")
    s.ok("poweroff", "-f", "guest")


def controllers():
    """Where cgroup v2 is, and what it controls."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            if " - cgroup2 " in line:
                mount = line.split()[4]
                with open(os.path.join(mount, "cgroup.controllers"), encoding="utf-8") as g:
                    return mount, g.read().split()
    return None, []


def test_limits(s):
    s.ok("init")
    mount, has = controllers()
    s.guest("guest", CONF + 'limit_pcpu="50"\nlimit_wbps="10M"\nlimit_riops="100"\n')
    err = s.vm("start", "guest", status=0).err
    if not mount:
        match(err, r"^vm: WARNING: guest: limit_\* have no effect: this host has no cgroup v2; .*\n$")
        match(log(s), r"warning; limit_\* have no effect: this host has no cgroup v2")
    elif not {"cpu", "io"} <= set(has):
        match(err, r"^vm: WARNING: guest: limit_\* have no effect: the host's cgroup v2 lacks the controller .*\n$")
    else:
        eq(err, "")
        group = os.path.join(mount, "khyve/guest")
        until(lambda: os.path.exists(group), "the group")
        eq(s.read(os.path.join(group, "cpu.max")), "50000 100000\n")
        eq(s.read(os.path.join(group, "cgroup.procs")), f"{s.pid()}\n")
        if "limits of disks have no effect" not in log(s):
            match(s.read(os.path.join(group, "io.max")), r"^\d+:\d+ rbps=max wbps=10485760 riops=100 wiops=max\n$")
    s.ok("poweroff", "-f", "guest")
    if mount:
        true(not os.path.exists(os.path.join(mount, "khyve/guest")), "the group is gone")
    for key, value in (("pcpu", "half"), ("wbps", "0"), ("pcpu", "9999999")):
        s.guest(f"bad-{key}-{value}", CONF + f'limit_{key}="{value}"\n')
        match(s.vm("start", f"bad-{key}-{value}", status=1).out,
              rf"bad-{key}-{value}.conf:6: limit_{key}: '{value}' is not a number from 1 to")
    # Guests without limits hear nothing of it.
    s.guest("free", CONF)
    eq(s.vm("start", "free", status=0).err, "")
    s.ok("poweroff", "-f", "free")


run(cases_of(sys.modules[__name__]))
