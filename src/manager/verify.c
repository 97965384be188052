/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/verify.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/prog.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define LIST_MAX (8u << 20)
#define SIGNATURE_MAX (1u << 20)
#define URL_MAX 4096
#define KEYRINGS_MAX 60

/* --- lists --- */

/* "HEX  name", "HEX *name", "SHA512 (name) = HEX", or only HEX. */
static bool line_is_for(const char *line, const char *name, bool alone, const char **hex)
{
	size_t digits = strspn(line, "0123456789abcdefABCDEF"), len = strlen(name);
	const char *p = line + digits;

	if (digits == 64 || digits == 128) {
		*hex = line;
		if (!*p)
			return alone;
		p += strspn(p, " \t");
		p += *p == '*';
		p += str_starts(p, "./") ? 2 : 0;
		return strcmp(p, name) == 0;
	}
	p = strstr(line, " (");
	if (!p || !str_starts(line, "SHA") || strncmp(p + 2, name, len) != 0 ||
	    !str_starts(p + 2 + len, ") = "))
		return false;
	*hex = p + len + 6;
	return true;
}

/* Looks the name up in a list, which is cut into lines. */
static int find_checksum(char *text, const char *name, bool alone, unsigned bits,
			 struct verify *out)
{
	char *next;

	for (char *line = text; line && *line; line = next) {
		const char *hex;
		size_t len;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		len = strlen(line);
		while (len > 0 && strchr("\r \t", line[len - 1]))
			line[--len] = '\0';
		if (line_is_for(line, name, alone, &hex) &&
		    strspn(hex, "0123456789abcdefABCDEF") == bits / 4)
			return file_path(out->checksum, sizeof(out->checksum), "sha%u:%.*s", bits,
					 (int)bits / 4, hex);
	}
	return -ENOENT;
}

/* --- signatures --- */

/* Says who signed by gpgv's status lines (GnuPG's doc/DETAILS). A wrong one outweighs right ones. */
static int read_status(const char *text, struct verify *out, struct err *err)
{
	const char *good = strstr(text, "[GNUPG:] GOODSIG ");
	static const struct {
		const char *word, *why;
	} reasons[] = {
		{ "EXPKEYSIG", "the key that signed it has expired" },
		{ "REVKEYSIG", "the key that signed it was revoked" },
		{ "EXPSIG", "it has expired" },
		{ "NO_PUBKEY", "nobody here has the key that signed it" },
	};

	if (strstr(text, "[GNUPG:] BADSIG "))
		return err_set(err, -EBADMSG, K(061) "the signature of %s is wrong", out->list);
	if (good) {
		/* Behind the key's number comes its owner. */
		good = strchr(good + strlen("[GNUPG:] GOODSIG "), ' ');
		if (!good)
			return 0;
		good++;
		(void)file_path(out->signer, sizeof(out->signer), "%.*s",
				(int)MIN(strcspn(good, "\n"), sizeof(out->signer) - 1), good);
		for (char *p = out->signer; *p; p++)
			*p = (unsigned char)*p < ' ' ? '?' : *p;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		if (strstr(text, reasons[i].word))
			return str_copy(out->why, sizeof(out->why), reasons[i].why);
	}
	return str_copy(out->why, sizeof(out->why), "gpgv does not know what it is");
}

/* A file without a name; path is what other programs open it by. */
static int make_file(const char *data, size_t len, char *path, size_t size)
{
	int fd = memfd_create("verify", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : fd_pwrite_full(fd, data, len, 0);

	if (r == 0)
		r = file_path(path, size, "/proc/%d/fd/%d", (int)getpid(), fd);
	if (r == 0)
		return fd;
	fd_close(&fd);
	return r;
}

struct signature {
	const char *text, *data;
	size_t text_len, len;
};

static int run_gpgv(const struct signature *sig, const char *const *rings, size_t count,
		    struct verify *out, struct err *err)
{
	const char *argv[2 * KEYRINGS_MAX + 6] = { "gpgv", "--status-fd", "1" };
	char list_path[64], sig_path[64], *status = NULL;
	size_t n = 3;
	int list = make_file(sig->text, sig->text_len, list_path, sizeof(list_path));
	int data = make_file(sig->data, sig->len, sig_path, sizeof(sig_path));
	int r = MIN(list, data);
	struct err said = { "" };

	for (size_t i = 0; i < count && i < KEYRINGS_MAX; i++) {
		argv[n++] = "--keyring";
		argv[n++] = rings[i];
	}
	argv[n++] = sig_path;
	argv[n++] = list_path;
	if (r >= 0)
		r = prog_status(argv, NULL, &status, &said);
	if (r >= 0)
		r = read_status(status, out, err);
	else
		r = file_path(out->why, sizeof(out->why), "%.200s",
			      said.text[0] ? said.text : strerror(-r));
	free(status);
	fd_close(&list);
	fd_close(&data);
	return r;
}

static int check_signature(const struct signature *sig, const char *keyring, struct verify *out,
			   struct err *err)
{
	const char *rings[1];
	char *full;
	glob_t g = { 0 };
	int r;

	if (keyring) {
		/* gpgv takes names without a slash for something else. */
		full = realpath(keyring, NULL);
		if (!full)
			return err_set(err, -errno, "cannot read %s: %s", keyring, strerror(errno));
		rings[0] = full;
		r = run_gpgv(sig, rings, 1, out, err);
		free(full);
		return r;
	}
	r = glob(VERIFY_KEYRINGS "/*.gpg", 0, NULL, &g);
	if (r == 0)
		r = run_gpgv(sig, (const char *const *)g.gl_pathv, g.gl_pathc, out, err);
	else
		r = str_copy(out->why, sizeof(out->why),
			     "there are no keys in " VERIFY_KEYRINGS "; give --keyring");
	globfree(&g);
	return r;
}

/* Looks for a signature of the list and checks it. */
static int find_signature(const char *list_url, const struct signature *list, const char *keyring,
			  int ip, struct verify *out, struct err *err)
{
	static const char *const ends[] = { "sign", "gpg", "asc" };
	char url[URL_MAX + 8], *data = NULL;
	struct fetch_opts o = { .url = url, .ip = ip };
	struct signature sig = *list;
	int r = -ENOENT;

	for (size_t i = 0; r == -ENOENT && i < ARRAY_LEN(ends); i++) {
		struct err ignored;

		r = file_path(url, sizeof(url), "%s.%s", list_url, ends[i]);
		if (r == 0)
			r = fetch_text(&o, SIGNATURE_MAX, &data, &sig.len, &ignored);
	}
	if (r < 0)
		return str_copy(out->why, sizeof(out->why),
				r == -ENOENT ? "there is none" : "it could not be fetched");
	sig.data = data;
	r = check_signature(&sig, keyring, out, err);
	free(data);
	return r;
}

/* One list that may be there. -ENOENT: it is not, or does not name the file. */
static int try_list(const char *url, const char *name, bool alone, unsigned bits, int ip,
		    struct verify *out, char **text, size_t *len)
{
	struct fetch_opts o = { .url = url, .ip = ip };
	char *lines;
	int r = fetch_text(&o, LIST_MAX, text, len, NULL);

	if (r < 0)
		return -ENOENT;
	lines = strdup(*text);
	r = lines ? find_checksum(lines, name, alone, bits, out) : -ENOMEM;
	free(lines);
	if (r < 0)
		free(*text);
	return r;
}

int verify_find(const char *url, const char *name, const char *keyring, int ip, struct verify *out,
		struct err *err)
{
	static const struct {
		const char *name;
		bool alone; /* of this file only */
		unsigned bits;
	} lists[] = {
		{ "SHA512SUMS", false, 512 },
		{ "SHA256SUMS", false, 256 },
		{ ".sha512", true, 512 },
		{ ".sha256", true, 256 },
	};
	size_t path = strcspn(url, "?#"), dir = path;
	char list_url[URL_MAX];
	struct signature list = { 0 };
	char *text = NULL;
	int r = -ENOENT;

	*out = (struct verify){ "" };
	while (dir > 0 && url[dir - 1] != '/')
		dir--;
	for (size_t i = 0; r == -ENOENT && i < ARRAY_LEN(lists); i++) {
		int keep = (int)(lists[i].alone ? path : dir);

		r = file_path(list_url, sizeof(list_url), "%.*s%s", keep, url, lists[i].name);
		if (r == 0)
			r = try_list(list_url, name, lists[i].alone, lists[i].bits, ip, out, &text,
				     &list.text_len);
		(void)file_path(out->list, sizeof(out->list), "%.*s%s",
				lists[i].alone ? (int)(path - dir) : 0, url + dir, lists[i].name);
	}
	if (r == 0) {
		list.text = text;
		r = find_signature(list_url, &list, keyring, ip, out, err);
		free(text);
	} else if (r == -ENOENT || r == -ENAMETOOLONG) {
		out->list[0] = '\0';
		r = str_copy(out->why, sizeof(out->why), "there is no list of checksums beside it");
	} else {
		err_set(err, r, "cannot look for the checksum of %s: %s", name, strerror(-r));
	}
	if (r == 0 && keyring && !out->signer[0])
		return err_set(err, -ENOKEY, K(061) "%s is not signed by a key of %s%s%s: %s", name,
			       keyring, out->list[0] ? ": signature of " : "", out->list, out->why);
	return r;
}
