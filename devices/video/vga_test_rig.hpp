#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/video/vga.hpp"

namespace viv::testing {

/// The registers of a mode as the IBM BIOS's parameter tables give them.
struct VgaMode {
    uint8_t miscellaneous;
    std::array<uint8_t, 4> sequencer;  // SR1-SR4
    std::array<uint8_t, 25> crtc;
    std::array<uint8_t, 20> attribute;  // AR0-AR13h
    std::array<uint8_t, 9> graphics;
};

inline constexpr std::array<uint8_t, 20> attribute_colour_text = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14,
                                                                  0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D,
                                                                  0x3E, 0x3F, 0x0C, 0x00, 0x0F, 0x08};

inline constexpr VgaMode mode_01 = {0x67,
                                    {0x08, 0x03, 0x00, 0x02},
                                    {0x2D, 0x27, 0x28, 0x90, 0x2B, 0xA0, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x1F, 0x96, 0xB9, 0xA3, 0xFF},
                                    attribute_colour_text,
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF}};

inline constexpr VgaMode mode_03 = {0x67,
                                    {0x00, 0x03, 0x00, 0x02},
                                    {0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF},
                                    attribute_colour_text,
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF}};

inline constexpr VgaMode mode_04 = {0x63,
                                    {0x09, 0x03, 0x00, 0x02},
                                    {0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF},
                                    {0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11,
                                     0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00},
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0F, 0x00, 0xFF}};

inline constexpr VgaMode mode_06 = {0x63,
                                    {0x01, 0x01, 0x00, 0x06},
                                    {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF},
                                    {0x00, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
                                     0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x01, 0x00, 0x01, 0x00},
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0D, 0x00, 0xFF}};

inline constexpr VgaMode mode_07 = {0x66,
                                    {0x00, 0x03, 0x00, 0x02},
                                    {0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x0D, 0x96, 0xB9, 0xA3, 0xFF},
                                    {0x00, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x10, 0x18,
                                     0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x0E, 0x00, 0x0F, 0x08},
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0A, 0x00, 0xFF}};

inline constexpr VgaMode mode_0d = {0x63,
                                    {0x09, 0x0F, 0x00, 0x06},
                                    {0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC0, 0x00, 0x00, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xE3, 0xFF},
                                    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11,
                                     0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x0F, 0x00},
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF}};

inline constexpr VgaMode mode_12 = {0xE3,
                                    {0x01, 0x0F, 0x00, 0x06},
                                    {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00,
                                     0x00, 0x00, 0x00, 0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF},
                                    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39,
                                     0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x01, 0x00, 0x0F, 0x00},
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF}};

inline constexpr VgaMode mode_13 = {0x63,
                                    {0x01, 0x0F, 0x00, 0x0E},
                                    {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00,
                                     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF},
                                    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
                                     0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x41, 0x00, 0x0F, 0x00},
                                    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0F, 0xFF}};

/// A VGA and a driver for it: what a BIOS does, through the ports and the memory window only.
struct VgaRig {
    /// With so many bytes of linear memory.
    explicit VgaRig(size_t linear_size = 0) : linear(linear_size) {}

    ManualClock clock;
    std::vector<std::byte> linear;
    Vga vga{clock, linear};

    uint8_t in(uint16_t port) { return static_cast<uint8_t>(vga.ports().read({uint64_t{port} - Vga::first_port, 1})); }
    void out(uint16_t port, uint8_t value) { vga.ports().write({uint64_t{port} - Vga::first_port, 1}, value); }
    void dispi(Dispi index, uint16_t value) {
        vga.dispi_ports().write({0, 2}, std::to_underlying(index));
        vga.dispi_ports().write({1, 2}, value);
    }
    uint16_t dispi(Dispi index) {
        vga.dispi_ports().write({0, 2}, std::to_underlying(index));
        return static_cast<uint16_t>(vga.dispi_ports().read({1, 2}));
    }
    /// A linear picture, its memory cleared, and the screen on.
    void set_linear(uint16_t width, uint16_t height, uint16_t bits, uint16_t flags = 0) {
        dispi(Dispi::enable, 0);
        dispi(Dispi::x_resolution, width);
        dispi(Dispi::y_resolution, height);
        dispi(Dispi::bits_per_pixel, bits);
        dispi(Dispi::enable, dispi_enabled | flags);
        in(0x3DA);
        in(0x3BA);
        out(0x3C0, 0x20);
    }
    /// Index and data in one word, as drivers do.
    void out_indexed(uint16_t port, uint8_t index, uint8_t value) {
        vga.ports().write({uint64_t{port} - Vga::first_port, 2}, static_cast<uint16_t>(index | value << 8));
    }
    uint8_t in_indexed(uint16_t port, uint8_t index) {
        out(port, index);
        return in(static_cast<uint16_t>(port + 1));
    }
    void attribute(uint8_t index, uint8_t value) {
        in(0x3DA);
        in(0x3BA);
        out(0x3C0, index);
        out(0x3C0, value);
        out(0x3C0, 0x20);
    }
    /// Physical addresses, A0000h and up.
    uint8_t peek(uint32_t address) { return static_cast<uint8_t>(vga.memory().read({address - 0xA0000, 1})); }
    void poke(uint32_t address, uint8_t value) { vga.memory().write({address - 0xA0000, 1}, value); }
    void poke16(uint32_t address, uint16_t value) { vga.memory().write({address - 0xA0000, 2}, value); }

    void colour(uint8_t index, uint8_t red, uint8_t green, uint8_t blue) {
        out(0x3C8, index);
        for (const uint8_t part : {red, green, blue}) out(0x3C9, part);
    }

    void set_mode(const VgaMode& mode) {
        out(0x3C2, mode.miscellaneous);
        const uint16_t crtc = mode.miscellaneous & 1 ? 0x3D4 : 0x3B4;
        out_indexed(0x3C4, 0, 1);
        for (uint8_t i = 0; i < 4; ++i) out_indexed(0x3C4, static_cast<uint8_t>(i + 1), mode.sequencer[i]);
        out_indexed(0x3C4, 0, 3);
        out_indexed(crtc, 0x11, 0);
        for (uint8_t i = 0; i < 25; ++i) out_indexed(crtc, i, mode.crtc[i]);
        for (uint8_t i = 0; i < 9; ++i) out_indexed(0x3CE, i, mode.graphics[i]);
        in(0x3BA);
        in(0x3DA);
        for (uint8_t i = 0; i < 20; ++i) {
            out(0x3C0, i);
            out(0x3C0, mode.attribute[i]);
        }
        out(0x3C0, 0x14);
        out(0x3C0, 0);
        out(0x3C0, 0x20);
    }

    /// The 64 colours of the EGA, as the BIOS loads them for text: bits 5-0 are the secondary and primary R, G, B.
    void set_ega_colours() {
        for (unsigned i = 0; i < 64; ++i) {
            const auto level = [i](unsigned primary, unsigned secondary) {
                return static_cast<uint8_t>((i & primary ? 0x2A : 0) + (i & secondary ? 0x15 : 0));
            };
            colour(static_cast<uint8_t>(i), level(4, 0x20), level(2, 0x10), level(1, 0x08));
        }
    }

    /// Puts glyph rows into a font of map 2, which begins at `base`, and goes back to text.
    void set_glyph(uint8_t character, std::initializer_list<uint8_t> rows, uint16_t base = 0) {
        const uint8_t graphics_5 = in_indexed(0x3CE, 5);
        const uint8_t graphics_6 = in_indexed(0x3CE, 6);
        out_indexed(0x3C4, 2, 4);
        out_indexed(0x3C4, 4, 6);
        out_indexed(0x3CE, 5, 0);
        out_indexed(0x3CE, 6, 4);
        uint32_t at = 0xA0000u + base + character * 32u;
        for (const uint8_t row : rows) poke(at++, row);
        out_indexed(0x3C4, 2, 3);
        out_indexed(0x3C4, 4, 2);
        out_indexed(0x3CE, 5, graphics_5);
        out_indexed(0x3CE, 6, graphics_6);
    }

    void print(unsigned row, unsigned column, std::string_view text, uint8_t attribute_byte = 7,
               uint32_t base = 0xB8000) {
        uint32_t at = base + (row * 80 + column) * 2;
        for (const char character : text) {
            poke16(at, static_cast<uint16_t>(static_cast<uint8_t>(character) | attribute_byte << 8));
            at += 2;
        }
    }
};

}  // namespace viv::testing
