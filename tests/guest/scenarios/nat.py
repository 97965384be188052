# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 600
"""NAT switches and forwarded ports on Debian's kernel: some of tests/vm/test_nat.py, which may not be skipped here."""
import subprocess
import sys

import harness
from harness import check_equal

folder = harness.make_folder()
harness.stage(folder)


def case(name):
    def run():
        done = subprocess.run([sys.executable, "-B", str(harness.TOP / "tests/vm/test_nat.py"), name], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=harness.limit(200),
                              env={"VM": str(folder / "vm"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                                   "KHYVE_PATIENCE": str(10 * harness.PATIENCE)})
        check_equal(done.returncode, 0, f"its status (it says {done.stdout!r})")
    return run


harness.main([(name, case(name)) for name in ("docker", "inside_stays_inside", "ports")])
