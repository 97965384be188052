/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "conf/conf.h"
#include "hw/models.h"
#include "hw/virtio_net_priv.h"
#include "util/bytes.h"
#include "util/err.h"

#define QUEUES_MAX (2 * NET_QUEUES_MAX + 1)
#define USUAL_MTU 1500u
#define SPEED_MBPS 10000u

/* s5.1.4.2 */
#define STATUS_LINK_UP 1u
#define STATUS_ANNOUNCE 2u

/* s5.1.4 */
struct PACKED vnet_config {
	uint8_t mac[MAC_LEN];
	le16 status, max_virtqueue_pairs, mtu;
	le32 speed;
	uint8_t duplex;
};

_Static_assert(sizeof(struct vnet_config) == 17, "virtio 1.2 s5.1.4");

enum { VHOST_AUTO, VHOST_ON, VHOST_OFF };

struct vnet_conf {
	struct net_spec net;
	char *mac;
	uint64_t mtu;
	int vhost;
};

/* --- the line --- */

void vnet_apply_offloads(struct vnet *n)
{
	uint64_t f = n->guest_offloads;
	unsigned int o = 0;

	/* s5.1.3.1: the others need GUEST_CSUM */
	if (f & VNET_F_GUEST_CSUM) {
		o |= NET_O_CSUM;
		if (f & VNET_F_GUEST_TSO4)
			o |= NET_O_TSO4;
		if (f & VNET_F_GUEST_TSO6)
			o |= NET_O_TSO6;
		if ((f & VNET_F_GUEST_ECN) && (o & (NET_O_TSO4 | NET_O_TSO6)))
			o |= NET_O_ECN;
		if ((f & VNET_F_GUEST_USO4) && (f & VNET_F_GUEST_USO6))
			o |= NET_O_USO;
	}
	net_set_offloads(n->line, o & n->offloads);
}

static void vnet_readable(struct dev *d, unsigned int pair)
{
	struct vnet *n = vnet_of(virtio_of(d));

	if (dev_is_running(d))
		vnet_rx_start(n, pair);
}

/* The link is up when the cable is in and the line is up. */
static void link_look(struct vnet *n)
{
	bool up = n->plugged && net_link_up(n->line);

	if (up == n->link)
		return;
	n->link = up;
	/* the other end may not know us (any more): s5.1.6.5.4 */
	n->announce = up && (n->features & VNET_F_GUEST_ANNOUNCE);
	if (n->features & VNET_F_STATUS)
		virtio_config_changed(&n->v);
	vnet_vhost_link(n);
}

static void vnet_line_changed(struct dev *d, bool up)
{
	(void)up;
	link_look(vnet_of(virtio_of(d)));
}

static bool vnet_link(struct dev *d, int plug)
{
	struct vnet *n = vnet_of(virtio_of(d));

	if (plug >= 0) {
		n->plugged = plug;
		link_look(n);
	}
	return n->link;
}

/* With vhost-net only what cannot be sent now comes here, to be given back. */
static void send_waiting(struct vnet *n, unsigned int pair)
{
	if (!vnet_vhost_update(n, pair) || !n->vhost[pair].running)
		vnet_tx_start(n, pair);
}

static void vnet_batch_end(struct dev *d)
{
	struct vnet *n = vnet_of(virtio_of(d));

	for (unsigned int i = 0; i < n->pairs; i++) {
		bool sent = vnet_tx_finish(n, i), received = vnet_rx_finish(n, i);

		if (sent && dev_is_running(d))
			send_waiting(n, i);
		if (received && dev_is_running(d))
			vnet_rx_kick(n, i);
	}
	if (d->state == DEV_PAUSING && !n->in_flight)
		dev_paused(d);
}

static void vnet_stalled(struct dev *d)
{
	struct vnet *n = vnet_of(virtio_of(d));

	for (unsigned int i = 0; i < n->pairs; i++) {
		bool look = n->rx[i].stalled || n->rx[i].failed;

		n->rx[i].failed = false;
		/* while paused: the kick of resume looks at it again */
		if (look && dev_is_running(d))
			vnet_rx_give_up(n, i);
	}
}

static void vnet_look(struct dev *d)
{
	struct vnet *n = vnet_of(virtio_of(d));
	uint64_t now = loop_now(d->env.loop);

	for (unsigned int i = 0; dev_is_running(d) && i < n->pairs; i++) {
		uint64_t at = n->tx[i].look_ns;

		if (at > now)
			vnet_tx_look_at(n, at);
		else if (at)
			send_waiting(n, i);
	}
}

/* --- the driver --- */

static uint64_t vnet_features(struct virtio *v)
{
	static const struct {
		unsigned int offload;
		uint64_t features;
	} guest[] = {
		{ NET_O_CSUM, VNET_F_GUEST_CSUM | VNET_F_CTRL_GUEST_OFFLOADS },
		{ NET_O_TSO4, VNET_F_GUEST_TSO4 },
		{ NET_O_TSO6, VNET_F_GUEST_TSO6 },
		{ NET_O_ECN, VNET_F_GUEST_ECN },
		{ NET_O_USO, VNET_F_GUEST_USO4 | VNET_F_GUEST_USO6 },
	};
	const struct vnet *n = vnet_of(v);
	uint64_t f = VNET_F_CSUM | VNET_F_HOST_TSO4 | VNET_F_HOST_TSO6 | VNET_F_HOST_ECN |
		     VNET_F_HOST_USO | VNET_F_MAC | VNET_F_MRG_RXBUF | VNET_F_STATUS |
		     VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VNET_F_CTRL_RX_EXTRA | VNET_F_CTRL_VLAN |
		     VNET_F_CTRL_MAC_ADDR | VNET_F_GUEST_ANNOUNCE | VNET_F_SPEED_DUPLEX;

	for (size_t i = 0; i < ARRAY_LEN(guest); i++)
		if (n->offloads & guest[i].offload)
			f |= guest[i].features;
	if (n->mtu)
		f |= VNET_F_MTU;
	if (n->pairs > 1)
		f |= VNET_F_MQ;
	return f & ~vnet_vhost_lacks(n);
}

static uint64_t vnet_config_read(struct virtio *v, uint32_t offset, unsigned int size)
{
	const struct vnet *n = vnet_of(v);
	struct vnet_config c = {
		.status = (uint16_t)((n->link ? STATUS_LINK_UP : 0) |
				     (n->announce ? STATUS_ANNOUNCE : 0)),
		.max_virtqueue_pairs = (uint16_t)n->pairs,
		.mtu = n->mtu,
		.speed = SPEED_MBPS,
		.duplex = 1,
	};
	uint64_t value = 0;

	memcpy(c.mac, n->mac, MAC_LEN);
	memcpy(&value, (const uint8_t *)&c + offset, size);
	return value;
}

static void vnet_kick(struct virtio *v, unsigned int q)
{
	struct vnet *n = vnet_of(v);
	unsigned int pairs = n->features & VNET_F_MQ ? n->pairs : 1; /* s5.1.2 */

	if (q == 2 * pairs && (n->features & VNET_F_CTRL_VQ)) {
		vnet_ctrl_kick(n, q);
		return;
	}
	if (q >= 2 * pairs)
		return;
	if (q % 2)
		send_waiting(n, q / 2);
	else if (!vnet_vhost_update(n, q / 2))
		vnet_rx_kick(n, q / 2);
}

static void vnet_started(struct virtio *v, uint64_t features)
{
	struct vnet *n = vnet_of(v);

	n->features = features;
	n->guest_offloads = features & VNET_GUEST_OFFLOADS;
	vnet_apply_offloads(n);
}

/* What a driver finds, the first one and the one after a reset. */
static void driver_state_reset(struct vnet *n)
{
	n->features = n->guest_offloads = 0;
	n->announce = false;
	n->active = 1;
	memcpy(n->mac, n->first_mac, MAC_LEN);
	vnet_filter_reset(n);
}

static void vnet_stopped(struct virtio *v)
{
	struct vnet *n = vnet_of(v);

	for (unsigned int i = 0; i < n->pairs; i++)
		vnet_vhost_stop(n, i);
	n->vhost_failed = false;
	driver_state_reset(n);
	net_set_offloads(n->line, 0);
	net_set_queues(n->line, 1);
	for (unsigned int i = 0; i < n->pairs; i++) {
		vnet_tx_forget(n, i);
		vnet_rx_forget(n, i);
	}
}

static void vnet_rewired(struct virtio *v)
{
	vnet_vhost_rewire(vnet_of(v));
}

static unsigned int vnet_in_flight(struct virtio *v)
{
	return vnet_of(v)->in_flight;
}

static const struct virtio_desc vnet_desc = {
	.id = 1,
	.class_code = 0x020000, /* Ethernet controller */
	.queues = QUEUES_MAX,
	.queue_size = VNET_QUEUE_SIZE,
	.config_size = sizeof(struct vnet_config),
	.features = vnet_features,
	.kick = vnet_kick,
	.config_read = vnet_config_read,
	.started = vnet_started,
	.stopped = vnet_stopped,
	.in_flight = vnet_in_flight,
	.rewired = vnet_rewired,
};

/* --- life cycle --- */

static int queues_init(struct vnet *n, struct err *err)
{
	n->rx = calloc(n->pairs, sizeof(*n->rx));
	n->tx = calloc(n->pairs, sizeof(*n->tx));
	n->overflow_size = (size_t)n->pairs * VNET_RX_BATCH * VNET_OVERFLOW;
	n->overflow = mmap(NULL, n->overflow_size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (n->overflow == MAP_FAILED)
		n->overflow = NULL;
	if (!n->rx || !n->tx || !n->overflow)
		return err_set(err, -ENOMEM, "%s: out of memory", n->v.fn.dev.env.name);
	for (unsigned int i = 0; i < n->pairs; i++) {
		vnet_rx_init(n, i);
		vnet_tx_init(n, i);
	}
	return 0;
}

/* The line's own MTU is worth telling where the guest would not guess it. */
static uint16_t choose_mtu(uint64_t mtu, const struct net_info *info)
{
	if (!mtu && info->mtu >= NET_MTU_MIN && info->mtu <= NET_MTU_MAX && info->mtu != USUAL_MTU)
		mtu = info->mtu;
	return (uint16_t)mtu;
}

static int vhost_choose(struct vnet *n, int how, struct err *err)
{
	struct err why;
	int r = how == VHOST_OFF ? -ENOTSUP : vnet_vhost_init(n, how == VHOST_ON ? err : &why);

	if (r < 0)
		vnet_vhost_fini(n);
	return how == VHOST_ON ? r : 0;
}

static int vnet_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	static const struct dev_net_events events = {
		.readable = vnet_readable,
		.link = vnet_line_changed,
		.batch_end = vnet_batch_end,
	};
	struct vnet *n = vnet_of(virtio_of(d));
	const struct vnet_conf *c = conf;
	const struct net_info *info;
	int r;

	r = mac_make(env, c->mac, n->first_mac, err);
	if (r < 0)
		return err_prefix(err, r, "%s", env->name);
	n->line = dev_net_open(d, &c->net, &events, err);
	if (!n->line)
		return -EIO;
	info = net_info_get(n->line);
	n->offloads = info->offloads;
	n->pairs = info->queues;
	n->plugged = true;
	n->link = net_link_up(n->line);
	driver_state_reset(n);
	n->mtu = choose_mtu(c->mtu, info);
	r = queues_init(n, err);
	if (r < 0)
		return r;
	r = vhost_choose(n, c->vhost, err);
	if (r < 0)
		return err_prefix(err, r, "%s: vhost=on", env->name);
	dev_timer_init(&n->stall, d, vnet_stalled);
	dev_timer_init(&n->look, d, vnet_look);
	return virtio_init(&n->v, &vnet_desc, 2 * n->pairs + 1, err);
}

static void vnet_fini(struct dev *d)
{
	struct vnet *n = vnet_of(virtio_of(d));

	vnet_vhost_fini(n);
	virtio_fini(&n->v);
	net_close(n->line);
	if (n->overflow)
		munmap(n->overflow, n->overflow_size);
	free(n->rx);
	free(n->tx);
}

static void vnet_pause(struct dev *d)
{
	struct vnet *n = vnet_of(virtio_of(d));

	for (unsigned int i = 0; i < n->pairs; i++) {
		vnet_vhost_stop(n, i);
		vnet_rx_pause(n, i);
	}
	if (!n->in_flight)
		dev_paused(d);
}

static void vnet_reset(struct dev *d)
{
	virtio_reset(virtio_of(d));
}

static void vnet_resume(struct dev *d)
{
	virtio_resume(virtio_of(d));
}

static const char *const vhost_choices[] = { "auto", "on", "off", NULL };

static const struct conf_key vnet_keys[] = {
	NET_SPEC_KEYS(struct vnet_conf, net),
	{ .name = "mac",
	  .type = CONF_STR,
	  .offset = offsetof(struct vnet_conf, mac),
	  .help = "address; default: 58:9c:fc and three bytes made of guest and slot" },
	{ .name = "mtu",
	  .type = CONF_U64,
	  .offset = offsetof(struct vnet_conf, mtu),
	  .min = NET_MTU_MIN,
	  .max = NET_MTU_MAX,
	  .help = "tell the guest this MTU; default: the backend's, if it is not 1500" },
	{ .name = "vhost",
	  .type = CONF_ENUM,
	  .offset = offsetof(struct vnet_conf, vhost),
	  .def = "auto",
	  .choices = vhost_choices,
	  .help = "let the kernel move the frames of a tap; auto: if it can" },
	CONF_KEY_END
};

const struct dev_ops virtio_net_ops = {
	.model = "virtio-net",
	.help = "virtio network card",
	.keys = vnet_keys,
	.size = sizeof(struct vnet),
	.conf_size = sizeof(struct vnet_conf),
	.init = vnet_init,
	.pause = vnet_pause,
	.resume = vnet_resume,
	.reset = vnet_reset,
	.fini = vnet_fini,
	.link = vnet_link,
};
