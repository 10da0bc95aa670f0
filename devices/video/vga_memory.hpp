#pragma once

#include <cstdint>

#include "devices/video/vga_state.hpp"

namespace viv {

inline constexpr uint32_t vga_window_size = 0x20000;  // A0000h-BFFFFh

/// Each of the four maps' byte is FFh when its bit of `maps` is set: 5 gives 00FF00FFh.
constexpr uint32_t vga_map_bytes(uint8_t maps) {
    return (maps & 1u ? 0xFFu : 0u) | (maps & 2u ? 0xFF00u : 0u) | (maps & 4u ? 0xFF0000u : 0u) |
           (maps & 8u ? 0xFF000000u : 0u);
}

/// The graphics controller's answer to a CPU read at `offset` from A0000h; fills the latches. FFh where the memory map
/// select register does not place the memory.
uint8_t vga_read_memory(VgaState& state, uint32_t offset);

/// A CPU write at `offset` from A0000h through the graphics controller. True when a byte of memory changed.
bool vga_write_memory(VgaState& state, uint32_t offset, uint8_t value);

}  // namespace viv
