/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "back/blk.h"
#include "conf/conf.h"
#include "hw/diskid.h"
#include "hw/models.h"
#include "util/bytes.h"
#include "util/canary.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/macros.h"
#include "virtio/virtio.h"

/*
 * The block device of virtio 1.2 s5.2. Data never passes through a buffer of ours: the guest's pieces go to the disk
 * as they are. Requests come from a pool per queue, as large as the queue, and belong to it until the disk is done
 * with them, also across a reset.
 */
#define QUEUES_MAX 16
#define QUEUE_SIZE 256
#define SEG_MAX (QUEUE_SIZE - 2) /* a header and a status stand beside the data */
#define BATCH 64 /* requests taken per kick before other work of the loop gets its turn */
#define RANGES_MAX 32 /* ranges of one discard or write-zeroes request */
#define DISCARD_SECTORS_MAX (2 * GIB / 512)
#define ZEROES_SECTORS_MAX (64 * MIB / 512)
#define SECTOR 512u

/* s5.2.3 */
#define F_SEG_MAX BIT64(2)
#define F_RO BIT64(5)
#define F_BLK_SIZE BIT64(6)
#define F_FLUSH BIT64(9)
#define F_TOPOLOGY BIT64(10)
#define F_CONFIG_WCE BIT64(11)
#define F_MQ BIT64(12)
#define F_DISCARD BIT64(13)
#define F_WRITE_ZEROES BIT64(14)

/* s5.2.6 */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPP = 2 };

#define RANGE_UNMAP 1u /* flags of struct vblk_range */

struct vblk_header {
	le32 type, reserved;
	le64 sector;
};

struct vblk_range {
	le64 sector;
	le32 sectors, flags;
};

/* s5.2.4 */
struct PACKED vblk_config {
	le64 capacity;
	le32 size_max, seg_max;
	uint8_t geometry[4];
	le32 blk_size;
	uint8_t physical_block_exp, alignment_offset;
	le16 min_io_size;
	le32 opt_io_size;
	uint8_t writeback, unused0;
	le16 num_queues;
	le32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
	le32 max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};

_Static_assert(sizeof(struct vblk_config) == 60, "virtio 1.2 s5.2.4");

struct vblk_conf {
	struct blk_spec blk;
	char *ser;
	uint64_t queues, bootindex;
};

struct vblk_req {
	struct blk_req req;
	struct vblk *blk;
	struct vblk_req *next_free;
	uint16_t queue;
	uint16_t range, ranges; /* the one in progress, how many */
	uint32_t generation;
	uint32_t written; /* bytes besides the status, if the request succeeds */
	uint8_t *status; /* in guest memory */
	struct vblk_range range_list[RANGES_MAX];
	struct virtq_chain chain;
};

struct vblk_queue {
	struct vblk_req *pool, *free;
	unsigned int
		fresh; /* requests from here on were never used: their memory is not touched before */
	bool done; /* entries were pushed and not flushed */
};

struct vblk {
	struct virtio v;
	struct blk *disk;
	struct blk_info info;
	uint64_t features; /* negotiated */
	bool writeback;
	unsigned int in_flight;
	char serial[DISKID_LEN + 1];
	struct vblk_queue queues[QUEUES_MAX];
};

static struct vblk *vblk_of(struct virtio *v)
{
	return container_of(v, struct vblk, v);
}

/* --- the end of a request --- */

static void req_free(struct vblk_req *r)
{
	struct vblk_queue *q = &r->blk->queues[r->queue];

	r->next_free = q->free;
	q->free = r;
}

/* Gives the chain back with this status, unless the driver has reset the device meanwhile. */
static void req_finish(struct vblk_req *r, uint8_t status)
{
	struct vblk *b = r->blk;
	uint32_t written = status == STATUS_OK ? r->written : 0;

	if (r->generation == b->v.generation && b->v.fn.dma.on)
		*r->status = status;
	virtio_push(&b->v, r->queue, r->generation, r->chain.head, written + 1);
	b->queues[r->queue].done = true;
	req_free(r);
}

static uint8_t status_of(struct vblk_req *r, int res)
{
	if (res == 0)
		return STATUS_OK;
	if (res == -EOPNOTSUPP)
		return STATUS_UNSUPP;
	log_limited(LOG_LEVEL_WARN, r->blk->v.fn.dev.env.name,
		    "request at byte %" PRIu64 " of %s failed: %s", r->req.offset,
		    r->blk->info.path ? r->blk->info.path : "the disk", strerror(-res));
	return STATUS_IOERR;
}

/* Points the request at its next range. */
static void range_load(struct vblk_req *r)
{
	const struct vblk_range *g = &r->range_list[r->range];

	r->req.offset = g->sector * SECTOR;
	r->req.len = (uint64_t)g->sectors * SECTOR;
	if (r->req.op == BLK_WRITE_ZEROES) {
		r->req.flags &= ~(unsigned int)BLK_UNMAP;
		if (g->flags & RANGE_UNMAP)
			r->req.flags |= BLK_UNMAP;
	}
}

static void disk_done(struct blk_req *req, int res)
{
	struct vblk_req *r = container_of(req, struct vblk_req, req);

	if (res == 0 && ++r->range < r->ranges && r->generation == r->blk->v.generation) {
		range_load(r);
		blk_submit(r->blk->disk, &req, 1);
		return;
	}
	r->blk->in_flight--;
	req_finish(r, status_of(r, res));
}

static void vblk_batch_end(struct dev *d)
{
	struct vblk *b = vblk_of(virtio_of(d));

	for (unsigned int i = 0; i < b->v.nqueues; i++) {
		if (!b->queues[i].done)
			continue;
		b->queues[i].done = false;
		virtio_flush(&b->v, i);
	}
	if (d->state == DEV_PAUSING && !b->in_flight)
		dev_paused(d);
}

/* --- the start of a request: each returns true if it is to be submitted, else it has been finished --- */

static bool reject(struct vblk_req *r, uint8_t status)
{
	req_finish(r, status);
	return false;
}

/* Cuts the 16 bytes of the header off the readable pieces. */
static void cut_header(struct virtq_chain *c, struct iovec **iov, unsigned int *n)
{
	size_t cut = sizeof(struct vblk_header);

	*iov = c->iov;
	*n = c->nread;
	while (*n && cut >= (*iov)->iov_len) {
		cut -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + cut;
		(*iov)->iov_len -= cut;
	}
}

/* Takes the last writable byte off the chain: it is the status (s5.2.6). */
static uint8_t *cut_status(struct virtq_chain *c)
{
	struct iovec *last = &c->iov[c->nread + c->nwrite - 1];

	last->iov_len--;
	c->write_len--;
	if (!last->iov_len)
		c->nwrite--;
	return (uint8_t *)last->iov_base + last->iov_len;
}

static bool start_data(struct vblk_req *r, const struct vblk_header *h, bool write)
{
	struct vblk *b = r->blk;
	struct virtq_chain *c = &r->chain;
	uint64_t len = write ? c->read_len - sizeof(*h) : c->write_len;
	struct iovec *iov = c->iov + c->nread;
	unsigned int n = c->nwrite;

	if (write && b->info.read_only)
		return reject(r, STATUS_IOERR);
	if (!len || len % SECTOR || !checked_mul(h->sector, SECTOR, &r->req.offset) ||
	    !range_inside(r->req.offset, len, b->info.size))
		return reject(r, STATUS_IOERR);
	if (write)
		cut_header(c, &iov, &n);
	r->req.op = write ? BLK_WRITE : BLK_READ;
	r->req.flags = write && !b->writeback ? BLK_FUA : 0;
	r->req.len = len;
	r->req.iov = iov;
	r->req.iovcnt = n;
	r->written = write ? 0 : (uint32_t)len;
	return true;
}

static bool start_flush(struct vblk_req *r)
{
	/* nothing of ours can be unwritten; firmware that cannot flush a read-only disk will not load from it */
	if (r->blk->info.read_only)
		return reject(r, STATUS_OK);
	r->req.op = BLK_FLUSH;
	r->req.offset = r->req.len = 0;
	return true;
}

static bool range_valid(const struct vblk *b, const struct vblk_range *g, uint64_t max)
{
	uint64_t offset;

	return g->sectors && g->sectors <= max && checked_mul(g->sector, SECTOR, &offset) &&
	       range_inside(offset, (uint64_t)g->sectors * SECTOR, b->info.size);
}

/* s5.2.6.2: discard and write zeroes, with all ranges copied and checked before the first one is touched. */
static bool start_ranges(struct vblk_req *r, bool zeroes)
{
	struct vblk *b = r->blk;
	uint64_t max = zeroes ? ZEROES_SECTORS_MAX : DISCARD_SECTORS_MAX;
	uint32_t known = zeroes ? RANGE_UNMAP : 0;
	size_t len = r->chain.read_len - sizeof(struct vblk_header);

	if (b->info.read_only)
		return reject(r, STATUS_IOERR);
	if (zeroes ? !b->info.write_zeroes : !b->info.discard)
		return reject(r, STATUS_UNSUPP);
	if (!len || len % sizeof(struct vblk_range) || len > sizeof(r->range_list))
		return reject(r, STATUS_IOERR);
	virtq_read(&r->chain, sizeof(struct vblk_header), r->range_list, len);
	r->ranges = (uint16_t)(len / sizeof(struct vblk_range));
	for (unsigned int i = 0; i < r->ranges; i++) {
		if (r->range_list[i].flags & ~known)
			return reject(r, STATUS_UNSUPP);
		if (!range_valid(b, &r->range_list[i], max))
			return reject(r, STATUS_IOERR);
	}
	r->req.op = zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD;
	r->req.flags = zeroes && !b->writeback ? BLK_FUA : 0;
	range_load(r);
	return true;
}

/* s5.2.6: up to 20 bytes, padded with zeroes, not terminated if all are used. */
static bool finish_get_id(struct vblk_req *r)
{
	char id[DISKID_LEN] = { 0 };
	size_t len = r->chain.write_len;

	memcpy(id, r->blk->serial, strlen(r->blk->serial));
	if (len > sizeof(id) && !CANARY)
		len = sizeof(id);
	r->written = (uint32_t)virtq_write(&r->chain, 0, id, len);
	return reject(r, STATUS_OK);
}

/* True if the request is to be submitted. A chain without header or status leaves no place for an answer. */
static bool req_start(struct vblk_req *r)
{
	struct vblk_header h;

	if (virtq_read(&r->chain, 0, &h, sizeof(h)) < sizeof(h) || !r->chain.write_len) {
		virtio_fail(&r->blk->v, "request without header or status");
		req_free(r);
		return false;
	}
	r->status = cut_status(&r->chain);
	r->generation = r->blk->v.generation;
	r->range = r->ranges = 0;
	r->written = 0;
	r->req.flags = 0;
	r->req.iov = NULL;
	r->req.iovcnt = 0;
	switch (h.type) {
	case T_IN:
	case T_OUT:
		return start_data(r, &h, h.type == T_OUT);
	case T_FLUSH:
		return start_flush(r);
	case T_GET_ID:
		return finish_get_id(r);
	case T_DISCARD:
	case T_WRITE_ZEROES:
		return start_ranges(r, h.type == T_WRITE_ZEROES);
	default:
		return reject(r, STATUS_UNSUPP);
	}
}

static bool pool_empty(const struct vblk_queue *vq)
{
	return !vq->free && vq->fresh == QUEUE_SIZE;
}

/* A request of the pool, or NULL. */
static struct vblk_req *req_get(struct vblk *b, unsigned int q)
{
	struct vblk_queue *vq = &b->queues[q];
	struct vblk_req *r = vq->free;

	if (r) {
		vq->free = r->next_free;
		return r;
	}
	if (pool_empty(vq))
		return NULL;
	r = &vq->pool[vq->fresh++];
	r->blk = b;
	r->queue = (uint16_t)q;
	r->req.done = disk_done;
	return r;
}

/*
 * Takes the next chain of queue q into a request; NULL if there is none. The pool is as large as the queue: when it is
 * empty, so is the guest's supply of descriptors.
 */
static struct vblk_req *req_next(struct vblk *b, unsigned int q)
{
	struct vblk_req *r = req_get(b, q);

	if (!r || virtio_pop(&b->v, q, &r->chain))
		return r;
	req_free(r);
	return NULL;
}

static void vblk_kick(struct virtio *v, unsigned int q)
{
	struct vblk *b = vblk_of(v);
	struct blk_req *batch[BATCH];
	unsigned int taken = 0, n = 0;

	do {
		struct vblk_req *r;

		virtio_set_notify(v, q, false);
		while (taken < BATCH && (r = req_next(b, q))) {
			taken++;
			if (req_start(r))
				batch[n++] = &r->req;
		}
	} while (taken < BATCH && virtio_set_notify(v, q, true) && !pool_empty(&b->queues[q]));
	b->in_flight += n;
	blk_submit(b->disk, batch, n);
	b->queues[q].done = false;
	virtio_flush(v, q);
	if (taken == BATCH)
		virtio_kick_again(v, q);
}

/* --- configuration and life cycle --- */

static uint64_t vblk_features(struct virtio *v)
{
	const struct blk_info *info = &vblk_of(v)->info;
	uint64_t f = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE;

	if (v->nqueues > 1)
		f |= F_MQ;
	if (info->read_only)
		return f | F_RO;
	if (info->discard)
		f |= F_DISCARD;
	if (info->write_zeroes)
		f |= F_WRITE_ZEROES;
	return f;
}

static uint8_t exponent(uint32_t n)
{
	return n ? (uint8_t)__builtin_ctz(n) : 0;
}

static uint64_t vblk_config_read(struct virtio *v, uint32_t offset, unsigned int size)
{
	struct vblk *b = vblk_of(v);
	uint32_t ratio = b->info.physical_sector / b->info.sector;
	const struct vblk_config c = {
		.capacity = b->info.size / SECTOR,
		.seg_max = SEG_MAX,
		.blk_size = b->info.sector,
		.physical_block_exp = exponent(ratio),
		.min_io_size = (uint16_t)ratio,
		.writeback = b->writeback,
		.num_queues = (uint16_t)v->nqueues,
		.max_discard_sectors = DISCARD_SECTORS_MAX,
		.max_discard_seg = RANGES_MAX,
		.discard_sector_alignment = b->info.physical_sector / SECTOR,
		.max_write_zeroes_sectors = ZEROES_SECTORS_MAX,
		.max_write_zeroes_seg = RANGES_MAX,
		.write_zeroes_may_unmap = b->info.discard,
	};
	uint64_t value = 0;

	memcpy(&value, (const uint8_t *)&c + offset, size);
	return value;
}

/* s5.2.5.2: only the cache mode can be written, and only if that was negotiated. */
static void vblk_config_write(struct virtio *v, uint32_t offset, unsigned int size, uint64_t value)
{
	struct vblk *b = vblk_of(v);

	if (offset == offsetof(struct vblk_config, writeback) && size == 1 &&
	    (b->features & F_CONFIG_WCE))
		b->writeback = value & 1;
}

/* Without FLUSH the driver cannot make writes durable, so each one is (s5.2.6.2). */
static void vblk_started(struct virtio *v, uint64_t features)
{
	struct vblk *b = vblk_of(v);

	b->features = features;
	if (!(features & F_FLUSH))
		b->writeback = false;
}

static void vblk_stopped(struct virtio *v)
{
	struct vblk *b = vblk_of(v);

	b->features = 0;
	b->writeback = true;
}

static unsigned int vblk_in_flight(struct virtio *v)
{
	return vblk_of(v)->in_flight;
}

static const struct virtio_desc vblk_desc = {
	.id = 2,
	.class_code = 0x010000, /* SCSI storage controller, as drivers expect */
	.queues = QUEUES_MAX,
	.queue_size = QUEUE_SIZE,
	.config_size = sizeof(struct vblk_config),
	.features = vblk_features,
	.kick = vblk_kick,
	.config_read = vblk_config_read,
	.config_write = vblk_config_write,
	.started = vblk_started,
	.stopped = vblk_stopped,
	.in_flight = vblk_in_flight,
};

static int pool_init(struct vblk *b, unsigned int queues, struct err *err)
{
	for (unsigned int q = 0; q < queues; q++) {
		struct vblk_req *pool = calloc(QUEUE_SIZE, sizeof(*pool));

		if (!pool)
			return err_set(err, -ENOMEM, "%s: out of memory", b->v.fn.dev.env.name);
		b->queues[q].pool = pool;
	}
	return 0;
}

static int vblk_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct vblk *b = vblk_of(virtio_of(d));
	const struct vblk_conf *c = conf;
	int r;

	r = diskid_make(c->ser, c->blk.path, b->serial, err);
	if (r < 0)
		return err_prefix(err, r, "%s", env->name);
	b->disk = dev_blk_open(d, &c->blk, vblk_batch_end, err);
	if (!b->disk)
		return -EIO;
	b->info = *blk_info_get(b->disk);
	b->writeback = true;
	r = pool_init(b, (unsigned int)c->queues, err);
	if (r < 0)
		return r;
	return virtio_init(&b->v, &vblk_desc, (unsigned int)c->queues, err);
}

static void vblk_fini(struct dev *d)
{
	struct vblk *b = vblk_of(virtio_of(d));

	virtio_fini(&b->v);
	blk_close(b->disk);
	for (unsigned int q = 0; q < QUEUES_MAX; q++)
		free(b->queues[q].pool);
}

static void vblk_pause(struct dev *d)
{
	if (!vblk_of(virtio_of(d))->in_flight)
		dev_paused(d);
}

static void vblk_reset(struct dev *d)
{
	virtio_reset(virtio_of(d));
	blk_clear_error(vblk_of(virtio_of(d))->disk);
}

static void vblk_resume(struct dev *d)
{
	virtio_resume(virtio_of(d));
}

/* s5.2.5: the capacity is read again at an interrupt for the configuration. */
static void vblk_grown(struct dev *d, struct blk *disk)
{
	struct vblk *b = vblk_of(virtio_of(d));

	b->info.size = blk_info_get(disk)->size;
	virtio_config_changed(&b->v);
}

static const struct conf_key vblk_keys[] = {
	BLK_SPEC_KEYS(struct vblk_conf, blk),
	{ .name = "ser",
	  .type = CONF_STR,
	  .offset = offsetof(struct vblk_conf, ser),
	  .help = "serial number, at most 20 characters; default: made from the path" },
	{ .name = "queues",
	  .type = CONF_U64,
	  .offset = offsetof(struct vblk_conf, queues),
	  .def = "1",
	  .min = 1,
	  .max = QUEUES_MAX,
	  .help = "request queues that the guest may use" },
	{ .name = "bootindex",
	  .type = CONF_U64,
	  .offset = offsetof(struct vblk_conf, bootindex),
	  .help = "position in the boot order, from 1" },
	CONF_KEY_END
};

const struct dev_ops virtio_blk_ops = {
	.model = "virtio-blk",
	.help = "virtio disk",
	.keys = vblk_keys,
	.size = sizeof(struct vblk),
	.conf_size = sizeof(struct vblk_conf),
	.init = vblk_init,
	.pause = vblk_pause,
	.resume = vblk_resume,
	.reset = vblk_reset,
	.grown = vblk_grown,
	.fini = vblk_fini,
};
