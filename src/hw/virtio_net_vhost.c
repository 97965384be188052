/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/vhost.h"
#include "hw/virtio_net_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/*
 * vhost-net: while the driver is up and the link too, the kernel serves the queue pairs in use; the control queue stays
 * here. A pair goes there with its first kick, before a chain of it has been taken here, and comes back whenever the
 * device pauses, is reset, or must not write to memory. Interrupts go from the kernel straight to the guest where
 * MSI-X allows, else through an eventfd of ours. What the filters would keep out passes (s5.1.6.5: they are a help).
 */
static unsigned int index_of(unsigned int pair, unsigned int ring)
{
	return ring ? vnet_tx_index(pair) : vnet_rx_index(pair);
}

/* An interrupt that could not go straight to the guest. */
static void vhost_called(struct dev_event *e)
{
	virtio_interrupt(virtio_of(e->dev), e->index);
}

static void vhost_broken(struct dev_event *e)
{
	struct vnet *n = vnet_of(virtio_of(e->dev));

	if (!fd_event_clear(e->fd) || !n->vhost[e->index / 2].running)
		return;
	virtio_fail(&n->v, "broken descriptor chain");
	vnet_vhost_stop(n, e->index / 2);
}

static int call_fd(struct vnet *n, unsigned int pair, unsigned int ring)
{
	int fd = virtio_call_fd(&n->v, index_of(pair, ring));

	return fd < 0 ? n->vhost[pair].call[ring].fd : fd;
}

static int pair_init(struct vnet *n, unsigned int pair, struct err *err)
{
	struct vnet_vhost *h = &n->vhost[pair];
	struct dev *d = &n->v.fn.dev;
	int r;

	if (net_tap_fd(n->line, pair) < 0)
		return err_set(err, -EOPNOTSUPP, "%s is no tap", net_info_get(n->line)->name);
	r = h->fd = vhost_open(d->env.mem, err);
	for (unsigned int i = 0; r >= 0 && i < 2; i++) {
		r = dev_event_init(&h->call[i], d, index_of(pair, i), vhost_called, err);
		if (r == 0)
			r = dev_event_init(&h->err[i], d, index_of(pair, i), vhost_broken, err);
		if (r < 0)
			break;
		r = h->kick[i] = fd_event_new();
		if (r < 0)
			err_set(err, r, "cannot make an eventfd: %s", strerror(-r));
	}
	return r < 0 ? r : 0;
}

int vnet_vhost_init(struct vnet *n, struct err *err)
{
	int r = 0;

	n->vhost = calloc(n->pairs, sizeof(*n->vhost));
	if (!n->vhost)
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned int p = 0; p < n->pairs; p++)
		n->vhost[p].fd = n->vhost[p].kick[0] = n->vhost[p].kick[1] = -1;
	for (unsigned int p = 0; r == 0 && p < n->pairs; p++)
		r = pair_init(n, p, err);
	return r;
}

void vnet_vhost_fini(struct vnet *n)
{
	for (unsigned int p = 0; n->vhost && p < n->pairs; p++) {
		struct vnet_vhost *h = &n->vhost[p];

		vnet_vhost_stop(n, p);
		for (unsigned int i = 0; i < 2; i++) {
			dev_event_fini(&h->call[i]);
			dev_event_fini(&h->err[i]);
			fd_close(&h->kick[i]);
		}
		fd_close(&h->fd);
	}
	free(n->vhost);
	n->vhost = NULL;
}

uint64_t vnet_vhost_lacks(const struct vnet *n)
{
	if (!n->vhost)
		return 0;
	/* The kernel does not filter by VLAN, and nobody splits what its taps do not know. */
	return VNET_F_CTRL_VLAN | (n->offloads & NET_O_USO ? 0 : VNET_F_HOST_USO);
}

/* May the kernel have this pair now? */
static bool wanted(const struct vnet *n, unsigned int pair)
{
	return dev_is_running(&n->v.fn.dev) && pair < n->active && n->link && n->v.fn.dma.on &&
	       !(n->v.status & VIRTIO_S_NEEDS_RESET) && !n->tx[pair].nheads &&
	       virtio_queue_ready(&n->v, vnet_rx_index(pair)) &&
	       virtio_queue_ready(&n->v, vnet_tx_index(pair));
}

static void take_back(struct vnet *n, unsigned int pair)
{
	for (unsigned int i = 0; i < 2; i++)
		virtio_take_back(&n->v, index_of(pair, i), n->vhost[pair].rings[i].next);
}

static int start(struct vnet *n, unsigned int pair)
{
	struct vnet_vhost *h = &n->vhost[pair];
	int r;

	/* Frames may have been wanted here, of a driver for which vhost-net did not start. */
	vnet_rx_pause(n, pair);
	if (h->stale)
		vhost_drop_frames(net_tap_fd(n->line, pair));
	h->stale = false;
	for (unsigned int i = 0; i < 2; i++) {
		struct virtio_lent lent;

		virtio_lend(&n->v, index_of(pair, i), h->kick[i], &lent);
		fd_event_clear(h->err[i].fd); /* of another driver */
		h->rings[i] = (struct vhost_ring){ .desc = lent.desc,
						   .avail = lent.avail,
						   .used = lent.used,
						   .size = lent.size,
						   .next = lent.next,
						   .kick = h->kick[i],
						   .call = call_fd(n, pair, i),
						   .err = h->err[i].fd };
	}
	r = vhost_start(h->fd, n->features, h->rings, net_tap_fd(n->line, pair));
	if (r < 0) {
		take_back(n, pair);
		return r;
	}
	h->running = true;
	for (unsigned int i = 0; i < 2; i++)
		fd_event_set(h->kick[i]); /* for what is there already */
	return 0;
}

bool vnet_vhost_update(struct vnet *n, unsigned int pair)
{
	bool want;
	int r;

	if (!n->vhost || n->vhost_failed)
		return false;
	want = wanted(n, pair);
	if (!want)
		vnet_vhost_stop(n, pair);
	if (!want || n->vhost[pair].running)
		return true;
	r = start(n, pair);
	if (r == 0)
		return true;
	log_limited(LOG_LEVEL_WARN, n->v.fn.dev.env.name,
		    "vhost-net does not start: %s; going on without it", strerror(-r));
	n->vhost_failed = true;
	for (unsigned int i = 0; i < n->pairs; i++)
		vnet_vhost_stop(n, i);
	return false;
}

void vnet_vhost_stop(struct vnet *n, unsigned int pair)
{
	struct vnet_vhost *h = n->vhost ? &n->vhost[pair] : NULL;

	if (!h || !h->running)
		return;
	h->running = false;
	vhost_stop(h->fd, h->rings);
	take_back(n, pair);
}

void vnet_vhost_link(struct vnet *n)
{
	for (unsigned int p = 0; n->vhost && p < n->pairs; p++) {
		n->vhost[p].stale = n->vhost[p].stale || !n->link;
		vnet_vhost_update(n, p);
	}
}

void vnet_vhost_rewire(struct vnet *n)
{
	for (unsigned int p = 0; n->vhost && p < n->pairs; p++) {
		struct vnet_vhost *h = &n->vhost[p];

		if (!n->v.fn.dma.on)
			vnet_vhost_stop(n, p);
		for (unsigned int i = 0; h->running && i < 2; i++) {
			int fd = call_fd(n, p, i);

			if (fd != h->rings[i].call && vhost_set_call(h->fd, i, fd) == 0)
				h->rings[i].call = fd;
		}
	}
}
