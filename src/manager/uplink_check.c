/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/uplink_priv.h"

#include <dirent.h>
#include <errno.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define NETWORKMANAGER "/run/NetworkManager/devices"
#define NETWORKD "/run/systemd/netif/links"

static bool is_wifi(const char *name)
{
	char path[128];

	return (file_path(path, sizeof(path), "/sys/class/net/%s/wireless", name) == 0 &&
		access(path, F_OK) == 0) ||
	       (file_path(path, sizeof(path), "/sys/class/net/%s/phy80211", name) == 0 &&
		access(path, F_OK) == 0);
}

/* Its file of the device says so, in lines that are like ours. */
static bool is_networkmanagers(unsigned int index)
{
	struct gconf *g;
	char path[128];
	bool managed;

	if (file_path(path, sizeof(path), NETWORKMANAGER "/%u", index) < 0 ||
	    gconf_load(path, &g, NULL) < 0)
		return false;
	managed = gconf_bool(g, "managed", false);
	gconf_free(g);
	return managed;
}

/* The file that tells networkd what to do with the link. */
static bool is_networkds(unsigned int index, char *file, size_t size)
{
	char path[128], *text, *p;
	bool managed = false;
	size_t len;

	if (file_path(path, sizeof(path), NETWORKD "/%u", index) < 0 ||
	    fd_read_file(path, 65536, &text, &len) < 0)
		return false;
	for (p = text; p && !managed; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (str_starts(p, "NETWORK_FILE=/"))
			managed = file_path(file, size, "%.*s",
					    (int)strcspn(p + strlen("NETWORK_FILE="), "\n"),
					    p + strlen("NETWORK_FILE=")) == 0;
	}
	free(text);
	return managed;
}

/* True if the process is a DHCP client that was told the interface's name. */
static bool is_client(const char *pid, const char *iface, const struct stat *net)
{
	static const char *const programs[] = { "dhclient", "dhcpcd", "udhcpc", "udhcpc6" };
	char path[64], *text;
	bool found = false, named = false;
	struct stat st;
	size_t len, word = 0;

	if (file_path(path, sizeof(path), "/proc/%s/cmdline", pid) < 0 ||
	    fd_read_file(path, 65536, &text, &len) < 0)
		return false;
	for (const char *p = text; p < text + len; p += strlen(p) + 1, word++) {
		/* The program, or busybox' applet. */
		for (size_t i = 0; i < ARRAY_LEN(programs); i++)
			found |= word < 2 && strcmp(file_base(p), programs[i]) == 0;
		named |= word > 0 && strcmp(p, iface) == 0;
	}
	free(text);
	return found && named && file_path(path, sizeof(path), "/proc/%s/ns/net", pid) == 0 &&
	       stat(path, &st) == 0 && st.st_ino == net->st_ino && st.st_dev == net->st_dev;
}

bool uplink_has_dhcp_client(const char *iface)
{
	struct dirent *e;
	bool found = false;
	struct stat net;
	DIR *d = opendir("/proc");

	if (d && stat("/proc/self/ns/net", &net) < 0)
		memset(&net, 0, sizeof(net));
	while (d && !found && (e = readdir(d)))
		found = e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
			is_client(e->d_name, iface, &net);
	if (d)
		closedir(d);
	return found;
}

static int check_manager(const struct rtnl_link *l, struct err *err)
{
	char file[160];

	if (is_networkmanagers(l->index))
		return err_set(
			err, -ENOTSUP,
			K(070) "%s is managed by NetworkManager, which would take it back: let NetworkManager make a bridge with %s as its port, and register that with 'vm switch create -t manual -b BRIDGE NAME' ('nmcli device set %s managed no' would take its addresses away)",
			l->name, l->name, l->name);
	if (is_networkds(l->index, file, sizeof(file)))
		return err_set(
			err, -ENOTSUP,
			K(070) "%s is managed by systemd-networkd, which would take it back: let networkd make a bridge with %s as its port, and register that with 'vm switch create -t manual -b BRIDGE NAME'; or set Unmanaged=yes in %s, if something else gives it its addresses",
			l->name, l->name, file);
	return 0;
}

/* What system.conf and a journal give back as it was written. */
static bool is_plain(const char *name)
{
	return !strpbrk(name, "\"#");
}

static int check_port(struct rtnl *r, const struct switch_conf *c, const struct rtnl_link *l,
		      struct err *err)
{
	struct rtnl_link master, own = { 0 };

	if (l->type != ARPHRD_ETHER)
		return err_set(err, -ENOTSUP,
			       K(070) "%s is not an Ethernet interface: a bridge takes no other",
			       l->name);
	if (strcmp(l->kind, "bridge") == 0)
		return err_set(
			err, -ENOTSUP,
			K(070) "%s is a bridge itself: register it with 'vm switch create -t manual -b %s NAME'",
			l->name, l->name);
	/* Perhaps a command that was killed has put it in. */
	(void)switch_bridge(r, c, &own);
	if (l->master && l->master != own.index && rtnl_link_index(r, l->master, &master) == 0)
		return err_set(err, -EBUSY, K(024) "%s is a port of %s already", l->name,
			       master.name);
	return check_manager(l, err);
}

int uplink_check(struct rtnl *r, const struct switch_conf *c, const char *iface, struct err *err)
{
	struct rtnl_link l;
	int e = rtnl_link_get(r, iface, &l);

	if (e == -ENODEV)
		return err_set(err, e, K(017) "there is no interface %s; 'ip link' lists them",
			       iface);
	if (e == 0 && !is_plain(iface))
		return err_set(
			err, -EINVAL,
			"%s has a name that system.conf cannot hold: give it another one with 'ip link set'",
			iface);
	if (e == 0 && is_wifi(iface))
		return err_set(
			err, -ENOTSUP,
			K(070) "%s is a Wi-Fi card: its access point takes no frames from guests behind it; use a NAT switch ('vm switch create -t nat NAME')",
			iface);
	if (e == 0)
		e = switch_port(r, c, iface, &l);
	/* A VLAN interface that is still to be made is in nobody's way. */
	if (e == -ENODEV)
		return 0;
	return e < 0 ? err_set(err, e, "%s: %s", iface, rtnl_error(r, e))
		     : check_port(r, c, &l, err);
}
