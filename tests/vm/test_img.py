#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm img and of what iso has in common with it: checks, packed files, other formats, interruptions."""
import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile

from harness import VM, cases_of, eq, match, run, true, until
from media_server import Server

# A disk of 8 MiB with something at both ends and nothing between.
DISK = b"boot" + bytes((8 << 20) - 8) + b"last"
SUM = hashlib.sha256(DISK).hexdigest()


def files(s, folder=".img"):
    return sorted(os.listdir(s.path(folder)))


def content(s, name, folder=".img"):
    with open(s.path(folder, name), "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def clear(s, folder=".img"):
    for name in files(s, folder):
        os.unlink(s.path(folder, name))


def sums(data, name, kind="sha256", line="{0}  {1}\n"):
    return line.format(getattr(hashlib, kind)(data).hexdigest(), name).encode()


def tar(members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def qcow2(s, data=DISK):
    raw, path = write(os.path.join(s.top, "x.raw"), data), os.path.join(s.top, "x.qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    os.unlink(raw)
    with open(path, "rb") as f:
        return f.read()


def test_list_and_files(s):
    s.ok("init")
    eq(s.ok("img"), "DATASTORE           FILENAME\n")
    path = write(os.path.join(s.top, "disk.raw"), DISK)
    eq(s.ok("img", path), "")
    eq(s.ok("img"), "DATASTORE           FILENAME\ndefault             disk.raw\n")
    eq([(m["name"], m["bytes"]) for m in s.json("iso", "img")["media"]], [("disk.raw", len(DISK))])
    eq(content(s, "disk.raw"), DISK)
    match(s.fails("img", path), "disk.raw exists already; remove it first")
    match(s.fails("img", "-d", "none"), "unable to locate path for datastore 'none'")
    for args in (["-x"], [path, SUM, "more"], ["--sha256", SUM], ["--sha256", SUM, path, SUM], ["--json", path]):
        s.fails("img", *args, status=2)
    match(s.fails("img", "--keyring", "/x", path), "--keyring is for URLs")
    match(s.fails("iso", "--sha256", "0" * 64, path), "disk.raw is not kept: wrong checksum")
    eq(files(s, ".iso"), [])


def test_lists_of_checksums(s):
    server = Server(DISK)
    s.ok("init")
    cases = {"SHA256SUMS": sums(b"x", "other") + sums(DISK, "a.raw"),
             "SHA512SUMS": sums(DISK, "./a.raw", "sha512", "{0} *{1}\n"),
             "a.raw.sha256": sums(DISK, "", line="{0}\n"),
             "a.raw.sha512": sums(DISK, "a.raw", "sha512", "SHA512 ({1}) = {0}\r\n")}
    for name, text in cases.items():
        server.beside = {name: text}
        r = s.vm("img", server.url + "/x/a.raw?y=1", status=0)
        eq(r.out, "")
        eq(r.err, f"vm: WARNING: a.raw: checked against {name} of the same server, "
           "whose signature was not checked: there is none\n")
        eq((files(s), content(s, "a.raw")), (["a.raw"], DISK))
        clear(s)
        server.data = DISK[:-1] + b"!"
        match(s.fails("img", server.url + "/x/a.raw"), "a.raw is not kept: wrong checksum: the file has")
        eq(files(s), [], "a wrong one is not kept")
        server.data = DISK
    for text in (sums(DISK, "b.raw"), sums(DISK, "a.raw", "md5"), b"<html>", b"", b"\0" * 100):
        server.beside = {"SHA256SUMS": text}
        r = s.vm("img", server.url + "/a.raw", status=0)
        eq(r.err, "vm: WARNING: a.raw was not verified: there is no list of checksums beside it; "
           "--sha256 tells what it has to be\n")
        clear(s)
    server.beside = {"SHA256SUMS": sums(b"other", "a.raw")}
    eq(s.vm("img", "--sha256", SUM, server.url + "/a.raw", status=0).out,
       "a.raw: it has the checksum that was given\n")
    server.close()


class Keys:
    """A signer with a key of its own."""

    def __init__(self, s, name):
        self.home = os.path.join(s.top, name)
        self.ring = os.path.join(s.top, name + ".gpg")
        os.mkdir(self.home, 0o700)
        self.gpg("--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never")
        self.gpg("--output", self.ring, "--export")

    def gpg(self, *args, data=None):
        return subprocess.run(["gpg", "--homedir", self.home, "--batch", "--quiet", "--passphrase", "",
                               "--pinentry-mode", "loopback", *args], input=data, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def sign(self, data, *args):
        return self.gpg("--detach-sign", *args, "--output", "-", data=data)

    def close(self):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=False)


def test_signatures(s):
    if not shutil.which("gpg"):
        print("   SKIP signatures: no gpg here to sign with")
        return
    server = Server(DISK)
    s.ok("init")
    good, other = Keys(s, "good"), Keys(s, "other")
    text = sums(DISK, "a.raw")
    url = server.url + "/a.raw"
    for end, args in (("sign", ["--armor"]), ("gpg", []), ("asc", ["--armor"])):
        server.beside = {"SHA256SUMS": text, "SHA256SUMS." + end: good.sign(text, *args)}
        eq(s.ok("img", "--keyring", "good.gpg", url),
           "a.raw: checked against SHA256SUMS, signed by good <good@example.org>\n")
        clear(s)
    match(s.fails("img", "--keyring", other.ring, url),
          "a.raw is not signed by a key of .*other.gpg: signature of SHA256SUMS: nobody here has the key that signed it")
    match(s.fails("img", "--keyring", "/none", url), "cannot read /none: No such file")
    eq((files(s), server.requests[3:]), ([], []), "nothing was fetched for them")
    r = s.vm("img", url, status=0)
    match(r.err, "WARNING: a.raw: checked against SHA256SUMS of the same server, whose signature was not checked: "
          "nobody here has the key that signed it")
    clear(s)
    server.beside["SHA256SUMS"] = text + b"\n"
    match(s.fails("img", "--keyring", good.ring, url), "the signature of SHA256SUMS is wrong")
    server.beside = {"SHA256SUMS": text}
    match(s.fails("img", "--keyring", good.ring, url), "a.raw is not signed by .*: there is none")
    server.beside = {}
    match(s.fails("img", "--keyring", good.ring, url), "a.raw is not signed by .*: there is no list of checksums")
    server.beside = {"SHA256SUMS": text, "SHA256SUMS.gpg": b"not a signature"}
    match(s.vm("img", url, status=0).err, "whose signature was not checked: gpgv does not know what it is")
    server.beside = {"SHA256SUMS": text, "SHA256SUMS.gpg": good.sign(text)}
    clear(s)
    # A list that is signed, and a checksum that was given too: both have to be right.
    match(s.fails("img", "--keyring", good.ring, "--sha256", "0" * 64, url), "a.raw is not kept: wrong checksum")
    eq(files(s), [])
    good.close()
    other.close()
    server.close()


def test_packed(s):
    server = Server()
    s.ok("init")
    zst = shutil.which("zstd") and subprocess.run(["zstd", "-q"], input=DISK, stdout=subprocess.PIPE, check=True).stdout
    for end, data in (("xz", lzma.compress(DISK)), ("gz", gzip.compress(DISK)), ("bz2", bz2.compress(DISK)),
                      ("zst", zst or None)):
        if not data:
            print("   SKIP zst: no zstd here to pack with")
            continue
        server.data = data
        server.beside = {"SHA256SUMS": sums(data, "a.img." + end)}
        eq(s.ok("img", f"{server.url}/a.img.{end}"), f"a.img: unpacked from a.img.{end}\n")
        eq((files(s), content(s, "a.img")), (["a.img"], DISK))
        true(os.stat(s.path(".img/a.img")).st_blocks * 512 < 1 << 20, "zeroes become holes")
        match(s.fails("img", f"{server.url}/a.img.{end}"), "a.img exists already; remove it first")
        eq(s.ok("iso", write(os.path.join(s.top, "b.iso." + end), data)), f"b.iso: unpacked from b.iso.{end}\n")
        eq(content(s, "b.iso", ".iso"), DISK)
        clear(s)
        clear(s, ".iso")


def test_tar(s):
    server = Server()
    s.ok("init")
    for end, mode in (("tar", "w"), ("tar.xz", "w:xz"), ("tgz", "w:gz"), ("tar.gz", "w:gz")):
        server.data = tar([("disk.raw", DISK)], mode)
        eq(s.ok("img", f"{server.url}/debian-12.{end}"), f"debian-12.raw: unpacked from debian-12.{end}\n")
        eq((files(s), content(s, "debian-12.raw")), (["debian-12.raw"], DISK))
        clear(s)
    server.data = tar([("a.raw", b"1" * 512), ("../../b.raw", b"2" * 512)])
    match(s.fails("img", server.url + "/two.tar"), "holds more than one file: unpack it and give the image")
    clear(s)
    server.data = tar([("../../evil.conf", DISK)])
    eq(s.ok("img", server.url + "/one.tar"), "one.conf: unpacked from one.tar\n")
    eq((files(s), os.path.exists(s.path("../evil.conf"))), (["one.conf"], False))
    server.close()


def test_tar_with_holes(s):
    s.ok("init")
    path = os.path.join(s.top, "holes.tar.gz")
    with open(os.path.join(s.top, "disk.raw"), "wb") as f:
        f.write(b"boot")
        f.truncate(3 << 30)
    subprocess.run(["tar", "-C", s.top, "-czSf", path, "disk.raw"], check=True)
    eq(s.ok("img", path), "holes.raw: unpacked from holes.tar.gz\n")
    st = os.stat(s.path(".img/holes.raw"))
    true(st.st_size == 3 << 30 and st.st_blocks * 512 < 1 << 20, "holes stay holes")
    true(os.path.exists(path), "a person's file stays")


def test_damaged(s):
    server = Server()
    s.ok("init")
    noise = os.urandom(300000)
    for name, data in (("a.img.xz", lzma.compress(noise)), ("a.img.gz", gzip.compress(noise)),
                       ("a.tar.gz", tar([("a.img", noise)], "w:gz"))):
        for bad in (data[:len(data) // 2], data[:1000] + b"!!!!" + data[1004:], b"", b"hello" * 100):
            server.data = bad
            match(s.fails("img", f"{server.url}/{name}"), f"cannot unpack .*{name}: ")
            eq(files(s), [], f"{name} of {len(bad)} bytes leaves nothing")
    server.close()


def test_qcow2(s):
    if not shutil.which("qemu-img"):
        print("   SKIP qcow2: no qemu-img here")
        return
    server = Server(qcow2(s))
    s.ok("init")
    r = s.vm("img", server.url + "/cloud.qcow2", hashlib.sha256(server.data).hexdigest(), status=0)
    eq(r.out, "cloud.qcow2: it has the checksum that was given\ncloud.raw: made of cloud.qcow2\n")
    eq((files(s), content(s, "cloud.raw")), (["cloud.raw"], DISK))
    match(s.fails("img", server.url + "/cloud.qcow2"), "cloud.raw exists already")
    path = write(os.path.join(s.top, "ubuntu.img"), server.data)
    eq(s.ok("img", path), "ubuntu.img.raw: made of ubuntu.img\n")
    true(os.path.exists(path), "a person's file stays")
    server.data = lzma.compress(server.data)
    eq(s.ok("img", server.url + "/p.qcow2.xz"), "p.qcow2: unpacked from p.qcow2.xz\np.raw: made of p.qcow2\n")
    eq((files(s), content(s, "p.raw")), (["cloud.raw", "p.raw", "ubuntu.img.raw"], DISK))
    eq(s.ok("iso", path), "")
    eq(files(s, ".iso"), ["ubuntu.img"], "iso leaves a file as it is")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd",
                    os.path.join(s.top, "evil.qcow2"), "1M"], check=True)
    match(s.fails("img", os.path.join(s.top, "evil.qcow2")), "evil.qcow2 is only what changed since another image")
    eq(files(s), ["cloud.raw", "p.raw", "ubuntu.img.raw"])
    server.close()


def test_qcow2_without_qemu_img(s):
    """In a mount namespace where the program cannot be run."""
    program = shutil.which("qemu-img")
    if not program or os.geteuid() != 0:
        print("   SKIP without qemu-img: it takes root, and a qemu-img to hide")
        return
    s.ok("init")
    server = Server(qcow2(s))
    p = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', program,
                        os.path.abspath(VM), "img", server.url + "/cloud.qcow2"], env=s.env, cwd=s.top, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    eq(p.returncode, 0, p.stderr)
    match(p.stderr, "is in qcow2 format, which the program qemu-img converts, and it is not installed: apt install")
    match(p.stderr, "cloud.qcow2 stays as it is: 'vm create -i' needs qemu-img for it")
    eq(files(s), ["cloud.qcow2"])
    server.close()


def test_interrupted(s):
    """^C and SIGKILL in the middle: the same command goes on from there."""
    server = Server(os.urandom(2 << 20))
    server.slow = 0.02
    s.ok("init")
    for sig in (signal.SIGINT, signal.SIGKILL):
        p = s.popen("img", server.url + "/a.raw", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        part = s.path(".img/.a.raw.part")
        until(lambda: os.path.exists(part) and os.stat(part).st_size > 200000, "some of it is there")
        p.send_signal(sig)
        p.wait()
        eq(files(s), [".a.raw.part", ".a.raw.part.id"])
        eq(s.ok("img"), "DATASTORE           FILENAME\n")
        have = os.stat(part).st_size
        server.requests.clear()
        server.slow = 0
        s.ok("img", server.url + "/a.raw")
        eq([r[1] for r in server.requests], [f"bytes={have}-"])
        eq((files(s), content(s, "a.raw")), (["a.raw"], server.data))
        clear(s)
        server.slow = 0.02
    server.close()


def test_killed_while_unpacking(s):
    s.ok("init")
    server = Server(gzip.compress(os.urandom(24 << 20), 1))
    p = s.popen("img", server.url + "/a.img.gz", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: ".a.img.new" in files(s), "it is being unpacked")
    p.kill()
    p.wait()
    true("a.img" not in files(s), "half of it has no name")
    server.requests.clear()
    match(s.ok("img", server.url + "/a.img.gz"), "^a.img.gz was fetched already\na.img: unpacked from a.img.gz\n$")
    eq((files(s), server.requests), (["a.img"], []))
    eq(content(s, "a.img"), gzip.decompress(server.data))
    server.close()


def test_address_families(s):
    server = Server(DISK)
    s.ok("init")
    s.ok("img", "-4", server.url + "/a.raw")
    match(s.fails("img", "-6", server.url.replace("127.0.0.1", "localhost") + "/b.raw"), "cannot fetch")
    eq(files(s), ["a.raw"])
    server.close()


run(cases_of(sys.modules[__name__]))
