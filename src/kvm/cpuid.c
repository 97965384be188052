/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

/* Leaf 1 ECX (Intel SDM vol. 2A, CPUID). */
#define CPUID_1_ECX_DTES64 BIT(2)
#define CPUID_1_ECX_MONITOR BIT(3)
#define CPUID_1_ECX_DS_CPL BIT(4)
#define CPUID_1_ECX_VMX BIT(5)
#define CPUID_1_ECX_SMX BIT(6)
#define CPUID_1_ECX_EST BIT(7)
#define CPUID_1_ECX_TM2 BIT(8)
#define CPUID_1_ECX_PDCM BIT(15)
#define CPUID_1_ECX_X2APIC BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_HYPERVISOR BIT(31)
#define CPUID_1_EDX_HTT BIT(28)
#define CPUID_6_EAX_ARAT BIT(2)
/* AMD APM vol. 3 appendix E. */
#define CPUID_80000001_ECX_CMP_LEGACY BIT(1)
#define CPUID_80000001_ECX_SVM BIT(2)
#define CPUID_80000001_ECX_TOPOEXT BIT(22)

#define CACHE_TYPE(eax) ((eax)&0x1f)
#define CACHE_LEVEL(eax) (((eax) >> 5) & 0x7)
#define KVM_LEAF_TIMING 0x40000010

/* Bits needed to number n things. */
static unsigned int bits_for(unsigned int n)
{
	return n <= 1 ? 0 : 32 - (unsigned int)__builtin_clz(n - 1);
}

/* APIC ids are made of fields, so a topology that is no power of two leaves gaps. */
uint32_t kvm_cpuid_apic_id(const struct kvm_config *cfg, unsigned int index)
{
	unsigned int thread_bits = bits_for(cfg->threads), core_bits = bits_for(cfg->cores);
	unsigned int thread = index % cfg->threads;
	unsigned int core = index / cfg->threads % cfg->cores;
	unsigned int socket = index / cfg->threads / cfg->cores;

	return socket << (core_bits + thread_bits) | core << thread_bits | thread;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == leaf && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *find_or_add(struct kvm_cpuid2 *c, uint32_t leaf, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = find(c, leaf, index);

	if (e || c->nent == KVM_CPUID_MAX)
		return e;
	e = &c->entries[c->nent++];
	*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = index };
	return e;
}

static void drop(struct kvm_cpuid2 *c, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function != leaf)
			c->entries[kept++] = c->entries[i];
	c->nent = kept;
}

unsigned int kvm_cpuid_phys_bits(const struct kvm_cpuid2 *host, const struct kvm_config *cfg)
{
	const struct kvm_cpuid_entry2 *e = find((struct kvm_cpuid2 *)host, 0x80000008, 0);
	unsigned int bits = e ? e->eax & 0xff : 36;
	unsigned int limit = cfg->phys_bits ? cfg->phys_bits : bits;

	/* The firmware puts 64-bit BARs into the top eighth: RAM has to end below it. */
	while (limit < bits && cfg->top > BIT64(limit) / 8 * 7)
		limit++;
	return MIN(bits, limit);
}

/* Deterministic cache parameters: leaf 4 (Intel) and 0x8000001d (AMD) share their layout. */
static void edit_caches(struct kvm_cpuid2 *c, uint32_t leaf, const struct kvm_config *cfg)
{
	unsigned int thread_bits = bits_for(cfg->threads), core_bits = bits_for(cfg->cores);

	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];
		unsigned int sharing;

		if (e->function != leaf || CACHE_TYPE(e->eax) == 0)
			continue;
		sharing =
			CACHE_LEVEL(e->eax) >= 3 ? BIT(core_bits + thread_bits) : BIT(thread_bits);
		e->eax = (e->eax & 0x3fff) | (sharing - 1) << 14;
		if (leaf == 4)
			e->eax |= (BIT(core_bits) - 1) << 26;
	}
}

/* Extended topology: leaf 0xb with an SMT and a core level. */
static void edit_topology(struct kvm_cpuid2 *c, const struct kvm_config *cfg, uint32_t apic_id)
{
	unsigned int thread_bits = bits_for(cfg->threads), core_bits = bits_for(cfg->cores);
	const struct {
		uint32_t shift, count, type;
	} levels[] = { { thread_bits, cfg->threads, 1 },
		       { thread_bits + core_bits, cfg->threads * cfg->cores, 2 },
		       { 0, 0, 0 } };

	drop(c, 0xb);
	drop(c, 0x1f);
	for (uint32_t i = 0; i < ARRAY_LEN(levels); i++) {
		struct kvm_cpuid_entry2 *e = find_or_add(c, 0xb, i);

		if (!e)
			return;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e->eax = levels[i].shift;
		e->ebx = levels[i].count;
		e->ecx = levels[i].type << 8 | i;
		e->edx = apic_id;
	}
}

static void edit_basic(struct kvm_cpuid2 *c, const struct kvm_config *cfg, uint32_t apic_id)
{
	unsigned int per_socket = BIT(bits_for(cfg->threads) + bits_for(cfg->cores));
	struct kvm_cpuid_entry2 *e = find(c, 1, 0);

	if (e) {
		e->ebx = (e->ebx & 0xffff) | MIN(per_socket, 255u) << 16 | apic_id << 24;
		e->ecx &= ~(CPUID_1_ECX_DTES64 | CPUID_1_ECX_MONITOR | CPUID_1_ECX_DS_CPL |
			    CPUID_1_ECX_VMX | CPUID_1_ECX_SMX | CPUID_1_ECX_EST | CPUID_1_ECX_TM2 |
			    CPUID_1_ECX_PDCM);
		e->ecx |= CPUID_1_ECX_HYPERVISOR | CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE;
		e->edx &= ~CPUID_1_EDX_HTT;
		if (cfg->cores * cfg->threads > 1)
			e->edx |= CPUID_1_EDX_HTT;
	}
	e = find(c, 6, 0);
	if (e) {
		e->eax = CPUID_6_EAX_ARAT;
		e->ebx = e->ecx = e->edx = 0;
	}
}

static void edit_amd(struct kvm_cpuid2 *c, const struct kvm *k, uint32_t apic_id)
{
	const struct kvm_config *cfg = &k->cfg;
	unsigned int thread_bits = bits_for(cfg->threads), core_bits = bits_for(cfg->cores);
	struct kvm_cpuid_entry2 *e = find(c, 0x80000001, 0);

	if (e) {
		e->ecx &= ~(CPUID_80000001_ECX_SVM | CPUID_80000001_ECX_CMP_LEGACY);
		if (cfg->cores * cfg->threads > 1 && (e->ecx & CPUID_80000001_ECX_TOPOEXT))
			e->ecx |= CPUID_80000001_ECX_CMP_LEGACY;
	}
	e = find(c, 0x80000008, 0);
	if (e) {
		e->eax = (e->eax & 0xff00) | k->phys_bits;
		e->ecx = (thread_bits + core_bits) << 12 | (cfg->cores * cfg->threads - 1);
	}
	e = find(c, 0x8000001e, 0);
	if (e) {
		e->eax = apic_id;
		e->ebx = (apic_id >> thread_bits & 0xff) | (cfg->threads - 1) << 8;
		e->ecx = apic_id >> (thread_bits + core_bits) & 0xff;
		e->edx = 0;
	}
}

/* What nobody here virtualises: PMU, SGX, processor trace, key locker, performance monitoring, extended topology. */
static const uint32_t dropped[] = { 0x5,  0xa,	0x12,	    0x14,	0x15,
				    0x16, 0x19, 0x8000001b, 0x80000022, 0x80000026 };

void kvm_cpuid_edit(struct kvm_cpuid2 *c, const struct kvm *k, uint32_t apic_id,
		    unsigned int tsc_khz)
{
	struct kvm_cpuid_entry2 *e;

	for (size_t i = 0; i < ARRAY_LEN(dropped); i++)
		drop(c, dropped[i]);
	edit_basic(c, &k->cfg, apic_id);
	edit_caches(c, 4, &k->cfg);
	edit_caches(c, 0x8000001d, &k->cfg);
	edit_topology(c, &k->cfg, apic_id);
	edit_amd(c, k, apic_id);
	e = find(c, 0, 0);
	if (e)
		e->eax = MIN(MAX(e->eax, 0xbu), 0x1eu);
	/* Frequencies of TSC and APIC timer in kHz, behind KVM's own leaves. */
	e = find(c, KVM_CPUID_SIGNATURE, 0);
	if (e && tsc_khz) {
		e->eax = KVM_LEAF_TIMING;
		e = find_or_add(c, KVM_LEAF_TIMING, 0);
		if (e) {
			e->eax = tsc_khz;
			e->ebx = 1000000;
		}
	}
}

int kvm_cpuid_supported(int dev_fd, struct kvm_cpuid2 **out)
{
	struct kvm_cpuid2 *c =
		calloc(1, sizeof(*c) + KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));

	if (!c)
		return -ENOMEM;
	c->nent = KVM_CPUID_MAX;
	if (ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, c) < 0) {
		int r = -errno;

		assert(r < 0);
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

int kvm_cpuid_set(struct kvm_vcpu *v, struct err *err)
{
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);
	struct kvm_cpuid2 *c;
	int r = kvm_cpuid_supported(v->kvm->dev_fd, &c);

	if (r < 0)
		return err_set(err, r, "cannot read the processor features KVM supports: %s",
			       strerror(-r));
	kvm_cpuid_edit(c, v->kvm, v->apic_id, khz > 0 ? (unsigned int)khz : 0);
	if (ioctl(v->fd, KVM_SET_CPUID2, c) < 0)
		r = err_set(err, -errno, "KVM refuses the processor features of vCPU %u: %s",
			    v->index, strerror(errno));
	free(c);
	return r;
}
