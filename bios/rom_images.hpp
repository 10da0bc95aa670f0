#pragma once

#include <cstddef>
#include <span>

namespace viv::rom {

// The system BIOS, 64 KiB: F0000h-FFFFFh, and again at the top of the 32-bit address space.
std::span<const std::byte> system_bios();

// The video BIOS, 32 KiB: C0000h-C7FFFh.
std::span<const std::byte> video_bios();

}  // namespace viv::rom
