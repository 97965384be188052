# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 240
# images: initrd.gz vmlinuz
"""Debian's kernel and the USB tablet, keyboard and disk; what is done in a viewer arrives there, and only there."""
import hashlib
import re
import time

import harness
import screen
from harness import check, check_equal
from machine import Khyve

WIDTH, HEIGHT = 800, 600
DISK = 64 << 20
folder = harness.make_folder()
state = {}


def ask(command, pattern, seconds=60):
    """Runs a command in the guest's shell; the match of a line that it prints."""
    serial = state["guest"].serial
    serial.wait("# $", 30)
    serial.send(command + "\n")
    return serial.wait(pattern, seconds)


def boot():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    with open(folder / "usb.img", "wb") as f:
        f.truncate(DISK)
    slot = {"device": "xhci", "slot.1.device": "tablet", "slot.2.device": "keyboard", "slot.3.device": "disk",
            "slot.3.path": folder / "usb.img", "slot.3.ser": "KHYVEUSB0001"}
    state["guest"] = guest = Khyve(folder, "usb", {
        "linux.kernel": folder / "vmlinuz", "linux.initrd": folder / "initrd.gz", "memory.size": "256M",
        "linux.cmdline": "console=tty0 console=ttyS0 quiet mitigations=off khyve.test=shell",
        "pci.0.25.0.device": "fbuf", "pci.0.25.0.w": WIDTH, "pci.0.25.0.h": HEIGHT,
        "pci.0.25.0.tcp": "127.0.0.1:5921"} | {f"pci.0.26.0.{key}": value for key, value in slot.items()})
    guest.serial.mark("shell", 120)


def enumerate_devices():
    # Modules for what is behind the controller are loaded only as long as new devices appear.
    ask("dmesg -n 1; modprobe -a usbhid hid_generic usb_storage sd_mod; for i in $(seq 100); do [ -e /sys/block/sda ] && "
        "[ $(grep -l 'khyve USB' /sys/class/input/event*/device/name | wc -l) = 2 ] && break; sleep 0.2; done; "
        "echo dev''ices=$(cat /sys/bus/usb/devices/*/product | grep -c '^USB')", "^devices=3$", 90)
    ask("echo spe''ed=$(cat /sys/bus/usb/devices/1-[123]/speed | tr '\\n' ' ')", "^speed=480 480 480 ?$")
    ask("echo dis''k=$(cat /sys/block/sda/size /sys/block/sda/device/model)", f"^disk={DISK // 512} USB disk")
    ask("echo cac''he=$(cat /sys/block/sda/queue/write_cache)", "^cache=write back$")
    for name in ("tablet", "keyboard"):
        found = ask(f"echo {name[:2]}''{name[2:]}=$(grep -l 'khyve USB {name}' /sys/class/input/event*/device/name)",
                    rf"^{name}=/sys/class/input/(event\d+)/device/name$")
        state[name] = found.group(1)


def disk():
    """What the guest writes and flushes is in the image; what it reads is what it wrote."""
    ask("dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; dd if=/tmp/data of=/dev/sda bs=1M seek=3 conv=fsync "
        "2>/dev/null; echo 3 > /proc/sys/vm/drop_caches; echo wri''tten=$?", "^written=0$", 90)
    sums = ask("echo su''ms=$(md5sum < /tmp/data) $(dd if=/dev/sda bs=1M skip=3 count=8 2>/dev/null | md5sum)",
               "^sums=([0-9a-f]{32}) +- ([0-9a-f]{32})", 90)
    check_equal(sums.group(1), sums.group(2), "the sum of what is read back")
    data = (folder / "usb.img").read_bytes()[3 << 20:11 << 20]
    check_equal(hashlib.md5(data).hexdigest(), sums.group(1), "the sum of what is in the image")
    ask("mkfs.ext4 -q /dev/sda && mount /dev/sda /mnt && cp /tmp/data /mnt && umount /mnt; echo fi''les=$?", "^files=0$", 90)


def listen(name, events):
    """Starts to print that many input events of a device, 24 bytes each."""
    ask(f"(dd if=/dev/input/{state[name]} bs=24 count={events} 2>/dev/null | xxd -p -c 24; echo hea''rd) & sleep 0.5; "
        "echo liste''ning", "^listening$")
    time.sleep(harness.limit(1))


def tablet():
    """Type, code and value of input-event-codes.h: EV_ABS 0 and 1, then a button."""
    serial, view = state["guest"].serial, screen.Screen("127.0.0.1:5921")
    listen("tablet", 9)
    view.viewer.click(400, 300)
    for axis, value in ((0, 400 * 32767 // (WIDTH - 1)), (1, 300 * 32767 // (HEIGHT - 1))):
        serial.wait("[0-9a-f]{32}0300%02x00%s$" % (axis, value.to_bytes(4, "little").hex()), 30)
    serial.wait("[0-9a-f]{32}0100100101000000$", 30)
    serial.wait("[0-9a-f]{32}0100100100000000$", 30)


def keyboard():
    serial, view = state["guest"].serial, screen.Screen("127.0.0.1:5921")
    serial.send("\n")
    listen("keyboard", 5)
    view.viewer.chord([screen.vncshot.KEYS["f2"]])
    serial.wait("[0-9a-f]{32}01003c0001000000$", 30)
    serial.wait("[0-9a-f]{32}01003c0000000000$", 30)


def again():
    """The driver goes and comes back."""
    # The module goes, some that it needs do not.
    ask("modprobe -r xhci_pci; ls /sys/bus/usb/devices | wc -l; modprobe xhci_pci; for i in $(seq 100); do "
        "[ -e /sys/block/sda ] && break; sleep 0.2; done; echo ba''ck=$(cat /sys/bus/usb/devices/*/product | grep -c '^USB')",
        "^back=3$", 90)
    sums = ask("mount -t ext4 /dev/sda /mnt; echo su''ms=$(md5sum < /tmp/data) $(md5sum < /mnt/data); umount /mnt",
               "^sums=([0-9a-f]{32}) +- ([0-9a-f]{32})", 90)
    check_equal(sums.group(1), sums.group(2), "the sum of the file")


def messages():
    state["guest"].serial.send("\n")
    ask("dmesg | grep -iE 'usb|xhci|hid|sd |scsi' | grep -iE 'warn|error|fail|timeout|not respond|reset|unable|died|can.t' "
        "| sed 's/^/compl''aint: /'; echo e''nd", "^end$")
    bad = re.findall("^complaint: (.*)$", state["guest"].serial.text, re.MULTILINE)
    check(not bad, "the kernel complains:\n" + "\n".join(bad))
    check("WARN" not in state["guest"].said(), state["guest"].said())


def clean_up(failed):
    guest = state.get("guest")
    if guest:
        if failed:
            print(guest.said())
        guest.kill()


harness.main([("boot", boot), ("devices", enumerate_devices), ("disk", disk), ("tablet", tablet), ("keyboard", keyboard),
              ("messages", messages), ("driver again", again)], clean_up, chained=True)
