# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 420
# images: install.iso
# variants: nvme virtio-blk ahci-hd
"""From vm init to vm stop: an ISO installs a system, which boots from its own UEFI entry, again and again."""
import sys

import harness
import screen
from harness import check, check_equal
from machine import Store

TYPE = sys.argv[1]
DISK = {"nvme": "/dev/nvme0n1p2", "virtio-blk": "/dev/vda2", "ahci-hd": "/dev/sda2"}[TYPE]
CPUS = {"nvme": 2, "virtio-blk": 1, "ahci-hd": 1}[TYPE]
folder = harness.make_folder()
state = {}


def create():
    harness.stage(folder, ["install.iso"])
    state["store"] = store = Store(folder)
    check_equal(store.vm("iso", folder / "install.iso"), "", "the output of vm iso")
    check_equal(store.vm("create", "-t", "linux-uefi", "-s", "1G", "-m", "512M", "-c", CPUS, "guest"), "",
                "the output of vm create")
    store.edit("guest", disk0_type=TYPE)
    check_equal(store.row("guest")["state"], "stopped", "the state")


def install():
    """The guest waits for a viewer, then runs its installation."""
    store = state["store"]
    text = store.vm("install", "guest", "install.iso")
    check(text.startswith("Starting guest\n  * found guest in "), f"vm install says {text!r}")
    check("  * booting...\n" in text, f"vm install says {text!r}")
    check_equal(store.control("guest", "status")["state"], "waiting", "khyve's state")
    row = store.row("guest")
    check_equal(row["state"], "running", "the state while waiting")
    state["pid"] = row["pid"]
    viewer = screen.Screen(row["vnc"])
    harness.wait_until(lambda: store.control("guest", "status")["state"] == "running", 20, "end of the wait")
    del viewer
    state["serial"] = serial = store.serial("guest")
    serial.mark("start=install", 180)
    serial.mark("installing=" + DISK.rstrip("2").rstrip("p"), 60)
    serial.mark("installed", 120)


def reboot():
    """The reboot is khyve's own matter: same process, one reset, and the CD is not booted again."""
    store, serial = state["store"], state["serial"]
    serial.mark("rebooting", 30)
    serial.mark("start=disk", 180)
    serial.mark(f"booted-from={DISK}", 60)
    serial.mark("data=good", 60)
    serial.mark("boots=1", 10)
    serial.mark("waiting-for-button", 120)
    check_equal(store.row("guest")["pid"], state["pid"], "the pid after the reboot")
    check_equal(store.control("guest", "status")["resets"], "1", "the number of resets")
    values = serial.values()
    current = values["efi.current"][-1]
    check(values["efi.entry." + current][-1].startswith("khyve-test"), f"booted by {values['efi.entry.' + current]}")
    check("pci.0000:00:03.0" in values, "the CD is gone")


def stop():
    store, serial = state["store"], state["serial"]
    check_equal(store.vm("stop", "-t", "90", "guest"), "Sending ACPI shutdown to guest\n", "the output of vm stop")
    serial.mark("button", 5)
    serial.mark("powering-off", 5)
    check_equal(store.row("guest")["state"], "stopped", "the state after vm stop")
    left = sorted(p.name for p in (store.dir / "guest").iterdir())
    check_equal([n for n in left if n not in ("disk0.img", "guest.conf", "khyve.log", "uefi-vars.fd", "vm-bhyve.log")],
                [], "what a stopped guest leaves")
    check("khyve exited with status 1" in store.log("guest"), "the log does not tell the exit status")


def start():
    """Without CD and without waiting, by the entry in the UEFI variables."""
    store = state["store"]
    store.vm("start", "guest")
    state["serial"] = serial = store.serial("guest")
    serial.mark("start=disk", 180)
    serial.mark("data=good", 90)
    serial.mark("boots=2", 10)
    serial.mark("waiting-for-button", 120)
    values = serial.values()
    check(values["efi.entry." + values["efi.current"][-1]][-1].startswith("khyve-test"), "another boot entry")
    check("pci.0000:00:03.0" not in values, "the CD is still there")
    store.vm("stop", "-t", "90", "guest")
    check_equal(store.row("guest")["state"], "stopped", "the state at the end")


def clean_up(failed):
    if "store" in state:
        state["store"].end("guest", failed)


harness.main([("create", create), ("install", install), ("reboot in process", reboot), ("stop by ACPI", stop),
              ("start again", start)], clean_up, chained=True)
