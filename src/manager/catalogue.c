/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/catalogue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/fetch.h"
#include "manager/file.h"
#include "util/err.h"
#include "util/fd.h"

#define FILE_MAX (1u << 20)

/* One line; *out is not touched if it has another name. */
static int read_line(const char *line, const char *where, unsigned number, const char *name,
		     struct catalogue_image *out, struct err *err)
{
	struct catalogue_image i = { "" };
	char end;

	if (!line[strspn(line, " \t")] || line[0] == '#')
		return -ENOENT;
	if (sscanf(line, "%63s %63s %1023s %159s %c", i.name, i.user, i.url, i.checksum, &end) !=
		    4 ||
	    !fetch_is_url(i.url))
		return err_set(err, -EINVAL,
			       "%s:%u: not a line of name, user, URL and checksum or -", where,
			       number);
	if (strcmp(i.name, name) != 0)
		return -ENOENT;
	if (strcmp(i.checksum, "-") == 0)
		i.checksum[0] = '\0';
	*out = i;
	return 0;
}

/* names gets the names of all that are not it. */
static int search(const char *path, const char *name, char *names, size_t size,
		  struct catalogue_image *out, struct err *err)
{
	char *text, *p;
	unsigned number = 0;
	size_t len;
	int r = fd_read_file(path, FILE_MAX, &text, &len);

	if (r < 0)
		return r == -ENOENT ? r : err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	r = -ENOENT;
	for (p = text; r == -ENOENT && *p;) {
		size_t line = strcspn(p, "\n"), used = strlen(names);
		char *next = p + line + (p[line] == '\n');

		p[line] = '\0';
		r = read_line(p, path, ++number, name, out, err);
		if (r == -ENOENT && *p && *p != '#')
			(void)file_path(names + used, size - used, " %.*s", (int)strcspn(p, " \t"),
					p);
		p = next;
	}
	free(text);
	return r;
}

int catalogue_find(const struct store *s, const char *name, struct catalogue_image *out,
		   struct err *err)
{
	char own[PATH_MAX], path[PATH_MAX], names[300] = "";
	int r;

	if (file_path(own, sizeof(own), "%s/.config/catalogue", s->dir) < 0 ||
	    file_path(path, sizeof(path), "%s/../catalogue", s->share) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", s->dir);
	r = search(own, name, names, sizeof(names), out, err);
	if (r == -ENOENT)
		r = search(path, name, names, sizeof(names), out, err);
	return r == -ENOENT ? err_set(err, r, "'%.64s' is neither a file, a URL nor one of:%s",
				      name, names)
			    : r;
}
