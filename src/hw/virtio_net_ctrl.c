/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "hw/virtio_net_priv.h"
#include "util/bytes.h"

/* The control queue of virtio 1.2 s5.1.6.5, and the filters that it sets. */
#define KICK_MAX 32u /* commands before other work of the loop gets its turn */

enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_MQ, CLASS_OFFLOADS };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST };
enum { MAC_TABLE_SET, MAC_ADDR_SET };
enum { VLAN_ADD, VLAN_DEL };
enum { ACK_OK = 0, ACK_ERR = 1 };

#define TPID_VLAN 0x8100u

struct ctrl_header {
	uint8_t class, cmd;
};

void vnet_filter_reset(struct vnet *n)
{
	memset(&n->filter, 0, sizeof(n->filter));
	n->filter.promisc = true;
}

static bool listed(const uint8_t (*table)[MAC_LEN], unsigned int n, const uint8_t *mac)
{
	for (unsigned int i = 0; i < n; i++)
		if (memcmp(table[i], mac, MAC_LEN) == 0)
			return true;
	return false;
}

static bool vlan_passes(const struct vnet *n, const uint8_t *head)
{
	unsigned int id = get_be16(head + 14) % VNET_VLANS;

	if (!(n->features & VNET_F_CTRL_VLAN) || get_be16(head + 12) != TPID_VLAN)
		return true;
	return n->filter.vlans[id / 64] & BIT64(id % 64);
}

bool vnet_filter_passes(const struct vnet *n, const uint8_t *head)
{
	static const uint8_t broadcast[MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct vnet_filter *f = &n->filter;

	if (f->promisc)
		return true;
	if (!vlan_passes(n, head))
		return false;
	if (memcmp(head, broadcast, MAC_LEN) == 0)
		return !f->nobcast;
	if (head[0] & 1)
		return !f->nomulti &&
		       (f->allmulti || f->multi_overflow || listed(f->multi, f->nmulti, head));
	return !f->nouni && (memcmp(head, n->mac, MAC_LEN) == 0 || f->alluni || f->uni_overflow ||
			     listed(f->uni, f->nuni, head));
}

/* --- commands: each gets what follows the header, already in our memory where it has a fixed length --- */

static uint8_t set_rx_mode(struct vnet *n, uint8_t cmd, const uint8_t *data)
{
	struct vnet_filter *f = &n->filter;
	bool *const modes[] = {
		[RX_PROMISC] = &f->promisc, [RX_ALLMULTI] = &f->allmulti, [RX_ALLUNI] = &f->alluni,
		[RX_NOMULTI] = &f->nomulti, [RX_NOUNI] = &f->nouni,	  [RX_NOBCAST] = &f->nobcast
	};

	*modes[cmd] = data[0];
	return ACK_OK;
}

static uint8_t set_mac(struct vnet *n, uint8_t cmd, const uint8_t *data)
{
	(void)cmd;
	if (!mac_is_station(data))
		return ACK_ERR;
	memcpy(n->mac, data, MAC_LEN);
	return ACK_OK;
}

static uint8_t set_vlan(struct vnet *n, uint8_t cmd, const uint8_t *data)
{
	unsigned int id = get_le16(data);

	if (id >= VNET_VLANS)
		return ACK_ERR;
	if (cmd == VLAN_ADD)
		n->filter.vlans[id / 64] |= BIT64(id % 64);
	else
		n->filter.vlans[id / 64] &= ~BIT64(id % 64);
	return ACK_OK;
}

static uint8_t announced(struct vnet *n, uint8_t cmd, const uint8_t *data)
{
	(void)cmd;
	(void)data;
	n->announce = false;
	return ACK_OK;
}

static uint8_t set_pairs(struct vnet *n, uint8_t cmd, const uint8_t *data)
{
	unsigned int pairs = get_le16(data);
	int r;

	(void)cmd;
	if (!pairs || pairs > n->pairs)
		return ACK_ERR;
	for (unsigned int i = pairs; i < n->active; i++) {
		vnet_vhost_stop(n, i);
		vnet_rx_pause(n, i);
	}
	r = net_set_queues(n->line, pairs);
	if (r == 0)
		n->active = pairs;
	else
		(void)net_set_queues(n->line, n->active); /* it may have gone half of the way */
	for (unsigned int i = 0; i < n->active; i++)
		if (!vnet_vhost_update(n, i))
			vnet_rx_kick(n, i);
	return r == 0 ? ACK_OK : ACK_ERR;
}

static uint8_t set_offloads(struct vnet *n, uint8_t cmd, const uint8_t *data)
{
	uint64_t offloads = get_le64(data);

	(void)cmd;
	if (offloads & ~(n->features & VNET_GUEST_OFFLOADS))
		return ACK_ERR;
	n->guest_offloads = offloads;
	vnet_apply_offloads(n);
	return ACK_OK;
}

static const struct {
	uint8_t class, cmd, len;
	uint64_t feature;
	uint8_t (*run)(struct vnet *n, uint8_t cmd, const uint8_t *data);
} commands[] = {
	{ CLASS_RX, RX_PROMISC, 1, VNET_F_CTRL_RX, set_rx_mode },
	{ CLASS_RX, RX_ALLMULTI, 1, VNET_F_CTRL_RX, set_rx_mode },
	{ CLASS_RX, RX_ALLUNI, 1, VNET_F_CTRL_RX_EXTRA, set_rx_mode },
	{ CLASS_RX, RX_NOMULTI, 1, VNET_F_CTRL_RX_EXTRA, set_rx_mode },
	{ CLASS_RX, RX_NOUNI, 1, VNET_F_CTRL_RX_EXTRA, set_rx_mode },
	{ CLASS_RX, RX_NOBCAST, 1, VNET_F_CTRL_RX_EXTRA, set_rx_mode },
	{ CLASS_MAC, MAC_ADDR_SET, MAC_LEN, VNET_F_CTRL_MAC_ADDR, set_mac },
	{ CLASS_VLAN, VLAN_ADD, 2, VNET_F_CTRL_VLAN, set_vlan },
	{ CLASS_VLAN, VLAN_DEL, 2, VNET_F_CTRL_VLAN, set_vlan },
	{ CLASS_ANNOUNCE, 0, 0, VNET_F_GUEST_ANNOUNCE, announced },
	{ CLASS_MQ, 0, 2, VNET_F_MQ, set_pairs },
	{ CLASS_OFFLOADS, 0, 8, VNET_F_CTRL_GUEST_OFFLOADS, set_offloads },
};

/*
 * One table of s5.1.6.5.2 at *offset of the command: a count, then addresses. More than max of them: none is kept and
 * overflow set. False if the command is too short for what it says.
 */
static bool read_table(const struct virtq_chain *c, uint64_t *offset, uint8_t (*out)[MAC_LEN],
		       unsigned int *count, bool *overflow)
{
	uint8_t raw[4];
	uint64_t bytes;

	if (virtq_read(c, *offset, raw, sizeof(raw)) < sizeof(raw))
		return false;
	*offset += sizeof(raw);
	*count = get_le32(raw);
	bytes = (uint64_t)*count * MAC_LEN;
	if (bytes > c->read_len - *offset)
		return false;
	*overflow = *count > VNET_MACS_MAX;
	if (*overflow)
		*count = 0;
	virtq_read(c, *offset, out, *count * MAC_LEN);
	*offset += bytes;
	return true;
}

/* Unicast addresses, then those of groups. A wrong command leaves the tables as they are. */
static uint8_t set_tables(struct vnet *n)
{
	struct vnet_filter *f = &n->filter;
	uint8_t uni[VNET_MACS_MAX][MAC_LEN], multi[VNET_MACS_MAX][MAC_LEN];
	uint64_t offset = sizeof(struct ctrl_header);
	unsigned int nuni, nmulti;
	bool uni_overflow, multi_overflow;

	if (!read_table(&n->chain, &offset, uni, &nuni, &uni_overflow) ||
	    !read_table(&n->chain, &offset, multi, &nmulti, &multi_overflow) ||
	    offset != n->chain.read_len)
		return ACK_ERR;
	memcpy(f->uni, uni, nuni * sizeof(uni[0]));
	memcpy(f->multi, multi, nmulti * sizeof(multi[0]));
	f->nuni = nuni;
	f->nmulti = nmulti;
	f->uni_overflow = uni_overflow;
	f->multi_overflow = multi_overflow;
	return ACK_OK;
}

static uint8_t run_command(struct vnet *n)
{
	struct ctrl_header h;
	uint8_t data[8];

	if (virtq_read(&n->chain, 0, &h, sizeof(h)) < sizeof(h))
		return ACK_ERR;
	if (h.class == CLASS_MAC && h.cmd == MAC_TABLE_SET)
		return n->features & VNET_F_CTRL_RX ? set_tables(n) : ACK_ERR;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].class != h.class || commands[i].cmd != h.cmd)
			continue;
		if (!(n->features & commands[i].feature) ||
		    n->chain.read_len != sizeof(h) + commands[i].len)
			return ACK_ERR;
		virtq_read(&n->chain, sizeof(h), data, commands[i].len);
		return commands[i].run(n, h.cmd, data);
	}
	return ACK_ERR;
}

void vnet_ctrl_kick(struct vnet *n, unsigned int q)
{
	struct virtio *v = &n->v;
	unsigned int done = 0;

	while (done < KICK_MAX && virtio_pop(v, q, &n->chain)) {
		uint16_t head = n->chain.head;
		struct iovec ack;
		uint8_t result;

		done++;
		if (virtq_slice(&n->chain, true, 0, 1, &ack, 1) != 1) {
			virtio_fail(v, "control command without room for an answer");
			break;
		}
		result = run_command(n); /* may use n->chain for something else */
		*(uint8_t *)ack.iov_base = result;
		virtio_push(v, q, v->generation, head, 1);
	}
	virtio_flush(v, q);
	if (done == KICK_MAX || virtio_set_notify(v, q, true))
		virtio_kick_again(v, q);
}
