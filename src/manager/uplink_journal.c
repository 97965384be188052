/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/uplink_priv.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static void boot_id(char out[64])
{
	char *text;
	size_t len;

	out[0] = '\0';
	if (fd_read_file(BOOT_ID, 64, &text, &len) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	(void)str_copy(out, 64, text);
	free(text);
}

static void print_hex(FILE *f, const char *key, const void *data, size_t len)
{
	const unsigned char *p = data;

	fprintf(f, "%s=\"", key);
	for (size_t i = 0; i < len; i++)
		fprintf(f, "%02x", p[i]);
	fputs("\"\n", f);
}

int uplink_save(const struct uplink *u, const char *path, struct err *err)
{
	char boot[64], *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	boot_id(boot);
	fprintf(f, "# A change of a switch that waits for 'vm switch confirm %s'.\n", u->name);
	fprintf(f,
		"boot=\"%s\"\nswitch=\"%s\"\niface=\"%s\"\nport=\"%s\"\nbridge=\"%s\"\nway=\"%s\"\n",
		boot, u->name, u->iface, u->port, u->bridge,
		u->way == UPLINK_JOIN ? "join" : "leave");
	if (u->port_mtu)
		fprintf(f, "mtu=\"%u\"\nport_mtu=\"%u\"\n", u->mtu, u->port_mtu);
	print_hex(f, "mac", u->mac, sizeof(u->mac));
	print_hex(f, "port_mac", u->port_mac, sizeof(u->port_mac));
	for (size_t i = 0; i < u->count; i++)
		print_hex(f, "message", u->msgs[i], u->msgs[i]->nlmsg_len);
	r = fclose(f) == 0 ? file_write_atomic(path, text, len, 0644, err)
			   : err_set(err, -ENOMEM, K(080) "out of memory");
	free(text);
	return r;
}

/* Decodes at most size bytes. Returns how many, or -EINVAL. */
static ssize_t parse_hex(const char *text, unsigned char *out, size_t size)
{
	size_t len = strlen(text);
	unsigned int byte;

	if (len % 2 || len / 2 > size)
		return -EINVAL;
	for (size_t i = 0; i < len / 2; i++) {
		if (strspn(text + 2 * i, "0123456789abcdef") < 2 ||
		    sscanf(text + 2 * i, "%2x", &byte) != 1)
			return -EINVAL;
		out[i] = (unsigned char)byte;
	}
	return (ssize_t)(len / 2);
}

/* The size of the header behind that of each message that a change may move; 0: of none. */
static size_t header_size(const struct nlmsghdr *h)
{
	switch (h->nlmsg_type) {
	case RTM_NEWADDR:
		return sizeof(struct ifaddrmsg);
	case RTM_NEWROUTE:
		return sizeof(struct rtmsg);
	case RTM_NEWNEIGH:
		return sizeof(struct ndmsg);
	default:
		return 0;
	}
}

static int load_message(struct uplink *u, const char *text)
{
	struct rtnl_msg m;
	ssize_t n = parse_hex(text, (unsigned char *)m.buf, sizeof(m.buf));

	if (n < (ssize_t)sizeof(m.h) || m.h.nlmsg_len != (uint32_t)n || !header_size(&m.h) ||
	    (size_t)n < sizeof(m.h) + header_size(&m.h))
		return -EINVAL;
	return uplink_keep(u, &m.h);
}

static int load_name(const struct gconf *g, const char *key, char *out, size_t size)
{
	const char *value = gconf_get(g, key);

	return value && *value ? str_copy(out, size, value) : -EINVAL;
}

static int load_mac(const struct gconf *g, const char *key, unsigned char *out)
{
	const char *value = gconf_get(g, key);

	return value && parse_hex(value, out, RTNL_MAC_LEN) == RTNL_MAC_LEN ? 0 : -EINVAL;
}

/* 0 if it is missing. */
static int load_number(const struct gconf *g, const char *key, unsigned int *out)
{
	const char *value = gconf_get(g, key);
	uint64_t n = 0;

	if (value && (str_u64(value, &n) < 0 || n > UINT32_MAX))
		return -EINVAL;
	*out = (unsigned int)n;
	return 0;
}

static int load_parts(const struct gconf *g, struct uplink *u)
{
	const char *boot = gconf_get(g, "boot"), *way = gconf_get(g, "way");
	char now[64];
	int r = load_name(g, "switch", u->name, sizeof(u->name));

	if (r == 0)
		r = load_name(g, "iface", u->iface, sizeof(u->iface));
	if (r == 0)
		r = load_name(g, "port", u->port, sizeof(u->port));
	if (r == 0)
		r = load_name(g, "bridge", u->bridge, sizeof(u->bridge));
	if (r == 0)
		r = load_number(g, "mtu", &u->mtu);
	if (r == 0)
		r = load_number(g, "port_mtu", &u->port_mtu);
	if (r == 0)
		r = load_mac(g, "mac", u->mac);
	if (r == 0)
		r = load_mac(g, "port_mac", u->port_mac);
	if (r == 0 && (!boot || !way))
		r = -EINVAL;
	if (r < 0)
		return r;
	boot_id(now);
	if (strcmp(boot, now) != 0)
		return -ESTALE;
	u->way = strcmp(way, "leave") == 0 ? UPLINK_LEAVE : UPLINK_JOIN;
	for (size_t i = 0; r == 0 && i < gconf_count(g); i++) {
		struct gconf_line line = gconf_line(g, i);

		if (line.key && strcmp(line.key, "message") == 0)
			r = load_message(u, line.value);
	}
	return r;
}

int uplink_load(const char *path, struct uplink **out, struct err *err)
{
	struct uplink *u = calloc(1, sizeof(*u));
	struct gconf *g;
	int r;

	if (!u)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	r = gconf_load(path, &g, err);
	if (r == 0) {
		r = load_parts(g, u);
		gconf_free(g);
		if (r < 0)
			err_set(err, r, "%s: %s", path,
				r == -ESTALE ? "of an earlier boot" : "damaged");
	}
	if (r < 0) {
		uplink_free(u);
		return r;
	}
	*out = u;
	return 0;
}
