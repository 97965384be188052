# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 150
# images: vmlinuz
"""What khyve refuses before a guest runs: the message, the exit status, and that nothing is left behind."""
import os
import pathlib
import socket
import subprocess

import harness
import machine
from harness import check, check_equal

folder = harness.make_folder()
KERNEL = {"name": "guest", "linux.kernel": str(folder / "vmlinuz"), "memory.size": "128M"}
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def khyve(settings, prefix=()):
    """Runs khyve with a configuration; what it says on standard error. Any refusal has exit status 4."""
    control = folder / "control"
    (folder / "conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
    try:
        run = subprocess.run([*prefix, str(folder / "khyve"), "-k", str(folder / "conf"), "-o", f"control.path={control}",
                              "guest"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                             timeout=harness.limit(20), cwd=folder)
    except subprocess.TimeoutExpired:
        raise harness.Failed("khyve runs: it did not refuse") from None
    check_equal(run.stdout, "", "standard output")
    check_equal(run.returncode, 4, f"the exit status (it says {run.stderr.strip()!r})")
    check_equal(run.stderr.count("\n"), 1, f"the number of lines of {run.stderr!r}")
    check(not control.exists(), "the control socket is still there")
    check_equal(machine.processes(r"^\S*khyve(-vnc)? "), [], "processes left")
    return run.stderr.rstrip("\n")


def refuses(settings, message, prefix=()):
    check_equal(khyve(settings, prefix), f"khyve: {message}", "the message")


def in_namespace(script):
    """A command line that runs the rest after some changes to a private mount namespace."""
    return ["unshare", "-m", "sh", "-ec", f'{script}; exec "$@"', "sh"]


def with_own_dev(script):
    """The same with a /dev in which there is null, and what the script makes in its folder $d."""
    return in_namespace("d=$(mktemp -d); mount -t tmpfs none $d; mknod -m 666 $d/null c 1 3; mkdir $d/shm; "
                        f"mount --bind /dev/shm $d/shm; {script}; mount --rbind $d /dev")


def no_device():
    refuses(KERNEL, "/dev/kvm does not exist: load the module kvm_intel or kvm_amd, and switch virtualization (VT-x, "
            "AMD-V) on in the firmware setup of this machine", with_own_dev("true"))


def no_permission():
    refuses(KERNEL, "no permission for /dev/kvm: add yourself to its group (usermod -aG kvm USER, then log in again) "
            "or run as root",
            with_own_dev("mknod -m 600 $d/kvm c 10 232") +
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])


def not_kvm():
    """Something else under that name."""
    text = khyve(KERNEL, in_namespace("mount --bind /dev/null /dev/kvm"))
    check(text.startswith("khyve: /dev/kvm does not speak KVM API version 12"), f"it says {text!r}")


def no_image():
    missing = folder / "missing.img"
    for model, node in (("nvme", "pci.0.4.0.path"), ("virtio-blk", "pci.0.4.0.path"),
                        ("ahci", "pci.0.4.0.port.0.path")):
        settings = dict(KERNEL, **{"pci.0.4.0.device": model, node: missing})
        if model == "ahci":
            settings["pci.0.4.0.port.0.type"] = "hd"
        text = khyve(settings)
        check(str(missing) in text and "No such file or directory" in text, f"{model}: it says {text!r}")
    text = khyve({"name": "guest", "linux.kernel": str(missing)})
    check(str(missing) in text and "No such file or directory" in text, f"it says {text!r}")
    text = khyve({"name": "guest", "bootrom": str(missing)})
    check(str(missing) in text and "No such file or directory" in text, f"it says {text!r}")


def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refuses(dict(KERNEL, **{"pci.0.25.0.device": "fbuf", "pci.0.25.0.tcp": f"127.0.0.1:{port}"}),
                f"VNC: 127.0.0.1:{port}: the port is taken by another program: choose another one")


def unknown_key():
    at = f"{folder}/conf:4:1: "
    refuses(dict(KERNEL, **{"memory.siez": "1G"}), at + "unknown key memory.siez: did you mean memory.size?")
    refuses(dict(KERNEL, **{"pci.0.4.0.pth": "x", "pci.0.4.0.device": "nvme"}),
            at + "unknown key pci.0.4.0.pth: did you mean pci.0.4.0.path?")
    refuses(dict(KERNEL, **{"pci.0.4.0.device": "nvmee"}),
            at + 'unknown device "nvmee", nearest is "nvme"; khyve -s help lists all')


def processors():
    at = f"{folder}/conf:4:1: "
    refuses(dict(KERNEL, cpus="0"), at + "a guest needs at least 1 vCPU")
    refuses(dict(KERNEL, cpus="1000"), at + "1000 vCPUs: at most 64 are possible")
    refuses(dict(KERNEL, cpus="4", sockets="3"),
            at + "cpus=4, but sockets x cores x threads is 3: make them equal or leave cpus out")


def memory():
    text = khyve(dict(KERNEL, **{"memory.size": "2048G"}))
    start = f"khyve: {folder}/conf:3:1: guest memory of 2097152M is larger than this host's "
    check(text.startswith(start) and text.endswith("M: choose less"), f"it says {text!r}")
    host = int(text[len(start):].split("M")[0])
    check(abs(host - MEMORY) < 64, f"this host has {MEMORY} MiB, it says {host}")
    refuses(dict(KERNEL, **{"memory.size": "1M"}),
            f'{folder}/conf:3:13: memory.size: "1M" is not a size from 33554432 to 4398046511104 bytes (K, M, G and T '
            "may follow the number)")


def main():
    harness.stage(folder, ["vmlinuz"])
    pathlib.Path(folder / "khyve").chmod(0o755)
    harness.main([("no /dev/kvm", no_device), ("no permission", no_permission), ("/dev/kvm is something else", not_kvm),
                  ("image missing", no_image), ("port taken", taken_port), ("unknown key", unknown_key),
                  ("processors", processors), ("memory", memory)])


main()
