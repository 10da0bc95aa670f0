#pragma once

#include "devices/video/screen.hpp"
#include "devices/video/vga_state.hpp"
#include "vmm/core/types.hpp"

namespace viv {

/// The characters that the registers put on the screen; kind is graphics when they show none.
TextScreen vga_text(const VgaState& state);

/// Every dot of the display area, without the border, at one moment (which decides what blinks). At most 4608x1024.
Image vga_picture(const VgaState& state, VirtualTime now);

}  // namespace viv
