/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_AHCI_PRIV_H
#define HW_AHCI_PRIV_H

#include "back/blk.h"
#include "dev/dev.h"
#include "hw/diskid.h"
#include "pci/pci.h"

/*
 * A SATA controller of AHCI 1.3.1 with ATA disks and ATAPI CD drives. ahci.c: registers and life cycle. ahci_port.c:
 * command lists, transfers, completions, resets. ahci_ata.c and ahci_atapi.c: what the drives do.
 *
 * Registers are written by vCPUs; commands are fetched on the loop's thread only. A reset of any kind raises the port's
 * generation: what is in flight then is "stale", completes silently, and keeps the port from fetching, CR from clearing
 * and the link from coming up, so that no guest memory is used after the guest was told that the port stands still.
 */
#define AHCI_PORTS 32
#define AHCI_SLOTS 32
#define AHCI_IOV 256
#define AHCI_BUF 4096 /* a command's data that does not go to the disk as it is */

/* PxIS and PxIE (s3.3.5) */
#define AHCI_IS_DHRS BIT(0)
#define AHCI_IS_PSS BIT(1)
#define AHCI_IS_SDBS BIT(3)
#define AHCI_IS_OFS BIT(24)
#define AHCI_IS_HBFS BIT(29)
#define AHCI_IS_TFES BIT(30)

/* ATA status and error (ACS-3 s6) */
#define ATA_S_ERR 0x01u
#define ATA_S_DSC 0x10u
#define ATA_S_DRDY 0x40u
#define ATA_S_BSY 0x80u
#define ATA_S_GOOD (ATA_S_DRDY | ATA_S_DSC)
#define ATA_E_ABRT 0x04u
#define ATA_E_IDNF 0x10u
#define ATA_E_UNC 0x40u

#define ATAPI_BLOCK 2048u

struct ahci;
struct ahci_port;

struct ahci_port_conf {
	struct blk_spec blk;
	int type; /* enum ahci_type */
	char *ser, *rev, *model;
	uint64_t nmrr, bootindex;
};

enum ahci_type { AHCI_HD, AHCI_CD };

struct ahci_conf {
	struct ahci_port_conf port[AHCI_PORTS];
};

/* A command in a slot, from its fetch until its completion. */
struct ahci_req {
	struct blk_req req;
	struct ahci_port *port;
	uint32_t generation;
	uint8_t slot;
	bool ncq, pio_in;
	uint8_t cfis[20]; /* the register FIS */
	uint8_t acmd[16]; /* the packet of ATAPI */
	gpa_t prdt;
	uint32_t prdtl; /* entries */
	uint32_t prd, prd_done; /* where the transfer stands: entry, bytes of it used */
	uint32_t moved; /* bytes transferred, for PRDBC */
	uint64_t offset, left; /* of the disk transfer: next byte, bytes to go */
	/* The disk is done: 0, -errno of the disk, -EFAULT bad PRD address, -EOVERFLOW PRDT too short. */
	void (*done)(struct ahci_req *r, int res);
	unsigned int range, ranges; /* TRIM, in the port's buf */
	struct iovec iov[AHCI_IOV];
};

struct ahci_sense {
	uint8_t key, asc, ascq;
};

struct ahci_port {
	struct ahci *hba;
	unsigned int index;
	const struct ahci_port_conf *conf;
	bool present, cd;
	struct blk *disk; /* NULL: absent port or empty drive */
	struct blk_info info;
	char serial[DISKID_LEN + 1];

	/* the guest's view (s3.3) */
	uint64_t clb, fb;
	uint32_t is, ie, sig, ssts, sctl, serr, sact, ci;
	uint8_t status, error; /* PxTFD */
	bool st, fre;
	uint8_t ccs;

	/* latched when ST and FRE were set */
	gpa_t run_clb, run_fb;

	uint32_t generation;
	unsigned int in_flight, stale; /* disk requests; those of older generations among them */
	int busy; /* slot of the command that is not queued, -1: none */
	uint32_t queued; /* NCQ tags in progress */
	uint32_t done_tags; /* NCQ tags to report in one Set Device Bits FIS */
	bool halted; /* after an error, until ST is cleared */
	bool link_pending; /* COMRESET has ended: come up when nothing is stale */
	bool srst; /* between the two FISes of a software reset */

	/* the drive */
	bool write_cache, spun_down;
	uint8_t multiple;
	uint8_t ncq_log[16]; /* the start of log page 10h */
	struct ahci_sense sense;
	bool medium, locked, medium_changed;
	bool eject_wanted, medium_removed; /* to be told by GET EVENT STATUS */
	uint8_t *buf; /* AHCI_BUF bytes */

	struct ahci_req *reqs; /* AHCI_SLOTS */
	struct blk_req *batch[AHCI_SLOTS];
	unsigned int nbatch;
};

struct ahci {
	struct pci_fn fn;
	struct pci_desc pci;
	uint32_t ports, implemented; /* CAP.NP + 1, PI */
	uint32_t is;
	bool ie, resetting;
	bool event; /* something was raised since the last look at the interrupt */
	struct dev_post work;
	struct ahci_port port[AHCI_PORTS];
};

/* --- ahci.c --- */
/* Recomputes IS and the interrupt. */
void ahci_irq_update(struct ahci *h);

/* --- ahci_port.c --- */
/* Reports, fetches, submits for every port. Loop's thread. */
void ahci_run(struct ahci *h);
void ahci_blk_done(struct blk_req *req, int res);
/* PxCMD.ST and FRE, the three resets. Any thread. */
void ahci_port_start(struct ahci_port *p);
void ahci_port_stop(struct ahci_port *p);
void ahci_port_fre(struct ahci_port *p, bool on);
void ahci_port_comreset(struct ahci_port *p);
void ahci_port_link_up(struct ahci_port *p);
/* Power-on state, or HBA reset. */
void ahci_port_reset(struct ahci_port *p);

/* Ends a command. error: the error register; for ATAPI sense << 4. */
void ahci_cmd_done(struct ahci_req *r);
void ahci_cmd_error(struct ahci_req *r, uint8_t error);
/* Ends a command whose PRDT points nowhere or is too short. */
void ahci_cmd_fatal(struct ahci_req *r, uint32_t is);
/* Copies between buf and the PRDT. The bytes moved, or -EFAULT. */
int64_t ahci_copy(struct ahci_req *r, bool to_guest, void *buf, size_t len);
/* Moves len bytes between the PRDT and the disk at offset, then calls r->done. */
void ahci_transfer(struct ahci_req *r, enum blk_op op, unsigned int flags, uint64_t offset,
		   uint64_t len);
/* A request without data: flush, discard. Then r->done. */
void ahci_request(struct ahci_req *r, enum blk_op op, uint64_t offset, uint64_t len);

/* --- the drives: called with a fetched command --- */
void ahci_ata_command(struct ahci_req *r);
void ahci_atapi_command(struct ahci_req *r);
/* IDENTIFY DEVICE or IDENTIFY PACKET DEVICE, from start to end. */
void ahci_identify(struct ahci_req *r);
void ahci_ata_reset(struct ahci_port *p);
void ahci_atapi_reset(struct ahci_port *p);
/* As dev_tray(). */
int ahci_atapi_tray(struct ahci_port *p, enum dev_tray what, const char *path, struct err *err);
void ahci_work(struct dev *d);

#endif
