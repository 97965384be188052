# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Looks at a guest's screen through VNC."""
import importlib.machinery
import importlib.util
import pathlib
import socket
import time

VNCSHOT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "vncshot"
# Every so many pixels are looked at, in each direction.
STEP = 8


def load_vncshot():
    loader = importlib.machinery.SourceFileLoader("vncshot", str(VNCSHOT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("vncshot", loader))
    loader.exec_module(module)
    return module


vncshot = load_vncshot()


class Screen:
    """One viewer's view. Raises OSError or vncshot.Failure when the server goes away."""

    def __init__(self, target, password=None, timeout=60):
        self.viewer = vncshot.Viewer(target, timeout, password)
        self.asked = False
        if not self.viewer.update(False, timeout):
            raise vncshot.Failure(1, "the server sends no picture")

    @property
    def size(self):
        return self.viewer.width, self.viewer.height

    def follow(self, seconds):
        """Takes in what changes for that long. True if anything did."""
        before, end = (self.viewer.changes, self.size), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self.asked:
                self.viewer.request(True)
            self.asked = not self.viewer.await_update(min(left, 1))
            # A viewer that asks at once for more would get thirty pictures a second.
            if not self.asked:
                time.sleep(min(0.2, max(left, 0)))
        return (self.viewer.changes, self.size) != before

    def sample(self):
        """(red, green, blue) of pixels all over the screen."""
        width, height = self.size
        pixels = self.viewer.pixels
        for y in range(0, height, STEP):
            row = pixels[y * width * 4:(y + 1) * width * 4]
            yield from zip(row[0::4 * STEP], row[1::4 * STEP], row[2::4 * STEP])

    def shares(self):
        """How much of the screen is not black, and is blue, light grey, red in the console's colours; from 0 to 1."""
        total = lit = blue = grey = red = 0
        for r, g, b in self.sample():
            total += 1
            lit += max(r, g, b) > 40
            blue += r < 60 and g < 60 and b > 100
            grey += min(r, g, b) > 140 and max(r, g, b) < 230 and max(r, g, b) - min(r, g, b) < 12
            red += r > 100 and g < 60 and b < 60
        return lit / total, blue / total, grey / total, red / total

    def is_menu(self):
        """The Debian installer's menu: light grey on blue with a red bar. Neither firmware nor GRUB nor text is."""
        _, blue, grey, red = self.shares()
        return blue > 0.02 and grey > 0.4 and red > 0.002

    def write(self, path):
        pathlib.Path(path).write_bytes(self.viewer.png())


def wait_for_menu(target, seconds, note=lambda text: None):
    """Waits for the installer's menu, complete and still. Returns a Screen, or None with the time over."""
    end = time.monotonic() + seconds
    screen = None
    while time.monotonic() < end:
        try:
            screen = screen or Screen(target)
            changed = screen.follow(4)
            if screen.is_menu() and not changed:
                return screen
            lit = screen.shares()[0]
            note(f"screen {screen.size[0]}x{screen.size[1]}, " +
                 ("black" if lit == 0 else f"{100 * lit:.0f} % lit"))
        except (OSError, vncshot.Failure, socket.timeout) as e:
            note(str(e))
            screen = None
            time.sleep(1)
    return None
