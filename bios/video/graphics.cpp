// INT 10h in graphics modes: pixels, characters and scrolling.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H"; IBM VGA technical reference (write
// modes of the graphics controller).

#include "bios/video/video.hpp"

namespace viv::rom {
namespace {

constexpr uint8_t exclusive_or = 0x80;

// Modes 4-6 have the upper half of the font behind vector 1Fh.
FontPlace glyph(uint8_t character) {
    const auto height = static_cast<uint8_t>(get(bda::character_height));
    uint16_t vector = 0x43 * 4;
    if (get(bda::video_mode) <= 6 && character >= 128) {
        vector = 0x1F * 4;
        character = static_cast<uint8_t>(character - 128);
    }
    return {far_read<uint16_t>(0, static_cast<uint16_t>(vector + 2)),
            static_cast<uint16_t>(far_read<uint16_t>(0, vector) + character * height)};
}

// Address of scan line `y` in the two banks of modes 4-6.
uint16_t cga_line(uint16_t y) {
    return static_cast<uint16_t>((y & 1) * 0x2000 + (y >> 1) * 80);
}

uint16_t page_start(uint8_t page) {
    return static_cast<uint16_t>(page * get(bda::video_page_size));
}

// One bit to two: 8 pixels of 2 bits.
uint16_t widen(uint8_t bits) {
    uint16_t wide = 0;
    for (uint8_t mask = 0x80; mask != 0; mask >>= 1) wide = static_cast<uint16_t>(wide << 2 | (bits & mask ? 3 : 0));
    return static_cast<uint16_t>(wide << 8 | wide >> 8);  // leftmost pixels in the first byte
}

void set_planar_defaults() {
    write_indexed(graphics_port, 0, 0);
    write_indexed(graphics_port, 1, 0);
    write_indexed(graphics_port, 3, 0);
    write_indexed(graphics_port, 5, 0);
    write_indexed(graphics_port, 8, 0xFF);
}

// Set/reset gives the colour, the bit mask the pixels: reading loads the latches, writing anything draws.
void draw_planar(FontPlace font, uint8_t color, uint16_t place, uint8_t height) {
    const auto pitch = columns();
    write_indexed(sequencer_port, 2, 0x0F);
    write_indexed(graphics_port, 1, 0x0F);
    if (color & exclusive_or) {
        write_indexed(graphics_port, 3, 0x18);
    } else {
        write_indexed(graphics_port, 0, 0);
        uint16_t line = place;
        for (uint8_t y = 0; y < height; ++y, line = static_cast<uint16_t>(line + pitch)) {
            far_write<uint8_t>(0xA000, line, 0);
        }
    }
    write_indexed(graphics_port, 0, color & 0x0F);
    for (uint8_t y = 0; y < height; ++y, place = static_cast<uint16_t>(place + pitch)) {
        const uint8_t bits = far_read<uint8_t>(font.segment, static_cast<uint16_t>(font.offset + y));
        if (bits == 0) continue;
        write_indexed(graphics_port, 8, bits);
        far_read<uint8_t>(0xA000, place);
        far_write<uint8_t>(0xA000, place, 0xFF);
    }
    set_planar_defaults();
}

void draw_linear(FontPlace font, uint8_t color, uint16_t place, uint8_t height) {
    for (uint8_t y = 0; y < height; ++y, place = static_cast<uint16_t>(place + 320)) {
        const uint8_t bits = far_read<uint8_t>(font.segment, static_cast<uint16_t>(font.offset + y));
        uint16_t pixel = place;
        for (uint8_t mask = 0x80; mask != 0; mask >>= 1, ++pixel) {
            far_write<uint8_t>(0xA000, pixel, bits & mask ? color : uint8_t{0});
        }
    }
}

void draw_cga(FontPlace font, uint8_t color, uint8_t row, uint8_t column, uint8_t height, bool four) {
    for (uint8_t y = 0; y < height; ++y) {
        const uint8_t bits = far_read<uint8_t>(font.segment, static_cast<uint16_t>(font.offset + y));
        const uint16_t line = cga_line(static_cast<uint16_t>(row * height + y));
        if (four) {
            const auto place = static_cast<uint16_t>(line + column * 2);
            auto pixels = static_cast<uint16_t>(widen(bits) & (color & 3) * 0x5555);
            if (color & exclusive_or) pixels ^= far_read<uint16_t>(0xB800, place);
            far_write(0xB800, place, pixels);
        } else {
            const auto place = static_cast<uint16_t>(line + column);
            uint8_t pixels = bits;  // the only colour there is, whatever was asked for
            if (color & exclusive_or) pixels ^= far_read<uint8_t>(0xB800, place);
            far_write(0xB800, place, pixels);
        }
    }
}

// Eight pixels of line `y` as bits: 1 where not colour 0.
uint8_t read_bits(uint8_t page, uint16_t y, uint8_t column) {
    uint8_t bits = 0;
    switch (current_layout()) {
        case Layout::planar: {
            const auto place = static_cast<uint16_t>(page_start(page) + y * columns() + column);
            write_indexed(graphics_port, 5, 0x08);  // read mode 1: compare with colour 0 in all planes
            write_indexed(graphics_port, 2, 0);
            write_indexed(graphics_port, 7, 0x0F);
            bits = static_cast<uint8_t>(~far_read<uint8_t>(0xA000, place));
            write_indexed(graphics_port, 5, 0);
            break;
        }
        case Layout::linear:
            for (uint8_t x = 0; x < 8; ++x) {
                const auto place = static_cast<uint16_t>(y * 320 + column * 8 + x);
                bits = static_cast<uint8_t>(bits << 1 | (far_read<uint8_t>(0xA000, place) != 0));
            }
            break;
        case Layout::cga_four: {
            const uint16_t stored = far_read<uint16_t>(0xB800, static_cast<uint16_t>(cga_line(y) + column * 2));
            const auto pixels = static_cast<uint16_t>(stored << 8 | stored >> 8);
            for (int shift = 14; shift >= 0; shift -= 2) {
                bits = static_cast<uint8_t>(bits << 1 | ((pixels >> shift & 3) != 0));
            }
            break;
        }
        case Layout::cga_two: bits = far_read<uint8_t>(0xB800, static_cast<uint16_t>(cga_line(y) + column)); break;
        case Layout::vbe: return read_vbe_bits(y, column);
        case Layout::text: break;
    }
    return bits;
}

void scroll_planar(uint16_t to, uint16_t step, uint16_t distance, uint16_t moved, uint16_t cleared, uint16_t bytes,
                   uint8_t color) {
    write_indexed(sequencer_port, 2, 0x0F);
    write_indexed(graphics_port, 5, 1);  // latches to memory, byte by byte
    for (; moved != 0; --moved, to = static_cast<uint16_t>(to + step)) {
        const auto from = static_cast<uint16_t>(to + distance);
        for (uint16_t x = 0; x < bytes; ++x) {
            far_write(0xA000, static_cast<uint16_t>(to + x),
                      far_read<uint8_t>(0xA000, static_cast<uint16_t>(from + x)));
        }
    }
    write_indexed(graphics_port, 5, 0);
    write_indexed(graphics_port, 0, color & 0x0F);
    write_indexed(graphics_port, 1, 0x0F);
    for (; cleared != 0; --cleared, to = static_cast<uint16_t>(to + step)) {
        for (uint16_t x = 0; x < bytes; ++x) far_write<uint8_t>(0xA000, static_cast<uint16_t>(to + x), 0);
    }
    set_planar_defaults();
}

void fill_line(uint16_t segment, uint16_t place, uint8_t value, uint16_t bytes) {
    far_fill(segment, place, static_cast<uint16_t>(value * 0x0101), bytes / 2);
    if (bytes & 1) far_write(segment, static_cast<uint16_t>(place + bytes - 1), value);
}

}  // namespace

void draw_character(uint8_t character, uint8_t color, uint8_t page, uint8_t row, uint8_t column) {
    const FontPlace font = glyph(character);
    const auto height = static_cast<uint8_t>(get(bda::character_height));
    const auto line = static_cast<uint16_t>(row * height);
    switch (current_layout()) {
        case Layout::planar:
            return draw_planar(font, color, static_cast<uint16_t>(page_start(page) + line * columns() + column),
                               height);
        case Layout::linear: return draw_linear(font, color, static_cast<uint16_t>(line * 320 + column * 8), height);
        case Layout::cga_four: return draw_cga(font, color, row, column, height, true);
        case Layout::cga_two: return draw_cga(font, color, row, column, height, false);
        case Layout::vbe: return draw_vbe_character(font, color, row, column, height);
        case Layout::text: return;
    }
}

// AH=08h: the character whose glyph is on the screen, 0 if none.
uint8_t recognise_character(uint8_t page, uint8_t row, uint8_t column) {
    const auto height = static_cast<uint8_t>(get(bda::character_height));
    uint8_t seen[32];
    for (uint8_t y = 0; y < height && y < 32; ++y) {
        seen[y] = read_bits(page, static_cast<uint16_t>(row * height + y), column);
    }
    for (uint16_t character = 0; character < 256; ++character) {
        const FontPlace font = glyph(static_cast<uint8_t>(character));
        uint8_t y = 0;
        while (y < height && y < 32 &&
               far_read<uint8_t>(font.segment, static_cast<uint16_t>(font.offset + y)) == seen[y])
            ++y;
        if (y == height) return character == 0 ? ' ' : static_cast<uint8_t>(character);
    }
    return 0;
}

void scroll_graphics(uint8_t lines, uint8_t color, uint8_t top, uint8_t left, uint8_t bottom, uint8_t right,
                     bool down) {
    const auto height = static_cast<uint8_t>(get(bda::character_height));
    const auto total = static_cast<uint16_t>((bottom - top + 1) * height);
    const auto cleared = static_cast<uint16_t>(lines * height);
    const auto moved = static_cast<uint16_t>(total - cleared);
    const auto first = static_cast<uint16_t>(down ? (bottom + 1) * height - 1 : top * height);
    auto cells = static_cast<uint16_t>(right - left + 1);
    const Layout layout = current_layout();
    if (layout == Layout::vbe) return scroll_vbe({first, moved, cleared, down}, left, right, color);
    if (layout == Layout::planar) {
        const uint16_t pitch = columns();
        const auto step = static_cast<uint16_t>(down ? -pitch : pitch);
        return scroll_planar(static_cast<uint16_t>(page_start(get(bda::video_page)) + first * pitch + left), step,
                             static_cast<uint16_t>(cleared * step), moved, cleared, cells, color);
    }
    const uint8_t bytes_per_cell = layout == Layout::linear ? 8 : layout == Layout::cga_four ? 2 : 1;
    const uint16_t segment = video_segment();
    const auto bytes = static_cast<uint16_t>(cells * bytes_per_cell);
    const auto shift = static_cast<uint16_t>(left * bytes_per_cell);
    const auto address = [layout, shift](uint16_t y) {
        return static_cast<uint16_t>((layout == Layout::linear ? y * 320 : cga_line(y)) + shift);
    };
    const uint8_t fill = layout == Layout::cga_four ? static_cast<uint8_t>((color & 3) * 0x55) : color;
    for (uint16_t i = 0; i < total; ++i) {
        const auto y = static_cast<uint16_t>(down ? first - i : first + i);
        if (i < moved) {
            const auto from = static_cast<uint16_t>(down ? y - cleared : y + cleared);
            far_copy(segment, address(y), segment, address(from), bytes);
        } else {
            fill_line(segment, address(y), fill, bytes);
        }
    }
}

void int10_0c_write_pixel(Registers& r) {
    const uint16_t x = r.cx(), y = r.dx();
    const uint8_t color = r.al();
    switch (current_layout()) {
        case Layout::planar: {
            const auto place = static_cast<uint16_t>(page_start(r.bh()) + y * columns() + x / 8);
            write_indexed(sequencer_port, 2, 0x0F);
            write_indexed(graphics_port, 0, color & 0x0F);
            write_indexed(graphics_port, 1, 0x0F);
            write_indexed(graphics_port, 8, static_cast<uint8_t>(0x80 >> (x & 7)));
            if (color & exclusive_or) write_indexed(graphics_port, 3, 0x18);
            far_read<uint8_t>(0xA000, place);
            far_write<uint8_t>(0xA000, place, 0xFF);
            return set_planar_defaults();
        }
        case Layout::linear: return far_write(0xA000, static_cast<uint16_t>(y * 320 + x), color);
        case Layout::cga_four:
        case Layout::cga_two: {
            const bool four = current_layout() == Layout::cga_four;
            const auto place = static_cast<uint16_t>(cga_line(y) + (four ? x / 4 : x / 8));
            const int shift = four ? 6 - (x & 3) * 2 : 7 - (x & 7);
            const int mask = (four ? 3 : 1) << shift;
            const int old = far_read<uint8_t>(0xB800, place);
            const int pixel = (color << shift) & mask;
            far_write(0xB800, place, static_cast<uint8_t>(color & exclusive_or ? old ^ pixel : (old & ~mask) | pixel));
            return;
        }
        case Layout::vbe: return write_vbe_pixel(x, y, color);
        case Layout::text: return;
    }
}

void int10_0d_read_pixel(Registers& r) {
    const uint16_t x = r.cx(), y = r.dx();
    switch (current_layout()) {
        case Layout::planar: {
            const auto place = static_cast<uint16_t>(page_start(r.bh()) + y * columns() + x / 8);
            uint8_t color = 0;
            for (uint8_t plane = 4; plane-- != 0;) {
                write_indexed(graphics_port, 4, plane);
                color = static_cast<uint8_t>(color << 1 | (far_read<uint8_t>(0xA000, place) >> (7 - (x & 7)) & 1));
            }
            r.al() = color;
            return;
        }
        case Layout::linear: r.al() = far_read<uint8_t>(0xA000, static_cast<uint16_t>(y * 320 + x)); return;
        case Layout::cga_four:
            r.al() = far_read<uint8_t>(0xB800, static_cast<uint16_t>(cga_line(y) + x / 4)) >> (6 - (x & 3) * 2) & 3;
            return;
        case Layout::cga_two:
            r.al() = far_read<uint8_t>(0xB800, static_cast<uint16_t>(cga_line(y) + x / 8)) >> (7 - (x & 7)) & 1;
            return;
        case Layout::vbe: r.al() = read_vbe_pixel(x, y); return;
        case Layout::text: return;
    }
}

}  // namespace viv::rom
