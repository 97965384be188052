/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* The RFB server: VeNCrypt, with OpenSSL's client on the other side and the certificate that vm makes. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "unit/rfb_bench.h"

#include "manager/cert.h"

#define PASSWORD "longer than eight"

enum { TLS_NONE = 257, TLS_VNC, TLS_PLAIN, X509_NONE, X509_VNC, X509_PLAIN };

static SSL_CTX *contexts[2]; /* with certificate, anonymous */
static int pem_fd = -1;

static ssize_t result(SSL *ssl, int rc)
{
	int why = SSL_get_error(ssl, rc);

	ERR_clear_error();
	if (rc > 0)
		return rc;
	if (why == SSL_ERROR_ZERO_RETURN || why == SSL_ERROR_SSL || why == SSL_ERROR_SYSCALL)
		return 0;
	errno = EAGAIN;
	return -1;
}

static ssize_t client_send(void *ssl, const void *data, size_t len)
{
	return result(ssl, SSL_write(ssl, data, (int)len));
}

static ssize_t client_recv(void *ssl, void *data, size_t len)
{
	return result(ssl, SSL_read(ssl, data, (int)len));
}

/* The certificate is made by the code that makes guests' ones, and is what viewers trust here. */
static void set_up(void)
{
	char path[] = "/tmp/khyve-test-pem-XXXXXX";
	struct err err = { .text = "" };
	struct stat st;

	signal(SIGPIPE, SIG_IGN);
	CHECK(mkdtemp(path));
	{
		char file[64];

		snprintf(file, sizeof(file), "%s/vnc.pem", path);
		CHECK_EQ(cert_ensure(file, "test-guest", &err), 0);
		CHECK_EQ(stat(file, &st), 0);
		CHECK_EQ(st.st_mode & 07777, 0600);
		CHECK_EQ(cert_ensure(file, "other", &err), 0); /* stays */
		pem_fd = open(file, O_RDONLY | O_CLOEXEC);
		CHECK(pem_fd >= 0);
		contexts[0] = SSL_CTX_new(TLS_client_method());
		contexts[1] = SSL_CTX_new(TLS_client_method());
		CHECK_EQ(SSL_CTX_load_verify_locations(contexts[0], file, NULL), 1);
		unlink(file);
		rmdir(path);
	}
	SSL_CTX_set_verify(contexts[0], SSL_VERIFY_PEER, NULL);
	CHECK(SSL_CTX_set_cipher_list(contexts[1], "aNULL:@SECLEVEL=0"));
	SSL_CTX_set_max_proto_version(contexts[1], TLS1_2_VERSION);
	for (int i = 0; i < 2; i++)
		SSL_CTX_set_mode(contexts[i], SSL_MODE_ENABLE_PARTIAL_WRITE |
						      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void tear_down(void)
{
	SSL_CTX_free(contexts[0]);
	SSL_CTX_free(contexts[1]);
	fd_close(&pem_fd);
}

static struct bench *bench(const char *password)
{
	return bench_new_tls(password, 4, pem_fd);
}

/* Up to the choice of a subtype; returns whether it was offered. */
static bool choose(struct viewer *v, uint32_t subtype)
{
	uint8_t wire[4];
	bool found = false;

	viewer_version(v, "RFB 003.008\n");
	CHECK_EQ(viewer_recv_u16(v), 0x100 | RFB_SECURITY_VENCRYPT);
	viewer_send(v, "\x13", 1);
	CHECK_EQ(viewer_recv_u16(v), 2);
	viewer_send(v, "\0\2", 2);
	CHECK_EQ(viewer_recv_u8(v), 0);
	for (unsigned int n = viewer_recv_u8(v); n; n--)
		found |= viewer_recv_u32(v) == subtype;
	put_be32(wire, subtype);
	viewer_send(v, wire, 4);
	return found;
}

static void start_tls(struct viewer *v, bool anonymous)
{
	SSL *ssl = SSL_new(contexts[anonymous]);
	int rc = 0;

	CHECK_EQ(SSL_set_fd(ssl, v->fd), 1);
	SSL_set1_host(ssl, "localhost");
	for (int i = 0; i < 1000 && rc != 1; i++) {
		rc = SSL_connect(ssl);
		if (rc != 1 && SSL_get_error(ssl, rc) != SSL_ERROR_WANT_READ)
			CHECK_FAIL("handshake: %s", ERR_error_string(ERR_get_error(), NULL));
		bench_step(v->b);
	}
	CHECK_EQ(rc, 1);
	CHECK_EQ(SSL_version(ssl), anonymous ? TLS1_2_VERSION : TLS1_3_VERSION);
	v->tls = ssl;
	v->tls_send = client_send;
	v->tls_recv = client_recv;
}

static void leave(struct viewer *v)
{
	SSL_free(v->tls);
	viewer_free(v);
}

static void send_plain(struct viewer *v, const char *user, const char *password)
{
	uint8_t m[256] = { 0 };
	size_t u = strlen(user), p = strlen(password);

	put_be32(m, (uint32_t)u);
	put_be32(m + 4, (uint32_t)p);
	memcpy(m + 8, user, u);
	memcpy(m + 8 + u, password, p);
	viewer_send(v, m, 8 + u + p);
}

static struct viewer *connect_viewer(struct bench *b, uint32_t subtype, const char *password)
{
	struct viewer *v = viewer_new(b);
	char reason[80];

	CHECK(choose(v, subtype));
	CHECK_EQ(viewer_recv_u8(v), 1);
	start_tls(v, subtype < X509_NONE);
	if (subtype == TLS_VNC || subtype == X509_VNC)
		viewer_answer(v, password);
	if (subtype == TLS_PLAIN || subtype == X509_PLAIN)
		send_plain(v, "anybody", password);
	CHECK_EQ(viewer_result(v, 8, reason, sizeof(reason)), 0);
	viewer_init(v);
	return v;
}

/* Every subtype, to a picture and a key. */
static void subtypes(void)
{
	for (uint32_t type = TLS_NONE; type <= X509_PLAIN; type++) {
		bool open = type == TLS_NONE || type == X509_NONE;
		struct bench *b = bench(open ? NULL : PASSWORD);
		struct viewer *v = connect_viewer(b, type, PASSWORD);

		CHECK_STR(v->name, "test guest");
		for (unsigned int kind = 0; kind < 2; kind++) {
			bench_picture(b, kind);
			viewer_refresh(v);
			CHECK(viewer_sees_screen(v));
		}
		viewer_key(v, 'a', true);
		bench_settle(b);
		CHECK_EQ(b->n_keys, 1);
		leave(v);
		bench_settle(b);
		CHECK_EQ(b->server->viewers, 0);
		bench_free(b);
	}
}

static void subtypes_not_offered(void)
{
	static const uint32_t with_password[] = { 0, 1, 2, 256, TLS_NONE, X509_NONE, 263, ~0u };
	static const uint32_t without[] = { 0, 1, 256, TLS_VNC, TLS_PLAIN, X509_VNC, X509_PLAIN };

	for (size_t i = 0; i < ARRAY_LEN(with_password) + ARRAY_LEN(without); i++) {
		bool first = i < ARRAY_LEN(with_password);
		struct bench *b = bench(first ? PASSWORD : NULL);
		struct viewer *v = viewer_new(b);

		CHECK(!choose(v, first ? with_password[i] : without[i - ARRAY_LEN(with_password)]));
		CHECK_EQ(viewer_recv_u8(v), 0);
		bench_advance(b, CLIENT_LINGER_NS);
		CHECK(viewer_closed(v));
		CHECK_EQ(b->client_reports, 0);
		viewer_free(v);
		bench_free(b);
	}
}

/* V-02: no way around TLS. */
static void no_plain_way(void)
{
	static const char choices[] = { 1, 2, 0, 16 };
	struct bench *b = bench(NULL);
	struct viewer *v = viewer_new(b);
	char reason[80] = "";

	viewer_version(v, "RFB 003.003\n");
	CHECK_EQ(viewer_recv_u32(v), 0);
	viewer_recv(v, reason, viewer_recv_u32(v));
	CHECK_STR(reason, "This screen is shown to viewers that know VeNCrypt only");
	viewer_free(v);
	for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
		v = viewer_new(b);
		viewer_version(v, "RFB 003.008\n");
		CHECK_EQ(viewer_recv_u16(v), 0x100 | RFB_SECURITY_VENCRYPT);
		viewer_send(v, &choices[i], 1);
		CHECK_EQ(viewer_result(v, 8, reason, sizeof(reason)), 1);
		viewer_free(v);
	}
	v = viewer_new(b);
	viewer_version(v, "RFB 003.008\n");
	viewer_recv_u16(v);
	viewer_send(v, "\x13\0\1", 3); /* VeNCrypt 0.1 */
	CHECK_EQ(viewer_recv_u16(v), 2);
	CHECK_EQ(viewer_recv_u8(v), 1);
	viewer_free(v);
	bench_settle(b);
	CHECK_EQ(b->client_reports, 0);
	bench_free(b);
}

/* Plain bytes behind the choice are not taken for what came through TLS. */
static void nothing_slipped_in(void)
{
	struct bench *b = bench(NULL);
	struct viewer *v = viewer_new(b);

	viewer_version(v, "RFB 003.008\n");
	viewer_send(v, "\x13\0\2\0\0\1\4\1", 8);
	CHECK(viewer_closed(v));
	viewer_free(v);
	bench_free(b);
}

/* V-03 in TLS; only the whole password is one in Plain. */
static void wrong_passwords(void)
{
	static const char *const wrong[] = { "", "longer t", "longer than eigh", PASSWORD "!",
					     "x" };
	struct bench *b = bench(PASSWORD);
	uint64_t start = loop_now(b->loop);
	struct viewer *v;
	char reason[80];

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		v = viewer_new(b);
		CHECK(choose(v, X509_PLAIN));
		CHECK_EQ(viewer_recv_u8(v), 1);
		start_tls(v, false);
		send_plain(v, "root", wrong[i]);
		CHECK_EQ(viewer_result(v, 8, reason, sizeof(reason)), 1);
		CHECK_STR(reason, "Wrong password");
		leave(v);
	}
	CHECK(loop_now(b->loop) - start > 3 * AUTH_DELAY_FIRST_NS);
	CHECK_EQ(b->clients, 0);
	v = connect_viewer(b, X509_PLAIN, PASSWORD);
	leave(v);
	bench_free(b);
}

static void plain_nonsense(void)
{
	static const char *const names[] = { "\0\0\1\0\0\0\0\1", "\0\0\0\1\xff\xff\xff\xff",
					     "\xff\xff\xff\xf8\0\0\0\0" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct bench *b = bench(PASSWORD);
		struct viewer *v = viewer_new(b);

		CHECK(choose(v, TLS_PLAIN));
		CHECK_EQ(viewer_recv_u8(v), 1);
		start_tls(v, true);
		viewer_send(v, names[i], 8);
		CHECK(viewer_closed(v));
		leave(v);
		bench_free(b);
	}
}

/* A record longer than what is read at a time comes through, with no event of the socket in between. */
static void long_records(void)
{
	static uint8_t moves[15996];
	struct bench *b = bench(NULL);
	struct viewer *v = connect_viewer(b, X509_NONE, NULL);

	for (size_t i = 0; i < sizeof(moves); i += 6) {
		moves[i] = RFB_POINTER;
		put_be16(moves + i + 2, (uint16_t)(i / 6));
	}
	viewer_send(v, moves, sizeof(moves));
	bench_settle(b);
	CHECK_EQ(b->pointer.x, sizeof(moves) / 6 - 1);
	leave(v);
	bench_free(b);
}

/* V-01: garbage, silence and half a hello where TLS is to begin. */
static void broken_hellos(void)
{
	static const char hello[] = "\x16\3\1\0\xc8\1\0\0\xc4\3\3";

	for (int i = 0; i < 3; i++) {
		struct bench *b = bench(NULL);
		struct viewer *v = viewer_new(b);

		CHECK(choose(v, i == 1 ? TLS_NONE : X509_NONE));
		CHECK_EQ(viewer_recv_u8(v), 1);
		if (i == 0)
			viewer_send(v, "GET / HTTP/1.1\r\n\r\n", 18);
		if (i == 1)
			viewer_send(v, hello, sizeof(hello) - 1);
		bench_settle(b);
		CHECK_EQ(b->server->handshakes, i > 0);
		bench_advance(b, CLIENT_HANDSHAKE_NS);
		CHECK_EQ(b->server->handshakes, 0);
		CHECK(viewer_closed(v));
		viewer_free(v);
		bench_free(b);
	}
}

/* V-08 in TLS: one piece waits, and after 30 s the viewer is gone; others are served meanwhile. */
static void stalled(void)
{
	struct bench *b = bench(NULL);
	struct viewer *v, *w;
	struct client *c;

	bench_mode(b, 1920, 1080);
	bench_picture(b, 0);
	v = connect_viewer(b, X509_NONE, NULL);
	c = list_first(&b->server->clients, struct client, link);
	viewer_request_all(v, false);
	bench_settle(b);
	CHECK(c->out_len > 0 && c->out_len <= ENC_MAX_SIZE + 64);
	w = connect_viewer(b, TLS_NONE, NULL);
	viewer_refresh(w);
	CHECK(viewer_sees_screen(w));
	CHECK_EQ(b->server->viewers, 2);
	bench_advance(b, CLIENT_STALL_NS);
	CHECK_EQ(b->server->viewers, 1);
	leave(v);
	leave(w);
	bench_free(b);
}

/* Nothing asked for: nothing runs, with TLS as without. */
static void idle(void)
{
	struct bench *b = bench(NULL);
	struct viewer *v = connect_viewer(b, X509_NONE, NULL);
	struct loop_stats before, after;

	viewer_refresh(v);
	bench_advance(b, NS_PER_SEC);
	loop_stats_get(b->loop, &before);
	bench_advance(b, 3600 * NS_PER_SEC);
	loop_stats_get(b->loop, &after);
	CHECK_EQ(after.callbacks, before.callbacks);
	leave(v);
	bench_free(b);
}

/* A file that is none of ours is refused with a reason. */
static void bad_files(void)
{
	static const char *const texts[] = { "", "-----BEGIN PRIVATE KEY-----\nAAAA\n", "\0\1\2" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		int fd = fd_memfd("bad", 64);
		struct err err = { .text = "" };
		struct tls *t = NULL;

		CHECK(fd >= 0);
		CHECK(pwrite(fd, texts[i], strlen(texts[i]), 0) >= 0);
		CHECK_EQ(tls_new(fd, &t, &err), -EINVAL);
		CHECK(!t && strstr(err.text, "no private key with its certificate"));
		fd_close(&fd);
	}
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "subtypes", subtypes },
		{ "subtypes_not_offered", subtypes_not_offered },
		{ "no_plain_way (V-02)", no_plain_way },
		{ "nothing_slipped_in", nothing_slipped_in },
		{ "wrong_passwords (V-03)", wrong_passwords },
		{ "plain_nonsense", plain_nonsense },
		{ "long_records", long_records },
		{ "broken_hellos (V-01)", broken_hellos },
		{ "stalled (V-08)", stalled },
		{ "idle", idle },
		{ "bad_files", bad_files },
	};
	int status;

	set_up();
	status = RUN_CASES(cases, argc, argv);
	tear_down();
	return status;
}
