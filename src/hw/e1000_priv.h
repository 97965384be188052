/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_E1000_PRIV_H
#define HW_E1000_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "back/net.h"
#include "hw/e1000_spec.h"
#include "hw/mac.h"
#include "hw/pace.h"
#include "pci/pci.h"

/*
 * One card on one line. Frames go between the guest's buffers and the line without being copied, except headers to
 * send that are changed or checked, and received frames that need more than one buffer. The two tail registers are written by
 * the vCPUs without the lock; they touch only what is marked "atomic". Rings are never latched: each turn looks at
 * the registers afresh, and a change of base, length or head starts a new generation, in which what is still in
 * flight from the old one completes without a trace.
 */
#define E1000_TX_SLOTS 64u /* frames in flight */
#define E1000_TX_DESCS 128u /* of one frame, context descriptors included */
#define E1000_TX_PIECES 128u /* of guest memory in one frame */
#define E1000_TX_BUDGET 256u /* descriptors per turn */
#define E1000_TX_LEN_MAX (NET_FRAME_MAX - NET_HDR_LEN)
#define E1000_HEAD_MAX 256u /* bytes of a frame's start that are copied */
#define E1000_RX_SLOTS 32u
#define E1000_RX_BUF E1000_WIRE_LONG_MAX
#define E1000_RX_DIRECT_MIN 2048u /* a buffer that holds any frame that is not long */

/* A context descriptor (s3.3.6). */
struct e1000_ctx {
	uint8_t ipcss, ipcso, tucss, tucso, hdrlen;
	uint16_t ipcse, tucse, mss;
	uint32_t paylen;
	bool tcp, ip4;
};

/* The descriptors up to the end of a frame, and the frame. */
struct e1000_tx_slot {
	struct net_req req;
	struct e1000 *e;
	uint32_t gen;
	uint32_t first; /* descriptor */
	unsigned int ndescs;
	uint64_t rs[E1000_TX_DESCS / 64]; /* which of them want their status written */
	bool delay; /* ... and no interrupt at once */
	bool drop, done;
	bool started; /* a data descriptor was seen: ctx, tse and popts are valid */
	bool tse;
	uint32_t popts;
	struct e1000_ctx ctx;
	uint32_t len; /* gathered */
	unsigned int npieces;
	/* For statistics: what it is on the wire. */
	uint32_t frames, bytes;
	uint8_t dest; /* enum e1000_dest */
	uint8_t head[NET_HDR_LEN + E1000_HEAD_MAX + E1000_VLAN_TAG];
	struct iovec iov[1 + E1000_TX_PIECES + 1]; /* head, pieces, padding */
};

struct e1000_rx_slot {
	struct net_req req;
	struct e1000 *e;
	uint32_t gen;
	uint32_t index; /* descriptor whose buffer it is, if direct */
	bool direct;
	uint8_t *buf; /* the guest's (direct) or own */
	uint8_t *own; /* E1000_RX_BUF bytes */
	struct net_hdr hdr;
	struct iovec iov[3]; /* header, frame, one for the line */
};

enum e1000_dest { E1000_UNICAST, E1000_MULTICAST, E1000_BROADCAST };

/* A ring as the registers have it. */
struct e1000_ring {
	uint32_t bal, bah, len;
	uint32_t head; /* as the guest sees it */
	uint32_t tail; /* atomic */
	uint32_t gen;
};

struct e1000_conf {
	char *backend, *mac;
};

struct e1000 {
	struct pci_fn fn;
	struct dev_region tx_bell, rx_bell;
	struct dev_post kick;
	struct dev_timer irq_timer, tx_timer, rx_timer, look;
	struct net *line;
	const struct e1000_conf *conf;
	uint8_t mac[MAC_LEN];
	bool unplugged; /* by the person */
	bool pausing, resetting;
	bool link; /* STATUS.LU */
	bool kicked; /* atomic; a tail moved that the loop should look at */
	bool awake; /* atomic; the loop will look at kicked without being told */
	bool looking; /* because it was time to (hw/pace.h) */
	uint32_t io_addr;

	/* plain registers */
	uint32_t ctrl, ctrl_ext, fcal, fcah, fct, vet, rctl, fcttv, txcw, tctl, tipg, aifs, ledctl;
	uint32_t pba, fcrtl, fcrth, rdtr, rxdctl, radv, rsrpd, tidv, txdctl, tadv, tspmt, rxcsum;
	uint32_t wuc, wufc, manc, ipav;
	uint32_t rx_fifo[5], tx_fifo[5];
	uint32_t mta[128], ra[2 * E1000_RAS], vfta[128];
	uint32_t stats[E1000_STATS_COUNT];

	/* interrupts */
	uint32_t icr, ims, itr;
	bool irq_up;
	uint64_t irq_next_ns; /* none before */

	/* EEPROM and PHY */
	uint16_t eeprom[E1000_EEPROM_WORDS];
	uint32_t eecd, eerd, mdic;
	struct {
		uint32_t in; /* start bit and what followed */
		unsigned int nin;
		uint16_t out;
		unsigned int nout, addr;
		bool level; /* of DO */
	} wire;
	uint16_t phy[32];
	bool phy_link_lost;

	/* sending; slots are a ring, the oldest first */
	struct e1000_ring tx;
	uint32_t tx_next; /* descriptor to fetch */
	struct pace pace;
	unsigned int tx_batch; /* frames that went to the line since all of them were done */
	uint64_t tx_abs_ns; /* TADV's deadline, 0: none */
	struct e1000_tx_slot *slots;
	unsigned int first_slot, nslots;
	bool tx_open; /* the newest one still gathers */
	bool tx_skip; /* descriptors are dropped up to the end of the frame */
	struct e1000_ctx ctx;
	struct net_req *batch[E1000_TX_SLOTS];
	unsigned int nbatch, tx_inflight;

	/* receiving */
	struct e1000_ring rx;
	uint64_t rx_abs_ns;
	struct e1000_rx_slot rx_slots[E1000_RX_SLOTS];
	uint8_t *rx_bufs;
	unsigned int rx_inflight, rx_got, rx_stored; /* of the last batch */
	bool rx_empty; /* the line has no more frames */
	bool rx_starved; /* atomic; the loop wants to know when the guest gives buffers */
	bool rx_above; /* more descriptors than RCTL.RDMTS */
};

/* e1000.c */
/* Makes the loop look at the rings. What to look at has been stored before. Any thread. */
void e1000_wake(struct e1000 *e);
/* Sets causes and raises the wire if IMS and ITR allow. */
void e1000_interrupt(struct e1000 *e, uint32_t causes);
/* The line, the cable, SLU or the PHY changed. */
void e1000_link_update(struct e1000 *e);
/* As the PHY sees it. */
bool e1000_carrier(const struct e1000 *e);
void e1000_mac_load(struct e1000 *e);
/* Descriptors of a ring, 0 if its length is; NULL if it is not memory. */
static inline uint32_t e1000_ring_entries(const struct e1000_ring *r)
{
	return r->len / 16;
}
void *e1000_ring_map(struct e1000 *e, const struct e1000_ring *r);
/* Sends or receives nothing: MAC and PHY loopback, which are refused. */
bool e1000_loopback(const struct e1000 *e);
void e1000_count(struct e1000 *e, enum e1000_stat stat, uint32_t n);
void e1000_count64(struct e1000 *e, enum e1000_stat stat, uint64_t n);
/* Frames of this size on the wire: stat is E1000_STAT_PRC64 or E1000_STAT_PTC64. */
void e1000_count_size(struct e1000 *e, enum e1000_stat stat, uint32_t wire, uint32_t n);
enum e1000_dest e1000_dest_of(const uint8_t *frame);
/* One's complement sum of len bytes, folded, on top of sum. */
uint32_t e1000_sum(const uint8_t *p, size_t len, uint32_t sum);
static inline uint16_t e1000_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum + (sum >> 16));
}

/* e1000_phy.c */
void e1000_eeprom_fill(struct e1000 *e);
uint64_t e1000_eecd_read(void *model, unsigned int index);
void e1000_eecd_write(void *model, unsigned int index, uint64_t value);
uint64_t e1000_eerd_read(void *model, unsigned int index);
void e1000_eerd_write(void *model, unsigned int index, uint64_t value);
uint64_t e1000_mdic_read(void *model, unsigned int index);
void e1000_mdic_write(void *model, unsigned int index, uint64_t value);
void e1000_phy_reset(struct e1000 *e);

/* e1000_tx.c */
int e1000_tx_init(struct e1000 *e);
void e1000_tx_fini(struct e1000 *e);
/* Fetches descriptors and hands frames to the line. True if there is more to do at once. Loop's thread. */
bool e1000_tx_run(struct e1000 *e);
/* What is being gathered and what is in flight belongs to the past. */
void e1000_tx_forget(struct e1000 *e);
/* Gives descriptors back that are done, and interrupts. */
void e1000_tx_retire(struct e1000 *e);
void e1000_tx_timer(struct dev *d);

/* e1000_rx.c */
int e1000_rx_init(struct e1000 *e);
void e1000_rx_fini(struct e1000 *e);
/* Asks the line for frames if there are buffers, else waits for buffers. Loop's thread. */
void e1000_rx_run(struct e1000 *e);
/* The line has a frame. */
void e1000_rx_readable(struct e1000 *e);
void e1000_rx_forget(struct e1000 *e);
/* After a batch of completions: interrupts. */
void e1000_rx_batch_end(struct e1000 *e);
void e1000_rx_timer(struct dev *d);

#endif
