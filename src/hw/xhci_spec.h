/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_XHCI_SPEC_H
#define HW_XHCI_SPEC_H

#include "util/bytes.h"
#include "util/macros.h"

/* Registers and structures of xHCI 1.0, for the model and for the bench; sections are those of the specification. */

/* Where the parts of BAR 0 are */
#define XHCI_BAR_SIZE 0x4000u
#define XHCI_OPER 0x20u
#define XHCI_EXTCAP 0x500u
#define XHCI_RUNTIME 0x1000u
#define XHCI_DOORBELLS 0x2000u
#define XHCI_MSIX 0x3000u

#define XHCI_USB2_PORTS 4u /* ports 1 to 4; devices are here */
#define XHCI_USB3_PORTS 4u /* ports 5 to 8 */
#define XHCI_PORTS (XHCI_USB2_PORTS + XHCI_USB3_PORTS)
#define XHCI_SLOTS 8u

/* s5.3 */
enum {
	XHCI_CAPLENGTH = 0x00,
	XHCI_HCSPARAMS1 = 0x04,
	XHCI_HCSPARAMS2 = 0x08,
	XHCI_HCSPARAMS3 = 0x0c,
	XHCI_HCCPARAMS1 = 0x10,
	XHCI_DBOFF = 0x14,
	XHCI_RTSOFF = 0x18,
};

/* s5.4, offsets in the BAR */
enum {
	XHCI_USBCMD = XHCI_OPER + 0x00,
	XHCI_USBSTS = XHCI_OPER + 0x04,
	XHCI_PAGESIZE = XHCI_OPER + 0x08,
	XHCI_DNCTRL = XHCI_OPER + 0x14,
	XHCI_CRCR = XHCI_OPER + 0x18,
	XHCI_DCBAAP = XHCI_OPER + 0x30,
	XHCI_CONFIG = XHCI_OPER + 0x38,
	XHCI_PORTSC = XHCI_OPER + 0x400, /* 16 bytes apart */
};

#define XHCI_CMD_RS BIT(0)
#define XHCI_CMD_HCRST BIT(1)
#define XHCI_CMD_INTE BIT(2)
#define XHCI_CMD_HSEE BIT(3)
#define XHCI_CMD_CSS BIT(8)
#define XHCI_CMD_CRS BIT(9)
#define XHCI_CMD_EWE BIT(10)

#define XHCI_STS_HCH BIT(0)
#define XHCI_STS_EINT BIT(3)
#define XHCI_STS_PCD BIT(4)
#define XHCI_STS_SRE BIT(10)
#define XHCI_STS_HCE BIT(12)

#define XHCI_CRCR_RCS BIT(0)
#define XHCI_CRCR_CS BIT(1)
#define XHCI_CRCR_CA BIT(2)
#define XHCI_CRCR_CRR BIT(3)

/* s5.4.8 */
#define XHCI_PORT_CCS BIT(0)
#define XHCI_PORT_PED BIT(1)
#define XHCI_PORT_PR BIT(4)
#define XHCI_PORT_PLS_SHIFT 5
#define XHCI_PORT_PLS_MASK (15u << XHCI_PORT_PLS_SHIFT)
#define XHCI_PORT_PP BIT(9)
#define XHCI_PORT_SPEED_SHIFT 10
#define XHCI_PORT_PIC_MASK (3u << 14)
#define XHCI_PORT_LWS BIT(16)
#define XHCI_PORT_CSC BIT(17)
#define XHCI_PORT_PRC BIT(21)
#define XHCI_PORT_PLC BIT(22)
#define XHCI_PORT_CHANGES (0x7fu << 17)
#define XHCI_PORT_WAKE (7u << 25)
#define XHCI_PLS_U0 0u
#define XHCI_PLS_U3 3u
#define XHCI_PLS_RX_DETECT 5u
#define XHCI_PLS_POLLING 7u
#define XHCI_PLS_RESUME 15u

#define XHCI_SPEED_HIGH 3u

/* s5.5 */
enum {
	XHCI_MFINDEX = XHCI_RUNTIME,
	XHCI_IMAN = XHCI_RUNTIME + 0x20,
	XHCI_IMOD = XHCI_RUNTIME + 0x24,
	XHCI_ERSTSZ = XHCI_RUNTIME + 0x28,
	XHCI_ERSTBA = XHCI_RUNTIME + 0x30,
	XHCI_ERDP = XHCI_RUNTIME + 0x38,
};

#define XHCI_IMAN_IP BIT(0)
#define XHCI_IMAN_IE BIT(1)
#define XHCI_ERDP_EHB BIT(3)
#define XHCI_SEGMENT_MIN 16u
#define XHCI_SEGMENT_MAX 4096u

/* s6.4 */
struct xhci_trb {
	le64 param;
	le32 status;
	le32 control;
};
_Static_assert(sizeof(struct xhci_trb) == 16, "layout");

#define XHCI_TRB_SIZE 16u
#define XHCI_TRB_CYCLE BIT(0)
#define XHCI_TRB_TC BIT(1) /* link: toggle cycle */
#define XHCI_TRB_ISP BIT(2)
#define XHCI_TRB_CH BIT(4)
#define XHCI_TRB_IOC BIT(5)
#define XHCI_TRB_IDT BIT(6)
#define XHCI_TRB_BSR BIT(9) /* Address Device: block the set address request */
#define XHCI_TRB_DC BIT(9) /* Configure Endpoint: deconfigure */
#define XHCI_TRB_DIR_IN BIT(16)
#define XHCI_TRB_ED BIT(2) /* transfer event: of an Event Data TRB */
#define XHCI_TRB_TYPE_SHIFT 10
#define XHCI_TRB_TYPE(control) ((control) >> XHCI_TRB_TYPE_SHIFT & 0x3f)
#define XHCI_TRB_LEN(status) ((status)&0x1ffffu)
#define XHCI_TRB_INTERRUPTER(status) ((status) >> 22)

enum xhci_trb_type {
	XHCI_TR_NORMAL = 1,
	XHCI_TR_SETUP,
	XHCI_TR_DATA,
	XHCI_TR_STATUS,
	XHCI_TR_ISOCH,
	XHCI_TR_LINK,
	XHCI_TR_EVENT_DATA,
	XHCI_TR_NOOP,
	XHCI_CR_ENABLE_SLOT,
	XHCI_CR_DISABLE_SLOT,
	XHCI_CR_ADDRESS_DEVICE,
	XHCI_CR_CONFIGURE_ENDPOINT,
	XHCI_CR_EVALUATE_CONTEXT,
	XHCI_CR_RESET_ENDPOINT,
	XHCI_CR_STOP_ENDPOINT,
	XHCI_CR_SET_DEQUEUE,
	XHCI_CR_RESET_DEVICE,
	XHCI_CR_NOOP = 23,
	XHCI_ER_TRANSFER = 32,
	XHCI_ER_COMMAND,
	XHCI_ER_PORT,
};

/* s6.4.5 */
enum xhci_code {
	XHCI_SUCCESS = 1,
	XHCI_TRANSACTION_ERROR = 4,
	XHCI_TRB_ERROR = 5,
	XHCI_STALL = 6,
	XHCI_NO_SLOTS = 9,
	XHCI_SLOT_NOT_ENABLED = 11,
	XHCI_ENDPOINT_NOT_ENABLED = 12,
	XHCI_SHORT_PACKET = 13,
	XHCI_PARAMETER_ERROR = 17,
	XHCI_CONTEXT_STATE_ERROR = 19,
	XHCI_COMMAND_RING_STOPPED = 24,
	XHCI_STOPPED = 26,
};

/* s6.2: contexts of 32 bytes. Word n of slot and endpoint contexts. */
#define XHCI_CTX_SIZE 32u
#define XHCI_DEVICE_CTX_SIZE (32 * XHCI_CTX_SIZE)
#define XHCI_INPUT_CTX_SIZE (33 * XHCI_CTX_SIZE)
#define XHCI_SLOT_ROUTE_MASK 0xfffffu
#define XHCI_SLOT_ENTRIES(word0) ((word0) >> 27)
#define XHCI_SLOT_PORT(word1) ((word1) >> 16 & 0xff)
#define XHCI_SLOT_STATE_SHIFT 27 /* word 3 */
#define XHCI_EP_TYPE(word1) ((word1) >> 3 & 7)
#define XHCI_EP_PSTREAMS(word0) ((word0) >> 10 & 0x1f)

enum xhci_ep_type {
	XHCI_EP_BULK_OUT = 2,
	XHCI_EP_CONTROL = 4,
	XHCI_EP_BULK_IN = 6,
	XHCI_EP_INTERRUPT_IN = 7,
};

enum xhci_ep_state {
	XHCI_EP_DISABLED,
	XHCI_EP_RUNNING,
	XHCI_EP_HALTED,
	XHCI_EP_STOPPED,
	XHCI_EP_ERROR,
};

/* As slot contexts tell it; whether the slot is enabled is not told. */
enum xhci_slot_state {
	XHCI_SLOT_ENABLED,
	XHCI_SLOT_DEFAULT,
	XHCI_SLOT_ADDRESSED,
	XHCI_SLOT_CONFIGURED,
};

#endif
