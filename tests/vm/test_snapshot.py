#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm: snapshots, rollback and clones, of stopped and of running guests, killed and out of space."""
import contextlib
import os
import shutil
import subprocess
import sys

from harness import cases_of, eq, match, run, true, until

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'


def fill(s, text, name="guest", disk="disk0.img", at=65536):
    with open(s.path(name, disk), "r+b") as f:
        f.seek(at)
        f.write(text.encode())


def disk(s, name="guest", image="disk0.img", at=65536, n=4):
    with open(s.path(name, image), "rb") as f:
        f.seek(at)
        return f.read(n).decode()


def snapshots(s, name="guest"):
    return [x["name"] for x in s.json("info", "info", name)["guests"][0]["snapshots"]]


def trash(s):
    return os.listdir(s.path(".trash"))


def test_snapshot_and_rollback(s):
    s.ok("init")
    s.guest("guest", MINIMAL, size="64M")
    s.write(s.path("guest/uefi-vars.fd"), "vars 1")
    fill(s, "old!")
    eq(s.ok("snapshot", "guest@one"), "")
    fill(s, "new!")
    s.write(s.path("guest/uefi-vars.fd"), "vars 2")
    s.ok("set", "guest", "cpu=4")
    s.ok("add", "-d", "disk", "-s", "1M", "guest")
    s.ok("snapshot", "guest@two")
    eq(snapshots(s), ["one", "two"])
    st = os.stat(s.path("guest/.snap/one/disk0.img"))
    true(st.st_size == 64 << 20 and st.st_blocks * 512 < 1 << 20, "holes stay holes")
    match(s.fails("rollback", "guest@one"), "there are newer snapshots, which -r removes: two\n$")
    eq(disk(s), "new!")
    eq(s.ok("rollback", "-r", "guest@one"), "")
    eq((disk(s), s.read(s.path("guest/uefi-vars.fd"))), ("old!", "vars 1"))
    eq(s.read(s.path("guest/guest.conf")), MINIMAL)
    eq(snapshots(s), ["one"])
    true(os.path.exists(s.path("guest/disk1.img")), "an image that the snapshot does not know is still there")
    match(s.read(s.path("guest/vm-bhyve.log")), "snapshot one made(.|\n)*: rolled back to snapshot one\n$")
    fill(s, "bad!")
    s.ok("rollback", "guest@one")
    eq((disk(s), trash(s)), ("old!", []), "it can be gone back to again")
    match(s.ok("info", "guest"), r"\n  snapshots\n    one\t\d+ \([0-9.]+[BKM]\)\t20\d\d-\S+\n")
    eq(s.ok("destroy", "guest@one"), "")
    eq((snapshots(s), trash(s), disk(s)), ([], [], "old!"))
    s.ok("start", "guest")
    true(s.pid(), "it starts")


def test_errors(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.ok("snapshot", "guest@one")
    eq(s.fails("snapshot", "guest@one"), "vm: ERROR: snapshot guest@one exists already\n")
    for name in ("", ".x", "a/b", "-x", "x y", "x" * 232):
        match(s.fails("snapshot", f"guest@{name}"), "^vm: ERROR: invalid snapshot name - '")
    for verb in ("rollback", "destroy"):
        match(s.fails(verb, "guest@none"), "guest has no snapshot none; 'vm info guest' shows them")
        match(s.fails(verb, "none@one"), "none doesn't appear to be a valid virtual machine")
        match(s.fails(verb, "guest@../../x"), "invalid snapshot name")
    eq(s.fails("rollback", "guest"), "vm: ERROR: a snapshot name must be provided in guest@snapshot format\n")
    match(s.fails("clone", "guest@none", "other"), "guest has no snapshot none")
    match(s.fails("clone", "guest", "guest"), "virtual machine already exists in")
    match(s.fails("clone", "guest", "a"), "invalid virtual machine name - 'a'")
    s.ok("snapshot", "guest")
    match(snapshots(s)[1], r"^20\d\d-\d\d-\d\d-\d\d:\d\d:\d\d$")
    s.ok("start", "guest")
    eq(s.fails("snapshot", "guest@x"), "vm: ERROR: guest must be powered off first (use -f to override)\n")
    eq(s.fails("rollback", "guest@one"), "vm: ERROR: guest must be powered off first\n")
    eq(s.fails("clone", "guest", "other"), "vm: ERROR: guest must be powered off first\n")
    for words in ("snapshot", "rollback", "clone guest", "rollback -x guest@a"):
        s.vm(*words.split(), status=2)
    eq(trash(s), [])


def test_clone(s):
    s.ok("init")
    s.guest("guest", MINIMAL + 'uuid="u"\nnetwork0_type="e1000"\nnetwork0_mac="58:9c:fc:00:00:01"\n'
            'network0_ports="127.0.0.1:2222:22/tcp"\ntags="a"\n')
    fill(s, "old!")
    s.ok("snapshot", "guest@one")
    fill(s, "new!")
    eq(s.ok("clone", "guest", "now"), "")
    s.ok("clone", "guest@one", "then")
    eq((disk(s, "now"), disk(s, "then")), ("new!", "old!"))
    eq(s.read(s.path("then/then.conf")), MINIMAL + 'network0_type="e1000"\ntags="a"\n')
    eq(snapshots(s, "now"), [])
    fill(s, "mine", "then")
    eq((disk(s), disk(s, image=".snap/one/disk0.img")), ("new!", "old!"))
    s.ok("destroy", "-f", "guest")
    s.ok("start", "then")
    match(s.read(s.path("then/then.conf")), 'uuid="[0-9a-f-]{36}"\n')
    match(s.read(s.path("then/vm-bhyve.log")), ": cloned from guest@one\n")
    # What is older than the guest's name has no part in it.
    s.ok("snapshot", "now@a")
    s.ok("rename", "now", "later")
    s.ok("clone", "later@a", "again")
    s.ok("rollback", "later@a")
    eq((disk(s, "again"), disk(s, "later")), ("new!", "new!"))


def paused(s, name="guest"):
    """What the stand-in was told, with times."""
    return s.read(s.path(name, "fake.told")).split()


def test_running(s):
    s.ok("init")
    s.guest("guest", MINIMAL + 'disk1_type="nvme"\ndisk1_name="disk0.img"\n', mode="tells")
    s.ok("start", "guest")
    eq(s.ok("snapshot", "-f", "guest@one"), "")
    eq(paused(s), ["pause", "resume"], "it was paused once, and goes on")
    eq(snapshots(s), ["one"])
    s.ok("clone", "guest@one", "other")
    s.ok("destroy", "guest@one")
    true(s.pid(), "it runs")


def test_paused_by_hand(s):
    """A guest that somebody has paused stays so."""
    s.ok("init")
    s.guest("guest", MINIMAL, mode="tells starts-paused")
    s.ok("start", "guest")
    s.ok("snapshot", "-f", "guest@one")
    eq(os.path.exists(s.path("guest/fake.told")), False)


def test_running_that_does_not_answer(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="no-pause tells")
    s.ok("start", "guest")
    match(s.fails("snapshot", "-f", "guest@one"), "khyve refuses")
    eq((snapshots(s), trash(s)), ([], []))


def test_killed_while_paused(s):
    """The guest goes on when the command is killed between pause and resume."""
    s.ok("init")
    s.guest("guest", MINIMAL, size="400M", mode="tells")
    with open(s.path("guest/disk0.img"), "r+b") as f:
        for _ in range(100):
            f.write(os.urandom(1 << 20))
    s.ok("start", "guest")
    p = s.popen("snapshot", "-f", "guest@one")
    until(lambda: os.path.exists(s.path("guest/fake.told")), "it is paused")
    p.kill()
    p.wait()
    until(lambda: paused(s) == ["pause", "resume"], "it goes on")
    s.ok("snapshot", "-f", "guest@one")
    eq((snapshots(s), trash(s)), (["one"], []))


CHANGING = ["write", "pwrite64", "fsync", "rename", "renameat2", "unlinkat", "mkdir", "linkat", "ioctl",
            "ftruncate", "copy_file_range"]


def inject(s, call, n, what, *args):
    return subprocess.run(["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={n}",
                           s.program, *args], env=s.env, cwd=s.top, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode


def points(s, what, args, check, calls=None):
    """Does what at each system call of a command in turn. Returns how often."""
    count = 0
    for call in calls or CHANGING:
        for n in range(1, 200):
            status = inject(s, call, n, what, *args)
            s.ok("iso")  # removes what was left
            check(f"{what} at {call} {n} of {' '.join(args)}")
            if status == 0:
                break
            count += 1
    return count


def test_killed(s):
    """Killed or failed at any system call: what there was is there, or what was wanted; nothing half."""
    if not shutil.which("strace"):
        print("   skipped: no strace")
        return
    s.ok("init")
    s.guest("guest", MINIMAL)
    fill(s, "old!")
    s.ok("snapshot", "guest@old")
    fill(s, "new!")

    def after_snapshot(where):
        if "two" in snapshots(s):
            eq(disk(s, image=".snap/two/disk0.img"), "new!", where)
            s.ok("destroy", "guest@two")
        eq((disk(s), snapshots(s), trash(s)), ("new!", ["old"], []), where)

    def after_rollback(where):
        true(disk(s) in ("old!", "new!"), where)
        eq((snapshots(s), trash(s)), (["old"], []), where)
        s.ok("start", "-n", "guest")
        fill(s, "new!")

    def after_clone(where):
        if os.path.exists(s.path("copy")):
            eq(disk(s, "copy"), "old!", where)
            s.ok("start", "-n", "copy")
            s.ok("destroy", "-f", "copy")
        eq((disk(s), trash(s)), ("new!", []), where)

    def after_destroy(where):
        if "old" not in snapshots(s):
            fill(s, "old!")
            s.ok("snapshot", "guest@old")
            fill(s, "new!")
        eq((disk(s, image=".snap/old/disk0.img"), trash(s)), ("old!", []), where)

    counts = {}
    for what in ("signal=KILL", "error=ENOSPC"):
        calls = CHANGING if what == "signal=KILL" else ["write", "pwrite64", "fsync", "copy_file_range", "mkdir",
                                                        "linkat", "renameat2", "ftruncate"]
        counts[what] = [points(s, what, ("snapshot", "guest@two"), after_snapshot, calls),
                        points(s, what, ("rollback", "guest@old"), after_rollback, calls),
                        points(s, what, ("clone", "guest@old", "copy"), after_clone, calls)]
    counts["signal=KILL"].append(points(s, "signal=KILL", ("destroy", "guest@old"), after_destroy))
    print(f"   snapshot, rollback, clone, destroy: {counts}")
    true(min(counts["signal=KILL"]) > 10, "it was killed")


@contextlib.contextmanager
def mounted(s, kind):
    """The store on a file system of its own."""
    image = os.path.join(s.top, "fs.img")
    with open(image, "wb") as f:
        f.truncate(400 << 20)
    if shutil.which(f"mkfs.{kind}") is None or os.geteuid() != 0:
        yield False
        return
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.mkdir(s.dir)
    if subprocess.run(["mount", "-o", "loop", image, s.dir], check=False, stderr=subprocess.DEVNULL).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", s.dir], check=True)


def on_file_system(s, kind, shares):
    with mounted(s, kind) as there:
        if not there:
            print(f"   skipped: no {kind} here")
            return
        s.ok("init")
        s.guest("guest", MINIMAL, size="100M")
        with open(s.path("guest/disk0.img"), "r+b") as f:
            f.write(os.urandom(60 << 20))
        fill(s, "old!")
        os.sync()
        before = os.statvfs(s.dir)
        for n in range(3):
            s.ok("snapshot", f"guest@s{n}")
        s.ok("clone", "guest@s1", "copy")
        after = os.statvfs(s.dir)
        used = (before.f_bfree - after.f_bfree) * before.f_bsize >> 20
        print(f"   {kind}: three snapshots and a clone of 60 MiB take {used} MiB")
        true(used < 20 if shares else used > 200, f"{used} MiB")
        fill(s, "new!")
        s.ok("rollback", "-r", "guest@s0")
        eq((disk(s), disk(s, "copy"), snapshots(s), trash(s)), ("old!", "old!", ["s0"], []))
        if not shares:
            s.guest("big", MINIMAL, size="150M")
            with open(s.path("big/disk0.img"), "r+b") as f:
                f.write(os.urandom(120 << 20))
            match(s.fails("snapshot", "big@one"), "No space left on device")
            eq((snapshots(s, "big"), trash(s)), ([], []))


def test_xfs(s):
    on_file_system(s, "xfs", True)


def test_btrfs(s):
    on_file_system(s, "btrfs", True)


def test_ext4(s):
    on_file_system(s, "ext4", False)


if __name__ == "__main__":
    run(cases_of(sys.modules[__name__]))
