# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# host: machine
# seconds: 20
"""A machine with /dev/kvm but without VT-x and AMD-V cannot run firmware, and khyve says so before a guest runs."""
import os
import pathlib
import re
import subprocess

import harness
from harness import check, check_equal
from machine import OVMF_CODE

folder = harness.make_folder()


def refusal():
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if re.search(r"\b(vmx|svm)\b", flags):
        raise harness.Skipped("this processor has VT-x or AMD-V")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise harness.Skipped("no access to /dev/kvm")
    harness.stage(folder)
    run = subprocess.run([folder / "khyve", "-l", f"bootrom,{OVMF_CODE}", "-o", f"control.path={folder}/control", "guest"],
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=15)
    check_equal(run.returncode, 4, "the exit status")
    check_equal(run.stderr, "khyve: this machine has no hardware virtualization that can run firmware: /dev/kvm exists, "
                "but the processor offers neither VT-x nor AMD-V. Switch it on in the firmware setup; on a virtual "
                "machine, ask its host for nested virtualization\n", "the message")
    check(not (folder / "control").exists(), "the control socket is still there")


harness.main([("no hardware virtualization", refusal)])
