/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stddef.h>

#include "bus/reg.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "virtio/virtio_priv.h"

/* The registers of virtio 1.2 s4.1.4: what the guest sees of struct virtio. */

#define BAR_SIZE 0x4000u
#define WIN_SIZE 0x1000u
#define COMMON_SIZE 0x38u /* s4.1.4.3 up to queue_device */
#define MSIX_BAR_SIZE 0x1000u
#define MSIX_PBA 0x800u

/* s4.1.4: cfg_type */
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI_CFG };

/* Offsets of the fields of a capability; struct pci_cap data starts 2 bytes later. */
#define CAP_HEAD 2u
#define CAP_TYPE 3u
#define CAP_BAR 4u
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_EXTRA 16u /* notify multiplier, or the PCI_CFG data window */

static struct virtio_queue *selected(struct virtio *v)
{
	return v->queue_select < v->nqueues ? &v->queues[v->queue_select] : NULL;
}

/* The queue whose set-up may be written: selected and not enabled yet. */
static struct virtio_queue *editable(struct virtio *v)
{
	struct virtio_queue *q = selected(v);

	return q && !q->enabled ? q : NULL;
}

static uint64_t device_feature_select_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct virtio *)m)->device_feature_select;
}

static void device_feature_select_write(void *m, unsigned int i, uint64_t value)
{
	(void)i;
	((struct virtio *)m)->device_feature_select = (uint32_t)value;
}

static uint64_t device_feature_read(void *m, unsigned int i)
{
	struct virtio *v = m;

	(void)i;
	if (v->device_feature_select > 1)
		return 0;
	return (uint32_t)(virtio_features_offered(v) >> (32 * v->device_feature_select));
}

static uint64_t driver_feature_select_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct virtio *)m)->driver_feature_select;
}

static void driver_feature_select_write(void *m, unsigned int i, uint64_t value)
{
	(void)i;
	((struct virtio *)m)->driver_feature_select = (uint32_t)value;
}

static uint64_t driver_feature_read(void *m, unsigned int i)
{
	struct virtio *v = m;

	(void)i;
	if (v->driver_feature_select > 1)
		return 0;
	return (uint32_t)(v->driver_features >> (32 * v->driver_feature_select));
}

static void driver_feature_write(void *m, unsigned int i, uint64_t value)
{
	struct virtio *v = m;
	unsigned int shift = 32 * (v->driver_feature_select & 1);

	(void)i;
	if (v->status & VIRTIO_S_FEATURES_OK)
		return;
	if (v->driver_feature_select > 1) {
		v->bad_features |= value != 0;
		return;
	}
	v->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	v->driver_features |= value << shift;
}

/* A vector that does not exist reads back as none (s4.1.5.1.2). */
static uint16_t vector_check(const struct virtio *v, uint64_t value)
{
	return value < v->pci.msix.vectors ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static uint64_t config_vector_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct virtio *)m)->config_vector;
}

static void config_vector_write(void *m, unsigned int i, uint64_t value)
{
	struct virtio *v = m;

	(void)i;
	v->config_vector = vector_check(v, value);
}

static uint64_t num_queues_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct virtio *)m)->nqueues;
}

static uint64_t status_read(void *m, unsigned int i)
{
	(void)i;
	return virtio_status_read(m);
}

static void status_write(void *m, unsigned int i, uint64_t value)
{
	(void)i;
	virtio_status_write(m, (uint8_t)value);
}

static uint64_t config_generation_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct virtio *)m)->config_generation;
}

static uint64_t queue_select_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct virtio *)m)->queue_select;
}

static void queue_select_write(void *m, unsigned int i, uint64_t value)
{
	(void)i;
	((struct virtio *)m)->queue_select = (uint16_t)value;
}

static uint64_t queue_size_read(void *m, unsigned int i)
{
	const struct virtio_queue *q = selected(m);

	(void)i;
	return q ? q->size : 0;
}

static void queue_size_write(void *m, unsigned int i, uint64_t value)
{
	struct virtio *v = m;
	struct virtio_queue *q = editable(v);

	(void)i;
	if (q && value && value <= v->desc->queue_size && !(value & (value - 1)))
		q->size = (uint16_t)value;
}

static uint64_t queue_vector_read(void *m, unsigned int i)
{
	const struct virtio_queue *q = selected(m);

	(void)i;
	return q ? q->vector : VIRTIO_NO_VECTOR;
}

static void queue_vector_write(void *m, unsigned int i, uint64_t value)
{
	struct virtio *v = m;
	struct virtio_queue *q = selected(v);

	(void)i;
	if (!q)
		return;
	q->vector = vector_check(v, value);
	if (v->desc->rewired)
		v->desc->rewired(v);
}

static uint64_t queue_enable_read(void *m, unsigned int i)
{
	const struct virtio_queue *q = selected(m);

	(void)i;
	return q && q->enabled;
}

static void queue_enable_write(void *m, unsigned int i, uint64_t value)
{
	struct virtio *v = m;

	(void)i;
	if (editable(v) && value == 1)
		virtio_queue_enable(v, v->queue_select);
}

static uint64_t queue_notify_off_read(void *m, unsigned int i)
{
	struct virtio *v = m;

	(void)i;
	return selected(v) ? v->queue_select : 0;
}

/* queue_desc, queue_driver, queue_device: low and high halves of three addresses. */
static uint64_t queue_ring_read(void *m, unsigned int i)
{
	const struct virtio_queue *q = selected(m);

	return q ? (uint32_t)(q->rings[i / 2] >> (32 * (i % 2))) : 0;
}

static void queue_ring_write(void *m, unsigned int i, uint64_t value)
{
	struct virtio_queue *q = editable(m);
	unsigned int shift = 32 * (i % 2);

	if (!q)
		return;
	q->rings[i / 2] &= ~((uint64_t)UINT32_MAX << shift);
	q->rings[i / 2] |= value << shift;
}

/* s4.1.4.3 */
static const struct reg common_regs[] = {
	{ 0x00, 4, .name = "device_feature_select", .read = device_feature_select_read,
	  .write = device_feature_select_write },
	{ 0x04, 4, .name = "device_feature", .read = device_feature_read },
	{ 0x08, 4, .name = "driver_feature_select", .read = driver_feature_select_read,
	  .write = driver_feature_select_write },
	{ 0x0c, 4, .name = "driver_feature", .read = driver_feature_read,
	  .write = driver_feature_write },
	{ 0x10, 2, .name = "config_msix_vector", .read = config_vector_read,
	  .write = config_vector_write },
	{ 0x12, 2, .name = "num_queues", .read = num_queues_read },
	{ 0x14, 1, .name = "device_status", .read = status_read, .write = status_write },
	{ 0x15, 1, .name = "config_generation", .read = config_generation_read },
	{ 0x16, 2, .name = "queue_select", .read = queue_select_read, .write = queue_select_write },
	{ 0x18, 2, .name = "queue_size", .read = queue_size_read, .write = queue_size_write },
	{ 0x1a, 2, .name = "queue_msix_vector", .read = queue_vector_read,
	  .write = queue_vector_write },
	{ 0x1c, 2, .name = "queue_enable", .read = queue_enable_read, .write = queue_enable_write },
	{ 0x1e, 2, .name = "queue_notify_off", .read = queue_notify_off_read },
	{ 0x20, 4, .count = 6, .name = "queue_rings", .read = queue_ring_read,
	  .write = queue_ring_write },
};

static const struct reg_table common_table = REG_TABLE(common_regs, 0);

/* s4.1.4.5: reading clears it and lowers the wire. */
static uint64_t isr_read(void *m, unsigned int i)
{
	struct virtio *v = m;
	uint8_t isr = v->isr;

	(void)i;
	v->isr = 0;
	pci_intx_set(&v->fn, false);
	return isr;
}

static const struct reg isr_regs[] = {
	{ 0x00, 1, .name = "isr", .read = isr_read },
};

static const struct reg_table isr_table = REG_TABLE(isr_regs, 0);

static uint64_t window_read(struct dev *d, uint64_t offset, unsigned int size)
{
	struct virtio *v = virtio_of(d);
	uint32_t in = (uint32_t)(offset % WIN_SIZE);

	switch (offset - in) {
	case VIRTIO_WIN_COMMON:
		return reg_read(&common_table, v, in, size);
	case VIRTIO_WIN_ISR:
		return reg_read(&isr_table, v, in, size);
	case VIRTIO_WIN_CONFIG:
		if (v->desc->config_read && range_inside(in, size, v->desc->config_size))
			return v->desc->config_read(v, in, size);
		return 0;
	default:
		return 0;
	}
}

static void window_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct virtio *v = virtio_of(d);
	uint32_t in = (uint32_t)(offset % WIN_SIZE);

	switch (offset - in) {
	case VIRTIO_WIN_COMMON:
		reg_write(&common_table, v, in, size, value);
		break;
	case VIRTIO_WIN_CONFIG:
		if (v->desc->config_write && range_inside(in, size, v->desc->config_size))
			v->desc->config_write(v, in, size, value);
		break;
	case VIRTIO_WIN_NOTIFY:
		if (in % VIRTIO_NOTIFY_STRIDE == 0)
			virtio_notify(v, in / VIRTIO_NOTIFY_STRIDE);
		break;
	default:
		break;
	}
}

/* --- the window in config space (s4.1.4.9): the same accesses, aimed by the guest --- */

struct aim {
	uint32_t offset;
	unsigned int size;
};

/* True if the guest aims at registers: BAR 4, aligned, inside. Everything else, MSI-X too, is out of reach. */
static bool cfg_aim(struct virtio *v, struct aim *a)
{
	const uint8_t *cap = pci_cfg(&v->fn, v->cap_cfg);

	a->offset = get_le32(cap + CAP_OFFSET);
	a->size = get_le32(cap + CAP_LENGTH);
	if (cap[CAP_BAR] != VIRTIO_BAR || (a->size != 1 && a->size != 2 && a->size != 4))
		return false;
	return a->offset % a->size == 0 && range_inside(a->offset, a->size, BAR_SIZE);
}

static bool hits_data(const struct virtio *v, unsigned int offset, unsigned int size)
{
	unsigned int data = v->cap_cfg + CAP_EXTRA;

	return v->cap_cfg && offset < data + 4 && data < offset + size;
}

static void cfg_reading(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	struct virtio *v = container_of(fn, struct virtio, fn);
	uint64_t value = UINT64_MAX;
	struct aim a;

	if (!hits_data(v, offset, size))
		return;
	if (cfg_aim(v, &a))
		value = window_read(&fn->dev, a.offset, a.size);
	put_le32(pci_cfg(fn, v->cap_cfg + CAP_EXTRA), (uint32_t)value);
}

static void msix_changed(struct pci_fn *fn)
{
	struct virtio *v = container_of(fn, struct virtio, fn);

	if (v->desc->rewired)
		v->desc->rewired(v);
}

static void cfg_written(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	struct virtio *v = container_of(fn, struct virtio, fn);
	struct aim a;

	/* COMMAND: with bus master on again, there may be work that was not looked at */
	if (offset <= 4 && fn->dma.on)
		virtio_resume(v);
	msix_changed(fn);
	if (hits_data(v, offset, size) && cfg_aim(v, &a))
		window_write(&fn->dev, a.offset, a.size,
			     get_le32(pci_cfg(fn, v->cap_cfg + CAP_EXTRA)) &
				     (UINT32_MAX >> (32 - 8 * a.size)));
}

static void add_cap(struct virtio *v, uint8_t type, uint32_t offset, uint32_t length,
		    uint32_t extra)
{
	/* s4.1.4.9: the driver writes bar, offset, length and data of PCI_CFG */
	static const uint8_t cfg_wmask[18] = {
		0,    0,    0xff, 0,	0,    0,    0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
	};
	uint8_t len = type == CAP_NOTIFY || type == CAP_PCI_CFG ? 20 : 16;
	uint8_t *data = v->cap_data[v->pci.ncaps];

	data[0] = len;
	data[CAP_TYPE - CAP_HEAD] = type;
	data[CAP_BAR - CAP_HEAD] = type == CAP_PCI_CFG ? 0 : VIRTIO_BAR;
	put_le32(data + CAP_OFFSET - CAP_HEAD, offset);
	put_le32(data + CAP_LENGTH - CAP_HEAD, length);
	put_le32(data + CAP_EXTRA - CAP_HEAD, extra);
	v->caps[v->pci.ncaps++] = (struct pci_cap){
		.id = 0x09,
		.len = (uint8_t)(len - CAP_HEAD),
		.data = data,
		.wmask = type == CAP_PCI_CFG ? cfg_wmask : NULL,
	};
}

void virtio_regs_describe(struct virtio *v)
{
	v->pci = (struct pci_desc){
		.vendor = 0x1af4,
		.device = (uint16_t)(0x1040 + v->desc->id), /* s4.1.2 */
		.subvendor = 0x1af4,
		.subdevice = 0x1100, /* >= 0x40 for OVMF, and what Windows' drivers look for */
		.class_code = v->desc->class_code,
		.revision = 1,
		.intx_pin = 1,
		.bars = { [0] = { .kind = PCI_BAR_MEM32, .size = MSIX_BAR_SIZE },
			  [VIRTIO_BAR] = { .kind = PCI_BAR_MEM64,
					   .prefetch = true,
					   .size = BAR_SIZE,
					   .read = window_read,
					   .write = window_write } },
		.msix = { .vectors = (uint16_t)(v->nqueues + 1), .bar = 0, .pba = MSIX_PBA },
		.caps = v->caps,
		.config_written = cfg_written,
		.msix_changed = msix_changed,
		.config_reading = cfg_reading,
	};
	add_cap(v, CAP_COMMON, VIRTIO_WIN_COMMON, COMMON_SIZE, 0);
	add_cap(v, CAP_NOTIFY, VIRTIO_WIN_NOTIFY, VIRTIO_NOTIFY_STRIDE * v->nqueues,
		VIRTIO_NOTIFY_STRIDE);
	add_cap(v, CAP_ISR, VIRTIO_WIN_ISR, 1, 0);
	if (v->desc->config_size)
		add_cap(v, CAP_DEVICE, VIRTIO_WIN_CONFIG, v->desc->config_size, 0);
	add_cap(v, CAP_PCI_CFG, 0, 0, 0);
}

void virtio_regs_locate(struct virtio *v)
{
	uint8_t at = *pci_cfg(&v->fn, 0x34);

	while (at) {
		const uint8_t *cap = pci_cfg(&v->fn, at);

		if (cap[0] == 0x09 && cap[CAP_TYPE] == CAP_PCI_CFG)
			v->cap_cfg = at;
		at = cap[1];
	}
}
