# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 360
# images: initrd.gz vmlinuz
"""kill -9 of khyve-vnc, of vm _run and of khyve while the guest writes: the truth at once, and nothing is left."""
import time

import harness
import machine
import screen
from harness import check, check_equal
from machine import Store

folder = harness.make_folder()
state = {"synced": 0}
STOPPED = {"disk0.img", "guest.conf", "khyve.log", "vm-bhyve.log"}
# Counts in a file that is replaced and synced, and says so.
WRITER = ("i=$(cat /mnt/count 2>/dev/null || echo 0); while :; do i=$((i + 1)); echo $i > /mnt/new; sync; "
          "mv /mnt/new /mnt/count; sync; echo synced=$i; done\n")


def create():
    harness.stage(folder, ["initrd.gz", "vmlinuz"])
    state["store"] = store = Store(folder)
    store.vm("create", "-t", "linux-uefi", "-s", "64M", "-m", "256M", "-c", "1", "guest")
    store.edit("guest", loader="linux", kernel=str(folder / "vmlinuz"), initrd=str(folder / "initrd.gz"),
               cmdline="console=ttyS0 quiet mitigations=off khyve.test=shell")


def start(prepare):
    """Starts the guest and its writing."""
    store = state["store"]
    store.vm("start", "guest")
    state["pid"] = store.row("guest")["pid"]
    state["serial"] = serial = store.serial("guest")
    serial.mark("shell", 120)
    serial.wait("# $", 30)
    serial.send(f"{prepare}; echo prepared=$?\n")
    check_equal(serial.wait(r"^prepared=(\d+)$", 60).group(1), "0", "the status of preparing the disk")


def write():
    serial = state["serial"]
    serial.send(WRITER)
    for _ in range(3):
        serial.wait(r"^synced=\d+$", 60)


def first_start():
    start("mkfs.ext4 -q -F /dev/vda && mount -t ext4 /dev/vda /mnt")
    write()


def last_synced():
    numbers = [int(line[7:]) for line in state["serial"].text.splitlines() if line.startswith("synced=") and line[7:]]
    return max(numbers, default=0)


def still_writes():
    state["serial"].position = len(state["serial"].text)
    state["serial"].wait(r"^synced=\d+$", 30)


def kill_viewer():
    """The guest does not notice; the next viewer is served by a new khyve-vnc."""
    store = state["store"]
    pids = machine.processes(r"^\S*khyve-vnc\b")
    check_equal(len(pids), 1, "the number of khyve-vnc")
    viewer = screen.Screen(store.row("guest")["vnc"])
    machine.kill(pids[0])
    check_equal(store.row("guest")["state"], "running", "the state after the kill")
    harness.wait_until(lambda: machine.processes(r"^\S*khyve-vnc\b") not in ([], pids), 20, "new khyve-vnc")
    del viewer
    size = harness.wait_until(lambda: try_screen(store.row("guest")["vnc"]), 20, "picture")
    check_equal(size, (1024, 768), "the screen's size")
    still_writes()


def try_screen(address):
    try:
        return screen.Screen(address).size
    except (OSError, screen.vncshot.Failure):
        return None


def kill_supervisor():
    """The guest goes on, vm knows it, and does not start a second one."""
    store = state["store"]
    pids = machine.processes(r"^vm _run ")
    check_equal(len(pids), 1, "the number of supervisors")
    machine.kill(pids[0])
    row = store.row("guest")
    check_equal((row["state"], row["pid"]), ("running", state["pid"]), "the state after the kill")
    check("running already" in store.vm("start", "guest", status=4), "vm start starts a second one")
    still_writes()


def kill_orphan():
    """Nobody is there to clean up after khyve now."""
    machine.kill(state["pid"])
    check_stopped(files=False)
    state["synced"] = last_synced()


def check_stopped(files):
    """At once stopped for vm list; soon nothing is left."""
    store = state["store"]
    row = store.row("guest")
    check_equal((row["state"], row["pid"], row["vnc"]), ("stopped", None, None), "what vm list says after the kill")
    harness.wait_until(lambda: not machine.processes(r"^(\S*khyve(-vnc)?|vm _run) "), 20, "end of all processes")
    if files:
        harness.wait_until(lambda: {p.name for p in (store.dir / "guest").iterdir()} <= STOPPED, 20,
                           "removal of sockets and locks")


def second_start():
    """vm start works after that, and what was synced is there."""
    start("mount -t ext4 /dev/vda /mnt && echo count=$(cat /mnt/count)")
    count = read_count()
    check(count >= state["synced"] > 0, f"{state['synced']} was synced, {count} is there")
    write()


def read_count():
    serial = state["serial"]
    serial.position = 0
    return int(serial.wait(r"^count=(\d+)$", 5).group(1))


def kill_khyve():
    """Under a supervisor, which cleans up."""
    machine.kill(state["pid"])
    check_stopped(files=True)
    state["synced"] = last_synced()
    check("khyve exited with status 137" in state["store"].log("guest"), "the log does not tell how it ended")


def third_start():
    start("mount -t ext4 /dev/vda /mnt && echo count=$(cat /mnt/count)")
    count = read_count()
    check(count >= state["synced"] > 0, f"{state['synced']} was synced, {count} is there")


def power_off():
    store = state["store"]
    begin = time.monotonic()
    check_equal(store.vm("poweroff", "-f", "guest"), "", "the output of vm poweroff -f")
    check(time.monotonic() - begin < harness.limit(15), "vm poweroff takes long")
    check_stopped(files=True)


def clean_up(failed):
    if "store" in state:
        state["store"].end("guest", failed)


harness.main([("create", create), ("start", first_start), ("kill -9 khyve-vnc", kill_viewer),
              ("kill -9 vm _run", kill_supervisor), ("kill -9 khyve without a supervisor", kill_orphan),
              ("start again, synced data", second_start), ("kill -9 khyve", kill_khyve),
              ("start once more, synced data", third_start), ("poweroff", power_off)], clean_up, chained=True)
