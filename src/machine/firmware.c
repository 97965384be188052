/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"
#include "fw/acpi.h"
#include "fw/bootorder.h"
#include "fw/e820.h"
#include "fw/flash.h"
#include "fw/fwcfg.h"
#include "fw/linux.h"
#include "util/bytes.h"

#define BOOT_ENTRIES_MAX 64
#define AHCI_PORTS 32
#define USB_PORTS 4

struct boot_item {
	struct fw_boot_entry entry;
	uint64_t index;
};

struct boot_list {
	struct boot_item items[BOOT_ENTRIES_MAX];
	size_t n;
	const struct machine *m;
	struct err *err;
	int status;
};

/* Remembers the function if it, or its port, has a boot index. */
static void boot_look(struct boot_list *l, uint8_t devfn, enum fw_boot_kind kind, int port)
{
	struct boot_item *it = &l->items[l->n];
	char key[96], middle[24] = "";
	int r;

	if (port >= 0)
		snprintf(middle, sizeof(middle),
			 kind == FW_BOOT_USB_STORAGE ? ".slot.%d" : ".port.%d", port);
	snprintf(key, sizeof(key), "pci.0.%u.%u%s.bootindex", (unsigned int)devfn >> 3, devfn & 7u,
		 middle);
	if (l->n == BOOT_ENTRIES_MAX)
		return;
	r = conf_get_u64(l->m->conf, key, &it->index, l->err);
	if (r == -ENOENT)
		return;
	if (r < 0) {
		l->status = r;
		return;
	}
	it->entry = (struct fw_boot_entry){ .kind = kind,
					    .devfn = devfn,
					    .unit = port > 0 ? (unsigned int)port : 0 };
	l->n++;
}

static void boot_visit(void *arg, struct pci_fn *fn)
{
	const char *model = fn->dev.ops->model;
	struct boot_list *l = arg;

	if (strcmp(model, "ahci") == 0)
		for (int port = 0; port < AHCI_PORTS; port++)
			boot_look(l, fn->devfn, FW_BOOT_AHCI, port);
	else if (strcmp(model, "xhci") == 0)
		for (int port = 1; port <= USB_PORTS; port++)
			boot_look(l, fn->devfn, FW_BOOT_USB_STORAGE, port);
	else if (strncmp(model, "ahci-", 5) == 0)
		boot_look(l, fn->devfn, FW_BOOT_AHCI, -1);
	else if (strcmp(model, "virtio-blk") == 0)
		boot_look(l, fn->devfn, FW_BOOT_VIRTIO_BLK, -1);
	else
		boot_look(l, fn->devfn, FW_BOOT_FUNCTION, -1);
}

static int by_index(const void *a, const void *b)
{
	const struct boot_item *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static int add_bootorder(struct machine *m, struct err *err)
{
	struct boot_list l = { .m = m, .err = err };
	struct fw_boot_entry entries[BOOT_ENTRIES_MAX];

	pci_bus_each(m->pci, boot_visit, &l);
	if (l.status < 0)
		return l.status;
	qsort(l.items, l.n, sizeof(l.items[0]), by_index);
	for (size_t i = 0; i < l.n; i++)
		entries[i] = l.items[i].entry;
	return fw_bootorder_add(entries, l.n, m->fwcfg, err);
}

static bool is_amd(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx;
}

/* Stable for a name on a host: two FNV-1a hashes, marked as a UUID of version 8 (RFC 9562 s5.8). */
static void derive_uuid(const char *name, uint8_t uuid[16])
{
	uint64_t h[2] = { 0xcbf29ce484222325ull, 0x84222325cbf29ce4ull };
	char text[512], host[256] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(text, sizeof(text), "%s@%s", name, host);
	for (const char *p = text; *p; p++)
		for (int i = 0; i < 2; i++)
			h[i] = (h[i] ^ (uint8_t)*p) * 0x100000001b3ull;
	memcpy(uuid, h, 16);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static int make_smbios(struct machine *m, struct err *err)
{
	const struct settings *s = &m->set;

	m->smbios = (struct fw_smbios_spec){
		.bios_vendor = s->bios_vendor,
		.bios_version = s->bios_version,
		.bios_date = s->bios_date,
		.system_manufacturer = s->system_manufacturer,
		.system_product = s->system_product,
		.system_version = s->system_version,
		.system_serial = s->system_serial,
		.system_sku = s->system_sku,
		.system_family = s->system_family,
		.board_manufacturer = s->board_manufacturer,
		.board_product = s->board_product,
		.board_version = s->board_version,
		.board_serial = s->board_serial,
		.board_asset = s->board_asset,
		.chassis_manufacturer = s->chassis_manufacturer,
		.chassis_version = s->chassis_version,
		.chassis_serial = s->chassis_serial,
		.chassis_asset = s->chassis_asset,
		.chassis_sku = s->chassis_sku,
		.sockets = (unsigned int)s->sockets,
		.cores = (unsigned int)s->cores,
		.threads = (unsigned int)s->threads,
		.mem = m->mem,
	};
	if (!s->uuid)
		derive_uuid(s->name, m->smbios.uuid);
	else if (fw_uuid_parse(s->uuid, m->smbios.uuid) < 0)
		return err_set(err, -EINVAL,
			       "%s: \"%s\" is no UUID: write it as "
			       "00112233-4455-6677-8899-aabbccddeeff",
			       conf_where(m->conf, "uuid"), s->uuid);
	return 0;
}

static int make_acpi(struct machine *m, struct err *err)
{
	struct fw_acpi_spec spec = {
		.pci = m->pci,
		.mem = m->mem,
		.devs = &m->devs,
		.cpus = kvm_cpus(m->kvm),
		.phys_bits = kvm_phys_bits(m->kvm),
		.i8042 = true,
		.fwcfg = m->fwcfg != NULL,
		.flash_base = m->flash ? flash_base(m->flash) : 0,
	};

	for (unsigned int i = 0; i < spec.cpus; i++)
		spec.apic_ids[i] = kvm_apic_id(m->kvm, i);
	for (unsigned int i = 0; i < 4; i++)
		spec.coms |= m->set.com[i] ? BIT(i) : 0;
	m->acpi = fw_acpi_new(&spec);
	return m->acpi ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int add_uefi(struct machine *m, struct err *err)
{
	const struct machine_pair flash[] = { { "code", m->set.bootrom },
					      { "vars", m->set.bootvars },
					      { NULL, NULL } };
	uint8_t cpus[2];
	int r = machine_add_fixed(m, &flash_ops, "flash", flash, &m->flash, err);

	if (r == 0)
		r = machine_add_fixed(m, &fwcfg_ops, "fwcfg", NULL, &m->fwcfg, err);
	if (r == 0)
		r = make_acpi(m, err);
	if (r < 0)
		return r;
	put_le16(cpus, (uint16_t)kvm_cpus(m->kvm));
	r = fwcfg_add_item(m->fwcfg, FWCFG_NB_CPUS, cpus, sizeof(cpus), err);
	if (r == 0)
		r = fw_e820_add(m->mem, m->amd_hole, m->fwcfg, err);
	if (r == 0)
		r = fw_smbios_add(&m->smbios, m->fwcfg, err);
	if (r == 0)
		r = fw_acpi_add(m->acpi, m->fwcfg, err);
	if (r == 0)
		r = add_bootorder(m, err);
	if (r == 0 && conf_has(m->conf, "boot.wait"))
		r = fw_boot_wait_add((unsigned int)m->set.boot_wait, m->fwcfg, err);
	return r;
}

static int add_linux(struct machine *m, struct err *err)
{
	int r = make_acpi(m, err);
	const struct fw_linux_spec spec = {
		.kernel = m->set.kernel,
		.initrd = m->set.initrd,
		.cmdline = m->set.cmdline,
		.mem = m->mem,
		.pci = m->pci,
		.acpi = m->acpi,
		.smbios = &m->smbios,
		.amd_hole = m->amd_hole,
	};

	return r == 0 ? fw_linux_new(&spec, &m->linux_boot, err) : r;
}

int machine_add_firmware(struct machine *m, struct err *err)
{
	int r = make_smbios(m, err);

	m->amd_hole = is_amd() && kvm_phys_bits(m->kvm) >= 40;
	if (r == 0)
		r = m->set.bootrom ? add_uefi(m, err) : add_linux(m, err);
	return r;
}

void machine_reset_firmware(struct machine *m)
{
	/* An empty list leaves the order to the guest's own boot entries. */
	if (m->fwcfg && m->set.boot_once)
		fwcfg_replace_file(m->fwcfg, "bootorder", "", 1);
}

void machine_free_firmware(struct machine *m)
{
	fw_linux_free(m->linux_boot);
	fw_acpi_free(m->acpi);
}
