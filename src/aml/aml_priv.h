/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef AML_AML_PRIV_H
#define AML_AML_PRIV_H

#include <stddef.h>

struct aml;

/* Appends bytes as they are. */
void aml_put(struct aml *a, const void *data, size_t len);

#endif
