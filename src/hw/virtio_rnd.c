/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <sys/random.h>

#include "conf/conf.h"
#include "hw/models.h"
#include "util/canary.h"
#include "util/macros.h"
#include "virtio/virtio.h"

/* The entropy device of virtio 1.2 s5.4: one queue whose buffers are filled from the host's random generator. */

#define REQUEST_MAX (64 * KIB) /* bytes served for one chain */
#define KICK_MAX (256 * KIB) /* bytes served before other work of the loop gets its turn */

struct virtio_rnd {
	struct virtio v;
	struct virtq_chain chain;
};

/* Fills p with len random bytes; returns how many were delivered before the host refused. */
static size_t fill(uint8_t *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t r = getrandom(p + done, len - done, GRND_NONBLOCK);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return done;
}

/* Serves one chain: its writable part, at most REQUEST_MAX bytes. */
static uint32_t serve(const struct virtq_chain *c)
{
	size_t left = CANARY ? SIZE_MAX : REQUEST_MAX, done = 0;

	for (int i = 0; i < c->nwrite && left; i++) {
		const struct iovec *v = &c->iov[c->nread + i];
		size_t want = MIN(v->iov_len, left), got = fill(v->iov_base, want);

		done += got;
		left -= got;
		if (got < want)
			break;
	}
	return (uint32_t)done;
}

static void rnd_kick(struct virtio *v, unsigned int q)
{
	struct virtio_rnd *rnd = container_of(v, struct virtio_rnd, v);
	size_t done = 0;

	while (done < KICK_MAX && virtio_pop(v, q, &rnd->chain)) {
		uint32_t len = serve(&rnd->chain);

		/* an empty request costs time as well */
		done += MAX(len, 4 * KIB);
		virtio_push(v, q, v->generation, rnd->chain.head, len);
	}
	virtio_flush(v, q);
	/* Ask for the next kick; what came before the driver saw that is served now. */
	if (done >= KICK_MAX || virtio_set_notify(v, q, true))
		virtio_kick_again(v, q);
}

static const struct virtio_desc rnd_desc = {
	.id = 4,
	.class_code = 0x00ff00, /* no class fits */
	.queues = 1,
	.queue_size = 64,
	.kick = rnd_kick,
};

static int rnd_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	(void)env;
	(void)conf;
	return virtio_init(virtio_of(d), &rnd_desc, 1, err);
}

static void rnd_fini(struct dev *d)
{
	virtio_fini(virtio_of(d));
}

static void rnd_reset(struct dev *d)
{
	virtio_reset(virtio_of(d));
}

static void rnd_resume(struct dev *d)
{
	virtio_resume(virtio_of(d));
}

static const struct conf_key rnd_keys[] = { CONF_KEY_END };

const struct dev_ops virtio_rnd_ops = {
	.model = "virtio-rnd",
	.help = "entropy from the host's random generator",
	.keys = rnd_keys,
	.size = sizeof(struct virtio_rnd),
	.init = rnd_init,
	.fini = rnd_fini,
	.reset = rnd_reset,
	.resume = rnd_resume,
};
