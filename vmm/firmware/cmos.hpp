#pragma once

#include "vmm/firmware/power_on.hpp"

namespace viv::firmware {

/// Fills the configuration part of CMOS (IBM PC AT Technical Reference, "CMOS RAM"; 34h and up as QEMU and SeaBIOS
/// agreed), with the standard checksum in 2Eh-2Fh, and sets the RTC to 24 hours, BCD, 32.768 kHz.
void fill_cmos(const Board& board, uint16_t equipment);

}  // namespace viv::firmware
