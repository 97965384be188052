/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/firmware.h"
#include "manager/guestconf.h"
#include "manager/keys.h"
#include "manager/lock.h"
#include "manager/store.h"
#include "manager/table.h"
#include "run.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

static struct gconf *parse(const char *text)
{
	struct gconf *g = NULL;
	struct err err;

	if (gconf_parse("g.conf", text, strlen(text), &g, &err) < 0)
		CHECK_FAIL("%s", err.text);
	return g;
}

/* Checks what key reads as in a file of that text; NULL: nothing. */
static void check_value(const char *text, const char *key, const char *want)
{
	struct gconf *g = parse(text);
	const char *got = gconf_get(g, key);

	if (!got != !want || (got && strcmp(got, want) != 0))
		CHECK_FAIL("\"%s\" gives %s=%s, not %s", text, key, got ? got : "(none)",
			   want ? want : "(none)");
	gconf_free(g);
}

static void check_text(const struct gconf *g, const char *want)
{
	size_t len;
	char *text = gconf_text(g, &len);

	CHECK_STR(text, want);
	CHECK_EQ(len, strlen(want));
	free(text);
}

static void test_grammar(void)
{
	check_value("cpu=2\n", "cpu", "2");
	check_value("cpu=\"2\"\n", "cpu", "2");
	check_value(" memory=4G\n", "memory", NULL);
	check_value("\tmemory=4G\n", "memory", NULL);
	check_value("Memory=1G\n", "memory", NULL);
	check_value("Memory=1G\n", "Memory", NULL);
	check_value("name=\"a # b\"\n", "name", "a");
	check_value("key = 3\n", "key", NULL);
	check_value("key = 3\n", "key ", " 3");
	check_value("x='1'\n", "x", "'1'");
	check_value("x=\"1\"   # note\n", "x", "1");
	check_value("x=1\t\n", "x", "1\t");
	check_value("x=1  \n", "x", "1");
	check_value("x=\"1\"\r\n", "x", "1");
	check_value("x=1", "x", "1");
	check_value("x=a=b\n", "x", "a=b");
	check_value("x=\n", "x", "");
	check_value("x\n", "x", NULL);
	check_value("#x=1\n", "x", NULL);
	check_value("graphics_listen=\"[::]\"\n", "graphics_listen", "[::]");
	check_value("cpu=1\ncpu=2\n", "cpu", "1");
	check_value("\xef\xbb\xbf"
		    "cpu=3\n",
		    "cpu", "3");
	check_value("", "cpu", NULL);
}

static void test_bool(void)
{
	struct gconf *g = parse("a=no\nb=FALSE\nc=Off\nd=0\ne=yes\nf=\ng=\"\"\nh=00\ni=nope\n");
	static const char *const falses[] = { "a", "b", "c", "d" };
	static const char *const trues[] = { "e", "h", "i" };

	for (size_t i = 0; i < ARRAY_LEN(falses); i++)
		CHECK(!gconf_bool(g, falses[i], true));
	for (size_t i = 0; i < ARRAY_LEN(trues); i++)
		CHECK(gconf_bool(g, trues[i], false));
	CHECK(gconf_bool(g, "f", true) && !gconf_bool(g, "f", false));
	CHECK(gconf_bool(g, "g", true) && !gconf_bool(g, "missing", false));
	gconf_free(g);
}

static void test_nul_is_refused(void)
{
	struct gconf *g;
	struct err err;

	CHECK_EQ(gconf_parse("g.conf", "cpu=1\nme\0ory=2\n", 15, &g, &err), -EINVAL);
	CHECK_STR(err.text, "g.conf:2:3: a NUL byte: not a text file");
}

static void test_edit_keeps_the_rest(void)
{
	struct gconf *g = parse("# head\ncpu=2   # two\n  odd\ncpu=9\nmem=\"1G\"");

	CHECK_EQ(gconf_set(g, "cpu", "4"), 0);
	CHECK_EQ(gconf_set(g, "uuid", "u"), 0);
	check_text(g, "# head\ncpu=\"4\"   # two\n  odd\ncpu=9\nmem=\"1G\"\nuuid=\"u\"\n");
	CHECK_STR(gconf_get(g, "cpu"), "4");
	CHECK_STR(gconf_where(g, "cpu"), "g.conf:2");
	CHECK_STR(gconf_where(g, "none"), "g.conf");
	gconf_unset(g, "cpu");
	check_text(g, "# head\n  odd\nmem=\"1G\"\nuuid=\"u\"\n");
	gconf_free(g);
}

static void test_edit_keeps_crlf(void)
{
	struct gconf *g = parse("cpu=2\r\nmem=1G\r\n");

	CHECK_EQ(gconf_set(g, "cpu", "4"), 0);
	check_text(g, "cpu=\"4\"\r\nmem=1G\r\n");
	gconf_free(g);
}

static void test_set_refuses(void)
{
	static const char *const bad[] = { "a\"b", "a#b", "a\nb", "a\tb", "\x7f" };
	struct gconf *g = parse("");

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(gconf_set(g, "x", bad[i]), -EINVAL);
	CHECK_EQ(gconf_set(g, "Bad", "1"), -EINVAL);
	CHECK_EQ(gconf_set(g, "a b", "1"), -EINVAL);
	CHECK_EQ(gconf_set(g, "", "1"), -EINVAL);
	CHECK_EQ(gconf_count(g), 0);
	CHECK_EQ(gconf_set(g, "x", "a b "), 0);
	CHECK_STR(gconf_get(g, "x"), "a b ");
	gconf_free(g);
}

struct warnings {
	unsigned count;
	char text[8][512];
};

static void on_warning(void *arg, const char *text)
{
	struct warnings *w = arg;

	if (w->count < ARRAY_LEN(w->text))
		snprintf(w->text[w->count], sizeof(w->text[0]), "%s", text);
	w->count++;
}

static void check_warning(const char *text, const char *want)
{
	struct warnings w = { 0 };
	struct gconf *g = parse(text);

	keys_check(g, on_warning, &w);
	gconf_free(g);
	if (!want) {
		if (w.count)
			CHECK_FAIL("\"%s\" warns: %s", text, w.text[0]);
		return;
	}
	CHECK_EQ(w.count, 1);
	CHECK_STR(w.text[0], want);
}

static void test_warnings(void)
{
	check_warning("memory=1G\n# c\n\n  # d\ndisk0_type=nvme\ndisk12_opts=ro\n", NULL);
	check_warning("memry=1G\n",
		      "g.conf:1: " K(041) "unknown key 'memry' (did you mean 'memory'?)");
	check_warning("cpu=1\ndisk7_tpye=nvme\n",
		      "g.conf:2: " K(041) "unknown key 'disk7_tpye' (did you mean 'disk7_type'?)");
	check_warning("zzzzzzzz=1\n", "g.conf:1: " K(041) "unknown key 'zzzzzzzz'");
	check_warning("cpu=1\ncpu=2\n", "g.conf:2: 'cpu' is given twice, line 1 counts");
	check_warning("cpu = 1\n", "g.conf:1: ignored: a blank stands before =");
	check_warning("Cpu=1\n", "g.conf:1: ignored: a key starts in column 1 with a small letter");
	check_warning("rubbish\n", "g.conf:1: ignored: not a key=\"value\" line");
	check_warning("sound=yes\n", "g.conf:1: 'sound' has no effect");
	check_warning("disk0_type=nvme\ndisk2_type=nvme\n",
		      "g.conf:2: disk2 is not used, because there is no disk1");
}

static void test_warnings_are_bounded(void)
{
	char text[4096] = "";
	struct warnings w = { 0 };
	struct gconf *g;

	for (int i = 0; i < 500; i++)
		strcat(text, "zz=1\n");
	g = parse(text);
	keys_check(g, on_warning, &w);
	CHECK(w.count >= 10 && w.count <= 20);
	gconf_free(g);
}

static void test_names(void)
{
	char name[STORE_NAME_MAX + 2];

	memset(name, 'a', sizeof(name) - 1);
	name[STORE_NAME_MAX + 1] = '\0';
	CHECK(!store_name_valid(name));
	name[STORE_NAME_MAX] = '\0';
	CHECK(store_name_valid(name));
	CHECK(store_name_valid("ab") && store_name_valid("a.b-c_D9"));
	CHECK(!store_name_valid("") && !store_name_valid("a"));
	CHECK(!store_name_valid(".a") && !store_name_valid("a.") && !store_name_valid("-ab"));
	CHECK(!store_name_valid("a/b") && !store_name_valid("a b") && !store_name_valid("a\nb"));
	CHECK(!store_name_valid("\xc3\xa4"
				"bc"));
}

static void test_url_names(void)
{
	char out[64];

	CHECK(fetch_is_url("https://x/y") && fetch_is_url("HTTP://x/y") && !fetch_is_url("/x/y"));
	CHECK(!fetch_is_url("file:///etc/passwd"));
	CHECK_EQ(fetch_name("https://h/a/b.iso?x=1/2#f", out, sizeof(out)), 0);
	CHECK_STR(out, "b.iso");
	CHECK_EQ(fetch_name("https://h/a%20b.iso", out, sizeof(out)), 0);
	CHECK_STR(out, "a b.iso");
	CHECK_EQ(fetch_name("https://h/100%", out, sizeof(out)), 0);
	CHECK_STR(out, "100%");
	CHECK_EQ(fetch_name("https://h/", out, sizeof(out)), -EINVAL);
	CHECK_EQ(fetch_name("https://h", out, sizeof(out)), -EINVAL);
	CHECK_EQ(fetch_name("https://h/..%2fx", out, sizeof(out)), -EINVAL);
	CHECK_EQ(fetch_name("https://h/a%2fx", out, sizeof(out)), -EINVAL);
	CHECK_EQ(fetch_name("https://h/a%00x", out, sizeof(out)), -EINVAL);
	CHECK_EQ(fetch_name("https://h/a%0ax", out, sizeof(out)), -EINVAL);
	CHECK_EQ(fetch_name("https://h/0123456789", out, 8), -EINVAL);
}

static void test_control_values(void)
{
	char out[16];

	CHECK_EQ(ctl_value("a=1\nab=2\nb=\n", "ab", out, sizeof(out)), 0);
	CHECK_STR(out, "2");
	CHECK_EQ(ctl_value("a=1\nab=2\nb=\n", "b", out, sizeof(out)), 0);
	CHECK_STR(out, "");
	CHECK_EQ(ctl_value("a=1\n", "c", out, sizeof(out)), -ENOENT);
	CHECK_EQ(ctl_value("a=0123456789abcdefghij\n", "a", out, sizeof(out)), -ENAMETOOLONG);
}

static void test_table(void)
{
	struct table *t = table_new(3);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	table_add(t, "A");
	table_add(t, "BB");
	table_add(t, "C");
	table_add(t, "%d", 1000);
	table_add(t, "\xc3\xa4");
	table_add(t, "last one");
	table_print(t, f);
	fclose(f);
	table_free(t);
	CHECK_STR(text, "A     BB  C\n1000  \xc3\xa4   last one\n");
	free(text);
}

/* A folder of its own for one case. */
static void make_dir(char *out, size_t size)
{
	snprintf(out, size, "/tmp/khyve-test.XXXXXX");
	CHECK(mkdtemp(out) != NULL);
}

static void drop_dir(const char *dir)
{
	CHECK_EQ(file_remove_tree(AT_FDCWD, dir), 0);
	CHECK(access(dir, F_OK) < 0);
}

static void test_atomic_write(void)
{
	char dir[64], path[128], *text;
	struct stat st;
	size_t len;

	make_dir(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	CHECK_EQ(file_write_atomic(path, "one", 3, 0600, NULL), 0);
	CHECK_EQ(file_write_atomic(path, "two!", 4, 0640, NULL), 0);
	CHECK_EQ(fd_read_file(path, 100, &text, &len), 0);
	CHECK_STR(text, "two!");
	free(text);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0640);
	snprintf(path, sizeof(path), "%s/none/f", dir);
	CHECK_EQ(file_write_atomic(path, "x", 1, 0600, NULL), -ENOENT);
	drop_dir(dir);
}

static void test_remove_follows_no_link(void)
{
	char dir[64], keep[64], path[128], link[160];

	make_dir(dir, sizeof(dir));
	make_dir(keep, sizeof(keep));
	snprintf(path, sizeof(path), "%s/file", keep);
	CHECK_EQ(file_write_atomic(path, "x", 1, 0600, NULL), 0);
	snprintf(link, sizeof(link), "%s/sub", dir);
	CHECK_EQ(file_make_dirs(link, 0700, NULL), 0);
	snprintf(link, sizeof(link), "%s/sub/link", dir);
	CHECK_EQ(symlink(keep, link), 0);
	drop_dir(dir);
	CHECK_EQ(access(path, F_OK), 0);
	drop_dir(keep);
}

static void test_locks(void)
{
	char dir[64], path[128];
	int fd, other;

	make_dir(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/lock", dir);
	CHECK(!lock_held(path));
	fd = lock_take(path);
	CHECK(fd >= 0 && lock_held(path));
	CHECK_EQ(lock_take(path), -EAGAIN);
	other = dup(fd);
	close(fd);
	CHECK(lock_held(path));
	lock_drop(path, &other);
	CHECK(other == -1 && !lock_held(path) && access(path, F_OK) < 0);
	fd = lock_dir(dir, false);
	CHECK(fd >= 0);
	CHECK_EQ(lock_dir(dir, false), -EAGAIN);
	close(fd);
	drop_dir(dir);
}

/* Writes a firmware descriptor whose files exist. */
static void put_descriptor(const char *dir, const char *name, const char *machine,
			   const char *feature)
{
	char path[128], text[1024];
	int n = snprintf(text, sizeof(text),
			 "{\"interface-types\":[\"uefi\"],\"mapping\":{\"device\":\"flash\","
			 "\"executable\":{\"filename\":\"%s/%s\",\"format\":\"raw\"},"
			 "\"nvram-template\":{\"filename\":\"%s/%s\",\"format\":\"raw\"}},"
			 "\"targets\":[{\"architecture\":\"x86_64\",\"machines\":[\"%s\"]}],"
			 "\"features\":[\"acpi-s3\"%s]}",
			 dir, name, dir, name, machine, feature);

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	CHECK_EQ(file_write_atomic(path, text, (size_t)n, 0600, NULL), 0);
}

static void test_firmware(void)
{
	char dir[64], want[128];
	struct firmware fw;

	make_dir(dir, sizeof(dir));
	CHECK_EQ(firmware_find_in("/nonexistent", &fw), -ENOENT);
	put_descriptor(dir, "10-secure.json", "pc-q35-*", ",\"secure-boot\",\"requires-smm\"");
	put_descriptor(dir, "20-micro.json", "microvm", "");
	snprintf(want, sizeof(want), "%s/30-broken.json", dir);
	CHECK_EQ(file_write_atomic(want, "{", 1, 0600, NULL), 0);
	CHECK_EQ(firmware_find_in(dir, &fw), -ENOENT);
	put_descriptor(dir, "50-plain.json", "pc-q35-*", "");
	put_descriptor(dir, "60-other.json", "pc-q35-*", "");
	CHECK_EQ(firmware_find_in(dir, &fw), 0);
	snprintf(want, sizeof(want), "%s/50-plain.json", dir);
	CHECK_STR(fw.code, want);
	drop_dir(dir);
}

static const struct test_case cases[] = {
	{ "grammar", test_grammar },
	{ "bool", test_bool },
	{ "nul is refused", test_nul_is_refused },
	{ "edit keeps the rest", test_edit_keeps_the_rest },
	{ "edit keeps CRLF", test_edit_keeps_crlf },
	{ "set refuses", test_set_refuses },
	{ "warnings", test_warnings },
	{ "warnings are bounded", test_warnings_are_bounded },
	{ "names", test_names },
	{ "url names", test_url_names },
	{ "control values", test_control_values },
	{ "table", test_table },
	{ "atomic write", test_atomic_write },
	{ "remove follows no link", test_remove_follows_no_link },
	{ "locks", test_locks },
	{ "firmware", test_firmware },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
