/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include "pci/pci.h"
#include "virtio/virtq.h"

/* Modern virtio over PCI (virtio 1.2 s4.1): no legacy interface. BAR 0 is MSI-X, BAR 4 the register windows. */
#define VIRTIO_MAX_QUEUES 17

#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX BIT64(29)
#define VIRTIO_F_VERSION_1 BIT64(32)

struct virtio;

/* What a virtio device is, as data plus callbacks. The transport offers the ring features and VERSION_1 itself. */
struct virtio_desc {
	uint16_t id; /* virtio 1.2 s5 */
	uint32_t class_code; /* PCI */
	uint16_t queues;
	uint16_t queue_size; /* power of two, <= VIRTQ_MAX_SIZE */
	uint32_t config_size;
	/* Device features offered besides those of the transport. */
	uint64_t (*features)(struct virtio *v);
	/* The guest rang queue q, or work may have waited while paused. Pop until empty, within a budget. Lock held, loop's thread. */
	void (*kick)(struct virtio *v, unsigned int q);
	/* Device configuration; [offset, offset + size) is inside config_size. write may be NULL. */
	uint64_t (*config_read)(struct virtio *v, uint32_t offset, unsigned int size);
	void (*config_write)(struct virtio *v, uint32_t offset, unsigned int size, uint64_t value);
	/* DRIVER_OK with this feature set. May be NULL. */
	void (*started)(struct virtio *v, uint64_t features);
	/* Status 0 or machine reset: forget requests (late completions are ignored by generation). May be NULL. */
	void (*stopped)(struct virtio *v);
};

struct virtio_queue {
	struct virtq vq;
	/* the guest's view, latched into vq at enable */
	uint16_t size, vector;
	bool enabled;
	uint64_t desc, avail, used;
	struct dev_event kick;
	struct pci_doorbell bell;
	bool kicked_while_paused;
};

/* The first member of every virtio model's instance. */
struct virtio {
	struct pci_fn fn;
	const struct virtio_desc *desc;
	uint8_t status, isr, config_generation;
	uint16_t config_vector, queue_select;
	uint32_t device_feature_select, driver_feature_select;
	uint64_t driver_features, features; /* features: negotiated at FEATURES_OK */
	uint32_t cfg_bar, cfg_offset, cfg_length; /* VIRTIO_PCI_CAP_PCI_CFG window */
	uint32_t generation; /* grows at every reset: requests keep the one they started with */
	struct virtio_queue queues[VIRTIO_MAX_QUEUES];
};

static inline struct virtio *virtio_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct virtio, fn);
}

/* As pci_fn_*: called by the model's init, fini, reset and resume. desc must outlive the device. */
int virtio_init(struct virtio *v, const struct virtio_desc *desc, struct err *err);
void virtio_fini(struct virtio *v);
void virtio_reset(struct virtio *v);
void virtio_resume(struct virtio *v);

/* True while the guest's driver is up and the queue enabled. */
bool virtio_queue_ready(const struct virtio *v, unsigned int q);
/* Pops from queue q. On a broken chain marks the device NEEDS_RESET and returns 0. */
int virtio_pop(struct virtio *v, unsigned int q, struct virtq_chain *c);
/* Pushes; ignored when generation is not the current one. Interrupts are sent by virtio_flush. */
void virtio_push(struct virtio *v, unsigned int q, uint32_t generation, uint16_t head,
		 uint32_t written);
/* Publishes what was pushed on q and interrupts if the guest wants it. Once per batch. */
void virtio_flush(struct virtio *v, unsigned int q);
/* Device error (virtio 1.2 s2.1.2): sets DEVICE_NEEDS_RESET and tells the driver. */
void virtio_fail(struct virtio *v, const char *why);
void virtio_config_changed(struct virtio *v);
/* Runs the kick callback again soon (budget used up). */
void virtio_kick_again(struct virtio *v, unsigned int q);

#endif
