/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/flash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "dev/dev.h"
#include "fw/layout.h"
#include "util/canary.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/* Commands and status bits (Intel StrataFlash, Common Flash Interface command set 01). */
#define CMD_PROGRAM 0x10
#define CMD_ERASE 0x20
#define CMD_PROGRAM_ALT 0x40
#define CMD_CLEAR_STATUS 0x50
#define CMD_READ_STATUS 0x70
#define CMD_CONFIRM 0xd0
#define CMD_READ_ARRAY 0xff
#define STATUS_READY 0x80
#define STATUS_ERASE_ERROR 0x20
#define STATUS_PROGRAM_ERROR 0x10

enum mode { MODE_ARRAY, MODE_STATUS, MODE_PROGRAM, MODE_ERASE };

/* One image in host memory that the guest reads through a memory slot; writes come to the region below it. */
struct image {
	struct dev_region region;
	struct bus_slot slot;
	void *host;
	uint64_t len;
	bool read_only; /* the code */
};

struct flash {
	struct dev dev;
	struct image code, vars;
	int vars_fd;
	enum mode mode;
	uint8_t status;
	uint64_t dirty_from, dirty_to; /* bytes of vars not yet in the file; empty if from >= to */
};

static struct flash *flash_of(struct dev *d)
{
	return container_of(d, struct flash, dev);
}

static void mark_dirty(struct flash *f, uint64_t offset, uint64_t len)
{
	if (f->dirty_from >= f->dirty_to) {
		f->dirty_from = offset;
		f->dirty_to = offset + len;
		return;
	}
	f->dirty_from = MIN(f->dirty_from, offset);
	f->dirty_to = MAX(f->dirty_to, offset + len);
}

/* A failed write stays dirty, is tried again with the next one, and shows in the status register. */
static void persist(struct flash *f)
{
	uint64_t len = f->dirty_to - f->dirty_from;
	int r;

	if (f->dirty_from >= f->dirty_to)
		return;
	r = fd_pwrite_full(f->vars_fd, (uint8_t *)f->vars.host + f->dirty_from, len, f->dirty_from);
	if (r == 0 && fdatasync(f->vars_fd) < 0)
		r = -errno;
	if (r < 0) {
		f->status |= STATUS_PROGRAM_ERROR;
		log_limited(LOG_LEVEL_ERROR, f->dev.env.name,
			    "UEFI variables cannot be written to the host: %s", strerror(-r));
		return;
	}
	f->dirty_from = f->dirty_to = 0;
}

/* In status mode reads must reach us, so the slot goes away; programming leaves it in place, as nobody polls. */
static void set_mode(struct flash *f, enum mode mode)
{
	bool direct = mode != MODE_STATUS;
	struct bus *bus = f->dev.env.bus;

	f->mode = mode;
	if (mode == MODE_ARRAY)
		persist(f);
	if (direct && !f->vars.slot.active)
		bus_slot_add(bus, &f->vars.slot);
	else if (!direct && f->vars.slot.active)
		bus_slot_del(bus, &f->vars.slot);
}

static void command(struct flash *f, uint8_t cmd)
{
	switch (cmd) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALT:
		set_mode(f, MODE_PROGRAM);
		break;
	case CMD_ERASE:
		set_mode(f, MODE_ERASE);
		break;
	case CMD_READ_STATUS:
		set_mode(f, MODE_STATUS);
		break;
	case CMD_CLEAR_STATUS:
		f->status = 0;
		set_mode(f, MODE_ARRAY);
		break;
	case CMD_READ_ARRAY:
		set_mode(f, MODE_ARRAY);
		break;
	default:
		/* Not a command of this part. */
		f->status |= STATUS_READY | STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR;
		set_mode(f, MODE_ARRAY);
	}
}

static void write_byte(struct flash *f, uint64_t offset, uint8_t byte)
{
	uint8_t *host = f->vars.host;

	switch (f->mode) {
	case MODE_ARRAY:
	case MODE_STATUS:
		command(f, byte);
		break;
	case MODE_PROGRAM:
		host[offset] = byte;
		mark_dirty(f, offset, 1);
		f->status |= STATUS_READY;
		/* The next byte of a run starts with a command again; the file follows at read-array. */
		f->mode = MODE_ARRAY;
		break;
	case MODE_ERASE:
		f->mode = MODE_ARRAY;
		f->status |= STATUS_READY;
		if (byte != CMD_CONFIRM) {
			f->status |= STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR;
			break;
		}
		if (!CANARY)
			offset &= ~(uint64_t)(FLASH_BLOCK - 1);
		memset(host + offset, 0xff, FLASH_BLOCK);
		mark_dirty(f, offset, FLASH_BLOCK);
		break;
	}
}

static void vars_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct flash *f = flash_of(d);

	for (unsigned int i = 0; i < size; i++)
		write_byte(f, offset + i, (uint8_t)(value >> (8 * i)));
}

static uint64_t image_load(const struct image *im, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, (const uint8_t *)im->host + offset, size);
	return value;
}

static uint64_t vars_read(struct dev *d, uint64_t offset, unsigned int size)
{
	struct flash *f = flash_of(d);

	if (f->mode == MODE_STATUS)
		return f->status * 0x0101010101010101ull;
	return image_load(&f->vars, offset, size);
}

static uint64_t code_read(struct dev *d, uint64_t offset, unsigned int size)
{
	return image_load(&flash_of(d)->code, offset, size);
}

/* Some firmware probes the code image as if it were flash: it is a ROM. */
static void code_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)d;
	(void)offset;
	(void)size;
	(void)value;
}

static int open_image(const char *what, const char *path, int flags, uint64_t *size,
		      struct err *err)
{
	struct stat st;
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_set(err, -errno, "%s: cannot open %s: %s", what, path,
			       errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		fd_close(&fd);
		return err_set(err, -EINVAL, "%s: %s is not a regular file", what, path);
	}
	if (st.st_size <= 0 || st.st_size % FLASH_BLOCK || (uint64_t)st.st_size > FW_FLASH_MAX) {
		fd_close(&fd);
		return err_set(
			err, -EINVAL,
			"%s: %s has %lld bytes: firmware images are multiples of 4096 up to %llu",
			what, path, (long long)st.st_size, (unsigned long long)FW_FLASH_MAX);
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

/*
 * The variables get memory of their own. The code is mapped from its file: what the guest does not touch costs nothing,
 * and guests with the same firmware share the rest.
 */
static int image_init(struct image *im, int fd, uint64_t len, const char *path, struct err *err)
{
	bool code = im->read_only;
	int r = 0;

	im->host = mmap(NULL, len, code ? PROT_READ : PROT_READ | PROT_WRITE,
			MAP_PRIVATE | (code ? 0 : MAP_ANONYMOUS), code ? fd : -1, 0);
	if (im->host == MAP_FAILED) {
		r = -errno;
		im->host = NULL;
		return err_set(err, r, "cannot map %s: %s", path, strerror(-r));
	}
	im->len = len;
	if (!code)
		r = fd_pread_full(fd, im->host, len, 0);
	return r < 0 ? err_set(err, r, "cannot read %s: %s", path, strerror(-r)) : 0;
}

/* Puts the image so that it ends at end: the slot for reads, the region for everything else. */
static int image_map(struct flash *f, struct image *im, uint64_t end, struct err *err)
{
	struct bus *bus = f->dev.env.bus;
	uint64_t base = end - im->len;
	int r = bus_map(bus, &im->region.region, BUS_MEM, base);

	im->slot = (struct bus_slot){
		.gpa = base, .len = im->len, .host = im->host, .read_only = true
	};
	if (r == 0)
		r = bus_slot_add(bus, &im->slot);
	return r < 0 ? err_set(err, r, "cannot map firmware at %llx: %s", (unsigned long long)base,
			       strerror(-r))
		     : 0;
}

static void image_fini(struct flash *f, struct image *im)
{
	if (im->slot.active)
		bus_slot_del(f->dev.env.bus, &im->slot);
	if (im->region.region.mapped)
		bus_unmap(f->dev.env.bus, &im->region.region);
	if (im->host)
		munmap(im->host, im->len);
}

static int init_code(struct flash *f, const char *path, struct err *err)
{
	uint64_t len;
	int r, fd = open_image("bootrom", path, O_RDONLY, &len, err);

	if (fd < 0)
		return fd;
	f->code.read_only = true;
	r = image_init(&f->code, fd, len, path, err);
	fd_close(&fd);
	if (r < 0)
		return r;
	dev_region_init_ops(&f->code.region, &f->dev, len, code_read, code_write);
	return image_map(f, &f->code, 4 * GIB, err);
}

/*
 * The two images of a firmware fill a power of two together. Anything else is cut short, or comes from another build whose
 * variables are elsewhere.
 */
static bool sizes_match(uint64_t code, uint64_t vars)
{
	uint64_t sum = code + vars;

	return sum <= FW_FLASH_MAX && (sum & (sum - 1)) == 0 && vars < code;
}

/* A variable store is a firmware volume (PI 1.7 volume 3, s3.2.1). */
static bool is_volume(const struct image *im)
{
	return memcmp((const uint8_t *)im->host + 40, "_FVH", 4) == 0;
}

static int init_vars(struct flash *f, const char *path, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	uint64_t len;
	int r;

	/* We write to it: nobody may point us elsewhere. */
	f->vars_fd = open_image("bootvars", path, O_RDWR | O_NOFOLLOW, &len, err);
	if (f->vars_fd < 0)
		return f->vars_fd;
	if (fcntl(f->vars_fd, F_OFD_SETLK, &lock) < 0)
		return err_set(
			err, -EBUSY,
			"bootvars: %s is in use by another guest: each guest needs its own copy",
			path);
	if (!sizes_match(f->code.len, len))
		return err_set(
			err, -EINVAL,
			"bootvars: %s has %llu bytes, which does not go with a bootrom of %llu: copy "
			"the variable store of the same firmware",
			path, (unsigned long long)len, (unsigned long long)f->code.len);
	r = image_init(&f->vars, f->vars_fd, len, path, err);
	if (r < 0)
		return r;
	if (!is_volume(&f->vars))
		return err_set(
			err, -EINVAL,
			"bootvars: %s is not a UEFI variable store: copy the firmware's own anew",
			path);
	dev_region_init_ops(&f->vars.region, &f->dev, len, vars_read, vars_write);
	return image_map(f, &f->vars, 4 * GIB - f->code.len, err);
}

static int flash_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	const struct flash_conf *c = conf;
	struct flash *f = flash_of(d);
	int r;

	(void)env;
	f->vars_fd = -1;
	r = init_code(f, c->code, err);
	if (r == 0 && c->vars)
		r = init_vars(f, c->vars, err);
	return r;
}

static void flash_reset(struct dev *d)
{
	struct flash *f = flash_of(d);

	f->status = 0;
	if (f->vars.host)
		set_mode(f, MODE_ARRAY);
}

static void flash_fini(struct dev *d)
{
	struct flash *f = flash_of(d);

	if (f->vars.host)
		persist(f);
	image_fini(f, &f->vars);
	image_fini(f, &f->code);
	fd_close(&f->vars_fd);
}

uint64_t flash_base(const struct dev *d)
{
	const struct flash *f = (const struct flash *)d;

	return 4 * GIB - f->code.len - f->vars.len;
}

static const struct conf_key keys[] = {
	{ .name = "code",
	  .type = CONF_STR,
	  .offset = offsetof(struct flash_conf, code),
	  .required = true,
	  .help = "firmware code image" },
	{ .name = "vars",
	  .type = CONF_STR,
	  .offset = offsetof(struct flash_conf, vars),
	  .help = "variable store of this guest" },
	CONF_KEY_END,
};

const struct dev_ops flash_ops = {
	.model = "flash",
	.help = "firmware code and UEFI variables",
	.keys = keys,
	.size = sizeof(struct flash),
	.conf_size = sizeof(struct flash_conf),
	.init = flash_init,
	.reset = flash_reset,
	.fini = flash_fini,
};
