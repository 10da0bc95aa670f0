#include "devices/pci/shadow_memory.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace viv {
namespace {

constexpr uint64_t smram_base = 0xA0000;
constexpr uint64_t smram_size = 0x20000;
constexpr uint64_t step = 0x4000;

constexpr unsigned segment_of(uint64_t address) {
    return std::min<unsigned>(static_cast<unsigned>((address - ShadowMemory::base) / step),
                              ShadowMemory::segment_count - 1);
}

}  // namespace

bool ShadowMemory::Piece::same(const Piece& other) const {
    return base == other.base && size == other.size && store.backing == other.store.backing && offset == other.offset &&
           kind == other.kind;
}

Result<std::unique_ptr<ShadowMemory>> ShadowMemory::make(GuestMemory& memory) {
    const auto ram = TRY(memory.add_store(base + size - smram_base, "RAM behind the ROMs"));
    std::unique_ptr<ShadowMemory> shadow(new ShadowMemory(memory, ram));
    for (const GuestMemory::Region& region : memory.regions()) {
        if (region.base.value + region.size <= smram_base || region.base.value >= base + size) continue;
        const auto store = memory.store_of(region);
        if (!store || region.base.value < base || region.base.value + region.size > base + size) {
            return fail_usage(fmt::format("memory '{}' at {:#x} is in the way of the chipset's ROM area", region.name,
                                          region.base.value));
        }
        shadow->roms_.push_back({region.base.value, region.size, *store, region.backing_offset, region.kind});
    }
    shadow->shown_ = shadow->roms_;
    return shadow;
}

/// What is to be seen: stretches as long as they can be, so that engines have few of them.
std::vector<ShadowMemory::Piece> ShadowMemory::pieces(const View& view) const {
    std::vector<Piece> list;
    const auto add = [&list](Piece piece) {
        if (!list.empty()) {
            Piece& last = list.back();
            if (last.base + last.size == piece.base && last.store.backing == piece.store.backing &&
                last.offset + last.size == piece.offset && last.kind == piece.kind) {
                last.size += piece.size;
                return;
            }
        }
        list.push_back(piece);
    };
    if (view.smram_open) add({smram_base, smram_size, ram_, 0, GuestMemory::Kind::ram});
    for (unsigned i = 0; i < segment_count; ++i) {
        const uint64_t from = base + i * step;
        const uint64_t to = i + 1 == segment_count ? base + size : from + step;
        const Attributes& attributes = view.segments[i];
        if (attributes.read_ram) {
            const auto kind = attributes.write_ram ? GuestMemory::Kind::ram : GuestMemory::Kind::rom;
            add({from, to - from, ram_, from - smram_base, kind});
            continue;
        }
        for (const Piece& rom : roms_) {
            const uint64_t first = std::max(from, rom.base), end = std::min(to, rom.base + rom.size);
            if (first < end) add({first, end - first, rom.store, rom.offset + (first - rom.base), rom.kind});
        }
    }
    return list;
}

void ShadowMemory::set(const View& view) {
    view_ = view;
    std::vector<Piece> wanted = pieces(view);
    const auto contains = [](const std::vector<Piece>& list, const Piece& piece) {
        return std::ranges::any_of(list, [&](const Piece& other) { return other.same(piece); });
    };
    const GuestMemory::Change change(memory_);
    for (const Piece& piece : shown_) {
        if (!contains(wanted, piece)) memory_.remove(Gpa{piece.base});
    }
    for (const Piece& piece : wanted) {
        if (contains(shown_, piece)) continue;
        const auto shown = memory_.show(Gpa{piece.base}, piece.size, piece.store, piece.offset, piece.kind, "ROM area");
        VIV_ASSERT(shown.has_value());  // the area is nobody else's
    }
    shown_ = std::move(wanted);
}

uint64_t ShadowMemory::read(Access /*access*/) {
    return ~uint64_t{0};
}

/// RAM that is written but not read: how firmware copies a ROM onto itself.
void ShadowMemory::write(Access access, uint64_t value) {
    const std::span<std::byte> ram = memory_.bytes(ram_);
    for (unsigned i = 0; i < access.size; ++i) {
        const uint64_t address = base + access.offset + i;
        if (!view_.segments[segment_of(address)].write_ram) continue;
        ram[address - smram_base] = static_cast<std::byte>(value >> (8 * i));
        memory_.note_store_write(ram_, address - smram_base, 1);
    }
}

}  // namespace viv
