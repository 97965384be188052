#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm migrate: the other host is this one with a second store, behind a real sshd and rsync."""
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys

from harness import Store, cases_of, eq, match, run, true, until

CONF = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\nuuid="11111111-2222-4333-8444-555555555555"\n'
SSHD = "UsePAM no\nStrictModes no\nPasswordAuthentication no\nPidFile none\n"
SSH = "UserKnownHostsFile {top}/known\nStrictHostKeyChecking accept-new\nIdentityFile {top}/key\nLogLevel ERROR\n"


def free_port():
    with socket.socket() as c:
        c.bind(("127.0.0.1", 0))
        return c.getsockname()[1]


@contextlib.contextmanager
def other(s):
    """A second store on the host "there"."""
    there, port = Store(), free_port()
    os.makedirs("/run/sshd", exist_ok=True)
    for name in ("key", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(s.top, name)], check=True,
                       stdin=subprocess.DEVNULL)
    programs = os.path.join(there.top, "bin")
    os.mkdir(programs)
    os.symlink(os.path.abspath(there.program), os.path.join(programs, "vm"))
    env = " ".join(f'"{k}={v}"' for k, v in {**there.env, "PATH": f"{programs}:{there.env['PATH']}"}.items())
    s.write(os.path.join(s.top, "sshd.conf"), SSHD + f"ListenAddress 127.0.0.1:{port}\nHostKey {s.top}/host\n"
            f"AuthorizedKeysFile {s.top}/key.pub\nSetEnv {env}\n")
    # ssh takes the home folder from the list of users, so that a file of its own has to be named.
    ours = os.path.join(s.top, "bin")
    os.mkdir(ours)
    s.write(os.path.join(s.top, "ssh.conf"), f"Host there\nHostName 127.0.0.1\nPort {port}\n" + SSH.format(top=s.top))
    s.write(os.path.join(ours, "ssh"), f'#!/bin/sh\nexec {shutil.which("ssh")} -F {s.top}/ssh.conf "$@"\n')
    os.chmod(os.path.join(ours, "ssh"), 0o755)
    s.env["PATH"] = f"{ours}:{s.env['PATH']}"
    with subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-e", "-f",
                           os.path.join(s.top, "sshd.conf")], stderr=subprocess.DEVNULL) as p:
        try:
            until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "sshd")
            there.ok("init")
            yield there
        finally:
            p.kill()
            there.close()


def guest(s, name="web"):
    s.ok("init")
    s.guest(name, CONF, size="8M")
    with open(s.path(name, "disk0.img"), "r+b") as f:
        f.seek(1 << 20)
        f.write(b"data" * 1000)
    return name


def disk(s, name="web"):
    with open(s.path(name, "disk0.img"), "rb") as f:
        return f.read()


def test_stopped(s):
    guest(s)
    s.ok("set", "web", "tags=a")
    with other(s) as there:
        out = s.ok("migrate", "web", "there")
        eq(out, f"Attempting to send web to there\n  * remote folder {there.path('.incoming-web')}\n"
           f"  * stage 2: sending {s.path('web')}\n  * stage 2: sent\n  * done\n")
        eq((s.state("web"), there.state("web"), disk(there)), ("Stopped", "Stopped", disk(s)))
        eq(there.read(there.path("web/web.conf")), s.read(s.path("web/web.conf")))
        eq(os.stat(there.path("web/disk0.img")).st_size, 8 << 20)
        true(os.stat(there.path("web/disk0.img")).st_blocks < 1000, "holes stay holes")
        true(not os.path.exists(there.path(".incoming-web")), "nothing is left")
        # It is there by now.
        match(s.fails("migrate", "web", "there"), "unable to get config from there: ssh: vm: ERROR: virtual machine already exists")
        # By another name, and away from here.
        out = s.ok("migrate", "-x", "-r", "two", "web", "there")
        match(out, "source guest moved to the trash\n  \\* done")
        eq((s.state("web"), there.state("two"), disk(there, "two")), (None, "Stopped", disk(there)))
        eq(sorted(f for f in os.listdir(there.path("two")) if f.endswith(".conf")), ["two.conf"])
        s.ok("trash", "restore", "web")
        eq(s.state("web"), "Stopped")


def test_running(s):
    guest(s)
    with other(s) as there:
        s.ok("start", "web")
        out = s.ok("migrate", "-t", "web", "there")
        lines = [re.sub(r"#\d+", "#N", line[4:]) for line in out.splitlines()[1:]]
        eq(lines[1:], ["source guest is powered on (#N)", f"stage 1: sending {s.path('web')}", "stage 1: sent",
                       f"stage 1: sending {s.path('web')}", "stage 1: sent", "stage 2: attempting to stop guest",
                       "stage 2: guest powered off", f"stage 2: sending {s.path('web')}", "stage 2: sent",
                       "starting web on there", "done"])
        eq(s.state("web"), "Stopped")
        match(there.state("web"), "Running")
        eq(disk(there), disk(s))
        there.ok("poweroff", "-f", "web")


def test_stages(s):
    """First while it runs, then the rest; what was sent before is gone on from."""
    guest(s)
    with other(s) as there:
        s.ok("start", "web")
        out = s.ok("migrate", "-1", "web", "there")
        match(s.state("web"), "Running")
        true("stage 2" not in out and there.state("web") is None, out)
        eq(sorted(os.listdir(there.path(".incoming-web"))),
           sorted(f for f in os.listdir(s.path("web")) if not re.search(r"\.(lock|sock)$|^console$|^khyve\.run$", f)))
        with open(s.path("web", "disk0.img"), "r+b") as f:
            f.write(b"later")
        out = s.ok("migrate", "-2", "-n", "web", "there")
        true("stage 1" not in out and "starting" not in out, out)
        eq((s.state("web"), there.state("web"), disk(there)[:5]), ("Stopped", "Stopped", b"later"))


def test_failures(s):
    guest(s)
    with other(s) as there:
        # A guest that does not end stays, and so does one of which nothing arrives.
        s.write(os.path.join(s.top, "bin", "rsync"), "#!/bin/sh\nexit 12\n")
        os.chmod(os.path.join(s.top, "bin", "rsync"), 0o755)
        match(s.fails("migrate", "web", "there"), "rsync ended with status 12; the same command goes on from here")
        eq((s.state("web"), there.state("web")), ("Stopped", None))
        os.unlink(os.path.join(s.top, "bin", "rsync"))
        match(s.fails("migrate", "-d", "none", "web", "there"), "unable to get config from there: ssh: vm: ERROR: .*none")
        s.ok("migrate", "web", "there")
        eq(disk(there), disk(s))
        s.guest("raw", CONF + 'disk1_type="nvme"\ndisk1_name="/dev/null"\ndisk1_dev="custom"\n')
        match(s.fails("migrate", "raw", "there"), "migration is not supported for this guest")
    match(s.fails("migrate", "-r", "other", "web", "there"), "unable to get config from there: ssh: ")
    for words in ("migrate", "migrate web", "migrate -1 -2 web there", "migrate -y web there"):
        match(s.vm(*words.split(), status=2).err, "Usage:")
    match(s.fails("migrate", "nobody", "there"), "nobody doesn't appear to be a valid virtual machine")
    match(s.fails("migrate", "web", "--", "-oProxyCommand=x"), "is not the name of a host")
    match(s.fails("migrate", "-r", "../x", "web", "there"), "invalid virtual machine name")
    eq(s.state("web"), "Stopped")


run(cases_of(sys.modules[__name__]))
