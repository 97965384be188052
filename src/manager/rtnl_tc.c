/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/rtnl_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>

#include "util/clock.h"
#include "util/macros.h"

/* Priorities of our mirrors: one for each link that frames are copied to. The limit comes before them. */
#define PRIO_LIMIT 0x5fffu
#define PRIO_FIRST 0x6000u
#define PRIO_COUNT 0x2000u
/* A packet that the card splits later may be this long. */
#define BURST_MIN (128 * KIB)
#define BURST_NS (20 * NS_PER_MS)
#define QUEUE_NS (50 * NS_PER_MS)
#define TICK_NS 64 /* the kernel's unit of time in traffic control */
#define RATE_TABLE 1024

static unsigned int mirror_prio(unsigned int to)
{
	return PRIO_FIRST + to % PRIO_COUNT;
}

static unsigned int parent_of(bool ingress)
{
	return TC_H_MAKE(TC_H_CLSACT, ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

static struct tcmsg *start_tc(struct rtnl_msg *m, uint16_t type, uint16_t flags, unsigned int index,
			      unsigned int parent)
{
	struct tcmsg *t = rtnl_start(m, type, flags, sizeof(*t));

	t->tcm_ifindex = (int)index;
	t->tcm_parent = parent;
	return t;
}

/* The hook that filters hang on; one that is there already is as good. */
static int need_hook(struct rtnl *r, unsigned int index)
{
	struct rtnl_msg m;
	struct tcmsg *t = start_tc(&m, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index, TC_H_CLSACT);
	int e;

	t->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(&m.h, TCA_KIND, "clsact");
	e = rtnl_talk(r, &m);
	return e == -EEXIST ? 0 : e;
}

/* A filter that takes every frame, up to the options of its action. */
static void start_filter(struct rtnl_msg *m, unsigned int index, bool ingress, unsigned int prio,
			 const char *action, struct nlattr *nests[4])
{
	/* One key behind the selector, which matches whatever is there. */
	union {
		struct tc_u32_sel sel;
		uint8_t bytes[sizeof(struct tc_u32_sel) + sizeof(struct tc_u32_key)];
	} all = { .bytes = { 0 } };
	struct tcmsg *t =
		start_tc(m, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, index, parent_of(ingress));

	all.sel.flags = TC_U32_TERMINAL;
	all.sel.nkeys = 1;
	t->tcm_info = TC_H_MAKE(prio << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(&m->h, TCA_KIND, "u32");
	nests[0] = mnl_attr_nest_start(&m->h, TCA_OPTIONS);
	mnl_attr_put(&m->h, TCA_U32_SEL, sizeof(all), &all);
	nests[1] = mnl_attr_nest_start(&m->h, TCA_U32_ACT);
	nests[2] = mnl_attr_nest_start(&m->h, 1);
	mnl_attr_put_strz(&m->h, TCA_ACT_KIND, action);
	nests[3] = mnl_attr_nest_start(&m->h, TCA_ACT_OPTIONS);
}

static int finish_filter(struct rtnl *r, struct rtnl_msg *m, struct nlattr *nests[4])
{
	for (int i = 3; i >= 0; i--)
		mnl_attr_nest_end(&m->h, nests[i]);
	return rtnl_talk(r, m);
}

int rtnl_mirror_add(struct rtnl *r, unsigned int from, bool ingress, unsigned int to)
{
	struct tc_mirred p = { .action = TC_ACT_PIPE, .eaction = TCA_EGRESS_MIRROR, .ifindex = to };
	struct nlattr *nests[4];
	struct rtnl_msg m;
	int e = need_hook(r, from);

	if (e < 0)
		return e;
	start_filter(&m, from, ingress, mirror_prio(to), "mirred", nests);
	mnl_attr_put(&m.h, TCA_MIRRED_PARMS, sizeof(p), &p);
	e = finish_filter(r, &m, nests);
	return e == -EEXIST ? 0 : e;
}

static int delete_filter(struct rtnl *r, unsigned int from, bool ingress, unsigned int prio)
{
	struct rtnl_msg m;
	struct tcmsg *t = start_tc(&m, RTM_DELTFILTER, 0, from, parent_of(ingress));
	int e;

	t->tcm_info = TC_H_MAKE(prio << 16, htons(ETH_P_ALL));
	e = rtnl_talk(r, &m);
	return e == -ENOENT || e == -EINVAL || e == -ENODEV ? 0 : e;
}

struct filters {
	unsigned int from;
	bool ingress, all;
	unsigned int prios[64]; /* of ours, all or those that copy to a link that is gone */
	size_t count, total;
};

/* The link that a filter's first action copies to; 0: gone, or another action. */
static unsigned int mirror_target(const struct nlmsghdr *h)
{
	static const unsigned int path[] = { TCA_OPTIONS, TCA_U32_ACT, 1, TCA_ACT_OPTIONS,
					     TCA_MIRRED_PARMS };
	const struct nlattr *a, *found = NULL;
	struct tc_mirred p = { 0 };

	mnl_attr_for_each(a, h, sizeof(struct tcmsg))
	{
		if (mnl_attr_get_type(a) == path[0])
			found = a;
	}
	for (size_t i = 1; found && i < ARRAY_LEN(path); i++) {
		const struct nlattr *nest = found;

		found = NULL;
		mnl_attr_for_each_nested(a, nest)
		{
			if (mnl_attr_get_type(a) == path[i])
				found = a;
		}
	}
	if (found && mnl_attr_get_payload_len(found) >= sizeof(p))
		memcpy(&p, mnl_attr_get_payload(found), sizeof(p));
	return p.ifindex;
}

static bool has_action(const struct nlmsghdr *h)
{
	const struct nlattr *a, *b;

	mnl_attr_for_each(a, h, sizeof(struct tcmsg))
	{
		if (mnl_attr_get_type(a) != TCA_OPTIONS)
			continue;
		mnl_attr_for_each_nested(b, a)
		{
			if (mnl_attr_get_type(b) == TCA_U32_ACT)
				return true;
		}
	}
	return false;
}

static int note_filter(void *arg, const struct nlmsghdr *h)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	unsigned int prio = TC_H_MAJ(t->tcm_info) >> 16;
	struct filters *f = arg;

	if (h->nlmsg_type != RTM_NEWTFILTER)
		return 0;
	f->total++;
	if (prio >= PRIO_FIRST && prio < PRIO_FIRST + PRIO_COUNT && has_action(h) &&
	    (f->all || mirror_target(h) == 0) && f->count < ARRAY_LEN(f->prios))
		f->prios[f->count++] = prio;
	return 0;
}

/* rtnl_dump asks about everything; filters are asked for by link and hook. */
static int list_filters(struct rtnl *r, struct filters *f)
{
	struct rtnl_msg m;
	struct tcmsg *t = start_tc(&m, RTM_GETTFILTER, NLM_F_DUMP, f->from, parent_of(f->ingress));

	(void)t;
	return rtnl_dump_msg(r, &m, note_filter, f);
}

/* The hook goes with the last filter. */
static int drop_hook(struct rtnl *r, unsigned int index)
{
	struct filters in = { .from = index, .ingress = true }, out = { .from = index };
	struct rtnl_msg m;
	int e = list_filters(r, &in);

	if (e == 0)
		e = list_filters(r, &out);
	if (e < 0 || in.total || out.total)
		return 0;
	start_tc(&m, RTM_DELQDISC, 0, index, TC_H_CLSACT)->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	(void)rtnl_talk(r, &m);
	return 0;
}

int rtnl_mirror_sweep(struct rtnl *r, unsigned int from, bool all)
{
	int e = 0;

	for (int ingress = 0; e == 0 && ingress < 2; ingress++) {
		struct filters f = { .from = from, .ingress = ingress, .all = all };

		e = list_filters(r, &f);
		for (size_t i = 0; e == 0 && i < f.count; i++)
			e = delete_filter(r, from, ingress, f.prios[i]);
	}
	return e < 0 ? e : drop_hook(r, from);
}

static uint64_t burst_of(uint64_t bytes_per_second)
{
	return MAX(BURST_MIN, bytes_per_second / (NS_PER_SEC / BURST_NS));
}

static struct tc_ratespec rate_spec(uint64_t bytes_per_second)
{
	return (struct tc_ratespec){ .linklayer = TC_LINKLAYER_ETHERNET,
				     .cell_log = 9,
				     .rate = (uint32_t)MIN(bytes_per_second, UINT32_MAX) };
}

int rtnl_limit_egress(struct rtnl *r, unsigned int index, uint64_t rate)
{
	uint64_t bytes = rate / 8, burst = burst_of(bytes);
	struct tc_tbf_qopt q = { .rate = rate_spec(bytes),
				 .limit = (uint32_t)MIN(burst + bytes / (NS_PER_SEC / QUEUE_NS),
							INT32_MAX) };
	struct nlattr *nest;
	struct rtnl_msg m;
	struct tcmsg *t =
		start_tc(&m, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, TC_H_ROOT);

	t->tcm_handle = TC_H_MAKE(1u << 16, 0);
	mnl_attr_put_strz(&m.h, TCA_KIND, "tbf");
	nest = mnl_attr_nest_start(&m.h, TCA_OPTIONS);
	mnl_attr_put(&m.h, TCA_TBF_PARMS, sizeof(q), &q);
	mnl_attr_put_u32(&m.h, TCA_TBF_BURST, (uint32_t)MIN(burst, INT32_MAX));
	if (bytes > UINT32_MAX)
		mnl_attr_put_u64(&m.h, TCA_TBF_RATE64, bytes);
	mnl_attr_nest_end(&m.h, nest);
	return rtnl_talk(r, &m);
}

int rtnl_limit_ingress(struct rtnl *r, unsigned int index, uint64_t rate)
{
	/* The kernel computes times itself and only wants the table to be there. */
	static const unsigned char table[RATE_TABLE];
	uint64_t bytes = rate / 8, burst_ns = burst_of(bytes) * NS_PER_SEC / MAX(bytes, 1);
	struct tc_police p = { .action = TC_ACT_SHOT,
			       .burst = (uint32_t)MIN(burst_ns / TICK_NS, UINT32_MAX),
			       .mtu = (uint32_t)BURST_MIN,
			       .rate = rate_spec(bytes) };
	struct nlattr *nests[4];
	struct rtnl_msg m;
	int e = need_hook(r, index);

	if (e < 0)
		return e;
	start_filter(&m, index, true, PRIO_LIMIT, "police", nests);
	mnl_attr_put(&m.h, TCA_POLICE_TBF, sizeof(p), &p);
	mnl_attr_put(&m.h, TCA_POLICE_RATE, sizeof(table), table);
	if (bytes > UINT32_MAX)
		mnl_attr_put_u64(&m.h, TCA_POLICE_RATE64, bytes);
	return finish_filter(r, &m, nests);
}
