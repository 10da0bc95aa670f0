#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/boot/memory_map.hpp"

namespace viv::boot {

/// Which of the usable RAM below 4 GiB a loader has not given away yet. The first page, with the interrupt vectors and
/// the BIOS's data, is never free.
class Room {
  public:
    explicit Room(const std::vector<MemoryMapEntry>& memory_map);

    /// Takes [start, start + size); false, and nothing is taken, when it is not all free.
    bool take(uint64_t start, uint64_t size);
    /// Takes the lowest free `size` bytes at or above `from`; `alignment` is a power of 2.
    std::optional<uint64_t> take_any(uint64_t size, uint64_t alignment, uint64_t from);

  private:
    struct Range {
        uint64_t start = 0;
        uint64_t end = 0;
    };
    std::vector<Range> free_;  // in ascending order, adjoining ones joined
};

}  // namespace viv::boot
