#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm disk: what a guest's disks are, removing and resizing them."""
import os
import sys

from harness import cases_of, eq, match, run, true

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'


def disks(s, name="guest"):
    return [(d["number"], d["emulation"], d["bytes-size"] and d["bytes-size"] >> 20)
            for d in s.json("disk-list", "disk", "list", name)["disks"]]


def three(s):
    s.ok("init")
    s.guest("guest", MINIMAL, size="4M")
    for size in ("2M", "3M"):
        s.ok("add", "-d", "disk", "-s", size, "guest")


def test_list(s):
    three(s)
    out = s.ok("disk", "list", "guest").splitlines()
    eq(out[0].split(), ["NUMBER", "TYPE", "SIZE", "USED", "PATH"])
    match(out[2], r"^1       nvme  2097152 \(2.000M\)  0 \(0.000B\)  .*/guest/disk1.img$")
    eq(disks(s), [(0, "nvme", 4), (1, "nvme", 2), (2, "nvme", 3)])
    os.unlink(s.path("guest/disk1.img"))
    eq(disks(s)[1], (1, "nvme", None))
    for args in ((), ("list",), ("list", "guest", "x"), ("-f", "list", "guest"), ("resize", "guest", "0"),
                 ("remove", "guest"), ("xyz", "guest", "0"), ("--json", "remove", "guest", "0")):
        s.fails("disk", *args, status=2)


def test_resize(s):
    three(s)
    with open(s.path("guest/disk0.img"), "r+b") as f:
        f.write(b"data")
    before = s.read(s.path("guest/guest.conf"))
    s.ok("disk", "resize", "guest", "0", "8M")
    s.ok("disk", "resize", "guest", "2", "+2M")
    s.ok("disk", "resize", "guest", "1", "2M")
    eq(disks(s), [(0, "nvme", 8), (1, "nvme", 2), (2, "nvme", 5)])
    with open(s.path("guest/disk0.img"), "rb") as f:
        eq(f.read(4), b"data")
    match(s.fails("disk", "resize", "guest", "0", "7M"), "disk 0 has 8 MiB: a smaller one would lose what is at its end")
    for size in ("x", "", "-1M", "+", "+x", "1", "99999999T"):
        match(s.fails("disk", "resize", "guest", "0", "--", size), "invalid disk size|cannot resize")
    for n in ("3", "63"):
        match(s.fails("disk", "resize", "guest", n, "9M"), f"guest has no disk {n}; 'vm disk list guest' shows them")
    for n in ("64", "-1", "x"):
        match(s.fails("disk", "resize", "--", "guest", n, "9M"), f"'{n}' is not the number of a disk")
    eq((disks(s)[0], s.read(s.path("guest/guest.conf"))), ((0, "nvme", 8), before))
    s.ok("start", "guest")
    match(s.fails("disk", "remove", "-f", "guest", "1"), "guest must be powered off first")
    eq(len(disks(s)), 3)


def test_resize_running(s):
    """khyve is told of the disk whose image it is, by its own name."""
    three(s)
    s.ok("start", "guest")
    eq(s.ok("disk", "resize", "guest", "1", "+1M"), "")
    eq((disks(s)[1], s.read(s.path("guest/fake.grown"))), ((1, "nvme", 3), "nvme-1:4.1 3145728\n"))
    match(s.fails("disk", "resize", "guest", "1", "2M"), "a smaller one would lose")
    match(s.fails("disk", "resize", "guest", "7", "9M"), "guest has no disk 7")
    s.ok("add", "-d", "disk", "-s", "1M", "guest")
    r = s.vm("disk", "resize", "guest", "3", "2M", status=0)
    match(r.err, "WARNING: guest was started without disk 3 and has it from its next start on")
    eq((disks(s)[3][2], s.read(s.path("guest/fake.grown")).count("\n")), (2, 1))
    s.ok("poweroff", "-f", "guest")
    # One that the host fails has its trouble behind its path.
    s.write(s.path("guest/fake.mode"), "no-space no-grow")
    s.ok("start", "guest")
    match(s.fails("disk", "resize", "guest", "0", "5M"),
          "disk 0 is larger, but guest does not see it before its next start: khyve refuses: EOPNOTSUPP")
    eq(disks(s)[0][2], 5)
    s.ok("poweroff", "-f", "guest")
    s.write(s.path("guest/fake.mode"), "hang")
    s.ok("start", "guest")
    match(s.fails("disk", "resize", "guest", "0", "6M"), "no answer to 'disk' from its khyve")
    eq(disks(s)[0][2], 5)


def test_remove(s):
    three(s)
    eq(s.ok("disk", "remove", "guest", "1", stdin="n\n"), "Are you sure you want to remove disk 1 of guest and all "
       "that is on it (y/n)? ")
    match(s.fails("disk", "remove", "guest", "1"), "nobody answered")
    eq(len(disks(s)), 3)
    s.ok("disk", "remove", "guest", "1", stdin="y\n")
    eq(disks(s), [(0, "nvme", 4), (2, "nvme", 3)])
    true(not os.path.exists(s.path("guest/disk1.img")), "its image is gone")
    match(s.ok("start", "-n", "guest"), r"pci\.0\.6\.0\.path=.*/disk2.img")
    s.ok("start", "guest")
    s.ok("poweroff", "-f", "guest")
    s.ok("add", "-d", "disk", "-s", "6M", "guest")
    eq(disks(s), [(0, "nvme", 4), (1, "nvme", 6), (2, "nvme", 3)])
    s.ok("disk", "remove", "-f", "guest", "0")
    s.ok("disk", "remove", "-f", "guest", "1")
    eq(disks(s), [(2, "nvme", 3)])
    match(s.fails("disk", "remove", "-f", "guest", "2"), "disk 2 is the only one that guest has")
    s.ok("add", "-d", "disk", "-s", "1M", "guest")
    s.ok("disk", "remove", "-f", "guest", "2")
    eq(disks(s), [(0, "nvme", 1)])
    true("disk1" not in s.read(s.path("guest/guest.conf")), "nothing keeps free what nothing needs")
    match(s.fails("disk", "remove", "-f", "guest", "7"), "guest has no disk 7")


def test_custom(s):
    """A disk that is not in the guest's folder is only forgotten."""
    s.ok("init")
    path = os.path.join(s.top, "own.img")
    s.write(path, "x" * 1024)
    s.guest("guest", MINIMAL + f'disk1_type="virtio-blk"\ndisk1_name="{path}"\ndisk1_dev="custom"\n')
    s.ok("disk", "resize", "guest", "1", "1M")
    eq(os.stat(path).st_size, 1 << 20)
    s.ok("disk", "remove", "-f", "guest", "1")
    true(os.path.exists(path), "it is somebody's")
    eq(disks(s), [(0, "nvme", 1)])


run(cases_of(sys.modules[__name__]))
