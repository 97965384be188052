/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/plan_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "conf/conf.h"
#include "manager/file.h"
#include "manager/firmware.h"
#include "manager/guestconf.h"
#include "manager/limit.h"
#include "manager/run.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

#define CPUS_MAX 65535
#define BOOT_WAIT_MAX 65

/* Doubles percent signs: a path is not to be expanded. */
static char *escape(const char *value)
{
	char *out = malloc(2 * strlen(value) + 1), *o = out;

	if (!out)
		return NULL;
	for (; *value; value++) {
		if (*value == '%')
			*o++ = '%';
		*o++ = *value;
	}
	*o = '\0';
	return out;
}

int plan_put(struct plan_job *j, const char *from, const char *key, const char *value)
{
	char *escaped = escape(value);
	int r;

	if (!escaped)
		return err_set(j->err, -ENOMEM, K(080) "out of memory");
	r = conf_set(j->p->conf, key, escaped, from ? gconf_where(j->g, from) : NULL, j->err);
	free(escaped);
	return r;
}

int plan_put_dev(struct plan_job *j, const char *from, unsigned slot_func, const char *name,
		 const char *value)
{
	char key[128];
	int n = snprintf(key, sizeof(key), "pci.0.%u.%u.%s", slot_func / 8, slot_func % 8, name);

	if (n < 0 || (size_t)n >= sizeof(key))
		return err_set(j->err, -EINVAL, K(053) "%s: '%.64s' is too long",
			       from ? gconf_where(j->g, from) : "built in", name);
	return plan_put(j, from, key, value);
}

/* Copies a number of 1 to CPUS_MAX; a missing key is fine unless required. */
static int put_count(struct plan_job *j, const char *from, const char *key, bool required)
{
	const char *value = gconf_get(j->g, from);
	uint64_t n;

	if (!value && !required)
		return 0;
	if (!value)
		return err_set(j->err, -EINVAL, "%s: %s is not set", gconf_path(j->g), from);
	if (str_u64(value, &n) < 0 || n < 1 || n > CPUS_MAX)
		return err_set(j->err, -EINVAL,
			       K(004) "%s: %s: '%.64s' is not a number of at least 1",
			       gconf_where(j->g, from), from, value);
	return plan_put(j, from, key, value);
}

static int put_cpus(struct plan_job *j)
{
	int r = put_count(j, "cpu", "cpus", true);

	if (r == 0)
		r = put_count(j, "cpu_sockets", "sockets", false);
	if (r == 0)
		r = put_count(j, "cpu_cores", "cores", false);
	if (r == 0)
		r = put_count(j, "cpu_threads", "threads", false);
	return r;
}

/* A bare number is megabytes, as on bhyve's command line. */
static int put_memory(struct plan_job *j)
{
	const char *value = gconf_get(j->g, "memory");
	uint64_t bytes;
	char text[32];
	int n;

	if (!value)
		return err_set(j->err, -EINVAL, "%s: memory is not set", gconf_path(j->g));
	if (str_size(value, MIB, &bytes) < 0 || bytes == 0 || bytes % MIB)
		return err_set(
			j->err, -EINVAL,
			"%s: memory: '%.64s' is not a size in whole megabytes such as 512M or 4G",
			gconf_where(j->g, "memory"), value);
	n = snprintf(text, sizeof(text), "%lluM", (unsigned long long)(bytes / MIB));
	if (n < 0 || (size_t)n >= sizeof(text))
		return -EOVERFLOW;
	n = plan_put(j, "memory", "memory.size", text);
	if (n == 0 && gconf_bool(j->g, "wired_memory", false))
		n = plan_put(j, "wired_memory", "memory.wired", "true");
	return n;
}

/* "com1", "com2" or both; the first one is the console. */
static int put_coms(struct plan_job *j)
{
	const char *value = gconf_get(j->g, "comports");
	unsigned n = 0;
	int r = 0;

	if (!value || !*value)
		value = "com1";
	for (const char *p = value; r == 0 && *(p += strspn(p, " \t"));) {
		size_t len = strcspn(p, " \t");
		char key[32], sock[32];

		if (n == ARRAY_LEN(j->p->com) || len != 4 || strncmp(p, "com", 3) != 0 ||
		    p[3] < '1' || p[3] > '2' || (n == 1 && p[3] == j->p->com[0][3]))
			return err_set(
				j->err, -EINVAL,
				"%s: comports: '%.64s' is not com1, com2, \"com1 com2\" or \"com2 com1\"",
				gconf_where(j->g, "comports"), value);
		memcpy(j->p->com[n], p, 4);
		if (snprintf(key, sizeof(key), "lpc.%s.path", j->p->com[n]) < 0 ||
		    snprintf(sock, sizeof(sock), "unix:%s.sock", j->p->com[n]) < 0)
			return -EOVERFLOW;
		r = plan_put(j, "comports", key, j->opts->foreground && n == 0 ? "stdio" : sock);
		n++;
		p += len;
	}
	return r;
}

/* vm-bhyve's loaders wait as long as they are told, or for ever (-1); the firmware at most BOOT_WAIT_MAX. */
static int put_boot_wait(struct plan_job *j)
{
	const char *value = gconf_get(j->g, "loader_timeout");
	char text[8];
	int64_t n;
	int r;

	if (!value || !*value)
		return 0;
	if (str_i64(value, &n) < 0 || n < -1)
		return err_set(j->err, -EINVAL,
			       K(004) "%s: loader_timeout: '%.64s' is not a number of seconds",
			       gconf_where(j->g, "loader_timeout"), value);
	r = file_path(text, sizeof(text), "%d",
		      n < 0 || n > BOOT_WAIT_MAX ? BOOT_WAIT_MAX : (int)n);
	return r < 0 ? r : plan_put(j, "loader_timeout", "boot.wait", text);
}

static int put_uefi(struct plan_job *j)
{
	struct firmware fw;
	int r = firmware_find(&fw, j->err);

	if (r < 0)
		return r;
	if (run_path(j->guest, "uefi-vars.fd", j->p->vars, sizeof(j->p->vars)) < 0 ||
	    file_path(j->p->vars_template, sizeof(j->p->vars_template), "%s", fw.vars) < 0)
		return err_set(j->err, -ENAMETOOLONG, K(053) "%s: the path is too long",
			       j->guest->dir);
	j->p->vars_fresh = !gconf_bool(j->g, "uefi_vars", true);
	r = plan_put(j, "loader", "bootrom", fw.code);
	if (r == 0)
		r = plan_put(j, "uefi_vars", "bootvars", j->p->vars);
	return r == 0 ? put_boot_wait(j) : r;
}

/* Our own loader: kernel=, initrd= and cmdline=, paths relative to the guest's folder. */
static int put_kernel_file(struct plan_job *j, const char *from, const char *key, bool required)
{
	const char *value = gconf_get(j->g, from);
	char path[PATH_MAX];
	int r;

	if (!value || !*value) {
		if (!required)
			return 0;
		return err_set(j->err, -EINVAL, "%s: loader=\"linux\" needs kernel=\"FILE\"",
			       gconf_where(j->g, "loader"));
	}
	r = value[0] == '/' ? file_path(path, sizeof(path), "%s", value)
			    : run_path(j->guest, value, path, sizeof(path));
	if (r == 0 && access(path, R_OK) < 0)
		r = -errno;
	if (r < 0)
		return err_set(j->err, r, "%s: %s: %s: %s", gconf_where(j->g, from), from,
			       value[0] == '/' ? value : path, strerror(-r));
	return plan_put(j, from, key, path);
}

static int put_linux(struct plan_job *j)
{
	const char *cmdline = gconf_get(j->g, "cmdline");
	int r = put_kernel_file(j, "kernel", "linux.kernel", true);

	if (r == 0)
		r = put_kernel_file(j, "initrd", "linux.initrd", false);
	if (r == 0 && cmdline && *cmdline)
		r = plan_put(j, "cmdline", "linux.cmdline", cmdline);
	return r;
}

static int put_loader(struct plan_job *j)
{
	const char *loader = gconf_get(j->g, "loader");

	if (!loader || !*loader)
		return err_set(
			j->err, -EINVAL,
			"%s: loader is not set: add loader=\"uefi\", or \"linux\" with kernel=",
			gconf_path(j->g));
	if (strcmp(loader, "linux") == 0)
		return put_linux(j);
	if (strcmp(loader, "uefi") == 0 || str_starts(loader, "uefi-"))
		return put_uefi(j);
	return err_set(
		j->err, -ENOTSUP,
		"%s: loader: '%.64s' does not exist on this host: use \"uefi\", or \"linux\" with kernel=",
		gconf_where(j->g, "loader"), loader);
}

static int put_identity(struct plan_job *j)
{
	const char *uuid = gconf_get(j->g, "uuid");
	bool utc = gconf_bool(j->g, "utctime", true);
	int r = plan_put(j, NULL, "name", j->guest->name);

	if (r == 0 && uuid && *uuid)
		r = plan_put(j, "uuid", "uuid", uuid);
	if (r == 0)
		r = plan_put(j, "utctime", "rtc.use_localtime", utc ? "false" : "true");
	if (r == 0)
		r = plan_put(j, NULL, "control.path", RUN_CONTROL);
	/*
	 * Every guest system asks for registers that real processors have and virtual ones do not.
	 */
	if (r == 0)
		r = plan_put(j, NULL, "x86.strictmsr", "false");
	return r;
}

static int put_board(struct plan_job *j)
{
	int r = plan_put_dev(j, NULL, PLAN_FUNC(0, 0), "device", "hostbridge");

	if (r == 0)
		r = plan_put_dev(j, NULL, PLAN_FUNC(PLAN_SLOT_LPC, 0), "device", "lpc");
	if (r == 0 && gconf_bool(j->g, "virt_random", false))
		r = plan_put_dev(j, "virt_random", PLAN_FUNC(PLAN_SLOT_RANDOM, 0), "device",
				 "virtio-rnd");
	if (r == 0 && gconf_bool(j->g, "xhci_mouse", false)) {
		r = plan_put_dev(j, "xhci_mouse", PLAN_FUNC(PLAN_SLOT_USB, 0), "device", "xhci");
		if (r == 0)
			r = plan_put_dev(j, "xhci_mouse", PLAN_FUNC(PLAN_SLOT_USB, 0),
					 "slot.1.device", "tablet");
	}
	return r;
}

static int read_rest(struct plan_job *j)
{
	const char *value = gconf_get(j->g, "priority");
	int64_t nice = 0;

	if (value && *value && (str_i64(value, &nice) < 0 || nice < -20 || nice > 20))
		return err_set(j->err, -EINVAL,
			       K(004) "%s: priority: '%.64s' is not a number from -20 to 20",
			       gconf_where(j->g, "priority"), value);
	j->p->priority = (int)nice;
	value = gconf_get(j->g, "bhyve_options");
	j->p->options = value && *value ? value : NULL;
	return limit_check(j->g, j->err);
}

int plan_make(struct plan *p, const struct guest *guest, struct gconf *g,
	      const struct plan_opts *opts, struct err *err)
{
	static int (*const parts[])(struct plan_job *) = { put_loader,	 put_cpus,     put_memory,
							   put_identity, put_coms,     put_board,
							   plan_disks,	 plan_install, plan_nets,
							   plan_screen,	 read_rest };
	struct plan_job j = { .p = p, .guest = guest, .g = g, .opts = opts, .err = err };
	int r = 0;

	*p = (struct plan){ .conf = conf_new() };
	if (!p->conf)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(parts); i++)
		r = parts[i](&j);
	if (r < 0)
		plan_fini(p);
	return r;
}

void plan_fini(struct plan *p)
{
	conf_free(p->conf);
	p->conf = NULL;
	free(p->nets);
	p->nets = NULL;
	p->net_count = 0;
}
