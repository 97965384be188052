# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 240
# images: report.iso
# by: hand
"""Another firmware than the one installed: set KHYVE_OVMF to a folder with its OVMF_CODE_4M.fd and OVMF_VARS_4M.fd,
for example to usr/share/OVMF of the package ovmf of another Debian release, unpacked by dpkg-deb -x."""
import os
import pathlib
import re
import shutil

import harness
from harness import check, check_equal
from machine import Khyve

folder = harness.make_folder()
state = {}


def boot():
    source = os.environ.get("KHYVE_OVMF")
    if not source:
        raise harness.Failed("KHYVE_OVMF is not set")
    harness.stage(folder, ["report.iso"])
    for name in ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"):
        shutil.copy(pathlib.Path(source) / name, folder / name)
    state["before"] = (folder / "OVMF_VARS_4M.fd").read_bytes()
    state["guest"] = guest = Khyve(folder, "guest", {
        "cpus": 2, "memory.size": "1G", "bootrom": folder / "OVMF_CODE_4M.fd", "bootvars": folder / "OVMF_VARS_4M.fd",
        "pci.0.3.0.device": "ahci", "pci.0.3.0.port.0.type": "cd", "pci.0.3.0.port.0.ro": "true",
        "pci.0.3.0.port.0.path": folder / "report.iso", "pci.0.3.0.port.0.bootindex": 1,
        "pci.0.25.0.device": "fbuf", "pci.0.25.0.tcp": "127.0.0.1:5913"})
    guest.serial.mark("start=report", 180)
    guest.serial.mark("reported", 60)
    state["values"] = values = guest.serial.values()
    check_equal(values["efi"], ["yes"], "booted by UEFI")
    check_equal(values["cpus"], ["2"], "the number of processors")
    print("  firmware:", values.get("dmi.bios_vendor"), values.get("dmi.bios_version"))


def messages():
    bad = [line for line in state["values"].get("warning", []) if re.search("ACPI|PCI|pci|ahci|ata|EFI|efi", line)]
    check(not bad, "the kernel complains:\n" + "\n".join(bad))


def power_off():
    check_equal(state["guest"].end(60), 1, "the exit status")
    check((folder / "OVMF_VARS_4M.fd").read_bytes() != state["before"], "no variable was kept")


def clean_up(failed):
    if "guest" in state:
        if failed:
            print(state["guest"].said())
        state["guest"].kill()


harness.main([("boot", boot), ("kernel messages", messages), ("power off", power_off)], clean_up, chained=True)
