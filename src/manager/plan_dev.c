/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/plan_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/run.h"
#include "manager/seed.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

#define PORT_FIRST 5900
#define PORT_LAST 6099
#define PORT_WAIT_NS (2 * NS_PER_SEC)
#define WIDTH_MIN 640
#define WIDTH_MAX 3840
#define HEIGHT_MIN 480
#define HEIGHT_MAX 2160
#define NAME_SIZE 64

/* What a disk type is for khyve: the model and, for AHCI, what hangs on its port. */
struct disk_type {
	const char *name, *device, *port;
};

static const struct disk_type disk_types[] = {
	{ "virtio-blk", "virtio-blk", NULL },
	{ "nvme", "nvme", NULL },
	{ "ahci-hd", "ahci", "hd" },
	{ "ahci-cd", "ahci", "cd" },
};

static const struct disk_type *find_type(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(disk_types); i++) {
		if (strcmp(disk_types[i].name, name) == 0)
			return &disk_types[i];
	}
	return NULL;
}

/* Sets a block setting of a device, which AHCI keeps per port. */
static int put_block(struct plan_job *j, const char *from, unsigned slot_func,
		     const struct disk_type *type, const char *name, const char *value)
{
	char key[NAME_SIZE];
	int n = snprintf(key, sizeof(key), "%s%s", type->port ? "port.0." : "", name);

	if (n < 0 || (size_t)n >= sizeof(key))
		return err_set(j->err, -EINVAL, K(053) "%s: '%s' is too long",
			       gconf_where(j->g, from), name);
	return plan_put_dev(j, from, slot_func, key, value);
}

static int put_disk(struct plan_job *j, const char *from, unsigned slot_func,
		    const struct disk_type *type, const char *path)
{
	int r = plan_put_dev(j, from, slot_func, "device", type->device);

	if (r == 0 && type->port)
		r = put_block(j, from, slot_func, type, "type", type->port);
	if (r == 0)
		r = put_block(j, from, slot_func, type, "path", path);
	return r;
}

/* The comma list of diskN_opts: words are switches, K=V are settings of the device. */
static int put_opts(struct plan_job *j, unsigned n, unsigned slot_func,
		    const struct disk_type *type)
{
	const char *opts = gconf_getf(j->g, "disk%u_opts", n);
	char from[NAME_SIZE];
	int r = 0;

	if (!opts || snprintf(from, sizeof(from), "disk%u_opts", n) < 0)
		return 0;
	for (const char *p = opts; r == 0 && *(p += strspn(p, ", "));) {
		size_t len = strcspn(p, ","), name_len = strcspn(p, ",=");
		char name[NAME_SIZE], value[NAME_SIZE] = "true";

		if (file_path(name, sizeof(name), "%.*s", (int)name_len, p) < 0 ||
		    (name_len < len && file_path(value, sizeof(value), "%.*s",
						 (int)(len - name_len - 1), p + name_len + 1) < 0))
			return err_set(j->err, -EINVAL, K(053) "%s: %s: an option is too long",
				       gconf_where(j->g, from), from);
		r = put_block(j, from, slot_func, type, name, value);
		p += len;
	}
	return r;
}

/* The path of disk n. dev=file: below the guest's folder; custom: as given. */
static int disk_path(struct plan_job *j, unsigned n, char *out, size_t size)
{
	const char *name = gconf_getf(j->g, "disk%u_name", n);
	const char *dev = gconf_getf(j->g, "disk%u_dev", n);
	char from[NAME_SIZE];
	struct stat st;
	int r;

	if (snprintf(from, sizeof(from), "disk%u_dev", n) < 0)
		return -EOVERFLOW;
	if (!name || !*name)
		return err_set(j->err, -EINVAL, "%s: disk%u_name is not set", gconf_path(j->g), n);
	if (dev && *dev && strcmp(dev, "file") != 0 && strcmp(dev, "custom") != 0)
		return err_set(
			j->err, -ENOTSUP,
			K(035) "%s: disk%u_dev: '%.64s' is not supported: use \"file\", or \"custom\" with a path",
			gconf_where(j->g, from), n, dev);
	if ((!dev || strcmp(dev, "custom") != 0) && (name[0] == '/' || strstr(name, "../")))
		return err_set(
			j->err, -EINVAL,
			"%s: disk%u_name: '%.64s' is not in the guest's folder: add disk%u_dev=\"custom\"",
			gconf_path(j->g), n, name, n);
	if (dev && strcmp(dev, "custom") == 0)
		r = file_path(out, size, "%s", name);
	else
		r = run_path(j->guest, name, out, size);
	if (r == 0 && stat(out, &st) < 0)
		r = -errno;
	/* It is made by the start that needs it. */
	if (r == -ENOENT && strcmp(name, SEED_ISO) == 0)
		r = 0;
	if (r < 0)
		return err_set(j->err, r, "%s: disk%u: %s: %s", gconf_path(j->g), n, out,
			       strerror(-r));
	return 0;
}

static int put_numbered_disk(struct plan_job *j, unsigned n, const char *type_name)
{
	const struct disk_type *type = find_type(type_name);
	unsigned slot_func = PLAN_FUNC(PLAN_SLOT_DISK + n % 8, n / 8);
	char path[PATH_MAX], from[NAME_SIZE];
	int r;

	if (snprintf(from, sizeof(from), "disk%u_type", n) < 0)
		return -EOVERFLOW;
	if (!type)
		return err_set(j->err, -EINVAL,
			       "%s: %s: '%.64s' is not one of virtio-blk, nvme, ahci-hd, ahci-cd",
			       gconf_where(j->g, from), from, type_name);
	r = disk_path(j, n, path, sizeof(path));
	if (r == 0)
		r = put_disk(j, from, slot_func, type, path);
	if (r == 0)
		r = put_opts(j, n, slot_func, type);
	return r;
}

int plan_disks(struct plan_job *j)
{
	const char *type;
	int r = 0;

	for (unsigned n = 0; r == 0 && (type = gconf_getf(j->g, "disk%u_type", n)); n++) {
		if (n == PLAN_DISKS_MAX)
			return err_set(j->err, -E2BIG, "%s: more than %d disks", gconf_path(j->g),
				       PLAN_DISKS_MAX);
		/* The number of a disk that was removed. */
		if (strcmp(type, "none") != 0)
			r = put_numbered_disk(j, n, type);
	}
	return r;
}

int plan_install(struct plan_job *j)
{
	const char *iso = j->opts->iso, *dot = iso ? strrchr(iso, '.') : NULL;
	const struct disk_type *type =
		find_type(dot && strcasecmp(dot, ".iso") == 0 ? "ahci-cd" : "ahci-hd");
	unsigned slot_func = PLAN_FUNC(PLAN_SLOT_INSTALL, 0);
	int r;

	if (!iso)
		return 0;
	r = put_disk(j, NULL, slot_func, type, iso);
	if (r == 0)
		r = put_block(j, NULL, slot_func, type, "ro", "true");
	/*
	 * First only until the guest reboots: what it has installed is to start then, by its own boot entry, with the
	 * medium still there. The same for later runs of the same installation.
	 */
	if (r == 0 && j->opts->first)
		r = put_block(j, NULL, slot_func, type, "bootindex", "1");
	if (r == 0 && j->opts->first)
		r = plan_put(j, NULL, "boot.once", "true");
	return r;
}

static bool can_bind(int family, const void *sa, socklen_t len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	bool ok;

	/* Without that family nobody else can have the port in it. */
	if (fd < 0)
		return true;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	ok = bind(fd, sa, len) == 0 || errno == EADDRNOTAVAIL;
	close(fd);
	return ok;
}

/*
 * Free for both families on all addresses: a port means one guest, whatever a viewer connects to.
 */
static bool is_port_free(unsigned port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

	return can_bind(AF_INET, &v4, sizeof(v4)) && can_bind(AF_INET6, &v6, sizeof(v6));
}

/* The screen's program of a khyve that was killed may keep the port a moment longer. */
static bool await_port(unsigned port)
{
	const struct timespec pause = { .tv_nsec = 10 * NS_PER_MS };
	uint64_t end = clock_mono_ns() + PORT_WAIT_NS;

	while (!is_port_free(port)) {
		if (clock_mono_ns() >= end)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/* A guest that is started again keeps its port: viewers are to find it there. */
static int choose_port(struct plan_job *j, unsigned *out)
{
	const char *value = gconf_get(j->g, "graphics_port");
	unsigned before = j->opts->port;
	uint64_t port;

	if (value && *value && strcasecmp(value, "auto") != 0) {
		if (str_u64(value, &port) < 0 || port < 1 || port > 65535)
			return err_set(j->err, -EINVAL, "%s: graphics_port: '%.64s' is not a port",
				       gconf_where(j->g, "graphics_port"), value);
		*out = (unsigned)port;
		if (before == port)
			(void)await_port(before);
		return 0;
	}
	if (before && await_port(before)) {
		*out = before;
		return 0;
	}
	for (unsigned p = PORT_FIRST; p <= PORT_LAST; p++) {
		if (is_port_free(p)) {
			*out = p;
			return 0;
		}
	}
	return err_set(j->err, -EADDRINUSE,
		       K(026) "no free port from %d to %d for the screen; set graphics_port",
		       PORT_FIRST, PORT_LAST);
}

/* ADDR, v6 or [v6] to ADDR:PORT or [v6]:PORT. */
static int format_address(struct plan_job *j, const char *listen, unsigned port)
{
	char addr[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], bare[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
	size_t len = strlen(listen);
	bool bracketed = len >= 2 && listen[0] == '[' && listen[len - 1] == ']';
	struct in6_addr v6;
	struct in_addr v4;

	if (file_path(addr, sizeof(addr), "%.*s", (int)(bracketed ? len - 2 : len),
		      listen + bracketed) == 0 &&
	    file_path(bare, sizeof(bare), "%.*s", (int)strcspn(addr, "%"), addr) == 0) {
		if (!bracketed && inet_pton(AF_INET, addr, &v4) == 1) {
			j->p->screen_open = ntohl(v4.s_addr) >> 24 != 127;
			return file_path(j->p->screen, sizeof(j->p->screen), "%s:%u", addr, port);
		}
		if (inet_pton(AF_INET6, bare, &v6) == 1) {
			j->p->screen_open = !IN6_IS_ADDR_LOOPBACK(&v6);
			return file_path(j->p->screen, sizeof(j->p->screen), "[%s]:%u", addr, port);
		}
	}
	return err_set(j->err, -EINVAL,
		       "%s: graphics_listen: '%.64s' is not an address such as 127.0.0.1 or [::]",
		       gconf_where(j->g, "graphics_listen"), listen);
}

static int choose_address(struct plan_job *j)
{
	const char *listen = gconf_get(j->g, "graphics_listen");
	unsigned port = 0;
	int r;

	if (!listen || !*listen)
		listen = "127.0.0.1";
	if (str_starts(listen, "unix:"))
		return file_path(j->p->screen, sizeof(j->p->screen), "%s", listen);
	r = choose_port(j, &port);
	return r < 0 ? r : format_address(j, listen, port);
}

static int put_resolution(struct plan_job *j, unsigned slot_func)
{
	const char *value = gconf_get(j->g, "graphics_res");
	unsigned w, h;
	char text[16], end;
	int r;

	if (!value || !*value)
		return 0;
	if (sscanf(value, "%5ux%5u%c", &w, &h, &end) != 2 || w < WIDTH_MIN || w > WIDTH_MAX ||
	    h < HEIGHT_MIN || h > HEIGHT_MAX)
		return err_set(j->err, -EINVAL,
			       "%s: graphics_res: '%.64s' is not WIDTHxHEIGHT from %dx%d to %dx%d",
			       gconf_where(j->g, "graphics_res"), value, WIDTH_MIN, HEIGHT_MIN,
			       WIDTH_MAX, HEIGHT_MAX);
	r = file_path(text, sizeof(text), "%u", w);
	if (r == 0)
		r = plan_put_dev(j, "graphics_res", slot_func, "w", text);
	if (r == 0)
		r = file_path(text, sizeof(text), "%u", h);
	if (r == 0)
		r = plan_put_dev(j, "graphics_res", slot_func, "h", text);
	return r;
}

/* yes: at each start; no: never; auto, the default: at the first start of an installation. */
static bool wants_wait(const struct plan_job *j)
{
	const char *value = gconf_get(j->g, "graphics_wait");

	if (!value || !*value || strcasecmp(value, "auto") == 0)
		return j->opts->iso && j->opts->first;
	return gconf_bool(j->g, "graphics_wait", false);
}

int plan_screen(struct plan_job *j)
{
	unsigned slot_func = PLAN_FUNC(PLAN_SLOT_SCREEN, 0);
	const char *password = gconf_get(j->g, "vnc_password");
	int r;

	if (!gconf_bool(j->g, "graphics", false))
		return 0;
	r = choose_address(j);
	if (r == 0)
		r = plan_put_dev(j, "graphics", slot_func, "device", "fbuf");
	if (r == 0)
		r = plan_put_dev(j, "graphics_listen", slot_func, "tcp", j->p->screen);
	if (r == 0)
		r = put_resolution(j, slot_func);
	j->p->screen_wait = wants_wait(j);
	if (r == 0 && j->p->screen_wait)
		r = plan_put_dev(j, "graphics_wait", slot_func, "wait", "true");
	j->p->screen_tls = gconf_bool(j->g, "graphics_tls", false);
	if (r == 0 && j->p->screen_tls)
		r = plan_put_dev(j, "graphics_tls", slot_func, "tls_file", RUN_TLS);
	if (!password || !*password)
		return r;
	j->p->password = password;
	j->p->screen_open = false;
	/* The secret itself appears in no command line and in no configuration that is printed. */
	return r < 0 ? r
		     : plan_put_dev(j, "vnc_password", slot_func, "password_file", RUN_PASSWORD);
}
