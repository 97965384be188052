#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm image: guests as files, and guests made of them."""
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile

from harness import cases_of, eq, match, run, true, until

CONF = ('loader="uefi"\ncpu=2 # mine\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
        'network0_type="virtio-net"\nnetwork0_switch="public"\nnetwork0_mac="58:9c:fc:01:02:03"\nuuid="u-u"\n')


def fill(s, name="guest", image="disk0.img", size=3 << 30):
    """Something at the beginning, in the middle and at the end, holes elsewhere."""
    with open(s.path(name, image), "r+b") as f:
        f.truncate(size)
        for at, text in ((0, b"begin"), (size // 2 + 77, b"middle" * 5000), (size - 3, b"end")):
            f.seek(at)
            f.write(text)


def check(path, size=3 << 30):
    with open(path, "rb") as f:
        for at, text in ((0, b"begin"), (size // 2 + 77, b"middle" * 5000), (size - 3, b"end")):
            f.seek(at)
            eq(f.read(len(text)), text)
    st = os.stat(path)
    true(st.st_size == size and st.st_blocks * 512 < 2 << 20, f"holes stay holes: {st.st_blocks}")


def make(s, *args):
    out = s.ok("image", "create", *args)
    return re.search(r"created with UUID (\S+)\n$", out).group(1)


def images(s):
    return sorted(os.listdir(s.path("images"))) if os.path.exists(s.path("images")) else []


def test_create_and_provision(s):
    s.ok("init")
    eq(s.ok("image", "list"), "UUID  NAME  CREATED  DESCRIPTION\n")
    s.guest("guest", CONF, size="1M")
    fill(s)
    s.write(s.path("guest/uefi-vars.fd"), "variables")
    s.ok("add", "-d", "disk", "-s", "7M", "guest")
    s.ok("snapshot", "guest@old")
    out = s.ok("image", "create", "-d", "a web server, bare", "guest")
    m = re.fullmatch(r"Creating a compressed image, this may take some time...\n"
                     r"Image of guest created with UUID ([0-9a-f-]{36})\n", out)
    true(m, out)
    uuid = m.group(1)
    eq(images(s), [uuid + ".manifest", uuid + ".tar.zst"])
    true(os.stat(s.path("images", uuid + ".tar.zst")).st_size < 100000, "it is small")
    manifest = s.read(s.path("images", uuid + ".manifest"))
    for line in ('description="a web server, bare"', 'name="guest"', f'filename="{uuid}.tar.zst"'):
        true(line in manifest.splitlines(), manifest)
    match(s.ok("image", "list"), rf"^UUID +NAME +CREATED +DESCRIPTION\n{uuid}  guest  \w\w\w \w\w\w .* 20\d\d  "
          "a web server, bare\n$")
    eq([i["uuid"] for i in s.json("image-list", "image", "list")["images"]], [uuid])
    s.ok("destroy", "-f", "guest")
    eq(s.ok("image", "provision", uuid, "new"), "Unpacking guest image, this may take some time...\n")
    check(s.path("new/disk0.img"))
    eq(os.stat(s.path("new/disk1.img")).st_size, 7 << 20)
    eq(s.read(s.path("new/uefi-vars.fd")), "variables")
    conf = s.read(s.path("new/new.conf"))
    true("cpu=2 # mine" in conf and "mac" not in conf and "uuid" not in conf, conf)
    eq(sorted(os.listdir(s.path("new"))), ["disk0.img", "disk1.img", "new.conf", "uefi-vars.fd", "vm-bhyve.log"])
    s.ok("image", "provision", uuid, "guest")
    s.ok("start", "guest")
    true(s.pid(), "it starts")
    eq(s.ok("image", "destroy", uuid), "")
    eq((images(s), os.listdir(s.path(".trash"))), ([], []))


def test_uncompressed_and_other_stores(s):
    s.ok("init")
    fast = os.path.join(s.top, "fast")
    os.mkdir(fast)
    s.ok("datastore", "add", "fast", fast)
    s.ok("create", "-d", "fast", "-s", "1M", "guest")
    with open(os.path.join(fast, "guest/disk0.img"), "wb") as f:
        f.truncate(3 << 30)
    out = s.ok("image", "create", "-u", "guest")
    match(out, "^Creating guest image, this may take some time...\nImage of guest created with UUID ")
    uuid = make(s, "-u", "guest")
    with tarfile.open(s.path("images", uuid + ".tar")) as t:
        eq(sorted(m.name for m in t.getmembers()), ["disk0.img", "guest.conf"])
        eq(t.getmember("disk0.img").size, 3 << 30)
    true(os.stat(s.path("images", uuid + ".tar")).st_size < 100000, "holes take no room in it")
    match(s.read(s.path("images", uuid + ".manifest")), 'description="No description provided"')
    s.ok("image", "provision", uuid, "here")
    s.ok("image", "provision", "-d", "fast", uuid, "there")
    eq(os.stat(os.path.join(fast, "there/disk0.img")).st_size, 3 << 30)
    eq([r.split()[:2] for r in s.ok("list").splitlines()[1:]],
       [["here", "default"], ["guest", "fast"], ["there", "fast"]])


def test_running(s):
    s.ok("init")
    s.guest("guest", CONF.replace("public", "user"), size="1M")
    fill(s)
    s.ok("start", "guest")
    uuid = make(s, "guest")
    true(s.pid(), "it goes on")
    s.ok("image", "provision", uuid, "new")
    check(s.path("new/disk0.img"))
    eq(os.listdir(s.path(".trash")), [])


def test_errors(s):
    s.ok("init")
    s.guest("guest", CONF)
    uuid = make(s, "guest")
    for args in ((), ("create",), ("provision", uuid), ("destroy",), ("xyz",), ("create", "-x", "guest"),
                 ("list", "x"), ("provision", uuid, "new", "x")):
        s.fails("image", *args, status=2)
    match(s.fails("image", "create", "none"), "none doesn't appear to be a valid virtual machine")
    match(s.fails("image", "create", "-d", 'with "quotes"', "guest"), "the description .* cannot be stored")
    for bad in ("none", "../x", uuid[:-1]):
        match(s.fails("image", "provision", bad, "new"), "unable to locate image with uuid " + bad)
        match(s.fails("image", "destroy", bad), "unable to locate image with uuid " + bad)
    match(s.fails("image", "provision", uuid, "x"), "invalid virtual machine name - 'x'")
    match(s.fails("image", "provision", uuid, "guest"), "virtual machine already exists in")
    match(s.fails("image", "provision", "-d", "none", uuid, "new"), "unable to load datastore - 'none'")
    eq(len(images(s)), 2)
    path = s.path("images", uuid + ".tar.zst")
    with open(path, "r+b") as f:
        f.seek(20)
        f.write(b"!!!!")
    match(s.fails("image", "provision", uuid, "new"), f"image {uuid} is damaged: wrong checksum")
    os.unlink(path)
    match(s.fails("image", "provision", uuid, "new"), f"image data file does not exist: {path}")
    s.write(s.path("images", uuid + ".manifest"), f'name="x"\nfilename="{uuid}.zfs.z"\n')
    match(s.fails("image", "provision", uuid, "new"), "unsupported guest image type - ")
    s.ok("image", "destroy", uuid)
    eq((images(s), os.path.exists(s.path("new")), os.listdir(s.path(".trash"))), ([], False, []))


def test_hostile(s):
    """Somebody else's image: names that lead out of the guest's folder, or that only a running guest has."""
    s.ok("init")
    os.mkdir(s.path("images"))
    for name in ("../evil.img", "/tmp/evil.img", "a/b.img", ".snap", "run.lock", "x.conf", "..", "console"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            for n, data in (("guest.conf", CONF.encode()), (name, b"evil")):
                info = tarfile.TarInfo(n)
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
        with open(s.path("images/evil.tar"), "wb") as f:
            f.write(out.getvalue())
        s.write(s.path("images/evil.manifest"), 'name="x"\nfilename="evil.tar"\nchecksum="sha256:'
                f'{hashlib.sha256(out.getvalue()).hexdigest()}"\n')
        match(s.fails("image", "provision", "evil", "new"), f"'{name}' has no place in it")
        eq((os.path.exists(s.path("new")), os.path.exists(s.path(".trash/evil.img"))), (False, False))
    s.write(s.path("images/evil.manifest"), 'name="x"\nfilename="../../etc/x.tar"\n')
    match(s.fails("image", "provision", "evil", "new"), "there is no filename")
    s.ok("image", "destroy", "evil")


def test_killed(s):
    """Nothing that looks like an image or a guest is left, and what is left goes with the next image."""
    s.ok("init")
    s.guest("guest", CONF, size="1M")
    with open(s.path("guest/disk0.img"), "wb") as f:
        f.write(os.urandom(48 << 20))
    p = s.popen("image", "create", "guest", stdout=subprocess.DEVNULL)
    until(lambda: [f for f in images(s) if os.stat(s.path("images", f)).st_size > 1 << 20], "half of it is there")
    p.send_signal(signal.SIGKILL)
    p.wait()
    eq(s.ok("image", "list").count("\n"), 1)
    uuid = make(s, "guest")
    eq(images(s), [uuid + ".manifest", uuid + ".tar.zst"])
    p = s.popen("image", "provision", uuid, "new", stdout=subprocess.DEVNULL)
    until(lambda: os.listdir(s.path(".trash")), "it is being unpacked")
    p.send_signal(signal.SIGKILL)
    p.wait()
    true(not os.path.exists(s.path("new")) or os.path.exists(s.path("new/new.conf")), "no half guest")
    s.ok("image", "list")
    eq(os.listdir(s.path(".trash")), [])


def test_file_systems(s):
    """The same image on every file system that this machine can make and mount."""
    kinds = {"xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"], "ext4": ["mkfs.ext4", "-q"]}
    s.ok("init")
    s.guest("guest", CONF, size="1M")
    fill(s)
    uuid = make(s, "guest")
    for kind, mkfs in kinds.items():
        image, mount = os.path.join(s.top, kind + ".fs"), os.path.join(s.top, kind)
        os.mkdir(mount)
        with open(image, "wb") as f:
            f.truncate(400 << 20)
        if not shutil.which(mkfs[0]) or os.geteuid() != 0 or subprocess.run(
                [*mkfs, image], check=False, capture_output=True).returncode or subprocess.run(
                ["mount", "-o", "loop", image, mount], check=False, capture_output=True).returncode:
            print(f"   SKIP {kind}: it cannot be made and mounted here")
            continue
        try:
            s.ok("datastore", "add", kind, mount)
            s.ok("image", "provision", "-d", kind, uuid, "of-" + kind)
            check(os.path.join(mount, f"of-{kind}/disk0.img"))
            s.ok("snapshot", f"of-{kind}@one")
            again = make(s, "of-" + kind)
            s.ok("image", "provision", again, "from-" + kind)
            check(s.path("from-" + kind, "disk0.img"))
            s.ok("datastore", "remove", kind)
            stores = s.json("datastore", "datastore", "list")["datastores"]
            print(f"   {kind}: an image came and went; {len(stores)} datastore left")
        finally:
            subprocess.run(["umount", mount], check=True)


run(cases_of(sys.modules[__name__]))
