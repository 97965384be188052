/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_VERIFY_H
#define MANAGER_VERIFY_H

struct err;

/*
 * What can be known of a file on a server before it is fetched: its checksum in a list beside it
 * (SHA512SUMS, SHA256SUMS, NAME.sha512, NAME.sha256), and who signed that list (LIST.sign, LIST.gpg
 * or LIST.asc, looked at by gpgv).
 */
struct verify {
	char checksum[140]; /* as fetch_opts takes it; "": none was found */
	char list[300]; /* the list's name */
	char signer[200]; /* "": nobody that is known here */
	char why[300]; /* why there is no signer */
};

#define VERIFY_KEYRINGS "/usr/share/keyrings"

/*
 * name: of the file in the list. keyring: the signature has to be there and by one of its keys, or
 * NULL: those of the distribution are tried. -EBADMSG: the signature is wrong; -ENOKEY: keyring was
 * given, and there is no signature by it.
 */
int verify_find(const char *url, const char *name, const char *keyring, int ip, struct verify *out,
		struct err *err);

#endif
