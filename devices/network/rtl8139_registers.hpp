#pragma once

#include <array>
#include <cstdint>

/// Registers of the RTL8139C and RTL8139C+ in the spelling of Realtek's datasheets, by their offsets.
namespace viv::rtl8139 {

enum Register : uint8_t {
    IDR0 = 0x00,
    IDR4 = 0x04,
    MAR0 = 0x08,
    MAR4 = 0x0C,
    TSD0 = 0x10,
    DTCCR = 0x10,  // C+
    TSD3 = 0x1C,
    TSAD0 = 0x20,
    TNPDS = 0x20,  // C+, two words
    TSAD3 = 0x2C,
    RBSTART = 0x30,
    CR = 0x37,
    CAPR = 0x38,
    CBR = 0x3A,
    IMR = 0x3C,
    ISR = 0x3E,
    TCR = 0x40,
    RCR = 0x44,
    TCTR = 0x48,
    MPC = 0x4C,
    CR9346 = 0x50,
    CONFIG0 = 0x51,
    CONFIG1 = 0x52,
    TIMERINT = 0x54,
    MSR = 0x58,
    CONFIG3 = 0x59,
    CONFIG4 = 0x5A,
    MULINT = 0x5C,
    RERID = 0x5E,
    TSAD = 0x60,
    BMCR = 0x62,
    BMSR = 0x64,
    ANAR = 0x66,
    ANLPAR = 0x68,
    ANER = 0x6A,
    CSCR = 0x74,
    CONFIG5 = 0xD8,
    TPPOLL = 0xD9,
    CPCR = 0xE0,
    RDSAR = 0xE4,
    RDSAR_high = 0xE8,
    MTPS = 0xEC,
};

struct Place {
    Register at;
    uint8_t size;
};
inline constexpr std::array places{
    Place{IDR0, 4},
    Place{IDR4, 2},
    Place{MAR0, 4},
    Place{MAR4, 4},
    Place{TSD0, 4},
    Place{Register{0x14}, 4},
    Place{Register{0x18}, 4},
    Place{TSD3, 4},
    Place{TSAD0, 4},
    Place{Register{0x24}, 4},
    Place{Register{0x28}, 4},
    Place{TSAD3, 4},
    Place{RBSTART, 4},
    Place{CR, 1},
    Place{CAPR, 2},
    Place{CBR, 2},
    Place{IMR, 2},
    Place{ISR, 2},
    Place{TCR, 4},
    Place{RCR, 4},
    Place{TCTR, 4},
    Place{MPC, 4},
    Place{CR9346, 1},
    Place{CONFIG0, 1},
    Place{CONFIG1, 1},
    Place{TIMERINT, 4},
    Place{MSR, 1},
    Place{CONFIG3, 1},
    Place{CONFIG4, 1},
    Place{MULINT, 2},
    Place{RERID, 1},
    Place{TSAD, 2},
    Place{BMCR, 2},
    Place{BMSR, 2},
    Place{ANAR, 2},
    Place{ANLPAR, 2},
    Place{ANER, 2},
    Place{CSCR, 2},
    Place{CONFIG5, 1},
    Place{TPPOLL, 1},
    Place{CPCR, 2},
    Place{RDSAR, 4},
    Place{RDSAR_high, 4},
    Place{MTPS, 1},
};

// TSD0 to TSD3
inline constexpr uint32_t TSD_SIZE = 0x1FFF, TSD_OWN = 1u << 13, TSD_TOK = 1u << 15, TSD_ERTXTH = 0x3Fu << 16,
                          TSD_TABT = 1u << 30;
// DTCCR
inline constexpr uint32_t DTCCR_CMD = 1u << 3;
// CR
inline constexpr uint8_t CR_BUFE = 0x01, CR_TE = 0x04, CR_RE = 0x08, CR_RST = 0x10;
// IMR, ISR
inline constexpr uint16_t ISR_ROK = 0x0001, ISR_TOK = 0x0004, ISR_TER = 0x0008, ISR_RDU = 0x0010, ISR_LinkChg = 0x0020,
                          ISR_TDU = 0x0080, ISR_SWInt = 0x0100, ISR_TimeOut = 0x4000, ISR_all = 0xE1FF;
// TCR
inline constexpr uint32_t TCR_CRC = 1u << 16, TCR_LBK = 3u << 17, TCR_writable = 0x030707F0;
// RCR
inline constexpr uint32_t RCR_AAP = 1u << 0, RCR_APM = 1u << 1, RCR_AM = 1u << 2, RCR_AB = 1u << 3, RCR_WRAP = 1u << 7,
                          RCR_RBLEN = 3u << 11, RCR_writable = 0x0F03FFBF;
// 9346CR
inline constexpr uint8_t CR9346_EEDO = 0x01, CR9346_EEDI = 0x02, CR9346_EESK = 0x04, CR9346_EECS = 0x08,
                         CR9346_EEM = 0xC0, EEM_auto_load = 0x40, EEM_programming = 0x80, EEM_write_enable = 0xC0;
// MSR
inline constexpr uint8_t MSR_LINKB = 0x04, MSR_fixed = 0x10;
// CSCR: bits 10 and 11 are in no data sheet, but drivers count on them
inline constexpr uint16_t CSCR_Con_status = 0x0008, CSCR_fixed = 0x0300, CSCR_link_OK = 0x0400,
                          CSCR_link_changed = 0x0800;
// CPCR
inline constexpr uint16_t CPCR_TxOn = 0x01, CPCR_RxOn = 0x02, CPCR_RxChkSum = 0x20, CPCR_RxVLAN = 0x40,
                          CPCR_writable = 0x027B;
// TPPoll
inline constexpr uint8_t TPPOLL_FSWInt = 0x01, TPPOLL_NPQ = 0x40;

// Status of a received frame in the ring
inline constexpr uint16_t RX_ROK = 0x0001, RX_BAR = 0x2000, RX_PAM = 0x4000, RX_MAR = 0x8000;

// Descriptors of C+ mode: their first words
inline constexpr uint32_t D_OWN = 1u << 31, D_EOR = 1u << 30, D_FS = 1u << 29, D_LS = 1u << 28;
inline constexpr uint32_t TD_LGSEN = 1u << 27, TD_IPCS = 1u << 18, TD_UDPCS = 1u << 17, TD_TCPCS = 1u << 16,
                          TD_status = 0x03FF0000;
inline constexpr uint32_t TD_TAGC = 1u << 17;  // of the second word
inline constexpr uint32_t RD_MAR = 1u << 26, RD_PAM = 1u << 25, RD_BAR = 1u << 24, RD_TCP = 1u << 16, RD_UDP = 2u << 16,
                          RD_IP = 3u << 16, RD_IPF = 1u << 15, RD_UDPF = 1u << 14, RD_TCPF = 1u << 13, RD_SIZE = 0x1FFF;
inline constexpr uint32_t RD_TAVA = 1u << 16;  // of the second word

}  // namespace viv::rtl8139
