#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm ssh, exec and cp: a real sshd of this host stands where a forwarded port leads to the guest's."""
import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys

from harness import NET, cases_of, eq, match, run, true, until

USER = pwd.getpwuid(os.geteuid()).pw_name
# The card is none, so that nothing but the port is there.
GUEST = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\nuuid="11111111-2222-4333-8444-555555555555"\n'
OPTIONS = "UsePAM no\nStrictModes no\nPasswordAuthentication no\nPidFile none\nSubsystem sftp internal-sftp\n"


def key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)
    return path


def free_port():
    with socket.socket() as c:
        c.bind(("127.0.0.1", 0))
        return c.getsockname()[1]


@contextlib.contextmanager
def server(s, port, name="host"):
    """sshd with a host key of its own; the store's key may log in."""
    if not os.path.exists(s.path(".config/ssh")):
        os.makedirs(s.path(".config/ssh"))
        key(s.path(".config/ssh/id_ed25519"))
    top = os.path.join(s.top, name)
    os.makedirs("/run/sshd", exist_ok=True)
    s.write(top + ".conf", OPTIONS + f"ListenAddress 127.0.0.1:{port}\nHostKey {key(top)}\n"
            f"AuthorizedKeysFile {s.path('.config/ssh/id_ed25519.pub')}\n")
    with subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-e", "-f", top + ".conf"],
                          stderr=subprocess.DEVNULL) as p:
        try:
            yield
        finally:
            p.kill()


def guest(s, name="web", port=None):
    s.ok("init")
    port = port or free_port()
    s.guest(name, GUEST + f'network0_type="none"\nnetwork0_ports="127.0.0.1:{port}:22/tcp"\nssh_user="{USER}"\n')
    s.ok("start", name)
    return port


def test_ssh(s):
    port = guest(s)
    with server(s, port):
        eq(s.vm("ssh", "web", "echo", "$((1 + 1))", "'a  b'", status=0).out, "2 a  b\n")
        eq(s.vm("ssh", "web", "exit 7", status=7).err, "")
        eq(s.vm("ssh", "web", "cat >&2", stdin="to you", status=0).err, "to you")
        eq(s.vm("ssh", "-l", USER, "web", "id", "-un").out, USER + "\n")
        eq(s.vm("ssh", "web", stdin="echo shell\nexit 5\n", status=5).out, "shell\n")
        # By its UUID, whatever it is called and wherever it is found.
        match(s.read(s.path("web", "known_hosts")), "^11111111-2222-4333-8444-555555555555 ssh-ed25519 ")
        true(not os.path.exists(os.path.join(s.top, ".ssh")), "nothing of the caller is touched")
    # Somebody else on that port is not the guest.
    with server(s, port, "other"):
        r = s.vm("ssh", "web", "id", status=255)
        match(r.err, "REMOTE HOST IDENTIFICATION HAS CHANGED")
        eq(r.out, "")


def test_exec(s):
    port = guest(s)
    with server(s, port):
        words = ["a  b", "it's", "$HOME", "*", "", "-x", "\\", '"', "new\nline"]
        eq(s.vm("exec", "web", "printf", "<%s>", *words, status=0).out, "".join(f"<{w}>" for w in words))
        eq(s.vm("exec", "web", "sh", "-c", "exit 9", status=9).out, "")
        match(s.vm("exec", "web", "none-such", status=127).err, "not found")


def test_cp(s):
    port = guest(s)
    here, there = os.path.join(s.top, "here"), os.path.join(s.top, "there")
    s.write(here, "text")
    with server(s, port):
        eq(s.ok("cp", here, f"web:{there}"), "")
        eq(s.read(there), "text")
        s.ok("cp", f"web:{there}", os.path.join(s.top, "back"))
        eq(s.read(os.path.join(s.top, "back")), "text")
        os.mkdir(os.path.join(s.top, "folder"))
        s.write(os.path.join(s.top, "folder", "a:b"), "x")
        s.vm("cp", os.path.join(s.top, "folder"), f"web:{there}2", status=1)
        s.ok("cp", "-r", os.path.join(s.top, "folder"), f"web:{there}2")
        eq(s.read(there + "2/a:b"), "x")
        s.ok("cp", f"web:{there}2/a:b", "./c:d")
        match(s.vm("cp", f"web:{there}3", here, status=1).err, "No such file")
    for words in (("a", "b"), ("web:a", "web:b"), ("./x:a", "b")):
        match(s.fails("cp", *words), "one of the two has to be NAME:PATH")
    match(s.fails("cp", "a", "nobody:b"), "nobody doesn't appear to be a valid virtual machine")


def test_refusals(s):
    port = guest(s)
    match(s.fails("ssh", "--timeout", "0", "web", "id", status=7), "web is not there in time: ssh")
    match(s.fails("ssh", "-l", "", "web"), "'' is not the name of a user")
    for words in ("ssh", "exec web", "cp web:a", "ssh -x web", "exec --timeout"):
        match(s.vm(*words.split(), status=2).err, "Usage:")
    s.ok("poweroff", "-f", "web")
    match(s.fails("ssh", "web", "id"), "web is not running; 'vm start web' starts it")
    match(s.fails("exec", "nobody", "id"), "nobody doesn't appear to be a valid virtual machine")
    s.ok("start", "web")
    s.env["PATH"] = os.path.join(s.top, "bin")
    os.mkdir(s.env["PATH"])
    with server(s, port):
        # It is in a folder of the system, too; without any PATH it is found there.
        eq(s.vm("ssh", "web", "echo found", status=0).out, "found\n")


def test_forward(s):
    """Behind user networking a port is forwarded, once, and it stays."""
    s.ok("init")
    s.guest("web", GUEST + 'network0_type="virtio-net"\nnetwork0_switch="user"\n')
    s.ok("start", "web")
    with socket.socket() as taken:
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", 2200))
            taken.listen()
        match(s.fails("ssh", "--timeout", "0", "web", "id", status=7), "not there in time")
        m = re.search(r'^network0_ports="127\.0\.0\.1:(2[2-9]\d\d):22/tcp"$', s.read(s.path("web", "web.conf")), re.MULTILINE)
        true(m and m.group(1) != "2200", s.read(s.path("web", "web.conf")))
    s.fails("ssh", "--timeout", "0", "web", "id", status=7)
    eq(s.read(s.path("web", "web.conf")).count(":22/tcp"), 1)
    with socket.socket() as c:
        until(lambda: c.connect_ex(("127.0.0.1", int(m.group(1)))) == 0, "khyve-net listens")
    s.ok("poweroff", "-f", "web")


cases = cases_of(sys.modules[__name__])
if not os.path.exists(NET):
    del cases["forward"]
run(cases)
