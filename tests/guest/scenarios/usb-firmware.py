# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 300
# images: report.iso
"""OVMF takes keys from a USB keyboard and boots from a USB disk."""
import shutil
import time

import harness
import screen
from harness import check, check_equal
from machine import OVMF_CODE, OVMF_VARS, Khyve

ADDRESS = "127.0.0.1:5922"
WAIT = 30
folder = harness.make_folder()
state = {}


def menu():
    """F2 while the firmware waits: its menu, which stays."""
    harness.stage(folder, ["report.iso"])
    shutil.copy(OVMF_VARS, folder / "vars.fd")
    slot = {"device": "xhci", "slot.1.device": "tablet", "slot.2.device": "keyboard", "slot.3.device": "disk",
            "slot.3.path": folder / "report.iso", "slot.3.ro": "true", "slot.3.bootindex": 1}
    state["guest"] = Khyve(folder, "firmware", {
        "cpus": 2, "memory.size": "512M", "bootrom": OVMF_CODE, "bootvars": folder / "vars.fd", "boot.wait": WAIT,
        "pci.0.25.0.device": "fbuf", "pci.0.25.0.tcp": ADDRESS} | {f"pci.0.26.0.{key}": value for key, value in slot.items()})
    state["view"] = view = screen.Screen(ADDRESS)
    end = time.monotonic() + harness.limit(120)
    # The menu is the only thing on this screen that is grey all over.
    while view.shares()[2] < 0.1:
        check(time.monotonic() < end, "no menu")
        view.viewer.chord([screen.vncshot.KEYS["f2"]])
        view.follow(1)
    view.follow(3)
    view.write(harness.KEEP / "menu.png")


def choose():
    """Down to "Continue", and the boot goes on: from the USB disk."""
    view, serial = state["view"], state["guest"].serial
    for _ in range(4):
        view.viewer.chord([screen.vncshot.KEYS["down"]])
        view.follow(2)
    view.write(harness.KEEP / "continue.png")
    view.viewer.chord([screen.vncshot.KEYS["ret"]])
    serial.mark("start=report", 180)
    serial.mark("reported", 60)
    check_equal(serial.values()["efi"], ["yes"], "booted by UEFI")
    check_equal(state["guest"].end(60), 1, "the exit status")


def clean_up(failed):
    guest = state.get("guest")
    if guest:
        if failed:
            print(guest.said())
            if "view" in state:
                state["view"].write(harness.KEEP / "last.png")
        guest.kill()


harness.main([("menu", menu), ("choose", choose)], clean_up, chained=True)
