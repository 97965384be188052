/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "back/blk_priv.h"

/* A disk in anonymous memory. */
struct blk_mem {
	struct blk b;
	uint8_t *data;
};

static void mem_copy(const struct blk_mem *m, const struct blk_req *r)
{
	uint8_t *p = m->data + r->offset;

	for (unsigned int i = 0; i < r->iovcnt; i++) {
		if (r->op == BLK_READ)
			memcpy(r->iov[i].iov_base, p, r->iov[i].iov_len);
		else
			memcpy(p, r->iov[i].iov_base, r->iov[i].iov_len);
		p += r->iov[i].iov_len;
	}
}

static void mem_submit(struct blk *b, struct blk_req *r)
{
	struct blk_mem *m = container_of(b, struct blk_mem, b);

	switch (r->op) {
	case BLK_READ:
	case BLK_WRITE:
		mem_copy(m, r);
		break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		memset(m->data + r->offset, 0, r->len);
		break;
	case BLK_FLUSH:
		break;
	}
	blk_done(r, 0);
}

static void mem_close(struct blk *b)
{
	struct blk_mem *m = container_of(b, struct blk_mem, b);

	munmap(m->data, b->info.size);
	blk_fini(b);
	free(m);
}

struct blk *blk_open_mem(struct loop *l, uint64_t size, uint32_t sector)
{
	static const struct blk_ops ops = { .submit = mem_submit, .close = mem_close };
	struct blk_mem *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->data = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->data == MAP_FAILED) {
		free(m);
		return NULL;
	}
	m->b.info = (struct blk_info){ .size = size,
				       .sector = sector,
				       .physical_sector = sector,
				       .discard = true,
				       .write_zeroes = true,
				       .transient = true,
				       .path = "memory" };
	blk_init(&m->b, &ops, l);
	return &m->b;
}
