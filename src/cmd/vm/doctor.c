/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "kvm/kvm.h"
#include "manager/firmware.h"
#include "manager/prog.h"
#include "manager/wall.h"
#include "ui_json.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"
#include "vm.h"

#define TEXT 600
#define FILE_MAX (1u << 20)

enum health { HEALTH_OK, HEALTH_NOTE, HEALTH_WARNING, HEALTH_BAD };

/* What was found out about one thing. */
struct finding {
	enum health health;
	char cause[TEXT]; /* what is */
	const char *effect, *fix; /* what follows from it, what to do; NULL if all is well */
};

static void __attribute__((format(printf, 5, 6)))
find(struct finding *f, enum health health, const char *effect, const char *fix, const char *fmt,
     ...)
{
	char code[ERR_CODE_SIZE];
	va_list ap;

	f->health = health;
	f->effect = effect;
	f->fix = fix;
	va_start(ap, fmt);
	if (vsnprintf(f->cause, sizeof(f->cause), fmt, ap) < 0)
		f->cause[0] = '\0';
	va_end(ap);
	err_take_code(f->cause, code);
}

/* The first line of a small file of /proc or /sys, "" if there is none. */
static const char *read_line(const char *path, char *out, size_t size)
{
	char *text;
	size_t len;

	out[0] = '\0';
	if (fd_read_file(path, FILE_MAX, &text, &len) == 0) {
		text[strcspn(text, "\n")] = '\0';
		(void)str_copy(out, size, text);
		free(text);
	}
	return out;
}

/* Whether a word stands in the line of /proc/cpuinfo that begins with name. */
static bool cpu_has(const char *info, const char *name, const char *word)
{
	const char *line = strstr(info, name), *end, *p;
	size_t len = strlen(word);

	if (!line)
		return false;
	end = line + 1 + strcspn(line + 1, "\n");
	for (p = line; (p = strstr(p, word)) && p < end; p += len) {
		if (p[-1] == ' ' && strchr(" \n", p[len]))
			return true;
	}
	return false;
}

static void check_cpu(const struct vm *vm, struct finding *f)
{
	bool intel, amd, popcnt, pages;
	char *info;
	size_t len;

	(void)vm;
	if (fd_read_file("/proc/cpuinfo", FILE_MAX, &info, &len) < 0) {
		find(f, HEALTH_WARNING, "nothing is known of the processor", "mount /proc",
		     "/proc/cpuinfo cannot be read");
		return;
	}
	intel = cpu_has(info, "\nflags", "vmx");
	amd = cpu_has(info, "\nflags", "svm");
	/*
	 * FreeBSD's manual has POPCNT looked for as a sign of a processor that runs a guest's real
	 * mode by itself; Linux tells that directly.
	 */
	popcnt = cpu_has(info, "\nflags", "popcnt");
	pages = amd ? cpu_has(info, "\nflags", "npt")
		    : cpu_has(info, "\nvmx flags", "ept") &&
				cpu_has(info, "\nvmx flags", "unrestricted_guest");
	free(info);
	if (!intel && !amd)
		find(f, access("/dev/kvm", F_OK) == 0 ? HEALTH_NOTE : HEALTH_BAD,
		     "guests need KVM of another kind, or cannot run",
		     "switch virtualization on in the firmware setup of this machine; in a virtual "
		     "machine, have its host pass it on",
		     "the processor shows neither VT-x (vmx) nor AMD-V (svm)");
	else if (!pages)
		find(f, HEALTH_WARNING, "guests are slow, and some do not start",
		     "use a newer processor", "the processor has %s without %s%s",
		     intel ? "VT-x" : "AMD-V",
		     intel ? "EPT and unrestricted guests" : "nested pages",
		     popcnt ? "" : ", and no POPCNT");
	else
		find(f, HEALTH_OK, NULL, NULL, "%s, second level page tables%s",
		     intel ? "VT-x" : "AMD-V", popcnt ? ", POPCNT" : "");
}

static void check_kvm(const struct vm *vm, struct finding *f)
{
	struct err err = { "" };
	char *colon;

	(void)vm;
	if (kvm_check(&err) == 0) {
		find(f, HEALTH_OK, NULL, NULL, "/dev/kvm may be used and has all that is needed");
		return;
	}
	find(f, HEALTH_BAD, "no guest can start", "use a newer kernel", "%s", err.text);
	/* What to do stands behind the cause. */
	colon = strstr(f->cause, ": ");
	if (colon) {
		*colon = '\0';
		f->fix = colon + 2;
	}
}

static void check_nested(const struct vm *vm, struct finding *f)
{
	char intel[16], amd[16];
	const char *value;

	(void)vm;
	read_line("/sys/module/kvm_intel/parameters/nested", intel, sizeof(intel));
	read_line("/sys/module/kvm_amd/parameters/nested", amd, sizeof(amd));
	value = intel[0] ? intel : amd;
	if (value[0] == 'Y' || value[0] == '1')
		find(f, HEALTH_OK, NULL, NULL, "guests may run guests of their own");
	else
		find(f, HEALTH_NOTE, "guests cannot run guests of their own",
		     "options kvm_intel nested=1 (or kvm_amd) in /etc/modprobe.d, if that is wanted",
		     "nested virtualization is off");
}

static void check_iommu(const struct vm *vm, struct finding *f)
{
	DIR *d = opendir("/sys/kernel/iommu_groups");
	unsigned n = 0;

	(void)vm;
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	if (n > 2)
		find(f, HEALTH_OK, NULL, NULL, "%u groups of devices", n - 2);
	else
		find(f, HEALTH_NOTE, "devices of this host cannot be given to guests",
		     "switch VT-d or AMD-Vi on in the firmware setup, if that is wanted",
		     "no IOMMU is in use");
}

static void check_firmware(const struct vm *vm, struct finding *f)
{
	struct err err = { "" };
	struct firmware fw;

	(void)vm;
	if (firmware_find(&fw, &err) < 0)
		find(f, HEALTH_BAD, "guests with loader=\"uefi\" do not start", "apt install ovmf",
		     "%s", err.text);
	else
		find(f, HEALTH_OK, NULL, NULL, "%s", fw.code);
}

static void check_khyve(const struct vm *vm, struct finding *f)
{
	struct err err = { "" };
	char path[PATH_MAX];

	(void)vm;
	if (vm_khyve(path, sizeof(path), &err) < 0 || access(path, X_OK) < 0)
		find(f, HEALTH_BAD, "no guest can start", "install khyve whole, or set KHYVE",
		     "khyve is not beside vm");
	else
		find(f, HEALTH_OK, NULL, NULL, "%s", path);
}

static void check_memory(const struct vm *vm, struct finding *f)
{
	unsigned long long kib = 0;
	char *text, *line;
	size_t len;

	(void)vm;
	if (fd_read_file("/proc/meminfo", FILE_MAX, &text, &len) == 0) {
		line = strstr(text, "\nMemAvailable:");
		kib = line ? strtoull(line + 14, NULL, 10) : 0;
		free(text);
	}
	if (kib < 512 * 1024)
		find(f, HEALTH_WARNING, "guests may be killed for want of memory",
		     "end something, or give guests less", "%llu MiB are free", kib / 1024);
	else
		find(f, HEALTH_OK, NULL, NULL, "%llu MiB are free", kib / 1024);
}

static void check_disk(const struct vm *vm, struct finding *f)
{
	struct statvfs v;
	unsigned long long mib;

	if (statvfs(vm->store.dir, &v) < 0) {
		find(f, errno == ENOENT ? HEALTH_NOTE : HEALTH_WARNING, "there are no guests",
		     "'vm init' makes it", "%s: %s", vm->store.dir, strerror(errno));
		return;
	}
	mib = (unsigned long long)v.f_bavail * v.f_frsize / MIB;
	if (mib < 5 * 1024)
		find(f, mib < 512 ? HEALTH_BAD : HEALTH_WARNING,
		     "guests' disks are sparse: what they write later may find no room",
		     "free some; 'vm trash empty' removes destroyed guests for good",
		     "%llu MiB are free in %s", mib, vm->store.dir);
	else
		find(f, HEALTH_OK, NULL, NULL, "%llu GiB are free in %s", mib / 1024,
		     vm->store.dir);
}

/* Copies the name of a time daemon that runs. */
static bool find_daemon(char *out, size_t size)
{
	static const char *const names[] = { "chronyd", "ntpd", "openntpd", "systemd-timesyn" };
	struct dirent *e;
	bool found = false;
	DIR *d = opendir("/proc");

	while (d && !found && (e = readdir(d))) {
		char path[300];

		if (e->d_name[0] < '0' || e->d_name[0] > '9' ||
		    snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name) < 0)
			continue;
		read_line(path, out, size);
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			found |= strcmp(out, names[i]) == 0;
	}
	if (d)
		closedir(d);
	return found;
}

static void check_clock(const struct vm *vm, struct finding *f)
{
	struct timex t = { 0 };
	char name[64];
	bool synced = adjtimex(&t) >= 0 && !(t.status & STA_UNSYNC);

	(void)vm;
	if (find_daemon(name, sizeof(name)))
		find(f, synced ? HEALTH_OK : HEALTH_NOTE,
		     synced ? NULL : "guests take the time from this host",
		     synced ? NULL : "wait some minutes", "%s runs%s", name,
		     synced ? "" : ", the clock is not synchronised yet");
	else if (synced)
		find(f, HEALTH_OK, NULL, NULL, "the kernel's clock is synchronised");
	else
		find(f, HEALTH_WARNING,
		     "a loaded host drifts, and its guests, which take the time from it, with it",
		     "apt install chrony (or openntpd, or systemd-timesyncd)",
		     "nothing synchronises the clock");
}

static void check_network(const struct vm *vm, struct finding *f)
{
	(void)vm;
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		find(f, HEALTH_WARNING, "guests have no cards on switches, only user networking",
		     "modprobe tun, or run as root", "/dev/net/tun: %s", strerror(errno));
	else if (access("/sys/module/bridge", F_OK) < 0 && access("/sys/class/net", F_OK) == 0)
		find(f, HEALTH_NOTE, "the first switch loads it, if the kernel has it",
		     "modprobe bridge", "the module bridge is not loaded");
	else
		find(f, HEALTH_OK, NULL, NULL, "taps and bridges");
}

static void check_firewall(const struct vm *vm, struct finding *f)
{
	static const char *const list[] = { "nft", "-j", "list", "ruleset", NULL };
	struct err err = { "" };
	json_t *rules = NULL;
	char *out = NULL, on[8];
	bool stops;

	(void)vm;
	if (geteuid() != 0) {
		find(f, HEALTH_NOTE, "a firewall may keep guests from the network",
		     "run 'vm doctor' as root", "only root can look at the rules");
		return;
	}
	if (prog_run(list, NULL, &out, &err) < 0 || !(rules = json_loads(out, 0, NULL))) {
		find(f, HEALTH_NOTE, "a firewall may keep guests from the network",
		     "apt install nftables", "%s", err.text[0] ? err.text : "nft says nothing");
		free(out);
		return;
	}
	stops = wall_stops_forward(rules);
	json_decref(rules);
	free(out);
	read_line("/proc/sys/net/bridge/bridge-nf-call-iptables", on, sizeof(on));
	if (stops && on[0] == '1')
		find(f, HEALTH_WARNING, "guests on one bridge may not reach each other, or the net",
		     "sysctl net.bridge.bridge-nf-call-iptables=0",
		     "a FORWARD chain refuses packets, and what passes bridges has to pass it too");
	else if (stops)
		find(f, HEALTH_NOTE, "NAT switches add rules of their own that let guests pass",
		     "see NAT SWITCHES in vm(8) if guests have no network",
		     "a FORWARD chain refuses what it does not know, as Docker's does");
	else
		find(f, HEALTH_OK, NULL, NULL, "nothing stops what guests send");
}

static void check_programs(const struct vm *vm, struct finding *f)
{
	static const char *const names[] = { "nft", "dnsmasq", "qemu-img", "gpgv", "ssh" };
	char missing[128] = "", path[PATH_MAX];
	size_t n = 0;

	(void)vm;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (prog_find(names[i], path, sizeof(path)) < 0)
			n += (size_t)snprintf(missing + n, sizeof(missing) - n, " %s", names[i]);
	}
	if (n)
		find(f, HEALTH_NOTE,
		     "missing are: NAT switches (nft, dnsmasq), qcow2 images (qemu-img), "
		     "signatures (gpgv), vm ssh (ssh)",
		     "apt install nftables dnsmasq-base qemu-utils gpgv openssh-client",
		     "not installed:%s", missing);
	else
		find(f, HEALTH_OK, NULL, NULL, "nft, dnsmasq, qemu-img, gpgv and ssh");
}

static const struct {
	const char *name;
	void (*check)(const struct vm *vm, struct finding *f);
} checks[] = {
	{ "processor", check_cpu },	{ "kvm", check_kvm },
	{ "nested", check_nested },	{ "iommu", check_iommu },
	{ "firmware", check_firmware }, { "khyve", check_khyve },
	{ "memory", check_memory },	{ "disk", check_disk },
	{ "clock", check_clock },	{ "network", check_network },
	{ "firewall", check_firewall }, { "programs", check_programs },
};

static void print_finding(const char *health, const char *name, const struct finding *f)
{
	char first[24];

	(void)snprintf(first, sizeof(first), "%-8s %-10s ", health, name);
	ui_wrap(stdout, first, 20, f->cause);
	if (!f->fix)
		return;
	ui_wrap(stdout, "                    ", 20, f->effect);
	ui_wrap(stdout, "                    to do: ", 27, f->fix);
}

int verb_doctor(struct vm *vm, int argc, char **argv)
{
	static const char *const words[] = { "ok", "note", "warning", "bad" };
	enum health worst = HEALTH_OK;
	json_t *list = json_array();
	bool json;
	int status;

	if (ui_json_option(argc, argv, &json) < 0 || optind < argc)
		return ui_usage(vm);
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		struct finding f = { .health = HEALTH_OK };

		checks[i].check(vm, &f);
		worst = MAX(worst, f.health);
		if (json)
			json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?, s:s?}", "name",
							      checks[i].name, "health",
							      words[f.health], "cause", f.cause,
							      "effect", f.effect, "fix", f.fix));
		else
			print_finding(words[f.health], checks[i].name, &f);
	}
	status =
		json ? ui_json_print(json_pack("{s:o, s:s}", "checks", list, "worst", words[worst]))
		     : 0;
	if (!json)
		json_decref(list);
	return status ? status : worst == HEALTH_BAD ? VM_HOST : 0;
}
