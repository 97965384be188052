# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 400
# memory: 3G
# images: lan.gz vmlinuz
# variants: user vhost
"""virtio-net with Debian's driver on a LAN, served by khyve or by the kernel (vhost): see lib/card.py."""
import glob
import pathlib
import sys

from card import Card
from harness import check, check_equal

VHOST = sys.argv[1] == "vhost"


def driver():
    sh = card.sh
    check_equal(sh("ls -d /sys/class/net/eth0/queues/rx-* | wc -l"), "2", "queue pairs")
    features = sh("cat /sys/class/net/eth0/device/features")
    for bit in (0, 1, 3, 5, 7, 8, 11, 12, 15, 16, 17, 18, 21, 22, 23, 28, 29, 32):
        check(features[bit] == "1", f"feature {bit} is not used: {features}")
    check_equal(features[19], "0" if VHOST else "1", "the VLAN filter")


def worker():
    """What the kernel's workers for this guest have used of the processor."""
    ticks = 0
    for path in glob.glob("/proc/[0-9]*/task/[0-9]*/stat"):
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8")
        except OSError:
            continue
        if f"(vhost-{card.guest.process.pid})" in text:
            ticks += int(text.rpartition(")")[2].split()[12])
    check_equal(ticks > 0, VHOST, "the kernel moved the data")


card = Card("virtio-net", "virtio/drivers/virtio_net", vlan_filter=not VHOST, queues=2, vhost="on" if VHOST else "off")
card.main(early=[("features", driver)], late=[("who served", worker)])
