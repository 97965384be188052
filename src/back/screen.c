/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "back/input.h"
#include "loop/loop.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/* Messages handled per wake-up, so that a busy viewer leaves the loop to others. */
#define BUDGET 64

struct screen {
	struct loop *loop;
	struct input *input;
	int memfd;
	void *vram;

	pthread_mutex_t lock; /* mode, serial, leds; sock for others than the main thread */
	struct screen_mode mode;
	uint32_t serial, sent_serial;

	void (*dirty)(void *arg, uint64_t *bitmap);
	void *dirty_arg;

	struct loop_fd link;
	int sock;
	void (*gone)(void *arg);
	void *gone_arg;

	unsigned int clients, leds;
	void (*on_clients)(void *arg, unsigned int count);
	void *clients_arg;
};

union message {
	struct screen_msg_hdr hdr;
	struct screen_msg_key key;
	struct screen_msg_pointer pointer;
	struct screen_msg_clients clients;
};

/* Under the lock, so that the socket is not another one by now. */
static void send_leds(struct screen *s)
{
	struct screen_msg_leds m = { .hdr = { SCREEN_MSG_LEDS, sizeof(m) }, .leds = s->leds };

	if (s->sock >= 0)
		send(s->sock, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The guest set them: on a vCPU thread. */
static void on_leds(void *arg, unsigned int leds)
{
	struct screen *s = arg;

	pthread_mutex_lock(&s->lock);
	s->leds = leds;
	send_leds(s);
	pthread_mutex_unlock(&s->lock);
}

struct screen *screen_new(struct loop *l, struct input *input, struct err *err)
{
	struct screen *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	s->loop = l;
	s->input = input;
	s->sock = -1;
	s->vram = MAP_FAILED;
	s->link = (struct loop_fd){ .fd = -1 };
	pthread_mutex_init(&s->lock, NULL);
	s->memfd = fd_memfd("screen", SCREEN_VRAM_SIZE);
	if (s->memfd >= 0)
		s->vram = mmap(NULL, SCREEN_VRAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s->memfd,
			       0);
	if (s->vram == MAP_FAILED) {
		err_set(err, -errno, "cannot make video memory: %s", strerror(errno));
		screen_free(s);
		return NULL;
	}
	input->leds = on_leds;
	input->leds_arg = s;
	return s;
}

void screen_free(struct screen *s)
{
	if (!s)
		return;
	screen_detach(s);
	s->input->leds = NULL;
	if (s->vram != MAP_FAILED)
		munmap(s->vram, SCREEN_VRAM_SIZE);
	fd_close(&s->memfd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void *screen_vram(const struct screen *s)
{
	return s->vram;
}

int screen_memfd(const struct screen *s)
{
	return s->memfd;
}

int screen_set_mode(struct screen *s, const struct screen_mode *mode)
{
	uint64_t end = (uint64_t)mode->offset + (uint64_t)mode->stride * mode->height;

	if (mode->width > SCREEN_MAX_WIDTH || mode->height > SCREEN_MAX_HEIGHT ||
	    mode->stride < 4 * mode->width || end > SCREEN_VRAM_SIZE)
		return -EINVAL;
	pthread_mutex_lock(&s->lock);
	if (memcmp(&s->mode, mode, sizeof(*mode)) != 0) {
		s->mode = *mode;
		s->serial++;
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int screen_set_dirty_source(struct screen *s, void (*fn)(void *arg, uint64_t *bitmap), void *arg)
{
	if (fn && s->dirty)
		return -EBUSY;
	s->dirty = fn;
	s->dirty_arg = arg;
	return 0;
}

static struct screen_mode mode_get(struct screen *s, uint32_t *serial)
{
	struct screen_mode mode;

	pthread_mutex_lock(&s->lock);
	mode = s->mode;
	*serial = s->serial;
	pthread_mutex_unlock(&s->lock);
	return mode;
}

struct screen_mode screen_get_mode(struct screen *s)
{
	uint32_t serial;

	return mode_get(s, &serial);
}

unsigned int screen_leds(struct screen *s)
{
	unsigned int leds;

	pthread_mutex_lock(&s->lock);
	leds = s->leds;
	pthread_mutex_unlock(&s->lock);
	return leds;
}

/* False: the viewer does not read its answers. */
static bool send_frame(struct screen *s)
{
	struct screen_msg_frame f = { .hdr = { SCREEN_MSG_FRAME, sizeof(f) } };
	struct screen_mode mode = mode_get(s, &f.mode_serial);

	f.width = mode.width;
	f.height = mode.height;
	f.stride = mode.stride;
	f.offset = mode.offset;
	if (s->dirty)
		s->dirty(s->dirty_arg, f.dirty);
	if (f.mode_serial != s->sent_serial)
		memset(f.dirty, 0xff, sizeof(f.dirty));
	s->sent_serial = f.mode_serial;
	return send(s->sock, &f, sizeof(f), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(f);
}

static void pointer_event(struct screen *s, const struct screen_msg_pointer *p)
{
	uint32_t serial;
	struct screen_mode mode = mode_get(s, &serial);
	int x, y;

	if (!mode.width || !mode.height)
		return;
	x = MIN((int)p->x, (int)mode.width - 1);
	y = MIN((int)p->y, (int)mode.height - 1);
	input_pointer(s->input, x, y, (int)mode.width, (int)mode.height, p->buttons & 0x19f);
}

static void set_clients(struct screen *s, unsigned int count)
{
	if (s->clients == count)
		return;
	s->clients = count;
	if (s->on_clients)
		s->on_clients(s->clients_arg, count);
}

/* False: the message breaks the rules. */
static bool handle(struct screen *s, const union message *m, size_t len)
{
	static const size_t sizes[] = {
		[SCREEN_MSG_REFRESH] = sizeof(struct screen_msg_hdr),
		[SCREEN_MSG_KEY] = sizeof(struct screen_msg_key),
		[SCREEN_MSG_POINTER] = sizeof(struct screen_msg_pointer),
		[SCREEN_MSG_CLIENTS] = sizeof(struct screen_msg_clients),
	};

	if (len < sizeof(m->hdr) || m->hdr.type == 0 || m->hdr.type >= ARRAY_LEN(sizes) ||
	    m->hdr.size != len || len != sizes[m->hdr.type])
		return false;
	switch (m->hdr.type) {
	case SCREEN_MSG_REFRESH:
		return send_frame(s);
	case SCREEN_MSG_KEY:
		if (m->key.down > 1 || !input_key_valid(m->key.scancode))
			return false;
		input_key(s->input, m->key.scancode, m->key.down);
		return true;
	case SCREEN_MSG_POINTER:
		pointer_event(s, &m->pointer);
		return true;
	default:
		set_clients(s, MIN(m->clients.count, 1000u));
		return true;
	}
}

static void lose(struct screen *s, const char *why)
{
	log_limited(LOG_LEVEL_WARN, "screen", "the viewer is cut off: %s", why);
	screen_detach(s);
	if (s->gone)
		s->gone(s->gone_arg);
}

static void on_link(struct loop_fd *w, unsigned int events)
{
	struct screen *s = container_of(w, struct screen, link);

	(void)events;
	for (int i = 0; i < BUDGET && s->sock >= 0; i++) {
		union message m;
		ssize_t n = recv(s->sock, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			lose(s, n == 0 ? "it closed the link" : strerror(errno));
			return;
		}
		if (!handle(s, &m, (size_t)n)) {
			lose(s, "it broke the protocol");
			return;
		}
	}
}

int screen_attach(struct screen *s, int sock, void (*gone)(void *arg), void *arg)
{
	int r;

	screen_detach(s);
	s->gone = gone;
	s->gone_arg = arg;
	s->link.fn = on_link;
	r = loop_fd_add(s->loop, &s->link, sock, EPOLLIN);
	if (r < 0) {
		fd_close(&sock);
		return r;
	}
	pthread_mutex_lock(&s->lock);
	s->sock = sock;
	s->sent_serial = s->serial - 1; /* a new viewer has seen nothing */
	send_leds(s);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void screen_detach(struct screen *s)
{
	if (s->sock < 0)
		return;
	loop_fd_del(&s->link);
	/* The viewer is to see the end now: io_uring may hold the file until the loop's next turn. */
	shutdown(s->sock, SHUT_RDWR);
	pthread_mutex_lock(&s->lock);
	fd_close(&s->sock);
	pthread_mutex_unlock(&s->lock);
	set_clients(s, 0);
}

void screen_on_clients(struct screen *s, void (*fn)(void *arg, unsigned int count), void *arg)
{
	s->on_clients = fn;
	s->clients_arg = arg;
}

unsigned int screen_clients(const struct screen *s)
{
	return s->clients;
}
