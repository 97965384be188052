/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/jpeg.h"

#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include "util/macros.h"

#define FULL_COLOUR 7 /* from this level on, colours are as fine as brightness */

struct jpeg {
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr errors;
	struct jpeg_destination_mgr out;
	jmp_buf failed;
};

/* The library's way to tell of an error is not to return. */
static void on_error(j_common_ptr c)
{
	longjmp(container_of(c->err, struct jpeg, errors)->failed, 1);
}

static void on_message(j_common_ptr c)
{
	(void)c;
}

static void on_start(j_compress_ptr c)
{
	(void)c;
}

/* The buffer is all there is. */
static boolean on_full(j_compress_ptr c)
{
	on_error((j_common_ptr)c);
	return FALSE;
}

static void set_up(struct jpeg *j, unsigned int w, unsigned int h, unsigned int level)
{
	j->c.image_width = w;
	j->c.image_height = h;
	j->c.input_components = 4;
	j->c.in_color_space = JCS_EXT_BGRX; /* as 0x00RRGGBB lies in memory */
	jpeg_set_defaults(&j->c);
	jpeg_set_quality(&j->c, 15 + (int)level * 85 / (JPEG_LEVELS - 1), TRUE);
	if (level >= FULL_COLOUR)
		j->c.comp_info[0].h_samp_factor = j->c.comp_info[0].v_samp_factor = 1;
}

size_t jpeg_write(const uint32_t *px, unsigned int w, unsigned int h, unsigned int level,
		  uint8_t *dst, size_t room)
{
	struct jpeg j = { .out = { .next_output_byte = dst,
				   .free_in_buffer = room,
				   .init_destination = on_start,
				   .empty_output_buffer = on_full,
				   .term_destination = on_start } };

	j.c.err = jpeg_std_error(&j.errors);
	j.errors.error_exit = on_error;
	j.errors.output_message = on_message;
	if (setjmp(j.failed)) {
		jpeg_destroy_compress(&j.c);
		return 0;
	}
	jpeg_create_compress(&j.c);
	j.c.dest = &j.out;
	set_up(&j, w, h, level);
	jpeg_start_compress(&j.c, TRUE);
	while (j.c.next_scanline < h) {
		JSAMPROW row = (JSAMPROW)(uintptr_t)(px + (size_t)j.c.next_scanline * w);

		jpeg_write_scanlines(&j.c, &row, 1);
	}
	jpeg_finish_compress(&j.c);
	jpeg_destroy_compress(&j.c);
	return room - j.out.free_in_buffer;
}
