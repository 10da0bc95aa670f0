#pragma once

// The register numbers of the DISPI interface. Freestanding: the video BIOS (16-bit code) reads this file too.
// Reference: Bochs, "VBE Display Interface Extensions" (vbe_display_api.txt), versions B0C0 to B0C5.

#include <stdint.h>

namespace viv {

enum class Dispi : uint16_t {
    id,                // rw  version that the driver speaks
    x_resolution,      // rw  pixels, a multiple of 8
    y_resolution,      // rw
    bits_per_pixel,    // rw  4, 8, 15, 16, 24, 32
    enable,            // rw
    bank,              // rw  which 64 KiB the window at A0000h shows
    virtual_width,     // rw  pixels from line to line
    virtual_height,    // r-  lines that the memory holds
    x_offset,          // rw
    y_offset,          // rw
    video_memory_64k,  // r-
};

inline constexpr uint16_t dispi_index_port = 0x1CE;
inline constexpr uint16_t dispi_data_port = 0x1CF;  // and 1D0h, which is aligned
inline constexpr uint16_t dispi_first_id = 0xB0C0;
inline constexpr uint16_t dispi_last_id = 0xB0C5;
inline constexpr uint16_t dispi_max_width = 2560;
inline constexpr uint16_t dispi_max_height = 1600;
inline constexpr uint16_t dispi_enabled = 0x01;
inline constexpr uint16_t dispi_get_capabilities = 0x02;  // the size registers read as their maxima
inline constexpr uint16_t dispi_8_bit_dac = 0x20;
inline constexpr uint16_t dispi_linear = 0x40;
inline constexpr uint16_t dispi_keep_memory = 0x80;
inline constexpr uint32_t dispi_bank_size = 0x10000;

}  // namespace viv
