#pragma once

#include "bios/layout.hpp"
#include "vmm/firmware/power_on.hpp"

namespace viv::firmware {

/// Sets video mode 3 (80x25 text, 8x16 font) with the tables of the video ROM: registers, palette, font, cleared
/// screen, and the video fields of the BDA, as INT 10h/00h does (IBM VGA BIOS interface).
void set_text_mode(const Board& board, const rom::VideoRomHeader& header);

}  // namespace viv::firmware
