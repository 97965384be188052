# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""The measurements of bench/run, as root where KVM works: khyve and QEMU, the same guest, in turns."""
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import harness
from machine import OVMF_CODE, OVMF_VARS, Khyve, Serial, processes

MEMORY = 512
VIDEO_KB = 16384
APPEND = "console=ttyS0 quiet mitigations=off khyve.test=report khyve.then=button"
TRACE = pathlib.Path("/sys/kernel/tracing")
DEBUG = pathlib.Path("/sys/kernel/debug/kvm")
QEMU = shutil.which("qemu-system-x86_64")
folder = harness.make_folder()


def mount(kind, path):
    if not any(path.iterdir()):
        subprocess.run(["mount", "-t", kind, kind, str(path)], check=True)


class FirstEntry:
    """Milliseconds from a program's execve to its first KVM_RUN entering the guest."""

    def __init__(self):
        for name in ("sched/sched_process_exec", "kvm/kvm_entry"):
            (TRACE / "events" / name / "enable").write_text("1")
        (TRACE / "trace_clock").write_text("mono")
        (TRACE / "trace").write_text("")
        (TRACE / "tracing_on").write_text("1")

    def stop(self, program):
        """As soon as there is an entry; program is the name of the file executed."""
        harness.wait_until(lambda: "kvm_entry" in (TRACE / "trace").read_text(errors="replace")[:2000000], 60, "entry")
        (TRACE / "tracing_on").write_text("0")
        text = (TRACE / "trace").read_text(errors="replace")
        for name in ("sched/sched_process_exec", "kvm/kvm_entry"):
            (TRACE / "events" / name / "enable").write_text("0")
        exec_at = re.findall(rf" (\d+\.\d+): sched_process_exec: filename=\S*/{program} ", text)
        entry_at = re.search(r" (\d+\.\d+): kvm_entry:", text)
        return 1000 * (float(entry_at.group(1)) - float(exec_at[-1]))


def exits(pid):
    """KVM's own count of exits of a process' only machine."""
    found = list(DEBUG.glob(f"{pid}-*"))
    return int((found[0] / "exits").read_text()), int((found[0] / "io_exits").read_text()), \
        int((found[0] / "mmio_exits").read_text())


def shares(pid):
    """KiB that are the process' own share of each mapping: {name: KiB}. Neither the guest's memory nor its 16 MiB of
    video memory count."""
    found, name, size = {}, "", 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            name = pathlib.Path(line.split(maxsplit=5)[5]).name if len(line.split()) > 5 else "anonymous"
        elif line.startswith("Size:"):
            size = int(line.split()[1])
        elif line.startswith("Pss:") and size < VIDEO_KB:
            found[name] = found.get(name, 0) + int(line.split()[1])
    return found


def pss(pid):
    return sum(shares(pid).values())


def start_khyve(boot):
    settings = {"cpus": 1, "memory.size": f"{MEMORY}M", "pci.0.4.0.device": "nvme", "pci.0.4.0.path": folder / "disk",
                "pci.0.24.0.device": "virtio-rnd", "pci.0.25.0.device": "fbuf", "pci.0.25.0.tcp": "127.0.0.1:5915",
                "pci.0.3.0.device": "ahci", "pci.0.3.0.port.0.type": "cd", "pci.0.3.0.port.0.ro": "true",
                "pci.0.3.0.port.0.path": folder / "button.iso"}
    if boot == "uefi":
        settings |= {"bootrom": folder / "code", "bootvars": folder / "vars", "pci.0.3.0.port.0.bootindex": 1}
    else:
        settings |= {"linux.kernel": folder / "vmlinuz", "linux.initrd": folder / "initrd.gz", "linux.cmdline": APPEND}
    guest = Khyve(folder, "bench", settings)
    return guest.process, guest.serial


def start_qemu(boot):
    socket = folder / "qemu.com1"
    socket.unlink(missing_ok=True)
    args = [QEMU, "-name", "bench", "-no-user-config", "-nodefaults", "-accel", "kvm", "-M", "q35", "-m", str(MEMORY),
            "-cpu", "host,host-phys-bits=off,phys-bits=40", "-display", "none", "-device", "bochs-display",
            "-serial", f"unix:{socket},server=on,wait=off", "-drive", f"if=none,id=d,format=raw,file={folder / 'disk'}",
            "-device", "nvme,drive=d,serial=1", "-device", "virtio-rng-pci",
            "-drive", f"if=none,id=cd,media=cdrom,format=raw,readonly=on,file={folder / 'button.iso'}",
            "-device", "ide-cd,drive=cd,bus=ide.0"]
    if boot == "uefi":
        args += ["-drive", f"if=pflash,format=raw,readonly=on,file={folder / 'code'}",
                 "-drive", f"if=pflash,format=raw,file={folder / 'vars'}"]
    else:
        args += ["-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.gz"), "-append", APPEND]
    log = open(folder / "qemu.log", "wb")  # pylint: disable=consider-using-with
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL,  # pylint: disable=consider-using-with
                               stdout=log, stderr=log)
    return process, Serial(socket)


def measure(vmm, boot):
    """Boots one guest and prints what it took."""
    shutil.copy(OVMF_VARS, folder / "vars")
    first = FirstEntry()
    process, serial = (start_khyve if vmm == "khyve" else start_qemu)(boot)
    try:
        first_ms = first.stop("khyve" if vmm == "khyve" else pathlib.Path(QEMU).name)
        serial.mark("start=report", 300)
        total, io, mmio = exits(process.pid)
        serial.mark("reported", 120)
        result = {"vmm": vmm, "boot": boot, "exits": total, "io_exits": io, "mmio_exits": mmio,
                  "first_entry_ms": round(first_ms, 1), "pss_kb": pss(process.pid),
                  "threads": len(os.listdir(f"/proc/{process.pid}/task")),
                  "largest_kb": dict(sorted(shares(process.pid).items(), key=lambda item: -item[1])[:5]),
                  "viewer_pss_kb": sum(pss(pid) for pid in processes(r"^\S*khyve-vnc "))}
    finally:
        process.kill()
        process.wait()
        serial.close()
    harness.wait_until(lambda: not processes(r"^\S*khyve-vnc "), 20, "end of khyve-vnc")
    print(json.dumps(result), flush=True)
    return result


def stripped_size(path):
    out = folder / "stripped"
    subprocess.run(["strip", "-o", str(out), str(path)], check=True)
    return out.stat().st_size


def print_table(results):
    rows = [("exits to init", "exits"), ("  of them port I/O", "io_exits"),
            ("  of them MMIO", "mmio_exits"), ("execve to first guest entry, ms", "first_entry_ms"),
            ("PSS without guest memory, KiB", "pss_kb"), ("PSS of khyve-vnc, KiB", "viewer_pss_kb"),
            ("threads", "threads")]
    for boot in ("uefi", "direct"):
        print(f"\n{'boot: ' + boot:36}{'khyve':>12}{'QEMU':>12}")
        for title, key in rows:
            values = [statistics.median(r[key] for r in results if (r["vmm"], r["boot"]) == (vmm, boot))
                      for vmm in ("khyve", "qemu")]
            print(f"{title:36}" + "".join(f"{value:>12,.0f}" for value in values))
    sizes = [stripped_size(folder / "khyve"), os.stat(QEMU).st_size]
    print(f"\n{'program, stripped, bytes':36}" + "".join(f"{size:>12,}" for size in sizes))
    print(json.dumps({"khyve_bytes": sizes[0], "qemu_bytes": sizes[1]}))


def main():
    mount("tracefs", TRACE)
    mount("debugfs", DEBUG.parent)
    harness.stage(folder, ["vmlinuz", "initrd.gz", "button.iso"])
    shutil.copy(OVMF_CODE, folder / "code")
    with open(folder / "disk", "wb") as disk:
        disk.truncate(64 << 20)
    results = []
    for _ in range(int(sys.argv[1])):
        for boot in ("uefi", "direct"):
            for vmm in ("khyve", "qemu"):
                results.append(measure(vmm, boot))
    version = subprocess.run([QEMU, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[0]
    print_table(results)
    print(version)


main()
