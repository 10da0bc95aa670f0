#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "vmm/boot/kernel.hpp"

namespace viv::boot {

bool has_multiboot2_header(std::span<const std::byte> file);

/// A Multiboot2 kernel, ELF or by its header's address tag. Errors (usage): it asks for what is not there, its ranges
/// are not in the file, or not in RAM.
Result<std::unique_ptr<Kernel>> make_multiboot2_kernel(KernelFiles files, const KernelMachine& machine);

}  // namespace viv::boot
