/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "hw/diskid.h"
#include "util/err.h"

/* Namespaces (s6.1): the disks behind the controller. */

struct nvme_ns *nvme_ns_next(struct nvme *n, uint32_t id)
{
	for (; id < n->nn; id++)
		if (n->ns[id].blk)
			return &n->ns[id];
	return NULL;
}

uint16_t nvme_ns_status(const struct nvme *n, uint32_t nsid)
{
	if (nsid == NVME_NSID_ALL)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	if (!nsid || nsid > n->nn)
		return NVME_SC_INVALID_NS | NVME_DNR;
	return n->ns[nsid - 1].blk ? NVME_SC_OK : NVME_SC_INVALID_FIELD | NVME_DNR;
}

static void ns_measure(struct nvme_ns *ns)
{
	ns->blocks = blk_info_get(ns->blk)->size >> ns->block_shift;
	ns->blocks_max = NVME_PAGE << NVME_MDTS >> ns->block_shift;
}

void nvme_ns_set_format(struct nvme_ns *ns, uint8_t format)
{
	ns->format = format;
	ns->block_shift = ns->formats[format];
	ns_measure(ns);
}

/*
 * Blocks of 512 bytes can be made 4096. An image does not say which it was written with, so that is for disks which are
 * gone with the guest: for others it is in the configuration.
 */
static void ns_list_formats(struct nvme_ns *ns, const struct blk_info *info)
{
	ns->formats[ns->nformats++] = (uint8_t)__builtin_ctz(info->sector);
	if (info->transient && info->sector == 512 && info->size % 4096 == 0)
		ns->formats[ns->nformats++] = 12;
}

void nvme_ns_grown(struct nvme *n, const struct blk *disk)
{
	for (struct nvme_ns *ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id)) {
		if (ns->blk != disk)
			continue;
		ns_measure(ns);
		n->ns_changed |= BIT(ns->id - 1);
	}
}

/* EUI-64: as configured, else derived from path and number so that it survives restarts, and locally administered. */
static int ns_name(struct nvme *n, struct nvme_ns *ns, uint64_t eui64, const char *path,
		   struct err *err)
{
	uint64_t h = diskid_hash(path ? path : "") ^ (uint64_t)(ns->id - 1) << 40;

	ns->eui64 = eui64 ? eui64 : (h & ~(3ull << 56)) | 2ull << 56;
	for (const struct nvme_ns *o = n->ns; o < ns; o++)
		if (o->blk && o->eui64 == ns->eui64)
			return err_set(err, -EINVAL,
				       "namespace %" PRIu32 " has the eui64 of namespace %" PRIu32
				       "; give each its own",
				       ns->id, o->id);
	return 0;
}

static int ns_open(struct nvme *n, uint32_t id, const struct blk_spec *spec, uint64_t eui64,
		   struct err *err)
{
	struct nvme_ns *ns = &n->ns[id - 1];
	const struct blk_info *info;

	ns->id = id;
	ns->batch = calloc(n->conf->ioslots + 1, sizeof(struct blk_req *));
	if (!ns->batch)
		return err_set(err, -ENOMEM, "out of memory");
	ns->blk = dev_blk_open(&n->fn.dev, spec, nvme_batch_end, err);
	if (!ns->blk)
		return -EIO;
	info = blk_info_get(ns->blk);
	ns_list_formats(ns, info);
	nvme_ns_set_format(ns, 0);
	ns->read_only = info->read_only;
	n->ready_ns[id - 1] = ns;
	n->nn = id;
	/* What any of them can do is offered; Dataset Management is advice to the others (s6.7). */
	n->write_zeroes |= info->write_zeroes;
	n->dsm |= n->conf->dsm == NVME_DSM_AUTO ? info->discard : n->conf->dsm == NVME_DSM_ENABLE;
	return ns_name(n, ns, eui64, spec->path, err);
}

static int first_open(struct nvme *n, struct err *err)
{
	const struct nvme_conf *conf = n->conf;
	struct blk_spec spec = conf->first.blk;
	char memory[40], sector[24];
	int res;

	if (conf->ram) {
		if (spec.path)
			return err_set(err, -EINVAL, "give a path or ram=, not both");
		snprintf(memory, sizeof(memory), "mem:%" PRIu64 "M", conf->ram);
		spec.path = memory;
	}
	if (conf->sectsz) {
		if (conf->sectsz != 512 && conf->sectsz != 4096 && conf->sectsz != 8192)
			return err_set(err, -EINVAL, "sectsz=%" PRIu64 ": use 512, 4096 or 8192",
				       conf->sectsz);
		snprintf(sector, sizeof(sector), "%" PRIu64, conf->sectsz);
		spec.sectorsize = sector;
	}
	res = ns_open(n, 1, &spec, conf->first.eui64, err);
	return res < 0 ? res : diskid_make(conf->ser, spec.path, n->serial, err);
}

static bool is_set(const struct nvme_ns_conf *c)
{
	const struct blk_spec *s = &c->blk;

	return s->path || s->sectorsize || s->nocache || s->sync || s->ro || s->nodelete ||
	       s->cache || s->on_nospace || s->on_error || c->eui64;
}

int nvme_ns_init(struct nvme *n, struct err *err)
{
	int res = first_open(n, err);

	for (uint32_t id = 0; res == 0 && id <= NVME_NS_MAX; id++) {
		const struct nvme_ns_conf *c = &n->conf->ns[id];

		if (!is_set(c))
			continue;
		if (id < 2)
			return err_set(err, -EINVAL,
				       "ns.%" PRIu32 ": namespace 1 is the disk of path; number "
				       "further ones from 2",
				       id);
		if (!c->blk.path)
			return err_set(err, -EINVAL,
				       "ns.%" PRIu32 ": no disk image given; set "
				       "ns.%" PRIu32 ".path",
				       id, id);
		res = ns_open(n, id, &c->blk, c->eui64, err);
	}
	return res;
}

void nvme_ns_fini(struct nvme *n)
{
	for (unsigned int i = 0; i < NVME_NS_MAX; i++) {
		blk_close(n->ns[i].blk);
		free(n->ns[i].batch);
	}
}
