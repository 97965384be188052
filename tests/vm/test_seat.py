#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of what vm does in place of a person in front of a guest: screenshot, type, key."""
import os
import stat
import struct
import subprocess
import sys
import zlib

from harness import cases_of, eq, match, run, true

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
SHIFT = "2a"


def guest(s, mode, name="guest"):
    s.ok("init")
    s.guest(name, MINIMAL, mode=mode)
    s.ok("start", name)
    return name


def chunks(data):
    """Names and contents of a PNG's chunks, whose sums have to be right."""
    eq(data[:8], b"\x89PNG\r\n\x1a\n")
    at, found = 8, []
    while at < len(data):
        size, = struct.unpack(">I", data[at:at + 4])
        found.append((data[at + 4:at + 8], data[at + 8:at + 8 + size]))
        eq(struct.unpack(">I", data[at + 8 + size:at + 12 + size])[0], zlib.crc32(data[at + 4:at + 8 + size]))
        at += 12 + size
    return found


def decode(data):
    """Width and height, and lines of RGB."""
    found = chunks(data)
    eq([name for name, _ in found], [b"IHDR", b"IDAT", b"IEND"])
    width, height, *rest = struct.unpack(">IIBBBBB", found[0][1])
    eq((rest, found[2][1]), ([8, 2, 0, 0, 0], b""))
    raw, line, lines = zlib.decompress(found[1][1]), bytes(3 * width), []
    eq(len(raw), height * (1 + 3 * width))
    for y in range(height):
        coded = raw[y * (1 + 3 * width):(y + 1) * (1 + 3 * width)]
        eq(coded[0], 2)
        line = bytes((a + b) & 255 for a, b in zip(line, coded[1:]))
        lines.append(line)
    return width, height, lines


def read(path):
    with open(path, "rb") as f:
        return f.read()


def test_screenshot(s):
    """Every pixel is where it belongs; sizes that are odd, tiny and large."""
    for n, (width, height) in enumerate(((5, 3), (1, 1), (800, 600), (1, 700))):
        guest(s, f"screen={width}x{height}", f"guest{n}")
        out = os.path.join(s.top, f"{n}.png")
        s.write(out, "old")
        eq(s.ok("screenshot", f"guest{n}", out), "")
        eq(decode(read(out)), (width, height, [b"".join(bytes((7, y & 255, x & 255)) for x in range(width))
                                               for y in range(height)]))


def test_screenshot_name(s):
    guest(s, "screen=4x4")
    name = s.ok("screenshot", "guest").strip()
    match(name, r"^guest-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.png$")
    eq(decode(read(os.path.join(s.top, name)))[:2], (4, 4))
    with open(os.path.join(s.top, "piped"), "wb") as f:
        eq(s.popen("screenshot", "guest", "-", stdout=f).wait(), 0)
    eq(read(os.path.join(s.top, "piped")), read(os.path.join(s.top, name)))


def test_screenshot_errors(s):
    """One line, and no file."""
    guest(s, "")
    out = os.path.join(s.top, "no.png")
    match(s.fails("screenshot", "guest", out), "^vm: ERROR: guest: khyve refuses: ENODEV the guest has no screen$")
    s.guest("off", MINIMAL)
    match(s.fails("screenshot", "off", out), "^vm: ERROR: off is not running$")
    match(s.fails("screenshot", "nobody", out), "doesn't appear to be a valid virtual machine")
    true(not os.path.exists(out), "no picture, no file")
    guest(s, "screen=2x2", "seen")
    match(s.fails("screenshot", "seen", os.path.join(s.top, "none", "x.png")), "No such file")
    eq(s.vm("screenshot").exact, 2)


def test_screenshot_places(s):
    """What is not a plain file is written to, and stays what it is."""
    guest(s, "screen=3x2")
    fifo, link, target = (os.path.join(s.top, n) for n in ("fifo", "link", "target"))
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as cat:
        s.ok("screenshot", "guest", fifo)
        eq(decode(cat.communicate(timeout=30)[0])[:2], (3, 2))
    true(stat.S_ISFIFO(os.stat(fifo).st_mode), "still a pipe")
    s.write(target, "x" * 100000)
    os.symlink(target, link)
    s.ok("screenshot", "guest", link)
    true(os.path.islink(link), "still a link")
    eq(decode(read(target))[:2], (3, 2))
    match(s.fails("screenshot", "guest", s.top), "^vm: ERROR: cannot write .*: Is a directory$")


def typed(s, name="guest"):
    path = s.path(name, "fake.keys")
    keys = s.read(path).splitlines() if os.path.exists(path) else []
    if keys:
        os.unlink(path)
    return keys


def test_type(s):
    guest(s, "slow-keys")
    eq(s.ok("type", "guest", "ab C?\n\t"), "")
    eq(typed(s), ["1e", "30", "39", f"{SHIFT} 2e", f"{SHIFT} 35", "1c", "f"])
    s.ok("type", "guest", "-x")
    eq(typed(s), ["c", "2d"])
    # Every character of the keyboard has a key of its own.
    text = "".join(map(chr, range(0x20, 0x7f)))
    s.ok("type", "guest", text)
    keys = typed(s)
    eq((len(keys), len(set(keys))), (95, 95))
    eq([keys[ord(c) - 0x20] for c in "0Az~"], ["b", f"{SHIFT} 1e", "2c", f"{SHIFT} 29"])


def test_type_input(s):
    """The text comes from standard input, as a whole; what cannot be typed is refused before anything is."""
    guest(s, "")
    eq(s.ok("type", "guest", "-", stdin="Pa\n"), "")
    eq(typed(s), [f"{SHIFT} 19", "1e", "1c"])
    s.ok("type", "guest", "-", stdin="-")
    eq(typed(s), ["c"])
    with subprocess.Popen(["sh", "-c", "printf a; sleep 0.3; printf b"], stdout=subprocess.PIPE) as slow:
        eq(s.popen("type", "guest", "-", stdin=slow.stdout).wait(60), 0)
    eq(typed(s), ["1e", "30"])
    match(s.fails("type", "guest", "-"), "there is nothing to type")
    match(s.fails("type", "guest", "-", stdin="ab\0c"), r"no control character 0 \(the 3\. of the text\)")
    match(s.fails("type", "guest", "-", stdin="a" * 65537), "^vm: ERROR: invalid text - it is longer than 65536 characters$")
    match(s.fails("type", "guest", "-", stdin="a\u00e4"), "is not on a US keyboard")
    eq(typed(s), [])


def test_type_caps(s):
    """Caps Lock is on in the guest: letters come out as they are meant, other keys do not care."""
    guest(s, "caps")
    s.ok("type", "guest", "aB1!")
    eq(typed(s), [f"{SHIFT} 1e", "30", "2", f"{SHIFT} 2"])
    s.ok("key", "guest", "ctrl-a")
    eq(typed(s), ["1d 1e"])


def test_type_refuses(s):
    """What cannot be typed is refused before anything is."""
    guest(s, "")
    match(s.fails("type", "guest", "good bad\u00e4"), "^vm: ERROR: invalid text - '\u00e4' is not on a US keyboard$")
    match(s.fails("type", "guest", "x\x1b"), "^vm: ERROR: invalid text - a US keyboard has no control character 27")
    match(s.fails("type", "guest", ""), "there is nothing to type")
    eq(typed(s), [])
    s.guest("off", MINIMAL)
    match(s.fails("type", "off", "x"), "off is not running")
    eq(s.vm("type", "guest").exact, 2)


def test_key(s):
    guest(s, "slow-keys")
    for chord, keys in (("ctrl-alt-del", "1d 38 e053"), ("F2", "3c"), ("f12", "58"), ("Enter", "1c"), ("up", "e048"),
                        ("ctrl-C", "1d 2e"), ("ctrl--", "1d c"), ("-", "c"), ("?", f"{SHIFT} 35"), ("alt-f1", "38 3b"),
                        ("super-l", "e05b 26"), ("shift-tab", f"{SHIFT} f"), ("altgr-e", "e038 12"), ("pause", "e11d")):
        s.ok("key", "guest", chord)
        eq(typed(s), [keys], chord)
    s.ok("key", "guest", "down", "down", "enter")
    eq(typed(s), ["e050", "e050", "1c"])
    for chord in ("", "ctrl-", "ctrl-foo", "f13", "f0", "fx", "ctrl_alt", "\u00e4", "a-b-c-d-e-f-g-h-i"):
        match(s.fails("key", "guest", "up", chord), f"^vm: ERROR: '{chord}' is not a chord such as ctrl-alt-del")
    eq(typed(s), [])


def test_guest_that_does_not_listen(s):
    guest(s, "no-keys")
    r = s.vm("type", "guest", "abc")
    eq((r.exact, r.codes), (7, ["K044"]))
    match(r.err, "^vm: ERROR: guest has not taken the key in time: 1 of 3 are typed$")


if __name__ == "__main__":
    run(cases_of(sys.modules[__name__]))
