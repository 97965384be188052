/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* Disk images that become a guest's disk. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/disk.h"
#include "manager/file.h"
#include "manager/prog.h"
#include "manager/progress.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define SIZE (64u << 20)
#define MARK_AT (40u << 20)

struct folder {
	char dir[64], image[PATH_MAX], disk[PATH_MAX];
};

static void folder_make(struct folder *f)
{
	(void)file_path(f->dir, sizeof(f->dir), "/tmp/khyve-disk.XXXXXX");
	CHECK(mkdtemp(f->dir));
	CHECK_EQ(file_path(f->image, sizeof(f->image), "%s/image", f->dir), 0);
	CHECK_EQ(file_path(f->disk, sizeof(f->disk), "%s/disk0.img", f->dir), 0);
}

static void folder_remove(struct folder *f)
{
	CHECK_EQ(file_remove_tree(AT_FDCWD, f->dir), 0);
}

static void write_at(const char *path, const void *data, size_t len, uint64_t at, uint64_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(fd_pwrite_full(fd, data, len, at), 0);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* The disk has that size, the mark where it is to be, and holes. */
static void check_disk(const char *path, uint64_t size)
{
	char mark[5] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(fd_pread_full(fd, mark, 4, MARK_AT), 0);
	CHECK_STR(mark, "mark");
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, size);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK((uint64_t)st.st_blocks * 512 < 1u << 20);
	close(fd);
}

static void test_raw(void)
{
	struct folder f;
	struct err err;

	folder_make(&f);
	write_at(f.image, "mark", 4, MARK_AT, SIZE + 1);
	CHECK_EQ(disk_image_put(f.image, f.disk, 2ull * SIZE, NULL, &err), 0);
	check_disk(f.disk, 2ull * SIZE);
	CHECK_EQ(disk_image_put(f.image, f.disk, 0, NULL, &err), -EEXIST);
	unlink(f.disk);
	CHECK_EQ(disk_image_put(f.image, f.disk, 0, NULL, &err), 0);
	check_disk(f.disk, SIZE + 512);
	unlink(f.disk);
	CHECK_EQ(disk_image_put(f.image, f.disk, SIZE, NULL, &err), -EFBIG);
	CHECK(strstr(err.text, "which is more than 64 MiB"));
	CHECK(access(f.disk, F_OK) < 0);
	folder_remove(&f);
}

static void test_qcow2(void)
{
	struct folder f;
	struct err err;
	char program[PATH_MAX];
	const char *make[] = {
		"qemu-img", "convert", "-f", "raw", "-O", "qcow2", NULL, NULL, NULL
	};
	struct disk_image d;

	if (prog_find("qemu-img", program, sizeof(program)) < 0) {
		printf("SKIP qcow2: there is no qemu-img here\n");
		return;
	}
	folder_make(&f);
	write_at(f.disk, "mark", 4, MARK_AT, SIZE);
	make[6] = f.disk;
	make[7] = f.image;
	CHECK_EQ(prog_run(make, NULL, NULL, &err), 0);
	unlink(f.disk);
	CHECK_EQ(disk_image_probe(f.image, &d, &err), 0);
	CHECK(!d.raw && d.size == SIZE);
	CHECK_EQ(disk_image_put(f.image, f.disk, 2ull * SIZE, NULL, &err), 0);
	check_disk(f.disk, 2ull * SIZE);
	unlink(f.disk);
	/* Cut off behind its header, where convert would find zeroes. */
	CHECK_EQ(truncate(f.image, 1024), 0);
	CHECK(disk_image_put(f.image, f.disk, 0, NULL, &err) < 0);
	CHECK(strstr(err.text, "image is damaged: qemu-img: "));
	CHECK(access(f.disk, F_OK) < 0);
	folder_remove(&f);
}

/* A header that points to another file of the host, and formats that nobody here reads. */
static void test_refused(void)
{
	uint8_t head[512] = "QFI\xfb\0\0\0\3";
	struct folder f;
	struct disk_image d;
	struct err err;

	folder_make(&f);
	head[15] = 0x70; /* backing_file_offset */
	write_at(f.image, head, sizeof(head), 0, sizeof(head));
	CHECK_EQ(disk_image_put(f.image, f.disk, 0, NULL, &err), -EINVAL);
	CHECK(strstr(err.text, "only what changed since another image"));
	head[15] = 0;
	head[79] = 4; /* incompatible feature: external data file */
	write_at(f.image, head, sizeof(head), 0, sizeof(head));
	CHECK_EQ(disk_image_probe(f.image, &d, &err), -EINVAL);
	CHECK(strstr(err.text, "has its data in another file"));
	head[79] = 0;
	head[35] = 1; /* crypt_method */
	write_at(f.image, head, sizeof(head), 0, sizeof(head));
	CHECK_EQ(disk_image_probe(f.image, &d, &err), -EINVAL);
	CHECK(strstr(err.text, "is encrypted"));
	memcpy(head, "KDMV", 4);
	write_at(f.image, head, sizeof(head), 0, sizeof(head));
	CHECK_EQ(disk_image_probe(f.image, &d, &err), -EINVAL);
	CHECK(strstr(err.text, "is a vmdk image"));
	write_at(f.image, "", 0, 0, 0);
	CHECK_EQ(disk_image_probe(f.image, &d, &err), -EINVAL);
	CHECK(strstr(err.text, "is empty"));
	CHECK_EQ(disk_image_probe(f.dir, &d, &err), -EINVAL);
	CHECK_EQ(disk_image_probe("/nowhere", &d, &err), -ENOENT);
	CHECK(access(f.disk, F_OK) < 0);
	folder_remove(&f);
}

struct seen {
	uint64_t have, total;
	int calls;
};

static void see(void *arg, uint64_t have, uint64_t total, uint64_t rate)
{
	struct seen *s = arg;

	(void)rate;
	CHECK(have >= s->have && have <= total);
	*s = (struct seen){ have, total, s->calls + 1 };
}

static void test_progress(void)
{
	struct seen seen = { 0 };
	struct progress p = { .show = see, .arg = &seen };

	progress_begin(&p, 10, 100);
	progress_to(&p, 20);
	CHECK_EQ(seen.calls, 0);
	p.shown_ns = 0;
	progress_add(&p, 5);
	CHECK_EQ(seen.calls, 1);
	CHECK_EQ(seen.have, 25);
	progress_end(&p);
	CHECK_EQ(seen.have, 100);
	progress_begin(NULL, 0, 0);
	progress_add(NULL, 1);
	progress_end(NULL);
}

static const struct test_case cases[] = {
	{ "raw", test_raw },
	{ "qcow2", test_qcow2 },
	{ "refused", test_refused },
	{ "progress", test_progress },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
