#pragma once

#include <cstdint>
#include <span>

#include "devices/video/vga_state.hpp"

namespace viv {

inline constexpr uint32_t vga_window_size = 0x20000;  // A0000h-BFFFFh

/// Each of the four maps' byte is FFh when its bit of `maps` is set: 5 gives 00FF00FFh.
constexpr uint32_t vga_map_bytes(uint8_t maps) {
    return (maps & 1u ? 0xFFu : 0u) | (maps & 2u ? 0xFF00u : 0u) | (maps & 4u ? 0xFF0000u : 0u) |
           (maps & 8u ? 0xFF000000u : 0u);
}

/// The cells of four bytes, one a map, behind the graphics controller; at least 10000h.
using VgaCells = std::span<uint32_t>;

/// The graphics controller's answer to a CPU read at `offset` from A0000h; fills the latches. FFh where the memory map
/// select register does not place the memory.
uint8_t vga_read_memory(VgaState& state, VgaCells cells, uint32_t offset);

/// A CPU write at `offset` from A0000h through the graphics controller. True when a byte of memory changed.
bool vga_write_memory(VgaState& state, VgaCells cells, uint32_t offset, uint8_t value);

/// Wide accesses that need no look at every byte: aligned pairs of text (character and attribute) or aligned double
/// words of chain 4, while nothing but the plain data path to the VGA's own memory is programmed. Derived from the
/// registers; the memory behaves the same without it.
struct VgaFastPath {
    /// Bytes that one cell takes in the window: 2 for text, 4 for chain 4, 0 when there is no fast path.
    uint8_t unit = 0;
    uint32_t base = 0;  // of the window, from A0000h
    uint32_t size = 0;
    [[nodiscard]] bool takes(uint64_t offset, uint8_t bytes) const {
        return unit != 0 && offset >= base && offset - base + bytes <= size && offset % unit == 0 && bytes % unit == 0;
    }
};
VgaFastPath vga_fast_path(const VgaState& state);
/// As vga_read_memory and vga_write_memory byte by byte; only where the path takes() it.
uint64_t vga_fast_read(VgaState& state, const VgaFastPath& path, uint64_t offset, uint8_t bytes);
bool vga_fast_write(VgaState& state, const VgaFastPath& path, uint64_t offset, uint8_t bytes, uint64_t value);

}  // namespace viv
