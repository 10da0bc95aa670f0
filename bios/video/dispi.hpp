#pragma once

// The DISPI registers from the ROM's side.

#include "bios/real_mode.hpp"
#include "bios/video/dispi_registers.hpp"

namespace viv::rom {

inline uint16_t dispi_read(Dispi index) {
    out_word(dispi_index_port, static_cast<uint16_t>(index));
    return in_word(dispi_data_port);
}
inline void dispi_write(Dispi index, uint16_t value) {
    out_word(dispi_index_port, static_cast<uint16_t>(index));
    out_word(dispi_data_port, value);
}
inline bool has_dispi() {
    const uint16_t id = dispi_read(Dispi::id);
    return id >= dispi_first_id && id <= dispi_last_id;
}
// Of depths that are not planar.
constexpr uint8_t bytes_per_pixel(uint8_t bits) {
    return static_cast<uint8_t>((bits + 7) / 8);
}

/// Physical address of the linear frame buffer: where PCI has put it, else where boards without PCI have it.
inline uint32_t frame_buffer() {
    constexpr uint16_t address_port = 0xCF8, data_port = 0xCFC;
    constexpr uint32_t display_adapter = 0x1111'1234;  // device, vendor
    constexpr uint32_t enable = 0x8000'0000, first_base = 0x10;
    const uint32_t before = in_dword(address_port);
    uint32_t base = frame_buffer_base;
    for (uint32_t device = 0; device < 32; ++device) {
        out_dword(address_port, enable | device << 11);
        if (in_dword(data_port) != display_adapter) continue;
        out_dword(address_port, enable | device << 11 | first_base);
        base = in_dword(data_port) & 0xFFFF'FFF0;
        break;
    }
    out_dword(address_port, before);
    return base;
}

}  // namespace viv::rom
