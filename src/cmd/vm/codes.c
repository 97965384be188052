/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "codes.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "util/macros.h"
#include "vm.h"

/* What K() in front of a message stands for. A code never changes its meaning. */
static const struct code codes[] = {
	{ "K001", VM_FAILED, "The word after vm is no command, or the beginning of several.",
	  "'vm help' lists the commands; a command may be shortened as long as it is unique." },
	{ "K002", VM_USAGE, "The command does not have this option, or its value is missing.",
	  "'vm help COMMAND' lists the options." },
	{ "K003", VM_FAILED,
	  "The command asks before it does something that cannot be undone, and its input has no answer.",
	  "Answer y or n, or give -f in scripts." },
	{ "K004", VM_FAILED, "A word of the command has not the form that is wanted there.",
	  "The message says which form; 'vm help COMMAND' shows the whole command." },
	{ "K005", VM_FAILED,
	  "Names of guests, switches, tags and datastores have 2 to 231 letters, digits and . - _, the first and the last a letter or digit.",
	  "Choose another name." },
	{ "K006", VM_FAILED,
	  "A value is out of range or not of the form that the command takes, or two options do not go together.",
	  "The message names the value and what is valid." },
	{ "K010", VM_NOT_FOUND,
	  "No datastore has a guest of this name: a folder NAME with a file NAME.conf in it.",
	  "'vm list' shows the guests; 'vm trash list' those that were destroyed within seven days." },
	{ "K011", VM_NOT_FOUND, "No switch of this name is configured.",
	  "'vm switch list' shows them, 'vm switch create NAME' makes one." },
	{ "K012", VM_NOT_FOUND,
	  "The template is neither in the datastore's .templates nor among those that come with khyve, or it names no disk.",
	  "Look into the two folders that the message names; vm create -t takes a name without .conf." },
	{ "K013", VM_NOT_FOUND,
	  "There is no such file at the path, in the working folder or in the datastore's folder of media.",
	  "'vm iso' and 'vm img' list what is there, and fetch what is not." },
	{ "K014", VM_NOT_FOUND, "The guest has no snapshot of this name.",
	  "'vm info NAME' lists a guest's snapshots." },
	{ "K015", VM_NOT_FOUND, "The datastore is not configured, or its folder is not there.",
	  "'vm datastore list' shows them; 'vm init' makes the folder of the first one." },
	{ "K016", VM_NOT_FOUND,
	  "No guest of this name was destroyed within the last seven days, or it was removed for good.",
	  "'vm trash list' shows what can be brought back." },
	{ "K017", VM_NOT_FOUND, "The guest or the host does not have the thing that is named.",
	  "'vm info NAME' shows what the guest has, 'ip link' the host's interfaces." },
	{ "K020", VM_STATE, "The guest runs, or is protected, and this cannot be done to it then.",
	  "'vm stop NAME' shuts it down; 'vm protect NAME off' takes the protection away." },
	{ "K021", VM_STATE, "The guest does not run.",
	  "'vm start NAME' starts it; 'vm why NAME' tells why it stopped." },
	{ "K022", VM_BUSY,
	  "Another host that shares the datastore runs the guest; the message names it.",
	  "Stop it there. A lock file whose host is gone for good may be removed by hand: NAME/run.lock." },
	{ "K023", VM_BUSY, "Another command works on the same thing at this moment.",
	  "Wait for it, or for what the message names, and try again." },
	{ "K024", VM_STATE, "Something of this name is there already; nothing was overwritten.",
	  "Choose another name, or remove what is there." },
	{ "K025", VM_STATE, "Going back to an older snapshot loses the newer ones.",
	  "rollback -r removes them." },
	{ "K026", VM_BUSY,
	  "The port of this host is in use; the message says by whom if that can be known.",
	  "Choose another port, or free it: 'vm port remove NAME PORT'." },
	{ "K027", VM_BUSY, "Guests that run use it, so it can be neither changed nor removed.",
	  "Stop the guests that the message names." },
	{ "K030", VM_HOST,
	  "The kernel's virtual machines cannot be used: no such processor, switched off in its firmware, a missing module, or no permission.",
	  "'vm doctor' tells which of these it is and what to do." },
	{ "K031", VM_HOST, "Something that this command needs is not installed.",
	  "The message names the package." },
	{ "K032", VM_HOST, "No firmware for UEFI guests is described on this host.",
	  "apt install ovmf" },
	{ "K033", VM_HOST, "The kernel lacks a module that this needs, or does not let vm use it.",
	  "Load the module that the message names; 'vm doctor' looks for all of them." },
	{ "K034", VM_HOST, "The files or the network belong to another user.",
	  "Run vm as root, or set VM_DIR to a folder of your own." },
	{ "K035", VM_HOST, "khyve cannot do this yet, or it belongs to another system.",
	  "The message says what can be had instead." },
	{ "K040", VM_FAILED,
	  "The guest's file lacks something, or has a value that no guest can be made from. File and line are in the message.",
	  "'vm configure NAME' opens the file; 'vm start -n NAME' tries it without starting anything." },
	{ "K041", VM_FAILED,
	  "The guest's file has a key that nothing reads: most often a slip of the pen.",
	  "The message names the nearest key; vm(8) lists all." },
	{ "K042", VM_FAILED, "khyve did not come up.",
	  "The text behind is khyve's own; 'vm log -k NAME' shows all of it, 'vm why NAME' explains it." },
	{ "K043", VM_FAILED,
	  "A process that works for the guest does not react. The guest itself may be fine.",
	  "Wait a moment; 'vm poweroff NAME' ends it whatever it does." },
	{ "K044", VM_TIMEOUT,
	  "What was waited for did not happen within the time given. Nothing was given up: the guest goes on.",
	  "Wait longer with -t or --timeout, or look: 'vm console NAME', 'vm log NAME'." },
	{ "K050", VM_FAILED, "The file system is full. What had been begun was taken back.",
	  "Free some room; 'vm trash empty' removes destroyed guests for good." },
	{ "K051", VM_FAILED, "The host's disk reported an error.",
	  "Look at the kernel's log (dmesg); keep a copy of what can still be read." },
	{ "K052", VM_FAILED, "A file or folder may not be read or changed by this user.",
	  "Run vm as root, or change the owner of what the message names." },
	{ "K053", VM_FAILED, "A path or a value is longer than the system takes.",
	  "Choose shorter names, or another folder for the datastore." },
	{ "K060", VM_FAILED, "The file could not be fetched. What has come so far is kept.",
	  "The same command goes on where it stopped." },
	{ "K061", VM_FAILED,
	  "The file is not the one that was meant: damaged on its way, replaced, or the checksum is of another version.",
	  "Fetch checksum and file anew from the same place. Do not use the file." },
	{ "K070", VM_HOST,
	  "This interface cannot become a port as it is: the host would lose its way out, or the frames would not pass.",
	  "The message says what to do; a NAT switch ('vm switch create -t nat NAME') needs no port." },
	{ "K071", VM_STATE, "Switches of this type do not have what the command changes.",
	  "'vm switch list' shows the types; vm(8) says what each can do." },
	{ "K072", VM_HOST,
	  "The host's firewall or another program stands between guests and the network.",
	  "The message has the command that lets them through; 'vm doctor' looks for all of these." },
	{ "K080", VM_FAILED, "The host has no memory left for this command.",
	  "End something, or give guests less memory." },
};

const struct code *code_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (strcasecmp(codes[i].name, name) == 0)
			return &codes[i];
	}
	return NULL;
}

const struct code *code_of_system(const char *text)
{
	static const struct {
		int error;
		const char *name;
	} said[] = { { ENOSPC, "K050" }, { EDQUOT, "K050" }, { EIO, "K051" },
		     { EACCES, "K052" }, { EPERM, "K052" },  { EROFS, "K052" } };

	for (size_t i = 0; i < ARRAY_LEN(said); i++) {
		if (strstr(text, strerror(said[i].error)))
			return code_find(said[i].name);
	}
	return NULL;
}

const struct code *code_next(const struct code *c)
{
	if (!c)
		return codes;
	return c + 1 < codes + ARRAY_LEN(codes) ? c + 1 : NULL;
}
