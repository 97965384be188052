/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "fw/flash.h"
#include "util/bytes.h"
#include "util/fd.h"
#include "util/log.h"

/* A guest at the variable store, checked against a model of the chip: what it reads, and what is in the file. */

#define VARS_LEN 0x2000u
#define CODE_LEN 0x6000u
#define CODE_BASE (4 * GIB - CODE_LEN)
#define VARS_BASE (CODE_BASE - VARS_LEN)

enum mode { ARRAY, STATUS, PROGRAM, ERASE };

struct world {
	struct tb *tb;
	struct dev *d;
	int vars_fd;
	enum mode mode;
	uint8_t status;
	uint8_t vars[VARS_LEN],
		file[VARS_LEN]; /* as the guest sees them, and as they are on disk */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void model_command(struct world *w, uint8_t cmd)
{
	w->mode = ARRAY;
	if (cmd == 0x10 || cmd == 0x40) {
		w->mode = PROGRAM;
		return;
	}
	if (cmd == 0x20 || cmd == 0x70) {
		w->mode = cmd == 0x20 ? ERASE : STATUS;
		return;
	}
	if (cmd == 0x50)
		w->status = 0;
	else if (cmd != 0xff)
		w->status |= 0xb0;
	memcpy(w->file, w->vars, VARS_LEN); /* back in the array: all is saved */
}

static void model_write(struct world *w, uint32_t offset, uint8_t v)
{
	enum mode mode = w->mode;

	w->mode = ARRAY;
	switch (mode) {
	case PROGRAM:
		w->vars[offset] = v;
		w->status |= 0x80;
		break;
	case ERASE:
		w->status |= v == 0xd0 ? 0x80 : 0xb0;
		if (v == 0xd0)
			memset(w->vars + (offset & ~0xfffu), 0xff, 0x1000);
		break;
	default:
		model_command(w, v);
	}
}

static uint32_t any_offset(struct fz *f)
{
	uint32_t offset = fz_u16(f);

	return offset % 16 ? offset % VARS_LEN : VARS_LEN - 1 - offset / 16 % 64;
}

static void op_command(struct world *w, struct fz *f)
{
	static const uint8_t cmds[] = { 0x10, 0x20, 0x40, 0x50, 0x70, 0xd0, 0xff, 0xff };
	uint8_t v = fz_bool(f) ? cmds[fz_pick(f, ARRAY_LEN(cmds))] : fz_u8(f);
	uint32_t offset = any_offset(f);

	tb_write(w->tb, VARS_BASE + offset, 1, v);
	model_write(w, offset, v);
}

/* A program run as the firmware does it. */
static void op_run(struct world *w, struct fz *f)
{
	uint32_t offset = any_offset(f), n = 1 + fz_u8(f) % 8;

	for (uint32_t i = 0; i < n && offset + i < VARS_LEN; i++) {
		const uint8_t bytes[2] = { 0x10, fz_u8(f) };

		for (unsigned int k = 0; k < 2; k++) {
			tb_write(w->tb, VARS_BASE + offset + i, 1, bytes[k]);
			model_write(w, offset + i, bytes[k]);
		}
	}
}

static void op_erase(struct world *w, struct fz *f)
{
	uint32_t offset = any_offset(f);

	tb_write(w->tb, VARS_BASE + offset, 1, 0x20);
	model_write(w, offset, 0x20);
	tb_write(w->tb, VARS_BASE + offset, 1, 0xd0);
	model_write(w, offset, 0xd0);
}

static void op_wide(struct world *w, struct fz *f)
{
	unsigned int size = 2u << fz_pick(f, 3);
	uint32_t offset = ALIGN_DOWN(any_offset(f), size);
	uint64_t v = fz_u64(f);

	tb_write(w->tb, VARS_BASE + offset, size, v);
	for (unsigned int i = 0; i < size; i++)
		model_write(w, offset + i, (uint8_t)(v >> (8 * i)));
}

static void op_read(struct world *w, struct fz *f)
{
	uint32_t offset = any_offset(f);
	uint8_t got = (uint8_t)tb_read(w->tb, VARS_BASE + offset, 1);

	assert(got == (w->mode == STATUS ? w->status : w->vars[offset]));
	tb_read(w->tb, VARS_BASE + ALIGN_DOWN(offset, 8u), 8);
}

static void op_code(struct world *w, struct fz *f)
{
	uint64_t addr = CODE_BASE + fz_u16(f) % CODE_LEN;

	tb_write(w->tb, addr, 1, fz_u8(f));
	assert(tb_read(w->tb, addr, 1) == 0xc0);
}

static void op_reset(struct world *w, struct fz *f)
{
	(void)f;
	assert(tb_reset(w->tb));
	w->mode = ARRAY;
	w->status = 0;
	memcpy(w->file, w->vars, VARS_LEN);
}

/* What the guest reads at base, where no handler is asked. */
static const void *direct(struct world *w, uint64_t base, uint64_t len)
{
	const struct bus_slot *s;

	for (unsigned int i = 0; (s = tb_slot(w->tb, i)); i++)
		if (s->gpa == base && s->len == len)
			return s->host;
	assert(!"read directly");
	return NULL;
}

/* Everything, byte for byte. */
static void check(struct world *w)
{
	uint8_t file[VARS_LEN];
	const uint8_t *code = direct(w, CODE_BASE, CODE_LEN);

	assert(fd_pread_full(w->vars_fd, file, VARS_LEN, 0) == 0);
	assert(memcmp(file, w->file, VARS_LEN) == 0);
	assert(w->mode == STATUS || memcmp(direct(w, VARS_BASE, VARS_LEN), w->vars, VARS_LEN) == 0);
	assert(code[0] == 0xc0 && memcmp(code, code + 1, CODE_LEN - 1) == 0);
}

static int make_file(char path[64], const void *data, size_t len)
{
	int fd;

	snprintf(path, 64, "/dev/shm/khyve-fuzz-flash-XXXXXX");
	fd = mkstemp(path);
	assert(fd >= 0 && fd_write_full(fd, data, len) == 0);
	return fd;
}

/* One for all inputs: nothing can be written to it. */
static int code_file(void)
{
	static uint8_t code[CODE_LEN];
	static int fd = -1;

	if (fd >= 0)
		return fd;
	memset(code, 0xc0, sizeof(code));
	fd = fd_memfd("code", CODE_LEN);
	assert(fd >= 0 && fd_pwrite_full(fd, code, sizeof(code), 0) == 0);
	return fd;
}

static void make_world(struct world *w)
{
	char vars_path[64], conf[160];

	memset(w, 0, sizeof(*w));
	for (uint32_t i = 0; i < VARS_LEN; i++)
		w->vars[i] = (uint8_t)(i * 31);
	memcpy(w->vars + 40, "_FVH", 4);
	memcpy(w->file, w->vars, VARS_LEN);
	w->vars_fd = make_file(vars_path, w->vars, VARS_LEN);
	snprintf(conf, sizeof(conf), "code=/proc/self/fd/%d\nvars=%s\n", code_file(), vars_path);
	w->tb = tb_new(NULL);
	w->d = tb_add(w->tb, &flash_ops, conf, NULL);
	assert(w->d);
	unlink(vars_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ops[])(struct world *, struct fz *) = {
		op_command, op_command, op_run,	 op_run,   op_erase,
		op_wide,    op_read,	op_code, op_reset,
	};
	static struct world w;
	struct fz f = fz_of(data, size);

	log_set(-1, LOG_LEVEL_ERROR);
	make_world(&w);
	for (unsigned int i = 0; f.left && i < 300; i++)
		ops[fz_pick(&f, ARRAY_LEN(ops))](&w, &f);
	check(&w);
	tb_free(w.tb);
	close(w.vars_fd);
	return 0;
}
