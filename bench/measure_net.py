# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""The measurements of bench/net, as root where KVM works: khyve and QEMU, the same guest and card, in turns.

Each load runs twice: once for the rates and the processor time, once with the kernel counting system calls, which
costs time itself."""
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import harness
from machine import Khyve, Serial

APPEND = "console=ttyS0 quiet mitigations=off khyve.test=shell"
TRACE = pathlib.Path("/sys/kernel/tracing")
DEBUG = pathlib.Path("/sys/kernel/debug/kvm")
SYSCALLS = TRACE / "events/raw_syscalls/sys_enter"
QEMU = shutil.which("qemu-system-x86_64")
TAP, HOST, GUEST = "khyve0", "10.9.0.1", "10.9.0.2"
SMALL = 64
CARDS = sys.argv[3:] or ("virtio-net", "virtio-net vhost", "e1000")
LOADS = {"TCP from the guest": [], "TCP to the guest": ["-R"],
         "UDP 64 B from the guest": ["-u", "-b", "0", "-l", str(SMALL)],
         "UDP 64 B to the guest": ["-u", "-b", "0", "-l", str(SMALL), "-R"]}
folder = harness.make_folder()


def mount(kind, path):
    if not any(path.iterdir()):
        subprocess.run(["mount", "-t", kind, kind, str(path)], check=True)


def set_up_tap():
    for line in (f"tuntap add {TAP} mode tap vnet_hdr", f"address add {HOST}/24 dev {TAP}", f"link set {TAP} up"):
        subprocess.run(["ip", *line.split()], check=True)


def start_khyve(card):
    settings = {"cpus": 1, "memory.size": "512M", "pci.0.12.0.device": card.split()[0],
                "pci.0.12.0.backend": f"tap:{TAP}", "linux.kernel": folder / "vmlinuz",
                "linux.initrd": folder / "iperf.gz", "linux.cmdline": APPEND}
    if card != "e1000":
        settings["pci.0.12.0.vhost"] = "on" if "vhost" in card else "off"
    guest = Khyve(folder, "bench", settings)
    return guest.process, guest.serial


def start_qemu(card):
    socket = folder / "qemu.com1"
    socket.unlink(missing_ok=True)
    device = "e1000" if card == "e1000" else "virtio-net-pci"
    args = [QEMU, "-name", "bench", "-no-user-config", "-nodefaults", "-accel", "kvm", "-M", "q35", "-m", "512",
            "-cpu", "host,host-phys-bits=off,phys-bits=40", "-display", "none",
            "-serial", f"unix:{socket},server=on,wait=off",
            "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost={'on' if 'vhost' in card else 'off'}",
            "-device", f"{device},netdev=n", "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "iperf.gz"),
            "-append", APPEND]
    log = open(folder / "qemu.log", "wb")  # pylint: disable=consider-using-with
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL,  # pylint: disable=consider-using-with
                               stdout=log, stderr=log)
    return process, Serial(socket)


class Guest:
    def __init__(self, serial):
        self.serial, self.commands = serial, 0
        serial.mark("shell", 120)
        self.run(f"ip link set lo up; ip address add {GUEST}/24 dev eth0; ip link set eth0 up", 30)
        self.run(f"for i in $(seq 30); do ping -c 1 -W 1 {HOST} >/dev/null && break; done; ping -c 1 -W 2 {HOST}", 60)

    def run(self, command, seconds):
        """Runs a line in the guest's shell; Failed if its status is not 0."""
        self.commands += 1
        # The shell echoes what it reads: the mark is put together where the echo does not match.
        self.serial.send(f"{command}; echo KHYVE-'TEST:' done{self.commands}=$?\n")
        status = self.serial.mark(rf"done{self.commands}=(\d+)", seconds).group(1)
        harness.check(status == "0", f"in the guest: {command}: status {status}\n{self.serial.tail()}")


def vhost_threads(pid):
    """The kernel's own threads for a process' vhost devices."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "comm").exists():
            if (entry / "comm").read_text().strip() == f"vhost-{pid}":
                found.append(entry)
    return found


def processor_ns(pid):
    """Time on a processor for emulation: all of the threads that are no vCPU, vhost's included, and what vCPU threads
    spend in user space outside of the guest. What KVM itself takes in the kernel is not the program's."""
    total, tick = 0, 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for task in [*pathlib.Path(f"/proc/{pid}/task").iterdir(), *vhost_threads(pid)]:
        if re.match("CPU |vcpu", (task / "comm").read_text()):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) - int(fields[40])) * tick
        else:
            total += int((task / "schedstat").read_text().split()[0])
    return total


def kvm_exits(pid):
    found = list(DEBUG.glob(f"{pid}-*"))
    return sum(int((f / "exits").read_text()) for f in found), \
        sum(int((f / name).read_text()) for f in found for name in ("io_exits", "mmio_exits"))


def frames():
    """Frames that crossed the tap; a large TCP frame counts as one, whatever it is cut into later."""
    stats = pathlib.Path(f"/sys/class/net/{TAP}/statistics")
    return sum(int((stats / name).read_text()) for name in ("rx_packets", "tx_packets"))


def counters(pid):
    exits, user_exits = kvm_exits(pid)
    return {"cpu_ns": processor_ns(pid), "exits": exits, "user_exits": user_exits, "frames": frames()}


def transfer(guest, options, seconds):
    """One iperf3 run; what the receiving side got: (bits per second, bytes, packets)."""
    with subprocess.Popen(["iperf3", "-s", "-1", "-J"], stdout=subprocess.PIPE, text=True) as server:
        time.sleep(1)
        guest.run(f"iperf3 -c {HOST} -t {seconds} {' '.join(options)} >/tmp/log 2>&1", 60 + 6 * seconds)
        report = json.loads(server.communicate(timeout=60)[0])
    end = report["end"]
    if "-u" in options:
        total = end["sum"]
        # What the server sent, or what arrived of what the guest sent.
        packets = total["packets"] - total.get("lost_packets", 0)
        return packets * SMALL * 8 / total["seconds"], packets * SMALL, packets
    total = end["sum_sent" if "-R" in options else "sum_received"]
    return total["bits_per_second"], total["bytes"], 0


def count_syscalls(pid, run):
    (SYSCALLS / "trigger").write_text("hist:keys=common_pid:size=4096")
    try:
        run()
        text = (SYSCALLS / "hist").read_text()
    finally:
        (SYSCALLS / "trigger").write_text("!hist:keys=common_pid:size=4096")
    tasks = set(os.listdir(f"/proc/{pid}/task"))
    return sum(int(hits) for task, hits in re.findall(r"common_pid:\s*(\d+) *} hitcount: +(\d+)", text) if task in tasks)


def measure_load(vmm, card, pid, guest, load, seconds):
    before = counters(pid)
    rate, size, packets = transfer(guest, LOADS[load], seconds)
    used = {key: value - before[key] for key, value in counters(pid).items()}
    crossed = frames()
    syscalls = count_syscalls(pid, lambda: transfer(guest, LOADS[load], max(2, seconds // 2)))
    crossed = frames() - crossed
    each = max(1, used["frames"])
    result = {"vmm": vmm, "card": card, "load": load, "gbit": rate / 1e9, "packets_s": packets / seconds,
              "cpu_ns_byte": used["cpu_ns"] / max(1, size), "cpu_ns_frame": used["cpu_ns"] / each,
              "exits_frame": used["exits"] / each, "user_exits_frame": used["user_exits"] / each,
              "syscalls_frame": syscalls / max(1, crossed), "frames": used["frames"]}
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}),
          flush=True)
    return result


def measure(vmm, card, seconds):
    process, serial = (start_khyve if vmm == "khyve" else start_qemu)(card)
    try:
        guest = Guest(serial)
        return [measure_load(vmm, card, process.pid, guest, load, seconds) for load in LOADS]
    finally:
        process.kill()
        process.wait()
        serial.close()


def print_table(results):
    rows = [("Gbit/s", "gbit", 3), ("packets/s", "packets_s", 0), ("CPU ns per byte, VMM", "cpu_ns_byte", 2),
            ("CPU ns per frame, VMM", "cpu_ns_frame", 0), ("exits per frame", "exits_frame", 3),
            ("  to user space", "user_exits_frame", 3), ("system calls per frame", "syscalls_frame", 3)]
    for card in CARDS:
        for load in LOADS:
            print(f"\n{card + ', ' + load:44}{'khyve':>12}{'QEMU':>12}{'QEMU/khyve':>12}")
            for title, key, digits in rows:
                ours, theirs = (statistics.median(r[key] for r in results if (r["vmm"], r["card"], r["load"]) ==
                                                  (vmm, card, load)) for vmm in ("khyve", "qemu"))
                if ours or theirs:
                    ratio = f"{theirs / ours:>12.2f}" if ours else f"{'-':>12}"
                    print(f"{title:44}{ours:>12,.{digits}f}{theirs:>12,.{digits}f}{ratio}")


def main():
    runs, seconds = int(sys.argv[1]), int(sys.argv[2])
    mount("tracefs", TRACE)
    mount("debugfs", DEBUG.parent)
    subprocess.run(["modprobe", "-a", "tun", "vhost_net"], check=False)
    set_up_tap()
    harness.stage(folder, ["vmlinuz", "iperf.gz"])
    results = []
    for _ in range(runs):
        for card in CARDS:
            for vmm in ("khyve", "qemu"):
                results += measure(vmm, card, seconds)
    print_table(results)
    print(subprocess.run([QEMU, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[0])


main()
