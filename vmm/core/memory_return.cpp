#include "vmm/core/memory_return.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace viv {

uint64_t give_back(GuestMemory& memory, Gpa address, uint64_t size) {
    constexpr uint64_t page = GuestMemory::page_size;
    if (address.value > UINT64_MAX - page || size > UINT64_MAX - page - address.value) return 0;
    uint64_t returned = 0;
    uint64_t at = (address.value + page - 1) & ~(page - 1);
    const uint64_t end = (address.value + size) & ~(page - 1);
    while (at < end) {
        const GuestMemory::Region* region = memory.find(Gpa{at});
        if (!region) break;
        const uint64_t piece = std::min(end - at, region->size - (Gpa{at} - region->base));
        const auto bytes = memory.window(Gpa{at}, piece, GuestMemory::Intent::write);
        // A hole in the file behind it, so that no other mapping keeps the page.
        if (!bytes.empty() && madvise(bytes.data(), bytes.size(), MADV_REMOVE) == 0) {
            memory.note_write(Gpa{at}, piece);
            returned += piece;
        }
        at += piece;
    }
    return returned;
}

}  // namespace viv
