#pragma once

// The monitor that is always connected, as its EDID says. Freestanding: the video BIOS (16-bit code) hands out the same
// bytes, so this includes <stdint.h> only.
// Reference: VESA Enhanced Extended Display Identification Data Standard, Release A (EDID 1.3).

#include <stdint.h>

namespace viv {

struct Edid {
    static constexpr unsigned size = 128;
    uint8_t bytes[size] = {};
};

namespace edid_detail {

// A detailed timing (3.10.2): 18 bytes. Sync pulses negative, separate; the picture is 270 mm by 203 mm.
struct Timing {
    uint32_t pixel_clock_10_khz;
    uint16_t width, horizontal_blank, horizontal_front, horizontal_sync;
    uint16_t height, vertical_blank, vertical_front, vertical_sync;
};

// VESA's 1024x768 at 60 Hz.
inline constexpr Timing preferred = {6500, 1024, 320, 24, 136, 768, 38, 3, 6};

constexpr void put_timing(uint8_t* out, const Timing& t) {
    constexpr unsigned width_mm = 270, height_mm = 203;
    const auto byte = [](unsigned value) { return static_cast<uint8_t>(value & 0xFF); };
    out[0] = byte(t.pixel_clock_10_khz);
    out[1] = byte(t.pixel_clock_10_khz >> 8);
    out[2] = byte(t.width);
    out[3] = byte(t.horizontal_blank);
    out[4] = byte((t.width >> 8 & 0xFu) << 4 | (t.horizontal_blank >> 8 & 0xFu));
    out[5] = byte(t.height);
    out[6] = byte(t.vertical_blank);
    out[7] = byte((t.height >> 8 & 0xFu) << 4 | (t.vertical_blank >> 8 & 0xFu));
    out[8] = byte(t.horizontal_front);
    out[9] = byte(t.horizontal_sync);
    out[10] = byte((t.vertical_front & 0xFu) << 4 | (t.vertical_sync & 0xFu));
    out[11] = byte((t.horizontal_front >> 8 & 3u) << 6 | (t.horizontal_sync >> 8 & 3u) << 4);
    out[12] = byte(width_mm);
    out[13] = byte(height_mm);
    out[14] = byte((width_mm >> 8) << 4 | height_mm >> 8);
    out[17] = 0x18;
}

}  // namespace edid_detail

constexpr Edid make_edid() {
    Edid edid;
    uint8_t* b = edid.bytes;
    for (int i = 1; i < 7; ++i) b[i] = 0xFF;
    // Maker "VIV": three letters of five bits, big-endian.
    const unsigned maker = ('V' - '@') << 10 | ('I' - '@') << 5 | ('V' - '@');
    b[8] = static_cast<uint8_t>(maker >> 8);
    b[9] = static_cast<uint8_t>(maker & 0xFF);
    b[10] = 0x01;         // product
    b[16] = 1;            // week
    b[17] = 2026 - 1990;  // year
    b[18] = 1;            // EDID 1.3
    b[19] = 3;
    b[20] = 0x08;  // analog, 0.7 V, separate syncs
    b[21] = 27;    // cm
    b[22] = 20;
    b[23] = 120;   // gamma 2.2
    b[24] = 0xEA;  // standby, suspend, off; RGB; the first detailed timing is preferred
    // The chromaticity of sRGB (3.7).
    constexpr uint8_t colour[10] = {0xEE, 0x91, 0xA3, 0x54, 0x4C, 0x99, 0x26, 0x0F, 0x50, 0x54};
    for (int i = 0; i < 10; ++i) b[25 + i] = colour[i];
    b[35] = 0xA1;  // established: 720x400, 640x480, 800x600 at 60 and 70 Hz
    b[36] = 0x08;  // 1024x768 at 60 Hz
    // Standard timings (3.9): width / 8 - 31, and the shape (4:3 01, 5:4 10, 16:9 11) with 60 Hz.
    struct Standard {
        uint16_t width;
        uint8_t shape;
    };
    constexpr Standard standards[8] = {{640, 1},  {800, 1},  {1024, 1}, {1152, 1},
                                       {1280, 2}, {1600, 1}, {1280, 3}, {1920, 3}};
    for (int i = 0; i < 8; ++i) {
        b[38 + 2 * i] = static_cast<uint8_t>(standards[i].width / 8 - 31);
        b[39 + 2 * i] = static_cast<uint8_t>(standards[i].shape << 6);
    }
    edid_detail::put_timing(b + 54, edid_detail::preferred);
    // Range limits: 50-160 Hz, 30-130 kHz, 350 MHz.
    constexpr uint8_t limits[18] = {0,  0, 0,    0xFD, 0,    50,   160,  30,   130,
                                    35, 0, 0x0A, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20};
    for (int i = 0; i < 18; ++i) b[72 + i] = limits[i];
    constexpr char name[] = "Vivarium\n    ";
    b[93] = 0xFC;
    for (int i = 0; i < 13; ++i) b[95 + i] = static_cast<uint8_t>(name[i]);
    b[111] = 0x10;  // a dummy descriptor
    unsigned sum = 0;
    for (unsigned i = 0; i + 1 < Edid::size; ++i) sum += b[i];
    b[127] = static_cast<uint8_t>(-sum);
    return edid;
}

}  // namespace viv
