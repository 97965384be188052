/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */

/* The command line of bhyve(8) as keys. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "cmd/khyve/options.h"
#include "conf/conf.h"
#include "run.h"
#include "util/err.h"
#include "util/macros.h"

struct parsed {
	struct conf *conf;
	enum options_action action;
	int status, result;
	struct err err;
};

/* words ends with NULL; argv[0] is added. */
static struct parsed parse(const char *const *words)
{
	struct parsed p = { .conf = conf_new() };
	char *argv[32] = { (char *)"khyve" };
	int argc = 1;

	while (words[argc - 1]) {
		argv[argc] = (char *)words[argc - 1];
		argc++;
	}
	optind = 0; /* start over, also inside a word */
	p.result = options_parse(p.conf, argc, argv, &p.action, &p.status, &p.err);
	return p;
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static void expect(const struct parsed *p, const char *key, const char *value)
{
	const char *got = conf_get(p->conf, key);

	if (p->result < 0)
		CHECK_FAIL("refused: %s", p->err.text);
	if (!got || strcmp(got, value) != 0)
		CHECK_FAIL("%s is \"%s\", not \"%s\"", key, got ? got : "(unset)", value);
}

static void refused(const struct parsed *p, int status, const char *part)
{
	if (p->result >= 0)
		CHECK_FAIL("accepted, but \"%s\" was expected", part);
	CHECK_EQ(p->status, status);
	if (!strstr(p->err.text, part))
		CHECK_FAIL("\"%s\" does not say \"%s\"", p->err.text, part);
	conf_free(p->conf);
}

static void test_article_line(void)
{
	struct parsed p = PARSE("-AHPw", "-c", "2", "-m", "1G", "-S", "-U",
				"00112233-4455-6677-8899-aabbccddeeff", "-u", "-s", "0,hostbridge",
				"-s", "31,lpc", "-s", "3:0,ahci-cd,/iso/a.iso,bootindex=1", "-s",
				"4:0,virtio-blk,/vm/web/disk0.img,nocache", "-s", "5:0,virtio-rnd",
				"-s", "6:0,fbuf,tcp=[::]:5900,w=1024,h=768,wait", "-l",
				"com1,stdio", "-l", "bootrom,/fw/CODE.fd,/vm/web/vars.fd", "web");

	expect(&p, "cpus", "2");
	expect(&p, "memory.size", "1G");
	expect(&p, "memory.wired", "true");
	expect(&p, "rtc.use_localtime", "false");
	expect(&p, "x86.strictmsr", "false");
	expect(&p, "pci.0.0.0.device", "hostbridge");
	expect(&p, "pci.0.31.0.device", "lpc");
	expect(&p, "pci.0.3.0.device", "ahci");
	expect(&p, "pci.0.3.0.port.0.type", "cd");
	expect(&p, "pci.0.3.0.port.0.path", "/iso/a.iso");
	expect(&p, "pci.0.3.0.port.0.bootindex", "1");
	expect(&p, "pci.0.4.0.device", "virtio-blk");
	expect(&p, "pci.0.4.0.path", "/vm/web/disk0.img");
	expect(&p, "pci.0.4.0.nocache", "true");
	expect(&p, "pci.0.6.0.tcp", "[::]:5900");
	expect(&p, "pci.0.6.0.wait", "true");
	expect(&p, "lpc.com1.path", "stdio");
	expect(&p, "bootrom", "/fw/CODE.fd");
	expect(&p, "bootvars", "/vm/web/vars.fd");
	expect(&p, "name", "web");
	CHECK_EQ(p.action, OPTIONS_RUN);
	conf_free(p.conf);
}

static void test_memory_numbers(void)
{
	struct parsed p = PARSE("-m", "512", "x");

	expect(&p, "memory.size", "512M");
	conf_free(p.conf);
}

static void test_topology(void)
{
	struct parsed p = PARSE("-c", "cpus=8,sockets=2,cores=2,threads=2", "x");

	expect(&p, "cpus", "8");
	expect(&p, "sockets", "2");
	expect(&p, "cores", "2");
	expect(&p, "threads", "2");
	conf_free(p.conf);
	p = PARSE("-c", "cpu=8", "x");
	refused(&p, OPTIONS_BAD_USAGE, "unknown part \"cpu\"");
}

static void test_slots(void)
{
	static const struct {
		const char *arg, *key, *value;
	} good[] = {
		{ "7,nvme,/d", "pci.0.7.0.path", "/d" },
		{ "7:3,nvme,/d", "pci.0.7.3.path", "/d" },
		{ "0:7:3,nvme,/d", "pci.0.7.3.device", "nvme" },
		{ "7,nvme,ram=64,ser=A", "pci.0.7.0.ram", "64" },
		{ "7,nvme,/d,ns.2.path=/e,ns.2.ro", "pci.0.7.0.ns.2.path", "/e" },
		{ "7,nvme,/d,ns.2.path=/e,ns.2.ro", "pci.0.7.0.ns.2.ro", "true" },
		{ "7,fbuf,unix:/run/x,w=800", "pci.0.7.0.tcp", "unix:/run/x" },
		{ "0,amd_hostbridge", "pci.0.0.0.device", "hostbridge" },
		{ "7,ahci,hd:/a,ro,cd:/b,ser=X", "pci.0.7.0.port.1.type", "cd" },
		{ "7,ahci,hd:/a,ro,cd:/b,ser=X", "pci.0.7.0.port.0.ro", "true" },
		{ "7,ahci,hd:/a,ro,cd:/b,ser=X", "pci.0.7.0.port.1.ser", "X" },
		{ "7,ahci-hd,/a", "pci.0.7.0.port.0.type", "hd" },
		{ "7,xhci,tablet", "pci.0.7.0.slot.1.device", "tablet" },
		{ "7,xhci,tablet,keyboard,disk:/a=b:c,ro", "pci.0.7.0.slot.2.device", "keyboard" },
		{ "7,xhci,tablet,keyboard,disk:/a=b:c,ro", "pci.0.7.0.slot.3.device", "disk" },
		{ "7,xhci,tablet,keyboard,disk:/a=b:c,ro", "pci.0.7.0.slot.3.path", "/a=b:c" },
		{ "7,xhci,tablet,keyboard,disk:/a=b:c,ro", "pci.0.7.0.slot.3.ro", "true" },
		{ "7,xhci,none,disk,path=/a", "pci.0.7.0.slot.2.path", "/a" },
		{ "7,xhci,mouse", "pci.0.7.0.slot.1.device", "mouse" },
	};
	static const char *const bad[] = { "32,nvme,/d",   "1:8,nvme,/d", "256:1:1,nvme", "x,nvme",
					   "1:2:3:4,nvme", ":1,nvme",	  "-1,nvme" };

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct parsed p = PARSE("-s", good[i].arg, "x");

		expect(&p, good[i].key, good[i].value);
		conf_free(p.conf);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct parsed p = PARSE("-s", bad[i], "x");

		refused(&p, OPTIONS_BAD_VALUE, "bad slot");
	}
}

static void test_slot_taken(void)
{
	struct parsed p = PARSE("-s", "3,nvme,/a", "-s", "3,virtio-rnd", "x");

	refused(&p, OPTIONS_BAD_VALUE, "already occupied (-s 3,nvme,/a)");
	p = PARSE("-s", "3", "x");
	refused(&p, OPTIONS_BAD_VALUE, "no device named");
	p = PARSE("-s", "3,ahci-hd,/a,cd:/b", "x");
	refused(&p, OPTIONS_BAD_VALUE, "one disk only");
}

static void test_left_to_right(void)
{
	struct parsed p = PARSE("-m", "1G", "-o", "memory.size=2G", "-c", "1", "-c", "4", "x");

	expect(&p, "memory.size", "2G");
	expect(&p, "cpus", "4");
	conf_free(p.conf);
}

static void test_bad_options(void)
{
	struct parsed p = PARSE("-Z", "x");

	refused(&p, 1, "unknown option -Z");
	p = PARSE("-m");
	refused(&p, 1, "-m needs an argument");
	p = PARSE("one", "two");
	refused(&p, 1, "\"two\" is too much");
	p = PARSE("-o", "novalue", "x");
	refused(&p, OPTIONS_BAD_USAGE, "novalue");
	p = PARSE("-l", "com5,stdio", "x");
	refused(&p, OPTIONS_BAD_USAGE, "-l help");
	p = PARSE("-l", "com1", "x");
	refused(&p, OPTIONS_BAD_USAGE, "-l help");
	p = PARSE("-G", "1234", "x");
	refused(&p, OPTIONS_BAD_USAGE, "not available");
	p = PARSE("-k", "/nonexistent/file", "x");
	refused(&p, OPTIONS_BAD_VALUE, "/nonexistent/file");
}

static void test_actions(void)
{
	struct parsed p = PARSE("-h");

	CHECK_EQ(p.action, OPTIONS_HELP);
	conf_free(p.conf);
	p = PARSE("-s", "help");
	CHECK_EQ(p.action, OPTIONS_HELP_SLOTS);
	conf_free(p.conf);
	p = PARSE("-l", "help");
	CHECK_EQ(p.action, OPTIONS_HELP_LPC);
	conf_free(p.conf);
}

static const struct test_case cases[] = {
	{ "options: a front end's whole line", test_article_line },
	{ "options: -m with a bare number means megabytes", test_memory_numbers },
	{ "options: -c topology", test_topology },
	{ "options: -s places and models", test_slots },
	{ "options: -s refuses what is taken or incomplete", test_slot_taken },
	{ "options: left to right, last write wins", test_left_to_right },
	{ "options: malformed lines say what is wrong", test_bad_options },
	{ "options: help", test_actions },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
