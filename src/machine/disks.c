/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/str.h"

/* Commands of the control socket about disks and CD drives. */

static void list_disks(struct machine *m, struct control_client *c)
{
	struct blk_trouble t;
	struct dev *d;
	struct blk *b;

	list_for_each(d, &m->devs, link) {
		for (unsigned int i = 0; (b = dev_disk(d, i)); i++) {
			const struct blk_info *info = blk_info_get(b);
			bool trouble = blk_trouble_get(b, &t);
			char key[48];

			snprintf(key, sizeof(key), i ? "%s.%u" : "%s", d->name, i);
			control_reply(c, key, "%llu %s%s%s", (unsigned long long)info->size,
				      info->path ? info->path : "", trouble ? ": " : "",
				      trouble ? t.text : "");
		}
	}
}

/* NAME, or NAME.N of a device with several. */
static struct dev *find_disk(struct machine *m, const char *which, unsigned int *n)
{
	size_t len;
	struct dev *d;
	uint64_t number;

	list_for_each(d, &m->devs, link) {
		len = strlen(d->name);
		if (strncmp(which, d->name, len) != 0)
			continue;
		number = 0;
		if (which[len] && (which[len] != '.' || str_u64(which + len + 1, &number) < 0))
			continue;
		*n = (unsigned int)MIN(number, 1000u);
		if (dev_disk(d, *n))
			return d;
	}
	return NULL;
}

int machine_cmd_disk(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	char which[64] = "", what[8] = "";
	struct machine *m = arg;
	struct dev *d;
	unsigned int n;
	int r;

	if (!operand || !*operand) {
		list_disks(m, c);
		return 0;
	}
	if (sscanf(operand, "%63s %7s", which, what) != 2 || strcmp(what, "grow") != 0)
		return err_set(err, -EINVAL, "use: disk, or disk NAME grow");
	d = find_disk(m, which, &n);
	if (!d)
		return err_set(err, -ENOENT, "no disk %s; disk alone lists them", which);
	r = dev_grow(d, n, err);
	if (r == 0)
		control_reply(c, which, "%llu",
			      (unsigned long long)blk_info_get(dev_disk(d, n))->size);
	return r;
}

/* The number-th CD drive of the machine: its device, and which of its drives. */
static struct dev *find_drive(struct machine *m, uint64_t number, unsigned int *drive)
{
	struct dev *d;

	list_for_each(d, &m->devs, link)
		for (*drive = 0; dev_tray(d, *drive, DEV_TRAY_LOOK, NULL, NULL) >= 0; (*drive)++)
			if (number-- == 0)
				return d;
	return NULL;
}

int machine_cmd_cd(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	static const char *const words[] = { [DEV_TRAY_LOOK] = "look",
					     [DEV_TRAY_EJECT] = "eject",
					     [DEV_TRAY_FORCE] = "force",
					     [DEV_TRAY_INSERT] = "insert" };
	unsigned int number, drive, what = DEV_TRAY_EJECT;
	struct machine *m = arg;
	char word[8] = "";
	int path = 0, r;
	struct dev *d;

	if (operand && sscanf(operand, "%u %7s %n", &number, word, &path) >= 2)
		for (what = 0; what < ARRAY_LEN(words) && strcmp(word, words[what]) != 0;)
			what++;
	if (!*word || what == ARRAY_LEN(words) || (what == DEV_TRAY_INSERT) != (operand[path] != 0))
		return err_set(err, -EINVAL,
			       "use: cd DRIVE look|eject|force, or cd DRIVE insert PATH");
	d = find_drive(m, number, &drive);
	if (!d)
		return err_set(err, -ENOENT, "the guest has no CD drive %u", number);
	r = dev_tray(d, drive, (enum dev_tray)what, operand + path, err);
	if (r < 0)
		return r;
	control_reply(c, "medium", "%s", r ? "yes" : "no");
	return 0;
}
