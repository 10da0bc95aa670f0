#pragma once

#include "bios/real_mode.hpp"
#include "bios/video/parameters.hpp"

namespace viv::rom {

extern "C" const uint8_t font_8x16[], font_8x14[], font_8x8[], save_pointers[];

inline constexpr uint16_t sequencer_port = 0x3C4, graphics_port = 0x3CE, attribute_port = 0x3C0;

inline void write_indexed(uint16_t port, uint8_t index, uint8_t value) {
    out_word(port, static_cast<uint16_t>(value << 8 | index));
}
inline uint8_t read_indexed(uint16_t port, uint8_t index) {
    out_byte(port, index);
    return in_byte(static_cast<uint16_t>(port + 1));
}
inline uint16_t status_port() {
    return static_cast<uint16_t>(get(bda::crtc_port) + 6);
}

// How the memory of a mode is organised.
enum class Layout : uint8_t { text, cga_four, cga_two, planar, linear, vbe };
constexpr Layout layout_of(uint8_t mode) {
    if (mode <= 3 || mode == 7) return Layout::text;
    if (mode <= 5) return Layout::cga_four;
    if (mode == 6) return Layout::cga_two;
    return mode == 0x13 ? Layout::linear : Layout::planar;
}
inline Layout current_layout() {
    return get(bda::vbe_mode) ? Layout::vbe : layout_of(get(bda::video_mode));
}
inline uint16_t video_segment() {
    const uint8_t mode = get(bda::video_mode);
    return mode == 7 ? 0xB000 : mode < 7 ? 0xB800 : 0xA000;
}
inline uint8_t columns() {
    return static_cast<uint8_t>(get(bda::video_columns));
}

// modes.cpp
void set_mode(uint8_t mode_and_flags);
/// The VGA's own picture again.
void leave_vbe();
/// A picture of the DISPI registers, with the VGA around it as in mode 12h.
void set_linear_mode(uint16_t width, uint16_t height, uint8_t bits, bool keep_memory);
void set_font(uint16_t segment, uint16_t offset, uint8_t height, uint16_t first, uint16_t count, uint8_t block);
void rom_font(uint8_t height, uint8_t block);
void point_vector(uint8_t vector, uint16_t segment, uint16_t offset);

// palette.cpp
void write_attribute(uint8_t index, uint8_t value);
uint8_t read_attribute(uint8_t index);
void write_dac(uint8_t index, Rgb color);
void grey_dac(uint16_t first, uint16_t count);
void load_dac(uint8_t mode);
void int10_0b_cga_palette(Registers& r);
void int10_10_palette(Registers& r);

// fonts.cpp
void int10_11_fonts(Registers& r);

// text.cpp
void program_cursor_shape();
void set_cursor(uint8_t page, uint8_t row, uint8_t column);
void select_page(uint8_t page);
void scroll(uint8_t lines, uint8_t attribute, uint8_t top, uint8_t left, uint8_t bottom, uint8_t right, bool down);
void teletype(uint8_t character, uint8_t page, uint8_t color);
void int10_01_cursor_shape(Registers& r);
void int10_02_set_cursor(Registers& r);
void int10_03_get_cursor(Registers& r);
void int10_06_scroll_up(Registers& r);
void int10_07_scroll_down(Registers& r);
void int10_08_read_cell(Registers& r);
void int10_09_write_cells(Registers& r);
void int10_0a_write_characters(Registers& r);
void int10_0e_teletype(Registers& r);
void int10_13_write_string(Registers& r);

// graphics.cpp
void draw_character(uint8_t character, uint8_t color, uint8_t page, uint8_t row, uint8_t column);
uint8_t recognise_character(uint8_t page, uint8_t row, uint8_t column);
void scroll_graphics(uint8_t lines, uint8_t color, uint8_t top, uint8_t left, uint8_t bottom, uint8_t right, bool down);
void int10_0c_write_pixel(Registers& r);
void int10_0d_read_pixel(Registers& r);

// state.cpp
void int10_12_alternate_select(Registers& r);
void int10_1a_display_combination(Registers& r);
void int10_1b_state(Registers& r);
void int10_1c_save_restore(Registers& r);
/// What INT 10h AH=1Ch saves; `wanted` is a set of bits: 0 registers, 1 data areas, 2 DAC.
uint16_t saved_state_bytes(uint16_t wanted);
void save_state(uint16_t segment, uint16_t place, uint16_t wanted);
void restore_state(uint16_t segment, uint16_t place, uint16_t wanted);

// vbe_text.cpp
struct FontPlace {
    uint16_t segment, offset;
};
/// Scan lines that move up or down by `cleared`, which become empty where they were: from `first` on, `moved` +
/// `cleared`.
struct ScrolledLines {
    uint16_t first, moved, cleared;
    bool down;
};
void draw_vbe_character(FontPlace font, uint8_t color, uint8_t row, uint8_t column, uint8_t height);
uint8_t read_vbe_bits(uint16_t y, uint8_t column);
void write_vbe_pixel(uint16_t x, uint16_t y, uint8_t color);
uint8_t read_vbe_pixel(uint16_t x, uint16_t y);
void scroll_vbe(const ScrolledLines& lines, uint8_t left, uint8_t right, uint8_t color);

// vbe.cpp
void int10_4f_vbe(Registers& r);

}  // namespace viv::rom
