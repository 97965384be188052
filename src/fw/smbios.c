/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/smbios.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/fwcfg.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/macros.h"

/* Section numbers are those of DSP0134 3.0. A handle is the type in the high byte and a number in the low one. */
#define TABLES_MAX 32768
#define DIMM_MAX (16 * GIB)
#define HANDLE(type, n) ((uint16_t)((type) << 8 | (n)))

enum { UNKNOWN = 2, OTHER = 1, NO_HANDLE = 0xffff, NO_ERROR_HANDLE = 0xfffe };

struct PACKED header {
	uint8_t type, len;
	le16 handle;
};

struct PACKED bios { /* s7.1 */
	struct header h;
	uint8_t vendor, version;
	le16 segment;
	uint8_t date, rom_size;
	le64 characteristics;
	uint8_t extension[2], major, minor, ec_major, ec_minor;
};

struct PACKED system { /* s7.2 */
	struct header h;
	uint8_t manufacturer, product, version, serial, uuid[16], wake_up, sku, family;
};

struct PACKED board { /* s7.3 */
	struct header h;
	uint8_t manufacturer, product, version, serial, asset, features, location;
	le16 chassis;
	uint8_t type, contained;
};

struct PACKED chassis { /* s7.4 */
	struct header h;
	uint8_t manufacturer, type, version, serial, asset, boot_state, power_state, thermal_state,
		security;
	le32 oem;
	uint8_t height, cords, elements, element_len, sku;
};

struct PACKED processor { /* s7.5 */
	struct header h;
	uint8_t socket, type, family, manufacturer;
	le64 id;
	uint8_t version, voltage;
	le16 external_clock, max_speed, speed;
	uint8_t status, upgrade;
	le16 l1, l2, l3;
	uint8_t serial, asset, part, cores, enabled, threads;
	le16 characteristics, family2, cores2, enabled2, threads2;
};

struct PACKED memory_array { /* s7.17 */
	struct header h;
	uint8_t location, use, correction;
	le32 capacity_kib;
	le16 error, devices;
	le64 capacity;
};

struct PACKED memory_device { /* s7.18 */
	struct header h;
	le16 array, error, total_width, data_width, size_mib;
	uint8_t form, set, locator, bank, type;
	le16 detail, speed;
	uint8_t manufacturer, serial, asset, part, attributes;
	le32 extended_mib;
	le16 clock, min_voltage, max_voltage, voltage;
};

struct PACKED mapped_address { /* s7.20 */
	struct header h;
	le32 start_kib, end_kib;
	le16 array;
	uint8_t width;
	le64 start, end;
};

struct PACKED boot_information { /* s7.33 */
	struct header h;
	uint8_t reserved[6], status;
};

struct PACKED anchor { /* s5.2.2 */
	char magic[5];
	uint8_t checksum, len, major, minor, revision, entry_revision, reserved;
	le32 max_size;
	le64 tables;
};

/* The structures as they grow. Too long sticks and shows at the end. */
struct out {
	uint8_t buf[TABLES_MAX];
	size_t len;
	bool full;
};

static void put(struct out *o, const void *data, size_t len)
{
	if (o->full || len > sizeof(o->buf) - o->len) {
		o->full = true;
		return;
	}
	memcpy(o->buf + o->len, data, len);
	o->len += len;
}

/*
 * Writes a structure and its strings (s6.1.3). fields[i] is the place in the structure of the number of strings[i]; a
 * string that is NULL or empty has the number 0.
 */
static void put_structure(struct out *o, void *s, uint8_t *const fields[],
			  const char *const strings[], size_t n)
{
	const struct header *h = s;
	uint8_t count = 0;

	for (size_t i = 0; i < n; i++)
		*fields[i] = strings[i] && *strings[i] ? ++count : 0;
	put(o, s, h->len);
	for (size_t i = 0; i < n; i++)
		if (strings[i] && *strings[i])
			put(o, strings[i], strlen(strings[i]) + 1);
	put(o, "\0", count ? 1 : 2);
}

static void put_bios(struct out *o, const struct fw_smbios_spec *s)
{
	struct bios t = {
		.h = { 0, sizeof(t), HANDLE(0, 0) },
		.characteristics = BIT(3), /* not given */
		.extension = { 0, BIT(4) }, /* a virtual machine */
		.ec_major = 0xff,
		.ec_minor = 0xff,
	};
	uint8_t *const fields[] = { &t.vendor, &t.version, &t.date };
	const char *const strings[] = { s->bios_vendor, s->bios_version, s->bios_date };

	put_structure(o, &t, fields, strings, ARRAY_LEN(fields));
}

/* In the table the first three groups are little-endian (s7.2.1). */
static void swap_uuid(uint8_t out[16], const uint8_t in[16])
{
	memcpy(out, in, 16);
	put_le32(out, get_be32(in));
	put_le16(out + 4, get_be16(in + 4));
	put_le16(out + 6, get_be16(in + 6));
}

static void put_system(struct out *o, const struct fw_smbios_spec *s)
{
	struct system t = { .h = { 1, sizeof(t), HANDLE(1, 0) }, .wake_up = 6 /* switch */ };
	uint8_t *const fields[] = { &t.manufacturer, &t.product, &t.version,
				    &t.serial,	     &t.sku,	 &t.family };
	const char *const strings[] = { s->system_manufacturer, s->system_product,
					s->system_version,	s->system_serial,
					s->system_sku,		s->system_family };

	swap_uuid(t.uuid, s->uuid);
	put_structure(o, &t, fields, strings, ARRAY_LEN(fields));
}

static void put_board(struct out *o, const struct fw_smbios_spec *s)
{
	struct board t = {
		.h = { 2, sizeof(t), HANDLE(2, 0) },
		.features = BIT(0), /* hosts the others */
		.chassis = HANDLE(3, 0),
		.type = 10, /* motherboard */
	};
	uint8_t *const fields[] = { &t.manufacturer, &t.product, &t.version,
				    &t.serial,	     &t.asset,	 &t.location };
	const char *const strings[] = {
		s->board_manufacturer, s->board_product, s->board_version,
		s->board_serial,       s->board_asset,	 s->board_location
	};

	put_structure(o, &t, fields, strings, ARRAY_LEN(fields));
}

static void put_chassis(struct out *o, const struct fw_smbios_spec *s)
{
	struct chassis t = {
		.h = { 3, sizeof(t), HANDLE(3, 0) },
		.type = OTHER,
		.boot_state = 3, /* safe */
		.power_state = 3,
		.thermal_state = 3,
		.security = UNKNOWN,
	};
	uint8_t *const fields[] = { &t.manufacturer, &t.version, &t.serial, &t.asset, &t.sku };
	const char *const strings[] = { s->chassis_manufacturer, s->chassis_version,
					s->chassis_serial, s->chassis_asset, s->chassis_sku };

	put_structure(o, &t, fields, strings, ARRAY_LEN(fields));
}

static void put_processor(struct out *o, const struct fw_smbios_spec *s, unsigned int n)
{
	unsigned int threads = s->cores * s->threads;
	struct processor t = {
		.h = { 4, sizeof(t), HANDLE(4, n) },
		.type = 3, /* central */
		.family = OTHER,
		.status = BIT(6) | 1, /* populated, enabled */
		.upgrade = OTHER,
		.l1 = NO_HANDLE,
		.l2 = NO_HANDLE,
		.l3 = NO_HANDLE,
		.cores = (uint8_t)MIN(s->cores, 255u),
		.enabled = (uint8_t)MIN(s->cores, 255u),
		.threads = (uint8_t)MIN(threads, 255u),
		.characteristics = BIT(2), /* 64-bit */
		.family2 = OTHER,
		.cores2 = (uint16_t)s->cores,
		.enabled2 = (uint16_t)s->cores,
		.threads2 = (uint16_t)threads,
	};
	char name[16];
	uint8_t *const fields[] = { &t.socket, &t.manufacturer, &t.version };
	const char *const strings[] = { name, s->system_manufacturer, s->system_version };

	if (snprintf(name, sizeof(name), "CPU %u", n) > 0)
		put_structure(o, &t, fields, strings, ARRAY_LEN(fields));
}

static void put_memory_device(struct out *o, const struct fw_smbios_spec *s, unsigned int n,
			      uint64_t size)
{
	uint64_t mib = size / MIB;
	struct memory_device t = {
		.h = { 17, sizeof(t), HANDLE(17, n) },
		.array = HANDLE(16, 0),
		.error = NO_ERROR_HANDLE,
		.total_width = 0xffff,
		.data_width = 0xffff,
		.size_mib = (uint16_t)MIN(mib, 0x7fffu), /* 7FFF: see extended */
		.form = 9, /* DIMM */
		.type = 7, /* RAM */
		.detail = BIT(1), /* other */
		.extended_mib = mib >= 0x7fff ? (uint32_t)mib : 0,
	};
	char name[16];
	uint8_t *const fields[] = { &t.locator, &t.manufacturer };
	const char *const strings[] = { name, s->system_manufacturer };

	if (snprintf(name, sizeof(name), "DIMM %u", n) > 0)
		put_structure(o, &t, fields, strings, ARRAY_LEN(fields));
}

static void put_memory(struct out *o, const struct fw_smbios_spec *s)
{
	const struct mem_region *r;
	uint64_t left = mem_size(s->mem), kib = left / KIB;
	unsigned int dimms = (unsigned int)MIN((left + DIMM_MAX - 1) / DIMM_MAX, 255u);
	uint64_t each = ALIGN_UP(dimms ? left / dimms : 0, MIB);
	size_t regions = mem_regions(s->mem, &r);
	struct memory_array t = {
		.h = { 16, sizeof(t), HANDLE(16, 0) },
		.location = OTHER,
		.use = 3, /* system memory */
		.correction = 3, /* none */
		.capacity_kib = kib < 0x80000000u ? (uint32_t)kib : 0x80000000u,
		.error = NO_ERROR_HANDLE,
		.devices = (uint16_t)dimms,
		.capacity = kib < 0x80000000u ? 0 : left,
	};

	put_structure(o, &t, NULL, NULL, 0);
	for (unsigned int i = 0; i < dimms; i++) {
		put_memory_device(o, s, i, MIN(left, each));
		left -= MIN(left, each);
	}
	for (unsigned int i = 0; i < regions; i++) {
		uint64_t end = r[i].gpa + r[i].len;
		bool small = end / KIB <= UINT32_MAX;
		struct mapped_address m = {
			.h = { 19, sizeof(m), HANDLE(19, i) },
			.start_kib = small ? (uint32_t)(r[i].gpa / KIB) : UINT32_MAX,
			.end_kib = small ? (uint32_t)(end / KIB - 1) : UINT32_MAX,
			.array = HANDLE(16, 0),
			.width = 1,
			.start = small ? 0 : r[i].gpa,
			.end = small ? 0 : end - 1,
		};

		put_structure(o, &m, NULL, NULL, 0);
	}
}

static void put_all(struct out *o, const struct fw_smbios_spec *s)
{
	struct boot_information boot = { .h = { 32, sizeof(boot), HANDLE(32, 0) } };
	struct header end = { 127, sizeof(end), HANDLE(127, 0) };

	put_bios(o, s);
	put_system(o, s);
	put_board(o, s);
	put_chassis(o, s);
	for (unsigned int i = 0; i < s->sockets; i++)
		put_processor(o, s, i);
	put_memory(o, s);
	put_structure(o, &boot, NULL, NULL, 0);
	put_structure(o, &end, NULL, NULL, 0);
}

/* Makes the structures and the anchor that says they are at gpa. The caller frees *out. */
static int build(const struct fw_smbios_spec *s, gpa_t gpa, struct out **out, struct anchor *a,
		 struct err *err)
{
	struct out *o = calloc(1, sizeof(*o));
	const uint8_t *bytes = (const uint8_t *)a;
	uint8_t sum = 0;

	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	put_all(o, s);
	if (o->full) {
		free(o);
		return err_set(
			err, -EFBIG,
			"SMBIOS: the strings of system, board, chassis and bios are too long");
	}
	*a = (struct anchor){
		.magic = { '_', 'S', 'M', '3', '_' },
		.len = sizeof(*a),
		.major = 3,
		.entry_revision = 1,
		.max_size = (uint32_t)o->len,
		.tables = gpa,
	};
	for (size_t i = 0; i < sizeof(*a); i++)
		sum = (uint8_t)(sum + bytes[i]);
	a->checksum = (uint8_t)(0 - sum);
	*out = o;
	return 0;
}

int fw_smbios_add(const struct fw_smbios_spec *s, struct dev *fwcfg, struct err *err)
{
	struct anchor a;
	struct out *o;
	int r = build(s, 0, &o, &a, err);

	if (r < 0)
		return r;
	r = fwcfg_add_file(fwcfg, "etc/smbios/smbios-tables", o->buf, o->len, err);
	if (r == 0)
		r = fwcfg_add_file(fwcfg, "etc/smbios/smbios-anchor", &a, sizeof(a), err);
	free(o);
	return r;
}

int fw_smbios_place(const struct fw_smbios_spec *s, gpa_t gpa, uint64_t max, struct err *err)
{
	const gpa_t tables = gpa + ALIGN_UP(sizeof(struct anchor), 16);
	struct anchor a;
	struct out *o;
	int r = build(s, tables, &o, &a, err);

	if (r < 0)
		return r;
	if (tables - gpa + o->len > max)
		r = -EFBIG;
	if (r == 0)
		r = mem_write(s->mem, tables, o->buf, o->len);
	if (r == 0)
		r = mem_write(s->mem, gpa, &a, sizeof(a));
	free(o);
	return r < 0 ? err_set(err, r, "SMBIOS: no room in guest memory") : 0;
}

int fw_uuid_parse(const char *text, uint8_t uuid[16])
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	uint8_t out[16] = { 0 };
	size_t n = 0;

	if (strlen(text) != sizeof(form) - 1)
		return -EINVAL;
	for (size_t i = 0; form[i]; i++) {
		int c = tolower((unsigned char)text[i]);

		if (form[i] == '-' ? c != '-' : !isxdigit(c))
			return -EINVAL;
		if (form[i] == '-')
			continue;
		out[n / 2] = (uint8_t)(out[n / 2] << 4 | (isdigit(c) ? c - '0' : c - 'a' + 10));
		n++;
	}
	memcpy(uuid, out, sizeof(out));
	return 0;
}
