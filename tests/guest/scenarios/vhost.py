# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 120
# memory: 1G
"""virtio-net on the device bench with the kernel's vhost-net: the cases that are skipped where there is no /dev/vhost-net."""
import subprocess

import harness
from harness import check_equal
from lan import run

PROGRAM = harness.BUILD / "test_virtio_net_vhost"


def bench():
    run("modprobe", "-a", "tun", "vhost_net")
    done = subprocess.run([str(PROGRAM)], text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=harness.limit(100))
    print(done.stdout, flush=True)
    check_equal(done.returncode, 0, "its status")


harness.main([("bench", bench)])
