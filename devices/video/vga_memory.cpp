#include "devices/video/vga_memory.hpp"

#include <bit>
#include <optional>

namespace viv {
namespace {

// A byte in all four maps.
constexpr uint32_t every_map = 0x01010101;

constexpr auto map_bytes = [] {
    std::array<uint32_t, 16> table{};
    for (uint8_t i = 0; i < 16; ++i) table[i] = vga_map_bytes(i);
    return table;
}();

// The address within the window that the memory map select bits choose (GR6 bits 3:2), or nothing outside of it.
std::optional<uint32_t> window_address(const VgaState& state, uint32_t offset) {
    if (!(state.miscellaneous & misc_memory_enable) || !(state.subsystem_enable & 1)) return std::nullopt;
    switch ((state.gr(GR::miscellaneous) >> 2) & 3) {
        case 0: return offset < 0x20000 ? std::optional(offset) : std::nullopt;
        case 1: return offset < 0x10000 ? std::optional(offset) : std::nullopt;
        case 2: return offset >= 0x10000 && offset < 0x18000 ? std::optional(offset - 0x10000) : std::nullopt;
        default: return offset >= 0x18000 && offset < 0x20000 ? std::optional(offset - 0x18000) : std::nullopt;
    }
}

uint32_t cell_of(const VgaState& state, uint32_t address) {
    // Where low address bits choose the map, bit 16 (of the 128 KiB window) takes the place of bit 0.
    if (state.sr(SR::memory_mode) & sr4_chain_4) return (address & 0xFFFC) | ((address >> 16) & 1);
    if (state.gr(GR::miscellaneous) & gr6_chain_odd_even) return (address & 0xFFFE) | ((address >> 16) & 1);
    return address & 0xFFFF;
}

// The set of maps that a write to this address may reach.
uint8_t writable_maps(const VgaState& state, uint32_t address) {
    const uint8_t mask = state.sr(SR::map_mask) & 0x0F;
    const uint8_t mode = state.sr(SR::memory_mode);
    if (mode & sr4_chain_4) return static_cast<uint8_t>(mask & (1u << (address & 3)));
    if (!(mode & sr4_sequential)) return mask & (address & 1 ? 0x0A : 0x05);
    return mask;
}

unsigned readable_map(const VgaState& state, uint32_t address) {
    if (state.sr(SR::memory_mode) & sr4_chain_4) return address & 3;
    const unsigned selected = state.gr(GR::read_map_select) & 3u;
    if (state.gr(GR::graphics_mode) & gr5_odd_even_read) return (selected & 2) | (address & 1);
    return selected;
}

uint32_t combine(const VgaState& state, uint32_t data) {
    switch ((state.gr(GR::data_rotate) >> 3) & 3) {
        case 0: return data;
        case 1: return data & state.latches;
        case 2: return data | state.latches;
        default: return data ^ state.latches;
    }
}

}  // namespace

uint8_t vga_read_memory(VgaState& state, VgaCells cells, uint32_t offset) {
    const auto address = window_address(state, offset);
    if (!address) return 0xFF;
    state.latches = cells[cell_of(state, *address)];
    if (!(state.gr(GR::graphics_mode) & gr5_read_compare)) {
        return static_cast<uint8_t>(state.latches >> (8 * readable_map(state, *address)));
    }
    // Read mode 1: a bit is set where all the maps that matter hold the compared colour.
    uint32_t different = (state.latches ^ map_bytes[state.gr(GR::colour_compare) & 0x0F]) &
                         map_bytes[state.gr(GR::colour_do_not_care) & 0x0F];
    different |= different >> 16;
    different |= different >> 8;
    return static_cast<uint8_t>(~different);
}

bool vga_write_memory(VgaState& state, VgaCells cells, uint32_t offset, uint8_t value) {
    const auto address = window_address(state, offset);
    if (!address) return false;
    const uint8_t rotated = std::rotr(value, state.gr(GR::data_rotate) & 7);
    uint32_t bits = state.gr(GR::bit_mask) * every_map;
    uint32_t data = 0;
    switch (state.gr(GR::graphics_mode) & 3) {
        case 0: {
            const uint32_t replaced = map_bytes[state.gr(GR::enable_set_reset) & 0x0F];
            data = combine(state,
                           (rotated * every_map & ~replaced) | (map_bytes[state.gr(GR::set_reset) & 0x0F] & replaced));
            break;
        }
        case 1:
            data = state.latches;
            bits = ~uint32_t{0};
            break;
        case 2: data = combine(state, map_bytes[value & 0x0F]); break;
        default:
            data = combine(state, map_bytes[state.gr(GR::set_reset) & 0x0F]);
            bits &= rotated * every_map;
            break;
    }
    const uint32_t maps = map_bytes[writable_maps(state, *address)];
    uint32_t& cell = cells[cell_of(state, *address)];
    const uint32_t before = cell;
    cell = (before & ~maps) | (((data & bits) | (state.latches & ~bits)) & maps);
    return cell != before;
}

VgaFastPath vga_fast_path(const VgaState& state) {
    const uint8_t sequencer = state.sr(SR::memory_mode);
    const uint8_t select = (state.gr(GR::miscellaneous) >> 2) & 3;
    const bool plain = (state.gr(GR::graphics_mode) & 0x0B) == 0 && state.gr(GR::data_rotate) == 0 &&
                       state.gr(GR::enable_set_reset) == 0 && state.gr(GR::bit_mask) == 0xFF;
    if (!plain || state.dispi.enabled() || select == 0 || !(state.miscellaneous & misc_memory_enable) ||
        !(state.subsystem_enable & 1))
        return {};
    VgaFastPath path;
    path.base = select == 1 ? 0 : select == 2 ? 0x10000 : 0x18000;
    path.size = select == 1 ? 0x10000 : 0x8000;
    if (sequencer & sr4_chain_4) {
        if (state.sr(SR::map_mask) == 0x0F) path.unit = 4;
    } else if (!(sequencer & sr4_sequential) && (state.gr(GR::miscellaneous) & gr6_chain_odd_even) &&
               (state.gr(GR::graphics_mode) & gr5_odd_even_read) && !(state.gr(GR::read_map_select) & 2) &&
               state.sr(SR::map_mask) == 0x03) {
        path.unit = 2;
    }
    return path;
}

uint64_t vga_fast_read(VgaState& state, const VgaFastPath& path, uint64_t offset, uint8_t bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i += path.unit) {
        state.latches = state.memory[(offset - path.base + i) & 0xFFFF & ~(path.unit - 1u)];
        value |= uint64_t{path.unit == 4 ? state.latches : state.latches & 0xFFFF} << (8 * i);
    }
    return value;
}

bool vga_fast_write(VgaState& state, const VgaFastPath& path, uint64_t offset, uint8_t bytes, uint64_t value) {
    bool changed = false;
    const uint32_t maps = path.unit == 4 ? ~uint32_t{0} : 0xFFFF;
    for (unsigned i = 0; i < bytes; i += path.unit) {
        uint32_t& cell = state.memory[(offset - path.base + i) & 0xFFFF & ~(path.unit - 1u)];
        const uint32_t next = (cell & ~maps) | (static_cast<uint32_t>(value >> (8 * i)) & maps);
        changed |= cell != next;
        cell = next;
    }
    return changed;
}

}  // namespace viv
