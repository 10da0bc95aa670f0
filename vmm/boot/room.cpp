#include "vmm/boot/room.hpp"

#include <algorithm>

namespace viv::boot {

Room::Room(const std::vector<MemoryMapEntry>& memory_map) {
    constexpr uint64_t lowest = 0x1000, highest = uint64_t{4} << 30;
    for (const MemoryMapEntry& entry : memory_map) {
        const uint64_t start = std::max(entry.base, lowest);
        const uint64_t end = entry.base >= highest ? 0 : std::min(entry.length, highest - entry.base) + entry.base;
        if (entry.type != 1 || start >= end) continue;
        if (!free_.empty() && free_.back().end == start) {
            free_.back().end = end;
        } else {
            free_.push_back({start, end});
        }
    }
}

bool Room::take(uint64_t start, uint64_t size) {
    for (auto range = free_.begin(); range != free_.end(); ++range) {
        if (start < range->start || start > range->end || size > range->end - start) continue;
        const Range before{range->start, start}, after{start + size, range->end};
        range = free_.erase(range);
        if (after.start < after.end) range = free_.insert(range, after);
        if (before.start < before.end) free_.insert(range, before);
        return true;
    }
    return false;
}

std::optional<uint64_t> Room::take_any(uint64_t size, uint64_t alignment, uint64_t from) {
    for (const Range& range : free_) {
        const uint64_t start = (std::max(range.start, from) + alignment - 1) & ~(alignment - 1);
        if (start > range.end || size > range.end - start) continue;
        take(start, size);
        return start;
    }
    return std::nullopt;
}

}  // namespace viv::boot
