/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/acpi.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aml/aml.h"
#include "fw/acpi_priv.h"
#include "fw/fwcfg.h"
#include "fw/layout.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/str.h"

/* Section numbers are those of ACPI 6.4; tables keep the revision that all our guests take. */
#define FILE_LOADER "etc/table-loader"
#define FILE_RSDP "etc/acpi/rsdp"
#define FILE_TABLES "etc/acpi/tables"
/* File sizes are fixed: the guest reads the directory before the contents are made. */
#define TABLES_SIZE 65536u
#define LOADER_SIZE 4096u
#define TABLES_MAX 8
#define POINTERS_MAX 16

struct PACKED sdt { /* s5.2.6 */
	char signature[4];
	le32 len;
	uint8_t revision, checksum;
	char oem[6], table[8];
	le32 oem_revision;
	char creator[4];
	le32 creator_revision;
};

struct PACKED gas { /* s5.2.3.2 */
	uint8_t space, bits, offset, access;
	le64 addr;
};

struct PACKED rsdp { /* s5.2.5.3, revision 0 */
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	le32 rsdt;
};

struct PACKED facs { /* s5.2.10 */
	char signature[4];
	le32 len, hardware, waking, lock, flags;
	le64 x_waking;
	uint8_t version, reserved[31];
};

struct PACKED fadt { /* s5.2.9, revision 3 */
	struct sdt h;
	le32 facs, dsdt;
	uint8_t model, profile;
	le16 sci;
	le32 smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	le32 pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base,
		cst;
	le16 lvl2_latency, lvl3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	le16 boot_arch;
	uint8_t reserved;
	le32 flags;
	struct gas reset;
	uint8_t reset_value, reserved2[3];
	le64 x_facs, x_dsdt;
	struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1;
};

enum fadt_bits {
	FADT_WBINVD = BIT(0),
	FADT_PROC_C1 = BIT(2),
	FADT_SLP_BUTTON = BIT(5), /* no fixed sleep button */
	FADT_RTC_S4 = BIT(7),
	FADT_RESET = BIT(10),
	FADT_PLATFORM_CLOCK = BIT(15),
	ARCH_LEGACY = BIT(0),
	ARCH_8042 = BIT(1),
	ARCH_NO_VGA = BIT(2),
	RESET_VALUE = 0x06,
	CMOS_CENTURY = 0x32,
};

/* Blocks behind PMBASE (ICH9 datasheet s13.8.3). */
enum { PM_EVT = 0x00, PM_CNT = 0x04, PM_TMR = 0x08, PM_GPE0 = 0x20, PM_GPE0_LEN = 16 };

struct PACKED madt { /* s5.2.12 */
	struct sdt h;
	le32 lapic, flags;
};

struct PACKED madt_lapic { /* s5.2.12.2 */
	uint8_t type, len, uid, apic_id;
	le32 flags;
};

struct PACKED madt_ioapic { /* s5.2.12.3 */
	uint8_t type, len, id, reserved;
	le32 addr, gsi;
};

struct PACKED madt_override { /* s5.2.12.5 */
	uint8_t type, len, bus, irq;
	le32 gsi;
	le16 flags;
};

struct PACKED madt_nmi { /* s5.2.12.7 */
	uint8_t type, len, uid;
	le16 flags;
	uint8_t lint;
};

struct PACKED mcfg { /* PCI Firmware 3.2 s4.1.2 */
	struct sdt h;
	le64 reserved, base;
	le16 segment;
	uint8_t first_bus, last_bus;
	le32 reserved2;
};

struct PACKED waet { /* Windows ACPI Emulated Devices Table */
	struct sdt h;
	le32 flags;
};

/* One command of the table loader: QEMU docs, and edk2's QemuLoader.h. */
struct PACKED loader_cmd {
	le32 type;
	union {
		struct PACKED {
			char file[56];
			le32 align;
			uint8_t zone;
		} alloc;
		struct PACKED {
			char dst[56], src[56];
			le32 offset;
			uint8_t size;
		} pointer;
		struct PACKED {
			char file[56];
			le32 result, start, len;
		} sum;
		uint8_t pad[124];
	};
};

enum { LOADER_ALLOC = 1, LOADER_POINTER = 2, LOADER_SUM = 3, ZONE_HIGH = 1, ZONE_FSEG = 2 };

/* All tables in one blob. Pointers hold offsets in the blob until somebody adds its address. */
struct blob {
	uint8_t data[TABLES_SIZE];
	size_t len;
	bool full;
	struct {
		uint32_t at;
		uint8_t size;
	} pointers[POINTERS_MAX];
	size_t npointers;
	uint32_t tables
		[TABLES_MAX]; /* all but FACS, in order; the first is the DSDT, the last the RSDT */
	size_t ntables;
	struct rsdp rsdp;
};

struct fw_acpi {
	struct fw_acpi_spec spec;
	struct dev *fwcfg;
};

struct fw_acpi *fw_acpi_new(const struct fw_acpi_spec *spec)
{
	struct fw_acpi *a = calloc(1, sizeof(*a));

	assert(spec->cpus >= 1 && spec->cpus <= FW_ACPI_CPUS_MAX);
	if (a)
		a->spec = *spec;
	return a;
}

void fw_acpi_free(struct fw_acpi *a)
{
	free(a);
}

/* --- the blob --- */

static void *put(struct blob *b, const void *data, size_t len)
{
	void *at = b->data + b->len;

	if (b->full || len > sizeof(b->data) - b->len) {
		b->full = true;
		return NULL;
	}
	memcpy(at, data, len);
	b->len += len;
	return at;
}

static void align(struct blob *b, size_t to)
{
	b->len = MIN(ALIGN_UP(b->len, to), sizeof(b->data));
}

/* Starts a table: data begins with its header, which is filled in. Returns the offset. */
static uint32_t begin_table(struct blob *b, const char *signature, uint8_t revision, void *data,
			    size_t len)
{
	struct sdt *h = data;
	uint32_t at;

	align(b, 16);
	at = (uint32_t)b->len;
	memcpy(h->signature, signature, 4);
	h->revision = revision;
	memcpy(h->oem, "KHYVE ", 6);
	memcpy(h->table, "KHYVEVM ", 8);
	h->oem_revision = 1;
	memcpy(h->creator, "KHYV", 4);
	h->creator_revision = 1;
	put(b, data, len);
	assert(b->ntables < TABLES_MAX);
	b->tables[b->ntables++] = at;
	return at;
}

/* Everything since begin_table() is the table. */
static void end_table(struct blob *b, uint32_t at)
{
	if (!b->full)
		put_le32(b->data + at + offsetof(struct sdt, len), (uint32_t)(b->len - at));
}

/* Stores a pointer to target at offset at. */
static void put_pointer(struct blob *b, uint32_t at, uint8_t size, uint32_t target)
{
	if (b->full)
		return;
	assert(b->npointers < POINTERS_MAX);
	memcpy(b->data + at, &target, sizeof(target));
	b->pointers[b->npointers].at = at;
	b->pointers[b->npointers++].size = size;
}

/* --- the tables --- */

static uint32_t write_facs(struct blob *b)
{
	const struct facs f = { .signature = { 'F', 'A', 'C', 'S' },
				.len = sizeof(f),
				.version = 1 };
	uint32_t at;

	align(b, 64);
	at = (uint32_t)b->len;
	put(b, &f, sizeof(f));
	return at;
}

static int write_dsdt(struct blob *b, const struct fw_acpi_spec *s, const struct acpi_view *v,
		      uint32_t *at)
{
	struct sdt h = { 0 };
	struct aml a;
	int r;

	aml_init(&a);
	acpi_write_dsdt(&a, s, v);
	r = aml_error(&a);
	*at = begin_table(b, "DSDT", 2, &h, sizeof(h));
	if (r == 0)
		put(b, a.buf, a.len);
	end_table(b, *at);
	aml_fini(&a);
	return r;
}

static struct gas port(uint64_t addr, uint8_t bits, uint8_t access)
{
	return (struct gas){ .space = 1, .bits = bits, .access = access, .addr = addr };
}

static uint32_t write_fadt(struct blob *b, const struct fw_acpi_spec *s, const struct acpi_view *v,
			   uint32_t facs, uint32_t dsdt)
{
	uint16_t pm = v->pmbase;
	struct fadt f = {
		.sci = FW_IRQ_SCI,
		.pm1a_evt = pm + PM_EVT,
		.pm1a_cnt = pm + PM_CNT,
		.pm_tmr = pm + PM_TMR,
		.gpe0 = pm + PM_GPE0,
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.pm_tmr_len = 4,
		.gpe0_len = PM_GPE0_LEN,
		.lvl2_latency = 0xfff, /* no C2, no C3 */
		.lvl3_latency = 0xfff,
		.century = CMOS_CENTURY,
		.boot_arch = ARCH_LEGACY | ARCH_NO_VGA | (s->i8042 ? ARCH_8042 : 0),
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RTC_S4 | FADT_RESET |
			 FADT_PLATFORM_CLOCK,
		.reset = port(FW_PORT_RESET, 8, 1),
		.reset_value = RESET_VALUE,
		.x_pm1a_evt = port(pm + PM_EVT, 32, 0),
		.x_pm1a_cnt = port(pm + PM_CNT, 16, 0),
		.x_pm_tmr = port(pm + PM_TMR, 32, 0),
		.x_gpe0 = port(pm + PM_GPE0, 8 * PM_GPE0_LEN, 0),
	};
	uint32_t at = begin_table(b, "FACP", 3, &f, sizeof(f));

	put_pointer(b, at + offsetof(struct fadt, facs), 4, facs);
	put_pointer(b, at + offsetof(struct fadt, dsdt), 4, dsdt);
	put_pointer(b, at + offsetof(struct fadt, x_dsdt), 8, dsdt);
	end_table(b, at);
	return at;
}

static uint32_t write_madt(struct blob *b, const struct fw_acpi_spec *s)
{
	struct madt m = { .lapic = FW_LAPIC, .flags = 1 /* also has PICs */ };
	const struct madt_ioapic io = { .type = 1, .len = sizeof(io), .addr = FW_IOAPIC };
	/* The timer is on pin 2; the SCI is level, active high (flags 0D: both said). */
	const struct madt_override timer = { .type = 2, .len = sizeof(timer), .gsi = 2 };
	const struct madt_override sci = {
		.type = 2, .len = sizeof(sci), .irq = FW_IRQ_SCI, .gsi = FW_IRQ_SCI, .flags = 0x0d
	};
	const struct madt_nmi nmi = { .type = 4, .len = sizeof(nmi), .uid = 0xff, .lint = 1 };
	uint32_t at = begin_table(b, "APIC", 3, &m, sizeof(m));

	for (unsigned int i = 0; i < s->cpus; i++) {
		const struct madt_lapic l = {
			.len = sizeof(l),
			.uid = (uint8_t)i,
			.apic_id = (uint8_t)s->apic_ids[i],
			.flags = 1, /* enabled */
		};

		put(b, &l, sizeof(l));
	}
	put(b, &io, sizeof(io));
	put(b, &timer, sizeof(timer));
	put(b, &sci, sizeof(sci));
	put(b, &nmi, sizeof(nmi));
	end_table(b, at);
	return at;
}

static uint32_t write_mcfg(struct blob *b, uint64_t ecam)
{
	struct mcfg m = { .base = ecam, .last_bus = FW_LAST_BUS };
	uint32_t at = begin_table(b, "MCFG", 1, &m, sizeof(m));

	end_table(b, at);
	return at;
}

/* The PM timer needs one read only. */
static uint32_t write_waet(struct blob *b)
{
	struct waet w = { .flags = BIT(1) };
	uint32_t at = begin_table(b, "WAET", 1, &w, sizeof(w));

	end_table(b, at);
	return at;
}

static void write_rsdt(struct blob *b, const uint32_t *tables, size_t n)
{
	static const uint8_t zero[4];
	struct sdt h = { 0 };
	uint32_t at = begin_table(b, "RSDT", 1, &h, sizeof(h));

	for (size_t i = 0; i < n; i++)
		if (put(b, zero, sizeof(zero)))
			put_pointer(b, (uint32_t)(b->len - sizeof(zero)), 4, tables[i]);
	end_table(b, at);
	b->rsdp = (struct rsdp){
		.signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' },
		.oem = { 'K', 'H', 'Y', 'V', 'E', ' ' },
		.rsdt = at,
	};
}

/* Makes all tables from what the chipset says now. The caller frees *out. */
static int build(const struct fw_acpi_spec *s, struct blob **out)
{
	struct blob *b = calloc(1, sizeof(*b));
	uint32_t roots[TABLES_MAX], facs, dsdt;
	struct acpi_view v;
	size_t n = 0;
	int r;

	if (!b)
		return -ENOMEM;
	acpi_look(s, &v);
	facs = write_facs(b);
	r = write_dsdt(b, s, &v, &dsdt);
	roots[n++] = write_fadt(b, s, &v, facs, dsdt);
	roots[n++] = write_madt(b, s);
	if (v.ecam != UINT64_MAX)
		roots[n++] = write_mcfg(b, v.ecam);
	roots[n++] = write_waet(b);
	write_rsdt(b, roots, n);
	if (r == 0 && b->full)
		r = -EFBIG;
	if (r < 0) {
		free(b);
		return r;
	}
	*out = b;
	return 0;
}

/* --- for firmware: the loader script --- */

struct script {
	struct loader_cmd cmds[LOADER_SIZE / sizeof(struct loader_cmd)];
	size_t n;
};

static struct loader_cmd *next_cmd(struct script *s, uint32_t type)
{
	assert(s->n < ARRAY_LEN(s->cmds));
	s->cmds[s->n].type = type;
	return &s->cmds[s->n++];
}

static void script_alloc(struct script *s, const char *file, uint32_t alignment, uint8_t zone)
{
	struct loader_cmd *c = next_cmd(s, LOADER_ALLOC);

	str_copy(c->alloc.file, sizeof(c->alloc.file), file);
	c->alloc.align = alignment;
	c->alloc.zone = zone;
}

static void script_pointer(struct script *s, const char *file, uint32_t at, uint8_t size)
{
	struct loader_cmd *c = next_cmd(s, LOADER_POINTER);

	str_copy(c->pointer.dst, sizeof(c->pointer.dst), file);
	str_copy(c->pointer.src, sizeof(c->pointer.src), FILE_TABLES);
	c->pointer.offset = at;
	c->pointer.size = size;
}

static void script_sum(struct script *s, const char *file, uint32_t result, uint32_t start,
		       uint32_t len)
{
	struct loader_cmd *c = next_cmd(s, LOADER_SUM);

	str_copy(c->sum.file, sizeof(c->sum.file), file);
	c->sum.result = result;
	c->sum.start = start;
	c->sum.len = len;
}

static uint32_t table_len(const struct blob *b, uint32_t at)
{
	return get_le32(b->data + at + offsetof(struct sdt, len));
}

/* Checksums come after the pointers that they cover. */
static void write_script(struct script *s, const struct blob *b)
{
	script_alloc(s, FILE_RSDP, 16, ZONE_FSEG);
	script_alloc(s, FILE_TABLES, 64, ZONE_HIGH);
	for (size_t i = 0; i < b->npointers; i++)
		script_pointer(s, FILE_TABLES, b->pointers[i].at, b->pointers[i].size);
	for (size_t i = 0; i < b->ntables; i++)
		script_sum(s, FILE_TABLES, b->tables[i] + offsetof(struct sdt, checksum),
			   b->tables[i], table_len(b, b->tables[i]));
	script_pointer(s, FILE_RSDP, offsetof(struct rsdp, rsdt), 4);
	script_sum(s, FILE_RSDP, offsetof(struct rsdp, checksum), 0, sizeof(b->rsdp));
}

/* The guest is about to read the script: by now its firmware has set up PCI. On a vCPU thread. */
static void remake(void *arg)
{
	struct fw_acpi *a = arg;
	struct script s = { .n = 0 };
	struct blob *b;
	int r = build(&a->spec, &b);

	if (r < 0) {
		log_limited(LOG_LEVEL_ERROR, "acpi", "cannot make the tables: %s", strerror(-r));
		return;
	}
	write_script(&s, b);
	r = fwcfg_replace_file(a->fwcfg, FILE_TABLES, b->data, b->len);
	if (r == 0)
		r = fwcfg_replace_file(a->fwcfg, FILE_RSDP, &b->rsdp, sizeof(b->rsdp));
	if (r == 0)
		r = fwcfg_replace_file(a->fwcfg, FILE_LOADER, s.cmds, sizeof(s.cmds));
	assert(r == 0); /* the files were made for this */
	free(b);
}

int fw_acpi_add(struct fw_acpi *a, struct dev *fwcfg, struct err *err)
{
	uint8_t *zeroes = calloc(1, TABLES_SIZE);
	int r;

	if (!zeroes)
		return err_set(err, -ENOMEM, "out of memory");
	a->fwcfg = fwcfg;
	r = fwcfg_add_file(fwcfg, FILE_TABLES, zeroes, TABLES_SIZE, err);
	if (r == 0)
		r = fwcfg_add_file(fwcfg, FILE_RSDP, zeroes, sizeof(struct rsdp), err);
	if (r == 0)
		r = fwcfg_add_file(fwcfg, FILE_LOADER, zeroes, LOADER_SIZE, err);
	if (r == 0)
		fwcfg_on_select(fwcfg, FILE_LOADER, remake, a);
	free(zeroes);
	return r;
}

/* --- for direct boot: what the firmware would do with the script --- */

static void set_sum(uint8_t *data, size_t len, size_t checksum)
{
	uint8_t sum = 0;

	data[checksum] = 0;
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + data[i]);
	data[checksum] = (uint8_t)(0 - sum);
}

static void relocate(struct blob *b, uint32_t base)
{
	for (size_t i = 0; i < b->npointers; i++) {
		uint8_t *p = b->data + b->pointers[i].at;

		put_le32(p, get_le32(p) + base); /* the high half of longer ones stays 0 */
	}
	for (size_t i = 0; i < b->ntables; i++)
		set_sum(b->data + b->tables[i], table_len(b, b->tables[i]),
			offsetof(struct sdt, checksum));
	b->rsdp.rsdt += base;
	set_sum((uint8_t *)&b->rsdp, sizeof(b->rsdp), offsetof(struct rsdp, checksum));
}

int fw_acpi_place(struct fw_acpi *a, gpa_t tables, uint64_t max, gpa_t rsdp, struct err *err)
{
	struct blob *b;
	int r = build(&a->spec, &b);

	assert(tables % 64 == 0 && tables + TABLES_SIZE <= UINT32_MAX);
	if (r < 0)
		return err_set(err, r, "ACPI: cannot make the tables: %s", strerror(-r));
	relocate(b, (uint32_t)tables);
	if (b->len > max)
		r = -EFBIG;
	if (r == 0)
		r = mem_write(a->spec.mem, tables, b->data, b->len);
	if (r == 0)
		r = mem_write(a->spec.mem, rsdp, &b->rsdp, sizeof(b->rsdp));
	free(b);
	return r < 0 ? err_set(err, r, "ACPI: no room for the tables in guest memory") : 0;
}
