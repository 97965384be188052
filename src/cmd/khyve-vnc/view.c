/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/view.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "util/checked.h"
#include "util/err.h"

int view_init(struct view *v, int screen_fd, struct err *err)
{
	struct stat st;
	void *vram, *copy;

	if (fstat(screen_fd, &st) < 0)
		return err_set(err, -errno, "--screen-fd %d: %s", screen_fd, strerror(errno));
	if (st.st_size < (off_t)SCREEN_VRAM_SIZE)
		return err_set(err, -EINVAL, "--screen-fd %d: %lld bytes, not %llu", screen_fd,
			       (long long)st.st_size, SCREEN_VRAM_SIZE);
	vram = mmap(NULL, SCREEN_VRAM_SIZE, PROT_READ, MAP_SHARED, screen_fd, 0);
	if (vram == MAP_FAILED)
		return err_set(err, -errno, "cannot map --screen-fd %d: %s", screen_fd,
			       strerror(errno));
	copy = mmap(NULL, SCREEN_VRAM_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (copy == MAP_FAILED) {
		int rc = -errno;

		munmap(vram, SCREEN_VRAM_SIZE);
		return err_set(err, rc, "cannot map the copy of the screen: %s", strerror(-rc));
	}
	*v = (struct view){ .vram = vram,
			    .copy = copy,
			    .width = SCREEN_MIN_WIDTH,
			    .height = SCREEN_MIN_HEIGHT,
			    .stale = true };
	return 0;
}

void view_fini(struct view *v)
{
	if (v->vram)
		munmap((void *)(uintptr_t)v->vram, SCREEN_VRAM_SIZE);
	if (v->copy)
		munmap(v->copy, SCREEN_VRAM_SIZE);
	*v = (struct view){ 0 };
}

void view_drop(struct view *v)
{
	madvise(v->copy, SCREEN_VRAM_SIZE, MADV_DONTNEED);
	v->stale = true;
}

static bool frame_valid(const struct screen_msg_frame *f)
{
	if (f->width > SCREEN_MAX_WIDTH || f->height > SCREEN_MAX_HEIGHT)
		return false;
	if (f->stride < f->width * 4 || f->stride > SCREEN_VRAM_SIZE)
		return false;
	return range_inside(f->offset, (uint64_t)f->stride * f->height, SCREEN_VRAM_SIZE);
}

static void damage_all(const struct view *v, struct damage *d)
{
	damage_add_rect(d, &(struct rect){ .w = v->width, .h = v->height });
}

/* Marks the tiles that hold bytes of page number page. */
static void mark_page(const struct view *v, uint64_t page, struct damage *d)
{
	uint64_t start = page * 4096, end = start + 4096;
	uint64_t first = v->offset, last = first + (uint64_t)v->stride * v->height;

	start = MAX(start, first) - first;
	end = MIN(end, last);
	end = end > first ? end - first : 0;
	while (start < end) {
		uint64_t y = start / v->stride, x = start % v->stride / 4;
		uint64_t line_end = MIN(end, (y + 1) * v->stride);
		uint64_t x_end = MIN((line_end - y * v->stride + 3) / 4, (uint64_t)v->width);

		if (x < x_end)
			damage_add_rect(d, &(struct rect){ .x = (unsigned int)x,
							   .y = (unsigned int)y,
							   .w = (unsigned int)(x_end - x),
							   .h = 1 });
		start = line_end;
	}
}

static void mark_pages(const struct view *v, const uint64_t *dirty, struct damage *d)
{
	for (unsigned int i = 0; i < SCREEN_PAGES / 64; i++) {
		uint64_t word = dirty[i];

		while (word) {
			mark_page(v, i * 64 + (unsigned int)__builtin_ctzll(word), d);
			word &= word - 1;
		}
	}
}

/* Brings one tile up to date. True if it changed. */
static bool copy_tile(struct view *v, unsigned int col, unsigned int row)
{
	unsigned int x = col * TILE_WIDTH, y = row * TILE_HEIGHT;
	unsigned int y_end = MIN(y + TILE_HEIGHT, v->height);
	size_t len = MIN((unsigned int)TILE_WIDTH, v->width - x) * 4;
	bool changed = false;

	for (; y < y_end; y++) {
		const uint8_t *src = v->vram + v->offset + (size_t)y * v->stride + x * 4;
		uint32_t *dst = v->copy + (size_t)y * v->width + x;

		if (memcmp(dst, src, len) == 0)
			continue;
		memcpy(dst, src, len);
		changed = true;
	}
	return changed;
}

static void copy_tiles(struct view *v, const struct damage *candidates, struct damage *changed)
{
	for (unsigned int row = 0; row < TILE_ROWS; row++) {
		uint64_t word = candidates->row[row];

		while (word) {
			unsigned int col = (unsigned int)__builtin_ctzll(word);

			if (copy_tile(v, col, row))
				changed->row[row] |= BIT64(col);
			word &= word - 1;
		}
	}
}

static void turn_off(struct view *v, struct damage *changed)
{
	if (!v->on)
		return;
	v->on = false;
	view_drop(v);
	damage_all(v, changed);
}

int view_frame(struct view *v, const struct screen_msg_frame *f, struct damage *changed)
{
	struct damage candidates = { 0 };
	bool other_size;

	if (!frame_valid(f))
		return -EPROTO;
	*changed = (struct damage){ 0 };
	if (f->width == 0 || f->height == 0) {
		turn_off(v, changed);
		return 0;
	}
	other_size = f->width != v->width || f->height != v->height;
	if (other_size)
		view_drop(v);
	if (!v->on || v->serial != f->mode_serial || v->stride != f->stride ||
	    v->offset != f->offset)
		v->stale = true;
	v->width = f->width;
	v->height = f->height;
	v->stride = f->stride;
	v->offset = f->offset;
	v->serial = f->mode_serial;
	v->on = true;
	if (v->stale)
		damage_all(v, &candidates);
	else
		mark_pages(v, f->dirty, &candidates);
	v->stale = false;
	copy_tiles(v, &candidates, changed);
	if (other_size)
		damage_all(v, changed);
	return 0;
}

void view_read(const struct view *v, unsigned int x, unsigned int y, unsigned int n, uint32_t *dst)
{
	unsigned int inside = 0;

	if (y < v->height && x < v->width)
		inside = MIN(n, v->width - x);
	for (unsigned int i = 0; i < inside; i++)
		dst[i] = v->copy[(size_t)y * v->width + x + i] & 0xffffff;
	memset(dst + inside, 0, (n - inside) * sizeof(*dst));
}
