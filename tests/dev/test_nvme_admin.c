/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/test_nvme.h"
#include "util/bytes.h"

/* Identify, log pages and features. */

#define INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_DNR)
#define INVALID_NS (NVME_SC_INVALID_NS | NVME_DNR)

static void fix_start(struct fix *f, const char *conf)
{
	fix_open(f, LOOP_FAKE, conf, 64);
}

static void identify_controller(void)
{
	const uint8_t *p;
	struct fix f;

	fix_start(&f, "ser=MY-SERIAL\neui64=0x1122334455667788\n");
	p = fix_page(&f, NVME_ADM_IDENTIFY, 0, 1);
	CHECK_EQ(get_le16(p), tb_cfg_read(f.dev, 0, 2));
	CHECK(memcmp(p + 4, "MY-SERIAL           ", 20) == 0);
	CHECK(memcmp(p + 24, "khyve NVMe                              ", 40) == 0);
	CHECK_EQ(p[77], 9);
	CHECK_EQ(get_le32(p + 80), NVME_VERSION);
	CHECK_EQ(p[512], 0x66);
	CHECK_EQ(p[513], 0x44);
	CHECK_EQ(get_le32(p + 516), 1);
	CHECK_EQ(p[525], 7);
	CHECK(memcmp(p + 768, "nqn.2014-08.org.nvmexpress:uuid:", 32) == 0);
	CHECK_EQ(strlen((const char *)p + 768), 32 + 36);
	fix_end(&f);
}

static void identify_namespace(void)
{
	const uint8_t *p;
	struct fix f;

	fix_start(&f, "eui64=0x1122334455667788\n");
	p = fix_page(&f, NVME_ADM_IDENTIFY, 1, 0);
	CHECK_EQ(get_le64(p), 8 * MIB / 512);
	CHECK_EQ(get_le64(p + 8), 8 * MIB / 512);
	CHECK_EQ(p[25], 1); /* a disk in memory can be formatted to 4096 */
	CHECK_EQ(p[26], 0);
	CHECK_EQ(get_be64(p + 120), 0x1122334455667788ull);
	CHECK_EQ(p[130], 9);
	p = fix_page(&f, NVME_ADM_IDENTIFY, 0, 2);
	CHECK_EQ(get_le32(p), 1);
	CHECK_EQ(get_le32(p + 4), 0);
	p = fix_page(&f, NVME_ADM_IDENTIFY, 1, 2);
	CHECK_EQ(get_le32(p), 0);
	p = fix_page(&f, NVME_ADM_IDENTIFY, 1, 3);
	CHECK_EQ(p[0], 1);
	CHECK_EQ(p[1], 8);
	CHECK_EQ(get_be64(p + 4), 0x1122334455667788ull);
	CHECK_EQ(p[13], 0);
	fix_end(&f);
}

static void identify_errors(void)
{
	struct fix f;

	fix_start(&f, NULL);
	for (uint32_t cns = 4; cns < 256; cns++)
		CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, 1, cns, 0), INVALID_FIELD);
	fix_end(&f);
}

/* The same path gives the same names, another one others. */
static void names_from_path(void)
{
	uint8_t first[20];
	struct fix f;

	fix_start(&f, "ram=4\n");
	memcpy(first, fix_page(&f, NVME_ADM_IDENTIFY, 0, 1) + 4, 20);
	fix_end(&f);
	fix_start(&f, "ram=4\n");
	CHECK(memcmp(first, fix_page(&f, NVME_ADM_IDENTIFY, 0, 1) + 4, 20) == 0);
	fix_end(&f);
	fix_start(&f, "ram=5\n");
	CHECK(memcmp(first, fix_page(&f, NVME_ADM_IDENTIFY, 0, 1) + 4, 20) != 0);
	fix_end(&f);
}

/* PRP1 at every offset: the bytes land in its page and PRP2's, the canaries around them stay. */
static void nv08_identify_offsets(void)
{
	uint8_t want[NVME_PAGE], expect[5 * NVME_PAGE], *p;
	gpa_t base;
	struct fix f;

	fix_start(&f, NULL);
	memcpy(want, fix_page(&f, NVME_ADM_IDENTIFY, 0, 1), NVME_PAGE);
	base = tb_alloc(f.tb, 5 * NVME_PAGE, NVME_PAGE);
	p = tb_mem(f.tb, base, 5 * NVME_PAGE);
	for (uint32_t offset = 4; offset < NVME_PAGE; offset += 4) {
		struct nvme_sqe cmd =
			tb_nvme_admin(NVME_ADM_IDENTIFY, 0, base + NVME_PAGE + offset, 1, 0);

		cmd.prp2 = base + 3 * NVME_PAGE;
		memset(p, 0xee, 5 * NVME_PAGE);
		memset(expect, 0xee, sizeof(expect));
		memcpy(expect + NVME_PAGE + offset, want, NVME_PAGE - offset);
		memcpy(expect + 3 * NVME_PAGE, want + NVME_PAGE - offset, offset);
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), 0);
		CHECK(memcmp(p, expect, sizeof(expect)) == 0);
	}
	fix_end(&f);
}

static uint16_t get_log(struct fix *f, uint32_t cdw10, uint32_t cdw11, uint64_t offset)
{
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_GET_LOG, NVME_NSID_ALL, 0x10000, cdw10, cdw11);

	cmd.cdw12 = (uint32_t)offset;
	cmd.cdw13 = (uint32_t)(offset >> 32);
	return tb_nvme_do(&f->nv, 0, &cmd, NULL);
}

static void nv09_get_log(void)
{
	static const uint64_t bad[] = { 516, 1, 2, 510, 4096, 1ull << 63, UINT64_MAX };
	uint8_t *p;
	struct fix f;

	fix_start(&f, NULL);
	p = tb_mem(f.tb, 0x10000, 2 * NVME_PAGE);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(get_log(&f, NVME_LOG_SMART | 127 << 16, 0, bad[i]), INVALID_FIELD);
	/* at the end, and one dword before it: no more than the log, then zeroes */
	memset(p, 0xee, 2 * NVME_PAGE);
	CHECK_EQ(get_log(&f, NVME_LOG_SMART | 1023u << 16, 0, 512), 0);
	for (uint32_t i = 0; i < NVME_PAGE; i++)
		CHECK_EQ(p[i], 0);
	CHECK_EQ(p[NVME_PAGE], 0xee);
	CHECK_EQ(get_log(&f, NVME_LOG_SMART, 0, 508), 0);
	/* one dword asked: one dword written */
	memset(p, 0xee, NVME_PAGE);
	CHECK_EQ(get_log(&f, NVME_LOG_SMART, 0, 0), 0);
	CHECK_EQ(p[3], 100);
	CHECK_EQ(p[4], 0xee);
	/* 16 GiB, and just above 2 MiB */
	CHECK_EQ(get_log(&f, NVME_LOG_SMART | 0xffffu << 16, 0xffff, 0), INVALID_FIELD);
	CHECK_EQ(get_log(&f, NVME_LOG_SMART, 8, 0), INVALID_FIELD);
	for (uint32_t lid = 0; lid < 256; lid++)
		CHECK_EQ(get_log(&f, lid | 15 << 16, 0, 0),
			 lid >= 1 && lid <= 4 ? 0 : NVME_SC_LOG_PAGE | NVME_DNR);
	fix_end(&f);
}

static void log_contents(void)
{
	struct nvme_sqe bad = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20001, 0);
	struct nvme_sqe good = tb_nvme_rw(NVME_CMD_WRITE, 0, 8, 0x20000, 0);
	const uint8_t *p;
	struct fix f;

	fix_start(&f, NULL);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(tb_nvme_do(&f.nv, 1, &bad, NULL), NVME_SC_PRP_OFFSET | NVME_DNR);
	for (int i = 0; i < 126; i++)
		CHECK_EQ(tb_nvme_do(&f.nv, 1, &good, NULL), 0);
	p = fix_page(&f, NVME_ADM_GET_LOG, 0, NVME_LOG_ERROR | 63 << 16);
	CHECK_EQ(get_le64(p), 6);
	CHECK_EQ(get_le16(p + 8), 1);
	CHECK_EQ(get_le16(p + 12) >> 1, NVME_SC_PRP_OFFSET | NVME_DNR);
	CHECK_EQ(get_le64(p + 64 * 3), 3);
	p = fix_page(&f, NVME_ADM_GET_LOG, 1, NVME_LOG_SMART | 127 << 16);
	CHECK_EQ(get_le64(p + 48), 2); /* 126 x 4 KiB in units of 512,000 bytes */
	CHECK_EQ(get_le64(p + 80), 126);
	CHECK_EQ(get_le64(p + 176), 6);
	p = fix_page(&f, NVME_ADM_GET_LOG, 0, NVME_LOG_FIRMWARE | 127 << 16);
	CHECK_EQ(p[0], 1);
	CHECK(memcmp(p + 8, "1.0     ", 8) == 0);
	fix_end(&f);
}

static void nv14_nsid_admin(void)
{
	static const uint32_t wrong[] = { 2, 3, 0x80000000, 0xfffffffe };
	struct fix f;

	fix_start(&f, NULL);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		uint32_t nsid = wrong[i];

		CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, nsid, 0, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, nsid, 3, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, nsid, 7, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, nsid, 6, 1), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_GET_LOG, nsid, NVME_LOG_SMART, 0), INVALID_NS);
	}
	CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, 0, 0, 0), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, NVME_NSID_ALL, 0, 0), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, NVME_NSID_ALL, 2, 0), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, 0xfffffffe, 2, 0), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, NVME_NSID_ALL, 3, 0), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, NVME_NSID_ALL, 6, 0), 0);
	fix_end(&f);
}

/* Every feature: its default, a value that is kept, one that is refused, and the default again after a reset. */
static void features(void)
{
	static const struct {
		uint8_t id;
		uint32_t select, first, value, kept, bad, nsid;
	} cases[] = {
		{ NVME_FEAT_ARBITRATION, 0, 0, 0x01020304, 0x01020304, 0x8 },
		{ NVME_FEAT_POWER, 0, 0, 0, 0, 1 },
		{ NVME_FEAT_TEMPERATURE, 0, 343, 350, 350, 1 << 16 },
		{ NVME_FEAT_TEMPERATURE, 1 << 20, 0, 1 << 20 | 270, 270, 2 << 20 },
		{ NVME_FEAT_ERROR_RECOVERY, 0, 0, 100, 100, 1 << 16, 1 },
		{ NVME_FEAT_WRITE_CACHE, 0, 1, 0, 0, 0 },
		{ NVME_FEAT_COALESCING, 0, 0, 0x1234, 0x1234, 0x10000 },
		{ NVME_FEAT_VECTOR, 3, 3, 1 << 16 | 3, 1 << 16 | 3, 17 },
		{ NVME_FEAT_ATOMICITY, 0, 0, 1, 1, 2 },
		{ NVME_FEAT_ASYNC_EVENT, 0, 0, 0x31f, 0x11f, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t got = 0, id = cases[i].id, nsid = cases[i].nsid;
		struct nvme_sqe get =
			tb_nvme_admin(NVME_ADM_GET_FEATURES, nsid, 0, id, cases[i].select);
		struct fix f;

		fix_start(&f, NULL);
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &got), 0);
		CHECK_EQ(got, cases[i].first);
		CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, nsid, id, cases[i].value), 0);
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &got), 0);
		CHECK_EQ(got, cases[i].kept);
		if (cases[i].bad)
			CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, nsid, id, cases[i].bad),
				 INVALID_FIELD);
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &got), 0);
		CHECK_EQ(got, cases[i].kept);
		CHECK(tb_nvme_disable(&f.nv));
		CHECK(tb_nvme_enable(&f.nv, 8, 8));
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &got), 0);
		CHECK_EQ(got, cases[i].first);
		fix_end(&f);
	}
}

static void feature_errors(void)
{
	struct nvme_sqe get = tb_nvme_admin(NVME_ADM_GET_FEATURES, 0, 0, NVME_FEAT_QUEUES, 0);
	uint32_t dw0;
	struct fix f;

	fix_start(&f, "maxq=5\n");
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &dw0), 0);
	CHECK_EQ(dw0, 4 << 16 | 4);
	CHECK(tb_nvme_disable(&f.nv));
	CHECK(tb_nvme_enable(&f.nv, 8, 8));
	get = tb_nvme_admin(NVME_ADM_SET_FEATURES, 0, 0, NVME_FEAT_QUEUES, 100 << 16 | 2);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &dw0), 0);
	CHECK_EQ(dw0, 4 << 16 | 4);
	for (uint32_t id = 0; id < 256; id++) {
		if (id >= NVME_FEAT_ARBITRATION && id <= NVME_FEAT_ASYNC_EVENT && id != 3)
			continue;
		CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 0, id, 0), INVALID_FIELD);
		CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, id, 0), INVALID_FIELD);
	}
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, 1u << 31 | 6, 0),
		 NVME_SC_NOT_SAVEABLE | NVME_DNR);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 0, 1u << 8 | 6, 0), INVALID_FIELD);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 0, NVME_FEAT_VECTOR, 6), INVALID_FIELD);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 0, NVME_FEAT_TEMPERATURE, 15 << 16),
		 INVALID_FIELD);
	fix_end(&f);
}

/* Commands that a controller may have, and the bit of Identify Controller that says so. */
static const struct {
	uint16_t field, bit; /* in Identify Controller */
	uint8_t opcode;
	bool io;
} commands[] = {
	{ 256, 0, 0x81, false }, /* Security Send */
	{ 256, 0, 0x82, false }, /* Security Receive */
	{ 256, 1, 0x80, false }, /* Format NVM */
	{ 256, 2, 0x10, false }, /* Firmware Commit */
	{ 256, 2, 0x11, false }, /* Firmware Image Download */
	{ 256, 3, 0x0d, false }, /* Namespace Management */
	{ 256, 3, 0x15, false }, /* Namespace Attachment */
	{ 256, 4, 0x14, false }, /* Device Self-test */
	{ 256, 5, 0x19, false }, /* Directive Send */
	{ 256, 5, 0x1a, false }, /* Directive Receive */
	{ 256, 6, 0x1d, false }, /* NVMe-MI Send */
	{ 256, 6, 0x1e, false }, /* NVMe-MI Receive */
	{ 256, 7, 0x1c, false }, /* Virtualization Management */
	{ 256, 8, 0x7c, false }, /* Doorbell Buffer Config */
	{ 256, 9, 0x86, false }, /* Get LBA Status */
	{ 320, 0, 0x18, false }, /* KAS: Keep Alive */
	{ 328, 0, 0x84, false }, /* SANICAP: Sanitize */
	{ 328, 1, 0x84, false }, /* the same */
	{ 328, 2, 0x84, false }, /* the same */
	{ 520, 0, 0x05, true }, /* Compare */
	{ 520, 1, 0x04, true }, /* Write Uncorrectable */
	{ 520, 2, 0x09, true }, /* Dataset Management */
	{ 520, 3, 0x08, true }, /* Write Zeroes */
	{ 520, 5, 0x0d, true }, /* Reservation Register */
	{ 520, 5, 0x0e, true }, /* Reservation Report */
	{ 520, 5, 0x11, true }, /* Reservation Acquire */
	{ 520, 5, 0x15, true }, /* Reservation Release */
	{ 520, 7, 0x0c, true }, /* Verify */
};

/* What is no command: features and log pages. id: Identify Controller. first: there is one namespace only. */
static void check_no_claims(struct fix *f, const uint8_t *id, bool first)
{
	/* ONCS 4: saved features; 6: timestamp; HCTMA, APSTA, HMPRE, KAS, RRLS: features of theirs */
	CHECK_EQ(get_le16(id + 520) & (BIT(4) | BIT(6)), 0);
	CHECK_EQ(fix_admin(f, NVME_ADM_GET_FEATURES, 0, 3u << 8 | NVME_FEAT_WRITE_CACHE, 0),
		 INVALID_FIELD);
	CHECK_EQ(id[265] | id[272] | id[276] | get_le16(id + 320) | id[322] | id[100], 0);
	for (uint8_t feature = 0x0c; feature <= 0x15; feature++)
		CHECK_EQ(fix_admin(f, NVME_ADM_GET_FEATURES, 0, feature, 0), INVALID_FIELD);
	/* FUSES, SGLS, NVSCC, AVSCC: nothing but plain commands and PRPs */
	CHECK_EQ(get_le16(id + 522) | get_le32(id + 536) | id[530] | id[264], 0);
	/* LPA: no effects, telemetry or persistent event log */
	CHECK_EQ(id[261] & (BIT(1) | BIT(3) | BIT(4)), 0);
	for (uint32_t page = 5; page < 14; page++)
		CHECK_EQ(fix_admin(f, NVME_ADM_GET_LOG, 0, page, 0), NVME_SC_LOG_PAGE | NVME_DNR);
	/* OAES: only namespace attributes; VWC: Flush of all namespaces; FNA: each by itself, no cryptographic erase */
	CHECK_EQ(get_le32(id + 92), BIT(8));
	CHECK_EQ(id[525], 7);
	CHECK_EQ(id[524], 0);
	CHECK_EQ(get_le32(id + 516), first ? 1 : 3);
}

/* What Identify Controller claims is there, and what it does not claim is not. */
static void check_claims(const char *conf, bool first)
{
	uint8_t id[NVME_PAGE];
	struct fix f;

	fix_start(&f, conf);
	memcpy(id, fix_page(&f, NVME_ADM_IDENTIFY, 0, 1), sizeof(id));
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		/* one page twice is nothing for Doorbell Buffer Config, which must not be on here */
		struct nvme_sqe cmd = {
			.cdw0 = commands[i].opcode, .nsid = 1, .prp1 = 0x20000, .prp2 = 0x20000
		};
		bool claimed = get_le16(id + commands[i].field) >> commands[i].bit & 1;
		uint16_t status = tb_nvme_do(&f.nv, commands[i].io, &cmd, NULL);

		if (claimed != (status != (NVME_SC_INVALID_OPCODE | NVME_DNR)))
			CHECK_FAIL("byte %u bit %u is %d, opcode %02x gave %#x", commands[i].field,
				   commands[i].bit, claimed, commands[i].opcode, status);
	}
	check_no_claims(&f, id, first);
	fix_end(&f);
}

static void claims(void)
{
	check_claims(NULL, true);
	check_claims("dsm=disable\n", true);
	check_claims("ro=true\n", true);
	check_claims("nodelete=true\n", true);
	check_claims("ro=true\nns.3.path=mem:1M\n", false);
}

static void nv16_reserved_fields(void)
{
	struct nvme_sqe cmd;
	struct fix f;

	fix_start(&f, NULL);
	for (unsigned int bit = 8; bit < 16; bit++) {
		cmd = (struct nvme_sqe){ .cdw0 = NVME_CMD_FLUSH | 1u << bit, .nsid = 1 };
		CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), INVALID_FIELD);
		cmd = tb_nvme_admin(NVME_ADM_IDENTIFY, 1, 0x20000, 0, 0);
		cmd.cdw0 |= 1u << bit;
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), INVALID_FIELD);
	}
	cmd = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);
	cmd.mptr = 0x30000;
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), INVALID_FIELD);
	cmd = tb_nvme_rw(NVME_CMD_WRITE, 0, 1, 0x20000, 0);
	cmd.cdw12 |= 1 << 20; /* directive */
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), INVALID_FIELD);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "identify_controller", identify_controller },
	{ "identify_namespace", identify_namespace },
	{ "identify_errors", identify_errors },
	{ "names_from_path", names_from_path },
	{ "nv08_identify_offsets", nv08_identify_offsets },
	{ "nv09_get_log", nv09_get_log },
	{ "log_contents", log_contents },
	{ "nv14_nsid_admin", nv14_nsid_admin },
	{ "claims", claims },
	{ "nv16_reserved_fields", nv16_reserved_fields },
	{ "features", features },
	{ "feature_errors", feature_errors },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
