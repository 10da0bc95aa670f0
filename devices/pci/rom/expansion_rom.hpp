#pragma once

#include <string>

#include "vmm/core/device_context.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv {

/// The memory behind an expansion ROM BAR with what is in a file: a power of two from 4 KiB on, ones behind the image.
/// Errors: it cannot be read, does not begin as a ROM does (55h, AAh), or has more than 16 MiB.
Result<GuestMemory::Store> load_expansion_rom(const DeviceContext& context, const std::string& path);

}  // namespace viv
