/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_VIRTIO_NET_PRIV_H
#define HW_VIRTIO_NET_PRIV_H

#include "back/net.h"
#include "back/vhost.h"
#include "hw/mac.h"
#include "hw/pace.h"
#include "util/macros.h"
#include "virtio/virtio.h"

/*
 * The network device of virtio 1.2 s5.1. Queue 2n receives and queue 2n + 1 sends for pair n, the last one controls.
 * Frames never pass through a buffer of ours on the way: the line reads from and writes to the guest's pieces. Each
 * queue has one batch at the line at a time; what the guest adds meanwhile makes the next one.
 */
#define VNET_QUEUE_SIZE 256
#define VNET_TX_BATCH 64
#define VNET_RX_BATCH 32
#define VNET_IOVS 1024 /* pieces of one batch */
#define VNET_FRAME_MIN (NET_HDR_LEN + NET_ETH_LEN)
#define VNET_OVERFLOW ALIGN_UP(NET_FRAME_MAX, 4096u) /* per request */
#define VNET_MACS_MAX 64
#define VNET_VLANS 4096u

/* s5.1.3 */
#define VNET_F_CSUM BIT64(0)
#define VNET_F_GUEST_CSUM BIT64(1)
#define VNET_F_CTRL_GUEST_OFFLOADS BIT64(2)
#define VNET_F_MTU BIT64(3)
#define VNET_F_MAC BIT64(5)
#define VNET_F_GUEST_TSO4 BIT64(7)
#define VNET_F_GUEST_TSO6 BIT64(8)
#define VNET_F_GUEST_ECN BIT64(9)
#define VNET_F_HOST_TSO4 BIT64(11)
#define VNET_F_HOST_TSO6 BIT64(12)
#define VNET_F_HOST_ECN BIT64(13)
#define VNET_F_MRG_RXBUF BIT64(15)
#define VNET_F_STATUS BIT64(16)
#define VNET_F_CTRL_VQ BIT64(17)
#define VNET_F_CTRL_RX BIT64(18)
#define VNET_F_CTRL_VLAN BIT64(19)
#define VNET_F_CTRL_RX_EXTRA BIT64(20)
#define VNET_F_GUEST_ANNOUNCE BIT64(21)
#define VNET_F_MQ BIT64(22)
#define VNET_F_CTRL_MAC_ADDR BIT64(23)
#define VNET_F_GUEST_USO4 BIT64(54)
#define VNET_F_GUEST_USO6 BIT64(55)
#define VNET_F_HOST_USO BIT64(56)
#define VNET_F_SPEED_DUPLEX BIT64(63)

/* What CTRL_GUEST_OFFLOADS switches (s5.1.6.5.6.1). */
#define VNET_GUEST_OFFLOADS                                                             \
	(VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 | VNET_F_GUEST_ECN | \
	 VNET_F_GUEST_USO4 | VNET_F_GUEST_USO6)

struct vnet;
struct vnet_rxq;
struct vnet_txq;

struct vnet_tx_req {
	struct net_req req;
	struct vnet_txq *queue;
};

struct vnet_txq {
	struct vnet *net;
	unsigned int pair;
	uint32_t generation;
	unsigned int nheads, nreqs, niov; /* of the batch; heads: those of dropped frames too */
	unsigned int in_flight;
	uint64_t
		look_ns; /* when to look at the queue, which the guest does not kick for; 0: it kicks */
	struct pace pace;
	uint16_t heads[VNET_TX_BATCH];
	struct net_req *list[VNET_TX_BATCH];
	struct vnet_tx_req reqs[VNET_TX_BATCH];
	struct iovec iov[VNET_IOVS];
};

/* A chain of the guest's that waits for a frame. */
struct vnet_buf {
	uint16_t head;
	uint16_t niov;
	uint32_t len;
	bool used;
};

struct vnet_rx_req {
	struct net_req req;
	struct vnet_rxq *queue;
	unsigned int first, nbufs; /* chains given to it */
	uint32_t len; /* of these chains; behind them comes the overflow */
	int res;
	uint8_t *overflow;
};

struct vnet_rxq {
	struct vnet *net;
	unsigned int pair;
	uint32_t generation;
	bool wanted; /* frames, from the line */
	bool stalled, give_up; /* a frame waits for chains to lie in; not any longer */
	unsigned int fruitless; /* batches in a row that got nothing */
	bool failed; /* the line said that it cannot read: it is asked again when the stall timer is due */
	bool more; /* the last batch was full: there may be more frames */
	bool flush; /* chains were given back and not published */
	unsigned int nbufs, niov; /* chains taken, their pieces in iov */
	unsigned int ask; /* requests that a batch may have, 1 to VNET_RX_BATCH */
	unsigned int nreqs; /* of the batch; 0: none under way */
	unsigned int filled; /* those up to the last that got a frame */
	unsigned int next; /* the first whose frame has not been delivered */
	unsigned int spare; /* the first chain that none of these has */
	unsigned int in_flight;
	uint64_t most; /* chains that the guest let us have at a time */
	uint32_t expect, peak; /* the longest frame of late */
	unsigned int frames; /* since peak was taken */
	struct net_req *list[VNET_RX_BATCH];
	struct vnet_rx_req reqs[VNET_RX_BATCH];
	struct vnet_buf bufs[VNET_QUEUE_SIZE];
	struct iovec iov[VNET_IOVS], req_iov[VNET_IOVS + 2 * VNET_RX_BATCH];
};

/* What the driver wants to hear (s5.1.6.5.1 to s5.1.6.5.3). */
struct vnet_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool uni_overflow, multi_overflow; /* more addresses than we keep: all pass */
	unsigned int nuni, nmulti;
	uint8_t uni[VNET_MACS_MAX][MAC_LEN], multi[VNET_MACS_MAX][MAC_LEN];
	uint64_t vlans[VNET_VLANS / 64];
};

/* A queue pair as vhost-net has it. Index 0 receives, 1 sends. */
struct vnet_vhost {
	int fd;
	bool running;
	bool stale; /* what waits at the tap came while the link was down */
	struct vhost_ring rings[2];
	struct dev_event call[2]; /* interrupts that cannot go straight to the guest */
	struct dev_event err[2]; /* broken rings */
	int kick[2];
};

struct vnet {
	struct virtio v;
	struct net *line;
	unsigned int offloads; /* of the line, enum net_offload */
	unsigned int pairs, active; /* offered; in use */
	uint64_t features, guest_offloads; /* negotiated; switched on */
	uint16_t mtu; /* 0: not offered */
	bool plugged, link, announce;
	uint8_t first_mac[MAC_LEN], mac[MAC_LEN];
	struct vnet_filter filter;
	unsigned int in_flight;
	struct dev_timer stall, look;
	struct vnet_rxq *rx; /* one per pair */
	struct vnet_txq *tx;
	struct vnet_vhost *vhost; /* one per pair, or NULL: not used */
	bool vhost_failed; /* it did not start: not used for this driver */
	uint8_t *overflow; /* of all receive requests */
	size_t overflow_size;
	struct virtq_chain chain; /* the one being looked at */
};

static inline struct vnet *vnet_of(struct virtio *v)
{
	return container_of(v, struct vnet, v);
}

static inline unsigned int vnet_rx_index(unsigned int pair)
{
	return 2 * pair;
}

static inline unsigned int vnet_tx_index(unsigned int pair)
{
	return 2 * pair + 1;
}

/* Tells the line what the guest copes with. Any thread, lock held. */
void vnet_apply_offloads(struct vnet *n);

/* --- sending; loop's thread, lock held --- */
void vnet_tx_init(struct vnet *n, unsigned int pair);
/* Takes what the guest has ready to the line, unless a batch is there already. */
void vnet_tx_start(struct vnet *n, unsigned int pair);
/* Sees to it that the device's timer looks no later than at (loop's clock, ns). */
void vnet_tx_look_at(struct vnet *n, uint64_t at);
/* After completions: gives a finished batch back. True if it did: then the next one can start. */
bool vnet_tx_finish(struct vnet *n, unsigned int pair);
/* The driver has gone. Any thread. */
void vnet_tx_forget(struct vnet *n, unsigned int pair);

/* --- receiving; loop's thread, lock held --- */
void vnet_rx_init(struct vnet *n, unsigned int pair);
/* The guest has chains for us, or a batch is over: on with the next one. */
void vnet_rx_kick(struct vnet *n, unsigned int pair);
/* The line has frames. */
void vnet_rx_start(struct vnet *n, unsigned int pair);
/* After completions: delivers a finished batch. True if it did: then on with vnet_rx_kick. */
bool vnet_rx_finish(struct vnet *n, unsigned int pair);
/* A frame has waited long enough for chains. */
void vnet_rx_give_up(struct vnet *n, unsigned int pair);
/* No more frames until the next kick. */
void vnet_rx_pause(struct vnet *n, unsigned int pair);
/* The driver has gone: forgets its chains, unless the line still uses them (then vnet_rx_finish does). Any thread. */
void vnet_rx_forget(struct vnet *n, unsigned int pair);

/* --- vhost-net; lock held --- */
/* 0, or -errno with a text; then vnet_vhost_fini is due. */
int vnet_vhost_init(struct vnet *n, struct err *err);
void vnet_vhost_fini(struct vnet *n);
/*
 * Gives the pair to the kernel or takes it back, as things stand. Loop's thread. True: receiving is not ours, even
 * while the kernel does not have it.
 */
bool vnet_vhost_update(struct vnet *n, unsigned int pair);
/* Takes the pair back at once. Any thread. */
void vnet_vhost_stop(struct vnet *n, unsigned int pair);
/* Interrupts or bus master have changed. Any thread. */
void vnet_vhost_rewire(struct vnet *n);
/* The link has changed. Loop's thread. */
void vnet_vhost_link(struct vnet *n);
/* Features that the driver does not get with vhost-net. */
uint64_t vnet_vhost_lacks(const struct vnet *n);

/* --- control (s5.1.6.5); loop's thread, lock held --- */
void vnet_ctrl_kick(struct vnet *n, unsigned int q);
/* What a driver finds: everything passes until it says otherwise. Any thread. */
void vnet_filter_reset(struct vnet *n);
/* Does a frame with these first bytes pass? head has its Ethernet header and 4 bytes more. */
bool vnet_filter_passes(const struct vnet *n, const uint8_t *head);

#endif
