# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 300
# images: initrd.gz vmlinuz
"""In place of a person: vm type, vm key and vm screenshot of a Linux console, beside a viewer; vm metrics, top and events."""
import json
import re
import struct
import subprocess
import zlib

import harness
import screen
from harness import check, check_equal
from machine import Store

folder = harness.make_folder()
state = {}
# Every character that can be typed, and enough of them that a keyboard's queue would overflow.
TEXT = "".join(chr(c) for c in range(0x21, 0x7f)).replace("\\", "") * 2


def create():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    state["store"] = store = Store(folder)
    store.vm("create", "-t", "linux-uefi", "-s", "64M", "-m", "256M", "-c", "1", "guest")
    store.edit("guest", loader="linux", kernel=str(folder / "vmlinuz"), initrd=str(folder / "initrd.gz"), graphics_res="800x600",
               graphics_wait="no", cmdline="console=tty0 console=ttyS0 quiet mitigations=off khyve.test=shell")


def boot():
    store = state["store"]
    with open(folder / "events", "w", encoding="utf-8") as out:
        # pylint: disable-next=consider-using-with
        state["events"] = subprocess.Popen([str(folder / "vm"), "events", "-f", "--json", "guest"], env=store.env, stdout=out)
    store.vm("start", "guest")
    state["serial"] = serial = store.serial("guest")
    serial.mark("shell", 120)
    serial.wait("# $", 30)
    serial.send("echo 0 > /sys/class/graphics/fbcon/cursor_blink; printf '\\033[2J\\033[H' > /dev/tty0; echo drawn=$?\n")
    serial.wait("^drawn=0$", 30)


def type_text():
    """The console gets each character, in order, and none twice."""
    serial, store = state["serial"], state["store"]
    serial.send("echo listening; IFS= read -r line < /dev/tty1; echo \"typed=$line\"\n")
    serial.wait("^listening$", 30)
    check_equal(store.vm("type", "guest", TEXT + "\n"), "", "what vm type says")
    check_equal(serial.wait(r"^typed=(.*)\n", 60).group(1).rstrip("\r"), TEXT, "what was typed")


def press_keys():
    serial = state["serial"]
    serial.send("e=$(grep -il keyboard /sys/class/input/event*/device/name | head -n 1 | cut -d / -f 5); "
                "echo hearing; dd if=/dev/input/$e bs=24 count=12 2>/dev/null | xxd -p -c 24\n")
    serial.wait("^hearing$", 30)
    state["store"].vm("key", "guest", "shift-f2", "f3")
    # type, code, value of input-event-codes.h: down in order, up the other way round.
    for code, down in ((0x2a, 1), (0x3c, 1), (0x3c, 0), (0x2a, 0)):
        serial.wait(rf"^[0-9a-f]{{32}}0100{code:02x}000{down}000000$", 30)
    serial.wait("# $", 30)


def rows_of(data):
    """Width, height and lines of red, green, blue of a PNG that vm made."""
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        size, = struct.unpack(">I", data[at:at + 4])
        packed += data[at + 8:at + 8 + size] if data[at + 4:at + 8] == b"IDAT" else b""
        at += size + 12
    raw, line, lines = zlib.decompress(packed), bytes(3 * width), []
    for y in range(height):
        coded = raw[y * (1 + 3 * width) + 1:(y + 1) * (1 + 3 * width)]
        line = bytes((a + b) & 255 for a, b in zip(line, coded))
        lines.append(line)
    return width, height, lines


def screenshot():
    """The picture is the one that a viewer has, who does not notice."""
    store = state["store"]
    viewer = screen.Screen(store.row("guest")["vnc"])
    viewer.follow(1)
    file = harness.KEEP / "seat.png"
    check_equal(store.vm("screenshot", "guest", file), "", "what vm screenshot says")
    check_equal(store.control("guest", "status")["viewers"], "1", "the viewers")
    width, height, lines = rows_of(file.read_bytes())
    check_equal((width, height), viewer.size, "the size")
    pixels = bytes(viewer.viewer.pixels)
    want = [b"".join(pixels[i:i + 3] for i in range(y * width * 4, (y + 1) * width * 4, 4)) for y in range(height)]
    check(lines == want, f"{sum(a != b for a, b in zip(lines, want))} of {height} lines differ from the viewer's")
    lit = sum(map(bool, b"".join(lines)))
    check(500 < lit < 3 * width * height / 2, f"{lit} bytes are lit")
    # What changes goes on to arrive.
    state["serial"].send("seq 100 110 > /dev/tty0\n")
    check(viewer.follow(3), "the viewer sees nothing any more")


def figures():
    """Counters grow with what the guest does."""
    store, serial = state["store"], state["serial"]

    def read():
        return {m[1]: float(m[2]) for m in re.finditer(r"^khyve_guest_(\w+)\{guest=\"guest\".*\} (\S+)$",
                                                       store.vm("metrics"), re.MULTILINE)}
    before = read()
    serial.send("dd if=/dev/vda of=/dev/null bs=1M count=8 2>/dev/null; dd if=/dev/zero of=/dev/vda bs=1M count=4 "
                "conv=fsync 2>/dev/null; echo moved=$?\n")
    serial.wait("^moved=0$", 60)
    after = read()
    check_equal((after["running"], after["paused"], after["cpus"], after["memory_bytes"]), (1, 0, 1, 256 << 20), "gauges")
    check(after["disk_read_bytes_total"] - before["disk_read_bytes_total"] >= 8 << 20, f"read: {before} {after}")
    check(after["disk_written_bytes_total"] - before["disk_written_bytes_total"] >= 4 << 20, f"written: {before} {after}")
    for name in ("cpu_seconds_total", "exits_total", "uptime_seconds"):
        check(after[name] > before[name] > 0, f"{name}: {before[name]} {after[name]}")
    top = json.loads(store.vm("top", "--json"))["guests"]
    check_equal([(g["name"], g["state"]) for g in top], [("guest", "running")], "vm top")


def events():
    """What happened, in order."""
    store = state["store"]
    store.vm("reset", "-f", "guest")
    state["serial"].mark("shell", 120)
    store.vm("poweroff", "-f", "guest")

    def told():
        lines = (folder / "events").read_text(encoding="utf-8").splitlines()
        return [e["event"] + ("=" + e["text"].split()[-1] if e["event"] == "state" else "") for e in map(json.loads, lines)]
    harness.wait_until(lambda: told()[-1:] == ["stopped"], 20, "the last event")
    state["events"].terminate()
    want = ["start", "state=running", "reset", "state=running", "state=off", "exit", "stopped"]
    got = [e for e in told() if e in want]
    # Who of khyve and vm is heard first at the end is chance.
    check_equal(got[:4] + sorted(got[4:]), want[:4] + sorted(want[4:]), "the events")


def clean_up(failed):
    if "events" in state:
        state["events"].kill()
    if "store" in state:
        state["store"].end("guest", failed)


harness.main([("create", create), ("boot", boot), ("vm type", type_text), ("vm key", press_keys),
              ("vm screenshot", screenshot), ("vm metrics, vm top", figures), ("vm events", events)], clean_up, chained=True)
