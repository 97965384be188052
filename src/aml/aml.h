/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef AML_AML_H
#define AML_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Writes ACPI machine language (ACPI 6.4 chapter 20) into a buffer that grows. Constructs with a body are opened with
 * aml_begin_*() and closed with aml_end(), innermost first. Errors (no memory, too deep, unbalanced) stick: later calls
 * do nothing, and aml_error() tells at the end. One thread.
 */
#define AML_DEPTH_MAX 12

struct aml {
	uint8_t *buf; /* owned; valid until the next call */
	size_t len, room;
	int error; /* 0 or -errno */
	struct {
		size_t at; /* where the package length goes */
		bool resources;
	} open[AML_DEPTH_MAX];
	unsigned int depth;
};

void aml_init(struct aml *a);
/* Frees the buffer. Accepts one never used (zeroed). */
void aml_fini(struct aml *a);
/* 0 if everything was written and closed, else -ENOMEM, or -EINVAL for a misuse. */
int aml_error(const struct aml *a);

/* --- constructs with a body --- */
/* Names: segments of up to 4 characters A-Z 0-9 _, joined by dots, with \ or ^ in front: "\\_SB.PCI0". */
void aml_begin_scope(struct aml *a, const char *name);
void aml_begin_device(struct aml *a, const char *name);
void aml_begin_method(struct aml *a, const char *name, unsigned int args, bool serialized);
/* count elements follow; 0..255. */
void aml_begin_package(struct aml *a, unsigned int count);
/* The condition follows, then the body. */
void aml_begin_if(struct aml *a);
void aml_begin_else(struct aml *a);
/* Name(name, ResourceTemplate() { ... }); only aml_res_*() inside. */
void aml_begin_resources(struct aml *a, const char *name);
void aml_end(struct aml *a);

/* --- objects --- */
/* Name(name, ...): the object follows. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_buffer(struct aml *a, const void *data, size_t len);
/* Compressed id such as "PNP0A08" (ACPI 6.4 s6.1.5). */
void aml_eisa_id(struct aml *a, const char *id);
/* ToUUID("...") */
void aml_uuid(struct aml *a, const char *uuid);
/* Short forms of aml_name and one object. */
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_name_eisa_id(struct aml *a, const char *name, const char *id);

/* --- terms of methods: an operator, then its operands in the order of the specification --- */
enum aml_op {
	AML_ZERO = 0x00, /* also a null target */
	AML_ARG0 = 0x68,
	AML_AND = 0x7b, /* a, b, target */
	AML_OR = 0x7d, /* a, b, target */
	AML_CREATE_DWORD_FIELD = 0x8a, /* buffer, byte offset, name */
	AML_LEQUAL = 0x93,
	AML_RETURN = 0xa4,
};
void aml_op(struct aml *a, enum aml_op op);
/* A name as an operand or target. */
void aml_ref(struct aml *a, const char *name);

/* --- resource descriptors (ACPI 6.4 s6.4) --- */
/* Ports [base, base + len), decoded in full; len 1..255. */
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
/* One ISA interrupt: edge, active high, exclusive. */
void aml_res_irq(struct aml *a, unsigned int irq);
void aml_res_mem32(struct aml *a, uint32_t base, uint32_t len);
/* Windows that a bridge passes on; first and last are inclusive. */
void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_mem32_window(struct aml *a, uint32_t first, uint32_t last, bool cacheable);
void aml_res_mem64_window(struct aml *a, uint64_t first, uint64_t last, bool cacheable);

#endif
