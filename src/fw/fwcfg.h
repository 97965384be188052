/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_FWCFG_H
#define FW_FWCFG_H

#include <stddef.h>
#include <stdint.h>

struct dev;
struct dev_ops;
struct err;

/*
 * QEMU's firmware configuration device, ports 510-51B: numbered items and named files that the guest reads, by port
 * or by DMA. Items are added between dev_new() and dev_start(); their sizes never change afterwards.
 */
extern const struct dev_ops fwcfg_ops;

/* Keys of numbered items (docs/specs/fw_cfg of QEMU). 0x00, 0x01 and 0x19 are the device's own. */
#define FWCFG_NB_CPUS 0x05 /* u16: exactly the vCPUs that run */
#define FWCFG_BOOT_MENU 0x0e /* u16 */

#define FWCFG_NAME_MAX 55
#define FWCFG_FILES_MAX 64

/* Main thread. Data is copied. -EEXIST if the key or name is taken, -ENAMETOOLONG, -ENOSPC, -ENOMEM; err says it. */
int fwcfg_add_item(struct dev *d, uint16_t key, const void *data, size_t len, struct err *err);
int fwcfg_add_file(struct dev *d, const char *name, const void *data, size_t len, struct err *err);
/* A file that the guest may write by DMA. written runs with the lock held after each change. */
int fwcfg_add_writable(struct dev *d, const char *name, size_t len,
		       void (*written)(void *arg, const uint8_t *data), void *arg, struct err *err);

/*
 * Calls fn each time the guest selects the file, before it reads the first byte, so that contents can be made at the
 * last moment with fwcfg_replace_file(). On a vCPU thread, without the lock.
 */
void fwcfg_on_select(struct dev *d, const char *name, void (*fn)(void *arg), void *arg);
/* New contents for a file; the rest of it is zeroed. -EFBIG if longer than the file, -ENOENT. Any thread, no lock held. */
int fwcfg_replace_file(struct dev *d, const char *name, const void *data, size_t len);

#endif
