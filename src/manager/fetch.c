/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/fetch.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/lazy.h"
#include "manager/progress.h"
#include "manager/storage.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define TRIES 4
#define STALL_SECONDS 60
#define CONNECT_SECONDS 30
#define REDIRECTS 10
#define VALIDATOR_MAX 256

struct fetch {
	const struct fetch_opts *o;
	char part[PATH_MAX], note[PATH_MAX];
	int fd;
	uint64_t have; /* bytes in the part file */
	uint64_t asked; /* offset that this try began at */
	/* What tells the server's file from a changed one: an ETag, else a date. */
	char validator[VALIDATOR_MAX], seen[VALIDATOR_MAX];
	CURL *curl;
	char text[CURL_ERROR_SIZE];
	int write_error;
	bool began; /* the answer's body has started */
};

bool fetch_is_url(const char *text)
{
	static const char *const schemes[] = { "http://", "https://", "ftp://", "ftps://" };

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
			return true;
	}
	return false;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at = strchr(digits, tolower((unsigned char)c));

	return c && at ? (int)(at - digits) : -1;
}

int fetch_name(const char *url, char *out, size_t size)
{
	const char *path = strstr(url, "://"), *end, *p;
	size_t n = 0;

	path = path ? strchr(path + 3, '/') : NULL;
	if (!path)
		return -EINVAL;
	end = path + strcspn(path, "?#");
	for (p = end; p[-1] != '/';)
		p--;
	while (p < end && n + 1 < size) {
		int high = p[0] == '%' ? hex_digit(p[1]) : -1;
		int low = high >= 0 ? hex_digit(p[2]) : -1;

		out[n++] = low >= 0 ? (char)(high << 4 | low) : *p;
		p += low >= 0 ? 3 : 1;
	}
	out[n] = '\0';
	if (p < end || n == 0 || out[0] == '.' || strchr(out, '/') || strlen(out) != n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (iscntrl((unsigned char)out[i]))
			return -EINVAL;
	}
	return 0;
}

/* "Name: value" of a header line; the value is copied without the end of line. */
static bool take_header(const char *line, size_t len, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) != 0)
		return false;
	line += n;
	len -= n;
	while (len > 0 && isspace((unsigned char)line[len - 1]))
		len--;
	while (len > 0 && isspace((unsigned char)*line)) {
		line++;
		len--;
	}
	return file_path(out, size, "%.*s", (int)len, line) == 0;
}

/*
 * Collects what validates the file. A weak ETag ("W/...") does not identify bytes (RFC 9110
 * s8.8.1).
 */
static size_t on_header(char *line, size_t one, size_t len, void *arg)
{
	struct fetch *f = arg;
	char value[VALIDATOR_MAX];

	(void)one;
	if (len >= 5 && strncasecmp(line, "HTTP/", 5) == 0)
		f->seen[0] = '\0';
	else if ((take_header(line, len, "etag:", value, sizeof(value)) && value[0] == '"') ||
		 (!f->seen[0] && take_header(line, len, "last-modified:", value, sizeof(value))))
		(void)str_copy(f->seen, sizeof(f->seen), value);
	return len;
}

/* Before the first byte: the server either goes on at our offset or starts from the beginning. */
static int begin_body(struct fetch *f)
{
	curl_off_t length = -1;
	long code = 0;
	int r = 0;

	f->began = true;
	LAZY(curl_easy_getinfo)(f->curl, CURLINFO_RESPONSE_CODE, &code);
	LAZY(curl_easy_getinfo)(f->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (f->asked && code != 206) {
		f->have = 0;
		if (ftruncate(f->fd, 0) < 0)
			return -errno;
	}
	progress_begin(f->o->progress, f->have, length >= 0 ? f->have + (uint64_t)length : 0);
	if (strcmp(f->seen, f->validator) != 0 || !f->asked) {
		(void)str_copy(f->validator, sizeof(f->validator), f->seen);
		r = file_write_atomic(f->note, f->seen, strlen(f->seen), 0600, NULL);
	}
	return r;
}

static size_t on_body(char *data, size_t one, size_t len, void *arg)
{
	struct fetch *f = arg;
	int r = f->began ? 0 : begin_body(f);

	(void)one;
	if (r == 0)
		r = fd_pwrite_full(f->fd, data, len, f->have);
	if (r < 0) {
		f->write_error = r;
		return 0;
	}
	f->have += len;
	progress_to(f->o->progress, f->have);
	return len;
}

static void set_common(CURL *c, const struct fetch_opts *o, char *text)
{
	static const long resolve[] = { [4] = CURL_IPRESOLVE_V4, [6] = CURL_IPRESOLVE_V6 };

	LAZY(curl_easy_setopt)(c, CURLOPT_URL, o->url);
	LAZY(curl_easy_setopt)(c, CURLOPT_PROTOCOLS_STR, "http,https,ftp,ftps");
	LAZY(curl_easy_setopt)(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	LAZY(curl_easy_setopt)(c, CURLOPT_FOLLOWLOCATION, 1L);
	LAZY(curl_easy_setopt)(c, CURLOPT_MAXREDIRS, (long)REDIRECTS);
	LAZY(curl_easy_setopt)(c, CURLOPT_FAILONERROR, 1L);
	LAZY(curl_easy_setopt)(c, CURLOPT_NOSIGNAL, 1L);
	LAZY(curl_easy_setopt)(c, CURLOPT_USERAGENT, "khyve/" KHYVE_VERSION);
	LAZY(curl_easy_setopt)(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
	LAZY(curl_easy_setopt)(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	LAZY(curl_easy_setopt)(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
	LAZY(curl_easy_setopt)(c, CURLOPT_ERRORBUFFER, text);
	if (o->ip)
		LAZY(curl_easy_setopt)(c, CURLOPT_IPRESOLVE, resolve[o->ip]);
}

static void set_options(struct fetch *f, char *range, size_t size, struct curl_slist **headers)
{
	CURL *c = f->curl;
	char *line;

	set_common(c, f->o, f->text);
	LAZY(curl_easy_setopt)(c, CURLOPT_HEADERFUNCTION, on_header);
	LAZY(curl_easy_setopt)(c, CURLOPT_HEADERDATA, f);
	LAZY(curl_easy_setopt)(c, CURLOPT_WRITEFUNCTION, on_body);
	LAZY(curl_easy_setopt)(c, CURLOPT_WRITEDATA, f);
	f->asked = f->validator[0] ? f->have : 0;
	if (!f->asked || file_path(range, size, "%llu-", (unsigned long long)f->asked) < 0)
		return;
	line = str_format("If-Range: %s", f->validator);
	*headers = line ? LAZY(curl_slist_append)(NULL, line) : NULL;
	free(line);
	if (!*headers) {
		f->asked = 0;
		return;
	}
	LAZY(curl_easy_setopt)(c, CURLOPT_RANGE, range);
	LAZY(curl_easy_setopt)(c, CURLOPT_HTTPHEADER, *headers);
}

/* Starts from nothing. */
static int restart_part(struct fetch *f)
{
	f->have = f->asked = 0;
	f->validator[0] = '\0';
	unlink(f->note);
	return ftruncate(f->fd, 0) < 0 ? -errno : 0;
}

/* Errors after which another try may well succeed. */
static bool is_transient(CURLcode code)
{
	return code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR ||
	       code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING ||
	       code == CURLE_SEND_ERROR || code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM;
}

/* One request. 0, -EAGAIN if it is worth another, or an error. */
static int try_once(struct fetch *f, struct err *err)
{
	struct curl_slist *headers = NULL;
	char range[32];
	CURLcode code;
	long status = 0;

	f->curl = LAZY(curl_easy_init)();
	if (!f->curl)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	f->began = false;
	f->text[0] = '\0';
	if (!f->validator[0] && f->have && restart_part(f) < 0)
		f->write_error = -EIO;
	set_options(f, range, sizeof(range), &headers);
	code = LAZY(curl_easy_perform)(f->curl);
	LAZY(curl_easy_getinfo)(f->curl, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK && !f->began)
		f->write_error = begin_body(f);
	LAZY(curl_easy_cleanup)(f->curl);
	LAZY(curl_slist_free_all)(headers);
	if (f->write_error)
		return err_set(err, f->write_error, "cannot write %s: %s", f->part,
			       strerror(-f->write_error));
	if (code == CURLE_OK)
		return 0;
	err_set(err, -EIO, K(060) "cannot fetch %s: %s", f->o->url,
		f->text[0] ? f->text : LAZY(curl_easy_strerror)(code));
	/* Range not satisfiable: what is here is not the beginning of that file. */
	if (status == 416 && f->asked)
		return restart_part(f) < 0 ? -EIO : -EAGAIN;
	return is_transient(code) ? -EAGAIN : -EIO;
}

static int try_all(struct fetch *f, struct err *err)
{
	int r = -EAGAIN;

	for (unsigned n = 0; n < TRIES && r == -EAGAIN; n++) {
		struct timespec pause = { .tv_sec = n ? 1 << (n - 1) : 0 };

		nanosleep(&pause, NULL);
		r = try_once(f, err);
	}
	if (r < 0 && f->have && f->validator[0])
		return err_prefix(err, r,
				  "%llu bytes are kept, the same command goes on from there",
				  (unsigned long long)f->have);
	return r;
}

static int open_part(struct fetch *f, struct err *err)
{
	const char *base = file_base(f->o->path);
	int dir = (int)(base - f->o->path);
	struct stat st, named;
	char *note;
	size_t len;

	if (file_path(f->part, sizeof(f->part), "%.*s.%s.part", dir, f->o->path, base) < 0 ||
	    file_path(f->note, sizeof(f->note), "%s.id", f->part) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", f->o->path);
	f->fd = open(f->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fd < 0)
		return err_set(err, -errno, "cannot write %s: %s", f->part, strerror(errno));
	/*
	 * Whoever held the lock may have given the file its final name: then it is not ours to
	 * write.
	 */
	if (flock(f->fd, LOCK_EX | LOCK_NB) < 0 || fstat(f->fd, &st) < 0 ||
	    stat(f->part, &named) < 0 || st.st_ino != named.st_ino)
		return err_set(err, -EEXIST, K(023) "%s is being fetched already", f->o->path);
	if (st.st_size == 0 && access(f->o->path, F_OK) == 0) {
		unlink(f->part);
		return err_set(err, -EEXIST, K(024) "%s exists already: it was fetched meanwhile",
			       f->o->path);
	}
	f->have = (uint64_t)st.st_size;
	if (fd_read_file(f->note, VALIDATOR_MAX - 1, &note, &len) == 0) {
		(void)str_copy(f->validator, sizeof(f->validator), note);
		free(note);
	}
	return 0;
}

/* Digest of a whole file as hexadecimal text. */
static int digest_file(int fd, const EVP_MD *md, char *out, size_t size)
{
	unsigned char buf[65536], sum[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned len = 0;
	off_t at = 0;
	ssize_t n;
	int r = ctx && EVP_DigestInit_ex(ctx, md, NULL) ? 0 : -ENOMEM;

	while (r == 0 && (n = pread(fd, buf, sizeof(buf), at)) != 0) {
		if (n < 0)
			r = -errno;
		else if (!EVP_DigestUpdate(ctx, buf, (size_t)n))
			r = -EIO;
		at += n > 0 ? n : 0;
	}
	if (r == 0 && (!EVP_DigestFinal_ex(ctx, sum, &len) || size < 2 * (size_t)len + 1))
		r = -EIO;
	for (unsigned i = 0; r == 0 && i < len; i++)
		r = file_path(out + 2 * (size_t)i, 3, "%02x", sum[i]);
	EVP_MD_CTX_free(ctx);
	return r;
}

/* The digest that a checksum is of and its hexadecimal digits, or NULL. */
static const EVP_MD *parse_checksum(const char *text, const char **hex)
{
	const EVP_MD *md;

	*hex = strchr(text, ':') ? strchr(text, ':') + 1 : text;
	if (strlen(*hex) == 64 && (*hex == text || strncasecmp(text, "sha256:", 7) == 0))
		md = EVP_sha256();
	else if (strlen(*hex) == 128 && (*hex == text || strncasecmp(text, "sha512:", 7) == 0))
		md = EVP_sha512();
	else
		return NULL;
	return (*hex)[strspn(*hex, "0123456789abcdefABCDEF")] ? NULL : md;
}

static int check_sum(int fd, const char *checksum, struct err *err)
{
	char have[2 * EVP_MAX_MD_SIZE + 1];
	const char *want;
	const EVP_MD *md;
	int r;

	if (!checksum)
		return 0;
	md = parse_checksum(checksum, &want);
	r = md ? digest_file(fd, md, have, sizeof(have)) : -EINVAL;
	if (r < 0)
		return err_set(err, r, "cannot check the checksum: %s", strerror(-r));
	if (strcasecmp(want, have) != 0)
		return err_set(err, -EBADMSG, K(061) "wrong checksum: the file has %s", have);
	return 0;
}

/* Gives the finished file its name. */
static int finish(int fd, const char *temp, const struct fetch_opts *o, struct err *err)
{
	char dir[PATH_MAX];
	const char *base = file_base(o->path);
	int r = check_sum(fd, o->checksum, err);

	if (r == -EBADMSG) {
		unlink(temp);
		(void)err_prefix(err, r, "%s is not kept", base);
	}
	if (r < 0)
		return r;
	if (fchmod(fd, 0644) < 0 || fsync(fd) < 0 || rename(temp, o->path) < 0)
		return err_set(err, -errno, "cannot write %s: %s", o->path, strerror(errno));
	if (file_path(dir, sizeof(dir), "%.*s", (int)(base - o->path), o->path) < 0)
		return -ENAMETOOLONG;
	return file_settle(dir, o->path, err);
}

static int check_opts(const struct fetch_opts *o, struct err *err)
{
	const char *hex;

	if (o->checksum && !parse_checksum(o->checksum, &hex))
		return err_set(
			err, -EINVAL,
			K(004) "'%.140s' is not a checksum: give the 64 digits of SHA-256 or 128 of SHA-512",
			o->checksum);
	return 0;
}

int fetch_url(const struct fetch_opts *o, struct err *err)
{
	struct fetch f = { .o = o, .fd = -1 };
	int r = check_opts(o, err);

	if (r == 0)
		r = lazy_load(LAZY_CURL, err);
	if (r == 0 && LAZY(curl_global_init)(CURL_GLOBAL_DEFAULT) != 0)
		r = err_set(err, -ENOMEM, "cannot start libcurl");
	if (r < 0)
		return r;
	r = open_part(&f, err);
	if (r == 0)
		r = try_all(&f, err);
	if (r == 0)
		r = finish(f.fd, f.part, o, err);
	if (r == 0 || r == -EBADMSG)
		unlink(f.note);
	if (r == 0)
		progress_end(o->progress);
	/* A part that cannot be continued is no use. */
	if (r < 0 && r != -EEXIST && f.fd >= 0 && (!f.have || !f.validator[0])) {
		unlink(f.part);
		unlink(f.note);
	}
	fd_close(&f.fd);
	LAZY(curl_global_cleanup)();
	return r;
}

int fetch_file(const char *from, const struct fetch_opts *o, struct err *err)
{
	struct fetch f = { .o = o, .fd = -1 };
	int in, r = check_opts(o, err);

	if (r < 0)
		return r;
	in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return err_set(err, -errno, "cannot read %s: %s", from, strerror(errno));
	r = open_part(&f, err);
	if (r == 0) {
		/* What a download has left there is of no use. */
		unlink(f.note);
		r = ftruncate(f.fd, 0) < 0 ? -errno : storage_copy(in, f.fd, o->progress);
		if (r < 0)
			err_set(err, r, "cannot copy %s: %s", from, strerror(-r));
	}
	if (r == 0)
		r = finish(f.fd, f.part, o, err);
	if (r == 0)
		progress_end(o->progress);
	if (r < 0 && r != -EEXIST && f.fd >= 0)
		unlink(f.part);
	close(in);
	fd_close(&f.fd);
	return r;
}

int fetch_check(const char *path, const char *checksum, struct err *err)
{
	struct fetch_opts o = { .path = path, .checksum = checksum };
	int fd, r = check_opts(&o, err);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	r = check_sum(fd, checksum, err);
	close(fd);
	return r;
}

int fetch_digest(const char *path, char *out, size_t size, struct err *err)
{
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = digest_file(fd, EVP_sha256(), hex, sizeof(hex));
	if (r == 0)
		r = file_path(out, size, "sha256:%s", hex);
	fd_close(&fd);
	return r < 0 ? err_set(err, r, "cannot read %s: %s", path, strerror(-r)) : 0;
}

/* --- short texts --- */

struct text {
	char *data;
	size_t len, max;
};

static size_t on_text(char *data, size_t one, size_t len, void *arg)
{
	struct text *t = arg;
	char *more;

	(void)one;
	if (len > t->max - t->len)
		return 0;
	more = realloc(t->data, t->len + len + 1);
	if (!more)
		return 0;
	memcpy(more + t->len, data, len);
	t->data = more;
	t->len += len;
	more[t->len] = '\0';
	return len;
}

int fetch_text(const struct fetch_opts *o, size_t max, char **out, size_t *len, struct err *err)
{
	struct text t = { .max = max };
	char text[CURL_ERROR_SIZE] = "";
	CURLcode code = CURLE_FAILED_INIT;
	CURL *c = NULL;

	if (lazy_load(LAZY_CURL, NULL) == 0 && LAZY(curl_global_init)(CURL_GLOBAL_DEFAULT) == 0)
		c = LAZY(curl_easy_init)();
	if (c) {
		set_common(c, o, text);
		LAZY(curl_easy_setopt)(c, CURLOPT_WRITEFUNCTION, on_text);
		LAZY(curl_easy_setopt)(c, CURLOPT_WRITEDATA, &t);
		code = LAZY(curl_easy_perform)(c);
		LAZY(curl_easy_cleanup)(c);
		LAZY(curl_global_cleanup)();
	}
	if (code == CURLE_OK && t.data) {
		*out = t.data;
		*len = t.len;
		return 0;
	}
	free(t.data);
	if (code == CURLE_OK || code == CURLE_HTTP_RETURNED_ERROR ||
	    code == CURLE_REMOTE_FILE_NOT_FOUND)
		return err_set(err, -ENOENT, "there is no %s", o->url);
	return err_set(err, -EIO, K(060) "cannot fetch %s: %s", o->url,
		       text[0] ? text : LAZY(curl_easy_strerror)(code));
}
