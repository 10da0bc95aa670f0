#include "devices/virtio/virtqueue.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace viv {
namespace {

using namespace virtio;

constexpr uint64_t descriptor_size = 16;

/// The driver's CPUs look at the rings while the device does: what was stored is seen by them before anything is loaded
/// from here on (2.7.13.3.1, 2.7.10.1).
void order_stores_before_loads() {
    __sync_synchronize();
}

/// Whether `event` was passed by going from `before` to `now` (2.7.10).
bool passes(uint16_t event, uint16_t now, uint16_t before) {
    return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

template <class Byte, class Copy>
bool copy_segments(const std::vector<VirtqueueChain::Segment>& segments, uint64_t offset, std::span<Byte> bytes,
                   Copy copy) {
    for (const VirtqueueChain::Segment& segment : segments) {
        if (bytes.empty()) break;
        if (offset >= segment.size) {
            offset -= segment.size;
            continue;
        }
        const size_t size = std::min<uint64_t>(segment.size - offset, bytes.size());
        if (!copy(segment.base + offset, bytes.first(size))) return false;
        bytes = bytes.subspan(size);
        offset = 0;
    }
    return bytes.empty();
}

}  // namespace

bool VirtqueueChain::read(const GuestMemory& memory, uint64_t offset, std::span<std::byte> out) const {
    if (offset > readable_size || out.size() > readable_size - offset) return false;
    return copy_segments(readable, offset, out,
                         [&](Gpa at, std::span<std::byte> piece) { return memory.read(at, piece); });
}

bool VirtqueueChain::write(GuestMemory& memory, uint64_t offset, std::span<const std::byte> in) const {
    if (offset > writable_size || in.size() > writable_size - offset) return false;
    return copy_segments(writable, offset, in,
                         [&](Gpa at, std::span<const std::byte> piece) { return memory.write(at, piece); });
}

void VirtqueueChain::clear() {
    readable.clear();
    writable.clear();
    readable_size = writable_size = 0;
    id = entries = 0;
}

template <class T>
bool Virtqueue::fetch(uint64_t address, T& value) const {
    return memory_.read(Gpa{address}, std::as_writable_bytes(std::span(&value, 1)));
}

bool Virtqueue::load(Gpa table, unsigned index, Descriptor& descriptor) const {
    struct Raw {
        uint64_t address;
        uint32_t size;
        uint16_t first;
        uint16_t second;
    } raw{};
    if (!fetch(table.value + index * descriptor_size, raw)) return false;
    descriptor.address = raw.address;
    descriptor.size = raw.size;
    descriptor.flags = packed() ? raw.second : raw.first;
    descriptor.id = packed() ? raw.first : uint16_t{0};
    descriptor.next = packed() ? uint16_t{0} : raw.second;
    return true;
}

bool Virtqueue::is_backed(uint64_t address, uint64_t size, GuestMemory::Intent intent) const {
    while (size > 0) {
        const GuestMemory::Region* region = memory_.find(Gpa{address});
        if (!region || (intent == GuestMemory::Intent::write && region->kind != GuestMemory::Kind::ram)) return false;
        const uint64_t rest = region->size - (Gpa{address} - region->base);
        if (rest >= size) return true;
        address += rest;
        size -= rest;
    }
    return true;
}

bool Virtqueue::add(const Descriptor& descriptor, VirtqueueChain& chain) const {
    const bool writes = descriptor.flags & DESC_WRITE;
    // What the device reads comes before what it writes (2.7.4.2, 2.8.17).
    if (!writes && !chain.writable.empty()) return false;
    if (chain.readable.size() + chain.writable.size() >= most_segments) return false;
    const auto intent = writes ? GuestMemory::Intent::write : GuestMemory::Intent::read;
    if (!is_backed(descriptor.address, descriptor.size, intent)) return false;
    (writes ? chain.writable : chain.readable).push_back({Gpa{descriptor.address}, descriptor.size});
    (writes ? chain.writable_size : chain.readable_size) += descriptor.size;
    return true;
}

/// A table of descriptors in place of a chain in the ring (2.7.5.3, 2.8.8).
bool Virtqueue::add_indirect(const Descriptor& table, VirtqueueChain& chain) const {
    if (!(features_ & INDIRECT_DESC) || (table.flags & DESC_NEXT)) return false;
    const uint64_t count = table.size / descriptor_size;
    if (table.size % descriptor_size != 0 || count == 0) return false;
    unsigned index = 0;
    for (uint64_t seen = 0; seen < count; ++seen) {
        Descriptor inner;
        if (!load(Gpa{table.address}, index, inner) || (inner.flags & DESC_INDIRECT) || !add(inner, chain))
            return false;
        if (packed()) {
            ++index;
            continue;
        }
        if (!(inner.flags & DESC_NEXT)) return true;
        if (inner.next >= count) return false;
        index = inner.next;
    }
    // A chain that comes back to itself never ends.
    return packed();
}

Virtqueue::Taken Virtqueue::take(VirtqueueChain& chain) {
    chain.clear();
    return packed() ? take_packed(chain) : take_split(chain);
}

Virtqueue::Taken Virtqueue::take_split(VirtqueueChain& chain) {
    uint16_t available = 0;
    if (!fetch(state_.driver + 2, available)) return Taken::broken;
    if (available == state_.taken) {
        if (!event_index()) return Taken::nothing;
        // Behind the used ring is avail_event: from which index on the driver tells (2.7.7).
        if (!memory_.store(Gpa{state_.device + 4 + uint64_t{8} * state_.size}, state_.taken)) return Taken::broken;
        order_stores_before_loads();
        if (!fetch(state_.driver + 2, available)) return Taken::broken;
        if (available == state_.taken) return Taken::nothing;
    }
    if (static_cast<uint16_t>(available - state_.taken) > state_.size) return Taken::broken;
    uint16_t head = 0;
    if (!fetch(state_.driver + 4 + uint64_t{2} * (state_.taken % state_.size), head)) return Taken::broken;
    chain.id = head;
    chain.entries = 1;
    unsigned index = head;
    for (unsigned seen = 0; seen < state_.size; ++seen) {
        Descriptor descriptor;
        if (index >= state_.size || !load(Gpa{state_.descriptors}, index, descriptor)) return Taken::broken;
        const bool indirect = descriptor.flags & DESC_INDIRECT;
        if (!(indirect ? add_indirect(descriptor, chain) : add(descriptor, chain))) return Taken::broken;
        if (!(descriptor.flags & DESC_NEXT)) {
            ++state_.taken;
            return Taken::buffer;
        }
        index = descriptor.next;
    }
    return Taken::broken;  // a loop
}

Virtqueue::Taken Virtqueue::take_packed(VirtqueueChain& chain) {
    uint16_t place = state_.taken;
    bool wrap = state_.taken_wrap;
    for (unsigned seen = 0; seen < state_.size; ++seen) {
        // Flags first: the rest is valid only when they say so. What follows the first one of a chain is valid with it.
        uint16_t flags = 0;
        if (!fetch(state_.descriptors + place * descriptor_size + 14, flags)) return Taken::broken;
        if (seen == 0 && (((flags & DESC_AVAIL) != 0) != wrap || ((flags & DESC_USED) != 0) == wrap)) {
            return Taken::nothing;
        }
        Descriptor descriptor;
        if (!load(Gpa{state_.descriptors}, place, descriptor)) return Taken::broken;
        const bool indirect = descriptor.flags & DESC_INDIRECT;
        if (!(indirect ? add_indirect(descriptor, chain) : add(descriptor, chain))) return Taken::broken;
        advance(place, wrap, 1);
        if (!(descriptor.flags & DESC_NEXT)) {
            chain.id = descriptor.id;
            chain.entries = static_cast<uint16_t>(seen + 1);
            state_.taken = place;
            state_.taken_wrap = wrap;
            return Taken::buffer;
        }
    }
    return Taken::broken;
}

void Virtqueue::advance(uint16_t& place, bool& wrap, unsigned entries) const {
    const unsigned next = place + entries;
    wrap = wrap != (next >= state_.size);
    place = static_cast<uint16_t>(next >= state_.size ? next - state_.size : next);
}

void Virtqueue::put_back(const VirtqueueChain& chain) {
    if (!packed()) {
        --state_.taken;
        return;
    }
    const bool before_start = chain.entries > state_.taken;
    state_.taken_wrap = state_.taken_wrap != before_start;
    state_.taken = static_cast<uint16_t>(state_.taken + (before_start ? state_.size : 0) - chain.entries);
}

bool Virtqueue::give(const VirtqueueChain& chain, uint32_t written) {
    const Use use{chain.id, chain.entries, written};
    return give(std::span(&use, 1));
}

bool Virtqueue::give(std::span<const Use> uses) {
    for (const Use& use : uses) {
        state_.untold = static_cast<uint16_t>(std::min(state_.untold + (packed() ? use.entries : 1), 0xFFFF));
    }
    if (packed()) return give_packed(uses);
    for (const Use& use : uses) {
        const std::array<uint32_t, 2> entry{use.id, use.written};
        const uint64_t at = state_.device + 4 + uint64_t{8} * (state_.used % state_.size);
        if (!memory_.write(Gpa{at}, std::as_bytes(std::span(entry)))) return false;
        ++state_.used;
    }
    return memory_.store(Gpa{state_.device + 2}, state_.used);
}

bool Virtqueue::give_packed(std::span<const Use> uses) {
    // The driver looks at the flags, and at those of the first one first.
    uint64_t first_at = 0;
    uint16_t first_flags = 0;
    for (const Use& use : uses) {
        struct {
            uint32_t size;
            uint16_t id;
        } entry{use.written, use.id};
        const uint64_t at = state_.descriptors + state_.used * descriptor_size;
        const auto flags =
            static_cast<uint16_t>((state_.used_wrap ? DESC_AVAIL | DESC_USED : 0) | (use.written > 0 ? DESC_WRITE : 0));
        if (!memory_.write(Gpa{at + 8}, std::as_bytes(std::span(&entry, 1)).first(6))) return false;
        if (&use == uses.data()) {
            first_at = at;
            first_flags = flags;
        } else if (!memory_.store(Gpa{at + 14}, flags)) {
            return false;
        }
        advance(state_.used, state_.used_wrap, use.entries);
    }
    return uses.empty() || memory_.store(Gpa{first_at + 14}, first_flags);
}

bool Virtqueue::wants_interrupt() {
    const uint16_t count = std::exchange(state_.untold, uint16_t{0});
    if (count == 0) return false;
    order_stores_before_loads();
    const auto before = static_cast<uint16_t>(state_.used - count);
    if (packed()) {
        uint16_t place = 0, flags = 0;
        if (!fetch(state_.driver, place) || !fetch(state_.driver + 2, flags)) return true;
        if (!event_index() || (flags & 3) != EVENT_DESC) return (flags & 3) != EVENT_DISABLE;
        if (count >= state_.size) return true;
        auto event = static_cast<uint16_t>(place & 0x7FFF);
        if ((place >> 15 != 0) != state_.used_wrap) event = static_cast<uint16_t>(event - state_.size);
        return passes(event, state_.used, before);
    }
    if (event_index()) {
        uint16_t event = 0;
        if (!fetch(state_.driver + 4 + uint64_t{2} * state_.size, event)) return true;
        return count == 0xFFFF || passes(event, state_.used, before);
    }
    uint16_t flags = 0;
    return !fetch(state_.driver, flags) || !(flags & AVAIL_NO_INTERRUPT);
}

}  // namespace viv
