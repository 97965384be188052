/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/holder.h"
#include "manager/lock.h"
#include "manager/plan.h"
#include "manager/switch.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define KEY_MAX 32
#define LOOPBACK 0x7f000001u

/* A port number without sign, blanks or leading zeros. */
static int parse_number(const char *text, size_t len, uint16_t *out)
{
	unsigned n = 0;

	if (len == 0 || len > 5 || text[0] == '0')
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		n = n * 10 + (unsigned)(text[i] - '0');
	}
	if (n > 65535)
		return -EINVAL;
	*out = (uint16_t)n;
	return 0;
}

static int parse_addr(const char *text, size_t len, uint32_t *out)
{
	char copy[INET_ADDRSTRLEN];
	struct in_addr a;

	if (len >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET, copy, &a) != 1)
		return -EINVAL;
	*out = ntohl(a.s_addr);
	return 0;
}

/* Splits at colons: at most three parts, the last of which ends before "/PROTO". */
static int split(const char *text, size_t len, const char *parts[3], size_t lens[3])
{
	int n = 0;

	for (;;) {
		const char *colon = memchr(text, ':', len);

		if (n == 3)
			return -EINVAL;
		parts[n] = text;
		lens[n++] = colon ? (size_t)(colon - text) : len;
		if (!colon)
			return n;
		len -= (size_t)(colon + 1 - text);
		text = colon + 1;
	}
}

/* The parts of a port, numbers of them being port numbers. */
static int parse(const char *text, int numbers, struct port *out, bool *any)
{
	struct port p = { .addr = LOOPBACK };
	const char *slash = strchr(text, '/'), *parts[3];
	size_t lens[3];
	int n = split(text, slash ? (size_t)(slash - text) : strlen(text), parts, lens), r = 0;

	if (n != numbers && n != numbers + 1)
		return -EINVAL;
	if (slash && strcmp(slash, "/udp") != 0 && strcmp(slash, "/tcp") != 0)
		return -EINVAL;
	p.udp = slash && strcmp(slash, "/udp") == 0;
	*any = n == numbers;
	if (!*any)
		r = parse_addr(parts[0], lens[0], &p.addr);
	if (r == 0)
		r = parse_number(parts[n - numbers], lens[n - numbers], &p.host);
	if (r == 0 && numbers == 2)
		r = parse_number(parts[n - 1], lens[n - 1], &p.guest);
	if (r == 0)
		*out = p;
	return r;
}

int port_parse(const char *text, struct port *out, struct err *err)
{
	bool any;
	int r;

	if (strchr(text, '['))
		return err_set(err, -EAFNOSUPPORT,
			       "'%.64s': ports are forwarded from IPv4 addresses only", text);
	r = parse(text, 2, out, &any);
	return r < 0 ? err_set(err, r,
			       K(006) "invalid port - '%.64s': give [ADDRESS:]HOSTPORT:GUESTPORT[/udp], "
				      "such as 8080:80",
			       text)
		     : 0;
}

int port_parse_host(const char *text, struct port *out, bool *any, struct err *err)
{
	int r = parse(text, 1, out, any);

	return r < 0 ? err_set(err, r,
			       K(006) "invalid port - '%.64s': give [ADDRESS:]HOSTPORT[/udp], such as 8080",
			       text)
		     : 0;
}

void port_format(const struct port *p, char out[PORT_TEXT])
{
	struct in_addr a = { .s_addr = htonl(p->addr) };
	char addr[INET_ADDRSTRLEN], guest[8] = "";

	inet_ntop(AF_INET, &a, addr, sizeof(addr));
	if (p->guest && snprintf(guest, sizeof(guest), ":%u", p->guest) < 0)
		guest[0] = '\0';
	if (snprintf(out, PORT_TEXT, "%s:%u%s/%s", addr, p->host, guest, p->udp ? "udp" : "tcp") <
	    0)
		out[0] = '\0';
}

int port_load(const struct gconf *g, unsigned n, struct port **out, size_t *count)
{
	const char *text = gconf_getf(g, "network%u_ports", n);
	struct port *ports = NULL, *more;
	char word[PORT_TEXT];
	size_t used = 0;
	bool any;

	while (text && *(text += strspn(text, " \t"))) {
		size_t len = strcspn(text, " \t");

		if (len < sizeof(word)) {
			memcpy(word, text, len);
			word[len] = '\0';
			more = realloc(ports, (used + 1) * sizeof(*ports));
			if (!more) {
				free(ports);
				return -ENOMEM;
			}
			ports = more;
			if (parse(word, 2, &ports[used], &any) == 0)
				used++;
		}
		text += len;
	}
	*out = ports;
	*count = used;
	return 0;
}

/* Writes the list back; an empty one removes the key. */
static int store_ports(struct gconf *g, unsigned n, const struct port *ports, size_t count,
		       struct err *err)
{
	char key[KEY_MAX], word[PORT_TEXT], *text = NULL;
	size_t len;
	FILE *f;
	int r = file_path(key, sizeof(key), "network%u_ports", n);

	if (r == 0 && count == 0) {
		gconf_unset(g, key);
		return 0;
	}
	f = r == 0 ? open_memstream(&text, &len) : NULL;
	if (!f)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	for (size_t i = 0; i < count; i++) {
		port_format(&ports[i], word);
		fprintf(f, "%s%s", i ? " " : "", word);
	}
	r = fclose(f) == 0 ? gconf_set(g, key, text) : -ENOMEM;
	free(text);
	return r < 0 ? err_set(err, r, "%s: cannot set %s: %s", gconf_path(g), key, strerror(-r))
		     : 0;
}

/* One of them would get what is sent to the other. */
static bool overlaps(const struct port *a, const struct port *b)
{
	return a->udp == b->udp && a->host == b->host &&
	       (a->addr == b->addr || !a->addr || !b->addr);
}

/* --- who has it --- */

struct search {
	const struct port *p;
	char guest[STORE_NAME_MAX + 1];
	struct port found;
};

static int search_guest(void *arg, const struct guest *g)
{
	struct search *s = arg;
	struct gconf *conf;
	struct port *ports;
	struct err err;
	size_t count;
	int found = 0;

	if (gconf_load(g->conf, &conf, &err) < 0)
		return 0;
	for (unsigned n = 0; !found && gconf_getf(conf, "network%u_type", n); n++) {
		if (port_load(conf, n, &ports, &count) < 0)
			break;
		for (size_t i = 0; !found && i < count; i++) {
			if (!overlaps(&ports[i], s->p))
				continue;
			s->found = ports[i];
			found = str_copy(s->guest, sizeof(s->guest), g->name) == 0;
		}
		free(ports);
	}
	gconf_free(conf);
	return found;
}

static int check_free(const struct store *s, const struct port *p, struct err *err)
{
	char text[PORT_TEXT], holder[128];
	struct search search = { .p = p };
	int r = store_each(s, search_guest, &search);

	if (r > 0) {
		port_format(&search.found, text);
		return err_set(
			err, -EEXIST,
			K(026) "port %u is taken: %s leads to guest %s; vm port remove %s %u%s "
			       "frees it",
			p->host, text, search.guest, search.guest, p->host, p->udp ? "/udp" : "");
	}
	r = holder_find(p->addr, p->host, p->udp, holder, sizeof(holder));
	if (r < 0 || !holder[0])
		return 0;
	return err_set(err, -EEXIST, K(026) "port %u/%s is taken by %s; choose another one",
		       p->host, p->udp ? "udp" : "tcp", holder);
}

/* --- the guest's file --- */

/* Interfaces whose ports can be forwarded are on a NAT switch or behind user networking. */
static int choose_nic(const struct store *s, const struct guest *guest, struct gconf *g,
		      unsigned *out, struct err *err)
{
	struct gconf *switches;
	struct switch_conf c;
	struct err ignored;
	int r = switch_load(s, &switches, err);

	if (r < 0)
		return r;
	r = -ENOENT;
	for (unsigned n = 0; r == -ENOENT && gconf_getf(g, "network%u_type", n); n++) {
		const char *name = gconf_getf(g, "network%u_switch", n);

		if (port_is_user(guest, g, n) ||
		    (name && switch_read(switches, name, &c, &ignored) == 0 &&
		     c.type == SWITCH_NAT)) {
			*out = n;
			r = 0;
		}
	}
	gconf_free(switches);
	return r < 0 ? err_set(err, r,
			       "%s: no network interface is on a NAT switch or has user networking: "
			       "others reach this guest by its own address",
			       gconf_path(g))
		     : 0;
}

static int append(struct gconf *conf, unsigned nic, const struct port *p, struct err *err)
{
	struct port *ports, *more;
	size_t count;
	int r = port_load(conf, nic, &ports, &count);

	if (r < 0)
		return err_set(err, r, K(080) "out of memory");
	more = realloc(ports, (count + 1) * sizeof(*ports));
	if (!more) {
		free(ports);
		return err_set(err, -ENOMEM, K(080) "out of memory");
	}
	more[count] = *p;
	r = store_ports(conf, nic, more, count + 1, err);
	free(more);
	return r;
}

int port_add(const struct store *s, const struct guest *g, const struct port *p, unsigned *nic,
	     struct err *err)
{
	char path[PATH_MAX];
	struct gconf *conf;
	int lock, all, r;

	r = file_path(path, sizeof(path), "%s/.config", s->dir);
	if (r < 0)
		return err_set(err, r, K(053) "%s: the path is too long", s->dir);
	/* Two commands must not both find the port free. */
	all = lock_dir(path, true);
	if (all < 0)
		return err_set(err, all, "%s: %s", path, strerror(-all));
	r = check_free(s, p, err);
	if (r == 0)
		r = guest_edit_begin(g, &conf, &lock, err);
	if (r == 0) {
		r = choose_nic(s, g, conf, nic, err);
		if (r == 0)
			r = append(conf, *nic, p, err);
		if (r == 0)
			r = gconf_save(conf, g->conf, err);
		guest_edit_end(conf, lock);
	}
	close(all);
	return r;
}

/* Takes one port out of an interface's list. -ENOENT, or -ENOTUNIQ. */
static int take_out(struct gconf *conf, unsigned n, const struct port *p, bool any,
		    struct port *found, struct err *err)
{
	struct port *ports;
	size_t count, at = 0, matches = 0;
	int r = port_load(conf, n, &ports, &count);

	if (r < 0)
		return err_set(err, r, K(080) "out of memory");
	for (size_t i = 0; i < count; i++) {
		if (ports[i].host == p->host && ports[i].udp == p->udp &&
		    (any || ports[i].addr == p->addr)) {
			at = i;
			matches++;
		}
	}
	if (matches == 1) {
		*found = ports[at];
		memmove(ports + at, ports + at + 1, (count - at - 1) * sizeof(*ports));
		r = store_ports(conf, n, ports, count - 1, err);
	} else {
		r = matches ? err_set(err, -ENOTUNIQ,
				      "port %u is forwarded from several addresses; say which: "
				      "ADDRESS:%u",
				      p->host, p->host)
			    : -ENOENT;
	}
	free(ports);
	return r;
}

int port_remove(const struct guest *g, const struct port *p, bool any, struct port *found,
		unsigned *nic, struct err *err)
{
	char text[PORT_TEXT];
	struct gconf *conf;
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	r = -ENOENT;
	for (unsigned n = 0; r == -ENOENT && gconf_getf(conf, "network%u_type", n); n++) {
		r = take_out(conf, n, p, any, found, err);
		*nic = n;
	}
	if (r == 0)
		r = gconf_save(conf, g->conf, err);
	guest_edit_end(conf, lock);
	if (r != -ENOENT)
		return r;
	port_format(p, text);
	return err_set(err, r, K(017) "guest %s has no port %s; vm port list %s shows what it has",
		       g->name, any ? strchr(text, ':') + 1 : text, g->name);
}

bool port_is_user(const struct guest *guest, struct gconf *g, unsigned n)
{
	struct plan_net net;
	struct err ignored;

	return plan_net(guest, g, n, &net, &ignored) == 0 && net.kind == PLAN_NET_USER;
}
