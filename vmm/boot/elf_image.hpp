#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/core/result.hpp"

namespace viv::boot {

/// A part of an ELF file that goes to memory; `content` lies in the file, zeros follow it up to `size`.
struct ElfSegment {
    uint64_t physical = 0;
    uint64_t linear = 0;  // p_vaddr
    uint64_t size = 0;    // at least that of `content`; never 0
    std::span<const std::byte> content;
};

/// What an ELF program says of itself, checked: every range lies in the file and below 4 GiB in memory.
struct ElfImage {
    uint64_t entry = 0;  // e_entry
    std::vector<ElfSegment> segments;
    std::optional<uint32_t> pvh_entry;  // of the note XEN_ELFNOTE_PHYS32_ENTRY

    /// e_entry as a physical address, by the segment that holds it.
    [[nodiscard]] uint64_t physical_entry() const;
};

bool is_elf(std::span<const std::byte> file);

/// Reads the headers of a 32- or 64-bit x86 ELF program; the result refers to `file`. Errors (usage): not for x86, cut
/// short, or nothing to load.
Result<ElfImage> parse_elf(std::span<const std::byte> file);

}  // namespace viv::boot
