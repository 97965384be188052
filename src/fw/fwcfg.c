/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/fwcfg.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "dev/dev.h"
#include "fw/layout.h"
#include "mem/dma.h"
#include "util/bytes.h"
#include "util/canary.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

/* The interface is described in QEMU's docs/specs/fw_cfg.rst; section names below are from there. */
enum {
	KEY_SIGNATURE = 0x00,
	KEY_ID = 0x01,
	KEY_FILE_DIR = 0x19,
	KEY_FILE_FIRST = 0x20,
	KEYS = KEY_FILE_FIRST + FWCFG_FILES_MAX,
	KEY_NONE = 0xffff,

	KEY_WRITE = 0x4000, /* selector bits ("Selector Register") */
	KEY_ARCH = 0x8000,

	ID_TRADITIONAL = 1 << 0, /* "Revision / feature bitmap" */
	ID_DMA = 1 << 1,

	DMA_ERROR = 1 << 0, /* "Guest-side DMA Interface", control */
	DMA_READ = 1 << 1,
	DMA_SKIP = 1 << 2,
	DMA_SELECT = 1 << 3,
	DMA_WRITE = 1 << 4,

	/* Port offsets. */
	REG_SELECT = 0,
	REG_DATA = 1,
	REG_DMA_HIGH = 4,
	REG_DMA_LOW = 8,
};

/* A read may run this far past the end of its item: nobody can keep us writing zeroes for long. */
#define DMA_PAST_END_MAX (1 * MIB)

struct item {
	uint8_t *data; /* NULL: the key is free */
	size_t len;
	char name[FWCFG_NAME_MAX + 1];
	bool writable;
	void (*written)(void *arg, const uint8_t *data);
	void *written_arg;
	void (*select)(void *arg);
	void *select_arg;
};

/* One entry of the directory ("File Directory"), big-endian. */
struct PACKED dir_entry {
	uint8_t size[4], key[2], reserved[2];
	char name[FWCFG_NAME_MAX + 1];
};

struct PACKED dir {
	uint8_t count[4];
	struct dir_entry files[FWCFG_FILES_MAX];
};

/* "FWCfgDmaAccess", big-endian. */
struct PACKED descriptor {
	uint8_t control[4], length[4], address[8];
};

struct fwcfg {
	struct dev dev;
	struct dev_region ports;
	struct dma dma;
	struct item items[KEYS];
	unsigned int files;
	struct dir dir;
	uint16_t key; /* selected; an unknown key reads zeroes */
	size_t offset;
	uint8_t dma_addr[8]; /* as the guest wrote it, big-endian */
};

static struct fwcfg *fwcfg_of(struct dev *d)
{
	return container_of(d, struct fwcfg, dev);
}

/* The item of a selector value, or NULL. Our machine has no items of the architecture's own. */
static struct item *find_item(struct fwcfg *f, uint16_t key)
{
	if (key & KEY_ARCH)
		return NULL;
	key &= (uint16_t)~KEY_WRITE;
	return key < KEYS && f->items[key].data ? &f->items[key] : NULL;
}

static struct item *find_file(struct fwcfg *f, const char *name)
{
	for (unsigned int i = 0; i < f->files; i++)
		if (strcmp(f->items[KEY_FILE_FIRST + i].name, name) == 0)
			return &f->items[KEY_FILE_FIRST + i];
	return NULL;
}

/* Bytes of the item from the current offset on. */
static size_t left(const struct fwcfg *f, const struct item *it)
{
	return it && f->offset < it->len ? it->len - f->offset : 0;
}

static void select_key(struct fwcfg *f, uint16_t key)
{
	f->key = key;
	f->offset = 0;
}

/* Contents made at the last moment. Without the lock: fn looks at other devices. */
static void run_select(struct fwcfg *f, uint16_t key)
{
	const struct item *it = find_item(f, key);

	if (it && it->select)
		it->select(it->select_arg);
}

static uint8_t read_byte(struct fwcfg *f)
{
	const struct item *it = find_item(f, f->key);

	return left(f, it) ? it->data[f->offset++] : 0;
}

/* Copies item bytes to the guest, then zeroes. False: not RAM, or unreasonably long. */
static bool dma_to_guest(struct fwcfg *f, const struct item *it, uint64_t gpa, uint32_t len)
{
	static const uint8_t zeroes[4096];
	size_t n = MIN((size_t)len, left(f, it));

	if (len - n > DMA_PAST_END_MAX)
		return false;
	if (n && dma_write(&f->dma, gpa, it->data + f->offset, n) < 0)
		return false;
	f->offset += n;
	for (len -= (uint32_t)n, gpa += n; len; len -= (uint32_t)n, gpa += n) {
		n = MIN(len, sizeof(zeroes));
		if (dma_write(&f->dma, gpa, zeroes, n) < 0)
			return false;
	}
	return true;
}

/* Takes guest bytes into a writable item; they must fit. */
static bool dma_from_guest(struct fwcfg *f, struct item *it, uint64_t gpa, uint32_t len)
{
	if (!it || !it->writable || (len > left(f, it) && !CANARY))
		return false;
	if (dma_read(&f->dma, gpa, it->data + f->offset, len) < 0)
		return false;
	f->offset += len;
	if (it->written)
		it->written(it->written_arg, it->data);
	return true;
}

/* Executes a descriptor that was copied from the guest. Returns the control word to store. Lock held. */
static uint32_t run_dma(struct fwcfg *f, const struct descriptor *desc)
{
	uint32_t control = get_be32(desc->control), len = get_be32(desc->length);
	uint64_t gpa = get_be64(desc->address);
	struct item *it;
	bool ok = true;

	if (control & DMA_SELECT)
		select_key(f, (uint16_t)(control >> 16));
	it = find_item(f, f->key);
	if (control & DMA_READ)
		ok = dma_to_guest(f, it, gpa, len);
	else if (control & DMA_WRITE)
		ok = dma_from_guest(f, it, gpa, len);
	else if (control & DMA_SKIP)
		f->offset += MIN((size_t)len, left(f, it));
	return ok ? 0 : DMA_ERROR;
}

/* The guest wrote the low half of the address: fetch, run and complete the descriptor there. Lock not held. */
static void start_dma(struct fwcfg *f, uint64_t gpa)
{
	struct descriptor desc;
	uint8_t result[4];
	uint32_t control;

	if (dma_read(&f->dma, gpa, &desc, sizeof(desc)) < 0)
		return; /* nowhere to report it */
	control = get_be32(desc.control);
	if (control & DMA_SELECT)
		run_select(f, (uint16_t)(control >> 16));
	dev_lock(&f->dev);
	put_be32(result, run_dma(f, &desc));
	dev_unlock(&f->dev);
	dma_write(&f->dma, gpa, result, sizeof(result)); /* was RAM a moment ago */
}

/* Keeps address bytes; the low half triggers ("Guest-side DMA Interface": 32 or 64 bits wide). */
static void write_dma_addr(struct fwcfg *f, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t gpa;
	bool go = offset + size == REG_DMA_LOW + 4;

	dev_lock(&f->dev);
	memcpy(f->dma_addr + (offset - REG_DMA_HIGH), &value, size);
	gpa = get_be64(f->dma_addr);
	if (go)
		memset(f->dma_addr, 0, sizeof(f->dma_addr));
	dev_unlock(&f->dev);
	if (go)
		start_dma(f, gpa);
}

/* The handlers are lock-free for the core: they take the lock themselves, around run_select(). */
static void ports_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct fwcfg *f = fwcfg_of(d);

	if (offset == REG_SELECT && size == 2) {
		run_select(f, (uint16_t)value);
		dev_lock(d);
		select_key(f, (uint16_t)value);
		dev_unlock(d);
	} else if ((size == 4 && (offset == REG_DMA_HIGH || offset == REG_DMA_LOW)) ||
		   (size == 8 && offset == REG_DMA_HIGH)) {
		write_dma_addr(f, offset, size, value);
	}
}

static uint64_t ports_read(struct dev *d, uint64_t offset, unsigned int size)
{
	static const char magic[8] = { 'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G' };
	struct fwcfg *f = fwcfg_of(d);
	uint64_t v = 0;

	if (offset == REG_DATA && size == 1) {
		dev_lock(d);
		v = read_byte(f);
		dev_unlock(d);
	} else if (offset >= REG_DMA_HIGH) {
		memcpy(&v, magic + (offset - REG_DMA_HIGH), size);
	}
	return v;
}

/* Gives a key its contents. */
static int set_item(struct fwcfg *f, uint16_t key, const void *data, size_t len, struct err *err)
{
	struct item *it = &f->items[key];

	assert(f->dev.state == DEV_MADE);
	if (it->data)
		return err_set(err, -EEXIST, "fw_cfg: item 0x%x exists already", key);
	it->data = calloc(1, len ? len : 1);
	if (!it->data)
		return err_set(err, -ENOMEM, "fw_cfg: out of memory");
	if (data)
		memcpy(it->data, data, len);
	it->len = len;
	return 0;
}

int fwcfg_add_item(struct dev *d, uint16_t key, const void *data, size_t len, struct err *err)
{
	if (key >= KEY_FILE_FIRST)
		return err_set(err, -EINVAL, "fw_cfg: 0x%x is no key of a numbered item", key);
	return set_item(fwcfg_of(d), key, data, len, err);
}

/* Adds a file with data, or zeroed if that is NULL. *out is the item. */
static int add_file(struct fwcfg *f, const char *name, const void *data, size_t len,
		    struct item **out, struct err *err)
{
	uint16_t key = (uint16_t)(KEY_FILE_FIRST + f->files);
	struct dir_entry *e = &f->dir.files[f->files];
	struct item *it;
	int r;

	if (!*name || strlen(name) > FWCFG_NAME_MAX)
		return err_set(err, -ENAMETOOLONG,
			       "fw_cfg: a file name has 1 to %d characters: \"%.64s\"",
			       FWCFG_NAME_MAX, name);
	if (find_file(f, name))
		return err_set(err, -EEXIST, "fw_cfg: the file %s exists already", name);
	if (f->files == FWCFG_FILES_MAX)
		return err_set(err, -ENOSPC, "fw_cfg: no room for the file %s: at most %d", name,
			       FWCFG_FILES_MAX);
	if (len > UINT32_MAX)
		return err_set(err, -EFBIG, "fw_cfg: the file %s is too large", name);
	r = set_item(f, key, data, len, err);
	if (r < 0)
		return r;
	it = &f->items[key];
	str_copy(it->name, sizeof(it->name), name);
	put_be32(e->size, (uint32_t)len);
	put_be16(e->key, key);
	str_copy(e->name, sizeof(e->name), name);
	f->files++;
	put_be32(f->dir.count, f->files);
	it = &f->items[KEY_FILE_DIR];
	it->len = sizeof(f->dir.count) + f->files * sizeof(struct dir_entry);
	memcpy(it->data, &f->dir, it->len);
	*out = &f->items[key];
	return 0;
}

int fwcfg_add_file(struct dev *d, const char *name, const void *data, size_t len, struct err *err)
{
	struct item *it;

	return add_file(fwcfg_of(d), name, data, len, &it, err);
}

int fwcfg_add_writable(struct dev *d, const char *name, size_t len,
		       void (*written)(void *arg, const uint8_t *data), void *arg, struct err *err)
{
	struct item *it;
	int r = add_file(fwcfg_of(d), name, NULL, len, &it, err);

	if (r < 0)
		return r;
	it->writable = true;
	it->written = written;
	it->written_arg = arg;
	return 0;
}

void fwcfg_on_select(struct dev *d, const char *name, void (*fn)(void *arg), void *arg)
{
	struct item *it = find_file(fwcfg_of(d), name);

	assert(it && d->state == DEV_MADE);
	it->select = fn;
	it->select_arg = arg;
}

int fwcfg_replace_file(struct dev *d, const char *name, const void *data, size_t len)
{
	struct item *it = find_file(fwcfg_of(d), name);

	if (!it)
		return -ENOENT;
	if (len > it->len)
		return -EFBIG;
	dev_lock(d);
	memcpy(it->data, data, len);
	memset(it->data + len, 0, it->len - len);
	dev_unlock(d);
	return 0;
}

static void fwcfg_reset(struct dev *d)
{
	struct fwcfg *f = fwcfg_of(d);

	select_key(f, KEY_NONE);
	memset(f->dma_addr, 0, sizeof(f->dma_addr));
	for (unsigned int i = 0; i < f->files; i++)
		if (f->items[KEY_FILE_FIRST + i].writable)
			memset(f->items[KEY_FILE_FIRST + i].data, 0,
			       f->items[KEY_FILE_FIRST + i].len);
}

static int fwcfg_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	static const uint8_t id[4] = { ID_TRADITIONAL | ID_DMA };
	struct fwcfg *f = fwcfg_of(d);
	int r;

	(void)conf;
	f->key = KEY_NONE;
	dma_init(&f->dma, env->mem, true);
	r = set_item(f, KEY_SIGNATURE, "QEMU", 4, err);
	if (r == 0)
		r = set_item(f, KEY_ID, id, sizeof(id), err);
	if (r == 0)
		r = set_item(f, KEY_FILE_DIR, NULL, sizeof(f->dir), err);
	if (r < 0)
		return r;
	f->items[KEY_FILE_DIR].len = sizeof(f->dir.count);
	dev_region_init_ops(&f->ports, d, FW_PORT_FWCFG_LEN, ports_read, ports_write);
	f->ports.lock_free = true;
	r = bus_map(env->bus, &f->ports.region, BUS_PORT, FW_PORT_FWCFG);
	return r < 0 ? err_set(err, r, "fw_cfg: ports 0x510 to 0x51b are taken") : 0;
}

static void fwcfg_fini(struct dev *d)
{
	struct fwcfg *f = fwcfg_of(d);

	if (f->ports.region.mapped)
		bus_unmap(d->env.bus, &f->ports.region);
	for (unsigned int i = 0; i < KEYS; i++)
		free(f->items[i].data);
}

static const struct conf_key fwcfg_keys[] = { CONF_KEY_END };

const struct dev_ops fwcfg_ops = {
	.model = "fwcfg",
	.help = "configuration for the firmware",
	.keys = fwcfg_keys,
	.size = sizeof(struct fwcfg),
	.init = fwcfg_init,
	.reset = fwcfg_reset,
	.fini = fwcfg_fini,
};
