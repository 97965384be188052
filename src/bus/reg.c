/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bus/reg.h"

/* The register that holds one byte of the table's range. */
struct reg_hit {
	const struct reg *reg;
	unsigned int index;
	uint64_t start; /* offset of the register's first byte */
};

static bool find_reg(const struct reg_table *t, uint64_t offset, struct reg_hit *out)
{
	for (size_t i = 0; i < t->n && t->regs[i].offset <= offset; i++) {
		const struct reg *r = &t->regs[i];
		uint64_t stride = r->stride ? r->stride : r->width;
		uint64_t index = (offset - r->offset) / stride;

		if (index >= (r->count ? r->count : 1) || (offset - r->offset) % stride >= r->width)
			continue;
		out->reg = r;
		out->index = (unsigned int)index;
		out->start = r->offset + index * stride;
		return true;
	}
	return false;
}

static uint64_t bytes_mask(unsigned int n)
{
	return n >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * n)) - 1;
}

static uint64_t read_hit(const struct reg_table *t, void *model, const struct reg_hit *hit)
{
	if (!hit->reg->read)
		return t->fill * UINT64_C(0x0101010101010101);
	return hit->reg->read(model, hit->index);
}

static void write_hit(void *model, const struct reg_hit *hit, uint64_t value)
{
	uint64_t mask = hit->reg->wmask ? hit->reg->wmask : bytes_mask(hit->reg->width);

	hit->reg->write(model, hit->index, value & mask);
}

uint64_t reg_read(const struct reg_table *t, void *model, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int done = 0, n; done < size; done += n) {
		struct reg_hit hit;
		uint64_t v = t->fill;

		n = 1;
		if (find_reg(t, offset + done, &hit)) {
			unsigned int skip = (unsigned int)(offset + done - hit.start);
			unsigned int left = hit.reg->width - skip;

			n = left < size - done ? left : size - done;
			v = read_hit(t, model, &hit) >> (8 * skip);
		}
		value |= (v & bytes_mask(n)) << (8 * done);
	}
	return value;
}

void reg_write(const struct reg_table *t, void *model, uint64_t offset, unsigned int size,
	       uint64_t value)
{
	for (unsigned int done = 0, n; done < size; done += n) {
		struct reg_hit hit;
		unsigned int skip, left;
		uint64_t v, mask;

		n = 1;
		if (!find_reg(t, offset + done, &hit))
			continue;
		skip = (unsigned int)(offset + done - hit.start);
		left = hit.reg->width - skip;
		n = left < size - done ? left : size - done;
		v = value >> (8 * done) & bytes_mask(n);
		if (!hit.reg->write)
			continue;
		if (n < hit.reg->width) {
			if (!(hit.reg->flags & REG_PART))
				continue;
			mask = bytes_mask(n) << (8 * skip);
			v = (read_hit(t, model, &hit) & ~mask) | v << (8 * skip);
		}
		write_hit(model, &hit, v);
	}
}
