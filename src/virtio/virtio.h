/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include "pci/pci.h"
#include "virtio/virtq.h"

/* Modern virtio over PCI (virtio 1.2 s4.1): no legacy interface. BAR 0 is MSI-X, BAR 4 the register windows. */
#define VIRTIO_MAX_QUEUES 17
#define VIRTIO_CAPS 5

#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX BIT64(29)
#define VIRTIO_F_VERSION_1 BIT64(32)

/* BAR 4 (virtio 1.2 s4.1.4): one window per page. */
#define VIRTIO_BAR 4
#define VIRTIO_WIN_COMMON 0x0000u
#define VIRTIO_WIN_ISR 0x1000u
#define VIRTIO_WIN_CONFIG 0x2000u
#define VIRTIO_WIN_NOTIFY 0x3000u /* queue q at VIRTIO_NOTIFY_STRIDE * q */
#define VIRTIO_NOTIFY_STRIDE 4u

/* Device status bits (virtio 1.2 s2.1). */
#define VIRTIO_S_ACKNOWLEDGE 1u
#define VIRTIO_S_DRIVER 2u
#define VIRTIO_S_DRIVER_OK 4u
#define VIRTIO_S_FEATURES_OK 8u
#define VIRTIO_S_NEEDS_RESET 64u
#define VIRTIO_S_FAILED 128u

struct virtio;

/* What a virtio device is, as data plus callbacks. The transport offers the ring features and VERSION_1 itself. */
struct virtio_desc {
	uint16_t id; /* virtio 1.2 s5 */
	uint32_t class_code; /* PCI */
	uint16_t queues; /* at most; virtio_init takes how many this instance has */
	uint16_t queue_size; /* power of two, <= VIRTQ_MAX_SIZE */
	uint32_t config_size;
	/* Device features offered besides those of the transport. */
	uint64_t (*features)(struct virtio *v);
	/*
	 * The guest rang queue q, or work may have waited while paused. Pop until empty, within a budget. Lock held,
	 * loop's thread, only while the device runs.
	 */
	void (*kick)(struct virtio *v, unsigned int q);
	/* Device configuration; [offset, offset + size) is inside config_size. write may be NULL. */
	uint64_t (*config_read)(struct virtio *v, uint32_t offset, unsigned int size);
	void (*config_write)(struct virtio *v, uint32_t offset, unsigned int size, uint64_t value);
	/* DRIVER_OK with this feature set. Any thread, lock held. May be NULL. */
	void (*started)(struct virtio *v, uint64_t features);
	/* Status 0 or machine reset: forget settings of the driver. Any thread, lock held. May be NULL. */
	void (*stopped)(struct virtio *v);
	/*
	 * Requests whose guest memory the host still uses. A driver's reset shows as finished only when there are
	 * none, so that memory which the driver takes back is never written late. NULL: never any.
	 */
	unsigned int (*in_flight)(struct virtio *v);
	/* Bus master or the ways of interrupts have changed: of interest while a queue is lent. Any thread. May be NULL. */
	void (*rewired)(struct virtio *v);
};

struct virtio_queue {
	struct virtq vq;
	/* the guest's view, latched into vq at DRIVER_OK */
	uint16_t size, vector;
	bool enabled;
	gpa_t rings[3]; /* descriptors, avail, used */
	struct dev_event kick;
	struct pci_doorbell bell;
	bool lent;
};

/* The first member of every virtio model's instance. */
struct virtio {
	struct pci_fn fn;
	const struct virtio_desc *desc;
	unsigned int nqueues;
	uint8_t status, isr, config_generation;
	uint8_t drain_status; /* what status reads as until a reset is finished; 0: none under way */
	uint16_t config_vector, queue_select;
	uint32_t device_feature_select, driver_feature_select;
	bool bad_features; /* the driver accepted bits that do not exist */
	uint64_t driver_features, features; /* features: negotiated at FEATURES_OK */
	uint32_t generation; /* grows at every reset: requests keep the one they started with */
	struct virtio_queue queues[VIRTIO_MAX_QUEUES];
	/* the identity that the transport made from desc */
	struct pci_desc pci;
	struct pci_cap caps[VIRTIO_CAPS];
	uint8_t cap_data[VIRTIO_CAPS][18];
	uint8_t cap_cfg; /* where VIRTIO_PCI_CAP_PCI_CFG stands in config space */
};

static inline struct virtio *virtio_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct virtio, fn);
}

/*
 * As pci_fn_*: called by the model's init, fini, reset and resume. desc must outlive the device. queues: how many
 * this instance has, 1 to desc->queues.
 */
int virtio_init(struct virtio *v, const struct virtio_desc *desc, unsigned int queues,
		struct err *err);
void virtio_fini(struct virtio *v);
void virtio_reset(struct virtio *v);
void virtio_resume(struct virtio *v);

/* True while the guest's driver is up and the queue enabled. */
bool virtio_queue_ready(const struct virtio *v, unsigned int q);
/* Pops from queue q: 1 or 0. On a broken chain marks the device NEEDS_RESET and returns 0. */
int virtio_pop(struct virtio *v, unsigned int q, struct virtq_chain *c);
/* Pushes; ignored when generation is not the current one. Interrupts are sent by virtio_flush. */
void virtio_push(struct virtio *v, unsigned int q, uint32_t generation, uint16_t head,
		 uint32_t written);
/* Publishes what was pushed on q and interrupts if the guest wants it. Once per batch. */
void virtio_flush(struct virtio *v, unsigned int q);
/* Asks the guest to kick queue q or not; true: entries that can be popped are waiting already. */
bool virtio_set_notify(struct virtio *v, unsigned int q, bool on);
/* Device error (virtio 1.2 s2.1.2): sets DEVICE_NEEDS_RESET and tells the driver. */
void virtio_fail(struct virtio *v, const char *why);
void virtio_config_changed(struct virtio *v);
/* Runs the kick callback again soon (budget used up). */
void virtio_kick_again(struct virtio *v, unsigned int q);

/*
 * A queue may be lent to somebody who serves it without us (vhost). It must be ready, with no chain out. From then on
 * kicks go to the eventfd given here, and the functions above must not be used on it. Lock held, any thread.
 */
struct virtio_lent {
	void *desc, *avail, *used;
	uint16_t size, next; /* next: the avail index */
};
void virtio_lend(struct virtio *v, unsigned int q, int kick, struct virtio_lent *out);
/* Goes on at avail index next, with a kick. After a reset of the driver too. */
void virtio_take_back(struct virtio *v, unsigned int q, uint16_t next);
/* An eventfd that interrupts for queue q while nothing is rewired, or -1: then through virtio_interrupt(). */
int virtio_call_fd(struct virtio *v, unsigned int q);
void virtio_interrupt(struct virtio *v, unsigned int q);

#endif
