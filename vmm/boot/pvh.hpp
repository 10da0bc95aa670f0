#pragma once

#include <memory>

#include "vmm/boot/kernel.hpp"

namespace viv::boot {

/// An ELF kernel with a PVH entry. Errors (usage): as of parse_elf(), and no room in RAM.
Result<std::unique_ptr<Kernel>> make_pvh_kernel(KernelFiles files, const KernelMachine& machine);

}  // namespace viv::boot
