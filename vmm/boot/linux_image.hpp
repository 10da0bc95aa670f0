#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/core/result.hpp"

namespace viv::boot {

/// How the loader enters a kernel (Linux Documentation/arch/x86/boot.rst, "Running the Kernel", "32-bit boot protocol",
/// "64-bit boot protocol"). By the 16-bit one the kernel's own setup asks the BIOS and sets the video mode.
enum class LinuxEntry : uint8_t { real_16 = 16, protected_32 = 32, long_64 = 64 };

/// What a bzImage says of itself, checked: every range lies in the file.
struct LinuxImage {
    uint16_t protocol = 0;  // 0x020C is 2.12
    LinuxEntry entry = LinuxEntry::protected_32;
    bool in_high_memory = true;               // a bzImage; a zImage's code lies at 10000h
    std::span<const std::byte> setup;         // the part that runs in real mode, from the boot sector on
    std::span<const std::byte> setup_header;  // the part that goes to 1F1h of the boot parameters
    std::span<const std::byte> code;          // the protected-mode part
    uint64_t preferred_address = 0;           // where `code` goes, if that is RAM
    uint64_t alignment = 1;                   // of the other places where a relocatable kernel may go
    bool relocatable = false;
    uint64_t memory_size = 0;           // bytes from `code` on that the kernel needs before it reads its memory map
    uint64_t initrd_limit = 0;          // the initrd ends at or below this
    uint32_t command_line_limit = 255;  // characters, without the final zero
};

/// Reads the header of a bzImage or zImage; the result refers to `file`. `entry` is the shortest way that the kernel
/// has: 64 bits, 32 bits from protocol 2.10 on, else 16. Errors (usage) say what is wrong with the image: no kernel,
/// cut short, too old (before protocol 2.00).
Result<LinuxImage> parse_linux_image(std::span<const std::byte> file);

/// Has the kernel entered by another way. Errors (usage): it has no such entry.
Result<void> choose_entry(LinuxImage& image, LinuxEntry entry);

}  // namespace viv::boot
