/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_MODELS_H
#define HW_MODELS_H

#include "dev/dev.h"

/* The models, one line each. Those in hw_table sit in PCI slots; the others have fixed ports. */
extern const struct dev_ops ahci_ops;
extern const struct dev_ops e1000_ops;
extern const struct dev_ops fbuf_ops;
extern const struct dev_ops hostbridge_ops;
extern const struct dev_ops i8042_ops;
extern const struct dev_ops lpc_ops;
extern const struct dev_ops nvme_ops;
extern const struct dev_ops rtc_ops;
extern const struct dev_ops uart_ops;
extern const struct dev_ops virtio_blk_ops;
extern const struct dev_ops virtio_net_ops;
extern const struct dev_ops virtio_rnd_ops;
extern const struct dev_ops xhci_ops;

#endif
