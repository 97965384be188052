/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_NET_H
#define BACK_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct loop;

/*
 * The line of a network card to the outside: a tap, a socket to another program, or the other end of a pair. Requests
 * are asynchronous, vectored and batched; every accepted request completes exactly once, on the loop's thread, never
 * inside net_send or net_recv, and soon: no request waits for the outside, so there is nothing to cancel at a reset.
 * The caller owns the request and its iovecs until done.
 *
 * A frame starts with struct net_hdr, in both directions, then the Ethernet header; no FCS. Every line takes frames
 * that ask for checksums or segmentation: what the host cannot do is done here, in software. Towards the guest they
 * come only as net_set_offloads allowed.
 */
struct net_hdr { /* virtio 1.2 s5.1.6, little-endian; the layout of the tap's vnet header */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
	uint16_t num_buffers; /* for virtio-net; 1 from the host */
};
#define NET_HDR_LEN 12u
#define NET_HDR_NEEDS_CSUM 1u /* flags */
#define NET_HDR_DATA_VALID 2u
#define NET_GSO_NONE 0u /* gso_type */
#define NET_GSO_TCPV4 1u
#define NET_GSO_TCPV6 4u
#define NET_GSO_UDP_L4 5u
#define NET_GSO_ECN 0x80u

#define NET_ETH_LEN 14u
#define NET_MTU_MIN 68u
#define NET_MTU_MAX 65535u
#define NET_FRAME_MAX (NET_HDR_LEN + 65535u + NET_ETH_LEN + 4u) /* 4: a VLAN tag */
#define NET_QUEUES_MAX 8u
#define NET_IOV_MAX 512u

enum net_offload { /* what the receiver of frames copes with */
		   NET_O_CSUM = 1 << 0, /* NEEDS_CSUM; the others need it */
		   NET_O_TSO4 = 1 << 1,
		   NET_O_TSO6 = 1 << 2,
		   NET_O_ECN = 1 << 3,
		   NET_O_USO = 1 << 4,
		   NET_O_ALL = 0x1f,
};

struct net_req {
	/*
	 * The header is in the first NET_HDR_LEN bytes, however the iovecs split it. To receive, the array has room for
	 * one more behind iovcnt, which the line writes to: that is how it sees that a frame is longer.
	 */
	struct iovec *iov;
	unsigned int iovcnt; /* 1 to NET_IOV_MAX */
	/*
	 * Sent: 0 or -errno (-EINVAL: header and frame do not agree; -ENOBUFS, -EIO, -ENETDOWN: dropped). Received:
	 * bytes with header, -EAGAIN: no frame waits, -EMSGSIZE: it was longer than the iovecs and is dropped.
	 */
	void (*done)(struct net_req *r, int res);
	void *priv[24]; /* for the engine */
};

struct net;

struct net_info {
	unsigned int queues; /* pairs, 1 to NET_QUEUES_MAX */
	unsigned int mtu; /* of the host's side; 0: unknown */
	unsigned int offloads; /* enum net_offload that the line itself can deliver to the guest */
	const char *name; /* for messages: "tap0" */
};

/* What a card is connected to: the settings that all models share. */
struct net_spec {
	/*
	 * "tapN", "vmnetN" or "tap:IFNAME": a tap that exists; "fd:N[:N...]": open tap descriptors, one per queue pair,
	 * which the line takes over; "socket:PATH": a SOCK_SEQPACKET socket that somebody listens on, one frame
	 * without net_hdr per packet, connected again when it breaks ("socket:@NAME": one that has no file; its name is
	 * filled up with zeroes); NULL or "none": not connected, link down.
	 */
	char *backend;
	uint64_t queues; /* pairs wanted, at most; 0: 1 */
};

/* NULL with a text that says what to do on failure. */
struct net *net_open(struct loop *l, const struct net_spec *spec, struct err *err);
/* Two lines connected to each other in memory; what one sends the other receives, at most depth frames wait. */
int net_open_pair(struct loop *l, unsigned int queues, unsigned int depth, struct net **a,
		  struct net **b);
/* Pulls the cable of a pair, or puts it back: both ends lose their link. Up at first. */
void net_pair_link(struct net *n, bool up);
/* No request may be in flight. NULL is fine. */
void net_close(struct net *n);
const struct net_info *net_info_get(const struct net *n);

/* Loop's thread, queue pair q. Cannot fail: errors arrive through done. */
void net_send(struct net *n, unsigned int q, struct net_req *const *reqs, size_t count);
/* Each request takes one frame; they complete in the order given. */
void net_recv(struct net *n, unsigned int q, struct net_req *const *reqs, size_t count);

/* The events of a line, on the loop's thread. Any may be NULL. */
struct net_events {
	/* A frame waits on queue pair q (level-triggered; only while wanted). */
	void (*readable)(void *arg, unsigned int q);
	/* The line went up or down. */
	void (*link)(void *arg, bool up);
	/* Around each batch of done and readable calls, so that the owner locks and signals once. */
	void (*enter)(void *arg);
	void (*leave)(void *arg);
};
/* ev is copied. Not while requests are in flight. */
void net_set_events(struct net *n, const struct net_events *ev, void *arg);
/* Switches readable on or off for q. Off at first. Loop's thread. */
void net_want(struct net *n, unsigned int q, bool on);
/* Any thread. */
bool net_link_up(const struct net *n);

/* What the guest copes with, of net_info's offloads; none at first and after a reset. Any thread. */
void net_set_offloads(struct net *n, unsigned int offloads);
/* Only the first n queue pairs get frames; 1 at first and after a reset. Any thread. -EINVAL. */
int net_set_queues(struct net *n, unsigned int count);
/* The tap's descriptor of queue pair q, for vhost-net; -1 if the line is none. The line keeps it. */
int net_tap_fd(const struct net *n, unsigned int q);

struct net_stats {
	uint64_t accepted, completed, failed;
	uint64_t tx_frames, tx_bytes, rx_frames,
		rx_bytes; /* seen from the guest; bytes without net_hdr */
};
void net_stats_get(const struct net *n, struct net_stats *out);

/* --- the fault engine, for tests: wraps another line (and owns it) --- */
struct net_fault {
	int fail_nth; /* fail the n-th request from now (1 = next) with fail_errno; 0: none; -1: all */
	int fail_errno; /* positive errno */
	bool hold; /* keep completions until net_fault_release */
	bool fail_queues; /* net_set_queues fails with fail_errno */
};
struct net *net_open_fault(struct loop *l, struct net *inner);
void net_fault_set(struct net *n, const struct net_fault *f);
/* Lets go of up to n held requests, the oldest first. Returns how many are still held. */
size_t net_fault_release(struct net *n, size_t count);

/*
 * Key-table entries for a struct that has a `struct net_spec` member; see conf/conf.h. "slirp" and its settings are for
 * whoever builds the machine: it starts the program and opens a socket instead.
 */
#define NET_USER_KEYS                                                             \
	{ .name = "hostfwd",                                                      \
	  .type = CONF_STR,                                                       \
	  .ignored = true,                                                        \
	  .help = "slirp: tcp:[ADDR]:PORT-[ADDR]:PORT, with ; between several" }, \
	{                                                                         \
		.name = "open", .type = CONF_BOOL, .ignored = true,               \
		.help = "slirp: the guest reaches others, too"                    \
	}
#define NET_BACKEND_HELP "tapN, tap:IFNAME, fd:N, socket:PATH, slirp or none"
#define NET_SPEC_KEYS(type_, member_)                                                          \
	{ .name = "backend",                                                                   \
	  .offset = offsetof(type_, member_.backend),                                          \
	  .type = CONF_STR,                                                                    \
	  .help = NET_BACKEND_HELP },                                                          \
		NET_USER_KEYS,                                                                 \
	{                                                                                      \
		.name = "queues", .offset = offsetof(type_, member_.queues), .type = CONF_U64, \
		.max = NET_QUEUES_MAX, .help = "queue pairs, 1 to 8"                           \
	}

#endif
