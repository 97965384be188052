# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 300
# images: initrd.gz vmlinuz
"""A host without space for a disk: the guest stops, vm says why, and it goes on by itself when there is space."""
import json
import os
import subprocess

import harness
import machine
from harness import check, check_equal
from machine import Store

folder = harness.make_folder()
small = folder / "small"
state = {}
# 24 MiB that must not fail, written past the page cache of the guest and flushed.
WRITE = "dd if=/dev/zero of={disk} bs=1M count=24 oflag=direct conv=fsync 2>/dev/null; echo written=$?\n"


def mount(size, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "none", str(small)], check=True)


def create():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    small.mkdir()
    mount("8m")
    for disk in ("nvme", "virtio"):
        with open(small / disk, "wb") as f:
            os.truncate(f.fileno(), 64 << 20)
    state["store"] = store = Store(folder)
    store.vm("create", "-t", "linux-uefi", "-s", "64M", "-m", "256M", "-c", "1", "guest")
    store.edit("guest", loader="linux", kernel=str(folder / "vmlinuz"), initrd=str(folder / "initrd.gz"),
               cmdline="console=ttyS0 quiet mitigations=off khyve.test=shell",
               disk0_type="nvme", disk0_dev="custom", disk0_name=str(small / "nvme"),
               disk1_type="virtio-blk", disk1_dev="custom", disk1_name=str(small / "virtio"))
    start()


def start():
    store = state["store"]
    store.vm("start", "guest")
    state["serial"] = serial = store.serial("guest")
    serial.mark("shell", 120)
    serial.wait("# $", 30)


def why():
    return json.loads(state["store"].vm("why", "--json", "guest"))


def fill(disk):
    state["serial"].send(WRITE.format(disk=disk))
    harness.wait_until(lambda: why()["reason"] == "disk", 60, "stop of the guest")
    check("no space on the host" in why()["text"], f"vm why says: {why()['text']}")
    check("paused: no space" in state["store"].vm("info", "guest"), "vm info does not say that it is paused")


def stops_and_goes_on(disk, size):
    fill(disk)
    mount(size, "remount")
    check_equal(state["serial"].wait(r"^written=(\d+)$", 60).group(1), "0", "the status of the guest's dd")
    check_equal(why()["reason"], "running", "what vm why says")


def nvme():
    """NVMe: a write waits for space, and none of it is lost."""
    stops_and_goes_on("/dev/nvme0n1", "28m")


def virtio():
    """virtio-blk."""
    stops_and_goes_on("/dev/vda", "56m")


def shrink():
    """A guest that waits is reset and switched off all the same."""
    for name in ("nvme", "virtio"):
        os.truncate(small / name, 0)
        os.truncate(small / name, 64 << 20)
    mount("8m", "remount")


def reset():
    shrink()
    fill("/dev/nvme0n1")
    state["store"].vm("reset", "-f", "guest")
    state["serial"].mark("shell", 120)
    state["serial"].wait("# $", 30)
    check_equal(why()["reason"], "running", "what vm why says")


def poweroff():
    fill("/dev/nvme0n1")
    state["store"].vm("poweroff", "-f", "guest")
    check_equal(state["store"].row("guest")["state"], "stopped", "the state")
    check(not machine.processes(r"^(\S*khyve(-vnc)?|vm _run) "), "processes are left")


def clean_up(failed):
    if "store" in state:
        state["store"].end("guest", failed)


harness.main([("create", create), ("nvme waits for space", nvme), ("virtio-blk waits for space", virtio), ("reset", reset),
              ("poweroff", poweroff)], clean_up, chained=True)
