# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 600
# images: installer.iso
# by: hand
"""The guest of make demo, taken as far as its network: Debian's installer asks for language, country and keyboard, is
answered by VNC, and gets an address by DHCP, one by router advertisement, and a name server."""
import re

import harness
import screen
from harness import check, check_equal
from machine import Store

KEYS = screen.vncshot.KEYS
folder = harness.make_folder()
state = {}


def menu():
    """As tools/demo.sh does it."""
    harness.stage(folder, ["installer.iso"])
    state["store"] = store = Store(folder)
    store.vm("iso", folder / "installer.iso")
    store.vm("create", "-t", "linux-uefi", "-s", "10G", "debian")
    store.vm("install", "debian", "installer.iso")
    state["serial"] = store.serial("debian")
    target = store.row("debian")["vnc"]
    state["screen"] = harness.wait_until(lambda: screen.wait_for_menu(target, harness.limit(300)), 300, "installer's menu")
    keep("language")


def keep(name):
    state["screen"].write(harness.KEEP / f"{name}.png")


def console(number):
    state["screen"].viewer.chord([KEYS["alt"], KEYS[f"f{number}"]])
    state["screen"].follow(2)


def wait_still():
    """Until nothing has changed on the screen for a while."""
    harness.wait_until(lambda: not state["screen"].follow(3), 120, "end of changes on the screen")


def write(text):
    """Types a line for a shell."""
    text = re.sub("[>&]", lambda m: "{shift-%s}" % m[0], text)
    state["screen"].viewer.type(text + "\n", 0.05)


def log():
    """The installer's log goes to the serial port from now on, by the shell on its second console."""
    console(2)
    write("")
    state["screen"].follow(2)
    write("tail -n 999 -f /var/log/syslog > /dev/ttyS0 &")
    state["serial"].wait(r"main-menu.* INFO: Menu item 'localechooser' selected", 60)
    console(1)


def asks():
    """Whether a question is on the screen that was not there before, complete and still: grey on blue."""
    view = state["screen"]
    if view.follow(3) or bytes(view.viewer.pixels) == state.get("asked"):
        return False
    _, blue, grey, _ = view.shares()
    return blue > 0.02 and grey > 0.05


def answer(name, done=None):
    """Return, for what is proposed; then the log has to say so."""
    harness.wait_until(asks, 120, f"question for the {name}")
    keep(name)
    state["asked"] = bytes(state["screen"].viewer.pixels)
    state["screen"].viewer.chord([KEYS["ret"]])
    if done:
        state["serial"].wait(done, 180)


def questions():
    answer("language")
    answer("country", r"main-menu.* INFO: Menu item '(keyboard|console)-\S*' selected")
    answer("keyboard", r"main-menu.* INFO: Menu item 'netcfg' selected")


def network():
    state["serial"].wait(r"udhcpc: Got IP 10\.0\.2\.15 .* routing through 10\.0\.2\.2$", 180)
    state["serial"].wait(r"netcfg.*: Read nameserver 10\.0\.2\.3$", 60)
    state["serial"].wait(r'netcfg.*: INFO: DHCP hostname: "debian"$', 60)
    wait_still()
    keep("hostname")
    console(2)
    for command in "ip addr", "ip route", "cat /etc/resolv.conf":
        write(command + " > /dev/ttyS0")
    state["serial"].wait(r"inet 10\.0\.2\.15/24 ", 60)
    state["serial"].wait(r"inet6 fd00:[0-9a-f:]+/64 ", 10)
    state["serial"].wait(r"^default via 10\.0\.2\.2 ", 10)
    state["serial"].wait(r"^nameserver 10\.0\.2\.3$", 10)
    console(1)
    wait_still()
    check(state["screen"].shares()[1] > 0.02, "the installer is not on the screen any more")


def end():
    state["store"].vm("poweroff", "-f", "debian")
    check_equal(state["store"].row("debian")["state"], "stopped", "the state at the end")


def clean_up(failed):
    if failed and "screen" in state:
        keep("failed")
    if "store" in state:
        state["store"].end("debian", failed)


harness.main([("the installer's menu", menu), ("its log", log), ("language, country, keyboard", questions),
              ("the network step", network), ("power off", end)], clean_up, chained=True)
