// INT 10h AH=00h: setting a mode, and loading fonts into plane 2.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H", (AH)=00H; IBM VGA technical
// reference.

#include "bios/video/dispi.hpp"
#include "bios/video/video.hpp"

namespace viv::rom {

struct ParameterBytes {
    constexpr uint8_t operator[](uint16_t index) const {
        const VideoParameters& p = parameters::table.entry[index / 64];
        const int at = index % 64;
        if (at == 0) return p.columns;
        if (at == 1) return p.rows_minus_one;
        if (at == 2) return p.character_height;
        if (at == 3) return static_cast<uint8_t>(p.page_size);
        if (at == 4) return static_cast<uint8_t>(p.page_size >> 8);
        if (at < 9) return p.sequencer[at - 5];
        if (at == 9) return p.miscellaneous;
        if (at < 35) return p.crtc[at - 10];
        if (at < 55) return p.attribute[at - 35];
        return p.graphics[at - 55];
    }
};

constexpr uint16_t parameter_bytes = parameter_count * sizeof(VideoParameters);

// Named from entry.S.
extern "C" {
extern const RomTable<uint8_t, parameter_bytes> video_parameters;
VIV_IN_ROM constinit const RomTable<uint8_t, parameter_bytes> video_parameters{ParameterBytes{}};
}

void point_vector(uint8_t vector, uint16_t segment, uint16_t offset) {
    far_write<uint16_t>(0, static_cast<uint16_t>(vector * 4), offset);
    far_write<uint16_t>(0, static_cast<uint16_t>(vector * 4 + 2), segment);
}

namespace {

// The entry of the parameter table that 40:A8 leads to.
VideoParameters find_parameters(uint8_t mode) {
    const uint8_t flags = get(bda::video_flags);
    const ScanLines lines = (flags & 0x10)   ? ScanLines::lines_400
                            : (flags & 0x80) ? ScanLines::lines_200
                                             : ScanLines::lines_350;
    const uint8_t index = parameter_index(mode, lines);
    const uint16_t segment = get(bda::save_pointers_segment), offset = get(bda::save_pointers_offset);
    const uint16_t table = far_read<uint16_t>(segment, offset);
    const uint16_t table_segment = far_read<uint16_t>(segment, static_cast<uint16_t>(offset + 2));
    VideoParameters result;
    far_copy(stack_segment(), near_offset(&result), table_segment,
             static_cast<uint16_t>(table + index * sizeof(VideoParameters)), sizeof result);
    return result;
}

void program(const VideoParameters& p) {
    leave_vbe();
    const uint16_t crtc = p.miscellaneous & 1 ? 0x3D4 : 0x3B4;
    put(bda::crtc_port, crtc);
    in_byte(static_cast<uint16_t>(crtc + 6));
    out_byte(attribute_port, 0);  // palette open, screen off
    write_indexed(sequencer_port, 0, 1);
    for (uint8_t i = 0; i < 4; ++i) write_indexed(sequencer_port, static_cast<uint8_t>(i + 1), p.sequencer[i]);
    out_byte(0x3C2, p.miscellaneous);
    write_indexed(sequencer_port, 0, 3);
    write_indexed(crtc, 0x11, p.crtc[0x11] & 0x7F);  // CR0-CR7 open
    for (uint8_t i = 0; i < 25; ++i) write_indexed(crtc, i, p.crtc[i]);
    for (uint8_t i = 0; i < 9; ++i) write_indexed(graphics_port, i, p.graphics[i]);
    in_byte(static_cast<uint16_t>(crtc + 6));
    for (uint8_t i = 0; i < 20; ++i) {
        out_byte(attribute_port, i);
        out_byte(attribute_port, p.attribute[i]);
    }
    out_byte(attribute_port, 0x14);
    out_byte(attribute_port, 0);
    out_byte(0x3C6, 0xFF);
}

void fill_data_area(uint8_t mode, const VideoParameters& p, bool keep_memory) {
    put(bda::video_mode, mode);
    put(bda::dpms_state, 0);
    put(bda::video_columns, p.columns);
    put(bda::video_page_size, p.page_size);
    put(bda::video_page_start, 0);
    for (uint16_t page = 0; page < 8; ++page) put(at(bda::cursor_positions, page), 0);
    put(bda::cursor_shape, layout_of(mode) == Layout::text ? 0x0607 : 0x0000);
    put(bda::video_page, 0);
    static constexpr uint8_t selects[] = {0x2C, 0x28, 0x2D, 0x29, 0x2A, 0x2E, 0x1E, 0x29};
    VIV_IN_ROM static constexpr RomTable mode_selects{selects};
    if (mode < 8) {
        put(bda::video_mode_select, mode_selects[mode]);
        put(bda::video_palette, mode == 6 ? 0x3F : 0x30);
    }
    put(bda::video_rows, p.rows_minus_one);
    put(bda::character_height, p.character_height);
    put(bda::video_control, (get(bda::video_control) & 0x7F) | (keep_memory ? 0x80 : 0));
    put(bda::display_combination, mode == 7 || mode == 0x0F ? 0x07 : 0x08);
}

void clear_memory(uint8_t mode) {
    switch (layout_of(mode)) {
        case Layout::text: return far_fill(video_segment(), 0, 0x0720, 0x4000);
        case Layout::cga_four:
        case Layout::cga_two: return far_fill(0xB800, 0, 0, 0x2000);
        case Layout::planar:
        case Layout::linear: return far_fill(0xA000, 0, 0, 0x8000);
        case Layout::vbe: return;  // switching it on has cleared it
    }
}

void point_fonts(uint8_t height) {
    const uint8_t* font = height == 8 ? font_8x8 : height == 14 ? font_8x14 : font_8x16;
    point_vector(0x43, video_rom_segment, near_offset(font));
    point_vector(0x1F, video_rom_segment, static_cast<uint16_t>(near_offset(font_8x8) + 128 * 8));
}

}  // namespace

// Plane 2 as a flat 64 KiB at A000 while a font is copied into it.
void set_font(uint16_t segment, uint16_t offset, uint8_t height, uint16_t first, uint16_t count, uint8_t block) {
    write_indexed(sequencer_port, 0, 1);
    write_indexed(sequencer_port, 2, 0x04);
    write_indexed(sequencer_port, 4, 0x07);
    write_indexed(sequencer_port, 0, 3);
    write_indexed(graphics_port, 4, 2);
    write_indexed(graphics_port, 5, 0);
    write_indexed(graphics_port, 6, 0x04);
    // Blocks 4-7 lie between blocks 0-3.
    uint16_t to = static_cast<uint16_t>(((block & 3) << 14 | (block & 4) << 11) + first * 32);
    for (; count != 0; --count) {
        far_copy(0xA000, to, segment, offset, height);
        offset = static_cast<uint16_t>(offset + height);
        to = static_cast<uint16_t>(to + 32);
    }
    write_indexed(sequencer_port, 0, 1);
    write_indexed(sequencer_port, 2, 0x03);
    write_indexed(sequencer_port, 4, 0x03);
    write_indexed(sequencer_port, 0, 3);
    write_indexed(graphics_port, 4, 0);
    write_indexed(graphics_port, 5, 0x10);
    write_indexed(graphics_port, 6, get(bda::video_mode) == 7 ? 0x0A : 0x0E);
}

void rom_font(uint8_t height, uint8_t block) {
    const uint8_t* font = height == 8 ? font_8x8 : height == 14 ? font_8x14 : font_8x16;
    set_font(video_rom_segment, near_offset(font), height, 0, 256, block);
}

void set_mode(uint8_t mode_and_flags) {
    const uint8_t mode = mode_and_flags & 0x7F;
    const bool keep_memory = mode_and_flags & 0x80;
    const VideoParameters p = find_parameters(mode);
    program(p);
    fill_data_area(mode, p, keep_memory);
    if (!(get(bda::video_flags) & 0x08)) load_dac(mode);
    if (layout_of(mode) == Layout::text) rom_font(p.character_height, 0);
    if (!keep_memory) clear_memory(mode);
    point_fonts(p.character_height);
    if (layout_of(mode) == Layout::text) program_cursor_shape();
    in_byte(status_port());
    out_byte(attribute_port, 0x20);  // screen on
}

void leave_vbe() {
    dispi_write(Dispi::enable, 0);
    put(bda::vbe_mode, 0);
}

void set_linear_mode(uint16_t width, uint16_t height, uint8_t bits, bool keep_memory) {
    constexpr uint8_t mode_12 = 0x12;
    const VideoParameters p = find_parameters(mode_12);
    program(p);
    fill_data_area(mode_12, p, keep_memory);
    if (!(get(bda::video_flags) & 0x08)) load_dac(bits == 4 ? mode_12 : 0x13);
    point_fonts(16);
    put(bda::video_columns, width / 8);
    put(bda::video_rows, height / 16 - 1);
    put(bda::video_page_size, 0);
    dispi_write(Dispi::x_resolution, width);
    dispi_write(Dispi::y_resolution, height);
    dispi_write(Dispi::bits_per_pixel, bits);
    dispi_write(Dispi::enable, dispi_enabled | dispi_linear | (keep_memory ? dispi_keep_memory : 0));
    in_byte(status_port());
    out_byte(attribute_port, 0x20);  // screen on
}

}  // namespace viv::rom
