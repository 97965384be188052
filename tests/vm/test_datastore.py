#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm datastore: guests and media in several folders, and one that is not mounted."""
import os
import shutil
import sys

from harness import Failed, cases_of, eq, match, run, true

# Records its commands and knows one dataset: a stand-in, as ZFS is no part of Debian's kernel.
ZFS = """#!/bin/sh
echo "zfs $*" >> "$HOME/zfs.log"
case "$*" in
"get -H -o value mountpoint pool/vms") echo "$HOME/pool/vms" ;;
"get -H -o value mountpoint pool/off") echo none ;;
*) echo "cannot open '$7': dataset does not exist" >&2; exit 1 ;;
esac
"""
HEADING = "NAME            TYPE        PATH                      ZFS DATASET\n"


def folder(s, name):
    path = os.path.join(s.top, name)
    os.makedirs(path)
    return path


def rows(s):
    return [line.split() for line in s.ok("list").splitlines()[1:]]


def test_list_add_remove(s):
    s.ok("init")
    eq(s.ok("datastore", "list"), HEADING + f"default         directory   {s.dir:25} -\n")
    fast, isos, imgs = folder(s, "fast"), folder(s, "isos"), folder(s, "imgs")
    eq(s.ok("datastore", "add", "fast", fast + "/"), "")
    s.ok("datastore", "iso", "isos", isos)
    s.ok("data", "im", "imgs", imgs)
    eq(s.ok("datastore", "list"), HEADING + f"default         directory   {s.dir:25} -\n"
       f"fast            directory   {fast:25} -\nisos            iso         {isos:25} -\n"
       f"imgs            img         {imgs:25} -\n")
    system = s.read(s.path(".config/system.conf"))
    for line in ('datastore_list="fast isos imgs"', f'path_fast="{fast}/"', f'path_isos="iso:{isos}"',
                 f'path_imgs="img:{imgs}"'):
        true(line in system.splitlines(), line)
    stores = s.json("datastore", "datastore", "list")["datastores"]
    eq([(d["name"], d["type"], d["mounted"]) for d in stores],
       [("default", "directory", True), ("fast", "directory", True), ("isos", "iso", True), ("imgs", "img", True)])
    true(stores[1]["storage"] in ("reflink", "btrfs", "plain") and stores[2]["storage"] is None, stores)
    s.ok("switch", "list")
    eq(s.ok("datastore", "remove", "isos"), "")
    true(os.path.isdir(isos) and "isos" not in s.read(s.path(".config/system.conf")), "only the lines went")
    s.ok("datastore", "remove", "imgs")
    s.ok("datastore", "remove", "fast")
    eq(s.ok("datastore", "list").count("\n"), 2)


def test_errors(s):
    s.ok("init")
    fast = folder(s, "fast")
    s.ok("datastore", "add", "fast", fast)
    before = s.read(s.path(".config/system.conf"))
    for args, text in ((("add", "x", fast), "invalid datastore name - 'x'"),
                       (("add", "fast", fast), "datastore 'fast' already exists!"),
                       (("add", "default", fast), "datastore 'default' already exists!"),
                       (("add", "two", "/nowhere"), "/nowhere doesn't seem to be a valid directory"),
                       (("add", "two", "fast"), "'fast' is not an absolute path"),
                       (("add", "two", s.dir), "specified path already exists as default datastore"),
                       (("iso", "two", "/nowhere"), "specified directory does not appear to be valid"),
                       (("add", "two", "zfs:no/such"), "no/such doesn't seem to be a valid, mounted dataset"),
                       (("remove", "default"), "cannot remove default datastore"),
                       (("remove", "none"), "unable to locate the specified dataset")):
        match(s.fails("datastore", *args), f"^vm: ERROR: {text}")
    for args in ((), ("list", "x"), ("add", "two"), ("remove",), ("xyz",), ("i", "two", fast)):
        s.fails("datastore", *args, status=2)
    eq(s.read(s.path(".config/system.conf")), before)
    match(s.fails("create", "-d", "none", "guest"), "unable to load datastore - 'none'")
    eq(os.listdir(fast), [".trash"])


def test_guests(s):
    """Every verb finds a guest wherever it is."""
    s.ok("init")
    fast = folder(s, "fast")
    s.ok("datastore", "add", "fast", fast)
    s.guest("first")
    s.ok("create", "-d", "fast", "-s", "1M", "guest")
    true(os.path.exists(os.path.join(fast, "guest/guest.conf")), "it is there")
    eq([r[:2] for r in rows(s)], [["first", "default"], ["guest", "fast"]])
    eq([g["datastore"] for g in s.json("list", "list")["guests"]], ["default", "fast"])
    match(s.ok("info", "guest"), "\n  datastore: fast\n")
    for name in ("guest", "first"):
        match(s.fails("create", name), f"virtual machine already exists in .*/{name}")
        match(s.fails("create", "-d", "fast", name), f"virtual machine already exists in .*/{name}")
        match(s.fails("rename", "first" if name == "guest" else "guest", name), "already exists")
        match(s.fails("clone", "first", name), "virtual machine already exists in")
    s.ok("set", "guest", "cpu=2")
    s.ok("add", "-d", "disk", "-s", "1M", "guest")
    s.ok("snapshot", "guest@one")
    s.ok("rollback", "guest@one")
    s.ok("clone", "guest", "copy")
    s.ok("rename", "copy", "other")
    eq([r[:2] for r in rows(s)], [["first", "default"], ["guest", "fast"], ["other", "fast"]])
    s.ok("start", "guest")
    true(s.pid(), "it runs")
    match(s.fails("datastore", "remove", "fast"), "a guest in datastore fast runs; stop it first")
    s.ok("poweroff", "-f", "guest")
    s.ok("destroy", "-f", "other")
    s.ok("destroy", "guest", stdin="y\n")
    eq(([r[0] for r in rows(s)], sorted(os.listdir(fast))), (["first"], [".removed", ".trash"]))
    match(s.ok("trash", "list"), "\nguest ")
    s.ok("trash", "restore", "guest")
    eq([r[:2] for r in rows(s)], [["first", "default"], ["guest", "fast"]])
    s.ok("destroy", "guest", stdin="y\n")
    s.ok("trash", "empty", "-f")
    eq((os.listdir(os.path.join(fast, ".trash")), os.listdir(os.path.join(fast, ".removed"))), ([], []))


def test_not_mounted(s):
    s.ok("init")
    fast = folder(s, "fast")
    s.ok("datastore", "add", "fast", fast)
    s.guest("first")
    s.ok("create", "-d", "fast", "-s", "1M", "guest")
    os.rename(fast, fast + ".away")
    for prepare in (lambda: None, lambda: os.mkdir(fast)):
        prepare()
        r = s.vm("list", status=0)
        eq(r.err, f"vm: WARNING: datastore fast is not mounted: {fast}\n")
        eq([line.split()[0] for line in r.out.splitlines()], ["NAME", "first"])
        eq(s.json("datastore", "datastore", "list")["datastores"][1]["mounted"], False)
        match(s.fails("create", "-d", "fast", "new"), "datastore fast is not mounted")
        match(s.fails("start", "guest"), "is not mounted")
        s.ok("set", "first", "cpu=1")
    eq(os.listdir(fast), [], "nothing was made in its place")
    os.rmdir(fast)
    os.rename(fast + ".away", fast)
    eq(s.vm("list", status=0).err, "")
    eq(len(rows(s)), 2)


def test_media(s):
    s.ok("init")
    isos, imgs = folder(s, "isos"), folder(s, "imgs")
    s.ok("datastore", "iso", "discs", isos)
    s.ok("datastore", "img", "clouds", imgs)
    path = os.path.join(s.top, "a.iso")
    s.write(path, "x" * 512)
    s.ok("iso", "-d", "discs", path)
    s.ok("img", "-d", "clouds", path)
    eq((os.listdir(isos), os.listdir(imgs)), (["a.iso"], ["a.iso"]))
    eq(s.ok("iso"), "DATASTORE           FILENAME\ndiscs               a.iso\n")
    eq(s.ok("iso", "-d", "default"), "DATASTORE           FILENAME\n")
    eq(s.json("iso", "img")["media"], [{"datastore": "clouds", "name": "a.iso", "bytes": 512}])
    match(s.fails("iso", "-d", "clouds"), "unable to locate path for datastore 'clouds'")
    match(s.fails("iso", "-d", "none", path), "unable to locate path for datastore 'none'")
    os.unlink(path)
    s.guest("guest", 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n')
    s.ok("install", "guest", "a.iso")
    true(s.pid(), "an ISO of another datastore is found by its name")
    s.ok("poweroff", "-f", "guest")
    shutil.rmtree(isos)
    r = s.vm("iso", status=0)
    match(r.err, "cannot read datastore discs: .*: No such file or directory")
    match(s.fails("iso", "-d", "discs", __file__), "unable to locate path for datastore 'discs'")


def test_zfs(s):
    """With a stand-in for the program zfs."""
    s.ok("init")
    folder(s, "pool/vms")
    s.write(os.path.join(s.top, "zfs"), ZFS)
    os.chmod(os.path.join(s.top, "zfs"), 0o755)
    s.env["PATH"] = s.top + ":" + s.env["PATH"]
    s.ok("datastore", "add", "tank", "zfs:pool/vms")
    eq(s.ok("datastore", "list").splitlines()[1:],
       [f"default         directory   {s.dir:25} -", f"tank            zfs         {s.top + '/pool/vms':25} pool/vms"])
    s.ok("create", "-d", "tank", "-s", "1M", "guest")
    true(os.path.exists(os.path.join(s.top, "pool/vms/guest/guest.conf")), "it is there")
    for name in ("pool/off", "no/such", "-o"):
        match(s.fails("datastore", "add", "two", "zfs:" + name), f"{name} doesn't seem to be a valid, mounted dataset")
    s.env["PATH"] = os.environ["PATH"]
    match(s.vm("list", status=0).err, "^vm: WARNING: datastore tank is not mounted: zfs:pool/vms\n$")


if shutil.which("zfs"):
    raise Failed("there is a real zfs here, which these tests do not expect")
run(cases_of(sys.modules[__name__]))
