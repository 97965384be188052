# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# seconds: 400
# memory: 3G
# images: lan.gz vmlinuz
"""e1000 with Debian's driver on a LAN: see lib/card.py."""
from card import Card

Card("e1000", "pci/drivers/e1000").main()
