#pragma once

#include <string>

#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"
#include "vmm/engine/cpu_state.hpp"

namespace viv::firmware {

/// Another firmware in place of ours: a plain ROM image of 4 KiB to 16 MiB, in whole pages. It ends at 4 GiB, and its
/// last 128 KiB (or all, if it is smaller) are seen below 1 MiB as well, as on every PC. Once, before any device is
/// made. Returns where it begins below 4 GiB. Errors: the file cannot be read, or its size is wrong.
Result<Gpa> install_firmware_rom(GuestMemory& memory, const std::string& path);

}  // namespace viv::firmware
