/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/conf.h"
#include "run.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

static struct err err;

#define LOAD(c, text) conf_load_text(c, "vm.conf", text, sizeof(text) - 1, &err)

/* A tree loaded from text that must be good. */
static struct conf *load(const char *text)
{
	struct conf *c = conf_new();

	CHECK(c);
	if (conf_load_text(c, "vm.conf", text, strlen(text), &err) < 0)
		CHECK_FAIL("%s", err.text);
	return c;
}

/* Loading text must fail with exactly this message. */
static void check_refused(const char *text, size_t len, const char *message)
{
	struct conf *c = conf_new();

	CHECK(conf_load_text(c, "vm.conf", text, len, &err) < 0);
	conf_free(c);
	CHECK_STR(err.text, message);
}

static void test_last_write_wins(void)
{
	struct conf *c = load("cpus=1\nmemory.size=1G\ncpus=2\n");

	CHECK_STR(conf_get(c, "cpus"), "2");
	CHECK_STR(conf_where(c, "cpus"), "vm.conf:3:1");
	CHECK_STR(conf_where(c, "memory"), "vm.conf:2:1");
	CHECK_EQ(conf_set(c, "cpus", "4", "-c 4", &err), 0);
	CHECK_STR(conf_get(c, "cpus"), "4");
	CHECK_STR(conf_where(c, "cpus"), "-c 4");
	CHECK_EQ(conf_set(c, "cpus", "8", NULL, &err), 0);
	CHECK_STR(conf_where(c, "cpus"), "built in");
	CHECK_STR(conf_where(c, "nothing"), "built in");
	CHECK(!conf_get(c, "memory"));
	CHECK(conf_has(c, "memory"));
	CHECK(conf_has(c, "memory.size"));
	CHECK(!conf_has(c, "memory.size.x"));
	CHECK(!conf_has(c, "mem"));
	CHECK(!conf_has(c, "memory."));
	CHECK(!conf_has(c, ".memory"));
	conf_free(c);
	conf_free(NULL);
}

static void test_assignment(void)
{
	struct conf *c = conf_new();

	CHECK_EQ(conf_set_assignment(c, "a.b=c=d", "-o", &err), 0);
	CHECK_STR(conf_get(c, "a.b"), "c=d");
	CHECK_EQ(conf_set_assignment(c, "a.b=", "-o", &err), -EINVAL);
	CHECK_STR(err.text, "-o: a.b: the value is empty");
	CHECK_EQ(conf_set_assignment(c, "a.b", "-o", &err), -EINVAL);
	CHECK_STR(err.text, "-o: \"a.b\" is not KEY=VALUE");
	CHECK_EQ(conf_set_assignment(c, "=x", "-o", &err), -EINVAL);
	CHECK_STR(err.text, "-o: bad key \"\": the key is empty");
	CHECK_EQ(conf_setf(c, NULL, &err, "n", "%d", 7), 0);
	CHECK_STR(conf_get(c, "n"), "7");
	CHECK_EQ(conf_setf(c, NULL, &err, "n", "%s", ""), -EINVAL);
	CHECK_STR(conf_get(c, "n"), "7");
	conf_free(c);
}

static void test_bad_keys(void)
{
	static const char *const bad[] = {
		"",   ".",   ".a",  "a.",  "a..b",  " a",
		"a ", "a b", "a/b", "a=b", "a\xc3", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17"
	};
	struct conf *c = conf_new();
	char big[300];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (conf_set(c, bad[i], "x", NULL, &err) != -EINVAL)
			CHECK_FAIL("\"%s\" was accepted", bad[i]);
	memset(big, 'k', sizeof(big));
	big[255] = '\0';
	CHECK_EQ(conf_set(c, big, "x", NULL, &err), 0);
	CHECK_STR(conf_get(c, big), "x");
	big[255] = 'k';
	big[256] = '\0';
	CHECK_EQ(conf_set(c, big, "x", NULL, &err), -EINVAL);
	CHECK(strstr(err.text, "the key is longer than 255 bytes"));
	CHECK_EQ(conf_set(c, "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16", "x", NULL, &err), 0);
	conf_free(c);
}

static void test_bad_values(void)
{
	static const char *const bad[] = { "", " ", " a", "a ", "a\t", "a\nb", "\x7f", "\x01" };
	struct conf *c = conf_new();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(conf_set(c, "k", bad[i], NULL, &err), -EINVAL);
	CHECK(!conf_has(c, "k"));
	CHECK_EQ(conf_set(c, "k", "a b\tc # \xc3\xa4", NULL, &err), 0);
	conf_free(c);
}

static void test_value_or_children(void)
{
	struct conf *c = load("a=1\nb.c=2\n");

	CHECK_EQ(LOAD(c, "\na.x=1\n"), -EEXIST);
	CHECK_STR(
		err.text,
		"vm.conf:2:1: a.x: a has a value already (vm.conf:1:1), so nothing can be below it");
	CHECK_EQ(LOAD(c, "b=1\n"), -EISDIR);
	CHECK_STR(err.text, "vm.conf:1:1: b is a group of keys and takes no value (vm.conf:2:1)");
	CHECK_STR(conf_get(c, "a"), "1");
	CHECK_STR(conf_get(c, "b.c"), "2");
	conf_free(c);
}

static void test_file_forms(void)
{
	struct conf *c = conf_new();

	CHECK_EQ(LOAD(c, ""), 0);
	CHECK_EQ(LOAD(c, "\xef\xbb\xbf"), 0);
	CHECK(!conf_has(c, ""));
	CHECK_EQ(LOAD(c, "\xef\xbb\xbf# text\r\n\r\n \t\n  # more\na=1\r\nb=x=y\nlast=no newline"),
		 0);
	CHECK_STR(conf_get(c, "a"), "1");
	CHECK_STR(conf_get(c, "b"), "x=y");
	CHECK_STR(conf_get(c, "last"), "no newline");
	CHECK_EQ(LOAD(c, "crlf=1\r"), 0);
	CHECK_STR(conf_get(c, "crlf"), "1");
	conf_free(c);
}

#define REFUSED(text, message) check_refused(text, sizeof(text) - 1, message)

static void test_file_errors(void)
{
	REFUSED("a=1\nwhat\n", "vm.conf:2:1: not key=value: there is no =");
	REFUSED("a=1\n\nb=x\0y\n", "vm.conf:3:4: NUL byte: this is not a text file");
	REFUSED("a=\n", "vm.conf:1:3: the value is empty");
	REFUSED("=b", "vm.conf:1:1: the key is empty");
	REFUSED("cpus =2", "vm.conf:1:5: blanks are not allowed around or in a key");
	REFUSED("cpus= 2", "vm.conf:1:6: blanks are not allowed in front of a value");
	REFUSED("cpus=2 \r\n", "vm.conf:1:7: blanks are not allowed behind a value");
	REFUSED(" cpus=2", "vm.conf:1:1: blanks are not allowed around or in a key");
	REFUSED("pci..3=x", "vm.conf:1:4: a name is missing next to the dot");
	REFUSED("pci.=x", "vm.conf:1:4: a name is missing next to the dot");
	REFUSED("a=b\rc", "vm.conf:1:4: control character in the value");
	REFUSED("\xef\xbb\xbf"
		"a",
		"vm.conf:1:1: not key=value: there is no =");
	REFUSED("a/b=c", "vm.conf:1:2: a key has only letters, digits, _ and -");
}

static void test_long_lines(void)
{
	size_t size = 1 << 20;
	char *big = malloc(size + 2);
	struct conf *c = conf_new();

	memset(big, 'a', size);
	big[size] = '\0';
	check_refused(big, size, "vm.conf:1:65792: the line is too long");
	big[1] = '=';
	check_refused(big, size, "vm.conf:1:65792: the line is too long");
	check_refused(big, size + 1, "vm.conf: longer than 1 MiB");
	check_refused(big, 65535 + 3, "vm.conf:1:65538: the value is longer than 65535 bytes");
	CHECK_EQ(conf_load_text(c, "vm.conf", big, 65535 + 2, &err), 0);
	CHECK_EQ(strlen(conf_get(c, "a")), 65535);
	conf_free(c);
	free(big);
}

static void test_load_file(void)
{
	char path[] = "/tmp/khyve-test-XXXXXX", want[128];
	int fd = mkstemp(path);
	struct conf *c = conf_new();

	CHECK(fd >= 0);
	CHECK_EQ(fd_write_full(fd, "a=1\nb\n", 6), 0);
	CHECK_EQ(conf_load_file(c, path, &err), -EINVAL);
	snprintf(want, sizeof(want), "%s:2:1: not key=value: there is no =", path);
	CHECK_STR(err.text, want);
	CHECK_EQ(ftruncate(fd, 4), 0);
	CHECK_EQ(conf_load_file(c, path, &err), 0);
	CHECK_STR(conf_get(c, "a"), "1");
	CHECK_EQ(ftruncate(fd, 2 << 20), 0);
	CHECK_EQ(conf_load_file(c, path, &err), -EFBIG);
	close(fd);
	unlink(path);
	CHECK_EQ(conf_load_file(c, path, &err), -ENOENT);
	snprintf(want, sizeof(want), "%s: cannot read: No such file or directory", path);
	CHECK_STR(err.text, want);
	CHECK_EQ(conf_load_file(c, "/tmp", &err), -EISDIR);
	CHECK_EQ(conf_load_file(c, "/dev/zero", &err), -EINVAL);
	CHECK_STR(err.text, "/dev/zero: cannot read: not a regular file");
	conf_free(c);
}

static void test_expansion(void)
{
	struct conf *c = load(
		"name=vm1\ndir=/vm/%(name)\ndisk=%(dir)/disk0.img\npct=100%%\nboth=%%(name)\n");
	char buf[32];

	CHECK_STR(conf_get(c, "disk"), "%(dir)/disk0.img");
	CHECK_EQ(conf_get_str(c, "disk", buf, sizeof(buf), &err), 0);
	CHECK_STR(buf, "/vm/vm1/disk0.img");
	CHECK_EQ(conf_get_str(c, "pct", buf, sizeof(buf), &err), 0);
	CHECK_STR(buf, "100%");
	CHECK_EQ(conf_get_str(c, "both", buf, sizeof(buf), &err), 0);
	CHECK_STR(buf, "%(name)");
	CHECK_EQ(conf_get_str(c, "none", buf, sizeof(buf), &err), -ENOENT);
	CHECK_EQ(conf_get_str(c, "disk", buf, 17, &err), -ENAMETOOLONG);
	CHECK_STR(err.text, "vm.conf:3:1: disk is longer than 16 bytes");
	CHECK_STR(buf, "%(name)");
	CHECK_EQ(conf_get_str(c, "disk", buf, 18, &err), 0);
	CHECK_EQ(conf_freeze(c, &err), 0);
	CHECK_EQ(conf_set(c, "name", "x", "-o", &err), -EPERM);
	CHECK_STR(err.text, "-o: name: the configuration can no longer be changed");
	conf_free(c);
}

/* Freezing must find this fault. */
static void check_unfrozen(const char *text, int code, const char *message)
{
	struct conf *c = load(text);

	CHECK_EQ(conf_freeze(c, &err), code);
	CHECK_STR(err.text, message);
	CHECK_EQ(conf_set(c, "free", "still", NULL, &err), 0);
	conf_free(c);
}

static void test_expansion_errors(void)
{
	char long_name[320] = "a=%(";

	check_unfrozen("a=%(a)", -ELOOP, "vm.conf:1:3: a: %(a) leads back to itself");
	check_unfrozen("a=x%(b)\nb=yy%(c)\nc=%(a)", -ELOOP,
		       "vm.conf:3:3: c: %(a) leads back to itself");
	check_unfrozen("a=1\nb=x%(zz)", -EINVAL, "vm.conf:2:4: b: %(zz) is not set");
	check_unfrozen("a=1\nb=x%(a", -EINVAL, "vm.conf:2:4: b: %( has no closing )");
	check_unfrozen("a=%()", -EINVAL, "vm.conf:1:3: a: %() needs the name of a key");
	check_unfrozen("a=100%", -EINVAL,
		       "vm.conf:1:6: a: % must be %(name), or %% for a percent sign");
	check_unfrozen("a=%n", -EINVAL,
		       "vm.conf:1:3: a: % must be %(name), or %% for a percent sign");
	check_unfrozen("n.x=1\na=%(n)", -EINVAL, "vm.conf:2:3: a: %(n) is not set");
	memset(long_name + 4, 'b', 256);
	long_name[260] = ')';
	check_unfrozen(long_name, -EINVAL, "vm.conf:1:3: a: %() needs the name of a key");
}

static void test_expansion_bounds(void)
{
	char text[2048];
	size_t at = 0;
	struct conf *c;

	for (int i = 0; i < 12; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at,
				       "k%d=%%(k%d)%%(k%d)%%(k%d)%%(k%d)\n", i, i + 1, i + 1, i + 1,
				       i + 1);
	snprintf(text + at, sizeof(text) - at, "k12=lol");
	c = load(text);
	CHECK_EQ(conf_freeze(c, &err), -EFBIG);
	CHECK(strstr(err.text, "the expanded value is longer than 65535 bytes"));
	conf_free(c);
	at = 0;
	for (int i = 0; i < 20; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "k%d=%%(k%d)\n", i, i + 1);
	snprintf(text + at, sizeof(text) - at, "k20=end");
	c = load(text);
	CHECK_EQ(conf_freeze(c, &err), -ELOOP);
	CHECK_STR(err.text, "vm.conf:16:5: k15: %(name) is nested more than 16 deep");
	conf_free(c);
}

static void test_typed_reads(void)
{
	struct conf *c = load("b=Yes\nn=0x10\nbad=maybe\nr=%(n)\n");
	uint64_t u = 5;
	bool b = false;

	CHECK_EQ(conf_get_bool(c, "b", &b, &err), 0);
	CHECK(b);
	CHECK_EQ(conf_get_u64(c, "r", &u, &err), 0);
	CHECK_EQ(u, 16);
	CHECK_EQ(conf_get_bool(c, "none", &b, &err), -ENOENT);
	CHECK_EQ(conf_get_u64(c, "none", &u, &err), -ENOENT);
	CHECK_EQ(conf_get_bool(c, "bad", &b, &err), -EINVAL);
	CHECK_STR(err.text, "vm.conf:3:5: bad: \"maybe\" is not true or false");
	CHECK_EQ(conf_get_u64(c, "bad", &u, &err), -EINVAL);
	CHECK_STR(err.text, "vm.conf:3:5: bad: \"maybe\" is not a number");
	CHECK_EQ(u, 16);
	conf_free(c);
}

static int collect(void *arg, const char *name)
{
	strcat(arg, name);
	strcat(arg, " ");
	return strcmp(name, "stop") == 0 ? 7 : 0;
}

static void test_each(void)
{
	struct conf *c = load(
		"pci.10.x=1\npci.9.x=1\npci.2.x=1\npci.b=1\npci.a=1\npci.007=1\npci.7=1\ns.stop=1\ns.z=1\n");
	char got[128] = "";

	CHECK_EQ(conf_each(c, "pci", collect, got), 0);
	CHECK_STR(got, "2 7 007 9 10 a b ");
	got[0] = '\0';
	CHECK_EQ(conf_each(c, "", collect, got), 0);
	CHECK_STR(got, "pci s ");
	got[0] = '\0';
	CHECK_EQ(conf_each(c, "s", collect, got), 7);
	CHECK_STR(got, "stop ");
	CHECK_EQ(conf_each(c, "none", collect, got), 0);
	CHECK_EQ(conf_set(c, "pci.7.sub", "x", NULL, &err), -EEXIST);
	CHECK_EQ(conf_set(c, "q.w", "x ", NULL, &err), -EINVAL);
	CHECK(!conf_has(c, "q"));
	conf_free(c);
}

static void test_dump(void)
{
	struct conf *
		c = load(
		       "z=%%x%(a.b)\na.b=x y=z # \xc3\xa4\npci.0.31.0.device=lpc\npci.0.4.0.device=nvme\n"),
	       *d;
	char *text = NULL, *again = NULL;
	size_t len, len2;
	FILE *f = open_memstream(&text, &len);

	conf_dump(c, f);
	fclose(f);
	CHECK_STR(
		text,
		"a.b=x y=z # \xc3\xa4\npci.0.4.0.device=nvme\npci.0.31.0.device=lpc\nz=%%x%(a.b)\n");
	d = load(text);
	f = open_memstream(&again, &len2);
	conf_dump(d, f);
	fclose(f);
	CHECK_STR(again, text);
	conf_free(c);
	conf_free(d);
	free(text);
	free(again);
}

struct sample {
	char *path, *ser;
	bool ro;
	uint64_t queues, sector;
	int mode;
};

static const char *const modes[] = { "io", "on", "off", NULL };

static const struct conf_key keys[] = {
	{ .name = "path",
	  .type = CONF_STR,
	  .offset = offsetof(struct sample, path),
	  .required = true,
	  .help = "image file or block device" },
	{ .name = "ser",
	  .type = CONF_STR,
	  .offset = offsetof(struct sample, ser),
	  .def = "none",
	  .max = 8,
	  .help = "serial number" },
	{ .name = "ro",
	  .type = CONF_BOOL,
	  .offset = offsetof(struct sample, ro),
	  .help = "read only" },
	{ .name = "maxq",
	  .type = CONF_U64,
	  .offset = offsetof(struct sample, queues),
	  .def = "16",
	  .min = 1,
	  .max = 64,
	  .alias = "queues",
	  .help = "queues" },
	{ .name = "sectsz",
	  .type = CONF_SIZE,
	  .offset = offsetof(struct sample, sector),
	  .def = "512",
	  .min = 512,
	  .unit = 1,
	  .help = "sector size" },
	{ .name = "vga",
	  .type = CONF_ENUM,
	  .offset = offsetof(struct sample, mode),
	  .def = "on",
	  .choices = modes,
	  .help = "legacy" },
	{ .name = "port.#.type", .type = CONF_ENUM, .choices = modes },
	{ .name = "old", .type = CONF_BOOL, .ignored = true },
	CONF_KEY_END,
};

static void test_bind(void)
{
	static const char *const skip[] = { "device", "sub", NULL };
	struct conf *c = load(
		"d=/vm\npci.3.path=%(d)/disk\npci.3.queues=4\npci.3.sectsz=4k\npci.3.vga=off\n"
		"pci.3.ro=true\npci.3.old=whatever\npci.3.device=nvme\npci.3.sub.x=1\npci.3.port.12.type=io\n");
	struct sample s = { 0 };

	if (conf_bind(c, "pci.3", keys, &s, skip, &err) < 0)
		CHECK_FAIL("%s", err.text);
	CHECK_STR(s.path, "/vm/disk");
	CHECK_STR(s.ser, "none");
	CHECK(s.ro);
	CHECK_EQ(s.queues, 4);
	CHECK_EQ(s.sector, 4096);
	CHECK_EQ(s.mode, 2);
	conf_unbind(keys, &s);
	CHECK(!s.path && !s.ser);
	conf_unbind(keys, &s);
	conf_free(c);
}

static void test_bind_at_root(void)
{
	struct conf *c = load("path=/x\n");
	struct sample s = { 0 };

	CHECK_EQ(conf_bind(c, "", keys, &s, NULL, &err), 0);
	CHECK_STR(s.path, "/x");
	CHECK_EQ(s.queues, 16);
	CHECK_EQ(s.mode, 1);
	conf_unbind(keys, &s);
	conf_free(c);
}

/* Binding pci.3 must fail with exactly this message and leave nothing to free. */
static void check_unbound(const char *text, const char *message)
{
	static const char *const skip[] = { "device", NULL };
	struct conf *c = load(text);
	struct sample s = { 0 };
	int r = conf_bind(c, "pci.3", keys, &s, skip, &err);

	conf_free(c);
	CHECK(r < 0);
	CHECK(!s.path && !s.ser);
	CHECK_STR(err.text, message);
}

static void test_bind_errors(void)
{
	check_unbound("pci.3.device=x\n",
		      "vm.conf:1:1: pci.3.path is missing: image file or block device");
	check_unbound("x=1\n", "pci.3.path is missing: image file or block device");
	check_unbound("pci.3=1\n", "vm.conf:1:1: pci.3 is a group of keys and takes no value");
	check_unbound("pci.3.path=x\n\npci.3.pat=x\n",
		      "vm.conf:3:1: unknown key pci.3.pat: did you mean pci.3.path?");
	check_unbound(
		"pci.3.port.7.tpye=x\n",
		"vm.conf:1:1: unknown key pci.3.port.7.tpye: did you mean pci.3.port.7.type?");
	check_unbound(
		"pci.3.zzzzzz=x\n",
		"vm.conf:1:1: unknown key pci.3.zzzzzz: known here are path, ser, ro, maxq, sectsz, vga, port.#.type");
	check_unbound("pci.3.path.x=x\n",
		      "vm.conf:1:1: unknown key pci.3.path.x: did you mean pci.3.path?");
	check_unbound("pci.3.path=a\npci.3.ro=ja\n",
		      "vm.conf:2:10: pci.3.ro: \"ja\" is not true or false");
	check_unbound("pci.3.path=a\npci.3.maxq=65\n",
		      "vm.conf:2:12: pci.3.maxq: \"65\" is not a number from 1 to 64");
	check_unbound("pci.3.path=a\npci.3.maxq=0\n",
		      "vm.conf:2:12: pci.3.maxq: \"0\" is not a number from 1 to 64");
	check_unbound("pci.3.path=a\npci.3.queues=many\n",
		      "vm.conf:2:14: pci.3.queues: \"many\" is not a number from 1 to 64");
	check_unbound(
		"pci.3.path=a\npci.3.sectsz=5\n",
		"vm.conf:2:14: pci.3.sectsz: \"5\" is not a size of at least 512 bytes (K, M, G and T may follow the number)");
	check_unbound("pci.3.path=a\npci.3.vga=Off\n",
		      "vm.conf:2:11: pci.3.vga: \"Off\" is not one of io, on, off");
	check_unbound("pci.3.path=a\npci.3.ser=123456789\n",
		      "vm.conf:2:11: pci.3.ser: \"123456789\" is not at most 8 bytes long");
	check_unbound("pci.3.path=a\npci.3.port.1.type=x\n",
		      "vm.conf:2:19: pci.3.port.1.type: \"x\" is not one of io, on, off");
	check_unbound("pci.3.path=%(no)\n", "vm.conf:1:12: pci.3.path: %(no) is not set");
}

static void test_bind_suggests_skipped(void)
{
	static const char *const skip[] = { "pci", "lpc", NULL };
	struct conf *c = load("pcj.0.3.0.device=x\n");
	struct sample s = { 0 };

	CHECK_EQ(conf_bind(c, "", keys, &s, skip, &err), -EINVAL);
	CHECK_STR(err.text, "vm.conf:1:1: unknown key pcj.0.3.0.device: did you mean pci?");
	conf_free(c);
}

static void test_print_keys(void)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_print_keys(keys, f);
	fclose(f);
	CHECK(strstr(
		text,
		"path                 text           (required)   image file or block device\n"));
	CHECK(strstr(text, "vga                  io|on|off      on           legacy\n"));
	CHECK(!strstr(text, "old"));
	free(text);
}

struct array_element {
	char *path;
	bool sync;
};

struct array_settings {
	uint64_t n;
	struct array_element port[4];
};

#define PORT_KEY(name_, type_, alias_, member_)                            \
	{                                                                  \
		.name = name_, .alias = alias_, .type = type_, .count = 4, \
		.stride = sizeof(struct array_element),                    \
		.offset = offsetof(struct array_settings, port[0].member_) \
	}

static const struct conf_key array_keys[] = {
	{ .name = "n", .type = CONF_U64, .offset = offsetof(struct array_settings, n), .def = "9" },
	PORT_KEY("port.#.path", CONF_STR, NULL, path),
	PORT_KEY("port.#.sync", CONF_BOOL, "port.#.direct", sync),
	CONF_KEY_END
};

static void array_error(const char *key, const char *text)
{
	struct array_settings s = { 0 };
	struct conf *c = conf_new();

	CHECK_EQ(conf_set(c, "pci.5.port.1.path", "/x", "-s", &err), 0);
	CHECK_EQ(conf_set(c, key, "true", "-s", &err), 0);
	CHECK(conf_bind(c, "pci.5", array_keys, &s, NULL, &err) < 0);
	CHECK_STR(err.text, text);
	CHECK(!s.port[1].path);
	conf_free(c);
}

static void test_bind_array(void)
{
	struct array_settings s = { 0 };
	struct conf *c = conf_new();

	CHECK_EQ(conf_set(c, "pci.5.port.0.path", "/a", NULL, &err), 0);
	CHECK_EQ(conf_set(c, "pci.5.port.3.path", "/d", NULL, &err), 0);
	CHECK_EQ(conf_set(c, "pci.5.port.3.direct", "on", NULL, &err), 0);
	CHECK_EQ(conf_bind(c, "pci.5", array_keys, &s, NULL, &err), 0);
	CHECK_EQ(s.n, 9);
	CHECK_STR(s.port[0].path, "/a");
	CHECK(!s.port[1].path && !s.port[2].path);
	CHECK_STR(s.port[3].path, "/d");
	CHECK(s.port[3].sync && !s.port[0].sync);
	conf_unbind(array_keys, &s);
	CHECK(!s.port[3].path);
	conf_free(c);
	array_error("pci.5.port.4.sync", "-s: port.4.sync: the number must be from 0 to 3");
	array_error("pci.5.port.01.sync", "-s: port.01.sync: the number must be from 0 to 3");
	array_error("pci.5.port.1.sink",
		    "-s: unknown key pci.5.port.1.sink: did you mean pci.5.port.1.sync?");
}

static const struct test_case cases[] = {
	{ "last_write_wins", test_last_write_wins },
	{ "assignment", test_assignment },
	{ "bad_keys", test_bad_keys },
	{ "bad_values", test_bad_values },
	{ "value_or_children", test_value_or_children },
	{ "file_forms", test_file_forms },
	{ "file_errors", test_file_errors },
	{ "long_lines", test_long_lines },
	{ "load_file", test_load_file },
	{ "expansion", test_expansion },
	{ "expansion_errors", test_expansion_errors },
	{ "expansion_bounds", test_expansion_bounds },
	{ "typed_reads", test_typed_reads },
	{ "each", test_each },
	{ "dump", test_dump },
	{ "bind", test_bind },
	{ "bind_array", test_bind_array },
	{ "bind_at_root", test_bind_at_root },
	{ "bind_errors", test_bind_errors },
	{ "bind_suggests_skipped", test_bind_suggests_skipped },
	{ "print_keys", test_print_keys },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
