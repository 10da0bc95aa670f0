#pragma once

#include <cstdint>

#include "vmm/core/guest_memory.hpp"

namespace viv {

/// Gives the whole pages of [address, address+size) that are RAM back to the host: they read as zeros from then on, and
/// cost the host nothing until somebody writes to them. Returns how many bytes that were; 0 where no RAM is, or where
/// the host refuses.
uint64_t give_back(GuestMemory& memory, Gpa address, uint64_t size);

}  // namespace viv
