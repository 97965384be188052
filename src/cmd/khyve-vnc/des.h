/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_DES_H
#define CMD_KHYVE_VNC_DES_H

#include <stdint.h>

/*
 * DES (FIPS 46-3), one block, for VNC authentication and nothing else. OpenSSL 3 offers DES only through its legacy
 * provider, which a host may not have installed or configured, or through deprecated calls; and a program that reads
 * bytes from the network is better off without a library of 5 MB.
 */
void des_encrypt_block(const uint8_t key[8], const uint8_t in[8], uint8_t out[8]);

#endif
