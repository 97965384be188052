/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "virtio/virtio.h"

#include <assert.h>

#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "virtio/virtio_priv.h"

#define S_DRIVER_BITS                                                                         \
	(VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK | VIRTIO_S_FEATURES_OK | \
	 VIRTIO_S_FAILED)

static void interrupt(struct virtio *v, uint16_t vector, uint8_t isr)
{
	if (pci_msix_enabled(&v->fn)) {
		if (vector != VIRTIO_NO_VECTOR)
			pci_msix_fire(&v->fn, vector);
		return;
	}
	v->isr |= isr; /* s4.1.4.5.1: with INTx only */
	pci_intx_set(&v->fn, true);
}

static void config_interrupt(struct virtio *v)
{
	if (v->status & VIRTIO_S_DRIVER_OK)
		interrupt(v, v->config_vector, VIRTIO_ISR_CONFIG);
}

void virtio_fail(struct virtio *v, const char *why)
{
	if (v->status & VIRTIO_S_NEEDS_RESET)
		return;
	log_limited(LOG_LEVEL_WARN, v->fn.dev.env.name, "%s: the driver must reset the device",
		    why);
	v->status |= VIRTIO_S_NEEDS_RESET;
	config_interrupt(v);
}

void virtio_config_changed(struct virtio *v)
{
	v->config_generation++;
	config_interrupt(v);
}

uint64_t virtio_features_offered(struct virtio *v)
{
	uint64_t own = v->desc->features ? v->desc->features(v) : 0;

	return own | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
}

/* --- queues --- */

bool virtio_queue_ready(const struct virtio *v, unsigned int q)
{
	return q < v->nqueues && (v->status & VIRTIO_S_DRIVER_OK) && v->queues[q].vq.size;
}

int virtio_pop(struct virtio *v, unsigned int q, struct virtq_chain *c)
{
	int r;

	if (!virtio_queue_ready(v, q) || (v->status & VIRTIO_S_NEEDS_RESET))
		return 0;
	r = virtq_pop(&v->queues[q].vq, c);
	if (r >= 0)
		return r;
	virtio_fail(v, "broken descriptor chain");
	return 0;
}

void virtio_push(struct virtio *v, unsigned int q, uint32_t generation, uint16_t head,
		 uint32_t written)
{
	if (generation == v->generation && virtio_queue_ready(v, q))
		virtq_push(&v->queues[q].vq, head, written);
}

void virtio_flush(struct virtio *v, unsigned int q)
{
	if (virtio_queue_ready(v, q) && virtq_publish(&v->queues[q].vq))
		virtio_interrupt(v, q);
}

void virtio_interrupt(struct virtio *v, unsigned int q)
{
	if (virtio_queue_ready(v, q))
		interrupt(v, v->queues[q].vector, VIRTIO_ISR_QUEUE);
}

bool virtio_set_notify(struct virtio *v, unsigned int q, bool on)
{
	/* What waits behind a broken chain is never taken: nobody may wait for it to go away. */
	return virtio_queue_ready(v, q) && virtq_set_notify(&v->queues[q].vq, on) &&
	       !(v->status & VIRTIO_S_NEEDS_RESET);
}

void virtio_kick_again(struct virtio *v, unsigned int q)
{
	fd_event_set(v->queues[q].kick.fd);
}

void virtio_notify(struct virtio *v, unsigned int q)
{
	if (q < v->nqueues)
		fd_event_set(v->queues[q].bell.bell.fd);
}

/* Lets kicks go to fd. If the host has no doorbell for it, they come through virtio_notify(). */
static void redirect(struct virtio *v, struct virtio_queue *q, int fd)
{
	pci_doorbell_del(&v->fn, &q->bell);
	q->bell.bell.fd = fd;
	(void)pci_doorbell_add(&v->fn, &q->bell);
}

void virtio_lend(struct virtio *v, unsigned int q, int kick, struct virtio_lent *out)
{
	struct virtio_queue *vq = &v->queues[q];

	assert(virtio_queue_ready(v, q) && !vq->lent && vq->vq.popped == vq->vq.pushed);
	*out = (struct virtio_lent){ .desc = vq->vq.desc,
				     .avail = vq->vq.avail,
				     .used = vq->vq.used,
				     .size = vq->vq.size,
				     .next = vq->vq.last_avail };
	vq->lent = true;
	redirect(v, vq, kick);
}

void virtio_take_back(struct virtio *v, unsigned int q, uint16_t next)
{
	struct virtio_queue *vq = &v->queues[q];

	assert(vq->lent);
	vq->lent = false;
	virtq_go_on(&vq->vq, next);
	redirect(v, vq, vq->kick.fd);
	virtio_kick_again(v, q);
}

int virtio_call_fd(struct virtio *v, unsigned int q)
{
	return pci_msix_fd(&v->fn, v->queues[q].vector);
}

static void kicked(struct dev_event *e)
{
	struct virtio *v = virtio_of(e->dev);

	/* while paused nothing is lost: resume looks at every queue */
	if (dev_is_running(e->dev) && virtio_queue_ready(v, e->index))
		v->desc->kick(v, e->index);
}

/* Takes the guest's addresses into use. */
static void queue_latch(struct virtio *v, struct virtio_queue *q)
{
	if (virtq_enable(&q->vq, &v->fn.dma, q->size, q->rings[0], q->rings[1], q->rings[2],
			 v->features) < 0)
		virtio_fail(v, "queue with impossible ring addresses");
}

void virtio_queue_enable(struct virtio *v, unsigned int q)
{
	if (v->queues[q].enabled || !(v->status & VIRTIO_S_FEATURES_OK))
		return;
	v->queues[q].enabled = true;
	if (v->status & VIRTIO_S_DRIVER_OK)
		queue_latch(v, &v->queues[q]);
}

/* --- status (virtio 1.2 s2.1, s3.1.1) --- */

static void queue_reset(struct virtio *v, struct virtio_queue *q)
{
	virtq_disable(&q->vq);
	q->size = v->desc->queue_size;
	q->vector = VIRTIO_NO_VECTOR;
	q->enabled = false;
	q->rings[0] = q->rings[1] = q->rings[2] = 0;
}

static void state_reset(struct virtio *v)
{
	v->generation++;
	v->status = v->isr = 0;
	v->config_vector = VIRTIO_NO_VECTOR;
	v->queue_select = 0;
	v->device_feature_select = v->driver_feature_select = 0;
	v->bad_features = false;
	v->driver_features = v->features = 0;
	for (unsigned int i = 0; i < v->nqueues; i++)
		queue_reset(v, &v->queues[i]);
	if (v->desc->stopped)
		v->desc->stopped(v);
}

static bool draining(struct virtio *v)
{
	if (v->drain_status && !v->desc->in_flight(v))
		v->drain_status = 0;
	return v->drain_status;
}

uint8_t virtio_status_read(struct virtio *v)
{
	return draining(v) ? v->drain_status : v->status;
}

static void driver_reset(struct virtio *v)
{
	uint8_t old = v->status;

	if (draining(v))
		return;
	state_reset(v);
	pci_intx_set(&v->fn, false);
	if (v->desc->in_flight && v->desc->in_flight(v))
		v->drain_status = old;
}

static void activate(struct virtio *v)
{
	for (unsigned int i = 0; i < v->nqueues; i++)
		if (v->queues[i].enabled)
			queue_latch(v, &v->queues[i]);
	if (v->desc->started)
		v->desc->started(v, v->features);
	virtio_resume(v);
}

static bool features_acceptable(struct virtio *v)
{
	return !v->bad_features && !(v->driver_features & ~virtio_features_offered(v)) &&
	       (v->driver_features & VIRTIO_F_VERSION_1);
}

void virtio_status_write(struct virtio *v, uint8_t value)
{
	uint8_t old = v->status, added = value & (uint8_t)~old;

	if (!value) {
		driver_reset(v);
		return;
	}
	/* only a reset takes bits away, and nothing else follows FAILED */
	if (draining(v) || (old & VIRTIO_S_FAILED) || (old & ~value & S_DRIVER_BITS))
		return;
	if (added & VIRTIO_S_FEATURES_OK) {
		if ((value & VIRTIO_S_ACKNOWLEDGE) && (value & VIRTIO_S_DRIVER) &&
		    features_acceptable(v))
			v->features = v->driver_features;
		else
			added &= (uint8_t)~VIRTIO_S_FEATURES_OK;
	}
	if (!((old | added) & VIRTIO_S_FEATURES_OK) || (old & VIRTIO_S_NEEDS_RESET))
		added &= (uint8_t)~VIRTIO_S_DRIVER_OK;
	v->status = old | (added & S_DRIVER_BITS);
	if (added & VIRTIO_S_DRIVER_OK)
		activate(v);
}

/* --- life cycle --- */

int virtio_init(struct virtio *v, const struct virtio_desc *desc, unsigned int queues,
		struct err *err)
{
	int r;

	assert(queues && queues <= desc->queues && desc->queues <= VIRTIO_MAX_QUEUES);
	v->desc = desc;
	v->nqueues = queues;
	virtio_regs_describe(v);
	r = pci_fn_init(&v->fn, &v->pci, err);
	if (r < 0)
		return r;
	virtio_regs_locate(v);
	for (unsigned int i = 0; i < queues; i++) {
		struct virtio_queue *q = &v->queues[i];

		r = dev_event_init(&q->kick, &v->fn.dev, i, kicked, err);
		if (r < 0)
			return r;
		q->bell.bar = VIRTIO_BAR;
		q->bell.offset = VIRTIO_WIN_NOTIFY + VIRTIO_NOTIFY_STRIDE * i;
		q->bell.bell.fd = q->kick.fd;
		r = pci_doorbell_add(&v->fn, &q->bell);
		if (r < 0)
			return err_set(err, r, "%s: cannot register a doorbell",
				       v->fn.dev.env.name);
		queue_reset(v, q);
	}
	v->config_vector = VIRTIO_NO_VECTOR;
	return 0;
}

void virtio_fini(struct virtio *v)
{
	for (unsigned int i = 0; i < v->nqueues; i++)
		if (v->queues[i].bell.wanted)
			pci_doorbell_del(&v->fn, &v->queues[i].bell);
	pci_fn_fini(&v->fn);
	for (unsigned int i = 0; i < v->nqueues; i++)
		dev_event_fini(&v->queues[i].kick);
}

void virtio_reset(struct virtio *v)
{
	state_reset(v);
	v->drain_status = 0;
	pci_fn_reset(&v->fn);
}

void virtio_resume(struct virtio *v)
{
	for (unsigned int i = 0; i < v->nqueues; i++)
		if (virtio_queue_ready(v, i))
			virtio_kick_again(v, i);
}
