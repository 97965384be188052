/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/chr.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "hw/table.h"
#include "hw/uart.h"
#include "util/str.h"

#define LPC_DEVFN (31 << 3)

static struct blk *open_blk(const struct env *env, const struct blk_spec *spec, struct err *err)
{
	return blk_open(env->loop, spec, err);
}

static struct chr *open_chr(const struct env *env, const char *spec, struct err *err)
{
	return chr_open(env->loop, spec, err);
}

static struct net *open_net(const struct env *env, const struct net_spec *spec, struct err *err)
{
	char backend[sizeof("socket:") + USERNET_ADDRESS_MAX] = "socket:";
	struct net_spec own = *spec;

	if (spec->backend && strcmp(spec->backend, USERNET_BACKEND) == 0) {
		usernet_address(env->slot->devfn, backend + strlen(backend));
		own.backend = backend;
	}
	return net_open(env->loop, &own, err);
}

/* The device is locked, and a vCPU may wait for it: what is to be done about it is done from the loop. */
static void disk_trouble(const struct env *env)
{
	machine_wish(env->arg, WISH_LOOK);
}

static const struct env_ops env_ops = { .blk_open = open_blk,
					.chr_open = open_chr,
					.net_open = open_net,
					.disk_trouble = disk_trouble };

/* Binds the settings below node and makes the device. name must live as long as the machine: it is kept in env. */
static int add(struct machine *m, const struct conf *conf, const char *node,
	       const struct dev_ops *ops, struct pci_slot *slot, struct dev **out, struct err *err)
{
	static const char *const skip[] = { "device", NULL };
	void *settings = calloc(1, MAX(ops->conf_size, (size_t)1));
	struct dev *d;
	int r;

	if (!settings)
		return err_set(err, -ENOMEM, "out of memory");
	r = conf_bind(conf, node, ops->keys, settings, skip, err);
	if (r < 0) {
		free(settings);
		return r;
	}
	m->env.slot = slot;
	r = dev_new(ops, &m->env, settings, &d, err);
	if (r < 0)
		return err_prefix(err, r, "%s", m->env.name);
	list_append(&m->devs, &d->link);
	if (out)
		*out = d;
	return 0;
}

int machine_add_fixed(struct machine *m, const struct dev_ops *ops, const char *name,
		      const struct machine_pair *settings, struct dev **out, struct err *err)
{
	struct conf *c = conf_new();
	int r = c ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (; r == 0 && settings && settings->key; settings++)
		if (settings->value)
			r = conf_set(c, settings->key, settings->value, name, err);
	m->env.name = name;
	if (r == 0)
		r = add(m, c, "", ops, NULL, out, err);
	conf_free(c);
	return r;
}

/* Walks pci.BUS.SLOT.FUNCTION. */
struct walk {
	struct machine *m;
	struct err *err;
	unsigned int depth, numbers[3];
	char node[32];
	int (*visit)(struct machine *m, const char *node, uint8_t devfn, struct err *err);
};

static int walk_step(void *arg, const char *name)
{
	static const unsigned int limits[] = { 1, 32, 8 };
	struct walk *w = arg, next = *w;
	uint64_t n;

	if (snprintf(next.node, sizeof(next.node), "%s.%s", w->node, name) >=
		    (int)sizeof(next.node) ||
	    str_u64(name, &n) < 0 || n >= limits[w->depth])
		return err_set(
			w->err, -EINVAL,
			"%s: %s: use pci.BUS.SLOT.FUNCTION with bus 0, slot 0-31, function 0-7",
			conf_where(w->m->conf, next.node), next.node);
	next.numbers[next.depth++] = (unsigned int)n;
	if (next.depth < 3)
		return conf_each(w->m->conf, next.node, walk_step, &next);
	return w->visit(w->m, next.node, (uint8_t)(next.numbers[1] << 3 | next.numbers[2]), w->err);
}

static int walk_slots(struct machine *m,
		      int (*visit)(struct machine *, const char *, uint8_t, struct err *),
		      struct err *err)
{
	struct walk w = { .m = m, .err = err, .node = "pci", .visit = visit };

	return conf_each(m->conf, w.node, walk_step, &w);
}

static const struct dev_ops *find_model(struct machine *m, const char *node, struct err *err)
{
	char key[64], name[64];
	const char *names[64];
	const struct dev_ops *ops;
	size_t n = 0;
	int r;

	snprintf(key, sizeof(key), "%s.device", node);
	r = conf_get_str(m->conf, key, name, sizeof(name), err);
	if (r == -ENOENT)
		err_set(err, r, "%s: %s is missing: which model is to sit there?",
			conf_where(m->conf, node), key);
	if (r < 0)
		return NULL;
	ops = hw_find(name);
	if (ops)
		return ops;
	for (; n < ARRAY_LEN(names) && hw_table[n]; n++)
		names[n] = hw_table[n]->model;
	err_set(err, -EINVAL, "%s: unknown device \"%s\"%s%s%s; khyve -s help lists all",
		conf_where(m->conf, key), name,
		str_nearest(name, names, n) ? ", nearest is \"" : "",
		str_nearest(name, names, n) ? str_nearest(name, names, n) : "",
		str_nearest(name, names, n) ? "\"" : "");
	return NULL;
}

/* First pass: the screen must exist before the display model, and there is one of it. */
static int look_for_screen(struct machine *m, const char *node, uint8_t devfn, struct err *err)
{
	const struct dev_ops *ops = find_model(m, node, err);

	(void)devfn;
	if (!ops)
		return -EINVAL;
	if (strcmp(ops->model, "fbuf") != 0)
		return 0;
	if (m->screen)
		return err_set(err, -EINVAL, "%s: only one fbuf is possible",
			       conf_where(m->conf, node));
	m->screen = screen_new(m->loop, &m->input, err);
	if (!m->screen)
		return -ENOMEM;
	m->env.screen = m->screen;
	str_copy(m->fbuf_node, sizeof(m->fbuf_node), node);
	return 0;
}

/* Before the cards that connect to them: the programs of those with user-mode networking. */
static int start_usernet(struct machine *m, const char *node, uint8_t devfn, struct err *err)
{
	char key[64], backend[256] = "";
	struct usernet *u;
	int r;

	snprintf(key, sizeof(key), "%s.backend", node);
	r = conf_get_str(m->conf, key, backend, sizeof(backend), err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (strcmp(backend, USERNET_BACKEND) != 0) {
		snprintf(key, sizeof(key), "%s.hostfwd", node);
		return conf_has(m->conf, key)
			       ? err_set(err, -EINVAL, "%s: hostfwd is for the back end slirp",
					 conf_where(m->conf, key))
			       : 0;
	}
	r = usernet_new(m->loop, m->conf, node, devfn, &u, err);
	if (r == 0)
		list_append(&m->usernets, &u->link);
	return r;
}

static int add_slot(struct machine *m, const char *node, uint8_t devfn, struct err *err)
{
	const struct dev_ops *ops = find_model(m, node, err);
	struct pci_slot slot = { .bus = m->pci, .devfn = devfn };
	char name[64];
	struct dev *d;
	int r;

	if (!ops)
		return -EINVAL;
	if (ops == &lpc_ops && devfn != LPC_DEVFN)
		return err_set(err, -EINVAL, "%s: lpc sits in slot 31", conf_where(m->conf, node));
	if (ops == &hostbridge_ops && devfn != 0)
		return err_set(err, -EINVAL, "%s: hostbridge sits in slot 0",
			       conf_where(m->conf, node));
	snprintf(name, sizeof(name), "%s-0:%u.%u", ops->model, (unsigned int)devfn >> 3,
		 devfn & 7u);
	m->env.name = name;
	r = add(m, m->conf, node, ops, &slot, &d, err);
	if (r == 0 && ops == &lpc_ops)
		m->lpc = d;
	return r;
}

/* The two bridges are part of every machine: what the configuration leaves out is added. */
static int add_bridges(struct machine *m, struct err *err)
{
	struct pci_slot host = { .bus = m->pci, .devfn = 0 };
	struct pci_slot lpc = { .bus = m->pci, .devfn = LPC_DEVFN };
	struct conf *none = conf_new();
	int r = none ? 0 : err_set(err, -ENOMEM, "out of memory");

	m->env.name = "hostbridge-0:0.0";
	if (r == 0 && !pci_bus_find(m->pci, 0))
		r = add(m, none, "", &hostbridge_ops, &host, NULL, err);
	m->env.name = "lpc-0:31.0";
	if (r == 0 && !m->lpc)
		r = add(m, none, "", &lpc_ops, &lpc, &m->lpc, err);
	conf_free(none);
	return r;
}

static int add_legacy(struct machine *m, struct err *err)
{
	static const char *const names[] = { "com1", "com2", "com3", "com4" };
	static const char *const indexes[] = { "0", "1", "2", "3" };
	const struct machine_pair rtc[] = {
		{ "use_localtime", m->set.rtc_localtime ? "true" : "false" }, { NULL, NULL }
	};
	int r = machine_add_fixed(m, &rtc_ops, "rtc", rtc, NULL, err);

	if (r == 0)
		r = machine_add_fixed(m, &i8042_ops, "i8042", NULL, NULL, err);
	for (int i = 0; r == 0 && i < UART_PORTS; i++) {
		const struct machine_pair com[] = { { "index", indexes[i] },
						    { "path", m->set.com[i] },
						    { NULL, NULL } };

		if (m->set.com[i])
			r = machine_add_fixed(m, &uart_ops, names[i], com, NULL, err);
	}
	return r;
}

int machine_add_devices(struct machine *m, struct err *err)
{
	int r;

	m->env = (struct env){ .guest = m->set.name,
			       .loop = m->loop,
			       .bus = m->bus,
			       .mem = m->mem,
			       .input = &m->input,
			       .ops = &env_ops,
			       .arg = m };
	r = walk_slots(m, look_for_screen, err);
	if (r == 0)
		r = walk_slots(m, start_usernet, err);
	if (r == 0)
		r = walk_slots(m, add_slot, err);
	if (r == 0)
		r = add_bridges(m, err);
	return r == 0 ? add_legacy(m, err) : r;
}

void machine_free_devices(struct machine *m)
{
	struct dev *d, *next;

	list_for_each_safe(d, next, &m->devs, link) {
		list_remove(&d->link);
		dev_free(d);
	}
	screen_free(m->screen);
}
