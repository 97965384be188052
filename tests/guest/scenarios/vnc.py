# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 240
# images: initrd.gz vmlinuz
"""Stock VNC viewers see a real guest's screen, over IPv4, IPv6 and with a password; keys reach the guest."""
import os
import pathlib
import struct
import subprocess
import time

import harness
import screen
from harness import check, check_equal
from machine import Khyve

PASSWORD = "s3cr3t"
WIDTH, HEIGHT = 800, 600
# The key that VNC password files are scrambled with, its bytes' bits reversed as VNC does.
FILE_KEY = bytes(int(f"{byte:08b}"[::-1], 2) for byte in (23, 82, 107, 6, 35, 78, 88, 7))
folder = harness.make_folder()
state = {}


def settings(address, **more):
    return {"linux.kernel": folder / "vmlinuz", "linux.initrd": folder / "initrd.gz", "memory.size": "256M",
            "linux.cmdline": "console=tty0 console=ttyS0 quiet mitigations=off khyve.test=shell",
            "pci.0.25.0.device": "fbuf", "pci.0.25.0.w": WIDTH, "pci.0.25.0.h": HEIGHT,
            "pci.0.25.0.tcp": address} | {f"pci.0.25.0.{key}": value for key, value in more.items()}


def boot():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    state["guest"] = guest = Khyve(folder, "open", settings("[::]:5911"))
    guest.serial.mark("shell", 120)
    # A cursor that blinks would make two pictures differ.
    guest.serial.wait("# $", 30)
    guest.serial.send("echo 0 > /sys/class/graphics/fbcon/cursor_blink; seq 100 120 > /dev/tty0; echo drawn=$?\n")
    guest.serial.wait("^drawn=0$", 30)
    check_equal(guest.control("status")["vnc"], "[::]:5911", "the address")


def picture(target, password=None):
    view = screen.Screen(target, password)
    view.follow(1)
    check_equal(view.size, (WIDTH, HEIGHT), "the screen's size")
    return bytes(view.viewer.pixels)


def both_families():
    """The same picture over IPv4 and IPv6, and it shows text."""
    state["picture"] = one = picture("127.0.0.1:5911")
    check(one == picture("[::1]:5911"), "the pictures over IPv4 and IPv6 differ")
    lit = sum(map(bool, one[::4]))
    check(500 < lit < WIDTH * HEIGHT / 2, f"{lit} of {WIDTH * HEIGHT} pixels are lit")


def jpeg_size(data):
    """Width and height in a JPEG's first start-of-frame segment."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
    height, width = struct.unpack(">HH", data[at + 5:at + 9])
    return width, height


def snapshot(display, size, *options):
    out = folder / "snapshot.jpg"
    out.unlink(missing_ok=True)
    run = subprocess.run(["vncsnapshot", "-quiet", *options, f"127.0.0.1:{display}", str(out)], check=False, text=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         timeout=harness.limit(60))
    check(run.returncode == 0 and out.exists(), f"vncsnapshot: {run.stdout.strip()}")
    check_equal(jpeg_size(out.read_bytes()), size, "the size of vncsnapshot's picture")


def vncsnapshot():
    snapshot(11, (WIDTH, HEIGHT))


def x_rows(path):
    """The lines of an Xvfb screen: four bytes a pixel, blue first."""
    data = path.read_bytes()
    header = struct.unpack(">25I", data[:100])
    height, pitch, start = header[5], header[12], header[0] + header[19] * 12
    return [data[start + y * pitch:start + (y + 1) * pitch] for y in range(height)]


def shows(path, rows):
    """Whether these lines of red, green, blue are somewhere on the X screen, one below the other."""
    want = []
    for row in rows:
        line = bytearray(len(row))
        line[0::4], line[1::4], line[2::4] = row[2::4], row[1::4], row[0::4]
        want.append(bytes(line))
    lines = [bytes(b for i, b in enumerate(line) if i % 4 != 3) for line in x_rows(path)]
    flat = [bytes(b for i, b in enumerate(line) if i % 4 != 3) for line in want]
    for top, line in enumerate(lines):
        left = line.find(flat[0])
        if left >= 0 and all(lines[top + i][left:left + len(flat[i])] == flat[i]
                             for i in range(min(len(flat), len(lines) - top))):
            return True
    return False


def tigervnc():
    """TigerVNC's viewer shows the guest's picture line by line."""
    rows = [state["picture"][y * WIDTH * 4:(y + 1) * WIDTH * 4] for y in range(HEIGHT)]
    first = next(y for y, row in enumerate(rows) if any(row[::4]))
    guest = state["guest"]
    with subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "1000x800x24", "-fbdir", str(folder), "-nolisten",
                           "tcp"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        display = ":" + server.stdout.readline().strip()
        with subprocess.Popen(["xtigervncviewer", "-display", display, "-ViewOnly", "-AlertOnFatalError=0",
                               "-ReconnectOnError=0", "-FullColor=1", "-AutoSelect=0", "-PreferredEncoding=ZRLE",
                               "127.0.0.1::5911"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=dict(os.environ, HOME=str(folder))) as viewer:
            try:
                harness.wait_until(lambda: guest.control("status")["viewers"] != "0", 60, "viewer in khyve's status")
                harness.wait_until(lambda: shows(folder / "Xvfb_screen0", rows[first:first + 40]), 60,
                                   "picture in the viewer's window")
            finally:
                viewer.terminate()
                server.terminate()
    harness.wait_until(lambda: guest.control("status")["viewers"] == "0", 30, "end of the viewer in khyve's status")


def keys():
    """What is typed in a viewer arrives at the guest's keyboard."""
    serial = state["guest"].serial
    serial.send("e=$(grep -il keyboard /sys/class/input/event*/device/name | head -n 1 | cut -d / -f 5); "
                "echo listening; dd if=/dev/input/$e bs=24 count=2 2>/dev/null | xxd -p -c 24\n")
    serial.wait("^listening$", 30)
    time.sleep(harness.limit(1))
    view = screen.Screen("127.0.0.1:5911")
    view.viewer.chord([screen.vncshot.KEYS["f2"]])
    # type, code, value of input-event-codes.h: MSC_SCAN 3c, then EV_KEY KEY_F2 pressed.
    serial.wait("^[0-9a-f]{32}040004003c000000$", 30)
    serial.wait("^[0-9a-f]{32}01003c0001000000$", 30)


def password():
    """A second guest: the wrong password is refused, the right one shows its screen and ends its wait."""
    file = folder / "password"
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    guest = Khyve(folder, "closed", settings("127.0.0.1:5912", password_file=file, wait="true"))
    try:
        try:
            screen.Screen("127.0.0.1:5912", "wrong")
            raise harness.Failed("a wrong password is taken")
        except screen.vncshot.Failure as e:
            check_equal(e.status, 3, "what the viewer makes of a wrong password")
        check_equal(guest.control("status")["state"], "waiting", "the state after a wrong password")
        scrambled = pathlib.Path(folder / "scrambled")
        scrambled.write_bytes(screen.vncshot.des_encrypt(FILE_KEY, PASSWORD.encode().ljust(8, b"\0")))
        # The guest has not set a mode yet.
        snapshot(12, screen.Screen("127.0.0.1:5912", PASSWORD).size, "-passwd", str(scrambled))
        harness.wait_until(lambda: guest.control("status")["state"] == "running", 20, "end of the wait")
        guest.control("quit")
        check_equal(guest.end(20), 1, "the exit status")
    finally:
        guest.kill()


def clean_up(failed):
    guest = state.get("guest")
    if guest:
        if failed:
            print(guest.said())
        guest.kill()


harness.main([("boot", boot), ("IPv4 and IPv6", both_families), ("vncsnapshot", vncsnapshot), ("TigerVNC", tigervnc),
              ("keyboard", keys), ("password", password)], clean_up, chained=True)
