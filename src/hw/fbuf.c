/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "back/screen.h"
#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/fbuf_edid.h"
#include "hw/models.h"
#include "pci/pci.h"
#include "util/canary.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

/*
 * The Bochs display (1234:1111) without VGA: BAR 0 is the frame buffer, BAR 2 holds the EDID at 0, a place where VGA
 * registers would be at 0x400, the "dispi" mode registers at 0x500 and the byte order at 0x600.
 */
#define FBUF_EDID 0x000
#define FBUF_VGA 0x400
#define FBUF_DISPI 0x500
#define FBUF_EXT 0x600
#define FBUF_BAR2_SIZE 0x1000

enum dispi_reg {
	DISPI_ID,
	DISPI_XRES,
	DISPI_YRES,
	DISPI_BPP,
	DISPI_ENABLE,
	DISPI_BANK,
	DISPI_VIRT_WIDTH,
	DISPI_VIRT_HEIGHT,
	DISPI_X_OFFSET,
	DISPI_Y_OFFSET,
	DISPI_VRAM,
	DISPI_REGS,
};

#define DISPI_VERSION 0xb0c5
#define DISPI_ENABLED BIT(0)
#define DISPI_GETCAPS BIT(1)
#define DISPI_NOCLEAR BIT(7)
#define LITTLE_ENDIAN_MARK 0x1e1e1e1eu

struct fbuf_conf {
	uint64_t w, h;
	bool wait;
	int vga;
	char *tcp, *password, *password_file, *tls_file;
};

struct fbuf {
	struct pci_fn fn;
	struct screen *screen;
	struct bus_slot slot;
	uint8_t edid[EDID_SIZE];
	uint16_t dispi[DISPI_REGS];
	struct screen_mode mode;
	bool all_dirty; /* what changed since the last frame is not known page by page */
};

static struct fbuf *fbuf_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct fbuf, fn);
}

/* --- mode --- */

/* The mode that the registers ask for, or none if it is not a legal one. */
static struct screen_mode mode_of(const uint16_t *r)
{
	struct screen_mode m = { .width = r[DISPI_XRES], .height = r[DISPI_YRES] };
	uint64_t offset;

	if (!(r[DISPI_ENABLE] & DISPI_ENABLED) || r[DISPI_BPP] != 32 ||
	    m.width < SCREEN_MIN_WIDTH || m.width > SCREEN_MAX_WIDTH ||
	    m.height < SCREEN_MIN_HEIGHT || m.height > SCREEN_MAX_HEIGHT)
		return (struct screen_mode){ 0 };
	m.stride = MAX(m.width, (uint32_t)r[DISPI_VIRT_WIDTH]) * 4;
	offset = (uint64_t)r[DISPI_Y_OFFSET] * m.stride + r[DISPI_X_OFFSET] * 4u;
	if (r[DISPI_X_OFFSET] * 4u + m.width * 4 > m.stride ||
	    (!CANARY && !range_inside(offset, (uint64_t)m.stride * m.height, SCREEN_VRAM_SIZE)))
		return (struct screen_mode){ 0 };
	m.offset = (uint32_t)offset;
	return m;
}

static void mode_update(struct fbuf *f)
{
	int res;

	f->mode = mode_of(f->dispi);
	res = screen_set_mode(f->screen, &f->mode);
	assert(res == 0);
}

/* Switching on clears the picture unless asked not to. */
static void clear_picture(struct fbuf *f)
{
	uint8_t *vram = screen_vram(f->screen);

	memset(vram + f->mode.offset, 0, (size_t)f->mode.stride * f->mode.height);
	f->all_dirty = true;
}

/* --- registers --- */

static uint64_t read_edid(void *model, unsigned int index)
{
	const struct fbuf *f = model;

	return index < EDID_SIZE ? f->edid[index] : 0;
}

static uint64_t read_dispi(void *model, unsigned int index)
{
	const struct fbuf *f = model;

	if (f->dispi[DISPI_ENABLE] & DISPI_GETCAPS) {
		if (index == DISPI_XRES)
			return SCREEN_MAX_WIDTH;
		if (index == DISPI_YRES)
			return SCREEN_MAX_HEIGHT;
		if (index == DISPI_BPP)
			return 32;
	}
	if (index == DISPI_ID)
		return DISPI_VERSION;
	if (index == DISPI_VRAM)
		return SCREEN_VRAM_SIZE / (64 * KIB);
	return f->dispi[index];
}

static void write_dispi(void *model, unsigned int index, uint64_t value)
{
	struct fbuf *f = model;
	bool was_on = f->dispi[DISPI_ENABLE] & DISPI_ENABLED;

	if (index == DISPI_ID || index == DISPI_VRAM)
		return;
	f->dispi[index] = (uint16_t)value;
	mode_update(f);
	if (index == DISPI_ENABLE && !was_on && !(value & DISPI_NOCLEAR))
		clear_picture(f);
}

static uint64_t read_ext(void *model, unsigned int index)
{
	(void)model;
	return index == 0 ? 8 : LITTLE_ENDIAN_MARK;
}

/* The VGA registers read as all ones, the fill. */
static const struct reg fbuf_regs[] = {
	{ .offset = FBUF_EDID,
	  .width = 1,
	  .count = FBUF_VGA - FBUF_EDID,
	  .name = "EDID",
	  .read = read_edid },
	{ .offset = FBUF_DISPI,
	  .width = 2,
	  .count = DISPI_REGS,
	  .name = "DISPI",
	  .read = read_dispi,
	  .write = write_dispi },
	{ .offset = FBUF_EXT, .width = 4, .count = 2, .name = "EXT", .read = read_ext },
};

static const struct reg_table fbuf_table = REG_TABLE(fbuf_regs, 0xff);

/* --- the screen --- */

/* For a FRAME: on the main loop's thread, outside the device. */
static void fbuf_dirty(void *arg, uint64_t *bitmap)
{
	struct fbuf *f = arg;

	dev_lock(&f->fn.dev);
	/* The log is fetched also when all is new: it must not report the same changes again. */
	if (f->slot.active && bus_slot_dirty(f->fn.dev.env.bus, &f->slot, bitmap) < 0)
		f->all_dirty = true;
	if (f->all_dirty)
		memset(bitmap, 0xff, SCREEN_PAGES / 8);
	f->all_dirty = false;
	dev_unlock(&f->fn.dev);
}

/* --- PCI and life cycle --- */

/* What was written to the old place since the last frame is lost with its log: all counts as changed. */
static void fbuf_bar_moved(struct pci_fn *fn, unsigned int bar, uint64_t addr)
{
	struct fbuf *f = container_of(fn, struct fbuf, fn);
	int res;

	if (bar != 0)
		return;
	if (f->slot.active)
		bus_slot_del(fn->dev.env.bus, &f->slot);
	f->all_dirty = true;
	if (addr == UINT64_MAX)
		return;
	f->slot.gpa = addr;
	res = bus_slot_add(fn->dev.env.bus, &f->slot);
	if (res < 0)
		log_limited(LOG_LEVEL_WARN, fn->dev.env.name,
			    "cannot map the frame buffer at 0x%llx: %s", (unsigned long long)addr,
			    strerror(-res));
}

static const struct pci_desc fbuf_desc = {
	.vendor = 0x1234,
	.device = 0x1111,
	.subvendor = 0x1af4,
	.subdevice = 0x1100,
	.class_code = 0x038000,
	.revision = 2,
	.bars = {
		[0] = { .kind = PCI_BAR_MEM32, .prefetch = true, .size = SCREEN_VRAM_SIZE },
		[2] = { .kind = PCI_BAR_MEM32, .size = FBUF_BAR2_SIZE, .regs = &fbuf_table },
	},
	.bar_moved = fbuf_bar_moved,
};

static int fbuf_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct fbuf *f = fbuf_of(d);
	const struct fbuf_conf *c = conf;
	int res;

	if (!env->screen)
		return err_set(err, -EINVAL, "fbuf: this machine has no screen");
	f->slot.len = SCREEN_VRAM_SIZE;
	f->slot.log_dirty = true;
	f->slot.host = screen_vram(env->screen);
	edid_make(f->edid, (unsigned int)c->w, (unsigned int)c->h);
	res = pci_fn_init(&f->fn, &fbuf_desc, err);
	if (res < 0)
		return res;
	res = screen_set_dirty_source(env->screen, fbuf_dirty, f);
	if (res < 0)
		return err_set(err, res, "fbuf: only one display per machine");
	f->screen = env->screen;
	return 0;
}

static void fbuf_fini(struct dev *d)
{
	struct fbuf *f = fbuf_of(d);

	if (f->screen) {
		f->dispi[DISPI_ENABLE] = 0;
		mode_update(f);
		screen_set_dirty_source(f->screen, NULL, NULL);
	}
	if (f->slot.active)
		bus_slot_del(d->env.bus, &f->slot);
	pci_fn_fini(&f->fn);
}

static void fbuf_reset(struct dev *d)
{
	struct fbuf *f = fbuf_of(d);

	pci_fn_reset(&f->fn);
	memset(f->dispi, 0, sizeof(f->dispi));
	mode_update(f);
}

static const char *const vga_choices[] = { "io", "on", "off", NULL };

static const struct conf_key fbuf_keys[] = {
	{ .name = "w",
	  .type = CONF_U64,
	  .offset = offsetof(struct fbuf_conf, w),
	  .def = "1024",
	  .min = SCREEN_MIN_WIDTH,
	  .max = SCREEN_MAX_WIDTH,
	  .help = "width of the screen in pixels" },
	{ .name = "h",
	  .type = CONF_U64,
	  .offset = offsetof(struct fbuf_conf, h),
	  .def = "768",
	  .min = SCREEN_MIN_HEIGHT,
	  .max = SCREEN_MAX_HEIGHT,
	  .help = "height of the screen in pixels" },
	{ .name = "tcp",
	  .alias = "rfb",
	  .type = CONF_STR,
	  .offset = offsetof(struct fbuf_conf, tcp),
	  .help = "ADDRESS:PORT on which VNC clients are served" },
	{ .name = "vga",
	  .type = CONF_ENUM,
	  .offset = offsetof(struct fbuf_conf, vga),
	  .def = "off",
	  .choices = vga_choices,
	  .ignored = true,
	  .help = "accepted for compatibility: there are no VGA registers" },
	{ .name = "wait",
	  .type = CONF_BOOL,
	  .offset = offsetof(struct fbuf_conf, wait),
	  .help = "start the guest when the first VNC client has connected" },
	{ .name = "password",
	  .type = CONF_STR,
	  .offset = offsetof(struct fbuf_conf, password),
	  .help = "VNC password, at most 8 characters; better: password_file" },
	{ .name = "password_file",
	  .type = CONF_STR,
	  .offset = offsetof(struct fbuf_conf, password_file),
	  .help = "file whose first line is the VNC password" },
	{ .name = "tls_file",
	  .type = CONF_STR,
	  .offset = offsetof(struct fbuf_conf, tls_file),
	  .help = "file with a private key and its certificate in PEM format: VNC over TLS only" },
	CONF_KEY_END,
};

const struct dev_ops fbuf_ops = {
	.model = "fbuf",
	.help = "display with EDID, shown over VNC",
	.keys = fbuf_keys,
	.size = sizeof(struct fbuf),
	.conf_size = sizeof(struct fbuf_conf),
	.init = fbuf_init,
	.reset = fbuf_reset,
	.fini = fbuf_fini,
};
