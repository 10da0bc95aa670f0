// Models: the Bochs VBE extension ("DISPI"), interface version 5: linear pictures of 4 to 32 bits a pixel beside the
// VGA. Not modelled: the DDC register, separate banks for reading and writing, banks of 32 KiB. Ignored bits: enable
// bit 6 (the linear frame buffer is always there), enable bits 2-4. Reference: Bochs, "VBE Display Interface
// Extensions" (vbe_display_api.txt), versions B0C0 to B0C5.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bios/video/dispi_registers.hpp"

namespace viv {

struct DispiState {
    uint16_t index = 0;
    uint16_t id = dispi_last_id;
    uint16_t x_resolution = 0;
    uint16_t y_resolution = 0;
    uint16_t bits_per_pixel = 8;
    uint16_t enable = 0;
    uint16_t bank = 0;
    uint16_t virtual_width = 0;
    uint16_t x_offset = 0;
    uint16_t y_offset = 0;

    static void fields(auto& self, auto&& visit) {
        visit("index", self.index);
        visit("id", self.id);
        visit("x-resolution", self.x_resolution);
        visit("y-resolution", self.y_resolution);
        visit("bits-per-pixel", self.bits_per_pixel);
        visit("enable", self.enable);
        visit("bank", self.bank);
        visit("virtual-width", self.virtual_width);
        visit("x-offset", self.x_offset);
        visit("y-offset", self.y_offset);
    }
    bool operator==(const DispiState&) const = default;

    [[nodiscard]] bool enabled() const { return (enable & dispi_enabled) != 0; }
    /// Pixels are in four maps that the VGA's graphics controller writes, not one after the other.
    [[nodiscard]] bool planar() const { return bits_per_pixel == 4; }
    /// The window at A0000h shows a bank of the linear memory.
    [[nodiscard]] bool shows_bank() const { return enabled() && !planar(); }
    [[nodiscard]] bool wide_dac() const { return (enable & dispi_8_bit_dac) != 0; }
};

/// Bytes that `pixels` take; in four maps, all of them together.
constexpr uint32_t dispi_bytes(uint16_t bits_per_pixel, uint32_t pixels) {
    return bits_per_pixel == 4 ? pixels / 2 : pixels * ((bits_per_pixel + 7u) / 8u);
}

/// Where the picture is in the memory, in bytes.
struct DispiFrame {
    uint32_t start = 0;
    uint32_t pitch = 0;
    uint32_t size = 0;  // from the first pixel to the last
};
/// Of an enabled state that dispi_write() has made: lies within the memory.
DispiFrame dispi_frame(const DispiState& state);

/// Lines of the virtual width that the memory holds.
uint16_t dispi_virtual_height(const DispiState& state, size_t memory);

/// Registers that do not exist read as 0.
uint16_t dispi_read(const DispiState& state, size_t memory);
/// Whether the picture has to be cleared: it was just switched on, without dispi_keep_memory.
bool dispi_write(DispiState& state, uint16_t value, size_t memory);
/// Whether dispi_write() can have made this state.
bool dispi_is_valid(const DispiState& state, size_t memory);

}  // namespace viv
