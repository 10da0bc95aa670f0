#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vmm/boot/kernel.hpp"
#include "vmm/boot/load_plan.hpp"

namespace viv::boot {

/// The header that makes a file a Multiboot kernel (Multiboot Specification 0.6.96, 3.1).
struct MultibootHeader {
    uint64_t offset = 0;  // in the file
    uint32_t flags = 0;
    LoadAddresses addresses;  // with bit 16 of the flags
    uint32_t entry = 0;       // likewise
};

std::optional<MultibootHeader> find_multiboot_header(std::span<const std::byte> file);
inline bool has_multiboot_header(std::span<const std::byte> file) {
    return find_multiboot_header(file).has_value();
}

/// A Multiboot kernel, ELF or by its header's addresses. Errors (usage): it asks for what is not there, its ranges are
/// not in the file, or not in RAM.
Result<std::unique_ptr<Kernel>> make_multiboot_kernel(KernelFiles files, const KernelMachine& machine);

}  // namespace viv::boot
