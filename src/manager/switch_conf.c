/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/switch.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/lock.h"
#include "manager/rtnl.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define KEY_SIZE (STORE_NAME_MAX + 32)
#define LIST_SIZE 8192

static const char *const type_names[] = {
	[SWITCH_STANDARD] = "standard",
	[SWITCH_MANUAL] = "manual",
	[SWITCH_VXLAN] = "vxlan",
	[SWITCH_NAT] = "nat",
};

static const char *const keys[] = { "type",  "ports",	"vlan", "addr",
				    "addr6", "private", "mtu",	"bridge" };

const char *switch_type_name(enum switch_type type)
{
	return type_names[type];
}

int switch_type_parse(const char *text, enum switch_type *out, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(type_names); i++) {
		if (strcmp(text, type_names[i]) == 0) {
			*out = (enum switch_type)i;
			return 0;
		}
	}
	if (strcmp(text, "vale") == 0 || strcmp(text, "netgraph") == 0)
		return err_set(
			err, -EINVAL,
			K(006) "invalid switch type - '%s': it exists on FreeBSD only; here a standard switch is a bridge of the kernel, and -t manual takes any bridge of yours",
			text);
	return err_set(err, -EINVAL,
		       K(006) "invalid switch type - '%.64s': use standard, manual, vxlan or nat",
		       text);
}

static int system_path(const struct store *s, char *out, size_t size)
{
	return file_path(out, size, "%s/.config/system.conf", s->dir);
}

int switch_load(const struct store *s, struct gconf **out, struct err *err)
{
	char path[PATH_MAX];
	int r;

	if (system_path(s, path, sizeof(path)) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", s->dir);
	r = gconf_load(path, out, err);
	return r == -ENOENT ? gconf_parse(path, "", 0, out, err) : r;
}

int switch_edit_begin(const struct store *s, struct switch_edit *e, struct err *err)
{
	char dir[PATH_MAX];
	int r;

	*e = (struct switch_edit){ .store = s, .lock = -1 };
	if (file_path(dir, sizeof(dir), "%s/.config/switches", s->dir) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", s->dir);
	e->lock = lock_dir(dir, true);
	if (e->lock < 0 && (!s->dry_run || e->lock != -ENOENT))
		return err_set(err, e->lock, "cannot lock %s: %s", dir, strerror(-e->lock));
	*strrchr(dir, '/') = '\0';
	if (!s->dry_run)
		file_clear_temps(dir, ".conf", true);
	r = switch_load(s, &e->conf, err);
	if (r < 0)
		fd_close(&e->lock);
	return r;
}

int switch_edit_end(struct switch_edit *e, bool save, struct err *err)
{
	char path[PATH_MAX];
	int r = 0;

	if (save && !e->store->dry_run && system_path(e->store, path, sizeof(path)) == 0)
		r = gconf_save(e->conf, path, err);
	gconf_free(e->conf);
	e->conf = NULL;
	fd_close(&e->lock);
	return r;
}

/* The value of KEY_NAME, or "". */
static const char *get(const struct gconf *g, const char *key, const char *name)
{
	const char *value = NULL;
	char full[KEY_SIZE];

	if (file_path(full, sizeof(full), "%s_%s", key, name) == 0)
		value = gconf_get(g, full);
	return value ? value : "";
}

static int wrong(struct gconf *g, const char *key, const char *name, struct err *err)
{
	char full[KEY_SIZE], value[65];

	(void)file_path(full, sizeof(full), "%s_%s", key, name);
	(void)str_copy(value, sizeof(value), get(g, key, name));
	return err_set(err, -EINVAL, "%s: %s: '%s' is not valid; correct the line, or remove it",
		       gconf_where(g, full), full, value);
}

static int read_number(struct gconf *g, const char *key, const char *name, unsigned int max,
		       unsigned int *out)
{
	const char *text = get(g, key, name);
	uint64_t n = 0;

	if (*text && (str_u64(text, &n) < 0 || n > max))
		return -EINVAL;
	*out = (unsigned int)n;
	return 0;
}

static int read_addr(struct gconf *g, const char *key, const char *name, char *out)
{
	const char *text = get(g, key, name);
	struct rtnl_addr a;

	if (*text && rtnl_addr_parse(text, &a) < 0)
		return -EINVAL;
	return str_copy(out, SWITCH_CIDR_MAX, text);
}

static bool is_listed(const struct gconf *g, const char *name)
{
	const char *list = gconf_get(g, "switch_list");
	size_t len = strlen(name);

	for (const char *p = list ? list : ""; *(p += strspn(p, " \t"));) {
		size_t word = strcspn(p, " \t");

		if (word == len && strncmp(p, name, len) == 0)
			return true;
		p += word;
	}
	return false;
}

int switch_read(struct gconf *g, const char *name, struct switch_conf *out, struct err *err)
{
	struct switch_conf c = { .type = SWITCH_STANDARD };
	const char *text;
	int r;

	if (!is_listed(g, name)) {
		char near[KEY_SIZE];

		switch_nearest(g, name, near, sizeof(near));
		return err_set(err, -ENOENT,
			       K(011) "there is no switch '%.64s'%s; 'vm switch list' shows them",
			       name, near);
	}
	text = get(g, "type", name);
	r = *text ? switch_type_parse(text, &c.type, err) : 0;
	if (r < 0)
		return err_prefix(err, r, "%s: type_%s", gconf_path(g), name);
	c.private = strcmp(get(g, "private", name), "yes") == 0;
	if (str_copy(c.name, sizeof(c.name), name) < 0)
		return err_set(err, -EINVAL, K(005) "invalid switch name - '%.64s'", name);
	if (str_copy(c.ports, sizeof(c.ports), get(g, "ports", name)) < 0)
		return wrong(g, "ports", name, err);
	if (str_copy(c.bridge, sizeof(c.bridge), get(g, "bridge", name)) < 0 ||
	    (c.type == SWITCH_MANUAL && !c.bridge[0]))
		return wrong(g, "bridge", name, err);
	if (read_number(g, "vlan", name,
			c.type == SWITCH_VXLAN ? SWITCH_VXLAN_MAX : SWITCH_VLAN_MAX, &c.vlan) < 0)
		return wrong(g, "vlan", name, err);
	if (read_number(g, "mtu", name, SWITCH_MTU_MAX, &c.mtu) < 0)
		return wrong(g, "mtu", name, err);
	if (read_addr(g, "addr", name, c.addr) < 0)
		return wrong(g, "addr", name, err);
	if (read_addr(g, "addr6", name, c.addr6) < 0)
		return wrong(g, "addr6", name, err);
	*out = c;
	return 0;
}

/* Sets KEY_NAME, or removes it if there is nothing to say. */
static int put(struct gconf *g, const char *key, const char *name, const char *value,
	       struct err *err)
{
	char full[KEY_SIZE];
	int r = file_path(full, sizeof(full), "%s_%s", key, name);

	if (r == 0 && !*value)
		gconf_unset(g, full);
	else if (r == 0)
		r = gconf_set(g, full, value);
	return r < 0 ? err_set(err, r, "%s: cannot set %s_%s: %s", gconf_path(g), key, name,
			       strerror(-r))
		     : 0;
}

static int put_number(struct gconf *g, const char *key, const char *name, unsigned int value,
		      struct err *err)
{
	char text[16] = "";

	if (value && snprintf(text, sizeof(text), "%u", value) < 0)
		return -EOVERFLOW;
	return put(g, key, name, text, err);
}

static int put_list(struct gconf *g, const char *name, struct err *err)
{
	const char *old = gconf_get(g, "switch_list");
	char list[LIST_SIZE];

	if (is_listed(g, name))
		return 0;
	if (file_path(list, sizeof(list), "%s%s%s", old ? old : "", old && *old ? " " : "", name) <
	    0)
		return err_set(err, -E2BIG, "%s: too many switches", gconf_path(g));
	return gconf_set(g, "switch_list", list);
}

int switch_write(struct gconf *g, const struct switch_conf *c, struct err *err)
{
	int r = put_list(g, c->name, err);

	if (r == 0)
		r = put(g, "type", c->name, type_names[c->type], err);
	if (r == 0)
		r = put(g, "bridge", c->name, c->bridge, err);
	if (r == 0)
		r = put_number(g, "vlan", c->name, c->vlan, err);
	if (r == 0)
		r = put(g, "addr", c->name, c->addr, err);
	if (r == 0)
		r = put(g, "addr6", c->name, c->addr6, err);
	if (r == 0)
		r = put(g, "private", c->name, c->private ? "yes" : "", err);
	if (r == 0)
		r = put_number(g, "mtu", c->name, c->mtu, err);
	if (r == 0)
		r = put(g, "ports", c->name, c->ports, err);
	return r;
}

void switch_erase(struct gconf *g, const char *name)
{
	const char *list = gconf_get(g, "switch_list");
	char left[LIST_SIZE] = "", full[KEY_SIZE];
	size_t len = 0, name_len = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (file_path(full, sizeof(full), "%s_%s", keys[i], name) == 0)
			gconf_unset(g, full);
	}
	for (const char *p = list ? list : ""; *(p += strspn(p, " \t"));) {
		size_t word = strcspn(p, " \t");

		if ((word != name_len || strncmp(p, name, word) != 0) &&
		    len + word + 2 < sizeof(left)) {
			if (len)
				left[len++] = ' ';
			memcpy(left + len, p, word);
			len += word;
			left[len] = '\0';
		}
		p += word;
	}
	if (!len || gconf_set(g, "switch_list", left) < 0)
		gconf_unset(g, "switch_list");
}

int switch_each(const struct gconf *g, int (*fn)(void *arg, const char *name), void *arg)
{
	const char *list = gconf_get(g, "switch_list");
	char name[STORE_NAME_MAX + 1];
	int r = 0;

	for (const char *p = list ? list : ""; r == 0 && *(p += strspn(p, " \t"));) {
		size_t word = strcspn(p, " \t");

		if (file_path(name, sizeof(name), "%.*s", (int)word, p) == 0)
			r = fn(arg, name);
		p += word;
	}
	return r;
}

struct names {
	char text[32][STORE_NAME_MAX + 1];
	const char *list[32];
	size_t count;
};

static int add_name(void *arg, const char *name)
{
	struct names *n = arg;

	if (n->count == ARRAY_LEN(n->list))
		return 1;
	if (str_copy(n->text[n->count], sizeof(n->text[0]), name) == 0) {
		n->list[n->count] = n->text[n->count];
		n->count++;
	}
	return 0;
}

void switch_nearest(const struct gconf *g, const char *name, char *out, size_t size)
{
	struct names n = { .count = 0 };
	const char *near;

	(void)switch_each(g, add_name, &n);
	near = str_nearest(name, n.list, n.count);
	out[0] = '\0';
	if (near)
		(void)file_path(out, size, " (did you mean '%s'?)", near);
}
