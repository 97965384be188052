# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 300
# memory: 7G
# images: report.iso initrd.gz vmlinuz
# variants: small medium large direct
"""What Debian's kernel sees in guests of several sizes: processors, memory, screen, clock, tables, no complaints."""
import base64
import gzip
import os
import re
import subprocess
import sys
import time

import harness
from harness import check, check_equal
from machine import Store

# memory, cpus, screen, utctime, loader
SIZES = {
    # Debian's GRUB has not enough of it for Debian's kernel, so the firmware's half ends there.
    "small": ("128M", 1, "1024x768", "yes", "linux"),
    "medium": ("1G", 2, "1920x1080", "no", "uefi"),
    "large": ("5G", 4, "1024x768", "yes", "uefi"),
    "direct": ("1G", 2, "1024x768", "yes", "linux"),
}
MEMORY, CPUS, SCREEN, UTC, LOADER = SIZES[sys.argv[1]]
# Half an hour off, so that no rounding to hours hides a mistake.
ZONE, ZONE_SECONDS = "IST-5:30", 19800
# What Debian's kernel says of warnings that is no fault of the machine.
ALLOWED = [
    # The processor that the test host emulates lacks the microcode that real ones have.
    r"SRSO|Spectre|RETBleed",
    # Milliseconds pass between two instructions in the test host, and a guest may wait for a second.
    r"clocksource: (Long readout|timekeeping watchdog|Watchdog|wd-|tsc)|hrtimer: interrupt took|perf: interrupt took",
    r"Unstable clock detected|keep using the local clock|\"trace_clock=local\"|on the kernel command line",
    r"rcu: .*(stall|self-detected)|rcu_sched kthread",
]
folder = harness.make_folder()
state = {}


def create():
    harness.stage(folder, ["initrd.gz", "vmlinuz", "report.iso"])
    state["store"] = store = Store(folder, TZ=ZONE)
    store.vm("create", "-t", "linux-uefi", "-s", "64M", "-m", MEMORY, "-c", CPUS, "guest")


def firmware():
    """Firmware and boot loader have enough memory, and a serial console."""
    store = state["store"]
    store.edit("guest", graphics_wait="no")
    store.vm("install", "guest", folder / "report.iso")
    serial = store.serial("guest")
    serial.wait("grub> *$", 180)
    serial.send("halt\r")
    harness.wait_until(lambda: store.row("guest")["state"] == "stopped", 60, "end of the guest")


def boot():
    store = state["store"]
    keys = {"graphics_res": SCREEN, "utctime": UTC, "graphics_wait": "no"}
    if LOADER == "linux":
        keys.update(loader="linux", kernel=folder / "vmlinuz", initrd=folder / "initrd.gz",
                    cmdline="console=tty0 console=ttyS0 quiet mitigations=off khyve.test=report khyve.then=button")
    store.edit("guest", **{key: str(value) for key, value in keys.items()})
    if LOADER == "linux":
        store.vm("start", "guest")
    else:
        store.vm("install", "guest", folder / "report.iso")
    state["serial"] = serial = store.serial("guest")
    serial.mark("start=report", 180)
    serial.mark("rtc=.*", 30)
    state["read_at"] = time.time()
    serial.mark("reported", 120)
    state["values"] = serial.values()


def one(key):
    values = state["values"].get(key)
    check(values, f"the guest does not report {key}")
    return values[-1]


def size():
    check_equal(one("cpus"), str(CPUS), "the number of processors")
    mib = {"M": 1, "G": 1024}[MEMORY[-1]] * int(MEMORY[:-1])
    seen = int(one("memory_kb")) / 1024
    # The kernel keeps its own image, its memory map, and what the firmware reserves.
    check(mib - 90 - mib * 0.03 < seen < mib, f"{seen:.0f} MiB of {mib}")
    check_equal(one("efi"), "no" if LOADER == "linux" else "yes", "booted by UEFI")
    check_equal(one("tainted"), "0", "the kernel's taint")


def screen():
    name, mode = one("screen").split()
    check_equal(mode, SCREEN.replace("x", ","), "the screen's size")
    check("bochs" in name, f"the screen is {name}")
    check("1234:1111" in " ".join(sum((v for k, v in state["values"].items() if k.startswith("pci.")), [])),
          "no display on the bus")


def clock():
    """The chip's time as read in the guest, against this machine's, in the zone that utctime asks for."""
    want = state["read_at"] + (0 if UTC == "yes" else ZONE_SECONDS)
    off = int(one("rtc_epoch")) - want
    check(abs(off) < harness.limit(30), f"the clock is {off:.0f} s off")


def random():
    check(one("hwrng").startswith("virtio_rng"), f"the source is {one('hwrng')}")
    check(re.fullmatch("[0-9a-f]{32}", one("hwrng.bytes")), f"16 bytes of it are {one('hwrng.bytes')!r}")


def messages():
    bad = [line for line in state["values"].get("warning", []) if not re.search("|".join(ALLOWED), line)]
    check(not bad, "the kernel complains:\n" + "\n".join(bad))


def tables():
    """Each ACPI table comes apart and together again without a word from the compiler."""
    names = [key for key in state["values"] if key.startswith("acpi.")]
    check({"acpi.DSDT", "acpi.FACP", "acpi.APIC", "acpi.MCFG"} <= set(names), f"the tables are {names}")
    for key in names:
        name = key[len("acpi."):]
        path = folder / f"{name}.dat"
        path.write_bytes(gzip.decompress(base64.b64decode(one(key))))
        for args in (["iasl", "-ve", "-d", path.name], ["iasl", "-ve", f"{name}.dsl"]):
            run = subprocess.run(args, cwd=folder, text=True, check=False, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env=dict(os.environ, LC_ALL="C"))
            loud = re.findall(r"^.*(?:Error|Warning|Remark) .*$", run.stdout, re.MULTILINE)
            check(run.returncode == 0 and not loud, f"{name}: {' '.join(args)}: {run.stdout[-600:]}")


def power_off():
    store = state["store"]
    if LOADER == "linux":
        # A press reaches only who has the button's device open already.
        state["serial"].mark("waiting-for-button", 60)
        store.vm("stop", "-t", "60", "guest")
    harness.wait_until(lambda: store.row("guest")["state"] == "stopped", 60, "end of the guest")


def clean_up(failed):
    if "store" in state:
        state["store"].end("guest", failed)


FIRMWARE = [("firmware", firmware)] if sys.argv[1] == "small" else []
harness.main([("create", create), *FIRMWARE, ("boot", boot), ("power off", power_off), ("processors and memory", size), ("screen", screen),
              ("clock", clock), ("random numbers", random), ("kernel messages", messages), ("ACPI tables", tables)],
             clean_up)
