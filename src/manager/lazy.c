/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/lazy.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>

#include "util/err.h"
#include "util/str.h"

void *lazy_find(const char *name) __attribute__((used));

static void *open_library(enum lazy_lib lib)
{
	/* Their names in Debian 12 and 13 alike. */
	static const char *const files[] = { "libcurl.so.4", "libarchive.so.13" };

	return dlopen(files[lib], RTLD_NOW | RTLD_NODELETE);
}

int lazy_load(enum lazy_lib lib, struct err *err)
{
	if (open_library(lib))
		return 0;
	return err_set(err, -ENOENT, K(031) "%s is not installed: apt install %s",
		       lib == LAZY_CURL ? "libcurl" : "libarchive",
		       lib == LAZY_CURL ? "libcurl4" : "libarchive13");
}

/* Called by the stubs below. */
void *lazy_find(const char *name)
{
	void *lib = open_library(str_starts(name, "curl_") ? LAZY_CURL : LAZY_ARCHIVE);
	void *fn = lib ? dlsym(lib, name) : NULL;

	assert(fn);
	return fn;
}

/*
 * A stub has a function's name, looks for the real one and goes there with all arguments as they
 * were: System V ABI, x86-64, s3.2.3. What it saves keeps the stack at a multiple of 16.
 */
__asm__(".text\n"
	".type lazy_jump, @function\n"
	"lazy_jump:\n"
	"	pushq %rbp\n"
	"	movq %rsp, %rbp\n"
	"	pushq %rax\n"
	"	pushq %rdi\n"
	"	pushq %rsi\n"
	"	pushq %rdx\n"
	"	pushq %rcx\n"
	"	pushq %r8\n"
	"	pushq %r9\n"
	"	pushq %r10\n"
	"	movq %r11, %rdi\n"
	"	call lazy_find\n"
	"	movq %rax, %r11\n"
	"	popq %r10\n"
	"	popq %r9\n"
	"	popq %r8\n"
	"	popq %rcx\n"
	"	popq %rdx\n"
	"	popq %rsi\n"
	"	popq %rdi\n"
	"	popq %rax\n"
	"	popq %rbp\n"
	"	jmp *%r11\n"
	".size lazy_jump, . - lazy_jump\n");

/* clang-format off */
#define STUB(name)                            \
	__asm__(".globl " #name "\n"          \
		".type " #name ", @function\n"\
		#name ":\n"                   \
		"	endbr64\n"            \
		"	leaq .Lname_" #name "(%rip), %r11\n" \
		"	jmp lazy_jump\n"      \
		".size " #name ", . - " #name "\n" \
		".pushsection .rodata\n"      \
		".Lname_" #name ":\n"         \
		"	.asciz \"" #name "\"\n" \
		".popsection\n")
/* clang-format on */

STUB(archive_entry_filetype);
STUB(archive_entry_free);
STUB(archive_entry_new);
STUB(archive_entry_pathname);
STUB(archive_entry_set_filetype);
STUB(archive_entry_set_pathname);
STUB(archive_entry_set_perm);
STUB(archive_entry_set_size);
STUB(archive_entry_size);
STUB(archive_entry_size_is_set);
STUB(archive_errno);
STUB(archive_error_string);
STUB(archive_filter_bytes);
STUB(archive_filter_count);
STUB(archive_read_data_block);
STUB(archive_read_free);
STUB(archive_read_new);
STUB(archive_read_next_header);
STUB(archive_read_open);
STUB(archive_read_open_filename);
STUB(archive_read_support_filter_bzip2);
STUB(archive_read_support_filter_lz4);
STUB(archive_read_support_filter_xz);
STUB(archive_read_support_filter_zstd);
STUB(archive_read_support_format_raw);
STUB(archive_read_support_format_tar);
STUB(archive_set_error);
STUB(archive_write_close);
STUB(archive_write_data);
STUB(archive_write_free);
STUB(archive_write_header);
STUB(archive_write_new);
STUB(archive_write_open_fd);
STUB(archive_write_set_bytes_per_block);
STUB(archive_write_set_format_iso9660);
STUB(archive_write_set_options);
STUB(archive_write_set_format_pax);
STUB(archive_write_add_filter_zstd);
STUB(archive_entry_sparse_count);
STUB(archive_entry_sparse_add_entry);
STUB(archive_entry_set_mtime);
STUB(curl_easy_cleanup);
STUB(curl_easy_getinfo);
STUB(curl_easy_init);
STUB(curl_easy_perform);
STUB(curl_easy_setopt);
STUB(curl_easy_strerror);
STUB(curl_global_cleanup);
STUB(curl_global_init);
STUB(curl_slist_append);
STUB(curl_slist_free_all);
