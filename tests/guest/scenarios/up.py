# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 900
# memory: 6G
# images: debian.img
# by: hand
"""vm up debian, with the image that was built from this machine's mirror: firmware, Debian's own kernel and systemd, its
first start, a command through vm ssh, files through vm cp, limits, hooks, and off by its power button."""
import os
import pathlib
import subprocess

import harness
from harness import check, check_equal
from machine import Store

folder = harness.make_folder()
state = {}


def up():
    harness.stage(folder)
    state["store"] = store = Store(folder, HOME=str(folder))
    subprocess.run(["cp", "--sparse=always", harness.IMAGES / "debian.img", store.dir / ".img/debian-of-this-host.img"],
                   check=True)
    (store.dir / ".templates").mkdir(exist_ok=True)
    text = (folder / "share/templates/default.conf").read_text(encoding="utf-8")
    (store.dir / ".templates/limited.conf").write_text(text + 'limit_pcpu="100"\npoststop="./off"\n', encoding="utf-8")
    out = store.vm("up", "--offline", "-t", "limited", "-s", "3G", "-c", "1", "-m", "768M", "--timeout",
                   int(harness.limit(780)), "debian", "web", seconds=800)
    print(out, flush=True)
    check("ready   vm ssh web   (user debian)" in out, "it does not say that it is ready")
    off = store.path("web", "off")
    off.write_text("#!/bin/sh\necho off > is-off\n", encoding="utf-8")
    off.chmod(0o755)


def ssh(command, status=0):
    return state["store"].vm("ssh", "--timeout", int(harness.limit(100)), "web", command, status=status).strip()


def command():
    """Its name, its user, its disk, and a status that comes back."""
    check_equal(ssh("hostname; whoami; sudo id -u"), "web\ndebian\n0", "what the guest says")
    blocks = int(ssh("df --output=size -k / | tail -n 1"))
    check(blocks > 2_500_000, f"the file system has {blocks} KiB")
    ssh("exit 7", 7)
    state["boot"] = ssh("cat /proc/sys/kernel/random/boot_id")


def copy():
    store, data = state["store"], os.urandom(1 << 20)
    (folder / "data").write_bytes(data)
    store.vm("cp", folder / "data", "web:/tmp/data")
    store.vm("exec", "web", "sh", "-c", "cat /tmp/data /tmp/data > '/tmp/two files'")
    store.vm("cp", "web:/tmp/two files", folder / "back")
    check((folder / "back").read_bytes() == data + data, "what comes back is not what went there")


def limits():
    """Where the host has cgroup v2, as the test host."""
    mounts = [m.split()[4] for m in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
              if " - cgroup2 " in m]
    if not mounts:
        raise harness.Skipped("no cgroup v2 here")
    group = pathlib.Path(mounts[0]) / "khyve/web"
    check_equal((group / "cpu.max").read_text(encoding="utf-8"), "100000 100000\n", "cpu.max")
    inside = (group / "cgroup.procs").read_text(encoding="utf-8").split()
    check(str(state["store"].row("web")["pid"]) in inside, f"who is in the group is {inside}")
    names = {pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() for pid in inside}
    # KVM's own thread for the guest goes where khyve is.
    check_equal({name for name in names if not name.startswith("kvm-")}, {"khyve"}, "the programs in the group")


def again():
    """The same command has nothing to do; after a stop, it starts the same guest."""
    store = state["store"]
    out = store.vm("up", "--offline", "debian", "web")
    check("create  web is there\nstart   web runs" in out and "ready " in out, out)
    check_equal(ssh("cat /proc/sys/kernel/random/boot_id"), state["boot"], "its boot")


def off():
    store = state["store"]
    store.vm("stop", "-t", int(harness.limit(200)), "web", seconds=220)
    check_equal(store.row("web")["state"], "stopped", "its state")
    harness.wait_until(store.path("web", "is-off").exists, 10, "run of poststop")


def clean_up(failed):
    if "store" in state:
        state["store"].end("web", failed)


harness.main([("vm up", up), ("vm ssh", command), ("vm cp and exec", copy), ("limits", limits), ("again", again),
              ("off", off)], clean_up, chained=True)
