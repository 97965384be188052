/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <getopt.h>
#include <string.h>

#include "manager/guest.h"
#include "manager/guestconf.h"
#include "vm.h"

int vm_protected(const struct guest *g)
{
	struct gconf *conf;
	bool is;

	if (gconf_load(g->conf, &conf, NULL) < 0)
		return 0;
	is = gconf_bool(conf, "protect", false);
	gconf_free(conf);
	return is ? ui_error(K(020) "%s is protected; 'vm protect %s off' allows it", g->name,
			     g->name)
		  : 0;
}

int verb_protect(struct vm *vm, int argc, char **argv)
{
	struct gconf *conf;
	struct guest g;
	struct err err = { "" };
	bool on;
	int lock, r = 0;

	if (ui_option(argc, argv, "") != -1 || argc - optind != 2)
		return ui_usage(vm);
	on = strcmp(argv[optind + 1], "on") == 0;
	if (!on && strcmp(argv[optind + 1], "off") != 0)
		return ui_error(K(004) "'%s' is neither on nor off", argv[optind + 1]);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	if (guest_edit_begin(&g, &conf, &lock, &err) < 0)
		return ui_error("%s", err.text);
	if (on != gconf_bool(conf, "protect", false)) {
		if (on)
			r = gconf_set(conf, "protect", "yes");
		else
			gconf_unset(conf, "protect");
		if (r == 0)
			r = gconf_save(conf, g.conf, &err);
	}
	guest_edit_end(conf, lock);
	if (r < 0)
		err_prefix(&err, r, "%s", g.name);
	return vm_done(vm, r, &err, on ? "protect %s" : "protect %s no more", g.name);
}
