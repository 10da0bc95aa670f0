#pragma once

#include "bios/real_mode.hpp"

namespace viv::rom {

// INT 15h AH=C2h: PS/2 pointing device.
void int15_c2_pointing_device(Registers& r);

}  // namespace viv::rom
