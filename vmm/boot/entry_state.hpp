#pragma once

#include <cstdint>

#include "vmm/core/guest_memory.hpp"
#include "vmm/engine/cpu_state.hpp"

namespace viv::boot {

/// Bytes of the descriptor table of protected_mode_entry() and long_mode_entry().
inline constexpr uint64_t gdt_size = 32;

/// 32-bit protected mode without paging, interrupts off, all segments flat: CS is 10h, the others 18h, in a descriptor
/// table that is written to `gdt_at`. All general registers are 0.
CpuState protected_mode_entry(GuestMemory& memory, Gpa gdt_at, uint64_t rip);

/// Real mode at `address`, below 1 MiB: CS, DS and ES are 0 below 64 KiB, else its paragraph; the stack is below it in
/// segment 0, or below 64 KiB; interrupts on, as for a boot sector.
CpuState real_mode_entry(uint32_t address);

/// Real mode at `ip` of the segment `cs`, all other segments `data`, SP as given, interrupts off: how a kernel's setup
/// is entered.
CpuState real_mode_entry(uint16_t cs, uint16_t ip, uint16_t data, uint16_t sp);

/// 64-bit mode as protected_mode_entry(); `page_table` is CR3.
CpuState long_mode_entry(GuestMemory& memory, Gpa gdt_at, uint64_t rip, uint64_t page_table);

}  // namespace viv::boot
