/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/cert.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "manager/file.h"
#include "util/err.h"

#define DAYS 3650

static bool add_extension(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

/* Names of guests are letters, digits and few signs: nothing that this list has a meaning for. */
static bool add_names(X509 *cert, const char *name)
{
	char host[65] = "", names[512];
	int n;

	if (gethostname(host, sizeof(host) - 1) < 0 || !*host || strpbrk(host, ",: "))
		snprintf(host, sizeof(host), "localhost");
	n = snprintf(names, sizeof(names), "DNS:%s,DNS:localhost,DNS:%s,IP:127.0.0.1,IP:::1", host,
		     name);
	return n > 0 && (size_t)n < sizeof(names) &&
	       add_extension(cert, NID_subject_alt_name, names);
}

static bool fill(X509 *cert, EVP_PKEY *key, const char *name)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	uint64_t serial = 0;

	return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
	       ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1 | 1) &&
	       X509_set_version(cert, X509_VERSION_3) &&
	       X509_gmtime_adj(X509_getm_notBefore(cert), -86400) && /* clocks differ */
	       X509_time_adj_ex(X509_getm_notAfter(cert), DAYS, 0, NULL) &&
	       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name,
					  (int)strnlen(name, ub_common_name), -1, 0) &&
	       X509_set_issuer_name(cert, subject) && X509_set_pubkey(cert, key) &&
	       add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(cert, NID_ext_key_usage, "serverAuth") && add_names(cert, name) &&
	       X509_sign(cert, key, EVP_sha256());
}

int cert_ensure(const char *path, const char *name, struct err *err)
{
	EVP_PKEY *key;
	X509 *cert;
	BIO *out;
	char *pem = NULL;
	long len = 0;
	int r;

	if (access(path, F_OK) == 0)
		return 0;
	key = EVP_EC_gen("P-256");
	cert = X509_new();
	out = BIO_new(BIO_s_secmem());
	if (key && cert && out && fill(cert, key, name) &&
	    PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) &&
	    PEM_write_bio_X509(out, cert))
		len = BIO_get_mem_data(out, &pem);
	r = len > 0 ? file_write_atomic(path, pem, (size_t)len, 0600, err)
		    : err_set(err, -EIO, "cannot make a certificate for %s", name);
	BIO_free(out);
	X509_free(cert);
	EVP_PKEY_free(key);
	return r;
}
