#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm up: images from a file, a real HTTP server and a stand-in for the script that builds one; the guest's SSH
server is this host's sshd behind a forwarded port."""
import contextlib
import functools
import hashlib
import http.server
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

from harness import VM, cases_of, eq, match, run, true, until

USER = pwd.getpwuid(os.geteuid()).pw_name
TEMPLATE = ('loader="uefi"\ncpu=1\nmemory=64M\ndisk0_type="virtio-blk"\ndisk0_name="disk0.img"\nnetwork0_type="none"\n'
            'network0_ports="127.0.0.1:{port}:22/tcp"\n')
SSHD = "UsePAM no\nStrictModes no\nPasswordAuthentication no\nPidFile none\n"
# The stand-in for share/images/debian.sh: it writes what it is told, and says that it ran.
BUILDER = '#!/bin/bash\necho run >> "{top}/built"\nprintf built > "$1"\n[ ! -e "{top}/slow" ] || sleep 60\ntruncate -s 2M "$1"\n'
IMAGE = b"\xeb\x63" + bytes(2 << 20)


def free_port():
    with socket.socket() as c:
        c.bind(("127.0.0.1", 0))
        return c.getsockname()[1]


def prepare(s):
    """The program with a share folder of its own, and the template whose guests answer on a port."""
    programs = os.path.join(s.top, "bin")
    shutil.copytree(os.path.join(os.path.dirname(VM), "share"), os.path.join(programs, "share"))
    s.program = shutil.copy(VM, programs)
    os.chmod(os.path.join(programs, "share/images/debian.sh"), 0o755)
    s.write(os.path.join(programs, "share/images/debian.sh"), BUILDER.format(top=s.top))
    s.ok("init")
    port = free_port()
    s.write(s.path(".templates/up.conf"), TEMPLATE.format(port=port))
    return port


@contextlib.contextmanager
def sshd(s, port):
    os.makedirs("/run/sshd", exist_ok=True)
    host, conf = os.path.join(s.top, "host"), os.path.join(s.top, "sshd.conf")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host], check=True, stdin=subprocess.DEVNULL)
    s.write(conf, SSHD + f"ListenAddress 127.0.0.1:{port}\nHostKey {host}\n"
            f"AuthorizedKeysFile {s.path('.config/ssh/id_ed25519.pub')}\n")
    with subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-e", "-f", conf],
                          stderr=subprocess.DEVNULL) as p:
        try:
            yield
        finally:
            p.kill()


@contextlib.contextmanager
def web(s, files):
    """Serves files by name; returns the URL of the folder."""
    folder = os.path.join(s.top, "web")
    os.mkdir(folder)
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def built(s):
    path = os.path.join(s.top, "built")
    return s.read(path).count("run") if os.path.exists(path) else 0


def up(s, *args, status=0):
    return s.vm("up", "-t", "up", "-s", "4M", "-l", USER, *args, status=status)


def test_file(s):
    port = prepare(s)
    image = os.path.join(s.top, "web.img")
    with open(image, "wb") as f:
        f.write(IMAGE)
    with sshd(s, port):
        out = up(s, image).out
        eq(re.sub(r"\(pid \d+\)", "(pid)", out),
           f"key     made {s.path('.config/ssh/id_ed25519')} for vm ssh\nimage   {image}\n"
           f"create  web: {min(2, os.cpu_count())} CPU, memory 1G, disk 0G\nStarting web\n"
           f"  * found guest in {s.path('web')}\n  * booting...\n"
           "wait    until it can be logged into; 'vm console web' shows what it does\n"
           f"ready   vm ssh web   (user {USER})   vm console web   vm stop web\n")
        eq(s.vm("ssh", "web", "exit 9").status, 9)
        eq(os.stat(s.path("web/disk0.img")).st_size, 4 << 20)
        eq(open(s.path("web/disk0.img"), "rb").read(len(IMAGE)), IMAGE)
        match(s.read(s.path("web/.cloud-init/user-data")), "  - 'ssh-ed25519 .* khyve'")
        # Again: nothing is made anew.
        again = up(s, image).out
        match(again, r"^create  web is there\nstart   web runs \(pid \d+\)\nwait .*\nready ")
        s.ok("poweroff", "-f", "web")
        match(up(s, image).out, r"^create  web is there\nStarting web\n")
        s.ok("poweroff", "-f", "web")
        # A name of one's own, and a key of one's own.
        os.makedirs(os.path.join(s.top, ".ssh"))
        s.write(os.path.join(s.top, ".ssh/id_ed25519.pub"), "ssh-ed25519 AAAA mine\n")
        true("key " not in up(s, image, "other").out, "the caller has a key")
        match(s.read(s.path("other/.cloud-init/user-data")), "AAAA mine")
        s.ok("poweroff", "-f", "other")
    # Nobody answers.
    eq(up(s, "--timeout", "0", image, status=7).out.splitlines()[-1],
       "wait    it goes on; the same command waits again")
    s.ok("poweroff", "-f", "web")


def test_catalogue(s):
    port = prepare(s)
    good = hashlib.sha512(IMAGE).hexdigest()
    with sshd(s, port), web(s, {"one.img": IMAGE, "two.img": IMAGE,
                                "SHA512SUMS": f"{good}  one.img\n{'0' * 128}  two.img\n".encode()}) as url:
        s.write(s.path(".config/catalogue"), f"# mine\n\none {USER} {url}/one.img -\ntwo {USER} {url}/two.img -\n"
                f"three {USER} {url}/one.img sha512:{good}\ndebian {USER} {url}/two.img -\n")
        r = s.vm("up", "-t", "up", "-s", "4M", "one", status=0)
        match(r.out, f"image   fetching {url}/one.img\n(?s:.*)create  one: ")
        match(r.err, "one.img: checked against .*SHA512SUMS of the same server, whose signature was not checked")
        match(r.out, f"ready   vm ssh one   \\(user {USER}\\)")
        s.ok("poweroff", "-f", "one")
        # It is there now, whoever wants it.
        match(up(s, "three").out, r"image   .*/\.img/one\.img is there")
        s.ok("poweroff", "-f", "three")
        # What is not what it has to be is refused, and nothing else is taken in its place.
        match(up(s, "two", status=1).err, "vm: ERROR: .*two.img")
        match(up(s, "debian", status=1).err, "vm: ERROR: .*two.img")
        eq((built(s), sorted(os.listdir(s.path(".img")))), (0, ["one.img"]))
        eq([line.split()[0] for line in s.ok("list").splitlines()], ["NAME", "one", "three"])
    match(s.fails("up", "four"), "'four' is neither a file, a URL nor one of: one two three debian debian debian-12")
    s.write(s.path(".config/catalogue"), "one two\n")
    match(s.fails("up", "four"), r"/\.config/catalogue:1: not a line of name, user, URL and checksum or -")


def test_build(s):
    port = prepare(s)
    with sshd(s, port):
        # Nobody is there to fetch it from.
        s.write(s.path(".config/catalogue"), f"debian {USER} http://127.0.0.1:{free_port()}/debian.qcow2 -\n")
        r = up(s, "debian")
        match(r.err, "vm: WARNING: ")
        match(r.out, "build   Debian from this host's package mirror(?s:.*)image   .*/debian-of-this-host.img\ncreate  debian: ")
        s.ok("poweroff", "-f", "debian")
        r = up(s, "debian", "two")
        match(r.out, "image   .*/debian-of-this-host.img is there\ncreate  two: ")
        eq((built(s), r.err), (1, ""))
        s.ok("poweroff", "-f", "two")


def test_offline(s):
    port = prepare(s)
    with sshd(s, port):
        r = up(s, "--offline", "debian")
        eq((built(s), r.err), (1, ""))
        s.ok("poweroff", "-f", "debian")
    match(up(s, "--offline", "ubuntu-24.04", status=1).err, "was not fetched yet, and --offline fetches nothing")
    # The builder fails.
    os.unlink(s.path(".img/debian-of-this-host.img"))
    s.write(os.path.join(s.top, "bin/share/images/debian.sh"), "echo 'debian.sh: no mirror' >&2\nexit 1\n")
    eq(up(s, "--offline", "debian", "three", status=1).err,
       "debian.sh: no mirror\nvm: ERROR: the image was not built; what stands above says why\n")
    eq((os.listdir(s.path(".trash")), os.listdir(s.path(".img")), s.state("three")), ([], [], None))


def test_killed(s):
    """Killed while the image is built: the next one begins it again and finishes."""
    port = prepare(s)
    s.write(os.path.join(s.top, "slow"), "")
    p = s.popen("up", "--offline", "-t", "up", "-s", "4M", "-l", USER, "debian", stdout=subprocess.DEVNULL,
                start_new_session=True)
    until(lambda: built(s) == 1, "it builds")
    p.send_signal(signal.SIGKILL)
    p.wait()
    os.killpg(p.pid, signal.SIGKILL)
    os.unlink(os.path.join(s.top, "slow"))
    with sshd(s, port):
        match(up(s, "--offline", "debian").out, "ready   vm ssh debian")
    eq((built(s), os.listdir(s.path(".trash")), os.listdir(s.path(".img"))), (2, [], ["debian-of-this-host.img"]))
    s.ok("poweroff", "-f", "debian")


def test_refusals(s):
    prepare(s)
    match(s.fails("up", "/no/such.img"), "vm: ERROR: /no/such.img: no such file")
    match(s.fails("up", "http://127.0.0.1/"), "cannot be the name of a guest")
    match(s.fails("up", "debian", "-"), "'-' cannot be the name of a guest; give one: vm up debian NAME")
    match(s.fails("up", "-s", "1", "debian"), "invalid disk size")
    for words in ("up", "up a b c", "up -x debian", "up --timeout"):
        match(s.vm(*words.split(), status=2).err, "Usage:")
    eq(s.ok("list").count("\n"), 1)
    # The script of the package itself says what it lacks.
    tools = os.path.join(s.top, "tools")
    os.mkdir(tools)
    for name in ("bash", "dirname"):
        os.symlink(shutil.which(name), os.path.join(tools, name))
    script = os.path.join(os.path.dirname(VM), "share/images/debian.sh")
    r = subprocess.run([shutil.which("bash"), script, os.path.join(s.top, "out")], env={"PATH": tools}, text=True,
                       capture_output=True, check=False)
    true(r.returncode == 1 and not os.path.exists(os.path.join(s.top, "out")), r.stderr)
    match(r.stderr, "^debian.sh: the program mmdebstrap is missing: apt-get install mmdebstrap")


run(cases_of(sys.modules[__name__]))
