#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/core/result.hpp"

namespace viv::boot {

/// How the loader enters a kernel (Linux Documentation/arch/x86/boot.rst, "32-bit boot protocol", "64-bit boot
/// protocol").
enum class LinuxEntry { protected_32, long_64 };

/// What a bzImage says of itself, checked: every range lies in the file.
struct LinuxImage {
    uint16_t protocol = 0;  // 0x020C is 2.12
    LinuxEntry entry = LinuxEntry::protected_32;
    std::span<const std::byte> setup_header;  // the part that goes to 1F1h of the boot parameters
    std::span<const std::byte> code;          // the protected-mode part
    uint64_t preferred_address = 0;           // where `code` goes, if that is RAM
    uint64_t alignment = 1;                   // of the other places where a relocatable kernel may go
    bool relocatable = false;
    uint64_t memory_size = 0;           // bytes from `code` on that the kernel needs before it reads its memory map
    uint64_t initrd_limit = 0;          // the initrd ends at or below this
    uint32_t command_line_limit = 255;  // characters, without the final zero
};

/// Reads the header of a bzImage; the result refers to `file`. Errors (usage) say what is wrong with the image: no
/// kernel, cut short, too old (before protocol 2.02), a zImage.
Result<LinuxImage> parse_linux_image(std::span<const std::byte> file);

}  // namespace viv::boot
