#pragma once

#include <cstdint>

namespace viv::boot {

/// A stretch of the memory map that guests are given; `type` as of INT 15h/E820h: 1 is usable RAM, 2 is reserved.
struct MemoryMapEntry {
    uint64_t base = 0;
    uint64_t length = 0;
    uint32_t type = 1;
};

}  // namespace viv::boot
