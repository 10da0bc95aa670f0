#pragma once

#include "bios/system/services.hpp"

namespace viv::rom {

// Lets the option ROMs that boot a system themselves (from a network) try it, from number `first` of them on. Comes
// back when all have given up; false if there was none.
bool boot_from_option_roms(uint8_t first);

}  // namespace viv::rom
