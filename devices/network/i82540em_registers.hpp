#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// Registers of the 82540EM in the spelling of Intel's manual, by their offsets in BAR 0.
namespace viv::i82540em {

enum Register : uint32_t {
    CTRL = 0x0000,
    STATUS = 0x0008,
    EECD = 0x0010,
    EERD = 0x0014,
    CTRL_EXT = 0x0018,
    FLA = 0x001C,
    MDIC = 0x0020,
    FCAL = 0x0028,
    FCAH = 0x002C,
    FCT = 0x0030,
    VET = 0x0038,
    ICR = 0x00C0,
    ITR = 0x00C4,
    ICS = 0x00C8,
    IMS = 0x00D0,
    IMC = 0x00D8,
    RCTL = 0x0100,
    FCTTV = 0x0170,
    TXCW = 0x0178,
    TCTL = 0x0400,
    TIPG = 0x0410,
    AIFS = 0x0458,
    LEDCTL = 0x0E00,
    PBA = 0x1000,
    FCRTL = 0x2160,
    FCRTH = 0x2168,
    RDBAL = 0x2800,
    RDBAH = 0x2804,
    RDLEN = 0x2808,
    RDH = 0x2810,
    RDT = 0x2818,
    RDTR = 0x2820,
    RXDCTL = 0x2828,
    RADV = 0x282C,
    RSRPD = 0x2C00,
    TDBAL = 0x3800,
    TDBAH = 0x3804,
    TDLEN = 0x3808,
    TDH = 0x3810,
    TDT = 0x3818,
    TIDV = 0x3820,
    TXDCTL = 0x3828,
    TADV = 0x382C,
    TSPMT = 0x3830,
    STATISTICS = 0x4000,
    STATISTICS_END = 0x4100,
    RXCSUM = 0x5000,
    MTA = 0x5200,
    MTA_END = 0x5400,
    RAL = 0x5400,
    RAL_END = 0x5480,
    VFTA = 0x5600,
    VFTA_END = 0x5800,
    WUC = 0x5800,
    WUFC = 0x5808,
    WUS = 0x5810,
    MANC = 0x5820,
};

/// Registers that keep what is written to them and do nothing, with the bits that can be written.
struct StoredRegister {
    uint32_t offset;
    uint32_t writable;
};
inline constexpr std::array stored_registers{
    StoredRegister{CTRL_EXT, 0xFFFFFFFF & ~(1u << 13)},
    StoredRegister{FCAL, 0xFFFFFFFF},
    StoredRegister{FCAH, 0xFFFF},
    StoredRegister{FCT, 0xFFFF},
    StoredRegister{VET, 0xFFFF},
    StoredRegister{FCTTV, 0xFFFF},
    StoredRegister{TXCW, 0xC000FFFF},
    StoredRegister{TIPG, 0x3FFFFFFF},
    StoredRegister{AIFS, 0xFFFF},
    StoredRegister{LEDCTL, 0xCFCFCFCF},
    StoredRegister{PBA, 0xFFFF},
    StoredRegister{FCRTL, 0x8000FFF8},
    StoredRegister{FCRTH, 0xFFF8},
    StoredRegister{RDTR, 0xFFFF},
    StoredRegister{RXDCTL, 0x013F3F3F},
    StoredRegister{RADV, 0xFFFF},
    StoredRegister{RSRPD, 0xFFF},
    StoredRegister{TIDV, 0xFFFF},
    StoredRegister{TXDCTL, 0xFF3F3F3F},
    StoredRegister{TADV, 0xFFFF},
    StoredRegister{TSPMT, 0xFFFFFFFF},
    StoredRegister{WUC, 0xF},
    StoredRegister{WUFC, 0xF80FF},
    StoredRegister{MANC, 0xFFFFFFFF},
};
inline constexpr size_t stored_count = stored_registers.size();

// CTRL
inline constexpr uint32_t CTRL_FD = 1u << 0, CTRL_SLU = 1u << 6, CTRL_RST = 1u << 26, CTRL_VME = 1u << 30,
                          CTRL_PHY_RST = 1u << 31;
// STATUS: full duplex at 1000 Mb/s
inline constexpr uint32_t STATUS_LU = 1u << 1, STATUS_fixed = 0x781;
// EECD
inline constexpr uint32_t EECD_SK = 1u << 0, EECD_CS = 1u << 1, EECD_DI = 1u << 2, EECD_DO = 1u << 3,
                          EECD_REQ = 1u << 6, EECD_GNT = 1u << 7, EECD_PRES = 1u << 8;
// EERD
inline constexpr uint32_t EERD_START = 1u << 0, EERD_DONE = 1u << 4;
// CTRL_EXT
inline constexpr uint32_t CTRL_EXT_EE_RST = 1u << 13;
// MDIC
inline constexpr uint32_t MDIC_OP_WRITE = 1u << 26, MDIC_OP_READ = 2u << 26, MDIC_OP = 3u << 26, MDIC_R = 1u << 28,
                          MDIC_I = 1u << 29, MDIC_E = 1u << 30;
// ICR, ICS, IMS, IMC
inline constexpr uint32_t ICR_TXDW = 1u << 0, ICR_TXQE = 1u << 1, ICR_LSC = 1u << 2, ICR_RXDMT0 = 1u << 4,
                          ICR_RXO = 1u << 6, ICR_RXT0 = 1u << 7, ICR_MDAC = 1u << 9, ICR_all = 0x0001FFFF;
// RCTL
inline constexpr uint32_t RCTL_EN = 1u << 1, RCTL_UPE = 1u << 3, RCTL_MPE = 1u << 4, RCTL_LPE = 1u << 5,
                          RCTL_LBM = 3u << 6, RCTL_BAM = 1u << 15, RCTL_VFE = 1u << 18, RCTL_BSEX = 1u << 25,
                          RCTL_SECRC = 1u << 26;
// TCTL
inline constexpr uint32_t TCTL_EN = 1u << 1;
// RXCSUM
inline constexpr uint32_t RXCSUM_IPOFL = 1u << 8, RXCSUM_TUOFL = 1u << 9;
// RAH
inline constexpr uint32_t RAH_AV = 1u << 31;

// Transmit descriptors (3.3): the command byte of all kinds, and the status
inline constexpr uint8_t TX_EOP = 0x01, TX_IC = 0x04, TX_TSE = 0x04, TX_RS = 0x08, TX_RPS = 0x10, TX_DEXT = 0x20,
                         TX_VLE = 0x40;
inline constexpr uint8_t TUCMD_TCP = 0x01, TUCMD_IP = 0x02;
inline constexpr uint8_t POPTS_IXSM = 0x01, POPTS_TXSM = 0x02;
inline constexpr uint8_t TX_DD = 0x01;
// Receive descriptors (3.2.3): status and errors
inline constexpr uint8_t RX_DD = 0x01, RX_EOP = 0x02, RX_IXSM = 0x04, RX_VP = 0x08, RX_TCPCS = 0x20, RX_IPCS = 0x40;
inline constexpr uint8_t RX_TCPE = 0x20, RX_IPE = 0x40;

/// Statistics, by their place in the row from 4000h on (13.7).
enum Statistic : uint32_t {
    MPC = 0x10 / 4,
    PRC64 = 0x5C / 4,
    GPRC = 0x74 / 4,
    BPRC = 0x78 / 4,
    MPRC = 0x7C / 4,
    GPTC = 0x80 / 4,
    GORCL = 0x88 / 4,
    GOTCL = 0x90 / 4,
    RNBC = 0xA0 / 4,
    ROC = 0xAC / 4,
    TORL = 0xC0 / 4,
    TOTL = 0xC8 / 4,
    TPR = 0xD0 / 4,
    TPT = 0xD4 / 4,
    PTC64 = 0xD8 / 4,
    MPTC = 0xF0 / 4,
    BPTC = 0xF4 / 4,
    TSCTC = 0xF8 / 4,
};

/// Registers of the PHY, a Marvell 88E1011.
enum PhyRegister : uint32_t {
    PHY_CONTROL = 0,
    PHY_STATUS = 1,
    PHY_ID1 = 2,
    PHY_ID2 = 3,
    PHY_ADVERTISEMENT = 4,
    PHY_PARTNER = 5,
    PHY_EXPANSION = 6,
    PHY_1000T_CONTROL = 9,
    PHY_1000T_STATUS = 10,
    PHY_EXTENDED_STATUS = 15,
    PHY_SPECIFIC_CONTROL = 16,
    PHY_SPECIFIC_STATUS = 17,
    PHY_EXTENDED_SPECIFIC_CONTROL = 20,
};

}  // namespace viv::i82540em
