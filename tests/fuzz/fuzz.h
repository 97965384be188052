/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/tb.h"

/*
 * What the device fuzz targets share: a reader that turns bytes into numbers, and a script of what a guest, the host
 * and the person may do to a device, in any order. Bytes become mostly valid operations: that is how a fuzzer gets
 * past the first check.
 *
 *	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
 *	{
 *		struct fz f = fz_of(data, size);
 *		struct fz_script s;
 *
 *		fz_start(&s, &model_ops, "key=value", one_request);
 *		fz_run(&s, &f);
 *		fz_end(&s);
 *		return 0;
 *	}
 */
struct fz {
	const uint8_t *p;
	size_t left;
};

static inline struct fz fz_of(const uint8_t *data, size_t size)
{
	return (struct fz){ data, size };
}

/* Little-endian numbers; zeroes once the bytes are used up. */
static inline uint8_t fz_u8(struct fz *f)
{
	if (!f->left)
		return 0;
	f->left--;
	return *f->p++;
}

static inline uint16_t fz_u16(struct fz *f)
{
	uint16_t low = fz_u8(f);

	return (uint16_t)(low | fz_u8(f) << 8);
}

static inline uint32_t fz_u32(struct fz *f)
{
	uint32_t low = fz_u16(f);

	return low | (uint32_t)fz_u16(f) << 16;
}

static inline uint64_t fz_u64(struct fz *f)
{
	uint64_t low = fz_u32(f);

	return low | (uint64_t)fz_u32(f) << 32;
}

/* 0 .. n-1; n up to 65536, and not 0. */
static inline uint32_t fz_pick(struct fz *f, uint32_t n)
{
	return (n > 256 ? fz_u16(f) : fz_u8(f)) % n;
}

static inline bool fz_bool(struct fz *f)
{
	return fz_u8(f) & 1;
}

/* A number of up to 64 bits that takes few bytes: small, a single bit, near the top, an address in RAM, or any. */
uint64_t fz_value(struct fz *f);

/* A bench without devices for targets that make their own, one for all inputs, cleared. */
struct tb *fz_bench(void);

#define FZ_MAX_PORTS 4
#define FZ_ARENA (64 * KIB)

struct fz_script {
	struct tb *tb;
	struct dev *d;
	gpa_t arena; /* RAM that the script writes to, FZ_ARENA bytes */
	/* Fixed ports of the device, for those that are not on PCI. Set between fz_start and fz_run. */
	struct {
		uint16_t base, len;
	} ports[FZ_MAX_PORTS];
	/* Fixed memory of the device (base 0: none). */
	uint64_t mmio, mmio_len;
	/* One operation of the model's own, mostly well formed. May be NULL. */
	void (*op)(struct fz_script *s, struct fz *f);
	void *arg; /* for op */
	unsigned int nbars, bars[PCI_BARS]; /* those that exist */
	bool pci, paused;
};

/*
 * A bench with fault disks and one device, enumerated, with bus master and MSI-X on. Log lines go nowhere. Some inputs
 * in a row share a bench, which is reset and cleared between them: a fault that an input alone does not bring back has
 * come through a reset. ops and conf are the same every time.
 */
void fz_start(struct fz_script *s, const struct dev_ops *ops, const char *conf,
	      void (*op)(struct fz_script *s, struct fz *f));
/* Until the bytes are used up. */
void fz_run(struct fz_script *s, struct fz *f);
/* Lets everything finish, checks what must hold for every device, and gives the bench back. */
void fz_end(struct fz_script *s);

#endif
