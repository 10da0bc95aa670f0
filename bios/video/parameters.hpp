#pragma once

// Register values of the standard modes, in the layout and order of the IBM VGA's video parameter table (IBM PS/2 and
// PC BIOS Interface Technical Reference, "Video save pointer table"), which programs may replace through 40:A8. Pure
// tables, shared by the ROM and its tests.

#include "bios/layout.hpp"

namespace viv::rom {

enum class ScanLines : uint8_t { lines_200, lines_350, lines_400 };

inline constexpr uint8_t parameter_count = 29;
inline constexpr uint8_t no_parameters = 0xFF;

// Where a mode's entry is; text modes have one per number of scan lines.
constexpr uint8_t parameter_index(uint8_t mode, ScanLines lines) {
    if (mode <= 3) {
        if (lines == ScanLines::lines_400) return mode <= 1 ? 0x17 : 0x18;
        return lines == ScanLines::lines_350 ? static_cast<uint8_t>(0x13 + mode) : mode;
    }
    switch (mode) {
        case 0x07: return lines == ScanLines::lines_400 ? 0x19 : 0x07;
        case 0x04:
        case 0x05:
        case 0x06:
        case 0x0D:
        case 0x0E: return mode;
        case 0x0F: return 0x11;
        case 0x10: return 0x12;
        case 0x11: return 0x1A;
        case 0x12: return 0x1B;
        case 0x13: return 0x1C;
    }
    return no_parameters;
}

namespace parameters {

struct Vertical {
    uint8_t total, overflow, maximum_scan_line, cursor_start, cursor_end, retrace_start, retrace_end, display_end,
        underline, blank_start, blank_end, miscellaneous;
};
// Scan lines are doubled where the picture has 200; 350-line pictures use other sync polarities.
inline constexpr Vertical text_200 = {0xBF, 0x1F, 0xC7, 0x06, 0x07, 0x9C, 0x8E, 0x8F, 0x1F, 0x96, 0xB9, 0x63};
inline constexpr Vertical text_350 = {0xBF, 0x1F, 0x4D, 0x0B, 0x0C, 0x83, 0x85, 0x5D, 0x1F, 0x63, 0xBA, 0xA3};
inline constexpr Vertical text_400 = {0xBF, 0x1F, 0x4F, 0x0D, 0x0E, 0x9C, 0x8E, 0x8F, 0x1F, 0x96, 0xB9, 0x67};
inline constexpr Vertical mono_350 = {0xBF, 0x1F, 0x4D, 0x0B, 0x0C, 0x83, 0x85, 0x5D, 0x0D, 0x63, 0xBA, 0xA6};
inline constexpr Vertical mono_400 = {0xBF, 0x1F, 0x4F, 0x0D, 0x0E, 0x9C, 0x8E, 0x8F, 0x0F, 0x96, 0xB9, 0x66};
inline constexpr Vertical cga_200 = {0xBF, 0x1F, 0xC1, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x00, 0x96, 0xB9, 0x63};
inline constexpr Vertical graphics_200 = {0xBF, 0x1F, 0xC0, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x00, 0x96, 0xB9, 0x63};
inline constexpr Vertical graphics_350 = {0xBF, 0x1F, 0x40, 0x00, 0x00, 0x83, 0x85, 0x5D, 0x0F, 0x63, 0xBA, 0xA3};
inline constexpr Vertical mono_graphics = {0xBF, 0x1F, 0x40, 0x00, 0x00, 0x83, 0x85, 0x5D, 0x0F, 0x63, 0xBA, 0xA2};
inline constexpr Vertical graphics_480 = {0x0B, 0x3E, 0x40, 0x00, 0x00, 0xEA, 0x8C, 0xDF, 0x00, 0xE7, 0x04, 0xE3};
inline constexpr Vertical linear_200 = {0xBF, 0x1F, 0x41, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x40, 0x96, 0xB9, 0x63};

struct Horizontal {
    uint8_t total, display_end, blank_start, blank_end, retrace_start, retrace_end, offset;
};
inline constexpr Horizontal text_40 = {0x2D, 0x27, 0x28, 0x90, 0x2B, 0xA0, 0x14};
inline constexpr Horizontal text_80 = {0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0x28};
inline constexpr Horizontal graphics_40 = {0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0x14};
inline constexpr Horizontal graphics_80 = {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x28};

struct Colors {
    uint8_t attribute[20];
};
inline constexpr Colors cga_text = {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11,
                                     0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x08, 0x00, 0x0F, 0x00}};
inline constexpr Colors ega_text = {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39,
                                     0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x08, 0x00, 0x0F, 0x00}};
inline constexpr Colors vga_text = {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39,
                                     0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x0C, 0x00, 0x0F, 0x08}};
inline constexpr Colors mono_text = {{0x00, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x10, 0x18,
                                      0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x0E, 0x00, 0x0F, 0x08}};
inline constexpr Colors cga_graphics = {{0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11,
                                         0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00}};
inline constexpr Colors cga_two = {{0x00, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
                                    0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x01, 0x00, 0x01, 0x00}};
inline constexpr Colors ega_low = {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11,
                                    0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x0F, 0x00}};
inline constexpr Colors ega_high = {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39,
                                     0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x01, 0x00, 0x0F, 0x00}};
inline constexpr Colors mono_four = {{0x00, 0x08, 0x00, 0x00, 0x18, 0x18, 0x00, 0x00, 0x00, 0x08,
                                      0x00, 0x00, 0x00, 0x18, 0x00, 0x00, 0x0B, 0x00, 0x05, 0x00}};
inline constexpr Colors vga_two = {{0x00, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
                                    0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x01, 0x00, 0x0F, 0x00}};
inline constexpr Colors linear = {{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
                                   0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x41, 0x00, 0x0F, 0x00}};

// GR5-GR8 differ; the rest is 0.
struct Graphics {
    uint8_t mode, miscellaneous, care;
};

struct Sequencer {
    uint8_t clocking, map_mask, memory_mode;
};

constexpr VideoParameters make(uint8_t rows, uint8_t height, uint16_t page, Sequencer sequencer, Horizontal h,
                               Vertical v, uint8_t crtc_mode, const Colors& colors, Graphics graphics) {
    VideoParameters p{};
    p.columns = static_cast<uint8_t>(h.display_end + 1);
    p.rows_minus_one = static_cast<uint8_t>(rows - 1);
    p.character_height = height;
    p.page_size = page;
    p.sequencer[0] = sequencer.clocking;
    p.sequencer[1] = sequencer.map_mask;
    p.sequencer[2] = 0;
    p.sequencer[3] = sequencer.memory_mode;
    p.miscellaneous = v.miscellaneous;
    const uint8_t crtc[25] = {h.total,
                              h.display_end,
                              h.blank_start,
                              h.blank_end,
                              h.retrace_start,
                              h.retrace_end,
                              v.total,
                              v.overflow,
                              0,
                              v.maximum_scan_line,
                              v.cursor_start,
                              v.cursor_end,
                              0,
                              0,
                              0,
                              0,
                              v.retrace_start,
                              v.retrace_end,
                              v.display_end,
                              h.offset,
                              v.underline,
                              v.blank_start,
                              v.blank_end,
                              crtc_mode,
                              0xFF};
    for (int i = 0; i < 25; ++i) p.crtc[i] = crtc[i];
    for (int i = 0; i < 20; ++i) p.attribute[i] = colors.attribute[i];
    p.graphics[5] = graphics.mode;
    p.graphics[6] = graphics.miscellaneous;
    p.graphics[7] = graphics.care;
    p.graphics[8] = 0xFF;
    return p;
}

inline constexpr Graphics color_text_window = {0x10, 0x0E, 0x00};
inline constexpr Graphics mono_text_window = {0x10, 0x0A, 0x00};
inline constexpr Graphics planar_window = {0x00, 0x05, 0x0F};
inline constexpr Sequencer text_8_dots_40 = {0x09, 0x03, 0x02};
inline constexpr Sequencer text_8_dots_80 = {0x01, 0x03, 0x02};
inline constexpr Sequencer text_9_dots_40 = {0x08, 0x03, 0x02};
inline constexpr Sequencer text_9_dots_80 = {0x00, 0x03, 0x02};
inline constexpr Sequencer planar_40 = {0x09, 0x0F, 0x06};
inline constexpr Sequencer planar_80 = {0x01, 0x0F, 0x06};

struct Table {
    VideoParameters entry[parameter_count];
};

constexpr Table make_table() {
    Table t{};
    for (int half = 0; half < 2; ++half) {
        t.entry[half] = make(25, 8, 0x0800, text_8_dots_40, text_40, text_200, 0xA3, cga_text, color_text_window);
        t.entry[half + 2] = make(25, 8, 0x1000, text_8_dots_80, text_80, text_200, 0xA3, cga_text, color_text_window);
        t.entry[half + 0x13] =
            make(25, 14, 0x0800, text_8_dots_40, text_40, text_350, 0xA3, ega_text, color_text_window);
        t.entry[half + 0x15] =
            make(25, 14, 0x1000, text_8_dots_80, text_80, text_350, 0xA3, ega_text, color_text_window);
        t.entry[half + 4] =
            make(25, 8, 0x4000, {0x09, 0x03, 0x02}, graphics_40, cga_200, 0xA2, cga_graphics, {0x30, 0x0F, 0x00});
        // 0Fh and 10h: first the entries of an EGA with 64 KiB, which a VGA keeps for the order only.
        t.entry[half * 2 + 0x0F] =
            make(25, 14, 0x8000, planar_80, graphics_80, mono_graphics, 0xE3, mono_four, {0x00, 0x05, 0x05});
        t.entry[half * 2 + 0x10] =
            make(25, 14, 0x8000, planar_80, graphics_80, graphics_350, 0xE3, ega_high, planar_window);
    }
    t.entry[0x06] = make(25, 8, 0x4000, {0x01, 0x01, 0x06}, graphics_80, cga_200, 0xC2, cga_two, {0x00, 0x0D, 0x00});
    t.entry[0x07] = make(25, 14, 0x1000, text_9_dots_80, text_80, mono_350, 0xA3, mono_text, mono_text_window);
    t.entry[0x0D] = make(25, 8, 0x2000, planar_40, graphics_40, graphics_200, 0xE3, ega_low, planar_window);
    t.entry[0x0E] = make(25, 8, 0x4000, planar_80, graphics_80, graphics_200, 0xE3, ega_low, planar_window);
    t.entry[0x17] = make(25, 16, 0x0800, text_9_dots_40, text_40, text_400, 0xA3, vga_text, color_text_window);
    t.entry[0x18] = make(25, 16, 0x1000, text_9_dots_80, text_80, text_400, 0xA3, vga_text, color_text_window);
    t.entry[0x19] = make(25, 16, 0x1000, text_9_dots_80, text_80, mono_400, 0xA3, mono_text, mono_text_window);
    t.entry[0x1A] = make(30, 16, 0xA000, planar_80, graphics_80, graphics_480, 0xC3, vga_two, planar_window);
    t.entry[0x1B] = make(30, 16, 0xA000, planar_80, graphics_80, graphics_480, 0xE3, ega_high, planar_window);
    t.entry[0x1C] = make(25, 8, 0x2000, {0x01, 0x0F, 0x0E}, graphics_80, linear_200, 0xA3, linear, {0x40, 0x05, 0x0F});
    t.entry[0x1C].columns = 40;
    return t;
}

inline constexpr Table table = make_table();

}  // namespace parameters

// ---- DAC colours ---------------------------------------------------------------------------------------------------

struct Rgb {
    uint8_t red, green, blue;  // 6 bits each
};

// The 64 colours of an EGA: two bits per gun, rgbRGB.
constexpr Rgb ega_color(uint8_t index) {
    const auto gun = [index](int high, int low) {
        return static_cast<uint8_t>((index >> high & 1) * 0x2A + (index >> low & 1) * 0x15);
    };
    return {gun(2, 5), gun(1, 4), gun(0, 3)};
}

// The 16 colours of a CGA, where bit 4 is the intensity; dark yellow is brown.
constexpr Rgb cga_color(uint8_t index) {
    const bool bright = index & 0x10;
    const auto gun = [index, bright](int bit) {
        return static_cast<uint8_t>((index >> bit & 1) * 0x2A + (bright ? 0x15 : 0));
    };
    if ((index & 0x17) == 0x06) return {0x2A, 0x15, 0x00};
    return {gun(2), gun(1), gun(0)};
}

// Off, normal and bright for the monochrome modes.
constexpr Rgb mono_color(uint8_t index) {
    const uint8_t level = (index & 0x18) == 0x18 ? 0x3F : (index & 0x18) == 0x08 ? 0x2A : 0x00;
    return {level, level, level};
}

// Mode 13h: 16 CGA colours, 16 greys, then three brightnesses of three saturations of 24 hues from blue by red and
// green.
constexpr Rgb linear_color(uint8_t index) {
    constexpr uint8_t greys[16] = {0x00, 0x05, 0x08, 0x0B, 0x0E, 0x11, 0x14, 0x18,
                                   0x1C, 0x20, 0x24, 0x28, 0x2D, 0x32, 0x38, 0x3F};
    constexpr uint8_t levels[9][5] = {
        {0x00, 0x10, 0x1F, 0x2F, 0x3F}, {0x1F, 0x27, 0x2F, 0x37, 0x3F}, {0x2D, 0x31, 0x36, 0x3A, 0x3F},
        {0x00, 0x07, 0x0E, 0x15, 0x1C}, {0x0E, 0x11, 0x15, 0x18, 0x1C}, {0x14, 0x16, 0x18, 0x1A, 0x1C},
        {0x00, 0x04, 0x08, 0x0C, 0x10}, {0x08, 0x0A, 0x0C, 0x0E, 0x10}, {0x0B, 0x0C, 0x0D, 0x0F, 0x10}};
    if (index < 16) return cga_color(static_cast<uint8_t>((index & 7) | (index & 8) << 1));
    if (index < 32) return {greys[index - 16], greys[index - 16], greys[index - 16]};
    if (index >= 248) return {0, 0, 0};
    const uint8_t* level = levels[(index - 32) / 24];
    // A gun rises over four hues, stays up for eight, falls over four and stays down for eight.
    const int hue = (index - 32) % 24;
    const auto gun = [level, hue](int rise) {
        const int step = (hue - rise + 24) % 24;
        return level[step <= 4 ? step : step <= 12 ? 4 : step <= 16 ? 16 - step : 0];
    };
    return {gun(0), gun(8), gun(16)};
}

}  // namespace viv::rom
