/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_MACHINE_PRIV_H
#define MACHINE_MACHINE_PRIV_H

#include "back/input.h"
#include "back/screen.h"
#include "bus/bus.h"
#include "dev/dev.h"
#include "fw/smbios.h"
#include "kvm/kvm.h"
#include "loop/loop.h"
#include "machine/control.h"
#include "machine/machine.h"
#include "machine/settings.h"
#include "machine/usernet.h"
#include "machine/viewer.h"
#include "mem/mem.h"
#include "pci/pci.h"
#include "util/err.h"
#include "util/list.h"

/*
 * Run states. A transition first parks the vCPUs and drains the devices (BUSY), then does what it is for:
 *
 *   WAITING -> RUNNING <-> PAUSED,   RUNNING, STALLED or PAUSED -> BUSY -> RUNNING, PAUSED or OFF
 *
 * A disk in trouble (back/blk.h) parks the vCPUs only, RUNNING <-> STALLED: its requests are in flight until it works.
 */
enum machine_state {
	MACHINE_WAITING,
	MACHINE_RUNNING,
	MACHINE_STALLED,
	MACHINE_PAUSED,
	MACHINE_BUSY,
	MACHINE_OFF,
};

/* What was asked of the machine, from any thread; acted on by the main loop, the first of this order first. */
enum machine_wish {
	WISH_FAIL = 1 << 0,
	WISH_QUIT = 1 << 1,
	WISH_POWEROFF = 1 << 2,
	WISH_TRIPLE_FAULT = 1 << 3,
	WISH_RESET = 1 << 4,
	WISH_PAUSE = 1 << 5,
	WISH_RESUME = 1 << 6,
	WISH_LOOK = 1 << 7, /* at the disks */
};

/* Triple faults in a row, each within this time after a reset, that end the guest instead of resetting it again. */
#define MACHINE_FAULTS_MAX 3
#define MACHINE_FAULT_WINDOW_NS (1 * NS_PER_SEC)

struct machine {
	const struct conf *conf;
	struct settings set;
	struct loop *loop;
	struct mem *mem;
	struct bus *bus;
	struct kvm *kvm;
	struct pci_bus *pci;
	struct input input;
	struct list devs; /* struct dev, in order of creation */
	struct env env; /* what all devices share; name and slot differ */
	struct dev *lpc, *fwcfg, *flash;
	struct fw_smbios_spec smbios;
	struct fw_acpi *acpi;
	struct fw_linux *linux_boot;
	bool amd_hole; /* addresses below 1 TiB that AMD reserves exist in this guest */
	struct screen *screen; /* NULL: no display */
	struct list
		usernets; /* struct usernet, the programs that are the cards' user-mode networks */
	struct viewer *viewer; /* the program that shows the screen */
	char fbuf_node[32]; /* where the display is configured */
	bool wait_viewer; /* do not start before somebody watches */
	struct control *control;
	struct loop_fd signals;
	int signal_fd;

	enum machine_state state;
	uint32_t wishes; /* atomic */
	struct loop_post act;
	unsigned int pausing; /* devices that still have work in flight */
	uint32_t doing; /* the wish that BUSY is for */
	bool resume_paused; /* after a reset, stay paused */
	struct loop_post drained;
	pthread_mutex_t fail_lock;
	struct err fail; /* text for WISH_FAIL and WISH_TRIPLE_FAULT, under fail_lock */
	enum machine_exit exit;
	uint64_t started_ns, reset_ns, resets;
	unsigned int faults;
};

/* machine.c */
/* Loads the kernel of a direct boot and sets the entry state; nothing for firmware. Before each (re)start. */
int machine_load(struct machine *m, struct err *err);

/* devices.c: makes every device that the configuration names, and those that every machine has. */
int machine_add_devices(struct machine *m, struct err *err);
void machine_free_devices(struct machine *m);

/* firmware.c: fw_cfg contents, tables, flash, or the kernel of a direct boot. After the devices. */
int machine_add_firmware(struct machine *m, struct err *err);
/* What differs from the first start on: boot.once. */
void machine_reset_firmware(struct machine *m);
void machine_free_firmware(struct machine *m);

/* One device that has no PCI slot, with settings as "key=value" pairs; the last pair's key is NULL. */
struct machine_pair {
	const char *key, *value;
};
int machine_add_fixed(struct machine *m, const struct dev_ops *ops, const char *name,
		      const struct machine_pair *settings, struct dev **out, struct err *err);

/* run.c */
void machine_wish(struct machine *m, enum machine_wish wish);
/* As machine_wish, with the text that the end of the run reports. Any thread. */
void machine_fail(struct machine *m, enum machine_wish wish, const char *text);
const char *machine_state_name(const struct machine *m);
/* The ACPI power button. */
void machine_power_button(struct machine *m);
/* Posts and signals, as soon as there is a loop. */
int machine_run_init(struct machine *m, struct err *err);
void machine_run_fini(struct machine *m);

/* stall.c: disks in trouble */
/* The first disk in trouble, or false. */
bool machine_trouble(struct machine *m, struct dev **dev, struct blk_trouble *out);
/* Tries what the disks keep once more, or gives it up. */
void machine_disks_retry(struct machine *m);
void machine_disks_give_up(struct machine *m);

/* disks.c: commands of the control socket */
int machine_cmd_disk(void *arg, struct control_client *c, const char *operand, struct err *err);
int machine_cmd_cd(void *arg, struct control_client *c, const char *operand, struct err *err);

/* seat.c: commands for what a person at the machine sees and does */
int machine_cmd_screen(void *arg, struct control_client *c, const char *operand, struct err *err);
int machine_cmd_key(void *arg, struct control_client *c, const char *operand, struct err *err);

/* commands.c */
extern const struct control_cmd machine_commands[];

#endif
