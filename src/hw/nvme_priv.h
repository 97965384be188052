/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_NVME_PRIV_H
#define HW_NVME_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "back/blk.h"
#include "hw/diskid.h"
#include "hw/nvme_spec.h"
#include "pci/pci.h"
#include "util/checked.h"

/*
 * One controller and its namespaces. What the guest may change while we look at it is copied once; what was checked
 * is kept here. The doorbells run on the vCPUs without the lock and touch only what is marked "atomic".
 */
#define NVME_MAX_QUEUES PCI_MSIX_MAX /* admin included; masks of queues are 64 bits wide */
#define NVME_NS_MAX 16 /* namespaces */
#define NVME_IOV_INLINE 8
#define NVME_IOV_MAX ((1u << NVME_MDTS) + 1)
#define NVME_BOUNCE 65536u /* read at a time by Compare and Verify */
#define NVME_BUFS 64 /* transfers in flight that need more than NVME_IOV_INLINE pieces */
#define NVME_RUN_BUDGET 256 /* commands fetched per turn */
#define NVME_BURST 64 /* of those, from one queue before the next one has its turn */

/* Returned by command handlers that complete later. Not a status that exists. */
#define NVME_LATER 0xffff

struct nvme_cq {
	struct nvme_cqe *ring;
	uint32_t size; /* atomic; entries, 0: no such queue */
	uint32_t head_db; /* atomic; as the guest wrote it */
	uint32_t head, tail; /* checked */
	uint32_t told; /* tail when its vector was fired last; only while interrupts are gathered */
	uint32_t room; /* entries neither occupied nor promised to a fetched command */
	uint32_t nsqs;
	uint64_t bit; /* in masks of queues */
	uint64_t sqs; /* atomic; submission queues that complete here */
	bool stalled; /* atomic; wants to know when head_db moves */
	uint32_t *shadow, *event; /* doc/nvme-dbbuf.md; NULL: the register counts */
	bool phase, irq_on;
	uint16_t vector;
};

struct nvme_sq {
	const struct nvme_sqe *ring;
	uint32_t *shadow, *event;
	uint32_t size; /* atomic; entries, 0: no such queue */
	uint32_t tail_db; /* atomic; as the guest wrote it */
	uint32_t head, tail; /* checked */
	uint16_t id;
	struct nvme_cq *cq;
	uint64_t *cids; /* one bit per command id: in flight */
	uint32_t inflight; /* fetched, not completed; async event requests excepted */
	bool deleting; /* fetch no more; complete delete_cid once inflight is 0 */
	uint16_t delete_cid;
};

/* What larger commands need besides their request. The bounce buffer is not touched before it is needed. */
struct nvme_buf {
	union {
		struct iovec iov[NVME_IOV_MAX];
		struct nvme_dsm_range ranges[NVME_DSM_RANGES];
	} u;
	uint8_t bounce[NVME_BOUNCE];
};

/* A fetched I/O command. In use from fetch until the back end is done, whatever happens to the queue. */
struct nvme_req {
	struct blk_req blk;
	struct nvme *n;
	struct nvme_ns *ns;
	struct nvme_req *next_free;
	struct nvme_sq *sq;
	struct nvme_buf *buf;
	uint16_t cid;
	uint16_t range,
		ranges; /* Dataset Management: next one, count; Flush of all namespaces: the one at work */
	uint64_t left; /* Compare, Verify: bytes to read after this step */
	/* A step went well: starts the next one (NVME_LATER) or ends the command. NULL: there is one step. */
	uint16_t (*next)(struct nvme_req *r);
	struct iovec iov[NVME_IOV_INLINE];
};

struct nvme_features {
	uint32_t arbitration, temp_over, temp_under, coalescing, atomicity, events;
	bool write_cache;
	uint64_t no_coalescing; /* bit per vector */
};

struct nvme_log_entry {
	uint64_t count;
	uint16_t sq, cid, status;
};

/* A Format NVM that runs. */
struct nvme_format {
	struct blk_req blk;
	struct nvme_ns *ns; /* the one at work, NULL: nothing runs */
	uint32_t left; /* bit per place in ns: those that come after it */
	uint16_t cid;
	uint8_t lbaf;
	bool parked; /* goes on when the device does */
};

enum nvme_state {
	NVME_DISABLED,
	NVME_READY,
	NVME_FAILED, /* CSTS.CFS */
	NVME_SHUTTING, /* CC.SHN was set: drain, then flush */
	NVME_SHUT,
	NVME_RESETTING, /* CC.EN was cleared: CSTS.RDY falls when nothing is in flight */
};

struct nvme_ns_conf {
	struct blk_spec blk;
	uint64_t eui64;
};

struct nvme_conf {
	struct nvme_ns_conf first; /* namespace 1 */
	struct nvme_ns_conf ns[NVME_NS_MAX + 1]; /* the others, by number */
	uint64_t maxq, qsz, ioslots, sectsz, ram, bootindex;
	char *ser;
	int dsm; /* enum nvme_dsm */
};

enum nvme_dsm { NVME_DSM_AUTO, NVME_DSM_ENABLE, NVME_DSM_DISABLE };

/* A namespace (s6.1): one disk. Its number is its place in nvme.ns plus one; numbers may be left out. */
struct nvme_ns {
	struct blk *blk; /* NULL: inactive */
	uint32_t id;
	bool read_only;
	bool unreliable; /* the guest was told that the disk has failed */
	unsigned int block_shift, blocks_max; /* log2 of a block's bytes; blocks per transfer */
	uint8_t formats[2]; /* LBA formats that it can have: block_shift of each */
	uint8_t nformats, format;
	uint64_t blocks;
	uint64_t eui64;
	uint32_t error_recovery; /* a feature */
	uint64_t reads, writes, media_errors;
	struct blk_req **batch;
	unsigned int nbatch;
};

struct nvme {
	struct pci_fn fn;
	struct pci_desc desc;
	struct dev_region bells;
	struct dev_post kick;
	struct dev_timer held_timer;
	const struct nvme_conf *conf;

	/* what the guest is told */
	struct nvme_ns ns[NVME_NS_MAX];
	struct nvme_ns *ready_ns[NVME_NS_MAX]; /* those that take commands, NULL: not this one */
	uint32_t nn; /* number of the last one that is active */
	bool dsm, write_zeroes;
	char serial[DISKID_LEN + 1];

	/* registers */
	uint32_t cc, csts, aqa, intms;
	uint64_t asq, acq;
	enum nvme_state state;

	/* queues; 0 is the admin pair */
	unsigned int nqueues;
	struct nvme_sq sq[NVME_MAX_QUEUES];
	struct nvme_cq cq[NVME_MAX_QUEUES];
	uint64_t kicked; /* atomic; submission queues with a new tail */
	uint32_t bell_errors; /* atomic; bit per enum nvme_event */
	bool awake; /* atomic; the loop will look at kicked without being told */
	bool pin; /* atomic; interrupts go by wire */
	uint32_t *shadows, *events; /* pages of the guest, NULL: none */
	uint64_t shadowed; /* submission queues that have a place there */
	uint64_t ready; /* submission queues that may hold commands */
	uint64_t starved; /* those that wait for a free request */
	uint64_t posted; /* completion queues with entries not yet signalled */
	uint64_t held; /* vectors whose interrupts are being gathered */
	unsigned int turn;

	/* requests */
	struct nvme_req *reqs, *free_reqs;
	struct nvme_buf *bufs, **free_bufs;
	unsigned int nfree_bufs;
	unsigned int inflight; /* with the back end, shutdown's flush included */
	struct blk_req flush;
	struct nvme_ns *flush_ns;
	struct nvme_format format;
	bool pausing, in_flr;

	/* admin */
	struct nvme_features feat;
	uint16_t aer_cid[NVME_AER_MAX];
	unsigned int naer;
	uint32_t events_due, events_masked; /* bit per enum nvme_event */
	uint32_t ns_changed; /* bit per place in ns, until the guest has read the list */
	struct nvme_log_entry log[NVME_LOG_ENTRIES];
	uint64_t errors;
	uint64_t made_ns;
	struct iovec scratch[NVME_IOV_MAX];
};

static inline uint16_t nvme_cid(const struct nvme_sqe *cmd)
{
	return (uint16_t)(cmd->cdw0 >> 16);
}

/* nvme.c */
/* After each batch of completions: signals, then fetches what waited for their requests. */
void nvme_batch_end(struct dev *d);
/* Acts on what waits for n->inflight to be 0. */
void nvme_drained(struct nvme *n);

/* nvme_ns.c */
/* Opens what the configuration names, or err is set. nvme_ns_fini() accepts what was half made. */
int nvme_ns_init(struct nvme *n, struct err *err);
void nvme_ns_fini(struct nvme *n);
/* The active one with the lowest number above id, NULL: there is none. */
struct nvme_ns *nvme_ns_next(struct nvme *n, uint32_t id);
/* What a command gets that cannot have this namespace (s4.2, s6.1): NVME_SC_OK if there is nothing wrong with it. */
uint16_t nvme_ns_status(const struct nvme *n, uint32_t nsid);
/* The LBA format with this index, which exists. */
void nvme_ns_set_format(struct nvme_ns *ns, uint8_t format);
/* The disk has another size now. */
void nvme_ns_grown(struct nvme *n, const struct blk *disk);

/* nvme_queue.c */
uint64_t nvme_bell_read(struct dev *d, uint64_t offset, unsigned int size);
void nvme_bell_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value);
/* The rings must have been checked; entries >= 2. */
void nvme_cq_open(struct nvme *n, unsigned int id, struct nvme_cqe *ring, uint32_t entries);
void nvme_sq_open(struct nvme *n, unsigned int id, const struct nvme_sqe *ring, uint32_t entries,
		  struct nvme_cq *cq);
void nvme_sq_close(struct nvme *n, struct nvme_sq *sq);
void nvme_cq_close(struct nvme_cq *cq);
void nvme_queues_close(struct nvme *n);
/* Writes the completion of a command fetched from sq. status: enum nvme_status, with NVME_DNR where it applies. */
void nvme_complete(struct nvme *n, struct nvme_sq *sq, uint16_t cid, uint16_t status, uint32_t dw0);
/* The same for an async event request, which has no room promised. False: the queue is full, try again later. */
bool nvme_complete_event(struct nvme *n, uint16_t cid, uint32_t dw0);
/* Fetches and starts commands, then signals what was completed. Loop's thread. */
void nvme_run(struct dev *d);
/* Signals completion queues, one message per vector. */
void nvme_signal(struct nvme *n);
void nvme_pin_update(struct nvme *n);
/* Makes the next nvme_signal() tell of all entries that the guest has not taken. */
void nvme_mark_unread(struct nvme *n);
/* Hands the collected requests to the back end. */
void nvme_submit(struct nvme *n);

/* nvme_dbbuf.c: shadow doorbells */
uint16_t nvme_dbbuf_config(struct nvme *n, const struct nvme_sqe *cmd);
/* Forgets both pages. */
void nvme_dbbuf_drop(struct nvme *n);
/* A queue that is new. */
void nvme_dbbuf_sq(struct nvme *n, struct nvme_sq *sq);
void nvme_dbbuf_cq(struct nvme *n, struct nvme_cq *cq);
/* Before sleep: the guest is to ring for what comes next. What has come meanwhile is noted as kicked. */
void nvme_dbbuf_arm(struct nvme *n);
/* The same for a completion queue. False: the head keeps moving, try again later. */
bool nvme_dbbuf_arm_cq(struct nvme_cq *cq);

/* nvme_coalesce.c */
/* Interrupt coalescing (s5.21.1.8): of these vectors, those to fire now. The others are held until enough or late. */
uint64_t nvme_coalesce(struct nvme *n, uint64_t vectors);
/* Fires what is held. */
void nvme_coalesce_flush(struct nvme *n);
void nvme_coalesce_init(struct nvme *n);

/* nvme_verify.c: Compare and Verify */
uint16_t nvme_io_compare(struct nvme_req *r, const struct nvme_sqe *cmd);
uint16_t nvme_io_verify(struct nvme_req *r, const struct nvme_sqe *cmd);

/* nvme_admin.c */
uint16_t nvme_admin_command(struct nvme *n, const struct nvme_sqe *cmd, uint32_t *dw0);
void nvme_features_reset(struct nvme *n);

/* nvme_ident.c */
uint16_t nvme_identify(struct nvme *n, const struct nvme_sqe *cmd);

/* nvme_log.c */
uint16_t nvme_get_log(struct nvme *n, const struct nvme_sqe *cmd);
void nvme_log_error(struct nvme *n, uint16_t sq, uint16_t cid, uint16_t status);
uint16_t nvme_async_event(struct nvme *n, const struct nvme_sqe *cmd);
/* Notes an event and sends it when a request for it is there. */
void nvme_event(struct nvme *n, enum nvme_event event);
void nvme_events_send(struct nvme *n);
void nvme_events_reset(struct nvme *n);

/* nvme_io.c */
uint16_t nvme_io_command(struct nvme *n, struct nvme_sq *sq, const struct nvme_sqe *cmd);
/* True if a request and a buffer for any command are free. */
static inline bool nvme_io_ready(const struct nvme *n)
{
	return n->free_reqs && n->nfree_bufs;
}
/* SLBA and NLB of a command, as bytes in r. */
static inline uint16_t nvme_req_range(struct nvme_req *r, const struct nvme_sqe *cmd)
{
	const struct nvme_ns *ns = r->ns;
	uint64_t lba = cmd->cdw10 | (uint64_t)cmd->cdw11 << 32;
	uint64_t blocks = (cmd->cdw12 & 0xffff) + 1ull;

	if (!range_inside(lba, blocks, ns->blocks))
		return NVME_SC_LBA_RANGE | NVME_DNR;
	r->blk.offset = lba << ns->block_shift;
	r->blk.len = blocks << ns->block_shift;
	return NVME_SC_OK;
}

/* Hands it to the disk with the others of this turn. */
static inline uint16_t nvme_req_start(struct nvme_req *r)
{
	struct nvme_ns *ns = r->ns;

	r->n->inflight++;
	ns->batch[ns->nbatch++] = &r->blk;
	return NVME_LATER;
}

/* What a command gets for the result of a request. */
uint16_t nvme_status_of(enum blk_op op, int res);
/* Counts what has failed, and tells of a disk that will not vouch for what was written any more. */
void nvme_note_failure(struct nvme *n, struct nvme_ns *ns);
struct nvme_buf *nvme_req_buf(struct nvme_req *r);
int nvme_io_init(struct nvme *n, unsigned int slots);
void nvme_io_fini(struct nvme *n);
void nvme_start_flush(struct nvme *n);

/* nvme_format.c */
uint16_t nvme_format(struct nvme *n, const struct nvme_sqe *cmd);
/* Goes on after a pause. */
void nvme_format_resume(struct nvme *n);
/* Forgets one that a pause has interrupted. */
void nvme_format_drop(struct nvme *n);

/* nvme_prp.c */
/*
 * Turns the PRPs of a transfer of len bytes (1..2^NVME_MDTS pages) into at most max pieces of guest memory. Returns
 * NVME_SC_OK and the count, or the status to complete with.
 */
uint16_t nvme_prp_map(const struct dma *dma, const struct nvme_sqe *cmd, uint64_t len,
		      struct iovec *iov, unsigned int max, unsigned int *count);
/* Copies len bytes into the buffer of total bytes that cmd names, and zeroes the rest of it. */
uint16_t nvme_data_out(struct nvme *n, const struct nvme_sqe *cmd, const void *buf, size_t len,
		       uint64_t total);
/* Copies len bytes out of cmd's buffer. */
uint16_t nvme_data_in(struct nvme *n, const struct nvme_sqe *cmd, void *buf, size_t len);

#endif
