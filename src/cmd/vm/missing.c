/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <getopt.h>

/* Commands of vm-bhyve that cannot work yet: they say what is missing, and what works instead. */

int verb_suspend(struct vm *vm, int argc, char **argv)
{
	struct run_state state;
	struct guest g;

	if (ui_option(argc, argv, "") != -1 || optind == argc)
		return ui_usage(vm);
	for (int i = optind; i < argc; i++) {
		if (vm_find(vm, argv[i], &g))
			return VM_FAILED;
		run_query(&g, &state);
		if (state.kind == RUN_STOPPED) {
			ui_warning(K(021) "%s doesn't appear to be a running virtual machine",
				   g.name);
			return VM_FAILED;
		}
	}
	return ui_error(
		K(035) "unable to suspend the guest: khyve cannot save the state of a running "
		       "guest yet; 'vm stop' shuts it down");
}

int verb_suspendall(struct vm *vm, int argc, char **argv)
{
	int c = ui_option(argc, argv, "f");

	if ((c != -1 && c != 'f') || optind < argc)
		return ui_usage(vm);
	return ui_error(
		K(035) "unable to suspend the guests: khyve cannot save the state of a running "
		       "guest yet; 'vm stopall' shuts them down");
}

int verb_resume(struct vm *vm, int argc, char **argv)
{
	struct guest g;

	if (ui_option(argc, argv, "") != -1 || optind + 1 != argc)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	return ui_error(
		K(017) "no saved state exists for %s: khyve cannot save the state of a running "
		       "guest yet; 'vm start' boots it",
		g.name);
}

int verb_discard(struct vm *vm, int argc, char **argv)
{
	bool force = false;
	struct guest g;
	int c;

	while ((c = ui_option(argc, argv, "f")) != -1) {
		if (c != 'f')
			return ui_usage(vm);
		force = true;
	}
	if (optind + 1 != argc)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	return force ? 0 : ui_error(K(017) "no saved state exists for %s", g.name);
}

int verb_passthru(struct vm *vm, int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return ui_usage(vm);
	return ui_error(
		K(035) "pci passthrough not supported: khyve has no VFIO device model yet; disks "
		       "and networks of the host are reached by diskN_dev=\"custom\" and "
		       "networkN_device");
}
