/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */

/*
 * The kvm module with guests of a few bytes on the real /dev/kvm. The guests keep to instructions that every KVM can
 * run, with or without VT-x. Exit status 77 (skipped) where there is no usable /dev/kvm.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bus/bus.h"
#include "kvm/kvm_priv.h"
#include "mem/mem.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"

#define RAM_SIZE (2 * MIB)
#define ROM_SIZE 65536u
#define ROM_GPA (4 * GIB - ROM_SIZE)
#define RESET_OFFSET (ROM_SIZE - 16)
#define LOG_MAX 64

struct access {
	bool write;
	uint64_t offset, value;
	unsigned int size;
};

struct recorder {
	struct bus_region region;
	pthread_mutex_t lock;
	struct access log[LOG_MAX];
	unsigned int n;
	uint64_t answer;
};

struct guest {
	struct mem *mem;
	struct bus *bus;
	struct kvm *kvm;
	uint8_t *rom;
	struct bus_slot rom_slot;
	struct recorder port, mmio;
	int stops; /* atomic */
	enum kvm_stop why;
	char text[256];
};

static void record(struct recorder *r, bool write, uint64_t offset, unsigned int size, uint64_t v)
{
	pthread_mutex_lock(&r->lock);
	if (r->n < LOG_MAX)
		r->log[r->n] = (struct access){ write, offset, v, size };
	__atomic_add_fetch(&r->n, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&r->lock);
}

static uint64_t rec_read(void *arg, uint64_t offset, unsigned int size)
{
	struct recorder *r = arg;

	record(r, false, offset, size, 0);
	return r->answer++;
}

static void rec_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	record(arg, true, offset, size, value);
}

static const struct bus_region_ops rec_ops = { .read = rec_read, .write = rec_write };

static void on_stopped(void *arg, enum kvm_stop why, const char *text)
{
	struct guest *g = arg;

	g->why = why;
	snprintf(g->text, sizeof(g->text), "%s", text);
	__atomic_add_fetch(&g->stops, 1, __ATOMIC_SEQ_CST);
}

static void on_request(void *arg, enum bus_request what)
{
	(void)arg;
	(void)what;
}

static void recorder_map(struct guest *g, struct recorder *r, enum bus_kind kind, uint64_t base,
			 uint64_t len)
{
	pthread_mutex_init(&r->lock, NULL);
	r->region = (struct bus_region){ .ops = &rec_ops, .arg = r, .len = len };
	CHECK_EQ(bus_map(g->bus, &r->region, kind, base), 0);
}

/* A machine whose reset vector jumps to code at the start of the ROM's last 64 KiB (offset 0 of segment F000). */
static struct guest *guest_new(const uint8_t *code, size_t len, unsigned int cpus)
{
	struct guest *g = calloc(1, sizeof(*g));
	const struct kvm_config cfg = {
		.sockets = cpus, .cores = 1, .threads = 1, .phys_bits = 40, .top = RAM_SIZE
	};
	const struct kvm_events events = { .stopped = on_stopped, .request = on_request, .arg = g };
	static const uint8_t jump[] = { 0xe9, 0x0d, 0x00 }; /* jmp from FFF0 to 0000 */
	struct err err = { "" };

	g->mem = mem_new();
	CHECK_EQ(mem_add_ram(g->mem, 0, RAM_SIZE, 0, &err), 0);
	if (kvm_new(&cfg, &events, &g->kvm, &err) < 0)
		CHECK_FAIL("%s", err.text);
	g->bus = bus_new(&kvm_bus_ops, g->kvm);
	g->rom = mmap(NULL, ROM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(g->rom != MAP_FAILED);
	memcpy(g->rom, code, len);
	memcpy(g->rom + RESET_OFFSET, jump, sizeof(jump));
	g->rom_slot = (struct bus_slot){
		.gpa = ROM_GPA, .len = ROM_SIZE, .host = g->rom, .read_only = true
	};
	CHECK_EQ(bus_slot_add(g->bus, &g->rom_slot), 0);
	recorder_map(g, &g->port, BUS_PORT, 0x500, 16);
	recorder_map(g, &g->mmio, BUS_MEM, 0xd0000000, 4096);
	if (kvm_start(g->kvm, g->bus, g->mem, &err) < 0)
		CHECK_FAIL("%s", err.text);
	return g;
}

static void guest_free(struct guest *g)
{
	kvm_free(g->kvm);
	bus_free(g->bus);
	mem_free(g->mem);
	munmap(g->rom, ROM_SIZE);
	free(g);
}

/* Polls, at most ten seconds: nothing here depends on how fast the guest is. */
#define WAIT_FOR(cond)                                             \
	do {                                                       \
		uint64_t end_ = clock_mono_ns() + 10 * NS_PER_SEC; \
		while (!(cond) && clock_mono_ns() < end_)          \
			usleep(500);                               \
		CHECK(cond);                                       \
	} while (0)

static unsigned int seen(struct recorder *r)
{
	return __atomic_load_n(&r->n, __ATOMIC_SEQ_CST);
}

static void test_port_io(void)
{
	static const uint8_t code[] = {
		0xb8, 0x34, 0x12, /* mov ax, 1234 */
		0xba, 0x00, 0x05, /* mov dx, 500 */
		0xef, /* out dx, ax */
		0xee, /* out dx, al */
		0xec, /* in al, dx */
		0x42, /* inc dx */
		0xee, /* out dx, al */
		0xeb, 0xfe, /* jmp self */
	};
	struct guest *g = guest_new(code, sizeof(code), 1);

	g->port.answer = 0x77;
	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) == 4);
	kvm_pause(g->kvm);
	CHECK_EQ(g->port.log[0].value, 0x1234);
	CHECK_EQ(g->port.log[0].size, 2);
	CHECK_EQ(g->port.log[1].value, 0x34);
	CHECK_EQ(g->port.log[1].size, 1);
	CHECK(!g->port.log[2].write);
	CHECK_EQ(g->port.log[3].offset, 1);
	CHECK_EQ(g->port.log[3].value, 0x77);
	guest_free(g);
}

static void test_string_io(void)
{
	static const uint8_t code[] = {
		0x31, 0xf6, /* xor si, si */
		0x2e, 0x8e, 0x1e, 0x20, 0x00, /* mov ds, cs:[20] */
		0xba, 0x00, 0x05, /* mov dx, 500 */
		0xb9, 0x05, 0x00, /* mov cx, 5 */
		0xfc, /* cld */
		0xf3, 0x6e, /* rep outsb */
		0xeb, 0xfe, /* jmp self */
	};
	uint8_t rom[64] = { 0 };
	struct guest *g;

	memcpy(rom, code, sizeof(code));
	rom[0x20] = 0x00; /* segment 0100: address 1000 */
	rom[0x21] = 0x01;
	g = guest_new(rom, sizeof(rom), 1);
	CHECK_EQ(mem_write(g->mem, 0x1000, "khyve", 5), 0);
	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) == 5);
	kvm_pause(g->kvm);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(g->port.log[i].value, "khyve"[i]);
		CHECK_EQ(g->port.log[i].offset, 0);
	}
	guest_free(g);
}

/* out in a loop: counts, so that a pause can be seen to hold and a resume to go on. */
static const uint8_t count_code[] = {
	0xba, 0x00, 0x05, /* mov dx, 500 */
	0x31, 0xc0, /* xor ax, ax */
	0xef, /* l: out dx, ax */
	0x40, /* inc ax */
	0xeb, 0xfc, /* jmp l */
};

static void test_pause_holds(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	unsigned int n;

	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) > 10);
	kvm_pause(g->kvm);
	n = seen(&g->port);
	usleep(20000);
	CHECK_EQ(seen(&g->port), n);
	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) > n + 10);
	kvm_pause(g->kvm);
	/* No access was lost or done twice across the pause. */
	for (unsigned int i = 0; i < LOG_MAX && i < n; i++)
		CHECK_EQ(g->port.log[i].value, i);
	guest_free(g);
}

static void test_pause_many(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	unsigned int last = 0;

	for (int i = 0; i < 300; i++) {
		kvm_run(g->kvm);
		WAIT_FOR(seen(&g->port) > last);
		kvm_pause(g->kvm);
		last = seen(&g->port);
	}
	guest_free(g);
}

/* Who starts us may have blocked any signal, also the one that gets a vCPU out of the guest. */
static void test_pause_with_signals_blocked(void)
{
	static const uint8_t code[] = { 0xba, 0x00, 0x05, 0xef, 0xeb, 0xfe }; /* out; jmp self */
	struct guest *g;
	sigset_t all, old;

	sigfillset(&all);
	sigdelset(&all, SIGALRM);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	g = guest_new(code, sizeof(code), 1);
	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) == 1);
	alarm(10); /* ends us if the pause hangs */
	kvm_pause(g->kvm);
	guest_free(g);
	alarm(0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void test_reset_starts_over(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	struct err err = { "" };

	for (int i = 0; i < 20; i++) {
		kvm_run(g->kvm);
		WAIT_FOR(seen(&g->port) > 5);
		kvm_pause(g->kvm);
		CHECK_EQ(g->port.log[0].value, 0);
		CHECK_EQ(g->port.log[1].value, 1);
		g->port.n = 0;
		if (kvm_reset(g->kvm, &err) < 0)
			CHECK_FAIL("%s", err.text);
	}
	guest_free(g);
}

static void test_aps_wait(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 4);
	struct kvm_stats s;

	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) > 40);
	kvm_pause(g->kvm);
	/* Only the boot CPU ran: the values are one ascending row. */
	for (unsigned int i = 0; i < 40; i++)
		CHECK_EQ(g->port.log[i].value, i);
	kvm_stats_get(g->kvm, &s);
	CHECK(s.user_io >= 40);
	CHECK(s.first_run_ns > 0);
	guest_free(g);
}

static void test_triple_fault(void)
{
	static const uint8_t code[] = {
		0x0f, 0x01, 0x1e, 0x10, 0x00, /* lidt [0010]: limit 0 from zeroed RAM */
		0x0f, 0x0b, /* ud2 */
		0xeb, 0xfe,
	};
	struct guest *g = guest_new(code, sizeof(code), 1);
	struct err err = { "" };

	kvm_run(g->kvm);
	WAIT_FOR(__atomic_load_n(&g->stops, __ATOMIC_SEQ_CST) == 1);
	CHECK_EQ(g->why, KVM_STOP_TRIPLE_FAULT);
	CHECK(strstr(g->text, "triple fault"));
	/* Stopped until reset: running again does nothing. */
	kvm_pause(g->kvm);
	kvm_run(g->kvm);
	usleep(20000);
	CHECK_EQ(g->stops, 1);
	kvm_pause(g->kvm);
	CHECK_EQ(kvm_reset(g->kvm, &err), 0);
	kvm_run(g->kvm);
	WAIT_FOR(__atomic_load_n(&g->stops, __ATOMIC_SEQ_CST) == 2);
	guest_free(g);
}

static void test_doorbell(void)
{
	static const uint8_t code[] = {
		0xba, 0x08, 0x05, /* mov dx, 508 */
		0xef, /* out dx, ax */
		0xba, 0x00, 0x05, /* mov dx, 500 */
		0xef, /* out dx, ax */
		0xeb, 0xfe,
	};
	struct guest *g = guest_new(code, sizeof(code), 1);
	struct bus_doorbell bell = { .kind = BUS_PORT, .addr = 0x508, .size = 2 };

	bell.fd = fd_event_new();
	CHECK_EQ(bus_doorbell_add(g->bus, &bell), 0);
	kvm_run(g->kvm);
	WAIT_FOR(seen(&g->port) == 1);
	CHECK_EQ(g->port.log[0].offset, 0); /* the one at 508 never came to user space */
	CHECK_EQ(fd_event_clear(bell.fd), 1);
	kvm_pause(g->kvm);
	bus_doorbell_del(g->bus, &bell);
	fd_close(&bell.fd);
	guest_free(g);
}

static void test_msi_routes(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	struct bus_msi m[200];

	for (size_t i = 0; i < ARRAY_LEN(m); i++) {
		m[i] = (struct bus_msi){ .fd = -1, .gsi = -1 };
		CHECK_EQ(bus_msi_new(g->bus, &m[i]), 0);
		CHECK(m[i].fd >= 0);
		for (size_t j = 0; j < i; j++)
			CHECK(m[j].gsi != m[i].gsi);
		bus_msi_update(g->bus, &m[i], 0xfee00000, (uint32_t)(0x30 + i));
		bus_msi_fire(g->bus, &m[i], NULL);
	}
	CHECK_EQ(g->kvm->routes->nr, 15 + 23 + ARRAY_LEN(m));
	for (size_t i = 0; i < ARRAY_LEN(m); i++)
		bus_msi_free(g->bus, &m[i]);
	CHECK_EQ(g->kvm->routes->nr, 15 + 23);
	guest_free(g);
}

/* What KVM refuses leaves no trace, and works later. */
static void test_msi_route_refused(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	struct kvm_irq_routing *routes = g->kvm->routes;
	struct bus_msi m = { .fd = -1, .gsi = -1 };
	uint32_t chip = routes->entries[0].type;

	CHECK_EQ(bus_msi_new(g->bus, &m), 0);
	routes->entries[0].type = 99;
	CHECK(bus_msi_update(g->bus, &m, 0xfee00000, 0x30) < 0);
	CHECK_EQ(routes->nr, 15 + 23);
	routes->entries[0].type = chip;
	CHECK_EQ(bus_msi_update(g->bus, &m, 0xfee00000, 0x30), 0);
	routes->entries[0].type = 99;
	CHECK(bus_msi_update(g->bus, &m, 0xfee00000, 0x31) < 0);
	routes->entries[0].type = chip;
	CHECK_EQ(routes->entries[15 + 23].u.msi.data, 0x30);
	CHECK_EQ(bus_msi_update(g->bus, &m, 0xfee00000, 0x31), 0);
	CHECK_EQ(routes->entries[15 + 23].u.msi.data, 0x31);
	bus_msi_free(g->bus, &m);
	guest_free(g);
}

/* The last vector that gets a number also gets a route. */
static void test_msi_routes_full(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	struct kvm_irq_routing *routes = g->kvm->routes;
	struct bus_msi m = { .fd = -1, .gsi = -1 };
	uint32_t gsi, nr;

	/* What all the others would have; each for itself would take a system call. */
	for (gsi = BUS_GSIS; gsi < ARRAY_LEN(g->kvm->gsi_used) - 1; gsi++) {
		g->kvm->gsi_used[gsi] = 1;
		if (routes->nr < KVM_ROUTES_MAX)
			routes->entries[routes->nr++] =
				(struct kvm_irq_routing_entry){ .gsi = gsi,
								.type = KVM_IRQ_ROUTING_MSI };
	}
	nr = routes->nr;
	CHECK_EQ(bus_msi_new(g->bus, &m), 0);
	CHECK_EQ(m.gsi, gsi);
	bus_msi_update(g->bus, &m, 0xfee00000, 0x30);
	CHECK_EQ(routes->nr, nr + 1);
	CHECK_EQ(routes->entries[nr].gsi, gsi);
	bus_msi_free(g->bus, &m);
	guest_free(g);
}

static void test_slots(void)
{
	struct guest *g = guest_new(count_code, sizeof(count_code), 1);
	uint64_t dirty[2] = { ~0ull, ~0ull };
	uint8_t *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct bus_slot s = { .gpa = 0xc0000000, .len = 65536, .host = p, .log_dirty = true };

	for (int i = 0; i < 100; i++) {
		CHECK_EQ(bus_slot_add(g->bus, &s), 0);
		CHECK_EQ(bus_slot_dirty(g->bus, &s, dirty), 0);
		CHECK_EQ(dirty[0], 0);
		bus_slot_del(g->bus, &s);
	}
	munmap(p, 65536);
	guest_free(g);
}

/* --- without a guest --- */

static struct guest *bus_only(void)
{
	struct guest *g = calloc(1, sizeof(*g));

	g->bus = bus_new(&kvm_bus_ops, NULL);
	recorder_map(g, &g->mmio, BUS_MEM, 0x1000, 64);
	return g;
}

static void test_mmio_lengths(void)
{
	struct guest *g = bus_only();
	struct kvm_run run = { .mmio = { .phys_addr = 0x1000,
					 .is_write = 1,
					 .len = 7,
					 .data = { 1, 2, 3, 4, 5, 6, 7, 8 } } };

	kvm_exit_mmio(g->bus, &run);
	CHECK_EQ(g->mmio.n, 3);
	CHECK_EQ(g->mmio.log[0].value, 0x04030201);
	CHECK_EQ(g->mmio.log[1].value, 0x0605);
	CHECK_EQ(g->mmio.log[1].offset, 4);
	CHECK_EQ(g->mmio.log[2].value, 7);
	run.mmio.len = 200; /* never more than the buffer */
	kvm_exit_mmio(g->bus, &run);
	CHECK_EQ(g->mmio.n, 4);
	CHECK_EQ(g->mmio.log[3].size, 8);
	bus_free(g->bus);
	free(g);
}

static void test_apic_ids(void)
{
	const struct kvm_config cfg = { .sockets = 2, .cores = 3, .threads = 2 };
	const uint32_t want[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };

	for (unsigned int i = 0; i < ARRAY_LEN(want); i++)
		CHECK_EQ(kvm_cpuid_apic_id(&cfg, i), want[i]);
}

static struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

static void test_cpuid(void)
{
	static const struct kvm_cpuid_entry2 host[] = {
		{ .function = 0, .eax = 0x1f },
		{ .function = 1, .ebx = 0xff0800ff, .ecx = 0xffffffff, .edx = 0xffffffff },
		{ .function = 4, .index = 0, .eax = 0xfc004121 },
		{ .function = 4, .index = 1, .eax = 0xfc1fc163 },
		{ .function = 0xa, .eax = 0x07300802 },
		{ .function = 0x1f, .edx = 99 },
		{ .function = 0x40000000, .eax = 0x40000001 },
		{ .function = 0x80000001, .ecx = BIT(2) | BIT(22) },
		{ .function = 0x80000008, .eax = 0x003034, .ecx = 0x7fff },
		{ .function = 0x8000001e, .eax = 77, .ebx = 77, .ecx = 77 },
	};
	struct kvm k = { .cfg = { .sockets = 1, .cores = 4, .threads = 2, .phys_bits = 40 },
			 .phys_bits = 40 };
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + KVM_CPUID_MAX * sizeof(host[0]));

	c->nent = ARRAY_LEN(host);
	memcpy(c->entries, host, sizeof(host));
	kvm_cpuid_edit(c, &k, 5, 2500000);
	CHECK_EQ(leaf(c, 1, 0)->ebx >> 24, 5);
	CHECK_EQ((leaf(c, 1, 0)->ebx >> 16) & 0xff, 8);
	CHECK_EQ(leaf(c, 1, 0)->ecx & BIT(5), 0); /* VMX */
	CHECK_EQ(leaf(c, 1, 0)->ecx & BIT(3), 0); /* MONITOR */
	CHECK(leaf(c, 1, 0)->ecx & BIT(31));
	CHECK_EQ((leaf(c, 4, 0)->eax >> 14) & 0xfff, 1); /* two threads share level 1 */
	CHECK_EQ((leaf(c, 4, 1)->eax >> 14) & 0xfff, 7); /* eight share level 3 */
	CHECK_EQ(leaf(c, 4, 0)->eax >> 26, 3);
	CHECK(!leaf(c, 0xa, 0));
	CHECK(!leaf(c, 0x1f, 0));
	CHECK_EQ(leaf(c, 0xb, 0)->eax, 1);
	CHECK_EQ(leaf(c, 0xb, 0)->ebx, 2);
	CHECK_EQ(leaf(c, 0xb, 1)->eax, 3);
	CHECK_EQ(leaf(c, 0xb, 1)->ebx, 8);
	CHECK_EQ(leaf(c, 0xb, 1)->edx, 5);
	CHECK_EQ(leaf(c, 0, 0)->eax, 0x1e);
	CHECK_EQ(leaf(c, 0x40000010, 0)->eax, 2500000);
	CHECK_EQ(leaf(c, 0x80000001, 0)->ecx & BIT(2), 0); /* SVM */
	CHECK_EQ(leaf(c, 0x80000008, 0)->eax & 0xff, 40);
	CHECK_EQ(leaf(c, 0x80000008, 0)->ecx, 3 << 12 | 7);
	CHECK_EQ(leaf(c, 0x8000001e, 0)->eax, 5);
	CHECK_EQ(leaf(c, 0x8000001e, 0)->ebx, 1 << 8 | 2);
	free(c);
}

static void test_phys_bits(void)
{
	struct kvm_cpuid2 *host = calloc(1, sizeof(*host) + sizeof(host->entries[0]));
	struct kvm_config cfg = { .phys_bits = 40, .top = 8 * GIB };

	host->nent = 1;
	host->entries[0] = (struct kvm_cpuid_entry2){ .function = 0x80000008, .eax = 0x3030 };
	CHECK_EQ(kvm_cpuid_phys_bits(host, &cfg), 40);
	cfg.top = 1000 * GIB;
	CHECK_EQ(kvm_cpuid_phys_bits(host, &cfg), 41);
	host->entries[0].eax = 36;
	CHECK_EQ(kvm_cpuid_phys_bits(host, &cfg), 36);
	free(host);
}

static const struct test_case cases[] = {
	{ "exit: MMIO of any length is cut into powers of two", test_mmio_lengths },
	{ "cpuid: APIC ids leave gaps for topologies that are no power of two", test_apic_ids },
	{ "cpuid: topology, hidden features, width, timing leaf", test_cpuid },
	{ "cpuid: phys-bits are min(host, limit), more if RAM needs it", test_phys_bits },
	{ "guest: port accesses arrive with width, order and answer", test_port_io },
	{ "guest: a string instruction is one access per element", test_string_io },
	{ "guest: pause holds, resume goes on, nothing lost or doubled", test_pause_holds },
	{ "guest: 300 pauses at random points", test_pause_many },
	{ "guest: pause with all signals blocked by our parent", test_pause_with_signals_blocked },
	{ "guest: 20 resets, each starts at the reset vector", test_reset_starts_over },
	{ "guest: application processors wait for SIPI", test_aps_wait },
	{ "host: a doorbell signals without an exit", test_doorbell },
	{ "host: 200 MSI routes come and go", test_msi_routes },
	{ "host: as many MSI routes as vectors", test_msi_routes_full },
	{ "host: an MSI route refused", test_msi_route_refused },
	{ "host: slots come and go, dirty log starts clean", test_slots },
};

/* What the instruction emulator of a KVM without VT-x or AMD-V cannot do. */
static const struct test_case hardware_cases[] = {
	{ "guest: triple fault is told once and needs a reset", test_triple_fault },
};

int main(int argc, char **argv)
{
	struct err err;
	int status;

	if (kvm_check(&err) < 0) {
		printf("skipped: %s\n", err.text);
		return 77;
	}
	status = RUN_CASES(cases, argc, argv);
	if (kvm_check_firmware(&err) == 0)
		return RUN_CASES(hardware_cases, argc, argv) | status;
	printf("not run without VT-x or AMD-V: %zu cases\n", ARRAY_LEN(hardware_cases));
	return status;
}
