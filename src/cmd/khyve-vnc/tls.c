/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "util/err.h"
#include "util/macros.h"

#define PEM_MAX 65536
#define LIBRARY "libssl.so.3" /* in Debian 12 and 13 alike; brings libcrypto */

/* Without certificate: TLS 1.3 has no such thing, and OpenSSL counts it as no security at all. */
#define ANONYMOUS "ADH-AES256-GCM-SHA384:AECDH-AES256-SHA:@SECLEVEL=0"

/* clang-format off */
#define FUNCTIONS(F) \
	F(OPENSSL_init_ssl) F(TLS_server_method) F(ERR_clear_error) F(BIO_new_mem_buf) F(BIO_free) \
	F(PEM_read_bio_PrivateKey) F(PEM_read_bio_X509) F(EVP_PKEY_free) F(X509_free) \
	F(SSL_CTX_new) F(SSL_CTX_free) F(SSL_CTX_ctrl) F(SSL_CTX_set_options) \
	F(SSL_CTX_set_cipher_list) F(SSL_CTX_set_num_tickets) F(SSL_CTX_use_PrivateKey) \
	F(SSL_CTX_use_certificate) F(SSL_CTX_check_private_key) F(SSL_new) F(SSL_free) F(SSL_set_fd) \
	F(SSL_accept) F(SSL_read) F(SSL_write) F(SSL_get_error) F(SSL_pending)
/* clang-format on */

struct library {
#define MEMBER(name) __typeof__(&name) name;
	FUNCTIONS(MEMBER)
#undef MEMBER
};

struct tls {
	struct library l;
	SSL_CTX *certified, *anonymous;
};

struct tls_conn {
	const struct library *l;
	SSL *ssl;
};

static int load(struct library *l, struct err *err)
{
	static const char *const names[] = {
#define NAME(name) #name,
		FUNCTIONS(NAME)
#undef NAME
	};
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_NODELETE);
	void *found[ARRAY_LEN(names)];

	_Static_assert(sizeof(found) == sizeof(*l), "one pointer for each name");
	if (!lib)
		return err_set(err, -ENOENT, "TLS needs " LIBRARY ": apt install libssl3");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		found[i] = dlsym(lib, names[i]);
		if (!found[i])
			return err_set(err, -ENOENT, LIBRARY " lacks %s", names[i]);
	}
	memcpy(l, found, sizeof(found));
	/* The host's openssl.cnf is for other programs. */
	if (!l->OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL))
		return err_set(err, -EIO, LIBRARY " cannot be started");
	return 0;
}

static SSL_CTX *new_context(const struct library *l, long max_version)
{
	SSL_CTX *ctx = l->SSL_CTX_new(l->TLS_server_method());

	if (!ctx)
		return NULL;
	l->SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	l->SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
	l->SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MAX_PROTO_VERSION, max_version, NULL);
	l->SSL_CTX_ctrl(ctx, SSL_CTRL_MODE,
			SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				SSL_MODE_RELEASE_BUFFERS,
			NULL);
	l->SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
	l->SSL_CTX_set_num_tickets(ctx, 0);
	return ctx;
}

/* Nobody is there to be asked for a pass phrase. */
static int no_pass_phrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static bool use_pem(struct tls *t, const char *pem, size_t len)
{
	const struct library *l = &t->l;
	BIO *first = l->BIO_new_mem_buf(pem, (int)len), *second = l->BIO_new_mem_buf(pem, (int)len);
	EVP_PKEY *key =
		first ? l->PEM_read_bio_PrivateKey(first, NULL, no_pass_phrase, NULL) : NULL;
	X509 *cert = second ? l->PEM_read_bio_X509(second, NULL, no_pass_phrase, NULL) : NULL;
	bool ok = key && cert && l->SSL_CTX_use_certificate(t->certified, cert) == 1 &&
		  l->SSL_CTX_use_PrivateKey(t->certified, key) == 1 &&
		  l->SSL_CTX_check_private_key(t->certified) == 1;

	l->X509_free(cert);
	l->EVP_PKEY_free(key);
	l->BIO_free(second);
	l->BIO_free(first);
	l->ERR_clear_error();
	return ok;
}

static int read_pem(struct tls *t, int fd, struct err *err)
{
	char *pem = malloc(PEM_MAX);
	ssize_t n = pem ? pread(fd, pem, PEM_MAX, 0) : -1;
	int rc = 0;

	if (!pem)
		return err_set(err, -ENOMEM, "out of memory");
	if (n < 0)
		rc = err_set(err, -errno, "--tls-fd %d: %s", fd, strerror(errno));
	else if (!use_pem(t, pem, (size_t)n))
		rc = err_set(err, -EINVAL,
			     "--tls-fd %d: no private key with its certificate in PEM format", fd);
	explicit_bzero(pem, PEM_MAX);
	free(pem);
	return rc;
}

int tls_new(int fd, struct tls **out, struct err *err)
{
	struct tls *t = calloc(1, sizeof(*t));
	int rc = t ? load(&t->l, err) : err_set(err, -ENOMEM, "out of memory");

	if (rc < 0) {
		free(t);
		return rc;
	}
	t->certified = new_context(&t->l, 0);
	t->anonymous = new_context(&t->l, TLS1_2_VERSION);
	if (!t->certified || !t->anonymous ||
	    !t->l.SSL_CTX_set_cipher_list(t->anonymous, ANONYMOUS) ||
	    !t->l.SSL_CTX_ctrl(t->anonymous, SSL_CTRL_SET_DH_AUTO, 1, NULL))
		rc = err_set(err, -ENOMEM, LIBRARY " cannot be set up");
	if (rc == 0)
		rc = read_pem(t, fd, err);
	if (rc < 0) {
		tls_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	t->l.SSL_CTX_free(t->certified);
	t->l.SSL_CTX_free(t->anonymous);
	free(t);
}

struct tls_conn *tls_accept(struct tls *t, int fd, bool anonymous)
{
	struct tls_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->l = &t->l;
	c->ssl = t->l.SSL_new(anonymous ? t->anonymous : t->certified);
	if (!c->ssl || !t->l.SSL_set_fd(c->ssl, fd)) {
		tls_close(c);
		return NULL;
	}
	return c;
}

void tls_close(struct tls_conn *c)
{
	if (!c)
		return;
	c->l->SSL_free(c->ssl);
	free(c);
}

/* -EAGAIN, or why it is over. */
static int reason(const struct tls_conn *c, int rc, int waits_for)
{
	int why = c->l->SSL_get_error(c->ssl, rc);

	c->l->ERR_clear_error();
	if (why == waits_for)
		return -EAGAIN;
	/*
	 * One that waits for the other direction while data flow has new keys made when nothing can be sent: no viewer
	 * does that, and waiting for it would be a busy loop.
	 */
	return why == SSL_ERROR_ZERO_RETURN ? -ECONNRESET : -EPROTO;
}

int tls_handshake(struct tls_conn *c, bool *write)
{
	int rc = c->l->SSL_accept(c->ssl), why;

	if (rc == 1)
		return 1;
	why = c->l->SSL_get_error(c->ssl, rc);
	c->l->ERR_clear_error();
	*write = why == SSL_ERROR_WANT_WRITE;
	return why == SSL_ERROR_WANT_READ || *write ? 0 : -EPROTO;
}

ssize_t tls_read(struct tls_conn *c, void *buf, size_t len)
{
	int rc = c->l->SSL_read(c->ssl, buf, (int)MIN(len, (size_t)INT_MAX));

	return rc > 0 ? rc : reason(c, rc, SSL_ERROR_WANT_READ);
}

ssize_t tls_write(struct tls_conn *c, const void *buf, size_t len)
{
	int rc = c->l->SSL_write(c->ssl, buf, (int)MIN(len, (size_t)INT_MAX));

	return rc > 0 ? rc : reason(c, rc, SSL_ERROR_WANT_WRITE);
}

bool tls_pending(const struct tls_conn *c)
{
	return c->l->SSL_pending(c->ssl) > 0;
}
