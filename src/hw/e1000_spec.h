/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_E1000_SPEC_H
#define HW_E1000_SPEC_H

#include <stdint.h>

#include "util/bytes.h"
#include "util/macros.h"

/* Numbers of the 82545EM. Sections are those of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers" manual. */

#define E1000_MMIO_SIZE 0x20000u
#define E1000_IO_SIZE 8u
#define E1000_EEPROM_WORDS 64u

/* Registers (s13.4). */
enum e1000_reg {
	E1000_CTRL = 0x0000,
	E1000_CTRL_DUP = 0x0004,
	E1000_STATUS = 0x0008,
	E1000_EECD = 0x0010,
	E1000_EERD = 0x0014,
	E1000_CTRL_EXT = 0x0018,
	E1000_MDIC = 0x0020,
	E1000_FCAL = 0x0028,
	E1000_FCAH = 0x002c,
	E1000_FCT = 0x0030,
	E1000_VET = 0x0038,
	E1000_ICR = 0x00c0,
	E1000_ITR = 0x00c4,
	E1000_ICS = 0x00c8,
	E1000_IMS = 0x00d0,
	E1000_IMC = 0x00d8,
	E1000_RCTL = 0x0100,
	E1000_FCTTV = 0x0170,
	E1000_TXCW = 0x0178,
	E1000_RXCW = 0x0180,
	E1000_TCTL = 0x0400,
	E1000_TIPG = 0x0410,
	E1000_AIFS = 0x0458,
	E1000_LEDCTL = 0x0e00,
	E1000_PBA = 0x1000,
	E1000_FCRTL = 0x2160,
	E1000_FCRTH = 0x2168,
	E1000_RDFH = 0x2410, /* RDFT, RDFHS, RDFTS, RDFPC follow, 8 bytes apart */
	E1000_RDBAL = 0x2800,
	E1000_RDBAH = 0x2804,
	E1000_RDLEN = 0x2808,
	E1000_RDH = 0x2810,
	E1000_RDT = 0x2818,
	E1000_RDTR = 0x2820,
	E1000_RXDCTL = 0x2828,
	E1000_RADV = 0x282c,
	E1000_RSRPD = 0x2c00,
	E1000_TDFH = 0x3410,
	E1000_TDBAL = 0x3800,
	E1000_TDBAH = 0x3804,
	E1000_TDLEN = 0x3808,
	E1000_TDH = 0x3810,
	E1000_TDT = 0x3818,
	E1000_TIDV = 0x3820,
	E1000_TXDCTL = 0x3828,
	E1000_TADV = 0x382c,
	E1000_TSPMT = 0x3830,
	E1000_STATS = 0x4000,
	E1000_RXCSUM = 0x5000,
	E1000_MTA = 0x5200,
	E1000_RA = 0x5400,
	E1000_VFTA = 0x5600,
	E1000_WUC = 0x5800,
	E1000_WUFC = 0x5808,
	E1000_WUS = 0x5810,
	E1000_MANC = 0x5820,
	E1000_IPAV = 0x5838,
};

/* CTRL (s13.4.1) */
#define E1000_CTRL_FD BIT(0)
#define E1000_CTRL_SLU BIT(6)
#define E1000_CTRL_SPEED_1000 BIT(9)
#define E1000_CTRL_RST BIT(26)
#define E1000_CTRL_VME BIT(30)
#define E1000_CTRL_PHY_RST BIT(31)
#define E1000_CTRL_RESET (E1000_CTRL_FD | E1000_CTRL_SLU | E1000_CTRL_SPEED_1000)

/* STATUS (s13.4.2): full duplex, 66 MHz, 1000 Mb/s in SPEED and ASDV */
#define E1000_STATUS_LU BIT(1)
#define E1000_STATUS_TXOFF BIT(4)
#define E1000_STATUS_FIXED (BIT(0) | BIT(7) | BIT(9) | BIT(11))

/* EECD, EERD (s13.4.3, s13.4.4) */
#define E1000_EECD_SK BIT(0)
#define E1000_EECD_CS BIT(1)
#define E1000_EECD_DI BIT(2)
#define E1000_EECD_DO BIT(3)
#define E1000_EECD_REQ BIT(6)
#define E1000_EECD_GNT BIT(7)
#define E1000_EECD_PRES BIT(8)
#define E1000_EECD_WMASK 0x77u
#define E1000_EERD_START BIT(0)
#define E1000_EERD_DONE BIT(4)
#define E1000_EEPROM_SUM 0xbaba

/* CTRL_EXT (s13.4.5) */
#define E1000_CTRL_EXT_EE_RST BIT(13)

/* MDIC (s13.4.6) and the PHY, a Marvell 88E1011 (s13.8) */
#define E1000_MDIC_WRITE 1u
#define E1000_MDIC_READ 2u
#define E1000_MDIC_READY BIT(28)
#define E1000_MDIC_IRQ BIT(29)
#define E1000_MDIC_ERROR BIT(30)
#define E1000_PHY_ADDR 1u
enum e1000_phy_reg {
	E1000_PHY_CTRL = 0,
	E1000_PHY_STATUS = 1,
	E1000_PHY_ID1 = 2,
	E1000_PHY_ID2 = 3,
	E1000_PHY_ADV = 4,
	E1000_PHY_PARTNER = 5,
	E1000_PHY_EXPANSION = 6,
	E1000_PHY_NEXT_PAGE = 7,
	E1000_PHY_GB_CTRL = 9,
	E1000_PHY_GB_STATUS = 10,
	E1000_PHY_EXT_STATUS = 15,
	E1000_PHY_SPEC_CTRL = 16,
	E1000_PHY_SPEC_STATUS = 17,
	E1000_PHY_EXT_SPEC_CTRL = 20,
};
#define E1000_PHY_CTRL_RESTART BIT(9)
#define E1000_PHY_CTRL_POWER_DOWN BIT(11)
#define E1000_PHY_CTRL_LOOPBACK BIT(14)
#define E1000_PHY_CTRL_RESET BIT(15)
#define E1000_PHY_STATUS_LINK BIT(2)
#define E1000_PHY_STATUS_AN_DONE BIT(5)
#define E1000_PHY_SPEC_LINK 0xac00u /* 1000 Mb/s, full duplex, resolved, link */

/* Interrupt causes (s13.4.17) */
#define E1000_INT_TXDW BIT(0)
#define E1000_INT_TXQE BIT(1)
#define E1000_INT_LSC BIT(2)
#define E1000_INT_RXDMT0 BIT(4)
#define E1000_INT_RXO BIT(6)
#define E1000_INT_RXT0 BIT(7)
#define E1000_INT_MDAC BIT(9)
#define E1000_INT_ALL 0x1f6dfu
#define E1000_ITR_NS 256u
#define E1000_DELAY_NS 1024u /* of TIDV, TADV, RDTR, RADV */
#define E1000_DELAY_FLUSH BIT(31)

/* RCTL (s13.4.22) */
#define E1000_RCTL_EN BIT(1)
#define E1000_RCTL_UPE BIT(3)
#define E1000_RCTL_MPE BIT(4)
#define E1000_RCTL_LPE BIT(5)
#define E1000_RCTL_LBM (3u << 6)
#define E1000_RCTL_RDMTS_SHIFT 8
#define E1000_RCTL_MO_SHIFT 12
#define E1000_RCTL_BAM BIT(15)
#define E1000_RCTL_BSIZE_SHIFT 16
#define E1000_RCTL_VFE BIT(18)
#define E1000_RCTL_CFIEN BIT(19)
#define E1000_RCTL_CFI BIT(20)
#define E1000_RCTL_BSEX BIT(25)
#define E1000_RCTL_SECRC BIT(26)
#define E1000_RCTL_WMASK 0x06dfb3fe
/* Changes of these concern frames on their way: enable, long frames, sizes of buffers */
#define E1000_RCTL_LATCHED (E1000_RCTL_EN | E1000_RCTL_LPE | 3u << 16 | E1000_RCTL_BSEX)

/* TCTL (s13.4.33) */
#define E1000_TCTL_EN BIT(1)
#define E1000_TCTL_PSP BIT(3)

/* RXCSUM (s13.4.47), RAH (s13.4.52) */
#define E1000_RXCSUM_IPOFL BIT(8)
#define E1000_RXCSUM_TUOFL BIT(9)
#define E1000_RAH_AV BIT(31)
#define E1000_RAH_AS_SHIFT 16
#define E1000_RAS 16u

/* Ethernet */
#define E1000_FCS 4u
#define E1000_FRAME_MIN 60u /* without FCS */
#define E1000_WIRE_MAX 1522u /* with FCS, unless RCTL.LPE */
#define E1000_WIRE_LONG_MAX 16384u
#define E1000_VLAN_TAG 4u
#define E1000_MSS_MIN \
	8u /* the smallest that TCP's options leave of the smallest that hosts accept */

/* Statistics (s13.7): index of the register behind E1000_STATS. Those of 64 bits take two. */
enum e1000_stat {
	E1000_STAT_MPC = 0x10 / 4,
	E1000_STAT_TNCRS = 0x34 / 4,
	E1000_STAT_PRC64 = 0x5c / 4, /* and five more sizes */
	E1000_STAT_GPRC = 0x74 / 4,
	E1000_STAT_BPRC = 0x78 / 4,
	E1000_STAT_MPRC = 0x7c / 4,
	E1000_STAT_GPTC = 0x80 / 4,
	E1000_STAT_GORC = 0x88 / 4,
	E1000_STAT_GOTC = 0x90 / 4,
	E1000_STAT_RNBC = 0xa0 / 4,
	E1000_STAT_ROC = 0xac / 4,
	E1000_STAT_TOR = 0xc0 / 4,
	E1000_STAT_TOT = 0xc8 / 4,
	E1000_STAT_TPR = 0xd0 / 4,
	E1000_STAT_TPT = 0xd4 / 4,
	E1000_STAT_PTC64 = 0xd8 / 4, /* and five more sizes */
	E1000_STAT_MPTC = 0xf0 / 4,
	E1000_STAT_BPTC = 0xf4 / 4,
	E1000_STAT_TSCTC = 0xf8 / 4,
	E1000_STAT_TSCTFC = 0xfc / 4,
	E1000_STATS_COUNT = 0x100 / 4,
};

/* Descriptors (s3.2.3, s3.3.3, s3.3.6, s3.3.7) */
struct e1000_rx_desc {
	le64 addr;
	le64 info; /* length, checksum, status, errors, special */
};
#define E1000_RXD_DD BIT(0)
#define E1000_RXD_EOP BIT(1)
#define E1000_RXD_IXSM BIT(2)
#define E1000_RXD_VP BIT(3)
#define E1000_RXD_UDPCS BIT(4)
#define E1000_RXD_TCPCS BIT(5)
#define E1000_RXD_IPCS BIT(6)
#define E1000_RXD_PIF BIT(7)
#define E1000_RXD_ERR_IPE BIT(6)
#define E1000_RXD_ERR_RXE BIT(7)

struct e1000_tx_desc {
	le64 addr; /* context: IPCSS, IPCSO, IPCSE, TUCSS, TUCSO, TUCSE */
	le32 lower; /* legacy: length, CSO, CMD; else length or PAYLEN, DTYP, CMD */
	le32 upper; /* status, POPTS or CSS or HDRLEN, special or MSS */
};
#define E1000_TXD_STATUS_AT 12u /* byte of the descriptor */
#define E1000_TXD_DD BIT(0)
#define E1000_TXD_EOP BIT(24)
#define E1000_TXD_IC BIT(26) /* legacy */
#define E1000_TXD_TSE BIT(26) /* data */
#define E1000_TXD_RS BIT(27)
#define E1000_TXD_DEXT BIT(29)
#define E1000_TXD_VLE BIT(30)
#define E1000_TXD_IDE BIT(31)
#define E1000_TXD_DTYP_SHIFT 20
#define E1000_TXD_DTYP_DATA 1u
#define E1000_TXD_LEN_MASK 0xfffffu
#define E1000_TXD_IXSM BIT(8)
#define E1000_TXD_TXSM BIT(9)
#define E1000_TUCMD_TCP BIT(24)
#define E1000_TUCMD_IP BIT(25) /* version 4 */

#endif
