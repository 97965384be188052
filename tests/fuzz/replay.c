/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "util/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Runs the fuzz target once on a file. Returns the number of inputs run. */
static int replay_file(const char *path)
{
	char *data;
	size_t len;
	uint8_t *exact;

	if (fd_read_file(path, 16 << 20, &data, &len) < 0) {
		fprintf(stderr, "%s: cannot read\n", path);
		exit(1);
	}
	/* A copy of exactly len bytes, so that the sanitizer sees one byte too many. */
	exact = malloc(len ? len : 1);
	memcpy(exact, data, len);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	free(data);
	return 1;
}

/* Replays every file of the folders and files given on the command line. */
int main(int argc, char **argv)
{
	int n = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;
		struct dirent *e;
		DIR *d;

		if (stat(argv[i], &st) < 0 || !S_ISDIR(st.st_mode)) {
			n += replay_file(argv[i]);
			continue;
		}
		d = opendir(argv[i]);
		while (d && (e = readdir(d))) {
			char path[4096];

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			n += replay_file(path);
		}
		if (d)
			closedir(d);
	}
	printf("%d inputs replayed\n", n);
	return n ? 0 : 1;
}
