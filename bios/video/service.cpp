// INT 10h: which function serves which AH. AH=0Fh is in entry.S.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 10H".

#include "bios/video/video.hpp"

namespace viv::rom {
namespace {

void int10_00_set_mode(Registers& r) {
    const uint8_t mode = r.al() & 0x7F;
    if (parameter_index(mode, ScanLines::lines_400) == no_parameters) return;
    set_mode(r.al());
    r.al() = mode > 7 ? 0x20 : mode == 6 ? 0x3F : 0x30;
}

void int10_04_light_pen(Registers& r) {
    r.ah() = 0;
}
void int10_05_select_page(Registers& r) {
    if (r.al() < 8) select_page(r.al());
}

}  // namespace

extern "C" void video_service(Registers& r) {
    switch (r.ah()) {
        case 0x0E: return int10_0e_teletype(r);
        case 0x02: return int10_02_set_cursor(r);
        case 0x09: return int10_09_write_cells(r);
        case 0x00: return int10_00_set_mode(r);
        case 0x01: return int10_01_cursor_shape(r);
        case 0x03: return int10_03_get_cursor(r);
        case 0x04: return int10_04_light_pen(r);
        case 0x05: return int10_05_select_page(r);
        case 0x06: return int10_06_scroll_up(r);
        case 0x07: return int10_07_scroll_down(r);
        case 0x08: return int10_08_read_cell(r);
        case 0x0A: return int10_0a_write_characters(r);
        case 0x0B: return int10_0b_cga_palette(r);
        case 0x0C: return int10_0c_write_pixel(r);
        case 0x0D: return int10_0d_read_pixel(r);
        case 0x10: return int10_10_palette(r);
        case 0x11: return int10_11_fonts(r);
        case 0x12: return int10_12_alternate_select(r);
        case 0x13: return int10_13_write_string(r);
        case 0x1A: return int10_1a_display_combination(r);
        case 0x1B: return int10_1b_state(r);
        case 0x1C: return int10_1c_save_restore(r);
        case 0x4F: return int10_4f_vbe(r);
    }
}

// The option ROM's initialisation, for a firmware that does not do it for us.
extern "C" void video_initialise(Registers&) {
    constexpr uint16_t vector_10 = 0x10 * 4;
    const uint16_t entry = far_read<uint16_t>(video_rom_segment, video_header_offset + sizeof(VideoRomHeader) + 2);
    far_write<uint16_t>(0, vector_10, entry);
    far_write<uint16_t>(0, vector_10 + 2, video_rom_segment);
    put(bda::save_pointers_offset, near_offset(save_pointers));
    put(bda::save_pointers_segment, video_rom_segment);
    put(bda::equipment, (get(bda::equipment) & 0xFFCF) | 0x20);
    put(bda::video_control, 0x60);
    put(bda::video_switches, 0xF9);
    put(bda::video_flags, 0x11);
    set_mode(3);
}

}  // namespace viv::rom
