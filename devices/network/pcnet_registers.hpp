#pragma once

#include <cstdint>

/// Bits of the Am79C970A in the spelling of AMD's datasheet.
namespace viv::pcnet {

// The ports: after the address PROM, by words or, after a 32-bit write to RDP, by double words
inline constexpr uint32_t word_RDP = 0x10, word_RAP = 0x12, word_RESET = 0x14, word_BDP = 0x16;
inline constexpr uint32_t dword_RDP = 0x10, dword_RAP = 0x14, dword_RESET = 0x18, dword_BDP = 0x1C;

// CSR0
inline constexpr uint16_t CSR0_INIT = 0x0001, CSR0_STRT = 0x0002, CSR0_STOP = 0x0004, CSR0_TDMD = 0x0008,
                          CSR0_TXON = 0x0010, CSR0_RXON = 0x0020, CSR0_IENA = 0x0040, CSR0_INTR = 0x0080,
                          CSR0_IDON = 0x0100, CSR0_TINT = 0x0200, CSR0_RINT = 0x0400, CSR0_MERR = 0x0800,
                          CSR0_MISS = 0x1000, CSR0_CERR = 0x2000, CSR0_BABL = 0x4000, CSR0_ERR = 0x8000,
                          CSR0_events = 0x7F00, CSR0_errors = 0x7800;
// CSR3: masks in the places of the events of CSR0
inline constexpr uint16_t CSR3_masks = 0x5F00, CSR3_writable = 0x5F7C;
// CSR4
inline constexpr uint16_t CSR4_APAD_XMT = 0x0800, CSR4_ASTRP_RCV = 0x0400, CSR4_MFCO = 0x0200, CSR4_MFCOM = 0x0100,
                          CSR4_UINTCMD = 0x0080, CSR4_UINT = 0x0040, CSR4_TXSTRT = 0x0008, CSR4_TXSTRTM = 0x0004,
                          CSR4_events = 0x026A, CSR4_writable = 0xFD15;
// CSR5
inline constexpr uint16_t CSR5_TOKINTD = 0x8000, CSR5_LTINTEN = 0x4000, CSR5_SPND = 0x0001, CSR5_writable = 0xC555;
// CSR15, the mode
inline constexpr uint16_t MODE_DRX = 0x0001, MODE_DTX = 0x0002, MODE_LOOP = 0x0004, MODE_DRCVPA = 0x2000,
                          MODE_DRCVBC = 0x4000, MODE_PROM = 0x8000;
// BCR20
inline constexpr uint16_t BCR20_SWSTYLE = 0x00FF, BCR20_SSIZE32 = 0x0100, BCR20_CSRPCNET = 0x0200,
                          BCR20_APERREN = 0x0400;
// BCR2, BCR4
inline constexpr uint16_t BCR4_LNKSTE = 0x0040, BCR4_LEDOUT = 0x8000;

// Descriptors, as their flags are in the upper half of a word
inline constexpr uint16_t D_OWN = 0x8000, D_ERR = 0x4000, D_STP = 0x0200, D_ENP = 0x0100;
inline constexpr uint16_t RD_PAM = 0x0040, RD_LAFM = 0x0020, RD_BAM = 0x0010;  // 32 bit only
inline constexpr uint16_t TD_LTINT = 0x1000;

}  // namespace viv::pcnet
