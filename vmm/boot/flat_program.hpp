#pragma once

#include <memory>

#include "vmm/boot/kernel.hpp"

namespace viv::boot {

/// A file without any header, loaded and entered at `address`: below 1 MiB in real mode, from there on in 32-bit
/// protected mode. Errors (usage): an empty file, no free RAM there, modules or a command line.
Result<std::unique_ptr<Kernel>> make_flat_program(KernelFiles files, const KernelMachine& machine, uint32_t address);

}  // namespace viv::boot
